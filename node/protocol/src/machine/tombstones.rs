//! Dropping tombstones (PROTOCOL.md 3.9 "Forgetting", traps A18 and A20).
//!
//! A tombstone goes once nobody can bring the item back:
//! - every MASTER, without exception, has applied the delete. Its coordinator says so
//!   (`Everywhere`): the mark rises only while every server has acknowledged the whole decision
//!   log up to it. `low` is not enough: it also rises past servers that will have to align, and one
//!   of those still has the item alive.
//! - an earlier write of the item that comes late is known here as done: its outcome is kept until
//!   its own coordinator's `low` passes it, and a server that took the tombstone by alignment took
//!   those outcomes and marks, too. So it is never applied on the absence that the tombstone left.
//! - no vote here is undecided on it, no commit is parked, and this server does not align.
//!
//! Tombstones of transactions of boots that have ended stay until those boots are closed
//! (`closing`), which takes every server's acknowledgement, too.
//!
//! **A released unique key keeps its tombstone.** Versions count up from the base, so a key that is
//! claimed again after its tombstone went would start at 1: a server that still has the tombstone
//! takes version 1 for an old one, does not apply it, and a majority read that meets that server
//! answers the tombstone. Records and retry tokens are made once (positions are never granted
//! twice), so nothing is below their tombstones' versions ever again.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_api::{Boot, ClusterKey, Committed, ItemId, ItemKey, NodeId, TxId};

use super::closing::END;

use super::{Cx, Machine};
use crate::io::{Note, Tick, Write};
use crate::message::Message;
use crate::planted::Bug;

type Marks = BTreeMap<(NodeId, Boot), u64>;

#[derive(Debug, Default)]
pub(super) struct Tombstones {
    /// What every MASTER has, as told by each coordinator.
    everywhere: Marks,
    /// The same as it was when the retention began anew.
    young: (Tick, Marks),
    /// The same as it was at least one retention ago: what is below may go.
    old: Marks,
    /// Where the sweep stands.
    cursor: Option<ItemId>,
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
    }

    pub(super) fn raise_everywhere(&mut self, node: NodeId, boot: Boot, seq: u64) {
        let mark = self.tombstones.everywhere.entry((node, boot)).or_default();
        *mark = seq.max(*mark);
    }

    /// The own mark: nobody, whoever it is, is behind with a decision below `low`.
    pub(super) fn tell_everywhere(&mut self, cx: &mut Cx<'_>, low: u64) {
        let key = (self.config.node, self.config.boot);
        if self.tombstones.everywhere.get(&key).is_some_and(|mark| low <= *mark) {
            return;
        }
        self.raise_everywhere(key.0, key.1, low);
        for node in self.others() {
            cx.send_durable(node, Message::Everywhere { seq: low });
        }
    }

    /// A tombstone that may be dropped, here or elsewhere, at any time.
    pub(super) fn everybody_had(&self, key: &ItemKey, committed: &Committed) -> bool {
        is_droppable(key, committed) && self.everybody_applied(committed.stamp.tx)
    }

    /// Every MASTER and every REPLICA has applied it, this server included.
    pub(super) fn everybody_applied(&self, tx: TxId) -> bool {
        let mark = self.tombstones.everywhere.get(&(tx.node, tx.boot));
        mark.is_some_and(|mark| tx.seq < *mark)
    }

    fn may_drop(&self, item: &ItemId, committed: &Committed) -> bool {
        if !is_droppable(&item.key, committed) || self.locks.holders(item).next().is_some() {
            return false;
        }
        let tx = committed.stamp.tx;
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
        let mut left = self.config.align.sweep;
        let mut dropped = 0;
        let from = self.tombstones.cursor.take();
        let clusters: Vec<ClusterKey> = self.held_clusters();
        let start = from.as_ref().map_or(0, |item| clusters.partition_point(|c| *c < item.cluster));
        for cluster in clusters.into_iter().skip(start) {
            let after = from.as_ref().filter(|item| item.cluster == cluster).map(|item| &item.key);
            let items = cx.items_after(cluster, after, left);
            left -= items.len();
            if let Some((key, _)) = items.last().filter(|_| left == 0) {
                self.tombstones.cursor = Some(ItemId { cluster, key: key.clone() });
            }
            dropped += self.drop_of(cx, cluster, items);
            if left == 0 {
                break;
            }
        }
        if dropped > 0 {
            cx.note(Note::Purged { tombstones: dropped });
        }
    }

    fn drop_of(
        &self,
        cx: &mut Cx<'_>,
        cluster: ClusterKey,
        items: Vec<(ItemKey, Committed)>,
    ) -> u64 {
        let mut dropped = 0;
        for (key, committed) in items {
            let item = ItemId { cluster, key };
            // What this very step wrote is not in the page.
            if self.may_drop(&item, &committed) && cx.stamp(&item) == committed.stamp {
                cx.write(Write::Purge(item));
                dropped += 1;
            }
        }
        dropped
    }
}

const fn is_droppable(key: &ItemKey, committed: &Committed) -> bool {
    !committed.live && !matches!(key, ItemKey::Key(_))
}
