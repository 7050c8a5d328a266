//! Digests of whole clusters, read beside the machine (`Effect::Survey`): a source has one made for
//! each server that aligns with it, and that server one of its own, which serves for all sources.
//!
//! A source's is made after the session began, so an item is in it, or in the journal. The own one
//! may be as old as it likes: items only rise while this server aligns, so a range that is equal to
//! a source's in it is at or above the source's here. What is fetched is brought into it, or what
//! one source gave would differ from the next one.
//!
//! One is read at a time. Those for sessions that ended meanwhile are left out when their turn
//! comes: a server that begins again and again does not make its sources read for each time.

use alloc::collections::VecDeque;

use quorate_api::{ClusterKey, Committed, ItemId, ItemKey, NodeId};

use super::align_state::Aligning;
use super::{Cx, Machine};
use crate::alignment::Digest;
use crate::marks::Mark;
use crate::survey::{Leaves, Survey};

/// Surveys under way.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    last: u64,
    /// The one that is read now has the last number.
    under_way: Option<(ClusterKey, Whose)>,
    waiting: VecDeque<(ClusterKey, Whose)>,
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
        let surveys = &mut self.surveys;
        let wanted = (cluster, whose);
        if surveys.under_way != Some(wanted) && !surveys.waiting.contains(&wanted) {
            surveys.waiting.push_back(wanted);
            self.next_survey(cx);
        }
    }

    fn next_survey(&mut self, cx: &mut Cx<'_>) {
        while self.surveys.under_way.is_none()
            && let Some((cluster, whose)) = self.surveys.waiting.pop_front()
        {
            if self.is_wanted(whose) {
                self.surveys.last += 1;
                self.surveys.under_way = Some((cluster, whose));
                let everywhere = self.everywhere_by_boot();
                let survey = Survey { cluster, leaf: self.config.align.leaf, everywhere };
                cx.survey(self.surveys.last, survey);
            }
        }
    }

    fn is_wanted(&self, whose: Whose) -> bool {
        match whose {
            // Asked for while this server aligns; nobody minds one that is made after that.
            Whose::Own => true,
            Whose::Asker(asker, journal) => self.keeps_journal(asker, journal),
        }
    }

    pub(super) fn on_surveyed(&mut self, cx: &mut Cx<'_>, number: u64, leaves: Leaves) {
        let is_last = number == self.surveys.last;
        let Some((cluster, whose)) = self.surveys.under_way.take_if(|_| is_last) else { return };
        match whose {
            Whose::Own => {
                if let Some(aligning) = &mut self.align {
                    aligning.work.compared += leaves.items;
                    aligning.leaves.insert(cluster, Some(leaves));
                    self.arm_alignment();
                }
            }
            Whose::Asker(asker, journal) => {
                if !self.take_tree(cx, asker, journal, cluster, leaves) {
                    Mark::SurveyForNobody.hit();
                }
            }
        }
        self.next_survey(cx);
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
