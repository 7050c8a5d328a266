//! Trends as people ask for them: made-up runs of one experiment, one of whose servers made it
//! slower; the table, the page and what programs get.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

#[allow(dead_code, reason = "every test binary uses a part of this")]
mod compare_support;
#[allow(dead_code, reason = "every test binary uses a part of this")]
mod report_support;

use std::fs;
use std::path::Path;
use std::process::Command;

use compare_support::run;
use quorate::folder::RunFolder;
use quorate::report;
use serde_json::Value;

/// Runs `quorate trend`.
fn trend(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let output = command.arg("trend").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A run of the `day`-th day, by this server.
fn of_day(results: &Path, day: usize, server: &str, slower: f64) {
    let root = results.join(format!("run-{}", 100 - day));
    run(&root, slower);
    let file = RunFolder::new(&root).manifest();
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    manifest["started"] = format!("2026-03-{day:02}T10:00:00Z").into();
    manifest["node"] = server.into();
    fs::write(&file, manifest.to_string()).unwrap();
}

/// FEATURES: H9
#[test]
fn a_change_is_found_where_it_was_and_the_servers_on_both_sides_are_named() {
    let place = tempfile::tempdir().unwrap();
    let results = place.path();
    for day in 1..=12 {
        let noise = 1.0 + 0.01 * (day % 3) as f64;
        let (server, slower) = if day < 7 { ("0.1.0 (aaa)", 1.0) } else { ("0.1.0 (bbb)", 1.5) };
        of_day(results, day, server, slower * noise);
    }
    // Neither an unsound run nor one that did not get to its end is in a trend.
    of_day(results, 13, "0.1.0 (ccc)", 9.0);
    let unsound = RunFolder::new(results.join("run-87")).summary();
    let text = fs::read_to_string(&unsound).unwrap();
    assert_eq!(text.matches("\"sound\": true").count(), 1);
    fs::write(&unsound, text.replace("\"sound\": true", "\"sound\": false")).unwrap();
    of_day(results, 14, "0.1.0 (ddd)", 9.0);
    fs::remove_file(RunFolder::new(results.join("run-86")).summary()).unwrap();

    let named = results.to_str().unwrap();
    let (code, told, error) = trend(&[named, "--json"]);
    assert_eq!(code, 0, "{error}");
    let json: Value = serde_json::from_str(&told).unwrap();
    let [of] = json["trends"].as_array().unwrap().as_slice() else { panic!("{told}") };
    assert_eq!(of["runs"].as_array().unwrap().len(), 12);
    let left_out = json["left_out"].to_string();
    assert!(left_out.contains("run-87\",\"unsound"), "{left_out}");
    assert!(left_out.contains("has no summary.json"), "{left_out}");
    let row = |kind: &str| {
        let rows = of["rows"].as_array().unwrap().iter();
        let mut found = rows.filter(|row| row["metric"] == serde_json::json!({ "kind": kind }));
        found.next().unwrap().clone()
    };
    let p99 = row("p99");
    let [change] = p99["changes"].as_array().unwrap().as_slice() else { panic!("{p99}") };
    assert_eq!((&change["at"], &change["word"]), (&6.into(), &"worse".into()));
    let ratio = change["effect"].as_f64().unwrap().exp();
    assert!((ratio - 1.5).abs() < 0.01, "{ratio}");
    assert_eq!(row("throughput")["changes"], serde_json::json!([]));

    let page = Path::new(json["page"].as_str().unwrap()).to_owned();
    assert_eq!(page, results.join("trend/index.html"));
    let html = fs::read_to_string(&page).unwrap().replace("&#x2f;", "/");
    assert!(!html.contains("http://") && !html.contains("https://"), "self-contained");
    let words = "since 2026-03-07T10:00:00Z, from 0.1.0 (aaa) to 0.1.0 (bbb)";
    assert!(html.contains(words) && html.contains("<section id=\"left-out\">"));
    let (_, table, _) = trend(&[named]);
    assert!(table.contains("worse: ") && table.contains("2 runs are left out"), "{table}");
    let key = of["circumstances"].as_str().unwrap();
    let png = fs::read(results.join(format!("trend/trend-{key}-p99.png"))).unwrap();
    assert_eq!(&png[1..4], b"PNG");
    let index = fs::read_to_string(report::index(results).unwrap().page).unwrap();
    assert!(index.contains("<a href=\"trend/index.html\">"));
}

/// FEATURES: H9
#[test]
fn few_runs_cannot_show_a_change_and_no_runs_are_a_mistake() {
    let place = tempfile::tempdir().unwrap();
    for day in 1..=3 {
        of_day(place.path(), day, "0.1.0 (aaa)", if day == 3 { 9.0 } else { 1.0 });
    }
    let (code, told, error) = trend(&[place.path().to_str().unwrap()]);
    assert_eq!(code, 0, "{error}");
    assert!(told.contains("fewer than 12 runs are too few to show a change"), "{told}");
    let empty = tempfile::tempdir().unwrap();
    let (code, _, error) = trend(&[empty.path().to_str().unwrap()]);
    assert_eq!(code, 3, "{error}");
    assert!(!empty.path().join("trend").exists());
}
