//! Outcomes: learning, applying on exact bases, parking, fetching (PROTOCOL.md 3.6).
//!
//! A commit can be known before any decision log tells of it: a base proved it (3.4.3a), or a
//! server that knows said so. If its coordinator and the one that proved it both lose power then,
//! nobody may be left who logs it, and a MASTER that missed it would never hear of it. So every
//! commit taken from elsewhere is marked in the batch that applies it (`Write::OutOfLog`), until
//! some log brings it. The mark survives a restart, keeps the boots of its coordinator from being
//! closed, makes this server log it once the coordinator is gone (`closing.rs`), and keeps a
//! session's token from being given out before it can cover what the session may have read
//! (`session.rs`).

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use quorate_api::{ClusterKey, ItemId, NodeId, OpKind, Operation, Stamp, TxId};

use super::parked::Parked;
use super::{Cx, Machine};
use crate::io::{Note, Write};
use crate::marks::Mark;
use crate::message::{Age, Decided, Knowledge, Message, Participant, TxRecord};
use crate::planted::Bug;

/// A transaction with its outcome.
#[derive(Debug, Clone)]
pub(super) struct Decision {
    pub(super) tx: TxId,
    pub(super) outcome: Decided,
    pub(super) participants: Vec<Participant>,
    pub(super) ops: Vec<Operation>,
}

/// Where an outcome was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// In a decision log, or from the sources of an alignment, of which that is known.
    Log,
    /// From a base that proves it, or an answer.
    Elsewhere,
}

/// How one operation of a commit meets the local state.
enum Fit {
    /// The base is the local stamp: write.
    Apply,
    /// It is in already, or superseded.
    Present,
    /// The decision that wrote the base is missing.
    Missing(TxId),
    /// Its generation is not known here yet, and so not by which rules it is applied.
    Ahead,
    /// Another line of history is here (W below majority): keep the local value.
    Diverged(Stamp),
    /// Its generation is over, and W was below a majority in it.
    Late,
    /// Same version by another writer in a safe cluster.
    Contradicts,
}

impl Machine {
    /// Takes note of an outcome found elsewhere. True once it is settled here, false while it is
    /// parked.
    pub(super) fn learn(&mut self, cx: &mut Cx<'_>, decision: Decision, source: Source) -> bool {
        let tx = decision.tx;
        if self.is_finished(tx) {
            return true;
        }
        if self.parked.contains(tx) {
            return self.settle_or_park(cx, decision);
        }
        if let Some(known) = cx.outcome(tx) {
            if known == Decided::Commit && self.config.has(Bug::ApplyTwice) {
                self.apply_again(cx, &decision);
                return true;
            }
            if known != decision.outcome && self.may_contradict(cx, &decision) {
                // Recovery did not wait for who had decided it (3.10). The vote stays what it was.
                if decision.outcome == Decided::Commit
                    && let Some(record) = cx.tx(tx)
                {
                    self.txs.insert(tx, record);
                }
                return known == Decided::Commit || self.settle_or_park(cx, decision);
            }
            if known != decision.outcome {
                cx.note(Note::Corruption { tx, detail: "two outcomes of one transaction" });
            }
            return true;
        }
        // Whoever hears the outcome of its own transaction from elsewhere puts it into its log too
        // (3.6.1).
        if tx.node == self.config.node && self.is_own_open(tx) {
            // Other servers need the operations of clusters that are not held here.
            if let Some(c) = self.coordinations.get(&tx) {
                let (participants, ops) = (c.participants.clone(), c.ops.clone());
                return self.decide(cx, Decision { participants, ops, ..decision });
            }
            // Left by an earlier boot, which knew them and took them along. Half of a commit is not
            // logged: its finder's log has all of it, and nothing here waits for this log entry.
            if decision.outcome == Decided::Abort || is_complete(&decision) {
                return self.decide(cx, decision);
            }
        }
        if source == Source::Elsewhere
            && decision.outcome == Decided::Commit
            && self.unlogged.insert(tx)
        {
            cx.write(Write::OutOfLog(tx));
        }
        self.settle_or_park(cx, decision)
    }

    /// A decision log tells of a transaction.
    pub(super) fn told_by_a_log(&mut self, cx: &mut Cx<'_>, tx: TxId) {
        if self.unlogged.remove(&tx) {
            self.session_progress = true;
            cx.write(Write::InLog(tx));
        }
    }

    /// Transactions of a boot below a mark are finished: every server has applied them.
    pub(super) fn told_below(&mut self, cx: &mut Cx<'_>, end: TxId) {
        let first = TxId { seq: 0, ..end };
        for tx in self.unlogged.range(first..end).copied().collect::<Vec<_>>() {
            self.told_by_a_log(cx, tx);
        }
    }

    /// What must not be done.
    fn apply_again(&self, cx: &mut Cx<'_>, decision: &Decision) {
        for op in decision.ops.iter().filter(|op| op.writes() && self.holds(op.item.cluster)) {
            cx.write(Write::Item(op.item.clone(), op.committed(decision.tx)));
        }
    }

    pub(super) fn is_own_open(&self, tx: TxId) -> bool {
        self.coordinations.contains_key(&tx) || self.recoveries.contains_key(&tx)
    }

    /// Applies, or parks. The outcome is not in the own log yet if this server is its finder; see
    /// `decide`.
    pub(super) fn settle_or_park(&mut self, cx: &mut Cx<'_>, decision: Decision) -> bool {
        if self.parked.contains(decision.tx) {
            // Parked again, it would forget which logs wait for it.
            if decision.outcome == Decided::Abort && !self.may_contradict(cx, &decision) {
                let (tx, detail) = (decision.tx, "aborted after it was found committed");
                cx.note(Note::Corruption { tx, detail });
            }
            return false;
        }
        match decision.outcome {
            Decided::Abort => {
                self.settle(cx, decision, &[]);
                true
            }
            Decided::Commit => self.apply_commit(cx, decision),
        }
    }

    fn apply_commit(&mut self, cx: &mut Cx<'_>, decision: Decision) -> bool {
        let (mut writes, mut present) = (Vec::new(), Vec::new());
        let (mut elsewhere, mut late) = (Vec::new(), Vec::new());
        for op in decision.ops.iter().filter(|op| op.writes() && self.holds(op.item.cluster)) {
            match self.fit(cx, &decision, op) {
                Fit::Apply => writes.push(op.clone()),
                Fit::Present => {
                    Mark::CommitPresent.hit();
                    present.push(op.clone());
                }
                Fit::Missing(writer) => {
                    let (item, from) = (op.item.clone(), decision.tx.node);
                    self.park(decision, item, Some(writer));
                    self.fetch_from(cx, from, writer);
                    return false;
                }
                Fit::Ahead => {
                    let item = op.item.clone();
                    self.park(decision, item, None);
                    return false;
                }
                Fit::Diverged(local) => elsewhere.push((local, op.clone())),
                Fit::Late => late.push(op.clone()),
                Fit::Contradicts => {
                    let detail = "another writer of the same version";
                    cx.note(Note::Corruption { tx: decision.tx, detail });
                }
            }
        }
        for op in present {
            if !self.applies_safely(&decision.participants, op.item.cluster) {
                self.keep_what_came_late(cx, decision.tx, &op);
            }
        }
        // What waits for one of these as its base goes on from it beside the local content, too.
        for op in late {
            self.keep_late(cx, decision.tx, &op);
            self.changed.insert(op.item);
        }
        for (local, op) in elsewhere {
            self.keep_rival_commit(cx, decision.tx, &op);
            self.changed.insert(op.item.clone());
            let (item, other) = (op.item.clone(), op.stamp_after(decision.tx));
            cx.note(Note::Diverged { item, local, other });
        }
        self.note_gaps(cx, &writes);
        self.settle(cx, decision, &writes);
        true
    }

    fn park(&mut self, decision: Decision, item: ItemId, writer: Option<TxId>) {
        Mark::Parked.hit();
        // Nothing is left to find out, and a second parking would lose the logs that wait for the
        // first.
        self.end_recovery(decision.tx);
        self.end_watch(decision.tx);
        self.parked.insert(decision, item, writer);
    }

    /// A coordinator keeps the operations of clusters that others hold, to stream them; it applies
    /// its own alone.
    fn holds(&self, cluster: ClusterKey) -> bool {
        self.placements.get(&cluster).is_none_or(|p| p.is_held_by(self.config.node))
    }

    fn fit(&self, cx: &Cx<'_>, decision: &Decision, op: &Operation) -> Fit {
        let Decision { tx, participants, .. } = decision;
        let cluster = op.item.cluster;
        let local = cx.stamp(&op.item);
        let after = op.stamp_after(*tx);
        let by_version = self.config.has(Bug::BaseByVersion);
        if self.is_ahead(participants, cluster) {
            return Fit::Ahead;
        }
        if self.is_late(participants, cluster) {
            let is_in = local == after || cx.ancestors(&op.item).contains(&after);
            return if is_in { Fit::Present } else { Fit::Late };
        }
        if local == op.base || (by_version && local.version <= op.base.version) {
            return Fit::Apply;
        }
        if local == after {
            return Fit::Present;
        }
        if let OpKind::Merge(merge) = &op.kind
            && merge.covers(local)
        {
            return Fit::Apply;
        }
        // No snapshot is read here while this server aligns: only the lower items are written
        // (3.6.3).
        if self.align.is_some() && local.version < after.version {
            return Fit::Apply;
        }
        let is_safe = self.applies_safely(participants, cluster);
        if self.align.is_some() && is_safe && local.version > after.version {
            return Fit::Present;
        }
        if is_safe {
            return if local.version > after.version {
                Fit::Present
            } else if local.version < op.base.version {
                Fit::Missing(op.base.tx)
            } else {
                Fit::Contradicts
            };
        }
        if cx.ancestors(&op.item).contains(&after) {
            return Fit::Present;
        }
        let base_is_known = op.base == Stamp::ABSENT
            || self.is_finished(op.base.tx)
            || cx.outcome(op.base.tx) == Some(Decided::Commit);
        if base_is_known || local.version >= op.base.version {
            Fit::Diverged(local)
        } else {
            Fit::Missing(op.base.tx)
        }
    }

    /// One atomic batch: the outcome, all images, the unlock (3.6.2).
    pub(super) fn settle(&mut self, cx: &mut Cx<'_>, decision: Decision, writes: &[Operation]) {
        self.journal(&decision);
        let Decision { tx, outcome, participants, ops } = decision;
        for op in writes {
            if !self.applies_safely(&participants, op.item.cluster) {
                self.extend_lineage(cx, tx, op);
            }
            cx.write(Write::Item(op.item.clone(), op.committed(tx)));
        }
        if !self.config.has(Bug::ForgetOnLearning) {
            cx.write(Write::Outcome(tx, outcome));
        }
        let record = self.txs.remove(&tx);
        if let Some(record) = &record {
            self.locks.release(tx, &record.ops);
            self.changed.extend(record.ops.iter().map(|op| op.item.clone()));
        }
        // Others may have to fetch it from here: keep the operations until everybody has it.
        let keeps_ops = record.as_ref().is_some_and(|r| r.ops.len() >= ops.len());
        if outcome == Decided::Commit && !keeps_ops {
            let age = Age::default();
            let kept = TxRecord { age, participants, ops, ..record.unwrap_or_default() };
            cx.write(Write::Tx(tx, kept));
        }
        self.remember_contents(tx, writes);
        self.changed.extend(writes.iter().map(|op| op.item.clone()));
        self.session_progress |= !writes.is_empty();
        self.generations.progress = true;
        self.held.remove(tx);
        self.end_recovery(tx);
        self.end_watch(tx);
        self.tell_watchers(cx, tx, outcome);
        self.decided_for_reads(cx, tx, outcome);
    }

    /// Looks again at whatever waited for items that changed in this step, until nothing changes
    /// any more.
    pub(super) fn reconsider_changed(&mut self, cx: &mut Cx<'_>) {
        while let Some(item) = self.changed.pop_first() {
            for tx in self.parked.waiting_on(&item) {
                self.unpark(cx, tx);
            }
            for tx in self.held.waiting_on(&item) {
                if let Some((prepare, _)) = self.held.remove(tx) {
                    self.judge(cx, tx, prepare);
                }
            }
        }
    }

    pub(super) fn unpark(&mut self, cx: &mut Cx<'_>, tx: TxId) {
        let Some(Parked { decision, logs, .. }) = self.parked.remove(tx) else { return };
        if self.apply_commit(cx, decision) {
            for (node, at) in logs {
                self.log_entry_applied(cx, node, at);
            }
        } else {
            Mark::ParkedAgain.hit();
            for (node, at) in logs {
                self.parked.add_log(tx, node, at);
            }
        }
    }

    /// Asks for the decision that wrote a missing base; the timer asks everybody else.
    pub(super) fn fetch_from(&mut self, cx: &mut Cx<'_>, node: NodeId, writer: TxId) {
        let parent = self.upstream.parent().filter(|_| !self.is_linked(node));
        if node != self.config.node {
            cx.send_now(parent.unwrap_or(node), Message::Fetch { tx: writer });
        } else if writer.node != self.config.node {
            cx.send_now(writer.node, Message::Fetch { tx: writer });
        }
    }

    /// Missing bases asked of whoever is reachable of those who know, a bounded number at a time.
    pub(super) fn fetch_missing_bases(&mut self, cx: &mut Cx<'_>) {
        const AT_ONCE: usize = 256;
        let begun = self.begun_and_missing(cx);
        let missing = self.parked.missing().chain(self.held.missing()).chain(begun);
        let missing: BTreeSet<TxId> = missing.take(AT_ONCE).collect();
        self.note_missing(!missing.is_empty());
        for tx in missing {
            let mut asked = self.knowing();
            asked.insert(tx.node);
            for node in asked.into_iter().filter(|node| self.is_linked(*node)) {
                cx.send_now(node, Message::Fetch { tx });
            }
        }
    }

    pub(super) fn on_fetch(&mut self, cx: &mut Cx<'_>, from: NodeId, tx: TxId) {
        let decision = self.decision_of(cx, tx).map(|d| {
            let ops = self.ops_held_by(from, &d.ops);
            (d.outcome, d.participants, ops)
        });
        if decision.is_none() && self.is_finished(tx) {
            let knowledge = Knowledge::Finished;
            cx.send_durable(from, Message::StatusReply { tx, knowledge });
        } else {
            cx.send_durable(from, Message::FetchReply { tx, decision });
        }
    }

    /// A decided transaction that is not forgotten here.
    pub(super) fn decision_of(&self, cx: &Cx<'_>, tx: TxId) -> Option<Decision> {
        if let Some(parked) = self.parked.decision(tx) {
            return Some(parked.clone());
        }
        let outcome = cx.outcome(tx)?;
        let TxRecord { participants, ops, .. } = cx.tx(tx).unwrap_or_default();
        let ops = if outcome == Decided::Commit { ops } else { Vec::new() };
        Some(Decision { tx, outcome, participants, ops })
    }

    /// Whoever answers may hold fewer of the touched clusters than this server does: half of a
    /// commit is not taken.
    pub(super) fn on_fetch_reply(
        &mut self,
        cx: &mut Cx<'_>,
        tx: TxId,
        decision: Option<(Decided, Vec<Participant>, Vec<Operation>)>,
    ) {
        let Some((outcome, participants, ops)) = decision else { return };
        if outcome == Decided::Abort || self.is_whole(&participants, &ops) {
            let decision = Decision { tx, outcome, participants, ops };
            self.learn(cx, decision, Source::Elsewhere);
        } else {
            Mark::FetchedHalf.hit();
        }
    }

    /// True when these are the operations of every touched cluster that this server keeps.
    /// Operations of one cluster always travel together, so one of each will do.
    pub(super) fn is_whole(&self, participants: &[Participant], ops: &[Operation]) -> bool {
        self.is_whole_for(self.config.node, participants, ops)
    }

    /// The same for another server.
    pub(super) fn is_whole_for(
        &self,
        node: NodeId,
        participants: &[Participant],
        ops: &[Operation],
    ) -> bool {
        let mine = participants.iter().filter(|p| self.is_kept_by(node, p.cluster));
        let has = |cluster| ops.iter().any(|op| op.item.cluster == cluster);
        !participants.is_empty() && mine.into_iter().all(|p| has(p.cluster))
    }
}

/// True when there are operations of every touched cluster.
pub(super) fn is_complete(decision: &Decision) -> bool {
    let has = |cluster| decision.ops.iter().any(|op| op.item.cluster == cluster);
    !decision.participants.is_empty() && decision.participants.iter().all(|p| has(p.cluster))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use quorate_api::{Boot, ItemId};

    use super::*;
    use crate::io::Recovered;
    use crate::machine::testing::{CLUSTER, NOTHING, PEER, configured};
    use crate::message::LogPosition;

    /// Whatever tells of it a second time, the logs that wait for it are acknowledged when it is
    /// applied.
    #[test]
    fn a_commit_that_is_parked_again_keeps_the_logs_that_wait_for_it() {
        let mut machine = configured(Boot(1), Recovered::default());
        let of_peer = |seq| TxId { node: PEER, boot: Boot(1), seq };
        let tx = of_peer(2);
        let op = Operation {
            item: ItemId::record(CLUSTER, 0),
            kind: OpKind::Update,
            base: Stamp { version: 1, tx: of_peer(1) },
            image: None,
        };
        let participants = vec![Participant { cluster: CLUSTER, generation: 1 }];
        let decision = Decision { tx, outcome: Decided::Commit, participants, ops: vec![op] };
        let mut out = Vec::new();
        let mut cx = Cx::new(&NOTHING, &mut out, 0);
        assert!(!machine.settle_or_park(&mut cx, decision.clone()));
        let at = LogPosition { boot: Boot(1), index: 2 };
        machine.parked.add_log(tx, PEER, at);
        assert!(!machine.settle_or_park(&mut cx, decision));
        assert_eq!(machine.parked.txs[&tx].logs, [(PEER, at)]);
    }
}
