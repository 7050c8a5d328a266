//! A toy replicated register with bugs that can be planted in it: each must be caught by the
//! checker it is mapped to, and without any the run must be valid. The toy knows nothing of the
//! real protocol; it is there to try the checkers on histories that nobody wrote by hand.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;

use quorate_check::format::{Writer, read};
use quorate_check::history::*;
use quorate_check::{Checker, Options, Verdict, check_all};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const REPLICAS: usize = 3;
const KEYS: u64 = 5;
const SEEDS: u64 = 20;

/// Operations in the measured phase.
const MEASURED: u64 = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// Acknowledges a write that no replica keeps.
    LostAcknowledged,
    /// Answers a majority read from one replica.
    StaleMajorityRead,
    /// Says failed, yet leaves the value on a replica.
    FailedApplied,
    /// Two replicas allocate rids from the same block.
    DuplicateRid,
    /// One replica does not catch up after heal.
    Divergence,
}

/// What a replica holds for one key.
#[derive(Debug, Clone, Copy)]
struct Cell {
    seen: Seen,
    version: u64,
    rid: u64,
}

/// Three replicas; every write reaches two of them at once, and the third when it catches up.
struct Toy {
    bug: Option<Bug>,
    rng: ChaCha8Rng,
    replicas: [BTreeMap<u64, Cell>; REPLICAS],
    operations: Vec<Operation>,
    /// When the next operation takes effect.
    now: Nanos,
    rids: u64,
}

impl Toy {
    /// A whole run: load, measure, heal, final reads.
    fn run(bug: Option<Bug>, seed: u64) -> History {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let replicas = Default::default();
        let operations = Vec::new();
        let mut toy = Self { bug, rng, replicas, operations, now: 10_000_000, rids: 0 };
        for key in 0..KEYS {
            toy.write(Phase::Load, OpKind::Create, key);
        }
        for _ in 0..MEASURED {
            toy.step();
        }
        toy.heal();
        for key in 0..KEYS {
            toy.read(Phase::Final, ReadLevel::Majority, key, 0);
            for replica in 0..REPLICAS {
                toy.read(Phase::Final, ReadLevel::Local, key, replica);
            }
        }
        toy.operations.sort_by_key(|operation| operation.sent);
        let nodes = (0..REPLICAS).map(|replica| format!("toy{replica}")).collect();
        let header = Header::new(nodes, KEYS, true);
        History { header, operations: toy.operations }
    }

    fn step(&mut self) {
        let key = self.rng.random_range(0..KEYS);
        let replica = self.rng.random_range(0..REPLICAS);
        let exists = matches!(self.newest(key), Some(Cell { seen: Seen::Value(_), .. }));
        match self.rng.random_range(0..10) {
            0 | 1 => self.read(Phase::Measure, ReadLevel::Local, key, replica),
            2..5 => self.read(Phase::Measure, ReadLevel::Majority, key, replica),
            5 => self.catch_up(replica),
            6 if exists => self.write(Phase::Measure, OpKind::Delete, key),
            _ if exists => self.write(Phase::Measure, OpKind::Update, key),
            _ => self.write(Phase::Measure, OpKind::Create, key),
        }
    }

    fn newest(&self, key: u64) -> Option<Cell> {
        let cells = self.replicas.iter().filter_map(|replica| replica.get(&key));
        cells.max_by_key(|cell| (cell.rid, cell.version)).copied()
    }

    fn catch_up(&mut self, replica: usize) {
        for key in 0..KEYS {
            if let Some(newest) = self.newest(key) {
                self.replicas[replica].insert(key, newest);
            }
        }
    }

    fn heal(&mut self) {
        for replica in 0..REPLICAS {
            if self.bug != Some(Bug::Divergence) || replica != 1 {
                self.catch_up(replica);
            }
        }
        if self.bug == Some(Bug::Divergence) {
            // One record that exists is gone there; of a deleted one nobody could tell.
            let exists = |cell: &Cell| matches!(cell.seen, Seen::Value(_));
            let gone = (0..KEYS).find(|&key| self.newest(key).as_ref().is_some_and(exists));
            gone.map(|key| self.replicas[1].remove(&key));
        }
    }

    fn read(&mut self, phase: Phase, level: ReadLevel, key: u64, replica: usize) {
        let stale = self.bug == Some(Bug::StaleMajorityRead) && phase != Phase::Final;
        let cell = match level {
            ReadLevel::Majority if !stale => self.newest(key),
            ReadLevel::Majority | ReadLevel::Local => self.replicas[replica].get(&key).copied(),
        };
        let seen = cell.map_or(Seen::Absent(None), |cell| cell.seen);
        let step = Step {
            rid: cell.map(|cell| format!("#1:{}", cell.rid)),
            version: cell.map(|cell| cell.version),
            ..Step::new(key, Action::Read(Some(seen)))
        };
        self.record(OpKind::Read, phase, Some(level), replica, step, Outcome::Ok);
    }

    fn write(&mut self, phase: Phase, kind: OpKind, key: u64) {
        let id = self.next_id();
        let coordinator = self.rng.random_range(0..REPLICAS);
        let outcome = match self.rng.random_range(0..10) {
            _ if phase == Phase::Load => Outcome::Ok,
            0 => Outcome::Failed,
            1 => Outcome::Unknown,
            _ => Outcome::Ok,
        };
        let base = self.newest(key);
        let (rid, version) = match base {
            Some(base) if kind != OpKind::Create => (base.rid, base.version + 1),
            Some(_) | None => (self.next_rid(), 1),
        };
        let (action, seen) = if kind == OpKind::Delete {
            (Action::Delete(id), Seen::Absent(Some(id)))
        } else {
            (Action::Write(id), Seen::Value(id))
        };
        let takes_effect = match outcome {
            Outcome::Ok => self.bug != Some(Bug::LostAcknowledged) || phase == Phase::Load,
            Outcome::Failed => self.bug == Some(Bug::FailedApplied),
            Outcome::Unknown => self.rng.random_bool(0.5),
        };
        if takes_effect {
            // The coordinator and its right neighbour are a majority.
            for replica in [coordinator, (coordinator + 1) % REPLICAS] {
                self.replicas[replica].insert(key, Cell { seen, version, rid });
            }
        }
        let acknowledged = outcome == Outcome::Ok;
        let step = Step {
            rid: acknowledged.then(|| format!("#1:{rid}")),
            version: acknowledged.then_some(version),
            ..Step::new(key, action)
        };
        self.record(kind, phase, None, coordinator, step, outcome);
    }

    fn next_rid(&mut self) -> u64 {
        self.rids += 1;
        // Taken up again for the second key and every one after.
        if self.bug == Some(Bug::DuplicateRid) && self.rids == 2 {
            self.rids = 1;
        }
        self.rids
    }

    fn next_id(&self) -> u64 {
        self.operations.len() as u64 + 1
    }

    fn record(
        &mut self,
        kind: OpKind,
        phase: Phase,
        level: Option<ReadLevel>,
        node: usize,
        step: Step,
        outcome: Outcome,
    ) {
        // Intervals overlap those of several neighbours, except across the heal.
        self.now += if phase == Phase::Measure { 100_000 } else { 2_000_000 };
        let sent = self.now - self.rng.random_range(0..300_000);
        let done = self.now + self.rng.random_range(0..300_000);
        let id = self.next_id();
        self.operations.push(Operation {
            id,
            process: id,
            session: id,
            kind,
            phase,
            node: u32::try_from(node).unwrap(),
            level,
            steps: vec![step],
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
        let history = Toy::run(None, seed);
        let report = check_all(&history, &Options::default());
        assert_eq!(report.verdict, Verdict::Valid, "seed {seed}\n{report}");
        let applicable = Checker::ALL.into_iter().filter(|checker| checker.applies(&history));
        assert_eq!(report.judgements.len(), applicable.count());
    }
}

/// FEATURES: H8
#[test]
fn every_planted_bug_is_caught_by_its_checker() {
    for (bug, checker) in [
        (Bug::LostAcknowledged, Checker::AcknowledgedDurable),
        (Bug::StaleMajorityRead, Checker::Linearizable),
        (Bug::FailedApplied, Checker::FailedWriteVisible),
        (Bug::DuplicateRid, Checker::RidUnique),
        (Bug::Divergence, Checker::Convergence),
    ] {
        for seed in 0..SEEDS {
            let report = check_all(&Toy::run(Some(bug), seed), &Options::default());
            let judgement = report.of(checker).unwrap();
            assert_eq!(judgement.verdict, Verdict::Violated, "{bug:?}, seed {seed}\n{report}");
            let example = judgement.counterexample.as_ref().unwrap();
            assert!((1..=4).contains(&example.operations.len()), "{example}");
        }
    }
}

/// A bug that only one promise speaks of must not set off the other checkers.
///
/// FEATURES: H8
#[test]
fn the_bugs_of_one_promise_set_off_one_checker() {
    for (bug, checker) in
        [(Bug::StaleMajorityRead, Checker::Linearizable), (Bug::Divergence, Checker::Convergence)]
    {
        for seed in 0..SEEDS {
            let report = check_all(&Toy::run(Some(bug), seed), &Options::default());
            for judgement in &report.judgements {
                let violated = judgement.verdict == Verdict::Violated;
                assert_eq!(violated, judgement.checker == checker, "seed {seed}\n{judgement}");
            }
        }
    }
}

/// FEATURES: H11
#[test]
fn the_same_history_gives_the_same_report_to_the_byte_also_through_a_file() {
    for bug in [None, Some(Bug::LostAcknowledged), Some(Bug::Divergence)] {
        let history = Toy::run(bug, 7);
        let mut writer = Writer::new(Vec::new(), &history.header).unwrap();
        for operation in &history.operations {
            writer.invoke(operation).unwrap();
            writer.complete(operation).unwrap();
        }
        let file = writer.finish().unwrap();
        let again = read(file.as_slice()).unwrap().history;
        let report =
            |history| serde_json::to_string(&check_all(history, &Options::default())).unwrap();
        assert_eq!(report(&history), report(&again));
        assert_eq!(report(&history), report(&history));
    }
}
