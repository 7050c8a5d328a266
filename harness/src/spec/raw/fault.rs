//! Faults and scenario files as they are written. Nothing is checked here.

use schemars::JsonSchema;
use serde::Deserialize;

use super::RawQuorum;
use crate::plan::{Cut, DelayDistribution, ServerState, Shape, Survives};
use crate::spec::units::Span;

/// One fault: it begins at `at` and is healed `for` later.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawFault {
    /// Unique name, shown in plots. Default: the kind, numbered if it occurs again.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9-]*$"))]
    #[schemars(extend("x-legal" = "lower-case letters, digits and dashes"))]
    #[serde(default)]
    pub name: Option<String>,
    /// What it does.
    pub fault: Kind,
    /// When it begins, counted from the start of the measure phase, or as `after` says.
    pub at: Span,
    /// Name of a fault above this one: `at` counts from the moment at which its heal is proven, its
    /// last one if it happens several times.
    #[serde(default)]
    pub after: Option<String>,
    /// `at` counts from the moment at which this was seen, instead of from a time. A state that the
    /// server has already counts at once.
    #[serde(default)]
    pub when: Option<RawWhen>,
    /// after, when: leave it out, with a note, where it would end behind the measure phase, because
    /// what it waits for was late or never came. Default false: the run is unsound then. storm: the
    /// same of every time behind the first, default for all behind the second.
    #[serde(default)]
    pub may_lapse: Option<bool>,
    /// How long it lasts.
    #[serde(rename = "for")]
    pub lasts: Span,
    /// Whom it hits. Default: one MASTER, drawn from the seed.
    #[serde(default)]
    pub target: RawTarget,
    /// partition: how links are cut. Default silent.
    #[serde(default)]
    pub cut: Option<Cut>,
    /// partition: which links are cut. Default sides.
    #[serde(default)]
    pub shape: Option<Shape>,
    /// partition: cut for the first half of each such period and whole for the second, always the
    /// same links. Default: cut all the time.
    #[serde(default)]
    pub flapping: Option<Span>,
    /// disk: how it gives way.
    #[serde(default)]
    pub disk: Option<DiskWord>,
    /// disk power-cut: what is left of unsynced writes. Default sectors.
    #[serde(default)]
    pub survives: Option<Survives>,
    /// How often it happens, each time to targets of its own. Default 1.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default)]
    pub times: Option<u32>,
    /// times: from one beginning to the next.
    #[serde(default)]
    pub every: Option<Span>,
    /// kill and restart: again and again instead of once, each time to targets of its own, and
    /// never before everybody is back from the time before.
    #[serde(default)]
    pub storm: Option<RawStorm>,
    /// latency: added to every message in each direction. disk slow: added to every sync. reset:
    /// from a connection's first bytes to its reset, default 0s. slice: from piece to piece.
    #[serde(default)]
    pub delay: Option<Span>,
    /// bandwidth: thousands of bytes a second in each direction of each link.
    #[serde(default)]
    pub rate: Option<u64>,
    /// slice: bytes of a piece, half of them more or less.
    #[serde(default)]
    pub size: Option<u64>,
    /// reconfigure: the write quorum until the end, at least a majority.
    #[serde(default)]
    pub write_quorum: Option<RawQuorum>,
    /// latency: how much `delay` varies: half the width of a uniform variation, the standard
    /// deviation of a normal one, the scale of the tail of a pareto one. Default 0s.
    #[serde(default)]
    pub jitter: Option<Span>,
    /// latency: how `delay` varies. Default uniform.
    #[serde(default)]
    pub distribution: Option<DelayDistribution>,
}

/// An event of the measure phase that a fault waits for: `server` and `state`, or `committed`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawWhen {
    /// Which server is asked for its state, again and again.
    #[serde(default)]
    pub server: Option<String>,
    /// The state that it must say it is in.
    #[serde(default)]
    pub state: Option<ServerState>,
    /// So many transactions committed since the measure phase began, as their coordinators count.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub committed: Option<u64>,
}

/// How often servers go and return: as often as `for` has room for if each is back at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawStorm {
    /// From the proven return of all to the next time, on average; each is drawn from the seed,
    /// between about half of it and about one and a half times it.
    pub every: Span,
    /// How long they stay away.
    pub down: Span,
    /// Whether more than a minority of the MASTERs may be away at once. Default false.
    #[serde(default)]
    pub beyond_minority: bool,
}

/// What a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The process is killed without warning; it is started again at the end.
    Kill,
    /// The process is told to stop and does so; it is started again at the end.
    Restart,
    /// The process is frozen and continued at the end.
    Pause,
    /// Links between servers are cut: those between the target and the others, or as `shape` says.
    Partition,
    /// Every link between the target and the other servers gets slower.
    Latency,
    /// Every connection between the target and the other servers is reset, new ones too.
    Reset,
    /// Every link between the target and the other servers carries `rate` at most.
    Bandwidth,
    /// Everything between the target and the other servers arrives in small pieces.
    Slice,
    /// The disk gives way as `disk` says. Needs /dev/fuse and root.
    Disk,
    /// The database gets another write quorum while it is used, and its own back at the end.
    Reconfigure,
}

/// How a disk gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DiskWord {
    /// Every sync takes `delay` longer.
    Slow,
    /// There is no room until the end, when a server that ended is started again.
    Full,
    /// The server is killed and loses what it had not synced; it is started again at the end.
    PowerCut,
}

/// Whom a fault hits.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend(
    "x-legal" = "one, minority, majority, all (MASTERs), replicas, {replica: 3}, or a list such as \
                 [n1, r2]"
))]
pub enum RawTarget {
    /// Drawn from the seed.
    Word(TargetWord),
    /// One REPLICA.
    Replica(ReplicaNumber),
    /// These servers.
    Names(Vec<String>),
}

/// One REPLICA by its number, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplicaNumber {
    /// 3 is r3.
    pub replica: u8,
}

impl Default for RawTarget {
    fn default() -> Self {
        Self::Word(TargetWord::One)
    }
}

/// A target by number, drawn from the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetWord {
    /// One MASTER.
    One,
    /// The largest minority of the MASTERs.
    Minority,
    /// The smallest majority of the MASTERs.
    Majority,
    /// Every MASTER.
    All,
    /// Every REPLICA.
    Replicas,
}

/// A Quorate fault scenario: faults that can be put under any workload.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawScenarioFile {
    /// Name of the scenario: lower-case letters, digits and dashes.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9-]*$"))]
    #[schemars(extend("x-legal" = "lower-case letters, digits and dashes"))]
    pub name: String,
    /// One sentence: what gives way, and what should be seen.
    #[serde(default)]
    pub description: String,
    /// The faults.
    #[schemars(length(min = 1))]
    pub faults: Vec<RawFault>,
}
