//! Ids of new records: which of a class's clusters, and its next position. May not grant positions,
//! which the control plane does, nor move owners.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quorate_api::{ErrorCode, Rid};
use quorate_control::schema::Class;

use super::access::{Access, Db};
use super::backend::Backend;
use super::error::ApiError;

/// Longest wait for the clusters of a server that is back.
const HOME_WAIT_MAX: Duration = Duration::from_secs(2);

impl<B: Backend> Access<'_, B> {
    /// The id of a new record, in a cluster of the class that this server owns: those that were
    /// made for it in turn (FEATURES A4), others, which go home some time, when it has none.
    pub(super) async fn allocate(&self, db: &Db, class: &Class) -> Result<Rid, ApiError> {
        let own = self.app.node;
        let mut owned: Vec<_> = db.clusters_owned(class, own).collect();
        if owned.iter().any(|cluster| cluster.home == own) {
            owned.retain(|cluster| cluster.home == own);
        }
        let turn = self.app.turns.fetch_add(1, Ordering::Relaxed);
        if let Some(cluster) = owned.get(turn % owned.len().max(1)) {
            let found = self.allocate_in(db, cluster.id).await;
            return match found {
                // It went to another server meanwhile, as it does when nobody reaches this one.
                Err(error) if error.code == ErrorCode::NotOwner => {
                    Err(self.await_home(db.id, &class.name).await)
                }
                found => found,
            };
        }
        let mut clusters = class.clusters.iter().filter_map(|id| db.cluster(*id));
        if clusters.any(|cluster| cluster.is_missed(own)) {
            return Err(self.await_home(db.id, &class.name).await);
        }
        let text = format!(
            "Cannot find best cluster for class '{}' on server '{}': it owns none",
            class.name, self.app.name
        );
        Err(ApiError::new(ErrorCode::NotOwner, text))
    }

    /// This server was away, and its clusters of a class are still with others: they go home soon,
    /// and then the request begins again.
    async fn await_home(&self, database: u32, class: &str) -> ApiError {
        let mut changes = self.app.backend.changes();
        let owns = || {
            let schema = self.app.backend.schema();
            let db = schema.databases.iter().find(|db| db.id == database);
            let found = db.and_then(|db| db.class(class).map(|class| (db, class)));
            found.is_none_or(|(db, class)| db.clusters_owned(class, self.app.node).next().is_some())
        };
        let home = async { while !owns() && changes.changed().await.is_ok() {} };
        let until = self.deadline.min(Instant::now() + HOME_WAIT_MAX);
        // Either way it is for the next try to find out.
        let in_time = tokio::time::timeout_at(until.into(), home).await.is_ok();
        let text = format!(
            "the clusters of class '{class}' that server '{}' creates records in are still with \
             others, because it was away",
            self.app.name
        );
        ApiError { again: in_time, ..ApiError::new(ErrorCode::NotReady, text) }
    }

    /// The id of a new record in a given cluster.
    pub(super) async fn allocate_in(&self, db: &Db, cluster: u32) -> Result<Rid, ApiError> {
        let next = self.app.backend.allocate(db.key(cluster), self.deadline);
        // A position that was taken and not used leaves a hole, nothing else.
        match self.in_time(ErrorCode::NoQuorum, next).await? {
            Ok(position) => Ok(Rid { cluster, position }),
            Err(failure) if failure.code == ErrorCode::NotOwner => {
                let found = db.cluster(cluster);
                let is_static = found.is_some_and(|cluster| cluster.static_owner);
                let text = format!(
                    "Local node '{}' is not the owner for cluster '{}' (it is '{}'{})",
                    self.app.name,
                    found.map_or("?", |c| &c.name),
                    found.map_or_else(|| "?".to_owned(), |c| self.server_name(c.owner)),
                    if is_static { ", its static owner" } else { "" },
                );
                Err(ApiError::new(ErrorCode::NotOwner, text))
            }
            Err(failure) => {
                let error = self.explain(&failure, &[]);
                let name = db.cluster(cluster).map_or("?", |c| &c.name);
                let text = format!("no record id in cluster '{name}': {}", error.text);
                Err(ApiError { text, ..error })
            }
        }
    }
}
