//! Quantiles of latencies with their uncertainty at every level: blocks are drawn again, runs
//! within blocks, and stretches of time within runs; what was drawn is merged into one histogram
//! before a quantile is taken of it. Random by name from a seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use serde::{Deserialize, Serialize};

use crate::plan::stream;

/// How often everything is drawn again.
const REPLICAS: usize = 1_000;
/// Share of them that an interval leaves out on each side: it covers 95 %.
const TAIL: f64 = 0.025;

/// Durations in microseconds with how often each occurred, in order.
pub type Sparse = Vec<(u64, u64)>;

/// What one run holds: a histogram for each stretch of time.
pub type Stretches = Vec<Sparse>;

/// One block: the runs of A and those of B.
#[derive(Debug, Clone, Default)]
pub struct Pair {
    /// Runs of A.
    pub a: Vec<Stretches>,
    /// Runs of B.
    pub b: Vec<Stretches>,
}

/// The quantile of B's operations together over that of A's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Merged {
    /// The ratio.
    pub ratio: f64,
    /// The middle 95 % of what was drawn again.
    pub interval: (f64, f64),
}

/// The ratio of the quantile `q` with its interval; `None` where a side has no operation.
#[must_use]
pub fn ratio(pairs: &[Pair], q: f64, seed: u64) -> Option<Merged> {
    let places = Places::of(pairs);
    let all = |side: fn(&Pair) -> &Vec<Stretches>| {
        let mut merged = places.empty();
        let stretches = pairs.iter().flat_map(side).flatten();
        stretches.for_each(|stretch| places.add(&mut merged, stretch));
        places.quantile(&merged, q)
    };
    let ratio = all(|pair| &pair.b)? / all(|pair| &pair.a)?;
    let mut rng = stream::rng(seed, "compare/bootstrap");
    let mut drawn: Vec<f64> = Vec::with_capacity(REPLICAS);
    for _ in 0..REPLICAS {
        let (mut a, mut b) = (places.empty(), places.empty());
        for _ in 0..pairs.len() {
            let pair = pick(pairs, &mut rng);
            draw(&pair.a, &places, &mut a, &mut rng);
            draw(&pair.b, &places, &mut b, &mut rng);
        }
        // Nothing drawn on one side has no ratio; it happens only to runs that are nearly empty.
        let of = places.quantile(&b, q).zip(places.quantile(&a, q));
        drawn.extend(of.map(|(b, a)| b / a));
    }
    drawn.sort_unstable_by(f64::total_cmp);
    let last = drawn.len().checked_sub(1)?;
    let at = |share: f64| drawn[(share * last as f64).round() as usize];
    Some(Merged { ratio, interval: (at(TAIL), at(1.0 - TAIL)) })
}

/// Draws runs with replacement, and stretches within each.
fn draw(runs: &[Stretches], places: &Places, into: &mut [u64], rng: &mut ChaCha8Rng) {
    for _ in 0..runs.len() {
        let run = pick(runs, rng);
        for _ in 0..run.len() {
            places.add(into, pick(run, rng));
        }
    }
}

/// One of them, which must not be none.
fn pick<'a, T>(of: &'a [T], rng: &mut ChaCha8Rng) -> &'a T {
    // The modulo's bias is below 2^-50 for any number of runs that anybody waits for.
    &of[(rng.next_u64() % of.len() as u64) as usize]
}

/// Every duration that occurs, so that merging is adding up.
struct Places {
    values: Vec<u64>,
}

impl Places {
    fn of(pairs: &[Pair]) -> Self {
        let runs = pairs.iter().flat_map(|pair| pair.a.iter().chain(&pair.b));
        let mut values: Vec<u64> = runs.flatten().flatten().map(|(value, _)| *value).collect();
        values.sort_unstable();
        values.dedup();
        Self { values }
    }

    fn empty(&self) -> Vec<u64> {
        vec![0; self.values.len()]
    }

    fn add(&self, into: &mut [u64], stretch: &Sparse) {
        // Both are in order: the next place is never before the last one.
        let mut from = 0;
        for (value, count) in stretch {
            from += self.values[from..].partition_point(|known| known < value);
            into[from] += count;
        }
    }

    /// The duration of rank ⌈q · n⌉; `None` of nothing.
    fn quantile(&self, counts: &[u64], q: f64) -> Option<f64> {
        let all: u64 = counts.iter().sum();
        let rank = ((q * all as f64 - 1e-9).ceil().max(1.0) as u64).min(all);
        let mut seen = 0;
        let reached = counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        (all > 0).then(|| self.values[reached] as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of `stretches` with durations 1 to 100 times `factor`.
    fn run(stretches: usize, factor: u64) -> Stretches {
        vec![(1..=100).map(|value| (value * factor, 1)).collect(); stretches]
    }

    /// FEATURES: H9
    #[test]
    fn quantiles_are_of_what_is_merged_and_not_means_of_quantiles() {
        // One run of B has ten times the operations of the other, ten times as slow.
        let pair = Pair { a: vec![run(1, 1); 2], b: vec![run(1, 1), run(10, 10)] };
        let found = ratio(&[pair], 0.5, 1).unwrap();
        // Of 1100 durations the 550th: the fast run's 100, and 45 values ten times of the slow one.
        assert!((found.ratio - 450.0 / 50.0).abs() < 1e-9, "{found:?}");
        assert!(found.interval.0 <= found.ratio && found.ratio <= found.interval.1);
    }

    /// FEATURES: H9
    #[test]
    fn runs_that_differ_widen_the_interval_and_equal_ones_do_not() {
        let equal = vec![Pair { a: vec![run(5, 2); 2], b: vec![run(5, 3); 2] }; 4];
        let found = ratio(&equal, 0.99, 7).unwrap();
        assert_eq!((found.ratio, found.interval), (1.5, (1.5, 1.5)));
        assert_eq!(ratio(&equal, 0.99, 7), Some(found), "a seed gives one interval");
        let mut apart = equal;
        apart[0].b = vec![run(5, 6); 2];
        let found = ratio(&apart, 0.5, 7).unwrap();
        assert!(found.interval.1 > 1.6 && found.interval.0 <= 1.5, "{found:?}");
    }

    #[test]
    fn a_side_without_operations_has_no_ratio() {
        let nothing = Pair { a: vec![run(1, 1)], b: vec![vec![Vec::new()]] };
        assert_eq!(ratio(&[nothing], 0.5, 1), None);
        assert_eq!(ratio(&[], 0.5, 1), None);
    }
}
