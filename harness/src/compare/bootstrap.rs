//! Quantiles of latencies with their uncertainty at every level: blocks are drawn again, runs
//! within blocks, and stretches of time within runs; what was drawn is merged into one histogram
//! before a quantile is taken of it. Random by name from a seed.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use serde::{Deserialize, Serialize};

use crate::plan::stream;

/// How often everything is drawn again.
const REPLICAS: usize = 500;
/// Into how many stretches the time of a run is cut at most.
const STRETCHES_MAX: usize = 20;
/// Share of them that an interval leaves out on each side: it covers 95 %.
const TAIL: f64 = 0.025;

/// Durations in microseconds with how often each occurred, in order.
pub type Sparse = Vec<(u64, u64)>;

/// Stands for the duration of what was never acknowledged.
pub const NEVER: u64 = u64::MAX;

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

/// The ratio of the quantile `q` with its interval; `None` where a side has no operation, or where
/// the quantile may lie among operations that were never acknowledged.
#[must_use]
pub fn ratio(pairs: &[Pair], q: f64, seed: u64) -> Option<Merged> {
    let places = Places::of(pairs);
    let placed: Vec<[Vec<Placed>; 2]> =
        pairs.iter().map(|pair| [places.all(&pair.a), places.all(&pair.b)]).collect();
    let all = |side: usize| {
        let mut merged = places.empty();
        let stretches = placed.iter().flat_map(|pair| &pair[side]).flatten();
        stretches.for_each(|stretch| add(&mut merged, stretch));
        places.quantile(&merged, q)
    };
    let ratio = all(1)? / all(0)?;
    let mut rng = stream::rng(seed, "compare/bootstrap");
    let mut drawn: Vec<f64> = Vec::with_capacity(REPLICAS);
    for _ in 0..REPLICAS {
        let mut sides = [places.empty(), places.empty()];
        for _ in 0..placed.len() {
            let pair = pick(&placed, &mut rng);
            for (runs, into) in pair.iter().zip(&mut sides) {
                draw(runs, into, &mut rng);
            }
        }
        let [a, b] = sides;
        drawn.push(places.quantile(&b, q)? / places.quantile(&a, q)?);
    }
    drawn.sort_unstable_by(f64::total_cmp);
    let last = drawn.len().checked_sub(1)?;
    let at = |share: f64| drawn[(share * last as f64).round() as usize];
    Some(Merged { ratio, interval: (at(TAIL), at(1.0 - TAIL)) })
}

/// The stretches of a run, each as places among all durations and how often each occurred.
type Placed = Vec<Vec<(usize, u64)>>;

/// Draws runs with replacement, and stretches within each.
fn draw(runs: &[Placed], into: &mut [u64], rng: &mut ChaCha8Rng) {
    for _ in 0..runs.len() {
        let run = pick(runs, rng);
        for _ in 0..run.len() {
            let stretch: &Vec<_> = pick(run, rng);
            add(into, stretch);
        }
    }
}

fn add(into: &mut [u64], stretch: &[(usize, u64)]) {
    for (place, count) in stretch {
        into[*place] += count;
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

    fn all(&self, runs: &[Stretches]) -> Vec<Placed> {
        runs.iter().map(|run| self.placed(run)).collect()
    }

    /// A run with its neighbouring stretches put together until they are [`STRETCHES_MAX`] at most:
    /// what happens in one second goes on in the next, so that short ones would be no draws.
    fn placed(&self, run: &Stretches) -> Placed {
        let together = run.len().div_ceil(STRETCHES_MAX).max(1);
        let place = |stretches: &[Sparse]| {
            let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
            for (value, count) in stretches.iter().flatten() {
                let at = self.values.partition_point(|known| known < value);
                *counts.entry(at).or_default() += count;
            }
            counts.into_iter().collect()
        };
        run.chunks(together).map(place).collect()
    }

    /// The duration of rank ⌈q · n⌉; `None` of nothing, and of what never ended.
    fn quantile(&self, counts: &[u64], q: f64) -> Option<f64> {
        let reached = reached(counts.iter().copied(), q)?;
        Some(self.values[reached]).filter(|value| *value != NEVER).map(|value| value as f64)
    }
}

/// The duration of rank ⌈q · n⌉; `None` of nothing.
#[must_use]
pub fn quantile(counts: &Sparse, q: f64) -> Option<u64> {
    let at = reached(counts.iter().map(|(_, count)| *count), q)?;
    counts.get(at).map(|(value, _)| *value)
}

/// Where among counts the rank ⌈q · n⌉ is reached; `None` of nothing.
fn reached(counts: impl Iterator<Item = u64> + Clone, q: f64) -> Option<usize> {
    let all: u64 = counts.clone().sum();
    // A hair is taken off so that 0.9 · 10 is rank 9 in floating point too.
    let rank = ((q * all as f64 - 1e-9).ceil().max(1.0) as u64).min(all);
    let mut seen = 0;
    let mut sums = counts.map(|count| {
        seen += count;
        seen
    });
    if all == 0 { None } else { sums.position(|sum| sum >= rank) }
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

    /// FEATURES: H9
    #[test]
    fn what_was_never_acknowledged_is_longer_than_all_that_was() {
        let counts: Sparse = vec![(10, 90), (20, 5), (NEVER, 5)];
        assert_eq!(quantile(&counts, 0.9), Some(10));
        assert_eq!(quantile(&counts, 0.95), Some(20));
        assert_eq!(quantile(&counts, 0.951), Some(NEVER));
        assert_eq!(quantile(&Vec::new(), 0.5), None);
        let pair = Pair { a: vec![vec![counts.clone()]], b: vec![vec![counts]] };
        assert_eq!(ratio(std::slice::from_ref(&pair), 0.99, 1), None, "nobody knows how long");
        assert_eq!(ratio(&[pair], 0.5, 1).unwrap().ratio, 1.0);
    }

    #[test]
    fn a_side_without_operations_has_no_ratio() {
        let nothing = Pair { a: vec![run(1, 1)], b: vec![vec![Vec::new()]] };
        assert_eq!(ratio(&[nothing], 0.5, 1), None);
        assert_eq!(ratio(&[], 0.5, 1), None);
    }
}
