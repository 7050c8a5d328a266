//! Servers that get another role and servers that go, over SQL. May not know how servers agree, nor
//! how clusters get there.

use quorate_api::ErrorCode;
use quorate_control::command::Command;
use quorate_control::servers::Role;
use serde_json::json;

use super::access::Access;
use super::backend::{Backend, NodeState};
use super::error::ApiError;
use super::members::ServerState;
use super::reply::Answer;
use crate::sql::HaSetRole;

impl<B: Backend> Access<'_, B> {
    /// `HA SET ROLE`; the change of each cluster goes on behind the answer.
    pub(super) async fn run_set_role(&self, set: &HaSetRole) -> Result<Answer, ApiError> {
        self.set_role(&set.server, set.role).await?;
        Ok(row(&json!({"operation": "ha set role", "result": "OK"})))
    }

    /// A server becomes this in every database.
    pub(super) async fn set_role(&self, server: &str, role: Role) -> Result<(), ApiError> {
        self.check_distributed()?;
        if role == Role::Master {
            self.check_serves(server)?;
        }
        self.change(Command::SetRole { server: server.to_owned(), role }).await.map(drop)
    }

    /// `HA REMOVE SERVER`; whether it is there or not.
    pub(super) async fn run_remove_server(&self, server: &str) -> Result<Answer, ApiError> {
        self.check_distributed()?;
        self.change(Command::RemoveServer { server: server.to_owned() }).await?;
        Ok(row(&json!({"result": true})))
    }

    fn check_distributed(&self) -> Result<(), ApiError> {
        if self.app.backend.servers().is_distributed {
            return Ok(());
        }
        Err(ApiError::bad_request("OrientDB is not started in distributed mode"))
    }

    /// A MASTER that has not everything counts in every quorum, and helps none.
    fn check_serves(&self, name: &str) -> Result<(), ApiError> {
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

/// One row.
fn row(row: &serde_json::Value) -> Answer {
    Answer::result(&[row.to_string().into_bytes()])
}
