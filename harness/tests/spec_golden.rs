//! Golden tests of spec files: every file in `spec/good` gives the plan beside it, every file in
//! `spec/bad` the messages beside it. `UPDATE_EXPECT=1 cargo test` rewrites them; review the diff.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

use std::fs;
use std::path::{Path, PathBuf};

use expect_test::expect_file;
use quorate::plan::{Plan, build};
use quorate::spec::{Overrides, SpecError, workload};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new("tests/spec").join(folder);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().unwrap() == "yaml").collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn plan(path: &Path, overrides: &Overrides) -> Result<Plan, SpecError> {
    let spec = workload(path, overrides)?;
    build(&spec, spec.seed).map_err(SpecError::Invalid)
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    // As cargo says it now: a target folder may be shared by several checkouts.
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&manifest).join(path.with_extension(extension))
}

#[test]
fn bad_specs_say_where_and_what_is_legal() {
    for path in files("bad") {
        let error = plan(&path, &Overrides::default()).map(|_| ()).unwrap_err();
        expect_file![beside(&path, "txt")].assert_eq(&format!("{error}\n"));
    }
}

#[test]
fn good_specs_give_their_plans() {
    for path in files("good") {
        let plan = plan(&path, &Overrides::default()).unwrap();
        let json = serde_json::to_string_pretty(&plan).unwrap();
        expect_file![beside(&path, "json")].assert_eq(&format!("{json}\n"));
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
    }
}

#[test]
fn same_spec_and_seed_give_the_same_bytes() {
    let path = Path::new("tests/spec/good/everything.yaml");
    let bytes = |seed| {
        let overrides = Overrides { seed: Some(seed), ..Overrides::default() };
        serde_json::to_vec(&plan(path, &overrides).unwrap()).unwrap()
    };
    assert_eq!(bytes(7), bytes(7));
    assert_ne!(bytes(7), bytes(8));
}

#[test]
fn overrides_replace_values_and_name_themselves_in_messages() {
    let path = Path::new("tests/spec/good/minimal.yaml");
    let with = |assignments: &[&str]| {
        let mut overrides = Overrides::default();
        for assignment in assignments {
            overrides.add(assignment)?;
        }
        plan(path, &overrides)
    };
    let changed = with(&["topology.masters=5", "phases.measure=3s", "name=other"]).unwrap();
    assert_eq!(changed.topology.masters.len(), 5);
    assert_eq!(changed.phases.measure_ms, 3000);
    assert_eq!(changed.name, "other");
    let message = |assignments: &[&str]| with(assignments).unwrap_err().to_string();
    assert_eq!(
        message(&["load.rate=x"]),
        "--set load.rate=x: load.rate: `x` is not legal here; \
         legal: a number from 1 to 100000"
    );
    assert_eq!(message(&["load"]), "--set load: must be path=value, as in load.rate=500");
    assert_eq!(
        message(&["load.rte=1"]),
        "--set load.rte=1: load.rte: unknown key `rte`; did you mean `rate`? legal: mode, rate, \
         arrivals, clients, timeout, in_flight_cap, targets, read_at"
    );
}

#[test]
fn a_scenario_replaces_the_faults_of_a_workload() {
    let path = Path::new("tests/spec/good/everything.yaml");
    let scenario = Some(PathBuf::from("../chaos/pause.yaml"));
    let plan = plan(path, &Overrides { scenario, ..Overrides::default() }).unwrap();
    assert_eq!(plan.faults.len(), 1);
    assert_eq!(plan.faults[0].name, "pause");
}
