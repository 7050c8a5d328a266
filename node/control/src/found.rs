//! Databases that a server found on its disk and brings along: from when all agree that there is
//! one to when every server has all of it. Pure like `ddl`. May not know records, nor how they are
//! copied.
//!
//! **Identity.** A database that was made in a cluster of one server is named by that server and by
//! its number there ([`Origin`]): no other has both, as identities of servers are drawn at random
//! and numbers are never used again. Two databases of one name and of different origins are two
//! databases, and the one that came second stays where it is ([`Stray`]).
//!
//! **Nobody sees half of one.** While it is *coming* its clusters have MASTERs, generations and
//! owners as all others, so that records get there by ordinary transactions; but it has no name
//! that a client could use. Once all of it is committed, whoever brings it says how far decision
//! logs have to be applied to have it, and each server that was in the cluster then says when it
//! has. Only then it serves the database. Who joins later aligns before it serves anything.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_api::{ClusterKey, NodeId};
use quorate_protocol::io::SessionToken;
use serde::{Deserialize, Serialize};

use crate::agreement::{Agreement, Refusal};
use crate::ddl::{DdlError, is_class_name, is_database_name};
use crate::indexes::IndexState;
use crate::reconfigure::check_chain;
use crate::schema::{Database, FIRST_CLUSTER, Schema, first_version};
use crate::servers::MemberError;

/// What a database is known by wherever it goes: where it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The server that had founded a cluster alone.
    pub server: NodeId,
    /// The database's number there.
    pub number: u32,
}

/// How far a database is that a server brings along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Arriving {
    /// Its records are on their way; nobody serves it.
    Coming {
        /// Who brings it.
        by: NodeId,
    },
    /// All of it is committed.
    There {
        /// A server that has applied decision logs up to here has it.
        #[serde(with = "crate::binary")]
        cover: SessionToken,
        /// Servers that have not said yet that they have.
        lacking: Vec<NodeId>,
    },
}

/// A database that cannot come, because another one has its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stray {
    /// On whose disk it is.
    pub server: NodeId,
    /// The name.
    pub database: String,
    /// Which one it is.
    pub origin: Origin,
}

impl Database {
    /// True where clients of a server can see it.
    #[must_use]
    pub fn is_served_by(&self, node: NodeId) -> bool {
        match &self.arriving {
            None => true,
            Some(Arriving::Coming { .. }) => false,
            Some(Arriving::There { lacking, .. }) => !lacking.contains(&node),
        }
    }

    /// Who brings it, while it does.
    #[must_use]
    pub const fn brought_by(&self) -> Option<NodeId> {
        match &self.arriving {
            Some(Arriving::Coming { by }) => Some(*by),
            Some(Arriving::There { .. }) | None => None,
        }
    }

    /// A server is bringing it along; not all of it is there.
    pub(crate) const fn is_coming(&self) -> bool {
        self.brought_by().is_some()
    }

    /// What a server has to have applied before it serves the database; `None` when it may.
    #[must_use]
    pub fn lacked_by(&self, node: NodeId) -> Option<&SessionToken> {
        match &self.arriving {
            Some(Arriving::There { cover, lacking }) if lacking.contains(&node) => Some(cover),
            Some(Arriving::There { .. } | Arriving::Coming { .. }) | None => None,
        }
    }

    /// A server has it, or is gone.
    fn is_had_by(&mut self, node: NodeId) {
        let Some(Arriving::There { lacking, .. }) = &mut self.arriving else { return };
        lacking.retain(|other| *other != node);
        if lacking.is_empty() {
            self.arriving = None;
        }
    }

    /// Why it cannot be that of a server that stood alone.
    fn flaw(&self) -> Option<String> {
        if self.is_coming() {
            return Some("not all of it had come to where it is".to_string());
        }
        let classes = self.classes.iter().map(|class| &class.name);
        let indexes = self.indexes.iter().map(|index| index.cluster);
        let numbers = self.clusters.iter().map(|cluster| cluster.id).chain(indexes);
        let numbers: Vec<u32> = numbers.collect();
        if let Some(name) = classes.clone().find(|name| !is_class_name(name)) {
            return Some(alloc::format!("class name '{name}' is not legal"));
        }
        let is_odd = |id: &&u32| {
            let legal = FIRST_CLUSTER..self.next_cluster;
            !legal.contains(id) || numbers.iter().filter(|other| other == id).count() > 1
        };
        if let Some(id) = numbers.iter().find(is_odd) {
            return Some(alloc::format!("cluster number {id} is not legal"));
        }
        let mut listed = self.classes.iter().flat_map(|class| &class.clusters);
        let unknown = listed.find(|id| self.cluster(**id).is_none());
        if let Some(id) = unknown {
            return Some(alloc::format!("cluster {id} of a class does not exist"));
        }
        let mut covered = self.indexes.iter().map(|index| &index.class);
        let unknown = covered.find(|class| self.class(class).is_none());
        unknown.map(|class| alloc::format!("class '{class}' of an index does not exist"))
    }
}

impl Schema {
    /// Databases that clients of a server can see.
    pub fn served_by(&self, node: NodeId) -> impl Iterator<Item = &Database> {
        self.databases.iter().filter(move |database| database.is_served_by(node))
    }

    /// The database of an origin, under whichever number it is here. One that this cluster's own
    /// founder made when it was alone has no origin beside its number.
    #[must_use]
    pub fn of_origin(&self, origin: Origin, name: &str) -> Option<&Database> {
        let is_founder = self.server(origin.server).is_some()
            || self.gone.iter().any(|gone| gone.node == origin.server);
        self.databases.iter().find(|database| match database.origin {
            Some(own) => own == origin,
            None => is_founder && database.id == origin.number && database.name == name,
        })
    }

    /// A database of this origin was brought in, or was about to be, and somebody dropped it. It
    /// comes no more, whatever the disk that it was on remembers of that.
    #[must_use]
    pub fn was_dropped(&self, origin: Origin) -> bool {
        self.dropped.contains(&origin)
    }

    /// The schema with a database of these classes, cluster numbers and indexes, which a server
    /// brings along and creates the records of; with a note where its name is taken by another.
    /// `None`: it is there, or the note is.
    fn with_found(
        &self,
        by: NodeId,
        origin: Origin,
        found: &Database,
    ) -> Result<Option<Self>, DdlError> {
        if self.of_origin(origin, &found.name).is_some() || self.was_dropped(origin) {
            return Ok(None);
        }
        let mut next = self.next();
        if self.databases.iter().any(|database| database.name == found.name) {
            let stray = Stray { server: by, database: found.name.clone(), origin };
            if self.strays.contains(&stray) {
                return Ok(None);
            }
            next.strays.push(stray);
            return Ok(Some(next));
        }
        if !is_database_name(&found.name) {
            return Err(DdlError::Name(found.name.clone()));
        }
        if !self.masters().any(|master| master.node == by) {
            let server = self.server_name(by).unwrap_or("?").to_string();
            return Err(DdlError::BroughtByNoMaster { database: found.name.clone(), server });
        }
        if let Some(flaw) = found.flaw() {
            return Err(DdlError::Unsound { database: found.name.clone(), flaw });
        }
        self.check_quorums((found.write_quorum, found.read_quorum), &found.data_centers)?;
        self.check_is_no_looser(found)?;
        check_chain(found.chain.as_ref(), &found.data_centers)?;
        let mut database = found.clone();
        database.id = self.next_database;
        database.version = first_version();
        database.offline.clear();
        (database.origin, database.arriving) = (Some(origin), Some(Arriving::Coming { by }));
        for cluster in &mut database.clusters {
            (cluster.owner, cluster.home, cluster.static_owner) = (by, by, false);
        }
        // No record is there yet: an index that begins with none of them has all.
        for index in &mut database.indexes {
            (index.since, index.state) = (next.revision, IndexState::Ready);
        }
        next.next_database =
            self.next_database.checked_add(1).ok_or(DdlError::Exhausted("database"))?;
        next.databases.push(database);
        Ok(Some(next))
    }

    /// What was a majority of one server may be none of several: nobody chose that, and the number
    /// of MASTERs could not be changed any more.
    fn check_is_no_looser(&self, found: &Database) -> Result<(), DdlError> {
        let (masters, rule) = (self.master_count(), self.rule_of(found));
        if !rule.is_below_majority(masters) {
            return Ok(());
        }
        let (quorum, majority) = (rule.write_quorum, masters / 2 + 1);
        Err(DdlError::BroughtLoose { database: found.name.clone(), quorum, masters, majority })
    }

    /// The schema in which all of a database is committed; `None` if this server does not bring it.
    pub(crate) fn brought(&self, id: u32, by: NodeId, cover: &SessionToken) -> Option<Self> {
        let mut next = self.next();
        let lacking = next.servers.iter().map(|server| server.node).collect();
        let coming = |database: &&mut Database| {
            database.id == id && database.arriving == Some(Arriving::Coming { by })
        };
        let database = next.databases.iter_mut().find(coming)?;
        database.arriving = Some(Arriving::There { cover: cover.clone(), lacking });
        Some(next)
    }

    /// The schema in which a server has all of a database; `None` if it did not lack it.
    pub(crate) fn arrived(&self, id: u32, at: NodeId) -> Option<Self> {
        let mut next = self.next();
        let database = next.databases.iter_mut().find(|database| database.id == id)?;
        database.lacked_by(at)?;
        database.is_had_by(at);
        Some(next)
    }

    /// The schema without what was noted of databases on a server's disk; `None` if nothing was.
    pub(crate) fn without_strays(&self, of: NodeId) -> Option<Self> {
        self.strays.iter().any(|stray| stray.server == of).then(|| {
            let mut next = self.next();
            next.strays.retain(|stray| stray.server != of);
            next
        })
    }

    /// Nobody waits for a server that is gone.
    pub(crate) fn forget_gone(&mut self, node: NodeId) {
        self.strays.retain(|stray| stray.server != node);
        self.databases.iter_mut().for_each(|database| database.is_had_by(node));
    }

    /// Whoever brings a database creates its records, until all of them are there.
    pub(crate) fn check_brings_nothing(&self, node: NodeId) -> Result<(), MemberError> {
        let brings = self.databases.iter().find(|db| db.brought_by() == Some(node));
        brings.map_or(Ok(()), |database| {
            let server = self.server_name(node).unwrap_or("?").to_string();
            Err(MemberError::Brings { server, database: database.name.clone() })
        })
    }
}

impl Agreement {
    /// A server brings a database along. What it creates later goes on behind `positions`, the
    /// first of each cluster that was never granted.
    pub(crate) fn adopt(
        &mut self,
        (by, origin): (NodeId, Origin),
        found: &Database,
        positions: &BTreeMap<u32, u64>,
    ) -> Result<bool, Refusal> {
        let database = self.schema.next_database;
        let Some(next) = self.schema.with_found(by, origin, found)? else { return Ok(false) };
        let is_new = next.next_database > database;
        self.take(next);
        for (cluster, from) in positions.iter().filter(|_| is_new) {
            self.positions.begin(ClusterKey { database, cluster: *cluster }, *from);
        }
        Ok(true)
    }

    /// The first position of each cluster of a database that was never granted.
    #[must_use]
    pub fn positions_of(&self, database: u32) -> BTreeMap<u32, u64> {
        self.positions.ends(database).collect()
    }
}

#[cfg(test)]
#[path = "found_tests.rs"]
mod tests;
