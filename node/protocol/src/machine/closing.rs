//! Forgetting what ended boots left behind (PROTOCOL.md 3.9, "Forgetting").
//!
//! The low-water mark of a boot rises with its own log, so it stops when the boot ends. The
//! server's next boot closes it, in three stages, each asked of every member until it agrees:
//! 1. "You take nothing new of my ended boots, and hold no undecided vote of them." A vote cannot
//!    appear any more once the new boot is known (`is_closed`), so the answer stays true. When
//!    everybody gave it, all their transactions are decided, and whoever decided one has it in its
//!    log.
//! 2. "Everything in your log by now is acknowledged by everybody." After that every server has
//!    every outcome of those boots.
//! 3. "They are closed": the mark goes to its end, and their records, promises for late Recovers
//!    included, are dropped. From here on every message about them is answered `Finished`.
//!
//! A server that never comes back is the control plane's to close; so is one that is never reached.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{Boot, NodeId, TxId};

use super::{Cx, Machine};
use crate::io::{Note, Write};
use crate::message::{LogPosition, Message};

/// The last stage: telling that it is done.
const CLOSED: u8 = 3;

/// Mark of a boot of which nothing is left.
pub(super) const END: u64 = u64::MAX;

/// How far this server is in closing its own earlier boots, and what others asked.
#[derive(Debug, Default)]
pub(super) struct Closing {
    stage: u8,
    agreed: BTreeSet<NodeId>,
    /// By asker: its boot, the stage, and where the own log ended when it was first asked.
    asked: BTreeMap<NodeId, (Boot, u8, LogPosition)>,
}

impl Machine {
    /// Everything of this boot is finished everywhere and forgotten.
    pub(super) fn is_boot_closed(&self, node: NodeId, boot: Boot) -> bool {
        self.low.get(&(node, boot)) == Some(&END)
    }

    /// Asks whoever has not agreed to the current stage yet.
    pub(super) fn close_own_boots(&mut self, cx: &mut Cx<'_>) {
        let me = self.config.node;
        let is_done = self.closing.stage == 0
            && (1..self.config.boot.0).all(|boot| self.is_boot_closed(me, Boot(boot)));
        if is_done || self.closing.stage > CLOSED || self.members.is_empty() {
            return;
        }
        self.closing.stage = self.closing.stage.max(1);
        let stage = self.closing.stage;
        for node in self.members.iter().filter(|node| !self.closing.agreed.contains(node)) {
            if self.is_up(*node) {
                cx.send_durable(*node, Message::Ended { stage });
            }
        }
    }

    pub(super) fn on_ended(&mut self, cx: &mut Cx<'_>, from: NodeId, stage: u8) {
        let Some(boot) = self.current_boot(from) else { return };
        if stage == CLOSED {
            self.forget_boots(cx, from, boot);
            cx.send_durable(from, Message::EndedReply { stage, agreed: true });
            return;
        }
        let log_end = self.log_end;
        let asked = self.closing.asked.entry(from).or_insert((boot, stage, log_end));
        if (asked.0, asked.1) != (boot, stage) {
            *asked = (boot, stage, log_end);
        }
        let target = asked.2;
        let first = TxId { node: from, boot: Boot(0), seq: 0 };
        let end = TxId { node: from, boot, seq: 0 };
        let voted = self.txs.range(first..end).any(|(_, record)| record.vote.is_some());
        let proven = self.unlogged.range(first..end).next().is_some();
        let agreed = !voted && !proven && self.acknowledged_by_all() >= target;
        cx.send_durable(from, Message::EndedReply { stage, agreed });
    }

    pub(super) fn on_ended_reply(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        stage: u8,
        agreed: bool,
    ) {
        if !agreed || stage != self.closing.stage {
            return;
        }
        self.closing.agreed.insert(from);
        if self.closing.agreed.is_superset(&self.members) {
            self.closing.agreed.clear();
            self.closing.stage += 1;
            self.close_own_boots(cx);
        }
    }

    fn forget_boots(&mut self, cx: &mut Cx<'_>, node: NodeId, before: Boot) {
        let first = TxId { node, boot: Boot(0), seq: 0 };
        let end = TxId { node, boot: before, seq: 0 };
        let left: Vec<TxId> = self.txs.range(first..end).map(|(tx, _)| *tx).collect();
        if let Some(tx) = left.iter().find(|tx| self.txs[tx].vote.is_some()) {
            let detail = "undecided here, and its boot is closed";
            cx.note(Note::Corruption { tx: *tx, detail });
            return;
        }
        for tx in left {
            self.txs.remove(&tx);
            self.end_recovery(tx);
            self.end_watch(tx);
        }
        for boot in (1..before.0).map(Boot) {
            if self.low.insert((node, boot), END) != Some(END) {
                cx.write(Write::Low(node, boot, END));
                self.raise_everywhere(node, boot, END);
            }
        }
        self.session_progress = true;
    }

    fn current_boot(&self, node: NodeId) -> Option<Boot> {
        if node == self.config.node {
            return Some(self.config.boot);
        }
        self.peers.get(&node).map(|peer| peer.boot)
    }

    /// A commit was proven by a base that names it (3.4.3a), which nobody's log has told of yet.
    /// Normally its coordinator's log does so in a moment; if that one dies first, this server is
    /// the finder of the outcome (3.6.1).
    pub(super) fn log_what_was_proven(&mut self, cx: &mut Cx<'_>) {
        let orphaned = self.unlogged.iter().filter(|tx| {
            !self.peers.get(&tx.node).is_some_and(|peer| peer.up && peer.boot == tx.boot)
        });
        for tx in orphaned.copied().collect::<Vec<_>>() {
            if self.parked.contains(tx) {
                continue;
            }
            self.unlogged.remove(&tx);
            let decision = self.decision_of(cx, tx);
            // Of a transaction over several clusters this server may hold a part only; the others
            // get it when somebody fetches it as a base, or by alignment.
            if let Some(decision) = decision.filter(super::apply::is_complete) {
                let (at, low) = (self.next_log_position(), self.own_low());
                self.append_and_settle(cx, decision, at, low);
            }
        }
    }
}
