//! What the rest of the server may ask of the runtime; `backend` is the seam at which HTTP does so.
//! May not know HTTP or SQL.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_api::{ClusterKey, Committed, ErrorCode, ItemId, NodeId, Rid, Stamp, TxId};
use quorate_control::command::Command;
use quorate_control::schema::Schema;
use quorate_control::servers::Role;
use quorate_protocol::io::{Failure, Proposal, ReadQuorum, Reply, SessionToken};
use tokio::sync::oneshot;

use super::inbox::{Input, PushError};
use super::link::frame::FRAME_MAX;
use super::metrics::Metrics;
use super::shared::{Dismissal, Shared};
use super::storage::StorageError;
use crate::http::backend::{Answers, Page, Planned, ReadError};
use crate::index::table::IndexTable;

pub use crate::http::backend::{Commit, Master, NodeState, NodeStatus};

/// Content of one transaction; larger ones are refused.
pub const TRANSACTION_BYTES_MAX: usize = 8 << 20;
/// How much longer than the client's deadline the machine's own answer is waited for: it may be
/// definite.
pub(super) const GRACE: Duration = Duration::from_millis(200);
/// How long a block of positions is asked for, whoever waits for it or not.
const GRANT_PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for links with MASTERs, before those that are there are asked.
const REACH_MAX: Duration = Duration::from_millis(500);
/// Between two looks at votes that are waited for.
const SETTLE_POLL: Duration = Duration::from_millis(5);

// Every message about a transaction must fit a frame: content once, keys and stamps beside it.
const _: () = assert!(2 * TRANSACTION_BYTES_MAX <= FRAME_MAX);

/// A server, as the layers above see it. Cheap to clone.
#[derive(Clone)]
pub struct NodeHandle {
    pub(super) shared: Arc<Shared>,
}

impl NodeHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Runs a transaction; stamps come in the order of `ops`.
    ///
    /// # Errors
    /// The code says whether it definitely did not happen.
    pub async fn submit(&self, ops: Vec<Proposal>, deadline: Instant) -> Result<Commit, Failure> {
        let schema = self.schema().revision;
        self.submit_planned(Planned { ops, schema, accepted: None }, deadline).await
    }

    pub(super) async fn submit_planned(
        &self,
        planned: Planned,
        deadline: Instant,
    ) -> Result<Commit, Failure> {
        let reply = self.submit_inner(planned, deadline).await;
        self.shared.metrics.answered(&reply);
        match reply {
            Reply::Committed { tx, stamps, decision } => Ok(Commit { tx, stamps, decision }),
            Reply::Failed(failure) => Err(failure),
            Reply::Read(_) | Reply::Session(_) | Reply::Dismissed { .. } => {
                unreachable!("the machine answers a transaction by its outcome")
            }
        }
    }

    async fn submit_inner(&self, planned: Planned, deadline: Instant) -> Reply {
        let Planned { ops, schema, accepted } = planned;
        let size: usize = ops.iter().filter_map(|op| op.image.as_ref()).map(|i| i.0.len()).sum();
        if size > TRANSACTION_BYTES_MAX {
            return Reply::Failed(failure(ErrorCode::TooLarge));
        }
        let clock = self.shared.clock;
        let (reply, answer) = oneshot::channel();
        let (tick, wall_us) = (clock.tick_of(deadline), clock.wall_us());
        let input = Input::Submit { ops, schema, deadline: tick, wall_us, accepted, reply };
        self.ask(input, answer, deadline).await
    }

    /// Reads by majority; each item is linearizable, together they are no snapshot.
    ///
    /// # Errors
    /// No majority in time, or an undecided vote that could not be resolved.
    pub async fn read_majority(
        &self,
        items: Vec<ItemId>,
        deadline: Instant,
    ) -> Result<Answers, Failure> {
        self.read_quorum(items, ReadQuorum::Majority, deadline).await
    }

    /// Reads from so many MASTERs (PROTOCOL.md 3.8).
    ///
    /// # Errors
    /// Not so many in time, or an undecided vote that could not be resolved.
    pub async fn read_quorum(
        &self,
        items: Vec<ItemId>,
        quorum: ReadQuorum,
        deadline: Instant,
    ) -> Result<Answers, Failure> {
        if quorum != ReadQuorum::Count(1) {
            self.reach_masters(&items, deadline).await;
        }
        let (reply, answer) = oneshot::channel();
        let tick = self.shared.clock.tick_of(deadline);
        let input = Input::Read { items, quorum, deadline: tick, reply };
        match self.ask(input, answer, deadline).await {
            Reply::Read(found) => Ok(found),
            // Whatever became of the read, it changed nothing.
            Reply::Failed(Failure { code: ErrorCode::Deadline, item, current, holder }) => {
                Err(Failure { code: ErrorCode::ReadTimeout, item, current, holder })
            }
            Reply::Failed(failure) => Err(failure),
            Reply::Committed { .. } | Reply::Session(_) | Reply::Dismissed { .. } => {
                unreachable!("the machine answers a read by what it read")
            }
        }
    }

    /// A REPLICA is linked with MASTERs only while it asks them something.
    async fn reach_masters(&self, items: &[ItemId], deadline: Instant) {
        let Some(links) = &self.shared.links else { return };
        let masters: BTreeSet<NodeId> = {
            let placements = self.shared.placements.load();
            let of = items.iter().filter_map(|item| placements.get(&item.cluster));
            of.flat_map(|placement| placement.masters.iter().copied()).collect()
        };
        let left = deadline.saturating_duration_since(Instant::now());
        links.reach(&masters, REACH_MAX.min(left / 2)).await;
    }

    /// Waits until everything a session has seen is applied here; gives what is applied here.
    ///
    /// # Errors
    /// Not caught up in time.
    pub async fn session(
        &self,
        token: SessionToken,
        seen: Vec<(ItemId, Stamp)>,
        deadline: Instant,
    ) -> Result<SessionToken, Failure> {
        let (reply, answer) = oneshot::channel();
        let tick = self.shared.clock.tick_of(deadline);
        let input = Input::Session { token, seen, deadline: tick, reply };
        match self.ask(input, answer, deadline).await {
            Reply::Session(reached) => Ok(reached),
            Reply::Failed(Failure { code: ErrorCode::Deadline, item, current, holder }) => {
                Err(Failure { code: ErrorCode::SessionBehind, item, current, holder })
            }
            Reply::Failed(failure) => Err(failure),
            Reply::Committed { .. } | Reply::Read(_) | Reply::Dismissed { .. } => {
                unreachable!("the machine answers a session by a session")
            }
        }
    }

    pub(super) async fn ask(
        &self,
        input: Input,
        answer: oneshot::Receiver<Reply>,
        deadline: Instant,
    ) -> Reply {
        if !self.shared.is_serving() {
            return Reply::Failed(failure(ErrorCode::NotReady));
        }
        if let Err(refused) = self.shared.inbox.push_client(input) {
            return Reply::Failed(failure(refusal(refused)));
        }
        match tokio::time::timeout_at((deadline + GRACE).into(), answer).await {
            Ok(Ok(reply)) => reply,
            // The loop ended, or did not answer: the request may have taken effect.
            Ok(Err(_)) | Err(_) => Reply::Failed(failure(ErrorCode::Deadline)),
        }
    }

    /// Committed local state of an item, once it is durable here.
    ///
    /// # Errors
    /// The disk failed; the server stops serving. It is a witness, and has dropped the content.
    pub async fn read_local(&self, item: &ItemId) -> Result<Option<Committed>, StorageError> {
        let before = self.shared.alignments();
        let found = self.shared.storage.committed_durable(item).await;
        let found = found.inspect_err(|error| self.shared.fail(error))?;
        if found.as_ref().is_some_and(Committed::lacks_content) {
            return Err(StorageError::Elsewhere(item.cluster));
        }
        self.unless_aligned(before, found)
    }

    /// Live records of a cluster from a position on, in order, at most `limit`. One page is one
    /// snapshot; another page is another snapshot.
    ///
    /// # Errors
    /// The disk failed; the server stops serving. It is a witness, and has dropped contents.
    pub async fn scan_local(
        &self,
        cluster: ClusterKey,
        from: u64,
        limit: usize,
    ) -> Result<Page, StorageError> {
        let before = self.shared.alignments();
        let storage = self.shared.storage.clone();
        let scan = tokio::task::spawn_blocking(move || storage.scan(cluster, from, limit));
        let scanned = scan.await.map_err(|_| StorageError::Stopping)?;
        let (page, visible) = scanned.inspect_err(|error| self.shared.fail(error))?;
        if page.iter().any(|(_, committed)| committed.lacks_content()) {
            return Err(StorageError::Elsewhere(cluster));
        }
        self.shared.storage.durability().wait_for(visible).await;
        self.unless_aligned(before, page)
    }

    /// What was read while the server aligned may be a part of a transaction. It did not, if it
    /// does not now and has not left since `before`: it leaves before the first item is written.
    fn unless_aligned<T>(&self, before: u64, read: T) -> Result<T, StorageError> {
        if self.shared.is_aligning() || self.shared.alignments() != before {
            return Err(StorageError::Aligning);
        }
        Ok(read)
    }

    /// Records under a key of a derived index, in order of their ids, once what they stand in is
    /// durable; `None` while the index does not hold everything here.
    ///
    /// # Errors
    /// The disk failed; the server stops serving. It is a witness, which drops entries with the
    /// contents they were made of.
    pub(super) async fn index_scan(
        &self,
        index: ClusterKey,
        key: Vec<u8>,
    ) -> Result<Option<Vec<Rid>>, StorageError> {
        let before = self.shared.alignments();
        let table = IndexTable::of(&self.schema());
        let storage = self.shared.storage.clone();
        let look = tokio::task::spawn_blocking(move || {
            let covered = table.indexes().find(|(i, _)| *i == index).map(|(_, covered)| covered);
            match covered {
                Some(covered) if storage.is_filled(index, covered)? => {
                    storage.entries(index, &key).map(Some)
                }
                Some(_) | None => Ok(None),
            }
        });
        let looked = look.await.map_err(|_| StorageError::Stopping)?;
        let looked = looked.inspect_err(|error| self.shared.fail(error))?;
        // Looked up after the read: the role is known here before the first content is dropped.
        if self.role() == Role::Witness {
            return Err(StorageError::Elsewhere(index));
        }
        let Some((rids, visible)) = looked else { return Ok(None) };
        self.shared.storage.durability().wait_for(visible).await;
        self.unless_aligned(before, Some(rids))
    }

    /// Local reads wait for ONLINE: before, what this server acknowledged in its last life may be
    /// missing.
    pub(super) fn check_started(&self) -> Result<(), ReadError> {
        if self.shared.state() == NodeState::Starting {
            let text = "the server has not started yet".to_owned();
            return Err(ReadError { code: ErrorCode::NotReady, text });
        }
        Ok(())
    }

    /// Returns once every vote cast here before the call has its outcome applied here.
    pub(super) async fn votes_settled(&self) {
        let mut before: Option<BTreeSet<TxId>> = None;
        loop {
            let (reply, answer) = oneshot::channel();
            self.shared.inbox.push_control(Input::Undecided { reply });
            // A loop that has ended applies nothing any more: nobody waits for this then.
            let Ok(now) = answer.await else { return std::future::pending().await };
            let open = before.get_or_insert_with(|| now.iter().copied().collect());
            open.retain(|tx| now.contains(tx));
            if open.is_empty() {
                return;
            }
            tokio::time::sleep(SETTLE_POLL).await;
        }
    }

    /// Next position of a cluster that this server owns.
    ///
    /// # Errors
    /// The server is not ONLINE, the cluster is unknown, another server creates its records, or
    /// there is no position left and no majority granted the next in time.
    pub async fn allocate(&self, cluster: ClusterKey, deadline: Instant) -> Result<u64, Failure> {
        // Which clusters there are is not known for sure before.
        if !self.shared.is_serving() {
            return Err(failure(ErrorCode::NotReady));
        }
        let placements = self.shared.placements.load();
        let placement = placements.get(&cluster).filter(|placement| !placement.is_closed());
        let owner = placement.map(|placement| placement.owner);
        match owner {
            None => return Err(failure(ErrorCode::UnknownCluster)),
            Some(owner) if owner != Some(self.shared.node) => {
                return Err(failure(ErrorCode::NotOwner));
            }
            Some(_) => {}
        }
        let (to, boot) = (self.shared.node, self.shared.boot);
        let position = self.shared.allocator.next(cluster, || {
            let handle = self.clone();
            let until = Instant::now() + GRANT_PATIENCE;
            async move { handle.decide(Command::Grant { cluster, to, boot }, until).await }
        });
        let position = tokio::time::timeout_at(deadline.into(), position).await;
        // Nothing was written under a position yet, so whatever it is, it is definite.
        position.unwrap_or(Err(ErrorCode::NoQuorum)).map_err(failure)
    }

    /// The schema as last applied here.
    #[must_use]
    pub fn schema(&self) -> Arc<Schema> {
        self.shared.schema.load_full()
    }

    /// What this server is to every database.
    pub(super) fn role(&self) -> Role {
        let schema = self.shared.schema.load();
        // Who is in no cluster yet is not ONLINE either.
        schema.server(self.shared.node).map_or(Role::Master, |server| server.role)
    }

    /// This server and how it sees the others.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let shared = &self.shared;
        let peers = shared.links.as_ref().map(|links| links.peers());
        let schema = shared.schema.load();
        let agreed = schema.voters().map(|server| server.name.clone());
        let names: Vec<String> = if schema.servers.is_empty() {
            shared.members.names().to_vec()
        } else {
            agreed.collect()
        };
        let masters = names.into_iter().map(|name| {
            let peer = peers.as_ref().and_then(|peers| peers.get(&name));
            // A MASTER without a link is this server, or one that has just joined.
            let itself = (name == shared.name).then_some(shared.node);
            let known = peer.map_or((itself, itself.is_some()), |peer| peer.presence());
            (name, Master { node: known.0, up: known.1 })
        });
        NodeStatus {
            name: shared.name.clone(),
            node: shared.node,
            boot: shared.boot.0,
            state: shared.state(),
            masters: masters.collect(),
        }
    }

    /// Everything this server counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Returns when it is known that this server has no place in the cluster, with the reason; the
    /// process should end.
    pub async fn refused(&self) -> Dismissal {
        let mut refused = self.shared.refused.subscribe();
        // The sender lives in `shared`, so the wait cannot end early.
        let why = refused.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).unwrap_or_else(|| Dismissal::Final(String::new()))
    }

    /// Returns when the disk has failed and the process should end.
    pub async fn storage_failed(&self) {
        // The sender lives in `shared`, so the wait cannot end early.
        self.shared.failed.subscribe().wait_for(|failed| *failed).await.ok();
    }
}

/// What a client is told whose request was not taken in.
pub(super) const fn refusal(error: PushError) -> ErrorCode {
    match error {
        PushError::Full => ErrorCode::Overload,
        PushError::Closed => ErrorCode::NotReady,
    }
}

/// A refusal that concerns no item.
fn failure(code: ErrorCode) -> Failure {
    Failure { code, item: None, current: None, holder: None }
}
