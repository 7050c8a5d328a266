//! Closing boots of servers that have no link (`closing`): what a server's next boot asks of every
//! REPLICA goes down the tree and is answered upward, so that MASTERs need no links with REPLICAs
//! for it. It is little, and asked again until it is agreed to: it may be lost anywhere.
//!
//! Whoever is asked may not have met the boot that asks. From then on it takes nothing any more
//! that the shell still believes to come from a current boot of that server, and is not: what it
//! agrees to stays true.

use quorate_api::{Boot, NodeId};

use super::{Cx, Machine};
use crate::feeding::{Carried, Relay};
use crate::marks::Mark;
use crate::message::Message;

impl Machine {
    /// Directly where there is a link, else by relays.
    pub(super) fn send_closing(&mut self, cx: &mut Cx<'_>, to: NodeId, what: Carried) {
        if to != self.config.node && !self.is_linked(to) {
            self.carry(cx, self.config.node, to, what);
            return;
        }
        let message = match what {
            Carried::Ended { stage, boot } => Message::Ended { stage, boot },
            Carried::EndedReply { stage, boot, agreed } => {
                Message::EndedReply { stage, boot, agreed }
            }
        };
        cx.send_durable(to, message);
    }

    pub(super) fn on_carry(&mut self, cx: &mut Cx<'_>, from: NodeId, to: NodeId, what: Carried) {
        if to != self.config.node {
            self.carry(cx, from, to, what);
            return;
        }
        match what {
            Carried::Ended { stage, boot } => {
                Mark::EndedCarried.hit();
                self.meet_boot(from, boot);
                self.on_ended(cx, from, stage, boot);
            }
            Carried::EndedReply { stage, boot, agreed } if boot == self.config.boot => {
                self.on_ended_reply(cx, from, stage, agreed);
            }
            Carried::EndedReply { .. } => {}
        }
    }

    /// Towards a server that is linked, below a child or below another MASTER; upward otherwise.
    fn carry(&self, cx: &mut Cx<'_>, from: NodeId, to: NodeId, what: Carried) {
        let towards = if self.is_linked(to) {
            Some(to)
        } else {
            self.relays.towards(to).or_else(|| self.upstream.parent())
        };
        if let Some(next) = towards {
            cx.send_durable(next, Message::Relay(Relay::Carry { from, to, what }));
        }
    }

    /// A server is in this boot, whatever the shell knows of it.
    fn meet_boot(&mut self, node: NodeId, boot: Boot) {
        if self.current_boot(node).is_none_or(|known| known < boot) {
            self.closing.met.insert(node, boot);
            self.drop_held_of_closed_boots(node, boot);
        }
    }

    /// What comes from a server was sent by an earlier boot of it.
    pub(super) fn is_of_ended_boot(&self, from: NodeId) -> bool {
        let met = self.closing.met.get(&from);
        met.is_some_and(|met| self.peers.get(&from).is_none_or(|peer| peer.boot < *met))
    }
}
