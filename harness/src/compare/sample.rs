//! Made-up runs for the tests of this module: what truth they have is known.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

use super::read::{Figures, Value};
use super::{Block, Kind};

/// Nearly normal, of variance 1: the sum of twelve.
pub(super) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64).sum::<f64>() - 6.0
}

/// A run with one figure.
pub(super) fn run(kind: Kind, value: f64) -> Figures {
    let mut figures = Figures::default();
    figures.values.insert(kind.into(), Value { value, at_least: false });
    figures
}

/// How runs scatter, and by what B differs from A.
#[derive(Debug, Clone, Copy)]
pub(super) struct Truth {
    /// Factor of every latency of B.
    pub(super) slower: f64,
    /// Deviation between runs, as a share.
    pub(super) noise: f64,
    /// Drift of the machine from block to block, as a share: it hits both sides.
    pub(super) drift: f64,
}

/// Blocks of two runs a side.
pub(super) fn blocks(count: usize, truth: Truth, rng: &mut ChaCha8Rng) -> Vec<Block> {
    let run = |factor: f64, moment: f64, rng: &mut ChaCha8Rng| {
        let mut figures = Figures::default();
        for (kind, of) in [(Kind::Throughput, 1000.0), (Kind::P50, 2.0), (Kind::P99, 20.0)] {
            // A closed loop: who waits longer asks less.
            let factor = if kind == Kind::Throughput { 1.0 / factor } else { factor };
            let value = of * factor * (truth.noise * normal(rng) + moment).exp();
            figures.values.insert(kind.into(), Value { value, at_least: false });
        }
        figures.values.insert(Kind::Refused.into(), Value { value: 0.0, at_least: false });
        figures
    };
    let block = |at: usize| {
        let moment = truth.drift * at as f64;
        Block {
            a: (0..2).map(|_| run(1.0, moment, rng)).collect(),
            b: (0..2).map(|_| run(truth.slower, moment, rng)).collect(),
        }
    };
    (0..count).map(block).collect()
}
