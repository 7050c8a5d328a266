//! The server as HTTP works with it: what `http::backend` asks for, handed to the runtime. May not
//! decide anything that [`NodeHandle`] does not.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use quorate_api::{ClusterKey, Committed, ErrorCode, ItemId, Rid, Stamp};
use quorate_control::command::Command;
use quorate_control::schema::Schema;
use quorate_control::servers::Role;
use quorate_protocol::conflict::{Dismissed, Rival};
use quorate_protocol::io::{Failure, ReadQuorum, SessionToken};
use tokio::sync::watch;

use super::bulletin;
use super::handle::NodeHandle;
use super::storage::StorageError;
use crate::http::backend::{
    Answers, Backend, Commit, DecideError, NodeState, NodeStatus, Page, Planned, ReadError,
};
use crate::http::members::Servers;

impl From<StorageError> for ReadError {
    fn from(error: StorageError) -> Self {
        let code = match error {
            StorageError::Stopping | StorageError::Aligning => ErrorCode::NotReady,
            StorageError::Elsewhere(_) => ErrorCode::NotMaster,
            StorageError::Engine { .. }
            | StorageError::Corrupt { .. }
            | StorageError::Encode { .. }
            | StorageError::Witness { .. }
            | StorageError::Locked { .. }
            | StorageError::Panicked(_) => ErrorCode::Storage,
        };
        Self { code, text: error.to_string() }
    }
}

impl Backend for NodeHandle {
    async fn submit(&self, planned: Planned, deadline: Instant) -> Result<Commit, Failure> {
        self.submit_planned(planned, deadline).await
    }

    async fn read_quorum(
        &self,
        items: Vec<ItemId>,
        quorum: ReadQuorum,
        deadline: Instant,
    ) -> Result<Answers, Failure> {
        self.read_quorum(items, quorum, deadline).await
    }

    async fn session(
        &self,
        token: SessionToken,
        seen: Vec<(ItemId, Stamp)>,
        deadline: Instant,
    ) -> Result<SessionToken, Failure> {
        self.session(token, seen, deadline).await
    }

    async fn read_local(&self, item: &ItemId) -> Result<Option<Committed>, ReadError> {
        self.check_started()?;
        Ok(self.read_local(item).await?)
    }

    async fn scan_local(
        &self,
        cluster: ClusterKey,
        from: u64,
        limit: usize,
    ) -> Result<Page, ReadError> {
        self.check_started()?;
        Ok(self.scan_local(cluster, from, limit).await?)
    }

    async fn index_scan(
        &self,
        index: ClusterKey,
        key: Vec<u8>,
    ) -> Result<Option<Vec<Rid>>, ReadError> {
        self.check_started()?;
        Ok(self.index_scan(index, key).await?)
    }

    async fn votes_settled(&self) {
        self.votes_settled().await;
    }

    async fn rivals(
        &self,
        database: u32,
        after: Option<ItemId>,
        limit: usize,
    ) -> Result<Vec<(ItemId, Vec<Rival>)>, ReadError> {
        self.check_started()?;
        Ok(self.rivals(database, after, limit).await?)
    }

    async fn choose(
        &self,
        item: ItemId,
        winner: Stamp,
        deadline: Instant,
    ) -> Result<Commit, Failure> {
        self.choose(item, winner, deadline).await
    }

    async fn dismiss(&self, contents: Dismissed, deadline: Instant) -> Result<u64, Failure> {
        self.dismiss(contents, deadline).await
    }

    fn compare(&self, clusters: Vec<ClusterKey>) {
        self.compare(clusters);
    }

    async fn decide(&self, command: Command, deadline: Instant) -> Result<(), DecideError> {
        self.decide(command, deadline).await
    }

    async fn catch_up(&self, deadline: Instant) -> Result<(), ErrorCode> {
        self.catch_up(deadline).await
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    async fn allocate(&self, cluster: ClusterKey, deadline: Instant) -> Result<u64, Failure> {
        self.allocate(cluster, deadline).await
    }

    fn schema(&self) -> Arc<Schema> {
        self.schema()
    }

    fn role(&self) -> Role {
        self.role()
    }

    fn state(&self) -> NodeState {
        self.shared.state()
    }

    fn status(&self) -> NodeStatus {
        self.status()
    }

    fn servers(&self) -> Servers {
        bulletin::servers(&self.shared)
    }

    fn connections(&self) -> Arc<AtomicU64> {
        self.shared.connections.clone()
    }

    fn running(&self) -> Arc<AtomicU64> {
        self.shared.running.clone()
    }

    fn metrics(&self) -> String {
        self.metrics().render()
    }
}
