//! The order of a run, over a stage that does nothing and a server that holds a table in memory.
//! What real stages do with real processes is tested with them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_check::history::{Nanos, Phase};
use quorate_check::verdict::Verdict;

use super::*;
use crate::drive::null_server::NullServer;
use crate::folder::{FaultRecord, PhaseMark};
use crate::plan::build;
use crate::run::judge::{judge, write_json};
use crate::run::parts::Endpoint;
use crate::spec::{Overrides, workload};

/// What is wrong with a stage, when something is.
#[derive(Debug, thiserror::Error)]
#[error("planted")]
struct Planted;

/// Three names for one server that is never hurt; remembers what it was asked.
struct Nothing<'a> {
    server: NullServer,
    asked: &'a Mutex<Vec<&'static str>>,
    faults_fail: bool,
}

impl<'a> Nothing<'a> {
    fn new(clock: Clock, asked: &'a Mutex<Vec<&'static str>>, faults_fail: bool) -> Self {
        Self { server: NullServer::start(clock, None).unwrap(), asked, faults_fail }
    }

    fn note(&self, what: &'static str) {
        self.asked.lock().unwrap().push(what);
    }
}

impl Stage for Nothing<'_> {
    type Error = Planted;

    fn endpoints(&self) -> Vec<Endpoint> {
        let addr = self.server.addr();
        let names = ["n1", "n2", "n3"].map(str::to_owned);
        names.map(|node| Endpoint { node, client: addr, direct: addr }).into()
    }

    async fn run_faults(
        &self,
        _: &Plan,
        _: Nanos,
        cancel: CancellationToken,
    ) -> Result<Vec<FaultRecord>, Planted> {
        self.note("faults");
        if self.faults_fail {
            return Err(Planted);
        }
        // Longer than the measure phase, unless the run is cancelled.
        drop(tokio::time::timeout(Duration::from_millis(50), cancel.cancelled()).await);
        Ok(Vec::new())
    }

    fn in_force(&self) -> Vec<String> {
        vec!["planted (n2)".to_owned()]
    }

    async fn heal_all(&self) -> Result<(), Planted> {
        self.note("heal");
        Ok(())
    }

    async fn sample(&self, cancel: CancellationToken) -> Result<(), Planted> {
        cancel.cancelled().await;
        Ok(())
    }

    async fn stop(self) -> Result<Vec<SoundnessFinding>, Planted> {
        self.note("stop");
        Ok(Vec::new())
    }
}

struct Run {
    outcome: Outcome,
    asked: Vec<&'static str>,
    folder: RunFolder,
    phases: Vec<Phase>,
    // Removes the folder when dropped.
    _temp: tempfile::TempDir,
}

/// Runs a short plan; `interrupt` is pressed once the load has begun, if asked.
async fn run(faults_fail: bool, press: bool, measure: &str) -> Run {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("w.yaml");
    let text = format!(
        "name: short\nworkload: {{ records: 20 }}\nload: {{ rate: 500, timeout: 200ms }}\n\
         phases: {{ warmup: 100ms, measure: {measure}, settle: 1s }}\n"
    );
    std::fs::write(&file, text).unwrap();
    let spec = workload(&file, &Overrides::default()).unwrap();
    let plan = build(&spec, 1).unwrap();
    let folder = RunFolder::new(temp.path());
    write_json(&folder.plan(), &plan).unwrap();
    let (asked, pressed) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let interrupt = Interrupt::default();
    let watched = Watched::default();
    let clock = Clock::start();
    let setup = Setup {
        plan: &plan,
        folder: &folder,
        clock,
        password: "root",
        interrupt: &interrupt,
        watched: &watched,
    };
    let stage = Nothing::new(clock, &asked, faults_fail);
    let executing = execute(&setup, async { Ok(stage) });
    let pressing = async {
        let mut stands = watched.stand.subscribe();
        while press && !pressed.load(Ordering::Relaxed) {
            let stand = *stands.borrow_and_update();
            if stand == Stand::Measuring {
                interrupt.stop.cancel();
                pressed.store(true, Ordering::Relaxed);
            } else {
                stands.changed().await.unwrap();
            }
        }
    };
    let mut in_force = watched.in_force.subscribe();
    let telling = async {
        let told = in_force.wait_for(|names| names == &["planted (n2)"]);
        // What it gives is a lock on the value: nobody could be told anything while it is held.
        tokio::time::timeout(Duration::from_secs(10), told).await.map(|told| told.is_ok())
    };
    let (outcome, (), told) = tokio::join!(executing, pressing, telling);
    assert!(told.unwrap(), "nobody was told what is in force");
    assert!(watched.in_force.borrow().is_empty(), "and that it ended");
    let marks = std::fs::read_to_string(folder.phases()).unwrap_or_default();
    let marks = marks.lines().map(|line| serde_json::from_str::<PhaseMark>(line).unwrap().phase);
    let phases = marks.collect();
    let asked = asked.into_inner().unwrap();
    Run { outcome, asked, folder, phases, _temp: temp }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_through_all_phases_and_is_judged_valid() {
    let run = run(false, false, "500ms").await;
    assert!(run.outcome.error.is_none(), "{:?}", run.outcome.error);
    assert_eq!(run.asked, ["faults", "heal", "stop"]);
    let all = [Phase::Load, Phase::Warmup, Phase::Measure, Phase::Settle, Phase::Final];
    assert_eq!(run.phases, all);
    write_json(&run.folder.soundness(), &run.outcome.findings).unwrap();
    let judged = judge(&run.folder).unwrap();
    assert_eq!(judged.report.verdict, Verdict::Valid, "{}", judged.report);
    assert_eq!(judged.comparison.verdict, Verdict::Valid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_fails_ends_the_load_and_is_healed_and_stopped() {
    let run = run(true, false, "60s").await;
    let error = run.outcome.error.unwrap().to_string();
    assert_eq!(error, "stage, inject faults: planted");
    assert_eq!(run.asked, ["faults", "heal", "stop"]);
    assert!(!run.phases.contains(&Phase::Final));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_heals_stops_and_leaves_a_history_to_judge() {
    let run = run(false, true, "60s").await;
    assert!(run.outcome.error.is_none(), "{:?}", run.outcome.error);
    assert_eq!(run.asked.last(), Some(&"stop"));
    assert!(run.asked.contains(&"heal"));
    assert!(!run.phases.contains(&Phase::Settle));
    judge(&run.folder).unwrap();
}

#[tokio::test]
async fn a_start_that_fails_is_an_error_of_the_stage() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("w.yaml");
    std::fs::write(&file, "name: short\n").unwrap();
    let spec = workload(&file, &Overrides::default()).unwrap();
    let (plan, folder) = (build(&spec, 1).unwrap(), RunFolder::new(temp.path()));
    let watched = Watched::default();
    let setup = Setup {
        plan: &plan,
        folder: &folder,
        clock: Clock::start(),
        password: "root",
        interrupt: &Interrupt::default(),
        watched: &watched,
    };
    let starting = async { Err::<Nothing<'_>, _>(Planted) };
    let outcome = execute(&setup, starting).await;
    assert_eq!(outcome.error.unwrap().to_string(), "stage, start: planted");
}
