//! Every operation of a run is accounted for: in the history, in the interval log, in the summary.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod drive_common;

use std::collections::{BTreeMap, BTreeSet};

use drive_common::pauses::Witnesses;
use drive_common::{READY, Run, endpoint, plan};
use quorate::drive::Progress;
use quorate::drive::null_server::{NullServer, Outage};
use quorate::folder::{DriverSummary, PhaseMark};
use quorate::plan::{KeyDistribution, LoadMode, OpClass};
use quorate::run::parts::Clock;
use quorate_check::history::{Action, OpKind, Operation, Phase};
use tokio_util::sync::CancellationToken;

#[test]
fn a_whole_run_leaves_a_history_in_which_nothing_is_missing() {
    let clock = Clock::start();
    let server = NullServer::start(clock, None).unwrap();
    let run = Run::new(clock);
    let mut plan = plan(2000.0, 1000);
    plan.topology.masters = vec!["n1".to_owned(), "n2".to_owned()];
    plan.load.targets = plan.topology.masters.clone();
    plan.phases.warmup_ms = 200;
    plan.workload.keys = KeyDistribution::Latest { theta: 0.9 };
    plan.workload.mix = [
        (OpClass::ReadMajority, 30),
        (OpClass::ReadLocal, 30),
        (OpClass::Update, 20),
        (OpClass::UpdateVersioned, 10),
        (OpClass::Create, 8),
        (OpClass::Delete, 2),
    ]
    .into();
    let both = [endpoint("n1", server.addr()), endpoint("n2", server.addr())];
    let cancel = CancellationToken::new();
    let mut driver = run.driver(&plan, &both);
    driver.prepare().unwrap();
    driver.load(&cancel).unwrap();
    let progress = tokio::sync::watch::Sender::new(Progress::default());
    let start = clock.now() + 50_000_000;
    let report = driver.run(start, &cancel, progress.clone()).unwrap();
    let settled = driver.settle(&cancel).unwrap();
    let read = driver.final_reads(settled.deadline, &cancel).unwrap();
    assert_eq!((read.unread.len(), read.divergent, read.passes), (0, 0, 1));
    driver.finish().unwrap();

    assert!(settled.at.is_some() && settled.divergent.is_empty());
    assert_eq!(report.summary.scheduled, 2000);
    assert_eq!((report.summary.sent, report.summary.completed), (2000, 2000));
    let saved: DriverSummary = read_json(&std::fs::read(run.folder.driver()).unwrap());
    assert_eq!(saved, report.summary);
    assert!(progress.borrow().ok > 1000 && progress.borrow().measuring);

    let history = run.history();
    assert_ids_are_unique_and_processes_sequential(&history);
    let phases = count(&history);
    assert_eq!((phases[&Phase::Load], phases[&Phase::Warmup]), (100, 400));
    assert_eq!(phases[&Phase::Measure], 2000);
    assert_eq!(phases[&Phase::Final], phases[&Phase::Settle] / 2 * 3);
    assert_the_schedule_was_kept(&history, start);
    assert_eq!(run.intervals(".ok").len() + run.intervals(".failed").len(), 2000);
    let updates = run.intervals("update.ok").len() + run.intervals("update_versioned.ok").len();
    assert_eq!(updates, ok_updates(&history));

    let marks = std::fs::read_to_string(run.folder.phases()).unwrap();
    let marks: Vec<PhaseMark> = marks.lines().map(|line| read_json(line.as_bytes())).collect();
    let named: Vec<Phase> = marks.iter().map(|mark| mark.phase).collect();
    let all = [Phase::Load, Phase::Warmup, Phase::Measure, Phase::Settle, Phase::Final];
    assert_eq!(named, all);
    assert_eq!((marks[2].from, marks[2].to), (start + 200_000_000, start + 1_200_000_000));
}

/// Servers that were alike a moment ago may differ again: what they held back comes out. They are
/// read again until the time to settle is over, then judged by what they showed last.
#[test]
fn servers_that_differ_are_read_again_until_the_time_to_settle_is_over() {
    let clock = Clock::start();
    let full = NullServer::start(clock, None).unwrap();
    let empty = NullServer::start(clock, None).unwrap();
    let run = Run::new(clock);
    let mut plan = plan(100.0, 100);
    plan.topology.masters = vec!["n1".to_owned(), "n2".to_owned()];
    plan.load.targets = vec!["n1".to_owned()];
    let cancel = CancellationToken::new();
    let both = [endpoint("n1", full.addr()), endpoint("n2", empty.addr())];
    let mut driver = run.driver(&plan, &both);
    driver.prepare().unwrap();
    driver.load(&cancel).unwrap();
    let now = clock.now();
    let over = driver.final_reads(now, &cancel).unwrap();
    assert_eq!((over.divergent, over.passes), (100, 1));
    let more = driver.final_reads(clock.now() + 5_000_000_000, &cancel).unwrap();
    assert_eq!(more.divergent, 100);
    assert!(more.passes > 1, "{more:?}");
    driver.finish().unwrap();
}

fn read_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> T {
    serde_json::from_slice(bytes).unwrap()
}

fn count(history: &[Operation]) -> BTreeMap<Phase, usize> {
    let mut counts = BTreeMap::new();
    for operation in history {
        *counts.entry(operation.phase).or_insert(0) += 1;
    }
    counts
}

fn ok_updates(history: &[Operation]) -> u64 {
    let measured = history.iter().filter(|op| op.phase == Phase::Measure && op.is_ok());
    measured.filter(|op| op.kind == OpKind::Update).count() as u64
}

fn assert_ids_are_unique_and_processes_sequential(history: &[Operation]) {
    let ids: BTreeSet<u64> = history.iter().map(|op| op.id).collect();
    assert_eq!(ids.len(), history.len());
    let mut last_done: BTreeMap<u64, u64> = BTreeMap::new();
    for operation in history {
        let before = last_done.insert(operation.process, operation.done.unwrap());
        assert!(before.is_none_or(|done| done <= operation.sent), "{operation:?}");
        if let Action::Write(value) | Action::Delete(value) = operation.steps[0].action {
            assert_eq!(value, operation.id);
        }
    }
}

fn assert_the_schedule_was_kept(history: &[Operation], start: u64) {
    for operation in history.iter().filter(|op| op.id < 1 << 40 && op.phase != Phase::Load) {
        let k = operation.id - 101;
        assert_eq!(operation.intended, start + k * 500_000, "{operation:?}");
        assert_eq!(u64::from(operation.node), k % 2);
        assert!(operation.sent >= operation.intended);
    }
}

#[test]
fn deletes_do_not_turn_a_skewed_load_into_one_on_nothing() {
    let clock = Clock::start();
    let server = NullServer::start(clock, None).unwrap();
    let run = Run::new(clock);
    let mut plan = plan(2000.0, 1000);
    plan.workload.keys = KeyDistribution::Zipfian { theta: 0.9 };
    plan.workload.mix = [(OpClass::Update, 90), (OpClass::Create, 8), (OpClass::Delete, 2)].into();
    run.measure(&plan, server.addr(), None);
    let measured = run.measured();
    let deleted = measured.iter().filter(|op| op.kind == OpKind::Delete && op.is_ok());
    let keys: BTreeSet<u64> = deleted.map(|op| op.steps[0].key).collect();
    assert!((20..60).contains(&keys.len()), "{}", keys.len());
    // Writes that were under way together with a delete may come too late.
    let missed = measured.iter().filter(|op| op.code.as_deref() == Some("not_found")).count();
    assert!(missed <= keys.len(), "{missed} writes of {} found nothing", measured.len());
}

#[test]
fn arrivals_beyond_the_cap_wait_and_are_counted() {
    let clock = Clock::start();
    let witnesses = Witnesses::start(clock);
    let start = clock.now() + READY;
    let planned = Outage { from: start + 200_000_000, to: start + 500_000_000 };
    let server = NullServer::start(clock, Some(planned)).unwrap();
    let run = Run::new(clock);
    let mut plan = plan(1000.0, 1000);
    plan.load.in_flight_cap = 10;
    let report = run.measure(&plan, server.addr(), Some(start));
    let summary = &report.summary;
    assert_eq!((summary.scheduled, summary.sent, summary.completed), (1000, 1000, 1000));
    // In milliseconds, and an operation each.
    let paused = (1000.0 * witnesses.pauses().within(start, clock.now())) as u64;
    assert!((250..500 + paused).contains(&summary.backlog_max), "{summary:?}");
    assert!((250..800 + paused).contains(&summary.capped_ms), "{summary:?}");
    assert!(report.findings.iter().any(|finding| finding.code == "in_flight_cap_reached"));
    let late = run.measured().iter().filter(|op| op.sent - op.intended > 100_000_000).count();
    assert!(late > 100, "waiting for a slot must show between intended and sent: {late}");
}

#[test]
fn what_never_got_a_slot_is_in_the_history_as_such() {
    let clock = Clock::start();
    let start = clock.now() + READY;
    // Longer than the run and its drain: nothing that is sent in it is ever answered.
    let planned = Outage { from: start, to: start + 5_000_000_000 };
    let server = NullServer::start(clock, Some(planned)).unwrap();
    let run = Run::new(clock);
    let mut plan = plan(100.0, 500);
    plan.load.in_flight_cap = 10;
    plan.load.timeout_ms = 300;
    let report = run.measure(&plan, server.addr(), Some(start));
    let measured = run.measured();
    assert_eq!((report.summary.scheduled, measured.len()), (50, 50));
    let coded = |code: &str| measured.iter().filter(|op| op.code.as_deref() == Some(code)).count();
    let pending = measured.iter().filter(|op| op.done.is_none()).count();
    assert_eq!(coded("never_sent") as u64, 50 - report.summary.sent, "{report:?}");
    assert!(coded("client_timeout") >= 10 && coded("never_sent") >= 10, "{measured:?}");
    assert_eq!(coded("client_timeout") + coded("never_sent") + pending, 50);
    let backlog = report.findings.iter().any(|finding| finding.code == "backlog_not_drained");
    assert!(backlog, "{report:?}");
    // Each of them has its place among the response times, as long as it was waited for.
    let waited = run.intervals(".failed").len() + run.intervals(".unknown").len();
    assert_eq!(waited, 50);
    assert!(run.intervals(".unknown").min() >= 200_000, "censored at the drain's end or later");
}

#[test]
fn a_driver_asked_for_too_much_says_so() {
    let clock = Clock::start();
    let server = NullServer::start(clock, None).unwrap();
    let run = Run::new(clock);
    let mut plan = plan(1_000_000.0, 100);
    plan.load.clients = 8;
    plan.load.timeout_ms = 60_000;
    plan.load.in_flight_cap = 500;
    let report = run.measure(&plan, server.addr(), None);
    assert_eq!(report.summary.scheduled, 100_000);
    assert_eq!(report.summary.sent, 100_000);
    assert!(report.summary.achieved_rate < 900_000.0);
    let codes: Vec<&str> = report.findings.iter().map(|finding| finding.code.as_str()).collect();
    let told = codes.contains(&"driver_saturated") || codes.contains(&"in_flight_cap_reached");
    assert!(told, "{report:?}");
}

#[test]
fn a_closed_loop_has_as_many_operations_under_way_as_clients() {
    let clock = Clock::start();
    let server = NullServer::start(clock, None).unwrap();
    let run = Run::new(clock);
    let mut plan = plan(1.0, 200);
    plan.load.mode = LoadMode::Closed;
    plan.load.clients = 3;
    let report = run.measure(&plan, server.addr(), None);
    let measured = run.measured();
    assert_eq!(report.summary.sent as usize, measured.len());
    assert!(measured.iter().all(|op| op.intended == op.sent));
    let sessions: BTreeSet<u64> = measured.iter().map(|op| op.session).collect();
    assert!(sessions.len() <= 3, "{sessions:?}");
}

#[test]
fn a_cancelled_run_ends_at_once_and_keeps_what_it_has() {
    let clock = Clock::start();
    let server = NullServer::start(clock, None).unwrap();
    let run = Run::new(clock);
    let plan = plan(100.0, 60_000);
    let mut driver = run.driver(&plan, &[endpoint("n1", server.addr())]);
    let cancel = CancellationToken::new();
    driver.prepare().unwrap();
    driver.load(&cancel).unwrap();
    let progress = tokio::sync::watch::Sender::new(Progress::default());
    let mut watcher = progress.subscribe();
    let stop = cancel.clone();
    let thread = std::thread::spawn(move || {
        while watcher.borrow_and_update().ok < 20 {
            std::thread::yield_now();
        }
        stop.cancel();
    });
    let report = driver.run(clock.now(), &cancel, progress).unwrap();
    driver.finish().unwrap();
    thread.join().unwrap();
    assert!((20..1000).contains(&report.summary.scheduled), "{report:?}");
    assert_eq!(run.measured().len() as u64, report.summary.sent);
    assert!(report.summary.achieved_rate > 50.0, "the rate is over the time that it ran");
}
