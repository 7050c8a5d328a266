//! The schema: databases, classes, clusters, owners; its bytes; the placements that follow from it.
//! May not change it (that is `ddl`) and may not know how servers come to agree on it.
//!
//! What is dropped leaves its clusters behind, closed: transactions that were under way on them
//! have votes and locks at several servers, in other clusters too, and are decided by the same
//! MASTERs as before (PROTOCOL.md 3.9: a drop seals and drains). Nothing new is voted for in a
//! closed cluster. It stays in the record for good: a few numbers, and its id is never used again
//! anyway.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use quorate_api::{ClusterKey, NodeId};
use quorate_protocol::chain::Chain;
use quorate_protocol::io::{CLOSED, LocalQuorum, Placement, SessionToken};
use serde::{Deserialize, Serialize};

use crate::data_centers::{self, DataCenters};
use crate::dynamic::NewNodes;
use crate::found::{Arriving, Origin, Stray};
use crate::indexes::Index;
use crate::members::WriteQuorum;
use crate::servers::{Gone, Member, Role};
use crate::settings::{ExecutionMode, ReadQuorum};
use crate::versions::{OLDEST, is_false, is_oldest, oldest};

/// Version of the record's JSON. Another one is refused, not guessed at.
pub const FORMAT: u32 = 8;

/// The internal cluster of every database that holds clients' retry tokens.
pub const TOKEN_CLUSTER: u32 = 0;

/// First cluster number of every database; those below are reserved for internal clusters.
pub const FIRST_CLUSTER: u32 = 10;

/// Everything that DDL decides, in one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// Always [`FORMAT`].
    pub format: u32,
    /// The version that every server speaks, below which none can be any more.
    #[serde(default = "oldest", skip_serializing_if = "is_oldest")]
    pub level: u16,
    /// Counts the changes.
    #[serde(default)]
    pub revision: u64,
    /// Number of the next database; 0 is the system database.
    pub next_database: u32,
    /// Who there is, in the order in which they came; empty before the cluster is founded.
    pub servers: Vec<Member>,
    /// Those that were removed; none of them comes back.
    pub gone: Vec<Gone>,
    /// MASTERs that left because they were lost, until they are MASTERs again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<Gone>,
    /// In order of creation.
    pub databases: Vec<Database>,
    /// Databases on some server's disk that cannot come, because another one has their name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<Stray>,
    /// Databases that came from some server's disk and were dropped: they do not come again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<Origin>,
    /// Clusters of what was dropped, in that order.
    #[serde(default)]
    pub closed: Vec<ClosedCluster>,
}

impl Default for Schema {
    fn default() -> Self {
        Self {
            format: FORMAT,
            level: OLDEST,
            revision: 0,
            next_database: 1,
            servers: Vec::new(),
            gone: Vec::new(),
            absent: Vec::new(),
            databases: Vec::new(),
            strays: Vec::new(),
            dropped: Vec::new(),
            closed: Vec::new(),
        }
    }
}

/// Storage kind of a database, as named in the original's paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseKind {
    /// On disk.
    Plocal,
    /// Named for compatibility; kept on disk like the other.
    Memory,
}

impl DatabaseKind {
    /// The word in paths and listings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plocal => "plocal",
            Self::Memory => "memory",
        }
    }
}

/// One database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Never reused, so records of a dropped namesake stay invisible.
    pub id: u32,
    /// Unique.
    pub name: String,
    /// As asked for at creation.
    pub kind: DatabaseKind,
    /// Of its distributed configuration: rises with every change of what that says.
    #[serde(default = "first_version")]
    pub version: u64,
    /// Of all its clusters.
    pub write_quorum: WriteQuorum,
    /// Of reads that do not name one.
    #[serde(default)]
    pub read_quorum: ReadQuorum,
    /// Of transactions that do not name one.
    #[serde(default)]
    pub execution_mode: ExecutionMode,
    /// Where its servers are, as far as that matters.
    #[serde(default)]
    pub data_centers: DataCenters,
    /// Which servers it enlists.
    #[serde(default, skip_serializing_if = "NewNodes::is_static")]
    pub new_nodes: NewNodes,
    /// Who decides between contents that diverged, one for all servers; `None`, of a database from
    /// before there was one: each server as it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Chain>,
    /// Names of servers that people took OFFLINE for it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub offline: BTreeSet<String>,
    /// Number of the next cluster; never lowered.
    pub next_cluster: u32,
    /// In order of creation.
    pub classes: Vec<Class>,
    /// In order of their ids.
    pub clusters: Vec<Cluster>,
    /// In order of creation.
    #[serde(default)]
    pub indexes: Vec<Index>,
    /// Where it was made, if a server brought it along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// How far it is with that; `None`: everybody has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arriving: Option<Arriving>,
}

/// What a database begins with.
pub(crate) const fn first_version() -> u64 {
    1
}

/// A schema type of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Unique in the database, whatever the case.
    pub name: String,
    /// Names of the classes it extends.
    pub super_classes: Vec<String>,
    /// Ids of its clusters: one a MASTER there was, in their order, then those of later MASTERs.
    pub clusters: Vec<u32>,
}

/// A bucket of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Unique in the database, never reused.
    pub id: u32,
    /// Unique in the database, lower case.
    pub name: String,
    /// The one server that creates records in it.
    pub owner: NodeId,
    /// The server that it was made for: owns it unless it was lost.
    #[serde(default)]
    pub home: NodeId,
    /// The owner was chosen by people: it does not move when it is lost (FEATURES A6).
    #[serde(default)]
    pub static_owner: bool,
    /// People made it for its home: it does not become another server's when that one comes.
    #[serde(default, skip_serializing_if = "is_false")]
    pub named: bool,
}

/// A cluster of a dropped database, class or index: nothing new is written there, and what was
/// under way is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClosedCluster {
    /// Of which database.
    pub database: u32,
    /// Its number in there.
    pub cluster: u32,
    /// As it was.
    pub write_quorum: usize,
}

/// Why bytes are no schema record.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not the JSON of a schema.
    #[error("the schema record cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by another version.
    #[error("the schema record has format {0}, this server reads format {FORMAT}")]
    Format(u32),
}

/// Why a schema cannot become bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the schema record cannot be written: {0}")]
pub struct EncodeError(String);

/// Just the version, read first so that a newer record is called newer and not broken.
#[derive(Deserialize)]
struct Header {
    format: u32,
}

impl Schema {
    /// The record's image.
    ///
    /// # Errors
    /// None with today's fields; the serializer's signature has one.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        serde_json::to_vec(self).map_err(|e| EncodeError(alloc::format!("{e}")))
    }

    /// Reads the record's image.
    ///
    /// # Errors
    /// Not a schema, or one of another format.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let header: Header = serde_json::from_slice(bytes)?;
        if header.format != FORMAT {
            return Err(DecodeError::Format(header.format));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The database with this name, once all of it is there.
    #[must_use]
    pub fn database(&self, name: &str) -> Option<&Database> {
        self.databases.iter().find(|d| d.name == name && d.brought_by().is_none())
    }

    /// Placement of every cluster of every database, closed ones included, as it would be were it
    /// made now: who keeps one that is there is known to its generations.
    #[must_use]
    pub fn placements(&self) -> BTreeMap<ClusterKey, Placement> {
        let mut placements = self.open_placements();
        let witnesses = self.witnesses();
        for closed in &self.closed {
            let ClosedCluster { database, cluster, write_quorum } = *closed;
            let placement = Placement {
                generation: 1,
                masters: self.voting_nodes(),
                replicas: self.nodes_in(Role::Replica),
                write_quorum,
                local_quorums: Vec::new(),
                data_centers: BTreeMap::new(),
                owner: None,
                schema_min: CLOSED,
                entry: SessionToken::new(),
                turn: None,
                witnesses: witnesses.clone(),
                change: None,
                loose: Vec::new(),
            };
            placements.insert(ClusterKey { database, cluster }, placement);
        }
        placements
    }

    /// Takes note of the clusters that this schema has no more and the one before it had.
    pub(crate) fn close_what_left(&mut self, before: &Self) {
        let open = self.open_placements();
        for (key, placement) in before.open_placements() {
            if !open.contains_key(&key) {
                let ClusterKey { database, cluster } = key;
                let write_quorum = placement.write_quorum;
                self.closed.push(ClosedCluster { database, cluster, write_quorum });
            }
        }
    }

    fn open_placements(&self) -> BTreeMap<ClusterKey, Placement> {
        let mut placements = BTreeMap::new();
        let (masters, replicas) = (self.voting_nodes(), self.nodes_in(Role::Replica));
        let witnesses = self.witnesses();
        for database in &self.databases {
            let (write_quorum, local_quorums) = self.quorums_of(database);
            let data_centers = self.places_in(database);
            for cluster in &database.clusters {
                placements.insert(
                    ClusterKey { database: database.id, cluster: cluster.id },
                    Placement {
                        generation: 1,
                        masters: masters.clone(),
                        replicas: replicas.clone(),
                        write_quorum,
                        local_quorums: local_quorums.clone(),
                        data_centers: data_centers.clone(),
                        owner: Some(cluster.owner),
                        schema_min: database.schema_min(cluster.id),
                        entry: SessionToken::new(),
                        turn: None,
                        witnesses: witnesses.clone(),
                        change: None,
                        loose: Vec::new(),
                    },
                );
            }
            // Keys and tokens are kept by all MASTERs of the database and decided by a majority,
            // whatever its own quorum (PROTOCOL.md trap A13).
            let internal = database.indexes.iter().map(|i| i.cluster).chain([TOKEN_CLUSTER]);
            for cluster in internal {
                placements.insert(
                    ClusterKey { database: database.id, cluster },
                    Placement {
                        generation: 1,
                        masters: masters.clone(),
                        replicas: replicas.clone(),
                        write_quorum: masters.len() / 2 + 1,
                        local_quorums: Vec::new(),
                        data_centers: data_centers.clone(),
                        owner: None,
                        schema_min: 0,
                        entry: SessionToken::new(),
                        turn: None,
                        witnesses: witnesses.clone(),
                        change: None,
                        loose: Vec::new(),
                    },
                );
            }
        }
        placements
    }

    /// What a database's write quorum comes to with the MASTERs there are.
    #[must_use]
    pub fn rule_of(&self, database: &Database) -> data_centers::Rule {
        data_centers::rule(database.write_quorum, &database.data_centers, &self.voter_names())
    }

    /// What the operator must be told of a database.
    #[must_use]
    pub fn warning_of(&self, database: &Database) -> Option<String> {
        self.rule_of(database).warning(self.master_count())
    }

    /// W, and the quorums of data centers that decide by themselves.
    fn quorums_of(&self, database: &Database) -> (usize, Vec<LocalQuorum>) {
        let masters = self.voting_nodes();
        let data_centers::Rule { write_quorum, local } = self.rule_of(database);
        let local = local.into_iter().map(|(places, write_quorum)| {
            let masters = places.into_iter().map(|at| masters[at]).collect();
            LocalQuorum { masters, write_quorum }
        });
        (write_quorum, local.collect())
    }

    /// The data center of every server that is in one.
    fn places_in(&self, database: &Database) -> BTreeMap<NodeId, String> {
        let place = |server: &Member| {
            let (name, _) = data_centers::center_of(&database.data_centers, &server.name)?;
            Some((server.node, String::from(name)))
        };
        self.servers.iter().filter_map(place).collect()
    }
}

impl Database {
    /// The class with this name, whatever the case.
    #[must_use]
    pub fn class(&self, name: &str) -> Option<&Class> {
        self.classes.iter().find(|c| c.name.eq_ignore_ascii_case(name))
    }

    /// Its cluster with this number, among those of all databases.
    #[must_use]
    pub const fn key(&self, cluster: u32) -> ClusterKey {
        ClusterKey { database: self.id, cluster }
    }

    /// The cluster with this number.
    #[must_use]
    pub fn cluster(&self, id: u32) -> Option<&Cluster> {
        self.clusters.binary_search_by_key(&id, |c| c.id).ok().map(|i| &self.clusters[i])
    }

    /// The cluster with this name, whatever the case.
    #[must_use]
    pub fn cluster_named(&self, name: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|c| c.name.eq_ignore_ascii_case(name))
    }

    /// The class a cluster belongs to.
    #[must_use]
    pub fn class_of(&self, cluster: u32) -> Option<&Class> {
        self.classes.iter().find(|c| c.clusters.contains(&cluster))
    }

    /// True when `class` is `ancestor` or extends it, directly or not.
    #[must_use]
    pub fn is_a(&self, class: &str, ancestor: &str) -> bool {
        let mut seen: Vec<&str> = Vec::new();
        let mut open: Vec<&str> = alloc::vec![class];
        while let Some(name) = open.pop() {
            if name.eq_ignore_ascii_case(ancestor) {
                return true;
            }
            if seen.contains(&name) {
                continue;
            }
            seen.push(name);
            if let Some(class) = self.class(name) {
                open.extend(class.super_classes.iter().map(String::as_str));
            }
        }
        false
    }

    /// Clusters of a class and of every class that extends it, in order.
    #[must_use]
    pub fn clusters_of(&self, class: &str) -> Vec<u32> {
        let mut ids: Vec<u32> = self
            .classes
            .iter()
            .filter(|c| self.is_a(&c.name, class))
            .flat_map(|c| c.clusters.iter().copied())
            .collect();
        ids.sort_unstable();
        ids
    }

    /// The clusters of a class that one server creates records in.
    pub fn clusters_owned<'a>(
        &'a self,
        class: &'a Class,
        owner: NodeId,
    ) -> impl Iterator<Item = &'a Cluster> {
        class.clusters.iter().filter_map(|id| self.cluster(*id)).filter(move |c| c.owner == owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junk_and_other_formats_are_refused_with_a_reason() {
        for junk in [&b""[..], b"{", b"[]", b"null", b"{\"format\":\"x\"}", b"\xff\xfe", b"{}"] {
            assert!(matches!(Schema::decode(junk), Err(DecodeError::Json(_))), "{junk:?}");
        }
        let error = Schema::decode(br#"{"format":9,"something":"new"}"#).unwrap_err();
        assert!(matches!(error, DecodeError::Format(9)));
        let old = br#"{"format":6,"next_database":1,"masters":[],"databases":[]}"#;
        assert!(matches!(Schema::decode(old).unwrap_err(), DecodeError::Format(6)));
        let truncated = Schema::default().encode().unwrap();
        assert!(Schema::decode(&truncated[..truncated.len() - 1]).is_err());
    }

    #[test]
    fn before_the_first_ddl_nothing_is_placed() {
        assert!(Schema::default().placements().is_empty());
        assert_eq!(
            Schema::decode(&Schema::default().encode().unwrap()).unwrap(),
            Schema::default()
        );
    }

    proptest::proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(0_u8.., 0..200)) {
            let decoded = Schema::decode(&bytes);
            proptest::prop_assert!(decoded.is_err());
        }
    }
}
