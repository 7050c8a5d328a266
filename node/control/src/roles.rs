//! Servers that get another role, and servers that go: what that makes of every cluster, all of
//! them or none (PROTOCOL.md 3.9). May not know who asks, nor whether a server can be reached.
//!
//! A server that goes is asked nothing: it leaves the MASTERs of every cluster by a change of
//! generations, which needs a majority of the MASTERs there were, and is in the schema, marked as
//! leaving, until no cluster names it any more. The log's own list may need its vote for longer:
//! only behind the change that takes it off the list it is gone, and its name is free.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use quorate_api::{ClusterKey, NodeId};
use quorate_protocol::io::Placement;

use crate::agreement::{Agreement, Refusal};
use crate::data_centers;
use crate::generations::{ChangeError, Keepers};
use crate::indexes::IndexState;
use crate::members::WriteQuorum;
use crate::schema::{Database, Schema};
use crate::servers::{Gone, Member, MemberError, Role};
use crate::settings::ReadQuorum;

/// Whether so many MASTERs are enough for the quorums of a database, which has `before` now.
///
/// # Errors
/// They are not, with the numbers.
pub fn enough(
    database: &str,
    (write, read): (WriteQuorum, ReadQuorum),
    before: usize,
    after: usize,
) -> Result<(), MemberError> {
    if after == 0 {
        return Err(MemberError::LastMaster);
    }
    let quorums = [("writeQuorum", write.effective(after)), ("readQuorum", read.effective(after))];
    for (key, quorum) in quorums {
        if quorum > after {
            let database = database.to_string();
            return Err(MemberError::TooFew { database, key, quorum, after });
        }
    }
    let loose = |masters: &usize| write.is_below_majority(*masters);
    if let Some(masters) = [before, after].into_iter().find(loose) {
        let (quorum, majority) = (write.effective(masters), masters / 2 + 1);
        let database = database.to_string();
        return Err(MemberError::Loose { database, quorum, masters, majority });
    }
    Ok(())
}

impl Schema {
    /// The schema in which a server is something else; `None` when it is that already. One that
    /// is on its way out stays, if it is to be what it was.
    fn with_role(&self, name: &str, role: Role) -> Result<Option<Self>, MemberError> {
        let server = self.servers.iter().find(|server| server.name == name);
        let server = server.filter(|server| !server.leaving || server.role == role);
        let server = server.ok_or_else(|| MemberError::NoSuch(name.to_string()))?;
        let mut next = self.next();
        if next.forget_absent(name) && server.role == role && !server.leaving {
            return Ok(Some(next));
        }
        if server.role == role && !server.leaving {
            return Ok(None);
        }
        if server.role == Role::Witness && role != Role::Witness {
            return Err(MemberError::Witness(name.to_string()));
        }
        let node = server.node;
        self.check_change()?;
        self.check_brings_nothing(node)?;
        for server in next.servers.iter_mut().filter(|server| server.node == node) {
            (server.role, server.leaving) = (role, false);
        }
        Ok(Some(next.without_owner(node, role)))
    }

    /// The schema in which a server is on its way out; `None` when it is already.
    pub(crate) fn with_leaving(&self, name: &str) -> Result<Option<Self>, MemberError> {
        let mut next = self.next();
        let was_absent = next.forget_absent(name);
        let server = match self.servers.iter().find(|server| server.name == name) {
            None if was_absent => {
                next.forget_statuses();
                return Ok(Some(next));
            }
            server => server.ok_or_else(|| MemberError::NoSuch(name.to_string()))?,
        };
        if server.leaving {
            return Ok(was_absent.then_some(next));
        }
        let node = server.node;
        self.check_change()?;
        self.check_brings_nothing(node)?;
        for server in next.servers.iter_mut().filter(|server| server.node == node) {
            server.leaving = true;
        }
        Ok(Some(next.without_owner(node, Role::Replica)))
    }

    /// Whether quorums can be reached with the MASTERs of the next schema.
    pub(crate) fn check_next(&self, next: &Self) -> Result<(), MemberError> {
        let (before, after) = (self.master_count(), next.master_count());
        if after == 0 {
            return Err(MemberError::LastMaster);
        }
        let is_same = self.voter_names() == next.voter_names();
        for database in next.databases.iter().filter(|_| !is_same) {
            next.check_data_centers(database)?;
            let quorums = (database.write_quorum, database.read_quorum);
            enough(&database.name, quorums, before, after)?;
            for schema in [self, next] {
                schema.check_majority(database)?;
            }
        }
        next.check_witnesses()?;
        next.databases.iter().try_for_each(|database| next.check_served(database))
    }

    /// Every majority keeps records, and decides alone.
    fn check_witnesses(&self) -> Result<(), MemberError> {
        let (witnesses, masters) = (self.nodes_in(Role::Witness).len(), self.master_count());
        if witnesses > 0 && 2 * witnesses >= masters {
            return Err(MemberError::Witnesses { witnesses, masters });
        }
        self.databases.iter().filter(|_| witnesses > 0).try_for_each(|db| self.check_majority(db))
    }

    /// Every MASTER has a data center where quorums ask for one, and these can be reached.
    fn check_data_centers(&self, database: &Database) -> Result<(), MemberError> {
        let quorums = (database.write_quorum, database.read_quorum);
        data_centers::check(&database.data_centers, quorums, &self.voter_names()).map_err(|error| {
            let database = database.name.clone();
            MemberError::DataCenters { database, error }
        })
    }

    /// Data centers that decide by themselves keep the MASTERs they have, all of them with records.
    fn check_majority(&self, database: &Database) -> Result<(), MemberError> {
        let (masters, rule) = (self.master_count(), self.rule_of(database));
        if !rule.is_below_majority(masters) {
            return Ok(());
        }
        let (quorum, majority) = (rule.write_quorum, masters / 2 + 1);
        let database = database.name.clone();
        Err(MemberError::Loose { database, quorum, masters, majority })
    }

    /// An index that is building counts on the MASTERs there are.
    fn check_change(&self) -> Result<(), MemberError> {
        let indexes = self.databases.iter().flat_map(|database| &database.indexes);
        let mut building = indexes.filter(|index| matches!(index.state, IndexState::Building(_)));
        let found = building.next().map(|index| index.name.clone());
        found.map_or(Ok(()), |name| Err(MemberError::Building(name)))
    }

    /// Only MASTERs own anything: what another one had, chosen or not, is spread over them, for
    /// good.
    fn without_owner(mut self, node: NodeId, role: Role) -> Self {
        if role != Role::Master {
            let revision = self.revision;
            let masters = self.nodes_in(Role::Master);
            let clusters = self.databases.iter_mut().flat_map(|database| &mut database.clusters);
            for cluster in clusters.filter(|cluster| cluster.owner == node) {
                cluster.static_owner = false;
            }
            if let Some(moved) = self.owners_moved(node, &masters) {
                self = Self { revision, ..moved };
            }
            let clusters = self.databases.iter_mut().flat_map(|database| &mut database.clusters);
            for cluster in clusters.filter(|cluster| cluster.home == node) {
                cluster.home = cluster.owner;
            }
        }
        self.databases.iter_mut().for_each(|database| database.version += 1);
        self
    }

    /// The schema without a server that was on its way out.
    fn without(&self, node: NodeId) -> Self {
        let mut next = self.next();
        for server in next.servers.extract_if(.., |server| server.node == node) {
            next.gone.push(Gone { name: server.name, node });
        }
        next.forget_gone(node);
        next.forget_statuses();
        next.databases.iter_mut().for_each(|database| database.version += 1);
        next
    }
}

impl Agreement {
    /// A server becomes something else. What it was takes a change back that is on its way: so does
    /// MASTER the removal of one, as long as every cluster still names it.
    pub(crate) fn set_role(&mut self, name: &str, role: Role) -> Result<bool, Refusal> {
        self.set_roles([(name, role)].into_iter())
    }

    /// The same with several of them, by one change of each cluster.
    pub(crate) fn set_roles<'a>(
        &mut self,
        roles: impl Iterator<Item = (&'a str, Role)>,
    ) -> Result<bool, Refusal> {
        let mut next: Option<Schema> = None;
        for (name, role) in roles {
            let mut leaving = self.schema.servers.iter().filter(|server| server.leaving);
            if leaving.any(|server| server.name == name && !self.generations.names(server.node)) {
                return Err(MemberError::NoSuch(name.to_string()).into());
            }
            let before = next.as_ref().unwrap_or(&self.schema);
            next = before.with_role(name, role)?.or(next);
        }
        next.map_or(Ok(false), |next| self.regroup(next))
    }

    pub(crate) fn remove(&mut self, name: &str) -> Result<bool, Refusal> {
        let next = self.schema.with_leaving(name)?;
        next.map_or(Ok(false), |next| self.regroup(next))
    }

    /// Puts every cluster on its way to the servers of the next schema.
    pub(crate) fn regroup(&mut self, next: Schema) -> Result<bool, Refusal> {
        self.schema.check_next(&next)?;
        let mut generations = self.generations.clone();
        let has_witness = !next.nodes_in(Role::Witness).is_empty();
        let wanted: BTreeMap<ClusterKey, Placement> = next.placements();
        for (key, placement) in wanted {
            let is_closed = placement.is_closed();
            let mut keepers = Keepers::from(placement);
            if is_closed {
                let now = generations.keepers(key);
                let is_loose = now.is_some_and(|k| k.write_quorum < k.masters.len() / 2 + 1);
                if is_loose && has_witness {
                    // What was decided there with less than a majority may be at one server alone,
                    // and that one must keep its content.
                    return Err(MemberError::WitnessBesideDropped(key).into());
                }
                close(&mut keepers, now);
            }
            match generations.bring(key, keepers, is_closed) {
                Ok(()) | Err(ChangeError::Same(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.generations = generations;
        self.schema = Arc::new(next);
        Ok(true)
    }

    /// Everybody that the log's own list is to have: MASTERs, also those that are about to be one
    /// or still are one of some cluster, and no more those that are on their way out and that no
    /// cluster names.
    pub(crate) fn listed(&self) -> impl Iterator<Item = NodeId> {
        let is_master = |server: &&Member| {
            server.role.votes() || self.generations.is_master_of_any(server.node)
        };
        let servers = self.schema.servers.iter().filter(is_master).map(|server| server.node);
        servers.filter(|node| !self.is_done_with(*node))
    }

    /// The first server that is still there and that neither a cluster nor `list`, the log's own
    /// one, names.
    pub(crate) fn released(&self, list: &BTreeSet<NodeId>) -> Option<NodeId> {
        let mut servers = self.schema.servers.iter().map(|server| server.node);
        servers.find(|node| !list.contains(node) && self.is_done_with(*node))
    }

    /// Lets a server go that is on its way out and that no cluster names any more; true if it is.
    pub(crate) fn let_go(&mut self, node: NodeId) -> bool {
        let done = self.is_done_with(node);
        if done {
            self.schema = Arc::new(self.schema.without(node));
        }
        done
    }

    fn is_done_with(&self, node: NodeId) -> bool {
        let leaving = self.schema.server(node).is_some_and(|server| server.leaving);
        leaving && !self.generations.names(node)
    }
}

/// A closed cluster's quorums. While its MASTERs stay they are what they were: a majority would be
/// another generation, after which what was decided with less would count as decided by one, and
/// whoever has not heard of it would ask for other votes than the others. For other MASTERs a
/// majority will do, as nothing is voted for any more.
fn close(keepers: &mut Keepers, now: Option<&Keepers>) {
    if let Some(now) = now.filter(|now| now.masters == keepers.masters) {
        keepers.write_quorum = now.write_quorum;
        keepers.local_quorums.clone_from(&now.local_quorums);
    } else {
        keepers.write_quorum = keepers.masters.len() / 2 + 1;
    }
}

/// Why a server that is lost stays.
pub(crate) fn enlisted_text(server: &str, database: Option<&str>) -> String {
    match database {
        Some(database) => alloc::format!(
            "server '{server}' cannot leave by itself: database '{database}' enlists it in \
             'servers', in a data center, as an owner that people chose, or by newNodeStrategy \
             \"static\""
        ),
        None => alloc::format!(
            "server '{server}' cannot leave by itself: only MASTERs of \
             databases do that"
        ),
    }
}

/// Text for a server that was removed, and comes back as what it was.
#[must_use]
pub fn gone_text(name: &str) -> String {
    alloc::format!(
        "server '{name}' was removed from the cluster, and cannot come back as what it was: to \
         join again, start it with --join and an empty data folder"
    )
}

#[cfg(test)]
#[path = "roles_tests.rs"]
mod tests;
