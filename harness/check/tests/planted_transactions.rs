//! A toy database with transactions, sessions, unique keys and edges, and bugs that can be planted
//! in it: each must be caught by the checker it is mapped to, and without any the run must be
//! valid. One log of transactions; a server's state is a prefix of it. Knows nothing of the real
//! protocol.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;

use quorate_check::history::*;
use quorate_check::{Checker, Options, Verdict, check_all};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SERVERS: usize = 3;
const ACCOUNTS: u64 = 4;
const VERTICES: u64 = 3;
const TOTAL: i64 = 400;
const SESSIONS: usize = 4;
const UNIQUE_KEYS: u64 = 3;
const MEASURED: u64 = 500;
const SEEDS: u64 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// A snapshot shows the first write of the next transaction, and not the others.
    HalfTransfer,
    /// An insert does not look whether its key is taken.
    DoubleOwner,
    /// The vertex that an edge enters is not written.
    OneSidedEdge,
    /// Says failed, yet applies.
    AbortedApplied,
    /// A snapshot shows what a transaction writes on its way.
    Intermediate,
    /// A server answers without waiting for what the session's token names.
    TokenIgnored,
    /// What a transaction read is not looked at again when it commits.
    WriteSkew,
    /// Nor is the base of what it writes.
    LostUpdate,
    /// Acknowledges after one vote.
    MinorityAck,
}

#[derive(Debug, Clone)]
struct Cell {
    seen: Seen,
    version: u64,
    content: Option<Content>,
}

type State = BTreeMap<u64, Cell>;

struct Toy {
    bug: Option<Bug>,
    rng: ChaCha8Rng,
    /// What each transaction of the log wrote.
    log: Vec<Vec<(u64, Cell)>>,
    committed: State,
    /// What the log came to before its last few transactions.
    earlier: State,
    servers: [State; SERVERS],
    applied: [usize; SERVERS],
    /// How much of the log each session has seen.
    tokens: [usize; SESSIONS],
    operations: Vec<Operation>,
    now: Nanos,
    next_key: u64,
}

impl Toy {
    fn run(bug: Option<Bug>, seed: u64) -> History {
        let mut toy = Self {
            bug,
            rng: ChaCha8Rng::seed_from_u64(seed),
            log: Vec::new(),
            committed: State::new(),
            earlier: State::new(),
            servers: Default::default(),
            applied: [0; SERVERS],
            tokens: [0; SESSIONS],
            operations: Vec::new(),
            now: 10_000_000,
            next_key: ACCOUNTS + VERTICES,
        };
        toy.load();
        for _ in 0..MEASURED {
            toy.step();
        }
        toy.finish();
        toy.operations.sort_by_key(|operation| (operation.sent, operation.id));
        let nodes = (0..SERVERS).map(|server| format!("toy{server}")).collect();
        let mut header = Header::new(nodes, toy.next_key, true);
        header.promises = Promises {
            bank: Some(Bank { accounts: ACCOUNTS, total: TOTAL }),
            serializable: true,
            sessions: true,
            quorums: vec![KeyQuorum { from_key: 0, masters: vec![0, 1, 2], write: 2 }],
        };
        History { header, operations: toy.operations }
    }

    fn load(&mut self) {
        for key in 0..ACCOUNTS + VERTICES {
            let content = match key < ACCOUNTS {
                true => Content::Balance(TOTAL / ACCOUNTS as i64),
                false => Content::Vertex(Box::default()),
            };
            let write = self.write_step(key, Some(content));
            self.commit(OpKind::Create, Phase::Load, vec![write], Outcome::Ok);
        }
        (0..SERVERS).for_each(|server| self.catch_up(server, self.log.len()));
    }

    fn step(&mut self) {
        if self.rng.random_range(0..8) == 0 {
            self.earlier = self.committed.clone();
        }
        let account = self.rng.random_range(0..ACCOUNTS);
        let server = self.rng.random_range(0..SERVERS);
        match self.rng.random_range(0..11) {
            0 | 1 => self.transfer(account),
            2 => self.look_and_write(account),
            3 => self.insert(),
            4 => self.delete(),
            5 => self.link(),
            6 => self.audit(ReadLevel::Majority, server),
            7 => self.audit(ReadLevel::Local, server),
            8 => self.rewrite(account),
            9 => self.read(Phase::Measure, ReadLevel::Local, account, server),
            _ => self.read(Phase::Measure, ReadLevel::Majority, account, server),
        }
        let lag = self.rng.random_range(0..3);
        self.catch_up(server, self.log.len().saturating_sub(lag));
    }

    fn transfer(&mut self, from: u64) {
        let to = (from + 1) % ACCOUNTS;
        let stale = self.bug == Some(Bug::LostUpdate);
        let reads: Vec<Step> = [from, to].map(|key| self.read_step(key, stale)).into();
        let moved = self.rng.random_range(1..10);
        let balance = |toy: &Self, key: u64| match &toy.committed[&key].content {
            Some(Content::Balance(money)) => *money,
            other => panic!("account {key} holds {other:?}"),
        };
        let left = Content::Balance(balance(self, from) - moved);
        let got = Content::Balance(balance(self, to) + moved);
        let writes = [self.write_step(from, Some(left)), self.write_step(to, Some(got))];
        self.transact(reads.into_iter().chain(writes).collect());
    }

    /// Reads two accounts and rewrites one of them: the shape of write skew.
    fn look_and_write(&mut self, account: u64) {
        let other = (account + 1) % ACCOUNTS;
        let looked = self.read_step(other, self.bug == Some(Bug::WriteSkew));
        let based = self.read_step(account, false);
        let same = self.committed[&account].content.clone();
        let write = self.write_step(account, same);
        self.transact(vec![looked, based, write]);
    }

    /// Writes one account twice; only the second value may ever be seen.
    fn rewrite(&mut self, account: u64) {
        let content = self.committed[&account].content.clone();
        let mut first = self.write_step(account, content.clone());
        first.action = Action::Write(self.next_id() + 1_000_000);
        let second = self.write_step(account, content);
        self.transact(vec![first, second]);
    }

    fn insert(&mut self) {
        let unique = Content::Unique(self.rng.random_range(0..UNIQUE_KEYS));
        let holds = |cell: &Cell| cell.content.as_ref() == Some(&unique);
        let taken = self.committed.values().any(holds) && self.bug != Some(Bug::DoubleOwner);
        let key = self.next_key;
        self.next_key += 1;
        let write = self.write_step(key, Some(unique));
        let outcome = if taken { Outcome::Failed } else { Outcome::Ok };
        self.commit(OpKind::Create, Phase::Measure, vec![write], outcome);
    }

    fn delete(&mut self) {
        let owns = |(_, cell): &(&u64, &Cell)| matches!(cell.content, Some(Content::Unique(_)));
        if let Some((&key, _)) = self.committed.iter().find(owns) {
            let mut step = self.write_step(key, None);
            step.action = Action::Delete(self.next_id());
            let outcome = self.draw();
            self.commit(OpKind::Delete, Phase::Measure, vec![step], outcome);
        }
    }

    fn link(&mut self) {
        let vertex = |toy: &mut Self| ACCOUNTS + toy.rng.random_range(0..VERTICES);
        let (from, to, edge) = (vertex(self), vertex(self), self.next_key);
        self.next_key += 1;
        let mut ends: BTreeMap<u64, Vertex> = BTreeMap::new();
        for key in [from, to] {
            if let Some(Content::Vertex(known)) = &self.committed[&key].content {
                ends.insert(key, (**known).clone());
            }
        }
        ends.get_mut(&from).unwrap().outgoing.push(edge);
        if self.bug != Some(Bug::OneSidedEdge) {
            ends.get_mut(&to).unwrap().incoming.push(edge);
        }
        let mut steps = vec![self.write_step(edge, Some(Content::Edge(Edge { from, to })))];
        for (key, vertex) in ends {
            steps.push(self.write_step(key, Some(Content::Vertex(Box::new(vertex)))));
        }
        self.transact(steps);
    }

    /// Reads all accounts in one snapshot.
    fn audit(&mut self, level: ReadLevel, server: usize) {
        let session = self.rng.random_range(0..SESSIONS);
        let mut state = self.answers(level, server, session);
        let position =
            if level == ReadLevel::Local { self.applied[server] } else { self.log.len() };
        if level == ReadLevel::Local && self.bug == Some(Bug::HalfTransfer) {
            let half = self.log.get(position).and_then(|writes| writes.first()).cloned();
            state.extend(half);
        }
        if level == ReadLevel::Local && self.bug == Some(Bug::Intermediate) {
            let on_its_way = self.operations.iter().rev().find_map(|operation| {
                let twice = operation.steps.len() == 2 && operation.steps[0].is_write();
                let step = operation.steps.first().filter(|_| twice && operation.is_ok())?;
                Some((step.key, step.written()?))
            });
            if let Some((key, seen)) = on_its_way.filter(|(key, _)| *key < ACCOUNTS) {
                state.get_mut(&key).unwrap().seen = seen;
            }
        }
        let steps = (0..ACCOUNTS).map(|key| Self::seen_step(key, &state)).collect();
        self.record(
            OpKind::Transaction,
            Phase::Measure,
            Some(level),
            (server, session),
            steps,
            Outcome::Ok,
        );
    }

    fn read(&mut self, phase: Phase, level: ReadLevel, key: u64, server: usize) {
        let session = self.rng.random_range(0..SESSIONS);
        let state = self.answers(level, server, session);
        let steps = vec![Self::seen_step(key, &state)];
        self.record(OpKind::Read, phase, Some(level), (server, session), steps, Outcome::Ok);
    }

    /// What a read sees; the server first catches up with the session.
    fn answers(&mut self, level: ReadLevel, server: usize, session: usize) -> State {
        if level == ReadLevel::Majority {
            self.tokens[session] = self.log.len();
            return self.committed.clone();
        }
        if self.bug != Some(Bug::TokenIgnored) {
            self.catch_up(server, self.tokens[session]);
            self.tokens[session] = self.tokens[session].max(self.applied[server]);
        }
        self.servers[server].clone()
    }

    fn catch_up(&mut self, server: usize, position: usize) {
        while self.applied[server] < position {
            let writes = self.log[self.applied[server]].clone();
            self.servers[server].extend(writes);
            self.applied[server] += 1;
        }
    }

    fn draw(&mut self) -> Outcome {
        match self.rng.random_range(0..10) {
            0 => Outcome::Failed,
            1 => Outcome::Unknown,
            _ => Outcome::Ok,
        }
    }

    fn transact(&mut self, steps: Vec<Step>) {
        let outcome = self.draw();
        self.commit(OpKind::Transaction, Phase::Measure, steps, outcome);
    }

    fn commit(&mut self, kind: OpKind, phase: Phase, mut steps: Vec<Step>, outcome: Outcome) {
        let takes_effect = match outcome {
            Outcome::Ok => true,
            Outcome::Failed => self.bug == Some(Bug::AbortedApplied) && kind != OpKind::Create,
            Outcome::Unknown => self.rng.random_bool(0.5),
        };
        let coordinator = self.rng.random_range(0..SERVERS);
        let session = self.rng.random_range(0..SESSIONS);
        let mut writes: BTreeMap<u64, Cell> = BTreeMap::new();
        for step in steps.iter_mut().filter(|step| step.is_write()) {
            let base = self.committed.get(&step.key).map_or(0, |cell| cell.version);
            let (seen, version) = (step.written().unwrap(), base + 1);
            writes.insert(step.key, Cell { seen, version, content: step.content.clone() });
            if outcome == Outcome::Ok {
                step.rid = Some(format!("#1:{}", step.key));
                step.version = Some(version);
                let mut evidence = Evidence::default();
                evidence.voted.push(coordinator as u32);
                if self.bug != Some(Bug::MinorityAck) || phase == Phase::Load {
                    evidence.voted.push(((coordinator + 1) % SERVERS) as u32);
                }
                step.evidence = Some(Box::new(evidence));
            }
        }
        if takes_effect {
            self.committed.extend(writes.clone());
            self.log.push(writes.into_iter().collect());
        }
        if outcome == Outcome::Ok {
            self.tokens[session] = self.log.len();
        }
        let reads = steps.iter().any(|step| !step.is_write());
        let level = reads.then_some(ReadLevel::Majority);
        self.record(kind, phase, level, (coordinator, session), steps, outcome);
    }

    fn finish(&mut self) {
        (0..SERVERS).for_each(|server| self.catch_up(server, self.log.len()));
        for key in 0..self.next_key {
            self.read(Phase::Final, ReadLevel::Majority, key, 0);
            (0..SERVERS).for_each(|server| self.read(Phase::Final, ReadLevel::Local, key, server));
        }
    }

    fn read_step(&self, key: u64, stale: bool) -> Step {
        Self::seen_step(key, if stale { &self.earlier } else { &self.committed })
    }

    fn seen_step(key: u64, state: &State) -> Step {
        let cell = state.get(&key);
        let seen = cell.map_or(Seen::Absent(None), |cell| cell.seen);
        Step {
            rid: cell.map(|_| format!("#1:{key}")),
            version: cell.map(|cell| cell.version),
            content: cell.and_then(|cell| cell.content.clone()),
            ..Step::new(key, Action::Read(Some(seen)))
        }
    }

    fn write_step(&self, key: u64, content: Option<Content>) -> Step {
        Step { content, ..Step::new(key, Action::Write(self.next_id())) }
    }

    fn next_id(&self) -> u64 {
        self.operations.len() as u64 + 1
    }

    fn record(
        &mut self,
        kind: OpKind,
        phase: Phase,
        level: Option<ReadLevel>,
        (node, session): (usize, usize),
        steps: Vec<Step>,
        outcome: Outcome,
    ) {
        // Intervals overlap those of several neighbours, except across load and heal.
        self.now += if phase == Phase::Measure { 100_000 } else { 2_000_000 };
        let sent = self.now - self.rng.random_range(0..300_000);
        let done = self.now + self.rng.random_range(0..300_000);
        let id = self.next_id();
        self.operations.push(Operation {
            id,
            process: id,
            session: session as u64,
            kind,
            phase,
            node: node as u32,
            level,
            steps,
            intended: sent,
            sent,
            done: (outcome != Outcome::Unknown).then_some(done),
            outcome,
            code: (outcome != Outcome::Ok).then(|| "planted".to_owned()),
        });
    }
}

/// FEATURES: H8
#[test]
fn without_a_bug_every_checker_is_valid() {
    for seed in 0..SEEDS {
        let report = check_all(&Toy::run(None, seed), &Options::default());
        assert_eq!(report.verdict, Verdict::Valid, "seed {seed}\n{report}");
        assert_eq!(report.judgements.len(), Checker::ALL.len());
    }
}

/// FEATURES: A8, A11, H8, L6
#[test]
fn every_planted_bug_is_caught_by_its_checker() {
    for (bug, checker) in [
        (Bug::HalfTransfer, Checker::BankTotal),
        (Bug::HalfTransfer, Checker::DependencyCycles),
        (Bug::DoubleOwner, Checker::UniqueKey),
        (Bug::OneSidedEdge, Checker::EdgeSymmetry),
        (Bug::AbortedApplied, Checker::AbortedRead),
        (Bug::Intermediate, Checker::IntermediateRead),
        (Bug::TokenIgnored, Checker::SessionGuarantees),
        (Bug::WriteSkew, Checker::DependencyCycles),
        (Bug::LostUpdate, Checker::LostUpdate),
        (Bug::MinorityAck, Checker::QuorumCompliance),
    ] {
        for seed in 0..SEEDS {
            let report = check_all(&Toy::run(Some(bug), seed), &Options::default());
            let judgement = report.of(checker).unwrap();
            assert_eq!(judgement.verdict, Verdict::Violated, "{bug:?}, seed {seed}\n{report}");
            let example = judgement.counterexample.as_ref().unwrap();
            assert!((1..=8).contains(&example.operations.len()), "{bug:?}: {example}");
        }
    }
}

/// A bug that only one promise speaks of must not set off the other checkers.
///
/// FEATURES: H8
#[test]
fn the_bugs_of_one_promise_set_off_one_checker() {
    for (bug, checker) in [
        (Bug::DoubleOwner, Checker::UniqueKey),
        (Bug::OneSidedEdge, Checker::EdgeSymmetry),
        (Bug::TokenIgnored, Checker::SessionGuarantees),
        (Bug::MinorityAck, Checker::QuorumCompliance),
    ] {
        for seed in 0..SEEDS {
            let report = check_all(&Toy::run(Some(bug), seed), &Options::default());
            for judgement in &report.judgements {
                let violated = judgement.verdict == Verdict::Violated;
                assert_eq!(violated, judgement.checker == checker, "seed {seed}\n{judgement}");
            }
        }
    }
}
