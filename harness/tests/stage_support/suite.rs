//! What every stage must do, whatever it runs on: generic over the trait, told only how to start.
//! A new stage is done when these pass over it.

use std::path::Path;
use std::time::Duration;

use quorate::folder::{FaultAction, FaultRecord, RunFolder, SoundnessFinding};
use quorate::plan::{Cut, FaultKind, Plan};
use quorate::run::parts::{Clock, Endpoint, Stage};
use tokio_util::sync::CancellationToken;

use super::support::{answers, eventually, on_n2, plan};

/// How a stage under test is started.
pub(crate) trait Starter {
    /// The stage.
    type Stage: Stage;
    /// Starts it.
    async fn start(plan: &Plan, folder: &RunFolder, clock: Clock) -> Self::Stage;
    /// What of it is still there after its end; empty is right.
    async fn left_behind(folder: &Path) -> Vec<String>;
}

/// A started stage with the folder it writes to.
pub(crate) struct Running<S: Starter> {
    pub(crate) stage: S::Stage,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: Clock,
    pub(crate) plan: Plan,
}

impl<S: Starter> Running<S> {
    pub(crate) async fn start(plan: Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::start();
        let stage = S::start(&plan, &RunFolder::new(folder.path()), clock).await;
        Self { stage, folder, clock, plan }
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
        let findings = self.stage.stop().await.unwrap();
        let fatal: Vec<_> = findings.iter().filter(|finding| finding.fatal).collect();
        assert!(fatal.is_empty(), "{fatal:?}");
        assert_eq!(S::left_behind(self.folder.path()).await, Vec::<String>::new());
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
    let known = |finding: &SoundnessFinding| finding.code == "disk_does_not_sync";
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

pub(crate) async fn a_partition_bites_and_heals<S: Starter>(cut: Cut) {
    let plan = plan(vec![on_n2(1200, |target| FaultKind::Partition { cut, target })]);
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

pub(crate) async fn a_delay_is_measured_and_goes<S: Starter>(delay_us: u64) {
    let kind = |target| FaultKind::Latency { target, delay_us, jitter_us: 0 };
    let running = Running::<S>::start(plan(vec![on_n2(1200, kind)])).await;
    let records = running.faults(async {}).await;
    proven(&records, running.folder.path());
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
    let kind = |target| FaultKind::Partition { cut: Cut::Silent, target };
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
    assert!(last.metrics.keys().any(|name| name.starts_with("quorate_link_bytes_total")));
    running.end().await;
}
