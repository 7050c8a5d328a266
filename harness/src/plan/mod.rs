//! The plan: everything a run will do, derived purely from a spec and a seed, saved before anything
//! starts. Holds the types alone; building them from a spec lives in `build.rs`. No clock, no
//! network, no files here.

mod build;
pub mod estimate;
mod format;
mod gaps;
mod latency;
mod network;
pub mod shape;
pub mod stream;
pub mod target;
mod traffic;
mod trigger;

use std::collections::BTreeMap;

use quorate_check::verdict::Verdict;
use serde::{Deserialize, Serialize};

pub use build::build;
pub use format::{PLAN_FORMAT, PLAN_FORMATS};
pub use gaps::Gap;
pub use latency::DelayDistribution;
pub use network::Network;
pub use shape::Shape;
pub use traffic::Traffic;
pub use trigger::{Event, Order, ServerState, Trigger};

use crate::disk::Survival;

/// A complete plan. Same spec and seed, same plan, to the byte.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of `plan.json`, one of [`PLAN_FORMATS`].
    pub format: u32,
    /// Name of the experiment, `[a-z0-9-]+`; part of the run folder's name.
    pub name: String,
    /// One sentence for the report.
    pub description: String,
    /// Root of every random stream; streams are derived by name.
    pub seed: u64,
    /// Servers and links.
    pub topology: Topology,
    /// How far they are from each other, where that is simulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Records and operations.
    pub workload: Workload,
    /// How operations are sent.
    pub load: Load,
    /// Lengths of the parts of the run.
    pub phases: Phases,
    /// Faults in the order of when they begin at the earliest.
    pub faults: Vec<PlannedFault>,
    /// Expected verdict per checker name; everything not named is expected to be valid.
    /// `Unknown` says that any verdict will do.
    pub expect: BTreeMap<String, Verdict>,
}

impl Plan {
    /// True if a fault hurts disks: every server then runs on one that can be hurt.
    #[must_use]
    pub fn hurts_disks(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault.kind, FaultKind::Disk { .. }))
    }

    /// True if `found` is a verdict of `checker` that the plan accepts.
    #[must_use]
    pub fn accepts(&self, checker: &str, found: Verdict) -> bool {
        match self.expect.get(checker) {
            Some(Verdict::Unknown) => true,
            Some(expected) => found == *expected,
            None => found == Verdict::Valid,
        }
    }
}

/// Servers and how they are connected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Topology {
    /// Names of the MASTERs, `n1`, `n2`, ….
    pub masters: Vec<String>,
    /// Names of the REPLICAs, `r1`, `r2`, …, which join the MASTERs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<String>,
    /// True when the one server runs without a cluster.
    #[serde(default)]
    pub standalone: bool,
    /// Write quorum as the node takes it: an integer, `majority` or `all`.
    pub write_quorum: String,
    /// True when every link between servers, and every client link, runs through a fault proxy.
    pub proxied: bool,
    /// What each server may use.
    #[serde(default, skip_serializing_if = "Limits::are_none")]
    pub limits: Limits,
    /// Bytes of memory that each server keeps to by itself; `None`: as it finds out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heap_bytes: Option<u64>,
}

/// What a server may use; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory, without any swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
}

impl Limits {
    /// True when nothing is limited.
    #[must_use]
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Topology {
    /// Servers up to which every link has a proxy. Entries grow with the square of the servers,
    /// while a REPLICA uses few of its links: with more servers those of REPLICAs are direct.
    pub const PROXIED_MAX: usize = 12;

    /// Every server, MASTERs first: the order in which histories number them.
    #[must_use]
    pub fn servers(&self) -> Vec<String> {
        self.masters.iter().chain(&self.replicas).cloned().collect()
    }

    /// True if the links of REPLICAs with other servers run through proxies, as those of MASTERs.
    #[must_use]
    pub fn proxies_replicas(&self) -> bool {
        self.proxied && self.masters.len() + self.replicas.len() <= Self::PROXIED_MAX
    }
}

/// Records and the mix of operations on them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Number of logical keys created in the load phase, dense from 0.
    pub records: u64,
    /// Bytes of padding in a value, beside its unique id.
    pub value_bytes: u32,
    /// Weights; the sum need not be 100.
    pub mix: BTreeMap<OpClass, u32>,
    /// How keys are drawn.
    pub keys: KeyDistribution,
}

/// An operation class: what the mix, the histograms and the per-operation table count by.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum OpClass {
    /// Majority read of one record.
    ReadMajority,
    /// Local read of one record.
    ReadLocal,
    /// Full replacement of one record without a version check.
    Update,
    /// Replacement that names the version last seen by the client (a conflict is a definite
    /// failure).
    UpdateVersioned,
    /// Creation of a further record (keys from `records` upwards).
    Create,
    /// Deletion of a record, which no later operation is meant for.
    Delete,
}

impl OpClass {
    /// Every class.
    pub const ALL: [Self; 6] = [
        Self::ReadMajority,
        Self::ReadLocal,
        Self::Update,
        Self::UpdateVersioned,
        Self::Create,
        Self::Delete,
    ];

    /// Its name in a workload.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadMajority => "read_majority",
            Self::ReadLocal => "read_local",
            Self::Update => "update",
            Self::UpdateVersioned => "update_versioned",
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }

    /// True for operations that change nothing.
    #[must_use]
    pub fn is_read(self) -> bool {
        matches!(self, Self::ReadMajority | Self::ReadLocal)
    }
}

/// How keys are drawn (YCSB's vocabulary).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "distribution")]
pub enum KeyDistribution {
    /// Every key alike.
    Uniform,
    /// Scrambled Zipf with exponent `theta` in (0, 1).
    Zipfian {
        /// Skew; YCSB's usual value is 0.99.
        theta: f64,
    },
    /// Zipf over recency: the newest key is the most popular one.
    Latest {
        /// Skew in (0, 1).
        theta: f64,
    },
    /// A share of the keys takes a share of the operations.
    Hotspot {
        /// Share of keys that are hot, in (0, 1).
        data_fraction: f64,
        /// Share of operations that go to them, in (0, 1).
        op_fraction: f64,
    },
    /// 0, 1, 2, … and round again.
    Sequential,
}

/// How operations are sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Open loop at a rate, or closed loop with a number of clients.
    pub mode: LoadMode,
    /// Keep-alive connections; in the closed loop also the number of operations in flight.
    pub clients: u32,
    /// Client-side request timeout in milliseconds, also sent as the request's deadline.
    pub timeout_ms: u64,
    /// Operations in flight beyond which arrivals queue in the driver (counted, never dropped).
    /// 0: no cap but `clients`.
    pub in_flight_cap: u32,
    /// Names of the servers that clients talk to, in turn.
    pub targets: Vec<String>,
    /// Names of the servers that they read at instead, in turn; none: at the targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readers: Vec<String>,
}

/// Open or closed loop.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadMode {
    /// Arrivals on a schedule of their own; latency counts from the intended start.
    Open {
        /// Arrivals per second.
        rate: f64,
        /// Gaps between arrivals.
        arrivals: Arrivals,
    },
    /// Each client sends its next operation when the last one is done. For throughput search.
    Closed,
}

/// Gaps between arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// Exponential gaps.
    Poisson,
    /// Equal gaps.
    Uniform,
}

/// Lengths in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// Load sent but not counted.
    pub warmup_ms: u64,
    /// Load that counts; faults happen in here, and their `at_ms` counts from its start.
    pub measure_ms: u64,
    /// Longest wait for convergence after heal.
    pub settle_ms: u64,
}

/// One fault of the plan: an inject, and a heal `for_ms` later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedFault {
    /// Unique name in the plan, shown in plots.
    pub name: String,
    /// Milliseconds after the start of the measure phase, or after what it waits for.
    pub at_ms: u64,
    /// How long it lasts; the heal is that long after it.
    pub for_ms: u64,
    /// What it does.
    pub kind: FaultKind,
    /// Name that random choices are drawn under, if not its own: all cuts of a flapping partition
    /// are drawn under one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawn_as: Option<String>,
    /// What it waits for, if not for the start of the measure phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
}

/// What a fault does, with its target as requested (symbolic); the resolved target is recorded when
/// it fires.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fault")]
pub enum FaultKind {
    /// SIGKILL; heal starts the process again.
    Kill {
        /// Whom.
        target: Target,
    },
    /// SIGTERM and wait for exit; heal starts the process again.
    Restart {
        /// Whom.
        target: Target,
    },
    /// SIGSTOP; heal is SIGCONT.
    Pause {
        /// Whom.
        target: Target,
    },
    /// Links between servers are cut; those of clients never are.
    Partition {
        /// Kind of cut.
        cut: Cut,
        /// Whom: the servers on one side, for most shapes.
        target: Target,
        /// Which links.
        #[serde(default, skip_serializing_if = "Shape::is_sides")]
        shape: Shape,
    },
    /// Delay on every server link from and to the target.
    Latency {
        /// Whom.
        target: Target,
        /// Added one-way delay in microseconds.
        delay_us: u64,
        /// Its variation in microseconds, as the distribution takes it.
        jitter_us: u64,
        /// How it varies.
        #[serde(default, skip_serializing_if = "DelayDistribution::is_uniform")]
        distribution: DelayDistribution,
    },
    /// What is sent on every server link from and to the target suffers.
    Traffic {
        /// Whom.
        target: Target,
        /// How.
        #[serde(flatten)]
        traffic: Traffic,
    },
    /// The disk gives way.
    Disk {
        /// Whose.
        target: Target,
        /// How.
        #[serde(flatten)]
        disk: DiskFault,
    },
    /// The database gets another write quorum while it is used. Nobody is hit.
    Reconfigure {
        /// `majority`, `all` or a number, as servers take it.
        write_quorum: String,
        /// The one that it gets back at the heal.
        before: String,
    },
}

impl FaultKind {
    /// The target as requested.
    #[must_use]
    pub fn target(&self) -> &Target {
        match self {
            Self::Kill { target }
            | Self::Restart { target }
            | Self::Pause { target }
            | Self::Partition { target, .. }
            | Self::Latency { target, .. }
            | Self::Traffic { target, .. }
            | Self::Disk { target, .. } => target,
            // Any of them may be asked.
            Self::Reconfigure { .. } => &Target::All,
        }
    }
}

/// What gives way in a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "disk")]
pub enum DiskFault {
    /// The server is killed and what it did not sync is lost; heal starts it again.
    PowerCut {
        /// What is left of it all the same.
        survives: Survives,
    },
    /// Every sync is held up.
    Slow {
        /// Microseconds.
        delay_us: u64,
    },
    /// There is no room; heal makes room and starts the server again if it ended.
    Full,
}

/// What a power cut leaves of unsynced writes; see [`crate::disk::Survival`].
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Survives {
    /// Nothing.
    Nothing,
    /// The first of them, the last of those torn.
    Prefix,
    /// Any sectors of them.
    #[default]
    Sectors,
}

impl Survives {
    /// As the disk is told, drawn from the run's seed by the fault's name.
    #[must_use]
    pub fn of_fault(self, seed: u64, fault: &str) -> Survival {
        let seed = stream::Stream::new(seed, &format!("fault/{fault}/survives")).at(0);
        match self {
            Self::Nothing => Survival::Nothing,
            Self::Prefix => Survival::Prefix { seed },
            Self::Sectors => Survival::Sectors { seed },
        }
    }
}

/// The kinds of cut, which servers see differently (HARNESS.md part 3, item 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Bytes are held, connections stay, everything is delivered after heal.
    Silent,
    /// Connections are reset, then refused.
    Closed,
    /// With the one-way shapes: who is not heard keeps its end of every connection and notices
    /// nothing, while the other ends are reset. Nothing passes either way.
    HalfOpen,
}

impl Cut {
    /// For people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
        }
    }

    /// Between whom nothing passes, as a shape: without one of its ends a connection carries
    /// nothing either way, whoever of the two notices.
    #[must_use]
    pub fn felt(self, shape: Shape) -> Shape {
        if self == Self::HalfOpen { Shape::Sides } else { shape }
    }
}

/// Whom a fault hits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One server, drawn from the seed.
    One,
    /// The largest minority, drawn from the seed.
    Minority,
    /// The smallest majority, drawn from the seed.
    Majority,
    /// Every MASTER.
    All,
    /// Every REPLICA.
    Replicas,
    /// These servers.
    Names(Vec<String>),
}
