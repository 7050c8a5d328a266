//! No operation reads a value that the transaction which wrote it replaced before its end: the
//! intermediate read G1b of Adya, "Weak Consistency", MIT 1999, section 4.2; DESIGN.md 5, local
//! reads are judged for uncommitted values. A transaction may read its own.

use super::Checker;
use super::dirty::Dirty;
use crate::budget::{Budget, OutOfBudget};
use crate::index::Index;
use crate::verdict::Judgement;

const INTERMEDIATE: Dirty = Dirty {
    checker: Checker::IntermediateRead,
    count: "intermediate-reads",
    did: "saw inside a transaction",
    is_dirty: |_, read, write| !write.last && write.op != read.op,
    reason: |id, told, key| {
        format!(
            "op {id} wrote {told} to key {key} and replaced it in the same transaction: an \
             intermediate read (G1b)"
        )
    },
};

/// Judges every acknowledged read.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    INTERMEDIATE.judge(index, budget)
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
