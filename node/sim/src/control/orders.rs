//! The server's own commands, asked for at drawn servers, and what becomes of the answers; blocks
//! of positions among them. May not decide what is asked for (`members`), nor what it comes to.

use quorate_api::{ClusterKey, ItemId, NodeId};
use quorate_control::command::Command as Order;
use quorate_control::plane::{Answer, Event};
use quorate_protocol::io::Tick;

use super::Command;
use crate::plant::ShellBug;
use crate::world::{Happening, World};

/// Most positions that are left out before one that is used, so that blocks come to their ends.
const HOLES: u64 = 2_500;

/// For how long a command may still come that a server was asked for which has crashed since:
/// longer than any message is on its way.
const LATE: Tick = 1_500_000;

/// Something that was asked for and may yet come.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) order: Order,
    at: usize,
    /// Until when, once nobody is left who would be told.
    until: Option<Tick>,
}

impl World {
    /// Somebody asks this server for something, if it runs.
    pub(super) fn order(&mut self, index: usize, order: Order) {
        let server = &self.servers[index];
        if server.paused || server.plane.is_none() {
            return;
        }
        let (id, request) = (server.id, self.control.next_request());
        self.trace.line(self.now, format_args!("{id} is asked for {request}: {order:?}"));
        self.control.waiting.insert(request, index);
        self.invariants.asked(&order);
        let pending = Pending { order: order.clone(), at: index, until: None };
        self.control.orders.pending.insert(request, pending);
        self.step_plane(index, Event::Propose { request, command: Command::Server(order) });
    }

    /// Who was asked has crashed: what was asked for may come for a while.
    pub(crate) fn abandon_orders(&mut self, index: usize) {
        let until = Some(self.now + LATE);
        for pending in self.control.orders.pending.values_mut() {
            if pending.at == index && pending.until.is_none() {
                pending.until = until;
            }
        }
    }

    /// Forgets what cannot come any more.
    pub(super) fn forget_late_orders(&mut self) {
        let now = self.now;
        let pending = &mut self.control.orders.pending;
        pending.retain(|_, pending| pending.until.is_none_or(|until| now < until));
    }

    /// A server's plane answers a request.
    pub(super) fn order_answered(&mut self, index: usize, request: u64, answer: &Answer) {
        self.take_positions(index);
        let Some(pending) = self.control.orders.pending.get(&request) else { return };
        if matches!(answer, Answer::Applied(_) | Answer::NotProposed) {
            let order = pending.order.clone();
            self.control.orders.pending.remove(&request);
            match (&order, answer) {
                (Order::Enlist { node, .. }, Answer::Applied(Ok(()))) => {
                    self.taken_in(index, *node)
                }
                (Order::Enlist { node, .. }, Answer::Applied(Err(_))) => self.refused(index, *node),
                (Order::Grant { cluster, .. }, _) => self.servers[index].blocks.answered(*cluster),
                _ => {}
            }
            if let Answer::Applied(Ok(())) = answer {
                self.invariants.carried_out(&order);
            }
        }
    }

    /// Whoever is taken in is told who is there.
    fn taken_in(&mut self, by: usize, node: NodeId) {
        let Some(plane) = &self.servers[by].plane else { return };
        let Some(agreement) = plane.state().agreement.agreement() else { return };
        let listed = agreement.schema.servers.iter().map(|member| member.node).collect();
        let joined = self.servers.iter_mut().find(|server| server.id == node);
        if let Some(server) = joined.filter(|server| !server.place.is_member) {
            server.place.listed = listed;
        }
    }

    /// Somebody else has the name; or it was taken in, without hearing of that, and removed.
    fn refused(&mut self, by: usize, node: NodeId) {
        let Some(index) = self.servers.iter().position(|server| server.id == node) else { return };
        let agreement = self.servers[by].plane.as_ref().map(|plane| &plane.state().agreement);
        let schema = agreement.and_then(|agreed| agreed.agreement()).map(|a| &a.schema);
        if schema.is_some_and(|schema| schema.gone.iter().any(|gone| gone.node == node)) {
            self.end(index);
        } else {
            self.servers[index].name = node.to_string();
        }
    }

    /// Blocks granted to this boot: before who asked is told that there is one.
    fn take_positions(&mut self, index: usize) {
        let continues = self.plant.has(ShellBug::BlockContinued);
        let server = &mut self.servers[index];
        let Some(plane) = &server.plane else { return };
        let Some(agreement) = plane.state().agreement.agreement() else { return };
        for (cluster, block) in agreement.granted_to(server.id, server.boot) {
            server.blocks.granted(cluster, block);
        }
        if continues {
            let boots = (1..server.boot.0).map(quorate_api::Boot);
            for (cluster, block) in boots.flat_map(|boot| agreement.granted_to(server.id, boot)) {
                server.blocks.granted(cluster, block);
            }
        }
    }

    /// A record that a client of this server may create, in a cluster that it owns; it asks for the
    /// next block when it is time.
    pub(crate) fn fresh_record(&mut self, index: usize) -> Option<ItemId> {
        if self.servers[index].place.owned.is_empty() {
            return None;
        }
        self.take_positions(index);
        let cluster: ClusterKey = *self.blocks.pick(&self.servers[index].place.owned);
        // Some follow on one another: whoever begins a block again uses the same ones.
        let holes = if self.blocks.chance(500) { 0 } else { self.blocks.below(HOLES) };
        let server = &mut self.servers[index];
        let (to, boot) = (server.id, server.boot);
        let taken = server.blocks.take(cluster, holes);
        if server.blocks.begins_to_ask(cluster) {
            self.order(index, Order::Grant { cluster, to, boot });
        }
        let record = ItemId::record(cluster, taken?);
        self.clients.counts_mut().positions += 1;
        self.invariants.position_taken(index, &record);
        Some(record)
    }

    /// A server that is not in the cluster asks somebody who is to be taken in, until it is.
    pub(crate) fn enlist(&mut self, index: usize) {
        let server = &self.servers[index];
        if server.dead || server.place.is_member {
            return;
        }
        let reached = |at: &usize| {
            let seed = &self.servers[*at];
            let linked = !self.is_cut(index, *at) && !self.is_cut(*at, index);
            linked && seed.is_awake() && seed.plane.is_some() && seed.place.is_member
        };
        let seeds: Vec<usize> = (0..self.servers.len()).filter(reached).collect();
        let is_in = server.place.listed.contains(&server.id);
        if server.is_awake() && server.plane.is_some() && !is_in && !seeds.is_empty() {
            let (name, node) = (server.name.clone(), server.id);
            let seed = *self.changes.pick(&seeds);
            let address = format!("{name}:0");
            self.order(seed, Order::Enlist { name, node, address });
        }
        let again = self.now + self.changes.between(20_000, 200_000);
        self.at(again, Happening::Enlist(index));
    }
}
