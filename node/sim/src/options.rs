//! What a seed decides about a run, drawn as a swarm: most runs leave most faults out, so that each
//! is seen alone too.

use std::ops::Range;

use quorate_api::ClusterKey;
use quorate_protocol::io::AlignConfig;

use crate::rng::Stream;

/// The first record cluster.
pub const CLUSTER: ClusterKey = ClusterKey { database: 1, cluster: 10 };

/// The second one.
pub const SECOND: ClusterKey = ClusterKey { database: 1, cluster: 20 };

/// Options of one run. Times in microseconds of virtual time, chances per mille.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// MASTERs, 1 to 5.
    pub masters: usize,
    /// Write quorum, 1 to `masters`.
    pub write_quorum: usize,
    /// A second cluster, if there is one: half of the records are in it.
    pub second: Option<Second>,
    /// Records clients work on.
    pub keys: u64,
    /// Chance that an operation is on two records.
    pub pairs: u64,
    /// Clients, one operation in flight each.
    pub clients: u64,
    /// Length of the safety phase.
    pub duration: u64,
    /// Chance that a message is lost.
    pub loss: u64,
    /// Chance that a message arrives twice.
    pub duplication: u64,
    /// Longest delay of a message.
    pub delay_max: u64,
    /// Longest time a sync takes.
    pub sync_max: u64,
    /// Mean time between cuts; 0 for none.
    pub cut_every: u64,
    /// Mean time between crashes; 0 for none.
    pub crash_every: u64,
    /// Mean time between pauses of a server; 0 for none.
    pub pause_every: u64,
    /// Entries of a decision log beyond which it is cut past a server that is behind; 0 for a bound
    /// that no run reaches.
    pub log_entries: u64,
    /// Tombstones are dropped soon; positions are used once.
    pub purge: bool,
}

/// The second cluster: its MASTERs overlap the first one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Second {
    /// MASTERs.
    pub masters: usize,
    /// How many of them master the first cluster, too.
    pub shared: usize,
    /// Write quorum.
    pub write_quorum: usize,
}

/// A cluster of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Which.
    pub cluster: ClusterKey,
    /// Its MASTERs, as indexes of servers.
    pub masters: Range<usize>,
    /// W(c).
    pub write_quorum: usize,
}

impl Shape {
    /// ⌊N/2⌋ + 1.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.masters.len() / 2 + 1
    }
}

impl Options {
    /// The clusters: the first one on the first servers, the second one on the last.
    #[must_use]
    pub fn clusters(&self) -> Vec<Shape> {
        let write_quorum = self.write_quorum;
        let mut clusters = vec![Shape { cluster: CLUSTER, masters: 0..self.masters, write_quorum }];
        if let Some(Second { masters, shared, write_quorum }) = self.second {
            let start = self.masters - shared;
            let masters = start..start + masters;
            clusters.push(Shape { cluster: SECOND, masters, write_quorum });
        }
        clusters
    }

    /// Number of servers.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.clusters().iter().map(|shape| shape.masters.end).max().unwrap_or(0)
    }

    /// Which cluster a record is in.
    #[must_use]
    pub const fn cluster_of(&self, key: u64) -> ClusterKey {
        if self.second.is_some() && key % 2 == 1 { SECOND } else { CLUSTER }
    }

    /// The options of a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let rng = &mut Stream::new(seed, "options");
        let masters = [1, 2, 3, 3, 3, 4, 5, 5][usize::try_from(rng.below(8)).unwrap_or(0)];
        let majority = masters / 2 + 1;
        let write_quorum =
            majority + usize::try_from(rng.below((masters - majority + 1) as u64)).unwrap_or(0);
        let mut some = |chance: u64, low: u64, high: u64| {
            let drawn = rng.between(low, high);
            if rng.chance(chance) { drawn } else { 0 }
        };
        let mut options = Self {
            masters,
            write_quorum,
            second: None,
            pairs: 150,
            keys: 1 + some(800, 1, 20),
            clients: 1 + some(950, 1, 12),
            duration: 4_000_000,
            loss: some(400, 1, 100),
            duplication: some(400, 1, 100),
            delay_max: 200 + some(600, 100, 30_000),
            sync_max: 200 + some(500, 100, 20_000),
            cut_every: some(600, 200_000, 1_500_000),
            crash_every: some(600, 200_000, 1_500_000),
            pause_every: some(400, 200_000, 1_500_000),
            log_entries: 0,
            purge: false,
        };
        options.draw_second(rng);
        options.draw_forgetting(&mut Stream::new(seed, "forgetting"));
        options
    }

    fn draw_forgetting(&mut self, rng: &mut Stream) {
        if rng.chance(400) {
            self.log_entries = 1 + rng.below(60);
        }
        if rng.chance(200) {
            self.purge = true;
            self.keys = self.keys.max(20) + rng.below(40);
        }
    }

    /// Settings of the machines: small pieces, so that a few records take many of them.
    pub fn align(&self, config: &mut AlignConfig) {
        if self.log_entries > 0 {
            config.log_entries = self.log_entries;
        }
        if self.purge {
            config.retention = 100_000;
        }
        (config.items, config.leaf) = (7, 2);
    }

    fn draw_second(&mut self, rng: &mut Stream) {
        let n = 1 + rng.below(3);
        let shared = rng.below(n.min(self.masters as u64) + 1);
        let write_quorum = n / 2 + 1 + rng.below(n - n / 2);
        let usize = |n| usize::try_from(n).unwrap_or(1);
        if rng.chance(400) {
            let (masters, shared) = (usize(n), usize(shared));
            self.second = Some(Second { masters, shared, write_quorum: usize(write_quorum) });
            self.keys = self.keys.max(2);
            self.pairs = 500;
        }
    }
}
