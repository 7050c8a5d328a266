//! Suites: several workloads, each with overrides and a time budget, all checked before any starts.
//! Running them lives in the command line front end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::load::{Overrides, beside, checked, typed, workload};
use super::problem::{Problem, SpecError};
use super::raw::RawSuiteFile;
use super::schema::FileKind;
use super::tree::{Content, Node};
use super::units::Span;
use crate::plan::{Plan, build, estimate};

/// A checked suite.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// One sentence.
    pub description: String,
    /// Upper limit of the sum of the experiments' budgets.
    pub budget: Duration,
    /// How often an experiment whose figures the host spoilt is run again.
    pub repeats: u32,
    /// The experiments, in order.
    pub experiments: Vec<Experiment>,
}

/// One experiment of a suite.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// Unique name.
    pub name: String,
    /// The workload file.
    pub workload: PathBuf,
    /// The scenario file that replaces the workload's faults.
    pub scenario: Option<PathBuf>,
    /// `path=value` of every override, as the command line would take them.
    pub set: Vec<String>,
    /// What is allowed but deserves a word.
    pub warnings: Vec<String>,
    /// What it will do.
    pub plan: Plan,
    /// Longest time it may take.
    pub budget: Duration,
}

/// Reads and checks a suite file and every file it names. `seed` replaces every seed.
///
/// # Errors
/// Everything wrong with any of the files, or with the budgets.
pub fn suite(path: &Path, seed: Option<u64>) -> Result<Suite, SpecError> {
    let tree = checked(path, FileKind::Suite)?;
    let raw: RawSuiteFile = typed(&tree)?;
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    let mut experiments = Vec::new();
    for index in 0..raw.experiments.len() {
        match experiment(path, &tree, &raw, index, seed) {
            Ok(experiment) => experiments.push(experiment),
            Err(SpecError::Invalid(found)) => problems.extend(found),
            Err(error @ SpecError::Read { .. }) => {
                let key = format!("experiments.{index}");
                let origin = tree.origin_of(&key);
                problems.push(Problem { origin, key, what: error.to_string() });
            }
        }
    }
    for (index, experiment) in raw.experiments.iter().enumerate() {
        if !names.insert(&experiment.name) {
            let key = format!("experiments.{index}.name");
            let what = format!("`{}` is already the name of an experiment", experiment.name);
            problems.push(Problem { origin: tree.origin_of(&key), key, what });
        }
    }
    problems.extend(over_budget(&tree, &raw));
    if !problems.is_empty() {
        return Err(SpecError::Invalid(problems));
    }
    let budget = raw.budget.get();
    let (name, description, repeats) = (raw.name, raw.description, raw.repeats);
    Ok(Suite { name, description, budget, repeats, experiments })
}

fn over_budget(tree: &Node, raw: &RawSuiteFile) -> Option<Problem> {
    let sum: u64 = raw.experiments.iter().map(|experiment| experiment.budget.as_ms()).sum();
    (sum > raw.budget.as_ms()).then(|| Problem {
        origin: tree.origin_of("budget"),
        key: "budget".to_owned(),
        what: format!(
            "the experiments' budgets sum up to {}, more than {}",
            Span::millis(sum),
            raw.budget
        ),
    })
}

fn experiment(
    path: &Path,
    tree: &Node,
    raw: &RawSuiteFile,
    index: usize,
    seed: Option<u64>,
) -> Result<Experiment, SpecError> {
    let node = match tree.get("experiments").map(|node| &node.content) {
        Some(Content::List(nodes)) => nodes.get(index),
        Some(Content::Scalar(_) | Content::Map(_)) | None => None,
    };
    let (Some(node), Some(raw)) = (node, raw.experiments.get(index)) else {
        let what = "experiment vanished while the suite was read".to_owned();
        return Err(Problem { origin: tree.origin.clone(), key: String::new(), what }.into());
    };
    let file = beside(path, &raw.workload);
    let overrides = Overrides {
        scenario: raw.scenario.as_ref().map(|file| beside(path, file)),
        seed: seed.or(raw.seed),
        set: assignments(node),
    };
    let spec = workload(&file, &overrides)?;
    let plan = build(&spec, spec.seed).map_err(SpecError::Invalid)?;
    let longest = estimate::longest(&plan);
    if longest > raw.budget.get() {
        let key = format!("experiments.{index}.budget");
        let what = format!(
            "{} is too short: the plan may take {:.0}s",
            raw.budget,
            longest.as_secs_f64().ceil()
        );
        return Err(Problem { origin: tree.origin_of(&key), key, what }.into());
    }
    Ok(Experiment {
        name: raw.name.clone(),
        workload: file,
        scenario: overrides.scenario,
        set: overrides
            .set
            .iter()
            .map(|(key, value)| format!("{key}={}", value.to_yaml()))
            .collect(),
        warnings: spec.warnings,
        plan,
        budget: raw.budget.get(),
    })
}

/// Name, values and expected verdicts of an experiment as overrides that keep their lines.
fn assignments(node: &Node) -> Vec<(String, Node)> {
    let mut found = Vec::new();
    if let Some(name) = node.get("name") {
        found.push(("name".to_owned(), name.clone()));
    }
    for (part, prefix) in [("set", ""), ("expect", "expect.")] {
        if let Some(Content::Map(entries)) = node.get(part).map(|node| &node.content) {
            let values = entries.iter();
            found.extend(values.map(|e| (format!("{prefix}{}", e.key), e.node.clone())));
        }
    }
    found
}
