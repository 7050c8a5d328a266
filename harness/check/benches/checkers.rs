//! How fast each checker judges 10⁵ and 10⁶ operations of transfers, snapshots, sessions, unique
//! inserts and edges. No correctness here, except that all of them are valid.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_check::history::*;
use quorate_check::{Checker, Options, Verdict, check_all};

const ACCOUNTS: u64 = 8;
const NODES: u32 = 3;
const SESSIONS: u64 = 64;

/// Clients that always have one operation open.
const CLIENTS: u64 = 32;

/// A legal run in which each operation takes effect in the middle of its interval.
struct Run {
    /// Value and version of each account.
    accounts: Vec<(u64, u64)>,
    operations: Vec<Operation>,
    next_key: u64,
}

impl Run {
    fn of(count: u64) -> History {
        let accounts = vec![(0, 0); ACCOUNTS as usize];
        let operations = Vec::with_capacity(count as usize + 1000);
        let mut run = Self { accounts, operations, next_key: ACCOUNTS };
        for key in 0..ACCOUNTS {
            let write = run.write(key);
            run.push(OpKind::Create, Phase::Load, None, vec![write]);
        }
        while (run.operations.len() as u64) < count {
            run.step();
        }
        for key in 0..ACCOUNTS {
            run.read(Phase::Final, ReadLevel::Majority, key, 0);
            (0..NODES).for_each(|node| run.read(Phase::Final, ReadLevel::Local, key, node));
        }
        let nodes = (0..NODES).map(|node| format!("n{node}")).collect();
        let mut header = Header::new(nodes, run.next_key, true);
        header.promises = Promises {
            bank: Some(Bank { accounts: ACCOUNTS, total: 100 * ACCOUNTS as i64 }),
            serializable: true,
            sessions: true,
            quorums: vec![KeyQuorum { from_key: 0, masters: vec![0, 1, 2], write: 2 }],
        };
        History { header, operations: run.operations }
    }

    fn id(&self) -> u64 {
        self.operations.len() as u64 + 1
    }

    fn step(&mut self) {
        let id = self.id();
        let key = id * 7 % ACCOUNTS;
        match id % 10 {
            0 | 1 => {
                let other = (key + 1) % ACCOUNTS;
                let steps =
                    vec![self.seen(key), self.seen(other), self.write(key), self.write(other)];
                self.push(OpKind::Transaction, Phase::Measure, Some(ReadLevel::Majority), steps);
            }
            2 => {
                let steps = (0..ACCOUNTS).map(|key| self.seen(key)).collect();
                self.push(OpKind::Transaction, Phase::Measure, Some(ReadLevel::Local), steps);
            }
            3..6 => self.read(Phase::Measure, ReadLevel::Majority, key, 0),
            6 | 7 => self.read(Phase::Measure, ReadLevel::Local, key, (id % 3) as u32),
            8 => {
                let step = self.fresh(Content::Unique(id));
                self.push(OpKind::Create, Phase::Measure, None, vec![step]);
            }
            _ => self.link(),
        }
    }

    /// A new edge between two new vertices, and a snapshot of the three.
    fn link(&mut self) {
        let edge = self.next_key;
        let (from, to) = (edge + 1, edge + 2);
        let vertex = |outgoing, incoming| Content::Vertex(Box::new(Vertex { outgoing, incoming }));
        let contents = [
            Content::Edge(Edge { from, to }),
            vertex(vec![edge], Vec::new()),
            vertex(Vec::new(), vec![edge]),
        ];
        let value = self.id();
        let steps = contents.clone().map(|content| self.fresh(content)).into();
        self.push(OpKind::Transaction, Phase::Measure, None, steps);
        let saw = |(key, content)| Step {
            version: Some(1),
            content: Some(content),
            ..Step::new(key, Action::Read(Some(Seen::Value(value))))
        };
        let steps = (edge..).zip(contents).map(saw).collect();
        self.push(OpKind::Transaction, Phase::Measure, Some(ReadLevel::Local), steps);
    }

    fn read(&mut self, phase: Phase, level: ReadLevel, key: u64, node: u32) {
        let step = self.seen(key);
        self.push(OpKind::Read, phase, Some(level), vec![step]);
        if let Some(operation) = self.operations.last_mut() {
            operation.node = node;
        }
    }

    fn seen(&self, key: u64) -> Step {
        let (value, version) = self.accounts[key as usize];
        Step {
            version: Some(version),
            content: Some(Content::Balance(100)),
            ..Step::new(key, Action::Read(Some(Seen::Value(value))))
        }
    }

    fn write(&mut self, key: u64) -> Step {
        let version = self.accounts[key as usize].1 + 1;
        self.accounts[key as usize] = (self.id(), version);
        self.written(key, version, Content::Balance(100))
    }

    fn fresh(&mut self, content: Content) -> Step {
        self.next_key += 1;
        self.written(self.next_key - 1, 1, content)
    }

    fn written(&self, key: u64, version: u64, content: Content) -> Step {
        let evidence = Evidence { voted: vec![0, 2], accepted: Vec::new() };
        Step {
            rid: Some(format!("#1:{key}")),
            version: Some(version),
            content: Some(content),
            evidence: Some(Box::new(evidence)),
            ..Step::new(key, Action::Write(self.id()))
        }
    }

    fn push(&mut self, kind: OpKind, phase: Phase, level: Option<ReadLevel>, steps: Vec<Step>) {
        let id = self.id();
        let at = id * 1_000;
        self.operations.push(Operation {
            id,
            process: id % CLIENTS,
            session: id % SESSIONS,
            kind,
            phase,
            node: 0,
            level,
            steps,
            intended: at,
            sent: at,
            done: Some(at + CLIENTS * 1_000),
            outcome: Outcome::Ok,
            code: None,
        });
    }
}

fn checkers(criterion: &mut Criterion) {
    for count in [100_000, 1_000_000] {
        let history = Run::of(count);
        let mut group = criterion.benchmark_group("checkers");
        group.throughput(Throughput::Elements(count)).sample_size(10);
        for checker in Checker::ALL {
            let options = Options::only([checker.name()]).expect("a checker of that name");
            group.bench_function(BenchmarkId::new(checker.name(), count), |bencher| {
                bencher.iter(|| {
                    let report = check_all(black_box(&history), &options);
                    let told = !matches!(report.verdict, Verdict::Violated);
                    assert!(told, "{report}");
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, checkers);
criterion_main!(benches);
