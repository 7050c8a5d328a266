//! What waits for durability and what travels: outboxes, syncs, and a network that loses, delays
//! and duplicates.

use std::collections::VecDeque;

use quorate_api::{Boot, NodeId};
use quorate_protocol::io::PersistSeq;
use quorate_protocol::message::Message;

use crate::world::{Happening, Out, World};

impl World {
    /// Sends and answers whatever its durability allows.
    pub(crate) fn flush_outbox(&mut self, index: usize) {
        let durable = self.servers[index].durable;
        let outbox = std::mem::take(&mut self.servers[index].outbox);
        let (ready, kept): (VecDeque<_>, VecDeque<_>) =
            outbox.into_iter().partition(|(after, _)| *after <= durable);
        self.servers[index].outbox = kept;
        for (_, out) in ready {
            match out {
                Out::Send(to, message) => self.send(index, to, message),
                Out::Reply(request, reply) => self.reply(request, &reply),
            }
        }
    }

    pub(crate) fn send(&mut self, from: usize, to: NodeId, message: Message) {
        let Some(to) = self.servers.iter().position(|s| s.id == to) else { return };
        let from_boot = self.servers[from].boot;
        if to == from {
            let to_boot = from_boot;
            let message = Box::new(message);
            self.at(self.now, Happening::Arrive { to, to_boot, from, from_boot, message });
            return;
        }
        let lossy = !self.healed;
        if self.is_cut(from, to) || (lossy && self.network.chance(self.options.loss)) {
            return;
        }
        let to_boot = self.servers[to].boot;
        let copies = 1 + u64::from(lossy && self.network.chance(self.options.duplication));
        for _ in 0..copies {
            let max = if lossy { self.options.delay_max } else { 200 };
            let at = self.now + self.network.between(50, max);
            let message = Box::new(message.clone());
            self.at(at, Happening::Arrive { to, to_boot, from, from_boot, message });
        }
    }

    pub(crate) fn begin_sync(&mut self, index: usize) {
        let server = &mut self.servers[index];
        let Some(seq) = server.disk.unsynced().filter(|_| !server.syncing) else { return };
        server.syncing = true;
        let boot = server.boot;
        let max = if self.healed { 200 } else { self.options.sync_max };
        let at = self.now + self.disks.between(50, max);
        self.at(at, Happening::Synced { server: index, boot, seq });
    }

    pub(crate) fn synced(&mut self, index: usize, boot: Boot, seq: PersistSeq) {
        let server = &mut self.servers[index];
        if server.boot != boot || server.machine.is_none() {
            return;
        }
        server.syncing = false;
        server.durable = seq;
        server.disk.synced(seq);
        if !server.paused {
            self.flush_outbox(index);
        }
        self.begin_sync(index);
    }
}
