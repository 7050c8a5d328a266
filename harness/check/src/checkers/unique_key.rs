//! A key of a UNIQUE index belongs to at most one live record, cluster-wide; of concurrent inserts
//! of one key at most one wins (FEATURES L6; PROTOCOL.md 3.11, "unique key at most one live
//! record").
//!
//! A record certainly holds its key from when its write was acknowledged, or seen by a majority
//! read, until something that may have replaced that write was sent; a majority read that still
//! sees the write makes the span longer. Two records whose spans for one key overlap both held it.
//! Beside that, no snapshot, and no server's final reads, may show two holders.
//! No false alarm. What only a search over all orders would find is not found: a quarter of the
//! violations in tiny histories full of overlaps (`tests/exhaustive_transactions.rs`).

use std::collections::BTreeMap;

use super::Checker;
use crate::budget::{Budget, OutOfBudget};
use crate::describe::{counterexample, millis};
use crate::history::{Content, Nanos, OpKind, Outcome, ReadLevel, Seen};
use crate::index::{Index, Write};
use crate::states::states;
use crate::verdict::{Counts, Judgement};

/// Judges every write that claims a key, and every state in which several records are seen.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    let mut counts = Counts::of(&["claims", "claims-refused", "states", "keys-owned-twice"]);
    let mut first: Option<Double> = None;
    let mut holds = holds(index, &mut counts, budget)?;
    holds.sort_unstable_by_key(|hold| (hold.unique, hold.from, hold.op));
    budget.spend(holds.len())?;
    for of_key in holds.chunk_by(|a, b| a.unique == b.unique) {
        if let Some((one, other)) = overlap(of_key) {
            counts.add("keys-owned-twice");
            first.get_or_insert_with(|| Double::by_time(one, other));
        }
    }
    for (_, seen) in states(index, budget)? {
        counts.add("states");
        let mut owners: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
        for (key, (op, content)) in seen {
            budget.spend(1)?;
            let Some(unique) = unique_of(content) else { continue };
            if let Some(&(other, by)) = owners.get(&unique) {
                counts.add("keys-owned-twice");
                first.get_or_insert_with(|| Double::in_state(unique, [other, key], [by, op]));
            }
            owners.insert(unique, (key, op));
        }
    }
    let checker = Checker::UniqueKey;
    if let Some(Double { operations, reason }) = first {
        let said = format!("{} keys had two owners", counts.get("keys-owned-twice"));
        let example = counterexample(index, operations, None, reason);
        return Ok(Judgement::violated(checker, counts, said, example));
    }
    if counts.get("claims") == 0 {
        let said = "no acknowledged write of a unique key".to_owned();
        return Ok(Judgement::unknown(checker, counts, said));
    }
    Ok(Judgement::valid(checker, counts, "no key had two owners".to_owned()))
}

/// Two owners of one key, and how it shows.
#[derive(Debug)]
struct Double {
    operations: Vec<usize>,
    reason: String,
}

impl Double {
    fn by_time(one: &Hold, other: &Hold) -> Self {
        let reason = format!(
            "unique key {} belonged to record {} from {} on, and to record {} from {} on, while \
             nothing that may have released it had been sent",
            one.unique,
            one.record,
            millis(one.from),
            other.record,
            millis(other.from)
        );
        let mut operations = vec![one.op, other.op];
        operations.extend([one.by, other.by]);
        Self { operations, reason }
    }

    fn in_state(unique: u64, records: [u64; 2], operations: [usize; 2]) -> Self {
        let [one, other] = records;
        let reason =
            format!("unique key {unique} belongs to record {one} and to record {other} at once");
        Self { operations: operations.to_vec(), reason }
    }
}

/// A span in which a record certainly held a key.
#[derive(Debug, Clone, Copy)]
struct Hold {
    unique: u64,
    record: u64,
    /// When the claim was known to be there, and by which operation.
    from: Nanos,
    by: usize,
    /// When it may have been gone.
    until: Nanos,
    /// The operation that claimed it.
    op: usize,
}

/// The key that `step` shows its record to hold.
fn unique_of(content: Option<&Content>) -> Option<u64> {
    match content? {
        Content::Unique(unique) => Some(*unique),
        Content::Balance(_) | Content::Edge(_) | Content::Vertex(_) => None,
    }
}

fn holds(
    index: &Index<'_>,
    counts: &mut Counts,
    budget: &mut Budget,
) -> Result<Vec<Hold>, OutOfBudget> {
    let seen = majority_sightings(index, budget)?;
    let mut holds = Vec::new();
    for writes in index.writes.chunk_by(|a, b| a.key == b.key) {
        budget.spend(writes.len())?;
        let rivals = Rivals::of(index, writes);
        for write in writes.iter().filter(|write| write.last && !write.tombstone) {
            let Some(unique) = claimed(index, write) else { continue };
            let operation = index.operation(write.op);
            match operation.outcome {
                Outcome::Ok => counts.add("claims"),
                Outcome::Failed => {
                    counts.add("claims-refused");
                    continue;
                }
                Outcome::Unknown => {}
            }
            let own = operation.done.filter(|_| operation.is_ok()).map(|done| (done, write.op));
            let sighting = seen.get(&(write.key, write.value));
            let known = own.into_iter().chain(sighting.map(|s| s.first)).min();
            let Some((from, by)) = known else { continue };
            let gone = rivals.first_sent(unique, operation.sent);
            let until = gone.max(sighting.map_or(0, |s| s.last));
            if from < until {
                let (record, op) = (write.key, write.op);
                holds.push(Hold { unique, record, from, by, until, op });
            }
        }
    }
    Ok(holds)
}

/// The key that `write` claims for its record; `None` for a delete, too.
fn claimed(index: &Index<'_>, write: &Write) -> Option<u64> {
    let value = Seen::Value(write.value);
    (!write.tombstone).then(|| unique_of(index.content(write.key, value))).flatten()
}

/// When two writes were sent, and what each leaves as its record's key.
type FirstTwo = [Option<(Nanos, Option<u64>)>; 2];

/// The writes of one record that may have happened, by what they leave as its key.
struct Rivals {
    /// When each returned for certain, sorted.
    ends: Vec<Nanos>,
    /// From that position on: the two that were sent first and leave different keys.
    first: Vec<FirstTwo>,
}

impl Rivals {
    fn of(index: &Index<'_>, writes: &[Write]) -> Self {
        let happened =
            writes.iter().filter(|write| write.last && index.outcome(write) != Outcome::Failed);
        let mut spans: Vec<(Nanos, Nanos, Option<u64>)> = happened
            .map(|write| {
                let operation = index.operation(write.op);
                let end = operation.done.filter(|_| operation.is_ok()).unwrap_or(Nanos::MAX);
                (end, operation.sent, claimed(index, write))
            })
            .collect();
        spans.sort_unstable();
        let mut best = [None, None];
        let mut first: Vec<_> = spans
            .iter()
            .rev()
            .map(|&(_, sent, unique)| {
                best = Self::better(best, (sent, unique));
                best
            })
            .collect();
        first.reverse();
        Self { ends: spans.into_iter().map(|(end, ..)| end).collect(), first }
    }

    fn better(best: FirstTwo, new: (Nanos, Option<u64>)) -> FirstTwo {
        match best {
            [None, _] => [Some(new), None],
            [Some(one), other] if one.1 == new.1 => [Some(one.min(new)), other],
            [Some(one), _] if new.0 < one.0 => [Some(new), Some(one)],
            [Some(one), Some(other)] if other.0 <= new.0 => [Some(one), Some(other)],
            [Some(one), _] => [Some(one), Some(new)],
        }
    }

    /// When the first write that leaves another key than `unique`, and had not returned at `since`,
    /// was sent.
    fn first_sent(&self, unique: u64, since: Nanos) -> Nanos {
        let at = self.ends.partition_point(|&end| end < since);
        let first = self.first.get(at).into_iter().flatten().flatten();
        let mut rivals = first.filter(|(_, leaves)| *leaves != Some(unique));
        rivals.next().map_or(Nanos::MAX, |(sent, _)| *sent)
    }
}

/// Majority reads of one value.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    /// The earliest return, and whose.
    first: (Nanos, usize),
    /// The latest invocation.
    last: Nanos,
}

fn majority_sightings(
    index: &Index<'_>,
    budget: &mut Budget,
) -> Result<BTreeMap<(u64, u64), Sighting>, OutOfBudget> {
    let mut seen: BTreeMap<(u64, u64), Sighting> = BTreeMap::new();
    for read in index.reads() {
        budget.spend(1)?;
        let operation = index.operation(read.op);
        let single = operation.kind != OpKind::Transaction;
        if let (true, Seen::Value(value), Some(done)) =
            (single && operation.is_ok_at(ReadLevel::Majority), read.seen, operation.done)
        {
            let new = Sighting { first: (done, read.op), last: operation.sent };
            let known = seen.entry((read.step.key, value)).or_insert(new);
            known.first = known.first.min(new.first);
            known.last = known.last.max(new.last);
        }
    }
    Ok(seen)
}

/// Two holds of different records that overlap. `holds` are of one key, sorted by `from`.
fn overlap(holds: &[Hold]) -> Option<(&Hold, &Hold)> {
    // The hold that lasts longest so far, and the one of another record that does.
    let mut longest: [Option<&Hold>; 2] = [None, None];
    for hold in holds {
        let rival = longest.into_iter().flatten().find(|other| other.record != hold.record);
        if let Some(rival) = rival.filter(|rival| hold.from < rival.until) {
            return Some((rival, hold));
        }
        match longest {
            [Some(best), second] if best.record == hold.record => {
                longest = [Some(if hold.until > best.until { hold } else { best }), second];
            }
            [Some(best), _] if hold.until > best.until => longest = [Some(hold), Some(best)],
            [Some(_), Some(second)] if hold.until <= second.until => {}
            [Some(best), _] => longest = [Some(best), Some(hold)],
            [None, _] => longest = [Some(hold), None],
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Action, Phase};
    use crate::sample::Sample;
    use crate::verdict::Verdict::{Unknown, Valid, Violated};

    const CHECKER: Checker = Checker::UniqueKey;
    const SEVEN: Content = Content::Unique(7);

    #[test]
    fn one_of_two_concurrent_inserts_wins() {
        let mut sample = Sample::new();
        sample.create(0).content(SEVEN).ok(1, 5);
        sample.create(1).content(SEVEN).failed(2, 4);
        sample.create(2).content(SEVEN).unknown(2);
        sample.create(3).content(Content::Unique(8)).ok(2, 3);
        let judgement = sample.judge(CHECKER);
        assert_eq!((judgement.verdict, judgement.counts["claims-refused"]), (Valid, 1));
    }

    #[test]
    fn two_acknowledged_inserts_are_violated() {
        let mut sample = Sample::new();
        sample.create(0).content(SEVEN).ok(1, 5);
        sample.create(1).content(SEVEN).ok(2, 4);
        let judgement = sample.judge(CHECKER);
        assert_eq!(judgement.verdict, Violated);
        let lines = judgement.counterexample.unwrap().lines;
        assert_eq!(
            lines[2],
            "Impossible because unique key 7 belonged to record 1 from 4.000 ms on, and to record \
             0 from 5.000 ms on, while nothing that may have released it had been sent"
        );
    }

    #[test]
    fn a_key_that_was_released_may_be_claimed_again() {
        let mut sample = Sample::new();
        sample.create(0).content(SEVEN).ok(1, 2);
        sample.delete(0).unknown(3);
        sample.create(1).content(SEVEN).ok(4, 5);
        sample.write(1).content(Content::Unique(8)).ok(6, 7);
        sample.create(2).content(SEVEN).ok(8, 9);
        assert_eq!(sample.judge(CHECKER).verdict, Valid);
    }

    #[test]
    fn a_majority_read_proves_that_the_release_never_was() {
        let mut sample = Sample::new();
        let first = sample.create(0).content(SEVEN).ok(1, 2);
        sample.delete(0).unknown(3);
        sample.create(1).content(SEVEN).ok(4, 5);
        sample.read(0, first).ok(8, 9);
        assert_eq!(sample.judge(CHECKER).verdict, Violated);
    }

    #[test]
    fn an_unanswered_insert_that_is_seen_counts() {
        let mut sample = Sample::new();
        let first = sample.create(0).content(SEVEN).unknown(1);
        sample.create(1).content(SEVEN).ok(2, 3);
        assert_eq!(sample.judge(CHECKER).verdict, Valid);
        sample.read(0, first).ok(5, 6);
        assert_eq!(sample.judge(CHECKER).verdict, Violated);
    }

    #[test]
    fn two_owners_on_one_server_after_heal_are_violated() {
        let mut sample = Sample::new();
        let first = sample.create(0).content(SEVEN).unknown(1);
        let second = sample.create(1).content(SEVEN).unknown(1);
        sample.create(2).content(Content::Unique(8)).ok(1, 2);
        for (node, key, value) in [(0, 0, first), (1, 1, second)] {
            sample.local(node, key, Seen::Value(value)).phase(Phase::Final).ok(50, 51);
        }
        assert_eq!(sample.judge(CHECKER).verdict, Valid, "different servers");
        sample.local(0, 1, Seen::Value(second)).phase(Phase::Final).ok(50, 51);
        assert_eq!(sample.judge(CHECKER).verdict, Violated);
    }

    #[test]
    fn two_owners_in_one_snapshot_are_violated() {
        let mut sample = Sample::new();
        let steps = (0..2).map(|key| (key, Action::Read(Some(Seen::Value(9))))).collect();
        sample.transaction(steps).contents([SEVEN, SEVEN]).snapshot().ok(1, 2);
        assert_eq!(sample.judge(CHECKER).verdict, Violated);
    }

    #[test]
    fn without_claims_it_is_unknown() {
        let mut sample = Sample::new();
        sample.create(0).ok(1, 2);
        assert_eq!(sample.judge(CHECKER).verdict, Unknown);
    }
}
