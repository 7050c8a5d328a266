//! What this server tells every peer of itself: its state with each sign of life, its bulletin when
//! there is a new one. May not compose it, and may not know who hears it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::http::backend::NodeState;
use crate::http::members::Bulletin;

/// All states, each at the place of its number.
const STATES: [NodeState; 4] =
    [NodeState::Starting, NodeState::Online, NodeState::ShuttingDown, NodeState::Aligning];

/// A bulletin and its number, from 1; 0 is none.
pub(crate) type Numbered = (u64, Bulletin);

/// What is told of this server.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Place in [`STATES`].
    state: AtomicU8,
    bulletin: ArcSwap<Numbered>,
    changed: Notify,
}

impl Own {
    /// Where this server is in its life; STARTING at first.
    pub(crate) fn state(&self) -> NodeState {
        STATES[usize::from(self.state.load(Ordering::Acquire))]
    }

    /// The state changes, which is told at once; gives the one before.
    pub(crate) fn set_state(&self, state: NodeState) -> NodeState {
        let before = self.state.swap(state as u8, Ordering::AcqRel);
        self.changed.notify_one();
        STATES[usize::from(before)]
    }

    /// There is more to tell, which goes with the next signs of life. Called by one task alone.
    pub(crate) fn publish(&self, bulletin: Bulletin) {
        let number = self.bulletin.load().0 + 1;
        self.bulletin.store(Arc::new((number, bulletin)));
    }

    /// The newest bulletin.
    pub(super) fn bulletin(&self) -> Arc<Numbered> {
        self.bulletin.load_full()
    }

    /// Returns when the state has changed since the last call.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_comes_back() {
        let own = Own::default();
        let mut before = NodeState::Starting;
        for state in STATES {
            assert_eq!(own.set_state(state), before);
            assert_eq!(own.state(), state);
            before = state;
        }
    }
}
