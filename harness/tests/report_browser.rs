//! Opens a report in a headless browser, from a file, at desktop and telephone width: no script
//! error, every plot has a size, no text is cut off, nothing needs sideways scrolling.
//!
//! `QUORATE_REPORT=path/to/report.html` checks a real report instead of a synthetic one;
//! `QUORATE_BROWSER` names a browser that is not found under its usual names.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]
#![allow(clippy::print_stdout, reason = "figures for whoever reads the test's output")]

mod browser_support;
mod report_support;

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use browser_support::{browser, check, look};
use quorate::report;
use report_support::Synthetic;

#[test]
fn the_report_works_in_a_browser() {
    let Some(browser) = browser() else {
        // Not by a macro: those are captured when a test passes, and a skip has to be heard.
        let text = b"SKIPPED report_browser: no browser (chromium, chrome; QUORATE_BROWSER)\n";
        return std::io::stderr().write_all(text).unwrap();
    };
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
        check(frame);
        let readout = frame["readout"].as_str().unwrap();
        assert!(given.is_some() || readout.contains("p99"), "{readout}");
    }
}
