//! The real machine as an acceptor: every durable state it can be in and what every message does
//! there, as a table. Rules are not written here: each entry is one run of `Machine::step`.
//!
//! A machine is built from its durable state for every single message. That is a restart before
//! each of them; what a running machine only holds (a Prepare that waits, a commit that waits for
//! its base) is a message that was not delivered yet. Why a No was said, and the acceptor state of
//! what is decided, no acceptor rule looks at: they are left out of the states.

use std::collections::BTreeMap;

use quorate_api::{Boot, ClusterKey, Committed, ItemId, ItemKey, NodeId, Stamp, TxId};
use quorate_protocol::io::{Config, Effect, Event, Note, Recovered, Store, Tick, Write};
use quorate_protocol::machine::Machine;
use quorate_protocol::message::{
    Decided, LogEntry, LogPosition, Message, No, NoReason, Promise, TxRecord, Value, Vote,
    VoteReply,
};

use super::case::{Case, Rule, ballot, includes, item, key, node};

/// A message as an acceptor gets it, with what the world adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    Prepare {
        tx: usize,
    },
    /// A Prepare that waits for a lock until its time is up.
    PrepareUntilTired {
        tx: usize,
    },
    /// A Prepare that finds the cluster's generation gone: a No without any conflict.
    PrepareTooLate {
        tx: usize,
    },
    Accept {
        tx: usize,
        cluster: usize,
        round: usize,
        value: Value,
    },
    Recover {
        tx: usize,
        cluster: usize,
        round: usize,
    },
    Outcome {
        tx: usize,
        outcome: Decided,
    },
    /// The coordinator's mark is above this transaction.
    Low {
        tx: usize,
    },
    /// X3: a restart that loses a No.
    LoseNo {
        tx: usize,
    },
}

/// What a message is answered with, as far as anybody acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Nothing,
    Yes,
    No,
    Accepted,
    /// Number of a promise in [`Acceptor::promises`].
    Promise(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) to: u16,
    pub(crate) answer: Answer,
}

/// What a state means, one bit a transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Undecided Yes votes.
    pub(crate) open_yes: u8,
    /// Committed state includes it.
    pub(crate) applied: u8,
    /// Its outcome is known, or it is finished.
    pub(crate) settled: u8,
    /// The machine found two things that cannot both be true.
    pub(crate) corrupt: bool,
}

/// One server's acceptor, closed under all messages of a case. State 0 is an empty disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Acceptor {
    pub(crate) inputs: Vec<Input>,
    /// By state, then by input; `None` where the message cannot be: two values in one ballot.
    pub(crate) steps: Vec<Vec<Option<Step>>>,
    pub(crate) facts: Vec<Facts>,
    /// Every promise that was answered, without operations and participants.
    pub(crate) promises: Vec<Promise>,
}

impl Acceptor {
    pub(crate) fn explore(case: &Case, server: usize) -> Self {
        let inputs = inputs(case, server);
        let mut states = vec![Disk::default()];
        let mut known = BTreeMap::from([(format!("{:?}", states[0]), 0)]);
        let (mut steps, mut promises) = (Vec::new(), Vec::new());
        while let Some(disk) = states.get(steps.len()).cloned() {
            let mut row = Vec::with_capacity(inputs.len());
            for input in &inputs {
                let Some((next, answer)) = disk.handle(case, server, *input, &mut promises) else {
                    row.push(None);
                    continue;
                };
                let fresh = states.len();
                let to = *known.entry(format!("{next:?}")).or_insert(fresh);
                if to == fresh {
                    states.push(next);
                }
                let to = u16::try_from(to).expect("more states than the table can number");
                row.push(Some(Step { to, answer }));
            }
            steps.push(row);
        }
        let facts = states.iter().map(|disk| disk.facts(case, server)).collect();
        Self { inputs, steps, facts, promises }
    }
}

/// Every message that can ever reach a server.
fn inputs(case: &Case, server: usize) -> Vec<Input> {
    let mut inputs = Vec::new();
    for tx in 0..case.txs.len() {
        inputs.push(Input::Prepare { tx });
        inputs.push(Input::PrepareUntilTired { tx });
        if case.spurious_no {
            inputs.push(Input::PrepareTooLate { tx });
        }
        for cluster in case.txs[tx].touches.iter().copied() {
            if !case.clusters[cluster].masters.contains(&server) {
                continue;
            }
            for round in 1..=case.rounds(tx) {
                if round > 1 {
                    inputs.push(Input::Recover { tx, cluster, round });
                }
                for value in [Value::Prepared, Value::Aborted] {
                    inputs.push(Input::Accept { tx, cluster, round, value });
                }
            }
        }
        for outcome in [Decided::Commit, Decided::Abort] {
            inputs.push(Input::Outcome { tx, outcome });
        }
        if case.forgetting {
            inputs.push(Input::Low { tx });
        }
        if case.rule == Rule::ForgetNo {
            inputs.push(Input::LoseNo { tx });
        }
    }
    inputs
}

/// What a server has on its disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    items: BTreeMap<ItemId, Committed>,
    txs: BTreeMap<TxId, TxRecord>,
    outcomes: BTreeMap<TxId, Decided>,
    low: BTreeMap<(NodeId, Boot), u64>,
    complaint: Option<&'static str>,
}

impl Store for Disk {
    fn item(&self, item: &ItemId) -> Option<Committed> {
        self.items.get(item).cloned()
    }

    fn tx(&self, tx: TxId) -> Option<TxRecord> {
        self.txs.get(&tx).cloned()
    }

    fn outcome(&self, tx: TxId) -> Option<Decided> {
        self.outcomes.get(&tx).copied()
    }

    fn log_after(&self, _position: LogPosition) -> Option<(LogPosition, LogEntry)> {
        None
    }

    fn items_after(
        &self,
        cluster: ClusterKey,
        after: Option<&ItemKey>,
        limit: usize,
    ) -> Vec<(ItemKey, Committed)> {
        let behind = |item: &ItemId| after.is_none_or(|key| item.key > *key);
        let items = self.items.iter().filter(|(i, _)| i.cluster == cluster && behind(i));
        items.take(limit).map(|(item, c)| (item.key.clone(), c.clone())).collect()
    }

    fn outcomes_after(&self, after: TxId, limit: usize) -> Vec<(TxId, Decided)> {
        let outcomes = self.outcomes.iter().filter(|(tx, _)| **tx > after);
        outcomes.take(limit).map(|(tx, outcome)| (*tx, *outcome)).collect()
    }
}

impl Disk {
    fn handle(
        &self,
        case: &Case,
        server: usize,
        input: Input,
        promises: &mut Vec<Promise>,
    ) -> Option<(Self, Answer)> {
        if self.contradicts(case, input) {
            return None;
        }
        let mut next = self.clone();
        next.forget_by_rule(case, input);
        let sent = next.run(case, server, input);
        if let (Rule::ForgetOnLearning, Input::Outcome { tx, .. }) = (case.rule, input) {
            next.txs.remove(&case.id(tx));
            next.outcomes.remove(&case.id(tx));
        }
        if let (Rule::VoteAfterPromise, Input::Prepare { tx }) = (case.rule, input)
            && let Some(before) = self.txs.get(&case.id(tx))
            && let Some(after) = next.txs.get_mut(&case.id(tx))
        {
            after.instances.clone_from(&before.instances);
        }
        next.leave_out_what_nobody_reads();
        let answers = sent.into_iter().map(|message| answer(message, promises));
        let answer = answers.into_iter().find(|answer| *answer != Answer::Nothing);
        Some((next, answer.unwrap_or(Answer::Nothing)))
    }

    /// A second value in a ballot that has one already; no leader sends it.
    fn contradicts(&self, case: &Case, input: Input) -> bool {
        let Input::Accept { tx, cluster, round, value } = input else { return false };
        let Some(record) = self.txs.get(&case.id(tx)) else { return false };
        let here = record.instances.iter().find(|(c, _)| *c == key(cluster));
        let accepted = here.and_then(|(_, instance)| instance.accepted);
        accepted.is_some_and(|(b, v)| b == ballot(case, tx, round) && v != value)
    }

    /// The wrong rules that lose something before the message is looked at.
    fn forget_by_rule(&mut self, case: &Case, input: Input) {
        match (case.rule, input) {
            (_, Input::LoseNo { tx }) => {
                let id = case.id(tx);
                if self.txs.get(&id).is_some_and(|r| matches!(r.vote, Some(Vote::No(_)))) {
                    self.txs.remove(&id);
                }
            }
            (Rule::VoteAfterPromise, Input::Prepare { tx }) => {
                self.txs.retain(|id, record| *id != case.id(tx) || record.vote.is_some());
            }
            _ => {}
        }
    }

    fn run(&mut self, case: &Case, server: usize, input: Input) -> Vec<Message> {
        let mut machine = Machine::new(
            Config::new(node(server), Boot(1), 0),
            Recovered {
                undecided: self
                    .txs
                    .iter()
                    .filter(|(tx, _)| !self.outcomes.contains_key(tx))
                    .map(|(tx, record)| (*tx, record.clone()))
                    .collect(),
                low: self.low.clone(),
                ..Recovered::default()
            },
        );
        let mut out = Vec::new();
        for (now, event) in self.events(case, server, input) {
            let mut effects = Vec::new();
            machine.step(now, event, self, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Persist { writes, .. } => {
                        writes.into_iter().for_each(|write| self.write(write));
                    }
                    Effect::Send { message, .. } => out.push(message),
                    Effect::Note(Note::Corruption { detail, .. }) => self.complaint = Some(detail),
                    Effect::Note(_) | Effect::Reply { .. } => {}
                }
            }
        }
        out
    }

    fn events(&self, case: &Case, server: usize, input: Input) -> Vec<(Tick, Event)> {
        let newer = matches!(input, Input::PrepareTooLate { .. });
        let mut events = vec![(0, Event::Configure { cfg: 1, placements: case.placements(newer) })];
        let (from, message) = match input {
            Input::Prepare { tx }
            | Input::PrepareUntilTired { tx }
            | Input::PrepareTooLate { tx } => {
                let participants = case.participants(tx);
                let mut ops = case.ops_for(tx, server);
                for op in &mut ops {
                    let here = Store::stamp(self, &op.item);
                    if case.rule == Rule::BaseByVersion && here.version < op.base.version {
                        op.base = here;
                    }
                }
                let (id, age) = (case.id(tx), case.age(tx));
                (id.node, Message::Prepare { tx: id, age, participants, ops, schema: 0 })
            }
            Input::Accept { tx, cluster, round, value } => {
                let ballot = ballot(case, tx, round);
                let ops = match value {
                    Value::Prepared => case.ops_for(tx, server),
                    Value::Aborted => Vec::new(),
                };
                let (participants, cluster) = (case.participants(tx), key(cluster));
                let tx = case.id(tx);
                (ballot.node, Message::Accept { tx, cluster, ballot, value, participants, ops })
            }
            Input::Recover { tx, cluster, round } => {
                let ballot = ballot(case, tx, round);
                let (participants, cluster) = (case.participants(tx), key(cluster));
                let tx = case.id(tx);
                (ballot.node, Message::Recover { tx, cluster, ballot, participants })
            }
            Input::Outcome { tx, outcome } => {
                let ops = match outcome {
                    Decided::Commit => case.ops_for(tx, server),
                    Decided::Abort => Vec::new(),
                };
                let at = LogPosition { boot: Boot(1), index: 1 };
                let (prev, participants) = (LogPosition::default(), case.participants(tx));
                let tx = case.id(tx);
                (NodeId(80), Message::Decide { at, prev, tx, outcome, participants, ops })
            }
            Input::Low { tx } => {
                let TxId { node, boot, seq } = case.id(tx);
                events.push((0, Event::Peer { node, boot, up: true }));
                (node, Message::Low { seq: seq + 1 })
            }
            Input::LoseNo { .. } => return events,
        };
        events.push((0, Event::Message { from, cfg: 1, message }));
        if matches!(input, Input::PrepareUntilTired { .. }) {
            events.push((Config::new(node(server), Boot(1), 0).lock_wait, Event::Tick));
        }
        events
    }

    fn write(&mut self, write: Write) {
        match write {
            Write::Item(item, committed) => {
                self.items.insert(item, committed);
            }
            Write::Tx(tx, record) => {
                self.txs.insert(tx, record);
            }
            Write::Outcome(tx, outcome) => {
                self.outcomes.insert(tx, outcome);
            }
            Write::Low(node, boot, low) => {
                self.low.insert((node, boot), low);
                let below = |tx: &TxId| (tx.node, tx.boot) == (node, boot) && tx.seq < low;
                self.txs.retain(|tx, _| !below(tx));
                self.outcomes.retain(|tx, _| !below(tx));
            }
            Write::Purge(item) => {
                self.items.remove(&item);
            }
            Write::Log(..) | Write::TruncateLog(_) | Write::Applied(..) | Write::Aligning(_) => {}
        }
    }

    fn leave_out_what_nobody_reads(&mut self) {
        for (tx, record) in &mut self.txs {
            if self.outcomes.contains_key(tx) {
                let TxRecord { participants, ops, .. } = std::mem::take(record);
                *record = TxRecord { participants, ops, ..TxRecord::default() };
            } else if matches!(record.vote, Some(Vote::No(_))) {
                record.vote = Some(Vote::No(plain_no()));
            }
        }
        let aborted = |tx: &TxId| self.outcomes.get(tx) == Some(&Decided::Abort);
        self.txs.retain(|tx, _| !aborted(tx));
    }

    fn facts(&self, case: &Case, server: usize) -> Facts {
        let mut facts = Facts { corrupt: self.complaint.is_some(), ..Facts::default() };
        for tx in 0..case.txs.len() {
            let id = case.id(tx);
            let bit = 1 << tx;
            let known = self.outcomes.contains_key(&id);
            if !known && self.txs.get(&id).is_some_and(|r| r.vote == Some(Vote::Yes)) {
                facts.open_yes |= bit;
            }
            if known || self.low.get(&(id.node, id.boot)).is_some_and(|low| id.seq < *low) {
                facts.settled |= bit;
            }
            let mine = |c: &&usize| case.clusters[**c].masters.contains(&server);
            let mut touched = case.txs[tx].touches.iter().filter(mine).peekable();
            if touched.peek().is_some()
                && touched.all(|c| includes(case, tx, *c, self.items.get(&item(*c))))
            {
                facts.applied |= bit;
            }
        }
        facts
    }
}

fn answer(message: Message, promises: &mut Vec<Promise>) -> Answer {
    match message {
        Message::Vote { reply: VoteReply::Vote(Vote::Yes), .. } => Answer::Yes,
        Message::Vote { reply: VoteReply::Vote(Vote::No(_)), .. } => Answer::No,
        Message::Accepted { .. } => Answer::Accepted,
        Message::Promise { promise, .. } => {
            let Promise { vote, accepted, .. } = promise;
            let vote = vote.map(|vote| match vote {
                Vote::Yes => Vote::Yes,
                Vote::No(_) => Vote::No(plain_no()),
            });
            let promise = Promise { vote, accepted, ops: Vec::new(), participants: Vec::new() };
            let number = promises.iter().position(|known| *known == promise);
            let number = number.unwrap_or_else(|| {
                promises.push(promise);
                promises.len() - 1
            });
            Answer::Promise(u8::try_from(number).expect("more promises than can be numbered"))
        }
        _ => Answer::Nothing,
    }
}

/// Any No: its reason is for the client.
pub(crate) const fn plain_no() -> No {
    No { reason: NoReason::Busy, item: None, current: Stamp::ABSENT, holder: None }
}
