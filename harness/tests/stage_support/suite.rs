//! What every stage must do, whatever it runs on: generic over the trait, told only how to start.
//! A new stage is done when `conformance!` passes over it.

use std::io::Write;
use std::marker::PhantomData;
use std::path::Path;
use std::time::Duration;

use quorate::folder::{FaultAction, FaultRecord, RunFolder, SoundnessFinding};
use quorate::plan::{
    Cut, DelayDistribution, Event, FaultKind, Plan, PlannedFault, ServerState, Shape, Traffic,
    Trigger,
};
use quorate::run::parts::{Clock, Endpoint, Stage};
use quorate::stage::LiveStage;
use tokio_util::sync::CancellationToken;

use super::support::{answers, eventually, is_alive, on_n2, plan};

/// The table of what every stage must do: a test a row.
///
/// FEATURES: H4
macro_rules! conformance {
    ($starter:ty) => {
        conformance! { $starter:
            endpoints_answer_and_stop_leaves_nothing,
            kill_kills_and_the_same_server_returns,
            a_restart_ends_cleanly_and_returns,
            a_storm_waits_for_every_return,
            an_event_is_awaited_and_one_that_never_comes_is_told,
            a_pause_stops_and_goes_on,
            a_silent_partition_bites_and_heals,
            a_closed_partition_bites_and_heals,
            a_one_way_partition_bites_and_heals,
            a_half_open_partition_bites_and_heals_either_way,
            a_bridge_bites_and_heals,
            a_delay_of_milliseconds_is_measured_and_goes,
            a_delay_below_a_millisecond_is_measured_and_goes,
            delays_are_spread_as_asked_and_go,
            resets_bite_and_heal,
            narrow_links_are_measured_and_heal,
            small_pieces_are_measured_and_heal,
            a_cancelled_schedule_leaves_a_healed_cluster,
            an_abandoned_schedule_is_healed_by_heal_all,
            servers_without_proxies_find_each_other,
            samples_show_state_and_counters,
            a_dropped_stage_leaves_nothing,
        }
    };
    ($starter:ty: $($row:ident),+ $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $row() {
            if suite::can_start::<$starter>().await {
                suite::$row::<$starter>().await;
            }
        }
    )+};
}

/// How a stage under test is started.
pub(crate) trait Starter {
    /// Why it cannot be started on this machine, if so.
    async fn missing() -> Option<String>;
    /// Starts it.
    async fn start(plan: &Plan, folder: &RunFolder, clock: Clock) -> LiveStage;
    /// What of it is still there after its end, by its folder and its run's name at an engine;
    /// empty is right.
    async fn left_behind(folder: &Path, run: Option<&str>) -> Vec<String>;
}

/// Whether there is anything to test; if not, that is heard.
pub(crate) async fn can_start<S: Starter>() -> bool {
    let Some(why) = S::missing().await else { return true };
    // Not by a macro: those are captured when a test passes, and a skip has to be heard.
    let text = format!("SKIPPED: a stage cannot be tested: {why}\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    false
}

/// A started stage with the folder it writes to.
pub(crate) struct Running<S: Starter> {
    starter: PhantomData<S>,
    pub(crate) stage: LiveStage,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: Clock,
    pub(crate) plan: Plan,
}

impl<S: Starter> Running<S> {
    pub(crate) async fn start(plan: Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::start();
        let stage = S::start(&plan, &RunFolder::new(folder.path()), clock).await;
        Self { starter: PhantomData, stage, folder, clock, plan }
    }

    pub(crate) fn endpoint(&self, node: &str) -> Endpoint {
        self.stage.endpoints().into_iter().find(|endpoint| endpoint.node == node).unwrap()
    }

    /// Runs the plan's faults, and `during` beside them.
    pub(crate) async fn faults(&self, during: impl Future<Output = ()>) -> Vec<FaultRecord> {
        let cancel = CancellationToken::new();
        let faults = self.stage.run_faults(&self.plan, self.clock.now(), cancel);
        let (records, ()) = tokio::join!(faults, during);
        records.unwrap()
    }

    /// Ends the stage; nothing may be left and nothing fatal found.
    pub(crate) async fn end(self) -> Vec<SoundnessFinding> {
        let run = self.stage.run_at_engine().map(str::to_string);
        let findings = self.stage.stop().await.unwrap();
        let fatal: Vec<_> = findings.iter().filter(|finding| finding.fatal).collect();
        assert!(fatal.is_empty(), "{fatal:?}");
        let left = S::left_behind(self.folder.path(), run.as_deref()).await;
        assert_eq!(left, Vec::<String>::new());
        findings
    }
}

/// One inject and one heal, both proven, in order, written to the file as well.
pub(crate) fn proven(records: &[FaultRecord], folder: &Path) {
    let [inject, heal] = records else { panic!("{records:#?}") };
    assert_eq!((inject.action, heal.action), (FaultAction::Inject, FaultAction::Heal));
    for record in [inject, heal] {
        assert!(record.proven.is_some(), "{record:#?}");
        assert!(record.planned <= record.begun && record.begun <= record.acknowledged);
        assert!(Some(record.acknowledged) <= record.proven, "{record:#?}");
        assert_eq!(record.resolved, ["n2"]);
        println!("{}: {}", record.requested, record.evidence);
    }
    let text = std::fs::read_to_string(folder.join("faults.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 2);
}

pub(crate) async fn endpoints_answer_and_stop_leaves_nothing<S: Starter>() {
    let running = Running::<S>::start(plan(Vec::new())).await;
    let endpoints = running.stage.endpoints();
    let names: Vec<_> = endpoints.iter().map(|endpoint| endpoint.node.as_str()).collect();
    assert_eq!(names, ["n1", "n2", "n3"]);
    for endpoint in endpoints {
        assert_ne!(endpoint.client, endpoint.direct);
        eventually("it answers", || answers(endpoint.direct)).await;
        eventually("it answers clients", || answers(endpoint.client)).await;
    }
    let findings = running.end().await;
    let known = |finding: &SoundnessFinding| finding.code.starts_with("disk_");
    assert!(findings.iter().all(known), "{findings:?}");
}

pub(crate) async fn kill_kills_and_the_same_server_returns<S: Starter>() {
    // Long enough for a busy machine to see that the server is dead.
    let plan = plan(vec![on_n2(1500, |target| FaultKind::Kill { target })]);
    let running = Running::<S>::start(plan).await;
    let (n1, n2) = (running.endpoint("n1"), running.endpoint("n2"));
    let answered = std::cell::Cell::new(u64::MAX);
    let records = running
        .faults(async {
            eventually("n2 is dead", || async { !answers(n2.direct).await }).await;
            eventually("n1 answers", || answers(n1.client)).await;
            answered.set(running.clock.now());
        })
        .await;
    proven(&records, running.folder.path());
    assert!(answered.get() <= records[1].begun, "n1 was silent while n2 was dead");
    eventually("n2 is back", || answers(n2.client)).await;
    running.end().await;
}

pub(crate) async fn a_restart_ends_cleanly_and_returns<S: Starter>() {
    let plan = plan(vec![on_n2(200, |target| FaultKind::Restart { target })]);
    let running = Running::<S>::start(plan).await;
    let records = running.faults(async {}).await;
    proven(&records, running.folder.path());
    let n2 = running.endpoint("n2");
    eventually("n2 is back", || answers(n2.client)).await;
    running.end().await;
}

pub(crate) async fn a_storm_waits_for_every_return<S: Starter>() {
    let life = |number: u64| {
        let fault = on_n2(300, |target| FaultKind::Kill { target });
        let faults = vec![format!("storm-{}", number - 1)];
        let trigger = Trigger { event: Event::Healed { faults }, may_lapse: false };
        let trigger = (number > 1).then_some(trigger);
        PlannedFault { name: format!("storm-{number}"), at_ms: 100, trigger, ..fault }
    };
    let mut plan = plan((1..=3).map(life).collect());
    plan.phases.measure_ms = 600_000;
    let running = Running::<S>::start(plan).await;
    let records = running.faults(async {}).await;
    let told: Vec<_> = records.iter().map(|record| (&*record.name, record.action)).collect();
    let lives = ["storm-1", "storm-2", "storm-3"];
    let both = |name| [(name, FaultAction::Inject), (name, FaultAction::Heal)];
    assert_eq!(told, lives.into_iter().flat_map(both).collect::<Vec<_>>(), "{records:#?}");
    for pair in records.windows(2) {
        assert!(pair[0].proven.unwrap() <= pair[1].begun, "{pair:#?}");
        println!("{}: {}", pair[1].requested, pair[1].evidence);
    }
    assert!(records[5].proven.is_some(), "{records:#?}");
    running.end().await;
}

pub(crate) async fn an_event_is_awaited_and_one_that_never_comes_is_told<S: Starter>() {
    let when = |name: &str, event| PlannedFault {
        name: name.to_string(),
        trigger: Some(Trigger { event, may_lapse: true }),
        ..on_n2(300, |target| FaultKind::Pause { target })
    };
    let (server, state) = ("n1".to_string(), ServerState::Online);
    // Nobody writes here.
    let count = 1_000_000;
    let mut plan = plan(vec![
        when("seen", Event::State { server, state }),
        when("never", Event::Committed { count }),
    ]);
    plan.phases.measure_ms = 5_000;
    let running = Running::<S>::start(plan).await;
    let records = running.faults(async {}).await;
    proven(&records, running.folder.path());
    assert!(records[0].evidence.starts_with("begun when n1 said ONLINE; "), "{records:#?}");
    let findings = running.end().await;
    let told = findings.iter().find(|finding| finding.code == "fault_not_begun").unwrap();
    assert!(told.detail.starts_with("never ") && told.detail.contains("never seen"), "{told:?}");
}

pub(crate) async fn a_pause_stops_and_goes_on<S: Starter>() {
    let plan = plan(vec![on_n2(900, |target| FaultKind::Pause { target })]);
    let running = Running::<S>::start(plan).await;
    let n2 = running.endpoint("n2");
    let records = running
        .faults(async {
            eventually("n2 is silent", || async { !answers(n2.direct).await }).await;
        })
        .await;
    proven(&records, running.folder.path());
    eventually("n2 goes on", || answers(n2.client)).await;
    running.end().await;
}

pub(crate) async fn a_silent_partition_bites_and_heals<S: Starter>() {
    a_partition_bites_and_heals::<S>(Cut::Silent).await;
}

pub(crate) async fn a_closed_partition_bites_and_heals<S: Starter>() {
    a_partition_bites_and_heals::<S>(Cut::Closed).await;
}

pub(crate) async fn a_one_way_partition_bites_and_heals<S: Starter>() {
    let kind = |target| FaultKind::Partition { cut: Cut::Silent, target, shape: Shape::OneWayIn };
    let running = Running::<S>::start(plan(vec![on_n2(1200, kind)])).await;
    let records = running.faults(async {}).await;
    proven(&records, running.folder.path());
    let evidence = &records[0].evidence;
    for link in ["n1->n2", "n2->n1", "n2->n3", "n3->n2"] {
        assert!(evidence.contains(link), "{evidence}");
    }
    running.end().await;
}

pub(crate) async fn a_half_open_partition_bites_and_heals_either_way<S: Starter>() {
    for (shape, kept, refused) in [
        (Shape::OneWayOut, ["n2->n1", "n2->n3"], ["n1->n2", "n3->n2"]),
        (Shape::OneWayIn, ["n1->n2", "n3->n2"], ["n2->n1", "n2->n3"]),
    ] {
        let kind = |target| FaultKind::Partition { cut: Cut::HalfOpen, target, shape };
        let running = Running::<S>::start(plan(vec![on_n2(1500, kind)])).await;
        let records = running.faults(async {}).await;
        proven(&records, running.folder.path());
        let of_link = |link: &str| {
            let mut links = records[0].evidence.split("; ");
            links.find(|sign| sign.starts_with(&format!("{link}: "))).unwrap().to_string()
        };
        for link in kept {
            assert!(of_link(link).ends_with("a new one waits"), "{records:#?}");
        }
        for link in refused {
            assert!(of_link(link).ends_with("a new one refused"), "{records:#?}");
        }
        assert!(records[0].evidence.contains("heard nothing for"), "{records:#?}");
        // Servers keep connections both ways: some end was kept.
        assert!(records[0].evidence.contains("kept at the other"), "{records:#?}");
        running.end().await;
    }
}

pub(crate) async fn a_bridge_bites_and_heals<S: Starter>() {
    let kind = |target| FaultKind::Partition { cut: Cut::Silent, target, shape: Shape::Bridge };
    let running = Running::<S>::start(plan(vec![on_n2(1200, kind)])).await;
    let records = running.faults(async {}).await;
    for record in &records {
        assert!(record.proven.is_some(), "{record:#?}");
        assert_eq!(record.resolved[0], "n2");
        let (evidence, cut) = (&record.evidence, ["n1->n3", "n3->n1"]);
        assert!(cut.iter().all(|link| evidence.contains(link)), "{evidence}");
        assert!(!evidence.contains("n2"), "the bridge is cut: {evidence}");
    }
    assert_eq!(records.len(), 2);
    running.end().await;
}

async fn a_partition_bites_and_heals<S: Starter>(cut: Cut) {
    let plan =
        plan(vec![on_n2(1200, |target| FaultKind::Partition { cut, target, shape: Shape::Sides })]);
    let running = Running::<S>::start(plan).await;
    let n2 = running.endpoint("n2");
    let records = running
        .faults(async {
            // Clients reach both sides all the time: only links between servers are cut.
            assert!(answers(n2.client).await);
        })
        .await;
    proven(&records, running.folder.path());
    assert!(records[0].evidence.matches("n2").count() >= 4, "{}", records[0].evidence);
    running.end().await;
}

pub(crate) async fn a_delay_of_milliseconds_is_measured_and_goes<S: Starter>() {
    a_delay_is_measured_and_goes::<S>(20_000).await;
}

pub(crate) async fn a_delay_below_a_millisecond_is_measured_and_goes<S: Starter>() {
    a_delay_is_measured_and_goes::<S>(700).await;
}

pub(crate) async fn delays_are_spread_as_asked_and_go<S: Starter>() {
    for distribution in
        [DelayDistribution::Uniform, DelayDistribution::Normal, DelayDistribution::Pareto]
    {
        // Wide against what a busy machine adds.
        let (delay_us, jitter_us) = (40_000, 20_000);
        let kind = |target| FaultKind::Latency { target, delay_us, jitter_us, distribution };
        let running = Running::<S>::start(plan(vec![on_n2(1500, kind)])).await;
        let records = running.faults(async {}).await;
        proven(&records, running.folder.path());
        assert!(records[0].evidence.contains("KS distance"), "{}", records[0].evidence);
        running.end().await;
    }
}

async fn a_delay_is_measured_and_goes<S: Starter>(delay_us: u64) {
    let distribution = DelayDistribution::Uniform;
    let kind = |target| FaultKind::Latency { target, delay_us, jitter_us: 0, distribution };
    let running = Running::<S>::start(plan(vec![on_n2(1200, kind)])).await;
    let records = running.faults(async {}).await;
    proven(&records, running.folder.path());
    running.end().await;
}

pub(crate) async fn resets_bite_and_heal<S: Starter>() {
    traffic_suffers_and_heals::<S>(Traffic::Reset { after_ms: 0 }, "was reset").await;
}

pub(crate) async fn narrow_links_are_measured_and_heal<S: Starter>() {
    traffic_suffers_and_heals::<S>(Traffic::Bandwidth { kilobytes: 50 }, "bytes came back").await;
}

pub(crate) async fn small_pieces_are_measured_and_heal<S: Starter>() {
    let traffic = Traffic::Slice { bytes: 200, pause_us: 2_000 };
    traffic_suffers_and_heals::<S>(traffic, "bytes came back").await;
}

async fn traffic_suffers_and_heals<S: Starter>(traffic: Traffic, sign: &str) {
    let kind = |target| FaultKind::Traffic { target, traffic };
    let running = Running::<S>::start(plan(vec![on_n2(1500, kind)])).await;
    let records = running.faults(async {}).await;
    proven(&records, running.folder.path());
    let evidence = [&records[0].evidence, &records[1].evidence];
    assert!(evidence[0].contains(sign) && evidence[1].contains("on 4 links"), "{evidence:?}");
    running.end().await;
}

pub(crate) async fn a_cancelled_schedule_leaves_a_healed_cluster<S: Starter>() {
    let plan = plan(vec![on_n2(600_000, |target| FaultKind::Pause { target })]);
    let running = Running::<S>::start(plan).await;
    let n2 = running.endpoint("n2");
    let cancel = CancellationToken::new();
    let faults = running.stage.run_faults(&running.plan, running.clock.now(), cancel.clone());
    let (records, ()) = tokio::join!(faults, async {
        eventually("n2 is paused", || async { !answers(n2.direct).await }).await;
        cancel.cancel();
    });
    assert_eq!(records.unwrap().len(), 2);
    eventually("n2 goes on", || answers(n2.direct)).await;
    running.end().await;
}

pub(crate) async fn an_abandoned_schedule_is_healed_by_heal_all<S: Starter>() {
    let kind = |target| FaultKind::Partition { cut: Cut::Silent, target, shape: Shape::Sides };
    let running = Running::<S>::start(plan(vec![on_n2(600_000, kind)])).await;
    let faults =
        running.stage.run_faults(&running.plan, running.clock.now(), CancellationToken::new());
    assert!(tokio::time::timeout(Duration::from_millis(600), faults).await.is_err());
    running.stage.heal_all().await.unwrap();
    running.stage.heal_all().await.unwrap();
    let text = std::fs::read_to_string(running.folder.path().join("faults.jsonl")).unwrap();
    assert_eq!(text.matches("\"heal\"").count(), 1, "{text}");
    running.end().await;
}

pub(crate) async fn samples_show_state_and_counters<S: Starter>() {
    let plan = plan(vec![on_n2(800, |target| FaultKind::Pause { target })]);
    let running = Running::<S>::start(plan).await;
    let cancel = CancellationToken::new();
    let sampling = running.stage.sample(cancel.clone());
    let (sampled, ()) = tokio::join!(sampling, async {
        running.faults(async {}).await;
        let path = running.folder.path().join("nodes.jsonl");
        let before = std::fs::read_to_string(&path).unwrap().lines().count();
        let grown =
            || async { std::fs::read_to_string(&path).unwrap().lines().count() >= before + 6 };
        eventually("two more samples of each", grown).await;
        cancel.cancel();
    });
    sampled.unwrap();
    let text = std::fs::read_to_string(running.folder.path().join("nodes.jsonl")).unwrap();
    let samples: Vec<quorate::folder::NodeSample> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let paused = |sample: &&quorate::folder::NodeSample| sample.state == "paused";
    assert!(samples.iter().filter(paused).all(|sample| sample.node == "n2"));
    assert!(samples.iter().any(|sample| paused(&sample)));
    let last = samples.last().unwrap();
    assert_eq!(last.state, "running");
    assert!(last.rss_bytes > 0);
    assert!(last.metrics[quorate::folder::OPEN_FILES] > 3.0);
    assert!(last.metrics.keys().any(|name| name.starts_with("quorate_link_bytes_total")));
    running.end().await;
}

pub(crate) async fn servers_without_proxies_find_each_other<S: Starter>() {
    let mut plan = plan(vec![on_n2(100, |target| FaultKind::Kill { target })]);
    plan.topology.proxied = false;
    let running = Running::<S>::start(plan).await;
    for endpoint in running.stage.endpoints() {
        assert_eq!(endpoint.client, endpoint.direct);
    }
    proven(&running.faults(async {}).await, running.folder.path());
    running.end().await;
}

pub(crate) async fn a_dropped_stage_leaves_nothing<S: Starter>() {
    let running = Running::<S>::start(plan(Vec::new())).await;
    let pids = running.stage.pids();
    assert_eq!(pids.len(), 5, "three servers, proxy, guard");
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    let run = running.stage.run_at_engine().map(str::to_string);
    drop(running.stage);
    assert!(!pids.iter().any(|pid| is_alive(*pid)));
    let left = S::left_behind(running.folder.path(), run.as_deref()).await;
    assert_eq!(left, Vec::<String>::new());
}
