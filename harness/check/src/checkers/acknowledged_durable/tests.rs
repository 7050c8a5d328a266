//! Hand-made histories for `acknowledged_durable`, good and bad.

use super::*;
use crate::sample::Sample;
use crate::verdict::Verdict::{Unknown, Valid, Violated};

const CHECKER: Checker = Checker::AcknowledgedDurable;

fn judged(sample: &mut Sample, last: Seen) -> Judgement {
    sample.saw(0, last).phase(Phase::Final).ok(100, 101);
    sample.judge(CHECKER)
}

#[test]
fn the_last_acknowledged_write_is_valid() {
    let mut sample = Sample::new();
    sample.create(0).ok(1, 2);
    let last = sample.write(0).ok(3, 4);
    let judgement = judged(&mut sample, Seen::Value(last));
    assert_eq!(judgement.verdict, Valid);
    assert_eq!(judgement.counts["acked-present"], 1);
    assert_eq!(judgement.counts["acked-overwritten"], 1);
}

#[test]
fn an_older_value_is_a_lost_write() {
    let mut sample = Sample::new();
    let old = sample.create(0).ok(1, 2);
    sample.write(0).ok(3, 4);
    let judgement = judged(&mut sample, Seen::Value(old));
    assert_eq!((judgement.verdict, judgement.counts["acked-lost"]), (Violated, 1));
    let example = judgement.counterexample.unwrap();
    assert_eq!(
        example.lines.last().unwrap(),
        "Impossible because value 1 was there when op 1 returned; op 2 was sent after that and \
         acknowledged, and final read 3, sent later still, shows value 1 again: op 2 is lost"
    );
}

#[test]
fn concurrent_writes_may_end_either_way() {
    for (winner, sent) in [(1, 2), (2, 2), (1, 5), (2, 5)] {
        let mut sample = Sample::new();
        sample.write(0).ok(1, 5);
        sample.write(0).ok(sent, 6);
        assert_eq!(judged(&mut sample, Seen::Value(winner)).verdict, Valid);
    }
}

#[test]
fn an_unknown_write_may_win_at_any_time_unless_it_was_seen_before() {
    let mut sample = Sample::new();
    let pending = sample.write(0).unknown(1);
    sample.write(0).ok(10, 11);
    let judgement = judged(&mut sample, Seen::Value(pending));
    assert_eq!((judgement.verdict, judgement.counts["unknown-present"]), (Valid, 1));

    let mut sample = Sample::new();
    let pending = sample.write(0).unknown(1);
    sample.read(0, pending).ok(5, 6);
    sample.write(0).ok(10, 11);
    assert_eq!(judged(&mut sample, Seen::Value(pending)).verdict, Violated);
}

#[test]
fn an_unknown_write_may_be_absent() {
    let mut sample = Sample::new();
    let last = sample.write(0).ok(1, 2);
    sample.write(0).unknown(3);
    let judgement = judged(&mut sample, Seen::Value(last));
    assert_eq!((judgement.verdict, judgement.counts["unknown-absent"]), (Valid, 1));
}

#[test]
fn a_record_that_vanished_is_violated() {
    let mut sample = Sample::new();
    sample.create(0).ok(1, 2);
    let judgement = judged(&mut sample, Seen::Absent(None));
    assert_eq!((judgement.verdict, judgement.counts["acked-lost"]), (Violated, 1));
}

#[test]
fn absence_after_a_delete_is_valid_and_a_value_resurrected_is_not() {
    for last in [Seen::Absent(None), Seen::Absent(Some(2)), Seen::Value(1)] {
        let mut sample = Sample::new();
        sample.create(0).ok(1, 2);
        sample.delete(0).ok(3, 4);
        let judgement = judged(&mut sample, last);
        let resurrected = last == Seen::Value(1);
        assert_eq!(judgement.verdict, if resurrected { Violated } else { Valid });
        assert_eq!(judgement.counts["resurrected"], u64::from(resurrected));
    }
}

#[test]
fn a_write_after_the_delete_that_vanished_is_violated() {
    let mut sample = Sample::new();
    sample.create(0).ok(1, 2);
    sample.delete(0).ok(3, 4);
    sample.create(0).ok(5, 6);
    assert_eq!(judged(&mut sample, Seen::Absent(None)).verdict, Violated);
    sample.delete(0).unknown(1);
    assert_eq!(judged(&mut sample, Seen::Absent(None)).verdict, Valid);
}

#[test]
fn failed_and_phantom_values_are_violated() {
    let mut sample = Sample::new();
    sample.create(0).ok(1, 2);
    let failed = sample.write(0).failed(3, 4);
    let judgement = judged(&mut sample, Seen::Value(failed));
    assert_eq!((judgement.verdict, judgement.counts["failed-visible"]), (Violated, 1));
    let judgement = judged(&mut sample, Seen::Value(99));
    assert_eq!((judgement.verdict, judgement.counts["phantom"]), (Violated, 1));
}

#[test]
fn a_key_that_was_not_read_finally_is_unknown() {
    let mut sample = Sample::new();
    let last = sample.create(0).ok(1, 2);
    sample.read(0, last).ok(3, 4);
    sample.read(0, last).phase(Phase::Final).failed(100, 101);
    assert_eq!(sample.judge(CHECKER).verdict, Unknown);
}

#[test]
fn nothing_acknowledged_is_unknown() {
    let mut sample = Sample::new();
    sample.create(0).unknown(1);
    assert_eq!(judged(&mut sample, Seen::Absent(None)).verdict, Unknown);
}

#[test]
fn a_write_that_the_client_gave_up_on_may_still_win() {
    let mut sample = Sample::new();
    let late = sample.write(0).timed_out(1, 2);
    sample.write(0).ok(10, 11);
    assert_eq!(judged(&mut sample, Seen::Value(late)).verdict, Valid);
}
