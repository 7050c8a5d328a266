//! Single runs, set beside each other: what changed from the first to each other one, and whether
//! an A/A of the same circumstances leaves so much to chance. Gives no verdict: how far runs of one
//! build lie apart is not in them.

use serde_json::{Value, json};

use super::calibration::Calibration;
use super::differences::{Difference, apart, circumstances, differences};
use super::metric::Metric;
use super::read::Run;

/// What is said of single runs.
#[derive(Debug, Clone)]
pub struct Beside {
    /// What differs before any figure does.
    pub differences: Vec<Difference>,
    /// Why nothing can be said of what differs; `None` if it can.
    pub apart: Option<String>,
    /// How far runs of one build lie apart under the circumstances of the first one.
    pub calibration: Option<Calibration>,
    /// The command that would settle it.
    pub settle: String,
}

impl Beside {
    /// Of `runs`; the others are set against the first one.
    #[must_use]
    pub fn of(runs: &[Run], calibration: Option<Calibration>) -> Self {
        let settle = match runs {
            [first, .., last] => settle(first, last),
            [] | [_] => String::new(),
        };
        let (differences, apart) = (differences(runs), apart(runs));
        Self { differences, apart, calibration, settle }
    }

    /// Changes of all runs but the first, on the metric's scale; `None` where a figure is missing
    /// or is a bound: how far one lies from anything is not known.
    #[must_use]
    pub fn changes(&self, metric: &Metric, runs: &[Run]) -> Vec<Option<f64>> {
        let scale = metric.kind.scale();
        let exact = |run: &Run| run.figures.values.get(metric).filter(|of| !of.at_least).copied();
        let place = |run: &Run| scale.place(exact(run)?.value);
        let first = runs.first().and_then(place);
        runs.iter().skip(1).map(|run| Some(place(run)? - first?)).collect()
    }

    /// What chance alone exceeds in 5 % of cases; `None` where nothing says so. An A/A that took
    /// something for different says nothing of chance.
    #[must_use]
    pub fn left_to_chance(&self, metric: &Metric) -> Option<f64> {
        if self.apart.is_some() {
            return None;
        }
        let found = self.calibration.as_ref().filter(|found| found.alarms.is_empty())?;
        Some(found.spread(metric)?.usual())
    }

    /// Whether chance alone makes such changes; `None` where nothing says so.
    #[must_use]
    pub fn usual(&self, metric: &Metric, changes: &[Option<f64>]) -> Option<&'static str> {
        let usual = self.left_to_chance(metric)?;
        let is_beyond = |change: &Option<f64>| change.map(|change| change.abs() > usual);
        let known: Vec<Option<bool>> = changes.iter().map(is_beyond).collect();
        match known.contains(&Some(true)) {
            true => Some("beyond the usual"),
            false if known.contains(&None) => None,
            false => Some("usual"),
        }
    }

    /// For programs.
    #[must_use]
    pub fn json(&self, runs: &[Run]) -> Value {
        let figures = metrics(runs).into_iter().map(|metric| {
            let changes = self.changes(&metric, runs);
            json!({
                "metric": metric,
                "scale": metric.kind.scale(),
                "values": runs.iter().map(|run| {
                    let found = run.figures.values.get(&metric);
                    found.map(|of| json!({ "value": of.value, "at_least": of.at_least }))
                }).collect::<Vec<_>>(),
                "changes": changes,
                "usual": self.usual(&metric, &changes),
            })
        });
        json!({
            "runs": runs.iter().map(|run| &run.name).collect::<Vec<_>>(),
            "differences": self.differences,
            "apart": self.apart,
            "metrics": figures.collect::<Vec<_>>(),
            "calibration": self.calibration,
            "settle": self.settle,
        })
    }
}

/// Every metric that any of the runs has.
#[must_use]
pub fn metrics(runs: &[Run]) -> Vec<Metric> {
    let mut all: Vec<Metric> =
        runs.iter().flat_map(|run| run.figures.values.keys().cloned()).collect();
    all.sort();
    all.dedup();
    all
}

/// The command that runs in turns what two single runs did.
fn settle(a: &Run, b: &Run) -> String {
    let program = |run: &Run, side: &str| {
        let mut words = run.manifest.repeat.split(' ');
        let named = words.by_ref().find(|word| *word == "--node-bin").and_then(|_| words.next());
        named.map_or_else(|| format!("NODE_OF_{side}"), str::to_owned)
    };
    let workload = match b.manifest.workload.as_str() {
        "" => "WORKLOAD",
        named => named,
    };
    let (first, second) = (program(a, "A"), program(b, "B"));
    let set = if a.manifest.node_sha256 == b.manifest.node_sha256
        && circumstances(a) != circumstances(b)
    {
        " --set-b PATH=VALUE"
    } else {
        ""
    };
    let stage = &b.manifest.stage;
    format!("quorate ab {first} {second} {workload} --blocks 5 --stage {stage}{set}")
}

#[cfg(test)]
mod tests {
    use super::super::{CALIBRATION_FORMAT, Kind, Spread};
    use super::*;

    #[test]
    fn usual_is_said_of_what_is_known_and_by_an_a_a_that_found_nothing() {
        let metric = Metric::from(Kind::P99);
        let spread = Spread { metric: metric.clone(), pair: 0.1, pairs: 10, detectable: None };
        let calibration = Calibration {
            format: CALIBRATION_FORMAT,
            circumstances: String::new(),
            folder: "aa".to_owned(),
            blocks: 5,
            alarms: Vec::new(),
            spreads: vec![spread],
        };
        let mut beside = Beside {
            differences: Vec::new(),
            apart: None,
            calibration: Some(calibration),
            settle: String::new(),
        };
        let said = |beside: &Beside, changes: &[Option<f64>]| beside.usual(&metric, changes);
        assert_eq!(said(&beside, &[Some(0.0), Some(-0.1)]), Some("usual"));
        assert_eq!(said(&beside, &[Some(0.0), Some(-0.9)]), Some("beyond the usual"));
        assert_eq!(said(&beside, &[None, Some(0.9)]), Some("beyond the usual"));
        // A bound or a missing figure is not known to be usual.
        assert_eq!(said(&beside, &[None, Some(0.0)]), None);
        assert_eq!(said(&beside, &[None]), None);
        if let Some(found) = &mut beside.calibration {
            found.alarms.push("p99".to_owned());
        }
        assert_eq!(said(&beside, &[Some(0.0)]), None);
        assert!(beside.calibration.unwrap().alarm().contains("in aa took p99 for different"));
    }
}
