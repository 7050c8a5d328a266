//! Comparing whole clusters with W below a majority, so that what no list names is found, too:
//! items that are wholly missing on one server, and what an alignment left (PROTOCOL.md 3.10).
//!
//! Whoever merges a cluster goes through its items a page at a time, and tells the digest of each
//! page; whoever has something else in that range of keys lists its items there. One page is under
//! way at once. It happens when a server becomes reachable, after an alignment, and when somebody
//! asks for it. What is found is looked at like anything that diverged; most of it is under way.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{ClusterKey, ItemId, ItemKey, NodeId};

use super::{Cx, Machine};
use crate::alignment::Digest;
use crate::conflict::Merging;
use crate::io::{Tick, is_last_page};
use crate::message::Message;

/// Times that a page is sent to somebody who does not answer.
const TRIES: u32 = 3;

/// Pages that an answer lists at most.
const LISTED_PAGES: usize = 4;

/// Items on the agenda with which no further page is begun.
const BUSY: usize = 1_024;

/// A comparison under way.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// When all clusters that this server merges are compared.
    due: Option<Tick>,
    /// What is left.
    clusters: BTreeSet<ClusterKey>,
    page: Option<Page>,
    /// Clusters that were to be compared before a generation ends, with that, and whether they
    /// are.
    wanted: BTreeMap<ClusterKey, (u32, bool)>,
}

/// Items of one range of keys here.
#[derive(Debug)]
struct Page {
    cluster: ClusterKey,
    from: Option<ItemKey>,
    upto: Option<ItemKey>,
    entries: Vec<(ItemKey, Digest)>,
    waiting: BTreeSet<NodeId>,
    sent_at: Tick,
    tries: u32,
}

impl Sweep {
    /// All clusters are compared some time after this.
    pub(super) fn plan(&mut self, at: Tick) {
        self.due = Some(at);
    }

    /// A cluster is to be compared once before a generation ends.
    pub(super) fn want(&mut self, cluster: ClusterKey, generation: u32) {
        if self.wanted.get(&cluster).is_none_or(|(wanted, _)| *wanted != generation) {
            self.wanted.insert(cluster, (generation, false));
            self.clusters.insert(cluster);
        }
    }

    /// It was.
    pub(super) fn is_swept(&self, cluster: ClusterKey, generation: u32) -> bool {
        self.wanted.get(&cluster) == Some(&(generation, true))
    }

    fn note_end(&mut self, cluster: ClusterKey) {
        if let Some((_, is_swept)) = self.wanted.get_mut(&cluster) {
            *is_swept = !self.clusters.contains(&cluster);
        }
    }
}

/// Items of a range, and whether it goes on behind them.
struct Range {
    entries: Vec<(ItemKey, Digest)>,
    /// The last key looked at, if the range goes on behind it.
    next: Option<ItemKey>,
}

fn sum(entries: &[(ItemKey, Digest)]) -> Digest {
    entries.iter().fold(Digest::default(), |sum, (_, digest)| sum.plus(*digest))
}

impl Machine {
    /// A server became reachable, or this one is back: what both did meanwhile may differ.
    pub(super) fn plan_comparison(&mut self) {
        self.merger.sweep.plan(self.now + 2 * self.config.merge.settle);
    }

    /// Somebody asks for it.
    pub(super) fn compare_clusters(&mut self, clusters: Vec<ClusterKey>) {
        let me = self.config.node;
        let merges =
            |cluster: &ClusterKey| self.is_kept_by(me, *cluster) && !self.is_safe(*cluster);
        let clusters: Vec<ClusterKey> = clusters.into_iter().filter(merges).collect();
        self.merger.sweep.clusters.extend(clusters);
    }

    pub(super) fn sweep_due(&mut self, cx: &mut Cx<'_>) {
        if self.merger.sweep.due.take_if(|due| *due <= self.now).is_some() {
            let me = self.config.node;
            let mine = self.placements.keys().copied();
            let mine: Vec<ClusterKey> =
                mine.filter(|cluster| self.merger_of(*cluster) == Some(me)).collect();
            self.merger.sweep.clusters.extend(mine);
        }
        let patience = 4 * self.config.resend;
        if let Some(mut page) = self.merger.sweep.page.take() {
            if self.now >= page.sent_at + patience {
                page.tries += 1;
                page.sent_at = self.now;
                // Whoever is gone is compared with when it is back.
                page.waiting.retain(|node| page.tries < TRIES && self.is_up(*node));
                self.send_page(cx, &page);
            }
            self.merger.sweep.page = Some(page);
        }
        self.go_on_comparing(cx);
    }

    fn go_on_comparing(&mut self, cx: &mut Cx<'_>) {
        let behind = match self.merger.sweep.page.take() {
            Some(page) if !page.waiting.is_empty() || self.merger.is_busy(BUSY) => {
                self.merger.sweep.page = Some(page);
                return;
            }
            Some(Page { cluster, upto: Some(upto), .. }) => Some((cluster, upto)),
            Some(Page { cluster, upto: None, .. }) => {
                self.merger.sweep.note_end(cluster);
                None
            }
            None => None,
        };
        let (cluster, from) = match behind {
            Some((cluster, upto)) => (cluster, Some(upto)),
            None => match self.merger.sweep.clusters.pop_first() {
                Some(cluster) => (cluster, None),
                None => return,
            },
        };
        let Some(placement) = self.placements.get(&cluster) else { return };
        let mut waiting = self.reachable_holders(placement);
        waiting.remove(&self.config.node);
        let Range { entries, next } = self.range(cx, cluster, from.clone(), None, 1);
        let page =
            Page { cluster, from, upto: next, entries, waiting, sent_at: self.now, tries: 0 };
        self.send_page(cx, &page);
        self.merger.sweep.page = Some(page);
    }

    fn send_page(&self, cx: &mut Cx<'_>, page: &Page) {
        let digest = sum(&page.entries);
        for node in &page.waiting {
            let (from, upto) = (page.from.clone(), page.upto.clone());
            let range = Merging::Range { cluster: page.cluster, from, upto, digest };
            cx.send_durable(*node, Message::Merging(range));
        }
    }

    /// The own items behind a key, up to another one: so many pages at most. Tombstones that
    /// somebody may have dropped are left out.
    fn range(
        &self,
        cx: &Cx<'_>,
        cluster: ClusterKey,
        mut from: Option<ItemKey>,
        upto: Option<&ItemKey>,
        pages: usize,
    ) -> Range {
        let limit = self.config.align.items;
        let mut entries = Vec::new();
        for _ in 0..pages {
            let items = cx.items_after(cluster, from.as_ref(), limit);
            let is_last = is_last_page(&items, limit);
            for (key, committed) in items {
                if upto.is_some_and(|upto| key > *upto) {
                    return Range { entries, next: None };
                }
                if !self.goes_anywhere(cluster, &key, &committed) {
                    let digest = Digest::of(&key, &committed);
                    entries.push((key.clone(), digest));
                }
                from = Some(key);
            }
            if is_last {
                return Range { entries, next: None };
            }
        }
        Range { entries, next: from }
    }

    pub(super) fn on_range(
        &self,
        cx: &mut Cx<'_>,
        asker: NodeId,
        cluster: ClusterKey,
        from: Option<ItemKey>,
        upto: Option<ItemKey>,
        digest: Digest,
    ) {
        let Range { entries, next } =
            self.range(cx, cluster, from.clone(), upto.as_ref(), LISTED_PAGES);
        let is_same = next.is_none() && sum(&entries) == digest;
        let entries = (!is_same).then_some(entries);
        let upto = next.or(upto);
        let listed = Merging::Listed { cluster, from, upto, entries };
        cx.send_durable(asker, Message::Merging(listed));
    }

    pub(super) fn on_listed(
        &mut self,
        cx: &mut Cx<'_>,
        node: NodeId,
        cluster: ClusterKey,
        from: Option<ItemKey>,
        upto: Option<ItemKey>,
        entries: Option<Vec<(ItemKey, Digest)>>,
    ) {
        let Some(mut page) = self.merger.sweep.page.take() else { return };
        let is_answer = (page.cluster, &page.from) == (cluster, &from);
        if is_answer && page.waiting.remove(&node) {
            if let Some(theirs) = entries {
                let within = |key: &&ItemKey| upto.as_ref().is_none_or(|upto| **key <= *upto);
                let theirs: BTreeMap<ItemKey, Digest> = theirs.into_iter().collect();
                let mine: BTreeMap<&ItemKey, Digest> =
                    page.entries.iter().map(|(key, digest)| (key, *digest)).collect();
                let keys: BTreeSet<&ItemKey> =
                    mine.keys().copied().chain(theirs.keys()).filter(within).collect();
                let differs = |key: &&ItemKey| mine.get(*key) != theirs.get(*key);
                for key in keys.into_iter().filter(differs) {
                    self.merger.add(ItemId { cluster, key: key.clone() });
                }
            }
            // It had too much to list: the next page begins where it stopped.
            if let Some(upto) = upto
                && page.upto.as_ref().is_none_or(|mine| upto < *mine)
            {
                page.upto = Some(upto);
            }
        }
        self.merger.sweep.page = Some(page);
        self.go_on_comparing(cx);
    }
}
