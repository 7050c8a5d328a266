//! What the HTTP layer needs of a server, as one trait: the seam at which its tests put a fake.
//! May not know HTTP, JSON or SQL.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use quorate_api::{ClusterKey, Committed, ErrorCode, ItemId, NodeId, Rid, Stamp, TxId};
use quorate_control::agreement::Refusal;
use quorate_control::command::Command;
use quorate_control::schema::Schema;
use quorate_control::servers::Role;
use quorate_protocol::conflict::{Dismissed, Rival};
use quorate_protocol::io::{Failure, PAGE_BYTES, Proposal, ReadQuorum, SessionToken};
use quorate_protocol::message::LogPosition;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::members::Servers;

/// A command was not carried out, or that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecideError {
    /// It does not fit the schema that it met.
    Refused(Refusal),
    /// The servers did not agree on it in time; the code says whether they still may.
    Failed(ErrorCode),
}

/// A committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The attempt that did it.
    pub tx: TxId,
    /// Stamps after it, one an operation, in order.
    pub stamps: Vec<Stamp>,
    /// Where the decision stands in the coordinator's log, for the session token.
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

/// Where a server is in its life, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// Some MASTER's identity is not known yet.
    Starting,
    /// Serving.
    Online,
    /// Told to stop.
    ShuttingDown,
    /// Left behind by the others' decision logs: catching up, serving nobody.
    Aligning,
    /// It has stopped in order: the last that is heard of it.
    Offline,
}

impl NodeState {
    /// The original's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Online => "ONLINE",
            Self::ShuttingDown => "SHUTTINGDOWN",
            Self::Aligning => "SYNCHRONIZING",
            Self::Offline => "OFFLINE",
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

/// Records of a cluster with their positions, in position order. It ends with as many as were
/// asked for, with the one with which its contents are [`PAGE_BYTES`], or with the cluster.
pub type Page = Vec<(u64, Committed)>;

/// Bytes of a page's contents.
#[must_use]
pub fn bytes_of(page: &Page) -> usize {
    page.iter().filter_map(|(_, committed)| committed.image.as_ref()).map(|i| i.0.len()).sum()
}

/// True when nothing is behind a page of at most `limit`.
#[must_use]
pub fn is_last(page: &Page, limit: usize) -> bool {
    page.len() < limit && bytes_of(page) < PAGE_BYTES
}

/// Answer to a read from several MASTERs, one entry an item asked for.
pub type Answers = Vec<(ItemId, Option<Committed>)>;

/// A transaction, planned on a schema.
#[derive(Debug, Clone)]
pub struct Planned {
    /// At most one operation an item.
    pub ops: Vec<Proposal>,
    /// Revision of the schema that they were made with: where an index came since, they are
    /// refused.
    pub schema: u64,
    /// Told once this server has voted for it, durably: it may still be aborted then.
    pub accepted: Option<Arc<Notify>>,
}

/// A running server. Cheap to clone.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Runs a transaction.
    fn submit(
        &self,
        planned: Planned,
        deadline: Instant,
    ) -> impl Future<Output = Result<Commit, Failure>> + Send;

    /// Reads from so many MASTERs, each item on its own; linearizable from a majority on.
    fn read_quorum(
        &self,
        items: Vec<ItemId>,
        quorum: ReadQuorum,
        deadline: Instant,
    ) -> impl Future<Output = Result<Answers, Failure>> + Send;

    /// Linearizable reads, each item on its own.
    fn read_majority(
        &self,
        items: Vec<ItemId>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Answers, Failure>> + Send {
        self.read_quorum(items, ReadQuorum::Majority, deadline)
    }

    /// Waits until this server has applied everything a session has seen; gives what it has
    /// applied.
    fn session(
        &self,
        token: SessionToken,
        seen: Vec<(ItemId, Stamp)>,
        deadline: Instant,
    ) -> impl Future<Output = Result<SessionToken, Failure>> + Send;

    /// Committed, durable local state of an item, tombstones included.
    fn read_local(
        &self,
        item: &ItemId,
    ) -> impl Future<Output = Result<Option<Committed>, ReadError>> + Send;

    /// Live records of a cluster from position `from` on, at most `limit`; [`is_last`] says whether
    /// the end is reached.
    fn scan_local(
        &self,
        cluster: ClusterKey,
        from: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Page, ReadError>> + Send;

    /// Records under a key of a derived index, in order of their ids; `None` while the index does
    /// not hold everything here.
    fn index_scan(
        &self,
        index: ClusterKey,
        key: Vec<u8>,
    ) -> impl Future<Output = Result<Option<Vec<Rid>>, ReadError>> + Send;

    /// Returns once every vote cast here before the call has its outcome applied here.
    fn votes_settled(&self) -> impl Future<Output = ()> + Send;

    /// Items of a database with contents beside the committed ones here, behind an item, in order:
    /// at most `limit`.
    fn rivals(
        &self,
        database: u32,
        after: Option<ItemId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(ItemId, Vec<Rival>)>, ReadError>> + Send;

    /// Makes one content of an item that diverged the only one.
    fn choose(
        &self,
        item: ItemId,
        winner: Stamp,
        deadline: Instant,
    ) -> impl Future<Output = Result<Commit, Failure>> + Send;

    /// Has this server keep contents that have lost no longer; gives how many there were.
    fn dismiss(
        &self,
        contents: Dismissed,
        deadline: Instant,
    ) -> impl Future<Output = Result<u64, Failure>> + Send;

    /// Has clusters with W below a majority compared with all servers, and what differs merged; it
    /// goes on behind the call.
    fn compare(&self, clusters: Vec<ClusterKey>);

    /// Has the servers agree on a command; then it is carried out, or refused, here too.
    fn decide(
        &self,
        command: Command,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), DecideError>> + Send;

    /// Returns once the schema here holds everything that was agreed on before the call, wherever.
    /// An error: not in time.
    fn catch_up(&self, deadline: Instant) -> impl Future<Output = Result<(), ErrorCode>> + Send;

    /// Changes whenever the schema does here, or a derived index holds everything.
    fn changes(&self) -> watch::Receiver<u64>;

    /// The next free position of a cluster that this server owns. Every failure is definite:
    /// nothing was written.
    fn allocate(
        &self,
        cluster: ClusterKey,
        deadline: Instant,
    ) -> impl Future<Output = Result<u64, Failure>> + Send;

    /// What this server is to every database.
    fn role(&self) -> Role;

    /// The schema as last applied here.
    fn schema(&self) -> Arc<Schema>;

    /// Where this server is in its life.
    fn state(&self) -> NodeState;

    /// This server and its view of the others.
    fn status(&self) -> NodeStatus;

    /// All servers with what they tell of themselves.
    fn servers(&self) -> Servers;

    /// Where open connections of clients are counted.
    fn connections(&self) -> Arc<AtomicU64>;

    /// Where running requests of clients are counted.
    fn running(&self) -> Arc<AtomicU64>;

    /// Everything the server counts, as Prometheus text.
    fn metrics(&self) -> String;
}
