//! Everything shipped in `workloads/` and `chaos/`: fits the schemas that editors use, gives a
//! plan, and keeps inside its budgets.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use expect_test::expect_file;
use quorate::plan::{Plan, build, estimate};
use quorate::spec::schema::FileKind;
use quorate::spec::tree::Node;
use quorate::spec::{Overrides, scenario, suite, workload};
use quorate_check::verdict::Verdict;

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder}");
    files
}

const KINDS: [(FileKind, &str, &str); 3] = [
    (FileKind::Workload, "../workloads", "workload"),
    (FileKind::Scenario, "../chaos", "scenario"),
    (FileKind::Suite, "../workloads/suites", "suite"),
];

#[test]
fn schemas_for_editors_are_those_of_this_build() {
    // As cargo says it now: a target folder may be shared by several checkouts.
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    for (kind, _, name) in KINDS {
        let path = format!("{manifest}/../workloads/schema/{name}.json");
        let json = serde_json::to_string_pretty(&kind.schema()).unwrap();
        expect_file![path].assert_eq(&format!("{json}\n"));
    }
}

#[test]
fn every_file_fits_its_schema_and_names_it() {
    for (kind, folder, name) in KINDS {
        let validator = jsonschema::validator_for(&kind.schema()).unwrap();
        for path in yaml_files(folder) {
            let text = fs::read_to_string(&path).unwrap();
            let json = Node::parse("file", &text).unwrap().to_json();
            let errors: Vec<_> = validator.iter_errors(&json).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());

            let first = text.lines().next().unwrap();
            let schema = first.strip_prefix("# yaml-language-server: $schema=").unwrap();
            let schema = path.parent().unwrap().join(schema);
            assert!(schema.is_file(), "{}", schema.display());
            assert_eq!(schema.file_stem().unwrap(), name);
        }
    }
}

#[test]
fn every_workload_gives_a_plan_and_says_what_it_shows() {
    for path in yaml_files("../workloads") {
        let spec = workload(&path, &Overrides::default()).unwrap();
        assert_eq!(spec.name, path.file_stem().unwrap().to_str().unwrap());
        assert!(!spec.description.is_empty());
        build(&spec, spec.seed).unwrap();
    }
}

#[test]
fn every_scenario_goes_under_the_baseline() {
    for path in yaml_files("../chaos") {
        let alone = scenario(&path).unwrap();
        assert_eq!(alone.name, path.file_stem().unwrap().to_str().unwrap());
        assert!(!alone.description.is_empty());
        // As its comment says how to run it.
        const FIVE: &str = "topology.masters=5";
        let needs_five = fs::read_to_string(&path).unwrap().contains(&format!("--set {FIVE}"));
        let mut overrides = Overrides { scenario: Some(path), ..Overrides::default() };
        if needs_five {
            overrides.add(FIVE).unwrap();
        }
        let spec = workload(Path::new("../workloads/baseline.yaml"), &overrides).unwrap();
        build(&spec, spec.seed).unwrap();
    }
}

#[test]
fn every_suite_keeps_inside_its_budgets() {
    for path in yaml_files("../workloads/suites") {
        let suite = suite(&path, None).unwrap();
        assert_eq!(suite.name, path.file_stem().unwrap().to_str().unwrap());
        let sum: Duration = suite.experiments.iter().map(|experiment| experiment.budget).sum();
        assert!(sum <= suite.budget, "{}: {sum:?}", suite.name);
        for experiment in &suite.experiments {
            assert!(estimate::longest(&experiment.plan) <= experiment.budget, "{experiment:?}");
        }
    }
}

#[test]
fn suites_of_every_question_have_the_whole_matrix_of_comparable_points() {
    for name in ["quick", "full"] {
        let path = format!("../workloads/suites/{name}.yaml");
        let suite = suite(Path::new(&path), None).unwrap();
        let members: Vec<_> =
            suite.experiments.iter().filter(|e| e.workload.ends_with("members.yaml")).collect();
        let point = |plan: &Plan| {
            let topology = &plan.topology;
            (topology.masters.len(), topology.write_quorum.clone())
        };
        let points: BTreeSet<_> = members.iter().map(|e| point(&e.plan)).collect();
        assert_eq!(points.len(), members.len(), "{}: one run a point", suite.name);
        // Of one MASTER, every quorum is the same.
        let mut wanted = BTreeSet::from([(1, "majority".to_owned())]);
        wanted.extend([3, 5].into_iter().flat_map(|masters| {
            ["1", "majority", "all"].map(|quorum| (masters, quorum.to_owned()))
        }));
        assert_eq!(points, wanted, "{}", suite.name);
        for experiment in &members {
            let plan = &experiment.plan;
            assert_eq!(plan.phases, members[0].plan.phases, "{}", experiment.name);
            // A quorum of 1 promises nothing about concurrent writes of one record.
            let free = ["acknowledged-durable", "linearizable", "convergence"];
            let is_one = plan.topology.write_quorum == "1";
            let any = |name: &&str| plan.expect.get(*name) == Some(&Verdict::Unknown);
            assert_eq!(free.iter().filter(|name| any(name)).count(), if is_one { 3 } else { 0 });
        }
    }
}

#[test]
fn suites_say_in_their_comments_how_long_their_budget_is() {
    for name in ["full", "capacity"] {
        let path = format!("../workloads/suites/{name}.yaml");
        let budget = suite(Path::new(&path), None).unwrap().budget;
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("{} at most", budget.as_secs() / 60)), "{budget:?}");
    }
}

#[test]
fn the_quick_suite_takes_less_than_six_minutes() {
    let suite = suite(Path::new("../workloads/suites/quick.yaml"), None).unwrap();
    assert!(suite.budget < Duration::from_secs(360));
}

#[test]
fn a_suite_over_its_budget_is_refused_with_the_line() {
    let error = suite(Path::new("tests/spec/suites/greedy.yaml"), None).unwrap_err();
    expect_file!["spec/suites/greedy.txt"].assert_eq(&format!("{error}\n"));
}
