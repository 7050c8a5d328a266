//! The task that makes servers MASTERs again which left because they were lost, where this server
//! leads: each once it is here as another one, under its name, and has everything. May not decide
//! who left.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quorate_control::command::Command;
use quorate_control::schema::Schema;
use quorate_control::servers::Role;

use super::bulletin;
use super::handle::NodeHandle;
use super::shared::Shared;
use crate::http::backend::NodeState;
use crate::http::members::{Server, ServerState};

/// Between two looks at who is back, while somebody is away.
const LOOK: Duration = Duration::from_millis(200);
/// How long the servers may take to agree.
const AGREE: Duration = Duration::from_secs(1);

/// Follows the servers, for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut changes = shared.changes.subscribe();
    loop {
        changes.mark_unchanged();
        let schema = shared.schema.load_full();
        if shared.metrics.control_leads.load(Ordering::Relaxed) == 1 {
            make_master(&shared, &schema).await;
        }
        if schema.absent.is_empty() {
            changes.changed().await.ok();
        } else {
            tokio::time::timeout(LOOK, changes.changed()).await.ok();
        }
    }
}

async fn make_master(shared: &Arc<Shared>, schema: &Schema) {
    if schema.returned().next().is_none() {
        return;
    }
    let servers = bulletin::servers(shared).list;
    let Some(server) = ready(schema, &servers) else { return };
    tracing::info!("server '{server}' was lost as MASTER and has everything again");
    let command = Command::SetRole { server, role: Role::Master };
    let deadline = Instant::now() + AGREE;
    if let Err(error) = NodeHandle::new(shared.clone()).decide(command, deadline).await {
        tracing::info!(?error, "it is no MASTER yet");
    }
}

/// The first one that is back and has everything.
fn ready(schema: &Schema, servers: &[Server]) -> Option<String> {
    let mut back = schema.returned().filter(|member| {
        let server = servers.iter().find(|server| server.node == Some(member.node));
        server.is_some_and(|server| server.state == ServerState::Is(NodeState::Online))
    });
    back.next().map(|member| member.name.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quorate_api::NodeId;
    use quorate_control::servers::{Gone, Member};

    use super::*;

    /// FEATURES: S9
    #[test]
    fn who_is_back_is_a_master_again_once_it_has_everything() {
        let (name, role) = ("n3".to_owned(), Role::Replica);
        let founders = [("n1".to_owned(), NodeId(1)), ("n2".to_owned(), NodeId(2))];
        let mut schema = Schema::founded_by(&founders);
        schema.absent.push(Gone { name: name.clone(), node: NodeId(3) });
        let server = |state| Server {
            name: name.clone(),
            node: Some(NodeId(33)),
            role,
            state,
            is_heard: false,
            bulletin: None,
            received: BTreeMap::new(),
        };
        let online = [server(ServerState::Is(NodeState::Online))];
        assert_eq!(ready(&schema, &online), None, "it is not in the cluster yet");
        schema.servers.push(Member { role, ..Member::founder(&name, NodeId(33)) });
        assert_eq!(ready(&schema, &online), Some(name.clone()));
        let aligning = [server(ServerState::Is(NodeState::Aligning))];
        assert_eq!(ready(&schema, &aligning), None);
        schema.absent.clear();
        assert_eq!(ready(&schema, &online), None, "people made it a REPLICA");
    }
}
