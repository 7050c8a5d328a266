//! The servers of a cluster, as all of them agree on it: who there is, in which role, where it is
//! reached; how one is taken in. It stands in the schema, because placements follow from it. May
//! not know how servers come to agree, nor how they reach each other.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_api::{ClusterKey, ErrorCode, NodeId};
use quorate_protocol::io::RelayConfig;
use quorate_protocol::topology::Topology;
use serde::{Deserialize, Serialize};

use crate::agreement::Refusal;
use crate::data_centers::DataCenterError;
pub use crate::distributed::Role;
use crate::members::is_legal_name;
use crate::schema::Schema;

/// One server of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Unique among those that are there; another server may have it once this one is gone.
    pub name: String,
    /// For good.
    pub node: NodeId,
    /// In every database: what it is to new clusters, and what it becomes to those that are there.
    pub role: Role,
    /// Where other servers reach it, as `HOST:PORT`; `None`: it has not said so yet.
    pub address: Option<String>,
    /// It was removed, and goes once no cluster names it any more.
    pub leaving: bool,
}

/// A server that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gone {
    /// Its name, which another one may have by now.
    pub name: String,
    /// Its identity, which nobody has any more.
    pub node: NodeId,
}

impl Member {
    /// A MASTER whose address is not known.
    #[must_use]
    pub fn founder(name: &str, node: NodeId) -> Self {
        Self { name: name.to_string(), node, role: Role::Master, address: None, leaving: false }
    }
}

/// Why the servers stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// There is nothing to join.
    #[error("the cluster is not founded yet")]
    NotFounded,
    /// It becomes part of the names of clusters and files.
    #[error("server name '{0}' is not legal: letters, digits, '_', '-' and '.', a letter first")]
    Name(String),
    /// Another server has the name.
    #[error(
        "the name '{name}' belongs to server {holder} already: start this one under another name, \
         with an empty data folder"
    )]
    Taken {
        /// The name.
        name: String,
        /// Whose it is.
        holder: NodeId,
    },
    /// It is in the cluster under another name.
    #[error("server {node} is in the cluster as '{known}', not as '{given}'")]
    Renamed {
        /// Which server.
        node: NodeId,
        /// Its name there.
        known: String,
        /// The name it gives now.
        given: String,
    },
    /// It does not exist.
    #[error("server {0} is not in the cluster")]
    Unknown(NodeId),
    /// There is none of this name.
    #[error("server '{0}' is not in the cluster")]
    NoSuch(String),
    /// It was removed.
    #[error("{}", crate::roles::gone_text(.0))]
    Gone(String),
    /// It counts for good, whether it is there or not.
    #[error("{}", crate::roles::enlisted_text(.name, .database.as_deref()))]
    Enlisted {
        /// Its name.
        name: String,
        /// Which database says so; `None`: it is no MASTER, or there is no database.
        database: Option<String>,
    },
    /// It was found lost by a schema that is over.
    #[error(
        "server {node} was found lost at revision {given} of the schema, which has revision {now}"
    )]
    Judged {
        /// Which server.
        node: NodeId,
        /// By which revision.
        given: u64,
        /// What is agreed on.
        now: u64,
    },
    /// Nobody could write any more.
    #[error("the cluster would have no MASTER")]
    LastMaster,
    /// Its clients would be served by nobody.
    #[error(
        "every MASTER of database '{0}' would be OFFLINE for it: set one of them ONLINE first \
         (HA SET STATUS NAME=ONLINE)"
    )]
    Unserved(String),
    /// A quorum could not be reached any more.
    #[error(
        "database '{database}' has {key} {quorum}, and there would be {after} MASTERs: lower the \
         quorum first, or make another server a MASTER"
    )]
    TooFew {
        /// Which one.
        database: String,
        /// Which quorum.
        key: &'static str,
        /// What it asks for.
        quorum: usize,
        /// How many MASTERs would be left.
        after: usize,
    },
    /// A write quorum is below a majority, now or then.
    #[error(
        "database '{database}' has writeQuorum {quorum}, which is below the majority of {masters} \
         MASTERs ({majority}): their number can be changed with a majority or more only"
    )]
    Loose {
        /// Which one.
        database: String,
        /// W.
        quorum: usize,
        /// N, now or then.
        masters: usize,
        /// Of N.
        majority: usize,
    },
    /// It keeps no records, so it can be nothing else.
    #[error(
        "server '{0}' is a witness and keeps no records: to make it anything else, remove it, and \
         start it with --join and an empty data folder"
    )]
    Witness(String),
    /// Beside one, W is a majority everywhere, in what was dropped as well.
    #[error(
        "cluster {0} was dropped while its W was below the majority, and no server can be a \
         witness beside it: another MASTER that joins or leaves gives it a majority"
    )]
    WitnessBesideDropped(ClusterKey),
    /// A majority could consist of servers without records.
    #[error(
        "there would be {witnesses} witnesses among {masters} MASTERs: less than half of them can \
         be, so that every majority has a server that keeps records"
    )]
    Witnesses {
        /// How many there would be.
        witnesses: usize,
        /// N, them included.
        masters: usize,
    },
    /// A MASTER in no data center, or one too few in one.
    #[error("database '{database}': {error}")]
    DataCenters {
        /// Which one.
        database: String,
        /// What would be wrong.
        error: DataCenterError,
    },
    /// Nobody else creates the records of a database that it brings along.
    #[error(
        "server '{server}' brings in database '{database}' from its disk: try again when all of it \
         is there, or drop that database first"
    )]
    Brings {
        /// Which server.
        server: String,
        /// Which database.
        database: String,
    },
    /// Its keys are claimed by those who are MASTERs now.
    #[error("index '{0}' is being built: try again when it is ready")]
    Building(String),
}

impl From<MemberError> for Refusal {
    fn from(error: MemberError) -> Self {
        let code = match error {
            MemberError::NotFounded => ErrorCode::NotReady,
            MemberError::Unknown(_) | MemberError::NoSuch(_) => ErrorCode::NotFound,
            MemberError::Building(_) | MemberError::Brings { .. } | MemberError::Judged { .. } => {
                ErrorCode::Busy
            }
            MemberError::Name(_)
            | MemberError::Taken { .. }
            | MemberError::Renamed { .. }
            | MemberError::Gone(_)
            | MemberError::Enlisted { .. }
            | MemberError::LastMaster
            | MemberError::Unserved(_)
            | MemberError::TooFew { .. }
            | MemberError::DataCenters { .. }
            | MemberError::Loose { .. }
            | MemberError::Witness(_)
            | MemberError::WitnessBesideDropped(_)
            | MemberError::Witnesses { .. } => ErrorCode::BadRequest,
        };
        Self { code, text: error.to_string() }
    }
}

impl Schema {
    /// What a cluster begins with: its founders, MASTERs all of them, in order of their names.
    #[must_use]
    pub fn founded_by(founders: &[(String, NodeId)]) -> Self {
        let founder = |(name, node): &(String, NodeId)| Member::founder(name, *node);
        let mut servers: Vec<Member> = founders.iter().map(founder).collect();
        servers.sort_by(|a, b| a.name.cmp(&b.name));
        Self { servers, ..Self::default() }
    }

    /// True where one server is and no other ever was. Who is left alone in a cluster may have
    /// joined it.
    #[must_use]
    pub fn is_founded_alone(&self) -> bool {
        self.servers.len() == 1 && self.gone.is_empty()
    }

    /// One of the servers.
    #[must_use]
    pub fn server(&self, node: NodeId) -> Option<&Member> {
        self.servers.iter().find(|server| server.node == node)
    }

    /// The name of a server.
    #[must_use]
    pub fn server_name(&self, node: NodeId) -> Option<&str> {
        self.server(node).map(|server| server.name.as_str())
    }

    /// Those who vote, may own clusters, and stay, in the order in which they came.
    pub fn masters(&self) -> impl Iterator<Item = &Member> {
        self.servers.iter().filter(|server| server.role == Role::Master && !server.leaving)
    }

    /// Those who vote and stay, witnesses among them, in the order in which they came.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.servers.iter().filter(|server| server.role.votes() && !server.leaving)
    }

    /// Their names.
    pub(crate) fn voter_names(&self) -> Vec<&str> {
        self.voters().map(|server| server.name.as_str()).collect()
    }

    /// N, the base of every quorum.
    #[must_use]
    pub fn master_count(&self) -> usize {
        self.voters().count()
    }

    /// M(c) of every cluster that is made now.
    pub(crate) fn voting_nodes(&self) -> Vec<NodeId> {
        self.voters().map(|server| server.node).collect()
    }

    /// The servers of a role.
    pub(crate) fn nodes_in(&self, role: Role) -> Vec<NodeId> {
        let stays = |server: &&Member| server.role == role && !server.leaving;
        let of_role = self.servers.iter().filter(stays);
        of_role.map(|server| server.node).collect()
    }

    /// Those who keep no content, also on their way out.
    pub(crate) fn witnesses(&self) -> BTreeSet<NodeId> {
        let witnesses = self.servers.iter().filter(|server| server.role == Role::Witness);
        witnesses.map(|server| server.node).collect()
    }

    /// Who tells whom of what was agreed on: REPLICAs hang below the MASTERs.
    #[must_use]
    pub fn tree(&self) -> Topology {
        let masters = self.voting_nodes().into_iter().collect();
        let replicas = self.nodes_in(Role::Replica).into_iter();
        Topology::over(masters, replicas, RelayConfig::new().fan_out)
    }

    /// The servers that a server has to be linked with, so that everybody is told what was agreed
    /// on: MASTERs with each other, those on their way out too, and the edges of the tree.
    #[must_use]
    pub fn links(&self, node: NodeId) -> BTreeSet<NodeId> {
        let mut links = self.tree().links(node);
        let masters = || self.servers.iter().filter(|server| server.role.votes());
        let is_replica = self.nodes_in(Role::Replica).contains(&node);
        if !is_replica {
            links.extend(masters().map(|server| server.node).filter(|master| *master != node));
        }
        links
    }

    /// Whom a server may ask for what was agreed on, best first: those above it in the tree; of one
    /// that has no place there, the MASTERs.
    #[must_use]
    pub fn feeders(&self, node: NodeId) -> Vec<NodeId> {
        let tree = self.tree();
        if tree.is_root(node) {
            return tree.roots().iter().copied().filter(|root| *root != node).collect();
        }
        tree.candidates(node).collect()
    }

    /// The schema with one more server, a REPLICA of everything; `None` when it is in already, at
    /// this address.
    ///
    /// # Errors
    /// No cluster yet, or the name cannot be its.
    pub(crate) fn enlisted(
        &self,
        name: &str,
        node: NodeId,
        address: &str,
    ) -> Result<Option<Self>, MemberError> {
        if self.servers.is_empty() {
            return Err(MemberError::NotFounded);
        }
        if let Some(server) = self.server(node) {
            if server.name != name {
                let (known, given) = (server.name.clone(), name.to_string());
                return Err(MemberError::Renamed { node, known, given });
            }
            return self.reached_at(node, address);
        }
        if let Some(gone) = self.gone.iter().find(|gone| gone.node == node) {
            return Err(MemberError::Gone(gone.name.clone()));
        }
        if !is_legal_name(name) {
            return Err(MemberError::Name(name.to_string()));
        }
        if let Some(holder) = self.servers.iter().find(|server| server.name == name) {
            return Err(MemberError::Taken { name: name.to_string(), holder: holder.node });
        }
        let mut next = self.next();
        let address = Some(address.to_string());
        let (name, role) = (name.to_string(), Role::Replica);
        next.servers.push(Member { name, node, role, address, leaving: false });
        next.databases.iter_mut().for_each(|database| database.version += 1);
        Ok(Some(next))
    }

    /// The schema in which a server is reached at another address; `None` when it is already.
    ///
    /// # Errors
    /// There is no such server.
    pub(crate) fn reached_at(
        &self,
        node: NodeId,
        address: &str,
    ) -> Result<Option<Self>, MemberError> {
        let server = self.server(node).ok_or(MemberError::Unknown(node))?;
        if server.address.as_deref() == Some(address) {
            return Ok(None);
        }
        let mut next = self.next();
        for server in next.servers.iter_mut().filter(|server| server.node == node) {
            server.address = Some(address.to_string());
        }
        Ok(Some(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::WriteQuorum;
    use crate::schema::DatabaseKind;
    use crate::settings::NewDatabase;

    fn schema() -> Schema {
        let founders = [("n2", 2), ("n1", 1), ("n3", 3)].map(|(n, id)| (n.into(), NodeId(id)));
        let new = NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority);
        Schema::founded_by(&founders).create_database(&new).unwrap()
    }

    /// FEATURES: S6
    #[test]
    fn a_server_is_enlisted_once_as_replica_of_everything() {
        let before = schema();
        let next = before.enlisted("n4", NodeId(4), "d:1").unwrap().unwrap();
        assert_eq!(next.databases[0].version, before.databases[0].version + 1);
        assert_eq!((next.master_count(), next.servers.len()), (3, 4));
        assert_eq!(next.servers[0].name, "n1", "founders are in order of their names");
        let placements = next.placements();
        assert!(placements.values().all(|p| p.replicas == [NodeId(4)] && p.masters.len() == 3));
        assert_eq!(next.enlisted("n4", NodeId(4), "d:1"), Ok(None), "once");
        let moved = next.enlisted("n4", NodeId(4), "e:1").unwrap().unwrap();
        assert_eq!(moved.server(NodeId(4)).unwrap().address.as_deref(), Some("e:1"));
        assert_eq!(moved.databases[0].version, next.databases[0].version);
    }

    #[test]
    fn a_name_is_one_servers_and_a_server_has_one_name() {
        let schema = schema();
        let taken = schema.enlisted("n2", NodeId(9), "x:1").unwrap_err();
        assert_eq!(taken, MemberError::Taken { name: "n2".into(), holder: NodeId(2) });
        let renamed = schema.enlisted("n5", NodeId(2), "x:1").unwrap_err();
        assert!(renamed.to_string().contains("as 'n2', not as 'n5'"), "{renamed}");
        assert_eq!(schema.enlisted("a b", NodeId(9), "x:1"), Err(MemberError::Name("a b".into())));
        let early = Schema::default().enlisted("n4", NodeId(4), "x:1");
        assert_eq!(early, Err(MemberError::NotFounded));
        assert_eq!(schema.reached_at(NodeId(9), "x:1"), Err(MemberError::Unknown(NodeId(9))));
    }
}
