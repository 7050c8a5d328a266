//! The table of the original's distributed scenarios, chaos/SCENARIOS.md: what it names exists, and
//! its counts are those of its rows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Verdicts, as a row's third cell begins and as the counts name them.
const VERDICTS: [&str; 4] = ["kept", "kept with our assertion", "not applicable", "waits for"];
/// Prefixes of the ids of features.
const FEATURES: [char; 4] = ['S', 'A', 'L', 'H'];

/// The cells of a table's line, if it is one.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(inner.split('|').map(str::trim).collect())
}

/// What stands in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// What is wrong with what a row names as its proof.
fn proof(root: &Path, named: &str) -> Option<String> {
    let (file, function) = match named.split_once("::") {
        Some((file, function)) => (file, Some(function)),
        None => (named, None),
    };
    let extension = Path::new(file).extension().and_then(|e| e.to_str());
    let Ok(text) = fs::read_to_string(root.join(file)) else {
        return Some(format!("there is no file {file}"));
    };
    match (extension, function) {
        (Some("rs"), Some(function)) if is_test(&text, function) => None,
        (Some("rs"), Some(function)) => Some(format!("{file} has no test {function}")),
        (Some("yaml" | "txt"), None) => None,
        _ => Some(format!("{named} is no test, no workload or scenario, and no script")),
    }
}

/// Whether a source has this function with a test's attribute above it.
fn is_test(text: &str, function: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let head = format!("fn {function}(");
    let found = lines
        .iter()
        .position(|line| line.strip_prefix("async ").unwrap_or(line).starts_with(head.as_str()));
    found.is_some_and(|at| {
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        above.into_iter().any(|line| line.contains("test]") || line.contains("test("))
    })
}

/// Whether a text names a feature of the list, as `A13`.
fn names_feature(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
        word.strip_prefix(FEATURES).is_some_and(|number| {
            !number.is_empty() && number.chars().all(|digit| digit.is_ascii_digit())
        })
    })
}

/// A row's verdict: the longest that its third cell begins with.
fn verdict(cell: &str) -> Option<&'static str> {
    let fits = |verdict: &&'static str| {
        let rest = cell.strip_prefix("**").and_then(|cell| cell.strip_prefix(*verdict));
        rest.is_some_and(|rest| rest.starts_with("**"))
    };
    VERDICTS.into_iter().find(fits)
}

/// Complaints about one row; counts its verdict.
fn row(root: &Path, cells: &[&str], counts: &mut BTreeMap<&str, usize>) -> Vec<String> {
    let [name, _, judged, shown] = cells else {
        return vec![format!("{}: {} cells, not 4", cells[0], cells.len())];
    };
    let Some(verdict) = verdict(judged) else {
        return vec![format!("{name}: '{judged}' begins with none of {VERDICTS:?}")];
    };
    *counts.entry(verdict).or_default() += 1;
    let mut wrong: Vec<String> = quoted(shown).filter_map(|named| proof(root, named)).collect();
    if verdict.starts_with("kept") && quoted(shown).next().is_none() {
        wrong.push("kept, and nothing shows it".to_owned());
    }
    if verdict == "waits for" && !names_feature(judged) {
        wrong.push("waits for no feature".to_owned());
    }
    wrong.into_iter().map(|wrong| format!("{name}: {wrong}")).collect()
}

/// Everything that is wrong with a table.
fn complaints(root: &Path, text: &str) -> Vec<String> {
    let (mut said, mut counts) = (BTreeMap::new(), BTreeMap::new());
    let mut found = Vec::new();
    for cells in text.lines().filter_map(cells) {
        match cells[..] {
            ["verdict", _] | ["original", ..] => {}
            [first, ..] if first.starts_with("--") => {}
            [verdict, count] => {
                said.insert(verdict, count.parse().unwrap_or(usize::MAX));
            }
            _ => found.extend(row(root, &cells, &mut counts)),
        }
    }
    if said != counts {
        found.push(format!("the counts say {said:?}, the rows are {counts:?}"));
    }
    found
}

#[test]
fn the_table_of_scenarios_names_what_exists_and_counts_its_rows() {
    let root = super::root();
    let text = fs::read_to_string(root.join("chaos/SCENARIOS.md")).expect("the table");
    let found = complaints(&root, &text);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    let rows = text.lines().filter_map(cells).filter(|cells| cells.len() == 4).count();
    assert!(rows > 60, "the table lost its rows: {rows}");
}

#[test]
fn what_is_wrong_with_a_table_is_found() {
    let here = "harness/tests/house/scenarios.rs::what_is_wrong_with_a_table_is_found";
    let table = |count: usize, verdict: &str, shown: &str| {
        format!(
            "| verdict | rows |\n|---|---|\n| kept | {count} |\n\n| original | asserts | verdict | \
             where |\n|---|---|---|---|\n| A | b | {verdict} | {shown} |\n"
        )
    };
    let root = super::root();
    let good = format!("`{here}`");
    assert_eq!(complaints(&root, &table(1, "**kept**", &good)), Vec::<String>::new());
    for (text, expected) in [
        (table(2, "**kept**", &good), "the counts say"),
        (table(1, "**kept**", "`chaos/nowhere.yaml`"), "no file chaos/nowhere.yaml"),
        (table(1, "**kept**", "`harness/tests/house/scenarios.rs::proof`"), "no test proof"),
        (table(1, "**kept**", "`README.md`"), "README.md is no test"),
        (table(1, "**kept**", "by eye"), "nothing shows it"),
        (table(1, "**kept** | more", &good), "5 cells"),
        (table(1, "kept", &good), "begins with none"),
        (table(1, "**waits for** joining", ""), "waits for no feature"),
    ] {
        let found = complaints(&root, &text);
        assert!(found.iter().any(|found| found.contains(expected)), "{expected}: {found:?}");
    }
}
