//! Swarms of clusters with W below a majority (PROTOCOL.md 3.10): fixed, or going there and back.

use crate::options::Options;
use crate::rng::Stream;
use crate::workload::Kind;

impl Options {
    /// The options of a seed in which write quorums are below a majority. MASTERs and quorums stay
    /// what they are: such clusters have one generation. Disks are not damaged: what their servers
    /// alone have committed would be gone.
    #[must_use]
    pub fn with_low_quorums(mut self, seed: u64) -> Self {
        let rng = &mut Stream::new(seed, "low quorums");
        for shape in &mut self.clusters {
            let most = shape.majority().saturating_sub(1).max(1);
            let low = 1 + rng.index(most);
            // Some stay safe: what a transaction over both kinds does is to be seen.
            if !rng.chance(250) {
                shape.write_quorum = low;
            }
        }
        let (change_every, entry_every, drops, bit_flip) = (0, 0, 0, false);
        let (low_quorums, decisive) = (true, rng.chance(500));
        (self.workload, self.witnesses) = (Kind::Registers, Vec::new());
        Self { change_every, entry_every, drops, bit_flip, low_quorums, decisive, ..self }
    }

    /// The options of a seed in which write quorums go below a majority and back. Every MASTER
    /// keeps every cluster, as in the server's own databases: one that coordinates in a cluster
    /// without being a MASTER of it may have decided what nobody hears of before MASTERs unite.
    #[must_use]
    pub fn with_crossing(self, seed: u64) -> Self {
        let mut options = self.with_low_quorums(seed);
        let rng = &mut Stream::new(seed, "crossing");
        let masters = options.voting();
        for shape in &mut options.clusters {
            shape.masters.clone_from(&masters);
            shape.replicas.retain(|server| !masters.contains(server));
            let majority = shape.majority();
            let low = 1 + rng.index((majority - 1).max(1));
            let safe = majority + rng.index(masters.len() - majority + 1);
            shape.write_quorum = if rng.chance(500) { low } else { safe };
        }
        let idle =
            (0..options.servers).filter(|s| !options.clusters.iter().any(|c| c.is_held_by(*s)));
        let idle: Vec<usize> = idle.collect();
        options.clusters[0].replicas.extend(idle);
        options.change_every = rng.between(40_000, 400_000);
        options.duration = options.duration.max(1_500_000);
        let lost = &mut Stream::new(seed, "given up");
        if masters.len() > 2 && lost.chance(300) {
            options.gives_up = lost.between(200_000, 1_000_000);
        }
        Self { crossing: true, decisive: true, replicas_write: false, ..options }
    }
}
