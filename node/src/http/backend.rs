//! What the HTTP layer needs of a server, as one trait: the seam at which its tests put a fake.
//! May not know HTTP, JSON or SQL.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use quorate_api::{ClusterKey, Committed, ErrorCode, ItemId, NodeId, Stamp, TxId};
use quorate_control::schema::Schema;
use quorate_protocol::io::{Failure, Proposal};
use quorate_protocol::message::LogPosition;

/// A committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The attempt that did it.
    pub tx: TxId,
    /// Stamps after it, one an operation, in order.
    pub stamps: Vec<Stamp>,
    /// Where the decision stands in the coordinator's log; reserved for session tokens.
    pub decision: LogPosition,
}

/// A read of local state failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ReadError {
    /// The reason.
    pub code: ErrorCode,
    /// For people.
    pub text: String,
}

/// Where a server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// Some MASTER's identity is not known yet.
    Starting,
    /// Serving.
    Online,
    /// Told to stop.
    ShuttingDown,
    /// Left behind by the others' decision logs: catching up, serving nobody.
    Aligning,
}

impl NodeState {
    /// The original's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Online => "ONLINE",
            Self::ShuttingDown => "SHUTTINGDOWN",
            Self::Aligning => "ALIGNING",
        }
    }
}

/// A MASTER as this server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Master {
    /// Its identity; `None` until it was met once.
    pub node: Option<NodeId>,
    /// Believed reachable.
    pub up: bool,
}

/// This server and how it sees the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub node: NodeId,
    /// Counter of its starts.
    pub boot: u32,
    /// Where it is in its life.
    pub state: NodeState,
    /// All MASTERs by name, this server included.
    pub masters: BTreeMap<String, Master>,
}

/// Records of a cluster with their positions, in position order.
pub type Page = Vec<(u64, Committed)>;

/// Answer to a majority read, one entry an item asked for.
pub type Answers = Vec<(ItemId, Option<Committed>)>;

/// A running server. Cheap to clone.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Runs a transaction.
    fn submit(
        &self,
        ops: Vec<Proposal>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Commit, Failure>> + Send;

    /// Linearizable reads, each item on its own.
    fn read_majority(
        &self,
        items: Vec<ItemId>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Answers, Failure>> + Send;

    /// Committed, durable local state of an item, tombstones included.
    fn read_local(
        &self,
        item: &ItemId,
    ) -> impl Future<Output = Result<Option<Committed>, ReadError>> + Send;

    /// Live records of a cluster from position `from` on, at most `limit`. Fewer: the end is
    /// reached.
    fn scan_local(
        &self,
        cluster: ClusterKey,
        from: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Page, ReadError>> + Send;

    /// The next free position of a cluster that this server owns.
    fn allocate(&self, cluster: ClusterKey) -> impl Future<Output = Result<u64, Failure>> + Send;

    /// The schema as last applied here.
    fn schema(&self) -> Arc<Schema>;

    /// This server and its view of the others.
    fn status(&self) -> NodeStatus;

    /// Everything the server counts, as Prometheus text.
    fn metrics(&self) -> String;
}
