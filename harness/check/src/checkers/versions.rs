//! Record versions must agree with values and with real time: one content per (rid, version), and
//! a version is its base's plus one (PROTOCOL.md 3.1, 3.11); with versions the order of writes is
//! known, see HARNESS.md 4.3b. Part of `linearizable`, because only majority reads promise it.
//!
//! A record that was deleted and created again may be a new one that counts from the start, so
//! versions are compared only between steps of one rid. Steps without rid are compared only if the
//! key cannot have been created twice. Absences without tombstone id are left out, because a
//! forgotten tombstone reads as version 0. A value under two versions is not held against anybody:
//! a merge (3.10) may raise a version without changing what is stored.

use std::collections::BTreeMap;

use super::linearizable::Findings;
use crate::budget::{Budget, OutOfBudget};
use crate::history::{Action, Nanos, OpKind, Operation, Outcome, ReadLevel, Seen};
use crate::index::Index;

/// A version that an acknowledged operation named.
#[derive(Debug, Clone, Copy)]
struct Named {
    sent: Nanos,
    done: Nanos,
    version: u64,
    seen: Seen,
    is_write: bool,
    op: usize,
}

/// Tests every record for which versions were named.
pub(super) fn test(
    index: &Index<'_>,
    budget: &mut Budget,
    findings: &mut Findings,
) -> Result<(), OutOfBudget> {
    for ((key, rid), mut named) in records(index, budget)? {
        if rid.is_none() && index.may_be_recreated(key) {
            continue;
        }
        budget.spend(named.len())?;
        named.sort_unstable_by_key(|named| (named.version, named.seen, named.op));
        for pair in named.windows(2) {
            if pair[0].version == pair[1].version && pair[0].seen != pair[1].seen {
                findings.add(key, vec![pair[0].op, pair[1].op], || {
                    format!("version {} of one record has two contents", pair[0].version)
                });
            }
        }
        if let Some((first, then)) = out_of_order(&named) {
            findings.add(key, vec![first.op, then.op], || {
                format!(
                    "version {} was there before op {} was sent, which then {} version {}",
                    first.version,
                    index.operation(then.op).id,
                    if then.is_write { "wrote" } else { "read" },
                    then.version
                )
            });
        }
    }
    Ok(())
}

type Records<'h> = BTreeMap<(u64, Option<&'h str>), Vec<Named>>;

fn records<'h>(index: &Index<'h>, budget: &mut Budget) -> Result<Records<'h>, OutOfBudget> {
    let mut records = Records::new();
    for (op, operation) in index.history.operations.iter().enumerate() {
        budget.spend(1)?;
        let (Outcome::Ok, Some(done)) = (operation.outcome, operation.done) else {
            continue;
        };
        for (at, step) in operation.steps.iter().enumerate() {
            let Some(version) = step.version else {
                continue;
            };
            let Some((seen, is_write)) = content(operation, &step.action) else {
                continue;
            };
            let rest = &operation.steps[at + 1..];
            if rest.iter().any(|later| later.key == step.key && later.is_write()) {
                continue; // Replaced inside its own transaction, so the version is not its own.
            }
            let sent = operation.sent;
            let named = Named { sent, done, version, seen, is_write, op };
            records.entry((step.key, step.rid.as_deref())).or_default().push(named);
        }
    }
    Ok(records)
}

/// What the version belongs to, and whether the step wrote it; `None` if it cannot be judged.
fn content(operation: &Operation, action: &Action) -> Option<(Seen, bool)> {
    match *action {
        Action::Write(value) => Some((Seen::Value(value), true)),
        Action::Delete(tombstone) => Some((Seen::Absent(Some(tombstone)), true)),
        Action::Read(None | Some(Seen::Absent(None))) => None,
        // What a transaction reads may be what it has itself not yet committed.
        Action::Read(Some(_)) if operation.kind == OpKind::Transaction => None,
        Action::Read(Some(seen)) => {
            (operation.level == Some(ReadLevel::Majority)).then_some((seen, false))
        }
    }
}

/// Two operations, the first of which returned before the second was sent, whose versions say the
/// opposite.
fn out_of_order(named: &[Named]) -> Option<(Named, Named)> {
    let mut by_done: Vec<&Named> = named.iter().collect();
    by_done.sort_unstable_by_key(|named| (named.done, named.op));
    let mut by_sent: Vec<&Named> = named.iter().collect();
    by_sent.sort_unstable_by_key(|named| (named.sent, named.op));
    let mut returned = by_done.into_iter().peekable();
    let mut highest: Option<&Named> = None;
    for then in by_sent {
        while let Some(first) = returned.next_if(|first| first.done < then.sent) {
            if highest.is_none_or(|highest| first.version > highest.version) {
                highest = Some(first);
            }
        }
        let Some(first) = highest else { continue };
        let stale = if then.is_write {
            then.version <= first.version
        } else {
            then.version < first.version
        };
        if stale {
            return Some((*first, *then));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::Checker;
    use crate::history::Seen;
    use crate::sample::Sample;
    use crate::verdict::Verdict::{self, Valid, Violated};

    fn verdict(sample: &Sample) -> Verdict {
        sample.judge(Checker::Linearizable).verdict
    }

    #[test]
    fn versions_that_grow_with_every_write_are_valid() {
        let mut sample = Sample::new();
        sample.create(0).version(1).ok(1, 2);
        let last = sample.write(0).version(2).ok(3, 4);
        sample.read(0, last).version(2).ok(5, 6);
        assert_eq!(verdict(&sample), Valid);
    }

    #[test]
    fn one_version_with_two_contents_is_violated() {
        let mut sample = Sample::new();
        let one = sample.write(0).version(2).ok(1, 9);
        sample.write(0).version(2).ok(1, 9);
        sample.read(0, one).ok(10, 11);
        let judgement = sample.judge(Checker::Linearizable);
        assert_eq!(judgement.verdict, Violated);
        let lines = judgement.counterexample.unwrap().lines;
        assert_eq!(lines[2], "Impossible because version 2 of one record has two contents");
    }

    #[test]
    fn a_version_that_goes_back_in_time_is_violated() {
        // The values alone would be legal: nobody reads what the first two wrote.
        let mut sample = Sample::new();
        sample.write(0).version(3).ok(1, 2);
        sample.write(0).version(2).ok(3, 4);
        let last = sample.write(0).version(4).ok(5, 6);
        sample.read(0, last).ok(7, 8);
        let judgement = sample.judge(Checker::Linearizable);
        assert_eq!(judgement.verdict, Violated);
        assert_eq!(judgement.counterexample.unwrap().operations.len(), 2);
    }

    #[test]
    fn concurrent_operations_may_return_in_any_order() {
        let mut sample = Sample::new();
        sample.write(0).version(3).ok(1, 5);
        sample.write(0).version(2).ok(5, 6);
        sample.read(0, 1).version(3).ok(6, 7);
        assert_eq!(verdict(&sample), Valid);
    }

    #[test]
    fn a_recreated_record_counts_from_the_start_again() {
        let mut sample = Sample::new();
        sample.create(0).version(1).ok(1, 2);
        sample.delete(0).version(2).ok(3, 4);
        let again = sample.create(0).version(1).ok(5, 6);
        sample.read(0, again).version(1).ok(7, 8);
        assert_eq!(verdict(&sample), Valid);
        sample.write(0).rid("#1:1").version(2).ok(9, 10);
        let back = sample.write(0).rid("#1:1").version(1).ok(11, 12);
        sample.read(0, back).ok(13, 14);
        assert_eq!(verdict(&sample), Violated);
    }

    #[test]
    fn local_reads_and_forgotten_tombstones_prove_nothing() {
        let mut sample = Sample::new();
        let old = sample.create(0).rid("#1:0").version(1).ok(1, 2);
        sample.delete(0).rid("#1:0").version(2).ok(3, 4);
        sample.local(1, 0, Seen::Value(old)).rid("#1:0").version(1).ok(5, 6);
        sample.saw(0, Seen::Absent(None)).rid("#1:0").version(0).ok(7, 8);
        assert_eq!(verdict(&sample), Valid);
    }
}
