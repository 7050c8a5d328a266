//! The history of a run, in the model of the checkers that judge real runs too.

use std::collections::BTreeMap;

use quorate_api::{Committed, ItemId, ItemKey, OpKind, Stamp};
use quorate_check::history::{
    Action, Bank, Content, Edge, Header, History, OpKind as Kind, Operation, Outcome, Phase,
    Promises, ReadLevel, Seen, Step, Vertex,
};
use quorate_check::{Checker, Verdict, check_all};
use quorate_protocol::io::{Proposal, Tick};

use crate::options::Options;
use crate::workload::{Kind as Workload, bank, decode, graph};

/// What the history is judged by.
const CHECKERS: [Checker; 12] = [
    Checker::AcknowledgedDurable,
    Checker::Linearizable,
    Checker::FailedWriteVisible,
    Checker::Convergence,
    Checker::BankTotal,
    Checker::UniqueKey,
    Checker::EdgeSymmetry,
    Checker::AbortedRead,
    Checker::IntermediateRead,
    Checker::DependencyCycles,
    Checker::LostUpdate,
    Checker::SessionGuarantees,
];

/// Nanoseconds of a tick.
const NANOS: u64 = 1_000;

/// Every operation so far.
#[derive(Debug)]
pub(crate) struct Recorder {
    options: Options,
    operations: Vec<Operation>,
    /// Logical key of each item, dense from 0.
    keys: BTreeMap<ItemId, u64>,
    next_process: u64,
}

/// Who asks what, when.
pub(crate) struct Asked {
    pub(crate) process: u64,
    pub(crate) session: u64,
    pub(crate) server: usize,
    pub(crate) now: Tick,
}

impl Recorder {
    pub(crate) fn new(options: &Options) -> Self {
        let options = options.clone();
        Self { options, operations: Vec::new(), keys: BTreeMap::new(), next_process: 0 }
    }

    /// Number of the next operation.
    pub(crate) fn next_id(&self) -> u64 {
        self.operations.len() as u64 + 1
    }

    /// A process number that was never used.
    pub(crate) fn new_process(&mut self) -> u64 {
        self.next_process += 1;
        self.next_process - 1
    }

    fn key(&mut self, item: &ItemId) -> u64 {
        let next = self.keys.len() as u64;
        *self.keys.entry(item.clone()).or_insert(next)
    }

    fn push(&mut self, asked: &Asked, kind: Kind, phase: Phase, steps: Vec<Step>) -> u64 {
        let id = self.next_id();
        let at = asked.now * NANOS;
        self.operations.push(Operation {
            id,
            process: asked.process,
            session: asked.session,
            kind,
            phase,
            node: u32::try_from(asked.server).unwrap_or(0),
            level: None,
            steps,
            intended: at,
            sent: at,
            done: None,
            outcome: Outcome::Unknown,
            code: None,
        });
        id
    }

    /// What an image means to the workload.
    fn content(&mut self, item: &ItemId, body: &[u8]) -> Option<Content> {
        let ItemKey::Record(position) = item.key else { return None };
        match self.options.workload {
            Workload::Registers | Workload::Records => None,
            Workload::Bank => body.try_into().ok().map(|b| Content::Balance(i64::from_be_bytes(b))),
            Workload::Unique => {
                body.try_into().ok().map(|b| Content::Unique(u64::from_be_bytes(b)))
            }
            Workload::Graph if position < self.options.keys => {
                let mut vertex = Vertex::default();
                for end in graph::ends_in(body)? {
                    let from = if end.out { position } else { end.other };
                    let edge = self.key(&graph::edge_item(&self.options, from, end.edge));
                    let list = if end.out { &mut vertex.outgoing } else { &mut vertex.incoming };
                    list.push(edge);
                }
                Some(Content::Vertex(Box::new(vertex)))
            }
            Workload::Graph => {
                let (from, to) = graph::joined(body)?;
                // Vertices were loaded first, so their logical keys are their own.
                Some(Content::Edge(Edge { from, to }))
            }
        }
    }

    /// What the disks held before the run, as one acknowledged transaction.
    pub(crate) fn load(&mut self, items: &[(ItemId, Vec<u8>)]) {
        let process = self.new_process();
        let asked = Asked { process, session: process, server: 0, now: 0 };
        let id = self.next_id();
        let mut steps = Vec::with_capacity(items.len());
        for (item, body) in items {
            let content = self.content(item, body);
            steps.push(Step { content, ..Step::new(self.key(item), Action::Write(id)) });
        }
        self.push(&asked, Kind::Transaction, Phase::Load, steps);
        self.end(id, 0, Outcome::Ok, None);
    }

    /// A transaction is sent.
    pub(crate) fn write(&mut self, asked: &Asked, ops: &[Proposal]) -> u64 {
        let id = self.next_id();
        let mut steps = Vec::with_capacity(ops.len());
        for op in ops {
            let action = match op.kind {
                OpKind::Create | OpKind::Update | OpKind::Merge(_) => Action::Write(id),
                OpKind::Delete => Action::Delete(id),
                OpKind::Check => Action::Read(None),
            };
            let body = op.image.as_ref().and_then(|image| image.0.get(8..));
            let body = body.filter(|_| op.kind != OpKind::Delete);
            let content = body.and_then(|body| self.content(&op.item, body));
            steps.push(Step { content, ..Step::new(self.key(&op.item), action) });
        }
        let checks = ops.iter().any(|op| op.kind == OpKind::Check);
        let kind = match ops {
            [op] if op.kind == OpKind::Create => Kind::Create,
            [op] if op.kind == OpKind::Update => Kind::Update,
            [op] if op.kind == OpKind::Delete => Kind::Delete,
            _ => Kind::Transaction,
        };
        self.push(asked, kind, Phase::Measure, steps);
        if checks {
            self.set_level(id, ReadLevel::Majority);
        }
        id
    }

    /// A read is sent.
    pub(crate) fn read(&mut self, asked: &Asked, items: &[ItemId], level: ReadLevel) -> u64 {
        let steps =
            items.iter().map(|item| Step::new(self.key(item), Action::Read(None))).collect();
        let id = self.push(asked, Kind::Read, Phase::Measure, steps);
        self.set_level(id, level);
        id
    }

    fn set_level(&mut self, id: u64, level: ReadLevel) {
        if let Some(operation) = self.get(id) {
            operation.level = Some(level);
        }
    }

    fn get(&mut self, id: u64) -> Option<&mut Operation> {
        self.operations.get_mut(usize::try_from(id).ok()?.checked_sub(1)?)
    }

    /// The server that was asked.
    pub(crate) fn server(&self, id: u64) -> Option<usize> {
        let index = usize::try_from(id).ok()?.checked_sub(1)?;
        self.operations.get(index).map(|operation| operation.node as usize)
    }

    /// What a `check` of a committed transaction proved.
    pub(crate) fn checked(&mut self, id: u64, nth: usize, state: Option<&Committed>) {
        if let Some(step) = self.get(id).and_then(|operation| operation.steps.get_mut(nth)) {
            step.action = Action::Read(Some(seen_in(state)));
            step.version = state.map(|committed| committed.stamp.version);
        }
    }

    /// Versions that a reply named.
    pub(crate) fn stamped(&mut self, id: u64, stamps: &[Stamp]) {
        if let Some(operation) = self.get(id) {
            for (step, stamp) in operation.steps.iter_mut().zip(stamps) {
                step.version = Some(stamp.version);
            }
        }
    }

    /// What a read found.
    pub(crate) fn found<'a>(
        &mut self,
        id: u64,
        found: impl Iterator<Item = Option<&'a Committed>>,
    ) {
        for (nth, state) in found.enumerate() {
            self.checked(id, nth, state);
        }
    }

    /// An operation is over. Whose outcome is unknown stays pending for ever.
    pub(crate) fn end(&mut self, id: u64, now: Tick, outcome: Outcome, code: Option<&str>) {
        if let Some(operation) = self.get(id) {
            operation.done = (outcome != Outcome::Unknown).then_some(now * NANOS + 1);
            operation.outcome = outcome;
            operation.code = code.map(str::to_owned);
        }
    }

    /// One majority read of every item, and a local one at each server given with what it holds.
    pub(crate) fn scan(
        &mut self,
        now: Tick,
        items: &BTreeMap<ItemId, Committed>,
        local: &[(usize, &BTreeMap<ItemId, Committed>)],
        holds: impl Fn(usize, &ItemId) -> bool,
    ) {
        let keys: Vec<ItemId> = self.keys.keys().cloned().collect();
        for item in keys {
            let majority = std::iter::once((0, ReadLevel::Majority, items.get(&item)));
            let held = local.iter().filter(|(server, _)| holds(*server, &item));
            let locals = held.map(|(s, local)| (*s, ReadLevel::Local, local.get(&item)));
            for (server, level, state) in majority.chain(locals) {
                let process = self.new_process();
                let asked = Asked { process, session: process, server, now };
                let steps = vec![Step::new(self.key(&item), Action::Read(None))];
                let id = self.push(&asked, Kind::Read, Phase::Final, steps);
                self.set_level(id, level);
                self.checked(id, 0, state);
                self.end(id, now, Outcome::Ok, None);
            }
        }
    }

    /// Judges the whole history.
    pub(crate) fn judge(&mut self, servers: usize) -> Vec<(&'static str, String)> {
        let nodes = (0..servers).map(|n| format!("n{}", n + 1)).collect();
        let accounts = self.options.keys;
        let total = bank::OPENING * i64::try_from(accounts).unwrap_or(0);
        let has_bank = self.options.workload == Workload::Bank;
        let promises = Promises {
            bank: has_bank.then_some(Bank { accounts, total }),
            serializable: true,
            sessions: true,
            ..Promises::default()
        };
        let header = Header { promises, ..Header::new(nodes, self.keys.len() as u64, true) };
        let history = History { header, operations: std::mem::take(&mut self.operations) };
        let options = quorate_check::Options {
            checkers: CHECKERS.into(),
            ..quorate_check::Options::default()
        };
        let report = check_all(&history, &options);
        let violated = report.judgements.iter().filter(|j| j.verdict == Verdict::Violated);
        violated.map(|judgement| (judgement.checker.name(), judgement.to_string())).collect()
    }
}

pub(crate) fn seen_in(state: Option<&Committed>) -> Seen {
    let id = |committed| decode(committed).map(|(id, _)| id);
    match state {
        Some(committed) if committed.live => id(committed).map_or(Seen::Absent(None), Seen::Value),
        Some(committed) => Seen::Absent(id(committed)),
        None => Seen::Absent(None),
    }
}
