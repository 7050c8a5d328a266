//! The conformance suite over the process stage, and what only that stage promises.
#![allow(clippy::unwrap_used, reason = "a failed expectation of a test ends it")]
#![allow(clippy::print_stdout, reason = "evidence of faults is worth reading")]

#[macro_use]
#[path = "stage_support/suite.rs"]
mod suite;
#[path = "stage_support/mod.rs"]
mod support;

use std::path::Path;

use quorate::folder::{FaultAction, FaultRecord, RunFolder};
use quorate::plan::{Cut, FaultKind, Plan, PlannedFault, Shape};
use quorate::run::parts::{Clock, Stage};
use quorate::stage::{LiveStage, ProcessStage, StageError, StageOptions};
use suite::{Running, Starter};
use support::{eventually, is_alive, on_n2, options, plan};

struct Processes;

impl Starter for Processes {
    async fn missing() -> Option<String> {
        None
    }

    async fn start(plan: &Plan, folder: &RunFolder, clock: Clock) -> LiveStage {
        ProcessStage::start_with(plan, folder, clock, options()).await.unwrap()
    }

    async fn left_behind(folder: &Path, _: Option<&str>) -> Vec<String> {
        let mut left: Vec<String> = processes_of(folder);
        left.extend(folder.join("data").exists().then(|| "data".to_string()));
        left
    }
}

/// Command lines that name the folder, as those of its servers do.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_string_lossy().into_owned();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&folder)).collect()
}

conformance!(Processes);

async fn refused(plan: &Plan, options: StageOptions) -> (StageError, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::new(folder.path());
    let started = ProcessStage::start_with(plan, &run, Clock::start(), options).await;
    (started.map(|_| ()).unwrap_err(), folder)
}

/// Settings with a planted fault of the stand-in, which a real server does not have.
fn planted(variable: &str) -> StageOptions {
    let mut options = options();
    options.node = Some(support::fake_node());
    options.secrets.push((variable.to_string(), "1".to_string()));
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_while_starting_is_quoted() {
    let (error, folder) = refused(&plan(Vec::new()), planted("FAKE_NODE_DIES")).await;
    let text = error.to_string();
    let quoted = text.contains("the planted reason of death") && text.contains("exit status: 3");
    assert!(quoted, "{text}");
    let gone = || async { Processes::left_behind(folder.path(), None).await.is_empty() };
    eventually("nothing is left", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_that_meets_a_starting_server_kills_it_and_nothing_starts_twice() {
    let kill = |name: &str, at_ms| {
        let fault = on_n2(100, |target| FaultKind::Kill { target });
        PlannedFault { name: name.to_string(), at_ms, ..fault }
    };
    let plan = plan(vec![kill("first", 0), kill("second", 800)]);
    let folder = tempfile::tempdir().unwrap();
    let (run, clock) = (RunFolder::new(folder.path()), Clock::start());
    let options = planted("FAKE_NODE_WAITS");
    let stage = ProcessStage::start_with(&plan, &run, clock, options).await.unwrap();
    let of_n2 = || {
        let lines = processes_of(folder.path()).into_iter();
        // The guard's wrapper becomes the server; between them a line may be read twice.
        lines.filter(|line| line.contains(" --name n2 ")).count()
    };
    let recorded = |what: &str| {
        let text = std::fs::read_to_string(run.faults()).unwrap_or_default();
        text.lines().any(|line| line.contains("\"second\"") && line.contains(what))
    };
    let cancel = tokio_util::sync::CancellationToken::new();
    let faults = stage.run_faults(&plan, clock.now(), cancel);
    let (records, ()) = tokio::join!(faults, async {
        // The server that the first fault brings back waits, and meets the second fault so.
        eventually("the second kill", || async { recorded("inject") }).await;
        eventually("it is started again", || async { of_n2() > 0 }).await;
        assert_eq!(of_n2(), 1, "{:?}", processes_of(folder.path()));
        std::fs::write(folder.path().join("data/n2/go"), "").unwrap();
    });
    let records = records.unwrap();
    let evidence = |name: &str, action| {
        let of = |record: &&FaultRecord| record.name == name && record.action == action;
        let record = records.iter().find(of).unwrap();
        assert!(record.proven.is_some(), "{record:?}");
        record.evidence.clone()
    };
    let killed = evidence("second", FaultAction::Inject);
    assert!(killed.contains("exit observed (signal: 9"), "{killed}");
    let overtaken = evidence("first", FaultAction::Heal);
    assert!(overtaken.contains("another fault ended it"), "{overtaken}");
    // Boot 2 is the one that was killed before it said anything.
    let back = evidence("second", FaultAction::Heal);
    assert!(back.contains("in boot 3"), "{back}");
    assert_eq!(of_n2(), 1);
    let findings = stage.stop().await.unwrap();
    assert!(findings.iter().all(|finding| !finding.fatal), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_fault_without_proxies_is_refused_before_anything_starts() {
    let kind = |target| FaultKind::Partition { cut: Cut::Closed, target, shape: Shape::Sides };
    let mut plan = plan(vec![on_n2(1, kind)]);
    plan.topology.proxied = false;
    let (error, folder) = refused(&plan, options()).await;
    assert!(matches!(error, StageError::CannotDo { .. }), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_past_the_proxy_make_the_run_unsound() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::new(folder.path());
    let options = planted("FAKE_NODE_BYPASSES");
    let stage =
        ProcessStage::start_with(&plan(Vec::new()), &run, Clock::start(), options).await.unwrap();
    let findings = stage.stop().await.unwrap();
    let bypassed = findings.iter().find(|finding| finding.code == "proxy_bypassed").unwrap();
    assert!(bypassed.fatal && bypassed.detail.contains("n1->n2"), "{bypassed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ignores_sigterm_is_killed_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::new(folder.path());
    let mut options = planted("FAKE_NODE_IGNORES_SIGTERM");
    options.stop_limit = std::time::Duration::from_millis(300);
    let stage =
        ProcessStage::start_with(&plan(Vec::new()), &run, Clock::start(), options).await.unwrap();
    let pids = stage.pids();
    let findings = stage.stop().await.unwrap();
    assert_eq!(findings.iter().filter(|finding| finding.code == "unclean_stop").count(), 3);
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_unasked_makes_the_run_unsound() {
    let running = Running::<Processes>::start(plan(Vec::new())).await;
    let victim = running.stage.pids()[1];
    let pid = nix::unistd::Pid::from_raw(victim);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("n2 is dead", || async { !is_alive(victim) }).await;
    let findings = running.stage.stop().await.unwrap();
    let died = findings.iter().any(|finding| finding.code == "server_died" && finding.fatal);
    assert!(died, "{findings:?}");
    // Its own end is what was wrong, and nothing else.
    assert_eq!(findings.iter().filter(|finding| finding.fatal).count(), 1, "{findings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_toxiproxy_does_what_the_standard_api_can_say() {
    let proxy = support::StandaloneProxy::start();
    let silent = |target| FaultKind::Partition { cut: Cut::Silent, target, shape: Shape::Sides };
    let options = StageOptions { toxiproxy: Some(proxy.url.clone()), ..options() };
    let (error, _folder) = refused(&plan(vec![on_n2(1, silent)]), options.clone()).await;
    assert!(error.to_string().contains("partition silent n2"), "{error}");

    let closed = |target| FaultKind::Partition { cut: Cut::Closed, target, shape: Shape::Sides };
    let plan = plan(vec![on_n2(300, closed)]);
    let folder = tempfile::tempdir().unwrap();
    let (run, clock) = (RunFolder::new(folder.path()), Clock::start());
    let stage = ProcessStage::start_with(&plan, &run, clock, options.clone()).await.unwrap();
    let (second, _other) = refused(&plan, options).await;
    assert!(matches!(second, StageError::NotClean(_)), "{second}");
    let cancel = tokio_util::sync::CancellationToken::new();
    let records = stage.run_faults(&plan, clock.now(), cancel).await.unwrap();
    suite::proven(&records, folder.path());
    let findings = stage.stop().await.unwrap();
    let codes: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
    assert!(codes.contains(&"bytes_not_accounted") && codes.contains(&"partition_not_atomic"));
    assert!(findings.iter().all(|finding| !finding.fatal), "{findings:?}");
}
