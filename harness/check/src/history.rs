//! The history model: what clients asked, what they were told, and when.
//! Shared by real and simulated runs. Reading and writing the file format lives in `format.rs`;
//! judging lives in `checkers/`. No clock, no network here.

use serde::{Deserialize, Serialize};

/// Nanoseconds on the one monotonic clock of the recording process, counted from the start of the
/// run.
pub type Nanos = u64;

/// What is known about the effect of an operation (DESIGN.md section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It happened, and the client was told so.
    Ok,
    /// It definitely did not happen.
    Failed,
    /// It may have happened, or may still happen.
    Unknown,
}

/// The part of a run an operation belongs to.
///
/// Checkers judge all phases; figures come from `Measure` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Creating the records the workload works on.
    Load,
    /// Load at the measured rate, excluded from figures.
    Warmup,
    /// The measured part, faults included.
    Measure,
    /// After every fault was healed: reads that watch convergence.
    Settle,
    /// One majority read, and one local read per node, of every key.
    Final,
}

/// How strong a read was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReadLevel {
    /// The committed snapshot of the one server asked; may be stale.
    Local,
    /// Linearizable per item.
    Majority,
}

/// The kind of an operation as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpKind {
    /// Create one record.
    Create,
    /// Read one record.
    Read,
    /// Replace the value of one record.
    Update,
    /// Delete one record.
    Delete,
    /// Several steps in one transaction. At [`ReadLevel::Local`] its reads come from one snapshot
    /// of the server asked; at [`ReadLevel::Majority`] they are serializable with everything if
    /// [`Promises::serializable`] says so. A step that reads a key which a later step writes says
    /// what the write was based on. Several steps under [`OpKind::Read`] are no snapshot.
    Transaction,
}

/// One access to one logical key inside an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Logical key of the workload, dense from 0; one record each.
    pub key: u64,
    /// What is done to it.
    pub action: Action,
    /// The record id `#cluster:position`, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// The record version the reply named (written or read).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// What the record means to the workload: as written, or as a read saw it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Who stood behind a write when it was acknowledged. A simulator, which sees the disks, names
    /// it; a client cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Box<Evidence>>,
}

/// What a record holds beside its unique value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// An account's money; what is promised of all of them is [`Promises::bank`].
    Balance(i64),
    /// The key that the record holds in a UNIQUE index; no other live record may.
    Unique(u64),
    /// An edge, by the logical keys of the vertices it joins.
    Edge(Edge),
    /// A vertex, by the logical keys of its edges.
    Vertex(Box<Vertex>),
}

/// The two ends of an edge, as logical keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// Where it begins.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
}

/// The edges that a vertex names, as logical keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vertex {
    /// Those that begin at it.
    pub outgoing: Vec<u64>,
    /// Those that end at it.
    pub incoming: Vec<u64>,
}

/// Servers, as indexes into [`Header::nodes`], that had made something durable before the reply to
/// a write was sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Those whose Yes vote was durable.
    pub voted: Vec<u32>,
    /// Those that had durably accepted "prepared" in one later ballot.
    pub accepted: Vec<u32>,
}

/// What a step does.
///
/// Values are unique over the whole run: the id of the operation that wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Read; `None` until completed. `Some(Seen::Absent)` is a definite "not found".
    Read(Option<Seen>),
    /// Write this unique value.
    Write(u64),
    /// Delete; the number is the unique tombstone id (that of the operation).
    Delete(u64),
}

/// What a read saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seen {
    /// No record. The server names the tombstone's unique id when it knows one.
    Absent(Option<u64>),
    /// The unique value of some write.
    Value(u64),
}

/// One operation: its invocation, and its completion if there was one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Unique in the run; also the value that its writes carry.
    pub id: u64,
    /// Logical client. One operation at a time per process; after `Unknown` the client goes on
    /// under a new number.
    pub process: u64,
    /// Which client session; several processes in a row may share one.
    pub session: u64,
    /// Kind as the client sees it.
    pub kind: OpKind,
    /// Part of the run.
    pub phase: Phase,
    /// Index into [`Header::nodes`] of the server asked.
    pub node: u32,
    /// Level of its reads; `None` for operations that read nothing.
    pub level: Option<ReadLevel>,
    /// Accesses, in order.
    pub steps: Vec<Step>,
    /// When the schedule wanted it to start. Equals `sent` in a closed loop.
    pub intended: Nanos,
    /// Just before the first byte was written.
    pub sent: Nanos,
    /// Just after the last byte of the reply was read; `None` when there was none: pending for
    /// ever.
    pub done: Option<Nanos>,
    /// What is known about its effect.
    pub outcome: Outcome,
    /// Machine-readable error code of the reply, or of the client (`client_timeout`,
    /// `connection_lost`).
    pub code: Option<String>,
}

impl Step {
    /// A step of which nothing else is known.
    #[must_use]
    pub fn new(key: u64, action: Action) -> Self {
        Self { key, action, rid: None, version: None, content: None, evidence: None }
    }

    /// What a read of what this step writes would see; `None` for reads.
    pub fn written(&self) -> Option<Seen> {
        match self.action {
            Action::Read(_) => None,
            Action::Write(value) => Some(Seen::Value(value)),
            Action::Delete(tombstone) => Some(Seen::Absent(Some(tombstone))),
        }
    }

    /// True if the step writes or deletes.
    pub fn is_write(&self) -> bool {
        matches!(self.action, Action::Write(_) | Action::Delete(_))
    }
}

impl Operation {
    /// True if the operation was acknowledged.
    pub fn is_ok(&self) -> bool {
        self.outcome == Outcome::Ok
    }

    /// True if it is an acknowledged operation whose reads were asked for at `level`.
    pub fn is_ok_at(&self, level: ReadLevel) -> bool {
        self.is_ok() && self.level == Some(level)
    }
}

/// First line of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Always `quorate-history`.
    pub format: String,
    /// Format version; this crate writes [`FORMAT_VERSION`].
    pub version: u32,
    /// Server names, in the order that [`Operation::node`] counts.
    pub nodes: Vec<String>,
    /// Number of logical keys.
    pub keys: u64,
    /// True when the history comes from the simulator.
    pub simulated: bool,
    /// What the run was promised beyond what every run is.
    #[serde(default, skip_serializing_if = "Promises::is_none")]
    pub promises: Promises,
}

impl Header {
    /// The header of a history that is written now, without promises.
    #[must_use]
    pub fn new(nodes: Vec<String>, keys: u64, simulated: bool) -> Self {
        let (format, version) = (FORMAT_NAME.to_owned(), FORMAT_VERSION);
        Self { format, version, nodes, keys, simulated, promises: Promises::default() }
    }
}

/// Promises that depend on workload, clients and configuration; whoever writes the history knows
/// them. What is absent was not promised, and is not judged unless asked for by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promises {
    /// Money is moved, never made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bank: Option<Bank>,
    /// Transactions `check` everything that they read at majority (PROTOCOL.md 3.8).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub serializable: bool,
    /// Clients send session tokens, so that local reads keep the session's guarantees too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sessions: bool,
    /// Who must stand behind an acknowledged write. Sorted by [`KeyQuorum::from_key`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quorums: Vec<KeyQuorum>,
}

impl Promises {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The bank: the accounts are the logical keys from 0 to `accounts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bank {
    /// How many there are.
    pub accounts: u64,
    /// What they sum to, once loaded.
    pub total: i64,
}

/// Quorum of the logical keys from `from_key` up to the next entry's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyQuorum {
    /// The first key.
    pub from_key: u64,
    /// MASTERs of its record cluster, as indexes into [`Header::nodes`].
    pub masters: Vec<u32>,
    /// W of its record cluster.
    pub write: u32,
}

/// The version of the history format written by this crate. Version 2 added contents, evidence and
/// promises; version 1 is read as a history that has none.
pub const FORMAT_VERSION: u32 = 2;

/// The oldest version of the history format that this crate reads.
pub const FORMAT_VERSION_OLDEST: u32 = 1;

/// The [`Header::format`] of every history.
pub const FORMAT_NAME: &str = "quorate-history";

/// A whole history: every operation that was ever invoked, ordered by `sent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Its first line.
    pub header: Header,
    /// All operations, pending ones included (outcome `Unknown`, `done` absent).
    pub operations: Vec<Operation>,
}
