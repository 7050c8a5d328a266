//! The zone test against an exhaustive search after Wing & Gong, "Testing and Verifying Concurrent
//! Objects", JPDC 17, 1993: on random small histories both must always say the same.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeSet;

use quorate_check::history::*;
use quorate_check::{Options, Verdict, check_all};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Histories per comparison; each test below makes one comparison.
const HISTORIES: u64 = 30_000;

const KEYS: u64 = 2;

/// True if the operations on `key` have a legal order. Tries all of them.
fn is_legal(history: &History, key: u64) -> bool {
    let judged: Vec<&Operation> = history
        .operations
        .iter()
        .filter(|operation| operation.steps[0].key == key)
        .filter(|operation| match operation.outcome {
            Outcome::Ok => true,
            Outcome::Failed => false,
            Outcome::Unknown => operation.steps[0].is_write(),
        })
        .collect();
    search(&judged, 0, Seen::Absent(None), &mut BTreeSet::new())
}

/// `done` is the set of operations already in the order, as bits. The beginning is `Absent(None)`.
fn search(
    judged: &[&Operation],
    done: u32,
    state: Seen,
    visited: &mut BTreeSet<(u32, Seen)>,
) -> bool {
    let open = |at: &usize| done & (1 << at) == 0;
    let must = |at: usize| judged[at].outcome == Outcome::Ok;
    if !(0..judged.len()).filter(open).any(must) {
        return true;
    }
    if !visited.insert((done, state)) {
        return false;
    }
    let returned = |at: usize| {
        if must(at) { judged[at].done.unwrap() } else { Nanos::MAX }
    };
    let first_return = (0..judged.len()).filter(open).map(returned).min().unwrap();
    (0..judged.len()).filter(open).any(|at| {
        let next = match judged[at].steps[0].action {
            Action::Write(value) => Some(Seen::Value(value)),
            Action::Delete(tombstone) => Some(Seen::Absent(Some(tombstone))),
            Action::Read(Some(Seen::Absent(None))) => {
                matches!(state, Seen::Absent(_)).then_some(state)
            }
            Action::Read(seen) => (seen == Some(state)).then_some(state),
        };
        judged[at].sent <= first_return
            && next.is_some_and(|next| search(judged, done | 1 << at, next, visited))
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Absences {
    /// Every absence after a delete names its tombstone.
    Named,
    /// Any absence may come without a name.
    Unnamed,
}

/// Up to thirteen operations in a short time, so that many overlap and many times are equal. Each
/// sees what was there at its own instant, or sometimes anything.
fn random(rng: &mut ChaCha8Rng, absences: Absences) -> History {
    let mut operations = Vec::new();
    let mut written: Vec<Seen> = vec![Seen::Absent(None)];
    let mut state = [Seen::Absent(None); KEYS as usize];
    let chaos = *[0.0, 0.3, 1.0].get(rng.random_range(0..3)).unwrap();
    for id in 1..=rng.random_range(3..14_u64) {
        let key = rng.random_range(0..KEYS);
        let at = 2 * id + 6;
        let (sent, done) = (at - rng.random_range(0..7), at + rng.random_range(0..7));
        let outcome = match rng.random_range(0..8) {
            0 => Outcome::Failed,
            1 => Outcome::Unknown,
            _ => Outcome::Ok,
        };
        let state = &mut state[usize::try_from(key).unwrap()];
        let happens = match outcome {
            Outcome::Ok => !rng.random_bool(chaos / 4.0),
            Outcome::Failed => false,
            Outcome::Unknown => rng.random_bool(0.5),
        };
        let action = match rng.random_range(0..10) {
            0 | 1 => Action::Delete(id),
            2..5 => Action::Write(id),
            _ if rng.random_bool(chaos) => {
                Action::Read(Some(written[rng.random_range(0..written.len())]))
            }
            _ => Action::Read(Some(*state)),
        };
        let wrote = match action {
            Action::Write(value) => Some(Seen::Value(value)),
            Action::Delete(tombstone) => Some(Seen::Absent(Some(tombstone))),
            Action::Read(_) => None,
        };
        written.extend(wrote);
        if let (true, Some(wrote)) = (happens, wrote) {
            *state = wrote;
        }
        let unnamed = absences == Absences::Unnamed
            && matches!(action, Action::Read(Some(Seen::Absent(_))))
            && rng.random_bool(0.5);
        let action = if unnamed { Action::Read(Some(Seen::Absent(None))) } else { action };
        operations.push(operation(id, key, action, (sent, done), outcome));
    }
    let deletes = operations.iter().any(|op| matches!(op.steps[0].action, Action::Delete(_)));
    if deletes && absences == Absences::Named {
        // With deletes around, an unnamed absence is not certain to be the one at the beginning.
        let unnamed = Action::Read(Some(Seen::Absent(None)));
        operations.retain(|operation| operation.steps[0].action != unnamed);
    }
    let header = Header::new(vec!["a".to_owned()], KEYS, true);
    History { header, operations }
}

fn operation(
    id: u64,
    key: u64,
    action: Action,
    (sent, done): (Nanos, Nanos),
    outcome: Outcome,
) -> Operation {
    let is_read = matches!(action, Action::Read(_));
    Operation {
        id,
        process: id,
        session: 0,
        kind: if is_read { OpKind::Read } else { OpKind::Update },
        phase: Phase::Measure,
        node: 0,
        level: is_read.then_some(ReadLevel::Majority),
        steps: vec![Step::new(key, action)],
        intended: sent,
        sent,
        // A client that gives up knows when it did, but that says nothing about the write.
        done: (outcome != Outcome::Unknown || id.is_multiple_of(2)).then_some(done),
        outcome,
        code: None,
    }
}

/// How often both said (legal, legal), (violated, violated); how often the checker missed a
/// violation. Panics if it called a legal history violated.
fn compare(seed: u64, absences: Absences) -> (u64, u64, u64) {
    let options = Options::only(["linearizable"]).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut legal, mut violated, mut missed) = (0, 0, 0);
    for number in 0..HISTORIES {
        let history = random(&mut rng, absences);
        let is_legal = (0..KEYS).all(|key| is_legal(&history, key));
        let found = check_all(&history, &options).verdict == Verdict::Violated;
        match (is_legal, found) {
            (true, false) => legal += 1,
            (false, true) => violated += 1,
            (false, false) => missed += 1,
            (true, true) => panic!("false alarm: seed {seed}, history {number}: {history:#?}"),
        }
    }
    (legal, violated, missed)
}

#[test]
fn no_disagreement_when_absences_are_named() {
    let (legal, violated, missed) = compare(1, Absences::Named);
    eprintln!("legal {legal}, violated {violated}, missed {missed}");
    assert_eq!(missed, 0);
    assert!(legal > HISTORIES / 5 && violated > HISTORIES / 5, "{legal} and {violated}");
}

#[test]
fn no_false_alarm_when_absences_are_unnamed() {
    let (legal, violated, missed) = compare(2, Absences::Unnamed);
    eprintln!("legal {legal}, violated {violated}, missed {missed}");
    assert!(missed < HISTORIES / 1000, "the documented gap is small, not {missed}");
    assert!(legal > HISTORIES / 5 && violated > HISTORIES / 5, "{legal} and {violated}");
}

/// The history, healed: a final majority read of each key, of what some write may have left.
fn with_final_reads(rng: &mut ChaCha8Rng, mut history: History) -> History {
    for key in 0..KEYS {
        let of_key = history.operations.iter().filter(|operation| operation.steps[0].key == key);
        let mut left: Vec<Seen> = of_key
            .filter_map(|operation| match operation.steps[0].action {
                Action::Write(value) => Some(Seen::Value(value)),
                Action::Delete(tombstone) if rng.random_bool(0.5) => {
                    Some(Seen::Absent(Some(tombstone)))
                }
                Action::Delete(_) | Action::Read(_) => None,
            })
            .collect();
        left.push(Seen::Absent(None));
        let action = Action::Read(Some(left[rng.random_range(0..left.len())]));
        let mut read = operation(100 + key, key, action, (100, 101), Outcome::Ok);
        read.phase = Phase::Final;
        history.operations.push(read);
    }
    history
}

/// `acknowledged-durable` never calls a legal history violated; and where nobody read anything but
/// at the end, so that nothing but durability is at stake, it finds every violation.
#[test]
fn durability_agrees_with_the_search() {
    let options = Options::only(["acknowledged-durable"]).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (mut legal, mut violated) = (0, 0);
    for number in 0..HISTORIES {
        let mut history = random(&mut rng, Absences::Unnamed);
        let only_writes = rng.random_bool(0.5);
        if only_writes {
            history.operations.retain(|operation| operation.steps[0].is_write());
        }
        let history = with_final_reads(&mut rng, history);
        // Keys without acknowledged write have nothing to lose.
        let acked = |key| {
            history.operations.iter().any(|operation| {
                let step = &operation.steps[0];
                step.key == key && step.is_write() && operation.outcome == Outcome::Ok
            })
        };
        let is_legal = (0..KEYS).filter(|&key| acked(key)).all(|key| is_legal(&history, key));
        let found = check_all(&history, &options).verdict == Verdict::Violated;
        assert!(!(is_legal && found), "false alarm: history {number}: {history:#?}");
        assert!(!only_writes || is_legal || found, "missed: history {number}: {history:#?}");
        legal += u64::from(is_legal);
        violated += u64::from(found);
    }
    eprintln!("legal {legal}, violated {violated}");
    assert!(legal > HISTORIES / 5 && violated > HISTORIES / 5, "{legal} and {violated}");
}
