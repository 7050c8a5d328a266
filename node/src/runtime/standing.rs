//! The task of a server that is started as a witness: it asks to be one as soon as it is ONLINE,
//! and again after each start until it is. May not decide anything, nor ask for another server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_control::command::Command;
use quorate_control::servers::{Member, Role};

use super::handle::{NodeHandle, NodeState};
use super::shared::Shared;
use crate::http::backend::DecideError;

/// Between two questions, and longest wait for an answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Returns once this server is a witness, at once if it is not to be one.
pub(super) async fn run(shared: Arc<Shared>, is_wanted: bool) {
    if !is_wanted {
        return;
    }
    let handle = NodeHandle::new(shared.clone());
    let mut told = String::new();
    loop {
        let schema = shared.schema.load_full();
        let own = schema.server(shared.node);
        if own.is_some_and(|own| own.role == Role::Witness) {
            return;
        }
        if shared.state() == NodeState::Online
            && let Some(command) = own.and_then(asks)
            && let Err(DecideError::Refused(why)) =
                handle.decide(command, Instant::now() + PAUSE).await
            && told != why.text
        {
            tracing::warn!(reason = why.text, "this server is not made a witness yet");
            told = why.text;
        }
        // Most of what stands against it is no change of what is agreed on.
        tokio::time::sleep(PAUSE).await;
    }
}

/// One that is on its way out asks for nothing.
fn asks(own: &Member) -> Option<Command> {
    let server = own.name.clone();
    (!own.leaving).then_some(Command::SetRole { server, role: Role::Witness })
}
