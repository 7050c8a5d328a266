//! The decision log: appended by the finder of an outcome, streamed in order to every MASTER and,
//! through relays (`relay`, `upstream`), to every REPLICA; acknowledged up to the first gap,
//! truncated and forgotten once everybody has it (PROTOCOL.md 3.6.1, 3.9 "Forgetting").

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use quorate_api::{Boot, NodeId, TxId};

use super::apply::{Decision, Source};
use super::incoming::Incoming;
use super::truncation::Hold;
use super::{Cx, Machine};
use crate::feeding::Entry;
use crate::io::{Note, Tick, Write};
use crate::marks::Mark;
use crate::message::{Decided, Finished, LogEntry, LogPosition, Message, TxRecord};
use crate::planted::Bug;

/// Decisions sent to one peer and not acknowledged. Beyond it the peer is fed from the disk as it
/// acknowledges, so that a blocked peer never grows memory here.
pub(super) const WINDOW: usize = 1_024;

/// What is known of a peer, and how far it was sent the own log.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) boot: Boot,
    pub(super) up: bool,
    /// It said that it aligns: it answers for no quorum, and takes no decisions.
    pub(super) aligning: bool,
    /// The peer said since this server started how far it is.
    pub(super) synced: bool,
    pub(super) acked: LogPosition,
    /// What it said that it knows to be finished of this server's boot.
    pub(super) finished: Finished,
    cursor: LogPosition,
    pub(super) sent: VecDeque<LogPosition>,
    progress_at: Tick,
    /// An entry that it had not acknowledged when this was last looked at, and since when.
    pub(super) behind: Option<(LogPosition, Tick)>,
    /// Entries it was behind when last looked at.
    pub(super) lag: (u64, Option<Tick>),
    /// It is noted that the log was cut past it; until it has acknowledged what comes after that.
    pub(super) left_behind: bool,
    /// What is kept for it since it left, until it has caught up.
    pub(super) hold: Option<Hold>,
}

impl Peer {
    /// It has applied the log up to there, and is sent what comes after that: it may be further
    /// than it was sent, by way of others, and the log may be cut up to where it is.
    fn acknowledge(&mut self, now: Tick, applied: LogPosition) {
        if applied > self.acked {
            self.acked = applied;
            self.progress_at = now;
        }
        self.cursor = self.cursor.max(self.acked);
        while self.sent.front().is_some_and(|at| *at <= self.acked) {
            self.sent.pop_front();
        }
    }

    /// What was under way may be lost: begin again after what is acknowledged.
    pub(super) fn reconnect(&mut self) {
        self.cursor = self.acked;
        self.sent.clear();
    }

    /// What it was sent last is not acknowledged, for too long.
    fn is_stalled(&self, now: Tick, patience: Tick) -> bool {
        !self.sent.is_empty() && now >= self.progress_at + patience
    }

    /// It is sent nothing until it says how far it is.
    fn stop(&mut self) {
        self.synced = false;
        self.sent.clear();
    }

    /// It takes nothing from the log until it says how far it is.
    pub(super) fn leave(&mut self) {
        self.aligning = true;
        self.stop();
        self.hold.get_or_insert_default();
    }
}

impl Machine {
    pub(super) fn next_log_position(&self) -> LogPosition {
        let boot = self.config.boot;
        let index = if self.log_end.boot == boot { self.log_end.index + 1 } else { 1 };
        LogPosition { boot, index }
    }

    /// Appends a decision found here to the own log, applies it, sends it out. True once settled
    /// here.
    pub(super) fn append_and_settle(
        &mut self,
        cx: &mut Cx<'_>,
        decision: Decision,
        at: LogPosition,
        low: u64,
    ) -> bool {
        let Decision { tx, outcome, .. } = decision;
        let prev = self.log_end;
        assert!(at > prev, "the decision log goes forward");
        self.log_end = at;
        self.keep_for_streaming(cx, &decision);
        cx.write(Write::Log(at, LogEntry { tx, outcome, low }));
        let entry = entry_of(at, prev, self.cfg, decision);
        for peer in self.streamed_to() {
            let Some(state) = self.peers.get(&peer) else { continue };
            if state.up && state.synced && state.cursor == prev && state.sent.len() < WINDOW {
                self.send_entry(cx, peer, &entry);
            }
        }
        let me = self.config.node;
        self.offer(cx, me, &entry);
        self.take_log_entry(cx, me, entry)
    }

    /// The log entry names the transaction only: its operations must be in the record, all of them.
    pub(super) fn keep_for_streaming(&self, cx: &mut Cx<'_>, decision: &Decision) {
        if decision.outcome == Decided::Abort {
            return;
        }
        let kept = self.txs.get(&decision.tx).cloned().or_else(|| cx.tx(decision.tx));
        if kept.as_ref().is_none_or(|record| record.ops.len() < decision.ops.len()) {
            let record = kept.unwrap_or_default();
            let (participants, ops) = (decision.participants.clone(), decision.ops.clone());
            cx.write(Write::Tx(decision.tx, TxRecord { participants, ops, ..record }));
        }
    }

    fn send_entry(&mut self, cx: &mut Cx<'_>, to: NodeId, entry: &Entry) {
        cx.send_durable(to, Message::Decide(self.entry_for(to, entry)));
        let now = self.now;
        if let Some(peer) = self.peers.get_mut(&to) {
            if peer.sent.is_empty() {
                peer.progress_at = now;
            }
            peer.cursor = entry.at;
            peer.sent.push_back(entry.at);
        }
    }

    pub(super) fn others(&self) -> Vec<NodeId> {
        self.members.iter().copied().filter(|node| *node != self.config.node).collect()
    }

    /// Whom the own log is streamed to: MASTERs, and who asked for it because no relay has it.
    pub(super) fn streamed_to(&self) -> Vec<NodeId> {
        let me = self.config.node;
        let asked = self.asked.intersection(&self.members);
        let asked = asked.filter(|node| !self.topology.roots().contains(node));
        let nodes = self.topology.roots().iter().chain(asked).copied();
        nodes.filter(|node| *node != me).collect()
    }

    pub(super) fn pump_all(&mut self, cx: &mut Cx<'_>) {
        for node in self.streamed_to() {
            self.pump(cx, node);
        }
    }

    /// Sends a peer what its window has room for.
    fn pump(&mut self, cx: &mut Cx<'_>, to: NodeId) {
        loop {
            let Some(peer) = self.peers.get(&to) else { return };
            if !peer.up || !peer.synced || peer.sent.len() >= WINDOW {
                return;
            }
            let prev = peer.cursor;
            if prev == self.log_end || prev < self.log_start {
                return;
            }
            let Some((at, entry)) = cx.log_after(prev) else { return };
            let Some(decision) = self.decision_of_entry(cx, &entry) else { return };
            self.send_entry(cx, to, &entry_of(at, prev, self.cfg, decision));
        }
    }

    pub(super) fn decision_of_entry(&self, cx: &mut Cx<'_>, entry: &LogEntry) -> Option<Decision> {
        let LogEntry { tx, outcome, .. } = *entry;
        if outcome == Decided::Abort {
            return Some(Decision { tx, outcome, participants: [].into(), ops: [].into() });
        }
        if self.is_finished(tx) {
            // Another server's log had it too, and everybody acknowledged it there.
            Mark::FinishedStreamed.hit();
            return Some(Decision { tx, outcome, participants: [].into(), ops: [].into() });
        }
        let Some(TxRecord { participants, ops, .. }) = cx.tx(tx) else {
            cx.note(Note::Corruption { tx, detail: "a logged commit without its record" });
            return None;
        };
        Some(Decision { tx, outcome, participants, ops })
    }

    pub(super) fn on_decide(&mut self, cx: &mut Cx<'_>, from: NodeId, cfg: u64, entry: Entry) {
        // The sender knows that this server keeps a cluster no more: half of a commit is not
        // taken, and comes again when this server knows it, too.
        let is_told = entry.outcome == Decided::Commit && !entry.participants.is_empty();
        if cfg > self.cfg && is_told && !self.is_whole(&entry.participants, &entry.ops) {
            Mark::PartStreamed.hit();
            return;
        }
        self.acks_due.insert(from);
        self.take_entry(cx, from, entry);
    }

    /// An entry of a log, from whomever: takes it, and what was waiting for it, in order.
    pub(super) fn take_entry(&mut self, cx: &mut Cx<'_>, origin: NodeId, entry: Entry) {
        let incoming = self.incoming.entry(origin).or_default();
        if entry.at <= incoming.received {
            return;
        }
        if entry.prev > incoming.received && !self.config.has(Bug::GapSkipped) {
            Mark::LogEntryEarly.hit();
            if incoming.early.len() < WINDOW {
                incoming.early.insert(entry.prev, entry);
            }
            return;
        }
        self.take_log_entry(cx, origin, entry);
        while let Some(incoming) = self.incoming.get_mut(&origin) {
            let received = incoming.received;
            incoming.early = incoming.early.split_off(&received);
            let Some(next) = incoming.early.remove(&received) else { return };
            self.take_log_entry(cx, origin, next);
        }
    }

    fn take_log_entry(&mut self, cx: &mut Cx<'_>, from: NodeId, entry: Entry) -> bool {
        let passed_on = (from != self.config.node && self.is_relay()).then(|| entry.clone());
        let Entry { at, prev, tx, outcome, participants, ops, .. } = entry;
        let decision = Decision { tx, outcome, participants, ops };
        if from != self.config.node && self.is_forgotten_elsewhere(cx, &decision) {
            Mark::LeftByForgotten.hit();
            self.leave_online(cx);
            return false;
        }
        let settled = if from == self.config.node {
            // What was proven is settled before it is logged.
            cx.outcome(tx).is_some() || self.settle_or_park(cx, decision)
        } else {
            self.learn(cx, decision, Source::Log)
        };
        self.told_by_a_log(cx, tx);
        let incoming = self.incoming.entry(from).or_default();
        incoming.received = at;
        incoming.note_end(cx, from, prev, at);
        if !settled {
            incoming.parked.insert(at, (prev, tx));
            self.parked.add_log(tx, from, at);
        }
        self.note_applied(cx, from);
        if let Some(entry) = passed_on {
            self.pass_on(cx, from, entry);
        }
        settled
    }

    /// A commit that is streamed without its record: whoever is waited for has acknowledged it in
    /// another server's log. Not to know it here means to be left behind by that log.
    fn is_forgotten_elsewhere(&self, cx: &Cx<'_>, decision: &Decision) -> bool {
        let Decision { tx, outcome, ref participants, .. } = *decision;
        let known = || self.is_finished(tx) || self.known_outcome(cx, tx).is_some();
        outcome == Decided::Commit && participants.is_empty() && !known()
    }

    /// A parked entry of a log was applied.
    pub(super) fn log_entry_applied(&mut self, cx: &mut Cx<'_>, node: NodeId, at: LogPosition) {
        if let Some(incoming) = self.incoming.get_mut(&node) {
            incoming.parked.remove(&at);
        }
        self.note_applied(cx, node);
    }

    fn note_applied(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        let Some(incoming) = self.incoming.get_mut(&node) else { return };
        if incoming.advance() {
            self.session_progress = true;
            cx.write(Write::Applied(node, incoming.applied));
            if node != self.config.node {
                self.owe_acknowledgement(node);
            }
        }
    }

    /// One acknowledgement a batch of events, not one a decision.
    pub(super) fn send_acks(&mut self, cx: &mut Cx<'_>) {
        if self.is_aligning() {
            self.acks_due.clear();
        }
        while let Some(node) = self.acks_due.pop_first() {
            let (applied, finished) = (self.applied_from(node), self.finished_of(node));
            let fed = !self.takes_directly(node);
            cx.send_durable(node, Message::DecideAck { applied, finished, fed });
        }
        self.acknowledge_to_parent(cx);
    }

    pub(super) fn on_decide_ack(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        applied: LogPosition,
        finished: Finished,
        fed: bool,
    ) {
        let start = self.log_start;
        let Some(peer) = self.peers.get_mut(&from) else { return };
        // A slow disk may have held back what was meant for an earlier boot of this server.
        let is_of_this = finished.boot == self.config.boot;
        // It may say less than before: a server that has become a relay knows anew what it can tell
        // those below it, and has to be told.
        peer.finished = if is_of_this { finished } else { Finished::default() };
        let acked = peer.acked;
        if applied > self.log_end {
            let detail = "a peer stands outside this server's decision log";
            cx.note(Note::Corruption { tx: TxId::NONE, detail });
            return;
        }
        if applied.max(acked) < start && !fed {
            // The log cannot serve it any more (3.6.5).
            peer.synced = false;
            cx.send_durable(from, Message::Truncated { start });
            return;
        }
        if core::mem::take(&mut peer.aligning) {
            // What it was behind with before it left is not its delay.
            peer.behind = None;
            self.hurry_recoveries();
        }
        if applied < acked {
            // Overtaken by a later one.
            Mark::AckOvertaken.hit();
            return;
        }
        self.note_acked(cx, from, applied);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if fed {
            peer.stop();
            self.asked.remove(&from);
            return;
        }
        if !peer.synced {
            peer.synced = true;
            peer.cursor = applied;
            peer.sent.clear();
        }
        self.asked.insert(from);
        self.pump(cx, from);
    }

    /// A server has applied the own log up to a position, whoever says so.
    pub(super) fn note_acked(&mut self, cx: &mut Cx<'_>, node: NodeId, applied: LogPosition) {
        if applied > self.log_end {
            let detail = "a server stands outside this server's decision log";
            cx.note(Note::Corruption { tx: TxId::NONE, detail });
            return;
        }
        let (now, start) = (self.now, self.log_start);
        let peer = self.peers.entry(node).or_default();
        peer.acknowledge(now, applied);
        peer.left_behind &= peer.acked < start;
    }

    /// No acknowledgement for a while: begin again after the last one.
    pub(super) fn rewind_stalled_streams(&mut self, cx: &mut Cx<'_>) {
        let (now, patience) = (self.now, self.config.resend);
        for (node, peer) in &mut self.peers {
            let is_awaited = || peer.aligning || self.topology.is_root(*node);
            if peer.up && !peer.synced && is_awaited() {
                // Its first word was lost; any mark is answered with one. The lowest: it may still
                // have to align, and then nothing is finished for it.
                cx.send_durable(*node, Message::Low { seq: Finished::FIRST });
            } else if peer.is_stalled(now, patience) {
                Mark::StreamRewound.hit();
                peer.reconnect();
                peer.progress_at = now;
            }
        }
        self.pump_all(cx);
    }

    /// What was logged and not yet applied when this server stopped (it had parked it).
    pub(super) fn replay_own_log(&mut self, cx: &mut Cx<'_>) {
        let me = self.config.node;
        let mut prev = self.incoming.entry(me).or_default().applied;
        while let Some((at, entry)) = cx.log_after(prev) {
            if let Some(decision) = self.decision_of_entry(cx, &entry)
                && cx.outcome(decision.tx).is_none()
                && !self.is_finished(decision.tx)
            {
                Mark::OwnLogReplayed.hit();
                self.take_log_entry(cx, me, entry_of(at, prev, self.cfg, decision));
            } else {
                let incoming = self.incoming.entry(me).or_default();
                incoming.received = at;
                incoming.note_end(cx, me, prev, at);
                self.note_applied(cx, me);
            }
            prev = at;
        }
    }

    /// Everything of another server's log up to here was handled or is parked.
    pub(super) fn received_from(&self, node: NodeId) -> LogPosition {
        self.incoming.get(&node).map_or(LogPosition::default(), |incoming| incoming.received)
    }

    /// Everything of another server's log up to here is applied.
    pub(super) fn applied_from(&self, node: NodeId) -> LogPosition {
        self.incoming.get(&node).map_or(LogPosition::default(), |incoming| incoming.applied)
    }

    /// How far each decision log is applied here, the own one included.
    pub(super) fn applied_positions(&self) -> Vec<(NodeId, LogPosition)> {
        self.incoming.iter().map(|(node, incoming)| (*node, incoming.applied)).collect()
    }

    /// How far each decision log has told of what is here, the own one included.
    pub(super) fn told_positions(&self) -> Vec<(NodeId, LogPosition)> {
        let received = self.incoming.iter().map(|(node, incoming)| (*node, incoming.received));
        received.chain(self.shown.iter().map(|(node, at)| (*node, *at))).collect()
    }

    /// Where an ended boot stopped, as another server knows.
    pub(super) fn take_end(&mut self, cx: &mut Cx<'_>, node: NodeId, boot: Boot, last: u64) {
        if self.incoming.entry(node).or_default().ended.insert(boot, last).is_none() {
            cx.write(Write::BootEnd(node, boot, last));
        }
    }

    /// Where ended boots stopped, as far as that is not forgotten here.
    pub(super) fn known_ends(&self) -> Vec<(NodeId, Boot, u64)> {
        let ends = |(node, incoming): (&NodeId, &Incoming)| {
            let node = *node;
            let ended = incoming.ended.iter().map(move |(boot, last)| (node, *boot, *last));
            ended.collect::<Vec<_>>()
        };
        self.incoming.iter().flat_map(ends).collect()
    }

    /// Everything of another server's log up to a position came in by alignment.
    pub(super) fn skip_log_to(&mut self, cx: &mut Cx<'_>, node: NodeId, position: LogPosition) {
        self.relays.forget_order(node);
        let incoming = self.incoming.entry(node).or_default();
        if incoming.skip_to(position) {
            cx.write(Write::Applied(node, incoming.applied));
        }
    }
}

pub(super) fn entry_of(at: LogPosition, prev: LogPosition, cfg: u64, decision: Decision) -> Entry {
    let Decision { tx, outcome, participants, ops } = decision;
    Entry { at, prev, tx, outcome, cfg, participants, ops, relayed: Vec::new() }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::feeding::Relay;
    use crate::io::{Event, Recovered};
    use crate::machine::testing::{NOTHING, PEER, configured_with};

    /// Were it sent on from where it was sent last, the log could be cut beyond that.
    #[test]
    fn who_got_further_by_way_of_others_is_sent_what_comes_after_that() {
        let mut machine = configured_with(3, Boot(1), Recovered::default());
        let at = |index| LogPosition { boot: Boot(1), index };
        machine.log_end = at(5);
        let peer = machine.peers.entry(PEER).or_default();
        (peer.synced, peer.cursor, peer.sent) = (true, at(2), [at(1), at(2)].into());
        let below = Relay::Below { members: vec![(PEER, at(4))] };
        let (from, message) = (NodeId(3), Message::Relay(below));
        let event = Event::Message { from, cfg: 1, message };
        machine.step(0, event, &NOTHING, &mut Vec::new());
        let peer = &machine.peers[&PEER];
        assert_eq!((peer.acked, peer.cursor), (at(4), at(4)));
        assert!(peer.sent.is_empty());
    }
}
