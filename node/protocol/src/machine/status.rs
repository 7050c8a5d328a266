//! Who knows what of a transaction: questions to coordinators, answers, and telling those who asked
//! once it is decided.

use alloc::vec::Vec;

use quorate_api::{NodeId, TxId};

use super::apply::Decision;
use super::{Cx, Machine};
use crate::message::{Decided, Knowledge, Message, Participant};

/// Old votes asked about at once.
const ORPHANS_AT_ONCE: usize = 1_024;

impl Machine {
    pub(super) fn on_status(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        tx: TxId,
        participants: Vec<Participant>,
    ) {
        let mut knowledge = self.knowledge(cx, tx);
        // What an earlier boot of this server left behind, and it has forgotten: others hold votes,
        // so it finishes it.
        let mine = tx.node == self.config.node;
        if mine && matches!(knowledge, Knowledge::Nothing | Knowledge::Undecided) {
            let record = self.txs.get(&tx);
            let ops = record.map(|record| record.ops.clone()).unwrap_or_default();
            let known = record.map(|record| record.participants.clone()).unwrap_or_default();
            let participants = if participants.is_empty() { known } else { participants };
            // Without the touched clusters there is nobody to ask; whoever holds a vote asks with
            // them.
            if !participants.is_empty() {
                self.start_recovery(cx, tx, participants, ops);
                knowledge = Knowledge::Working;
            }
        }
        if knowledge == Knowledge::Working {
            self.watchers.entry(tx).or_default().insert(from);
        }
        cx.send_durable(from, Message::StatusReply { tx, knowledge });
    }

    fn knowledge(&self, cx: &Cx<'_>, tx: TxId) -> Knowledge {
        if let Some(settled) = self.settled_knowledge(cx, tx) {
            settled
        } else if self.coordinations.contains_key(&tx) || self.recoveries.contains_key(&tx) {
            Knowledge::Working
        } else if self.txs.contains_key(&tx) {
            Knowledge::Undecided
        } else {
            Knowledge::Nothing
        }
    }

    /// What this server knows by itself, if that is an outcome.
    pub(super) fn known_outcome(&self, cx: &Cx<'_>, tx: TxId) -> Option<Decided> {
        if self.parked.contains(tx) { Some(Decided::Commit) } else { cx.outcome(tx) }
    }

    pub(super) fn tell_watchers(&mut self, cx: &mut Cx<'_>, tx: TxId, outcome: Decided) {
        for node in self.watchers.remove(&tx).into_iter().flatten() {
            let knowledge = Knowledge::Decided(outcome);
            cx.send_durable(node, Message::StatusReply { tx, knowledge });
        }
    }

    pub(super) fn on_status_reply(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        tx: TxId,
        knowledge: Knowledge,
    ) {
        if let Knowledge::Decided(outcome) = knowledge {
            self.hear_outcome(cx, from, tx, outcome);
        }
        self.status_for_reads(cx, from, tx, knowledge);
    }

    fn hear_outcome(&mut self, cx: &mut Cx<'_>, from: NodeId, tx: TxId, outcome: Decided) {
        let record = self.txs.get(&tx);
        if record.is_none() && !self.is_own_open(tx) {
            return;
        }
        let (participants, ops) =
            record.map(|r| (r.participants.clone(), r.ops.clone())).unwrap_or_default();
        if outcome == Decided::Commit && !self.is_whole(&participants, &ops) {
            // A commit is applied with all its operations or not at all (trap A12).
            cx.send_now(from, Message::Fetch { tx });
            return;
        }
        self.learn(cx, Decision { tx, outcome, participants, ops });
    }

    /// A peer (re)connected: what it left undecided here in an earlier boot is its to finish.
    pub(super) fn ask_about_orphans(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        let Some(boot) = self.peers.get(&node).map(|peer| peer.boot) else { return };
        let left = self.txs.iter().filter(|(tx, _)| tx.node == node && tx.boot < boot);
        for (tx, record) in left.take(ORPHANS_AT_ONCE) {
            let participants = record.participants.clone();
            cx.send_now(node, Message::Status { tx: *tx, participants });
        }
    }

    /// Votes of boots that have ended are asked about again and again; the own ones are recovered
    /// at once.
    pub(super) fn ask_about_old_votes(&mut self, cx: &mut Cx<'_>) {
        let peers: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| peer.up).map(|(node, _)| *node).collect();
        for node in peers {
            self.ask_about_orphans(cx, node);
        }
        self.recover_own_orphans(cx);
    }

    /// What earlier boots of this server left undecided.
    pub(super) fn recover_own_orphans(&mut self, cx: &mut Cx<'_>) {
        let (me, boot) = (self.config.node, self.config.boot);
        let mine = self
            .txs
            .iter()
            .filter(|(tx, _)| tx.node == me && tx.boot < boot && !self.recoveries.contains_key(tx));
        let mine = mine.take(ORPHANS_AT_ONCE);
        let mine: Vec<_> =
            mine.map(|(tx, r)| (*tx, r.participants.clone(), r.ops.clone())).collect();
        for (tx, participants, ops) in mine {
            self.start_recovery(cx, tx, participants, ops);
        }
    }

    /// A coordination whose peers' reachability changed may go on at once.
    pub(super) fn reconsider_reachability(&mut self, cx: &mut Cx<'_>) {
        for tx in self.coordinations.keys().copied().collect::<Vec<_>>() {
            self.advance(cx, tx);
        }
        for read in self.reads.keys().copied().collect::<Vec<_>>() {
            self.advance_read(cx, read);
        }
    }
}
