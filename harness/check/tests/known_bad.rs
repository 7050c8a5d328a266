//! Every checker is shown to fail: the histories under `known_bad/`, named by what happens in them,
//! and what each checker must say.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use quorate_check::expect::Expectations;
use quorate_check::format::read_path;
use quorate_check::{Checker, Options, Report, Verdict, check_all};

use Checker::*;
use Verdict::{Unknown, Violated};

/// File, and everything that is not valid about it.
const TABLE: [(&str, &[(Checker, Verdict)]); 26] = [
    (
        "acknowledged_write_is_lost_after_heal",
        &[(AcknowledgedDurable, Violated), (Linearizable, Violated)],
    ),
    ("created_record_vanished", &[(AcknowledgedDurable, Violated), (Linearizable, Violated)]),
    ("deleted_record_is_resurrected", &[(AcknowledgedDurable, Violated), (Linearizable, Violated)]),
    (
        "final_read_failed_so_nothing_is_known",
        &[(AcknowledgedDurable, Unknown), (Convergence, Unknown)],
    ),
    ("edge_is_unknown_to_the_vertex_it_enters", &[(EdgeSymmetry, Violated)]),
    ("good_run", &[]),
    ("good_transactions", &[]),
    (
        "late_unknown_write_beats_a_newer_acknowledged_one",
        &[(AcknowledgedDurable, Violated), (Linearizable, Violated)],
    ),
    ("local_read_sees_a_failed_write", &[(FailedWriteVisible, Violated), (AbortedRead, Violated)]),
    (
        "local_read_sees_inside_a_transaction",
        &[
            (FailedWriteVisible, Violated),
            (IntermediateRead, Violated),
            (DependencyCycles, Unknown),
        ],
    ),
    ("majority_read_is_stale", &[(Linearizable, Violated)]),
    ("majority_reads_go_back_in_time_during_one_write", &[(Linearizable, Violated)]),
    ("no_update_ever_succeeded", &[(NonVacuous, Unknown)]),
    ("one_server_cannot_be_read_after_heal", &[(Convergence, Unknown)]),
    ("one_server_keeps_an_old_value_after_heal", &[(Convergence, Violated)]),
    ("one_server_lost_a_record", &[(Convergence, Violated)]),
    ("session_does_not_read_its_own_write", &[(SessionGuarantees, Violated)]),
    ("snapshot_sees_half_a_transfer", &[(BankTotal, Violated), (DependencyCycles, Violated)]),
    ("two_records_own_one_unique_key", &[(UniqueKey, Violated)]),
    ("two_sides_of_a_split_allocate_one_rid", &[(RidUnique, Violated)]),
    ("two_transactions_each_read_what_the_other_replaces", &[(DependencyCycles, Violated)]),
    (
        "two_transactions_replace_one_version",
        &[(DependencyCycles, Violated), (LostUpdate, Violated)],
    ),
    ("two_transactions_write_two_records_in_opposite_orders", &[(DependencyCycles, Violated)]),
    ("two_writes_are_given_one_version", &[(Linearizable, Violated)]),
    ("value_that_nobody_wrote", &[(FailedWriteVisible, Violated)]),
    ("write_is_acknowledged_by_one_master_of_three", &[(QuorumCompliance, Violated)]),
];

fn folder() -> PathBuf {
    // As cargo says it now: a target folder may be shared by several checkouts.
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&manifest).join("tests/known_bad")
}

fn judged(name: &str) -> Report {
    let reading = read_path(folder().join(name).with_extension("jsonl")).unwrap();
    assert!(reading.notes.is_empty(), "{name}");
    check_all(&reading.history, &Options::default())
}

/// FEATURES: H8
#[test]
fn each_history_gets_the_verdicts_of_the_table() {
    for (name, verdicts) in TABLE {
        let report = judged(name);
        let expected = Expectations(verdicts.iter().copied().collect());
        let comparison = expected.compare(&report);
        assert!(comparison.mismatches.is_empty(), "{name}: {comparison:?}\n{report}");
        for judgement in &report.judgements {
            let violated = judgement.verdict == Violated;
            assert_eq!(judgement.counterexample.is_some(), violated, "{name}: {judgement}");
        }
    }
}

#[test]
fn every_file_is_in_the_table() {
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(files, TABLE.iter().map(|(name, _)| (*name).to_owned()).collect());
}

/// FEATURES: H8
#[test]
fn every_checker_that_can_be_violated_is_shown_to_be() {
    let violated: BTreeMap<Checker, Verdict> = TABLE
        .iter()
        .flat_map(|(_, verdicts)| *verdicts)
        .copied()
        .filter(|v| v.1 == Violated)
        .collect();
    for checker in Checker::ALL {
        assert!(checker == NonVacuous || violated.contains_key(&checker), "{checker}");
    }
}
