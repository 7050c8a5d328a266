//! The stage that simulates, as people run it: the same spec, verdicts and report as with real
//! servers, in virtual time.
#![allow(clippy::unwrap_used, reason = "a failed expectation of a test ends it")]

#[path = "stage_support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// `quorate` in the checkout, with its runs in a folder of the test's own.
fn quorate(arguments: &[&str], out: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let command = command.current_dir(checkout()).env("QUORATE_SIM_BIN", support::sim());
    command.args(arguments).args(["--stage", "sim", "--out"]).arg(out).output().unwrap()
}

fn only_run(out: &Path) -> PathBuf {
    let link = std::fs::canonicalize(out.join("latest")).unwrap();
    assert!(link.is_dir());
    link
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The spec that runs on processes and containers, too, unchanged but for its length: every checker
/// has something to judge, and the same seed makes the same history to the byte.
///
/// FEATURES: H4, H11
#[test]
fn the_baseline_is_simulated_with_verdicts_and_repeats_to_the_byte() {
    let short = ["run", "workloads/baseline.yaml", "--set", "phases.measure=3s"];
    let histories = [(); 2].map(|()| {
        let out = tempfile::tempdir().unwrap();
        let output = quorate(&short, out.path());
        let shown = format!("{output:?}");
        assert_eq!(output.status.code(), Some(0), "{shown}");
        assert!(shown.contains("stage: sim"), "{shown}");
        let run = only_run(out.path());
        assert_eq!(json(&run.join("manifest.json"))["stage"], "sim");
        let report = std::fs::read_to_string(run.join("report.html")).unwrap();
        assert!(report.contains("simulated, not measured"), "{}", run.display());
        let summary = json(&run.join("summary.json"));
        assert_eq!(summary["simulated"], true, "{summary}");
        let verdicts = json(&run.join("verdicts.json"));
        let judged = verdicts["judgements"].as_array().unwrap();
        let valid = judged.iter().filter(|judged| judged["verdict"] == "valid");
        assert!(valid.count() >= 5, "{verdicts}");
        std::fs::read(run.join("history.jsonl")).unwrap()
    });
    assert!(histories[0] == histories[1], "two runs of one seed differ");
    assert!(histories[0].len() > 100_000, "{} bytes", histories[0].len());
}

/// FEATURES: H4
#[test]
fn what_is_not_simulated_is_refused_with_a_stage_that_can() {
    let out = tempfile::tempdir().unwrap();
    let output = quorate(&["run", "workloads/power-cuts.yaml"], out.path());
    let shown = format!("{output:?}");
    assert_eq!(output.status.code(), Some(3), "{shown}");
    assert!(shown.contains("--stage sim") && shown.contains("--stage process can"), "{shown}");
    assert!(!out.path().join("latest").exists());
}
