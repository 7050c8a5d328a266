//! The file that names the runs of a sweep, written as a whole after each of them.

use serde::{Deserialize, Serialize};

use super::{Definition, Done, RunFigures};
use crate::resume::Resumable;

/// What a sweep is and which of its runs are done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// [`Resumable::FORMAT`] of the writer.
    pub format: u32,
    /// True once no run is wanted any more.
    pub finished: bool,
    /// What it is.
    pub definition: Definition,
    /// In the order in which they ended.
    pub runs: Vec<Done>,
}

impl Ledger {
    /// A sweep of which nothing has been run.
    #[must_use]
    pub fn new(definition: Definition) -> Self {
        Self { format: Self::FORMAT, finished: false, definition, runs: Vec::new() }
    }

    /// Figures of the good runs of a point.
    pub fn good(&self, point: usize) -> impl Iterator<Item = &RunFigures> {
        let of = self.runs.iter().filter(move |run| run.point == point && run.remark.is_empty());
        of.filter_map(|run| run.figures.as_ref())
    }
}

impl Resumable for Ledger {
    const FILE: &'static str = "sweep.json";
    const FORMAT: u32 = 2;
    type Definition = Definition;

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn is_finished(&self) -> bool {
        self.finished
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Means, PointOfSweep};
    use super::*;
    use crate::spec::{Axis, Measure};

    pub(crate) fn ledger() -> Ledger {
        let labels = ["1", "2", "3"].map(str::to_owned);
        let point = |label: &String| PointOfSweep {
            labels: vec![label.clone()],
            set: Vec::new(),
            refused: None,
        };
        Ledger::new(Definition {
            name: "x".to_owned(),
            description: String::new(),
            harness: "test".to_owned(),
            seed: 1,
            axes: vec![Axis { name: "n".to_owned(), labels: labels.to_vec(), is_size: false }],
            points: labels.iter().map(point).collect(),
            repeats: 5,
            narrow: 0.0,
            figure: Measure::Rate,
            closed_loop: true,
            plans: String::new(),
            means: Means::default(),
        })
    }

    pub(crate) fn done(point: usize, repeat: u32, rate: f64) -> Done {
        let figures = RunFigures { rate, p50_ms: Some(1.0), p99_ms: Some(2.0), refused: 0.0 };
        Done {
            point,
            repeat,
            folder: format!("run-{point}-{repeat}"),
            remark: String::new(),
            violated: false,
            spoilt: false,
            failed: false,
            figures: Some(figures),
        }
    }

    /// FEATURES: H7
    #[test]
    fn a_sweep_that_was_killed_is_found_again_and_one_that_differs_is_not() {
        let out = tempfile::tempdir().unwrap();
        let folder = out.path().join("2026-a");
        std::fs::create_dir(&folder).unwrap();
        let mut ledger = ledger();
        ledger.runs.push(done(1, 0, 5.0));
        ledger.write(&folder).unwrap();
        let unfinished = |of: &Definition| Ledger::unfinished(out.path(), of);
        assert_eq!(unfinished(&ledger.definition), Some(folder.clone()));
        assert_eq!(Ledger::read(&folder).unwrap(), ledger);
        let other = Definition { plans: "other".to_owned(), ..ledger.definition.clone() };
        assert_eq!(unfinished(&other), None);
        let mut other = ledger.definition.clone();
        other.means.programs = vec![("node".to_owned(), "built anew".to_owned())];
        assert_eq!(unfinished(&other), None);
        ledger.finished = true;
        ledger.write(&folder).unwrap();
        assert_eq!(unfinished(&ledger.definition), None);
    }
}
