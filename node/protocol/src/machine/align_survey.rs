//! Digests of whole clusters, read beside the machine (`Effect::Survey`): a source has one made for
//! each server that aligns with it, and that server one of its own, which serves for all sources.
//!
//! A source's is made after the session began, so an item is in it, or in the journal. The own one
//! may be as old as it likes: items only rise while this server aligns, so a range that is equal to
//! a source's in it is at or above the source's here. What is fetched is brought into it, or what
//! one source gave would differ from the next one.

use alloc::collections::BTreeMap;

use quorate_api::{ClusterKey, Committed, ItemId, ItemKey, NodeId};

use super::align::Aligning;
use super::{Cx, Machine};
use crate::alignment::Digest;
use crate::marks::Mark;
use crate::survey::{Leaves, Survey};

/// Surveys under way.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    last: u64,
    under_way: BTreeMap<u64, (ClusterKey, Whose)>,
}

/// For whom a survey is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// This server aligns.
    Own,
    /// A server that aligns, in the session with this journal.
    Asker(NodeId, u64),
}

impl Machine {
    /// The own digests of a cluster; has them made if nobody did.
    pub(super) fn own_leaves<'a>(
        &mut self,
        cx: &mut Cx<'_>,
        aligning: &'a mut Aligning,
        cluster: ClusterKey,
    ) -> Option<&'a Leaves> {
        if !aligning.leaves.contains_key(&cluster) {
            self.survey(cx, cluster, Whose::Own);
        }
        aligning.leaves.entry(cluster).or_default().as_ref()
    }

    /// The digests of a cluster for a server that aligns.
    pub(super) fn survey_for(
        &mut self,
        cx: &mut Cx<'_>,
        asker: NodeId,
        journal: u64,
        cluster: ClusterKey,
    ) {
        self.survey(cx, cluster, Whose::Asker(asker, journal));
    }

    fn survey(&mut self, cx: &mut Cx<'_>, cluster: ClusterKey, whose: Whose) {
        let mut under_way = self.surveys.under_way.values();
        if under_way.any(|other| *other == (cluster, whose)) {
            return;
        }
        self.surveys.last += 1;
        let number = self.surveys.last;
        self.surveys.under_way.insert(number, (cluster, whose));
        let everywhere = self.everywhere_by_boot();
        cx.survey(number, Survey { cluster, leaf: self.config.align.leaf, everywhere });
    }

    pub(super) fn on_surveyed(&mut self, cx: &mut Cx<'_>, number: u64, leaves: Leaves) {
        let Some((cluster, whose)) = self.surveys.under_way.remove(&number) else { return };
        match whose {
            Whose::Own => {
                let Some(aligning) = &mut self.align else { return };
                aligning.work.compared += leaves.items;
                aligning.leaves.insert(cluster, Some(leaves));
                self.arm_alignment();
            }
            Whose::Asker(asker, journal) => {
                if !self.take_tree(cx, asker, journal, cluster, leaves) {
                    Mark::SurveyForNobody.hit();
                }
            }
        }
    }

    /// An item is replaced by what a source has.
    pub(super) fn note_replaced(
        &self,
        aligning: &mut Aligning,
        item: &ItemId,
        before: Option<&Committed>,
        after: &Committed,
    ) {
        if let Some(Some(leaves)) = aligning.leaves.get_mut(&item.cluster) {
            let digest = |committed: Option<&Committed>| {
                let counts = committed.filter(|c| !self.everybody_had(&item.key, c));
                counts.map_or(Digest::default(), |c| Digest::of(&item.key, c))
            };
            let key: &ItemKey = &item.key;
            leaves.change(key, digest(before), digest(Some(after)));
        }
    }
}
