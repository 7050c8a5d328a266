//! The search for the highest rate that meets an objective: what it is made of and which runs are
//! done. The file `capacity.json` in its folder names them, so that one that was killed goes on
//! where it was. May not run anything.

mod search;
mod words;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use search::{Bounds, Outcome, Said, Step, TRIES, next, surely};

use crate::figures::{Bound, is_workload_code};
use crate::report::Summary;
use crate::resume::Resumable;
use crate::sweep::Means;

/// What a rate must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// 99 of 100 operations are acknowledged, or given up, within so many milliseconds from their
    /// intended start.
    pub p99_ms: f64,
    /// No greater share of all is refused or left unanswered.
    pub refused: f64,
}

/// What a search is: two with the same definition are the same search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Name of the workload.
    pub name: String,
    /// Its file.
    pub workload: PathBuf,
    /// SHA-256 of the plan at the first rate, which stands for the workload's contents.
    pub plan: String,
    /// `path=value` of what differs from the file.
    pub set: Vec<String>,
    /// Version of the program that began it.
    pub harness: String,
    /// Repeat r of each rate runs under this plus r.
    pub seed: u64,
    /// What must be kept to.
    pub objective: Objective,
    /// Where it is looked for.
    pub bounds: Bounds,
    /// With what it is run.
    pub means: Means,
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Arrivals per second that were asked for.
    pub rate: u64,
    /// Its folder, beside `capacity.json`.
    pub folder: String,
    /// What it said of the rate.
    pub said: Said,
    /// What speaks against its figures; empty where nothing does.
    pub remark: String,
    /// True if safety was violated.
    pub violated: bool,
    /// Its figures, if there are any.
    pub figures: Option<Figures>,
}

/// What is kept of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Acknowledged operations per second.
    pub achieved: f64,
    /// 99 % of acknowledged and unanswered operations, from the intended start; `None` without
    /// any. Unanswered ones count as long as they were waited for.
    pub p99_ms: Option<f64>,
    /// Share of all operations that was refused or left unanswered.
    pub refused: f64,
}

impl From<&Summary> for Figures {
    fn from(summary: &Summary) -> Self {
        let codes = summary.codes.iter().filter(|(code, _)| !is_workload_code(code));
        let refused: u64 = codes.map(|(_, count)| count).sum();
        let p99 = summary.all.response_waiting.p99;
        Self {
            achieved: summary.achieved_rate,
            p99_ms: p99.map(|Bound { micros, .. }| micros / 1e3),
            refused: refused as f64 / summary.counts.total().max(1) as f64,
        }
    }
}

/// What a measurement's soundness leaves of its figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Everything.
    Nothing,
    /// The driver alone was late.
    LateDriver,
    /// Nothing.
    Everything,
}

impl Objective {
    /// What a run says of its rate. Latencies count from the intended start, so a late driver makes
    /// them longer, never shorter: what is met all the same is met.
    #[must_use]
    pub fn said(&self, figures: Option<&Figures>, doubt: Doubt) -> Said {
        let met = figures.is_some_and(|figures| self.is_met(figures));
        match doubt {
            Doubt::Nothing if figures.is_some() && !met => Said::Missed,
            Doubt::Nothing | Doubt::LateDriver if met => Said::Met,
            Doubt::Nothing | Doubt::LateDriver | Doubt::Everything => Said::Nothing,
        }
    }

    /// Whether these figures keep to it. Where nothing was acknowledged nothing is kept.
    #[must_use]
    pub fn is_met(&self, figures: &Figures) -> bool {
        let in_time = figures.p99_ms.is_some_and(|p99| p99 <= self.p99_ms);
        in_time && figures.refused <= self.refused
    }
}

/// A search and its runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// [`Resumable::FORMAT`] of the writer.
    pub format: u32,
    /// What it is.
    pub definition: Definition,
    /// In the order in which they ended.
    pub runs: Vec<Probe>,
}

impl Search {
    /// One of which nothing has been run.
    #[must_use]
    pub fn new(definition: Definition) -> Self {
        Self { format: Self::FORMAT, definition, runs: Vec::new() }
    }

    /// What comes next.
    #[must_use]
    pub fn next(&self) -> Step {
        let said: Vec<(u64, Said)> = self.runs.iter().map(|run| (run.rate, run.said)).collect();
        next(&self.definition.bounds, &said)
    }

    /// The runs of a rate whose figures can be used, and how many of them met the objective.
    #[must_use]
    pub fn tally(&self, rate: u64) -> (u32, u32) {
        let of = |wanted: Said| {
            self.runs.iter().filter(|run| run.rate == rate && run.said == wanted).count() as u32
        };
        (of(Said::Met) + of(Said::Missed), of(Said::Met))
    }
}

impl Resumable for Search {
    const FILE: &'static str = "capacity.json";
    const FORMAT: u32 = 1;
    type Definition = Definition;

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn is_finished(&self) -> bool {
        matches!(self.next(), Step::Done(_))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn definition(seed: u64) -> Definition {
        Definition {
            name: "x".to_owned(),
            workload: "x.yaml".into(),
            plan: String::new(),
            set: Vec::new(),
            harness: "test".to_owned(),
            seed,
            objective: Objective { p99_ms: 20.0, refused: 0.001 },
            bounds: Bounds { from: 100, most: 100, within: 0.05, repeats: 2 },
            means: Means::default(),
        }
    }

    pub(crate) fn probe(rate: u64, said: Said) -> Probe {
        Probe {
            rate,
            folder: "run".to_owned(),
            said,
            remark: String::new(),
            violated: false,
            figures: None,
        }
    }

    #[test]
    fn a_search_that_was_killed_is_found_again_and_one_that_differs_is_not() {
        let out = tempfile::tempdir().unwrap();
        let folder = out.path().join("2026-a");
        std::fs::create_dir(&folder).unwrap();
        let mut search = Search::new(definition(1));
        search.runs.push(probe(100, Said::Met));
        search.write(&folder).unwrap();
        assert_eq!(Search::unfinished(out.path(), &definition(1)), Some(folder.clone()));
        assert_eq!(Search::unfinished(out.path(), &definition(2)), None);
        let mut read = Search::read(&folder).unwrap();
        assert_eq!((&read, read.next()), (&search, Step::Run { rate: 100, repeat: 1 }));
        read.runs.push(probe(100, Said::Met));
        assert_eq!(read.tally(100), (2, 2));
        read.write(&folder).unwrap();
        assert_eq!(Search::unfinished(out.path(), &definition(1)), None);
    }

    #[test]
    fn an_objective_is_met_in_time_and_without_refusals() {
        let objective = Objective { p99_ms: 20.0, refused: 0.001 };
        let figures = |p99_ms, refused| Figures { achieved: 1.0, p99_ms, refused };
        assert!(objective.is_met(&figures(Some(20.0), 0.001)));
        assert!(!objective.is_met(&figures(Some(20.1), 0.0)));
        assert!(!objective.is_met(&figures(Some(1.0), 0.002)));
        assert!(!objective.is_met(&figures(None, 0.0)));
    }

    #[test]
    fn a_late_driver_takes_away_from_what_was_met_nothing() {
        let objective = Objective { p99_ms: 20.0, refused: 0.001 };
        let figures = |p99_ms| Some(Figures { achieved: 1.0, p99_ms: Some(p99_ms), refused: 0.0 });
        for (figures, doubt, said) in [
            (figures(10.0), Doubt::Nothing, Said::Met),
            (figures(30.0), Doubt::Nothing, Said::Missed),
            (figures(10.0), Doubt::LateDriver, Said::Met),
            (figures(30.0), Doubt::LateDriver, Said::Nothing),
            (figures(10.0), Doubt::Everything, Said::Nothing),
            (None, Doubt::Nothing, Said::Nothing),
        ] {
            assert_eq!(objective.said(figures.as_ref(), doubt), said, "{figures:?} {doubt:?}");
        }
    }
}
