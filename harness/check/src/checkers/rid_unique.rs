//! No record id is ever allocated twice: to two logical keys, or to two creates (PROTOCOL.md 3.9
//! and 3.11, "RID never allocated twice"; the original breaks it after a split, ORIENTDB.md).
//! Judged from acknowledgements and from what acknowledged reads observed; contents are not
//! compared here.

use std::collections::BTreeMap;

use super::Checker;
use crate::budget::{Budget, OutOfBudget};
use crate::describe::counterexample;
use crate::history::{Action, OpKind};
use crate::index::Index;
use crate::verdict::{Counts, Judgement};

/// Judges every rid that an acknowledged operation named.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    let mut rids: BTreeMap<&str, Owner> = BTreeMap::new();
    let mut counts = Counts::of(&["rids", "creates", "duplicates"]);
    let mut first: Option<(&str, Owner, Owner)> = None;
    let operations = index.history.operations.iter().enumerate();
    for (op, operation) in operations.filter(|(_, operation)| operation.is_ok()) {
        for step in &operation.steps {
            budget.spend(1)?;
            let Some(rid) = step.rid.as_deref() else {
                continue;
            };
            let creates =
                operation.kind == OpKind::Create && matches!(step.action, Action::Write(_));
            if creates {
                counts.add("creates");
            }
            let owner = Owner { key: step.key, op, creates };
            let Some(known) = rids.get_mut(rid) else {
                rids.insert(rid, owner);
                continue;
            };
            if known.key != owner.key || (known.creates && owner.creates) {
                counts.add("duplicates");
                first.get_or_insert((rid, *known, owner));
            } else if creates {
                *known = owner;
            }
        }
    }
    counts.set("rids", rids.len() as u64);
    let checker = Checker::RidUnique;
    if let Some((rid, one, other)) = first {
        let said = format!("rid {rid} was allocated twice");
        let reason = told(index, rid, one, other);
        let example = counterexample(index, vec![one.op, other.op], None, reason);
        return Ok(Judgement::violated(checker, counts, said, example));
    }
    if rids.is_empty() {
        let said = "no acknowledged operation named a rid".to_owned();
        return Ok(Judgement::unknown(checker, counts, said));
    }
    Ok(Judgement::valid(checker, counts, "every rid belongs to one record".to_owned()))
}

/// Whose a rid is, and the operation that shows it.
#[derive(Debug, Clone, Copy)]
struct Owner {
    key: u64,
    op: usize,
    creates: bool,
}

fn told(index: &Index<'_>, rid: &str, one: Owner, other: Owner) -> String {
    let (one_id, other_id) = (index.operation(one.op).id, index.operation(other.op).id);
    if one.key == other.key {
        return format!("creates {one_id} and {other_id} were both given rid {rid}");
    }
    format!(
        "rid {rid} is that of key {} for op {one_id} and that of key {} for op {other_id}; a rid \
         is one record for ever",
        one.key, other.key
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Seen;
    use crate::sample::Sample;
    use crate::verdict::Verdict::{Unknown, Valid, Violated};

    const CHECKER: Checker = Checker::RidUnique;

    #[test]
    fn one_rid_a_record_is_valid() {
        let mut sample = Sample::new();
        let value = sample.create(0).rid("#1:0").ok(1, 2);
        sample.create(1).rid("#1:1").ok(1, 2);
        sample.read(0, value).rid("#1:0").ok(3, 4);
        sample.delete(0).rid("#1:0").ok(5, 6);
        sample.create(0).rid("#1:2").ok(7, 8);
        assert_eq!(sample.judge(CHECKER).verdict, Valid);
    }

    #[test]
    fn two_acknowledged_creates_with_one_rid_are_violated() {
        let mut sample = Sample::new();
        sample.create(0).rid("#1:0").ok(1, 2);
        sample.create(1).rid("#1:0").ok(1, 2);
        let judgement = sample.judge(CHECKER);
        assert_eq!(judgement.verdict, Violated);
        assert_eq!(judgement.counterexample.unwrap().operations.len(), 2);
    }

    #[test]
    fn a_rid_used_again_for_the_same_key_is_violated() {
        let mut sample = Sample::new();
        sample.create(0).rid("#1:0").ok(1, 2);
        sample.delete(0).rid("#1:0").ok(3, 4);
        sample.create(0).rid("#1:0").ok(5, 6);
        assert_eq!(sample.judge(CHECKER).verdict, Violated);
    }

    #[test]
    fn a_rid_observed_under_another_key_is_violated() {
        let mut sample = Sample::new();
        let value = sample.create(0).unknown(1);
        sample.local(1, 0, Seen::Value(value)).rid("#1:0").ok(3, 4);
        sample.create(1).rid("#1:0").ok(5, 6);
        assert_eq!(sample.judge(CHECKER).verdict, Violated);
    }

    #[test]
    fn failed_creates_own_nothing() {
        let mut sample = Sample::new();
        sample.create(0).rid("#1:0").failed(1, 2);
        assert_eq!(sample.judge(CHECKER).verdict, Unknown);
        sample.create(1).rid("#1:0").ok(1, 2);
        assert_eq!(sample.judge(CHECKER).verdict, Valid);
    }
}
