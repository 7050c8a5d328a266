//! Suite files as they are written. Nothing is checked here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::spec::expect::RawExpect;
use crate::spec::units::Span;

/// A Quorate suite: experiments that are run one after the other.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSuiteFile {
    /// Name of the suite: lower-case letters, digits and dashes.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9-]*$"))]
    #[schemars(extend("x-legal" = "lower-case letters, digits and dashes"))]
    pub name: String,
    /// One sentence: what it is for.
    #[serde(default)]
    pub description: String,
    /// Upper limit of the sum of the experiments' budgets.
    pub budget: Span,
    /// How often an experiment is run again when its figures are unsound because the host withheld
    /// CPU time, as long as the suite stays within its budget.
    #[serde(default)]
    #[schemars(range(max = 5))]
    pub repeats: u32,
    /// The experiments, in order.
    #[schemars(length(min = 1))]
    pub experiments: Vec<RawExperiment>,
}

/// One experiment of a suite.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawExperiment {
    /// Unique name; replaces the workload's name.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9-]*$"))]
    #[schemars(extend("x-legal" = "lower-case letters, digits and dashes"))]
    pub name: String,
    /// The workload file, relative to the suite file.
    pub workload: String,
    /// A scenario file that replaces the workload's faults, relative to the suite file.
    #[serde(default)]
    pub scenario: Option<String>,
    /// Replaces the workload's seed.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Values that replace those of the workload, by dotted path: `topology.masters: 5`.
    #[serde(default)]
    pub set: BTreeMap<String, Value>,
    /// Longest time it may take, everything included.
    pub budget: Span,
    /// Expected verdicts, beside those of the workload file.
    #[serde(default)]
    pub expect: RawExpect,
}
