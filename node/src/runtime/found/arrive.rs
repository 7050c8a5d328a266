//! The task that says when this server has all of a database that another one brought along. May
//! not decide anything: until then nobody is served of it here, by the schema.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_control::command::Command;
use quorate_protocol::io::SessionToken;

use crate::runtime::handle::NodeHandle;
use crate::runtime::shared::Shared;

/// How long decision logs may take, and the servers to agree, before it is tried again.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries: what a try waited for in vain is told to nobody when it comes.
const PAUSE: Duration = Duration::from_millis(200);

/// Follows the schema, for ever.
pub(in crate::runtime) async fn run(shared: Arc<Shared>) {
    let handle = NodeHandle::new(shared.clone());
    let mut changes = shared.changes.subscribe();
    loop {
        changes.mark_unchanged();
        let Some((database, cover)) = lacking(&shared) else {
            changes.changed().await.ok();
            continue;
        };
        let deadline = Instant::now() + PATIENCE;
        if handle.session(cover, Vec::new(), deadline).await.is_ok() {
            let arrived = Command::Arrived { database, at: shared.node };
            if handle.decide(arrived, Instant::now() + PATIENCE).await.is_ok() {
                continue;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A database that this server does not serve yet, and what it has to have applied before. Whoever
/// was removed since has left nothing that others do not have.
fn lacking(shared: &Shared) -> Option<(u32, SessionToken)> {
    let schema = shared.schema.load();
    let lacked = |database: &quorate_control::schema::Database| {
        database.lacked_by(shared.node).cloned().map(|cover| (database.id, cover))
    };
    let (database, mut cover) = schema.databases.iter().find_map(lacked)?;
    cover.retain(|(node, _), _| schema.server(*node).is_some());
    Some((database, cover))
}
