//! Intervals of a mean over repeats of a run. A run is the unit: what happened inside one shares
//! its machine, its servers and its moment, so its operations say nothing about the next run.
//! Random by name from a seed, so that a report drawn again is the same.

use crate::plan::stream;
use rand_chacha::rand_core::RngCore;
use serde::{Deserialize, Serialize};

/// How often the runs are drawn again.
const RESAMPLES: usize = 2_000;
/// Share of them that an interval leaves out on each side: it covers 95 %.
const TAIL: f64 = 0.025;

/// A mean and where it may lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Over the runs.
    pub mean: f64,
    /// Lower and upper end of the 95 % interval; `None` of a single run.
    pub interval: Option<(f64, f64)>,
    /// How many runs.
    pub runs: usize,
}

impl Estimate {
    /// Half the interval as a share of the mean; `None` without either.
    #[must_use]
    pub fn spread(&self) -> Option<f64> {
        let (low, high) = self.interval?;
        (self.mean != 0.0).then(|| ((high - low) / 2.0 / self.mean).abs())
    }
}

/// The mean of `values` with its percentile bootstrap; `None` of no values.
#[must_use]
pub fn estimate(values: &[f64], seed: u64) -> Option<Estimate> {
    let runs = values.len();
    (runs > 0).then(|| Estimate {
        mean: mean(values),
        interval: (runs > 1).then(|| {
            let draws = resamples(&[values.to_vec()], seed);
            interval(draws.iter().map(|draw| mean(&draw[0])).collect())
        }),
        runs,
    })
}

/// Groups drawn again with replacement, each by itself, [`RESAMPLES`] times.
pub(super) fn resamples(groups: &[Vec<f64>], seed: u64) -> Vec<Vec<Vec<f64>>> {
    let mut rng = stream::rng(seed, "figures/bootstrap");
    let mut draw = |group: &Vec<f64>| -> Vec<f64> {
        // The modulo's bias is below 2^-50 for any number of runs that anybody waits for.
        let mut pick = || group[(rng.next_u64() % group.len() as u64) as usize];
        (0..group.len()).map(|_| pick()).collect()
    };
    (0..RESAMPLES).map(|_| groups.iter().map(&mut draw).collect()).collect()
}

/// The middle 95 % of `values`, which must not be empty.
pub(super) fn interval(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len() - 1;
    let at = |share: f64| values[(share * last as f64).round() as usize];
    (at(TAIL), at(1.0 - TAIL))
}

/// The arithmetic mean; not a number of no values.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_has_no_interval_and_none_has_no_mean() {
        assert_eq!(estimate(&[], 1), None);
        let one = estimate(&[7.0], 1).unwrap();
        assert_eq!((one.mean, one.interval, one.spread()), (7.0, None, None));
    }

    #[test]
    fn equal_runs_have_no_spread_and_a_seed_repeats() {
        let equal = estimate(&[5.0; 4], 1).unwrap();
        assert_eq!((equal.interval, equal.spread()), (Some((5.0, 5.0)), Some(0.0)));
        let values = [9.0, 10.0, 14.0, 11.0];
        assert_eq!(estimate(&values, 3), estimate(&values, 3));
    }

    /// Of many samples of a known mean, about 95 % of the intervals hold it.
    #[test]
    fn intervals_hold_the_mean_as_often_as_they_say() {
        let noise = crate::drive::random::Stream::named(5, "test/noise");
        let (runs, samples) = (30_u64, 200_u64);
        let holds = |sample: &u64| {
            let value = |run: u64| 100.0 + 10.0 * (noise.unit(sample * runs + run) - 0.5);
            let values: Vec<f64> = (0..runs).map(value).collect();
            let (low, high) = estimate(&values, *sample).unwrap().interval.unwrap();
            low <= 100.0 && 100.0 <= high
        };
        let held = (0..samples).filter(holds).count();
        assert!((175..=199).contains(&held), "{held} of {samples}");
    }
}
