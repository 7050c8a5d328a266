//! The decision log: appended by the finder of an outcome, streamed in order to every server,
//! acknowledged up to the first gap, truncated and forgotten once everybody has it (PROTOCOL.md
//! 3.6.1, 3.9 "Forgetting").

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use quorate_api::{Boot, NodeId, TxId};

use super::apply::{Decision, Source};
use super::{Cx, Machine};
use crate::io::{Note, Tick, Write};
use crate::marks::Mark;
use crate::message::{Decided, LogEntry, LogPosition, Message, TxRecord};

/// Decisions sent to one peer and not acknowledged. Beyond it the peer is fed from the disk as it
/// acknowledges, so that a blocked peer never grows memory here.
const WINDOW: usize = 1_024;

/// What is known of a peer, and how far it was sent the own log.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) boot: Boot,
    pub(super) up: bool,
    /// The peer said since this server started how far it is.
    synced: bool,
    acked: LogPosition,
    cursor: LogPosition,
    sent: VecDeque<LogPosition>,
    progress_at: Tick,
}

impl Peer {
    /// What was under way may be lost: begin again after what is acknowledged.
    pub(super) fn reconnect(&mut self) {
        self.cursor = self.acked;
        self.sent.clear();
    }
}

/// Another server's log (or the own one) as applied here.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// Everything up to here is applied, durably with what it wrote.
    applied: LogPosition,
    /// Everything up to here was handled; what is between is parked.
    received: LogPosition,
    /// Position → (position before it, transaction).
    parked: BTreeMap<LogPosition, (LogPosition, TxId)>,
    /// Last positions of ended boots, as later entries told; durable.
    ended: BTreeMap<Boot, u64>,
    /// Entries behind a gap, by the position before them; at most a sender's window.
    early: BTreeMap<LogPosition, (LogPosition, Decision)>,
}

impl Incoming {
    pub(super) fn starting_at(applied: LogPosition, ended: BTreeMap<Boot, u64>) -> Self {
        Self { applied, received: applied, ended, ..Self::default() }
    }

    pub(super) const fn received(&self) -> LogPosition {
        self.received
    }

    /// True when an index of one of its boots is applied here. An index beyond the durable end of
    /// a boot that is over never will be.
    pub(super) fn has_applied(&self, boot: Boot, index: u64) -> bool {
        if self.applied.boot == boot {
            self.applied.index >= index
        } else {
            self.applied.boot > boot && self.ended.get(&boot).is_some_and(|last| *last >= index)
        }
    }

    /// An entry follows another: if that was a boot's last, it says where the boot stopped.
    fn note_end(&mut self, cx: &mut Cx<'_>, node: NodeId, prev: LogPosition, at: LogPosition) {
        if prev.boot < at.boot && prev.index > 0 {
            self.ended.insert(prev.boot, prev.index);
            cx.write(Write::BootEnd(node, prev.boot, prev.index));
        }
    }

    /// Whoever asks for a closed boot is answered without it.
    pub(super) fn forget_end(&mut self, boot: Boot) {
        self.ended.remove(&boot);
    }

    /// Moves `applied` to the last position before the first gap; true if it moved.
    fn advance(&mut self) -> bool {
        let to = self.parked.first_key_value().map_or(self.received, |(_, (prev, _))| *prev);
        let moved = to > self.applied;
        self.applied = self.applied.max(to);
        moved
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
        for peer in self.others() {
            let Some(state) = self.peers.get(&peer) else { continue };
            if state.up && state.synced && state.cursor == prev && state.sent.len() < WINDOW {
                self.send_decision(cx, peer, at, prev, &decision);
            }
        }
        self.take_log_entry(cx, self.config.node, at, prev, decision)
    }

    /// The log entry names the transaction only: its operations must be in the record, all of them.
    fn keep_for_streaming(&self, cx: &mut Cx<'_>, decision: &Decision) {
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

    fn send_decision(
        &mut self,
        cx: &mut Cx<'_>,
        to: NodeId,
        at: LogPosition,
        prev: LogPosition,
        decision: &Decision,
    ) {
        let message = Message::Decide {
            at,
            prev,
            tx: decision.tx,
            outcome: decision.outcome,
            participants: decision.participants.clone(),
            ops: self.ops_held_by(to, &decision.ops),
        };
        cx.send_durable(to, message);
        let now = self.now;
        if let Some(peer) = self.peers.get_mut(&to) {
            if peer.sent.is_empty() {
                peer.progress_at = now;
            }
            peer.cursor = at;
            peer.sent.push_back(at);
        }
    }

    fn others(&self) -> Vec<NodeId> {
        self.members.iter().copied().filter(|node| *node != self.config.node).collect()
    }

    pub(super) fn pump_all(&mut self, cx: &mut Cx<'_>) {
        for node in self.others() {
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
            if prev == self.log_end {
                return;
            }
            let Some((at, entry)) = cx.log_after(prev) else { return };
            let Some(decision) = self.decision_of_entry(cx, &entry) else { return };
            self.send_decision(cx, to, at, prev, &decision);
        }
    }

    fn decision_of_entry(&self, cx: &mut Cx<'_>, entry: &LogEntry) -> Option<Decision> {
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

    pub(super) fn on_decide(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        at: LogPosition,
        prev: LogPosition,
        decision: Decision,
    ) {
        self.acks_due.insert(from);
        let incoming = self.incoming.entry(from).or_default();
        if at <= incoming.received {
            return;
        }
        if prev > incoming.received {
            Mark::LogEntryEarly.hit();
            if incoming.early.len() < WINDOW {
                incoming.early.insert(prev, (at, decision));
            }
            return;
        }
        self.take_log_entry(cx, from, at, prev, decision);
        while let Some(incoming) = self.incoming.get_mut(&from) {
            let received = incoming.received;
            incoming.early = incoming.early.split_off(&received);
            let Some((next, decision)) = incoming.early.remove(&received) else { return };
            self.take_log_entry(cx, from, next, received, decision);
        }
    }

    fn take_log_entry(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        at: LogPosition,
        prev: LogPosition,
        decision: Decision,
    ) -> bool {
        let tx = decision.tx;
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
        settled
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
                self.acks_due.insert(node);
            }
        }
    }

    /// One acknowledgement a batch of events, not one a decision.
    pub(super) fn send_acks(&mut self, cx: &mut Cx<'_>) {
        while let Some(node) = self.acks_due.pop_first() {
            let applied = self.incoming.get(&node).map_or(LogPosition::default(), |i| i.applied);
            cx.send_durable(node, Message::DecideAck { applied });
        }
    }

    pub(super) fn on_decide_ack(&mut self, cx: &mut Cx<'_>, from: NodeId, applied: LogPosition) {
        let (now, start, end) = (self.now, self.log_start, self.log_end);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if applied > end || (applied < start && !peer.synced) {
            let detail = "a peer stands outside this server's decision log";
            cx.note(Note::Corruption { tx: TxId::NONE, detail });
            return;
        }
        if applied < peer.acked {
            // Overtaken by a later one.
            Mark::AckOvertaken.hit();
            return;
        }
        if applied > peer.acked {
            peer.acked = applied;
            peer.progress_at = now;
        }
        if !peer.synced {
            peer.synced = true;
            peer.cursor = applied;
            peer.sent.clear();
        }
        while peer.sent.front().is_some_and(|at| *at <= applied) {
            peer.sent.pop_front();
        }
        self.pump(cx, from);
    }

    /// No acknowledgement for a while: begin again after the last one.
    pub(super) fn rewind_stalled_streams(&mut self, cx: &mut Cx<'_>) {
        let (now, patience) = (self.now, self.config.resend);
        for (node, peer) in &mut self.peers {
            if peer.up && !peer.synced {
                // Its first word was lost; any mark is answered with one.
                let seq = self.low.get(&(self.config.node, self.config.boot)).map_or(1, |low| *low);
                cx.send_durable(*node, Message::Low { seq });
            } else if !peer.sent.is_empty() && now >= peer.progress_at + patience {
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
                self.take_log_entry(cx, me, at, prev, decision);
            } else {
                let incoming = self.incoming.entry(me).or_default();
                incoming.received = at;
                incoming.note_end(cx, me, prev, at);
                self.note_applied(cx, me);
            }
            prev = at;
        }
    }

    /// Raises the own low-water mark: everything logged up to the slowest MASTER's acknowledgement
    /// is finished.
    pub(super) fn raise_own_low(&mut self, cx: &mut Cx<'_>) {
        // Before the first configuration nobody is known who might lack something.
        if self.members.is_empty() {
            return;
        }
        let me = self.config.node;
        let done = self.acknowledged_by_all();
        if done > self.log_start {
            self.log_start = done;
            cx.write(Write::TruncateLog(done));
        }
        let low = match cx.log_after(self.log_start) {
            Some((at, entry)) if at.boot == self.config.boot => entry.low,
            Some(_) => return,
            None => self.own_low(),
        };
        let mark = self.low.entry((me, self.config.boot)).or_insert(1);
        if low > *mark {
            Mark::LowRaised.hit();
            *mark = low;
            cx.write(Write::Low(me, self.config.boot, low));
            for node in self.others().into_iter().filter(|node| self.is_up(*node)) {
                cx.send_durable(node, Message::Low { seq: low });
            }
        }
    }

    /// Up to here every member has applied the own log.
    pub(super) fn acknowledged_by_all(&self) -> LogPosition {
        let own =
            self.incoming.get(&self.config.node).map_or(LogPosition::default(), |i| i.applied);
        let acked = |n: NodeId| self.peers.get(&n).map_or(LogPosition::default(), |p| p.acked);
        self.others().into_iter().map(acked).fold(own, core::cmp::min)
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

    /// Smallest own sequence number still undecided in this boot.
    pub(super) fn own_low(&self) -> u64 {
        self.coordinations.first_key_value().map_or(self.next_seq, |(tx, _)| tx.seq)
    }
}
