//! Proof that the invariants can fail: each planted bug is caught by the invariant that is meant
//! for it, within a few seeds of a run that is aimed at it, and the clean machine passes the same
//! seeds.
//!
//! | bug | rule it breaks | caught by |
//! |---|---|---|
//! | `CommitOnQuorum` | X1, O1 (trap A1) | `durable-before-ok` |
//! | `AbortOnSilence` | X2 (trap A7) | `one-outcome` |
//! | `NoIsForgotten` | X3 | `votes-stand` |
//! | `ForgetOnLearning` | X4 (trap A5) | `votes-stand` |
//! | `ApplyOwnValue` | X5, O6 (trap A8) | `all-or-nothing` |
//! | `VoteBeforeDurable` | 3.2, trap A11 | `durable-before-ok` |
//! | `ReadIgnoresVotes` | 3.8, O5 | `client-history` |
//! | `BaseByVersion` | trap A4 | `one-commit-per-base` |
//! | `TombstoneDroppedEarly` | 3.9, traps A18, A20 | `tombstone-kept` |
//! | `BackBeforeMeanwhile` | 3.6.5 | `all-or-nothing` |
//! | `RecordWiseRepair` | trap A12 | `all-or-nothing` |
//! | `ReadOneServer` | 3.8, trap A10 | `client-history` |
//! | `VoteTwice` | 3.4.4 | `votes-stand` |
//! | `VoteAfterPromise` | 3.4.1, trap A11 | `votes-stand` |
//! | `RecoverToAbort` | 3.7.3, trap A7 | `one-outcome` |
//! | `RecoverFromSilence` | 3.7.3, O1 (trap A1) | `one-commit-per-base` |
//! | `ApplyTwice` | 3.6.3 | `converges-after-heal` |
//! | `LoseLocks` | 3.2, trap A27 | `no-corruption` |
//! | `ReuseIds` | trap A6 | `durable-before-ok` |
//! | `AckBeforeQuorum` | 3.5.3 | `durable-before-ok` |
//! | `SkipVersionCheck` | 3.4.3b | `one-commit-per-base` |

use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_protocol::io::Config;
use quorate_protocol::planted::Bug;
use quorate_sim::options::{Options, Second};
use quorate_sim::world::World;

/// A run with a lot going wrong on few records.
fn rough() -> Options {
    Options {
        masters: 3,
        write_quorum: 2,
        second: None,
        keys: 2,
        pairs: 150,
        clients: 8,
        duration: 3_000_000,
        loss: 50,
        duplication: 50,
        delay_max: 10_000,
        sync_max: 10_000,
        cut_every: 300_000,
        crash_every: 300_000,
        pause_every: 0,
        log_entries: 0,
        purge: false,
    }
}

/// The first violation of each seed up to the bound, until `invariant` is among them.
fn caught(options: &Options, seeds: u64, invariant: &str, plant: fn(&mut Config)) {
    let mut seen = Vec::new();
    for seed in 1..=seeds {
        let run = || World::with_machines(seed, options.clone(), false, plant).run();
        // A machine that notices by itself that its state is impossible stops; that is not the
        // invariant.
        let Ok(report) = catch_unwind(AssertUnwindSafe(run)) else {
            seen.push("assertion");
            continue;
        };
        seen.extend(report.violations.iter().map(|violation| violation.invariant));
        if seen.contains(&invariant) {
            clean(options, seed);
            return;
        }
    }
    panic!("{invariant} did not fire within {seeds} seeds, only {seen:?}");
}

fn clean(options: &Options, seeds: u64) {
    for seed in 1..=seeds {
        let report = World::new(seed, options.clone(), false).run();
        assert!(report.violations.is_empty(), "clean seed {seed}: {:?}", report.violations);
    }
}

/// FEATURES: A1, H8
#[test]
fn commit_on_w_yes_without_accepts() {
    caught(&rough(), 5, "durable-before-ok", |c| c.planted = Some(Bug::CommitOnQuorum));
}

/// FEATURES: A10, H8
#[test]
fn abort_on_silence() {
    // Votes that are late by more than the coordinator's patience, and coordinators that die.
    let options = Options {
        delay_max: 30_000,
        crash_every: 100_000,
        cut_every: 0,
        clients: 10,
        keys: 20,
        sync_max: 20_000,
        ..rough()
    };
    caught(&options, 20, "one-outcome", |c| c.planted = Some(Bug::AbortOnSilence));
}

/// FEATURES: A8, H8
#[test]
fn no_becomes_yes_after_a_restart() {
    caught(&rough(), 20, "votes-stand", |c| c.planted = Some(Bug::NoIsForgotten));
}

/// FEATURES: A8, H8
#[test]
fn state_forgotten_on_learning() {
    caught(&rough(), 5, "votes-stand", |c| c.planted = Some(Bug::ForgetOnLearning));
}

/// FEATURES: A8, A11, H8
#[test]
fn cluster_applies_its_own_value() {
    let second = Some(Second { masters: 3, shared: 1, write_quorum: 2 });
    let options = Options { second, pairs: 800, keys: 4, ..rough() };
    caught(&options, 5, "all-or-nothing", |c| c.planted = Some(Bug::ApplyOwnValue));
}

/// FEATURES: H8
#[test]
fn votes_leave_before_they_are_durable() {
    caught(&rough(), 5, "durable-before-ok", |c| c.planted = Some(Bug::VoteBeforeDurable));
}

/// FEATURES: A15, H8
#[test]
fn majority_read_ignores_undecided_votes() {
    let options = Options { keys: 1, ..rough() };
    caught(&options, 10, "client-history", |c| c.planted = Some(Bug::ReadIgnoresVotes));
}

/// FEATURES: A9, H8
#[test]
fn base_compared_by_version_only() {
    caught(&rough(), 10, "one-commit-per-base", |c| c.planted = Some(Bug::BaseByVersion));
}

/// FEATURES: A12, H8
#[test]
fn tombstone_dropped_early() {
    let options = Options { purge: true, keys: 20, ..rough() };
    caught(&options, 5, "tombstone-kept", |c| c.planted = Some(Bug::TombstoneDroppedEarly));
}

/// FEATURES: A11, A12, H8
#[test]
fn back_before_the_decisions_made_meanwhile() {
    let options = Options { log_entries: 5, keys: 40, pairs: 800, loss: 10, ..rough() };
    caught(&options, 20, "all-or-nothing", |c| c.planted = Some(Bug::BackBeforeMeanwhile));
}

/// FEATURES: A11, H8
#[test]
fn record_wise_repair_while_online() {
    let options = Options { pairs: 800, keys: 4, ..rough() };
    caught(&options, 5, "all-or-nothing", |c| c.planted = Some(Bug::RecordWiseRepair));
}

/// FEATURES: A15, H8
#[test]
fn majority_read_answered_by_one_server() {
    let options = Options { keys: 1, ..rough() };
    caught(&options, 10, "client-history", |c| c.planted = Some(Bug::ReadOneServer));
}

/// FEATURES: A8, H8
#[test]
fn prepare_judged_twice() {
    caught(&rough(), 20, "votes-stand", |c| c.planted = Some(Bug::VoteTwice));
}

/// FEATURES: A11, H8
#[test]
fn promise_is_forgotten() {
    caught(&rough(), 20, "votes-stand", |c| c.planted = Some(Bug::VoteAfterPromise));
}

/// FEATURES: A11, H8
#[test]
fn recovery_aborts_what_may_be_committed() {
    // Coordinators that die after `ok` and before anybody heard of it.
    let options = Options {
        crash_every: 100_000,
        cut_every: 0,
        clients: 12,
        keys: 20,
        sync_max: 20_000,
        ..rough()
    };
    caught(&options, 40, "one-outcome", |c| c.planted = Some(Bug::RecoverToAbort));
}

/// FEATURES: A1, A11, H8
#[test]
fn recovery_counts_silence_as_yes() {
    caught(&rough(), 40, "one-commit-per-base", |c| c.planted = Some(Bug::RecoverFromSilence));
}

/// FEATURES: A9, H8
#[test]
fn commit_applied_twice() {
    caught(&rough(), 20, "converges-after-heal", |c| c.planted = Some(Bug::ApplyTwice));
}

/// FEATURES: A8, A9, H8
#[test]
fn locks_lost_on_restart() {
    caught(&rough(), 40, "no-corruption", |c| c.planted = Some(Bug::LoseLocks));
}

/// FEATURES: A8, H8
#[test]
fn transaction_ids_reused_after_a_restart() {
    caught(&rough(), 20, "durable-before-ok", |c| c.planted = Some(Bug::ReuseIds));
}

/// FEATURES: A1, H8
#[test]
fn ok_before_the_quorum() {
    caught(&rough(), 5, "durable-before-ok", |c| c.planted = Some(Bug::AckBeforeQuorum));
}

/// FEATURES: A9, H8
#[test]
fn version_check_skipped() {
    caught(&rough(), 10, "one-commit-per-base", |c| c.planted = Some(Bug::SkipVersionCheck));
}
