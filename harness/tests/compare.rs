//! Comparing runs as people do: made-up run folders, the program, its tables and exit codes.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

#[allow(dead_code, reason = "every test binary uses a part of this")]
mod report_support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2Serializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use quorate::ab::{Ab, Arm, Definition, Done, turns};
use quorate::folder::RunFolder;
use quorate::report;
use quorate::resume::Resumable as _;
use quorate_check::history::{Outcome, Phase};
use report_support::Synthetic;
use serde_json::Value;
use tempfile::TempDir;

/// Runs `quorate compare`.
fn compare(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .arg("compare")
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A run with its report, drawn once: that is what takes long.
fn made() -> &'static RunFolder {
    static MADE: OnceLock<(TempDir, RunFolder)> = OnceLock::new();
    let (_, folder) = MADE.get_or_init(|| {
        let place = tempfile::tempdir().unwrap();
        let made = Synthetic { rate: 200, seconds: 10, tail: true, ..Synthetic::default() };
        let folder = made.write(&place.path().join("made"));
        report::write(&folder).unwrap();
        (place, folder)
    });
    folder
}

/// Writes a run whose operations take `slower` times as long as they would.
fn run(root: &Path, slower: f64) {
    fs::create_dir_all(root).unwrap();
    for entry in fs::read_dir(made().root()).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), root.join(entry.file_name())).unwrap();
        }
    }
    write_intervals(&RunFolder::new(root), slower);
}

/// The log that a driver would have written beside the history.
fn write_intervals(folder: &RunFolder, slower: f64) {
    let history = quorate_check::format::read_path(folder.history()).unwrap().history;
    let mut seconds: BTreeMap<u64, Histogram<u64>> = BTreeMap::new();
    let ok = |op: &&quorate_check::history::Operation| op.outcome == Outcome::Ok;
    for op in history.operations.iter().filter(|op| op.phase == Phase::Measure).filter(ok) {
        let done = op.done.unwrap();
        let empty = || Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        let micros = (done - op.intended) as f64 / 1e3 * slower;
        seconds.entry(done / 1_000_000_000).or_insert_with(empty).record(micros as u64).unwrap();
    }
    let mut file = File::create(folder.intervals()).unwrap();
    let mut serializer = V2Serializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .with_start_time(SystemTime::UNIX_EPOCH)
        .begin_log_with(&mut file, &mut serializer)
        .unwrap();
    for (second, histogram) in seconds {
        let (from, length) = (Duration::from_secs(second), Duration::from_secs(1));
        log.write_histogram(&histogram, from, length, Tag::new("update.ok")).unwrap();
    }
}

/// Blocks of `quorate ab` in which B takes `slower` times as long.
fn blocks(root: &Path, slower: f64, finished: bool) {
    let arm = |hash: &str| Arm {
        program: "quorate-node".to_owned(),
        programs: vec![("node".to_owned(), hash.to_owned())],
        set: Vec::new(),
    };
    let mut ab = Ab::new(Definition {
        name: "made-up".to_owned(),
        harness: "test".to_owned(),
        seed: 7,
        blocks: 3,
        stage: "process".to_owned(),
        options: Vec::new(),
        a: arm("one"),
        b: arm("two"),
        plans: String::new(),
    });
    for (at, turn) in turns(3).into_iter().enumerate() {
        let folder = format!("run-{at}");
        // Runs lie a little apart, those of one block less.
        let moment = 1.0 + 0.01 * f64::from(turn.block) + 0.002 * f64::from(turn.pair);
        let is_b = turn.side == quorate::ab::Side::B;
        run(&root.join(&folder), moment * if is_b { slower } else { 1.0 });
        ab.runs.push(Done {
            turn,
            folder,
            remark: String::new(),
            violated: false,
            spoilt: false,
            failed: false,
        });
    }
    ab.finished = finished;
    ab.write(root).unwrap();
}

/// FEATURES: H9
#[test]
fn single_runs_are_set_beside_each_other_and_the_command_that_settles_it_is_named() {
    let place = tempfile::tempdir().unwrap();
    let (a, b) = (place.path().join("a"), place.path().join("b"));
    run(&a, 1.0);
    run(&b, 1.5);
    let named = [a.to_str().unwrap(), b.to_str().unwrap()];
    let (code, told, _) = compare(&named);
    assert_eq!(code, 0, "{told}");
    for wanted in ["spec, build and environment are the same", "p99", "1.5", "quorate ab "] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    let gate = place.path().join("gate.yaml");
    fs::write(&gate, "gate:\n- metric: p99\n").unwrap();
    let (code, told, _) = compare(&[named[0], named[1], "--gate", gate.to_str().unwrap()]);
    assert_eq!(code, 2, "single runs pass no gate: {told}");
    fs::write(&gate, "gate:\n- metric: p98\n").unwrap();
    let (code, _, error) = compare(&[named[0], named[1], "--gate", gate.to_str().unwrap()]);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("gate.yaml:2: gate.0.metric: `p98` is not legal here"), "{error}");
}

/// FEATURES: H9
#[test]
fn runs_of_different_machines_get_no_verdict_and_what_is_no_run_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (a, b) = (place.path().join("a"), place.path().join("b"));
    run(&a, 1.0);
    run(&b, 1.5);
    let file = RunFolder::new(&b).manifest();
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let environment = manifest["environment"].as_array_mut().unwrap();
    environment.retain(|pair| pair[0] != "cpu");
    environment.push(serde_json::json!(["cpu", "another one"]));
    fs::write(&file, manifest.to_string()).unwrap();
    let named = [a.to_str().unwrap(), b.to_str().unwrap()];
    let (code, told, _) = compare(&named);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("without a verdict: they are of different machines: cpu is"), "{told}");
    assert!(!told.contains("quorate ab"), "{told}");
    let (code, told, _) = compare(&[named[0], named[1], "--json"]);
    let json: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, json["differences"][0]["key"].as_str()), (0, Some("cpu")));
    fs::remove_file(RunFolder::new(&b).summary()).unwrap();
    let (code, _, error) = compare(&named);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("has no summary.json"), "{error}");
    let (code, _, error) = compare(&[named[0]]);
    assert_eq!((code, error.as_str()), (3, "error: name at least two runs to compare\n"));
}

/// FEATURES: H9
#[test]
fn blocks_give_a_verdict_that_a_gate_passes_on() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    for (name, slower) in [("same", 1.0), ("worse", 1.5), ("better", 0.6)] {
        fs::create_dir(at(name)).unwrap();
        blocks(&at(name), slower, true);
    }
    let code_of = |name: &str, gate: &[&str]| {
        let folder = at(name);
        let mut arguments = vec![folder.to_str().unwrap(), "--json"];
        arguments.extend(gate);
        let (code, told, error) = compare(&arguments);
        let json: Value = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{error}"));
        (code, json["comparison"]["overall"].as_str().unwrap().to_owned())
    };
    assert_eq!(code_of("same", &[]), (0, "same".to_owned()));
    assert_eq!(code_of("worse", &[]), (1, "worse".to_owned()));
    assert_eq!(code_of("better", &[]), (0, "better".to_owned()));
    let gate = at("gate.yaml");
    fs::write(&gate, "gate:\n- metric: throughput\n").unwrap();
    assert_eq!(code_of("worse", &["--gate", gate.to_str().unwrap()]).0, 0, "it is as busy");
    fs::write(&gate, "gate:\n- { metric: p99, class: update, margin: 0.6 }\n").unwrap();
    assert_eq!(code_of("worse", &["--gate", gate.to_str().unwrap()]).1, "same");
    fs::write(&gate, "gate:\n- metric: unavailable\n").unwrap();
    assert_eq!(code_of("same", &["--gate", gate.to_str().unwrap()]).0, 2, "no run has it");
    // Fewer blocks than were asked for: the rest is to come.
    let mut ab = Ab::read(&at("worse")).unwrap();
    ab.finished = false;
    ab.write(&at("worse")).unwrap();
    assert_eq!(code_of("worse", &[]), (2, "worse".to_owned()));
    // A run that is not good takes its block with it.
    ab.finished = true;
    ab.runs[0].remark = "the driver was saturated".to_owned();
    ab.write(&at("worse")).unwrap();
    assert_eq!(code_of("worse", &[]), (2, "cannot-tell".to_owned()));
}

/// `make bench` leaves a suite, and who compares it with a run means the run of the same
/// experiment: the last of them, if the suite ran it again.
#[test]
fn of_a_suite_the_run_of_the_same_experiment_is_taken() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    for name in ["baseline", "suite/1-synthetic", "suite/2-synthetic", "suite/3-other"] {
        run(&path(name), 1.0);
    }
    let other = RunFolder::new(path("suite/3-other")).plan();
    let plan = fs::read_to_string(&other).unwrap();
    assert!(plan.contains("\"synthetic\""), "{plan}");
    fs::write(&other, plan.replace("\"synthetic\"", "\"other\"")).unwrap();

    let (code, told, error) = compare(&[&text("baseline"), &text("suite")]);
    assert_eq!(code, 0, "{told}{error}");
    let wanted = format!("A: {}\nB: {}\n", text("baseline"), text("suite/2-synthetic"));
    assert!(told.starts_with(&wanted), "{told}");

    for again in ["suite/1-synthetic", "suite/2-synthetic"] {
        fs::remove_dir_all(path(again)).unwrap();
    }
    let (code, _, error) = compare(&[&text("baseline"), &text("suite")]);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("has no run of `synthetic`"), "{error}");
}
