//! Golden scripts: one protocol behaviour a file under `tests/scripts`, run against real machines
//! with the network, the disks and the clock in the script's hand.
//!
//! A file is a list of blocks: comment lines (`#`) and commands, a line `---`, and what they
//! print, ended by an empty line. `UPDATE=1 cargo test -p quorate-protocol --test golden` writes
//! what was printed into the files; the diff is to be read before it is committed. The commands
//! are documented in `command.rs`, the printed form of messages in `show.rs`.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod command;
#[expect(dead_code, unreachable_pub, reason = "the simulator's disk, as it is; no crate edge")]
#[path = "../../../sim/src/disk.rs"]
mod disk;
mod show;
mod world;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use command::Command;
use world::World;

/// Every behaviour of PROTOCOL.md 3.1–3.6, own recovery and 3.8 that the scripts describe.
///
/// FEATURES: A1, A8, A9, A10, A11, A13
#[test]
fn every_script_prints_what_it_says() {
    let update = std::env::var_os("UPDATE").is_some();
    // As cargo says it now: a target folder may be shared by several checkouts.
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let scripts = scripts(&Path::new(&manifest).join("tests/scripts"));
    assert!(!scripts.is_empty(), "no scripts found");
    let mut failures = String::new();
    for path in scripts {
        let text = fs::read_to_string(&path).unwrap();
        let printed = run(&path, &text);
        if printed == text {
            continue;
        }
        if update {
            fs::write(&path, &printed).unwrap();
        } else {
            writeln!(failures, "{}\n{}", path.display(), difference(&text, &printed)).unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}UPDATE=1 rewrites the files");
}

fn scripts(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(scripts(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The text of a script with the output that its commands really have.
fn run(path: &Path, text: &str) -> String {
    let mut world = World::default();
    let mut printed = String::new();
    let mut in_output = false;
    for (index, line) in text.lines().enumerate() {
        if in_output {
            in_output = !line.is_empty();
            continue;
        }
        if line == "---" {
            let output = world.take_output();
            write!(printed, "---\n{output}\n").unwrap();
            in_output = true;
            continue;
        }
        writeln!(printed, "{line}").unwrap();
        if !line.is_empty() && !line.starts_with('#') {
            let at = || format!("{}:{}", path.display(), index + 1);
            let command = Command::parse(line).unwrap_or_else(|e| panic!("{}: {e}", at()));
            world.run(command);
        }
    }
    assert!(world.take_output().is_empty(), "{}: output without a ---", path.display());
    printed.truncate(printed.trim_end().len());
    printed.push('\n');
    printed
}

/// The first lines that differ.
fn difference(expected: &str, printed: &str) -> String {
    let (expected, printed): (Vec<_>, Vec<_>) =
        (expected.lines().collect(), printed.lines().collect());
    let same = expected.iter().zip(&printed).take_while(|(a, b)| a == b).count();
    let mut text = format!("  first difference in line {}\n", same + 1);
    for (sign, lines) in [('-', &expected), ('+', &printed)] {
        for line in lines.iter().skip(same).take(8) {
            writeln!(text, "  {sign} {line}").unwrap();
        }
    }
    text
}
