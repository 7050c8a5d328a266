//! What the stage tests share: plans, programs, and questions to a server. No tests here.
#![allow(dead_code, reason = "every test program uses its part of this file")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use http::Method;
use quorate::plan::{
    FaultKind, KeyDistribution, Load, LoadMode, PLAN_FORMAT, Phases, Plan, PlannedFault, Target,
    Topology, Workload,
};
use quorate::stage::StageOptions;
use quorate::stage::http::request;

/// A plan of three servers behind proxies, with these faults.
pub(crate) fn plan(faults: Vec<PlannedFault>) -> Plan {
    Plan {
        format: PLAN_FORMAT,
        name: "stage".to_string(),
        description: String::new(),
        seed: 7,
        topology: Topology {
            masters: ["n1", "n2", "n3"].map(String::from).to_vec(),
            replicas: Vec::new(),
            standalone: false,
            write_quorum: "majority".to_string(),
            proxied: true,
            limits: quorate::plan::Limits::default(),
            heap_bytes: None,
        },
        network: None,
        workload: Workload {
            records: 1,
            value_bytes: 1,
            mix: BTreeMap::new(),
            keys: KeyDistribution::Uniform,
        },
        load: Load {
            mode: LoadMode::Closed,
            clients: 1,
            timeout_ms: 1000,
            in_flight_cap: 0,
            targets: Vec::new(),
            readers: Vec::new(),
        },
        phases: Phases { warmup_ms: 0, measure_ms: 1000, settle_ms: 1000 },
        faults,
        expect: BTreeMap::new(),
    }
}

/// A fault on `n2` that begins at once.
pub(crate) fn on_n2(for_ms: u64, kind: impl FnOnce(Target) -> FaultKind) -> PlannedFault {
    let kind = kind(Target::Names(vec!["n2".to_string()]));
    PlannedFault {
        name: "fault".to_string(),
        at_ms: 0,
        for_ms,
        kind,
        drawn_as: None,
        trigger: None,
    }
}

/// Settings with the stand-in for the server, unless `QUORATE_NODE_BIN` names a real one.
pub(crate) fn options() -> StageOptions {
    let node = std::env::var_os("QUORATE_NODE_BIN").map_or_else(fake_node, PathBuf::from);
    let proxy = std::env::var_os("QUORATE_PROXY_BIN").map_or_else(proxy, PathBuf::from);
    StageOptions {
        node: Some(node),
        proxy: Some(proxy),
        guard: Some(programs().join("quorate-guard")),
        ready_limit: Duration::from_secs(30),
        ..StageOptions::default()
    }
}

/// Settings of containers of the usual images.
pub(crate) fn container_options() -> StageOptions {
    StageOptions { guard: Some(programs().join("quorate-guard")), ..StageOptions::from_env() }
}

/// Whether a server answers that it is ready, within a short time.
pub(crate) async fn answers(address: SocketAddr) -> bool {
    let limit = Duration::from_millis(250);
    let reply = request(address, Method::GET, "/health", None, limit).await;
    reply.is_ok_and(|reply| reply.status.is_success())
}

/// Whether the kernel still knows the process as alive.
pub(crate) fn is_alive(pid: i32) -> bool {
    quorate::stage::procfs::ProcStat::read(pid).is_ok_and(|stat| !stat.is_dead())
}

/// Waits until the condition holds; panics with `what` after ten seconds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl FnMut() -> F) {
    within(Duration::from_secs(10), what, condition).await;
}

/// Waits until the condition holds; panics with `what` after the limit.
pub(crate) async fn within<F: Future<Output = bool>>(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) {
    let deadline = Instant::now() + limit;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The stand-in for the server.
pub(crate) fn fake_node() -> PathBuf {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| build(&["--example", "fake-node"]));
    programs().join("examples/fake-node")
}

/// A harness to kill, told where the other programs are.
pub(crate) fn stage_harness() -> Command {
    build(&["--example", "stage-harness"]);
    let StageOptions { node, proxy, .. } = options();
    let mut command = Command::new(programs().join("examples/stage-harness"));
    command.env("QUORATE_NODE_BIN", node.unwrap()).env("QUORATE_PROXY_BIN", proxy.unwrap());
    command
}

/// The server itself.
pub(crate) fn node() -> PathBuf {
    if let Some(given) = std::env::var_os("QUORATE_NODE_BIN") {
        return PathBuf::from(given);
    }
    static BUILT: Once = Once::new();
    BUILT.call_once(|| build(&["--bin", "quorate-node"]));
    programs().join("quorate-node")
}

/// The fault proxy.
pub(crate) fn proxy() -> PathBuf {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| build(&["--bin", "quorate-proxy"]));
    programs().join("quorate-proxy")
}

/// The simulator.
pub(crate) fn sim() -> PathBuf {
    if let Some(given) = std::env::var_os("QUORATE_SIM_BIN") {
        return PathBuf::from(given);
    }
    static BUILT: Once = Once::new();
    BUILT.call_once(|| build(&["--bin", "quorate-sim"]));
    programs().join("quorate-sim")
}

/// Builds a program that `cargo test` does not build by itself in every form of the command, or
/// left as it was before a change. Does next to nothing when it is up to date: the whole workspace
/// is named because with fewer packages the dependencies have other features, and are other builds.
fn build(what: &[&str]) {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["build", "--quiet", "--workspace", "--target-dir"])
        .arg(programs().parent().unwrap());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    assert!(command.args(what).status().unwrap().success(), "cannot build {what:?}");
}

/// Where cargo puts the programs: tests and examples lie one folder below.
fn programs() -> PathBuf {
    std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf()
}

/// A proxy started by hand, as a Toxiproxy would be. Killed on drop.
pub(crate) struct StandaloneProxy {
    child: std::process::Child,
    /// Its API.
    pub(crate) url: String,
}

impl StandaloneProxy {
    /// Starts it.
    pub(crate) fn start() -> Self {
        use std::io::BufRead;
        let mut child = Command::new(options().proxy.unwrap())
            .args(["--listen", "127.0.0.1:0", "--seed", "1"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self { child, url: format!("http://{}", line["api"].as_str().unwrap()) }
    }
}

impl Drop for StandaloneProxy {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
