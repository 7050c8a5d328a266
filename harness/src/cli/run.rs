//! `quorate run`: one workload from file to verdict.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use super::arguments::{PlaceArguments, RunArguments};
use super::progress::{Manner, Shown};
use super::{Exit, Output, verdict};
use crate::plan::build;
use crate::run::choice::{self, Offer};
use crate::run::interrupt::Interrupt;
use crate::run::place::Cause;
use crate::run::{Ended, Job, run as run_job};
use crate::spec::{SpecError, workload};
use crate::stage::StageOptions;

/// How long threads may take to notice that a run was stopped at once.
const THREADS_END: Duration = Duration::from_secs(1);

pub(super) fn run(arguments: &RunArguments) -> anyhow::Result<Exit> {
    let spec = workload(&arguments.spec.file, &arguments.spec.overrides()?)?;
    let plan = build(&spec, spec.seed).map_err(SpecError::Invalid)?;
    let place = &arguments.place;
    let stage = StageOptions { keep_data: arguments.keep_data, ..place.options() };
    let asked = &place.stage.stage;
    let choice = choice::choose(asked, &plan, &stage, &Offer::ask(asked, &stage)?)?;
    if !place.json {
        Output.line(&choice)?;
        for warning in &spec.warnings {
            Output.line(format!("warning: {warning}"))?;
        }
    }
    let cause = Cause {
        workload: arguments.spec.file.clone(),
        scenario: arguments.spec.scenario.clone(),
        set: arguments.spec.set.clone(),
        program: program(),
        options: place.given(),
    };
    let job = Job { plan, cause, choice, out: place.out.clone(), latest: true, stage };
    let name = job.plan.name.clone();
    let ended = blocking(async {
        let interrupt = Interrupt::listen()?;
        shown(job, &interrupt, place.manner()).await
    })?;
    tell(&name, &ended, place)?;
    Ok(verdict::exit_of(&ended))
}

/// This program, as it was called.
pub(super) fn program() -> PathBuf {
    std::env::args_os().next().map_or_else(|| PathBuf::from("quorate"), PathBuf::from)
}

/// Runs a job with its progress on stderr.
pub(super) async fn shown(
    job: Job,
    interrupt: &Interrupt,
    manner: Manner,
) -> anyhow::Result<Ended> {
    let shown = Shown::start(&job.plan, manner, interrupt);
    let ended = run_job(job, interrupt, &shown.watched).await;
    shown.finish().await;
    Ok(ended?)
}

/// Runs a future to its end on a runtime that does not wait for threads that were given up.
pub(super) fn blocking<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(future);
    runtime.shutdown_timeout(THREADS_END);
    result
}

fn tell(name: &str, ended: &Ended, place: &PlaceArguments) -> anyhow::Result<()> {
    if place.json {
        return Output.json(&verdict::json(name, ended));
    }
    if let (Some(judged), false) = (&ended.judged, place.quiet) {
        Output.line("")?;
        if let Some(summary) = &ended.summary {
            Output.table(&[], verdict::figures(summary))?;
            Output.line("")?;
        }
        Output.table(&["checker", "verdict", ""], verdict::rows(judged))?;
        for judgement in &judged.report.judgements {
            if let Some(example) = &judgement.counterexample {
                Output.line(format!("\n{}:\n{example}", judgement.checker))?;
            }
        }
        for line in verdict::availability(judged) {
            Output.line(line)?;
        }
        for finding in &judged.findings {
            let weight = if finding.fatal { "unsound" } else { "note" };
            Output.line(format!("{weight}: {}: {}", finding.code, finding.detail))?;
        }
    }
    if let Some(error) = &ended.error {
        // In full here, as the last line has room for its first line alone.
        eprintln!("error: {error}");
    }
    Ok(Output.line(verdict::last_line(name, ended))?)
}
