//! How messages reach a server that this one has no link to: through a third one that votes. May
//! not know what is in them, but for who sent them and who is to have them.
//!
//! Without that, a server whose only bad link is the one to the leader would be told nothing of
//! what is agreed on, and could have nothing agreed on, although a majority hears it. Nothing of
//! the log's safety rests on the way that a message takes: each may be lost, late, doubled and
//! overtaken by others as it is, and what one promises was durable before it was sent. Who passes
//! messages on does that once: one that was passed on already is for its receiver alone.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use prost::Message as _;
use quorate_api::NodeId;
use raft::SnapshotStatus;
use raft::eraftpb;

use super::wire::Wire;
use super::{Effect, HEARTBEAT, Plane, StateMachine};

/// Ticks without a message after which a server is not heard any more: two signs of life.
const HEARD: usize = 2 * HEARTBEAT;

/// Whom this server reaches.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) up: BTreeSet<NodeId>,
    /// Messages that went through others so far: each through the next one, since this server
    /// cannot know whom they reach.
    detours: usize,
    /// Ticks since a server sent a message of the log, whichever way that took.
    silent: BTreeMap<NodeId, usize>,
}

impl<A: StateMachine> Plane<A> {
    /// A server can be reached, or cannot any more.
    pub(super) fn link(&mut self, node: NodeId, up: bool, out: &mut Vec<Effect>) {
        if up {
            self.links.up.insert(node);
            self.catch_sight(node, out);
            return;
        }
        self.links.up.remove(&node);
        self.raft.report_unreachable(node.0);
        // Whatever it was sent may be lost; of others nothing is believed by this.
        self.raft.report_snapshot(node.0, SnapshotStatus::Failure);
        self.lose(node);
        self.lose_sight(node, out);
    }

    /// A tick later.
    pub(super) fn tick_links(&mut self) {
        self.links.silent.retain(|_, ticks| {
            *ticks += 1;
            *ticks <= HEARD
        });
    }

    /// True when a server that takes part in the log was heard lately, be it through others: it is
    /// there, whether it can be reached or not.
    #[must_use]
    pub fn hears(&self, node: NodeId) -> bool {
        self.links.silent.contains_key(&node)
    }

    /// A message of the log for this server, or one to be passed on.
    pub(super) fn receive_log(&mut self, from: NodeId, bytes: Vec<u8>, out: &mut Vec<Effect>) {
        let Ok(message) = eraftpb::Message::decode(&bytes[..]) else { return };
        let (to, here) = (NodeId(message.to), self.config.node);
        if to == here && message.from != here.0 {
            // Refused are those of strangers and those that are no messages; both like lost ones.
            let sender = NodeId(message.from);
            self.links.silent.insert(sender, 0);
            self.raft.step(message).ok();
            self.hear(sender);
        } else if message.from == from.0 && self.links.up.contains(&to) {
            out.push(Wire::Log(bytes).to(to, 0));
        }
    }

    pub(super) fn send(&mut self, message: &eraftpb::Message, after: u64, out: &mut Vec<Effect>) {
        let to = self.way_to(NodeId(message.to));
        out.push(Wire::Log(message.encode_to_vec()).to(to, after));
    }

    /// The server itself, or whoever passes on what it is sent; itself, too, where nobody can.
    fn way_to(&mut self, to: NodeId) -> NodeId {
        if self.links.up.contains(&to) {
            return to;
        }
        let voters = self.raft.raft.prs().conf().voters();
        let third: Vec<NodeId> =
            self.links.up.iter().filter(|node| voters.contains(node.0)).copied().collect();
        if third.is_empty() {
            return to;
        }
        self.links.detours = self.links.detours.wrapping_add(1);
        third[self.links.detours % third.len()]
    }
}
