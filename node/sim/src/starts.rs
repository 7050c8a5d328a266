//! How a server starts, and finds out who is there. Its control plane begins in `control`.

use quorate_api::Boot;
use quorate_control::plane;
use quorate_protocol::io::{Config, Event, Recovered, Tick};
use quorate_protocol::machine::Machine;

use crate::plant::ShellBug;
use crate::world::{Happening, World};

/// Longest time until a failure detector looks again once everything healed.
const HEALED_DETECT: Tick = 100_000;

impl World {
    /// Starts a server from what its disk holds, in a new boot; one with a damaged disk refuses.
    pub(crate) fn start(&mut self, index: usize) {
        let server = &mut self.servers[index];
        if server.machine.is_some() || server.dead {
            return;
        }
        let id = server.id;
        let founders = self.options.membership.as_ref().map_or(usize::MAX, |m| m.founders);
        let joins = index >= founders && server.disk.beside().recovered().snapshot.is_none();
        if joins && !self.plant.has(ShellBug::JoinsWithoutAligning) {
            server.disk.begin_aligning();
        }
        let recovered = match server.disk.recover() {
            Ok(recovered) => recovered,
            Err(_) if self.plant.has(ShellBug::DamageForgotten) => {
                server.disk.forget_data();
                Recovered::default()
            }
            Err(damaged) => {
                server.dead = true;
                self.trace.line(self.now, format_args!("{id} refuses to start: {damaged:?}"));
                return;
            }
        };
        if !self.plant.has(ShellBug::SameBoot) || server.boot == Boot(0) {
            server.boot = Boot(server.boot.0 + 1);
        }
        let boot = server.boot;
        let mut config = Config::new(id, boot, id.0 ^ u64::from(boot.0) << 32);
        if self.stage.is_none() {
            self.options.tune(&mut config);
        }
        (self.plant.machine)(&mut config);
        self.invariants.restarted((id, boot), index, server.disk.durable(), &self.options);
        server.machine = Some(Machine::new(config, recovered));
        server.durable = 0;
        self.trace.line(self.now, format_args!("start {id} boot {}", boot.0));
        // What it had applied is on its disk, and may be read a moment after its links are up.
        let late = !self.healed && self.stage.is_none() && self.starts.chance(300);
        let wait = if late { self.starts.between(1, 20_000) } else { 0 };
        self.at(self.now + wait, Happening::Met { server: index, boot });
        self.at(self.now + 500, Happening::Detect { server: index, boot });
    }

    /// Whom a server looks at: everybody, or whom it is linked with where a plan is executed.
    fn looked_at(&mut self, index: usize) -> Vec<usize> {
        let Some(stage) = &mut self.stage else {
            return (0..self.servers.len()).filter(|peer| *peer != index).collect();
        };
        let needs = self.servers[index].machine.as_ref().map(Machine::needs);
        stage.linked.needs(index, needs.unwrap_or_default());
        stage.linked.of_server(index)
    }

    /// Reachability is decided by looking at the truth now and then, so it is often out of date.
    pub(crate) fn detect(&mut self, index: usize, boot: Boot) {
        if self.servers[index].boot != boot || self.servers[index].machine.is_none() {
            return;
        }
        let hears_removed = self.plant.has(ShellBug::RemovedIsHeard);
        for peer in self.looked_at(index) {
            let other = &self.servers[peer];
            let linked = !self.is_cut(index, peer) && !self.is_cut(peer, index);
            if linked && !hears_removed && self.is_turned_away(index, peer) {
                self.end(index);
                return;
            }
            let wanted = hears_removed || self.may_link(index, peer);
            let up = other.is_awake() && linked && wanted;
            let (node, current) = (other.id, other.boot);
            let before = self.servers[index].peers.get(&peer).copied();
            if !wanted {
                // What is still on its way is not listened to.
                self.servers[index].peers.remove(&peer);
            }
            let boot = match before {
                None if !up => continue,
                Some((_, false)) if !up => continue,
                Some((known, true)) if !up => known,
                Some((known, true)) if known == current => continue,
                _ => current,
            };
            if wanted {
                self.servers[index].peers.insert(peer, (boot, up));
            }
            self.step(index, Event::Peer { node, boot, up });
            self.step_plane(index, plane::Event::Peer { node, up });
        }
        let max = if self.healed { HEALED_DETECT } else { self.options.detect_max };
        let again = self.now + self.network.between(10_000, max);
        self.at(again, Happening::Detect { server: index, boot });
    }
}
