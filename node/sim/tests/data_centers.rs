//! Data centers far apart: what their quorums cost, and what holds when links between them are cut.

use parallel::parallel;
use quorate_control::members::WriteQuorum;
use quorate_protocol::io::Tick;
use quorate_sim::centers::Center;
use quorate_sim::options::{Options, Shape};
use quorate_sim::regions;
use quorate_sim::workload::Kind;
use quorate_sim::world::World;

mod parallel;

/// How many of the fixed seeds there are.
const SEEDS: usize = 120;

/// Local quorums, and quorums of all, under cuts between data centers and all other faults: copies
/// are equal in the end, nothing is lost where W is a majority, and nothing is gone without being
/// listed where it is not.
///
/// FEATURES: A13, A14, A17, H11
#[test]
fn data_centers_that_lose_sight_of_each_other_are_equal_in_the_end() {
    let (mut commits, mut diverged, mut merged, mut whole) = (0, 0, 0, 0);
    let run = |index| {
        let seed = index as u64 + 1;
        World::new(seed, Options::of_seed(seed).with_data_centers(seed), false).run()
    };
    for (report, seed) in parallel(SEEDS, run).into_iter().zip(1..) {
        assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
        commits += report.counts.committed;
        diverged += report.counts.diverged;
        merged += report.counts.merged;
        whole += u32::from(!report.options.local_quorums);
    }
    assert!(commits > 5_000, "{commits} commits");
    assert!(diverged > 1_000 && merged > 100, "{diverged} diverged, {merged} merged");
    assert!(whole > 15, "{whole} seeds without local quorums");
}

/// Servers in three data centers, nothing goes wrong, and messages within one take half a
/// millisecond at most. Shortest and longest time of a write.
fn times(seed: u64, in_each: usize, local: bool) -> (Tick, Tick) {
    let names = ["dallas", "tokyo", "sydney"];
    let region = |name| regions::NAMES.iter().position(|other| *other == name);
    let centers = names.iter().enumerate().map(|(at, name)| Center {
        region: region(*name).expect("a region of the table"),
        servers: (at * in_each..(at + 1) * in_each).collect(),
        write_quorum: WriteQuorum::Majority,
    });
    let servers = 3 * in_each;
    let mut options = Options::of_seed(seed);
    options.servers = servers;
    options.clusters = vec![Shape::new(0, (0..servers).collect(), servers / 2 + 1)];
    options.keyed = 1;
    options.centers = centers.collect();
    options.workload = Kind::Registers;
    // Writers of one record in two data centers diverge, and are merged across the wide area.
    (options.keys, options.pairs, options.clients) = (10_000, 0, 1);
    (options.delay_max, options.sync_max, options.drift) = (500, 500, 0);
    (options.loss, options.duplication, options.straggling) = (0, 0, 0);
    (options.cut_every, options.crash_every, options.pause_every) = (0, 0, 0);
    (options.slow_every, options.jump_every) = (0, 0);
    (options.entry_every, options.change_every) = (0, 0);
    (options.log_entries, options.log_age, options.takeovers) = (0, 0, 0);
    (options.bit_flip, options.purge, options.replicas_write) = (false, false, false);
    options = if local { options.with_local_quorums(true) } else { options };
    (options.duration, options.think_max) = (10_000_000, 20_000);
    let report = World::new(seed, options, false).run();
    assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
    assert!(report.counts.committed > 20, "seed {seed}: {:?}", report.counts);
    report.counts.times.expect("writes before the end")
}

/// FEATURES: A17
#[test]
fn a_local_quorum_costs_no_wide_area_round_trip_and_a_majority_does() {
    // Between the two that are nearest to each other: longer than any way there alone, so that a
    // client may wait for what it has seen in another data center and is on its way.
    let nearest = regions::round_trip(4, 5);
    assert_eq!(nearest, 115_000);
    for seed in 1..=5 {
        let (shortest, longest) = times(seed, 3, true);
        assert!(shortest < 2_000 && longest < nearest, "seed {seed}: {shortest} to {longest}");
        for in_each in [1, 3] {
            let (shortest, _) = times(seed, in_each, false);
            assert!(shortest >= nearest, "seed {seed}: {shortest}");
        }
    }
}
