//! The pauses between the times of a storm, drawn from the seed. Pure.

use super::stream;

/// The place of one time of a storm behind its first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Name of the storm, under which all its pauses are drawn.
    pub storm: String,
    /// Which pause it comes behind, from 0.
    pub index: usize,
    /// How many pauses there are.
    pub count: usize,
    /// What they are on average, in milliseconds.
    pub every_ms: u64,
}

impl Gap {
    /// Milliseconds from the return of those before it: between about half of the average and about
    /// one and a half times it. All pauses of a storm together are never more than their average
    /// says, so a storm that fits its phase does so under every seed.
    #[must_use]
    pub fn ms(&self, seed: u64) -> u64 {
        let draws = stream::Stream::new(seed, &format!("fault/{}/storm", self.storm));
        // In thousandths of the average.
        let weight = |index: usize| 500 + draws.at(index.try_into().unwrap_or(u64::MAX)) % 1_001;
        let sum: u128 = (0..self.count).map(|index| u128::from(weight(index))).sum();
        let all = u128::from(self.every_ms) * (self.count as u128);
        let share = all * u128::from(weight(self.index)) / sum.max(1);
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_and_add_up_to_no_more_than_their_average() {
        for count in [1, 2, 7, 40] {
            let gaps = |seed| -> Vec<u64> {
                let gap = |index| Gap { storm: "s".to_owned(), index, count, every_ms: 1_000 };
                (0..count).map(|index| gap(index).ms(seed)).collect()
            };
            let (drawn, sum) = (gaps(1), gaps(1).iter().sum::<u64>());
            let (whole, short) = (1_000 * count as u64, count as u64);
            assert!(sum <= whole && sum + short >= whole, "{drawn:?}");
            assert!(drawn.iter().all(|gap| (300..=3_000).contains(gap)), "{drawn:?}");
            assert_eq!(drawn, gaps(1));
            if count > 2 {
                assert_ne!(drawn, gaps(2));
                assert!(drawn.iter().min() < drawn.iter().max(), "{drawn:?}");
            }
        }
    }
}
