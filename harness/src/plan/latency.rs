//! The distributions of delays that a spec can ask for, and draws from them to hold against what
//! was measured: written anew here, for what a proxy makes of them is what is measured. May not
//! know proxies.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;
use serde::{Deserialize, Serialize};

use super::stream;

/// Of the tail of [`DelayDistribution::Pareto`].
const PARETO_SHAPE: f64 = 3.0;
/// The longest it gets, in units of its scale.
const PARETO_MAX: f64 = 19.0;

/// How the delays of messages vary.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DelayDistribution {
    /// Evenly from `delay - jitter` to `delay + jitter`.
    #[default]
    Uniform,
    /// A bell curve round `delay` with the standard deviation `jitter`.
    Normal,
    /// From `delay` up with a heavy tail of the scale `jitter`: half of the messages get less than
    /// a quarter of it on top, one of a hundred more than 3.6 times it, none more than 19 times.
    Pareto,
}

impl DelayDistribution {
    /// True for the usual one.
    #[must_use]
    pub fn is_uniform(&self) -> bool {
        *self == Self::Uniform
    }

    /// As it is written in a spec.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Normal => "normal",
            Self::Pareto => "pareto",
        }
    }

    /// A delay with its variation, for people; microseconds.
    #[must_use]
    pub fn told(self, delay_us: u64, jitter_us: u64) -> String {
        match self {
            Self::Uniform => format!("{delay_us}±{jitter_us} µs"),
            Self::Normal | Self::Pareto => format!("{delay_us} µs {} {jitter_us} µs", self.word()),
        }
    }

    /// `count` round trips of nothing but two such delays, ascending, in microseconds. Always the
    /// same ones.
    #[must_use]
    pub fn round_trips(self, delay_us: u64, jitter_us: u64, count: usize) -> Vec<f64> {
        let mut rng = stream::rng(0, "latency/reference");
        #[allow(clippy::cast_precision_loss, reason = "a day in microseconds is far below 2^52")]
        let (delay, jitter) = (delay_us as f64, jitter_us as f64);
        let mut way = || jitter.mul_add(self.deviation(&mut rng), delay).max(0.0);
        let mut trips: Vec<f64> = (0..count).map(|_| way() + way()).collect();
        trips.sort_unstable_by(f64::total_cmp);
        trips
    }

    /// One draw, in units of the jitter.
    fn deviation(self, rng: &mut ChaCha8Rng) -> f64 {
        match self {
            Self::Uniform => unit(rng).mul_add(2.0, -1.0),
            Self::Normal => {
                let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
                radius * (std::f64::consts::TAU * unit(rng)).cos()
            }
            Self::Pareto => {
                let beyond = (1.0 + PARETO_MAX).powf(-PARETO_SHAPE);
                let survives = 1.0 - unit(rng) * (1.0 - beyond);
                survives.powf(-1.0 / PARETO_SHAPE) - 1.0
            }
        }
    }
}

/// From 0 up to, not including, 1.
fn unit(rng: &mut ChaCha8Rng) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    let bits = (rng.next_u64() >> 11) as f64;
    bits / 9_007_199_254_740_992.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and standard deviation.
    fn moments(of: &[f64]) -> (f64, f64) {
        #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
        let count = of.len() as f64;
        let mean = of.iter().sum::<f64>() / count;
        let variance = of.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        (mean, variance.sqrt())
    }

    #[test]
    fn two_ways_have_the_moments_of_their_distribution() {
        let root = 2.0_f64.sqrt();
        for (distribution, mean, deviation) in [
            (DelayDistribution::Uniform, 20_000.0, 1_000.0 * root / 3.0_f64.sqrt()),
            (DelayDistribution::Normal, 20_000.0, 1_000.0 * root),
            // A Pareto variable with shape 3 has mean 3/2 and variance 3/4.
            (DelayDistribution::Pareto, 21_000.0, 1_000.0 * root * 0.75_f64.sqrt()),
        ] {
            let trips = distribution.round_trips(10_000, 1_000, 20_000);
            let (found_mean, found_deviation) = moments(&trips);
            assert!((found_mean - mean).abs() < 50.0, "{distribution:?} {found_mean}");
            let off = (found_deviation / deviation - 1.0).abs();
            assert!(off < 0.12, "{distribution:?} {found_deviation} {deviation}");
            assert!(trips[0] >= 0.0 && trips.is_sorted(), "{distribution:?}");
        }
        let most = DelayDistribution::Pareto.round_trips(0, 1_000, 20_000);
        assert!(most[0] >= 0.0 && most[19_999] <= 38_000.0);
    }
}
