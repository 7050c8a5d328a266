//! Clients' turns: what they ask of which server, and what they are told. What they want is planned
//! in `clients.rs`.

use quorate_protocol::io::Reply;

use crate::clients::{Answer, Turn};
use crate::world::{Happening, World};

impl World {
    pub(crate) fn client_turn(&mut self, client: u64) {
        if self.healed && (!self.serving || self.clients.is_retired(client)) {
            return;
        }
        let target = self.clients.target(client);
        let target = self.there_or_next(target);
        let server = &self.servers[target];
        if server.machine.is_none() || server.plane.is_none() {
            self.clients.refused();
            self.at(self.now + 5_000, Happening::Client { client });
            return;
        }
        let fresh = self.fresh_record(target);
        let server = &self.servers[target];
        let turn = Turn {
            client,
            fresh,
            server: target,
            now: self.now,
            clock: server.clock.now(self.now),
            wall: server.clock.wall(self.now),
            local: &server.disk.visible().items,
        };
        let event = self.clients.begin(&turn, &self.options);
        self.trace.line(self.now, format_args!("client {client} at {target}: {event:?}"));
        self.step(target, event);
    }

    pub(crate) fn reply(&mut self, index: usize, request: u64, reply: &Reply) {
        self.trace.line(self.now, format_args!("reply {request} {reply:?}"));
        if let Reply::Committed { tx, .. } = &reply {
            let disks: Vec<_> = self.servers.iter().map(|s| s.disk.durable()).collect();
            self.invariants.acknowledged(*tx, &disks, &self.options);
        }
        if self.stage.is_some() {
            self.answered(index, request, reply);
            return;
        }
        let (now, serving) = (self.now, self.serving);
        let (by, holds) = (self.servers[index].id, self.servers[index].disk.visible());
        let answer = Answer {
            request,
            now,
            serving,
            whole: self.servers.iter().all(|server| !server.dead),
            reply,
            by,
            local: &holds.items,
            aligning: holds.aligning,
            server: index,
            options: &self.options,
        };
        if let Some(client) = self.clients.end(&answer) {
            let next = self.now + self.clients.think(self.options.think_max);
            self.at(next, Happening::Client { client });
        }
    }
}
