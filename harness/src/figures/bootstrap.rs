//! Intervals of a mean over repeats of a run. A run is the unit: what happened inside one shares
//! its machine, its servers and its moment, so its operations say nothing about the next run.
//! A mean's interval is Student's: few runs drawn again lie closer together than runs do. What is
//! fitted to runs is fitted to draws of them, random by name from a seed, so that a report drawn
//! again is the same.

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

/// The mean of `values` with its interval by Student's t; `None` of no values.
#[must_use]
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let runs = values.len();
    let mean = mean(values);
    let interval = (runs > 1).then(|| {
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let error = (squares / (runs - 1) as f64 / runs as f64).sqrt();
        let half = student(runs - 1) * error;
        (mean - half, mean + half)
    });
    (runs > 0).then_some(Estimate { mean, interval, runs })
}

/// What Student's t with so many degrees of freedom, one at least, exceeds in 2.5 % of cases.
fn student(freedom: usize) -> f64 {
    const FEW: [f64; 10] = [
        12.706_205, 4.302_653, 3.182_446, 2.776_445, 2.570_582, 2.446_912, 2.364_624, 2.306_004,
        2.262_157, 2.228_139,
    ];
    /// The same of the normal distribution.
    const NORMAL: f64 = 1.959_964;
    FEW.get(freedom.saturating_sub(1)).copied().unwrap_or_else(|| {
        // The expansion by Cornish and Fisher, here right to a thousandth.
        let (z, of) = (NORMAL, freedom as f64);
        let first = (z.powi(3) + z) / 4.0;
        let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
        let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
        z + first / of + second / of.powi(2) + third / of.powi(3)
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
        assert_eq!(estimate(&[]), None);
        let one = estimate(&[7.0]).unwrap();
        assert_eq!((one.mean, one.interval, one.spread()), (7.0, None, None));
    }

    #[test]
    fn equal_runs_have_no_spread_and_few_have_a_wide_one() {
        let equal = estimate(&[5.0; 4]).unwrap();
        assert_eq!((equal.interval, equal.spread()), (Some((5.0, 5.0)), Some(0.0)));
        let (low, high) = estimate(&[9.0, 10.0, 11.0]).unwrap().interval.unwrap();
        // One of sample deviation, over the root of three runs.
        let half = 4.302_653 / 3.0_f64.sqrt();
        assert!((low - 10.0 + half).abs() < 1e-6 && (high - 10.0 - half).abs() < 1e-6);
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, wanted) in [(1, 12.7062), (4, 2.7764), (11, 2.2010), (29, 2.0452)] {
            let found = student(freedom);
            assert!((found - wanted).abs() < 1e-3, "{freedom}: {found}");
        }
    }

    /// Of many samples of a known mean, about 95 % of the intervals hold it, however few runs.
    #[test]
    fn intervals_hold_the_mean_as_often_as_they_say() {
        let noise = crate::drive::random::Stream::named(5, "test/noise");
        let samples = 2_000_u64;
        for runs in [3_u64, 5, 30] {
            // Sums of twelve are as good as normal.
            let normal = |run: u64| (0..12).map(|at| noise.unit(run * 12 + at)).sum::<f64>() - 6.0;
            let holds = |sample: &u64| {
                let value = |run: u64| 100.0 + 10.0 * normal(sample * runs + run);
                let values: Vec<f64> = (0..runs).map(value).collect();
                let (low, high) = estimate(&values).unwrap().interval.unwrap();
                low <= 100.0 && 100.0 <= high
            };
            let held = (0..samples).filter(holds).count();
            // Three deviations of a count of 2000 with a share of 95 %.
            assert!((1_870..=1_930).contains(&held), "{held} of {samples} with {runs} runs");
        }
    }
}
