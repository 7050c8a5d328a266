//! The schedule against levers that only write down what they were told.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::super::Happened;
use super::*;
use crate::plan::{FaultKind, Load, LoadMode, Phases, Target, Topology, Trigger, Workload};

struct Recorder {
    start: Instant,
    said: Mutex<Vec<String>>,
    fail_inject_of: Option<&'static str>,
    /// How long a heal takes, and whether it is seen.
    heals: (Duration, bool),
}

impl Levers for Recorder {
    /// The runtime's time, which a test may pause.
    fn now(&self) -> Nanos {
        let since = tokio::time::Instant::now().into_std().saturating_duration_since(self.start);
        u64::try_from(since.as_nanos()).unwrap()
    }

    async fn happened(&self, event: &Event) -> Happened {
        let Event::Committed { count } = event else { return std::future::pending().await };
        // One a millisecond.
        tokio::time::sleep(Duration::from_millis(*count)).await;
        Happened { at: self.now(), evidence: format!("{count} were counted") }
    }

    async fn inject(&self, until: Until<'_>) -> Result<Effect, StageError> {
        self.said.lock().unwrap().push(format!("inject {}", until.fault.name));
        if self.fail_inject_of == Some(until.fault.name.as_str()) {
            return Err(StageError::NotClean("planted".to_string()));
        }
        Ok(self.effect())
    }

    async fn heal(&self, until: Until<'_>) -> Result<Effect, StageError> {
        // How long the heal is planned to take: it is what the test is about, nothing is awaited.
        tokio::time::sleep(self.heals.0).await;
        self.said.lock().unwrap().push(format!("heal {}", until.fault.name));
        let effect = self.effect();
        Ok(Effect { proven: effect.proven.filter(|_| self.heals.1), ..effect })
    }
}

impl Recorder {
    fn effect(&self) -> Effect {
        let now = self.now();
        Effect { acknowledged: now, proven: Some(now), evidence: "told".to_string() }
    }
}

struct Bench {
    levers: Arc<Recorder>,
    ledger: Arc<Ledger>,
    clock: Clock,
    _folder: tempfile::TempDir,
}

fn bench(fail_inject_of: Option<&'static str>) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::start();
    let said = Mutex::default();
    Bench {
        levers: Arc::new(Recorder {
            start: clock.instant(0),
            said,
            fail_inject_of,
            heals: (Duration::ZERO, true),
        }),
        ledger: Arc::new(Ledger::new(folder.path().join("faults.jsonl"))),
        clock,
        _folder: folder,
    }
}

impl Bench {
    async fn run(&self, plan: &Plan, cancel: CancellationToken) -> Result<(), StageError> {
        run(&self.levers, &self.ledger, self.clock, plan, self.levers.now(), cancel).await
    }

    fn said(&self) -> Vec<String> {
        self.levers.said.lock().unwrap().clone()
    }
}

/// A chain: `first`, and `second` 10 ms after its heal; heals are slow, and seen or not. The phase
/// in which they happen is so long.
async fn chain(heal_ms: u64, seen: bool, measure_ms: u64, may_lapse: bool) -> Bench {
    let mut bench = bench(None);
    let heals = (Duration::from_millis(heal_ms), seen);
    Arc::get_mut(&mut bench.levers).unwrap().heals = heals;
    let mut plan = plan(&[("first", 0, 20, Target::One), ("second", 10, 20, Target::One)]);
    let event = Event::Healed { faults: vec!["first".to_string()] };
    plan.faults[1].trigger = Some(Trigger { event, may_lapse });
    plan.phases.measure_ms = measure_ms;
    bench.run(&plan, CancellationToken::new()).await.unwrap();
    bench
}

#[tokio::test(start_paused = true)]
async fn what_waits_begins_after_the_heal_was_proven_however_late() {
    let bench = chain(500, true, 10_000, false).await;
    assert_eq!(bench.said(), ["inject first", "heal first", "inject second", "heal second"]);
    let records = bench.ledger.records();
    let healed = records[1].proven.unwrap();
    assert_eq!(records[2].planned, healed + 10 * NANOS_PER_MS);
    assert!(records[2].begun >= records[2].planned && bench.ledger.findings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_heal_that_was_not_seen_or_too_late_is_left_out_and_told() {
    for (heal_ms, seen, may_lapse, why) in [
        (0, false, true, "`first` was not seen to heal"),
        (500, true, true, "too little of it was left"),
        (500, true, false, "too little of it was left"),
    ] {
        let bench = chain(heal_ms, seen, 540, may_lapse).await;
        assert_eq!(bench.said(), ["inject first", "heal first"]);
        let findings = bench.ledger.findings();
        let found = findings.iter().find(|found| found.code == "fault_not_begun").unwrap();
        assert!(found.detail.contains(why) && found.fatal != may_lapse, "{found:?}");
    }
}

/// A fault 10 ms after an event, and one after its heal, in a phase of half a second.
async fn on_event(event: Event, may_lapse: bool) -> Bench {
    let bench = bench(None);
    let mut plan = plan(&[("first", 10, 20, Target::One), ("second", 0, 20, Target::One)]);
    let after = Event::Healed { faults: vec!["first".to_string()] };
    for (fault, event) in plan.faults.iter_mut().zip([event, after]) {
        fault.trigger = Some(Trigger { event, may_lapse });
    }
    plan.phases.measure_ms = 500;
    bench.run(&plan, CancellationToken::new()).await.unwrap();
    bench
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_an_event_begins_when_it_was_seen_and_says_how() {
    let bench = on_event(Event::Committed { count: 100 }, false).await;
    assert_eq!(bench.said(), ["inject first", "heal first", "inject second", "heal second"]);
    let records = bench.ledger.records();
    assert!(records[0].planned >= 110 * NANOS_PER_MS, "{records:?}");
    assert_eq!(records[0].evidence, "begun when 100 were counted; told");
    assert!(bench.ledger.findings().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_an_event_that_never_comes_or_too_late_is_left_out_and_told() {
    let state = crate::plan::ServerState::Synchronizing;
    for (event, may_lapse, why) in [
        (Event::Committed { count: 480 }, false, "too little of it was left"),
        (Event::Committed { count: 9_000 }, true, "9000 transactions are committed, which"),
        (Event::State { server: "n1".to_string(), state }, false, "n1 is SYNCHRONIZING, which"),
    ] {
        let bench = on_event(event, may_lapse).await;
        assert_eq!(bench.said(), Vec::<String>::new());
        let findings = bench.ledger.findings();
        let told: Vec<_> = findings.iter().map(|found| (&*found.code, found.fatal)).collect();
        assert_eq!(told, [("fault_not_begun", !may_lapse); 2]);
        let named = |why: &str| findings.iter().any(|found| found.detail.contains(why));
        assert!(named(why) && named("`first` was left out"), "{findings:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_wait_for_an_event_ends_at_once() {
    let bench = bench(None);
    let mut plan = plan(&[("first", 0, 20, Target::One)]);
    let event = Event::Committed { count: 100_000 };
    plan.faults[0].trigger = Some(Trigger { event, may_lapse: false });
    plan.phases.measure_ms = 600_000;
    let cancel = CancellationToken::new();
    let run = bench.run(&plan, cancel.clone());
    let (ended, ()) = tokio::join!(run, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cancel.cancel();
    });
    ended.unwrap();
    assert!(bench.said().is_empty() && bench.levers.now() < 1_000 * NANOS_PER_MS);
}

fn plan(faults: &[(&str, u64, u64, Target)]) -> Plan {
    let faults = faults.iter().map(|(name, at_ms, for_ms, target)| PlannedFault {
        name: (*name).to_string(),
        at_ms: *at_ms,
        for_ms: *for_ms,
        kind: FaultKind::Pause { target: target.clone() },
        drawn_as: None,
        trigger: None,
    });
    Plan {
        format: crate::plan::PLAN_FORMAT,
        name: "schedule".to_string(),
        description: String::new(),
        seed: 1,
        topology: Topology {
            masters: ["n1", "n2"].map(String::from).to_vec(),
            replicas: Vec::new(),
            standalone: false,
            write_quorum: "majority".to_string(),
            proxied: true,
            limits: crate::plan::Limits::default(),
        },
        network: None,
        workload: Workload {
            records: 1,
            value_bytes: 1,
            mix: BTreeMap::new(),
            keys: crate::plan::KeyDistribution::Uniform,
        },
        load: Load {
            mode: LoadMode::Closed,
            clients: 1,
            timeout_ms: 1000,
            in_flight_cap: 0,
            targets: Vec::new(),
            readers: Vec::new(),
        },
        phases: Phases { warmup_ms: 0, measure_ms: 0, settle_ms: 0 },
        faults: faults.collect(),
        expect: BTreeMap::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn overlapping_faults_keep_their_own_times() {
    let bench = bench(None);
    let plan = plan(&[("long", 0, 120, Target::One), ("short", 40, 40, Target::All)]);
    bench.run(&plan, CancellationToken::new()).await.unwrap();
    assert_eq!(bench.said(), ["inject long", "inject short", "heal short", "heal long"]);
    for record in bench.ledger.records() {
        assert!(record.begun >= record.planned, "{record:?}");
        // Timers fire at whole milliseconds.
        assert!(record.begun - record.planned < 2 * NANOS_PER_MS, "{record:?}");
    }
    assert!(bench.ledger.findings().is_empty());
}

#[tokio::test]
async fn a_cancelled_schedule_heals_at_once_and_starts_nothing_more() {
    let bench = bench(None);
    let plan = plan(&[("now", 0, 600_000, Target::One), ("never", 300_000, 1, Target::One)]);
    let cancel = CancellationToken::new();
    let begun = Instant::now();
    let (result, ()) = tokio::join!(bench.run(&plan, cancel.clone()), async {
        while bench.said().is_empty() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    });
    result.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(bench.said(), ["inject now", "heal now"]);
}

#[tokio::test]
async fn a_failed_inject_is_healed_and_ends_the_others() {
    let bench = bench(Some("bad"));
    let plan = plan(&[("good", 0, 600_000, Target::One), ("bad", 20, 600_000, Target::One)]);
    assert!(bench.run(&plan, CancellationToken::new()).await.is_err());
    let mut said = bench.said();
    said.sort();
    assert_eq!(said, ["heal bad", "heal good", "inject bad", "inject good"]);
    assert!(bench.ledger.active().is_empty());
}

#[tokio::test]
async fn a_dropped_schedule_is_healed_later_and_only_once() {
    let bench = bench(None);
    let plan = plan(&[("left", 0, 600_000, Target::One)]);
    let running = bench.run(&plan, CancellationToken::new());
    let dropped = tokio::time::timeout(Duration::from_millis(50), running).await;
    assert!(dropped.is_err());
    heal_all(&bench.levers, &bench.ledger).await.unwrap();
    heal_all(&bench.levers, &bench.ledger).await.unwrap();
    assert_eq!(bench.said(), ["inject left", "heal left"]);
}

#[tokio::test]
async fn a_target_that_means_nobody_is_a_finding() {
    let bench = bench(None);
    let plan = plan(&[("minority", 0, 1, Target::Minority)]);
    bench.run(&plan, CancellationToken::new()).await.unwrap();
    assert!(bench.said().is_empty());
    assert_eq!(bench.ledger.findings().len(), 2);
}
