//! Comparing runs as people do: made-up run folders, the program, its tables and exit codes.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod compare_support;
#[allow(dead_code, reason = "every test binary uses a part of this")]
mod report_support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use compare_support::{blocks, run};
use quorate::ab::Ab;
use quorate::folder::RunFolder;
use quorate::report;
use quorate::resume::Resumable as _;
use serde_json::Value;

/// Runs `quorate compare`.
fn compare(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .arg("compare")
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// FEATURES: H9
#[test]
fn single_runs_are_set_beside_each_other_and_the_command_that_settles_it_is_named() {
    let place = tempfile::tempdir().unwrap();
    let (a, b) = (place.path().join("a"), place.path().join("b"));
    run(&a, 1.0);
    run(&b, 1.5);
    let named = [a.to_str().unwrap(), b.to_str().unwrap()];
    let (code, told, _) = compare(&named);
    assert_eq!(code, 0, "{told}");
    for wanted in ["spec, build and environment are the same", "p99", "1.5", "quorate ab "] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    let gate = place.path().join("gate.yaml");
    fs::write(&gate, "gate:\n- metric: p99\n").unwrap();
    let (code, told, _) = compare(&[named[0], named[1], "--gate", gate.to_str().unwrap()]);
    assert_eq!(code, 2, "single runs pass no gate: {told}");
    fs::write(&gate, "gate:\n- metric: p98\n").unwrap();
    let (code, _, error) = compare(&[named[0], named[1], "--gate", gate.to_str().unwrap()]);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("gate.yaml:2: gate.0.metric: `p98` is not legal here"), "{error}");
}

/// FEATURES: H9
#[test]
fn runs_of_different_machines_get_no_verdict_and_what_is_no_run_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (a, b) = (place.path().join("a"), place.path().join("b"));
    run(&a, 1.0);
    run(&b, 1.5);
    let file = RunFolder::new(&b).manifest();
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let environment = manifest["environment"].as_array_mut().unwrap();
    environment.retain(|pair| pair[0] != "cpu");
    environment.push(serde_json::json!(["cpu", "another one"]));
    fs::write(&file, manifest.to_string()).unwrap();
    let named = [a.to_str().unwrap(), b.to_str().unwrap()];
    let (code, told, _) = compare(&named);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("without a verdict: they are of different machines: cpu is"), "{told}");
    assert!(!told.contains("quorate ab"), "{told}");
    let (code, told, _) = compare(&[named[0], named[1], "--json"]);
    let json: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, json["differences"][0]["key"].as_str()), (0, Some("cpu")));
    fs::remove_file(RunFolder::new(&b).summary()).unwrap();
    let (code, _, error) = compare(&named);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("has no summary.json"), "{error}");
    let (code, _, error) = compare(&[named[0]]);
    assert_eq!((code, error.as_str()), (3, "error: name at least two runs to compare\n"));
}

/// FEATURES: H9
#[test]
fn blocks_give_a_verdict_that_a_gate_passes_on() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    for (name, slower) in [("same", 1.0), ("worse", 1.5), ("better", 0.6)] {
        fs::create_dir(at(name)).unwrap();
        blocks(&at(name), slower, true);
    }
    let code_of = |name: &str, gate: &[&str]| {
        let folder = at(name);
        let mut arguments = vec![folder.to_str().unwrap(), "--json"];
        arguments.extend(gate);
        let (code, told, error) = compare(&arguments);
        let json: Value = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{error}"));
        (code, json["comparison"]["overall"].as_str().unwrap().to_owned())
    };
    assert_eq!(code_of("same", &[]), (0, "same".to_owned()));
    assert_eq!(code_of("worse", &[]), (1, "worse".to_owned()));
    assert_eq!(code_of("better", &[]), (0, "better".to_owned()));
    let gate = at("gate.yaml");
    fs::write(&gate, "gate:\n- metric: throughput\n").unwrap();
    assert_eq!(code_of("worse", &["--gate", gate.to_str().unwrap()]).0, 0, "it is as busy");
    fs::write(&gate, "gate:\n- { metric: p99, class: update, margin: 0.6 }\n").unwrap();
    assert_eq!(code_of("worse", &["--gate", gate.to_str().unwrap()]).1, "same");
    fs::write(&gate, "gate:\n- metric: unavailable\n").unwrap();
    assert_eq!(code_of("same", &["--gate", gate.to_str().unwrap()]).0, 2, "no run has it");
    // Fewer blocks than were asked for: the rest is to come.
    let mut ab = Ab::read(&at("worse")).unwrap();
    ab.finished = false;
    ab.write(&at("worse")).unwrap();
    assert_eq!(code_of("worse", &[]), (2, "worse".to_owned()));
    // A run that is not good takes its block with it.
    ab.finished = true;
    ab.runs[0].remark = "the driver was saturated".to_owned();
    ab.write(&at("worse")).unwrap();
    assert_eq!(code_of("worse", &[]), (2, "cannot-tell".to_owned()));
}

/// The page's text, its slashes unescaped.
fn page(path: &Path) -> String {
    fs::read_to_string(path).unwrap().replace("&#x2f;", "/")
}

/// Every cell of the table below a heading, row by row, without markup.
fn cells(html: &str, section: &str) -> Vec<Vec<String>> {
    let (_, rest) = html.split_once(&format!("id=\"{section}\"")).unwrap();
    let (body, _) = rest.split_once("<tbody>").unwrap().1.split_once("</tbody>").unwrap();
    let plain = |cell: &str| {
        let mut text = String::new();
        let mut inside = true;
        for letter in cell.chars() {
            match letter {
                '<' => inside = false,
                '>' => inside = true,
                other if inside => text.push(other),
                _ => {}
            }
        }
        text
    };
    let row = |row: &str| {
        let row = row.replace("</td>", "\n").replace("</th>", "\n");
        row.trim().lines().map(|cell| plain(cell).trim().to_owned()).collect()
    };
    body.split("</tr>").map(row).filter(|row: &Vec<String>| row.len() > 1).collect()
}

/// Fails where the elements of a page do not close as they open, void ones of HTML left aside.
fn check_elements(html: &str) {
    const VOID: [&str; 4] = ["meta", "link", "br", "input"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html.split_once("<!doctype html>").unwrap().1;
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, after) = after.split_once('>').unwrap();
        rest = after;
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{tag}: {open:?}");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        if tag == "script" || tag == "style" || tag.starts_with("script ") {
            rest = &rest[rest.find(&format!("</{name}>")).unwrap()..];
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// FEATURES: H9
#[test]
fn the_page_of_blocks_says_what_the_json_does_and_stands_by_itself() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("ab");
    fs::create_dir(&root).unwrap();
    blocks(&root, 1.5, true);
    let (code, told, error) = compare(&[root.to_str().unwrap(), "--json"]);
    assert_eq!(code, 1, "{error}");
    let json: Value = serde_json::from_str(&told).unwrap();
    let html = page(Path::new(json["page"].as_str().unwrap()));
    check_elements(&html);
    assert!(!html.contains("http://") && !html.contains("https://"), "self-contained");
    assert!(html.contains("B against A, by 3 blocks") && html.contains("✗ worse"));
    // What is printed of a ratio is the exponential of the mean of logarithms.
    let rows = json["comparison"]["rows"].as_array().unwrap();
    let shown = cells(&html, "figures");
    assert_eq!(shown.len(), rows.len());
    let named = |row: &Value| {
        let of = &row["wanted"]["metric"];
        let class = of["class"].as_str().map(|class| format!(", {class}")).unwrap_or_default();
        format!("{}{class}", of["kind"].as_str().unwrap())
    };
    for (row, shown) in rows.iter().zip(&shown) {
        if row["wanted"]["metric"]["kind"] != "p99" {
            continue;
        }
        assert_eq!(shown[0], named(row));
        let effect = &row["effect"];
        let of = |value: &Value| format!("{:.3}", value.as_f64().unwrap().exp());
        let interval = [&effect["interval"][0], &effect["interval"][1]].map(of);
        let wanted = format!("{} [{}, {}]", of(&effect["mean"]), interval[0], interval[1]);
        assert_eq!(shown[3], wanted);
        let a = row["medians"][0].as_f64().unwrap();
        assert!(shown[1].ends_with(" ms") && shown[1].starts_with(&format!("{a:.2}")[..3]));
    }
    assert!(shown.iter().any(|row| row[0] == "p99" && row[5] == "worse"), "{shown:?}");
    for name in ["ratios", "differences", "percentiles", "timeline"] {
        let svg = fs::read_to_string(root.join(format!("{name}.svg"))).unwrap();
        check_elements(&format!("<!doctype html>{svg}"));
        let png = fs::read(root.join(format!("{name}.png"))).unwrap();
        assert_eq!(&png[1..4], b"PNG", "{name}");
    }
    assert_eq!(html.matches("/report.html\">").count(), 12, "every run has its link");
    // The file beside the page says the same, and `report` draws the page again.
    let kept: Value =
        serde_json::from_str(&fs::read_to_string(root.join("comparison.json")).unwrap()).unwrap();
    assert_eq!((&kept["word"], &kept["comparison"]), (&"worse".into(), &json["comparison"]));
    fs::remove_file(root.join("index.html")).unwrap();
    let again = Command::new(env!("CARGO_BIN_EXE_quorate")).arg("report").arg(&root).output();
    assert!(again.unwrap().status.success());
    assert_eq!(page(&root.join("index.html")), html);
}

/// FEATURES: H9
#[test]
fn the_page_of_single_runs_has_no_verdict_and_the_index_links_it() {
    let place = tempfile::tempdir().unwrap();
    let (a, b) = (place.path().join("a"), place.path().join("b"));
    run(&a, 1.0);
    run(&b, 1.5);
    let (code, told, error) = compare(&[a.to_str().unwrap(), b.to_str().unwrap()]);
    assert_eq!(code, 0, "{error}");
    assert!(told.contains("/compare-a-b/index.html"), "{told}");
    let html = page(&place.path().join("compare-a-b/index.html"));
    check_elements(&html);
    for wanted in [
        "? no verdict",
        "single runs settle nothing",
        "? not calibrated",
        "B is 1.5",
        "href=\"../a/report.html\"",
        "Spec, build and environment are the same.",
        "No A/A of these circumstances was run here.",
    ] {
        assert!(html.contains(wanted), "{wanted}");
    }
    assert!(!html.contains("<b>✗") && !html.contains(">worse<"), "nothing is judged");
    assert!(!html.contains("<s>") && !html.contains("simulated"));
    let summary = RunFolder::new(&b).summary();
    let text = fs::read_to_string(&summary).unwrap();
    assert!(text.contains("\"simulated\": false"));
    let text = text.replace("\"simulated\": false", "\"simulated\": true");
    fs::write(&summary, text.replace("\"sound\": true", "\"sound\": false")).unwrap();
    assert_eq!(compare(&[a.to_str().unwrap(), b.to_str().unwrap()]).0, 0);
    let unsound = page(&place.path().join("compare-a-b/index.html"));
    assert!(unsound.contains("unsound: 1 of them") && unsound.contains("<s>200/s</s>"));
    assert!(unsound.contains("simulated, not measured"));
    let plot = fs::read_to_string(place.path().join("compare-a-b/ratios.svg")).unwrap();
    assert!(plot.contains("B divided by A, simulated"));
    // A baseline is kept without its history: everything else is said of it all the same.
    fs::remove_file(RunFolder::new(&a).history()).unwrap();
    assert_eq!(compare(&[a.to_str().unwrap(), b.to_str().unwrap()]).0, 0);
    let kept = page(&place.path().join("compare-a-b/index.html"));
    assert!(kept.contains("/a has no history: it is in no time line."), "{kept}");
    let index = page(&report::index(place.path()).unwrap().page);
    assert!(index.contains("<a href=\"compare-a-b/index.html\">a and b</a>"));
    let other = place.path().join("elsewhere/page");
    let named = [a.to_str().unwrap(), b.to_str().unwrap(), "--out", other.to_str().unwrap()];
    assert_eq!(compare(&named).0, 0);
    assert!(page(&other.join("index.html")).contains("href=\"../../a/report.html\""));
}

/// `make bench` leaves a suite, and who compares it with a run means the run of the same
/// experiment: the last of them, if the suite ran it again.
#[test]
fn of_a_suite_the_run_of_the_same_experiment_is_taken() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    for name in ["baseline", "suite/1-synthetic", "suite/2-synthetic", "suite/3-other"] {
        run(&path(name), 1.0);
    }
    let other = RunFolder::new(path("suite/3-other")).plan();
    let plan = fs::read_to_string(&other).unwrap();
    assert!(plan.contains("\"synthetic\""), "{plan}");
    fs::write(&other, plan.replace("\"synthetic\"", "\"other\"")).unwrap();

    let (code, told, error) = compare(&[&text("baseline"), &text("suite")]);
    assert_eq!(code, 0, "{told}{error}");
    let wanted = format!("A: {}\nB: {}\n", text("baseline"), text("suite/2-synthetic"));
    assert!(told.starts_with(&wanted), "{told}");

    for again in ["suite/1-synthetic", "suite/2-synthetic"] {
        fs::remove_dir_all(path(again)).unwrap();
    }
    let (code, _, error) = compare(&[&text("baseline"), &text("suite")]);
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("has no run of `synthetic`"), "{error}");
}
