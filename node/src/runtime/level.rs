//! The task that raises the cluster's level once every server speaks more, where this server leads,
//! and the format of the data folder behind it. May not decide what a level means.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
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
use crate::http::backend::NodeState;
use crate::http::members::{Server, ServerState};

/// Between two looks at what servers tell of themselves, while this one speaks more than all do.
const LOOK: Duration = Duration::from_millis(100);
/// Between two tries to write the folder's format.
const RETRY: Duration = Duration::from_secs(5);
/// How long the servers may take to agree.
const AGREE: Duration = Duration::from_secs(1);

/// Follows the servers, for ever.
pub(super) async fn run(shared: Arc<Shared>, root: PathBuf) {
    let mut changes = shared.changes.subscribe();
    let mut raised_for = 0;
    loop {
        changes.mark_unchanged();
        let schema = shared.schema.load_full();
        // What raised the level is in the control log already, and more of that level may be. The
        // format follows, so that an older program is refused before it looks at that; should this
        // process end in between, the next one writes it.
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

/// The newest version that every server speaks; `None` while one of them is away or on its way out,
/// or has not said what it speaks.
fn spoken_by_all(schema: &Schema, servers: &[Server]) -> Option<u16> {
    let spoken = schema.servers.iter().map(|member| {
        let server = servers.iter().find(|server| server.node == Some(member.node))?;
        // Who is just stopping may come back with an older program.
        let is_there = matches!(
            server.state,
            ServerState::Is(NodeState::Starting | NodeState::Online | NodeState::Aligning)
        );
        let speaks = server.bulletin.as_ref()?.addendum.speaks;
        (is_there && speaks > 0).then_some(speaks)
    });
    spoken.collect::<Option<Vec<u16>>>()?.into_iter().min()
}

/// Tries until it is done: nothing else would.
async fn raise_folder(root: &Path, level: u16) {
    loop {
        let folder = root.to_path_buf();
        match tokio::task::spawn_blocking(move || raise_format(&folder, level)).await {
            Ok(Err(error)) => tracing::warn!(%error, "the data folder keeps its format for now"),
            Ok(Ok(Some((before, now)))) => {
                tracing::info!(
                    "the data folder is upgraded from format {before} to {now}: programs that do \
                     not speak version {level} cannot use it any more"
                );
                return;
            }
            // The second one only when the process ends.
            Ok(Ok(None)) | Err(_) => return,
        }
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quorate_control::servers::Role;

    use super::*;
    use crate::http::members::{Addendum, Bulletin};

    fn server(node: u64, state: ServerState, speaks: u16) -> Server {
        let addendum = Addendum { speaks, ..Addendum::default() };
        Server {
            name: format!("n{node}"),
            node: Some(NodeId(node)),
            role: Role::Master,
            state,
            is_heard: false,
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
        for state in [NodeState::Starting, NodeState::Aligning] {
            assert_eq!(spoken_by_all(&schema, &second(ServerState::Is(state), 9)), Some(9));
        }
        for state in [NodeState::ShuttingDown, NodeState::Offline] {
            assert_eq!(spoken_by_all(&schema, &second(ServerState::Is(state), 9)), None);
        }
        assert_eq!(spoken_by_all(&schema, &second(there, 9)[..1]), None, "nobody has met it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_whose_format_cannot_be_written_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let (root, identity) = (dir.path().to_path_buf(), dir.path().join("identity"));
        std::fs::write(&identity, "{").unwrap();
        let raising = tokio::spawn(async move { raise_folder(&root, 9).await });
        // Of a clock that stands still: it goes on by itself to whatever is waited for next.
        tokio::time::sleep(2 * RETRY).await;
        assert!(!raising.is_finished());
        let good = r#"{"format":4,"node_id":"1","name":"n1"}"#;
        std::fs::write(&identity, good).unwrap();
        raising.await.unwrap();
        let text = std::fs::read_to_string(&identity).unwrap();
        let now: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(now["format"], 5);
    }
}
