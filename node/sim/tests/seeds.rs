//! Fixed seeds: no invariant is broken, and a seed is the whole truth about its run.

use std::collections::BTreeMap;

use parallel::parallel;
use quorate_sim::options::Options;
use quorate_sim::workload::Kind;
use quorate_sim::world::{Report, World};

mod parallel;

/// How many of the fixed seeds there are; a release build takes a few seconds for a thousand.
const SEEDS: usize = 3_000;

/// The same for write quorums below a majority.
const LOW_SEEDS: usize = 400;

/// The same for write quorums that go below a majority and back.
const CROSSING_SEEDS: usize = 400;

/// The same for servers that come and go.
const MEMBERSHIP_SEEDS: usize = 600;

fn run(seed: u64) -> Report {
    World::new(seed, Options::of_seed(seed), false).run()
}

/// Crashes, cuts, pauses, slowness, lost, delayed, doubled and straggling messages, slow disks,
/// torn tails, clocks that drift and jump, owners, MASTERs and quorums that change; one to four
/// clusters, MASTERs and REPLICAs, four workloads.
///
/// FEATURES: A1, A8, A9, A11, A12, H11
#[test]
fn fixed_seeds_break_no_invariant() {
    let (mut commits, mut recoveries, mut crossing, mut lost) = (0, 0, 0, 0);
    let (mut aligned, mut purged, mut dropped, mut generations) = (0, 0, 0, 0);
    let (mut owners, mut drops, mut leaders) = (0, 0, 0);
    let mut workloads: BTreeMap<Kind, u64> = BTreeMap::new();
    for (report, seed) in parallel(SEEDS, |index| run(index as u64 + 1)).into_iter().zip(1..) {
        assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
        commits += report.counts.committed;
        recoveries += report.counts.recoveries;
        lost += report.counts.batches_lost;
        aligned += report.counts.aligned;
        purged += report.counts.purged;
        dropped += report.counts.dropped;
        generations += report.counts.generations;
        owners += report.counts.owners;
        drops += report.counts.drops;
        leaders += report.counts.leaders;
        crossing += u32::from(report.options.clusters.len() > 1);
        *workloads.entry(report.options.workload).or_default() += report.counts.committed;
    }
    // A run that does nothing breaks nothing.
    assert!(commits > 20_000, "{commits} commits");
    assert!(recoveries > 200, "{recoveries} recoveries");
    assert!(lost > 200, "{lost} batches lost");
    assert!(aligned > 200, "{aligned} alignments");
    assert!(purged > 200, "{purged} tombstones dropped");
    assert!(dropped > 2_000, "{dropped} contents dropped");
    assert!(generations > 400, "{generations} generations");
    assert!(owners > 400 && drops > 100, "{owners} owners, {drops} drops");
    assert!(leaders > SEEDS as u64, "{leaders} leaders");
    assert!(crossing > 200, "{crossing} seeds with several clusters");
    assert!(workloads.len() == Kind::ALL.len() && workloads.values().all(|n| *n > 1_000));
}

/// In each of these seeds a thousand changes of owners, MASTERs, REPLICAs and write quorums are
/// carried out while clients write and servers crash, pause and are cut off.
///
/// FEATURES: A7, A8, A9, H11
#[test]
fn a_thousand_changes_under_load_break_nothing() {
    let seeds = [12, 29, 51, 58];
    let reports = parallel(seeds.len(), |index| {
        let options = Options::of_seed(seeds[index]).with_changes(1_000);
        World::new(seeds[index], options, false).run()
    });
    for (report, seed) in reports.into_iter().zip(seeds) {
        let counts = report.counts;
        assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
        assert!(counts.changes() >= 1_000, "seed {seed}: {counts:?}");
        assert!(counts.generations > 50 && counts.committed > 500, "seed {seed}: {counts:?}");
    }
}

/// Write quorums below a majority under the same faults: copies are equal in the end, and nothing
/// acknowledged is gone without being listed.
///
/// FEATURES: A13, A14, H11
#[test]
fn what_diverges_is_merged_or_listed() {
    let (mut commits, mut diverged, mut merged, mut aligned) = (0, 0, 0, 0);
    let run = |index| {
        let seed = index as u64 + 1;
        World::new(seed, Options::of_seed(seed).with_low_quorums(seed), false).run()
    };
    for (report, seed) in parallel(LOW_SEEDS, run).into_iter().zip(1..) {
        assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
        commits += report.counts.committed;
        diverged += report.counts.diverged;
        merged += report.counts.merged;
        aligned += report.counts.aligned;
    }
    assert!(commits > 10_000, "{commits} commits");
    assert!(diverged > 1_000 && merged > 300, "{diverged} diverged, {merged} merged");
    assert!(aligned > 50, "{aligned} alignments");
}

/// W goes below a majority and back under the same faults: before it is a majority again, all
/// MASTERs have the same; nothing acknowledged is gone without being listed. In some a MASTER is
/// lost for good, and people give it up.
///
/// FEATURES: A13, H11, L7
#[test]
fn write_quorums_go_below_a_majority_and_back() {
    let (mut commits, mut diverged, mut generations, mut lost) = (0, 0, 0, 0);
    let run = |index| {
        let seed = index as u64 + 1;
        World::new(seed, Options::of_seed(seed).with_crossing(seed), false).run()
    };
    for (report, seed) in parallel(CROSSING_SEEDS, run).into_iter().zip(1..) {
        assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
        commits += report.counts.committed;
        diverged += report.counts.diverged;
        generations += report.counts.generations;
        lost += report.counts.disks_lost;
    }
    assert!(commits > 20_000, "{commits} commits");
    assert!(diverged > 10_000, "{diverged} diverged");
    assert!(generations > 500, "{generations} generations");
    assert!(lost > 40, "{lost} were given up");
}

/// Servers join under load, are removed, get other roles, lose their disks and come back as others,
/// sleep through configurations, are cut off while they are copied to; classes and databases are
/// created at several servers at once, owners move. All by the server's own commands.
///
/// FEATURES: A4, A7, H11, L3, L9, S10
#[test]
fn servers_come_and_go_and_nothing_breaks() {
    let (mut commits, mut aligned, mut generations, mut owners) = (0, 0, 0, 0);
    let (mut joined, mut removed, mut lost, mut positions) = (0, 0, 0, 0);
    let mut absent = 0;
    let run = |index| {
        let seed = index as u64 + 1;
        World::new(seed, Options::of_seed(seed).with_membership(seed), false).run()
    };
    for (report, seed) in parallel(MEMBERSHIP_SEEDS, run).into_iter().zip(1..) {
        assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
        let counts = report.counts;
        commits += counts.committed;
        aligned += counts.aligned;
        generations += counts.generations;
        owners += counts.owners;
        joined += counts.joined;
        removed += counts.removed;
        absent += counts.absent;
        lost += counts.disks_lost;
        positions += counts.positions;
    }
    assert!(commits > 20_000, "{commits} commits");
    assert!(aligned > 600, "{aligned} alignments");
    assert!(generations > 3_000 && owners > 800, "{generations} generations, {owners} owners");
    assert!(joined > 600 && removed > 100, "{joined} joined, {removed} removed");
    assert!(absent > 20, "{absent} left by themselves");
    assert!(lost > 80, "{lost} disks lost");
    assert!(positions > 500, "{positions} positions");
}

/// FEATURES: H11
#[test]
fn the_same_seed_has_the_same_trace() {
    for seed in 1..=60 {
        let options = Options::of_seed(seed);
        let comes_and_goes = seed > 40;
        let options = if comes_and_goes { options.with_membership(seed) } else { options };
        let trace = |keeps| World::new(seed, options.clone(), keeps).run();
        let [first, second] = [true, true].map(trace);
        assert!(!first.trace.is_empty());
        assert!(first.trace == second.trace, "seed {seed}: different traces");
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed}");
        // Keeping the trace changes nothing.
        assert_eq!(first.trace_hash, trace(false).trace_hash, "seed {seed}");
    }
}

/// FEATURES: H11
#[test]
fn another_seed_has_another_trace() {
    assert_ne!(run(1).trace_hash, run(2).trace_hash);
}
