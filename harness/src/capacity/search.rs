//! Which run comes next: the highest rate that meets an objective is bracketed by doubling and
//! halving, then narrowed down, then confirmed. A pure function of the runs that are done, so that
//! a search that was killed goes on where it was.
//!
//! One run that meets the objective is enough to look higher; that a rate is too high takes most of
//! its runs. What is named in the end was run as often as was asked for, and most of these met it.

use serde::{Deserialize, Serialize};

/// Runs of one rate whose figures cannot be used before it is given up.
pub const TRIES: usize = 3;

/// Bounds of a search.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// The first rate, per second.
    pub from: u64,
    /// No higher one is tried.
    pub most: u64,
    /// Share of the rate to which it is narrowed down.
    pub within: f64,
    /// Runs of the rate that is named.
    pub repeats: u32,
}

/// What a run said of its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// The objective was met.
    Met,
    /// It was not.
    Missed,
    /// Its figures cannot be used.
    Nothing,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Run this rate.
    Run {
        /// Arrivals per second.
        rate: u64,
        /// Which of its runs, from 0.
        repeat: u32,
    },
    /// Nothing is left to do.
    Done(Outcome),
}

/// What a search came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// The highest rate that met the objective, and a higher one that did not.
    Found {
        /// Per second.
        rate: u64,
        /// Per second.
        missed: u64,
    },
    /// The objective was met as far up as could be measured.
    AtLeast {
        /// Per second.
        rate: u64,
        /// A higher rate whose figures could not be used, if it was not the bound of the search
        /// that ended it.
        unusable: Option<u64>,
    },
    /// The objective was met at no rate.
    Never {
        /// The lowest rate that was tried.
        tried: u64,
    },
    /// Not even the lowest rate gave figures that can be used.
    Unusable {
        /// Per second.
        tried: u64,
    },
}

/// The runs of one rate.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    met: u32,
    missed: u32,
    nothing: u32,
}

impl Tally {
    fn of(runs: &[(u64, Said)], rate: u64) -> Self {
        let mut tally = Self::default();
        for (_, said) in runs.iter().filter(|(of, _)| *of == rate) {
            match said {
                Said::Met => tally.met += 1,
                Said::Missed => tally.missed += 1,
                Said::Nothing => tally.nothing += 1,
            }
        }
        tally
    }

    fn runs(self) -> u32 {
        self.met + self.missed + self.nothing
    }

    /// Most of the runs that are wanted missed it.
    fn is_too_high(self, repeats: u32) -> bool {
        self.missed > repeats / 2
    }

    fn is_unusable(self) -> bool {
        self.nothing as usize >= TRIES
    }
}

/// What comes next behind `runs`, each with its rate.
#[must_use]
pub fn next(bounds: &Bounds, runs: &[(u64, Said)]) -> Step {
    let tally = |rate: u64| Tally::of(runs, rate);
    let again = |rate: u64| Step::Run { rate, repeat: tally(rate).runs() };
    let mut rates: Vec<u64> = runs.iter().map(|(rate, _)| *rate).collect();
    rates.sort_unstable();
    rates.dedup();
    let ends = |rate: &u64| {
        let tally = tally(*rate);
        tally.is_too_high(bounds.repeats) || tally.is_unusable()
    };
    let ceiling = rates.iter().copied().find(ends);
    let below: Vec<u64> =
        rates.iter().copied().filter(|rate| ceiling.is_none_or(|end| *rate < end)).collect();
    // Neither met nor too high as yet.
    if let Some(open) = below.iter().copied().find(|rate| tally(*rate).met <= tally(*rate).missed) {
        return again(open);
    }
    let step = match (below.last().copied(), ceiling) {
        (None, None) => return again(bounds.from),
        (None, Some(end)) if end <= 1 && tally(end).is_unusable() => {
            return Step::Done(Outcome::Unusable { tried: end });
        }
        (None, Some(end)) if end <= 1 => return Step::Done(Outcome::Never { tried: end }),
        (None, Some(end)) => return again(end / 2),
        (Some(met), None) if met < bounds.most => {
            return again(met.saturating_mul(2).min(bounds.most));
        }
        (Some(met), None) => (met, None),
        (Some(met), Some(end)) => (met, Some(end)),
    };
    let (met, end) = step;
    if let Some(end) = end {
        let near = (met as f64 * bounds.within).max(1.0);
        let middle = ((met as f64 * end as f64).sqrt().round() as u64).clamp(met + 1, end);
        if (end - met) as f64 > near && middle < end {
            return again(middle);
        }
    }
    if tally(met).met + tally(met).missed < bounds.repeats {
        return again(met);
    }
    Step::Done(match end {
        Some(missed) if !tally(missed).is_unusable() => Outcome::Found { rate: met, missed },
        unusable => Outcome::AtLeast { rate: met, unusable },
    })
}

/// The least share of all such runs that meets the objective, with 95 % confidence, when so many of
/// `runs` did: the lower end of Clopper and Pearson's interval.
#[must_use]
pub fn surely(met: u32, runs: u32) -> f64 {
    if met == 0 {
        return 0.0;
    }
    // As many or more are met by chance in 5 % of cases at that share; found by halving.
    let by_chance = |share: f64| -> f64 {
        let mut term = (1.0 - share).powi(runs.cast_signed());
        let mut below = 0.0;
        for met_by in 0..met {
            below += term;
            let (n, k) = (f64::from(runs), f64::from(met_by));
            term *= (n - k) / (k + 1.0) * share / (1.0 - share);
        }
        1.0 - below
    };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if by_chance(middle) < 0.05 { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { from: 100, most: 100_000, within: 0.05, repeats: 3 };

    /// Runs a search against servers that answer as `said` says of rate and number of the run.
    fn search(bounds: &Bounds, said: impl Fn(u64, u32) -> Said) -> (Outcome, Vec<(u64, Said)>) {
        let mut runs = Vec::new();
        for _ in 0..200 {
            match next(bounds, &runs) {
                Step::Run { rate, repeat } => runs.push((rate, said(rate, repeat))),
                Step::Done(outcome) => return (outcome, runs),
            }
        }
        panic!("no end: {runs:?}");
    }

    fn up_to(limit: u64) -> impl Fn(u64, u32) -> Said {
        move |rate, _| if rate <= limit { Said::Met } else { Said::Missed }
    }

    #[test]
    fn the_highest_rate_is_bracketed_and_narrowed_down() {
        for limit in [1, 2, 7, 99, 100, 101, 730, 5_000, 63_999] {
            let (outcome, runs) = search(&BOUNDS, up_to(limit));
            let Outcome::Found { rate, missed } = outcome else { panic!("{limit}: {outcome:?}") };
            assert!(rate <= limit && limit < missed, "{limit}: {outcome:?}");
            assert!((missed - rate) as f64 <= (rate as f64 * 0.05).max(1.0), "{outcome:?}");
            assert_eq!(runs.iter().filter(|(of, _)| *of == rate).count(), 3, "{limit}");
            assert!(runs.len() < 50, "{limit}: {} runs", runs.len());
        }
    }

    #[test]
    fn what_was_met_by_luck_is_not_confirmed() {
        // At 400 and above the first run alone meets it.
        let lucky = |rate, repeat| {
            if rate < 400 || (rate < 800 && repeat == 0) { Said::Met } else { Said::Missed }
        };
        let (outcome, runs) = search(&BOUNDS, lucky);
        let Outcome::Found { rate, missed } = outcome else { panic!("{outcome:?}") };
        assert!(rate < 400 && missed >= 400 && missed - rate <= 20, "{outcome:?} {runs:?}");
    }

    #[test]
    fn one_bad_run_does_not_end_a_search() {
        let unlucky = |rate, repeat| {
            if rate == 200 && repeat == 0 { Said::Missed } else { up_to(900)(rate, repeat) }
        };
        let (outcome, _) = search(&BOUNDS, unlucky);
        assert!(matches!(outcome, Outcome::Found { rate: 850..=900, .. }), "{outcome:?}");
    }

    #[test]
    fn where_nothing_ends_it_it_says_at_least() {
        let bounds = Bounds { most: 1_000, ..BOUNDS };
        let end = Outcome::AtLeast { rate: 1_000, unusable: None };
        assert_eq!(search(&bounds, up_to(u64::MAX)).0, end);
        // The driver gives up before the servers do.
        let driver = |rate, _| if rate <= 500 { Said::Met } else { Said::Nothing };
        let (outcome, _) = search(&bounds, driver);
        let Outcome::AtLeast { rate, unusable: Some(unusable) } = outcome else {
            panic!("{outcome:?}")
        };
        assert!((470..=500).contains(&rate) && unusable > 500, "{outcome:?}");
    }

    #[test]
    fn servers_that_never_meet_it_are_told_so() {
        let never = search(&BOUNDS, |_, _| Said::Missed).0;
        assert_eq!(never, Outcome::Never { tried: 1 });
        let unusable = search(&BOUNDS, |_, _| Said::Nothing).0;
        assert_eq!(unusable, Outcome::Unusable { tried: 1 });
    }

    #[test]
    fn three_of_three_do_not_make_a_certainty() {
        // 0.05 to the third part.
        assert!((surely(3, 3) - 0.3684).abs() < 1e-4, "{}", surely(3, 3));
        assert!((surely(2, 3) - 0.1353).abs() < 1e-3, "{}", surely(2, 3));
        assert!((surely(20, 20) - 0.8609).abs() < 1e-4);
        assert!(surely(0, 3).abs() < 1e-9);
    }
}
