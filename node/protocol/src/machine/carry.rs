//! Closing boots of servers that have no link (`closing`): what a server's next boot asks of every
//! REPLICA goes down the tree and is answered upward, so that MASTERs need no links with REPLICAs
//! for it. It is little, and asked again until it is agreed to: it may be lost anywhere.
//!
//! What each server knows of who is below whom may be old, and two of them may believe it of each
//! other. So what came from above, or from another MASTER, goes only down from there: nothing is
//! handed to and fro.
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
            let me = self.config.node;
            self.carry(cx, me, me, to, what);
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

    /// Said by `from`, and handed over by `by`.
    pub(super) fn on_carry(
        &mut self,
        cx: &mut Cx<'_>,
        by: NodeId,
        from: NodeId,
        to: NodeId,
        what: Carried,
    ) {
        if to != self.config.node {
            self.carry(cx, by, from, to, what);
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
    fn carry(&self, cx: &mut Cx<'_>, by: NodeId, from: NodeId, to: NodeId, what: Carried) {
        let (parent, me) = (self.upstream.parent(), self.config.node);
        let goes_down = by != me && (self.topology.is_root(by) || parent == Some(by));
        let towards = if self.is_linked(to) { Some(to) } else { self.relays.child_towards(to) };
        let elsewhere = || self.relays.root_towards(to).or(parent);
        let towards = towards.or_else(|| elsewhere().filter(|_| !goes_down));
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

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::io::{Effect, Event, Recovered};
    use crate::machine::testing::{CLUSTER, NOTHING, PEER, configured_with};
    use crate::message::LogPosition;

    const REPLICA: NodeId = NodeId(4);

    /// One of three MASTERs, in its second boot, without a link to the REPLICA.
    fn machine() -> Machine {
        let mut machine = configured_with(3, Boot(2), Recovered::default());
        let mut placements = machine.placements.clone();
        placements.get_mut(&CLUSTER).unwrap().replicas.push(REPLICA);
        step(&mut machine, Event::Configure { cfg: 2, placements });
        for node in [PEER, NodeId(3)] {
            step(&mut machine, Event::Peer { node, boot: Boot(1), up: true });
        }
        tell(&mut machine, PEER, below(&[REPLICA]));
        machine
    }

    fn below(nodes: &[NodeId]) -> Relay {
        Relay::Below { members: nodes.iter().map(|n| (*n, LogPosition::default())).collect() }
    }

    /// What it has others carry.
    fn step(machine: &mut Machine, event: Event) -> Vec<(NodeId, Relay)> {
        let mut out = Vec::new();
        machine.step(machine.now, event, &NOTHING, &mut out);
        let carried = |effect| match effect {
            Effect::Send { to, message: Message::Relay(relay @ Relay::Carry { .. }), .. } => {
                Some((to, relay))
            }
            Effect::Send { .. }
            | Effect::Persist { .. }
            | Effect::Copy { .. }
            | Effect::Survey { .. }
            | Effect::Reply { .. }
            | Effect::Note(_)
            | Effect::Report { .. } => None,
        };
        out.into_iter().filter_map(carried).collect()
    }

    fn tell(machine: &mut Machine, from: NodeId, relay: Relay) -> Vec<(NodeId, Relay)> {
        step(machine, Event::Message { from, cfg: 2, message: Message::Relay(relay) })
    }

    fn asked(from: NodeId) -> Relay {
        Relay::Carry { from, to: REPLICA, what: Carried::Ended { stage: 1, boot: Boot(2) } }
    }

    fn housekeep(machine: &mut Machine) -> Vec<(NodeId, Relay)> {
        machine.now += machine.config.housekeeping;
        step(machine, Event::Tick)
    }

    /// Each of two MASTERs may believe that the REPLICA is below the other one.
    #[test]
    fn what_a_master_hands_over_goes_to_no_other_one() {
        let mut machine = machine();
        assert_eq!(housekeep(&mut machine), [(PEER, asked(NodeId(1)))]);
        for by in [PEER, NodeId(3)] {
            assert_eq!(tell(&mut machine, by, asked(NodeId(3))), [], "{by:?}");
        }
        let follow = Relay::Follow { whole: true, logs: vec![], members: vec![] };
        tell(&mut machine, REPLICA, follow);
        assert_eq!(tell(&mut machine, PEER, asked(NodeId(3))), [(REPLICA, asked(NodeId(3)))]);
    }

    #[test]
    fn who_is_not_named_any_more_is_not_looked_for_there() {
        let mut machine = machine();
        tell(&mut machine, PEER, below(&[NodeId(5)]));
        assert_eq!(housekeep(&mut machine), []);
        tell(&mut machine, NodeId(3), below(&[REPLICA]));
        tell(&mut machine, PEER, below(&[NodeId(5)]));
        assert_eq!(housekeep(&mut machine), [(NodeId(3), asked(NodeId(1)))]);
    }
}
