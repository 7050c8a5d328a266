//! The conformance suite over the stage of containers, and what only that stage promises. Needs an
//! engine and the images (`make image`); without either it says loudly that it was skipped.
#![allow(clippy::unwrap_used, reason = "a failed expectation of a test ends it")]
#![allow(clippy::print_stdout, reason = "evidence of faults is worth reading")]

#[macro_use]
#[path = "stage_support/suite.rs"]
mod suite;
#[path = "stage_support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quorate::engine::{Engine, leftovers, remove_run};
use quorate::folder::{NodeSample, RunFolder};
use quorate::plan::{Limits, Plan};
use quorate::run::parts::{Clock, Stage};
use quorate::stage::{DockerStage, LiveStage, StageError, StageOptions};
use suite::{Running, Starter, can_start};
use support::{container_options, eventually, is_alive, plan, within};
use testcontainers::bollard;

/// Longest wait for the guard of a killed harness, on a busy machine.
const REMOVAL_MAX: Duration = Duration::from_secs(60);

struct Containers;

impl Starter for Containers {
    async fn missing() -> Option<String> {
        let options = container_options();
        let found = async {
            let engine = Engine::connect().await?;
            engine.image(&options.node_image).await?;
            engine.image(&options.proxy_image).await
        };
        found.await.err().map(|error| error.to_string())
    }

    async fn start(plan: &Plan, folder: &RunFolder, clock: Clock) -> LiveStage {
        DockerStage::start_with(plan, folder, clock, container_options()).await.unwrap()
    }

    async fn left_behind(folder: &Path, run: Option<&str>) -> Vec<String> {
        let mut left = at_engine(|of| Some(of) == run).await;
        left.extend(folder.join("data").exists().then(|| "data".to_string()));
        left
    }
}

/// Names of what the engine has of these runs.
async fn at_engine(wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let engine = Engine::connect().await.unwrap();
    let found = leftovers(&engine).await.unwrap().into_iter();
    found.filter(|left| wanted(&left.run)).map(|left| left.name).collect()
}

conformance!(Containers);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_show_the_control_group() {
    if !can_start::<Containers>().await {
        return;
    }
    let running = Running::<Containers>::start(plan(Vec::new())).await;
    let cancel = tokio_util::sync::CancellationToken::new();
    let path = running.folder.path().join("nodes.jsonl");
    let (sampled, ()) = tokio::join!(running.stage.sample(cancel.clone()), async {
        eventually("samples", || async { std::fs::metadata(&path).is_ok_and(|m| m.len() > 0) })
            .await;
        cancel.cancel();
    });
    sampled.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let sample: NodeSample = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let bytes = sample.metrics["container_memory_usage_bytes"];
    assert!(bytes > 1e6, "{sample:?}");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_has_the_memory_and_the_processors_that_the_plan_says() {
    const BYTES: u64 = 512 << 20;
    if !can_start::<Containers>().await {
        return;
    }
    let mut plan = plan(Vec::new());
    plan.topology.limits = Limits { memory_bytes: Some(BYTES), cpus: Some(0.5) };
    let running = Running::<Containers>::start(plan).await;
    let run = running.stage.run_at_engine().unwrap().to_string();
    let engine = bollard::Docker::connect_with_defaults().unwrap();
    let engine = engine.negotiate_version().await.unwrap();
    let of = |name: &str| format!("quorate-{run}-{name}");
    let found = engine.inspect_container(&of("n1"), None).await.unwrap().host_config.unwrap();
    let bytes = i64::try_from(BYTES).unwrap();
    assert_eq!((found.memory, found.memory_swap), (Some(bytes), Some(bytes)));
    assert_eq!(found.nano_cpus, Some(500_000_000));
    let proxy = engine.inspect_container(&of("proxy"), None).await.unwrap().host_config.unwrap();
    assert_eq!(proxy.memory, Some(0), "limits are those of servers");
    running.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_image_is_named_with_the_way_to_get_it() {
    if !can_start::<Containers>().await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node_image = "quorate-nothing:local".to_string();
    let options = StageOptions { node_image, ..container_options() };
    let run = RunFolder::new(folder.path());
    let started = DockerStage::start_with(&plan(Vec::new()), &run, Clock::start(), options).await;
    let error = started.map(|_| ()).unwrap_err();
    assert!(matches!(error, StageError::Engine(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("quorate-nothing:local") && text.contains("make image"), "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A harness of a test, killed on drop: its guard then removes what it has.
struct Harness(std::process::Child);

impl Harness {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        // It may be dead already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A harness with a cluster of containers: its process ids, and the name of its run.
fn harness(folder: &Path) -> (Harness, Vec<i32>, String) {
    let mut harness = support::stage_harness()
        .args([folder.as_os_str(), "docker".as_ref()])
        .stdout(Stdio::piped())
        .spawn()
        .map(Harness)
        .unwrap();
    let mut line = String::new();
    BufReader::new(harness.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let run = words.pop().unwrap().to_string();
    let pids = words.iter().map(|pid| pid.parse().unwrap()).collect();
    (harness, pids, run)
}

#[tokio::test]
async fn a_killed_harness_leaves_no_container_behind() {
    if !can_start::<Containers>().await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut harness, pids, run) = harness(folder.path());
    // Containers and their network.
    assert_eq!(at_engine(|of| of == run).await.len(), 5);
    harness.kill();
    within(REMOVAL_MAX, "all is removed", || async { at_engine(|of| of == run).await.is_empty() })
        .await;
    eventually("every process is gone", || async { !pids.iter().any(|pid| is_alive(*pid)) }).await;
}

#[tokio::test]
async fn clean_removes_what_is_left_when_the_guard_was_killed_too() {
    if !can_start::<Containers>().await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut harness, pids, run) = harness(folder.path());
    let clean = || {
        // Its exit code is about what all runs of this machine left; the lines are about this one.
        let clean = Command::new(env!("CARGO_BIN_EXE_quorate")).arg("clean").output().unwrap();
        let text = String::from_utf8_lossy(&clean.stdout).into_owned();
        text.lines().filter(|line| line.contains(&run)).map(str::to_string).collect::<Vec<_>>()
    };
    let spared = clean();
    assert!(spared.iter().all(|line| line.contains("left alone")), "{spared:?}");
    assert_eq!(at_engine(|of| of == run).await.len(), 5);

    // The guard first, so that it does not get to do its duty.
    kill(Pid::from_raw(*pids.last().unwrap()), Signal::SIGKILL).unwrap();
    harness.kill();
    let removed = clean();
    assert_eq!(removed.iter().filter(|line| line.contains("removed")).count(), 5, "{removed:?}");
    assert!(!removed.iter().any(|line| line.contains("failed")), "{removed:?}");
    assert_eq!(at_engine(|of| of == run).await, Vec::<String>::new());
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
}

/// As the guard and `clean` may.
#[tokio::test]
async fn two_may_remove_a_run_at_once() {
    if !can_start::<Containers>().await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut harness, pids, run) = harness(folder.path());
    // The guard first, so that it does not get to do its duty.
    kill(Pid::from_raw(*pids.last().unwrap()), Signal::SIGKILL).unwrap();
    harness.kill();
    let engine = Engine::connect().await.unwrap();
    let remove = || async {
        remove_run(&engine, &run).await.unwrap();
        // Gone when either says so, whoever removed it.
        assert_eq!(at_engine(|of| of == run).await, Vec::<String>::new());
    };
    tokio::join!(remove(), remove());
}
