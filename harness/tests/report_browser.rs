//! Opens a report in a headless browser, from a file, at desktop and telephone width: no script
//! error, every plot has a size, no text is cut off, nothing needs sideways scrolling.
//!
//! `QUORATE_REPORT=path/to/report.html` checks a real report instead of a synthetic one;
//! `QUORATE_BROWSER` names a browser that is not found under its usual names.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]
#![allow(clippy::print_stdout, reason = "figures for whoever reads the test's output")]

mod browser_support;
#[allow(dead_code, reason = "every test binary uses a part of this")]
mod compare_support;
mod report_support;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use browser_support::{browser, check, look};
use quorate::report;
use report_support::Synthetic;

fn skip() {
    // Not by a macro: those are captured when a test passes, and a skip has to be heard.
    let text = b"SKIPPED report_browser: no browser (chromium, chrome; QUORATE_BROWSER)\n";
    std::io::stderr().write_all(text).unwrap();
}

#[test]
fn the_report_works_in_a_browser() {
    let Some(browser) = browser() else { return skip() };
    let given = std::env::var_os("QUORATE_REPORT").map(PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    let path = given.clone().unwrap_or_else(|| {
        let run = Synthetic { violated: true, unsound: true, ..Synthetic::rich() };
        report::write(&run.write(folder.path())).unwrap().report
    });
    let html = fs::read_to_string(&path).unwrap();
    let frames = look(&browser, &html);
    assert_eq!(frames.len(), 2);
    for frame in &frames {
        check(frame, (6, 7));
        let readout = frame["readout"].as_str().unwrap();
        assert!(given.is_some() || readout.contains("p99"), "{readout}");
    }
}

/// FEATURES: H9
#[test]
fn the_page_of_a_comparison_works_in_a_browser() {
    let Some(browser) = browser() else { return skip() };
    let folder = tempfile::tempdir().unwrap();
    compare_support::blocks(folder.path(), 1.5, true);
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let ab = command.arg("compare").arg(folder.path()).output().unwrap();
    assert_eq!(ab.status.code(), Some(1), "{ab:?}");
    let html = fs::read_to_string(folder.path().join("index.html")).unwrap();
    for frame in &look(&browser, &html) {
        check(frame, (4, 2));
        let readout = frame["readout"].as_str().unwrap();
        assert!(readout.contains("A ") && readout.contains("B "), "{readout}");
    }
}
