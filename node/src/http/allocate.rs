//! Ids of new records: which of a class's clusters, and its next position. May not grant positions,
//! which the control plane does, nor move owners.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use quorate_api::{ClusterKey, ErrorCode, Rid};
use quorate_control::schema::{Class, Cluster};

use super::access::{Access, Db};
use super::backend::Backend;
use super::error::ApiError;

/// Longest wait for the clusters of a server that is back.
const HOME_WAIT_MAX: Duration = Duration::from_secs(2);

/// Whose turn it is of the clusters that records of a class could be created in. Each class counts
/// for itself: a client that takes turns between two of them would skip clusters otherwise.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<BTreeMap<ClusterKey, usize>>);

impl Turns {
    /// The next of these clusters of one class, of which the first stands for all; `None` when
    /// there are none.
    fn next<'a>(&self, database: u32, owned: &[&'a Cluster]) -> Option<&'a Cluster> {
        let key = ClusterKey { database, cluster: owned.first()?.id };
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = turns.entry(key).or_default();
        let next = owned.get(*turn % owned.len()).copied();
        *turn = turn.wrapping_add(1);
        next
    }
}

impl<B: Backend> Access<'_, B> {
    /// The id of a new record, in a cluster of the class that this server owns: those that were
    /// made for it in turn (FEATURES A4), others, which go home some time, when it has none.
    pub(super) async fn allocate(&self, db: &Db, class: &Class) -> Result<Rid, ApiError> {
        let own = self.app.node;
        let mut owned: Vec<_> = db.clusters_owned(class, own).collect();
        if owned.iter().any(|cluster| cluster.home == own) {
            owned.retain(|cluster| cluster.home == own);
        }
        if let Some(cluster) = self.app.turns.next(db.id, &owned) {
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

#[cfg(test)]
mod tests {
    use quorate_api::NodeId;
    use quorate_control::members::WriteQuorum;
    use quorate_control::schema::{DatabaseKind, Schema};
    use quorate_control::settings::NewDatabase;

    use super::*;

    /// FEATURES: A4
    #[test]
    fn clusters_of_a_class_take_turns_whatever_is_created_in_others() {
        let own = NodeId(1);
        let new = NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority);
        let mut schema = Schema::founded_by(&[("n1".to_owned(), own)]);
        schema = schema.create_database(&new).unwrap();
        for class in ["A", "B"] {
            schema = schema.create_class("bench", class, &[]).unwrap();
            let name = format!("{class}_usa");
            schema = schema.add_named_cluster("bench", class, &name, own).unwrap();
        }
        let db = schema.database("bench").unwrap();
        let turns = Turns::default();
        let next = |class| {
            let owned: Vec<_> = db.clusters_owned(db.class(class).unwrap(), own).collect();
            turns.next(db.id, &owned).unwrap().name.as_str()
        };
        let alternately: Vec<_> = (0..4).flat_map(|_| [next("A"), next("B")]).collect();
        assert_eq!(alternately, ["a", "b", "a_usa", "b_usa", "a", "b", "a_usa", "b_usa"]);
        assert_eq!(turns.next(db.id, &[]), None);
    }
}
