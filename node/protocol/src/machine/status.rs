//! Who knows what of a transaction: questions to coordinators, answers, and telling those who asked
//! once it is decided.

use alloc::vec::Vec;

use quorate_api::{NodeId, TxId};

use super::apply::{Decision, Source};
use super::orphans::Turn;
use super::{Cx, Machine};
use crate::marks::Mark;
use crate::message::{Decided, Knowledge, Message, Participant, Vote};

impl Machine {
    /// Items locked here; for status pages and the simulator's invariants.
    #[must_use]
    pub fn locked(&self) -> usize {
        self.locks.len()
    }

    /// Transactions and reads of clients in flight here.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.coordinations.len() + self.retries.len() + self.reads.len() + self.sessions.len()
    }

    /// What others would have to find out were this server to end now: its transactions that are
    /// not decided, and MASTERs that can be reached and have not acknowledged all its decisions.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        let streamed_to = self.streamed_to();
        let peers = streamed_to.iter().filter_map(|node| self.peers.get(node));
        let late = peers.filter(|peer| peer.up && peer.synced && peer.acked < self.log_end);
        self.coordinations.len() + late.count()
    }

    pub(super) fn on_status(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        tx: TxId,
        participants: Vec<Participant>,
    ) {
        let mut knowledge = self.knowledge(cx, tx, &participants);
        // What an earlier boot of this server left behind, and it has forgotten: others hold votes,
        // so it finishes it.
        let mine = tx.node == self.config.node;
        if mine && matches!(knowledge, Knowledge::Nothing | Knowledge::Undecided { .. }) {
            let record = self.txs.get(&tx);
            let ops = record.map(|record| record.ops.clone()).unwrap_or_default();
            let known = record.map(|record| record.participants.clone()).unwrap_or_default();
            let participants = if participants.is_empty() { known } else { participants };
            // Without the touched clusters there is nobody to ask; whoever holds a vote asks with
            // them.
            if !participants.is_empty() {
                Mark::OwnOrphanAsked.hit();
                self.start_recovery(cx, tx, participants, ops, Turn::Own);
                knowledge = Knowledge::Working;
            }
        }
        if knowledge == Knowledge::Working {
            self.watchers.entry(tx).or_default().insert(from);
        }
        cx.send_durable(from, Message::StatusReply { tx, knowledge });
    }

    fn knowledge(&self, cx: &Cx<'_>, tx: TxId, participants: &[Participant]) -> Knowledge {
        if let Some(settled) = self.settled_knowledge(cx, tx, participants) {
            settled
        } else if self.coordinations.contains_key(&tx) || self.is_led_here(tx) {
            Knowledge::Working
        } else if let Some(record) = self.txs.get(&tx) {
            let participants = record.participants.clone();
            Knowledge::Undecided { yes: record.vote == Some(Vote::Yes), participants }
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
        match &knowledge {
            Knowledge::Decided(outcome) => self.hear_outcome(cx, from, tx, *outcome),
            Knowledge::Finished => self.hear_finished(cx, tx),
            Knowledge::Working | Knowledge::Undecided { .. } | Knowledge::Nothing => {
                self.status_for_watch(cx, from, tx, &knowledge);
                self.status_for_recovery(cx, from, tx, &knowledge);
            }
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
            Mark::CommitWithoutOps.hit();
            cx.send_now(from, Message::Fetch { tx });
            return;
        }
        let decision = Decision { tx, outcome, participants, ops };
        self.learn(cx, decision, Source::Elsewhere);
    }

    /// Everybody who is waited for has finished with a transaction. If it is undecided here, or a
    /// base that is missed, this server was left behind by some log, whose server may be gone and
    /// never say so. Its items alone could be read from a majority (3.7.7), but that would show
    /// parts of the transactions that came after it (trap A12): all of this server aligns, and its
    /// vote is dropped with that.
    fn hear_finished(&mut self, cx: &mut Cx<'_>, tx: TxId) {
        self.end_recovery(tx);
        self.end_watch(tx);
        self.drop_if_elsewhere(tx);
        let is_missed = self.parked.missing().chain(self.held.missing()).any(|base| base == tx);
        if is_missed || self.txs.contains_key(&tx) || self.parked.contains(tx) {
            Mark::LeftByFinished.hit();
            self.leave_online(cx);
        }
    }

    /// What earlier boots of this server left undecided.
    pub(super) fn recover_own_orphans(&mut self, cx: &mut Cx<'_>) {
        let (me, boot) = (self.config.node, self.config.boot);
        let mine = self
            .txs
            .iter()
            .filter(|(tx, _)| tx.node == me && tx.boot < boot && !self.recoveries.contains_key(tx));
        let mine: Vec<_> =
            mine.map(|(tx, r)| (*tx, r.participants.clone(), r.ops.clone())).collect();
        for (tx, participants, ops) in mine {
            self.start_recovery(cx, tx, participants, ops, Turn::Own);
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
