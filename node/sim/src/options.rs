//! What a seed decides about a run, drawn as a swarm: most runs leave most faults out, so that each is seen alone too.

use crate::rng::Stream;

/// Options of one run. Times in microseconds of virtual time, chances per mille.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// MASTERs, 1 to 5.
    pub masters: usize,
    /// Write quorum, 1 to `masters`.
    pub write_quorum: usize,
    /// Records clients work on.
    pub keys: u64,
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
}

impl Options {
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
        Self {
            masters,
            write_quorum,
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
        }
    }
}
