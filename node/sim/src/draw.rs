//! How a seed draws its clusters, what is forgotten, relayed and changed, and how long all of it
//! takes. Each is drawn from a stream of its own. May not know what becomes of it in a run.

use quorate_protocol::io::Tick;

use crate::options::{Options, Shape};
use crate::rng::Stream;
use crate::workload::Kind;

/// Shortest and longest safety phase.
const DURATION: (Tick, Tick) = (120_000, 3_000_000);

impl Options {
    /// Trees of REPLICAs, and relays that keep little.
    pub(crate) fn draw_relays(&mut self, rng: &mut Stream) {
        self.fan_out = rng.index(3) + 1;
        if rng.chance(400) {
            self.relay_kept = rng.index(20) + 1;
        }
        self.replicas_write = rng.chance(250);
        if !rng.chance(250) {
            return;
        }
        let before = self.servers;
        self.servers = before.max(rng.index(9) + before.min(3) + 4);
        for server in before..self.servers {
            let all = rng.chance(600);
            for shape in &mut self.clusters {
                if all || rng.chance(500) {
                    shape.replicas.push(server);
                }
            }
            if self.clusters.iter().all(|shape| !shape.is_held_by(server)) {
                self.clusters[0].replicas.push(server);
            }
        }
    }

    /// Detectors that notice late, and crashes and cuts one after the other.
    pub(crate) fn draw_rough(&mut self, rng: &mut Stream) {
        let slow = rng.between(200_000, 900_000);
        if rng.chance(250) {
            self.detect_max = slow;
        }
        let (crash, cut) = (rng.between(8_000, 40_000), rng.between(8_000, 60_000));
        if rng.chance(100) {
            (self.crash_every, self.cut_every) = (crash, cut);
        }
        let takeovers = 1 + rng.index(3);
        if rng.chance(200) {
            self.takeovers = takeovers;
        }
    }

    /// MASTERs and write quorums that change while clients write.
    pub(crate) fn draw_changes(&mut self, rng: &mut Stream) {
        let every = rng.between(20_000, 300_000);
        if rng.chance(300) {
            self.change_every = every;
        }
    }

    /// Elections that take as long as few operations, or as many; some need several, when ticks are
    /// short and messages slow.
    pub(crate) fn draw_plane(&mut self, rng: &mut Stream) {
        self.plane_tick = *rng.pick(&[5_000, 10_000, 10_000, 20_000]);
        self.plane_entries = *rng.pick(&[4, 16, 512]);
        let (sync, entry) = (rng.between(5_000, 40_000), rng.between(2_000, 20_000));
        let crash = rng.between(50_000, 300_000);
        if rng.chance(100) {
            // Crashes meet what the control plane has not synced; few clusters go, for many come.
            (self.sync_max, self.entry_every, self.crash_every) = (sync, entry, crash);
            (self.blackouts, self.drops) = (400, 5);
            self.duration = self.duration.max(1_000_000);
        }
    }

    pub(crate) fn draw_forgetting(&mut self, rng: &mut Stream) {
        let often = rng.between(5_000, 150_000);
        if rng.chance(800) {
            self.housekeeping = often;
        }
        let most = if rng.chance(600) { 6 } else { 60 };
        let entries = 1 + rng.below(most);
        if rng.chance(550) {
            self.log_entries = entries;
        }
        let age = rng.between(20_000, 300_000);
        if rng.chance(200) {
            self.log_age = age;
        }
        let journal = 3 + rng.index(20);
        if rng.chance(200) {
            self.journal = journal;
        }
        let more = rng.below(40);
        self.purge = rng.chance(250);
        if self.purge && self.workload == Kind::Registers {
            self.keys = self.keys.max(20) + more;
        }
    }

    /// As long as the clients take for about this many operations; fewer where each costs more.
    pub(crate) fn set_duration(&mut self, operations: u64) {
        let wide = self.clusters.iter().map(|shape| shape.masters.len() as u64).max().unwrap_or(1);
        let operations = operations * 4 / (3 + wide);
        let each = self.think_max / 2 + 2 * self.delay_max + self.sync_max;
        self.duration = (operations * each / self.clients).clamp(DURATION.0, DURATION.1);
    }
}

pub(crate) fn draw_clusters(rng: &mut Stream, masters: usize, extra: usize) -> Vec<Shape> {
    let count = if masters == 1 { 1 } else { *rng.pick(&[1, 1, 1, 2, 2, 3, 4]) };
    let mut clusters: Vec<Shape> = Vec::new();
    for number in 0..count {
        let whole = rng.chance(500);
        let size = if whole { masters } else { rng.index(masters) + 1 };
        let mut left: Vec<usize> = (0..masters).collect();
        let mut chosen = Vec::from_iter((0..size).map(|_| left.swap_remove(rng.index(left.len()))));
        chosen.sort_unstable();
        let majority = size / 2 + 1;
        let more = if rng.chance(300) { rng.index(size - majority + 1) } else { 0 };
        let mut shape = Shape::new(number, chosen, majority + more);
        // A MASTER of one cluster may be a REPLICA of another.
        let may_keep: Vec<usize> = left.into_iter().chain(masters..masters + extra).collect();
        shape.replicas = may_keep.into_iter().filter(|_| rng.chance(400)).collect();
        shape.replicas.sort_unstable();
        clusters.push(shape);
    }
    // Every server keeps something: one that is in no cluster is no part of the database.
    let is_idle = |server: &usize| clusters.iter().all(|shape| !shape.is_held_by(*server));
    let idle: Vec<usize> = (0..masters + extra).filter(is_idle).collect();
    clusters[0].replicas.extend(idle);
    clusters[0].replicas.sort_unstable();
    clusters
}
