//! Servers that get another role, or own clusters for good, and servers that go, over SQL. May not
//! know how servers agree, nor how clusters get there.

use std::collections::BTreeMap;

use quorate_api::{ErrorCode, Outcome};
use quorate_control::command::Command;
use quorate_control::schema::Database;
use quorate_control::servers::Member;
use quorate_control::status::Setting;
use serde_json::{Map, json};

use super::access::Access;
use super::backend::{Backend, NodeState};
use super::error::ApiError;
use super::members::{Server, ServerState};
use super::reply::Answer;
use crate::sql::HaRemoveServer;

impl<B: Backend> Access<'_, B> {
    /// `HA SET`: one row a clause. With a role, the change of each cluster goes on behind the
    /// answer; an owner that is set stays, lost or not, as one that the distributed configuration
    /// names.
    pub(super) async fn run_ha_set(
        &self,
        database: &str,
        settings: &[Setting],
    ) -> Result<Answer, ApiError> {
        self.set(database, settings).await?;
        let rows = settings.iter().map(|setting| {
            let operation = match setting {
                Setting::Role { .. } => "ha set role",
                Setting::Owner { .. } => "ha set owner",
                Setting::Status { .. } => "ha set status",
            };
            json!({"operation": operation, "result": "OK"}).to_string().into_bytes()
        });
        Ok(Answer::result(&rows.collect::<Vec<_>>()))
    }

    /// Servers become this in every database, clusters of this one get these owners, and it these
    /// statuses at servers: all or none of it.
    pub(super) async fn set(&self, database: &str, settings: &[Setting]) -> Result<(), ApiError> {
        self.check_distributed()?;
        let roles = settings.iter().filter_map(|setting| match setting {
            Setting::Role { server, role } => Some((server.as_str(), role.votes())),
            Setting::Owner { .. } | Setting::Status { .. } => None,
        });
        let roles: BTreeMap<&str, bool> = roles.collect();
        for (server, _) in roles.iter().filter(|(_, votes)| **votes) {
            self.check_serves(server)?;
        }
        self.check_reachable(&roles)?;
        let database = database.to_owned();
        // What servers of older versions know is said so that they do.
        let command = match settings {
            [Setting::Role { server, role }] => {
                Command::SetRole { server: server.clone(), role: *role }
            }
            [Setting::Owner { cluster, server }] => {
                let (cluster, server) = (cluster.clone(), server.clone());
                Command::SetOwner { database, cluster, server }
            }
            _ => Command::Set { database, settings: settings.to_vec() },
        };
        self.change(command).await.map(drop)
    }

    /// `HA REMOVE SERVER`; whether it is there or not. With `FORCE` also where the server may have
    /// what nobody else has, which is said then.
    pub(super) async fn run_remove_server(
        &self,
        remove: &HaRemoveServer,
    ) -> Result<Answer, ApiError> {
        self.check_distributed()?;
        let server = remove.server.clone();
        let at_stake = if remove.force { self.at_stake(&server) } else { Vec::new() };
        let force = !at_stake.is_empty();
        if force {
            self.check_lost(&server)?;
        }
        self.check_reachable(&[(server.as_str(), false)].into())?;
        if force {
            // Whoever asked may never see the answer.
            tracing::warn!("the removal of server '{server}' by FORCE is asked for");
        }
        let removed = self.change(Command::RemoveServer { server: server.clone(), force }).await;
        if !force {
            return removed.map(|_| row(&json!({"result": true})));
        }
        removed.map_err(|error| in_doubt(error, &server, &at_stake))?;
        let warning = given_up(&server, &at_stake);
        tracing::warn!("{warning}");
        Ok(row(&json!({"result": true, "mayHaveLost": at_stake, "warning": warning})))
    }

    /// Databases of which a server that votes may have what was acknowledged and nobody else has:
    /// those with W below a majority, and those on their way from there.
    fn at_stake(&self, server: &str) -> Vec<String> {
        let (schema, servers) = (self.app.backend.schema(), self.app.backend.servers());
        let member = schema.servers.iter().find(|member| member.name == server);
        if !member.is_some_and(|member| member.role.votes()) {
            return Vec::new();
        }
        let masters = schema.master_count();
        let is_loose = |db: &&Database| {
            let unites = servers.uniting_in(db.id).next().is_some();
            unites || schema.rule_of(db).is_below_majority(masters)
        };
        schema.databases.iter().filter(is_loose).map(|db| db.name.clone()).collect()
    }

    /// What a server has that is there need not be given up, whoever reaches it.
    fn check_lost(&self, server: &str) -> Result<(), ApiError> {
        self.app.backend.servers().find(server).map_or(Ok(()), is_lost)
    }

    fn check_distributed(&self) -> Result<(), ApiError> {
        if self.app.backend.servers().is_distributed {
            return Ok(());
        }
        Err(ApiError::bad_request("OrientDB is not started in distributed mode"))
    }

    /// Clusters wait, and take no writes, until a majority of their next MASTERs has everything.
    /// By server whether it is to be one of them.
    fn check_reachable(&self, changes: &BTreeMap<&str, bool>) -> Result<(), ApiError> {
        let (schema, servers) = (self.app.backend.schema(), self.app.backend.servers());
        let is_next = |server: &&Member| {
            let stays = server.role.votes() && !server.leaving;
            changes.get(server.name.as_str()).copied().unwrap_or(stays)
        };
        let next: Vec<&str> =
            schema.servers.iter().filter(is_next).map(|server| server.name.as_str()).collect();
        if schema.voters().map(|server| server.name.as_str()).eq(next.iter().copied()) {
            return Ok(());
        }
        let is_there = |name: &str| {
            servers.find(name).is_some_and(|server| matches!(server.state, ServerState::Is(_)))
        };
        majority_reachable(&next, is_there)
    }

    /// A MASTER that has not everything counts in every quorum, and helps none. One that is on its
    /// way out has been a MASTER all along.
    fn check_serves(&self, name: &str) -> Result<(), ApiError> {
        let schema = self.app.backend.schema();
        if schema.servers.iter().any(|server| server.name == name && server.leaving) {
            return Ok(());
        }
        let servers = self.app.backend.servers();
        let state = servers.find(name).map(|server| server.state);
        let Some(state) = state.filter(|state| *state != ServerState::Is(NodeState::Online)) else {
            return Ok(());
        };
        let state = state.name();
        let text = format!("server '{name}' is {state}: it can be a MASTER once it is ONLINE");
        Err(ApiError::new(ErrorCode::NotReady, text))
    }
}

fn is_lost(server: &Server) -> Result<(), ApiError> {
    let name = &server.name;
    let how = match server.state {
        ServerState::Is(NodeState::Offline) => return Ok(()),
        ServerState::Is(state) => format!("is {}", state.name()),
        ServerState::NotAvailable | ServerState::Offline if server.is_heard => {
            "is heard by other servers, or was until some seconds ago".to_owned()
        }
        ServerState::NotAvailable | ServerState::Offline => return Ok(()),
    };
    let text = format!(
        "server '{name}' {how}: FORCE gives up what it alone has acknowledged, and is for a server \
         that is lost; give the databases with a writeQuorum below the majority one of \
         'majority', and remove it without FORCE"
    );
    Err(ApiError::new(ErrorCode::BadRequest, text))
}

/// Where it may have happened, what it costs is said, too.
fn in_doubt(mut error: ApiError, server: &str, databases: &[String]) -> ApiError {
    if error.outcome() == Outcome::Unknown {
        let names = databases.join(", ");
        error.text = format!(
            "{}: if it is, what server '{server}' alone had acknowledged in these databases is \
             lost: {names}",
            error.text
        );
        error.beside = Some(Box::new(Map::from_iter([("mayHaveLost".into(), json!(databases))])));
    }
    error
}

/// Refuses MASTERs of whom no majority can be reached. None at all are refused elsewhere.
fn majority_reachable(next: &[&str], is_there: impl Fn(&str) -> bool) -> Result<(), ApiError> {
    let (majority, of) = (next.len() / 2 + 1, next.len());
    let (there, missing): (Vec<&str>, Vec<&str>) = next.iter().partition(|name| is_there(name));
    if next.is_empty() || there.len() >= majority {
        return Ok(());
    }
    let (reached, missing) = (there.len(), missing.join(", "));
    let text = format!(
        "there would be {of} MASTERs, {majority} of which must have everything before writes go \
         on, and {reached} can be reached now (missing: {missing}): bring one back, or remove it \
         first"
    );
    Err(ApiError::new(ErrorCode::NotReady, text))
}

/// What people are told who give up what a server has.
fn given_up(server: &str, databases: &[String]) -> String {
    let databases = databases.join(", ");
    format!(
        "server '{server}' was removed by FORCE while the writeQuorum of these databases was below \
         the majority: {databases}. What it alone had acknowledged there is lost"
    )
}

/// One row.
fn row(row: &serde_json::Value) -> Answer {
    Answer::result(&[row.to_string().into_bytes()])
}

#[cfg(test)]
mod tests {
    use super::majority_reachable;

    /// FEATURES: L7
    #[test]
    fn a_majority_of_the_next_masters_has_to_be_there() {
        for (next, there, is_fine) in [
            (&["n2", "n3"][..], &["n2"][..], false),
            (&["n1", "n2"], &["n1", "n2"], true),
            (&["n1", "n2", "n3"], &["n1", "n2"], true),
            (&["n1", "n2", "n3", "n4"], &["n1", "n4"], false),
            (&[], &[], true),
        ] {
            let checked = majority_reachable(next, |name| there.contains(&name));
            assert_eq!(checked.is_ok(), is_fine, "{next:?} {there:?}");
        }
        let refused = majority_reachable(&["n2", "n3"], |name| name == "n2").unwrap_err();
        let text = format!("{refused:?}");
        assert!(text.contains("2 MASTERs, 2 of which must"), "{text}");
        assert!(text.contains("1 can be reached now (missing: n3)"), "{text}");
    }
}
