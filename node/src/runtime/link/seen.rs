//! What is seen of a peer: signs of life as they travel, and what follows from links and silence.
//! Data and small rules; the locks are `peer`'s.

use quorate_api::Boot;
use quorate_protocol::io::Tick;
use serde::{Deserialize, Serialize};

use super::board::Notice;
use super::frame::{self, FrameError, Kind};
use crate::http::backend::NodeState;
use crate::http::members::{Addendum, Latency, ServerState};
use crate::runtime::storage::Binding;

/// After a link was closed, how long it may take to come back before the peer counts as down: a
/// crash shows earlier than by silence, a reset that repairs itself does not show.
pub(super) const RELINK: Tick = 100_000;

/// Sign of life on a link. Ticks are the sender's own and mean nothing to the receiver, which hands
/// them back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    /// The sender's clock.
    pub(crate) sent: Tick,
    /// The newest `sent` that the sender had from the receiver.
    pub(crate) echo: Tick,
    /// How long the sender had it before it sent this: no part of the way there and back.
    pub(crate) held: Tick,
    /// The sender needs the link itself.
    pub(crate) needs: bool,
    /// Where the sender is in its life.
    pub(crate) state: NodeState,
    /// The sender wants to be told what is new of all servers.
    pub(crate) asks: bool,
    /// What servers told that is new to the receiver.
    pub(crate) news: Vec<Notice>,
}

impl Heartbeat {
    /// Since this version, what bulletins add stands behind the sign of life, one for each notice.
    const WITH_ADDENDA: u16 = 9;

    /// Appends the frame that a link of this version carries.
    pub(super) fn append(&self, buffer: &mut Vec<u8>, version: u16) -> Result<(), FrameError> {
        if version < Self::WITH_ADDENDA {
            return frame::append(buffer, Kind::Heartbeat, self);
        }
        let addenda = self.news.iter().map(|notice| &notice.bulletin.addendum);
        frame::append(buffer, Kind::Heartbeat, &(self, addenda.collect::<Vec<_>>()))
    }

    /// Reads the body of such a frame.
    pub(super) fn decode(body: &[u8], version: u16) -> Result<Self, FrameError> {
        if version < Self::WITH_ADDENDA {
            return frame::decode(body);
        }
        let (mut heartbeat, addenda): (Self, Vec<Addendum>) = frame::decode(body)?;
        if addenda.len() != heartbeat.news.len() {
            return Err(FrameError::Body);
        }
        for (notice, addendum) in heartbeat.news.iter_mut().zip(addenda) {
            notice.bulletin.addendum = addendum;
        }
        Ok(heartbeat)
    }
}

/// One direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Dialed by this server.
    Out,
    /// Dialed by the peer.
    In,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) binding: Option<Binding>,
    pub(super) binding_stored: bool,
    /// Since when each direction is linked.
    pub(super) out: Option<Tick>,
    pub(super) inward: Option<Tick>,
    /// When the last link was lost, while one is missing.
    pub(super) lost: Option<Tick>,
    /// Newest own tick that came back.
    pub(super) echo: Tick,
    /// Newest tick of the peer, to be handed back, and when it came.
    pub(super) heard: Tick,
    pub(super) heard_at: Tick,
    pub(super) last_heartbeat: Tick,
    pub(super) told_up: bool,
    /// Where the peer says it is.
    pub(super) said: Option<NodeState>,
    pub(super) latency: Latency,
    /// It wants to be told what is new of all servers.
    pub(super) asks: bool,
    /// Version of the board that it was told last, on this link.
    pub(super) told: u64,
    /// Since when it cannot be reached.
    pub(super) down: Option<Tick>,
    /// It is no peer any more: nothing is said of it.
    pub(super) retired: bool,
    /// How it was last seen from here.
    pub(super) seen: ServerState,
}

impl State {
    /// How the peer is seen from here. What it says itself counts while it can be reached.
    pub(super) fn look(&self) -> ServerState {
        match (self.binding, self.said) {
            (None, _) | (Some(_), Some(NodeState::Offline)) => ServerState::Offline,
            (Some(_), said) if self.told_up => ServerState::Is(said.unwrap_or(NodeState::Starting)),
            (Some(_), _) => ServerState::NotAvailable,
        }
    }

    pub(super) fn linked_since(&self) -> Option<Tick> {
        Some(self.out?.max(self.inward?))
    }

    pub(super) fn is_up(&self, now: Tick, suspect_after: Tick) -> bool {
        // Who has said goodbye is not waited for, whatever becomes of its links.
        if self.said == Some(NodeState::Offline) {
            return false;
        }
        let fresh = now.saturating_sub(self.echo) < suspect_after && self.echo > 0;
        match self.linked_since() {
            // An echo from before the links says nothing about them.
            Some(since) => fresh && self.echo >= since,
            None => {
                let back_in_time = self.lost.is_some_and(|lost| now.saturating_sub(lost) < RELINK);
                self.told_up && fresh && back_in_time
            }
        }
    }
}

/// Which connections may go on; those of lower boots, and replaced ones, end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Current {
    /// The peer's boot.
    pub(crate) boot: Boot,
    /// Number of the newest connection that it dialed.
    pub(crate) inward: u64,
    /// It is no peer any more.
    pub(crate) retired: bool,
}
