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

    /// Changes of all runs but the first, on the metric's scale.
    #[must_use]
    pub fn changes(&self, metric: &Metric, runs: &[Run]) -> Vec<Option<f64>> {
        let scale = metric.kind.scale();
        let place = |run: &Run| scale.place(run.figures.values.get(metric)?.value);
        let first = runs.first().and_then(place);
        runs.iter().skip(1).map(|run| Some(place(run)? - first?)).collect()
    }

    /// What chance alone exceeds in 5 % of cases; `None` where nothing says so.
    #[must_use]
    pub fn left_to_chance(&self, metric: &Metric) -> Option<f64> {
        if self.apart.is_some() {
            return None;
        }
        Some(self.calibration.as_ref()?.spread(metric)?.usual())
    }

    /// Whether chance alone makes such changes; `None` where nothing says so.
    #[must_use]
    pub fn usual(&self, metric: &Metric, changes: &[Option<f64>]) -> Option<&'static str> {
        let usual = self.left_to_chance(metric)?;
        let beyond = changes.iter().flatten().any(|change| change.abs() > usual);
        Some(if beyond { "beyond the usual" } else { "usual" })
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
