//! Forgetting what ended boots left behind (PROTOCOL.md 3.9, "Forgetting").
//!
//! The low-water mark of a boot rises with its own log, so it stops when the boot ends. The
//! server's next boot closes it, in three stages, each asked of every member until it agrees:
//! 1. "You take nothing new of my ended boots, and hold no undecided vote of them." A vote cannot
//!    appear any more once the new boot is known (the shell drops what an ended boot sent, the
//!    machine what it holds of it), so the answer stays true. When
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

use super::apply::Decision;
use super::{Cx, Machine};
use crate::feeding::Carried;
use crate::io::{Note, Write};
use crate::marks::Mark;
use crate::message::LogPosition;

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
    /// Boots that relays told of.
    pub(super) met: BTreeMap<NodeId, Boot>,
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
        let (stage, boot) = (self.closing.stage, self.config.boot);
        let asked: Vec<NodeId> = self.members.difference(&self.closing.agreed).copied().collect();
        for node in asked {
            let is_carried = !self.topology.is_root(node) && !self.is_linked(node);
            if self.is_up(node) || is_carried {
                self.send_closing(cx, node, Carried::Ended { stage, boot });
            }
        }
    }

    pub(super) fn on_ended(&mut self, cx: &mut Cx<'_>, from: NodeId, stage: u8, boot: Boot) {
        // Only a server's current boot is sure that those before it have ended.
        if self.current_boot(from) != Some(boot) {
            return;
        }
        // Before the first configuration nobody is known who might lack something: it asks again.
        if self.members.is_empty() || self.is_behind_in_cfg() {
            return;
        }
        if stage == CLOSED {
            let agreed = self.forget_boots(cx, from, boot);
            self.send_closing(cx, from, Carried::EndedReply { stage, boot, agreed });
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
        self.send_closing(cx, from, Carried::EndedReply { stage, boot, agreed });
    }

    pub(super) fn on_ended_reply(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        stage: u8,
        agreed: bool,
    ) {
        if !agreed || stage != self.closing.stage || self.is_behind_in_cfg() {
            return;
        }
        self.closing.agreed.insert(from);
        if self.closing.agreed.is_superset(&self.members) {
            self.closing.agreed.clear();
            self.closing.stage += 1;
            self.close_own_boots(cx);
        }
    }

    /// False when something of them is undecided here, against what was said before.
    fn forget_boots(&mut self, cx: &mut Cx<'_>, node: NodeId, before: Boot) -> bool {
        let first = TxId { node, boot: Boot(0), seq: 0 };
        let end = TxId { node, boot: before, seq: 0 };
        let left: Vec<TxId> = self.txs.range(first..end).map(|(tx, _)| *tx).collect();
        if let Some(tx) = left.iter().find(|tx| self.txs[tx].vote.is_some()) {
            let detail = "undecided here, and its boot is closed";
            cx.note(Note::Corruption { tx: *tx, detail });
            return false;
        }
        for tx in left {
            self.txs.remove(&tx);
            self.end_recovery(tx);
            self.end_watch(tx);
        }
        for boot in (1..before.0).map(Boot) {
            if self.low.insert((node, boot), END) != Some(END) {
                Mark::BootsForgotten.hit();
                cx.write(Write::Low(node, boot, END));
                self.told_below(cx, TxId { node, boot, seq: END });
                self.after_closing(node, boot);
            }
        }
        true
    }

    /// Its low-water mark is `END` now: everybody has its tombstones, and where it stopped is of no
    /// use any more.
    pub(super) fn after_closing(&mut self, node: NodeId, boot: Boot) {
        self.raise_everywhere(node, boot, END);
        if let Some(incoming) = self.incoming.get_mut(&node) {
            incoming.forget_end(boot);
        }
    }

    pub(super) fn current_boot(&self, node: NodeId) -> Option<Boot> {
        if node == self.config.node {
            return Some(self.config.boot);
        }
        let known = self.peers.get(&node).map(|peer| peer.boot);
        known.max(self.closing.met.get(&node).copied())
    }

    /// A commit is applied here that nobody's log has told of yet (`apply.rs`). Normally its
    /// coordinator's log does so in a moment; if that one dies first, this server is the finder of
    /// the outcome (3.6.1). A REPLICA heard of it from a MASTER, which logs it; and whether a
    /// coordinator is gone, it cannot say of one that it has no link with.
    pub(super) fn log_what_was_proven(&mut self, cx: &mut Cx<'_>) {
        if !self.topology.is_root(self.config.node) {
            return;
        }
        let orphaned = self.unlogged.iter().filter(|tx| {
            !self.peers.get(&tx.node).is_some_and(|peer| peer.up && peer.boot == tx.boot)
        });
        for tx in orphaned.copied().collect::<Vec<_>>() {
            if self.parked.contains(tx) {
                continue;
            }
            let decision = self.decision_of(cx, tx);
            let is_part = |d: &Decision| !self.is_whole(&d.participants, &d.ops);
            if decision.as_ref().is_some_and(is_part) {
                // It came in by alignment, without its operations: whoever has proven it logs it,
                // and is asked whether that is done (`align_return`).
                continue;
            }
            self.told_by_a_log(cx, tx);
            // Of a transaction over several clusters this server may hold a part only; the others
            // get it when somebody fetches it as a base, or by alignment.
            if let Some(decision) = decision.filter(super::apply::is_complete) {
                Mark::ProvenLogged.hit();
                let (at, low) = (self.next_log_position(), self.own_low());
                self.append_and_settle(cx, decision, at, low);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::io::{Config, Event, Recovered};
    use crate::machine::testing::{NOTHING, PEER, configured, sent};
    use crate::message::{Message, TxRecord};

    /// A server in its third boot that has met one other, in that one's second boot.
    fn machine(recovered: Recovered) -> Machine {
        let mut machine = configured(Boot(3), recovered);
        step(&mut machine, Event::Peer { node: PEER, boot: Boot(2), up: true });
        machine
    }

    fn step(machine: &mut Machine, event: Event) -> Vec<Message> {
        let mut out = Vec::new();
        machine.step(600_000, event, &NOTHING, &mut out);
        sent(out).into_iter().map(|(_, message)| message).collect()
    }

    fn from(from: NodeId, message: Message) -> Event {
        Event::Message { from, cfg: 1, message }
    }

    /// Neither counts as acknowledged by all, nor is asked of nobody.
    #[test]
    fn nothing_is_agreed_to_before_the_first_configuration() {
        let mut machine = Machine::new(Config::new(NodeId(1), Boot(3), 0), Recovered::default());
        step(&mut machine, Event::Peer { node: PEER, boot: Boot(2), up: true });
        let asked = from(PEER, Message::Ended { stage: 1, boot: Boot(2) });
        assert_eq!(step(&mut machine, asked), []);
        assert_eq!(machine.next_deadline(), None, "nothing to look after yet");
    }

    /// A slow disk held an answer back until the server that had asked was in its next boot.
    #[test]
    fn an_answer_to_an_earlier_boot_closes_nothing() {
        for (boot, stage) in [(Boot(2), 1), (Boot(3), 2)] {
            let mut machine = machine(Recovered::default());
            machine.closing.stage = 1;
            for node in [NodeId(1), PEER] {
                let reply = Message::EndedReply { stage: 1, boot, agreed: true };
                step(&mut machine, from(node, reply));
            }
            assert_eq!(machine.closing.stage, stage);
        }
    }

    #[test]
    fn what_an_earlier_boot_asked_is_not_answered() {
        let mut machine = machine(Recovered::default());
        let asked = |boot| from(PEER, Message::Ended { stage: 1, boot });
        assert_eq!(step(&mut machine, asked(Boot(1))), []);
        assert_eq!(step(&mut machine, asked(Boot(2))).len(), 1);
    }

    /// An undecided vote of it contradicts what was agreed to before; it must not be closed.
    #[test]
    fn a_boot_that_cannot_be_forgotten_is_not_agreed_to() {
        let tx = TxId { node: PEER, boot: Boot(1), seq: 1 };
        let voted = TxRecord { vote: Some(crate::message::Vote::Yes), ..TxRecord::default() };
        for (undecided, agreed) in [(vec![(tx, voted)], false), (Vec::new(), true)] {
            let mut machine = machine(Recovered { undecided, ..Recovered::default() });
            let boot = Boot(2);
            let sent = step(&mut machine, from(PEER, Message::Ended { stage: CLOSED, boot }));
            assert!(sent.contains(&Message::EndedReply { stage: CLOSED, boot, agreed }));
        }
    }
}
