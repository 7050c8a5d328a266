//! Dropping tombstones (PROTOCOL.md 3.9 "Forgetting", traps A18 and A20).
//!
//! A tombstone goes once nobody can bring the item back:
//! - every MASTER and REPLICA, without exception, has applied the delete. Its coordinator says so
//!   (`Everywhere`): the mark rises only while every server has acknowledged the whole decision
//!   log up to it. `low` is not enough: it also rises past servers that will have to align, and one
//!   of those still has the item alive.
//! - an earlier write of the item that comes late is known here as done: its outcome is kept until
//!   its own coordinator's `low` passes it, and a server that took the tombstone by alignment took
//!   those outcomes and marks, too. So it is never applied on the absence that the tombstone left.
//! - it is not listed as diverged here (W below a majority): somebody may have it alive.
//! - W is a majority, or whoever tells who has it is there: else it is compared (`unite`).
//! - no vote here is undecided on it, no commit is parked, and this server does not align.
//!
//! Tombstones of transactions of boots that have ended stay until those boots are closed
//! (`closing`), which takes every server's acknowledgement, too. Who was away meanwhile learns of
//! it from its sources (`align_return`).
//!
//! **A released unique key keeps its tombstone.** Versions count up from the base, so a key that is
//! claimed again after its tombstone went would start at 1: a server that still has the tombstone
//! takes version 1 for an old one, does not apply it, and a majority read that meets that server
//! answers the tombstone. Records and retry tokens are made once (positions are never granted
//! twice), so nothing is below their tombstones' versions ever again.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_api::{Boot, ClusterKey, Committed, ItemId, ItemKey, NodeId, Stamp, TxId};

use super::closing::END;

use super::{Cx, Machine};
use crate::io::{Note, Placement, SKIPPED_BYTES, Tick, Write};
use crate::message::Finished;
use crate::planted::Bug;
use crate::survey::is_droppable;

type Marks = BTreeMap<(NodeId, Boot), u64>;

#[derive(Debug, Default)]
pub(super) struct Tombstones {
    /// What every MASTER and REPLICA has, as told by each coordinator; of closed boots, all.
    everywhere: Marks,
    /// The same as it was when the retention began anew.
    young: (Tick, Marks),
    /// The same as it was at least one retention ago: what is below may go.
    old: Marks,
    /// Where the sweep stands: in which cluster, behind which item.
    cursor: Option<(ClusterKey, Option<ItemKey>)>,
}

impl Tombstones {
    /// Every server has what closed boots left, or those would not be closed.
    pub(super) fn of_closed_boots(low: &Marks) -> Self {
        let closed = low.iter().filter(|(_, seq)| **seq == END);
        Self { everywhere: closed.map(|(boot, seq)| (*boot, *seq)).collect(), ..Self::default() }
    }
}

impl Machine {
    pub(super) fn on_everywhere(&mut self, from: NodeId, seq: u64) {
        let Some(boot) = self.peers.get(&from).map(|peer| peer.boot) else { return };
        self.raise_everywhere(from, boot, seq);
        self.told_by_origin(from, Finished { boot, everywhere: seq, ..Finished::default() });
        self.acks_due.insert(from);
    }

    pub(super) fn raise_everywhere(&mut self, node: NodeId, boot: Boot, seq: u64) {
        let mark = self.tombstones.everywhere.entry((node, boot)).or_insert(Finished::FIRST);
        if seq > *mark {
            *mark = seq;
            self.session_progress = true;
        }
    }

    /// What everybody has of a boot, as far as this server knows.
    pub(super) fn everywhere(&self, node: NodeId, boot: Boot) -> u64 {
        self.tombstones.everywhere.get(&(node, boot)).copied().unwrap_or(Finished::FIRST)
    }

    /// A tombstone that may be dropped, here or elsewhere, at any time.
    pub(super) fn everybody_had(&self, key: &ItemKey, committed: &Committed) -> bool {
        !committed.live && is_droppable(key) && self.everybody_applied(committed.stamp.tx)
    }

    /// The same where W is below a majority: not one of a boot that tells nobody any more who has
    /// it, so that servers think differently of it for good (`unite`).
    pub(super) fn goes_anywhere(
        &self,
        cluster: ClusterKey,
        key: &ItemKey,
        committed: &Committed,
    ) -> bool {
        self.everybody_had(key, committed) && self.is_told_of(cluster, committed.stamp.tx)
    }

    /// Who does not have a tombstone lacks nothing: it may be dropped, or will be told of.
    pub(super) fn may_lack(&self, item: &ItemId, committed: &Committed) -> bool {
        let is_told_of = self.is_told_of(item.cluster, committed.stamp.tx);
        !committed.live && is_droppable(&item.key) && is_told_of
    }

    /// Who has what it wrote is told: by its coordinator, which is neither gone nor about to be
    /// given up and goes on in this boot, or with the closing of that.
    fn is_told_of(&self, cluster: ClusterKey, tx: TxId) -> bool {
        let node = tx.node;
        let stays = |placement: &Placement| {
            placement.merging().contains(&node) || !placement.masters.contains(&node)
        };
        let is_over = self.current_boot(node).is_some_and(|boot| boot > tx.boot);
        (self.members.contains(&node) || node == self.config.node)
            && self.placements.get(&cluster).is_none_or(stays)
            && (!is_over || self.is_boot_closed(node, tx.boot))
    }

    /// Where W is below a majority tombstones of who tells no more are compared (`unite`): one that
    /// some dropped would be written anew, and dropped, for ever.
    fn is_compared_for_good(&self, cluster: ClusterKey, tx: TxId) -> bool {
        !self.is_safe(cluster) && !self.is_told_of(cluster, tx)
    }

    /// Every MASTER and every REPLICA has applied it, this server included.
    pub(super) fn everybody_applied(&self, tx: TxId) -> bool {
        tx.seq < self.everywhere(tx.node, tx.boot)
    }

    /// What everybody has, of all boots.
    pub(super) fn everywhere_by_boot(&self) -> BTreeMap<(NodeId, Boot), u64> {
        self.tombstones.everywhere.clone()
    }

    fn may_drop(&self, item: &ItemId, tx: TxId) -> bool {
        let is_held = self.locks.holders(item).next().is_some() || self.merger.is_open(item);
        if !is_droppable(&item.key) || is_held {
            return false;
        }
        let mark = self.tombstones.old.get(&(tx.node, tx.boot));
        self.config.has(Bug::TombstoneDroppedEarly) || mark.is_some_and(|mark| tx.seq < *mark)
    }

    /// Looks at the next items.
    pub(super) fn sweep_tombstones(&mut self, cx: &mut Cx<'_>) {
        let tombstones = &mut self.tombstones;
        if self.now >= tombstones.young.0 + self.config.align.retention {
            let before = (self.now, tombstones.everywhere.clone());
            tombstones.old = core::mem::replace(&mut tombstones.young, before).1;
        }
        if self.align.is_some() || !self.parked.is_empty() {
            return;
        }
        let (mut left, mut bytes) = (self.config.align.sweep, 0);
        let mut dropped = 0;
        let clusters: Vec<ClusterKey> = self.held_clusters();
        let (from, mut after) = self.tombstones.cursor.take().unzip();
        let start = from.map_or(0, |from| clusters.partition_point(|c| *c < from));
        for cluster in clusters.into_iter().skip(start) {
            let after = after.take().flatten().filter(|_| from == Some(cluster));
            if left == 0 || bytes >= SKIPPED_BYTES {
                self.tombstones.cursor = Some((cluster, None));
                break;
            }
            let page = cx.tombstones_after(cluster, after.as_ref(), left);
            left = left.saturating_sub(page.looked_at);
            bytes += page.bytes;
            dropped += self.drop_of(cx, cluster, page.found);
            if page.next.is_some() {
                self.tombstones.cursor = Some((cluster, page.next));
                break;
            }
        }
        if dropped > 0 {
            cx.note(Note::Purged { tombstones: dropped });
        }
    }

    fn drop_of(&self, cx: &mut Cx<'_>, cluster: ClusterKey, found: Vec<(ItemKey, Stamp)>) -> u64 {
        let mut dropped = 0;
        for (key, stamp) in found {
            let item = ItemId { cluster, key };
            // What this very step wrote is not in the page.
            if self.may_drop(&item, stamp.tx)
                && !self.is_compared_for_good(cluster, stamp.tx)
                && cx.stamp(&item) == stamp
            {
                if !self.is_safe(cluster) || self.was_loose(cluster) {
                    cx.write(Write::Ancestors(item.clone(), Vec::new()));
                }
                cx.write(Write::Purge(item));
                dropped += 1;
            }
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use core::cell::RefCell;

    use super::*;
    use crate::conflict::Rival;
    use crate::io::{Config, Effect, Event, Recovered, Store, Tombstones as Page};
    use crate::machine::testing::{CLUSTER, NOTHING, configured, placement};
    use crate::message::{Decided, LogEntry, LogPosition, TxRecord};

    const DELETER: TxId = TxId { node: NodeId(1), boot: Boot(1), seq: 1 };

    /// A disk full of large items, of which every tenth is a tombstone: they come ten at a time.
    #[derive(Default)]
    struct Large {
        /// Where the pages began.
        asked: RefCell<Vec<Option<ItemKey>>>,
    }

    impl Store for Large {
        fn item(&self, _: &ItemId) -> Option<Committed> {
            None
        }

        fn stamp(&self, _: &ItemId) -> Stamp {
            Stamp { version: 2, tx: DELETER }
        }

        fn tx(&self, tx: TxId) -> Option<TxRecord> {
            NOTHING.tx(tx)
        }

        fn outcome(&self, tx: TxId) -> Option<Decided> {
            NOTHING.outcome(tx)
        }

        fn log_after(&self, at: LogPosition) -> Option<(LogPosition, LogEntry)> {
            NOTHING.log_after(at)
        }

        fn items_after(
            &self,
            _: ClusterKey,
            _: Option<&ItemKey>,
            _: usize,
        ) -> Vec<(ItemKey, Committed)> {
            panic!("a sweep reads no contents");
        }

        fn tombstones_after(&self, _: ClusterKey, after: Option<&ItemKey>, _: usize) -> Page {
            self.asked.borrow_mut().push(after.cloned());
            let last = if let Some(ItemKey::Record(last)) = after { *last } else { 0 };
            let next = last + 10;
            let stamp = Stamp { version: 2, tx: DELETER };
            Page {
                found: vec![(ItemKey::Record(next), stamp)],
                looked_at: 10,
                bytes: 10 << 20,
                next: (next < 100).then_some(ItemKey::Record(next)),
            }
        }

        fn outcomes_after(&self, after: TxId, limit: usize) -> Vec<(TxId, Decided)> {
            NOTHING.outcomes_after(after, limit)
        }

        fn ancestors(&self, item: &ItemId) -> Vec<Stamp> {
            NOTHING.ancestors(item)
        }

        fn rivals(&self, item: &ItemId) -> Vec<Rival> {
            NOTHING.rivals(item)
        }
    }

    /// Of a server that is gone they are compared where W is below a majority: all keep them.
    #[test]
    fn tombstones_that_are_compared_are_not_dropped() {
        for (node, write_quorum, dropped) in [(1, 1, 1), (4, 1, 0), (1, 2, 1), (4, 2, 1)] {
            let masters = (1..=3).map(NodeId).collect();
            let mut machine =
                Machine::new(Config::new(NodeId(1), Boot(1), 0), Recovered::default());
            let placements = [(CLUSTER, placement(masters, write_quorum))].into();
            let configure = Event::Configure { cfg: 1, placements };
            machine.step(0, configure, &NOTHING, &mut Vec::new());
            machine.tombstones.old.insert((NodeId(node), Boot(1)), 10);
            let tx = TxId { node: NodeId(node), boot: Boot(1), seq: 9 };
            let (stamp, item) = (Stamp { version: 2, tx }, ItemId::record(CLUSTER, 7));
            let mut out = Vec::new();
            let mut cx = Cx::new(&NOTHING, &mut out, 0);
            let tombstone = Committed { stamp, live: false, image: None, elsewhere: None };
            cx.write(Write::Item(item.clone(), tombstone));
            let found = machine.drop_of(&mut cx, CLUSTER, vec![(item.key, stamp)]);
            assert_eq!(found, dropped, "by server {node}, with W of {write_quorum}");
        }
    }

    #[test]
    fn a_sweep_reads_one_page_at_a_time_and_goes_on_where_it_stopped() {
        let mut machine = configured(Boot(2), Recovered::default());
        machine.tombstones.old.insert((DELETER.node, DELETER.boot), END);
        // What it has asked for is another matter.
        machine.tombstones.young.0 = u64::MAX / 2;
        let disk = Large::default();
        let mut purged = Vec::new();
        for round in 1..=20 {
            let mut out = Vec::new();
            machine.now += machine.config.housekeeping;
            machine.step(machine.now, Event::Tick, &disk, &mut out);
            assert_eq!(disk.asked.borrow().len(), round, "one piece at a time");
            for effect in out {
                if let Effect::Persist { writes, .. } = effect {
                    purged.extend(writes.into_iter().filter_map(|write| {
                        let Write::Purge(item) = write else { return None };
                        Some(item)
                    }));
                }
            }
        }
        let all = (1..=10).map(|n| ItemId { cluster: CLUSTER, key: ItemKey::Record(n * 10) });
        let all: Vec<ItemId> = all.collect();
        assert_eq!(purged, [all.clone(), all].concat(), "twice around");
    }
}
