//! What differs between two runs before any figure does: spec, build, environment. Says whether
//! they are of one machine and one clock, without which figures are only set side by side.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::read::Run;
use crate::folder::Manifest;
use crate::plan::Plan;

/// What of the environment makes a machine; the rest is what it was like at the moment.
const MACHINE: [&str; 9] = [
    "cpu",
    "cores",
    "memory",
    "kernel",
    "os",
    "file system",
    "cgroup memory limit",
    "cgroup cpu limit",
    "clock source",
];

/// Says something of a manifest.
type Told = fn(&Manifest) -> String;

/// More differences of a spec than this are not listed.
const LISTED_MAX: usize = 20;

/// Something that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// `spec`, `build` or `environment`.
    pub part: &'static str,
    /// What.
    pub key: String,
    /// In each of the runs; empty where it has none.
    pub values: Vec<String>,
}

/// Everything in which `runs` are not all alike; a last one says how many were not listed.
#[must_use]
pub fn differences(runs: &[Run]) -> Vec<Difference> {
    let mut found = spec(runs);
    let left = found.len().saturating_sub(LISTED_MAX);
    found.truncate(LISTED_MAX);
    if left > 0 {
        let key = format!("{left} more");
        found.push(Difference { part: "spec", key, values: Vec::new() });
    }
    let build: [(&str, Told); 4] = [
        ("stage", |of| of.stage.clone()),
        ("server", |of| of.node.clone()),
        ("server sha256", |of| of.node_sha256.chars().take(12).collect()),
        ("harness", |of| of.harness.clone()),
    ];
    for (key, of) in build {
        let values = runs.iter().map(|run| of(&run.manifest)).collect();
        found.extend(differing("build", key, values));
    }
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in runs.iter().flat_map(|run| &run.manifest.environment) {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    for key in keys {
        let part = if key.starts_with("proxy") { "build" } else { "environment" };
        let values = runs.iter().map(|run| environment(&run.manifest, key)).collect();
        found.extend(differing(part, key, values));
    }
    found
}

fn differing(part: &'static str, key: &str, values: Vec<String>) -> Option<Difference> {
    let differs = values.windows(2).any(|pair| pair[0] != pair[1]);
    differs.then(|| Difference { part, key: key.to_owned(), values })
}

fn environment(manifest: &Manifest, key: &str) -> String {
    let found = manifest.environment.iter().find(|(known, _)| known == key);
    found.map(|(_, value)| value.clone()).unwrap_or_default()
}

/// Leaves of the plans that differ, by dotted path.
fn spec(runs: &[Run]) -> Vec<Difference> {
    let leaves: Vec<Vec<(String, String)>> = runs.iter().map(|run| leaves(&run.plan)).collect();
    let mut keys: Vec<&String> = leaves.iter().flatten().map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    let of = |key: &String| {
        let value = |leaves: &Vec<(String, String)>| {
            let found = leaves.iter().find(|(known, _)| known == key);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        differing("spec", key, leaves.iter().map(value).collect())
    };
    keys.into_iter().filter_map(of).collect()
}

fn leaves(plan: &Plan) -> Vec<(String, String)> {
    // Plans are made of numbers and words: they always have a form in JSON.
    let json = serde_json::to_value(plan).unwrap_or_default();
    let mut found = Vec::new();
    walk("", &json, &mut found);
    found.retain(|(key, _)| key != "name" && key != "description");
    found
}

fn walk(path: &str, value: &Value, found: &mut Vec<(String, String)>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| walk(&below(key), value, found)),
        Value::Array(list) => {
            let all = list.iter().enumerate();
            all.for_each(|(at, value)| walk(&below(&at.to_string()), value, found));
        }
        Value::String(text) => found.push((path.to_owned(), text.clone())),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            found.push((path.to_owned(), value.to_string()));
        }
    }
}

/// Why figures of these runs are only set side by side; `None` if they can be compared.
#[must_use]
pub fn apart(runs: &[Run]) -> Option<String> {
    let first = runs.first()?;
    for run in &runs[1..] {
        if run.manifest.stage != first.manifest.stage {
            let (a, b) = (&first.manifest.stage, &run.manifest.stage);
            return Some(format!("they ran on different stages: {a} and {b}"));
        }
        // What is simulated has a clock of its own, wherever it is computed.
        if run.summary.simulated && first.summary.simulated {
            continue;
        }
        let (a, b) = (machine(&first.manifest), machine(&run.manifest));
        if let Some(((key, a), (_, b))) = a.iter().zip(&b).find(|(a, b)| a != b) {
            return Some(format!("they are of different machines: {key} is {a} and {b}"));
        }
    }
    None
}

/// What makes the machine of a run.
#[must_use]
pub fn machine(manifest: &Manifest) -> Vec<(String, String)> {
    MACHINE.iter().map(|key| ((*key).to_owned(), environment(manifest, key))).collect()
}

/// Names the circumstances of a run: plan without seed and name, stage, machine. Runs of the same
/// circumstances have the same spread.
#[must_use]
pub fn circumstances(run: &Run) -> String {
    let mut plan = run.plan.clone();
    plan.seed = 0;
    plan.name.clear();
    plan.description.clear();
    let machine = if run.summary.simulated { Vec::new() } else { machine(&run.manifest) };
    let json = serde_json::to_vec(&(plan, &run.manifest.stage, machine)).unwrap_or_default();
    let hash = Sha256::digest(json);
    hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
