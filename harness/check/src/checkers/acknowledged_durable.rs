//! No acknowledged write is lost: after heal, the majority read of each key in the final phase
//! must show a write that may legally be the last. The classes are those of HARNESS.md 4.7.4
//! (Jepsen's set checker has the same for sets); the promise is PROTOCOL.md 3.11, first invariant.
//!
//! A write X is lost if it was acknowledged before the final read was sent and the final value was
//! there before X was sent: its write was acknowledged by then, or a majority read had seen it.
//! A later or concurrent write may have replaced X, and one of unknown outcome may do so at any
//! time. Reads of X are not held against the final value: they could be stale themselves, which is
//! for `linearizable` to say. Atomicity of transactions is not judged here.

use std::collections::{BTreeMap, BTreeSet};

use super::Checker;
use crate::budget::{Budget, OutOfBudget};
use crate::describe::{counterexample, seen};
use crate::history::{Nanos, Outcome, Phase, ReadLevel, Seen};
use crate::index::{Index, Read, Write};
use crate::verdict::{Counterexample, Counts, Judgement};

/// Judges every key that was written.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    let mut counts = Counts::of(&[
        "keys",
        "keys-not-read",
        "acked-present",
        "acked-lost",
        "acked-overwritten",
        "failed-visible",
        "unknown-present",
        "unknown-absent",
        "resurrected",
        "phantom",
        "absent",
    ]);
    budget.spend(index.history.operations.len())?;
    let finals = final_reads(index);
    let earliest = earliest_seen(index, &finals, budget)?;
    let mut first: Option<(Counterexample, u64)> = None;
    for writes in index.writes.chunk_by(|a, b| a.key == b.key) {
        budget.spend(writes.len())?;
        let key = writes[0].key;
        let acked = writes.iter().any(|write| index.outcome(write) == Outcome::Ok && write.last);
        let Some(read) = finals.get(&key) else {
            if acked {
                counts.add("keys-not-read");
            }
            continue;
        };
        counts.add("keys");
        let fate = Fate::of(index, writes, read, &earliest);
        fate.count(index, writes, &mut counts);
        if first.is_none() && acked {
            first = fate.proof(index, read).map(|proof| (proof, key));
        }
    }
    Ok(conclude(counts, first))
}

fn conclude(counts: Counts, first: Option<(Counterexample, u64)>) -> Judgement {
    let checker = Checker::AcknowledgedDurable;
    let judged = counts.get("keys");
    if let Some((example, key)) = first {
        let bad: u64 = ["acked-lost", "resurrected", "failed-visible", "phantom"]
            .map(|name| counts.get(name))
            .iter()
            .sum();
        let said = format!("{bad} of {judged} keys end with what may not be last; first key {key}");
        return Judgement::violated(checker, counts, said, example);
    }
    if counts.get("keys-not-read") > 0 {
        let missing = counts.get("keys-not-read");
        let said = format!("{missing} written keys have no acknowledged final majority read");
        return Judgement::unknown(checker, counts, said);
    }
    if counts.get("acked-present") + counts.get("acked-overwritten") == 0 {
        let said = "no acknowledged write to judge".to_owned();
        return Judgement::unknown(checker, counts, said);
    }
    let said = "every key ends with a write that may be the last".to_owned();
    Judgement::valid(checker, counts, said)
}

type Finals<'h> = BTreeMap<u64, Read<'h>>;

/// The last acknowledged majority read of the final phase, by key.
fn final_reads<'h>(index: &Index<'h>) -> Finals<'h> {
    let mut finals = Finals::new();
    for read in index.reads() {
        let operation = index.operation(read.op);
        if operation.phase == Phase::Final && operation.is_ok_at(ReadLevel::Majority) {
            let last = finals.entry(read.step.key).or_insert(read);
            if index.operation(last.op).sent <= operation.sent {
                *last = read;
            }
        }
    }
    finals
}

/// For each write that a final read shows: when it was first known to be there, and by which
/// operation. Missing if nothing before the final read proves it.
fn earliest_seen(
    index: &Index<'_>,
    finals: &Finals<'_>,
    budget: &mut Budget,
) -> Result<BTreeMap<usize, (Nanos, usize)>, OutOfBudget> {
    let shown = |read: &Read<'_>| index.source(read.step.key, read.seen);
    let wanted: BTreeSet<usize> = finals.values().filter_map(shown).collect();
    let mut earliest: BTreeMap<usize, (Nanos, usize)> = BTreeMap::new();
    let mut note = |at: usize, op: usize| {
        if let Some(done) = index.operation(op).done {
            let known = earliest.entry(at).or_insert((done, op));
            *known = (*known).min((done, op));
        }
    };
    for &at in &wanted {
        if index.outcome(&index.writes[at]) == Outcome::Ok {
            note(at, index.writes[at].op);
        }
    }
    for read in index.reads() {
        budget.spend(1)?;
        if index.operation(read.op).is_ok_at(ReadLevel::Majority)
            && let Some(at) = shown(&read)
            && wanted.contains(&at)
        {
            note(at, read.op);
        }
    }
    Ok(earliest)
}

/// What became of one key.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// The final value may be the last: that write, or an absence that no single write explains.
    Legal(Option<Write>),
    /// `lost` should have replaced what `since` showed, and did not. `since` is `None` for the
    /// absence at the beginning.
    Lost { lost: Write, since: Option<usize> },
    /// The final value was written by an operation that may not be seen.
    Failed(Write),
    /// Nobody wrote the final value.
    Phantom,
}

impl Fate {
    fn of(
        index: &Index<'_>,
        writes: &[Write],
        read: &Read<'_>,
        earliest: &BTreeMap<usize, (Nanos, usize)>,
    ) -> Self {
        let final_sent = index.operation(read.op).sent;
        if read.seen == Seen::Absent(None) {
            return Self::of_absence(index, writes, final_sent);
        }
        let Some(at) = index.source(read.step.key, read.seen) else {
            return Self::Phantom;
        };
        let write = index.writes[at];
        if index.outcome(&write) == Outcome::Failed || !write.last {
            return Self::Failed(write);
        }
        let Some(&(since, by)) = earliest.get(&at) else {
            return Self::Legal(Some(write));
        };
        match last_acked(index, writes, Some(since), final_sent) {
            Some(lost) => Self::Lost { lost, since: Some(by) },
            None => Self::Legal(Some(write)),
        }
    }

    /// An absence without tombstone id: legal if the beginning or any delete explains it.
    fn of_absence(index: &Index<'_>, writes: &[Write], final_sent: Nanos) -> Self {
        let deletes = writes.iter().filter(|write| write.tombstone && write.last);
        let deletes = deletes.filter(|write| index.outcome(write) != Outcome::Failed);
        // The delete that was acknowledged last is the best explanation; a pending one always is.
        let mut best: Option<(Nanos, usize)> = None;
        for delete in deletes {
            let operation = index.operation(delete.op);
            match operation.done.filter(|_| operation.is_ok()) {
                None => return Self::Legal(None),
                Some(done) => best = best.max(Some((done, delete.op))),
            }
        }
        match last_acked(index, writes, best.map(|(done, _)| done), final_sent) {
            Some(lost) => Self::Lost { lost, since: best.map(|(_, op)| op) },
            None => Self::Legal(None),
        }
    }

    fn count(self, index: &Index<'_>, writes: &[Write], counts: &mut Counts) {
        counts.add(match self {
            Self::Legal(None) => "absent",
            Self::Legal(Some(write)) if index.outcome(&write) == Outcome::Ok => "acked-present",
            Self::Legal(Some(_)) => "unknown-present",
            Self::Lost { lost, .. } if lost.tombstone => "resurrected",
            Self::Lost { .. } => "acked-lost",
            Self::Failed(_) => "failed-visible",
            Self::Phantom => "phantom",
        });
        let Self::Legal(shown) = self else { return };
        for write in writes.iter().filter(|&write| write.last && Some(*write) != shown) {
            match index.outcome(write) {
                Outcome::Ok => counts.add("acked-overwritten"),
                Outcome::Unknown => counts.add("unknown-absent"),
                Outcome::Failed => {}
            }
        }
    }

    /// Why this may not be; `None` if it may.
    fn proof(self, index: &Index<'_>, read: &Read<'_>) -> Option<Counterexample> {
        let final_id = index.operation(read.op).id;
        let told = seen(read.seen);
        let (operations, reason) = match self {
            Self::Legal(_) => return None,
            Self::Phantom => {
                (vec![read.op], format!("nobody ever wrote {told}, which the final read shows"))
            }
            Self::Failed(write) => (
                vec![read.op, write.op],
                format!(
                    "{told} was written by op {} alone, which failed",
                    index.operation(write.op).id
                ),
            ),
            Self::Lost { lost, since } => {
                let before = match since {
                    Some(op) => format!("was there when op {} returned", index.operation(op).id),
                    None => "is how every record begins".to_owned(),
                };
                let lost_id = index.operation(lost.op).id;
                let reason = format!(
                    "{told} {before}; op {lost_id} was sent after that and acknowledged, and final \
                     read {final_id}, sent later still, shows {told} again: op {lost_id} is lost"
                );
                let mut operations = vec![read.op, lost.op];
                operations.extend(since);
                (operations, reason)
            }
        };
        Some(counterexample(index, operations, Some(read.step.key), reason))
    }
}

/// Of the writes acknowledged before `until` and sent after `since`, the one sent last.
fn last_acked(
    index: &Index<'_>,
    writes: &[Write],
    since: Option<Nanos>,
    until: Nanos,
) -> Option<Write> {
    let candidates = writes.iter().filter(|write| {
        let operation = index.operation(write.op);
        let in_time = operation.done.is_some_and(|done| done < until);
        let after = since.is_none_or(|since| since < operation.sent);
        write.last && operation.is_ok() && in_time && after
    });
    candidates.max_by_key(|write| (index.operation(write.op).sent, write.op)).copied()
}

#[cfg(test)]
mod tests;
