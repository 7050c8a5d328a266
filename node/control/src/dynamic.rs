//! `newNodeStrategy`: which MASTERs count for good, and which only while they are there; how one of
//! these leaves when it is lost, and by what it is known again. May not know who is lost, nor for
//! how long.
//!
//! A server that is lost leaves as one that people remove: by a change of generations of every
//! cluster, which needs a majority of the MASTERs there were. So N follows those who are there, one
//! after the other, and never on two sides of a split; of two, the one that is left goes on
//! counting the other. Its identity is gone for good, as any other's: nobody waits for it any more
//! before what it may have missed is forgotten. It comes back as another one, under its name.

use alloc::collections::BTreeSet;
use alloc::string::String;

use quorate_api::NodeId;
use serde::{Deserialize, Serialize};

use crate::agreement::{Agreement, Refusal};
use crate::data_centers;
use crate::distributed::NewNodeStrategy;
use crate::schema::{Database, Schema};
use crate::servers::{Gone, Member, MemberError, Role};

/// Which servers a database enlists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum NewNodes {
    /// Everybody: who is lost counts on.
    #[default]
    Static,
    /// Those of these names alone: any other MASTER counts while it is there.
    Dynamic(BTreeSet<String>),
}

impl NewNodes {
    /// The setting's value.
    #[must_use]
    pub const fn strategy(&self) -> NewNodeStrategy {
        match self {
            Self::Static => NewNodeStrategy::Static,
            Self::Dynamic(_) => NewNodeStrategy::Dynamic,
        }
    }

    /// For serde: what came later is not said where it is not used.
    pub(crate) fn is_static(&self) -> bool {
        *self == Self::Static
    }

    fn enlist(&self, server: &str) -> bool {
        match self {
            Self::Static => true,
            Self::Dynamic(enlisted) => enlisted.contains(server),
        }
    }
}

impl Database {
    /// Whether it names a server, which then counts in its quorums for good, or its votes are those
    /// of a data center. A REPLICA or a witness stays listed in any case.
    #[must_use]
    pub fn enlists(&self, server: &str, role: Role) -> bool {
        let is_placed = || data_centers::center_of(&self.data_centers, server).is_some();
        role != Role::Master || self.new_nodes.enlist(server) || is_placed()
    }

    /// Whether people chose a server as the owner of a cluster, which nobody else may take over.
    #[must_use]
    pub fn has_chosen(&self, node: NodeId) -> bool {
        self.clusters.iter().any(|cluster| cluster.static_owner && cluster.owner == node)
    }
}

impl Schema {
    /// Whether a MASTER that is lost can leave by itself now: no database enlists it, and their
    /// quorums can be reached without it.
    ///
    /// # Errors
    /// It stays, and why.
    pub fn check_absent(&self, node: NodeId) -> Result<(), MemberError> {
        self.check_next(&self.without_absent(node)?, false)
    }

    /// The schema in which a MASTER that is lost is on its way out.
    fn without_absent(&self, node: NodeId) -> Result<Self, MemberError> {
        let server = self.server(node).filter(|server| !server.leaving);
        let server = server.ok_or(MemberError::Unknown(node))?;
        let (name, role) = (server.name.clone(), server.role);
        let keeps = |db: &&Database| db.enlists(&name, role) || db.has_chosen(node);
        let database = self.databases.iter().find(keeps);
        if role != Role::Master || database.is_some() || self.databases.is_empty() {
            let database = database.map(|database| database.name.clone());
            return Err(MemberError::Enlisted { name, database });
        }
        let next = self.with_leaving(&name)?;
        let mut next = next.ok_or(MemberError::Unknown(node))?;
        next.absent.push(Gone { name, node });
        Ok(next)
    }

    /// Whether a server has left because it was lost, and may come back under its name.
    #[must_use]
    pub fn is_absent(&self, node: NodeId) -> bool {
        self.absent.iter().any(|absent| absent.node == node)
    }

    /// Those that were lost as MASTERs and are here again, under their names, as REPLICAs.
    pub fn returned(&self) -> impl Iterator<Item = &Member> {
        let is_back = |server: &&Member| {
            let is_its = |absent: &Gone| absent.name == server.name && absent.node != server.node;
            server.role == Role::Replica && !server.leaving && self.absent.iter().any(is_its)
        };
        self.servers.iter().filter(is_back)
    }

    /// People have decided on a server of this name: nothing is done for it by itself any more.
    pub(crate) fn forget_absent(&mut self, name: &str) -> bool {
        let before = self.absent.len();
        self.absent.retain(|absent| absent.name != name);
        self.absent.len() < before
    }
}

impl Agreement {
    /// A MASTER that is lost leaves. What a leader asked for that was cut off may be carried out
    /// much later: not if anything has changed since.
    pub(crate) fn remove_absent(&mut self, node: NodeId, given: u64) -> Result<bool, Refusal> {
        let now = self.schema.revision;
        if given != now {
            return Err(MemberError::Judged { node, given, now }.into());
        }
        let next = self.schema.without_absent(node)?;
        self.regroup(next, false)
    }

    /// Those on their way out because they were lost, whom every cluster still names: they can
    /// stay. With one that has gone on without them they have to leave.
    pub fn lost_and_named(&self) -> impl Iterator<Item = &Member> {
        let leaves = |server: &&Member| server.leaving && self.schema.is_absent(server.node);
        let lost = self.schema.servers.iter().filter(leaves);
        lost.filter(|server| self.generations.all_name(server.node))
    }
}

#[cfg(test)]
#[path = "dynamic_tests.rs"]
mod tests;
