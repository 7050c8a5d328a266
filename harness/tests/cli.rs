//! The command as users start it: exit codes, messages and links, without a database.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs `quorate` with `arguments`, from the repository's folder of this crate.
fn quorate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate")).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_report_needs_a_run_and_leaves_other_folders_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("photos")).unwrap();
    let place = folder.path().to_str().unwrap();
    let missing = folder.path().join("nowhere");
    for wrong in [place, missing.to_str().unwrap()] {
        let output = quorate(&["report", wrong]);
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let told = stderr(&output);
        assert!(told.contains(wrong) && told.contains("`quorate list`"), "{told}");
    }
    assert!(!folder.path().join("index.html").exists());
    // A run that ended before its summary is a run.
    fs::create_dir(folder.path().join("run")).unwrap();
    fs::write(folder.path().join("run/plan.json"), "{}").unwrap();
    let output = quorate(&["report", place]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(folder.path().join("index.html").exists());
}

#[test]
fn an_endless_spec_and_a_fault_without_effect_are_refused() {
    let output = quorate(&["plan", "/dev/zero"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(stderr(&output), "/dev/zero: not a regular file\n");
    let output = quorate(&["plan", "tests/spec/bad/fault_parts.yaml"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(stderr(&output).contains("fault_parts.yaml:8: faults.5.delay: "), "{output:?}");
}

#[test]
fn an_error_tells_its_cause_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("plan.json"), "{").unwrap();
    for command in ["check", "report"] {
        let output = quorate(&[command, folder.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        assert_eq!(stderr(&output).matches("EOF").count(), 1, "{output:?}");
    }
}

/// A server that never comes up. When the harness asks for its version, while the run is being
/// prepared, it answers with what `latest` points to.
fn witness(out: &Path) -> PathBuf {
    let program = out.join("witness");
    let link = out.join("latest");
    let script =
        format!("#!/bin/sh\n[ \"$1\" = --version ] || exit 1\nreadlink '{}'\n", link.display());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// What the witness saw, from the manifest of the only run below `folder`.
fn seen(folder: &Path) -> String {
    let mut runs = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let manifest = runs.find_map(|run| fs::read(run.join("manifest.json")).ok()).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["node"].as_str().unwrap().to_owned()
}

fn latest(out: &Path) -> String {
    fs::read_link(out.join("latest")).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn latest_points_to_a_run_from_its_first_moment_on() {
    let out = tempfile::tempdir().unwrap();
    let program = witness(out.path());
    let [place, program] = [out.path(), &program].map(|path| path.to_str().unwrap());
    let spec = out.path().join("w.yaml");
    fs::write(&spec, "name: short\ntopology: { masters: 1, links: direct }\n").unwrap();
    let spec = spec.to_str().unwrap();
    let output = quorate(&["run", spec, "--quiet", "--out", place, "--node-bin", program]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let run = latest(out.path());
    assert!(run.contains("-short-"), "{run}");
    assert_eq!(seen(out.path()), run);
}

#[test]
fn latest_points_to_a_suite_from_its_first_moment_on() {
    let out = tempfile::tempdir().unwrap();
    let program = witness(out.path());
    let [place, program] = [out.path(), &program].map(|path| path.to_str().unwrap());
    let workload = "name: short\ntopology: { masters: 1, links: direct }\n";
    fs::write(out.path().join("w.yaml"), workload).unwrap();
    let suite = out.path().join("s.yaml");
    let experiment = "{ name: one, workload: w.yaml, budget: 90s }";
    let text = format!("name: tiny\nbudget: 90s\nexperiments:\n  - {experiment}\n");
    fs::write(&suite, text).unwrap();
    let suite = suite.to_str().unwrap();
    let output = quorate(&["suite", suite, "--quiet", "--out", place, "--node-bin", program]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let folder = latest(out.path());
    assert!(folder.ends_with("-suite-tiny"), "{folder}");
    assert_eq!(seen(&out.path().join(&folder)), folder);
    // The experiments stand beside each other; none of them is the latest of anything.
    assert!(!out.path().join(&folder).join("latest").exists());
}
