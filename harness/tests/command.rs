//! The `quorate` program as people run it, with real servers and proxies: exit codes, the last
//! line, what a run leaves behind. What is judged how is tested where it is judged.
#![allow(clippy::unwrap_used, reason = "a failed expectation of a test ends it")]

mod browser_support;
#[path = "stage_support/mod.rs"]
mod support;

use std::fs;
use std::io::{Read as _, Write};
use std::num::NonZero;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quorate::folder::{FaultAction, FaultRecord};
use quorate::plan::Plan;
use serde_json::Value;
use support::{eventually, within};

/// A variable by which the processes of one test are known: all of them inherit it.
const MARK: &str = "QUORATE_TEST_MARK";

/// Far longer than servers take to start and run for seconds, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(300);
/// Pause between two looks at a file that a harness writes: these tests watch it from outside.
const LOOK: Duration = Duration::from_millis(20);

fn checkout() -> PathBuf {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    Path::new(&manifest).parent().unwrap().to_path_buf()
}

/// `quorate` in the checkout, with its runs in a folder of the test's own.
fn quorate(arguments: &[&str], out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command
        .current_dir(checkout())
        .env("STAGE", "process")
        .env("QUORATE_NODE_BIN", support::node())
        .env("QUORATE_PROXY_BIN", support::proxy())
        .env(MARK, out)
        .args(arguments)
        .arg("--out")
        .arg(out)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn shown(output: &Output) -> String {
    format!("{}\n{}", text(&output.stdout), text(&output.stderr))
}

/// Processes that carry the mark, the harness itself left out.
fn left_behind(out: &Path, harness: u32) -> Vec<i32> {
    let mark = format!("{MARK}={}", out.display());
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        // Whoever ended meanwhile has no environment any more.
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let marked = environment.split(|byte| *byte == 0).any(|word| word == mark.as_bytes());
        (marked && support::is_alive(pid) && u32::try_from(pid) != Ok(harness)).then_some(pid)
    });
    pids.collect()
}

/// The pid of a server, by its name in its command line.
fn server(pids: &[i32], name: &str) -> Option<i32> {
    pids.iter().copied().find(|pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        let named = words.iter().any(|word| word.ends_with(format!("name={name}").as_bytes()));
        let paired = words.windows(2).any(|pair| pair == [b"--name", name.as_bytes()]);
        words.contains(&b"serve".as_slice()) && (named || paired)
    })
}

/// Waits until operations are recorded, which means that servers and driver are at work.
async fn at_work(out: &Path, harness: &mut Child) {
    let recorded = || {
        let mut runs = fs::read_dir(out).into_iter().flatten().filter_map(Result::ok);
        runs.any(|run| fs::metadata(run.path().join("history.jsonl")).is_ok_and(|h| h.len() > 0))
    };
    let deadline = Instant::now() + PATIENCE;
    while !recorded() {
        assert!(harness.try_wait().unwrap().is_none(), "the harness ended early");
        assert!(Instant::now() < deadline, "no operation was recorded");
        tokio::time::sleep(LOOK).await;
    }
}

fn only_run(out: &Path) -> PathBuf {
    fs::canonicalize(out.join("latest")).unwrap()
}

/// FEATURES: H1, H8
#[test]
fn write_quorum_one_under_a_partition_exits_1_and_shows_what_was_lost() {
    let out = tempfile::tempdir().unwrap();
    let output = quorate(&["run", "workloads/w1-partition.yaml"], out.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let last = text(&output.stdout).lines().last().unwrap();
    assert!(last.contains("quorate run") && last.contains("report"), "{last}");

    let run = only_run(out.path());
    let verdicts: Value =
        serde_json::from_slice(&fs::read(run.join("verdicts.json")).unwrap()).unwrap();
    assert_eq!(found(&verdicts, "linearizable"), "violated", "{verdicts}");
    // What diverged is merged, and whatever has lost is gone from all of them.
    assert_eq!(found(&verdicts, "convergence"), "valid", "{verdicts}");
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("violated"), "the page says so");

    let Some(browser) = browser_support::browser() else {
        return std::io::stderr().write_all(b"SKIPPED: no browser to open the report\n").unwrap();
    };
    for frame in browser_support::look(&browser, &report) {
        browser_support::check(&frame, (6, 7));
    }
}

/// The verdict of a checker.
fn found(verdicts: &Value, checker: &str) -> String {
    let judgements = verdicts["judgements"].as_array().unwrap();
    let of = judgements.iter().find(|judgement| judgement["name"] == checker).unwrap();
    of["verdict"].as_str().unwrap().to_owned()
}

#[test]
fn a_bad_spec_exits_3_and_says_where() {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("bad.yaml");
    fs::write(&path, "name: bad\nworkload: { records: 5, mixx: { update: 1 } }\n").unwrap();
    let output = quorate(&["run", path.to_str().unwrap()], out.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
    let errors = text(&output.stderr);
    assert!(errors.contains("bad.yaml:2") && errors.contains("mix"), "{errors}");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1, "no run folder");
}

#[test]
fn a_fault_that_the_proxy_cannot_do_is_refused_before_anything_starts() {
    let out = tempfile::tempdir().unwrap();
    let arguments = ["run", "workloads/cut-silent.yaml", "--toxiproxy", "http://127.0.0.1:1"];
    let output = quorate(&arguments, out.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
    assert!(text(&output.stderr).contains("own proxy"), "{}", shown(&output));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "no run folder");
}

#[tokio::test]
async fn an_interrupted_run_is_inconclusive_and_leaves_nothing() {
    let out = tempfile::tempdir().unwrap();
    let mut harness = quorate(&["run", "workloads/baseline.yaml"], out.path()).spawn().unwrap();
    at_work(out.path(), &mut harness).await;
    let pid = harness.id();
    assert!(!left_behind(out.path(), pid).is_empty(), "the test sees the servers");
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGINT).unwrap();
    let output = harness.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
    assert_eq!(left_behind(out.path(), pid), [0; 0]);
}

/// A terminal on which a program writes; seen as people see it.
struct Terminal {
    seen: Arc<Mutex<vt100::Parser>>,
    reading: thread::JoinHandle<()>,
}

impl Terminal {
    /// One of 80 columns and 24 lines, as stderr of `command`, and what was started on it.
    fn of(mut command: Command) -> (Self, Child) {
        let (lines, columns) = (NonZero::new(24).unwrap(), NonZero::new(80).unwrap());
        let (ws_row, ws_col) = (lines.get(), columns.get());
        let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        let ends = openpty(&size, None).unwrap();
        let child = command.stderr(Stdio::from(ends.slave)).stdout(Stdio::null()).spawn().unwrap();
        // The last copies of the program's side are then the program's own.
        drop(command);
        let seen = Arc::new(Mutex::new(vt100::Parser::new(lines, columns, 0)));
        let (screen, mut from) = (seen.clone(), fs::File::from(ends.master));
        let reading = thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends with an error once nobody has the other side open.
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                screen.lock().unwrap().process(&bytes[..count]);
            }
        });
        (Self { seen, reading }, child)
    }

    fn shows(&self, text: &str) -> bool {
        self.seen.lock().unwrap().screen().contents().contains(text)
    }

    /// All that was written was read: what is left on it.
    fn left(self) -> vt100::Screen {
        self.reading.join().unwrap();
        self.seen.lock().unwrap().screen().clone()
    }
}

/// FEATURES: H10
#[tokio::test]
async fn a_run_that_is_stopped_at_once_gives_the_terminal_back_and_leaves_nothing() {
    for (term, is_drawn_on) in [("xterm-256color", true), ("dumb", false)] {
        let out = tempfile::tempdir().unwrap();
        let mut command = quorate(&["run", "workloads/baseline.yaml"], out.path());
        command.env("TERM", term);
        let (terminal, mut harness) = Terminal::of(command);
        let pid = harness.id();
        let ask = || kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGINT).unwrap();
        let shows = |text: &'static str| {
            let terminal = &terminal;
            within(PATIENCE, text, move || async move { terminal.shows(text) })
        };
        shows("baseline: warming up").await;
        let (alternate, hidden) = {
            let seen = terminal.seen.lock().unwrap();
            (seen.screen().alternate_screen(), seen.screen().hide_cursor())
        };
        assert_eq!((alternate, hidden), (is_drawn_on, is_drawn_on), "{term}");
        // So that servers are waited for until the second time.
        let n2 = server(&left_behind(out.path(), pid), "n2").expect("n2 is among them");
        kill(Pid::from_raw(n2), Signal::SIGSTOP).unwrap();
        ask();
        shows("baseline: stopping the servers").await;
        assert_eq!(terminal.shows("Ctrl-C again"), is_drawn_on, "{term}");
        ask();
        let ended = harness.wait().unwrap();
        let left = terminal.left();
        assert!(left.contents().contains("stopped at once"), "{term}: {}", left.contents());
        assert_eq!(ended.code(), Some(4), "{term}: {}", left.contents());
        assert!(!left.alternate_screen() && !left.hide_cursor(), "{term}: {}", left.contents());
        assert_eq!(left_behind(out.path(), pid), [0; 0], "{term}");
    }
}

#[tokio::test]
async fn a_killed_run_leaves_nothing_even_with_a_server_stopped() {
    let out = tempfile::tempdir().unwrap();
    let mut harness = quorate(&["run", "workloads/baseline.yaml"], out.path()).spawn().unwrap();
    at_work(out.path(), &mut harness).await;
    let pid = harness.id();
    let pids = left_behind(out.path(), pid);
    assert!(pids.len() >= 5, "three servers, proxy, guard: {pids:?}");
    let n2 = server(&pids, "n2").expect("n2 is among them");
    kill(Pid::from_raw(n2), Signal::SIGSTOP).unwrap();
    harness.kill().unwrap();
    harness.wait().unwrap();
    eventually("every process is gone", || async { left_behind(out.path(), pid).is_empty() }).await;
}

/// FEATURES: A2, A3
#[test]
fn replicas_are_read_at_and_no_write_waits_for_them() {
    let out = tempfile::tempdir().unwrap();
    let frozen = "faults=[{ fault: pause, at: 1s, for: 2s, target: replicas }]";
    let set = ["--set", frozen, "--set", "phases.measure=5s"];
    let arguments = [&["run", "workloads/replicas.yaml"], set.as_slice()].concat();
    let output = quorate(&arguments, out.path()).output().unwrap();
    // A busy machine makes figures unsound, not the verdicts.
    assert!(matches!(output.status.code(), Some(0 | 2)), "{}", shown(&output));
    let verdicts = fs::read(only_run(out.path()).join("verdicts.json")).unwrap();
    let verdicts: Value = serde_json::from_slice(&verdicts).unwrap();
    let verdicts: Vec<_> = verdicts["judgements"].as_array().unwrap().iter().collect();
    assert!(!verdicts.is_empty());
    assert!(verdicts.iter().all(|of| of["verdict"] == "valid"), "{verdicts:?}");

    let summary = fs::read(only_run(out.path()).join("summary.json")).unwrap();
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    assert_eq!(summary["replicas"], 4);
    assert_eq!(summary["nodes"].as_array().unwrap().len(), 7, "{summary}");
    let read = |role: &str| {
        let found = summary["staleness"].as_array().unwrap();
        found.iter().find(|of| of["role"] == role).unwrap()["reads"].as_u64().unwrap()
    };
    assert!(read("REPLICAs") > read("MASTERs"), "{summary}");
    // Every REPLICA stood still for two seconds.
    let interrupted = &summary["interruptions"][0];
    assert_eq!(interrupted["requested"], "pause replicas", "{summary}");
    assert!(interrupted["longest"]["length_s"].as_f64().unwrap() < 1.5, "{summary}");
}

/// FEATURES: H7
#[tokio::test]
async fn a_killed_sweep_goes_on_where_it_was() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("tiny.yaml");
    let spec = "name: tiny\ntopology: { masters: 1 }\nworkload: { records: 5 }\n\
                phases: { warmup: 0s, measure: 2s, settle: 2s }\n\
                sweep: { axes: [{ path: load.rate, values: [30, 60] }] }\n";
    fs::write(&file, spec).unwrap();
    let arguments = ["sweep", file.to_str().unwrap()];
    let folder = || fs::canonicalize(out.path().join("latest")).unwrap();
    let ledger = || -> Option<Value> {
        let text = fs::read_to_string(out.path().join("latest/sweep.json")).ok()?;
        serde_json::from_str(&text).ok()
    };
    let runs = || ledger().map_or(0, |found| found["runs"].as_array().unwrap().len());
    let mut harness = quorate(&arguments, out.path()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while runs() == 0 {
        assert!(Instant::now() < deadline, "no run of the sweep ended");
        tokio::time::sleep(LOOK).await;
    }
    harness.kill().unwrap();
    harness.wait().unwrap();
    let (before, first) = (folder(), ledger().unwrap()["runs"][0].clone());

    let output = quorate(&arguments, out.path()).output().unwrap();
    // A busy machine makes figures unsound, not the sweep.
    assert!(matches!(output.status.code(), Some(0 | 2)), "{}", shown(&output));
    assert!(text(&output.stdout).contains("goes on behind 1 runs"), "{}", shown(&output));
    let after = ledger().unwrap();
    assert_eq!((folder(), runs(), &after["finished"]), (before, 2, &Value::Bool(true)));
    assert_eq!(after["runs"][0], first);
    let page = fs::read_to_string(folder().join("index.html")).unwrap();
    for run in after["runs"].as_array().unwrap() {
        let name = run["folder"].as_str().unwrap();
        assert!(page.contains(name) && folder().join(name).join("report.html").is_file());
    }
}

/// FEATURES: H3
#[test]
fn random_chaos_that_cannot_be_is_refused_before_anything_starts() {
    let out = tempfile::tempdir().unwrap();
    for (arguments, why) in [
        (&["chaos"][..], "--random"),
        (&["chaos", "--random", "--weights", "kil=1"], "--weights: there is no `kil`; legal: kill"),
        (&["chaos", "--random", "--round", "5s"], "--round: 5s is too short; legal: from 15s on"),
        (&["chaos", "--random", "--duration", "0s"], "--duration: must be more than 0s"),
        (&["chaos", "--random", "--set", "topology.masters=2"], "2 MASTERs have no minority"),
        (
            &["chaos", "--random", "--weights", "latency=1", "--set", "topology.links=direct"],
            "latency needs proxies",
        ),
    ] {
        let output = quorate(arguments, out.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
        assert!(text(&output.stderr).contains(why), "{}", shown(&output));
    }
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

fn json_lines<T: serde::de::DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a round did: every fault that waited began behind the proven heal it waited for, whatever
/// was injected was healed, and what was not begun was told.
fn one_after_the_other(round: &Path) {
    let plan: Plan = serde_json::from_slice(&fs::read(round.join("plan.json")).unwrap()).unwrap();
    let records: Vec<FaultRecord> = json_lines(&round.join("faults.jsonl"));
    let findings = fs::read_to_string(round.join("soundness.json")).unwrap();
    let record = |name: &str, action: FaultAction| {
        records.iter().find(|record| record.name == name && record.action == action)
    };
    assert!(plan.faults.len() > 1, "one fault follows on none");
    for fault in &plan.faults {
        let name = &fault.name;
        let Some(injected) = record(name, FaultAction::Inject) else {
            assert!(findings.contains(&format!("{name} (")), "{name} is missing: {findings}");
            continue;
        };
        assert!(record(name, FaultAction::Heal).is_some(), "{name} was not healed: {records:?}");
        for awaited in fault.trigger.iter().flat_map(|trigger| trigger.event.faults()) {
            let healed = record(awaited, FaultAction::Heal).unwrap();
            assert!(healed.proven.unwrap() <= injected.begun, "{healed:?} {injected:?}");
        }
    }
    assert!(records.len() > 1, "nothing was done: {findings}");
}

/// FEATURES: H3
#[tokio::test]
async fn a_killed_random_chaos_goes_on_where_it_was_and_hurts_one_thing_at_a_time() {
    let out = tempfile::tempdir().unwrap();
    let small = ["load.rate=40", "workload.records=40", "phases.warmup=0s", "phases.settle=10s"];
    let set = small.iter().flat_map(|small| ["--set", *small]);
    // Disks are left out: not every machine can mount one.
    let drawn = ["--seed", "2", "--weights", "kill=1,restart=1,pause=1,partition=2"];
    let long = ["chaos", "--random", "--round", "20s", "--duration", "40s"];
    let arguments: Vec<&str> = long.into_iter().chain(drawn).chain(set).collect();
    let rounds = || -> Vec<Value> {
        let text = fs::read_to_string(out.path().join("latest/chaos.json")).unwrap_or_default();
        let found = serde_json::from_str(&text).unwrap_or(Value::Null);
        found["rounds"].as_array().cloned().unwrap_or_default()
    };
    let mut harness = quorate(&arguments, out.path()).spawn().unwrap();
    within(PATIENCE, "a round that ended", || async { !rounds().is_empty() }).await;
    // The next one is under way, or about to be.
    harness.kill().unwrap();
    harness.wait().unwrap();
    let pid = harness.id();
    within(PATIENCE, "its servers end", || async { left_behind(out.path(), pid).is_empty() }).await;
    let (folder, first) = (only_run(out.path()), rounds()[0].clone());

    let output = quorate(&arguments, out.path()).output().unwrap();
    // A busy machine makes figures unsound, not the campaign.
    assert!(matches!(output.status.code(), Some(0 | 2)), "{}", shown(&output));
    assert!(text(&output.stdout).contains("goes on behind 1 rounds"), "{}", shown(&output));
    let all = rounds();
    assert_eq!((only_run(out.path()), all.len(), &all[0]), (folder.clone(), 2, &first));
    for round in &all {
        let place = folder.join(round["folder"].as_str().unwrap());
        one_after_the_other(&place);
        let done: Vec<FaultRecord> = json_lines(&place.join("faults.jsonl"));
        let begun = done.iter().filter(|record| record.action == FaultAction::Inject).count();
        assert_eq!(round["faults"], begun, "{round}");
        assert!(place.join("report.html").is_file());
    }
}

/// FEATURES: H3
#[test]
fn random_chaos_whose_servers_never_come_up_is_tried_again_told_and_given_up() {
    let out = tempfile::tempdir().unwrap();
    let program = out.path().join("dies");
    fs::write(&program, "#!/bin/sh\n[ \"$1\" = --version ] || exit 1\necho dies 1\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let arguments = ["chaos", "--random", "--round", "15s", "--duration", "60s"];
    let dies = ["--weights", "kill=1", "--node-bin", program.to_str().unwrap()];
    let arguments: Vec<&str> = arguments.into_iter().chain(dies).collect();
    let output = quorate(&arguments, out.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", shown(&output));
    assert!(text(&output.stderr).contains("2 rounds in a row could not be run"), "{output:?}");
    let campaign = fs::read(out.path().join("latest/chaos.json")).unwrap();
    let campaign: Value = serde_json::from_slice(&campaign).unwrap();
    let rounds = campaign["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2, "{campaign}");
    for round in rounds {
        assert_eq!((&round["exit"], &round["tries"]), (&Value::from(4), &Value::from(3)));
        assert!(round["remark"].as_str().unwrap().contains("the harness failed"), "{round}");
    }
}
