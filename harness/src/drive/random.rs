//! Counter-based random numbers: element k of a named stream is a function of (root seed, name, k).
//! The names are those of `plan::stream`, the only source of randomness; this file expands them
//! at a few nanoseconds a number, where a cipher block would cost more than sending a request.

use crate::plan::stream;

/// The odd constant of SplitMix64, 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// One named stream of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream(u64);

impl Stream {
    /// The stream called `name` under `root`. Different names give unrelated streams.
    #[must_use]
    pub fn named(root: u64, name: &str) -> Self {
        Self(stream::at(root, name, 0))
    }

    /// 64 random bits for element `k`.
    #[must_use]
    pub fn bits(self, k: u64) -> u64 {
        mix(self.0.wrapping_add(k.wrapping_add(1).wrapping_mul(GOLDEN)))
    }

    /// A number in [0, 1) for element `k`, with the 53 bits a double can hold.
    #[must_use]
    pub fn unit(self, k: u64) -> f64 {
        (self.bits(k) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An exponentially distributed number with mean 1 for element `k`.
    #[must_use]
    pub fn exponential(self, k: u64) -> f64 {
        // 1 - unit lies in (0, 1], so the logarithm is finite.
        -(1.0 - self.unit(k)).ln()
    }

    /// A number in [0, n) for element `k`; 0 when `n` is 0.
    #[must_use]
    pub fn below(self, k: u64, n: u64) -> u64 {
        // Lemire's multiply-shift: its bias is below n / 2^64, far under what any run can see.
        let wide = u128::from(self.bits(k)) * u128::from(n);
        u64::try_from(wide >> 64).unwrap_or(0)
    }
}

/// SplitMix64's finalizer: a bijection whose output passes the usual batteries.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_output_is_that_of_splitmix64() {
        // Reference value of the public SplitMix64 for seed 0.
        assert_eq!(Stream(0).bits(0), 0xE220_A839_7B1D_CDAF);
    }

    #[test]
    fn moments_of_unit_and_exponential() {
        let stream = Stream::named(7, "test");
        let n = 200_000;
        let unit: f64 = (0..n).map(|k| stream.unit(k)).sum::<f64>() / n as f64;
        let gaps: Vec<f64> = (0..n).map(|k| stream.exponential(k)).collect();
        let mean = gaps.iter().sum::<f64>() / n as f64;
        let var = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / n as f64;
        assert!((unit - 0.5).abs() < 0.005, "{unit}");
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        assert!((var - 1.0).abs() < 0.03, "{var}");
    }

    #[test]
    fn streams_of_different_names_or_seeds_are_unrelated() {
        let a = Stream::named(1, "keys");
        for b in [Stream::named(1, "class"), Stream::named(2, "keys")] {
            let same = (0..1000).filter(|k| a.below(*k, 2) == b.below(*k, 2)).count();
            assert!((400..600).contains(&same), "{same}");
        }
    }
}
