//! Hand-made histories and what their series must come to.

use super::super::sample::{MS, Sample, fail};
use super::super::{FaultFigures, Recovery, fault_figures};
use super::*;

/// What an operation that takes half a millisecond takes.
const HALF: Nanos = MS / 2;

/// Writes through n1 and n3 every 10 ms for 5 s. From 2 s on those through n3 are left without an
/// answer for a second each, from 2.5 s on they are refused, from 3.2 s on served.
fn two_faults() -> Sample {
    let mut sample = Sample::new(5_000);
    for at in (0..5_000).step_by(10) {
        sample.update(0, at, 500);
        let op = sample.update(2, at, 500);
        match at {
            2000..2500 => {
                fail(op, Outcome::Unknown, "client_timeout");
                op.done = Some((at + 1000) * MS);
            }
            2500..3200 => fail(op, Outcome::Failed, "no_quorum"),
            _ => {}
        }
    }
    sample.partition("first", 2000, 3000);
    sample.partition("second", 2400, 3100);
    sample
}

fn of(sample: &Sample) -> Vec<FaultFigures> {
    fault_figures(&sample.input(), 100 * MS)
}

fn at<'a>(fault: &'a FaultFigures, node: &str) -> &'a SeriesFigures {
    fault.series.iter().find(|series| series.node == node).unwrap()
}

/// FEATURES: H6
#[test]
fn overlapping_faults_have_the_outage_both_and_name_each_other() {
    let faults = of(&two_faults());
    let outage =
        Unavailable { window: Window { from: 2000 * MS, to: 3200 * MS + HALF }, open: false };
    let expected = SeriesFigures {
        node: "n3".to_owned(),
        class: "update".to_owned(),
        counts: Counts { ok: 0, failed: 50, unknown: 50 },
        lost: 100,
        resolution: Some(10 * MS),
        // Whoever hangs gives up later than the first refusal comes.
        first_failure: Some(500 * MS + HALF),
        answers: Answers::After(500 * MS + HALF),
        unavailable: vec![outage],
        afterwards: Vec::new(),
        served: Served::After(200 * MS + HALF),
    };
    assert_eq!(*at(&faults[0], "n3"), expected);
    let second = at(&faults[1], "n3");
    assert_eq!(second.counts, Counts { ok: 0, failed: 60, unknown: 10 });
    assert_eq!(second.answers, Answers::After(100 * MS + HALF));
    assert_eq!(second.unavailable, [outage]);
    assert_eq!(second.served, Served::After(100 * MS + HALF));
    for (fault, other) in [(0, "second"), (1, "first")] {
        assert_eq!(faults[fault].overlaps, [other]);
        let unavailable = (faults[fault].unavailable, faults[fault].unavailable_open);
        assert_eq!(unavailable, (1200 * MS + HALF, false));
        let healthy = at(&faults[fault], "n1");
        assert_eq!((healthy.lost, healthy.first_failure), (0, None));
        assert_eq!(healthy.answers, Answers::NothingFailed);
        assert_eq!(healthy.served, Served::Always);
    }
}

/// FEATURES: H6
#[test]
fn nobody_asked_is_not_nothing_failed() {
    let mut sample = Sample::new(3_000);
    sample.read(0, 100, 500);
    sample.partition("cut", 1000, 2000);
    let faults = of(&sample);
    let series = at(&faults[0], "n1");
    assert_eq!(series.counts.total(), 0);
    assert_eq!(series.answers, Answers::NoTraffic);
    assert_eq!((series.served, series.resolution), (Served::NoTraffic, None));
    assert!(faults[0].groups.iter().all(|group| group.recovery == Recovery::NoTraffic));
    assert_eq!((faults[0].unavailable, faults[0].first_failure), (0, None));
}

#[test]
fn a_failure_at_once_is_zero_and_none_is_none() {
    let mut sample = Sample::new(3_000);
    let hanging = sample.update(2, 900, 100_000);
    fail(hanging, Outcome::Failed, "no_quorum");
    sample.update(2, 1500, 500);
    sample.update(0, 1500, 500);
    sample.partition("cut", 1000, 2000);
    let faults = of(&sample);
    assert_eq!(at(&faults[0], "n3").first_failure, Some(0));
    // It was not intended while the fault was in force, and one alone is no outage.
    assert_eq!((at(&faults[0], "n3").lost, &at(&faults[0], "n3").unavailable[..]), (0, &[][..]));
    assert_eq!(at(&faults[0], "n1").first_failure, None);
}

#[test]
fn what_was_not_seen_to_end_is_a_lower_bound() {
    let mut sample = Sample::new(5_000);
    for at in (0..5_000).step_by(10) {
        let op = sample.update(2, at, 500);
        if at >= 2000 {
            fail(op, Outcome::Unknown, "client_timeout");
            op.done = None;
        }
    }
    sample.partition("cut", 2000, 3000);
    let faults = of(&sample);
    let series = at(&faults[0], "n3");
    let window = Window { from: 2000 * MS, to: 5000 * MS };
    assert_eq!(series.unavailable, [Unavailable { window, open: true }]);
    assert!(faults[0].unavailable_open);
    assert_eq!(series.served, Served::NotWithin(2000 * MS));
    assert_eq!(series.answers, Answers::NotWithin(1000 * MS));
    // The same fault, cut short by the next one.
    sample.partition("next", 4000, 4500);
    assert_eq!(at(&of(&sample)[0], "n3").served, Served::NotWithin(1000 * MS));
    let mut unhealed = sample.faults.clone();
    unhealed.truncate(1);
    sample.faults = unhealed;
    assert_eq!(at(&of(&sample)[0], "n3").served, Served::NotHealed);
}

#[test]
fn an_outage_that_begins_after_the_heal_is_told_apart() {
    let mut sample = Sample::new(5_000);
    for at in (0..5_000).step_by(10) {
        let op = sample.update(0, at, 500);
        if (3500..3600).contains(&at) {
            fail(op, Outcome::Failed, "busy");
        }
    }
    sample.partition("cut", 2000, 3000);
    let faults = of(&sample);
    let series = at(&faults[0], "n1");
    assert_eq!((series.served, &series.unavailable[..]), (Served::Always, &[][..]));
    let window = Window { from: 3500 * MS, to: 3600 * MS + HALF };
    assert_eq!(series.afterwards, [Unavailable { window, open: false }]);
}

#[test]
fn an_outage_ends_when_three_in_a_row_are_served() {
    let mut sample = Sample::new(1_000);
    let bad = [false, true, true, false, false, true, false, false, false, true, false];
    for (index, bad) in bad.into_iter().enumerate() {
        let op = sample.update(0, 10 * index as u64, 500);
        if bad {
            fail(op, Outcome::Failed, "busy");
        }
    }
    let operations: Vec<&Operation> = sample.history.operations.iter().collect();
    let window = Window { from: 10 * MS, to: 60 * MS + HALF };
    assert_eq!(unavailable(&sample.input(), &operations), [Unavailable { window, open: false }]);
}

#[test]
fn outages_of_several_series_at_a_time_count_once() {
    let mut faults = of(&two_faults());
    let mut other = at(&faults[0], "n3").clone();
    for found in &mut other.unavailable {
        found.window = Window { from: 1900 * MS, to: 2100 * MS };
    }
    faults[0].series.push(other);
    assert_eq!(united(&faults[0].series), (1300 * MS + HALF, false));
}
