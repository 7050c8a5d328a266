//! Fixed seeds: no invariant is broken, and a seed is the whole truth about its run.

use quorate_sim::options::Options;
use quorate_sim::world::{Report, World};

fn run(seed: u64) -> Report {
    World::new(seed, Options::of_seed(seed), false).run()
}

/// Crashes, cuts, pauses, lost, delayed and doubled messages, slow disks; one cluster and two.
///
/// FEATURES: A1, A8, A9, A11, A12
#[test]
fn fixed_seeds_break_no_invariant() {
    let (mut commits, mut recoveries, mut crossing) = (0, 0, 0);
    for seed in 1..=40 {
        let report = run(seed);
        assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
        commits += report.counts.committed;
        recoveries += report.recoveries;
        crossing += u32::from(report.options.second.is_some());
    }
    // A run that does nothing breaks nothing.
    assert!(commits > 1_000, "{commits} commits");
    assert!(recoveries > 10, "{recoveries} recoveries");
    assert!(crossing > 5, "{crossing} seeds with two clusters");
}

/// FEATURES: H11
#[test]
fn the_same_seed_has_the_same_trace() {
    for seed in [3, 7, 11] {
        let trace = |_| World::new(seed, Options::of_seed(seed), true).run();
        let [first, second] = [0, 1].map(trace);
        assert!(!first.trace.is_empty());
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
        assert!(first.trace == second.trace, "seed {seed}: equal hashes, different traces");
    }
}

/// FEATURES: H11
#[test]
fn another_seed_has_another_trace() {
    assert_ne!(run(1).trace_hash, run(2).trace_hash);
}
