//! `quorate suite`: every experiment of a suite, one after the other, and a table at the end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::arguments::SuiteArguments;
use super::run::{blocking, program, shown};
use super::{Exit, Output, verdict};
use crate::report;
use crate::run::choice::{self, Choice};
use crate::run::interrupt::Interrupt;
use crate::run::place::{Cause, link_latest};
use crate::run::{Ended, Job};
use crate::spec::{self, Experiment, Suite};

/// An experiment and what became of it.
struct Done {
    name: String,
    ended: Ended,
    took: Duration,
    budget: Duration,
}

pub(super) fn suite(arguments: &SuiteArguments) -> anyhow::Result<Exit> {
    let suite = spec::suite(&arguments.file, arguments.seed)?;
    let mut choices = Vec::new();
    let (stage, options) = (&arguments.place.stage.stage, arguments.place.options());
    for experiment in &suite.experiments {
        choices.push(choice::choose(stage, &experiment.plan, &options)?);
    }
    let speaks = !arguments.place.json;
    if let (Some(choice), true) = (choices.first(), speaks) {
        Output.line(choice)?;
        let (count, minutes) = (suite.experiments.len(), suite.budget.as_secs_f64() / 60.0);
        Output.line(format!("{}: {count} experiments, at most {minutes:.1} min", suite.name))?;
    }
    let folder = folder(&arguments.place.out, &suite)?;
    let begun = Instant::now();
    let (done, interrupted) = blocking(all(arguments, &suite, choices, &folder))?;
    let index = report::index(&folder)?;
    let exits = done.iter().map(|done| verdict::exit_of(&done.ended));
    let whole = if interrupted { Exit::Inconclusive } else { Exit::Good };
    let exit = exits.fold(whole, Exit::merge);
    if arguments.place.json {
        let runs: Vec<_> = done.iter().map(|done| verdict::json(&done.name, &done.ended)).collect();
        let json = serde_json::json!({
            "suite": suite.name, "exit": exit.code(), "index": index.page, "runs": runs,
        });
        Output.json(&json)?;
    } else {
        Output.line("")?;
        Output.table(&["experiment", "", "took", "ok/s", "p99", "remark"], rows(&done))?;
        let seconds = begun.elapsed().as_secs_f64();
        let page = index.page.display();
        Output.line(format!("\n{}: {seconds:.0} s, reports: {page}", suite.name))?;
        for bad in done.iter().filter(|done| verdict::exit_of(&done.ended) != Exit::Good) {
            Output.line(verdict::last_line(&bad.name, &bad.ended))?;
        }
    }
    Ok(exit)
}

/// Creates `out/<UTC time>-suite-<name>` and points `latest` at it.
fn folder(out: &Path, suite: &Suite) -> anyhow::Result<PathBuf> {
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(':', "");
    let folder = out.join(format!("{time}-suite-{}", suite.name));
    std::fs::create_dir_all(&folder)?;
    link_latest(&folder)?;
    Ok(folder)
}

/// Runs the experiments until done or interrupted.
async fn all(
    arguments: &SuiteArguments,
    suite: &Suite,
    choices: Vec<Choice>,
    folder: &Path,
) -> anyhow::Result<(Vec<Done>, bool)> {
    let interrupt = Interrupt::listen()?;
    let quiet = arguments.place.quiet || arguments.place.json;
    let mut done = Vec::new();
    for (experiment, choice) in suite.experiments.iter().zip(choices) {
        let begun = Instant::now();
        let job = job(arguments, experiment, choice, folder);
        let ended = shown(job, &interrupt, quiet).await?;
        let took = begun.elapsed();
        if !quiet {
            let (number, count) = (done.len() + 1, suite.experiments.len());
            let line = verdict::last_line(&experiment.name, &ended);
            eprintln!("[{number}/{count}, {:.0} s] {line}", took.as_secs_f64());
        }
        let (name, budget) = (experiment.name.clone(), experiment.budget);
        done.push(Done { name, ended, took, budget });
        if interrupt.stop.is_cancelled() {
            return Ok((done, true));
        }
    }
    Ok((done, false))
}

fn job(arguments: &SuiteArguments, experiment: &Experiment, choice: Choice, folder: &Path) -> Job {
    let cause = Cause {
        workload: experiment.workload.clone(),
        scenario: experiment.scenario.clone(),
        set: experiment.set.clone(),
        program: program(),
        options: arguments.place.given(),
    };
    let stage = arguments.place.options();
    let (plan, out) = (experiment.plan.clone(), folder.to_owned());
    // The suite's folder is the latest; inside it the experiments stand beside each other.
    Job { plan, cause, choice, out, latest: false, stage }
}

fn rows(done: &[Done]) -> Vec<Vec<String>> {
    let rows = done.iter().map(|done| {
        let word = match verdict::exit_of(&done.ended) {
            Exit::Good => "ok",
            Exit::Violation => "FAILED",
            Exit::Inconclusive => "inconclusive",
            Exit::BadSpec | Exit::Harness => "error",
        };
        let summary = done.ended.summary.as_ref();
        let rate = summary.map_or("–".to_owned(), |found| format!("{:.0}", found.achieved_rate));
        let p99 = summary.and_then(report::Summary::p99);
        let p99 = p99.map_or("–".to_owned(), |bound| format!("{:.1} ms", bound.micros / 1e3));
        let mut remark = verdict::reasons(&done.ended);
        if done.took > done.budget {
            let over = format!("took longer than its budget of {:.0} s", done.budget.as_secs_f64());
            remark = if remark.is_empty() { over } else { format!("{over}; {remark}") };
        }
        let took = format!("{:.0} s", done.took.as_secs_f64());
        vec![done.name.clone(), word.to_owned(), took, rate, p99, remark]
    });
    rows.collect()
}
