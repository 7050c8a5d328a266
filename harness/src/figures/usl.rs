//! The Universal Scalability Law (Gunther): throughput of n servers or clients is
//! `λ·n / (1 + σ·(n−1) + κ·n·(n−1))`. λ is what one does, σ the share that is done one at a time,
//! κ what everybody's agreeing with everybody costs.
//!
//! n over throughput is linear in 1/λ, σ/λ and κ/λ, so the least squares have a closed form. Each
//! point weighs as the law's own errors do: throughput C with an error e gives n/C one of n·e/C².

use serde::{Deserialize, Serialize};

use super::bootstrap::{interval, mean, resamples};

/// Fewer sizes than this are met by a law with three coefficients whatever they are.
pub const SIZES_MIN: usize = 4;
/// The determinant of scaled equations lies between 0, alike, and 1, independent. Rounding gives
/// alike ones some 1e-16.
const DETERMINED_MIN: f64 = 1e-12;

/// The law's coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usl {
    /// Throughput of one.
    pub lambda: f64,
    /// Contention; below 0 where more do more than their share.
    pub sigma: f64,
    /// Coherency.
    pub kappa: f64,
}

impl Usl {
    /// Throughput of `n`.
    #[must_use]
    pub fn at(&self, n: f64) -> f64 {
        self.lambda * n / (1.0 + self.sigma * (n - 1.0) + self.kappa * n * (n - 1.0))
    }

    /// How throughput goes from size `first` to `last`. One more does more where
    /// 1 − σ − κ·n² is above 0, and that changes its sign at one size at most.
    #[must_use]
    pub fn course(&self, first: f64, last: f64) -> Course {
        let grows = |n: f64| 1.0 - self.sigma - self.kappa * n * n > 0.0;
        let turn = ((1.0 - self.sigma) / self.kappa).sqrt();
        match (grows(first), grows(last)) {
            (true, _) if self.kappa > 0.0 && turn.is_finite() => Course::Peak(turn),
            (true, _) => Course::Grows,
            (false, true) => Course::Trough(turn),
            (false, false) => Course::Falls,
        }
    }
}

/// How throughput goes with size, by a law, over the sizes that were measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Course {
    /// Less from the first size on.
    Falls,
    /// More up to the last size; no size beyond it is known at which that would end.
    Grows,
    /// The most is done at this size, which may lie beyond the last.
    Peak(f64),
    /// The least is done at this size.
    Trough(f64),
}

/// A fit with the intervals of its coefficients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UslFit {
    /// Of all runs.
    pub law: Usl,
    /// 95 % of the fits to runs drawn again lie in here; `None` where no size has two runs.
    pub sigma: Option<(f64, f64)>,
    /// As `sigma`.
    pub kappa: Option<(f64, f64)>,
}

/// Fits the law to the throughputs of the runs of each size; `None` where they don't determine it.
#[must_use]
pub fn fit(sizes: &[(f64, Vec<f64>)], seed: u64) -> Option<UslFit> {
    let ns: Vec<f64> = sizes.iter().map(|(n, _)| *n).collect();
    let groups: Vec<Vec<f64>> = sizes.iter().map(|(_, rates)| rates.clone()).collect();
    if groups.iter().any(Vec::is_empty) {
        return None;
    }
    let fitted = |groups: &[Vec<f64>]| {
        let points = ns.iter().zip(groups).map(|(n, rates)| (*n, mean(rates)));
        law(&points.collect::<Vec<_>>())
    };
    let law = fitted(&groups)?;
    let repeated = groups.iter().any(|rates| rates.len() > 1);
    let laws: Vec<Usl> = match repeated {
        true => resamples(&groups, seed).iter().filter_map(|draw| fitted(draw)).collect(),
        false => Vec::new(),
    };
    let of = |part: fn(&Usl) -> f64| {
        (!laws.is_empty()).then(|| interval(laws.iter().map(part).collect()))
    };
    Some(UslFit { law, sigma: of(|law| law.sigma), kappa: of(|law| law.kappa) })
}

/// The law through (size, throughput) by weighted least squares.
fn law(points: &[(f64, f64)]) -> Option<Usl> {
    let usable = points.iter().all(|(n, rate)| *n >= 1.0 && *rate > 0.0);
    if points.len() < SIZES_MIN || !usable {
        return None;
    }
    let mut left = [[0.0; 3]; 3];
    let mut right = [0.0; 3];
    for (n, rate) in points {
        let terms = [1.0, n - 1.0, n * (n - 1.0)];
        let weight = (rate * rate / n).powi(2);
        for (row, term) in terms.iter().enumerate() {
            right[row] += weight * term * (n / rate);
            for (column, other) in terms.iter().enumerate() {
                left[row][column] += weight * term * other;
            }
        }
    }
    let [one, sigma, kappa] = solve(left, right)?;
    (one > 0.0).then(|| Usl { lambda: 1.0 / one, sigma: sigma / one, kappa: kappa / one })
}

/// Cramer's rule for the equations of least squares; `None` if they don't determine the unknowns.
fn solve(left: [[f64; 3]; 3], right: [f64; 3]) -> Option<[f64; 3]> {
    // Sizes squared stand beside ones: only terms of one scale show whether columns are alike.
    let scales = [0, 1, 2].map(|at| left[at][at].sqrt());
    if scales.iter().any(|scale| *scale <= 0.0 || !scale.is_finite()) {
        return None;
    }
    let (mut scaled, mut wanted) = (left, right);
    for row in 0..3 {
        wanted[row] /= scales[row];
        for column in 0..3 {
            scaled[row][column] /= scales[row] * scales[column];
        }
    }
    let whole = determinant(&scaled);
    if whole <= DETERMINED_MIN {
        return None;
    }
    let unknown = |column: usize| {
        let mut replaced = scaled;
        for (row, value) in wanted.iter().enumerate() {
            replaced[row][column] = *value;
        }
        determinant(&replaced) / whole / scales[column]
    };
    Some([unknown(0), unknown(1), unknown(2)])
}

fn determinant([a, b, c]: &[[f64; 3]; 3]) -> f64 {
    a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::random::Stream;

    const KNOWN: Usl = Usl { lambda: 1_000.0, sigma: 0.08, kappa: 0.002 };

    fn sizes(noise: f64, runs: u64) -> Vec<(f64, Vec<f64>)> {
        let chance = Stream::named(3, "test/usl");
        let size = |n: u64| {
            let run = |r: u64| {
                let off = 1.0 + noise * (2.0 * chance.unit(n * 1_000 + r) - 1.0);
                KNOWN.at(n as f64) * off
            };
            (n as f64, (0..runs).map(run).collect())
        };
        [1, 2, 3, 5, 8, 12, 20, 32].map(size).to_vec()
    }

    /// FEATURES: H7
    #[test]
    fn known_coefficients_are_found_again() {
        let found = fit(&sizes(0.0, 1), 1).unwrap();
        assert!((found.law.lambda - KNOWN.lambda).abs() < 1e-6, "{found:?}");
        assert!((found.law.sigma - KNOWN.sigma).abs() < 1e-9, "{found:?}");
        assert!((found.law.kappa - KNOWN.kappa).abs() < 1e-9, "{found:?}");
        assert_eq!((found.sigma, found.kappa), (None, None));
        let Course::Peak(peak) = found.law.course(1.0, 32.0) else { panic!("{found:?}") };
        assert!((peak - (0.92_f64 / 0.002).sqrt()).abs() < 1e-3, "{peak}");
    }

    /// The words are those of the throughputs themselves.
    #[test]
    fn the_course_is_that_of_the_throughputs() {
        let of = |sigma, kappa| Usl { lambda: 100.0, sigma, kappa };
        let (contended, costly) = (of(1.2, 0.001), of(0.5, 1.0));
        for law in [contended, costly, of(1.5, 0.0)] {
            assert!(law.at(2.0) < law.at(1.0), "{law:?}");
            assert_eq!(law.course(1.0, 9.0), Course::Falls, "{law:?}");
        }
        for law in [of(0.1, 0.0), of(0.1, -0.001), of(-0.1, -0.001)] {
            assert!(law.at(8.0) < law.at(9.0), "{law:?}");
            assert_eq!(law.course(1.0, 9.0), Course::Grows, "{law:?}");
        }
        assert_eq!(of(0.75, 0.01).course(1.0, 9.0), Course::Peak(5.0));
        assert_eq!(of(0.75, 0.01).course(6.0, 9.0), Course::Falls, "the peak is before the first");
        let trough = of(1.25, -0.01);
        assert!(trough.at(5.0) < trough.at(1.0) && trough.at(5.0) < trough.at(9.0));
        assert_eq!(trough.course(1.0, 9.0), Course::Trough(5.0));
    }

    #[test]
    fn what_scales_evenly_is_fitted_at_any_sizes() {
        let even = [1.0, 25.0, 50.0, 100.0].map(|n| (n, vec![40.0 * n])).to_vec();
        let found = fit(&even, 1).unwrap().law;
        assert!((found.lambda - 40.0).abs() < 1e-6, "{found:?}");
        assert!(found.sigma.abs() < 1e-9 && found.kappa.abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn under_noise_the_intervals_hold_them() {
        let found = fit(&sizes(0.03, 5), 1).unwrap();
        let holds = |(low, high): (f64, f64), value: f64| low <= value && value <= high;
        assert!(holds(found.sigma.unwrap(), KNOWN.sigma), "{found:?}");
        assert!(holds(found.kappa.unwrap(), KNOWN.kappa), "{found:?}");
        let (low, high) = found.kappa.unwrap();
        assert!(high - low < KNOWN.kappa, "{found:?}");
    }

    #[test]
    fn what_does_not_determine_the_law_is_not_fitted() {
        let few = sizes(0.0, 1)[..3].to_vec();
        assert_eq!(fit(&few, 1), None);
        let same = vec![(2.0, vec![10.0]); 5];
        assert_eq!(fit(&same, 1), None);
        let two = vec![(3.0, vec![7.0]), (90.0, vec![31.0]), (3.0, vec![8.0]), (90.0, vec![30.0])];
        assert_eq!(fit(&two, 1), None, "two sizes");
        let mut still = sizes(0.0, 1);
        still[2].1 = vec![0.0];
        assert_eq!(fit(&still, 1), None);
        still[2] = (0.0, vec![1.0]);
        assert_eq!(fit(&still, 1), None);
    }
}
