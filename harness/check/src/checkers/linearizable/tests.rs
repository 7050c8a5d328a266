//! Hand-made histories for `linearizable`, good and bad. The comparison with an exhaustive search
//! is in `tests/exhaustive.rs`.

use super::*;
use crate::history::Action;
use crate::sample::Sample;
use crate::verdict::Verdict::{self, Unknown, Valid, Violated};

const CHECKER: Checker = Checker::Linearizable;

fn verdict(sample: &Sample) -> Verdict {
    sample.judge(CHECKER).verdict
}

#[test]
fn reads_of_the_last_write_are_valid() {
    let mut sample = Sample::new();
    sample.saw(0, Seen::Absent(None)).ok(0, 1);
    let first = sample.create(0).ok(2, 3);
    sample.read(0, first).ok(4, 5);
    let second = sample.write(0).ok(6, 9);
    sample.read(0, first).ok(7, 8);
    sample.read(0, second).ok(10, 11);
    let judgement = sample.judge(CHECKER);
    assert_eq!(judgement.verdict, Valid);
    assert_eq!((judgement.counts["reads"], judgement.counts["writes"]), (4, 2));
}

#[test]
fn a_stale_read_is_violated_and_told_in_three_operations() {
    let mut sample = Sample::new();
    let old = sample.create(0).ok(1, 2);
    sample.write(0).ok(3, 4);
    sample.read(0, old).ok(5, 6);
    let judgement = sample.judge(CHECKER);
    assert_eq!(judgement.verdict, Violated);
    let example = judgement.counterexample.unwrap();
    assert_eq!(example.operations.len(), 3);
    assert_eq!(
        example.lines.last().unwrap(),
        "Impossible because value 1 (written by op 1) must come before value 2 (written by op 2), \
         for op 1 had returned before op 2 was sent; and value 2 (written by op 2) must come \
         before value 1 (written by op 1), for op 2 had returned before op 3 was sent. Each was \
         written once, so no order explains what was seen"
    );
}

#[test]
fn intervals_are_closed() {
    let mut sample = Sample::new();
    let old = sample.create(0).ok(1, 2);
    sample.write(0).ok(3, 4);
    sample.read(0, old).ok(4, 5);
    assert_eq!(verdict(&sample), Valid, "a read sent as the write returns is concurrent");
}

#[test]
fn reads_that_go_back_and_forth_are_violated() {
    let mut sample = Sample::new();
    let old = sample.create(0).ok(0, 1);
    let new = sample.write(0).unknown(2);
    sample.read(0, new).ok(3, 4);
    assert_eq!(verdict(&sample), Valid);
    sample.read(0, old).ok(5, 6);
    assert_eq!(verdict(&sample), Violated);
}

#[test]
fn an_unread_unknown_write_forbids_nothing() {
    let mut sample = Sample::new();
    let old = sample.create(0).ok(0, 1);
    sample.write(0).unknown(2);
    sample.read(0, old).ok(50, 51);
    assert_eq!(verdict(&sample), Valid);
}

#[test]
fn values_that_cannot_be_there_are_violated() {
    let failed = |sample: &mut Sample| sample.write(0).failed(1, 2);
    let premature = |sample: &mut Sample| sample.write(0).ok(90, 91);
    let phantom = |_: &mut Sample| 77;
    let makers: [fn(&mut Sample) -> u64; 3] = [failed, premature, phantom];
    for make in makers {
        let mut sample = Sample::new();
        let value = make(&mut sample);
        sample.read(0, value).ok(5, 6);
        assert_eq!(verdict(&sample), Violated);
    }
}

#[test]
fn keys_are_judged_apart() {
    let mut sample = Sample::new();
    sample.create(0).ok(1, 2);
    let other = sample.create(1).ok(3, 4);
    sample.saw(1, Seen::Absent(None)).ok(1, 2);
    sample.read(1, other).ok(5, 6);
    assert_eq!(verdict(&sample), Valid);
    sample.saw(1, Seen::Absent(None)).ok(7, 8);
    let judgement = sample.judge(CHECKER);
    assert_eq!(
        judgement.explanation,
        "1 of 2 keys are not linearizable; smallest counter-example on key 1"
    );
}

#[test]
fn local_reads_and_reads_without_answer_are_not_judged() {
    let mut sample = Sample::new();
    let old = sample.create(0).ok(1, 2);
    let new = sample.write(0).ok(3, 4);
    sample.read(0, new).ok(5, 6);
    sample.local(1, 0, Seen::Value(old)).ok(7, 8);
    sample.read(0, old).failed(7, 8);
    sample.read(0, old).unknown(7);
    assert_eq!(verdict(&sample), Valid);
}

#[test]
fn nothing_to_judge_is_unknown() {
    let mut sample = Sample::new();
    sample.create(0).ok(1, 2);
    assert_eq!(verdict(&sample), Unknown);
}

#[test]
fn a_tombstone_is_a_value_like_any_other() {
    let mut sample = Sample::new();
    let value = sample.create(0).ok(1, 2);
    let gone = sample.delete(0).ok(3, 4);
    sample.saw(0, Seen::Absent(Some(gone))).ok(5, 6);
    assert_eq!(verdict(&sample), Valid);
    sample.read(0, value).ok(7, 8);
    assert_eq!(verdict(&sample), Violated, "resurrected");
}

#[test]
fn an_unnamed_absence_may_be_any_delete_but_not_none() {
    let mut sample = Sample::new();
    sample.create(0).ok(1, 2);
    sample.delete(0).ok(3, 4);
    sample.saw(0, Seen::Absent(None)).ok(5, 6);
    let value = sample.create(0).ok(7, 8);
    sample.read(0, value).ok(9, 10);
    assert_eq!(verdict(&sample), Valid);
    sample.saw(0, Seen::Absent(None)).ok(11, 12);
    let judgement = sample.judge(CHECKER);
    assert_eq!(judgement.verdict, Violated);
    let last = judgement.counterexample.unwrap().lines.pop().unwrap();
    assert!(last.contains("nor after any of its 1 deletes"), "{last}");
}

#[test]
fn an_unnamed_absence_may_be_a_delete_that_never_returned() {
    let mut sample = Sample::new();
    sample.create(0).ok(1, 2);
    sample.delete(0).unknown(3);
    sample.saw(0, Seen::Absent(None)).ok(50, 51);
    assert_eq!(verdict(&sample), Valid);
}

#[test]
fn a_transaction_reads_at_its_own_time_and_not_its_own_writes() {
    let read = |value| Action::Read(Some(Seen::Value(value)));
    let mut sample = Sample::new();
    let old = sample.create(0).ok(1, 2);
    let steps = vec![(0, read(old)), (0, Action::Write(2)), (0, read(2))];
    sample.transaction(steps).ok(3, 4);
    sample.read(0, 2).ok(5, 6);
    assert_eq!(verdict(&sample), Valid);
    sample.transaction(vec![(0, read(old)), (1, Action::Write(4))]).ok(7, 8);
    assert_eq!(verdict(&sample), Violated);
}

#[test]
fn a_write_that_the_client_gave_up_on_may_still_happen() {
    let mut sample = Sample::new();
    let late = sample.write(0).timed_out(1, 2);
    let now = sample.write(0).ok(10, 11);
    sample.read(0, now).ok(12, 13);
    sample.read(0, late).ok(20, 21);
    assert_eq!(verdict(&sample), Valid);
}
