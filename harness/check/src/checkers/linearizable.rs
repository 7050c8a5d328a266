//! Per-record linearizability of majority reads and all writes (PROTOCOL.md 3.8). A history over
//! independent objects is linearizable if and only if that of each object is: Herlihy & Wing,
//! "Linearizability", TOPLAS 12(3), 1990, theorem 1. The test of one record is in `zones.rs`, that
//! of the versions which replies named in `versions.rs`.
//!
//! What goes in: intervals are closed, `[sent, done]`. Writes of unknown outcome never return; one
//! that nobody read may always come last, and its zone forbids nothing. Failed writes and reads
//! that were not acknowledged are left out. Every record begins absent. Local reads promise less
//! and are not judged here, nor are reads inside a transaction that follow its own write.
//!
//! *Absent without a tombstone id* may be the state before the first create or that of any delete
//! of the key. If no delete was sent in time it is the former. Otherwise each such read must be
//! possible, alone, for at least one of the candidates. This never calls a legal history violated;
//! it misses violations that only two such reads together would show.

use std::collections::{BTreeMap, BTreeSet};

use super::Checker;
use super::versions;
use super::zones::{Zone, Zones};
use crate::budget::{Budget, OutOfBudget};
use crate::describe::{counterexample, seen};
use crate::history::{Nanos, Outcome, ReadLevel, Seen};
use crate::index::{Index, Read, Write};
use crate::verdict::{Counts, Judgement};

/// The number of the initial state among the zones of a key; writes have their position.
const INITIAL: usize = usize::MAX;

/// Judges every key of the history.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    let mut findings = Findings::default();
    let mut counts = Counts::of(&["keys", "reads", "writes", "absences-ambiguous"]);
    let clusters = Clusters::new(index, budget, &mut counts, &mut findings)?;
    clusters.test(index, budget, &mut counts, &mut findings)?;
    versions::test(index, budget, &mut findings)?;
    let checker = Checker::Linearizable;
    if let Some(best) = findings.best {
        let said = format!(
            "{} of {} keys are not linearizable; smallest counter-example on key {}",
            findings.keys.len(),
            counts.get("keys").max(findings.keys.len() as u64),
            best.key
        );
        let example = counterexample(index, best.operations, Some(best.key), best.reason);
        return Ok(Judgement::violated(checker, counts, said, example));
    }
    if counts.get("reads") == 0 || counts.get("writes") == 0 {
        let said = "no majority read or no acknowledged write to judge".to_owned();
        return Ok(Judgement::unknown(checker, counts, said));
    }
    let said = "majority reads and writes of every key have a legal order".to_owned();
    Ok(Judgement::valid(checker, counts, said))
}

/// The keys that are violated, and the smallest proof so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    keys: BTreeSet<u64>,
    best: Option<Finding>,
}

#[derive(Debug)]
struct Finding {
    key: u64,
    operations: Vec<usize>,
    reason: String,
}

impl Findings {
    /// Notes that `operations` on `key` contradict each other. `reason` is only asked for when
    /// this is the smallest contradiction so far; it completes "impossible because".
    pub(super) fn add(
        &mut self,
        key: u64,
        mut operations: Vec<usize>,
        reason: impl FnOnce() -> String,
    ) {
        self.keys.insert(key);
        operations.sort_unstable();
        operations.dedup();
        let smaller = |best: &Finding| operations.len() < best.operations.len();
        if self.best.as_ref().is_none_or(smaller) {
            self.best = Some(Finding { key, operations, reason: reason() });
        }
    }
}

/// The zones of all keys.
#[derive(Debug)]
struct Clusters {
    /// One for each of [`Index::writes`].
    zones: Vec<Zone>,
    /// Initial states that somebody has read, by key.
    initial: BTreeMap<u64, Zone>,
    /// What an absence without tombstone id may stand for, besides the initial state.
    deletes: Deletes,
    /// Reads `(op, sent, done)` of an absence that may be more than one, by key.
    ambiguous: BTreeMap<u64, Vec<(usize, Nanos, Nanos)>>,
}

impl Clusters {
    fn new(
        index: &Index<'_>,
        budget: &mut Budget,
        counts: &mut Counts,
        findings: &mut Findings,
    ) -> Result<Self, OutOfBudget> {
        budget.spend(index.writes.len())?;
        let zone_of = |write: &Write| {
            let operation = index.operation(write.op);
            let done = operation.done.filter(|_| operation.is_ok());
            Zone::of_write(write.op, operation.sent, done)
        };
        let mut clusters = Self {
            zones: index.writes.iter().map(zone_of).collect(),
            initial: BTreeMap::new(),
            deletes: deletes(index),
            ambiguous: BTreeMap::new(),
        };
        let mut reads: u64 = 0;
        for read in index.reads() {
            budget.spend(1)?;
            let operation = index.operation(read.op);
            if operation.level == Some(ReadLevel::Majority)
                && let Some(done) = operation.done
            {
                reads += 1;
                clusters.add_read(index, &read, done, findings);
            }
        }
        counts.set("reads", reads);
        Ok(clusters)
    }

    /// Puts a read into the cluster of what it saw, or finds that it saw what cannot be.
    fn add_read(
        &mut self,
        index: &Index<'_>,
        read: &Read<'_>,
        done: Nanos,
        findings: &mut Findings,
    ) {
        let (key, sent) = (read.step.key, index.operation(read.op).sent);
        let told = || seen(read.seen);
        let Some(at) = index.source(key, read.seen) else {
            if read.seen != Seen::Absent(None) {
                let reason = || format!("no operation ever wrote {} to key {key}", told());
                findings.add(key, vec![read.op], reason);
            } else if self.deletes.get(&key).is_some_and(|of_key| of_key[0].0 <= done) {
                self.ambiguous.entry(key).or_default().push((read.op, sent, done));
            } else {
                let initial = self.initial.entry(key).or_insert(Zone::INITIAL);
                *initial = initial.with_read(read.op, sent, done);
            }
            return;
        };
        let write = &index.writes[at];
        let writer = index.operation(write.op);
        let reason = if writer.outcome == Outcome::Failed {
            "definitely failed, yet it was read"
        } else if !write.last {
            "overwrote it in the same transaction, so that nobody may see it"
        } else if done < writer.sent {
            "was sent only after the read had returned"
        } else {
            self.zones[at] = self.zones[at].with_read(read.op, sent, done);
            return;
        };
        findings.add(key, vec![read.op, write.op], || {
            format!("op {}, the only one that wrote {}, {reason}", writer.id, told())
        });
    }

    /// The zone test for each key, then that of its ambiguous absences.
    fn test(
        &self,
        index: &Index<'_>,
        budget: &mut Budget,
        counts: &mut Counts,
        findings: &mut Findings,
    ) -> Result<(), OutOfBudget> {
        let (mut keys, mut writes, mut from) = (0, 0, 0);
        for of_key in index.writes.chunk_by(|a, b| a.key == b.key) {
            budget.spend(of_key.len())?;
            let key = of_key[0].key;
            let numbers = from..from + of_key.len();
            from += of_key.len();
            let acked = |write: &&Write| index.outcome(write) == Outcome::Ok;
            writes += of_key.iter().filter(acked).count();
            keys += 1;
            let happened = |at: &usize| {
                let write = &index.writes[*at];
                write.last && index.outcome(write) != Outcome::Failed
            };
            let judged = numbers.filter(happened);
            let mut zones: Vec<(Zone, usize)> = judged.map(|at| (self.zones[at], at)).collect();
            zones.extend(self.initial.get(&key).map(|&zone| (zone, INITIAL)));
            let zones = Zones::new(zones);
            if let Some(pair) = zones.contradiction() {
                let operations = pair.iter().flat_map(|(zone, _)| zone.ends()).collect();
                findings.add(key, operations, || told_contradiction(index, &pair));
                continue;
            }
            for &read in self.ambiguous.get(&key).into_iter().flatten() {
                counts.add("absences-ambiguous");
                if self.is_impossible(budget, &zones, key, read)? {
                    findings.add(key, vec![read.0], || told_ambiguous(index, key, read.0));
                    break;
                }
            }
        }
        let unwritten = self.initial.keys().filter(|&&key| index.writes_of(key).1.is_empty());
        counts.set("keys", keys + unwritten.count() as u64);
        counts.set("writes", writes as u64);
        Ok(())
    }

    /// True if no candidate could have been what the ambiguous `read` of `key` saw.
    fn is_impossible(
        &self,
        budget: &mut Budget,
        zones: &Zones,
        key: u64,
        (op, sent, done): (usize, Nanos, Nanos),
    ) -> Result<bool, OutOfBudget> {
        let deletes = self.deletes.get(&key).map_or(&[][..], Vec::as_slice);
        let in_time = deletes.partition_point(|&(deleted, _)| deleted <= done);
        // The latest is the likeliest, so that a legal read costs a few steps.
        for &(_, at) in deletes[..in_time].iter().rev() {
            budget.spend(1)?;
            let zone = self.zones[at].with_read(op, sent, done);
            if zones.contradicts(&zone, at).is_none() {
                return Ok(false);
            }
        }
        let initial = self.initial.get(&key).copied().unwrap_or(Zone::INITIAL);
        let zone = initial.with_read(op, sent, done);
        Ok(zones.contradicts(&zone, INITIAL).is_some())
    }
}

/// The deletes of each key that may have happened, as (sent, position in [`Index::writes`]), in
/// the order in which they were sent.
type Deletes = BTreeMap<u64, Vec<(Nanos, usize)>>;

fn deletes(index: &Index<'_>) -> Deletes {
    let mut deletes = Deletes::new();
    for (at, write) in index.writes.iter().enumerate() {
        if write.tombstone && write.last && index.outcome(write) != Outcome::Failed {
            let sent = index.operation(write.op).sent;
            deletes.entry(write.key).or_default().push((sent, at));
        }
    }
    deletes.values_mut().for_each(|of_key| of_key.sort_unstable());
    deletes
}

fn told_state(index: &Index<'_>, number: usize) -> String {
    match index.writes.get(number) {
        None => "the absence at the beginning".to_owned(),
        Some(write) if write.tombstone => format!("the absence after delete {}", write.value),
        Some(write) => {
            format!("value {} (written by op {})", write.value, index.operation(write.op).id)
        }
    }
}

fn told_contradiction(index: &Index<'_>, pair: &[(Zone, usize); 2]) -> String {
    let [(a, number_a), (b, number_b)] = pair;
    let (state_a, state_b) = (told_state(index, *number_a), told_state(index, *number_b));
    let order = |first: &Zone, then: &Zone| match (first.lo_op, then.hi_op) {
        (Some(first), Some(then)) => format!(
            "op {} had returned before op {} was sent",
            index.operation(first).id,
            index.operation(then).id
        ),
        (None, _) | (_, None) => "every record begins absent".to_owned(),
    };
    format!(
        "{state_a} must come before {state_b}, for {}; and {state_b} must come before {state_a}, \
         for {}. Each was written once, so no order explains what was seen",
        order(a, b),
        order(b, a)
    )
}

fn told_ambiguous(index: &Index<'_>, key: u64, op: usize) -> String {
    let done = index.operation(op).done;
    let deletes = index.writes_of(key).1.iter().filter(|write| {
        let writer = index.operation(write.op);
        write.tombstone && writer.outcome != Outcome::Failed && Some(writer.sent) <= done
    });
    format!(
        "key {key} was absent neither at the beginning nor after any of its {} deletes at a time \
         that this read may stand for: writes or reads that had returned before it was sent rule \
         out every one of them",
        deletes.count()
    )
}

#[cfg(test)]
mod tests;
