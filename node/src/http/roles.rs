//! Servers that get another role, or own clusters for good, and servers that go, over SQL. May not
//! know how servers agree, nor how clusters get there.

use quorate_api::ErrorCode;
use quorate_control::command::Command;
use quorate_control::servers::{Member, Role};
use serde_json::json;

use super::access::Access;
use super::backend::{Backend, NodeState};
use super::error::ApiError;
use super::members::ServerState;
use super::reply::Answer;
use crate::sql::HaSet;

impl<B: Backend> Access<'_, B> {
    /// `HA SET`. With a role, the change of each cluster goes on behind the answer; an owner that
    /// is set stays, lost or not, as one that the distributed configuration names.
    pub(super) async fn run_ha_set(&self, database: &str, set: &HaSet) -> Result<Answer, ApiError> {
        let operation = match set {
            HaSet::Role { server, role } => {
                self.set_role(server, *role).await?;
                "ha set role"
            }
            HaSet::Owner { cluster, server } => {
                self.check_distributed()?;
                let (cluster, server) = (cluster.clone(), server.clone());
                let database = database.to_owned();
                self.change(Command::SetOwner { database, cluster, server }).await?;
                "ha set owner"
            }
        };
        Ok(row(&json!({"operation": operation, "result": "OK"})))
    }

    /// A server becomes this in every database.
    pub(super) async fn set_role(&self, server: &str, role: Role) -> Result<(), ApiError> {
        self.check_distributed()?;
        if role.votes() {
            self.check_serves(server)?;
        }
        self.check_reachable(server, role.votes())?;
        self.change(Command::SetRole { server: server.to_owned(), role }).await.map(drop)
    }

    /// `HA REMOVE SERVER`; whether it is there or not.
    pub(super) async fn run_remove_server(&self, server: &str) -> Result<Answer, ApiError> {
        self.check_distributed()?;
        self.check_reachable(server, false)?;
        let command = Command::RemoveServer { server: server.to_owned(), force: false };
        self.change(command).await?;
        Ok(row(&json!({"result": true})))
    }

    fn check_distributed(&self) -> Result<(), ApiError> {
        if self.app.backend.servers().is_distributed {
            return Ok(());
        }
        Err(ApiError::bad_request("OrientDB is not started in distributed mode"))
    }

    /// Clusters wait, and take no writes, until a majority of their next MASTERs has everything.
    fn check_reachable(&self, name: &str, is_master: bool) -> Result<(), ApiError> {
        let (schema, servers) = (self.app.backend.schema(), self.app.backend.servers());
        let is_next = |server: &&Member| {
            let stays = server.role.votes() && !server.leaving;
            if server.name == name { is_master } else { stays }
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
