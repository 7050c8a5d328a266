//! What a seed decides about a run, drawn as a swarm: most runs leave most faults out, so that each
//! is seen alone too.

use quorate_api::{ClusterKey, ItemId};
use quorate_protocol::io::{Config, Tick};

use crate::centers::Center;
use crate::draw::draw_clusters;
use crate::membership::Membership;
use crate::regions;
use crate::rng::Stream;
use crate::workload::Kind;

/// Number of the first record cluster; the others follow.
const FIRST_CLUSTER: u32 = 10;

/// Options of one run. Times in microseconds of virtual time, chances per mille.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Servers, REPLICAs included.
    pub servers: usize,
    /// Record clusters, each with MASTERs, REPLICAs and write quorum of its own.
    pub clusters: Vec<Shape>,
    /// What clients do.
    pub workload: Kind,
    /// Records (accounts, keys, vertices) clients work on.
    pub keys: u64,
    /// Chance that a register operation is on more than one record.
    pub pairs: u64,
    /// Clients, one operation in flight each.
    pub clients: u64,
    /// Longest pause of a client between two operations.
    pub think_max: Tick,
    /// Length of the safety phase.
    pub duration: Tick,
    /// Changes of the configuration that the safety phase waits for, however long they take.
    pub changes: u64,
    /// Chance that a message is lost.
    pub loss: u64,
    /// Chance that a message arrives twice.
    pub duplication: u64,
    /// Chance that a message is held up for up to half a second, overtaken by hundreds of others.
    pub straggling: u64,
    /// Longest delay of a message otherwise.
    pub delay_max: Tick,
    /// Longest time a sync takes.
    pub sync_max: Tick,
    /// Mean time between cuts; 0 for none.
    pub cut_every: Tick,
    /// Mean time between crashes; 0 for none.
    pub crash_every: Tick,
    /// Chance that a crash is one of all servers at once.
    pub blackouts: u64,
    /// Mean time between pauses of a server; 0 for none.
    pub pause_every: Tick,
    /// Mean time between spells of slowness; 0 for none.
    pub slow_every: Tick,
    /// Mean time between jumps of a clock; 0 for none.
    pub jump_every: Tick,
    /// How far clocks run fast or slow at most, per mille.
    pub drift: u64,
    /// Mean time between entries of the control plane (a cluster's owner changes); 0 for none, and
    /// then anybody may create.
    pub entry_every: Tick,
    /// Mean time between changes of a cluster's MASTERs or W; 0 for none.
    pub change_every: Tick,
    /// Chance that an entry drops a cluster.
    pub drops: u64,
    /// Time between two ticks of a control plane; a leader is missed after ten to twenty.
    pub plane_tick: Tick,
    /// Entries of its log after which it is cut.
    pub plane_entries: usize,
    /// One crash also flips a bit in what was durable.
    pub bit_flip: bool,
    /// Longest time until a failure detector looks again.
    pub detect_max: Tick,
    /// How often a server looks after its log and its low-water mark.
    pub housekeeping: Tick,
    /// Entries of a decision log beyond which it is cut past a server that is behind; 0 for a bound
    /// that no run reaches.
    pub log_entries: u64,
    /// How long a server may be behind before that; 0 for a bound that no run reaches.
    pub log_age: Tick,
    /// Decisions that are kept for a server that aligns; 0 for more than any run has.
    pub journal: usize,
    /// Takeovers a server leads at once; 0 for more than any run has.
    pub takeovers: usize,
    /// Tombstones are dropped soon, and no position is used again.
    pub purge: bool,
    /// REPLICAs that one server feeds.
    pub fan_out: usize,
    /// Entries of each log that a relay can still serve.
    pub relay_kept: usize,
    /// REPLICAs coordinate transactions, too (PROTOCOL.md, A28).
    pub replicas_write: bool,
    /// W of every cluster may be below a majority (PROTOCOL.md 3.10): less is promised, and what
    /// diverges is merged.
    pub low_quorums: bool,
    /// W of a cluster goes below a majority and back while clients write.
    pub crossing: bool,
    /// From when on one MASTER is lost for good, and people give it up; 0: none is.
    pub gives_up: Tick,
    /// Servers that vote and keep no content that everybody has: less than half of the MASTERs of
    /// each of their clusters, and they are nothing else to any.
    pub witnesses: Vec<usize>,
    /// The chain of conflict resolvers ends with one that nearly always decides.
    pub decisive: bool,
    /// Data centers, far apart; none: all servers are in one place.
    pub centers: Vec<Center>,
    /// Each of them decides by itself.
    pub local_quorums: bool,
    /// Clusters, from the first on, that hold the records of keys.
    pub keyed: usize,
    /// Servers come and go, and the control plane is all the server's own.
    pub membership: Option<Membership>,
}

/// A cluster of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Which.
    pub cluster: ClusterKey,
    /// Its MASTERs, as indexes of servers, in order.
    pub masters: Vec<usize>,
    /// Its REPLICAs.
    pub replicas: Vec<usize>,
    /// W(c), at least a majority unless [`Options::low_quorums`] says otherwise.
    pub write_quorum: usize,
    /// Servers that keep it no more since some change. Drawn empty; the run adds to it.
    pub left: Vec<usize>,
    /// Those of them that have learned it.
    pub gone: Vec<usize>,
    /// It was dropped.
    pub closed: bool,
}

impl Shape {
    /// Cluster `number` on these MASTERs.
    #[must_use]
    pub fn new(number: u32, masters: Vec<usize>, write_quorum: usize) -> Self {
        let cluster = ClusterKey { database: 1, cluster: FIRST_CLUSTER + number };
        let (replicas, left, gone) = (Vec::new(), Vec::new(), Vec::new());
        Self { cluster, masters, replicas, write_quorum, left, gone, closed: false }
    }

    /// ⌊N/2⌋ + 1.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.masters.len() / 2 + 1
    }

    /// True when a server keeps it, as far as it knows.
    #[must_use]
    pub fn is_held_by(&self, server: usize) -> bool {
        let kept = self.masters.contains(&server) || self.replicas.contains(&server);
        kept && !self.gone.contains(&server)
    }
}

impl Options {
    /// The shape of a cluster.
    ///
    /// # Panics
    /// When there is no such cluster.
    #[must_use]
    pub fn shape(&self, cluster: ClusterKey) -> &Shape {
        let found = self.clusters.iter().find(|shape| shape.cluster == cluster);
        found.expect("a cluster of the run")
    }

    /// True when a server keeps a cluster.
    #[must_use]
    pub fn holds(&self, server: usize, cluster: ClusterKey) -> bool {
        let mut shapes = self.clusters.iter();
        shapes.any(|s| s.cluster == cluster && s.is_held_by(server))
    }

    /// True when a server keeps a cluster as the control plane has it, whatever it knows itself.
    #[must_use]
    pub fn belongs(&self, server: usize, cluster: ClusterKey) -> bool {
        self.holds(server, cluster) && !self.shape(cluster).left.contains(&server)
    }

    /// True when a server keeps every cluster, so that its state alone shows whole transactions.
    #[must_use]
    pub fn holds_all(&self, server: usize) -> bool {
        self.clusters.iter().all(|shape| shape.is_held_by(server))
    }

    /// Servers that clients submit transactions to: MASTERs of something, or all of them.
    #[must_use]
    pub fn coordinators(&self) -> Vec<usize> {
        let voting = self.voting();
        let writes = |s: &usize| self.replicas_write || voting.contains(s);
        (0..self.servers).filter(|s| writes(s) && !self.witnesses.contains(s)).collect()
    }

    /// Servers that vote on the control plane's log: MASTERs of something, from the first on.
    #[must_use]
    pub fn voting(&self) -> Vec<usize> {
        let is_master = |s: &usize| self.clusters.iter().any(|c| c.masters.contains(s));
        (0..self.servers).filter(is_master).collect()
    }

    /// Which cluster a key's record is in.
    #[must_use]
    pub fn cluster_of(&self, key: u64) -> ClusterKey {
        let index = usize::try_from(key).unwrap_or(0) % self.keyed;
        self.clusters[index].cluster
    }

    /// The record of a key.
    #[must_use]
    pub fn record_of(&self, key: u64) -> ItemId {
        ItemId::record(self.cluster_of(key), key)
    }

    /// The options of a seed.
    #[must_use]
    pub fn of_seed(seed: u64) -> Self {
        let rng = &mut Stream::new(seed, "options");
        let masters = *rng.pick(&[1, 2, 3, 3, 3, 3, 4, 5, 5, 7, 9]);
        let extra = if rng.chance(250) { rng.index(3) + 1 } else { 0 };
        let clusters = draw_clusters(rng, masters, extra);
        let workload = *rng.pick(&Kind::ALL);
        let keys = workload.draw_keys(rng);
        let mut some = |chance: u64, low: u64, high: u64| {
            let drawn = rng.between(low, high);
            if rng.chance(chance) { drawn } else { 0 }
        };
        let mut options = Self {
            servers: masters + extra,
            clusters,
            workload,
            keys,
            pairs: some(700, 50, 600),
            clients: 1 + some(950, 1, 10),
            think_max: 1_000 + some(600, 1_000, 30_000),
            duration: 0,
            changes: 0,
            loss: some(400, 1, 100),
            duplication: some(400, 1, 100),
            straggling: some(300, 1, 20),
            delay_max: 200 + some(600, 100, 20_000),
            sync_max: 200 + some(500, 100, 10_000),
            cut_every: some(600, 40_000, 600_000),
            crash_every: some(600, 40_000, 600_000),
            blackouts: 0,
            pause_every: some(300, 40_000, 600_000),
            slow_every: some(250, 40_000, 600_000),
            jump_every: some(250, 40_000, 600_000),
            drift: some(250, 1, 300),
            entry_every: some(250, 40_000, 600_000),
            change_every: 0,
            drops: 100,
            plane_tick: 0,
            plane_entries: 0,
            bit_flip: some(150, 1, 1) == 1,
            detect_max: 100_000,
            housekeeping: 500_000,
            log_entries: 0,
            log_age: 0,
            journal: 0,
            takeovers: 0,
            purge: false,
            fan_out: 4,
            relay_kept: 8_192,
            replicas_write: false,
            low_quorums: false,
            crossing: false,
            gives_up: 0,
            witnesses: Vec::new(),
            decisive: false,
            centers: Vec::new(),
            local_quorums: false,
            keyed: 0,
            membership: None,
        };
        options.keyed = options.clusters.len();
        options.set_duration(some(1_000, 60, 200));
        options.draw_forgetting(&mut Stream::new(seed, "forgetting"));
        options.draw_rough(&mut Stream::new(seed, "rough"));
        options.draw_changes(&mut Stream::new(seed, "changes"));
        options.draw_plane(&mut Stream::new(seed, "plane"));
        options.draw_relays(&mut Stream::new(seed, "relays"));
        options.draw_witnesses(&mut Stream::new(seed, "witnesses"));
        options
    }

    /// The options of a seed in which so many changes of the configuration are carried out under
    /// load: owners, MASTERs, REPLICAs and write quorums. Nothing is dropped: that ends the load,
    /// which is steady, and no more than can be judged at the end.
    #[must_use]
    pub fn with_changes(self, changes: u64) -> Self {
        let (entry_every, change_every) = (30_000, 30_000);
        let (clients, think_max, drops) = (6, 20_000, 0);
        Self { changes, entry_every, change_every, clients, think_max, drops, ..self }
    }

    /// The same with clusters of so many servers, all of which may be MASTERs.
    pub(crate) fn with_servers(self, rng: &mut Stream, servers: usize) -> Self {
        let clusters = draw_clusters(rng, servers, 0);
        let witnesses = Vec::new();
        Self { servers, keyed: clusters.len(), clusters, witnesses, ..self }
    }

    /// True when a server may have to align although nothing is wrong with it.
    #[must_use]
    pub fn cuts_logs(&self) -> bool {
        self.log_entries > 0 || self.log_age > 0
    }

    /// Settings of the machines: small pieces, so that a few records take many of them.
    pub fn tune(&self, config: &mut Config) {
        config.housekeeping = self.housekeeping;
        if self.takeovers > 0 {
            // And repeated soon: no cut is as long as the pauses after which one makes room.
            (config.takeovers_max, config.resend) = (self.takeovers, 10_000);
        }
        (config.relay.fan_out, config.relay.kept) = (self.fan_out, self.relay_kept);
        let align = &mut config.align;
        (align.items, align.leaf, align.pause, align.sweep) = (7, 2, 300, 30);
        if self.log_entries > 0 {
            align.log_entries = self.log_entries;
        }
        if self.log_age > 0 {
            align.log_age = self.log_age;
        }
        if self.journal > 0 {
            align.journal = self.journal;
        }
        if self.purge {
            align.retention = 100_000;
        }
        let merge = &mut config.merge;
        (merge.items, merge.settle) = (3, 100_000);
        (merge.patience, merge.rest) = (300_000, 500_000);
        if self.decisive {
            let winner = self.centers.first().map(|center| regions::NAMES[center.region]);
            let first = winner.map(|name| format!("dc{{winner:{name}}},")).unwrap_or_default();
            let chain = format!("{first}content,version,quorum");
            merge.chain = chain.parse().expect("a chain of known resolvers");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_draws_a_legal_world() {
        let (mut outside, mut replicas, mut witnesses) = (0, 0, 0);
        for seed in 0..2_000 {
            let options = Options::of_seed(seed);
            for shape in &options.clusters {
                assert!(shape.majority() <= shape.write_quorum, "seed {seed}");
                assert!(shape.write_quorum <= shape.masters.len(), "seed {seed}");
                assert!(shape.masters.iter().all(|m| !shape.replicas.contains(m)), "seed {seed}");
                assert!(shape.masters.iter().all(|m| *m < options.servers), "seed {seed}");
                assert!(shape.has_few(&options.witnesses), "seed {seed}");
                let kept = options.witnesses.iter().filter(|w| shape.is_held_by(**w));
                assert!(kept.clone().all(|w| shape.masters.contains(w)), "seed {seed}");
                witnesses += kept.count();
                replicas += shape.replicas.len();
                let coordinators = options.coordinators().into_iter();
                outside += coordinators.filter(|server| !shape.masters.contains(server)).count();
            }
        }
        assert!(outside > 0 && replicas > 0, "{outside} outside, {replicas} REPLICAs");
        assert!(witnesses > 200, "{witnesses} witnesses");
    }
}
