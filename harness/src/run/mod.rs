//! The orchestrator: runs one plan from the first process started to the report written.
//! May not parse specs, print to stdout, or know how a stage does its work.

pub mod choice;
pub mod disk;
mod error;
pub mod interrupt;
pub mod judge;
pub mod machine;
mod manifest;
mod orchestrate;
pub mod parts;
pub mod place;
mod programs;

use std::path::PathBuf;
use std::time::SystemTime;

pub use error::RunError;
pub use manifest::MANIFEST_FORMAT;
pub use orchestrate::{Stand, Watched};
pub use programs::identities;

use self::choice::{Choice, StageName};
use self::interrupt::Interrupt;
use self::judge::{Judged, write_json};
use self::orchestrate::{Outcome, Setup, execute};
use self::parts::Clock;
use self::place::Cause;
use crate::folder::{RunFolder, SoundnessFinding};
use crate::plan::Plan;
use crate::report::{self, Summary};
use crate::stage::{DockerStage, ProcessStage, SimStage, StageOptions};

/// One run to be done.
#[derive(Debug, Clone)]
pub struct Job {
    /// What to do.
    pub plan: Plan,
    /// What the plan was made from, for the command that repeats it.
    pub cause: Cause,
    /// Where.
    pub choice: Choice,
    /// Folder that gets the run folder.
    pub out: PathBuf,
    /// Whether `latest` in that folder is to point to the run, from its first moment on.
    pub latest: bool,
    /// Settings of the stage.
    pub stage: StageOptions,
}

/// What a run came to.
#[derive(Debug)]
pub struct Ended {
    /// Its folder.
    pub folder: RunFolder,
    /// The command that repeats it.
    pub repeat: String,
    /// The verdicts, if there is a history to judge.
    pub judged: Option<Judged>,
    /// The figures, if a report could be made.
    pub summary: Option<Summary>,
    /// True when the user stopped it.
    pub interrupted: bool,
    /// What went wrong with the harness.
    pub error: Option<RunError>,
}

/// Runs a job; everything that it learns is in the run folder, whatever happens.
///
/// # Errors
/// When nothing could be run at all: a program or the results folder is missing.
pub async fn run(
    mut job: Job,
    interrupt: &Interrupt,
    watched: &Watched,
) -> Result<Ended, RunError> {
    programs::find(&mut job)?;
    let started = SystemTime::now();
    let label = format!("{}-{}", job.plan.name, job.plan.seed);
    let folder = place::create(&job.out, &label, started).map_err(RunError::file(&job.out))?;
    let folder = RunFolder::new(folder);
    write_json(&folder.plan(), &job.plan)?;
    if job.latest {
        place::link_latest(folder.root()).map_err(RunError::file(&job.out))?;
    }
    let repeat = job.cause.repeat(job.plan.seed);
    let programs = programs::describe(&job).await?;
    let (cause, seed) = (&job.cause, job.plan.seed);
    let manifest = manifest::manifest(&folder, &job.choice, &programs, started, cause, seed)?;
    write_json(&folder.manifest(), &manifest)?;

    let outcome = on_stage(&job, &folder, interrupt, watched).await;
    let interrupted = interrupt.stop.is_cancelled();
    watched.stand.send_replace(Stand::Judging);
    let mut ended = Ended { folder, repeat, judged: None, summary: None, interrupted, error: None };
    conclude(&mut ended, outcome).await;
    Ok(ended)
}

async fn on_stage(
    job: &Job,
    folder: &RunFolder,
    interrupt: &Interrupt,
    watched: &Watched,
) -> Outcome {
    let clock = match job.choice.stage {
        StageName::Process | StageName::Docker => Clock::start(),
        StageName::Sim => Clock::simulated(),
    };
    let password = job.stage.password();
    let plan = &job.plan;
    let setup = Setup { plan, folder, clock, password, interrupt, watched };
    let executing = async {
        match job.choice.stage {
            StageName::Process => {
                let options = job.stage.clone();
                execute(&setup, ProcessStage::start_with(plan, folder, clock, options)).await
            }
            StageName::Docker => {
                let options = job.stage.clone();
                execute(&setup, DockerStage::start_with(plan, folder, clock, options)).await
            }
            StageName::Sim => {
                let options = job.stage.clone();
                execute(&setup, async { SimStage::start_with(plan, folder, options) }).await
            }
        }
    };
    tokio::select! {
        biased;
        // Dropping the stage kills its processes.
        () = interrupt.now.cancelled() => {
            Outcome { error: Some(RunError::StoppedNow), ..Outcome::default() }
        }
        outcome = executing => outcome,
    }
}

/// Judges and reports what there is, also after an error or an interrupt.
async fn conclude(ended: &mut Ended, outcome: Outcome) {
    let Outcome { mut findings, error } = outcome;
    let fatal = |code: &str, detail: String| SoundnessFinding {
        code: code.to_owned(),
        fatal: true,
        detail,
    };
    if let Some(error) = &error {
        findings.push(fatal("harness_failed", error.to_string()));
    } else if ended.interrupted {
        findings.push(fatal("interrupted", "the user stopped the run before its end".to_owned()));
    }
    ended.error = error;
    let folder = ended.folder.clone();
    let concluding = tokio::task::spawn_blocking(move || {
        write_json(&folder.soundness(), &findings)?;
        let judged = folder.history().exists().then(|| judge::judge(&folder)).transpose()?;
        let written = report::write(&folder)?;
        Ok::<_, RunError>((judged, written.summary))
    });
    match concluding.await.map_err(RunError::from).and_then(|concluded| concluded) {
        Ok((judged, summary)) => {
            ended.judged = judged;
            ended.summary = Some(summary);
        }
        Err(error) => {
            ended.error.get_or_insert(error);
        }
    }
}
