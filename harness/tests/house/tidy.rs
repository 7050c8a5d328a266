//! Tidiness of every source file: header, line length, function length, file length, words that
//! mark unfinished work.

use std::fs;
use std::path::{Path, PathBuf};

const LINE_MAX: usize = 100;
const FUNCTION_MAX: usize = 70;
const FILE_MAX: usize = 500;

/// Files longer than [`FILE_MAX`], each with its reason.
const LONG_FILES: &[(&str, &str)] =
    &[("node/protocol/src/machine/coordinator.rs", "one role with one state, read top to bottom")];

/// Functions longer than [`FUNCTION_MAX`], as `file:function`, each with its reason.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

/// The rooms of the house (DESIGN.md section 2).
const ROOMS: &[&str] = &[
    "Cargo.toml",
    "Makefile",
    "README.md",
    "ARCHITECTURE.md",
    "LICENSE",
    "node",
    "node/api",
    "node/protocol",
    "node/control",
    "node/sim",
    "harness",
    "harness/check",
    "chaos",
    "chaos/proxy",
    "workloads",
    "docker",
    "results",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "results" {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn each_source(mut look: impl FnMut(&str, &str, &mut Vec<String>)) {
    let root = super::root();
    let mut files = Vec::new();
    sources(&root, &mut files);
    files.sort();
    assert!(files.len() > 50, "the walk lost its way");
    let mut complaints = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).expect("below the root").display().to_string();
        let text = fs::read_to_string(&file).expect("a text file");
        look(&name, &text, &mut complaints);
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn listed(list: &[(&str, &str)], name: &str) -> bool {
    list.iter().any(|(listed, _)| *listed == name)
}

/// (first line, name, length) of every function.
fn functions(text: &str) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if open.is_none()
            && let Some(name) = function_name(trimmed)
        {
            open = Some((number, indent, name));
        }
        if let Some((first, depth, name)) = &open {
            let ends = (trimmed == "}" && indent == *depth)
                || (number == *first && (trimmed.ends_with('}') || trimmed.ends_with(';')));
            if ends {
                found.push((first + 1, name.clone(), number - first + 1));
                open = None;
            }
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    loop {
        match words.next()? {
            "fn" => break,
            "async" | "const" | "unsafe" => {}
            word if word.starts_with("pub") => {}
            word if word.ends_with(')') && word.len() < 12 => {}
            _ => return None,
        }
    }
    let name: String =
        words.next()?.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

#[test]
fn every_file_says_what_lives_in_it() {
    each_source(|name, text, complaints| {
        if !text.starts_with("//!") {
            complaints.push(format!("{name}: does not open with //!"));
        }
    });
}

#[test]
fn lines_functions_and_files_are_short() {
    each_source(|name, text, complaints| {
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > LINE_MAX {
                complaints.push(format!("{name}:{}: longer than {LINE_MAX}", number + 1));
            }
        }
        for (line, function, length) in functions(text) {
            let listed = listed(LONG_FUNCTIONS, &format!("{name}:{function}"));
            if length > FUNCTION_MAX && !listed {
                complaints.push(format!("{name}:{line}: {function} has {length} lines"));
            }
        }
        let lines = text.lines().count();
        if lines > FILE_MAX && !listed(LONG_FILES, name) {
            complaints.push(format!("{name}: {lines} lines; does a second thing live in it?"));
        }
    });
}

#[test]
fn nothing_is_left_unfinished_or_local() {
    // Spelled apart, so that this file does not complain about itself.
    let words = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X"],
        ["todo", "!("],
        ["unimplemented", "!("],
        ["#[ig", "nore"],
        ["/ro", "ot/"],
        ["/wo", "rk/"],
    ];
    each_source(|name, text, complaints| {
        for word in words.map(|halves| halves.concat()) {
            if text.contains(&word) {
                complaints.push(format!("{name}: contains {word}"));
            }
        }
    });
}

#[test]
fn the_house_has_its_rooms() {
    for room in ROOMS {
        assert!(super::root().join(room).exists(), "{room} is missing");
    }
}

#[test]
fn the_measure_of_functions_works() {
    let text =
        "fn a() {\n    x();\n}\npub(crate) async fn b(\n    x: u8,\n) {\n}\nconst fn c() {}\n";
    let found = functions(text);
    assert_eq!(found, [(1, "a".to_owned(), 3), (4, "b".to_owned(), 4), (8, "c".to_owned(), 1)]);
}
