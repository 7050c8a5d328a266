//! `quorate init`: what it writes is a workload, with every option in its comments, and it never
//! overwrites.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use quorate::plan::{Plan, build};
use quorate::spec::schema::FileKind;
use quorate::spec::tree::Node;
use quorate::spec::{Overrides, sweep, workload};

fn init(file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate")).arg("init").arg(file).output().unwrap()
}

/// A fresh file of `quorate init` in a folder of its own.
fn written() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("first try.yaml");
    let output = init(&file);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    (place, file)
}

fn plan(text: &str) -> Plan {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("it.yaml");
    fs::write(&file, text).unwrap();
    let spec = workload(&file, &Overrides::default()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let plan = build(&spec, spec.seed);
    plan.unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
}

#[test]
fn what_it_writes_is_a_workload_and_stays() {
    let (_place, file) = written();
    let text = fs::read_to_string(&file).unwrap();
    let found = plan(&text);
    assert_eq!(found.name, "first-try");
    assert_eq!((found.topology.masters.len(), found.faults.len()), (3, 0));
    let json = Node::parse("file", &text).unwrap().to_json();
    let validator = jsonschema::validator_for(&FileKind::Workload.schema()).unwrap();
    assert!(validator.is_valid(&json), "{text}");

    fs::write(&file, "name: mine\n").unwrap();
    let output = init(&file);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("left as it is"), "{output:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "name: mine\n");
}

/// Key and text of an option that stands as a comment in a block.
fn option(line: &str) -> Option<(&str, &str)> {
    let text = line.strip_prefix("  ")?.trim_start().strip_prefix("# ")?;
    let key = text.split_once(": ")?.0;
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    // Sentences that contain a colon begin with a capital letter.
    plain.then_some((key, text))
}

/// Every option of the comments can be used as it stands.
#[test]
fn the_options_in_its_comments_are_right() {
    let (_place, file) = written();
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut used = Vec::new();
    for (at, (key, option)) in
        lines.iter().enumerate().filter_map(|(at, line)| Some((at, option(line)?)))
    {
        // The closed loop is two lines in place of those of the open one.
        if key == "mode" || key == "clients" {
            continue;
        }
        let indent = &lines[at][..lines[at].len() - lines[at].trim_start().len()];
        let same = format!("{indent}{key}: ");
        let with = lines.iter().enumerate().filter(|(_, line)| !line.starts_with(&same));
        let with = with.map(|(other, line)| match other == at {
            true => format!("{indent}{option}\n"),
            false => format!("{line}\n"),
        });
        let with: String = with.collect();
        assert_ne!(plan(&with), plan(&text), "{key} changes nothing");
        used.push(key);
    }
    let wanted =
        ["replicas", "memory", "cpus", "heap", "delete", "keys", "keys", "keys", "in_flight_cap"];
    assert_eq!(used, wanted);

    let closed = text
        .replace("  mode: open\n", "")
        .replace("  # mode: closed\n  # clients: 16", "  mode: closed\n  clients: 16");
    let open = ["  rate: ", "  arrivals: "];
    let closed = closed.lines().filter(|line| !open.iter().any(|key| line.starts_with(key)));
    assert_eq!(plan(&closed.collect::<Vec<_>>().join("\n")).load.clients, 16);
}

/// The blocks that stand as comments: without `# ` they are blocks.
#[test]
fn the_blocks_in_its_comments_are_right() {
    let (_place, file) = written();
    let text = fs::read_to_string(&file).unwrap();
    let with = |first: &str| {
        let (before, block) = text.split_once(&format!("\n# {first}:")).unwrap();
        let block = format!("{first}:{block}");
        let (block, after) = block.split_once("\n\n").unwrap_or((&block, ""));
        format!("{before}\n{}\n\n{after}", block.replace("\n# ", "\n"))
    };
    assert_eq!(plan(&with("faults")).faults.len(), 5);
    assert_eq!(plan(&with("expect")).expect.len(), 2);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("it.yaml");
    fs::write(&path, with("sweep")).unwrap();
    if let Err(problems) = sweep(&path, &Overrides::default()) {
        panic!("{problems}");
    }
}
