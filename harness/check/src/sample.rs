//! A short notation for hand-made histories, for unit tests only.

use crate::checkers::{Checker, Options, check_all};
use crate::history::{
    Action, Content, Evidence, Header, History, OpKind, Operation, Outcome, Phase, Promises,
    ReadLevel, Seen, Step,
};
use crate::verdict::Judgement;

/// Nanoseconds in the unit of the times that samples are written in.
const MILLI: u64 = 1_000_000;

/// A history in the making. Operations count from 1, nodes are a, b, c.
pub(crate) struct Sample {
    history: History,
}

/// The operation just added.
pub(crate) struct Added<'s> {
    operation: &'s mut Operation,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let header = Header::new(["a", "b", "c"].map(str::to_owned).to_vec(), 10, true);
        Self { history: History { header, operations: Vec::new() } }
    }

    pub(crate) fn history(&self) -> History {
        self.history.clone()
    }

    /// What the run is promised.
    pub(crate) fn promise(&mut self) -> &mut Promises {
        &mut self.history.header.promises
    }

    /// What `checker` says about the history so far.
    pub(crate) fn judge(&self, checker: Checker) -> Judgement {
        let options = Options::only([checker.name()]).unwrap();
        let report = check_all(&self.history, &options);
        report.of(checker).unwrap().clone()
    }

    pub(crate) fn create(&mut self, key: u64) -> Added<'_> {
        let id = self.next();
        self.add(OpKind::Create, None, vec![(key, Action::Write(id))])
    }

    /// An update that writes its own id.
    pub(crate) fn write(&mut self, key: u64) -> Added<'_> {
        let id = self.next();
        self.write_value(key, id)
    }

    pub(crate) fn write_value(&mut self, key: u64, value: u64) -> Added<'_> {
        self.add(OpKind::Update, None, vec![(key, Action::Write(value))])
    }

    pub(crate) fn delete(&mut self, key: u64) -> Added<'_> {
        let id = self.next();
        self.add(OpKind::Delete, None, vec![(key, Action::Delete(id))])
    }

    /// A majority read that saw `value`.
    pub(crate) fn read(&mut self, key: u64, value: u64) -> Added<'_> {
        self.saw(key, Seen::Value(value))
    }

    /// A majority read.
    pub(crate) fn saw(&mut self, key: u64, seen: Seen) -> Added<'_> {
        let steps = vec![(key, Action::Read(Some(seen)))];
        self.add(OpKind::Read, Some(ReadLevel::Majority), steps)
    }

    /// A local read at `node`.
    pub(crate) fn local(&mut self, node: u32, key: u64, seen: Seen) -> Added<'_> {
        let steps = vec![(key, Action::Read(Some(seen)))];
        let added = self.add(OpKind::Read, Some(ReadLevel::Local), steps);
        added.operation.node = node;
        added
    }

    /// A transaction whose reads are majority reads.
    pub(crate) fn transaction(&mut self, steps: Vec<(u64, Action)>) -> Added<'_> {
        self.add(OpKind::Transaction, Some(ReadLevel::Majority), steps)
    }

    fn next(&self) -> u64 {
        self.history.operations.len() as u64 + 1
    }

    fn add(
        &mut self,
        kind: OpKind,
        level: Option<ReadLevel>,
        steps: Vec<(u64, Action)>,
    ) -> Added<'_> {
        let id = self.next();
        let step = |(key, action)| Step::new(key, action);
        self.history.operations.push(Operation {
            id,
            process: id,
            session: 0,
            kind,
            phase: Phase::Measure,
            node: 0,
            level,
            steps: steps.into_iter().map(step).collect(),
            intended: 0,
            sent: 0,
            done: None,
            outcome: Outcome::Unknown,
            code: None,
        });
        Added { operation: self.history.operations.last_mut().unwrap() }
    }
}

impl Added<'_> {
    /// Acknowledged, sent and answered at these milliseconds. Returns its id.
    pub(crate) fn ok(self, sent: u64, done: u64) -> u64 {
        self.end(Outcome::Ok, sent, Some(done))
    }

    pub(crate) fn failed(self, sent: u64, done: u64) -> u64 {
        self.end(Outcome::Failed, sent, Some(done))
    }

    /// Sent, never answered.
    pub(crate) fn unknown(self, sent: u64) -> u64 {
        self.end(Outcome::Unknown, sent, None)
    }

    /// Sent, and given up on: the client knows when, but not what became of it.
    pub(crate) fn timed_out(self, sent: u64, gave_up: u64) -> u64 {
        self.end(Outcome::Unknown, sent, Some(gave_up))
    }

    pub(crate) fn version(self, version: u64) -> Self {
        self.operation.steps[0].version = Some(version);
        self
    }

    pub(crate) fn rid(self, rid: &str) -> Self {
        self.operation.steps[0].rid = Some(rid.to_owned());
        self
    }

    pub(crate) fn session(self, session: u64) -> Self {
        self.operation.session = session;
        self
    }

    pub(crate) fn at(self, node: u32) -> Self {
        self.operation.node = node;
        self
    }

    /// Reads come from a snapshot of the server asked.
    pub(crate) fn snapshot(self) -> Self {
        self.operation.level = Some(ReadLevel::Local);
        self
    }

    /// What the first step's record means.
    pub(crate) fn content(self, content: Content) -> Self {
        self.contents([content])
    }

    /// What the steps' records mean, from the first on.
    pub(crate) fn contents(self, contents: impl IntoIterator<Item = Content>) -> Self {
        for (step, content) in self.operation.steps.iter_mut().zip(contents) {
            step.content = Some(content);
        }
        self
    }

    /// Versions of the steps, from the first on.
    pub(crate) fn versions(self, versions: impl IntoIterator<Item = u64>) -> Self {
        for (step, version) in self.operation.steps.iter_mut().zip(versions) {
            step.version = Some(version);
        }
        self
    }

    pub(crate) fn evidence(self, voted: &[u32], accepted: &[u32]) -> Self {
        let (voted, accepted) = (voted.to_vec(), accepted.to_vec());
        self.operation.steps[0].evidence = Some(Box::new(Evidence { voted, accepted }));
        self
    }

    pub(crate) fn phase(self, phase: Phase) -> Self {
        self.operation.phase = phase;
        self
    }

    fn end(self, outcome: Outcome, sent: u64, done: Option<u64>) -> u64 {
        self.operation.intended = sent * MILLI;
        self.operation.sent = sent * MILLI;
        self.operation.done = done.map(|done| done * MILLI);
        self.operation.outcome = outcome;
        self.operation.id
    }
}
