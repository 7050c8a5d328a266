//! How far the decision log is needed: cut behind what everybody has, or past a server that is too
//! far behind; low-water marks (PROTOCOL.md 3.9 "Forgetting"). Why the log may be cut past a server
//! is argued in `align`. May not send decisions: `stream` does.

use alloc::collections::BTreeSet;

use quorate_api::{NodeId, TxId};

use super::{Cx, Machine};
use crate::io::{Note, Write};
use crate::marks::Mark;
use crate::message::{LogPosition, Message};

impl Machine {
    /// Raises the own low-water mark: everything logged up to the slowest MASTER's acknowledgement
    /// is finished.
    pub(super) fn raise_own_low(&mut self, cx: &mut Cx<'_>) {
        // Before the first configuration nobody is known who might lack something.
        if self.members.is_empty() {
            return;
        }
        let me = self.config.node;
        let passed = self.passed_over(cx);
        let done = self.acknowledged_by_all_but(&passed);
        if done > self.log_start {
            self.log_start = done;
            cx.write(Write::TruncateLog(done));
            self.tell_truncated(cx, &passed);
        }
        let low = match cx.log_after(self.log_start) {
            Some((at, entry)) if at.boot == self.config.boot => entry.low,
            Some(_) => return,
            None => self.own_low(),
        };
        if self.others().into_iter().all(|node| self.acked_by(node) >= self.log_start) {
            self.tell_everywhere(cx, low);
        }
        let mark = self.low.entry((me, self.config.boot)).or_insert(1);
        if low > *mark {
            Mark::LowRaised.hit();
            *mark = low;
            cx.write(Write::Low(me, self.config.boot, low));
            let start = self.log_start;
            let served = |node: &NodeId| self.is_up(*node) && self.acked_by(*node) >= start;
            for node in self.others().into_iter().filter(served) {
                cx.send_durable(node, Message::Low { seq: low });
            }
        }
    }

    /// Up to here every member has applied the own log.
    pub(super) fn acknowledged_by_all(&self) -> LogPosition {
        self.acknowledged_by_all_but(&BTreeSet::new())
    }

    fn acknowledged_by_all_but(&self, passed: &BTreeSet<NodeId>) -> LogPosition {
        let own = self.applied_from(self.config.node);
        let waited_for = self.others().into_iter().filter(|node| !passed.contains(node));
        waited_for.map(|node| self.acked_by(node)).fold(own, core::cmp::min)
    }

    pub(super) fn on_low(&mut self, cx: &mut Cx<'_>, from: NodeId, seq: u64) {
        let Some(boot) = self.peers.get(&from).map(|peer| peer.boot) else { return };
        self.acks_due.insert(from);
        let first = TxId { node: from, boot, seq: 0 };
        let end = TxId { node: from, boot, seq };
        if let Some((tx, _)) = self.txs.range(first..end).next() {
            let detail = "undecided here, and finished for its coordinator";
            cx.note(Note::Corruption { tx: *tx, detail });
            return;
        }
        let mark = self.low.entry((from, boot)).or_insert(1);
        if seq > *mark {
            *mark = seq;
            cx.write(Write::Low(from, boot, seq));
            self.told_below(cx, end);
        }
    }

    fn acked_by(&self, node: NodeId) -> LogPosition {
        self.peers.get(&node).map_or(LogPosition::default(), |peer| peer.acked)
    }

    /// Servers that are too far behind to be waited for: by entries, or by time. None at all unless
    /// the others are a majority of every cluster (see `align` for why that is enough).
    fn passed_over(&mut self, cx: &mut Cx<'_>) -> BTreeSet<NodeId> {
        let (now, start, end) = (self.now, self.log_start, self.log_end);
        let (entries, age) = (self.config.align.log_entries, self.config.align.log_age);
        let mut passed = BTreeSet::new();
        for node in self.others() {
            let peer = self.peers.entry(node).or_default();
            let acked = peer.acked.max(start);
            match peer.behind {
                Some((position, _)) if acked < position => {}
                _ => peer.behind = (acked < end).then_some((end, now)),
            }
            let same_boot = acked.boot == end.boot;
            let lag = end.index.saturating_sub(if same_boot { acked.index } else { 0 });
            let too_old = peer.behind.is_some_and(|(_, since)| now >= since + age);
            if acked < end && (lag > entries || too_old) {
                passed.insert(node);
            }
            if lag != core::mem::replace(&mut peer.lag, lag) {
                cx.note(Note::Lag { node, entries: lag });
            }
        }
        let counts = |node: &NodeId| {
            let aligns = self.peers.get(node).is_some_and(|peer| peer.aligning);
            *node == self.config.node || !(passed.contains(node) || aligns)
        };
        let enough = |placement: &crate::io::Placement| {
            placement.masters.iter().filter(|node| counts(node)).count() >= placement.majority()
        };
        if self.is_aligning() || !self.placements.values().all(enough) {
            passed.clear();
        }
        passed
    }

    /// Whoever is reachable and was passed over learns it at once.
    fn tell_truncated(&mut self, cx: &mut Cx<'_>, passed: &BTreeSet<NodeId>) {
        let start = self.log_start;
        for node in passed {
            let Some(peer) = self.peers.get_mut(node) else { continue };
            if peer.acked < start {
                peer.synced = false;
                peer.sent.clear();
                cx.note(Note::PassedOver(*node));
                cx.send_durable(*node, Message::Truncated { start });
            }
        }
    }

    /// Smallest own sequence number still undecided in this boot.
    pub(super) fn own_low(&self) -> u64 {
        self.coordinations.first_key_value().map_or(self.next_seq, |(tx, _)| tx.seq)
    }
}
