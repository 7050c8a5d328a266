//! Gate files as they are written. Nothing is checked here.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::compare::Kind;

/// A Quorate gate: what a comparison must not find worse.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawGateFile {
    /// The metrics. Few are better: with each one more, chance has to be ruled out further.
    #[schemars(length(min = 1))]
    pub gate: Vec<RawGateMetric>,
}

/// A metric of a gate.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawGateMetric {
    /// What is looked at.
    pub metric: Kind,
    /// Of which operations, as reports name them: `update`, `read (majority)`; latencies alone.
    /// Default: all together.
    #[serde(default)]
    pub class: Option<String>,
    /// Within which a difference is none: 0.05 is 5 % of throughput, latencies and what a write
    /// costs; of shares, unavailability and recovery it is in their unit (0.001 is one operation of
    /// a thousand, 0.5 half a second). Default: see README.md.
    #[serde(default)]
    #[schemars(range(min = 0.000_001, max = 1000))]
    pub margin: Option<f64>,
    /// Which direction is good. Default: more throughput, less of anything else.
    #[serde(default)]
    pub better: Option<RawBetter>,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawBetter {
    /// More is better.
    More,
    /// Less is better.
    Less,
}
