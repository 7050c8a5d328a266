//! A distribution of durations in which some are known only as "at least this long".
//! Quantiles above the point where that matters say so; nothing is cut off or invented.

use hdrhistogram::Histogram;
use quorate_check::history::Nanos;
use serde::{Deserialize, Serialize};

/// Largest duration that a histogram tells apart, in microseconds: 50 days.
const MICROS_MAX: u64 = 1 << 42;

/// Quantiles of a curve: from the median towards the tail, eight steps a decade.
const CURVE_STEPS_PER_DECADE: u32 = 8;

/// A figure that is exact (to the histogram's three digits), or a lower bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bound {
    /// Microseconds.
    pub micros: f64,
    /// True if the real figure is this or more.
    pub at_least: bool,
}

/// Durations, right-censored ones kept apart. 1 microsecond resolution, three significant digits.
#[derive(Debug, Clone)]
pub struct Distribution {
    known: Histogram<u64>,
    all: Histogram<u64>,
    max: u64,
    max_known: u64,
}

impl Default for Distribution {
    fn default() -> Self {
        let empty: Histogram<u64> =
            Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("constant bounds are legal");
        Self { known: empty.clone(), all: empty, max: 0, max_known: 0 }
    }
}

impl Distribution {
    /// One duration that ended.
    pub fn add(&mut self, nanos: Nanos) {
        let micros = to_micros(nanos);
        self.known.saturating_record(micros);
        self.max_known = self.max_known.max(micros);
        self.add_censored(nanos);
    }

    /// One duration that was not seen to end within `nanos`.
    pub fn add_censored(&mut self, nanos: Nanos) {
        let micros = to_micros(nanos);
        self.all.saturating_record(micros);
        self.max = self.max.max(micros);
    }

    /// Forgets everything but keeps the memory.
    pub fn clear(&mut self) {
        self.known.reset();
        self.all.reset();
        self.max = 0;
        self.max_known = 0;
    }

    /// Number of durations, censored ones included.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.all.len()
    }

    /// Number of censored durations.
    #[must_use]
    pub fn censored(&self) -> u64 {
        self.all.len() - self.known.len()
    }

    /// The duration of rank ⌈q · n⌉. A lower bound if the censored ones, had they lasted for ever,
    /// would move it. `None` if empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Bound> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        // A hair is taken off so that 0.9 · 10 is rank 9 in floating point too.
        let rank = ((q * count as f64 - 1e-9).ceil().max(1.0) as u64).min(count);
        let low = at_rank(&self.all, rank).min(self.max);
        let exact =
            rank <= self.known.len() && at_rank(&self.known, rank).min(self.max_known) == low;
        Some(Bound { micros: low as f64, at_least: !exact })
    }

    /// The longest duration, to the microsecond.
    #[must_use]
    pub fn max(&self) -> Option<Bound> {
        (self.count() > 0).then(|| Bound { micros: self.max as f64, at_least: self.censored() > 0 })
    }

    /// Points (quantile, duration) for a percentile curve, out to the last rank.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, Bound)> {
        let mut points: Vec<(f64, Bound)> = Vec::new();
        for q in curve_quantiles(self.count()) {
            // Just above q, so that the last point is the longest duration.
            points.extend(self.quantile(q + 1e-7 * (1.0 - q)).map(|bound| (q, bound)));
        }
        points
    }
}

/// Quantiles at which a curve of `count` durations has points, out to the last rank.
#[must_use]
pub fn curve_quantiles(count: u64) -> Vec<f64> {
    let tail_max = 1.0 / count.max(1) as f64;
    let mut quantiles: Vec<f64> = (0..8).map(|step| f64::from(step) / 10.0).collect();
    for step in CURVE_STEPS_PER_DECADE / 2.. {
        let tail = 10f64.powf(-f64::from(step) / f64::from(CURVE_STEPS_PER_DECADE));
        if tail < tail_max {
            break;
        }
        quantiles.push(1.0 - tail);
    }
    quantiles.push(1.0 - tail_max);
    quantiles.sort_by(f64::total_cmp);
    quantiles.dedup();
    quantiles
}

/// The value of the `rank`-th smallest, counted from 1. Half a rank below, so that no rounding of
/// the quotient can reach the next one.
fn at_rank(histogram: &Histogram<u64>, rank: u64) -> u64 {
    histogram.value_at_quantile((rank as f64 - 0.5) / histogram.len() as f64)
}

/// Nanoseconds as microseconds, rounded to the nearest.
fn to_micros(nanos: Nanos) -> u64 {
    (nanos + 500) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(micros: f64) -> Option<Bound> {
        Some(Bound { micros, at_least: false })
    }

    fn at_least(micros: f64) -> Option<Bound> {
        Some(Bound { micros, at_least: true })
    }

    #[test]
    fn an_empty_distribution_has_no_figures() {
        let empty = Distribution::default();
        assert_eq!(empty.quantile(0.5), None);
        assert_eq!(empty.max(), None);
        assert!(empty.curve().is_empty());
    }

    #[test]
    fn quantiles_are_nearest_rank() {
        let mut hundred = Distribution::default();
        for micros in (1..=100).rev() {
            hundred.add(micros * 1000);
        }
        assert_eq!(hundred.count(), 100);
        assert_eq!(hundred.quantile(0.0), exact(1.0));
        assert_eq!(hundred.quantile(0.5), exact(50.0));
        assert_eq!(hundred.quantile(0.9), exact(90.0));
        assert_eq!(hundred.quantile(0.99), exact(99.0));
        assert_eq!(hundred.quantile(0.999), exact(100.0));
        assert_eq!(hundred.quantile(1.0), exact(100.0));
        assert_eq!(hundred.max(), exact(100.0));
    }

    #[test]
    fn a_quantile_beyond_the_censoring_point_is_a_lower_bound() {
        // 95 answers of 1 ms, 5 time-outs after 1 s: p95 is known, p96 is not.
        let mut mixed = Distribution::default();
        (0..95).for_each(|_| mixed.add(1_000_000));
        (0..5).for_each(|_| mixed.add_censored(1_000_000_000));
        assert_eq!(mixed.censored(), 5);
        assert_eq!(mixed.quantile(0.5), exact(1000.0));
        assert_eq!(mixed.quantile(0.95), exact(1000.0));
        assert_eq!(mixed.quantile(0.96), at_least(1_000_000.0));
        assert_eq!(mixed.max(), at_least(1_000_000.0));
    }

    #[test]
    fn early_censoring_makes_later_quantiles_lower_bounds() {
        // 1, 2, 3, 4 ms known and one lost after 0.5 ms: had it lasted for ever, the median (rank
        // 3 of 5) were 3 ms; as far as is known it is 2 ms or more.
        let mut mixed = Distribution::default();
        (1..=4).for_each(|millis| mixed.add(millis * 1_000_000));
        mixed.add_censored(500_000);
        assert_eq!(mixed.quantile(0.5), at_least(2000.0));
        assert_eq!(mixed.quantile(1.0), at_least(4000.0));
    }

    #[test]
    fn the_maximum_is_never_cut_off() {
        let mut long = Distribution::default();
        long.add(30 * 60 * 1_000_000_000);
        assert_eq!(long.max(), exact(1_800_000_000.0));
        assert_eq!(long.quantile(0.99), exact(1_800_000_000.0));
        long.clear();
        assert_eq!(long.count(), 0);
        long.add(7_400);
        assert_eq!(long.max(), exact(7.0));
    }

    #[test]
    fn a_curve_ends_at_the_longest_duration() {
        let mut thousand = Distribution::default();
        (1..=1000).for_each(|micros| thousand.add(micros * 1000));
        let curve = thousand.curve();
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0), "{curve:?}");
        assert!(curve.windows(2).all(|pair| pair[0].1.micros <= pair[1].1.micros), "{curve:?}");
        let (q, bound) = *curve.last().unwrap();
        assert!((q - 0.999).abs() < 1e-9);
        assert_eq!(bound, Bound { micros: 1000.0, at_least: false });
    }
}
