//! Verdicts on made-up blocks.

use super::read::Value;
use super::sample::run;
use super::survival::Wait;
use super::{Block, Comparison, Kind, Metric, Verdict, Wanted, compare};

/// One block a pair of values of A and B.
fn blocks(kind: Kind, values: &[(f64, f64)]) -> Vec<Block> {
    let block = |(a, b): &(f64, f64)| Block { a: vec![run(kind, *a)], b: vec![run(kind, *b)] };
    values.iter().map(block).collect()
}

fn judged(blocks: &[Block], kind: Kind) -> Comparison {
    compare(blocks, &[Metric::from(kind).into()], false, 1)
}

fn verdict(kind: Kind, values: &[(f64, f64)]) -> Verdict {
    judged(&blocks(kind, values), kind).overall
}

/// FEATURES: H9
#[test]
fn better_worse_same_and_cannot_tell_are_four_answers() {
    let slower = [(10.0, 13.0), (11.0, 14.1), (9.0, 11.8), (10.0, 12.9)];
    assert_eq!(verdict(Kind::P99, &slower), Verdict::Worse);
    assert_eq!(verdict(Kind::Throughput, &slower), Verdict::Better, "more of it is better");
    let faster: Vec<_> = slower.iter().map(|(a, b)| (*b, *a)).collect();
    assert_eq!(verdict(Kind::P99, &faster), Verdict::Better);
    assert_eq!(verdict(Kind::Throughput, &faster), Verdict::Worse);
    let equal = [(10.0, 10.1), (11.0, 11.0), (9.0, 8.9), (10.0, 10.1)];
    assert_eq!(verdict(Kind::P99, &equal), Verdict::Same);
    let apart = [(10.0, 13.0), (11.0, 9.0), (9.0, 12.0), (10.0, 8.0)];
    assert_eq!(verdict(Kind::P99, &apart), Verdict::CannotTell);
}

/// FEATURES: H9
#[test]
fn a_small_real_change_within_the_margin_is_the_same() {
    let small = [(10.0, 10.40), (10.0, 10.41), (10.0, 10.39), (10.0, 10.40)];
    let found = judged(&blocks(Kind::P99, &small), Kind::P99);
    let (low, _) = found.rows[0].effect.unwrap().interval.unwrap();
    assert!(low > 0.0, "the change is real");
    assert_eq!(found.overall, Verdict::Same);
}

#[test]
fn few_blocks_say_how_many_more_are_wanted() {
    let found = judged(&blocks(Kind::P99, &[(1.0, 9.0)]), Kind::P99);
    let finding = found.rows[0].finding.clone().unwrap();
    assert_eq!((finding.verdict, finding.more), (Verdict::CannotTell, Some(2)));
    let apart = [(10.0, 11.0), (10.0, 9.2), (10.0, 10.8), (10.0, 9.3)];
    let found = judged(&blocks(Kind::P99, &apart), Kind::P99);
    let finding = found.rows[0].finding.clone().unwrap();
    assert_eq!(finding.verdict, Verdict::CannotTell);
    assert!(finding.more.is_some_and(|more| (1..30).contains(&more)), "{finding:?}");
    assert_eq!(judged(&[], Kind::P99).overall, Verdict::CannotTell);
}

/// FEATURES: H9
#[test]
fn shares_differ_by_their_difference_and_nothing_is_a_value() {
    let none = [(0.0, 0.0); 4];
    assert_eq!(verdict(Kind::Refused, &none), Verdict::Same);
    let some = [(0.0, 0.02), (0.0, 0.021), (0.001, 0.02), (0.0, 0.019)];
    assert_eq!(verdict(Kind::Refused, &some), Verdict::Worse);
}

/// A time-out cuts off what is compared: what is known to be at least so long cannot be called the
/// same, nor better, but it can be worse.
///
/// FEATURES: H9
#[test]
fn lower_bounds_leave_one_claim_standing() {
    let mut same = blocks(Kind::P99, &[(10.0, 10.0), (10.0, 10.1), (10.0, 10.0), (10.0, 9.9)]);
    let mut worse = blocks(Kind::P99, &[(10.0, 20.0), (10.0, 20.5), (10.0, 20.0), (10.0, 19.0)]);
    for blocks in [&mut same, &mut worse] {
        let metric = Metric::from(Kind::P99);
        let value: &mut Value = blocks[0].b[0].values.get_mut(&metric).unwrap();
        value.at_least = true;
    }
    assert_eq!(judged(&same, Kind::P99).overall, Verdict::CannotTell);
    assert_eq!(judged(&worse, Kind::P99).overall, Verdict::Worse);
    let turned: Vec<Block> =
        worse.iter().map(|of| Block { a: of.b.clone(), b: of.a.clone() }).collect();
    assert_eq!(judged(&turned, Kind::P99).overall, Verdict::Better);
    let metric = Metric::from(Kind::P99);
    worse[0].a[0].values.get_mut(&metric).unwrap().at_least = true;
    assert_eq!(judged(&worse, Kind::P99).overall, Verdict::CannotTell);
}

/// FEATURES: H9
#[test]
fn waits_that_were_not_seen_to_end_count_for_as_long_as_they_were_watched() {
    let wait = |seconds: f64, censored| Wait { seconds, censored };
    let block = |a: f64, b: f64, censored| {
        let mut block = Block { a: vec![run(Kind::P99, 1.0)], b: vec![run(Kind::P99, 1.0)] };
        block.a[0].recoveries = vec![wait(a, false), wait(a + 0.1, false)];
        block.b[0].recoveries = vec![wait(b, false), wait(b + 0.1, censored)];
        block
    };
    let blocks = [block(0.5, 3.0, true), block(0.6, 3.1, false), block(0.5, 2.9, true)];
    let found = judged(&blocks, Kind::Recovery);
    let waits = found.rows[0].waits.as_ref().unwrap();
    assert_eq!(waits.counts, [(6, 0), (6, 2)]);
    // Nothing is known behind the first end of watching that was the last of its run.
    assert!((waits.limit_s - 3.0).abs() < 1e-9, "{waits:?}");
    assert!(waits.log_rank.unwrap() < 0.01);
    assert_eq!(found.overall, Verdict::Worse);
    assert_eq!(found.rows[1].wanted.metric.kind, Kind::P99, "beside the gate");
    assert_eq!(found.rows[1].finding, None);
}

/// FEATURES: H9
#[test]
fn one_finding_of_many_metrics_is_held_against_their_number() {
    // By itself the interval just misses the margin; of a family of six it is no finding.
    let values = [(10.0, 11.6), (10.0, 11.3), (10.0, 11.9), (10.0, 11.2), (10.0, 11.7)];
    let mut blocks = blocks(Kind::P99, &values);
    assert_eq!(judged(&blocks, Kind::P99).overall, Verdict::Worse);
    let kinds = [Kind::P99, Kind::P50, Kind::P999, Kind::MemoryPeak, Kind::CpuPerWrite];
    for (at, block) in blocks.iter_mut().enumerate() {
        for kind in &kinds[1..] {
            let apart = if at % 2 == 0 { 5.0 } else { 20.0 };
            let value = |value| Value { value, at_least: false };
            block.a[0].values.insert((*kind).into(), value(10.0));
            block.b[0].values.insert((*kind).into(), value(apart));
        }
    }
    let gate: Vec<Wanted> = kinds.iter().map(|kind| Metric::from(*kind).into()).collect();
    let found = compare(&blocks, &gate, false, 1);
    assert_eq!(found.rows[0].finding.as_ref().unwrap().verdict, Verdict::CannotTell);
}

#[test]
fn a_metric_that_no_run_has_is_left_out_only_where_it_was_not_asked_for() {
    let blocks = blocks(Kind::P99, &[(1.0, 1.0); 4]);
    let gate: Vec<Wanted> =
        [Kind::P99, Kind::Unavailable].map(|kind| Metric::from(kind).into()).to_vec();
    assert_eq!(compare(&blocks, &gate, true, 1).overall, Verdict::Same);
    let found = compare(&blocks, &gate, false, 1);
    assert_eq!(found.overall, Verdict::CannotTell);
    assert!(found.rows[1].finding.as_ref().unwrap().remark.contains("no block has a figure"));
}
