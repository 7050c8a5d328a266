//! How fast the driver is on this machine, and what an operation costs it, against the null server.
//! Prints; writes nothing that stays. `cargo run --release --example driver_rate [seconds]`
//!
//! Three figures: the closed-loop maximum, the highest open-loop rate that the driver keeps up
//! with, and the start delay at half that rate. If `wrk` is installed, its figure on the same
//! server stands beside them.

#![allow(
    clippy::print_stdout,
    reason = "printing figures is what this program is for"
)]

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::Context;
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
        Some(text) => text
            .parse::<u64>()
            .context("the argument is a number of seconds")?,
        None => 3,
    };
    let closed = measure(LoadMode::Closed, seconds)?;
    print("closed loop, 64 connections", &closed);
    let mut rate = (closed.report.summary.achieved_rate * 0.9 / 1000.0).floor() * 1000.0;
    let open = loop {
        let open = measure(open(rate), seconds)?;
        print(&format!("open loop at {rate:.0}/s"), &open);
        if kept_up(&open.report) || rate < 2000.0 {
            break open;
        }
        rate = (rate * 0.93 / 1000.0).floor() * 1000.0;
    };
    println!(
        "highest rate kept up with: {:.0}/s",
        open.report.summary.achieved_rate
    );
    print(
        "open loop at half of it",
        &measure(self::open(rate / 2.0), seconds)?,
    );
    wrk(seconds)
}

fn open(rate: f64) -> LoadMode {
    LoadMode::Open {
        rate,
        arrivals: Arrivals::Poisson,
    }
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
    server_cpu: f64,
}

fn measure(mode: LoadMode, seconds: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let server = NullServer::start(clock, None)?;
    let dir = tempfile::tempdir()?;
    let addr = server.addr();
    let endpoint = Endpoint {
        node: "n1".to_owned(),
        client: addr,
        direct: addr,
    };
    let folder = RunFolder::new(dir.path());
    let mut driver = Driver::new(&plan(mode, seconds), &[endpoint], "secret", clock, &folder)?;
    let cancel = CancellationToken::new();
    driver.prepare()?;
    driver.load(&cancel)?;
    let progress = tokio::sync::watch::Sender::new(Progress::default());
    let report = driver.run(clock.now() + 10_000_000, &cancel, progress)?;
    driver.finish()?;
    let server_cpu = server.stop()?.cpu_seconds;
    Ok(Measured { report, server_cpu })
}

fn plan(mode: LoadMode, seconds: u64) -> Plan {
    Plan {
        format: PLAN_FORMAT,
        name: "driver-rate".to_owned(),
        description: "the driver against a null server".to_owned(),
        seed: 1,
        topology: Topology {
            masters: vec!["n1".to_owned()],
            write_quorum: "majority".to_owned(),
            proxied: false,
        },
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
        },
        phases: Phases {
            warmup_ms: 500,
            measure_ms: seconds * 1000,
            settle_ms: 0,
        },
        faults: Vec::new(),
        expect: BTreeMap::new(),
    }
}

fn print(what: &str, measured: &Measured) {
    let summary = &measured.report.summary;
    let operations = summary.completed.max(1) as f64;
    let [p50, p99, max] = summary.start_delay_us;
    println!(
        "{what}: {:.0} op/s, CPU-µs/op {:.2} driver and recorder, {:.2} server; \
         start delay p50 {p50:.0} p99 {p99:.0} max {max:.0} µs, backlog {}",
        summary.achieved_rate,
        summary.cpu_seconds * 1e6 / operations,
        measured.server_cpu * 1e6 / operations,
        summary.backlog_max,
    );
    for finding in &measured.report.findings {
        println!("  {}: {}", finding.code, finding.detail);
    }
}

/// `wrk`, one thread, on the same kind of server: a read of nothing, so even less than ours.
fn wrk(seconds: u64) -> anyhow::Result<()> {
    let server = NullServer::start(Clock::start(), None)?;
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{CLIENTS}"), &format!("-d{seconds}s")])
        .arg(format!("http://{}/", server.addr()))
        .output();
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text.lines().find(|line| line.contains("Requests/sec"));
            println!(
                "wrk on the same server: {}",
                line.unwrap_or("no figure").trim()
            );
        }
        Err(error) => println!("wrk: {error}"),
    }
    Ok(())
}
