//! `quorate explain` over runs that never took place: each sentence as people read it, and what it
//! says of folders that it cannot explain.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod report_support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use expect_test::expect_file;
use quorate::plan::Plan;
use quorate::report::{self, Explanation, Part};
use report_support::Synthetic;

fn quorate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate")).args(arguments).output().unwrap()
}

/// What the library says of a run.
fn explained(run: &Synthetic) -> Explanation {
    let place = tempfile::tempdir().unwrap();
    let folder = run.write(place.path());
    let summary = report::write(&folder).unwrap().summary;
    let plan: Plan = serde_json::from_slice(&fs::read(folder.plan()).unwrap()).unwrap();
    report::explain(&plan, &summary, "results/latest")
}

fn text(explained: &Explanation) -> String {
    let mut text = format!("{}: {}\n", explained.name, explained.verdict);
    for Part { question, sentences } in &explained.parts {
        writeln!(text, "\n{question}\n  {}", sentences.join("\n  ")).unwrap();
    }
    text
}

#[test]
fn runs_are_told_in_sentences() {
    for (file, run) in [
        ("outage", Synthetic::default()),
        ("faults", Synthetic::rich()),
        ("violated", Synthetic { violated: true, quorum: "1", ..Synthetic::default() }),
        ("unsound", Synthetic { unsound: true, outage: None, rate: 20, ..Synthetic::default() }),
        ("crashed", Synthetic { crashed: true, ..Synthetic::default() }),
    ] {
        let path = format!("{}/tests/explain/{file}.txt", env!("CARGO_MANIFEST_DIR"));
        expect_file![path].assert_eq(&text(&explained(&run)));
    }
}

/// What the command prints is what the library says, and the same as JSON.
#[test]
fn the_command_says_the_same() {
    let place = tempfile::tempdir().unwrap();
    let folder = Synthetic::rich().write(place.path());
    let root = folder.root().to_str().unwrap();
    let output = quorate(&["explain", root]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(&format!("`quorate report {root}` makes it")), "{told}");

    report::write(&folder).unwrap();
    // The plan and the summary are all that it needs.
    fs::remove_file(folder.history()).unwrap();
    let output = quorate(&["explain", root]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let wanted = text(&explained(&Synthetic::rich())).replace("results/latest", root);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted);

    let json: serde_json::Value =
        serde_json::from_slice(&quorate(&["explain", root, "--json"]).stdout).unwrap();
    assert_eq!(json["name"], "partition-and-crash");
    assert_eq!(json["parts"].as_array().unwrap().len(), 6, "{json}");
    assert!(json["parts"][2]["sentences"][0].as_str().unwrap().starts_with("`cut-one` "), "{json}");
}

/// Of a suite each run is named with its verdict and the command that says more.
#[test]
fn a_suite_is_told_run_by_run() {
    let place = tempfile::tempdir().unwrap();
    let good = place.path().join("a");
    let bad = place.path().join("b");
    report::write(&Synthetic::default().write(&good)).unwrap();
    let violated = Synthetic { violated: true, name: "bad", ..Synthetic::default() };
    report::write(&violated.write(&bad)).unwrap();
    let output = quorate(&["explain", place.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    let more = |path: &Path| format!("    quorate explain {}\n", path.display());
    let wanted = format!(
        "synthetic: Every promise held.\n{}bad: A promise was broken.\n{}",
        more(&good),
        more(&bad)
    );
    assert_eq!(told, wanted);

    // One that was killed before it had figures does not silence the others.
    let killed = Synthetic { name: "killed", ..Synthetic::default() };
    killed.write(&place.path().join("c"));
    let output = quorate(&["explain", place.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("c has no summary.json: `quorate report "), "{error}");

    let output = quorate(&["explain", place.path().join("nowhere").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
}
