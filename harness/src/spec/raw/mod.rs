//! The YAML files as they are written: every key, its meaning, its default. Source of the JSON
//! Schemas. Workload files here, faults and suites beside. Meaning beyond a single value is checked
//! in `validate.rs` and `faults.rs`; nothing is checked here.

mod fault;
mod gate;
mod suite;
mod sweep;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::fault::{DiskWord, Kind, RawFault, RawScenarioFile, RawTarget, RawWhen, TargetWord};
pub use self::gate::{RawBetter, RawGateFile, RawGateMetric};
pub use self::suite::{RawExperiment, RawSuiteFile};
pub use self::sweep::{Measure, RawAxis, RawPoint, RawSweep};
use super::expect::RawExpect;
use super::size::Size;
use super::units::Span;
use crate::plan::Arrivals;

/// A Quorate workload: servers, records, load, faults, and what is expected of the outcome.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawWorkloadFile {
    /// Name of the experiment: lower-case letters, digits and dashes. Part of the run folder's
    /// name.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9-]*$"))]
    #[schemars(extend("x-legal" = "lower-case letters, digits and dashes"))]
    pub name: String,
    /// One sentence for the report: what this shows.
    #[serde(default)]
    pub description: String,
    /// Root of every random stream. Same file and seed, same plan to the byte. `--seed` overrides
    /// it.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// Servers and links.
    #[serde(default)]
    pub topology: RawTopology,
    /// How far servers and clients are from each other. Simulated alone: `--stage sim`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<RawNetwork>,
    /// Records and operations.
    #[serde(default)]
    pub workload: RawWorkload,
    /// How operations are sent.
    #[serde(default)]
    pub load: RawLoad,
    /// Lengths of the parts of the run.
    #[serde(default)]
    pub phases: RawPhases,
    /// Faults of the measure phase. Instead of them: `scenario`.
    #[serde(default)]
    pub faults: Vec<RawFault>,
    /// A scenario file with the faults, relative to this file. `--scenario` overrides it.
    #[serde(default)]
    pub scenario: Option<String>,
    /// The points at which `quorate sweep` runs it. `quorate run` runs what stands here otherwise.
    #[serde(default)]
    pub sweep: Option<RawSweep>,
    /// Expected verdict by checker. A checker not named is expected to say `valid`.
    #[serde(default)]
    pub expect: RawExpect,
}

fn default_seed() -> u64 {
    1
}

/// Servers and links.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawTopology {
    /// Number of MASTER servers; they are called n1, n2, ….
    #[schemars(range(min = 1, max = 9))]
    pub masters: u8,
    /// Number of REPLICAs that join them; they are called r1, r2, …. They hold everything, are read
    /// at, and count for no quorum. More than 200 are for `--stage sim` alone.
    #[schemars(range(max = 1000))]
    pub replicas: u16,
    /// The one server knows no cluster and no quorum: what a cluster is to be compared with.
    pub standalone: bool,
    /// How many MASTERs must have voted for a write before it is acknowledged.
    pub write_quorum: RawQuorum,
    /// `proxied`: every link runs through the fault proxy, needed to cut or delay it.
    pub links: RawLinks,
    /// Memory that each server may use, as in 512MiB; it gets no swap. Needs containers.
    /// Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Processors that each server may use, as in 0.5. Needs containers. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Memory that each server keeps to by itself (`--heap`), as in 512MiB; from 32MiB. Default:
    /// half of what it can have, as it finds out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heap: Option<Size>,
}

impl Default for RawTopology {
    fn default() -> Self {
        let write_quorum = RawQuorum::Word(QuorumWord::Majority);
        Self {
            masters: 3,
            replicas: 0,
            standalone: false,
            write_quorum,
            links: RawLinks::Proxied,
            memory: None,
            cpus: None,
            heap: None,
        }
    }
}

/// Distances, from a table of published round trips.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawNetwork {
    /// Which table: `lan`, `one-region` (three zones) or `five-regions`.
    pub latencies: RawLatencies,
    /// Region of each server, by its name. Default: in turn over the regions of the table, MASTERs
    /// and REPLICAs each from the first one on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<String, String>,
    /// Region that all clients are in. Default: each is beside the server that it asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<String>,
}

/// A table of round trips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawLatencies {
    /// One data center.
    Lan,
    /// Three zones of one region.
    OneRegion,
    /// Five regions on four continents.
    FiveRegions,
}

impl std::fmt::Display for RawLatencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Lan => "lan",
            Self::OneRegion => "one-region",
            Self::FiveRegions => "five-regions",
        })
    }
}

/// A write quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("x-legal" = "a number from 1 to `masters`, or majority, or all"))]
pub enum RawQuorum {
    /// By arithmetic.
    Word(QuorumWord),
    /// So many MASTERs.
    Count(#[schemars(range(min = 1, max = 9))] u8),
}

/// A write quorum by arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QuorumWord {
    /// More than half of the MASTERs.
    Majority,
    /// Every MASTER.
    All,
}

/// How servers and clients are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RawLinks {
    /// Through fault proxies.
    Proxied,
    /// Without proxies; links cannot be cut or delayed.
    Direct,
}

/// Records and operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawWorkload {
    /// Records created before the load starts.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub records: u64,
    /// Bytes of padding in each record.
    #[schemars(range(max = 1_048_576))]
    pub value_bytes: u32,
    /// Weights of the operations; they need not sum to 100. An operation not named has weight 0.
    pub mix: RawMix,
    /// How keys are drawn.
    pub keys: RawKeys,
}

impl Default for RawWorkload {
    fn default() -> Self {
        Self { records: 500, value_bytes: 100, mix: RawMix::default(), keys: RawKeys::default() }
    }
}

/// Weights of the operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMix {
    /// Read of one record that is linearizable: asks a majority.
    #[serde(default)]
    pub read_majority: u32,
    /// Read of one record from the one server asked; may be stale.
    #[serde(default)]
    pub read_local: u32,
    /// Replacement of one record, whatever its version.
    #[serde(default)]
    pub update: u32,
    /// Replacement that fails if the record changed since it was last seen.
    #[serde(default)]
    pub update_versioned: u32,
    /// Creation of a further record.
    #[serde(default)]
    pub create: u32,
    /// Deletion of a record. Later operations leave it alone, and the next one created takes its
    /// share of them, so keep this below `create`.
    #[serde(default)]
    pub delete: u32,
}

impl Default for RawMix {
    fn default() -> Self {
        Self {
            read_majority: 40,
            read_local: 10,
            update: 40,
            update_versioned: 5,
            create: 5,
            delete: 0,
        }
    }
}

/// How keys are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawKeys {
    /// The shape.
    pub distribution: Distribution,
    /// zipfian and latest: skew, between 0 and 1. Default 0.99.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theta: Option<f64>,
    /// hotspot: share of the keys that are hot, between 0 and 1. Default 0.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_fraction: Option<f64>,
    /// hotspot: share of the operations that go to hot keys, between 0 and 1. Default 0.8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub op_fraction: Option<f64>,
}

impl Default for RawKeys {
    fn default() -> Self {
        let distribution = Distribution::Uniform;
        Self { distribution, theta: None, data_fraction: None, op_fraction: None }
    }
}

/// Shape of the key distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Every key alike.
    Uniform,
    /// Few keys take most operations, scattered over the key space.
    Zipfian,
    /// The newest keys take most operations.
    Latest,
    /// A share of the keys takes a share of the operations.
    Hotspot,
    /// 0, 1, 2, … and round again.
    Sequential,
}

/// How operations are sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawLoad {
    /// Open loop (a schedule of arrivals that waits for nobody), or closed loop.
    pub mode: Mode,
    /// open: arrivals per second. Default 300.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub rate: Option<f64>,
    /// open: gaps between arrivals. Default poisson.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrivals: Option<Arrivals>,
    /// Keep-alive connections; closed: also the operations in flight. Default: closed 16; open
    /// rate × timeout, so that a server that hangs does not hold up arrivals for the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub clients: Option<u32>,
    /// How long a client waits; also sent to the server as the operation's deadline.
    pub timeout: Span,
    /// Operations in flight beyond which arrivals queue in the driver. 0: no cap but `clients`.
    #[schemars(range(max = 100_000))]
    pub in_flight_cap: u32,
    /// MASTERs that clients talk to, in turn: `all`, or names such as [n1, n2].
    pub targets: RawTargets,
    /// Servers that they read at instead, in turn: `all`, REPLICAs included, `replicas`, or names.
    /// Default: the targets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_at: Option<RawReadAt>,
}

impl Default for RawLoad {
    fn default() -> Self {
        Self {
            mode: Mode::Open,
            rate: None,
            arrivals: None,
            clients: None,
            timeout: Span::secs(1),
            in_flight_cap: 0,
            targets: RawTargets::Word(AllWord::All),
            read_at: None,
        }
    }
}

/// Open or closed loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Arrivals on a schedule; latency counts from the intended start.
    Open,
    /// Each client sends its next operation when the last one is done. For throughput.
    Closed,
}

/// Servers that clients read at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("x-legal" = "all, replicas, or a list of servers such as [n1, r2]"))]
pub enum RawReadAt {
    /// By role.
    Word(ReadAtWord),
    /// These.
    Names(Vec<String>),
}

/// Servers that clients read at, by role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadAtWord {
    /// Every server.
    All,
    /// Every REPLICA.
    Replicas,
}

/// Servers that clients talk to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("x-legal" = "all, or a list of servers such as [n1, n2]"))]
pub enum RawTargets {
    /// Every server.
    Word(AllWord),
    /// These.
    Names(Vec<String>),
}

/// The word `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllWord {
    /// Every server.
    All,
}

/// Lengths of the parts of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawPhases {
    /// Load that is sent but not counted.
    pub warmup: Span,
    /// Load that counts; faults happen in here.
    pub measure: Span,
    /// Longest wait, after everything is healed, for the servers to hold the same.
    pub settle: Span,
}

impl Default for RawPhases {
    fn default() -> Self {
        Self { warmup: Span::secs(2), measure: Span::secs(10), settle: Span::secs(5) }
    }
}
