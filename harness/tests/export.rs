//! Exports of a made-up run, read back: nothing is lost on the way, and the figures are the same.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

#[allow(dead_code, reason = "every test binary uses a part of this")]
mod compare_support;
#[allow(dead_code, reason = "every test binary uses a part of this")]
mod report_support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use quorate::folder::RunFolder;
use quorate::report;
use quorate_check::history::Outcome;

fn export(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.arg("export").args(arguments).output().unwrap()
}

/// Names and rows of a file whose cells are plain.
fn cells(path: &Path) -> (Vec<String>, Vec<Vec<String>>) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with("\r\n") && !text.contains('"'));
    let row = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<String>>();
    let mut rows: Vec<Vec<String>> = text.lines().map(row).collect();
    let names = rows.remove(0);
    assert!(rows.iter().all(|row| row.len() == names.len()));
    (names, rows)
}

/// FEATURES: H12
#[test]
fn csv_has_every_operation_and_every_interval() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("run");
    compare_support::run(&root, 1.0);
    let output = export(&[root.to_str().unwrap(), "--format", "csv"]);
    assert!(output.status.success(), "{output:?}");
    let folder = RunFolder::new(&root);
    let history = quorate_check::format::read_path(folder.history()).unwrap().history;
    let (names, rows) = cells(&root.join("export/operations.csv"));
    let at = |name: &str| names.iter().position(|of| of == name).unwrap();
    assert_eq!(rows.len(), history.operations.len());
    for (row, op) in rows.iter().zip(&history.operations) {
        let number = |name: &str| row[at(name)].parse::<u64>().unwrap();
        assert_eq!((number("id"), number("intended_ns")), (op.id, op.intended));
        assert_eq!(row[at("server")], history.header.nodes[op.node as usize]);
        assert_eq!(row[at("outcome")] == "ok", op.outcome == Outcome::Ok);
        let done = row[at("done_ns")].parse::<u64>().ok();
        assert_eq!(done, op.done, "empty where there was no answer");
        let micros = row[at("response_us")].parse::<f64>().ok();
        assert_eq!(micros, op.done.map(|done| (done - op.intended) as f64 / 1e3));
    }
    let (names, rows) = cells(&root.join("export/intervals.csv"));
    let at = |name: &str| names.iter().position(|of| of == name).unwrap();
    let count: u64 = rows.iter().map(|row| row[at("count")].parse::<u64>().unwrap()).sum();
    assert_eq!(count, report::read_summary(&folder).unwrap().unwrap().counts.ok);
    assert!(rows.iter().all(|row| row[at("class")] == "update" && row[at("outcome")] == "ok"));
}

/// All intervals of a log, the first second and the merged histogram.
fn merged(log: &[u8]) -> (usize, f64, Histogram<u64>) {
    let mut all = Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
    let (mut count, mut first) = (0, f64::MAX);
    for entry in IntervalLogIterator::new(log) {
        let LogEntry::Interval(of) = entry.unwrap() else { continue };
        let bytes = base64::engine::general_purpose::STANDARD.decode(of.encoded_histogram());
        let found: Histogram<u64> =
            Deserializer::new().deserialize(&mut &bytes.unwrap()[..]).unwrap();
        all.add(&found).unwrap();
        count += 1;
        first = first.min(of.start_timestamp().as_secs_f64());
    }
    (count, first, all)
}

/// FEATURES: H12
#[test]
fn logs_without_tags_hold_the_same_histograms() {
    let place = tempfile::tempdir().unwrap();
    let (root, out) = (place.path().join("run"), place.path().join("logs"));
    compare_support::run(&root, 1.0);
    let named = [root.to_str().unwrap(), "--format", "hdr", "--out", out.to_str().unwrap()];
    assert!(export(&named).status.success());
    let wanted = merged(&fs::read(RunFolder::new(&root).intervals()).unwrap());
    for name in ["update.ok.hlog", "all.ok.hlog"] {
        let text = fs::read_to_string(out.join(name)).unwrap();
        assert!(text.starts_with("#[Histogram log format version 1.3]\n"), "{text}");
        assert!(!text.contains("Tag=") && text.contains(",HISTFAAA"), "{text}");
        let found = merged(text.as_bytes());
        assert_eq!((found.0, found.1), (wanted.0, wanted.1));
        assert_eq!(found.2, wanted.2);
    }
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
    let output = export(&[place.path().to_str().unwrap(), "--format", "hdr"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("has no intervals.hlog"));
}
