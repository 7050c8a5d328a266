//! Being fed: a REPLICA follows one server at a time and takes every decision log from it; a log
//! that its relay cannot serve it takes from that log's origin. Why any source will do is argued in
//! `relay`. A MASTER follows nobody: every origin streams to it.
//!
//! **Parents.** The best candidate of `topology` that is believed reachable, does not align, and is
//! fed itself. A better one than the present is tried first, and the present one left when that has
//! said that it feeds this server: entries may come twice meanwhile, which does no harm. A
//! candidate that nobody feeds says so (no `hops`), and is left alone for a moment. Who loses its
//! parent and finds no other one within a resend interval says it to its children, and they look
//! elsewhere. So whoever can reach a server that is fed is fed in the end, and everybody returns to
//! the place that the topology gives it. A circle, which different configurations could make,
//! counts up its hops until it breaks.
//!
//! **Directly.** `direct` names the logs that the parent lacks, each up to a position: an
//! acknowledgement to the origin asks for it, as among MASTERs, and one that says `fed` ends it. An
//! origin serves whoever asks, whatever it believes of the tree; the one that is fed decides. If
//! the log does not reach back either, the origin says so, and this server aligns.
//!
//! What comes from a relay is taken when it is whole by this server's own configuration: a relay
//! may have an older one, or have been given less.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{NodeId, TxId};

use super::{Cx, Machine};
use crate::feeding::{Entry, Fed, Relay, Told};
use crate::io::Tick;
use crate::marks::Mark;
use crate::message::{Decided, LogPosition, Message};
use crate::planted::Bug;

/// Servers in a row beyond which they are taken for a circle.
const HOPS_MAX: u8 = 128;

/// Resend intervals for which a candidate that is not fed is left alone.
const REFUSED: Tick = 2;

/// Who feeds this server.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    pub(super) parent: Option<NodeId>,
    /// Servers between this one and a MASTER, plus one.
    hops: u8,
    /// A better one, that has not answered yet.
    pub(super) trying: Option<NodeId>,
    /// Candidates that nobody feeds, until when they are left alone.
    refused: BTreeMap<NodeId, Tick>,
    /// Logs that are taken from their origin, until they are applied up to here.
    pub(super) direct: BTreeMap<NodeId, LogPosition>,
    /// A base was missing for as long as it takes to ask for it again.
    pub(super) lacks_base: bool,
    /// Logs that the parent is owed an acknowledgement for, at the next `Tick`.
    due: BTreeSet<NodeId>,
}

impl Upstream {
    pub(super) const fn parent(&self) -> Option<NodeId> {
        self.parent
    }
}

impl Machine {
    /// Servers between this one and a MASTER, plus one; `None` while nobody feeds it.
    pub(super) fn hops(&self) -> Option<u8> {
        if self.topology.is_root(self.config.node) {
            return Some(0);
        }
        self.upstream.parent.map(|_| self.upstream.hops)
    }

    /// It lost its parent a moment ago, and the next one has not answered yet.
    pub(super) const fn is_between_parents(&self) -> bool {
        self.upstream.parent.is_none() && self.upstream.trying.is_some()
    }

    /// Its log comes to this server without a relay.
    pub(super) fn takes_directly(&self, origin: NodeId) -> bool {
        self.topology.is_root(self.config.node) || self.upstream.direct.contains_key(&origin)
    }

    pub(super) fn owes_nothing(&self) -> bool {
        self.acks_due.is_empty() && (self.upstream.due.is_empty() || self.upstream.parent.is_none())
    }

    /// A log got further here.
    pub(super) fn owe_acknowledgement(&mut self, origin: NodeId) {
        let applied = self.applied_from(origin);
        if self.upstream.direct.get(&origin).is_some_and(|upto| applied >= *upto) {
            Mark::FedAgain.hit();
            self.upstream.direct.remove(&origin);
            self.acks_due.insert(origin);
        }
        if self.takes_directly(origin) {
            self.acks_due.insert(origin);
        } else {
            self.upstream.due.insert(origin);
        }
    }

    /// One acknowledgement a batch of events, for all logs.
    pub(super) fn acknowledge_to_parent(&mut self, cx: &mut Cx<'_>) {
        let due = core::mem::take(&mut self.upstream.due);
        let Some(parent) = self.upstream.parent.filter(|_| !due.is_empty()) else { return };
        let logs = due.into_iter().map(|origin| self.fed(origin)).collect();
        let follow = Relay::Follow { whole: false, logs, members: Vec::new() };
        cx.send_durable(parent, Message::Relay(follow));
    }

    fn fed(&self, origin: NodeId) -> Fed {
        let (applied, finished) = (self.applied_from(origin), self.finished_of(origin));
        Fed { origin, applied, finished }
    }

    fn tell_how_far(&self, cx: &mut Cx<'_>, parent: NodeId) {
        let me = self.config.node;
        let origins = self.incoming.keys().filter(|origin| **origin != me);
        let logs = origins.map(|origin| self.fed(*origin)).collect();
        let mut members = self.relays.members();
        if self.config.has(Bug::AckForThoseBelow) {
            let own: Vec<_> =
                self.applied_positions().into_iter().filter(|(origin, _)| *origin != me).collect();
            for member in &mut members {
                member.applied.clone_from(&own);
            }
        }
        let follow = Relay::Follow { whole: true, logs, members };
        cx.send_durable(parent, Message::Relay(follow));
    }

    /// Says how far this server and all below it are.
    pub(super) fn follow_wholly(&mut self, cx: &mut Cx<'_>) {
        if let Some(parent) = self.upstream.parent {
            self.tell_how_far(cx, parent);
        }
    }

    /// Believed reachable, aligning or not.
    pub(super) fn is_linked(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.up)
    }

    /// Who may know what this server misses: MASTERs, and who feeds it.
    pub(super) fn knowing(&self) -> BTreeSet<NodeId> {
        let nodes = self.topology.roots().iter().copied().chain(self.upstream.parent());
        nodes.filter(|node| *node != self.config.node).collect()
    }

    /// Looks for the best server to be fed by.
    pub(super) fn seek_parent(&mut self, cx: &mut Cx<'_>) {
        if !self.configured || self.align.is_some() {
            return;
        }
        let (me, now) = (self.config.node, self.now);
        self.upstream.refused.retain(|_, until| now < *until);
        let usable = |node: &NodeId| self.is_up(*node) && !self.upstream.refused.contains_key(node);
        let best = self.topology.candidates(me).find(usable);
        if let Some(parent) = self.upstream.parent
            && (!usable(&parent) || self.topology.candidates(me).all(|node| node != parent))
        {
            Mark::ParentLost.hit();
            self.upstream.parent = None;
            cx.send_now(parent, Message::Relay(Relay::Unfollow));
        }
        let trying = best.filter(|_| best != self.upstream.parent);
        if trying == self.upstream.trying {
            return;
        }
        let before = core::mem::replace(&mut self.upstream.trying, trying);
        if let Some(before) = before.filter(|_| before != self.upstream.parent) {
            cx.send_now(before, Message::Relay(Relay::Unfollow));
        }
        if let Some(trying) = trying {
            self.tell_how_far(cx, trying);
        }
    }

    /// The parent may be one that just left; or a child.
    pub(super) fn feeding_ends(&mut self, node: NodeId) {
        self.relays.remove(node);
        let upstream = &mut self.upstream;
        upstream.parent = upstream.parent.filter(|parent| *parent != node);
        upstream.trying = upstream.trying.filter(|trying| *trying != node);
    }

    /// This server leaves ONLINE: it says so to everybody.
    pub(super) fn stop_feeding(&mut self) {
        self.relays.clear();
        self.upstream = Upstream::default();
    }

    /// Another configuration: another tree, perhaps.
    pub(super) fn reconsider_feeding(&mut self, cx: &mut Cx<'_>, was_root: bool) {
        if was_root != self.topology.is_root(self.config.node) {
            Mark::RoleChanged.hit();
            self.upstream.direct.clear();
            // Origins stream from now on, or need not any more.
            let linked = self.peers.iter().filter(|(_, peer)| peer.up).map(|(node, _)| *node);
            self.acks_due.extend(linked);
        }
        self.seek_parent(cx);
        if !self.is_relay() {
            self.relays.retire();
        }
    }

    /// What was not answered is asked again.
    pub(super) fn feeding_due(&mut self, cx: &mut Cx<'_>) {
        self.rewind_stalled_feeds(cx);
        if self.align.is_some() || self.topology.is_root(self.config.node) {
            return;
        }
        let direct = self.upstream.direct.keys().copied();
        let direct: Vec<NodeId> = direct.filter(|origin| self.is_linked(*origin)).collect();
        self.acks_due.extend(direct);
        let before = self.upstream.trying;
        self.seek_parent(cx);
        if let Some(trying) = self.upstream.trying.filter(|_| before == self.upstream.trying) {
            self.tell_how_far(cx, trying);
        }
        if self.upstream.parent.is_none() {
            self.tell_children(cx);
        }
    }

    pub(super) fn on_feeding(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        hops: Option<u8>,
        told: Vec<(NodeId, Told)>,
        lacks: Vec<(NodeId, LogPosition)>,
    ) {
        let (is_parent, is_tried) =
            (self.upstream.parent == Some(from), self.upstream.trying == Some(from));
        if !is_parent && !is_tried {
            cx.send_now(from, Message::Relay(Relay::Unfollow));
            return;
        }
        let Some(hops) = hops.filter(|hops| *hops < HOPS_MAX) else {
            Mark::CandidateUnfed.hit();
            let until = self.now + REFUSED * self.config.resend;
            self.upstream.refused.insert(from, until);
            self.feeding_ends(from);
            self.seek_parent(cx);
            return;
        };
        if is_tried {
            self.upstream.trying = None;
            if let Some(before) = self.upstream.parent.replace(from) {
                Mark::ParentChanged.hit();
                cx.send_now(before, Message::Relay(Relay::Unfollow));
            }
        }
        let before = core::mem::replace(&mut self.upstream.hops, hops + 1);
        if before != hops + 1 {
            self.tell_children(cx);
        }
        for (origin, upto) in lacks {
            self.take_directly(origin, upto);
        }
        for (origin, told) in told {
            self.take_told(cx, origin, told);
        }
    }

    /// The parent cannot serve a log before this server has it up to there.
    fn take_directly(&mut self, origin: NodeId, upto: LogPosition) {
        let is_needed = self.applied_from(origin) < upto && origin != self.config.node;
        if is_needed && !self.topology.is_root(self.config.node) {
            Mark::TakenDirectly.hit();
            let direct = self.upstream.direct.entry(origin).or_default();
            *direct = upto.max(*direct);
            self.acks_due.insert(origin);
        }
    }

    /// What is finished is finished here, too, if all of it has come.
    fn take_told(&mut self, cx: &mut Cx<'_>, origin: NodeId, told: Told) {
        if self.applied_from(origin) < told.at {
            Mark::ToldEarly.hit();
            return;
        }
        let Told { finished, .. } = told;
        let end = TxId { node: origin, boot: finished.boot, seq: finished.low };
        self.finish_below(cx, end);
        self.raise_everywhere(origin, finished.boot, finished.everywhere);
        self.relays.note_told(origin, told);
    }

    /// An entry from a relay.
    pub(super) fn on_fed(&mut self, cx: &mut Cx<'_>, from: NodeId, origin: NodeId, entry: Entry) {
        if self.upstream.parent != Some(from) && self.upstream.trying != Some(from) {
            cx.send_now(from, Message::Relay(Relay::Unfollow));
            return;
        }
        if origin == self.config.node {
            return;
        }
        self.upstream.due.insert(origin);
        if entry.at <= self.received_from(origin) {
            return;
        }
        let is_whole =
            entry.outcome == Decided::Abort || self.is_whole(&entry.participants, &entry.ops);
        if !is_whole {
            Mark::PartFed.hit();
            self.take_directly(origin, entry.at);
            return;
        }
        self.take_entry(cx, origin, entry);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use quorate_api::{Boot, ClusterKey};

    use super::*;
    use crate::feeding::Finished;
    use crate::io::{Config, Event, Placement, Recovered};
    use crate::machine::testing::{CLUSTER, NOTHING, placement, sent};
    use crate::message::Participant;

    const MASTER: NodeId = NodeId(1);
    const PARENT: NodeId = NodeId(2);
    const CHILD: NodeId = NodeId(4);
    const FIRST: LogPosition = LogPosition { boot: Boot(1), index: 1 };

    fn placements(replicas: &[u64]) -> BTreeMap<ClusterKey, Placement> {
        let replicas = replicas.iter().copied().map(NodeId).collect();
        let placement = Placement { replicas, ..placement(vec![MASTER], 1) };
        [(CLUSTER, placement)].into()
    }

    /// Below the MASTER is one REPLICA, below that this one.
    fn fed() -> Machine {
        fed_among(&[2, 3])
    }

    fn fed_among(replicas: &[u64]) -> Machine {
        let mut config = Config::new(NodeId(3), Boot(1), 0);
        config.relay.fan_out = 1;
        let mut machine = Machine::new(config, Recovered::default());
        let placements = placements(replicas);
        step(&mut machine, Event::Configure { cfg: 1, placements });
        let sent = step(&mut machine, Event::Peer { node: PARENT, boot: Boot(1), up: true });
        assert!(sent.iter().any(|(to, m)| *to == PARENT && m.name() == "follow"), "{sent:?}");
        tell(&mut machine, PARENT, feeding(Some(1)));
        assert_eq!(machine.upstream.parent(), Some(PARENT));
        machine
    }

    fn feeding(hops: Option<u8>) -> Relay {
        Relay::Feeding { hops, told: Vec::new(), lacks: Vec::new() }
    }

    fn step(machine: &mut Machine, event: Event) -> Vec<(NodeId, Message)> {
        let mut out = Vec::new();
        machine.step(machine.now, event, &NOTHING, &mut out);
        sent(out)
    }

    fn tell(machine: &mut Machine, from: NodeId, relay: Relay) -> Vec<(NodeId, Message)> {
        step(machine, Event::Message { from, cfg: 1, message: Message::Relay(relay) })
    }

    fn abort(index: u64, prev: u64) -> Relay {
        let at = |index| LogPosition { boot: Boot(1), index };
        let entry = Entry {
            at: at(index),
            prev: if prev == 0 { LogPosition::default() } else { at(prev) },
            tx: TxId { node: MASTER, boot: Boot(1), seq: index },
            outcome: Decided::Abort,
            cfg: 1,
            participants: Vec::new(),
            ops: Vec::new(),
            relayed: Vec::new(),
        };
        Relay::Entry { origin: MASTER, entry }
    }

    #[test]
    fn what_is_finished_waits_for_the_log_that_it_is_about() {
        let mut machine = fed();
        let at = LogPosition { boot: Boot(1), index: 2 };
        let finished = Finished { boot: Boot(1), low: 3, everywhere: 3 };
        let told = vec![(MASTER, Told { finished, at })];
        let mark = Relay::Feeding { hops: Some(1), told, lacks: Vec::new() };
        let tx = TxId { node: MASTER, boot: Boot(1), seq: 2 };
        for (entry, is_finished) in [(abort(1, 0), false), (abort(2, 1), true)] {
            tell(&mut machine, PARENT, entry);
            tell(&mut machine, PARENT, mark.clone());
            assert_eq!(machine.is_finished(tx), is_finished);
            assert_eq!(machine.everybody_applied(tx), is_finished);
        }
    }

    #[test]
    fn what_overtakes_waits_and_is_acknowledged_in_order() {
        let mut machine = fed();
        tell(&mut machine, PARENT, abort(2, 1));
        assert_eq!(machine.received_from(MASTER), LogPosition::default());
        tell(&mut machine, PARENT, abort(1, 0));
        assert_eq!(machine.received_from(MASTER).index, 2);
        let sent = step(&mut machine, Event::Tick);
        let acks: Vec<_> = sent.iter().filter(|(_, m)| m.name() == "follow").collect();
        assert_eq!(acks.len(), 1, "one for both: {sent:?}");
    }

    /// A cluster that is unknown here was dropped, or is not known yet: somebody below keeps it.
    #[test]
    fn who_keeps_a_younger_cluster_is_for_its_origin_to_say() {
        for (cfg, is_passed_on) in [(1, true), (2, false)] {
            let mut machine = fed_among(&[2, 3, 4]);
            let fed = Fed { origin: MASTER, ..Fed::default() };
            let follow = Relay::Follow { whole: true, logs: vec![fed], members: vec![] };
            tell(&mut machine, CHILD, follow);
            let Relay::Entry { origin, entry } = abort(1, 0) else { unreachable!() };
            let cluster = ClusterKey { cluster: CLUSTER.cluster + 1, ..CLUSTER };
            let participants = vec![Participant { cluster, generation: 1 }];
            let entry = Entry { outcome: Decided::Commit, cfg, participants, ..entry };
            let sent = tell(&mut machine, PARENT, Relay::Entry { origin, entry });
            let is_entry = |(to, m): &(NodeId, Message)| *to == CHILD && m.name() == "relay_entry";
            assert_eq!(sent.iter().any(is_entry), is_passed_on, "{sent:?}");
            let lacks =
                Relay::Feeding { hops: Some(2), told: vec![], lacks: vec![(MASTER, FIRST)] };
            assert_eq!(sent.contains(&(CHILD, Message::Relay(lacks))), !is_passed_on, "{sent:?}");
        }
    }

    /// Its next parent may answer at once; after a resend interval it lets them go.
    #[test]
    fn children_are_kept_for_a_moment_between_two_parents() {
        let mut machine = fed_among(&[2, 3, 4]);
        let follow = || Relay::Follow { whole: true, logs: vec![], members: vec![] };
        tell(&mut machine, CHILD, follow());
        step(&mut machine, Event::Peer { node: MASTER, boot: Boot(1), up: true });
        let sent = step(&mut machine, Event::Peer { node: PARENT, boot: Boot(1), up: false });
        assert!(sent.iter().any(|(to, m)| *to == MASTER && m.name() == "follow"), "{sent:?}");
        assert_eq!(tell(&mut machine, CHILD, follow()), []);
        let sent = tell(&mut machine, MASTER, feeding(Some(0)));
        assert!(sent.contains(&(CHILD, Message::Relay(feeding(Some(1))))), "{sent:?}");
        step(&mut machine, Event::Peer { node: MASTER, boot: Boot(1), up: false });
        assert_eq!(tell(&mut machine, CHILD, follow()), [(CHILD, Message::Relay(feeding(None)))]);
    }

    /// What it said when it left may be lost.
    #[test]
    fn who_aligns_says_so_to_whom_it_does_not_feed() {
        let mut machine = fed_among(&[2, 3, 4]);
        let (from, message) = (MASTER, Message::Truncated { start: FIRST });
        step(&mut machine, Event::Message { from, cfg: 1, message });
        let follow = |whole| Relay::Follow { whole, logs: vec![], members: vec![] };
        assert_eq!(tell(&mut machine, CHILD, follow(true)), [(CHILD, Message::Left)]);
        assert_eq!(tell(&mut machine, CHILD, follow(false)), []);
    }

    /// As it may be while two servers have different configurations.
    #[test]
    fn a_circle_counts_up_until_it_breaks() {
        let mut machine = fed();
        tell(&mut machine, PARENT, feeding(Some(HOPS_MAX - 1)));
        assert_eq!(machine.hops(), Some(HOPS_MAX));
        tell(&mut machine, PARENT, feeding(Some(HOPS_MAX)));
        assert_eq!(machine.hops(), None);
    }

    #[test]
    fn who_is_no_replica_any_more_is_fed_by_nobody() {
        let mut machine = fed();
        let mut placements = placements(&[2]);
        placements.get_mut(&CLUSTER).unwrap().masters.push(NodeId(3));
        let sent = step(&mut machine, Event::Configure { cfg: 2, placements });
        assert!(sent.contains(&(PARENT, Message::Relay(Relay::Unfollow))), "{sent:?}");
        assert_eq!(machine.hops(), Some(0));
        let sent = step(&mut machine, Event::Tick);
        let asks = |(to, m): &(NodeId, Message)| {
            *to == PARENT && matches!(m, Message::DecideAck { fed: false, .. })
        };
        assert!(sent.iter().any(asks), "{sent:?}");
    }
}
