//! How fast the driver is on this machine, and what an operation costs it, against the null server.
//! Prints; writes nothing that stays. `cargo run --release --example driver_rate [seconds]`
//!
//! Three figures: the closed-loop maximum, the highest open-loop rate that the driver keeps up
//! with, and the start delay at half that rate. If `wrk` is installed, its figure on the same
//! server stands beside them.

#![allow(clippy::print_stdout, reason = "printing figures is what this program is for")]

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::Context;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use quorate::drive::null_server::NullServer;
use quorate::drive::{Driver, LoadReport, Progress};
use quorate::folder::RunFolder;
use quorate::plan::{
    Arrivals, KeyDistribution, Load, LoadMode, OpClass, PLAN_FORMAT, Phases, Plan, Topology,
    Workload,
};
use quorate::run::parts::{Clock, Endpoint};
use tokio_util::sync::CancellationToken;

const CLIENTS: u32 = 64;

fn main() -> anyhow::Result<()> {
    let seconds = match std::env::args().nth(1) {
        Some(text) => text.parse::<u64>().context("the argument is a number of seconds")?,
        None => 3,
    };
    let closed = measure(LoadMode::Closed, seconds)?;
    print("closed loop, 64 connections", &closed);
    // Between a rate that is surely kept up with and one that is not, by halving four times.
    let (mut low, mut high) = (0.0, closed.report.summary.achieved_rate * 1.2);
    for _ in 0..4 {
        let rate = (low * 0.25 + high * 0.75_f64).round();
        let tried = measure(open(rate), seconds)?;
        print(&format!("open loop at {rate:.0}/s"), &tried);
        if kept_up(&tried.report) {
            low = rate;
        } else {
            high = rate;
        }
    }
    let kept_up_with = (low > 0.0).then_some(low);
    println!("{}", verdict(kept_up_with, high));
    let half = kept_up_with.map(|rate| (rate / 2.0).max(1000.0));
    for rate in half.into_iter().chain([5000.0]) {
        print(&format!("open loop at {rate:.0}/s"), &measure(open(rate), seconds)?);
    }
    wrk(seconds)
}

/// What the search came to: the highest rate kept up with, and the lowest that was not.
fn verdict(kept_up_with: Option<f64>, failed: f64) -> String {
    match kept_up_with {
        Some(rate) => format!("highest rate kept up with: {rate:.0}/s"),
        None => format!(
            "no rate was kept up with, the lowest tried was {failed:.0}/s: the machine is busy, or \
             the runs are too short to tell"
        ),
    }
}

fn open(rate: f64) -> LoadMode {
    LoadMode::Open { rate, arrivals: Arrivals::Poisson }
}

/// Sound by the driver's own rule, everything sent, and nothing piling up behind the cap.
fn kept_up(report: &LoadReport) -> bool {
    let summary = &report.summary;
    report.findings.iter().all(|finding| !finding.fatal)
        && summary.sent == summary.scheduled
        && summary.achieved_rate >= 0.99 * summary.asked_rate
}

struct Measured {
    report: LoadReport,
    /// CPU seconds by thread: the driver's, the recorder's, the server's.
    cpu: [f64; 3],
}

/// CPU seconds that this process's threads of these names have used.
fn cpu_of_threads() -> anyhow::Result<[f64; 3]> {
    let mut seconds = [0.0; 3];
    for task in std::fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        let index = match std::fs::read_to_string(path.join("comm"))?.trim() {
            "recorder" => 1,
            "null-server" => 2,
            _ => 0,
        };
        let schedstat = std::fs::read_to_string(path.join("schedstat"))?;
        let ns = schedstat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok());
        seconds[index] += ns.unwrap_or(0.0) / 1e9;
    }
    Ok(seconds)
}

fn measure(mode: LoadMode, seconds: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let server = NullServer::start(clock, None)?;
    let dir = tempfile::tempdir()?;
    let addr = server.addr();
    let endpoint = Endpoint { node: "n1".to_owned(), client: addr, direct: addr };
    let folder = RunFolder::new(dir.path());
    let mut driver = Driver::new(&plan(mode, seconds), &[endpoint], "secret", clock, &folder)?;
    let cancel = CancellationToken::new();
    driver.prepare()?;
    driver.load(&cancel)?;
    let progress = tokio::sync::watch::Sender::new(Progress::default());
    let before = cpu_of_threads()?;
    let report = driver.run(clock.now() + 10_000_000, &cancel, progress)?;
    let after = cpu_of_threads()?;
    driver.finish()?;
    let cpu = [0, 1, 2].map(|thread| after[thread] - before[thread]);
    Ok(Measured { report, cpu })
}

fn plan(mode: LoadMode, seconds: u64) -> Plan {
    Plan {
        format: PLAN_FORMAT,
        name: "driver-rate".to_owned(),
        description: "the driver against a null server".to_owned(),
        seed: 1,
        topology: Topology {
            masters: vec!["n1".to_owned()],
            replicas: Vec::new(),
            standalone: false,
            write_quorum: "majority".to_owned(),
            proxied: false,
            limits: quorate::plan::Limits::default(),
            heap_bytes: None,
        },
        network: None,
        workload: Workload {
            records: 1000,
            value_bytes: 100,
            mix: [(OpClass::ReadLocal, 95), (OpClass::Update, 5)].into(),
            keys: KeyDistribution::Zipfian { theta: 0.99 },
        },
        load: Load {
            mode,
            clients: CLIENTS,
            timeout_ms: 2000,
            in_flight_cap: 1024,
            targets: vec!["n1".to_owned()],
            readers: Vec::new(),
        },
        phases: Phases { warmup_ms: 0, measure_ms: seconds * 1000, settle_ms: 0 },
        faults: Vec::new(),
        expect: BTreeMap::new(),
    }
}

fn print(what: &str, measured: &Measured) {
    let summary = &measured.report.summary;
    let operations = summary.completed.max(1) as f64;
    let [p50, p99, max] = summary.start_delay_us;
    let [driver, recorder, server] = measured.cpu.map(|seconds| seconds * 1e6 / operations);
    println!(
        "{what}: {:.0} op/s; CPU µs/op: driver {driver:.2}, recorder {recorder:.2}, \
         server {server:.2}; start delay µs: p50 {p50:.0}, p99 {p99:.0}, max {max:.0}; backlog {}",
        summary.achieved_rate, summary.backlog_max,
    );
    for finding in &measured.report.findings {
        println!("  {}: {}", finding.code, finding.detail);
    }
}

/// `wrk`, one thread, on the same kind of server: a read of nothing, so even less than ours.
fn wrk(length: u64) -> anyhow::Result<()> {
    let server = NullServer::start(Clock::start(), None)?;
    let cpu = || getrusage(UsageWho::RUSAGE_CHILDREN);
    let before = cpu()?;
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{CLIENTS}"), &format!("-d{length}s")])
        .arg(format!("http://{}/", server.addr()))
        .output();
    match output {
        Ok(output) => {
            let after = cpu()?;
            let seconds = |usage: nix::sys::resource::Usage| {
                let spent = usage.user_time() + usage.system_time();
                spent.num_microseconds() as f64 / 1e6
            };
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text.lines().find(|line| line.contains("Requests/sec"));
            let rate = line.and_then(|line| line.split(':').nth(1)?.trim().parse::<f64>().ok());
            let rate = rate.context("wrk gave no figure")?;
            let each = (seconds(after) - seconds(before)) * 1e6 / (rate * length as f64);
            println!("wrk on the same server: {rate:.0} req/s; CPU µs/req: {each:.2}");
        }
        Err(error) => println!("wrk: {error}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_without_success_says_so() {
        assert_eq!(verdict(Some(1500.0), 2000.0), "highest rate kept up with: 1500/s");
        let none = verdict(None, 750.0);
        assert!(none.contains("no rate was kept up with") && none.contains("750/s"), "{none}");
    }
}
