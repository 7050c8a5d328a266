//! The report as a whole, from synthetic run folders: figures equal those computed by hand, the
//! page is complete and self-contained, and what a crash leaves behind is enough.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod report_support;

use std::fs;
use std::path::Path;

use quorate::figures::Breach;
use quorate::folder::RunFolder;
use quorate::plan::PLAN_FORMAT;
use quorate::report::{self, FaultSummary, ReportError, Summary};
use quorate_check::Verdict;
use report_support::Synthetic;

/// A fresh folder that stays for people to look at.
fn place(name: &str) -> std::path::PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report").join(name);
    if root.exists() {
        fs::remove_dir_all(&root).unwrap();
    }
    root
}

fn made(name: &str, run: &Synthetic) -> (RunFolder, Summary, String) {
    let folder = run.write(&place(name));
    let written = report::write(&folder).unwrap();
    (folder, written.summary, page(&written.report))
}

/// A page's text, its slashes unescaped.
fn page(path: &Path) -> String {
    fs::read_to_string(path).unwrap().replace("&#x2f;", "/")
}

fn near(found: f64, wanted: f64) -> bool {
    (found - wanted).abs() <= wanted.abs() * 0.001 + 1e-9
}

/// FEATURES: H6
#[test]
fn figures_equal_those_computed_by_hand() {
    // 100 operations a second for 10 s, 2 ms each; at 3 s everything stands still for 1.4 s.
    let (folder, summary, _) = made("outage", &Synthetic::default());
    assert_eq!(summary.counts.ok, 1000);
    assert_eq!((summary.counts.failed, summary.counts.unknown), (0, 0));
    assert!(near(summary.achieved_rate, 100.0) && near(summary.offered_rate, 100.0));
    assert!(near(summary.measured_s, 10.0));
    let response = summary.all.response_ok;
    assert!(near(response.p50.unwrap().micros, 2000.0));
    // 140 operations wait: 1.40, 1.39, … 0.01 s, and 2 ms. Rank 990 of 1000 is the 11th longest.
    assert!(near(response.p99.unwrap().micros, 1_302_000.0), "{:?}", response.p99);
    // Rank 900 is the 101st longest.
    assert!(near(response.p90.unwrap().micros, 402_000.0), "{:?}", response.p90);
    assert!(near(response.max.unwrap().micros, 1_402_000.0));
    // Service never saw it; the start delay saw all of it.
    assert!(near(summary.all.service_ok.max.unwrap().micros, 2000.0));
    assert!(near(summary.all.start_delay.max.unwrap().micros, 1_400_000.0));
    // From the success at 2.992 s to those at 4.402 s.
    assert!(near(summary.gap.from_s, 2.992) && near(summary.gap.length_s, 1.41));
    assert_eq!(summary.safety.records_lost, Some(0));
    assert!(summary.measurement.sound && summary.safety.as_expected);
    assert_eq!(report::read_summary(&folder).unwrap().unwrap(), summary);
}

#[test]
fn the_page_is_complete_and_self_contained() {
    let (folder, summary, html) = made("rich", &Synthetic::rich());
    for id in [
        "overview",
        "timeline",
        "latency",
        "operations",
        "errors",
        "servers",
        "faults",
        "checkers",
        "soundness",
        "configuration",
        "environment",
        "repeat",
        "percentiles-by-class",
        "percentiles-by-outcome",
        "codes",
        "availability",
        "resources",
    ] {
        assert!(html.contains(&format!("id=\"{id}\"")), "no {id}");
    }
    for text in [
        "quorate run workloads/partition-and-crash.yaml --seed 7 --stage process",
        "fdatasync p50",
        "ext4",
        "exit by signal 9 observed",
        "minority side (n3)",
        "measured on real processes, not simulated",
        "&lt;escaped&gt; &amp; all",
        "no_quorum",
    ] {
        assert!(html.contains(text), "no {text}");
    }
    for outside in ["src=\"http", "href=\"http", "url(http", "@import", "xlink", "//cdn"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(!html.contains("http://") && !html.contains("https://"));
    assert!(html.len() < 2_000_000, "{} bytes", html.len());
    for name in ["timeline", "percentiles-by-class", "codes", "availability", "resources"] {
        let svg = fs::read_to_string(folder.plots().join(format!("{name}.svg"))).unwrap();
        assert!(svg.starts_with("<svg width=\"1000\"") && svg.trim_end().ends_with("</svg>"));
        let png = fs::read(folder.plots().join(format!("{name}.png"))).unwrap();
        assert_eq!(&png[1..4], b"PNG");
        assert!(png.len() < 150_000, "{name}.png has {} bytes", png.len());
    }
    let partition = &summary.faults[0];
    // The first client gives up a second after it was cut off, less the 9 ms until proof.
    let first = partition.first_failure_s.unwrap();
    assert!((0.99..1.02).contains(&first), "{first}");
    let minority = &partition.groups[1];
    assert_eq!(minority.label, "minority side (n3)");
    assert!(minority.counts.unknown > 80 && minority.refused > 800);
    assert!(minority.recovery_s.is_some_and(|s| (0.2..0.6).contains(&s)), "{minority:?}");
    series_that_noticed(partition);
    assert!(html.contains("Series that noticed"));
    let available = summary.availability.unwrap();
    assert_eq!((available.verdict, available.broken), (Verdict::Valid, Vec::new()));
    assert!(available.expected.refused > 500 && html.contains("What quorums expect"));
}

/// What each kind of operation at each server had of the partition of n3 from 35 s to 45 s.
fn series_that_noticed(partition: &FaultSummary) {
    let series = |node: &str, class: &str| {
        let found =
            partition.series.iter().find(|found| found.node == node && found.class == class);
        found.unwrap().clone()
    };
    let cut = series("n3", "update");
    // Hangs end at 36 s, refusals at 45.35 s; the heal was proven at 45.009 s.
    assert_eq!((cut.answers.state.as_str(), cut.served.state.as_str()), ("after", "after"));
    assert!(cut.answers.seconds.is_some_and(|s| (0.99..1.1).contains(&s)), "{cut:?}");
    assert!(cut.served.seconds.is_some_and(|s| (0.3..0.6).contains(&s)), "{cut:?}");
    assert_eq!((cut.unavailable_times, cut.unavailable_open, cut.counts.ok), (1, false, 0));
    assert_eq!(series("n1", "update").served.state, "always");
    assert_eq!(series("n3", "read (local)").lost, 0);
    assert!(partition.overlaps.is_empty());
}

/// FEATURES: H6
#[test]
fn a_cluster_that_acknowledges_without_its_quorum_is_told_with_the_operations() {
    let folder = Synthetic::rich().write(&place("without-quorum"));
    // All three were wanted, and two went on without the third.
    let plan = fs::read_to_string(folder.plan()).unwrap();
    let [had, wants] = ["majority", "all"].map(|quorum| format!("\"write_quorum\": \"{quorum}\""));
    assert_eq!(plan.matches(&had).count(), 1);
    fs::write(folder.plan(), plan.replace(&had, &wants)).unwrap();
    let written = report::write(&folder).unwrap();
    let available = written.summary.availability.unwrap();
    assert_eq!(available.verdict, Verdict::Violated);
    let broken: Vec<(&str, &str)> = available
        .broken
        .iter()
        .map(|broken| (broken.node.as_str(), broken.class.as_str()))
        .collect();
    // While n3 was cut off, the others; while n1 was dead, n2 and n3.
    let writers = ["n1", "n2", "n3"].map(|node| [(node, "create"), (node, "update")]);
    assert_eq!(broken, writers.concat());
    for broken in &available.broken {
        assert_eq!(broken.breach, Breach::Acknowledged);
        assert!((35.0..53.0).contains(&broken.from_s) && broken.operations.len() == 5);
    }
    // What the safety checkers say is another matter.
    assert_eq!(written.summary.safety.verdict, Verdict::Valid);
    let html = page(&written.report);
    assert!(html.contains("not as expected"));
    assert!(html.contains("acknowledged although too few servers were in reach"));
}

#[test]
fn two_reports_of_one_run_are_equal() {
    let run = Synthetic { seconds: 3, outage: None, ..Synthetic::default() };
    let (folder, _, first) = made("twice", &run);
    let plot = fs::read(folder.plots().join("timeline.png")).unwrap();
    report::write(&folder).unwrap();
    assert_eq!(page(&folder.report()), first);
    assert_eq!(fs::read(folder.plots().join("timeline.png")).unwrap(), plot);
}

#[test]
fn a_violation_is_told_with_its_counter_example() {
    let run = Synthetic { violated: true, ..Synthetic::default() };
    let (_, summary, html) = made("violated", &run);
    assert_eq!(summary.safety.records_lost, Some(2));
    assert!(!summary.safety.as_expected);
    assert!(html.contains("violated: acknowledged-durable"));
    assert!(html.contains("key 17: #12:17, write 4711 by n3 acknowledged at 35.204 s"));
}

#[test]
fn figures_of_an_unsound_run_are_struck_out() {
    let run = Synthetic { unsound: true, ..Synthetic::default() };
    let (_, summary, html) = made("unsound", &run);
    assert!(!summary.measurement.sound);
    assert!(html.contains("<body class=\"unsound\">"));
    assert_eq!(html.matches("<dd><s>").count(), 4);
    assert!(html.contains("driver_saturated: start delay p99 41 ms"));
}

#[test]
fn a_crashed_run_is_reported_with_what_is_missing() {
    let run = Synthetic { crashed: true, ..Synthetic::rich() };
    let (_, summary, html) = made("crashed", &run);
    assert!(summary.counts.total() > 0);
    assert!(!summary.measurement.sound);
    for what in ["verdicts.json", "soundness.json", "driver.json", "phases.jsonl", "cut off"] {
        assert!(summary.missing.iter().any(|line| line.contains(what)), "{:?}", summary.missing);
    }
    assert!(html.contains("This run folder is not complete."));
}

#[test]
fn a_run_that_ended_before_it_began_is_reported() {
    let folder = Synthetic::default().write(&place("empty"));
    for file in [folder.history(), folder.phases(), folder.nodes(), folder.manifest()] {
        fs::remove_file(file).unwrap();
    }
    let written = report::write(&folder).unwrap();
    assert_eq!(written.summary.counts.total(), 0);
    let html = page(&written.report);
    assert!(html.contains("no operations were recorded"));
    assert!(html.contains("history.jsonl (every operation) is missing"));
}

#[test]
fn other_format_versions_are_refused_by_number() {
    let folder = Synthetic::default().write(&place("old"));
    let plan = fs::read_to_string(folder.plan()).unwrap();
    let of_format = |format: u32| {
        let now = format!("\"format\": {PLAN_FORMAT}");
        assert!(plan.contains(&now));
        fs::write(folder.plan(), plan.replacen(&now, &format!("\"format\": {format}"), 1)).unwrap();
        report::write(&folder)
    };
    of_format(1).expect("a plan of the first format stays readable");
    let error = of_format(9).unwrap_err();
    let known = format!("this program reads version {PLAN_FORMAT}");
    assert_eq!(error.to_string(), format!("plan.json has format version 9; {known}"));
    let nothing = RunFolder::new(place("nothing"));
    assert!(matches!(report::write(&nothing), Err(ReportError::NotARun { .. })));
}

/// FEATURES: H7
#[test]
fn an_index_lists_runs_and_makes_a_matrix_of_quorums() {
    let results = place("suite");
    for (masters, quorum) in [(3, "1"), (3, "2"), (3, "3"), (5, "2"), (5, "3")] {
        let run = Synthetic {
            masters,
            quorum,
            unsound: masters == 5 && quorum == "2",
            violated: quorum == "1",
            seconds: 2,
            outage: None,
            ..Synthetic::default()
        };
        let folder = run.write(&results.join(format!("2026-01-01 m{masters}-w{quorum}")));
        report::write(&folder).unwrap();
    }
    Synthetic::rich().write(&results.join("unfinished"));
    let index = report::index(&results).unwrap();
    assert_eq!(index.runs.len(), 5);
    assert_eq!(index.skipped, ["unfinished: has no summary.json yet"]);
    let html = page(&index.page);
    assert!(html.contains("href=\"2026-01-01%20m3-w1/report.html\""));
    assert!(html.contains("id=\"matrix\"") && html.contains("W = 3"));
    assert_eq!(html.matches("<section class=\"run\">").count(), 5);
    assert!(results.join("matrix.png").exists());
    assert!(!html.contains("http://") && !html.contains("https://"));
}

#[test]
fn the_matrix_holds_fault_free_runs_of_one_workload_once_each() {
    let results = place("mixed-suite");
    let base = Synthetic { seconds: 2, outage: None, ..Synthetic::default() };
    let runs = [
        ("m1", Synthetic { masters: 1, ..base.clone() }),
        ("m3-majority", base.clone()),
        // Stands in the table alone: the sound run of the same point is the one that is drawn.
        ("m3-majority-unsound", Synthetic { unsound: true, ..base.clone() }),
        ("m3-all", Synthetic { quorum: "all", ..base.clone() }),
        ("m3-all-again", Synthetic { quorum: "all", rate: 100, ..base.clone() }),
        // Neither may stand for 3 MASTERs with a majority, nor fill a cell of its own.
        ("m3-other-workload", Synthetic { name: "other", ..base.clone() }),
        ("m3-other-rate", Synthetic { rate: 50, ..base.clone() }),
        ("m3-faults", Synthetic { faults: true, seconds: 60, ..base.clone() }),
        ("m5-faults", Synthetic { masters: 5, faults: true, seconds: 60, ..base }),
    ];
    for (name, run) in &runs {
        report::write(&run.write(&results.join(name))).unwrap();
    }
    let html = page(&report::index(&results).unwrap().page);
    let (_, matrix) = html.split_once("<section id=\"matrix\">").unwrap();
    let (matrix, _) = matrix.split_once("</section>").unwrap();
    let listed: Vec<&str> = runs
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| matrix.contains(&format!("{name}/")))
        .collect();
    let wanted = ["m1", "m3-majority", "m3-majority-unsound", "m3-all", "m3-all-again"];
    assert_eq!(listed, wanted);
    assert!(matrix.contains("workloads/synthetic.yaml"));
    assert!(!matrix.contains("5 MASTERs"));
    assert!(matrix.contains("3 MASTERs with W = all (2 runs)"));
    let svg = fs::read_to_string(results.join("matrix.svg")).unwrap();
    assert_eq!(svg.matches("100/s").count(), 2, "m1 and m3-majority");
    assert!(svg.contains("2 runs") && svg.contains("not run"));
}

#[test]
fn a_line_that_is_no_record_is_named_once() {
    let folder = Synthetic::default().write(&place("broken-line"));
    let mut text = fs::read_to_string(folder.nodes()).unwrap();
    text.insert_str(0, "{\n");
    fs::write(folder.nodes(), text).unwrap();
    let error = report::write(&folder).unwrap_err().to_string();
    assert_eq!(error, "nodes.jsonl, line 1: EOF while parsing an object");
}
