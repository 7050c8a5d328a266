//! Indexes in the schema record: what they are, which clusters they cover, how they come into
//! being and go. Pure like `ddl`. May not know keys, records or how an index is filled.
//!
//! **How an index becomes ready** (PROTOCOL.md 3.9). The
//! entry is made as *building*, and its revision becomes the least schema revision of writers for
//! every cluster it covers: a MASTER that has applied the entry votes no(schema) on older writers.
//! Then **every MASTER fills the index from its own committed state**, after all votes it had cast
//! before are decided there, and reports itself done. With the reports of a majority the index is
//! *ready*: whatever an older writer committed has the Yes votes of a majority, every such voter
//! voted before it had the entry, at least one of them is among those who reported, and that one
//! had the outcome applied when it read. No MASTER needs to know what the others have in flight.
//! With W below a majority nothing of that holds (PROTOCOL.md 3.10).

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_api::{ClusterKey, NodeId};
use serde::{Deserialize, Serialize};

use crate::ddl::{DdlError, is_class_name};
use crate::schema::{Database, Schema};
use crate::servers::Role;

/// Longest legal name of an index, in bytes: a class, a dot, a field.
pub const INDEX_NAME_BYTES_MAX: usize = 257;

/// Duplicates that a failed index lists; the first are as good as all of them.
pub const DUPLICATES_MAX: usize = 20;

/// What an index promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum IndexKind {
    /// At most one live record a key, cluster-wide.
    Unique,
    /// Any number of records a key.
    NotUnique,
}

impl IndexKind {
    /// The word of the query language.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unique => "UNIQUE",
            Self::NotUnique => "NOTUNIQUE",
        }
    }
}

/// How far an index is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndexState {
    /// Writers maintain it, queries do not use it; these MASTERs have filled it from their state.
    Building(Vec<NodeId>),
    /// Complete.
    Ready,
    /// It cannot be: the reasons, records with one key by their ids. Nobody maintains it.
    Failed(Vec<String>),
}

impl IndexState {
    /// The word in listings.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Building(_) => "building",
            Self::Ready => "ready",
            Self::Failed(_) => "failed",
        }
    }
}

/// An index on one property of a class and of those that extend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// Unique in the database, whatever the case.
    pub name: String,
    /// Of which class.
    pub class: String,
    /// Of which property.
    pub field: String,
    /// What it promises.
    pub kind: IndexKind,
    /// The cluster of its keys; never reused, so keys of a dropped namesake stay invisible.
    pub cluster: u32,
    /// Schema revision that brought it.
    pub since: u64,
    /// How far it is.
    pub state: IndexState,
}

impl Index {
    /// True while writers have to keep it.
    #[must_use]
    pub const fn is_maintained(&self) -> bool {
        !matches!(self.state, IndexState::Failed(_))
    }
}

/// What a new index shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewIndex {
    /// Its name.
    pub name: String,
    /// Of which class.
    pub class: String,
    /// Of which property.
    pub field: String,
    /// What it promises.
    pub kind: IndexKind,
}

impl Database {
    /// The index with this name, whatever the case.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<&Index> {
        self.indexes.iter().find(|i| i.name.eq_ignore_ascii_case(name))
    }

    /// Indexes that records of a class have to be kept in, its own and inherited ones.
    pub fn indexes_of<'a>(&'a self, class: &'a str) -> impl Iterator<Item = &'a Index> {
        self.indexes.iter().filter(|i| i.is_maintained()).filter(|i| self.is_a(class, &i.class))
    }

    /// Least schema revision of those who write to a cluster.
    #[must_use]
    pub fn schema_min(&self, cluster: u32) -> u64 {
        let Some(class) = self.class_of(cluster) else { return 0 };
        // Entries of the others are derived by every server for itself: no writer can miss them.
        let unique = self.indexes_of(&class.name).filter(|i| i.kind == IndexKind::Unique);
        unique.map(|i| i.since).max().unwrap_or(0)
    }
}

impl Schema {
    /// Adds an index as building. One that failed makes room for another of its name.
    ///
    /// # Errors
    /// Name illegal or taken, database or class unknown.
    pub fn create_index(&self, database: &str, new: &NewIndex) -> Result<Self, DdlError> {
        let mut next = self.next();
        let since = next.revision;
        let database = next.database_mut(database)?;
        let legal = new.name.len() <= INDEX_NAME_BYTES_MAX
            && new.name.split('.').all(|part| !part.is_empty() && is_class_name(part));
        if !legal {
            return Err(DdlError::Name(new.name.clone()));
        }
        let class = database.class(&new.class).map(|c| c.name.clone());
        let class = class.ok_or_else(|| DdlError::UnknownClass(new.class.clone()))?;
        match database.index(&new.name) {
            Some(index) if index.is_maintained() => {
                return Err(DdlError::IndexExists(index.name.clone()));
            }
            Some(_) => database.indexes.retain(|i| !i.name.eq_ignore_ascii_case(&new.name)),
            None => {}
        }
        let cluster = database.next_cluster;
        database.next_cluster = cluster.checked_add(1).ok_or(DdlError::Exhausted("cluster"))?;
        database.indexes.push(Index {
            name: new.name.clone(),
            class,
            field: new.field.clone(),
            kind: new.kind,
            cluster,
            since,
            state: IndexState::Building(Vec::new()),
        });
        next.close_what_left(self);
        Ok(next)
    }

    /// Removes an index.
    ///
    /// # Errors
    /// Database or index unknown.
    pub fn drop_index(&self, database: &str, name: &str) -> Result<Self, DdlError> {
        let mut next = self.next();
        let database = next.database_mut(database)?;
        if database.index(name).is_none() {
            return Err(DdlError::UnknownIndex(name.to_string()));
        }
        database.indexes.retain(|i| !i.name.eq_ignore_ascii_case(name));
        next.close_what_left(self);
        Ok(next)
    }

    /// Notes that a MASTER has filled an index that is building; with a majority it is ready.
    /// `None`: there is nothing to note.
    #[must_use]
    pub fn index_filled(&self, index: ClusterKey, by: NodeId) -> Option<Self> {
        let mut next = self.next();
        // A witness has no records to claim keys for, so it reports nothing; a majority of all who
        // vote has to have done so nevertheless.
        let (masters, voting) = (next.nodes_in(Role::Master), next.master_count());
        let index = next.index_mut(index)?;
        let IndexState::Building(done) = &mut index.state else { return None };
        if done.contains(&by) || !masters.contains(&by) {
            return None;
        }
        done.push(by);
        let counted = done.iter().filter(|node| masters.contains(node)).count();
        if counted > voting / 2 {
            index.state = IndexState::Ready;
        }
        Some(next)
    }

    /// Notes why an index that is building cannot be. `None`: there is nothing to note.
    #[must_use]
    pub fn index_failed(&self, index: ClusterKey, mut reasons: Vec<String>) -> Option<Self> {
        let mut next = self.next();
        let index = next.index_mut(index)?;
        if !matches!(index.state, IndexState::Building(_)) {
            return None;
        }
        reasons.truncate(DUPLICATES_MAX);
        index.state = IndexState::Failed(reasons);
        Some(next)
    }

    fn index_mut(&mut self, index: ClusterKey) -> Option<&mut Index> {
        let database = self.databases.iter_mut().find(|d| d.id == index.database)?;
        database.indexes.iter_mut().find(|i| i.cluster == index.cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::WriteQuorum;
    use crate::schema::{DatabaseKind, TOKEN_CLUSTER};
    use crate::settings::NewDatabase;
    use alloc::vec;
    use quorate_api::ErrorCode;

    const NODES: [u64; 3] = [11, 22, 33];

    fn bench(write_quorum: WriteQuorum) -> Schema {
        let masters: Vec<(String, NodeId)> =
            NODES.iter().map(|n| (alloc::format!("n{n}"), NodeId(*n))).collect();
        let new = NewDatabase::new("bench", DatabaseKind::Plocal, write_quorum);
        let schema = Schema::founded_by(&masters).create_database(&new).unwrap();
        let schema = schema.create_class("bench", "Item", &[]).unwrap();
        schema.create_class("bench", "Sub", &["Item".into()]).unwrap()
    }

    fn new(name: &str) -> NewIndex {
        NewIndex {
            name: name.into(),
            class: "item".into(),
            field: "k".into(),
            kind: IndexKind::Unique,
        }
    }

    #[test]
    fn an_index_is_ready_once_a_majority_has_filled_it() {
        let schema = bench(WriteQuorum::Majority).create_index("bench", &new("Item.k")).unwrap();
        let index = schema.database("bench").unwrap().index("ITEM.K").unwrap().clone();
        assert_eq!((index.class.as_str(), index.since), ("Item", schema.revision));
        assert_eq!(index.cluster, 22);
        let key = ClusterKey { database: 1, cluster: 22 };
        let one = schema.index_filled(key, NodeId(22)).unwrap();
        assert_eq!(one.index_filled(key, NodeId(22)), None, "once is enough");
        let state = |s: &Schema| s.database("bench").unwrap().indexes[0].state.clone();
        assert_eq!(state(&one), IndexState::Building(vec![NodeId(22)]));
        let two = one.index_filled(key, NodeId(11)).unwrap();
        assert_eq!(state(&two), IndexState::Ready);
        assert_eq!(two.index_filled(key, NodeId(33)), None);
        assert_eq!(two.index_failed(key, vec!["late".into()]), None);
        assert_eq!(Schema::decode(&two.encode().unwrap()).unwrap(), two);
    }

    #[test]
    fn older_writers_are_refused_in_the_clusters_it_covers() {
        let schema = bench(WriteQuorum::All);
        let before = schema.revision;
        let schema = schema.create_index("bench", &new("i")).unwrap();
        let placements = schema.placements();
        let of = |cluster| &placements[&ClusterKey { database: 1, cluster }];
        assert_eq!((of(10).schema_min, of(16).schema_min), (0, before + 1));
        assert_eq!(of(19).schema_min, before + 1, "those that extend the class");
        // Keys and tokens are kept by all MASTERs, by majority, whatever the database's quorum.
        for cluster in [22, TOKEN_CLUSTER] {
            let placement = of(cluster);
            assert_eq!((placement.masters.len(), placement.write_quorum), (3, 2));
            assert_eq!(placement.owner, None);
        }
        let key = ClusterKey { database: 1, cluster: 22 };
        let failed = schema.index_failed(key, vec!["#16:0, #16:1".into()]).unwrap();
        assert_eq!(failed.placements()[&key].schema_min, 0);
        assert_eq!(failed.placements()[&ClusterKey { database: 1, cluster: 16 }].schema_min, 0);
        let again = failed.create_index("bench", &new("I")).unwrap();
        assert_eq!(again.database("bench").unwrap().indexes[0].cluster, 23);
    }

    #[test]
    fn refusals() {
        let schema = bench(WriteQuorum::Majority);
        for bad in ["", ".", "a..b", "a b", "1x", "ä"] {
            let refused = schema.create_index("bench", &new(bad)).unwrap_err();
            assert_eq!(refused, DdlError::Name(bad.into()));
        }
        let code = |r: Result<Schema, DdlError>| r.unwrap_err().code();
        let stranger = NewIndex { class: "Nope".into(), ..new("i") };
        assert_eq!(code(schema.create_index("bench", &stranger)), ErrorCode::UnknownClass);
        assert_eq!(code(schema.create_index("no", &new("i"))), ErrorCode::UnknownDatabase);
        assert_eq!(code(schema.drop_index("bench", "i")), ErrorCode::UnknownIndex);
        let schema = schema.create_index("bench", &new("i")).unwrap();
        assert_eq!(code(schema.create_index("bench", &new("I"))), ErrorCode::IndexExists);
        let dropped = schema.drop_index("bench", "I").unwrap();
        assert!(dropped.database("bench").unwrap().indexes.is_empty());
        let gone = schema.drop_class("bench", "Sub").unwrap().drop_class("bench", "Item").unwrap();
        assert!(gone.database("bench").unwrap().indexes.is_empty(), "an index goes with its class");
    }
}
