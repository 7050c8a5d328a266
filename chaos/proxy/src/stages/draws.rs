//! Random draws of one toxic on one connection, from a stream of their own.
//! No ambient randomness: everything follows from the seed and the names.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Of the heavy tail; variance and mean are finite, as in netem's table of the same name.
const PARETO_SHAPE: f64 = 3.0;
/// The longest draw of the tail, in units of its scale. Without a bound one piece in a thousand
/// million would hold its connection up for minutes.
const PARETO_MAX: f64 = 19.0;

/// Draws of one (seed, link, toxic, connection). Nothing done to another link, toxic or
/// connection shifts them.
#[derive(Clone, Debug)]
pub(crate) struct Draws {
    rng: ChaCha8Rng,
}

impl Draws {
    /// The stream of that name; the same arguments give the same draws on every machine.
    pub(crate) fn new(seed: u64, link: &str, toxic: &str, connection: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        for name in [link, toxic] {
            // The length keeps ("ab", "c") apart from ("a", "bc").
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
        }
        hash.update(connection.to_le_bytes());
        Self { rng: ChaCha8Rng::from_seed(hash.finalize().into()) }
    }

    /// Evenly from 0 up to, not including, 1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.rng.random::<f64>()
    }

    /// Standard normal, by Box and Muller; takes two draws always, so that streams stay aligned.
    pub(crate) fn normal(&mut self) -> f64 {
        // 1 - u lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Bounded Pareto with shape 3, moved so that it begins at 0, in units of its scale: half of
    /// the draws are below 0.26, one of a hundred is above 3.6, none above [`PARETO_MAX`].
    pub(crate) fn pareto(&mut self) -> f64 {
        let beyond = (1.0 + PARETO_MAX).powf(-PARETO_SHAPE);
        let survives = (1.0 - beyond).mul_add(-self.unit(), 1.0);
        survives.powf(-1.0 / PARETO_SHAPE) - 1.0
    }

    /// Evenly from `low` to `high`, both included; `low` when the range is empty.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.rng.random_range(low..=high.max(low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_named_and_independent() {
        let take = |seed, link: &str, toxic: &str, connection| {
            let mut draws = Draws::new(seed, link, toxic, connection);
            (0..4).map(|_| draws.unit().to_bits()).collect::<Vec<_>>()
        };
        let first = take(1, "a-b", "lag", 0);
        assert_eq!(first, take(1, "a-b", "lag", 0));
        for other in [
            take(2, "a-b", "lag", 0),
            take(1, "b-a", "lag", 0),
            take(1, "a-b", "log", 0),
            take(1, "a-b", "lag", 1),
            take(1, "a-", "blag", 0),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn normal_has_the_asked_moments() {
        let mut draws = Draws::new(7, "a-b", "lag", 0);
        let sample: Vec<f64> = (0..20_000).map(|_| draws.normal()).collect();
        let mean = sample.iter().sum::<f64>() / 20_000.0;
        let variance = sample.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03, "{mean}");
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
    }

    #[test]
    fn pareto_has_the_asked_quantiles_and_a_bound() {
        let mut draws = Draws::new(7, "a-b", "lag", 0);
        let mut sample: Vec<f64> = (0..40_000).map(|_| draws.pareto()).collect();
        sample.sort_unstable_by(f64::total_cmp);
        assert!(sample[0] >= 0.0 && sample[39_999] <= PARETO_MAX, "{sample:?}");
        // 1 - q = (1 + x)^-3.
        for (quantile, wanted) in [(0.5, 0.26), (0.9, 1.154), (0.99, 3.64)] {
            let at = sample[(quantile * 40_000.0) as usize];
            assert!((at - wanted).abs() < 0.08 * (1.0 + wanted), "{quantile}: {at}");
        }
    }
}
