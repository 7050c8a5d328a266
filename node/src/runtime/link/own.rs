//! What this server tells of itself: its state to every peer with each sign of life, state and
//! bulletin to all servers by way of the board. May not compose it, and may not know who hears it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_api::{Boot, NodeId};
use tokio::sync::Notify;

use super::board::{Board, Notice};
use crate::clock::micros;
use crate::http::backend::NodeState;
use crate::http::members::Bulletin;

/// All states, each at the place of its number.
const STATES: [NodeState; 5] = [
    NodeState::Starting,
    NodeState::Online,
    NodeState::ShuttingDown,
    NodeState::Aligning,
    NodeState::Offline,
];

/// What is told of this server, and what it was told of others.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Place in [`STATES`].
    state: AtomicU8,
    board: Mutex<Board>,
    changed: Notify,
}

impl Own {
    /// Of this server in this boot.
    pub(crate) fn new(node: NodeId, boot: Boot) -> Self {
        Self { board: Mutex::new(Board::of(node, boot)), ..Self::default() }
    }

    /// Where this server is in its life; STARTING at first.
    pub(crate) fn state(&self) -> NodeState {
        STATES[usize::from(self.state.load(Ordering::Acquire))]
    }

    /// The state changes, which is told at once; gives the one before.
    pub(crate) fn set_state(&self, state: NodeState) -> NodeState {
        let before = self.state.swap(state as u8, Ordering::AcqRel);
        self.board().publish(state, None);
        self.changed.notify_one();
        STATES[usize::from(before)]
    }

    /// There is more to tell, which goes with the next signs of life; after so long there will be
    /// again.
    pub(crate) fn publish(&self, bulletin: Bulletin, period: Duration) {
        let mut board = self.board();
        board.set_period(micros(period));
        board.publish(self.state(), Some(bulletin));
    }

    /// What was told last is told again, as something newer.
    pub(super) fn tell_again(&self) {
        self.board().publish(self.state(), None);
    }

    /// A neighbour passes on what servers told.
    pub(super) fn learn(&self, notices: Vec<Notice>, from: Option<NodeId>) {
        let mut board = self.board();
        let mut is_lost = false;
        for notice in notices {
            is_lost |= board.learn(notice, from);
        }
        drop(board);
        if is_lost {
            self.tell_again();
        }
    }

    /// What is known of all servers.
    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
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
