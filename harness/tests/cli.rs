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

/// A server that never comes up. When the harness asks for its version, it does this.
fn server(out: &Path, does: &str) -> PathBuf {
    let program = out.join("server");
    let script = format!("#!/bin/sh\n[ \"$1\" = --version ] || exit 1\n{does}\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// One that answers with what `latest` points to while the run is being prepared.
fn witness(out: &Path) -> PathBuf {
    server(out, &format!("readlink '{}'", out.join("latest").display()))
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

/// A workload of one server, and its place as text.
fn short(out: &Path) -> String {
    let spec = out.join("w.yaml");
    fs::write(&spec, "name: short\ntopology: { masters: 1, links: direct }\n").unwrap();
    spec.to_str().unwrap().to_owned()
}

#[test]
fn a_capacity_that_cannot_be_looked_for_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (spec, out) = (short(folder.path()), folder.path().join("results"));
    let scenario = folder.path().join("kill.yaml");
    fs::write(&scenario, "name: kill\nfaults:\n  - { fault: kill, at: 1s, for: 1s }\n").unwrap();
    let scenario = scenario.to_str().unwrap();
    for (wrong, told) in [
        (&["--p99", "0s"][..], "--p99: must be more than 0s"),
        (&["--p99", "soon"], "--p99"),
        (&["--refused", "1"], "--refused: legal: 0 up to, not including, 1"),
        (&["--refused", "nan"], "--refused: legal"),
        (&["--within", "0"], "--within: legal: more than 0 and less than 1"),
        (&["--within", "1"], "--within: legal"),
        (&["--from", "20", "--most", "10"], "--from: is above --most"),
        (&["--from", "0"], "--from"),
        (&["--repeats", "0"], "--repeats"),
        (&["--set", "load.nothing=1"], "load.nothing"),
        (&["--scenario", scenario], "w.yaml: has faults; what servers can do"),
    ] {
        let place = ["capacity", &spec, "--out", out.to_str().unwrap(), "--json"];
        let output = quorate(&[&place, wrong].concat());
        assert_eq!(output.status.code(), Some(3), "{wrong:?}: {output:?}");
        assert!(stderr(&output).contains(told), "{wrong:?}: {output:?}");
        assert!(output.stdout.is_empty() && !out.exists(), "{wrong:?}: {output:?}");
    }
}

#[test]
fn a_search_that_was_stopped_goes_on_and_tells_programs_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let (spec, program) = (short(folder.path()), server(folder.path(), "echo made by hand"));
    let out = folder.path().join("results");
    let place = ["--stage", "process", "--node-bin", program.to_str().unwrap()];
    let bounds = ["--p99", "20ms", "--from", "10", "--most", "40"];
    let search = |fresh: &[&str]| {
        let begin = ["capacity", &spec, "--json", "--out", out.to_str().unwrap()];
        let output = quorate(&[&begin[..], &place, &bounds, fresh].concat());
        // No server comes up: the harness failed, and says so.
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let told = search(&[]);
    let first = PathBuf::from(told["folder"].as_str().unwrap());
    assert_eq!(latest(&out), first.file_name().unwrap().to_str().unwrap());
    assert_eq!((&told["capacity"], &told["exit"]), (&"short".into(), &4.into()), "{told}");
    assert!(told["outcome"].is_null() && told["runs"] == serde_json::json!([]), "{told}");
    assert_eq!(told["definition"]["objective"]["p99_ms"], 20.0, "{told}");
    assert!(told["told"].as_str().unwrap().contains("the same command goes on"), "{told}");
    // As if a run had ended before it was killed.
    let file = first.join("capacity.json");
    let mut kept: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let run = serde_json::json!({
        "rate": 10, "folder": "a-run", "said": "met", "remark": "", "violated": false,
        "figures": { "achieved": 10.0, "p99_ms": 3.0, "refused": 0.0 },
    });
    kept["runs"] = serde_json::json!([run]);
    fs::write(&file, kept.to_string()).unwrap();
    let told = search(&[]);
    assert_eq!(Path::new(told["folder"].as_str().unwrap()), first);
    assert_eq!(told["runs"], kept["runs"], "{told}");
    let page = PathBuf::from(told["index"].as_str().unwrap());
    assert!(fs::read_to_string(&page).unwrap().contains("href=\"a-run"), "{told}");
    fs::remove_file(&page).unwrap();
    let output = quorate(&["report", first.to_str().unwrap()]);
    assert!(output.status.success() && page.is_file(), "{output:?}");
    let told = search(&["--fresh"]);
    assert_ne!(Path::new(told["folder"].as_str().unwrap()), first);
    assert_eq!(told["runs"], serde_json::json!([]), "{told}");
}

/// FEATURES: H12
#[test]
fn prune_says_what_would_go_before_it_goes_and_leaves_named_folders_alone() {
    let out = tempfile::tempdir().unwrap();
    let place = out.path().to_str().unwrap();
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let names = ["2026-01-01T000000Z-a-1", "2026-01-02T000000Z-a-1", "2026-01-03T000000Z-a-1"];
    for name in names.iter().chain(&["baseline"]) {
        let folder = out.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("plan.json"), "{}").unwrap();
        for path in [folder.join("plan.json"), folder] {
            fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
        }
    }
    assert_eq!(quorate(&["prune", place]).status.code(), Some(3), "--keep has no default");
    assert_eq!(quorate(&["prune", place, "--keep", "0"]).status.code(), Some(3));
    let nowhere = quorate(&["prune", "nowhere", "--keep", "2"]);
    assert_eq!(nowhere.status.code(), Some(3), "{}", stderr(&nowhere));
    assert!(stderr(&nowhere).contains("nowhere: is no folder of results"), "{}", stderr(&nowhere));
    let tried = quorate(&["prune", place, "--keep", "2", "--dry-run"]);
    let told = String::from_utf8(tried.stdout).unwrap();
    assert_eq!(told.matches("would be removed").count(), 1, "{told}");
    assert!(names.iter().all(|name| out.path().join(name).exists()));
    let output = quorate(&["prune", place, "--keep", "2", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["freed_bytes"], 2, "{json}");
    let left = |name: &str| out.path().join(name).exists();
    assert_eq!(names.map(left), [false, true, true]);
    assert!(left("baseline"));
}

/// A name that YAML would read as something else is a name all the same.
#[test]
fn what_init_writes_can_be_planned_whatever_its_name() {
    let place = tempfile::tempdir().unwrap();
    for name in ["2026", "true", "null", "1e3", "0x10", "mine"] {
        let file = place.path().join(format!("{name}.yaml"));
        let file = file.to_str().unwrap();
        for command in ["init", "plan"] {
            let output = quorate(&[command, file]);
            assert_eq!(output.status.code(), Some(0), "{command} {file}: {}", stderr(&output));
        }
    }
    let nowhere = place.path().join("nowhere/mine.yaml");
    let output = quorate(&["init", nowhere.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}
