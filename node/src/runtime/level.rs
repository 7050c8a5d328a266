//! The task that raises the cluster's level once every server speaks more, where this server leads,
//! and the format of the data folder behind it. May not decide what a level means.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quorate_api::NodeId;
use quorate_control::command::Command;
use quorate_control::schema::Schema;

use super::bulletin;
use super::data_dir::raise_format;
use super::handle::NodeHandle;
use super::shared::Shared;
use crate::http::members::{Server, ServerState};

/// Between two looks at what servers tell of themselves, while this one speaks more than all do.
const LOOK: Duration = Duration::from_millis(100);
/// How long the servers may take to agree.
const AGREE: Duration = Duration::from_secs(1);

/// Follows the servers, for ever.
pub(super) async fn run(shared: Arc<Shared>, root: PathBuf) {
    let mut changes = shared.changes.subscribe();
    let mut raised_for = 0;
    loop {
        changes.mark_unchanged();
        let schema = shared.schema.load_full();
        // Before anything of that level is written, since nobody knows of it before.
        if schema.level > raised_for && shared.is_member() {
            raise_folder(&root, schema.level).await;
            raised_for = schema.level;
        }
        if shared.metrics.control_leads.load(Ordering::Relaxed) == 1 {
            raise_level(&shared, &schema).await;
        }
        if schema.level < shared.versions.newest {
            tokio::time::timeout(LOOK, changes.changed()).await.ok();
        } else {
            changes.changed().await.ok();
        }
    }
}

async fn raise_level(shared: &Arc<Shared>, schema: &Schema) {
    let servers = bulletin::servers(shared).list;
    let Some(level) = spoken_by_all(schema, &servers).filter(|level| *level > schema.level) else {
        return;
    };
    let of: BTreeSet<NodeId> = schema.servers.iter().map(|server| server.node).collect();
    let raise = Command::Raise { level, of };
    let deadline = Instant::now() + AGREE;
    if let Err(error) = NodeHandle::new(shared.clone()).decide(raise, deadline).await {
        tracing::debug!(?error, level, "the level is not raised yet");
    }
}

/// The newest version that every server speaks; `None` while one of them is away, or has not said
/// what it speaks.
fn spoken_by_all(schema: &Schema, servers: &[Server]) -> Option<u16> {
    let spoken = schema.servers.iter().map(|member| {
        let server = servers.iter().find(|server| server.node == Some(member.node))?;
        let is_there = matches!(server.state, ServerState::Is(_));
        let speaks = server.bulletin.as_ref()?.addendum.speaks;
        (is_there && speaks > 0).then_some(speaks)
    });
    spoken.collect::<Option<Vec<u16>>>()?.into_iter().min()
}

async fn raise_folder(root: &std::path::Path, level: u16) {
    let root = root.to_path_buf();
    let raised = tokio::task::spawn_blocking(move || raise_format(&root, level)).await;
    match raised {
        Ok(Ok(Some((before, now)))) => tracing::info!(
            "the data folder is upgraded from format {before} to {now}: programs that do not \
             speak version {level} cannot use it any more"
        ),
        Ok(Ok(None)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the data folder keeps its format"),
        // Only when the process ends.
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quorate_control::servers::Role;

    use super::*;
    use crate::http::backend::NodeState;
    use crate::http::members::{Addendum, Bulletin};

    fn server(node: u64, state: ServerState, speaks: u16) -> Server {
        let addendum = Addendum { speaks, ..Addendum::default() };
        Server {
            name: format!("n{node}"),
            node: Some(NodeId(node)),
            role: Role::Master,
            state,
            bulletin: Some(Bulletin { addendum, ..Bulletin::default() }),
            received: BTreeMap::new(),
        }
    }

    #[test]
    fn what_all_speak_is_known_only_while_all_are_there_and_say_so() {
        let founders = [("n1".to_owned(), NodeId(1)), ("n2".to_owned(), NodeId(2))];
        let schema = Schema::founded_by(&founders);
        let there = ServerState::Is(NodeState::Online);
        let second = |state, speaks| [server(1, there, 9), server(2, state, speaks)];
        assert_eq!(spoken_by_all(&schema, &second(there, 9)), Some(9));
        assert_eq!(spoken_by_all(&schema, &second(there, 8)), Some(8));
        assert_eq!(spoken_by_all(&schema, &second(there, 0)), None, "an older one says nothing");
        assert_eq!(spoken_by_all(&schema, &second(ServerState::NotAvailable, 9)), None);
        assert_eq!(spoken_by_all(&schema, &second(there, 9)[..1]), None, "nobody has met it");
    }
}
