//! The driver on trial with a known answer: a server that stands still for P seconds in a run of
//! T seconds at a constant rate makes response times whose quantiles are L_q = P - (1 - q) T.
//!
//! Alone in its binary, so that no other test takes the cores away:
//! `cargo test -p quorate --test drive_known_outage -- --test-threads=1`.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]
#![allow(clippy::print_stdout, reason = "figures for whoever reads the test's output")]

mod drive_common;

use std::sync::Mutex;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use drive_common::{Run, plan};
use quorate::drive::LoadReport;
use quorate::drive::null_server::{NullServer, Outage};
use quorate::plan::{LoadMode, Plan};
use quorate::run::parts::Clock;
use quorate_check::history::Operation;

const SECOND: u64 = 1_000_000_000;
/// Operations per second. Low, because the formula is that of an instantaneous drain: what 1.4 s
/// leave behind must be served in a time that does not matter, on a busy machine, unoptimised.
const RATE: f64 = 200.0;
/// Length of a run in milliseconds, T.
const LENGTH_MS: u64 = 4000;
/// Longest time in seconds that a reply may wait for the driver to be woken and to send the next
/// operation. Two cores that others use as well make that milliseconds now and then.
const TURN_S: f64 = 0.002;
/// What a machine may take for itself at once, in seconds: as the outage begins, and while it is
/// worked off.
const PAUSE_S: f64 = 0.1;
/// A driver that is slower than this in seconds after an outage is at fault, however slow the
/// server may be.
const DRAIN_MAX_S: f64 = 0.4;
/// Runs there are at most until one is judged.
const ATTEMPTS: u32 = 8;
/// One after the other even when the test runner would not.
static SERIAL: Mutex<()> = Mutex::new(());

/// Runs `plan` with an outage of 1.4 s in its middle; returns the run, the outage as it was, and
/// the seconds of CPU that the server needed for a request. What ran while the machine stood still
/// says nothing about the driver, and is run again.
fn run_with_outage(plan: &Plan) -> (Run, Outage, f64) {
    for _ in 0..ATTEMPTS {
        let witness = Witness::start();
        let ended = run_once(plan);
        let longest = witness.longest();
        if longest.as_secs_f64() <= PAUSE_S {
            let (report, run, outage, service) = ended;
            assert_eq!(report.summary.sent, report.summary.scheduled);
            return (run, outage, service);
        }
        println!("the machine stood still for {longest:?}: again");
    }
    panic!("the machine stood still in each of {ATTEMPTS} runs");
}

fn run_once(plan: &Plan) -> (LoadReport, Run, Outage, f64) {
    let clock = Clock::start();
    // Preparing and loading take far less than this against this server, also on a busy machine.
    let start = clock.now() + 2 * SECOND;
    let planned = Outage { from: start + SECOND, to: start + SECOND * 24 / 10 };
    let server = NullServer::start(clock, Some(planned)).unwrap();
    let run = Run::new(clock);
    let report = run.measure(plan, server.addr(), Some(start));
    let served = server.stop().unwrap();
    (report, run, served.outage.unwrap(), served.cpu_seconds / served.requests as f64)
}

/// Runs `plan` and compares quantiles with theory, to 3 %. The formula assumes that the outage
/// begins with nothing left to serve, and that what it left behind is served at once; the times
/// by which it was longer at either end, read from the history, are allowed on top. Each has a
/// limit of its own, which knows nothing of the driver: what a machine may take for itself; at the
/// end also what the server needs for so many requests, and a turn for as many of them as may be in
/// flight together.
fn assert_known_quantiles(plan: &Plan) -> Run {
    let (run, outage, service) = run_with_outage(plan);
    let operations = run.measured();
    let meets = |op: &&Operation| op.intended < outage.to && op.done.unwrap() >= outage.to;
    let left: Vec<_> = operations.iter().filter(meets).collect();
    let first = left.iter().map(|op| op.intended).min().unwrap();
    let early = seconds(outage.from.saturating_sub(first));
    let drained = left.iter().map(|op| op.done.unwrap()).max().unwrap();
    let drain = seconds(drained - outage.to);
    let turns = left.len().div_ceil(plan.load.in_flight_cap as usize) as f64;
    let limit = PAUSE_S + TURN_S * turns + service * left.len() as f64;
    println!("{} left behind, {early:.3} s early", left.len());
    println!("drained in {drain:.3} s of {limit:.3} s");
    assert!(early <= PAUSE_S, "{early} s before the outage nothing was served any more");
    assert!(drain <= limit.min(DRAIN_MAX_S), "drained in {drain} s, limit {limit} s");
    let outage = seconds(outage.to - outage.from);
    let response = run.intervals(".ok");
    assert_eq!(response.len(), (RATE * LENGTH_MS as f64 / 1000.0) as u64);
    for q in [0.99, 0.97, 0.95, 0.90] {
        let expected = outage - (1.0 - q) * LENGTH_MS as f64 / 1000.0;
        let got = response.value_at_quantile(q) as f64 / 1e6;
        println!("q {q}: {got:.3} s, expected {expected:.3} s, drained in {drain:.3} s");
        assert!(got >= 0.97 * expected, "q {q}: {got} s, expected {expected} s");
        assert!(got <= 1.03 * expected + early + drain, "q {q}: {got} s, expected {expected} s");
    }
    run
}

/// A thread that wants to wake up every millisecond, and knows nothing of the driver.
struct Witness {
    end: SyncSender<()>,
    longest: JoinHandle<Duration>,
}

impl Witness {
    fn start() -> Self {
        const TURN: Duration = Duration::from_millis(1);
        let (end, ended) = sync_channel(0);
        let longest = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            let mut last = Instant::now();
            while ended.recv_timeout(TURN) == Err(RecvTimeoutError::Timeout) {
                let now = Instant::now();
                longest = longest.max((now - last).saturating_sub(TURN));
                last = now;
            }
            longest
        });
        Self { end, longest }
    }

    /// The longest time by which it woke up too late.
    fn longest(self) -> Duration {
        drop(self.end);
        self.longest.join().unwrap()
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn service_p99_ms(run: &Run) -> f64 {
    let operations = run.measured();
    let mut service: Vec<u64> = operations.iter().map(|op| op.done.unwrap() - op.sent).collect();
    service.sort_unstable();
    service[service.len() * 99 / 100] as f64 / 1e6
}

#[test]
fn known_outage_shows_in_full_when_every_arrival_gets_a_connection() {
    let _serial = SERIAL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut plan = plan(RATE, LENGTH_MS);
    plan.load.clients = 300;
    assert_known_quantiles(&plan);
}

#[test]
fn known_outage_shows_in_full_behind_a_cap_where_service_time_hides_it() {
    let _serial = SERIAL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut plan = plan(RATE, LENGTH_MS);
    // Fewer operations sit the outage out than one in a hundred, so that service time hides it.
    plan.load.in_flight_cap = 4;
    let run = assert_known_quantiles(&plan);
    let service = service_p99_ms(&run);
    println!("service p99 {service:.3} ms");
    assert!(service < 100.0, "{service}");
}

#[test]
fn known_outage_is_missed_by_a_closed_loop() {
    let _serial = SERIAL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut plan = plan(RATE, LENGTH_MS);
    plan.load.mode = LoadMode::Closed;
    let (run, outage, _) = run_with_outage(&plan);
    let response = run.intervals(".ok");
    let p99 = response.value_at_quantile(0.99) as f64 / 1e6;
    let outage = seconds(outage.to - outage.from);
    println!("closed loop p99 {p99:.4} s of an outage of {outage:.3} s");
    assert!(p99 < 0.1, "a closed loop was expected to miss the outage: {p99}");
    assert!(response.max() as f64 / 1e6 > 1.3, "yet its slowest operation sat it out");
}
