//! The acceptor: votes (PROTOCOL.md 3.4), accepts (3.5, 3.7.4) and promises (3.7.2). Votes never
//! change.

use alloc::vec::Vec;

use quorate_api::{Boot, ClusterKey, Committed, ItemKey, NodeId, OpKind, Operation, Stamp, TxId};

use super::apply::{Decision, Source};
use super::held::{HeldPrepare, Wait};
use super::timers::Timer;
use super::{Cx, Machine};
use crate::io::Write;
use crate::marks::Mark;
use crate::message::{
    Ballot, Decided, Instance, Knowledge, Message, No, NoReason, Participant, Promise, TxRecord,
    Value, Vote, VoteReply,
};
use crate::planted::Bug;

/// The body of an `Accept`.
#[derive(Debug)]
pub(super) struct Proposed {
    pub(super) cluster: ClusterKey,
    pub(super) ballot: Ballot,
    pub(super) value: Value,
    pub(super) participants: Vec<Participant>,
    pub(super) ops: Vec<Operation>,
}

/// Result of checking a Prepare.
enum Judgement {
    Yes,
    No(No),
    Wait(Wait),
    /// The base proves that this lock holder committed (3.4.3a).
    Proven(TxId),
}

impl Machine {
    pub(super) fn on_prepare(&mut self, cx: &mut Cx<'_>, tx: TxId, mut prepare: HeldPrepare) {
        if self.config.has(Bug::VoteAfterPromise) {
            self.txs.retain(|id, record| *id != tx || record.vote.is_some());
        }
        if self.config.has(Bug::VoteTwice) {
            self.txs.retain(|id, record| *id != tx || record.vote == Some(Vote::Yes));
        }
        if let Some(reply) = self.recorded_vote(cx, tx) {
            cx.send_durable(prepare.from, Message::Vote { tx, reply });
            return;
        }
        if self.held.contains(tx) {
            return;
        }
        prepare.ops.sort_by(|a, b| a.item.cmp(&b.item));
        self.judge(cx, tx, prepare);
    }

    /// The answer to a Prepare that was answered before, or needs no vote (3.4.1).
    fn recorded_vote(&self, cx: &Cx<'_>, tx: TxId) -> Option<VoteReply> {
        if self.is_finished(tx) {
            Mark::PrepareFinished.hit();
            return Some(VoteReply::Finished);
        }
        if let Some(record) = self.txs.get(&tx) {
            let mark = if record.vote.is_some() { Mark::VoteAgain } else { Mark::PrepareRefused };
            mark.hit();
            let promised = record.instances.iter().map(|(_, instance)| instance.promised).max();
            let refused = VoteReply::Refused(promised.unwrap_or_default());
            return Some(record.vote.clone().map_or(refused, VoteReply::Vote));
        }
        if self.parked.contains(tx) {
            return Some(VoteReply::Decided(Decided::Commit));
        }
        let outcome = cx.outcome(tx)?;
        Mark::PrepareDecided.hit();
        Some(VoteReply::Decided(outcome))
    }

    pub(super) fn judge(&mut self, cx: &mut Cx<'_>, tx: TxId, prepare: HeldPrepare) {
        loop {
            match self.check(cx, tx, &prepare) {
                Judgement::Yes => self.cast(cx, tx, prepare, Vote::Yes),
                Judgement::No(no) => self.cast(cx, tx, prepare, Vote::No(no)),
                Judgement::Wait(wait) => self.hold(cx, tx, prepare, wait),
                Judgement::Proven(holder) => {
                    Mark::HolderProven.hit();
                    if self.apply_proven(cx, holder) {
                        continue;
                    }
                    Mark::ProofWithoutBase.hit();
                    let item = prepare.ops.iter().find(|op| op.base.tx == holder);
                    let item = item.map(|op| op.item.clone());
                    let item = item.expect("the proof came from one of the operations");
                    self.hold(cx, tx, prepare, Wait::Lag { item, writer: holder });
                }
            }
            return;
        }
    }

    /// A lock holder whose stamp somebody builds on has committed. False if its own base, or a part
    /// of it, is missing here.
    fn apply_proven(&mut self, cx: &mut Cx<'_>, holder: TxId) -> bool {
        let record = self.txs.get(&holder).expect("a lock holder has a record").clone();
        // A vote carries the clusters mastered here; those of which this is a REPLICA are missing.
        if !self.is_whole(&record.participants, &record.ops) {
            return false;
        }
        let decision = Decision {
            tx: holder,
            outcome: Decided::Commit,
            participants: record.participants,
            ops: record.ops,
        };
        self.learn(cx, decision, Source::Elsewhere)
    }

    fn check(&self, cx: &Cx<'_>, tx: TxId, prepare: &HeldPrepare) -> Judgement {
        if let Some(judgement) = self.check_generations(prepare) {
            return judgement;
        }
        for op in &prepare.ops {
            let holders = self.locks.conflicts(&op.item, &op.kind, tx);
            if let Some(holder) = holders.first() {
                if op.base.tx == *holder && op.base != Stamp::ABSENT {
                    return Judgement::Proven(*holder);
                }
                return self.wait_or_die(prepare, op, &holders);
            }
            if let Some(judgement) = self.check_base(cx, tx, prepare.cfg, op) {
                return judgement;
            }
        }
        Judgement::Yes
    }

    fn check_generations(&self, prepare: &HeldPrepare) -> Option<Judgement> {
        for participant in &prepare.participants {
            let no = |reason| {
                let no = No { reason, item: None, current: Stamp::ABSENT, holder: None };
                Some(Judgement::No(no))
            };
            match self.placements.get(&participant.cluster) {
                // An older writer does not know of an index: its keys would be missing.
                Some(mine) if prepare.schema < mine.schema_min => return no(NoReason::Schema),
                Some(mine) if mine.generation == participant.generation => {
                    if self.is_sealed(participant.cluster, mine.generation) {
                        Mark::NoSealed.hit();
                        return no(NoReason::Generation);
                    }
                    // What it lacks comes: never a No for that.
                    if !self.may_vote_in(participant.cluster, mine) {
                        Mark::HeldForEntry.hit();
                        return Some(Judgement::Wait(Wait::Configuration));
                    }
                }
                Some(mine) if mine.generation > participant.generation => {
                    return no(NoReason::Generation);
                }
                // A newer configuration is caught up with, never answered with a durable No (trap
                // A14).
                _ if prepare.cfg > self.cfg => return Some(Judgement::Wait(Wait::Configuration)),
                _ => return no(NoReason::Schema),
            }
        }
        None
    }

    /// Waits only when it is older than every holder: waiting for an older one could close a circle
    /// of waits.
    fn wait_or_die(&self, prepare: &HeldPrepare, op: &Operation, holders: &[TxId]) -> Judgement {
        let is_younger =
            |holder: &TxId| self.txs.get(holder).is_some_and(|record| prepare.age < record.age);
        let waited = self.now.saturating_sub(prepare.since);
        let older = holders.iter().find(|holder| !is_younger(holder));
        let holder = *older.unwrap_or(&holders[0]);
        if older.is_none() && waited < self.config.lock_wait {
            return Judgement::Wait(Wait::Lock { item: op.item.clone(), holder });
        }
        Judgement::No(No {
            reason: NoReason::Busy,
            item: Some(op.item.clone()),
            current: Stamp::ABSENT,
            holder: Some(holder),
        })
    }

    /// 3.4.3b and c: the committed stamp equals the base, and a create stands where its creator may
    /// create. Who may is configuration: a newer one is caught up with first (3.3).
    fn check_base(&self, cx: &Cx<'_>, tx: TxId, cfg: u64, op: &Operation) -> Option<Judgement> {
        let current = cx.stamp(&op.item);
        let no = |reason| {
            let no = No { reason, item: Some(op.item.clone()), current, holder: None };
            Some(Judgement::No(no))
        };
        if self.config.has(Bug::SkipVersionCheck) {
            return None;
        }
        let by_version = self.config.has(Bug::BaseByVersion);
        if current == op.base || (by_version && current.version <= op.base.version) {
            return match (&op.kind, &op.item.key) {
                (OpKind::Create, ItemKey::Record(_)) => {
                    let owner = self.placements.get(&op.item.cluster).and_then(|p| p.owner);
                    if owner.is_none_or(|owner| owner == tx.node) {
                        None
                    } else if cfg > self.cfg {
                        Some(Judgement::Wait(Wait::Configuration))
                    } else {
                        no(NoReason::Position)
                    }
                }
                _ => None,
            };
        }
        if let OpKind::Merge(merge) = &op.kind {
            if merge.covers(current) {
                return None;
            }
            Mark::MergeRefused.hit();
            return no(NoReason::Version);
        }
        // A check that finds nothing: a tombstone may be dropped here or there already.
        let is_gone = |c: Committed| self.everybody_had(&op.item.key, &c);
        if (&op.kind, op.base) == (&OpKind::Check, Stamp::ABSENT)
            && cx.item(&op.item).is_some_and(is_gone)
        {
            return None;
        }
        // What is finished was applied here; the state was dropped since, or never kept.
        let had = self.is_finished(op.base.tx) || self.has_diverged_from(cx, op);
        if current.version >= op.base.version || had {
            return no(NoReason::Version);
        }
        Some(Judgement::Wait(Wait::Lag { item: op.item.clone(), writer: op.base.tx }))
    }

    /// With W below majority: the base is known as committed, yet the local line went another way
    /// (3.10).
    fn has_diverged_from(&self, cx: &Cx<'_>, op: &Operation) -> bool {
        !self.is_safe(op.item.cluster) && cx.outcome(op.base.tx) == Some(Decided::Commit)
    }

    pub(super) fn is_safe(&self, cluster: ClusterKey) -> bool {
        self.placements.get(&cluster).is_none_or(crate::io::Placement::is_safe)
    }

    fn hold(&mut self, cx: &mut Cx<'_>, tx: TxId, prepare: HeldPrepare, wait: Wait) {
        if self.held.is_full() {
            return;
        }
        let limit = match &wait {
            Wait::Lock { .. } => self.config.lock_wait,
            Wait::Lag { .. } | Wait::Configuration => self.config.lag_wait,
        };
        let for_lock = matches!(wait, Wait::Lock { .. });
        let mark = if for_lock { Mark::HeldForLock } else { Mark::HeldForLag };
        mark.hit();
        if let Wait::Lag { item, writer } = &wait {
            self.fetch_from(cx, prepare.from, *writer);
            self.repair_record_wise(cx, prepare.from, item);
        }
        self.timers.set(prepare.since.max(self.now.saturating_sub(limit)) + limit, Timer::Held(tx));
        self.held.insert(tx, prepare, wait);
    }

    /// Waited long enough: a lock becomes a No, anything else is dropped without a vote (3.4.3).
    pub(super) fn held_expired(&mut self, cx: &mut Cx<'_>, tx: TxId) {
        let Some((prepare, wait)) = self.held.remove(tx) else { return };
        match wait {
            Wait::Lock { .. } => self.judge(cx, tx, prepare),
            Wait::Lag { .. } | Wait::Configuration => {
                if self.now < prepare.since + self.config.lag_wait {
                    self.judge(cx, tx, prepare);
                } else {
                    Mark::HeldDropped.hit();
                }
            }
        }
    }

    fn cast(&mut self, cx: &mut Cx<'_>, tx: TxId, prepare: HeldPrepare, vote: Vote) {
        let HeldPrepare { from, age, participants, ops, .. } = prepare;
        let instances = self.fresh_instances(&participants);
        mark_no(&vote);
        if vote == Vote::Yes {
            self.locks.take(tx, &ops);
        }
        let record = TxRecord { age, participants, ops, vote: Some(vote.clone()), instances };
        cx.write(Write::Tx(tx, record.clone()));
        let before = self.txs.insert(tx, record);
        assert!(before.is_none(), "{tx} voted twice");
        self.note_undecided(tx);
        let message = Message::Vote { tx, reply: VoteReply::Vote(vote) };
        if self.config.has(Bug::VoteBeforeDurable) {
            cx.send_now(from, message);
        } else {
            cx.send_durable(from, message);
        }
    }

    /// Acceptor state for the clusters of a transaction that this server masters.
    fn fresh_instances(&self, participants: &[Participant]) -> Vec<(ClusterKey, Instance)> {
        participants
            .iter()
            .filter(|p| self.is_master(self.config.node, p.cluster))
            .map(|p| (p.cluster, Instance::default()))
            .collect()
    }

    /// What must be answered instead of a promise or an accept, if anything.
    pub(super) fn settled_knowledge(
        &self,
        cx: &Cx<'_>,
        tx: TxId,
        participants: &[Participant],
    ) -> Option<Knowledge> {
        if self.is_finished(tx) {
            return Some(Knowledge::Finished);
        }
        if self.parked.contains(tx) || self.is_begun(tx) {
            return Some(Knowledge::Decided(Decided::Commit));
        }
        let record = self.txs.get(&tx);
        let known = if record.is_some() { None } else { cx.outcome(tx) };
        let ours = record.map(|record| record.participants.as_slice()).unwrap_or_default();
        if known.is_none() && (self.is_void(participants) || self.is_void(ours)) {
            Mark::AnsweredForClosed.hit();
            return Some(Knowledge::Decided(Decided::Abort));
        }
        known.map(Knowledge::Decided)
    }

    /// The record to promise or accept in; made without a vote if there is none, which forbids a
    /// Yes for ever.
    fn instance_of(
        &mut self,
        tx: TxId,
        cluster: ClusterKey,
        participants: Vec<Participant>,
    ) -> Option<&mut Instance> {
        if !self.txs.contains_key(&tx) {
            if !self.is_master(self.config.node, cluster) {
                return None;
            }
            Mark::RecordWithoutVote.hit();
            self.held.remove(tx);
            let instances = self.fresh_instances(&participants);
            let record = TxRecord { participants, instances, ..TxRecord::default() };
            self.txs.insert(tx, record);
            self.note_undecided(tx);
        }
        let record = self.txs.get_mut(&tx)?;
        record.instances.iter_mut().find(|(c, _)| *c == cluster).map(|(_, instance)| instance)
    }

    pub(super) fn on_accept(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        tx: TxId,
        proposed: Proposed,
    ) {
        if let Some(knowledge) = self.settled_knowledge(cx, tx, &proposed.participants) {
            cx.send_durable(from, Message::StatusReply { tx, knowledge });
            return;
        }
        let Proposed { cluster, ballot, value, participants, ops } = proposed;
        let Some(instance) = self.instance_of(tx, cluster, participants) else { return };
        if ballot < instance.promised {
            Mark::AcceptRejected.hit();
            let promised = instance.promised;
            cx.send_durable(from, Message::Rejected { tx, cluster, promised });
            return;
        }
        if let Some((before, other)) = instance.accepted {
            assert!(before < ballot || other == value, "{tx}: two values in one ballot");
        }
        instance.promised = ballot;
        instance.accepted = Some((ballot, value));
        let record = self.txs.get_mut(&tx).expect("made above");
        // A recoverer may know the operations of one cluster before those of another.
        for op in ops {
            if record.ops.iter().all(|known| known.item != op.item) {
                record.ops.push(op);
            }
        }
        cx.write(Write::Tx(tx, record.clone()));
        cx.send_durable(from, Message::Accepted { tx, cluster, ballot });
    }

    pub(super) fn on_recover(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        tx: TxId,
        cluster: ClusterKey,
        ballot: Ballot,
        participants: Vec<Participant>,
    ) {
        if let Some(knowledge) = self.settled_knowledge(cx, tx, &participants) {
            cx.send_durable(from, Message::StatusReply { tx, knowledge });
            return;
        }
        let Some(instance) = self.instance_of(tx, cluster, participants) else { return };
        // The same ballot again is the same recoverer asking again: its answer was lost.
        if ballot < instance.promised {
            Mark::RecoverRejected.hit();
            let promised = instance.promised;
            cx.send_durable(from, Message::Rejected { tx, cluster, promised });
            return;
        }
        instance.promised = ballot;
        let accepted = instance.accepted;
        let record = self.txs.get(&tx).expect("made above").clone();
        cx.write(Write::Tx(tx, record.clone()));
        let promise = Promise {
            vote: record.vote,
            accepted,
            ops: record.ops,
            participants: record.participants,
        };
        cx.send_durable(from, Message::Promise { tx, cluster, ballot, promise });
    }

    /// A boot ended: what it asked for and has no vote yet never gets one (3.9). Its coordinator
    /// has forgotten what it was doing. What it sent and is still under way is dropped by the
    /// shell.
    pub(super) fn drop_held_of_closed_boots(&mut self, node: NodeId, boot: Boot) {
        for tx in self.held.of_coordinator(node) {
            if tx.boot < boot {
                self.held.remove(tx);
            }
        }
    }

    /// After the configuration changed: whoever waited for it is judged again.
    pub(super) fn reconsider_configuration(&mut self, cx: &mut Cx<'_>) {
        for tx in self.held.waiting_on_configuration() {
            if let Some((prepare, _)) = self.held.remove(tx) {
                self.judge(cx, tx, prepare);
            }
        }
    }
}

fn mark_no(vote: &Vote) {
    let Vote::No(no) = vote else { return };
    match no.reason {
        NoReason::Busy => Mark::NoBusy.hit(),
        NoReason::Version => Mark::NoVersion.hit(),
        NoReason::Position => Mark::NoPosition.hit(),
        NoReason::Generation | NoReason::Schema => {}
    }
}
