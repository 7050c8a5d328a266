//! Faults of the world: cuts, crashes, pauses, and the heal that ends them all.

use std::collections::BTreeSet;

use quorate_protocol::io::{Event, Tick};

use crate::world::{Happening, World};

impl World {
    fn victim(&mut self) -> usize {
        usize::try_from(self.faults.below(self.servers.len() as u64)).unwrap_or(0)
    }

    fn again_after(&mut self, every: Tick, what: Happening) {
        let next = self.now + self.faults.between(1, 2 * every.max(1));
        self.at(next, what);
    }

    /// Cuts one server off: from the others, to the others, or both ways; overlaps are wanted.
    pub(crate) fn cut(&mut self) {
        if self.healed {
            return;
        }
        let victim = self.victim();
        let kind = self.faults.below(4);
        let mut links = BTreeSet::new();
        for other in (0..self.servers.len()).filter(|other| *other != victim) {
            if kind != 0 {
                links.insert((victim, other));
            }
            if kind != 1 {
                links.insert((other, victim));
            }
        }
        let number = self.next_cut;
        self.next_cut += 1;
        self.trace.line(self.now, format_args!("cut {number} {links:?}"));
        self.cuts.insert(number, links);
        let heal = self.now + self.faults.between(20_000, 1_500_000);
        self.at(heal, Happening::HealCut(number));
        self.again_after(self.options.cut_every, Happening::Cut);
    }

    pub(crate) fn heal_cut(&mut self, number: usize) {
        self.cuts.remove(&number);
        self.trace.line(self.now, format_args!("heal cut {number}"));
    }

    /// Power fails: the disk keeps a prefix of what was not synced.
    pub(crate) fn crash(&mut self) {
        if self.healed {
            return;
        }
        let index = self.victim();
        if self.servers[index].machine.is_some() {
            let server = &mut self.servers[index];
            let at_risk = server.disk.at_risk() as u64;
            let kept = self.disks.below(at_risk + 1);
            self.clients.batches_lost += at_risk - kept;
            server.disk.crash(usize::try_from(kept).unwrap_or(0));
            server.machine = None;
            server.outbox.clear();
            server.backlog.clear();
            server.paused = false;
            server.wake = Tick::MAX;
            let id = server.id;
            self.trace.line(self.now, format_args!("crash {id}, {kept} of {at_risk} kept"));
            for client in self.clients.abandon(index) {
                self.at(self.now + 1_000, Happening::Client { client });
            }
            let back = self.now + self.faults.between(5_000, 800_000);
            self.at(back, Happening::Restart(index));
        }
        self.again_after(self.options.crash_every, Happening::Crash);
    }

    /// A server stops running and wakes up late, with everything that arrived meanwhile before it.
    pub(crate) fn pause(&mut self) {
        if self.healed {
            return;
        }
        let index = self.victim();
        if self.servers[index].machine.is_some() && !self.servers[index].paused {
            self.servers[index].paused = true;
            let back = self.now + self.faults.between(5_000, 1_000_000);
            self.at(back, Happening::Resume(index));
        }
        self.again_after(self.options.pause_every, Happening::Pause);
    }

    pub(crate) fn resume(&mut self, index: usize) {
        if !self.servers[index].paused {
            return;
        }
        self.servers[index].paused = false;
        for event in std::mem::take(&mut self.servers[index].backlog) {
            self.step(index, event);
        }
        self.step(index, Event::Tick);
    }

    pub(crate) fn heal_all(&mut self) {
        self.trace.line(self.now, format_args!("heal all"));
        self.healed = true;
        self.cuts.clear();
        for index in 0..self.servers.len() {
            self.resume(index);
            if self.servers[index].machine.is_none() {
                self.start(index);
            }
        }
    }
}
