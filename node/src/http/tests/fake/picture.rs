//! How the fake server sees the others. May not change anything.

use quorate_control::servers::Role;

use super::Fake;
use super::NOW_MS;
use crate::http::backend::Backend;
use crate::http::members::{Server, ServerState, Servers};

impl Fake {
    /// All three, or five once it has grown.
    pub(super) fn picture(&self) -> Servers {
        let status = self.status();
        let state = self.state();
        let list = status.masters.iter().map(|(name, master)| Server {
            name: name.clone(),
            node: master.node,
            state: match (master.node, master.up) {
                (None, _) => ServerState::Offline,
                (Some(_), false) => ServerState::NotAvailable,
                (Some(_), true) => ServerState::Is(status.state),
            },
            role: Role::Master,
            is_heard: state.heard.contains(name),
            bulletin: state.bulletins.get(name).cloned(),
            received: state.received.get(name).cloned().unwrap_or_default(),
        });
        Servers {
            uniting: Vec::new(),
            offline: state.schema.offline(),
            own: status.name.clone(),
            is_distributed: !state.alone,
            now_ms: NOW_MS,
            found: Vec::new(),
            list: list.filter(|server| !state.alone || server.name == status.name).collect(),
        }
    }
}
