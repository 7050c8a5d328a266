//! Times until something happened, some of them known only as "not yet": the estimate of Kaplan
//! and Meier, its median and restricted mean, and the log-rank test. Pure; may not know of what.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ChiSquared, ContinuousCDF};

/// A time until it happened, or until nobody watched any longer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Wait {
    /// Seconds.
    pub seconds: f64,
    /// True if it had not happened by then.
    pub censored: bool,
}

/// The share that still waits, as a step function: it falls to `share` at each time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Time in seconds and share behind it, in order of time.
    pub steps: Vec<(f64, f64)>,
}

impl Curve {
    /// The estimate of Kaplan and Meier.
    #[must_use]
    pub fn of(waits: &[Wait]) -> Self {
        let mut share = 1.0;
        let step = |at: f64| {
            let (waiting, happened) = counts(waits, at);
            share *= 1.0 - happened / waiting;
            (at, share)
        };
        Self { steps: times(waits).into_iter().map(step).collect() }
    }

    /// The time by which half of all had it; `None` if that was not seen.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        // A hair is added so that half of an even number is half in floating point too.
        self.steps.iter().find(|(_, share)| *share <= 0.5 + 1e-9).map(|(at, _)| *at)
    }

    /// The mean of the times, each cut off at `limit`: the area below the curve until then.
    #[must_use]
    pub fn mean_until(&self, limit: f64) -> f64 {
        let (mut area, mut from, mut share) = (0.0, 0.0, 1.0);
        for (at, next) in self.steps.iter().filter(|(at, _)| *at < limit) {
            area += (at - from) * share;
            (from, share) = (*at, *next);
        }
        area + (limit - from) * share
    }
}

/// The largest limit to which the restricted means of all of these are known: where the last one
/// was not seen to end, nothing is known behind it. 0 of nothing.
#[must_use]
pub(super) fn limit<'a>(samples: impl Iterator<Item = &'a [Wait]>) -> f64 {
    let (mut known, mut longest) = (f64::INFINITY, 0.0_f64);
    for waits in samples.filter(|waits| !waits.is_empty()) {
        let last = waits.iter().map(|wait| wait.seconds).fold(0.0, f64::max);
        longest = longest.max(last);
        if waits.iter().any(|wait| wait.censored && wait.seconds >= last) {
            known = known.min(last);
        }
    }
    known.min(longest)
}

/// Probability of samples this different if both were of one kind, by the log-rank test; `None`
/// where nothing happened that could tell them apart.
#[must_use]
pub(super) fn log_rank(a: &[Wait], b: &[Wait]) -> Option<f64> {
    let all: Vec<Wait> = a.iter().chain(b).copied().collect();
    let (mut surplus, mut variance) = (0.0, 0.0);
    for at in times(&all) {
        let ((of_a, in_a), (of_b, in_b)) = (counts(a, at), counts(b, at));
        let (waiting, happened) = (of_a + of_b, in_a + in_b);
        surplus += in_a - happened * of_a / waiting;
        if waiting > 1.0 {
            variance += happened * of_a * of_b * (waiting - happened)
                / (waiting * waiting * (waiting - 1.0));
        }
    }
    let one = ChiSquared::new(1.0).ok()?;
    (variance > 0.0).then(|| one.sf(surplus * surplus / variance))
}

/// Times at which it happened, in order, each once.
fn times(waits: &[Wait]) -> Vec<f64> {
    let happened = waits.iter().filter(|wait| !wait.censored);
    let mut times: Vec<f64> = happened.map(|wait| wait.seconds).collect();
    times.sort_unstable_by(f64::total_cmp);
    times.dedup();
    times
}

/// How many still waited just before, and for how many it happened then.
fn counts(waits: &[Wait], at: f64) -> (f64, f64) {
    let waiting = waits.iter().filter(|wait| wait.seconds >= at).count();
    let is_then = |wait: &&Wait| !wait.censored && wait.seconds.total_cmp(&at).is_eq();
    (waiting as f64, waits.iter().filter(is_then).count() as f64)
}

/// Expected values: `lifelines` 0.30.3 (`KaplanMeierFitter`, `restricted_mean_survival_time`,
/// `logrank_test`).
#[cfg(test)]
mod tests {
    use super::*;

    fn waits(of: &[(f64, u8)]) -> Vec<Wait> {
        of.iter().map(|(seconds, seen)| Wait { seconds: *seconds, censored: *seen == 0 }).collect()
    }

    fn a() -> Vec<Wait> {
        waits(&[(1.2, 1), (0.8, 1), (2.5, 1), (3.0, 0), (1.2, 1), (0.4, 1), (5.0, 0)])
    }

    fn b() -> Vec<Wait> {
        waits(&[(2.2, 1), (1.8, 1), (3.5, 1), (4.0, 0), (6.0, 1), (2.2, 0), (6.0, 0)])
    }

    fn near(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 1e-6, "{found}, not {wanted}");
    }

    /// FEATURES: H9
    #[test]
    fn curves_medians_and_means_are_those_of_lifelines() {
        let (a, b) = (Curve::of(&a()), Curve::of(&b()));
        let wanted = [(0.4, 0.857_143), (0.8, 0.714_286), (1.2, 0.428_571), (2.5, 0.285_714)];
        for ((at, share), (wanted_at, wanted)) in a.steps.iter().zip(wanted) {
            near(*at, wanted_at);
            near(*share, wanted);
        }
        assert_eq!(a.steps.len(), wanted.len());
        let shares: Vec<f64> = b.steps.iter().map(|(_, share)| *share).collect();
        for (share, wanted) in shares.iter().zip([0.857_143, 0.714_286, 0.535_714, 0.267_857]) {
            near(*share, wanted);
        }
        assert_eq!((a.median(), b.median()), (Some(1.2), Some(6.0)));
        near(a.mean_until(4.0), 2.014_285_714_285_714_2);
        near(b.mean_until(4.0), 3.339_285_714_285_714_4);
    }

    /// FEATURES: H9
    #[test]
    fn the_log_rank_test_is_that_of_lifelines() {
        near(log_rank(&a(), &b()).unwrap(), 0.144_976_529_263_564_72);
        assert_eq!(log_rank(&a(), &a()), Some(1.0));
        assert_eq!(log_rank(&waits(&[(1.0, 0)]), &waits(&[(2.0, 0)])), None);
        assert_eq!(log_rank(&[], &a()), None);
    }

    #[test]
    fn a_mean_reaches_no_farther_than_what_was_watched() {
        let (a, b) = (a(), b());
        let of = |samples: &[&[Wait]]| limit(samples.iter().copied());
        near(of(&[&a, &b]), 5.0);
        near(of(&[&b]), 6.0);
        near(of(&[&waits(&[(1.0, 1), (4.0, 1)]), &waits(&[(2.0, 1)])]), 4.0);
        near(of(&[&waits(&[(1.0, 1), (0.5, 0)])]), 1.0);
        near(of(&[&[]]), 0.0);
        let nobody = Curve::of(&[]);
        assert_eq!(nobody.median(), None);
    }
}
