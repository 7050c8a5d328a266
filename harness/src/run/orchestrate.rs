//! The order of a run on a stage: load, warm up, measure with faults, heal, settle, read back,
//! stop. Whatever goes wrong or is interrupted on the way, faults are healed, servers stopped and
//! files closed.
//! May not judge; may not know which stage it works on.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::RunError;
use super::interrupt::Interrupt;
use super::parts::{Clock, Stage};
use crate::drive::{Driver, DriverError, Progress};
use crate::folder::{RunFolder, SoundnessFinding};
use crate::plan::Plan;

/// Time between the decision to start the load and its first operation, so that the driver and
/// the faults are both ready when the schedule begins.
const LEAD: Duration = Duration::from_millis(100);

/// Where a run stands, for people who watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stand {
    /// Servers and proxies come up.
    #[default]
    Starting,
    /// Records are created.
    Loading,
    /// Warm-up and measure phase.
    Measuring,
    /// Faults are healed.
    Healing,
    /// Waiting for the servers to hold the same.
    Settling,
    /// Every record is read back.
    ReadingBack,
    /// Servers stop.
    Stopping,
    /// The history is judged and the report drawn.
    Judging,
}

impl Stand {
    /// Its name for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Loading => "loading",
            Self::Measuring => "measuring",
            Self::Healing => "healing",
            Self::Settling => "settling",
            Self::ReadingBack => "reading_back",
            Self::Stopping => "stopping",
            Self::Judging => "judging",
        }
    }
}

/// How often those who watch are told which faults are in force.
const FORCE_TOLD: Duration = Duration::from_millis(250);

/// Tells those who watch.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    /// Where the run stands.
    pub stand: watch::Sender<Stand>,
    /// How the load goes.
    pub progress: watch::Sender<Progress>,
    /// Faults in force, with whom they hit.
    pub in_force: watch::Sender<Vec<String>>,
}

/// Everything that one run needs beside its stage.
pub(super) struct Setup<'a> {
    pub(super) plan: &'a Plan,
    pub(super) folder: &'a RunFolder,
    pub(super) clock: Clock,
    pub(super) password: &'a str,
    pub(super) interrupt: &'a Interrupt,
    pub(super) watched: &'a Watched,
}

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Reasons to doubt the figures, from all parts.
    pub(super) findings: Vec<SoundnessFinding>,
    /// The first thing that went wrong with the harness.
    pub(super) error: Option<RunError>,
}

impl Outcome {
    fn keep(&mut self, result: Result<(), RunError>) {
        if let Err(error) = result {
            // The first error is the cause; later ones are mostly its consequences.
            self.error.get_or_insert(error);
        }
    }
}

impl Setup<'_> {
    fn tell(&self, stand: Stand) {
        self.watched.stand.send_replace(stand);
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.stop.is_cancelled()
    }
}

/// Runs the plan on the stage that `starting` brings up.
pub(super) async fn execute<S: Stage>(
    setup: &Setup<'_>,
    starting: impl Future<Output = Result<S, S::Error>>,
) -> Outcome {
    let mut outcome = Outcome::default();
    setup.tell(Stand::Starting);
    let started = tokio::select! {
        biased;
        // A start that is dropped leaves nothing behind.
        () = setup.interrupt.stop.cancelled() => return outcome,
        started = starting => started,
    };
    let stage = match started {
        Ok(stage) => stage,
        Err(error) => {
            outcome.keep(Err(RunError::stage("start", error)));
            return outcome;
        }
    };
    let sampling = CancellationToken::new();
    let working = async {
        let worked = work(setup, &stage, &mut outcome.findings).await;
        sampling.cancel();
        worked
    };
    let (worked, sampled) = tokio::join!(working, stage.sample(sampling.clone()));
    outcome.keep(worked);
    outcome.keep(sampled.map_err(|error| RunError::stage("sample", error)));
    setup.tell(Stand::Stopping);
    match stage.stop().await {
        Ok(findings) => outcome.findings.extend(findings),
        Err(error) => outcome.keep(Err(RunError::stage("stop", error))),
    }
    outcome
}

async fn work<S: Stage>(
    setup: &Setup<'_>,
    stage: &S,
    findings: &mut Vec<SoundnessFinding>,
) -> Result<(), RunError> {
    setup.tell(Stand::Loading);
    let mut hand = Hand::open(setup, stage)?;
    let worked = phases(setup, stage, &mut hand, findings).await;
    setup.tell(Stand::Healing);
    let healed = stage.heal_all().await.map_err(|error| RunError::stage("heal", error));
    let read = if worked.is_ok() && healed.is_ok() {
        read_back(setup, &mut hand, findings).await
    } else {
        Ok(())
    };
    // Also after an error: what was recorded is to be on disk.
    let finished = hand.finish().await;
    worked.and(healed).and(read).and(finished)
}

/// Load, warm-up and measure phase.
async fn phases<S: Stage>(
    setup: &Setup<'_>,
    stage: &S,
    hand: &mut Hand,
    findings: &mut Vec<SoundnessFinding>,
) -> Result<(), RunError> {
    // Cancelled by the user, or by whichever of faults and load fails, to end the other.
    let cancel = setup.interrupt.stop.child_token();
    let loading = cancel.clone();
    hand.work(move |driver| {
        driver.prepare()?;
        driver.load(&loading)
    })
    .await?;
    if setup.is_interrupted() {
        return Ok(());
    }
    setup.tell(Stand::Measuring);
    let start = setup.clock.now() + nanos(LEAD);
    let measure = start + nanos(Duration::from_millis(setup.plan.phases.warmup_ms));
    let faults = async {
        let result = stage.run_faults(setup.plan, measure, cancel.clone()).await;
        if result.is_err() {
            cancel.cancel();
        }
        result.map_err(|error| RunError::stage("inject faults", error))
    };
    let load = async {
        let (stop, progress) = (cancel.clone(), setup.watched.progress.clone());
        let result = hand.work(move |driver| driver.run(start, &stop, progress)).await;
        if result.is_err() {
            cancel.cancel();
        }
        result
    };
    let (faulted, loaded) = tokio::select! {
        ended = async { tokio::join!(faults, load) } => ended,
        never = tell_in_force(setup, stage) => match never {},
    };
    setup.watched.in_force.send_replace(Vec::new());
    findings.extend(loaded?.findings);
    faulted.map(|_| ())
}

/// Tells those who watch which faults are in force, until it is dropped.
async fn tell_in_force<S: Stage>(setup: &Setup<'_>, stage: &S) -> Infallible {
    let mut ticks = tokio::time::interval(FORCE_TOLD);
    loop {
        ticks.tick().await;
        setup.watched.in_force.send_replace(stage.in_force());
    }
}

/// Waits for convergence and reads every record back.
async fn read_back(
    setup: &Setup<'_>,
    hand: &mut Hand,
    findings: &mut Vec<SoundnessFinding>,
) -> Result<(), RunError> {
    if setup.is_interrupted() {
        return Ok(());
    }
    let cancel = setup.interrupt.stop.clone();
    setup.tell(Stand::Settling);
    let settling = cancel.clone();
    let settled = hand.work(move |driver| driver.settle(&settling)).await?;
    if settled.at.is_none() && !setup.is_interrupted() {
        let (keys, ms) = (settled.divergent.len(), setup.plan.phases.settle_ms);
        let detail = format!("{keys} records were not alike on all servers after {ms} ms");
        findings.push(note("not_settled", detail));
    }
    setup.tell(Stand::ReadingBack);
    let read = hand.work(move |driver| driver.final_reads(settled.deadline, &cancel)).await?;
    if setup.is_interrupted() {
        return Ok(());
    }
    if read.passes > 1 {
        let detail = format!(
            "servers that had been alike differed again at first: everything was read {} times, \
             and {} records differed at the last",
            read.passes, read.divergent
        );
        findings.push(note("read_back_again", detail));
    }
    if !read.unread.is_empty() {
        let records = read.unread.len();
        let detail = format!("{records} records could not be read by a majority at the end");
        findings.push(note("unread_at_the_end", detail));
    }
    if read.failed > 0 {
        let detail = format!("{} of the final reads failed at first or for good", read.failed);
        findings.push(note("read_back_with_difficulty", detail));
    }
    Ok(())
}

/// The driver's blocking methods, each on a thread that may block.
struct Hand {
    driver: Option<Driver>,
}

impl Hand {
    fn open<S: Stage>(setup: &Setup<'_>, stage: &S) -> Result<Self, RunError> {
        let endpoints = stage.endpoints();
        let (plan, folder) = (setup.plan, setup.folder);
        let driver = match stage.simulator() {
            Some(simulator) => Driver::simulated(plan, &endpoints, simulator, setup.clock, folder)?,
            None => Driver::new(plan, &endpoints, setup.password, setup.clock, folder)?,
        };
        Ok(Self { driver: Some(driver) })
    }

    async fn work<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Driver) -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, RunError> {
        let mut driver = self.driver.take().ok_or(RunError::DriverLost)?;
        let task = tokio::task::spawn_blocking(move || {
            let result = work(&mut driver);
            (driver, result)
        });
        let (driver, result) = task.await?;
        self.driver = Some(driver);
        Ok(result?)
    }

    async fn finish(self) -> Result<(), RunError> {
        let driver = self.driver.ok_or(RunError::DriverLost)?;
        Ok(tokio::task::spawn_blocking(move || driver.finish()).await??)
    }
}

fn note(code: &str, detail: String) -> SoundnessFinding {
    SoundnessFinding { code: code.to_owned(), fatal: false, detail }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "orchestrate_test.rs"]
mod tests;
