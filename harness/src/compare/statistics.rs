//! Statistics of effects, one a block: mean and Student's interval, the shift of Hodges and
//! Lehmann, tests against a margin, Holm's correction, how many blocks a question needs.
//! Pure functions over numbers; may not know what the numbers are of.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Share of true nothings that may be taken for something, over all metrics of a gate.
pub const ALPHA: f64 = 0.05;
/// Probability with which an effect of the size that is called detectable is seen.
const POWER: f64 = 0.8;
/// More blocks than this are not worth naming.
const BLOCKS_MAX: usize = 1_000;

/// What blocks say together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// How many blocks.
    pub blocks: usize,
    /// Mean over the blocks.
    pub mean: f64,
    /// Its 95 % interval by Student's t; `None` of a single block.
    pub interval: Option<(f64, f64)>,
    /// Median of the means of all pairs of blocks, each with itself as well.
    pub shift: f64,
    /// Standard deviation between blocks; `None` of a single one.
    pub spread: Option<f64>,
}

impl Effect {
    /// The effect of `values`, one a block; `None` of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let blocks = values.len();
        let shift = hodges_lehmann(values)?;
        let mean = values.iter().sum::<f64>() / blocks as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let spread = (blocks > 1).then(|| (squares / (blocks - 1) as f64).sqrt());
        let interval = spread.map(|spread| {
            let half = student(blocks - 1, 1.0 - ALPHA / 2.0) * spread / (blocks as f64).sqrt();
            (mean - half, mean + half)
        });
        Some(Self { blocks, mean, interval, shift, spread })
    }

    /// Probability of a mean this high or higher if the truth were `limit`; 1 of a single block.
    #[must_use]
    pub fn chance_above(&self, limit: f64) -> f64 {
        let Some(error) = self.error() else { return 1.0 };
        let beyond = self.mean - limit;
        if error <= 0.0 {
            return if beyond > 0.0 { 0.0 } else { 1.0 };
        }
        distribution(self.blocks - 1).sf(beyond / error)
    }

    /// The same of a mean this low or lower.
    #[must_use]
    pub fn chance_below(&self, limit: f64) -> f64 {
        Self { mean: -self.mean, ..*self }.chance_above(-limit)
    }

    /// Standard error of the mean.
    fn error(&self) -> Option<f64> {
        self.spread.map(|spread| spread / (self.blocks as f64).sqrt())
    }

    /// The smallest effect that so many blocks see in four of five cases; `None` of one block.
    #[must_use]
    pub fn detectable(&self) -> Option<f64> {
        Some(reach(self.blocks) * self.spread?)
    }

    /// How many further blocks would tell on which side of the margins the mean lies, if it and the
    /// spread are what they seem; `None` where the mean is nearly at a margin, or of one block.
    #[must_use]
    pub fn more(&self, margin: f64) -> Option<usize> {
        let spread = self.spread?;
        let room = (margin - self.mean.abs()).abs();
        let wanted = (self.blocks + 1..=BLOCKS_MAX).find(|n| reach(*n) * spread <= room)?;
        Some(wanted - self.blocks)
    }
}

/// Deviations between a truth and a limit that `blocks` blocks tell apart.
fn reach(blocks: usize) -> f64 {
    let freedom = blocks.saturating_sub(1).max(1);
    let both = student(freedom, 1.0 - ALPHA / 2.0) + student(freedom, POWER);
    both / (blocks as f64).sqrt()
}

fn distribution(freedom: usize) -> StudentsT {
    StudentsT::new(0.0, 1.0, freedom.max(1) as f64).expect("one degree of freedom at least")
}

/// Quantile of Student's t with so many degrees of freedom, one at least.
#[must_use]
pub fn student(freedom: usize, quantile: f64) -> f64 {
    distribution(freedom).inverse_cdf(quantile)
}

/// The median; `None` of nothing.
#[must_use]
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

/// The shift of Hodges and Lehmann of paired differences: the median of their Walsh averages.
fn hodges_lehmann(values: &[f64]) -> Option<f64> {
    let from = |(at, low): (usize, &f64)| {
        let low = *low;
        values[at..].iter().map(move |high| f64::midpoint(low, *high))
    };
    median(values.iter().enumerate().flat_map(from).collect())
}

/// Holm's correction: the probabilities of a family, each as large as it is after all of the
/// family were looked at.
#[must_use]
pub(super) fn holm(chances: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..chances.len()).collect();
    order.sort_by(|a, b| chances[*a].total_cmp(&chances[*b]));
    let mut corrected = vec![1.0; chances.len()];
    let mut least = 0.0_f64;
    for (rank, at) in order.into_iter().enumerate() {
        least = least.max((chances.len() - rank) as f64 * chances[at]).min(1.0);
        corrected[at] = least;
    }
    corrected
}

/// Expected values: `SciPy` 1.17.1 (`stats.t`, `stats.ttest_1samp`, `numpy.median` of all pairs);
/// Holm's by hand.
#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: [f64; 6] = [0.031, -0.012, 0.054, 0.020, 0.043, 0.007];

    fn near(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 1e-9, "{found}, not {wanted}");
    }

    /// FEATURES: H9
    #[test]
    fn mean_interval_and_shift_are_those_of_scipy() {
        let effect = Effect::of(&BLOCKS).unwrap();
        near(effect.mean, 0.023_833_333_333_333_335);
        let (low, high) = effect.interval.unwrap();
        near(low, -0.001_487_586_416_475_787);
        near(high, 0.049_154_253_083_142_46);
        near(effect.spread.unwrap(), 0.024_128_130_194_166_86);
        near(effect.shift, 0.025);
    }

    /// FEATURES: H9
    #[test]
    fn chances_are_those_of_scipy() {
        let effect = Effect::of(&BLOCKS).unwrap();
        for (limit, above, below) in [
            (0.05, 0.977_461_942_060_594_6, 0.022_538_057_939_405_387),
            (-0.05, 0.000_334_043_747_425_478_35, 0.999_665_956_252_574_5),
            (0.0, 0.030_074_954_816_349_572, 0.969_925_045_183_650_4),
            (0.01, 0.109_589_770_141_838_57, 0.890_410_229_858_161_4),
        ] {
            near(effect.chance_above(limit), above);
            near(effect.chance_below(limit), below);
        }
        for (freedom, wanted) in [(1, 12.706_204_736), (4, 2.776_445_105), (30, 2.042_272_456)] {
            assert!((student(freedom, 0.975) - wanted).abs() < 1e-7, "{freedom}");
        }
        assert!((student(4, 0.8) - 0.940_964_577).abs() < 1e-7);
    }

    #[test]
    fn one_block_says_nothing_and_equal_blocks_all() {
        let one = Effect::of(&[0.3]).unwrap();
        assert_eq!((one.interval, one.spread, one.more(0.1)), (None, None, None));
        near(one.chance_above(0.0), 1.0);
        near(one.chance_below(1.0), 1.0);
        let equal = Effect::of(&[0.25; 4]).unwrap();
        assert_eq!(equal.interval, Some((0.25, 0.25)));
        near(equal.chance_above(0.1), 0.0);
        near(equal.chance_below(0.1), 1.0);
        assert_eq!(Effect::of(&[]), None);
    }

    /// FEATURES: H9
    #[test]
    fn holm_corrects_step_by_step() {
        let found = holm(&[0.01, 0.04, 0.03, 0.005, 0.5]);
        for (found, wanted) in found.into_iter().zip([0.04, 0.09, 0.09, 0.025, 0.5]) {
            near(found, wanted);
        }
        assert_eq!(holm(&[]), [0.0; 0]);
        near(holm(&[0.9, 0.8])[0], 1.0);
    }

    #[test]
    fn more_blocks_are_wanted_the_nearer_the_margin() {
        let at =
            |mean: f64| Effect { blocks: 5, mean, interval: None, shift: mean, spread: Some(0.04) };
        let (far, near) = (at(0.0).more(0.05).unwrap(), at(0.03).more(0.05).unwrap());
        assert!(far < near, "{far} {near}");
        // A sixth block is enough for what lies far beyond.
        assert_eq!(at(0.5).more(0.05), Some(1));
        assert_eq!(at(0.05).more(0.05), None);
        // With so many, the spread reaches as far as the room and no farther.
        let wanted = 5 + far;
        assert!(reach(wanted) * 0.04 <= 0.05 && reach(wanted - 1) * 0.04 > 0.05);
    }
}
