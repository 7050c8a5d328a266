//! `HA SET`: the status that people give a database at a server, and several settings of servers at
//! once. May not know who asks, nor what a server does that is OFFLINE.
//!
//! A status says whether a server serves clients of a database, and nothing else: whoever is
//! OFFLINE votes and applies as before, so N, W and every quorum stay what they are, nothing that
//! was acknowledged gets rarer, and the server has everything when it is ONLINE again. To take a
//! server's vote away is a change of generations: another role, or its removal.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use quorate_api::ErrorCode;
use serde::{Deserialize, Serialize};

use crate::agreement::{Agreement, Refusal};
use crate::ddl::DdlError;
use crate::schema::{Database, Schema};
use crate::servers::{Member, MemberError, Role};

/// What people say of a database at a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DatabaseStatus {
    /// It serves clients whenever it can. So does everybody of whom nothing else was said.
    Online,
    /// It serves no clients until it is ONLINE again, whatever becomes of it meanwhile.
    Offline,
}

/// One clause of `HA SET`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Setting {
    /// A server becomes something else in every database.
    Role {
        /// Its name.
        server: String,
        /// What it becomes.
        role: Role,
    },
    /// A server owns a cluster from now on, lost or not.
    Owner {
        /// Name of the cluster; `*`: every one whose owner nobody has chosen.
        cluster: String,
        /// Name of the server.
        server: String,
    },
    /// A server serves clients of the database, or does not.
    Status {
        /// Its name.
        server: String,
        /// Which of both.
        status: DatabaseStatus,
    },
}

/// Why settings cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// One of the two would be undone by the other.
    #[error(
        "{what} '{name}' is named twice: a server gets one role and one status, a cluster one owner"
    )]
    Twice {
        /// Server or cluster.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// It serves nobody anyway.
    #[error("server '{0}' is a witness: it has no records, and no clients of a database")]
    Witness(String),
}

impl From<SettingError> for Refusal {
    fn from(error: SettingError) -> Self {
        Self { code: ErrorCode::BadRequest, text: error.to_string() }
    }
}

impl Database {
    /// Whether people took a server OFFLINE for it.
    #[must_use]
    pub fn is_offline_at(&self, server: &str) -> bool {
        self.offline.contains(server)
    }
}

impl Schema {
    /// By database the names of the servers that people took OFFLINE for it.
    #[must_use]
    pub fn offline(&self) -> BTreeMap<String, BTreeSet<String>> {
        let said = self.databases.iter().filter(|database| !database.offline.is_empty());
        said.map(|database| (database.name.clone(), database.offline.clone())).collect()
    }

    /// The schema in which a server has a status for a database; `None` when it has. Whoever goes
    /// OFFLINE hands over its clusters, except those that people chose it for, and gets them back
    /// as one that was lost does.
    fn with_status(
        &self,
        database: &str,
        name: &str,
        status: DatabaseStatus,
    ) -> Result<Option<Self>, Refusal> {
        let mut next = self.next();
        let found = next.database_mut(database)?;
        if status == DatabaseStatus::Online && found.offline.remove(name) {
            return Ok(Some(next));
        }
        let server = self.servers.iter().find(|server| server.name == name && !server.leaving);
        let server = server.ok_or_else(|| MemberError::NoSuch(name.to_string()))?;
        if server.role == Role::Witness {
            return Err(SettingError::Witness(name.to_string()).into());
        }
        if status == DatabaseStatus::Online || !found.offline.insert(name.to_string()) {
            return Ok(None);
        }
        self.check_served(found)?;
        let others: Vec<&Member> =
            self.masters().filter(|other| other.node != server.node).collect();
        found.hand_over(server.node, &others);
        Ok(Some(next))
    }

    /// Some MASTER serves the clients of a database.
    pub(crate) fn check_served(&self, database: &Database) -> Result<(), MemberError> {
        if self.masters().all(|master| database.is_offline_at(&master.name)) {
            return Err(MemberError::Unserved(database.name.clone()));
        }
        Ok(())
    }

    /// What was said of servers that are neither there nor coming back.
    pub(crate) fn forget_statuses(&mut self) {
        let servers = self.servers.iter().map(|server| server.name.as_str());
        let absent = self.absent.iter().map(|server| server.name.as_str());
        let known: BTreeSet<&str> = servers.chain(absent).collect();
        for database in &mut self.databases {
            database.offline.retain(|name| known.contains(name.as_str()));
        }
    }
}

impl Agreement {
    /// Carries all of these out, or none. Who serves again does so first, as some server has to
    /// whatever the rest says; then roles, as one change of each cluster, so that the others are
    /// held against the servers as they will be.
    pub(crate) fn set(&mut self, database: &str, settings: &[Setting]) -> Result<bool, Refusal> {
        check_once(settings)?;
        let Some(found) = self.schema.database(database) else {
            return Err(DdlError::UnknownDatabase(database.to_string()).into());
        };
        let (back, others): (Vec<&Setting>, Vec<&Setting>) =
            settings.iter().partition(|setting| is_back(found, setting));
        let mut next = self.clone();
        let mut changed = next.set_in_order(database, &back)?;
        let roles = settings.iter().filter_map(|setting| match setting {
            Setting::Role { server, role } => Some((server.as_str(), *role)),
            Setting::Owner { .. } | Setting::Status { .. } => None,
        });
        changed |= next.set_roles(roles)?;
        changed |= next.set_in_order(database, &others)?;
        *self = next;
        Ok(changed)
    }

    /// All but roles, one after the other.
    fn set_in_order(&mut self, database: &str, settings: &[&Setting]) -> Result<bool, Refusal> {
        let mut changed = false;
        for setting in settings {
            let schema = match setting {
                Setting::Role { .. } => None,
                Setting::Owner { cluster, server } => {
                    self.schema.with_owner(database, cluster, server)?
                }
                Setting::Status { server, status } => {
                    self.schema.with_status(database, server, *status)?
                }
            };
            if let Some(schema) = schema {
                self.schema = Arc::new(schema);
                changed = true;
            }
        }
        Ok(changed)
    }
}

/// A server that is OFFLINE for a database serves again.
fn is_back(database: &Database, setting: &Setting) -> bool {
    matches!(setting, Setting::Status { server, status: DatabaseStatus::Online }
        if database.is_offline_at(server))
}

fn check_once(settings: &[Setting]) -> Result<(), SettingError> {
    let mut seen = BTreeSet::new();
    for setting in settings {
        let (kind, what, name) = match setting {
            Setting::Role { server, .. } => (0, "server", server.clone()),
            Setting::Owner { cluster, .. } => (1, "cluster", cluster.to_ascii_lowercase()),
            Setting::Status { server, .. } => (2, "server", server.clone()),
        };
        if !seen.insert((kind, name.clone())) {
            return Err(SettingError::Twice { what, name });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
