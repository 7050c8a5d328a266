//! How keys are drawn: YCSB's distributions over dense keys, from numbers handed in.
//! Knows no operation, no clock and no generator of its own.

use crate::plan::KeyDistribution;

/// Draws keys below a number of keys that may grow.
#[derive(Debug, Clone)]
pub struct KeyChooser {
    shape: Shape,
    /// Keys that exist when drawing: the loaded ones, and for `latest` those created since.
    count: u64,
}

#[derive(Debug, Clone)]
enum Shape {
    Uniform,
    Zipfian { ranks: Zipf, scramble: Scramble },
    Latest { ranks: Zipf },
    Hotspot { hot: u64, op_fraction: f64 },
    Sequential,
}

impl KeyChooser {
    /// A chooser over keys `0..count`. `salt` decides which keys the popular ones are.
    #[must_use]
    pub fn new(distribution: KeyDistribution, count: u64, salt: u64) -> Self {
        let shape = match distribution {
            KeyDistribution::Uniform => Shape::Uniform,
            KeyDistribution::Zipfian { theta } => Shape::Zipfian {
                ranks: Zipf::new(count, theta),
                scramble: Scramble::new(count, salt),
            },
            KeyDistribution::Latest { theta } => Shape::Latest { ranks: Zipf::new(count, theta) },
            KeyDistribution::Hotspot { data_fraction, op_fraction } => Shape::Hotspot {
                hot: ((count as f64 * data_fraction).ceil() as u64).clamp(1, count.max(1)),
                op_fraction,
            },
            KeyDistribution::Sequential => Shape::Sequential,
        };
        Self { shape, count }
    }

    /// Says that one more key exists. Only `latest` ever draws it: the other distributions keep
    /// to the loaded keys, so that a run's key popularity does not drift while it is measured.
    /// True if it will be drawn.
    pub fn grow(&mut self) -> bool {
        let Shape::Latest { ranks } = &mut self.shape else {
            return false;
        };
        self.count += 1;
        ranks.grow();
        true
    }

    /// Number of keys that may be drawn.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The key for draw number `n` (counted from 0), given two independent numbers in [0, 1).
    #[must_use]
    pub fn key(&self, n: u64, u: f64, second: f64) -> u64 {
        let at = |u: f64, count: u64| ((u * count as f64) as u64).min(count.saturating_sub(1));
        match &self.shape {
            Shape::Uniform => at(u, self.count),
            Shape::Zipfian { ranks, scramble } => scramble.apply(ranks.rank(u)),
            Shape::Latest { ranks } => (self.count - 1).saturating_sub(ranks.rank(u)),
            Shape::Hotspot { hot, op_fraction } => {
                if second < *op_fraction || *hot == self.count {
                    at(u, *hot)
                } else {
                    hot + at(u, self.count - hot)
                }
            }
            Shape::Sequential => n % self.count.max(1),
        }
    }
}

/// Ranks with probability proportional to 1/(rank+1)^theta, by the method of Gray et al. (SIGMOD
/// 1994) that YCSB's `ZipfianGenerator` uses: exact for the two most popular ranks, and the
/// authors' closed-form approximation for the rest.
#[derive(Debug, Clone)]
pub struct Zipf {
    n: u64,
    theta: f64,
    alpha: f64,
    zeta_2: f64,
    zeta_n: f64,
    eta: f64,
}

impl Zipf {
    /// Ranks `0..n` with skew `theta` in (0, 1). Takes time proportional to `n`.
    #[must_use]
    pub fn new(n: u64, theta: f64) -> Self {
        let term = |i: u64| (i as f64).powf(-theta);
        let mut zipf = Self {
            n,
            theta,
            alpha: 1.0 / (1.0 - theta),
            zeta_2: term(1) + term(2),
            zeta_n: (1..=n).map(term).sum(),
            eta: 0.0,
        };
        zipf.set_eta();
        zipf
    }

    /// One more rank, at the price of one power.
    pub fn grow(&mut self) {
        self.n += 1;
        self.zeta_n += (self.n as f64).powf(-self.theta);
        self.set_eta();
    }

    /// The rank at `u` in [0, 1).
    #[must_use]
    pub fn rank(&self, u: f64) -> u64 {
        let uz = u * self.zeta_n;
        if uz < 1.0 || self.n < 2 {
            return 0;
        }
        if uz < self.zeta_2 || self.n == 2 {
            return 1;
        }
        let rank = self.n as f64 * (self.eta * u - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.n - 1)
    }

    fn set_eta(&mut self) {
        let head = (2.0 / self.n as f64).powf(1.0 - self.theta);
        self.eta = (1.0 - head) / (1.0 - self.zeta_2 / self.zeta_n);
    }
}

/// Spreads popular ranks over the key space: rank → (rank · a + b) mod n with a coprime to n.
///
/// YCSB hashes ranks by FNV modulo n instead, which folds several ranks into one key and leaves
/// others without any. A bijection keeps the popularity of keys exactly Zipf.
#[derive(Debug, Clone, Copy)]
struct Scramble {
    n: u64,
    factor: u64,
    offset: u64,
}

impl Scramble {
    fn new(n: u64, salt: u64) -> Self {
        let n = n.max(1);
        // Near the golden section neighbours in rank land far apart.
        let mut factor = ((n as f64 * 0.618_033_988_749_895) as u64).max(1);
        while gcd(factor, n) != 1 {
            factor += 1;
        }
        Self { n, factor, offset: salt % n }
    }

    fn apply(self, rank: u64) -> u64 {
        let wide = u128::from(rank) * u128::from(self.factor) + u128::from(self.offset);
        u64::try_from(wide % u128::from(self.n)).unwrap_or(0)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::random::Stream;

    fn counts(chooser: &KeyChooser, keys: usize, draws: u64) -> Vec<u64> {
        let (u, second) = (Stream::named(3, "u"), Stream::named(3, "second"));
        let mut counts = vec![0; keys];
        for n in 0..draws {
            let key = chooser.key(n, u.unit(n), second.unit(n));
            counts[usize::try_from(key).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn uniform_passes_chi_square() {
        let draws = 100_000;
        let chooser = KeyChooser::new(KeyDistribution::Uniform, 100, 1);
        let expected = draws as f64 / 100.0;
        let chi: f64 = counts(&chooser, 100, draws)
            .iter()
            .map(|c| (*c as f64 - expected).powi(2) / expected)
            .sum();
        // 99 degrees of freedom: the 99.9 % point is 148.2.
        assert!(chi < 148.2, "{chi}");
    }

    #[test]
    fn zipf_head_is_exact_and_tail_close() {
        let (n, theta, draws) = (1000u64, 0.99, 1_000_000);
        let zipf = Zipf::new(n, theta);
        let u = Stream::named(9, "zipf");
        let mut seen = vec![0u64; 1000];
        for k in 0..draws {
            seen[usize::try_from(zipf.rank(u.unit(k))).unwrap()] += 1;
        }
        let zeta: f64 = (1..=n).map(|i| (i as f64).powf(-theta)).sum();
        for (rank, tolerance) in [(0usize, 0.01), (1, 0.02)] {
            let p = ((rank + 1) as f64).powf(-theta) / zeta;
            let got = seen[rank] as f64 / draws as f64;
            assert!((got / p - 1.0).abs() < tolerance, "rank {rank}: {got} for {p}");
        }
        // The approximation is judged by mass: the ten and the hundred most popular ranks.
        for (head, tolerance) in [(10usize, 0.05), (100, 0.03)] {
            let p: f64 = (1..=head).map(|i| (i as f64).powf(-theta)).sum::<f64>() / zeta;
            let got = seen[..head].iter().sum::<u64>() as f64 / draws as f64;
            assert!((got / p - 1.0).abs() < tolerance, "head {head}: {got} for {p}");
        }
    }

    #[test]
    fn scramble_is_a_bijection_that_moves_the_head_apart() {
        for n in [1u64, 2, 10, 1000, 1024] {
            let scramble = Scramble::new(n, 77);
            let mut keys: Vec<u64> = (0..n).map(|r| scramble.apply(r)).collect();
            if n >= 10 {
                assert!(keys[0].abs_diff(keys[1]) > 2);
            }
            keys.sort_unstable();
            assert_eq!(keys, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn scrambled_zipf_gives_some_key_the_first_ranks_share() {
        let shape = KeyDistribution::Zipfian { theta: 0.8 };
        let mut counts = counts(&KeyChooser::new(shape, 500, 11), 500, 200_000);
        counts.sort_unstable();
        let zeta: f64 = (1..=500).map(|i| f64::from(i).powf(-0.8)).sum();
        let top = counts[499] as f64 / 200_000.0;
        assert!((top * zeta - 1.0).abs() < 0.03, "{top}");
    }

    #[test]
    fn latest_follows_the_newest_key() {
        let mut chooser = KeyChooser::new(KeyDistribution::Latest { theta: 0.9 }, 100, 0);
        assert_eq!(chooser.key(0, 0.0, 0.0), 99);
        chooser.grow();
        assert_eq!(chooser.key(0, 0.0, 0.0), 100);
        assert!(chooser.key(0, 0.999_999, 0.0) < 10);
        let grown = Zipf { ..chooser_ranks(&chooser) };
        assert!((grown.zeta_n - Zipf::new(101, 0.9).zeta_n).abs() < 1e-9);
    }

    fn chooser_ranks(chooser: &KeyChooser) -> Zipf {
        let Shape::Latest { ranks } = &chooser.shape else { panic!("not latest") };
        ranks.clone()
    }

    #[test]
    fn hotspot_sends_its_share_to_the_hot_keys() {
        let shape = KeyDistribution::Hotspot { data_fraction: 0.2, op_fraction: 0.8 };
        let counts = counts(&KeyChooser::new(shape, 100, 0), 100, 100_000);
        let hot = counts[..20].iter().sum::<u64>() as f64 / 100_000.0;
        assert!((hot - 0.8).abs() < 0.01, "{hot}");
        assert!(counts.iter().all(|c| *c > 0));
    }

    #[test]
    fn sequential_goes_round() {
        let chooser = KeyChooser::new(KeyDistribution::Sequential, 3, 0);
        let keys: Vec<u64> = (0..7).map(|n| chooser.key(n, 0.5, 0.5)).collect();
        assert_eq!(keys, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn tiny_key_spaces_stay_in_range() {
        for n in 1..4 {
            for shape in [
                KeyDistribution::Zipfian { theta: 0.99 },
                KeyDistribution::Latest { theta: 0.99 },
                KeyDistribution::Hotspot { data_fraction: 0.5, op_fraction: 0.5 },
            ] {
                let chooser = KeyChooser::new(shape, n, 5);
                for step in 0..1000 {
                    let u = f64::from(step) / 1000.0;
                    assert!(chooser.key(0, u, 1.0 - u) < n, "{shape:?} {n}");
                }
            }
        }
    }
}
