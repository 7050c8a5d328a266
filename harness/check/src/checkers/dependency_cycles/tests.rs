//! Each class of cycle by hand, and what is promised to none.

use super::*;
use crate::history::{Action, Seen};
use crate::sample::Sample;
use crate::verdict::Verdict::{Unknown, Valid, Violated};

const CHECKER: Checker = Checker::DependencyCycles;

fn read(value: u64) -> Action {
    Action::Read(Some(Seen::Value(value)))
}

fn write(value: u64) -> Action {
    Action::Write(value)
}

/// Keys 0 and 1 at version 1, written by operations 1 and 2.
fn sample(serializable: bool) -> Sample {
    let mut sample = Sample::new();
    sample.promise().serializable = serializable;
    sample.create(0).version(1).ok(1, 2);
    sample.create(1).version(1).ok(1, 2);
    sample
}

fn class(sample: &Sample) -> String {
    let judgement = sample.judge(CHECKER);
    assert_eq!(judgement.verdict, Violated, "{judgement}");
    let lines = judgement.counterexample.unwrap().lines;
    lines.last().unwrap().rsplit_once(": ").unwrap().1.to_owned()
}

#[test]
fn transactions_one_after_the_other_are_valid() {
    let mut sample = sample(true);
    let steps = vec![(0, read(1)), (1, read(2)), (0, write(3)), (1, write(3))];
    sample.transaction(steps).versions([1, 1, 2, 2]).ok(3, 4);
    sample.transaction(vec![(0, read(3)), (1, read(3))]).ok(5, 6);
    sample.transaction(vec![(0, read(1)), (1, read(2))]).snapshot().ok(5, 6);
    let judgement = sample.judge(CHECKER);
    assert_eq!((judgement.verdict, judgement.counts["snapshots"]), (Valid, 1));
}

#[test]
fn writes_in_opposite_orders_are_g0() {
    let mut sample = sample(false);
    sample.transaction(vec![(0, write(3)), (1, write(3))]).versions([2, 3]).ok(3, 9);
    sample.transaction(vec![(0, write(4)), (1, write(4))]).versions([3, 2]).ok(3, 9);
    assert_eq!(class(&sample), "a write cycle (G0)");
}

#[test]
fn two_that_read_each_other_are_g1c() {
    let mut sample = sample(false);
    sample.transaction(vec![(0, write(3)), (1, read(4))]).versions([2, 2]).ok(3, 9);
    sample.transaction(vec![(1, write(4)), (0, read(3))]).versions([2, 2]).ok(3, 9);
    assert_eq!(class(&sample), "circular information flow (G1c)");
}

#[test]
fn a_transaction_that_sees_half_of_another_is_read_skew() {
    let mut sample = sample(true);
    sample.transaction(vec![(0, write(3)), (1, write(3))]).versions([2, 2]).ok(3, 9);
    sample.transaction(vec![(0, read(3)), (1, read(2))]).ok(3, 9);
    assert_eq!(class(&sample), "read skew (G-single)");
}

#[test]
fn an_update_on_an_old_base_is_read_skew_whatever_was_declared() {
    let mut sample = sample(false);
    sample.transaction(vec![(0, read(1)), (0, write(3))]).versions([1, 2]).ok(3, 9);
    sample.transaction(vec![(0, read(1)), (0, write(4))]).versions([1, 3]).ok(3, 9);
    assert_eq!(class(&sample), "read skew (G-single)");
}

#[test]
fn write_skew_is_violated_only_if_serializable_is_declared() {
    for serializable in [true, false] {
        let mut sample = sample(serializable);
        sample.transaction(vec![(0, read(1)), (1, write(3))]).versions([1, 2]).ok(3, 9);
        sample.transaction(vec![(1, read(2)), (0, write(4))]).versions([1, 2]).ok(3, 9);
        if serializable {
            assert_eq!(class(&sample), "write skew (G2-item)");
            let judgement = sample.judge(CHECKER);
            let lines = judgement.counterexample.unwrap().lines;
            assert_eq!(
                lines[2],
                "Impossible because op 3 read key 0 before op 4 wrote it; op 4 read key 1 before \
                 op 3 wrote it: write skew (G2-item)"
            );
        } else {
            assert_eq!(sample.judge(CHECKER).verdict, Valid);
        }
    }
}

#[test]
fn a_snapshot_with_half_a_transaction_is_read_skew() {
    let mut sample = sample(false);
    sample.transaction(vec![(0, write(3)), (1, write(3))]).versions([2, 2]).ok(3, 9);
    sample.transaction(vec![(0, read(3)), (1, read(2))]).snapshot().ok(3, 9);
    assert_eq!(class(&sample), "read skew (G-single)");
}

#[test]
fn a_snapshot_without_what_it_was_built_on_is_read_skew() {
    let mut sample = sample(false);
    let steps = vec![(0, write(3)), (1, write(3))];
    sample.transaction(steps).versions([2, 2]).ok(3, 4);
    sample.write(1).version(3).ok(5, 6);
    sample.transaction(vec![(0, read(1)), (1, read(4))]).snapshot().ok(7, 8);
    assert_eq!(class(&sample), "read skew (G-single)");
    assert_eq!(sample.judge(CHECKER).counterexample.unwrap().operations.len(), 3);
}

#[test]
fn snapshots_of_two_servers_may_disagree_on_unrelated_writes() {
    let mut sample = sample(true);
    sample.write(0).version(2).ok(3, 4);
    sample.write(1).version(2).ok(3, 4);
    sample.transaction(vec![(0, read(3)), (1, read(2))]).snapshot().at(0).ok(5, 6);
    sample.transaction(vec![(0, read(1)), (1, read(4))]).snapshot().at(1).ok(5, 6);
    assert_eq!(sample.judge(CHECKER).verdict, Valid);
}

#[test]
fn a_record_with_two_writers_of_one_version_has_no_order() {
    let mut sample = sample(true);
    sample.write(0).version(2).ok(3, 4);
    sample.write(0).version(2).ok(3, 4);
    let steps = vec![(1, read(2)), (1, write(5))];
    sample.transaction(steps).versions([1, 2]).ok(5, 6);
    let judgement = sample.judge(CHECKER);
    assert_eq!((judgement.verdict, judgement.counts["records-without-order"]), (Unknown, 1));
}

#[test]
fn without_versions_or_transactions_it_is_unknown() {
    let mut sample = Sample::new();
    sample.write(0).version(1).ok(1, 2);
    assert_eq!(sample.judge(CHECKER).verdict, Unknown);
    sample.transaction(vec![(0, write(2))]).ok(3, 4);
    assert_eq!(sample.judge(CHECKER).verdict, Unknown);
}
