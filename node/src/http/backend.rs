//! What the HTTP layer needs of a server, as one trait: the seam at which its tests put a fake.
//! May not know HTTP, JSON or SQL.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use quorate_api::{ClusterKey, Committed, ErrorCode, ItemId};
use quorate_control::schema::Schema;
use quorate_protocol::io::{Failure, Proposal};

use crate::runtime::handle::{Commit, NodeHandle, NodeStatus};
use crate::runtime::storage::StorageError;

/// A read of local state failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ReadError {
    /// The reason.
    pub code: ErrorCode,
    /// For people.
    pub text: String,
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

impl From<StorageError> for ReadError {
    fn from(error: StorageError) -> Self {
        let code = match error {
            StorageError::Stopping => ErrorCode::NotReady,
            StorageError::Engine { .. }
            | StorageError::Corrupt { .. }
            | StorageError::Encode { .. }
            | StorageError::Locked { .. } => ErrorCode::Storage,
        };
        Self { code, text: error.to_string() }
    }
}

impl Backend for NodeHandle {
    async fn submit(&self, ops: Vec<Proposal>, deadline: Instant) -> Result<Commit, Failure> {
        Self::submit(self, ops, deadline).await
    }

    async fn read_majority(
        &self,
        items: Vec<ItemId>,
        deadline: Instant,
    ) -> Result<Answers, Failure> {
        Self::read_majority(self, items, deadline).await
    }

    async fn read_local(&self, item: &ItemId) -> Result<Option<Committed>, ReadError> {
        Ok(Self::read_local(self, item).await?)
    }

    async fn scan_local(
        &self,
        cluster: ClusterKey,
        from: u64,
        limit: usize,
    ) -> Result<Page, ReadError> {
        Ok(Self::scan_local(self, cluster, from, limit).await?)
    }

    async fn allocate(&self, cluster: ClusterKey) -> Result<u64, Failure> {
        Self::allocate(self, cluster).await
    }

    fn schema(&self) -> Arc<Schema> {
        Self::schema(self)
    }

    fn status(&self) -> NodeStatus {
        Self::status(self)
    }

    fn metrics(&self) -> String {
        Self::metrics(self).render()
    }
}
