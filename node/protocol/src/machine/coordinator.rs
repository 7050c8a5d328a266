//! The coordinator (PROTOCOL.md 3.5): one round when everybody says Yes, a second one when not.
//! What the votes allow is judged in `votes`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{
    Boot, ClusterKey, Committed, ErrorCode, ItemId, NodeId, OpKind, Operation, TxId,
};

use super::apply::Decision;
use super::orphans::Turn;
use super::request::{Retry, refuse, resolve};
use super::timers::Timer;
use super::votes::Votes;
use super::{Cx, Machine};
use crate::io::{Base, Failure, Reply, Submit, Tick, Write};
use crate::marks::Mark;
use crate::message::{Age, Ballot, Decided, Message, No, Participant, Value, Vote, VoteReply};
use crate::planted::Bug;

/// One attempt of a transaction.
#[derive(Debug)]
pub(super) struct Coordination {
    pub(super) submit: Submit,
    /// The client was not answered yet.
    pub(super) waiting: bool,
    pub(super) age: Age,
    pub(super) attempt: u32,
    pub(super) started: Tick,
    pub(super) participants: Vec<Participant>,
    /// In item order.
    pub(super) ops: Vec<Operation>,
    pub(super) clusters: BTreeMap<ClusterKey, Round>,
    /// No votes, for the reason told to the client.
    pub(super) noes: Vec<No>,
    pub(super) resend_at: Tick,
    /// When its timer is set.
    pub(super) armed: Tick,
    /// Recovery has taken over: round 1 is closed.
    pub(super) recovering: bool,
}

/// Where one cluster stands.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) yes: BTreeSet<NodeId>,
    pub(super) no: BTreeSet<NodeId>,
    /// When W was first reached.
    pub(super) quorum_at: Option<Tick>,
    pub(super) stage: Stage,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Voting,
    /// Round 1: at most one value is ever sent.
    Accepting(Value, BTreeSet<NodeId>),
    /// The value is final; true when the votes alone made it so.
    Final(Value, bool),
}

impl Machine {
    /// Starts an attempt on these committed states, found here or by a majority read.
    pub(super) fn attempt_on(
        &mut self,
        cx: &mut Cx<'_>,
        retry: Retry,
        bases: &BTreeMap<ItemId, Option<Committed>>,
    ) {
        let Retry { submit, age, attempt } = retry;
        if let Err(failure) = self.check_quorums(&submit) {
            refuse(cx, submit.request, failure);
            return;
        }
        let mut ops = Vec::with_capacity(submit.ops.len());
        for proposal in &submit.ops {
            let mut committed = bases[&proposal.item].clone();
            if let (true, Base::Version(version), Some(c)) =
                (self.config.has(Bug::BaseByVersion), proposal.base, &mut committed)
            {
                c.stamp.version = version.max(c.stamp.version);
            }
            if proposal.kind == OpKind::Check {
                // Elsewhere it may be dropped.
                committed = committed.filter(|c| !self.everybody_had(&proposal.item.key, c));
            }
            match resolve(committed.as_ref(), proposal) {
                Ok(op) => ops.push(op),
                Err(failure) => return refuse(cx, submit.request, failure),
            }
        }
        ops.sort_by(|a, b| a.item.cmp(&b.item));
        self.coordinate(cx, Retry { submit, age, attempt }, ops, true);
    }

    /// Asks for votes on operations, in item order.
    pub(super) fn coordinate(
        &mut self,
        cx: &mut Cx<'_>,
        retry: Retry,
        ops: Vec<Operation>,
        waiting: bool,
    ) -> TxId {
        let Retry { submit, age, attempt } = retry;
        let reused = self.config.has(Bug::ReuseIds);
        let boot = if reused { Boot(1) } else { self.config.boot };
        let tx = TxId { node: self.config.node, boot, seq: self.next_seq };
        self.next_seq += 1;
        let age = if age.first == TxId::NONE { Age { first: tx, ..age } } else { age };
        let clusters: BTreeSet<ClusterKey> = ops.iter().map(|op| op.item.cluster).collect();
        let participants = clusters
            .iter()
            .map(|cluster| Participant {
                cluster: *cluster,
                generation: self.placements[cluster].generation,
            })
            .collect();
        let coordination = Coordination {
            submit,
            waiting,
            age,
            attempt,
            started: self.now,
            participants,
            ops,
            clusters: clusters.into_iter().map(|c| (c, Round::default())).collect(),
            noes: Vec::new(),
            resend_at: self.now + self.config.resend,
            armed: 0,
            recovering: false,
        };
        for node in self.voters_of(&coordination.participants, &coordination.ops) {
            self.send_prepare(cx, node, tx, &coordination);
        }
        self.coordinations.insert(tx, coordination);
        self.arm_coordination(tx);
        tx
    }

    /// The request that a transaction under way here was made for, while its client waits.
    #[must_use]
    pub fn request_of(&self, tx: TxId) -> Option<u64> {
        let waiting = self.coordinations.get(&tx).filter(|c| c.waiting);
        waiting.map(|c| c.submit.request)
    }

    fn send_prepare(&self, cx: &mut Cx<'_>, to: NodeId, tx: TxId, c: &Coordination) {
        let message = Message::Prepare {
            tx,
            age: c.age,
            participants: c.participants.clone(),
            ops: self.ops_for(to, &c.ops),
            schema: c.submit.schema,
        };
        cx.send_now(to, message);
    }

    pub(super) fn on_vote(&mut self, cx: &mut Cx<'_>, from: NodeId, tx: TxId, reply: VoteReply) {
        let Some(c) = self.coordinations.get_mut(&tx) else { return };
        match reply {
            VoteReply::Vote(vote) => {
                for (cluster, round) in &mut c.clusters {
                    let placement = self.placements.get(cluster);
                    if placement.is_some_and(|p| p.masters.contains(&from)) {
                        match &vote {
                            Vote::Yes => round.yes.insert(from),
                            Vote::No(_) => round.no.insert(from),
                        };
                    }
                }
                if let Vote::No(no) = vote {
                    c.noes.push(no);
                }
                self.advance(cx, tx);
            }
            // The own Accept overtook the Prepare, and no cluster waits for this vote any more.
            VoteReply::Refused(promised) if promised.round < 2 && !c.waits_for_votes() => {}
            // A recoverer got there first: its value decides (3.5.3).
            VoteReply::Refused(_) => {
                Mark::VoteRefused.hit();
                self.take_to_recovery(cx, tx);
            }
            VoteReply::Decided(outcome) => {
                Mark::VoteDecided.hit();
                let (participants, ops) = (c.participants.clone(), c.ops.clone());
                self.decide(cx, Decision { tx, outcome, participants, ops });
            }
            // It was forgotten, so this coordinator decided it; nothing is open then.
            VoteReply::Finished => {}
        }
    }

    pub(super) fn on_accepted(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        tx: TxId,
        cluster: ClusterKey,
        ballot: Ballot,
    ) {
        if ballot.round >= 2 {
            self.on_recovery_accepted(cx, from, tx, cluster, ballot);
            return;
        }
        let Some(c) = self.coordinations.get_mut(&tx) else { return };
        if ballot.boot != self.config.boot || c.recovering {
            return;
        }
        let votes = self.placements.get(&cluster).is_some_and(|p| p.masters.contains(&from));
        if let Some(Round { stage: Stage::Accepting(_, accepted), .. }) =
            c.clusters.get_mut(&cluster).filter(|_| votes)
        {
            accepted.insert(from);
            self.advance(cx, tx);
        }
    }

    /// Moves every cluster as far as its votes and accepts allow, and decides when all is known.
    pub(super) fn advance(&mut self, cx: &mut Cx<'_>, tx: TxId) {
        let Some(mut c) = self.coordinations.remove(&tx) else { return };
        if !c.recovering {
            for cluster in c.clusters.keys().copied().collect::<Vec<_>>() {
                self.advance_cluster(cx, tx, &mut c, cluster);
                if self.config.has(Bug::ApplyOwnValue) {
                    self.apply_own_value(cx, tx, &c, cluster);
                }
            }
        }
        let finals = |value| {
            c.clusters
                .values()
                .filter(move |r| matches!(&r.stage, Stage::Final(v, _) if *v == value))
        };
        let outcome = if finals(Value::Aborted).next().is_some() {
            Some(Decided::Abort)
        } else if finals(Value::Prepared).count() == c.clusters.len() {
            Some(Decided::Commit)
        } else {
            None
        };
        let (participants, ops) = (c.participants.clone(), c.ops.clone());
        self.coordinations.insert(tx, c);
        match outcome {
            Some(outcome) => {
                self.decide(cx, Decision { tx, outcome, participants, ops });
            }
            None if self.is_out_of_reach(tx) => {
                Mark::SplitVote.hit();
                self.take_to_recovery(cx, tx);
            }
            None => self.arm_coordination(tx),
        }
    }

    /// X5: what must not be done.
    fn apply_own_value(&self, cx: &mut Cx<'_>, tx: TxId, c: &Coordination, cluster: ClusterKey) {
        let prepared = matches!(c.clusters[&cluster].stage, Stage::Final(Value::Prepared, _));
        let ops = c.ops.iter().filter(|op| op.writes() && op.item.cluster == cluster);
        for op in ops.filter(|_| prepared && self.is_master(self.config.node, cluster)) {
            if cx.stamp(&op.item) == op.base {
                let (stamp, live) = (op.stamp_after(tx), op.kind.leaves_live());
                let committed = Committed { stamp, live, image: op.image.clone(), elsewhere: None };
                cx.write(Write::Item(op.item.clone(), committed));
            }
        }
    }

    fn advance_cluster(
        &self,
        cx: &mut Cx<'_>,
        tx: TxId,
        c: &mut Coordination,
        cluster: ClusterKey,
    ) {
        let Some(placement) = self.placements.get(&cluster) else { return };
        let safely = self.is_decided_safely(&c.participants);
        let round = c.clusters.get_mut(&cluster).expect("named by the caller");
        let value = match &round.stage {
            Stage::Final(..) => return,
            Stage::Accepting(value, accepted) => {
                if accepted.len() >= placement.majority() {
                    round.stage = Stage::Final(*value, false);
                } else if round.yes.len() == placement.masters.len()
                    && self.config.has(Bug::AbortOnSilence)
                {
                    round.stage = Stage::Final(Value::Prepared, true);
                }
                return;
            }
            Stage::Voting => match self.judge_votes(placement, round, c.started, safely) {
                Votes::Open => return,
                Votes::Final(value) => {
                    round.stage = Stage::Final(value, true);
                    return;
                }
                Votes::SecondRound(value) => value,
            },
        };
        if value == Value::Prepared && self.would_forbid_a_vote(c, cluster) {
            Mark::AcceptPostponed.hit();
            return;
        }
        let round = c.clusters.get_mut(&cluster).expect("named by the caller");
        round.stage = Stage::Accepting(value, BTreeSet::new());
        match value {
            Value::Prepared => Mark::RoundTwoPrepared.hit(),
            Value::Aborted => Mark::RoundTwoAborted.hit(),
        }
        for node in &placement.masters {
            self.send_accept(cx, *node, tx, cluster, value, c);
        }
    }

    /// Round 1: the coordinator's own ballot.
    fn send_accept(
        &self,
        cx: &mut Cx<'_>,
        to: NodeId,
        tx: TxId,
        cluster: ClusterKey,
        value: Value,
        c: &Coordination,
    ) {
        let ballot = Ballot { round: 1, node: self.config.node, boot: self.config.boot };
        let ops = match value {
            Value::Prepared => self.ops_for(to, &c.ops),
            Value::Aborted => Vec::new(),
        };
        let participants = c.participants.clone();
        cx.send_now(to, Message::Accept { tx, cluster, ballot, value, participants, ops });
    }

    /// After a reconnect: whatever the peer may have missed.
    pub(super) fn resend_to(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        for (tx, c) in &self.coordinations {
            self.resend_one(cx, *tx, c, node);
        }
    }

    fn resend_one(&self, cx: &mut Cx<'_>, tx: TxId, c: &Coordination, node: NodeId) {
        if c.recovering {
            return;
        }
        for (cluster, round) in &c.clusters {
            if !self.is_master(node, *cluster) {
                continue;
            }
            match &round.stage {
                Stage::Voting if !round.yes.contains(&node) && !round.no.contains(&node) => {
                    self.send_prepare(cx, node, tx, c);
                    return;
                }
                Stage::Accepting(value, accepted) if !accepted.contains(&node) => {
                    self.send_accept(cx, node, tx, *cluster, *value, c);
                }
                Stage::Voting | Stage::Accepting(..) | Stage::Final(..) => {}
            }
        }
    }

    /// Sets the one timer of a coordination to the next thing that is due.
    fn arm_coordination(&mut self, tx: TxId) {
        let fast = self.fast_wait();
        let Some(c) = self.coordinations.get_mut(&tx) else { return };
        let mut at = c.resend_at;
        if c.waiting {
            at = at.min(c.submit.deadline);
        }
        if !c.recovering {
            at = at.min(c.half());
            for round in c.clusters.values().filter(|r| r.stage == Stage::Voting) {
                // Past that it waits for a vote (`votes`), and whatever brings one looks again.
                if let Some(end) = round.quorum_at.map(|t| t + fast).filter(|t| *t > self.now) {
                    at = at.min(end);
                }
                if self.config.has(Bug::AbortOnSilence) {
                    at = at.min(c.started + self.config.fast_wait.1);
                }
            }
        }
        let at = at.max(self.now + 1);
        if c.armed != at {
            self.timers.clear(c.armed, Timer::Coordination(tx));
            c.armed = at;
            self.timers.set(at, Timer::Coordination(tx));
        }
    }

    pub(super) fn coordination_due(&mut self, cx: &mut Cx<'_>, tx: TxId) {
        let Some(c) = self.coordinations.get_mut(&tx) else { return };
        c.armed = 0;
        if c.waiting && self.now >= c.submit.deadline {
            // An unknown may take effect at any later time; the work goes on (3.5.6).
            c.waiting = false;
            Mark::DeadlinePassed.hit();
            let failure = Failure { holder: Some(tx), ..Failure::of(ErrorCode::Deadline) };
            cx.reply_now(c.submit.request, Reply::Failed(failure));
        }
        if !c.recovering && self.now >= c.half() {
            Mark::HalfPassed.hit();
            self.take_to_recovery(cx, tx);
        }
        let Some(c) = self.coordinations.get_mut(&tx) else { return };
        if self.now >= c.resend_at {
            c.resend_at = self.now + self.config.resend;
            let c = &self.coordinations[&tx];
            for node in self.voters_of(&c.participants, &c.ops) {
                self.resend_one(cx, tx, c, node);
            }
        }
        self.advance(cx, tx);
    }

    /// Round 1 is closed; recovery (3.7) finds the outcome.
    pub(super) fn take_to_recovery(&mut self, cx: &mut Cx<'_>, tx: TxId) {
        let Some(c) = self.coordinations.get_mut(&tx) else { return };
        if c.recovering {
            return;
        }
        c.recovering = true;
        let (participants, ops) = (c.participants.clone(), c.ops.clone());
        self.start_recovery(cx, tx, participants, ops, Turn::Own);
        self.arm_coordination(tx);
    }

    /// The outcome is known: answer, put it into the own log, apply, stream. True once settled
    /// here.
    ///
    /// The answer comes first on purpose: it is true whatever happens to this server's disk (see
    /// `cx.rs`).
    pub(super) fn decide(&mut self, cx: &mut Cx<'_>, decision: Decision) -> bool {
        let Decision { tx, outcome, .. } = decision;
        let own = tx.node == self.config.node && tx.boot == self.config.boot;
        let low = if own { self.own_low().min(tx.seq) } else { self.own_low() };
        let coordination = self.coordinations.remove(&tx);
        self.end_recovery(tx);
        let at = self.next_log_position();
        if let Some(c) = coordination {
            self.timers.clear(c.armed, Timer::Coordination(tx));
            self.merge_decided(cx, tx, &c, outcome);
            match outcome {
                Decided::Commit => self.answer_commit(cx, tx, c, at),
                Decided::Abort => self.answer_abort(cx, c),
            }
        }
        self.append_and_settle(cx, decision, at, low)
    }
}

impl Coordination {
    fn waits_for_votes(&self) -> bool {
        self.clusters.values().any(|round| round.stage == Stage::Voting)
    }

    /// Half of the time the client grants is gone (3.5.6).
    const fn half(&self) -> Tick {
        self.started + self.submit.deadline.saturating_sub(self.started) / 2
    }
}
