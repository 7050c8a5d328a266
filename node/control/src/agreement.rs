//! What all servers agree on: the schema, who keeps each cluster in which generation, and which
//! positions of it were granted. A command makes the next agreement of this one, or is refused and
//! changes nothing. May not know how commands come to have one order (that is `plane`).

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use quorate_api::{Boot, ClusterKey, ErrorCode, NodeId};
use quorate_protocol::io::{Placement, Report};
use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::ddl::DdlError;
use crate::generations::{ChangeError, Generations, Keepers};
use crate::loose::Loose;
use crate::positions::Positions;
use crate::schema::Schema;
use crate::settings::Settings;

/// What all servers agree on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// Databases, classes, clusters, indexes.
    pub schema: Arc<Schema>,
    #[serde(with = "crate::binary")]
    pub(crate) generations: Generations,
    #[serde(with = "crate::binary")]
    pub(crate) positions: Positions,
    /// Nothing of it is written where nothing is in it: servers that speak no version 9 cannot read
    /// it, and refuse what would put something into it.
    #[serde(default, skip_serializing_if = "Loose::is_empty", with = "crate::binary")]
    loose: Loose,
}

/// A command did not fit what it met. It has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub text: String,
}

/// The level from which on W changes from or to below a majority while a database is used.
const CROSSING: u16 = 9;

impl From<DdlError> for Refusal {
    fn from(error: DdlError) -> Self {
        Self { code: error.code(), text: error.to_string() }
    }
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Self {
        let code = match error {
            ChangeError::UnderWay(_) => ErrorCode::Busy,
            ChangeError::Unknown(_)
            | ChangeError::NoChange(_)
            | ChangeError::Same(_)
            | ChangeError::NoMaster(_)
            | ChangeError::Twice { .. }
            | ChangeError::Stranger { .. }
            | ChangeError::Quorum { .. }
            | ChangeError::BelowMajority { .. } => ErrorCode::BadRequest,
        };
        Self { code, text: error.to_string() }
    }
}

impl Agreement {
    /// What a cluster of these MASTERs begins with.
    #[must_use]
    pub fn founded_by(founders: &[(String, NodeId)]) -> Self {
        Self { schema: Arc::new(Schema::founded_by(founders)), ..Self::default() }
    }

    /// Carries a command out; true when that changed what servers are configured with. Blocks of
    /// positions do not: they concern nobody but whom they are granted to.
    ///
    /// # Errors
    /// It does not fit; nothing has changed.
    pub fn apply(&mut self, command: &Command) -> Result<bool, Refusal> {
        let changed = self.carry_out(command)?;
        if changed && self.schema.level >= CROSSING {
            self.loose.note(&self.generations);
        }
        Ok(changed)
    }

    fn carry_out(&mut self, command: &Command) -> Result<bool, Refusal> {
        let schema = &*self.schema;
        let next = match command {
            Command::CreateDatabase { new } => Some(schema.create_database(new)?),
            Command::Enlist { name, node, address } => {
                return self.enlist(name, *node, address);
            }
            Command::SetRole { server, role } => return self.set_role(server, *role),
            Command::RemoveServer { server, force: _ } => return self.remove(server),
            Command::RemoveAbsent { node, revision } => {
                return self.remove_absent(*node, *revision);
            }
            Command::LetGo { node } => return Ok(self.let_go(*node)),
            Command::Announce { node, address } => schema.reached_at(*node, address)?,
            Command::Raise { level, of } => schema.raised(*level, of),
            Command::DropDatabase { name } => Some(schema.drop_database(name)?),
            Command::CreateClass { database, name, supers } => {
                Some(schema.create_class(database, name, supers)?)
            }
            Command::DropClass { database, name } => Some(schema.drop_class(database, name)?),
            Command::AddCluster { database, class, name, owner } => {
                Some(schema.add_named_cluster(database, class, name, *owner)?)
            }
            Command::CreateIndex { database, new } => Some(schema.create_index(database, new)?),
            Command::DropIndex { database, name } => Some(schema.drop_index(database, name)?),
            Command::IndexFilled { index, by } => schema.index_filled(*index, *by),
            Command::IndexFailed { index, reasons } => schema.index_failed(*index, reasons.clone()),
            Command::Reconfigure { database, version, settings, owners } => {
                return self.reconfigure((database, *version), settings, owners);
            }
            Command::SetOwner { database, cluster, server } => {
                schema.with_owner(database, cluster, server)?
            }
            Command::Set { database, settings } => return self.set(database, settings),
            Command::MoveOwners { lost, to } => schema.owners_moved(*lost, to),
            Command::ReturnOwners { back } => schema.owners_returned(*back),
            Command::AddClusters { to } => schema.clusters_added(*to)?,
            Command::Adopt { by, origin, database, positions } => {
                return self.adopt((*by, *origin), database, positions);
            }
            Command::Brought { database, by, cover } => schema.brought(*database, *by, cover),
            Command::Arrived { database, at } => schema.arrived(*database, *at),
            Command::ForgetStrays { of } => schema.without_strays(*of),
            Command::Grant { cluster, to, boot } => {
                self.grant(*cluster, *to, *boot)?;
                return Ok(false);
            }
            Command::Reports { from, reports } => {
                let news = reports.iter().map(|report| self.generations.report(*from, report));
                return Ok(news.fold(false, |any, one| any | one));
            }
        };
        let Some(next) = next else { return Ok(false) };
        self.take(next);
        Ok(true)
    }

    /// Another schema: its new clusters have a first generation, and what is closed grants nothing.
    pub(crate) fn take(&mut self, next: Schema) {
        let placements = next.placements();
        let is_open = |cluster| placements.get(&cluster).is_some_and(|p| !p.is_closed());
        self.positions.retain(is_open);
        for (cluster, placement) in placements {
            self.generations.insert(cluster, placement.into());
        }
        self.schema = Arc::new(next);
    }

    /// A server is there from now on, and keeps every cluster without a say. It comes with nothing:
    /// before it is told of this it does not know of any cluster, and after that it aligns.
    fn enlist(&mut self, name: &str, node: NodeId, address: &str) -> Result<bool, Refusal> {
        let Some(next) = self.schema.enlisted(name, node, address)? else { return Ok(false) };
        self.generations.add_replica(node);
        self.schema = Arc::new(next);
        Ok(true)
    }

    /// Other quorums of a database: a new W is a change of generation of each of its clusters
    /// (PROTOCOL.md 3.9), all of them or none.
    fn reconfigure(
        &mut self,
        (database, version): (&str, u64),
        settings: &Settings,
        owners: &BTreeMap<String, String>,
    ) -> Result<bool, Refusal> {
        let next = self.schema.reconfigured(database, version, settings)?;
        let next = next.owned_by(database, owners)?;
        let mut generations = self.generations.clone();
        let wanted = next.placements();
        let found = next.database(database).into_iter();
        for key in found.flat_map(|db| db.clusters.iter().map(|cluster| db.key(cluster.id))) {
            let now = generations.keepers(key).ok_or(ChangeError::Unknown(key))?.clone();
            let Placement { write_quorum, local_quorums, .. } = wanted[&key].clone();
            let to = Keepers { write_quorum, local_quorums, ..now };
            if generations.unites(key) && generations.next_keepers(key) == Some(&to) {
                continue;
            }
            if self.schema.level < CROSSING && generations.crosses(key, &to) {
                let text = alloc::format!(
                    "W changes from or to below a majority once every server speaks version \
                     {CROSSING}; the cluster's level is {}",
                    self.schema.level
                );
                return Err(Refusal { code: ErrorCode::BadRequest, text });
            }
            // One that waits for a MASTER, or for people, can be taken back.
            let begun = if generations.unites(key) {
                generations.bring(key, to, false)
            } else {
                generations.propose(key, to)
            };
            match begun {
                Ok(()) | Err(ChangeError::Same(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.generations = generations;
        self.schema = Arc::new(next);
        Ok(true)
    }

    /// Those of a server's reports that would change something.
    pub(crate) fn news(&self, from: NodeId, mut reports: Vec<Report>) -> Vec<Report> {
        let mut generations = self.generations.clone();
        reports.retain(|report| generations.report(from, report));
        reports
    }

    /// The next positions of a cluster for its owner, as it is now: whatever the server that asks
    /// believed when it did.
    fn grant(&mut self, cluster: ClusterKey, to: NodeId, boot: Boot) -> Result<(), Refusal> {
        let found = self.schema.databases.iter().find(|db| db.id == cluster.database);
        let Some(found) = found.and_then(|db| db.cluster(cluster.cluster)) else {
            let text = alloc::format!("cluster {cluster} does not exist");
            return Err(Refusal { code: ErrorCode::UnknownCluster, text });
        };
        if found.owner != to {
            let (name, owner) = (&found.name, found.owner);
            let owner = self.schema.server_name(owner).unwrap_or("?");
            let text = alloc::format!("cluster '{name}' is owned by '{owner}'");
            return Err(Refusal { code: ErrorCode::NotOwner, text });
        }
        self.positions.grant(cluster, to, boot);
        Ok(())
    }

    /// Positions that this boot of this server may use: of every cluster the newest block, if that
    /// was granted to it.
    pub fn granted_to(
        &self,
        node: NodeId,
        boot: Boot,
    ) -> impl Iterator<Item = (ClusterKey, Range<u64>)> {
        self.positions.granted_to(node, boot)
    }

    /// Where every cluster is, and in which generation.
    #[must_use]
    pub fn placements(&self) -> BTreeMap<ClusterKey, Placement> {
        let mut placements = self.schema.placements();
        for (cluster, placement) in &mut placements {
            self.generations.place(*cluster, placement);
            self.loose.place(*cluster, placement);
        }
        placements
    }

    /// Who votes on the control plane's log: the MASTERs, each once it is one of every cluster.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> {
        let masters = self.schema.voters().map(|server| server.node);
        masters.filter(|node| self.generations.is_master_of_all(*node))
    }
}

#[cfg(test)]
#[path = "agreement_tests.rs"]
mod tests;
