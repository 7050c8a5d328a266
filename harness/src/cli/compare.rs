//! `quorate compare`: run folders beside each other, or what the blocks of `quorate ab` say.

use super::arguments::CompareArguments;
use super::compared::{change, gate, read_ab, search, tell_ab, tell_differences};
use super::{Exit, Output};
use crate::compare::{
    self, Calibration, CompareError, Metric, Run, Scale, apart, circumstances, differences,
};

pub(super) fn compare(arguments: &CompareArguments) -> anyhow::Result<Exit> {
    let gate = gate(arguments.gate.as_deref())?;
    if let [folder] = arguments.folders.as_slice() {
        let Some(ab) = read_ab(folder)? else { return Err(CompareError::TooFew.into()) };
        let told = tell_ab(folder, &ab, &gate, !arguments.json, None)?;
        if arguments.json {
            Output.json(&told.json)?;
        }
        return Ok(told.exit);
    }
    let folders = compare::runs_in(&arguments.folders)?;
    let runs =
        folders.iter().map(|folder| compare::run(folder)).collect::<Result<Vec<Run>, _>>()?;
    let beside = Beside::of(arguments, &runs)?;
    if arguments.json {
        Output.json(&beside.json(&runs))?;
    } else {
        beside.tell(&runs)?;
    }
    // Single runs never pass a gate: how far runs of one build lie apart is not in them.
    let asked = arguments.gate.is_some();
    if asked && !arguments.json {
        Output.line("the gate is not passed: single runs cannot tell")?;
    }
    Ok(if asked { Exit::Inconclusive } else { Exit::Good })
}

/// Single runs, set beside each other.
struct Beside {
    differences: Vec<compare::Difference>,
    /// Why nothing can be said of what differs; `None` if it can.
    apart: Option<String>,
    /// How far runs of one build lie apart under the circumstances of the first one.
    calibration: Option<Calibration>,
    /// The command that would settle it.
    settle: String,
}

impl Beside {
    fn of(arguments: &CompareArguments, runs: &[Run]) -> anyhow::Result<Self> {
        let (Some(first), Some(folder)) = (runs.first(), arguments.folders.first()) else {
            return Err(CompareError::TooFew.into());
        };
        let key = circumstances(first);
        let alike = runs.iter().all(|run| circumstances(run) == key);
        let calibration = if alike { search(folder, &key)? } else { None };
        let settle = settle(&runs[0], &runs[runs.len() - 1]);
        let (differences, apart) = (differences(runs), apart(runs));
        Ok(Self { differences, apart, calibration, settle })
    }

    fn tell(&self, runs: &[Run]) -> anyhow::Result<()> {
        let names: Vec<String> = (0..runs.len()).map(letter).collect();
        for (name, run) in names.iter().zip(runs) {
            let doubt =
                if run.summary.measurement.sound { "" } else { "; its figures are unsound" };
            Output.line(format!("{name}: {}{doubt}", run.name))?;
        }
        Output.line("")?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        tell_differences(&names, &self.differences)?;
        let mut head = vec!["metric"];
        head.extend(&names);
        let changes: Vec<String> =
            names[1..].iter().map(|name| format!("{name}/A or {name}−A")).collect();
        head.extend(changes.iter().map(String::as_str));
        head.push("");
        Output.table(&head, metrics(runs).iter().map(|of| self.row(of, runs)).collect())?;
        Output.line("")?;
        match &self.apart {
            Some(why) => Output.line(format!("side by side, without a verdict: {why}"))?,
            None => {
                let spread = match &self.calibration {
                    Some(found) => format!(
                        "usual: what an A/A of {} blocks in {} leaves to chance",
                        found.blocks, found.folder
                    ),
                    None => "no A/A of these circumstances was run here, so nothing says how far \
                             runs of one build lie apart"
                        .to_owned(),
                };
                Output.line(spread)?;
                Output.line(format!("single runs settle nothing; this would: {}", self.settle))?;
            }
        }
        Ok(())
    }

    fn row(&self, metric: &Metric, runs: &[Run]) -> Vec<String> {
        let value = |run: &Run| run.figures.values.get(metric).copied();
        let told = |run: &Run| {
            value(run).map_or("–".to_owned(), |of| {
                let sign = if of.at_least { "≥ " } else { "" };
                format!("{sign}{}", metric.kind.told(of.value))
            })
        };
        let mut row = vec![metric.to_string()];
        row.extend(runs.iter().map(told));
        let changes = self.changes(metric, runs);
        row.extend(changes.iter().map(|found| {
            found.map_or("–".to_owned(), |found| match metric.kind.scale() {
                Scale::Ratio => format!("{:.3}", found.exp()),
                Scale::Difference => metric.kind.told(found),
            })
        }));
        row.push(self.usual(metric, &changes).unwrap_or_default().to_owned());
        row
    }

    /// Changes of all runs but the first, on the metric's scale.
    fn changes(&self, metric: &Metric, runs: &[Run]) -> Vec<Option<f64>> {
        let value = |run: &Run| Some(run.figures.values.get(metric)?.value);
        let first = runs.first().and_then(value);
        runs.iter().skip(1).map(|run| change(metric, first?, value(run)?)).collect()
    }

    /// Whether chance alone makes such changes; `None` where nothing says so.
    fn usual(&self, metric: &Metric, changes: &[Option<f64>]) -> Option<&'static str> {
        if self.apart.is_some() {
            return None;
        }
        let usual = self.calibration.as_ref()?.spread(metric)?.usual();
        let beyond = changes.iter().flatten().any(|change| change.abs() > usual);
        Some(if beyond { "beyond the usual" } else { "usual" })
    }

    fn json(&self, runs: &[Run]) -> serde_json::Value {
        let figures = metrics(runs).into_iter().map(|metric| {
            let changes = self.changes(&metric, runs);
            serde_json::json!({
                "metric": metric,
                "scale": metric.kind.scale(),
                "values": runs.iter().map(|run| {
                    let found = run.figures.values.get(&metric);
                    found.map(|of| serde_json::json!({
                        "value": of.value, "at_least": of.at_least,
                    }))
                }).collect::<Vec<_>>(),
                "changes": changes,
                "usual": self.usual(&metric, &changes),
            })
        });
        serde_json::json!({
            "runs": runs.iter().map(|run| &run.name).collect::<Vec<_>>(),
            "differences": self.differences,
            "apart": self.apart,
            "metrics": figures.collect::<Vec<_>>(),
            "calibration": self.calibration,
            "settle": self.settle,
        })
    }
}

/// A, B, and so on; numbers behind Z.
fn letter(at: usize) -> String {
    u8::try_from(at)
        .ok()
        .filter(|at| *at < 26)
        .map_or_else(|| (at + 1).to_string(), |at| char::from(b'A' + at).to_string())
}

fn metrics(runs: &[Run]) -> Vec<Metric> {
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
