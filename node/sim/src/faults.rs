//! Faults of the world: cuts, crashes, pauses, slowness, clocks, and the heal that ends them all.

use std::collections::BTreeSet;

use quorate_protocol::io::{Event, Tick};

use crate::plant::ShellBug;
use crate::server::Input;
use crate::world::{Happening, World};

/// From the heal on, how long until nothing may be in doubt (issue text: 2 s).
const DOUBT_MAX: Tick = 2_000_000;

/// The same where servers may be about to join: they align first, one cluster after the other.
const JOINED_MAX: Tick = 6_000_000;

/// Longest time that a change may take on average where changes are waited for.
const PATIENCE: Tick = 200_000;

impl World {
    fn victim(&mut self) -> usize {
        self.faults.index(self.servers.len())
    }

    pub(crate) fn again_after(&mut self, every: Tick, what: Happening) {
        let next = self.now + self.faults.between(1, 2 * every.max(1));
        self.at(next, what);
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.values().any(|links| links.contains(&(from, to)))
    }

    /// Cuts links: one server off in one direction or both, two halves, or a single link; overlaps
    /// are wanted.
    pub(crate) fn cut(&mut self) {
        if self.healed {
            return;
        }
        let count = self.servers.len();
        let kind = self.faults.below(6);
        let mut side: BTreeSet<usize> = BTreeSet::from([self.victim()]);
        if kind == 4 {
            side.extend((0..count).filter(|_| self.faults.chance(400)));
        }
        if !self.options.centers.is_empty() && self.faults.chance(500) {
            let at = self.faults.index(self.options.centers.len());
            side = self.options.centers[at].servers.iter().copied().collect();
        }
        let other = self.victim();
        let mut links = Vec::new();
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                let (out, back) = (side.contains(&from), side.contains(&to));
                let cut = match kind {
                    0 => out && !back,
                    1 => back && !out,
                    5 => out && to == other,
                    _ => out != back,
                };
                if cut {
                    links.push((from, to));
                }
            }
        }
        let number = self.next_cut;
        self.next_cut += 1;
        self.trace.line(self.now, format_args!("cut {number} {links:?}"));
        self.cuts.insert(number, links);
        let heal = self.now + self.faults.between(10_000, 600_000);
        self.at(heal, Happening::HealCut(number));
        self.again_after(self.options.cut_every, Happening::Cut);
    }

    pub(crate) fn heal_cut(&mut self, number: usize) {
        self.cuts.remove(&number);
        self.trace.line(self.now, format_args!("heal cut {number}"));
    }

    /// Power fails, at one server or everywhere.
    pub(crate) fn crash(&mut self) {
        if self.healed {
            return;
        }
        let index = self.victim();
        let everywhere = self.options.blackouts > 0 && self.faults.chance(self.options.blackouts);
        for victim in 0..self.servers.len() {
            if everywhere || victim == index {
                self.power_off(victim);
            }
        }
        self.again_after(self.options.crash_every, Happening::Crash);
    }

    /// The disk keeps a prefix of what was not synced, and maybe a torn batch behind it.
    pub(crate) fn power_off(&mut self, index: usize) {
        if self.servers[index].machine.is_none() {
            return;
        }
        let is_lost = self.disk_is_lost(index);
        let flips = self.options.bit_flip
            && self.can_spare(index)
            && self.servers.iter().all(|server| !server.dead && !server.disk.is_damaged());
        let server = &mut self.servers[index];
        let at_risk = server.disk.at_risk();
        let kept = self.disks.index(at_risk + 1);
        self.clients.counts_mut().batches_lost += (at_risk - kept) as u64;
        let torn_counts = self.plant.has(ShellBug::TornBatchCounts);
        let of_torn = self.disks.index(4);
        server.disk.crash(kept, if torn_counts { of_torn } else { 0 });
        server.power_off();
        if flips {
            server.disk.flip_bit();
        }
        if is_lost && self.plant.has(ShellBug::WipedComesBack) {
            server.disk.forget_data();
        } else {
            // What it held stays to be looked at: others were told of that.
            server.dead |= is_lost;
        }
        self.clients.counts_mut().disks_lost += u64::from(is_lost);
        let server = &self.servers[index];
        let id = server.id;
        let flipped = if flips { ", a bit flipped" } else { "" };
        let lost = if is_lost { ", the disk lost" } else { "" };
        self.trace.line(self.now, format_args!("crash {id}, {kept}/{at_risk} kept{flipped}{lost}"));
        self.connections_break(index);
        let longest = if self.sleeps_long() { 2_000_000 } else { 400_000 };
        let back = self.now + self.faults.between(2_000, longest);
        self.at(back, Happening::Restart(index));
    }

    /// A server is lost, with its disk.
    pub(crate) fn lose(&mut self, index: usize) {
        self.power_off(index);
        self.servers[index].dead = true;
        self.clients.counts_mut().disks_lost += 1;
        let id = self.servers[index].id;
        self.trace.line(self.now, format_args!("{id} is lost for good"));
        // What a REPLICA has is not waited for.
        let voting = self.options.voting().into_iter().map(|at| &self.servers[at]);
        let left = voting.filter(|server| !server.dead);
        let left: Vec<_> = left.map(|server| server.disk.durable()).collect();
        self.invariants.given_up(&left);
    }

    /// A server that was removed ends.
    pub(crate) fn end(&mut self, index: usize) {
        let server = &mut self.servers[index];
        server.power_off();
        server.dead = true;
        let id = server.id;
        self.trace.line(self.now, format_args!("{id} was removed, and ends"));
        self.connections_break(index);
    }

    /// Whoever waits for an answer of this server gets none.
    fn connections_break(&mut self, index: usize) {
        self.control.abandon(index);
        self.abandon_orders(index);
        self.hang_up(index);
        for client in self.clients.abandon(index) {
            self.at(self.now + 1_000, Happening::Client { client });
        }
    }

    /// True when this crash takes the disk along, which the others can bear.
    fn disk_is_lost(&mut self, index: usize) -> bool {
        let wipes = self.options.membership.as_ref().map_or(0, |membership| membership.wipes);
        wipes > 0 && !self.healed && self.faults.chance(wipes) && self.can_spare(index)
    }

    fn sleeps_long(&mut self) -> bool {
        let sleeps = self.options.membership.as_ref().map_or(0, |membership| membership.sleeps);
        sleeps > 0 && self.faults.chance(sleeps)
    }

    /// A server has taken a piece of a copy: its last one for now, or its source's.
    pub(crate) fn copied(&mut self, index: usize) {
        let cut = self.options.membership.as_ref().map_or(0, |membership| membership.cut_copies);
        if cut > 0 && !self.healed && self.faults.chance(cut) {
            let source = self.victim();
            let victim = if self.faults.chance(500) { index } else { source };
            let at = self.now + self.faults.between(1, 3_000);
            self.at(at, Happening::CutCopy(victim));
        }
    }

    /// A server stops running and wakes up late, with everything that arrived meanwhile before it.
    pub(crate) fn pause(&mut self) {
        if self.healed {
            return;
        }
        let index = self.victim();
        if self.servers[index].is_awake() {
            self.servers[index].paused = true;
            let id = self.servers[index].id;
            self.trace.line(self.now, format_args!("pause {id}"));
            let back = self.now + self.faults.between(2_000, 600_000);
            self.at(back, Happening::Resume(index));
        }
        self.again_after(self.options.pause_every, Happening::Pause);
    }

    pub(crate) fn resume(&mut self, index: usize) {
        if !self.servers[index].paused {
            return;
        }
        self.servers[index].paused = false;
        let id = self.servers[index].id;
        self.trace.line(self.now, format_args!("resume {id}"));
        for input in std::mem::take(&mut self.servers[index].backlog) {
            match input {
                Input::Machine(event) => self.step(index, event),
                Input::Control(event) => self.step_plane(index, event),
            }
        }
        self.step(index, Event::Tick);
        self.begin_plane(index);
        self.turn_plane(index);
        self.arm(index);
    }

    /// Everything takes longer at one server for a while.
    pub(crate) fn slow_down(&mut self) {
        if self.healed {
            return;
        }
        let index = self.victim();
        self.servers[index].slowness = self.faults.between(1_000, 50_000);
        let until = self.now + self.faults.between(10_000, 600_000);
        self.at(until, Happening::Hurry(index));
        self.again_after(self.options.slow_every, Happening::Slow);
    }

    /// A server's clocks jump: the monotonic one forward, the wall clock either way.
    pub(crate) fn jump_clock(&mut self) {
        if self.healed {
            return;
        }
        let index = self.victim();
        let forward = self.faults.between(0, 1_000_000);
        let wall = i64::try_from(self.faults.below(20_000_000)).unwrap_or(0) - 10_000_000;
        let server = &mut self.servers[index];
        server.clock.jump(self.now, forward, wall);
        let id = server.id;
        self.trace.line(self.now, format_args!("clocks of {id} jump by {forward} and {wall}"));
        // What was due on the old clock may be due now.
        server.wake = Tick::MAX;
        self.arm(index);
        self.again_after(self.options.jump_every, Happening::Jump);
    }

    /// The safety phase is over, if enough has changed in it.
    pub(crate) fn end_of_faults(&mut self) {
        let patience = self.options.changes * PATIENCE;
        if self.clients.counts().changes() < self.options.changes && self.now < patience {
            self.at(self.now + PATIENCE, Happening::HealAll);
        } else {
            self.heal_all();
        }
    }

    /// Everything heals. Clients stay away until nothing is in doubt any more.
    fn heal_all(&mut self) {
        self.trace.line(self.now, format_args!("heal all"));
        self.healed = true;
        self.cuts.clear();
        for index in 0..self.servers.len() {
            self.servers[index].slowness = 0;
            self.resume(index);
            self.start(index);
        }
        let joining = self.options.membership.is_some();
        let doubt = if joining { JOINED_MAX } else { DOUBT_MAX };
        self.at(self.now + doubt, Happening::Serve);
    }
}
