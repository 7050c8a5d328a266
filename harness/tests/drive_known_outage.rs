//! The driver on trial with a known answer: a server that stands still for P seconds in a run of
//! T seconds at a constant rate makes response times whose quantiles are L_q = P - (1 - q) T.
//!
//! A machine that withholds its cores is an outage, too. Witnesses that know nothing of the driver
//! say when that was, and theory is told; no run is judged by a gentler rule for it.
//!
//! Alone in its binary, so that no other test takes the cores away:
//! `cargo test -p quorate --test drive_known_outage -- --test-threads=1`.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]
#![allow(clippy::print_stdout, reason = "figures for whoever reads the test's output")]

mod drive_common;

use std::sync::Mutex;

use drive_common::pauses::{Pauses, Witnesses, seconds};
use drive_common::{READY, Run, plan};
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
/// What a machine may take for itself in small pieces, in seconds, that no witness tells: as the
/// outage begins, and while it is worked off.
const PIECES_S: f64 = 0.1;
/// A driver that is slower than this in seconds after an outage is at fault, however slow the
/// server may be.
const DRAIN_MAX_S: f64 = 0.4;
/// One after the other even when the test runner would not.
static SERIAL: Mutex<()> = Mutex::new(());

/// A run with an outage of 1.4 s in its middle.
struct Measured {
    run: Run,
    outage: Outage,
    /// Seconds of CPU that the server needed for a request.
    service: f64,
    pauses: Pauses,
}

fn run_with_outage(plan: &Plan) -> Measured {
    let clock = Clock::start();
    let witnesses = Witnesses::start(clock);
    let start = clock.now() + READY;
    let planned = Outage { from: start + SECOND, to: start + SECOND * 24 / 10 };
    let server = NullServer::start(clock, Some(planned)).unwrap();
    let run = Run::new(clock);
    let report = run.measure(plan, server.addr(), Some(start));
    assert_eq!(report.summary.sent, report.summary.scheduled);
    let served = server.stop().unwrap();
    let service = served.cpu_seconds / served.requests as f64;
    let pauses = witnesses.pauses();
    println!("pauses of the machine: {:.3} s", pauses.within(start, clock.now()));
    Measured { run, outage: served.outage.unwrap(), service, pauses }
}

/// Runs `plan` and compares quantiles with theory, to 3 %. The formula assumes that the outage
/// begins with nothing left to serve, and that what it left behind is served at once; the times
/// by which it was longer at either end, read from the history, are allowed on top. Each has a
/// limit of its own, which knows nothing of the driver: the machine's pauses just then, and what
/// it may take for itself besides; at the end also what the server needs for so many requests, and
/// a turn for as many of them as may be in flight together.
fn assert_known_quantiles(plan: &Plan) -> Measured {
    let measured = run_with_outage(plan);
    let Measured { run, outage, service, pauses } = &measured;
    let operations = run.measured();
    let meets = |op: &&Operation| op.intended < outage.to && op.done.unwrap() >= outage.to;
    let left: Vec<_> = operations.iter().filter(meets).collect();
    let first = left.iter().map(|op| op.intended).min().unwrap();
    let early = seconds(outage.from.saturating_sub(first));
    let early_limit = PIECES_S + pauses.within(first, outage.from);
    let drained = left.iter().map(|op| op.done.unwrap()).max().unwrap();
    let drain = seconds(drained - outage.to);
    let turns = left.len().div_ceil(plan.load.in_flight_cap as usize) as f64;
    let served = PIECES_S + TURN_S * turns + service * left.len() as f64;
    let drain_limit = served.min(DRAIN_MAX_S) + pauses.within(outage.to, drained);
    println!("{} left behind, {early:.3} s early of {early_limit:.3} s", left.len());
    println!("drained in {drain:.3} s of {drain_limit:.3} s");
    assert!(early <= early_limit, "{early} s before the outage nothing was served any more");
    assert!(drain <= drain_limit, "drained in {drain} s, limit {drain_limit} s");
    let outage = seconds(outage.to - outage.from);
    let mut outages = pauses.outside(first, drained);
    outages.push(outage);
    let response = run.intervals(".ok");
    assert_eq!(response.len(), (RATE * LENGTH_MS as f64 / 1000.0) as u64);
    for q in [0.99, 0.97, 0.95, 0.90] {
        let above = (1.0 - q) * LENGTH_MS as f64 / 1000.0;
        let (least, most) = (outage - above, longest_waits(&outages, above));
        let got = response.value_at_quantile(q) as f64 / 1e6;
        println!("q {q}: {got:.3} s, expected {least:.3} to {most:.3} s, drained in {drain:.3} s");
        assert!(got >= 0.97 * least, "q {q}: {got} s, expected {least} s");
        assert!(got <= 1.03 * most + early + drain, "q {q}: {got} s, expected {most} s");
    }
    measured
}

/// How long whoever arrives in one of `outages` waits at least, leaving out the `above` seconds of
/// arrivals that wait longest: L with sum of (P - L) over all longer P = `above`.
fn longest_waits(outages: &[f64], above: f64) -> f64 {
    let mut longest_first = outages.to_vec();
    longest_first.sort_by(|a, b| b.total_cmp(a));
    let mut sum = 0.0;
    let level = |count: usize, sum: f64| (sum - above) / count as f64;
    for (index, outage) in longest_first.iter().enumerate() {
        if index > 0 && *outage <= level(index, sum) {
            return level(index, sum);
        }
        sum += outage;
    }
    level(longest_first.len(), sum)
}

/// Of the operations that sat the outage out, and of those that no pause of the machine touched.
fn service_p99_ms(measured: &Measured) -> f64 {
    let Measured { run, outage, pauses, .. } = measured;
    let operations = run.measured();
    let met = |op: &&Operation| op.sent < outage.to && op.done.unwrap() >= outage.to;
    let counted = operations.iter().filter(|op| met(op) || !pauses.touch(op));
    let mut service: Vec<u64> = counted.map(|op| op.done.unwrap() - op.sent).collect();
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
    let measured = assert_known_quantiles(&plan);
    let service = service_p99_ms(&measured);
    println!("service p99 {service:.3} ms");
    assert!(service < 100.0, "{service}");
}

#[test]
fn known_outage_is_missed_by_a_closed_loop() {
    let _serial = SERIAL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut plan = plan(RATE, LENGTH_MS);
    plan.load.mode = LoadMode::Closed;
    let Measured { run, outage, .. } = run_with_outage(&plan);
    let response = run.intervals(".ok");
    let p99 = response.value_at_quantile(0.99) as f64 / 1e6;
    let outage = seconds(outage.to - outage.from);
    println!("closed loop p99 {p99:.4} s of an outage of {outage:.3} s");
    assert!(p99 < 0.1, "a closed loop was expected to miss the outage: {p99}");
    assert!(response.max() as f64 / 1e6 > 1.3, "yet its slowest operation sat it out");
}

#[test]
fn pauses_of_the_machine_are_outages_like_another() {
    for (outages, expected) in [(&[1.5][..], 1.0), (&[1.5, 0.75], 1.0), (&[1.25, 1.5], 1.125)] {
        assert_eq!(longest_waits(outages, 0.5), expected, "{outages:?}");
    }
    let pauses = Pauses(vec![(1, 3), (5, 9)]);
    assert_eq!(pauses.within(2, 6), 2e-9);
    assert_eq!(pauses.outside(2, 4), [4e-9]);
}
