//! The sweep of a workload file as it is written. Nothing is checked here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The same workload at several points: every value of each axis with every value of the others.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSweep {
    /// What differs. Of two axes the first is down, the second across.
    #[schemars(length(min = 1, max = 2))]
    pub axes: Vec<RawAxis>,
    /// Runs of each point, each with a seed of its own. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub repeats: u32,
    /// A point is not run again once half the 95 % interval of `figure` is below this share of its
    /// mean, five runs at least. Default 0: always all repeats.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub narrow: f64,
    /// The figure that `narrow` looks at.
    #[serde(default)]
    pub figure: Measure,
}

fn one() -> u32 {
    1
}

/// A figure of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Acknowledged operations per second.
    #[default]
    Rate,
    /// 99 % of the acknowledged operations took at most this long.
    P99,
}

/// One thing that differs: `path` with `values`, or with `from`, `to` and `step`, or `points`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAxis {
    /// What stands at the axis. Default: the last part of `path`.
    #[serde(default)]
    pub name: Option<String>,
    /// Dotted path of the value that differs, as in `topology.replicas`.
    #[serde(default)]
    pub path: Option<String>,
    /// The values at `path`.
    #[serde(default)]
    pub values: Option<Vec<Value>>,
    /// The first of a range of numbers at `path`.
    #[serde(default)]
    pub from: Option<f64>,
    /// The last of it.
    #[serde(default)]
    pub to: Option<f64>,
    /// From one to the next. Default 1.
    #[serde(default)]
    pub step: Option<f64>,
    /// Points at which several values differ.
    #[serde(default)]
    pub points: Option<Vec<RawPoint>>,
}

/// A point of an axis.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPoint {
    /// What stands at it.
    pub label: String,
    /// Values by dotted path.
    pub set: BTreeMap<String, Value>,
}
