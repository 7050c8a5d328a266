//! No read of any level sees a value whose write definitely failed, that the writing transaction
//! itself replaced, that was not yet sent, or that nobody ever wrote: the aborted read G1a and the
//! intermediate read G1b of Adya, "Weak Consistency", MIT 1999, section 4.2; PROTOCOL.md 3.11.
//! Whether a read is *recent* enough is not judged here.

use super::Checker;
use crate::budget::{Budget, OutOfBudget};
use crate::describe::{counterexample, seen};
use crate::history::{Outcome, Seen};
use crate::index::{Index, Read};
use crate::verdict::{Counts, Judgement};

/// Judges every acknowledged read.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    let mut counts = Counts::of(&["reads", "failed", "intermediate", "premature", "phantom"]);
    let mut first: Option<(Read<'_>, Fault)> = None;
    for read in index.reads() {
        budget.spend(1)?;
        counts.add("reads");
        let Some(fault) = fault(index, &read) else {
            continue;
        };
        counts.add(fault.name());
        first.get_or_insert((read, fault));
    }
    let checker = Checker::FailedWriteVisible;
    if let Some((read, fault)) = first {
        let bad: u64 = ["failed", "intermediate", "premature", "phantom"]
            .map(|name| counts.get(name))
            .iter()
            .sum();
        let said = format!("{bad} of {} reads saw what no read may see", counts.get("reads"));
        let (operations, reason) = proof(index, &read, fault);
        let example = counterexample(index, operations, Some(read.step.key), reason);
        return Ok(Judgement::violated(checker, counts, said, example));
    }
    if counts.get("reads") == 0 {
        let said = "no acknowledged read to judge".to_owned();
        return Ok(Judgement::unknown(checker, counts, said));
    }
    let said = "every read saw a value that a write may have left".to_owned();
    Ok(Judgement::valid(checker, counts, said))
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Failed(usize),
    Intermediate(usize),
    Premature(usize),
    Phantom,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::Intermediate(_) => "intermediate",
            Self::Premature(_) => "premature",
            Self::Phantom => "phantom",
        }
    }
}

fn fault(index: &Index<'_>, read: &Read<'_>) -> Option<Fault> {
    let Some(at) = index.source(read.step.key, read.seen) else {
        return (read.seen != Seen::Absent(None)).then_some(Fault::Phantom);
    };
    let write = &index.writes[at];
    let writer = index.operation(write.op);
    if writer.outcome == Outcome::Failed {
        return Some(Fault::Failed(write.op));
    }
    if !write.last {
        return Some(Fault::Intermediate(write.op));
    }
    let premature = index.operation(read.op).done.is_some_and(|done| done < writer.sent);
    premature.then_some(Fault::Premature(write.op))
}

fn proof(index: &Index<'_>, read: &Read<'_>, fault: Fault) -> (Vec<usize>, String) {
    let key = read.step.key;
    let told = seen(read.seen);
    let (writer, why) = match fault {
        Fault::Phantom => {
            return (vec![read.op], format!("no operation ever wrote {told} to key {key}"));
        }
        Fault::Failed(writer) => (writer, "its client was told that it definitely failed"),
        Fault::Intermediate(writer) => (writer, "the same transaction replaced it before its end"),
        Fault::Premature(writer) => (writer, "it was sent only after the read had returned"),
    };
    let id = index.operation(writer).id;
    (vec![read.op, writer], format!("{told} of key {key} was written by op {id} alone, and {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Action;
    use crate::sample::Sample;
    use crate::verdict::Verdict::{Unknown, Valid, Violated};

    const CHECKER: Checker = Checker::FailedWriteVisible;

    #[test]
    fn reads_of_acknowledged_and_unknown_writes_are_valid() {
        let mut sample = Sample::new();
        let first = sample.create(0).ok(1, 2);
        let second = sample.write(0).unknown(3);
        let gone = sample.delete(0).ok(4, 5);
        sample.read(0, first).ok(6, 7);
        sample.local(1, 0, Seen::Value(second)).ok(6, 7);
        sample.local(1, 0, Seen::Absent(Some(gone))).ok(6, 7);
        sample.saw(1, Seen::Absent(None)).ok(6, 7);
        assert_eq!(sample.judge(CHECKER).verdict, Valid);
    }

    #[test]
    fn a_local_read_of_a_failed_write_is_violated() {
        let mut sample = Sample::new();
        let write = sample.write(0).failed(1, 2);
        sample.local(2, 0, Seen::Value(write)).ok(3, 4);
        let judgement = sample.judge(CHECKER);
        assert_eq!(judgement.verdict, Violated);
        let lines = judgement.counterexample.unwrap().lines;
        assert_eq!(
            lines,
            [
                "op 1 (process 1, session 0) at node a, sent 1.000 ms, failed after 1.000 ms at \
                 2.000 ms: write of value 1 to key 0",
                "op 2 (process 2, session 0) at node c, sent 3.000 ms, ok after 1.000 ms at 4.000 \
                 ms: local read of key 0 saw value 1",
                "Impossible because value 1 of key 0 was written by op 1 alone, and its client \
                 was told that it definitely failed",
            ]
        );
    }

    #[test]
    fn a_value_that_nobody_wrote_to_the_key_is_violated() {
        let mut sample = Sample::new();
        let write = sample.write(0).ok(1, 2);
        sample.read(1, write).ok(3, 4);
        let judgement = sample.judge(CHECKER);
        assert_eq!((judgement.verdict, judgement.counts["phantom"]), (Violated, 1));
    }

    #[test]
    fn a_tombstone_that_is_no_delete_is_violated() {
        let mut sample = Sample::new();
        let write = sample.write(0).ok(1, 2);
        sample.saw(0, Seen::Absent(Some(write))).ok(3, 4);
        assert_eq!(sample.judge(CHECKER).verdict, Violated);
    }

    #[test]
    fn a_value_seen_before_it_was_sent_is_violated() {
        let mut sample = Sample::new();
        sample.read(0, 2).ok(1, 2);
        sample.write(0).ok(3, 4);
        assert_eq!(sample.judge(CHECKER).counts["premature"], 1);
    }

    #[test]
    fn an_intermediate_value_of_a_transaction_is_violated_but_not_for_itself() {
        let own = Action::Read(Some(Seen::Value(10)));
        let steps =
            vec![(0, Action::Write(10)), (0, own), (0, Action::Write(1)), (1, Action::Write(1))];
        let mut sample = Sample::new();
        sample.transaction(steps).ok(1, 2);
        sample.read(0, 1).ok(3, 4);
        assert_eq!(sample.judge(CHECKER).verdict, Valid);
        sample.read(0, 10).ok(3, 4);
        assert_eq!(sample.judge(CHECKER).counts["intermediate"], 1);
    }

    #[test]
    fn reads_that_were_not_acknowledged_prove_nothing() {
        let mut sample = Sample::new();
        sample.read(0, 9).failed(1, 2);
        sample.read(0, 9).unknown(1);
        assert_eq!(sample.judge(CHECKER).verdict, Unknown);
    }
}
