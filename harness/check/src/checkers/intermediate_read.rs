//! No operation reads a value that the transaction which wrote it replaced before its end: the
//! intermediate read G1b of Adya, "Weak Consistency", MIT 1999, section 4.2; DESIGN.md 5, local
//! reads are judged for uncommitted values. A transaction may read its own.

use super::Checker;
use crate::budget::{Budget, OutOfBudget};
use crate::describe::{counterexample, seen};
use crate::index::Index;
use crate::verdict::{Counts, Judgement};

/// Judges every acknowledged read.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    let mut counts = Counts::of(&["reads", "intermediate-reads"]);
    let mut first = None;
    for read in index.reads() {
        budget.spend(1)?;
        counts.add("reads");
        let Some(at) = index.source(read.step.key, read.seen) else { continue };
        let write = &index.writes[at];
        if !write.last && write.op != read.op {
            counts.add("intermediate-reads");
            first.get_or_insert((read, write.op));
        }
    }
    let checker = Checker::IntermediateRead;
    let reads = counts.get("reads");
    if let Some((read, writer)) = first {
        let bad = counts.get("intermediate-reads");
        let said = format!("{bad} of {reads} reads saw inside a transaction");
        let id = index.operation(writer).id;
        let told = seen(read.seen);
        let reason = format!(
            "op {id} wrote {told} to key {} and replaced it in the same transaction: an \
             intermediate read (G1b)",
            read.step.key
        );
        let operations = vec![read.op, writer];
        let example = counterexample(index, operations, Some(read.step.key), reason);
        return Ok(Judgement::violated(checker, counts, said, example));
    }
    if reads == 0 {
        let said = "no acknowledged read to judge".to_owned();
        return Ok(Judgement::unknown(checker, counts, said));
    }
    Ok(Judgement::valid(checker, counts, "no read saw inside a transaction".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Action, Seen};
    use crate::sample::Sample;
    use crate::verdict::Verdict::{Unknown, Valid, Violated};

    const CHECKER: Checker = Checker::IntermediateRead;

    #[test]
    fn the_last_value_of_a_transaction_may_be_seen_and_the_others_only_by_itself() {
        let own = Action::Read(Some(Seen::Value(10)));
        let steps = vec![(0, Action::Write(10)), (0, own), (0, Action::Write(1))];
        let mut sample = Sample::new();
        sample.transaction(steps).ok(1, 2);
        assert_eq!(sample.judge(CHECKER).verdict, Unknown);
        sample.read(0, 1).ok(3, 4);
        assert_eq!(sample.judge(CHECKER).verdict, Valid);
        sample.local(1, 0, Seen::Value(10)).ok(3, 4);
        let judgement = sample.judge(CHECKER);
        assert_eq!((judgement.verdict, judgement.counts["intermediate-reads"]), (Violated, 1));
    }

    #[test]
    fn a_value_deleted_in_its_own_transaction_is_intermediate() {
        let mut sample = Sample::new();
        sample.transaction(vec![(0, Action::Write(9)), (0, Action::Delete(1))]).unknown(1);
        sample.read(0, 9).ok(3, 4);
        assert_eq!(sample.judge(CHECKER).verdict, Violated);
    }
}
