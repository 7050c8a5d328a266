//! What waits for durability and what travels: outboxes, syncs, and a network that loses, delays
//! and duplicates.

use quorate_api::{Boot, NodeId};
use quorate_control::plane;
use quorate_protocol::io::{Event, PersistSeq, Tick};

use crate::plant::ShellBug;
use crate::server::{Out, server_index};
use crate::world::{Arrival, Happening, Message, World};

/// Longest delay of anything once everything healed.
const HEALED_DELAY: Tick = 200;

/// Longest delay of a straggler: its copy may come long after everybody has forgotten it.
const STRAGGLER: Tick = 500_000;

impl World {
    /// Sends and answers whatever its durability allows.
    pub(crate) fn flush_outbox(&mut self, index: usize) {
        let early = self.plant.has(ShellBug::SendBeforeDurable);
        let control_early = self.plant.has(ShellBug::ControlBeforeDurable);
        let server = &mut self.servers[index];
        let durable = server.durable;
        let is_ready = |after: PersistSeq, out: &Out| match out {
            Out::Control(..) => control_early || after <= durable,
            Out::Send(..) | Out::Reply(..) | Out::Report(_) => early || after <= durable,
        };
        if server.outbox.iter().all(|(after, out)| !is_ready(*after, out)) {
            return;
        }
        let outbox = std::mem::take(&mut server.outbox);
        for (after, out) in outbox {
            match out {
                kept if !is_ready(after, &kept) => {
                    self.servers[index].outbox.push_back((after, kept))
                }
                Out::Send(to, message) => self.send(index, to, Message::Machine(message)),
                Out::Control(to, bytes) => self.send(index, to, Message::Control(bytes)),
                Out::Reply(request, reply) => self.reply(index, request, &reply),
                Out::Report(report) => self.step_plane(index, plane::Event::Report(report)),
            }
        }
    }

    fn send(&mut self, from: usize, to: NodeId, message: Message) {
        let to = server_index(to);
        if to >= self.servers.len() {
            return;
        }
        let (from_boot, cfg) = (self.servers[from].boot, self.servers[from].cfg);
        let to_boot = self.servers[to].boot;
        let lossy = !self.healed && to != from;
        let lost = to != from
            && (self.is_cut(from, to) || (lossy && self.network.chance(self.options.loss)));
        if lost {
            return;
        }
        let twice = lossy && self.network.chance(self.options.duplication);
        if twice {
            let message = message.clone();
            let at = self.arrival_time(from, to);
            let arrival = Arrival { to, to_boot, from, from_boot, cfg, message };
            self.at(at, Happening::Arrive(Box::new(arrival)));
        }
        let at = self.arrival_time(from, to);
        let arrival = Arrival { to, to_boot, from, from_boot, cfg, message };
        self.at(at, Happening::Arrive(Box::new(arrival)));
    }

    pub(crate) fn arrive(&mut self, arrival: Arrival) {
        let Arrival { to, to_boot, from, from_boot, cfg, message } = arrival;
        if self.servers[to].boot != to_boot || self.servers[to].machine.is_none() {
            return;
        }
        // The shell drops what a boot sent that the receiver does not talk to (any more).
        if to != from && self.servers[to].peers.get(&from).is_none_or(|(b, _)| *b != from_boot) {
            return;
        }
        let from = self.servers[from].id;
        match message {
            Message::Machine(message) => self.step(to, Event::Message { from, cfg, message }),
            Message::Control(bytes) => self.control_arrives(to, from, bytes),
        }
    }

    fn control_arrives(&mut self, to: usize, from: NodeId, bytes: Vec<u8>) {
        let id = self.servers[to].id;
        self.trace.mix(id.0 << 32 | bytes.len() as u64);
        self.trace.line(self.now, format_args!("{id} < {from} control {bytes:02x?}"));
        self.step_plane(to, plane::Event::Message { from, bytes });
    }

    fn arrival_time(&mut self, from: usize, to: usize) -> Tick {
        if to == from {
            return self.now + self.servers[to].slowness;
        }
        if let Some(stage) = &mut self.stage {
            return stage.network.arrival(self.now, from, to);
        }
        if self.healed {
            return self.now + self.network.between(50, HEALED_DELAY);
        }
        let straggles = self.network.chance(self.options.straggling);
        let max = if straggles { STRAGGLER } else { self.options.delay_max };
        let slowness = self.servers[from].slowness + self.servers[to].slowness;
        let distance = self.options.distance(from, to);
        self.now + distance + self.network.between(50, max) + slowness
    }

    pub(crate) fn begin_sync(&mut self, index: usize) {
        let server = &mut self.servers[index];
        let Some(seq) = server.disk.unsynced().filter(|_| !server.syncing) else { return };
        server.syncing = true;
        let (boot, slowness) = (server.boot, server.slowness);
        let max = if self.healed { HEALED_DELAY } else { self.options.sync_max };
        let takes = match &mut self.stage {
            Some(stage) => stage.network.sync(),
            None => self.disks.between(50, max),
        };
        let at = self.now + takes + slowness;
        self.at(at, Happening::Synced { server: index, boot, seq });
    }

    pub(crate) fn synced(&mut self, index: usize, boot: Boot, seq: PersistSeq) {
        let lies = self.plant.has(ShellBug::SyncLies);
        let server = &mut self.servers[index];
        if server.boot != boot || server.machine.is_none() || !server.syncing {
            return;
        }
        server.syncing = false;
        server.durable = seq;
        // A lying disk keeps the last batches for itself.
        server.disk.synced(if lies { seq.saturating_sub(2) } else { seq });
        if !server.paused {
            self.flush_outbox(index);
            self.turn_plane(index);
        }
        let behind = lies && self.servers[index].disk.unsynced() == Some(seq);
        if !behind {
            self.begin_sync(index);
        }
    }
}
