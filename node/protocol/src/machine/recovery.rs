//! Recovery of a transaction by a higher ballot (PROTOCOL.md 3.7). Its own coordinator runs it when
//! half of the deadline is gone, when a vote was refused, and after a restart for what an earlier
//! boot left behind; every other server when `orphans.rs` says so.
//!
//! One recovery per server and transaction. A rejected ballot rests, then asks the coordinator and
//! the rival before it tries again: a rival that is still working gets another rest's time. Whoever
//! finds the outcome appends it to its own decision log.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{ClusterKey, ItemId, NodeId, Operation, TxId};

use super::apply::Decision;
use super::orphans::Turn;
use super::timers::Timer;
use super::{Cx, Machine};
use crate::io::{Note, Placement, Tick};
use crate::marks::Mark;
use crate::message::{Ballot, Decided, Knowledge, Message, Participant, Promise, Value, Vote};
use crate::planted::Bug;

/// Bounds of the back-off after a rejected ballot.
const BACKOFF: (Tick, Tick) = (5_000, 1_000_000);

/// Most that the pause between two sendings grows, doubling while nobody answers. Servers or links
/// that are slow for a while would otherwise be kept so: every question asked again before its
/// answer comes is work on top of what made them slow.
const RESEND_GROWTH: Tick = 8;

/// One recovery of one transaction.
#[derive(Debug)]
pub(super) struct Recovery {
    participants: Vec<Participant>,
    ops: BTreeMap<ItemId, Operation>,
    ballot: Ballot,
    clusters: BTreeMap<ClusterKey, Instance>,
    backoff: Tick,
    /// Until unanswered questions are sent again.
    patience: Tick,
    phase: Phase,
    turn: Turn,
    armed: Tick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A ballot is under way.
    Running,
    /// Waiting after a rejection by whoever leads a higher ballot.
    Resting(NodeId),
    /// Asked that server and the coordinator whether there is anything left to do. Whether one of
    /// them has been given time to go on; it is given once.
    Asking { rival: NodeId, waited: bool },
}

#[derive(Debug, Default)]
enum Instance {
    #[default]
    Fresh,
    Promising(BTreeMap<NodeId, Promise>),
    Accepting(Value, BTreeSet<NodeId>),
    Final(Value),
}

impl Machine {
    pub(super) fn start_recovery(
        &mut self,
        cx: &mut Cx<'_>,
        tx: TxId,
        participants: Vec<Participant>,
        ops: Vec<Operation>,
        turn: Turn,
    ) {
        let decided = self.parked.contains(tx);
        if decided || self.recoveries.contains_key(&tx) || participants.is_empty() {
            return;
        }
        cx.note(Note::Recovering(tx));
        let ballot = Ballot { round: 1, node: self.config.node, boot: self.config.boot };
        let recovery = Recovery {
            clusters: participants.iter().map(|p| (p.cluster, Instance::Fresh)).collect(),
            participants,
            ops: ops.into_iter().map(|op| (op.item.clone(), op)).collect(),
            ballot,
            backoff: BACKOFF.0,
            patience: self.config.resend,
            phase: Phase::Running,
            turn,
            armed: 0,
        };
        self.count_led(turn);
        self.recoveries.insert(tx, recovery);
        self.next_ballot(cx, tx, ballot);
    }

    /// Begins (again) with a ballot above every one seen. Values found final stay final.
    fn next_ballot(&mut self, cx: &mut Cx<'_>, tx: TxId, above: Ballot) {
        let (node, boot) = (self.config.node, self.config.boot);
        let Some(recovery) = self.recoveries.get_mut(&tx) else { return };
        let round = above.round.max(recovery.ballot.round) + 1;
        recovery.ballot = Ballot { round, node, boot };
        recovery.phase = Phase::Running;
        for instance in recovery.clusters.values_mut() {
            if !matches!(instance, Instance::Final(_)) {
                *instance = Instance::Promising(BTreeMap::new());
            }
        }
        self.send_recovery(cx, tx);
    }

    /// Sends, or sends again, what is unanswered; arms the timer for the next time.
    fn send_recovery(&mut self, cx: &mut Cx<'_>, tx: TxId) {
        let Some(recovery) = self.recoveries.get(&tx) else { return };
        let (ballot, patience) = (recovery.ballot, recovery.patience);
        for participant in &recovery.participants {
            let cluster = &participant.cluster;
            self.ask_later_generation(cx, tx, recovery, participant);
            let instance = recovery.clusters.get(cluster);
            let placement = self.electing(&recovery.participants, participant);
            let Some((placement, instance)) = placement.zip(instance) else { continue };
            for node in &placement.masters {
                let participants = recovery.participants.clone();
                let cluster = *cluster;
                match instance {
                    Instance::Promising(promises) if !promises.contains_key(node) => {
                        cx.send_now(*node, Message::Recover { tx, cluster, ballot, participants });
                    }
                    Instance::Accepting(value, accepted) if !accepted.contains(node) => {
                        let ops = self.recovered_ops(recovery, *node, *value);
                        let value = *value;
                        let accept =
                            Message::Accept { tx, cluster, ballot, value, participants, ops };
                        cx.send_now(*node, accept);
                    }
                    Instance::Fresh
                    | Instance::Promising(_)
                    | Instance::Accepting(..)
                    | Instance::Final(_) => {}
                }
            }
        }
        self.arm_recovery(tx, self.now + patience);
    }

    /// Whoever has all that a generation committed which is over, answers for it (3.7.1).
    fn ask_later_generation(
        &self,
        cx: &mut Cx<'_>,
        tx: TxId,
        recovery: &Recovery,
        participant: &Participant,
    ) {
        let is_final = matches!(recovery.clusters[&participant.cluster], Instance::Final(_));
        let is_answered_for = self.electing(&recovery.participants, participant).is_none();
        if is_final || !is_answered_for || !self.is_over(participant) {
            return;
        }
        Mark::LaterGenerationAsked.hit();
        for node in &self.placements[&participant.cluster].masters {
            let participants = recovery.participants.clone();
            cx.send_now(*node, Message::Status { tx, participants });
        }
    }

    /// A generation ended: those of its transactions that are recovered here ask at once.
    pub(super) fn ask_later_generations(&mut self) {
        let over = self.recoveries.iter().filter(|(_, recovery)| {
            let asks = recovery.phase == Phase::Running && recovery.turn != Turn::Waits;
            asks && recovery.participants.iter().any(|p| self.is_over(p))
        });
        for tx in over.map(|(tx, _)| *tx).collect::<Vec<_>>() {
            self.arm_recovery(tx, self.now);
        }
    }

    /// The longest pause between two sendings.
    const fn patience_max(&self) -> Tick {
        RESEND_GROWTH * self.config.resend
    }

    /// A server is back: what it was asked meanwhile is asked again soon. Not more often than the
    /// longest pause: a link that comes and goes on a starved machine is no news.
    pub(super) fn hurry_recoveries(&mut self) {
        let patience_max = self.patience_max();
        if self.now < self.hurried_at + patience_max {
            return;
        }
        self.hurried_at = self.now;
        let soon = self.now + self.config.resend;
        let mut late = Vec::new();
        for (tx, recovery) in &mut self.recoveries {
            if recovery.phase == Phase::Running && recovery.armed > soon {
                // It has not waited for its longest pause.
                recovery.patience = recovery.patience.min(patience_max / 2);
                late.push(*tx);
            }
        }
        for tx in late {
            self.arm_recovery(tx, soon);
        }
    }

    pub(super) fn end_recovery(&mut self, tx: TxId) {
        if let Some(recovery) = self.recoveries.remove(&tx) {
            self.discount_led(recovery.turn);
            self.timers.clear(recovery.armed, Timer::Recovery(tx));
        }
    }

    fn recovered_ops(&self, recovery: &Recovery, node: NodeId, value: Value) -> Vec<Operation> {
        match value {
            Value::Aborted => Vec::new(),
            Value::Prepared => {
                let ops: Vec<Operation> = recovery.ops.values().cloned().collect();
                self.ops_for(node, &ops)
            }
        }
    }

    fn arm_recovery(&mut self, tx: TxId, at: Tick) {
        if let Some(recovery) = self.recoveries.get_mut(&tx) {
            self.timers.clear(recovery.armed, Timer::Recovery(tx));
            recovery.armed = at;
            self.timers.set(at, Timer::Recovery(tx));
        }
    }

    pub(super) fn recovery_due(&mut self, cx: &mut Cx<'_>, tx: TxId) {
        let patience_max = self.patience_max();
        let may_ask = self.has_turn(tx);
        let Some(recovery) = self.recoveries.get_mut(&tx) else { return };
        let ballot = recovery.ballot;
        match recovery.phase {
            Phase::Running => {
                if may_ask {
                    recovery.patience = (2 * recovery.patience).min(patience_max);
                    self.send_recovery(cx, tx);
                }
                // What was answered may suffice by now: fewer servers are believed reachable.
                self.advance_recovery(cx, tx);
            }
            Phase::Resting(rival) if may_ask => self.ask_before_next_ballot(cx, tx, rival),
            Phase::Asking { .. } if may_ask => self.next_ballot(cx, tx, ballot),
            Phase::Resting(_) | Phase::Asking { .. } => {}
        }
    }

    /// Some recovery of it is at work, and not only waiting for its turn.
    pub(super) fn is_led_here(&self, tx: TxId) -> bool {
        self.recoveries.get(&tx).is_some_and(|recovery| recovery.turn != Turn::Waits)
    }

    /// Whether it may ask again; if not, its timer says when to look.
    fn has_turn(&mut self, tx: TxId) -> bool {
        let Some(recovery) = self.recoveries.get(&tx) else { return false };
        let is_stuck = recovery.phase == Phase::Running && recovery.patience >= self.patience_max();
        let turn = recovery.turn;
        let next = self.next_turn(turn, is_stuck);
        self.discount_led(turn);
        self.count_led(next.unwrap_or(Turn::Waits));
        let Some(recovery) = self.recoveries.get_mut(&tx) else { return false };
        recovery.turn = next.unwrap_or(Turn::Waits);
        match next {
            Ok(_) if turn == Turn::Waits => recovery.patience = self.config.resend,
            Ok(_) => {}
            Err(at) => self.arm_recovery(tx, at),
        }
        next.is_ok()
    }

    /// "Start again with Status" (3.7.6).
    fn ask_before_next_ballot(&mut self, cx: &mut Cx<'_>, tx: TxId, rival: NodeId) {
        let me = self.config.node;
        let whom: BTreeSet<NodeId> =
            [tx.node, rival].into_iter().filter(|n| *n != me && self.is_up(*n)).collect();
        let patience = self.config.resend;
        let Some(recovery) = self.recoveries.get_mut(&tx) else { return };
        recovery.phase = Phase::Asking { rival, waited: false };
        let (ballot, participants) = (recovery.ballot, recovery.participants.clone());
        if whom.is_empty() {
            self.next_ballot(cx, tx, ballot);
            return;
        }
        for node in whom {
            let participants = participants.clone();
            cx.send_now(node, Message::Status { tx, participants });
        }
        self.arm_recovery(tx, self.now + patience);
    }

    /// An answer to that question which is no outcome.
    pub(super) fn status_for_recovery(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        tx: TxId,
        knowledge: &Knowledge,
    ) {
        let Some(recovery) = self.recoveries.get_mut(&tx) else { return };
        let Phase::Asking { rival, waited: false } = recovery.phase else { return };
        if from == self.config.node || (from != tx.node && from != rival) {
            return;
        }
        if *knowledge != Knowledge::Working {
            let ballot = recovery.ballot;
            self.next_ballot(cx, tx, ballot);
        } else {
            Mark::RivalWorking.hit();
            recovery.phase = Phase::Asking { rival, waited: true };
            let backoff = recovery.backoff;
            let at = self.now + backoff / 2 + self.draw(backoff);
            self.arm_recovery(tx, at);
        }
    }

    pub(super) fn on_promise(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        tx: TxId,
        cluster: ClusterKey,
        ballot: Ballot,
        promise: Promise,
    ) {
        let votes = self.counts_in_recovery(tx, cluster, from);
        let Some(recovery) = self.recoveries.get_mut(&tx) else { return };
        if ballot != recovery.ballot || !votes {
            return;
        }
        recovery.patience = self.config.resend;
        for op in &promise.ops {
            recovery.ops.entry(op.item.clone()).or_insert_with(|| op.clone());
        }
        if let Some(Instance::Promising(promises)) = recovery.clusters.get_mut(&cluster) {
            promises.insert(from, promise);
        }
        self.advance_recovery(cx, tx);
    }

    /// It is a MASTER of the cluster, in the generation that the transaction was prepared in.
    fn counts_in_recovery(&self, tx: TxId, cluster: ClusterKey, node: NodeId) -> bool {
        let Some(Recovery { participants, .. }) = self.recoveries.get(&tx) else { return false };
        let participant = participants.iter().find(|p| p.cluster == cluster);
        let placement = participant.and_then(|p| self.electing(participants, p));
        placement.is_some_and(|p| p.masters.contains(&node))
    }

    /// The value each cluster must take from its promises (3.7.3), and the outcome once all values
    /// are final.
    fn advance_recovery(&mut self, cx: &mut Cx<'_>, tx: TxId) {
        let Some(mut recovery) = self.recoveries.remove(&tx) else { return };
        let safely = self.is_decided_safely(&recovery.participants);
        let mut chosen = false;
        for participant in &recovery.participants {
            let instance = recovery.clusters.get_mut(&participant.cluster);
            let placement = self.electing(&recovery.participants, participant);
            let Some((placement, instance)) = placement.zip(instance) else { continue };
            match instance {
                Instance::Promising(promises) => {
                    if let Some(value) = self.value_from(placement, tx, promises, safely) {
                        chosen = true;
                        *instance = if safely {
                            Instance::Accepting(value, BTreeSet::new())
                        } else {
                            Instance::Final(value)
                        };
                    }
                }
                Instance::Accepting(value, accepted) => {
                    if accepted.len() >= placement.majority() {
                        *instance = Instance::Final(*value);
                    }
                }
                Instance::Fresh | Instance::Final(_) => {}
            }
        }
        let outcome = outcome_of(&recovery);
        let participants = recovery.participants.clone();
        let ops: Vec<Operation> = recovery.ops.values().cloned().collect();
        let (armed, turn) = (recovery.armed, recovery.turn);
        self.recoveries.insert(tx, recovery);
        if let Some(outcome) = outcome {
            self.timers.clear(armed, Timer::Recovery(tx));
            self.decide(cx, Decision { tx, outcome, participants, ops });
        } else if chosen && turn != Turn::Waits {
            self.send_recovery(cx, tx);
        }
    }

    fn value_from(
        &self,
        placement: &Placement,
        tx: TxId,
        promises: &BTreeMap<NodeId, Promise>,
        safely: bool,
    ) -> Option<Value> {
        let yes = promises.iter().filter(|(_, p)| p.vote == Some(Vote::Yes)).map(|(node, _)| node);
        let deciders = placement.deciders(tx.node, safely);
        let (yes, quorum) = (deciders.count(yes), deciders.write_quorum);
        if !safely {
            // 3.10: never waits for more than the reachable ones; it may contradict the
            // coordinator.
            let all = placement.masters.iter().all(|n| promises.contains_key(n) || !self.is_up(*n));
            return if yes >= quorum {
                Some(Value::Prepared)
            } else {
                all.then_some(Value::Aborted)
            };
        }
        if promises.len() < placement.majority() {
            return None;
        }
        let n = placement.masters.len();
        if self.config.has(Bug::RecoverToAbort) {
            return Some(Value::Aborted);
        }
        let silent = n - promises.len();
        if self.config.has(Bug::RecoverFromSilence) && yes + silent >= quorum {
            return Some(Value::Prepared);
        }
        let accepted = promises.values().filter_map(|p| p.accepted).max();
        Some(match accepted {
            Some((_, value)) => {
                Mark::ValueAdopted.hit();
                value
            }
            None if yes == promises.len() || yes >= quorum => Value::Prepared,
            None => Value::Aborted,
        })
    }

    pub(super) fn on_recovery_accepted(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        tx: TxId,
        cluster: ClusterKey,
        ballot: Ballot,
    ) {
        let votes = self.counts_in_recovery(tx, cluster, from);
        let Some(recovery) = self.recoveries.get_mut(&tx) else { return };
        if ballot != recovery.ballot || !votes {
            return;
        }
        if let Some(Instance::Accepting(_, accepted)) = recovery.clusters.get_mut(&cluster) {
            accepted.insert(from);
            recovery.patience = self.config.resend;
            self.advance_recovery(cx, tx);
        }
    }

    /// Somebody promised a higher ballot: back off, random and doubling (3.7.6).
    pub(super) fn on_rejected(&mut self, cx: &mut Cx<'_>, tx: TxId, promised: Ballot) {
        if self.coordinations.contains_key(&tx) {
            self.take_to_recovery(cx, tx);
        }
        let Some(recovery) = self.recoveries.get_mut(&tx) else { return };
        if promised <= recovery.ballot || recovery.phase != Phase::Running {
            return;
        }
        // No ballot is above it, and nobody gets there by counting: whoever says so is wrong, and
        // the others may be a majority.
        if promised.round == u32::MAX {
            let detail = "the last ballot there is was promised";
            cx.note(Note::Corruption { tx, detail });
            return;
        }
        Mark::BallotRested.hit();
        recovery.phase = Phase::Resting(promised.node);
        recovery.ballot.round = promised.round;
        recovery.patience = self.config.resend;
        let backoff = recovery.backoff;
        recovery.backoff = (backoff * 2).min(BACKOFF.1);
        let at = self.now + backoff / 2 + self.draw(backoff);
        self.arm_recovery(tx, at);
    }
}

fn outcome_of(recovery: &Recovery) -> Option<Decided> {
    let mut all_prepared = true;
    for instance in recovery.clusters.values() {
        match instance {
            Instance::Final(Value::Aborted) => return Some(Decided::Abort),
            Instance::Final(Value::Prepared) => {}
            Instance::Fresh | Instance::Promising(_) | Instance::Accepting(..) => {
                all_prepared = false;
            }
        }
    }
    all_prepared.then_some(Decided::Commit)
}
