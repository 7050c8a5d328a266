//! No acknowledged operation reads what a failed one wrote: the aborted read G1a of Adya, "Weak
//! Consistency", MIT 1999, section 4.2; PROTOCOL.md 3.11, "definitely failed write never visible".
//! Values that nobody wrote, or wrote too late, are for `failed_write_visible`; those that the
//! writer itself replaced are for `intermediate_read`.

use super::Checker;
use super::dirty::Dirty;
use crate::budget::{Budget, OutOfBudget};
use crate::history::Outcome;
use crate::index::Index;
use crate::verdict::Judgement;

const ABORTED: Dirty = Dirty {
    checker: Checker::AbortedRead,
    count: "aborted-reads",
    did: "saw a failed write",
    is_dirty: |index, _, write| index.outcome(write) == Outcome::Failed,
    reason: |id, told, key| {
        format!(
            "{told} of key {key} was written by op {id} alone, which failed: an aborted read (G1a)"
        )
    },
};

/// Judges every acknowledged read.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    ABORTED.judge(index, budget)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Action, Seen};
    use crate::sample::Sample;
    use crate::verdict::Verdict::{Unknown, Valid, Violated};

    const CHECKER: Checker = Checker::AbortedRead;

    #[test]
    fn reads_of_what_may_have_committed_are_valid() {
        let mut sample = Sample::new();
        let first = sample.create(0).ok(1, 2);
        let second = sample.write(0).unknown(3);
        sample.write(0).failed(3, 4);
        sample.read(0, first).ok(5, 6);
        sample.local(1, 0, Seen::Value(second)).ok(7, 8);
        assert_eq!(sample.judge(CHECKER).verdict, Valid);
    }

    #[test]
    fn one_step_of_a_failed_transaction_seen_in_another_is_violated() {
        let mut sample = Sample::new();
        let steps = vec![(0, Action::Write(1)), (1, Action::Write(1))];
        let aborted = sample.transaction(steps).failed(1, 2);
        let saw = |value| Action::Read(Some(value));
        let steps = vec![(0, saw(Seen::Absent(None))), (1, saw(Seen::Value(aborted)))];
        sample.transaction(steps).ok(3, 4);
        let judgement = sample.judge(CHECKER);
        assert_eq!((judgement.verdict, judgement.counts["aborted-reads"]), (Violated, 1));
        let lines = judgement.counterexample.unwrap().lines;
        assert_eq!(
            lines.last().unwrap(),
            "Impossible because value 1 of key 1 was written by op 1 alone, which failed: an \
             aborted read (G1a)"
        );
    }

    #[test]
    fn a_reader_that_failed_itself_proves_nothing() {
        let mut sample = Sample::new();
        let aborted = sample.write(0).failed(1, 2);
        sample.read(0, aborted).failed(3, 4);
        assert_eq!(sample.judge(CHECKER).verdict, Unknown);
    }
}
