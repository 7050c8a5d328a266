//! What one server has on its disk, and one run of the real machine on it. Why a No was said, and
//! the acceptor state of what is decided, no acceptor rule looks at: they are left out of the
//! states. What the wrong rules of an acceptor do differently is here too.

use std::collections::BTreeMap;

use quorate_api::{Boot, ClusterKey, Committed, ItemId, ItemKey, NodeId, Stamp, TxId};
use quorate_protocol::conflict::Rival;
use quorate_protocol::feeding::Entry;
use quorate_protocol::io::{Config, Effect, Event, Note, Recovered, Store, Tick, Write};
use quorate_protocol::machine::Machine;
use quorate_protocol::message::{
    Decided, Instance, LogEntry, LogPosition, Message, Promise, TxRecord, Value, Vote,
};

use super::acceptor::{Answer, Facts, Input, answer, plain_no};
use super::case::{Case, Rule, ballot, includes, item, key, node};

/// What a server has on its disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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

    fn ancestors(&self, _item: &ItemId) -> Vec<Stamp> {
        Vec::new()
    }

    fn rivals(&self, _item: &ItemId) -> Vec<Rival> {
        Vec::new()
    }
}

impl Disk {
    /// What a message does here, and the answer; `None` if it cannot be.
    pub(crate) fn handle(
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
        next.break_by_rule(case, server, input);
        let sent = next.drive(&mut next.start(case, server, input), case, server, input);
        if let Input::Outcome { tx, outcome } = input
            && match case.rule {
                Rule::ForgetOnLearning => true,
                Rule::ForgetAborts => outcome == Decided::Abort,
                _ => false,
            }
        {
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

    /// The wrong rules that lose or take something before the message is looked at.
    fn break_by_rule(&mut self, case: &Case, server: usize, input: Input) {
        match (case.rule, input) {
            (rule, Input::Lose { tx }) => {
                let Some(record) = self.txs.get_mut(&case.id(tx)) else { return };
                let accepted = record.instances.iter_mut().filter(|(_, i)| i.accepted.is_some());
                match (rule, &record.vote) {
                    (Rule::AcceptBeforeDurable, _) => {
                        accepted.for_each(|(_, instance)| *instance = Instance::default());
                    }
                    (Rule::ForgetNo, Some(Vote::No(_)))
                    | (Rule::YesBeforeDurable, Some(Vote::Yes)) => {
                        self.txs.remove(&case.id(tx));
                    }
                    _ => {}
                }
            }
            (Rule::VoteAfterPromise, Input::Prepare { tx }) => {
                self.txs.retain(|id, record| *id != case.id(tx) || record.vote.is_some());
            }
            (_, Input::Wipe) => *self = Self::default(),
            (_, Input::CopyVote { tx }) => {
                let record = TxRecord {
                    age: case.age(tx),
                    participants: case.participants(tx),
                    ops: case.ops_for(tx, server),
                    vote: Some(Vote::Yes),
                    instances: case.instances(tx, server),
                };
                if !self.outcomes.contains_key(&case.id(tx)) {
                    self.txs.entry(case.id(tx)).or_insert(record);
                }
            }
            (_, Input::CopyItem { tx, cluster }) => {
                let ops = case.ops_for(tx, server).into_iter();
                for op in ops.filter(|op| op.item == item(cluster)) {
                    if Store::stamp(self, &op.item) == op.base {
                        let stamp = op.stamp_after(case.id(tx));
                        let committed =
                            Committed { stamp, live: true, image: op.image, elsewhere: None };
                        self.items.insert(op.item, committed);
                    }
                }
            }
            _ => {}
        }
    }

    /// A machine that starts on this disk to handle that message.
    fn start(&self, case: &Case, server: usize, input: Input) -> Machine {
        let forgets = |tx: &TxId| match case.rule {
            Rule::LoseLocks => !input.is_about(case, *tx),
            // Its locks would stand against each other.
            Rule::CopiedVotes => {
                let mine = self.txs.keys().any(|known| input.is_about(case, *known));
                mine && !input.is_about(case, *tx)
            }
            _ => false,
        };
        let undecided = self.txs.iter().filter(|(tx, _)| !self.outcomes.contains_key(tx));
        let undecided = undecided.filter(|(tx, _)| !forgets(tx));
        let recovered = Recovered {
            undecided: undecided.map(|(tx, record)| (*tx, record.clone())).collect(),
            low: self.low.clone(),
            ..Recovered::default()
        };
        Machine::new(Config::new(node(server), Boot(1), 0), recovered)
    }

    fn drive(
        &mut self,
        machine: &mut Machine,
        case: &Case,
        server: usize,
        input: Input,
    ) -> Vec<Message> {
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
                    Effect::Note(_)
                    | Effect::Copy { .. }
                    | Effect::Survey { .. }
                    | Effect::Reply { .. }
                    | Effect::Report { .. } => {}
                }
            }
        }
        out
    }

    /// What one machine makes of several messages in one life, without a restart between them, and
    /// all its answers.
    pub(crate) fn live(
        &self,
        case: &Case,
        server: usize,
        inputs: &[Input],
        promises: &mut Vec<Promise>,
    ) -> (Self, Vec<Answer>) {
        let mut next = self.clone();
        let mut machine = self.start(case, server, inputs[0]);
        let mut answers = Vec::new();
        for input in inputs {
            let sent = next.drive(&mut machine, case, server, *input).into_iter();
            let said = sent.map(|message| answer(message, promises));
            answers.extend(said.filter(|answer| *answer != Answer::Nothing));
        }
        next.leave_out_what_nobody_reads();
        (next, answers)
    }

    fn events(&self, case: &Case, server: usize, input: Input) -> Vec<(Tick, Event)> {
        let changing = matches!(input, Input::PrepareTooLate { .. });
        let mut events =
            vec![(0, Event::Configure { cfg: 1, placements: case.placements(changing) })];
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
                let decider = NodeId(80 + tx as u64);
                let tx = case.id(tx);
                let relayed = Vec::new();
                let entry = Entry { at, prev, tx, outcome, cfg: 1, participants, ops, relayed };
                (decider, Message::Decide(entry))
            }
            Input::Low { tx } => {
                let TxId { node, boot, seq } = case.id(tx);
                events.push((0, Event::Peer { node, boot, up: true }));
                (node, Message::Low { seq: seq + 1 })
            }
            Input::Lose { .. } | Input::Wipe | Input::CopyVote { .. } | Input::CopyItem { .. } => {
                return events;
            }
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
            Write::Log(..)
            | Write::TruncateLog(_)
            | Write::Applied(..)
            | Write::BootEnd(..)
            | Write::OutOfLog(_)
            | Write::InLog(_)
            | Write::Shown(..)
            | Write::Aligning(_)
            | Write::Begun(_)
            | Write::Copied(..)
            | Write::Sealed(..)
            | Write::Entered(..)
            | Write::Ancestors(..)
            | Write::Rivals(..)
            | Write::Lost(..) => {}
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

    pub(crate) fn facts(&self, case: &Case, server: usize) -> Facts {
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
            let touched = || case.txs[tx].touches.iter().filter(mine);
            let has = |c: &&usize| includes(case, tx, **c, self.items.get(&item(**c)));
            match touched().filter(has).count() {
                0 => {}
                some if some == touched().count() => facts.applied |= bit,
                _ => facts.torn |= bit,
            }
        }
        facts
    }
}
