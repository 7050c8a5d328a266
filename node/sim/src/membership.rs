//! What a seed decides about the second kind of swarm, in which servers agree by the server's own
//! commands on who is in the cluster, on classes, owners and positions. May not know how they do.

use quorate_api::ClusterKey;
use quorate_protocol::io::Tick;

use crate::options::{Options, Shape};
use crate::rng::Stream;
use crate::workload::Kind;

/// The cluster of every database that nobody owns.
const TOKENS: ClusterKey = ClusterKey { database: 1, cluster: 0 };

/// Servers that come and go. Times in microseconds of virtual time, chances per mille.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The first servers found the cluster, as MASTERs; each of the others may join it once.
    pub founders: usize,
    /// Mean time between comings, goings and new roles.
    pub every: Tick,
    /// Mean time between classes, databases and owners that come, go and move; 0 for none.
    pub orders_every: Tick,
    /// Chance that a crash takes the disk along.
    pub wipes: u64,
    /// Chance that a server that crashed sleeps through several configurations.
    pub sleeps: u64,
    /// No database enlists anybody: MASTERs that are lost leave by themselves.
    pub dynamic: bool,
    /// Chance that a piece of a copy is the last that its receiver, or another server, sees.
    pub cut_copies: u64,
}

impl Options {
    /// The options of a seed in which servers join and leave under load, get other roles, lose
    /// their disks and come back as others, sleep through configurations; and in which classes
    /// and databases are created at several servers at once.
    #[must_use]
    pub fn with_membership(mut self, seed: u64) -> Self {
        let rng = &mut Stream::new(seed, "membership");
        let founders = *rng.pick(&[1, 2, 3, 3, 3, 3, 4, 5]);
        let spares = 1 + rng.index(5);
        let (every, orders_every) = (rng.between(30_000, 300_000), rng.between(30_000, 300_000));
        let mut some = |chance: u64, of: u64| if rng.chance(chance) { of } else { 0 };
        self.membership = Some(Membership {
            founders,
            every,
            orders_every: some(800, orders_every),
            wipes: some(500, 400),
            sleeps: some(500, 300),
            cut_copies: some(500, 150),
            // Seeds without it keep the traces they had.
            dynamic: Stream::new(seed, "dynamic").chance(300),
        });
        self.servers = founders + spares;
        let masters: Vec<usize> = (0..founders).collect();
        let later: Vec<usize> = (founders..self.servers).collect();
        let count = u32::try_from(founders).unwrap_or(u32::MAX);
        let shape = |number| {
            let (replicas, left, gone) = (later.clone(), later.clone(), later.clone());
            let shape = Shape::new(number, masters.clone(), founders / 2 + 1);
            Shape { replicas, left, gone, ..shape }
        };
        self.clusters = (0..count).map(shape).collect();
        self.clusters.push(Shape { cluster: TOKENS, ..shape(count) });
        self.keyed = self.clusters.len();
        let workload = if rng.chance(500) { Kind::Records } else { *rng.pick(&Kind::ALL) };
        let keys = workload.draw_keys(rng);
        let (clients, think_max) = (1 + rng.below(5), rng.between(5_000, 30_000));
        let duration = rng.between(800_000, 2_500_000);
        let (entry_every, change_every, replicas_write) = (0, 0, true);
        let crash_every = if rng.chance(700) { rng.between(60_000, 500_000) } else { 0 };
        Self {
            workload,
            keys,
            clients,
            think_max,
            duration,
            entry_every,
            change_every,
            replicas_write,
            crash_every,
            witnesses: Vec::new(),
            ..self
        }
    }
}
