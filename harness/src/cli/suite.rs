//! `quorate suite`: every experiment of a suite, one after the other, and a table at the end.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::arguments::SuiteArguments;
use super::run::{blocking, program, shown};
use super::{Exit, Output, verdict};
use crate::report;
use crate::run::choice::{self, Choice, Offer};
use crate::run::interrupt::Interrupt;
use crate::run::judge::Judged;
use crate::run::place::{Cause, create, link_latest};
use crate::run::{Ended, Job};
use crate::spec::{self, Experiment, Suite};

/// Said of an experiment that ran again.
const SPOILT: &str = "the host spoilt the figures before";

/// An experiment and what became of it.
struct Done {
    name: String,
    /// Runs before the last, whose figures the host spoilt.
    earlier: Vec<Ended>,
    ended: Ended,
    /// How long the last run took.
    took: Duration,
    budget: Duration,
}

pub(super) fn suite(arguments: &SuiteArguments) -> anyhow::Result<Exit> {
    let suite = spec::suite(&arguments.file, arguments.seed)?;
    let mut choices = Vec::new();
    let (stage, options) = (&arguments.place.stage.stage, arguments.place.options());
    let offer = Offer::ask(stage, &options)?;
    for experiment in &suite.experiments {
        choices.push(choice::choose(stage, &experiment.plan, &options, &offer)?);
    }
    let speaks = !arguments.place.json;
    if let (Some(choice), true) = (choices.first(), speaks) {
        Output.line(choice)?;
        let others = choices.iter().zip(&suite.experiments);
        for (other, experiment) in others.filter(|(other, _)| other.stage != choice.stage) {
            Output.line(format!("{}: {other}", experiment.name))?;
        }
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
        let runs: Vec<_> = done.iter().map(json).collect();
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
    let folder = create(out, &format!("suite-{}", suite.name), SystemTime::now())?;
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
    let whole = Whole { arguments, suite, folder, interrupt: Interrupt::listen()? };
    let deadline = Instant::now() + suite.budget;
    let mut still_needed: Duration = suite.experiments.iter().map(|each| each.budget).sum();
    let mut done = Vec::new();
    for (experiment, choice) in suite.experiments.iter().zip(choices) {
        still_needed -= experiment.budget;
        let number = done.len() + 1;
        let latest = deadline - still_needed;
        done.push(whole.until_sound(number, experiment, choice, latest).await?);
        if whole.interrupt.stop.is_cancelled() {
            return Ok((done, true));
        }
    }
    Ok((done, false))
}

/// What all experiments of a suite share.
struct Whole<'a> {
    arguments: &'a SuiteArguments,
    suite: &'a Suite,
    folder: &'a Path,
    interrupt: Interrupt,
}

impl Whole<'_> {
    /// Runs the experiment with this number, from 1; again while the host spoils its figures, the
    /// suite allows it, and its budget would end before `latest`.
    async fn until_sound(
        &self,
        number: usize,
        experiment: &Experiment,
        choice: Choice,
        latest: Instant,
    ) -> anyhow::Result<Done> {
        let Experiment { name, budget, .. } = experiment;
        let quiet = self.arguments.place.quiet || self.arguments.place.json;
        let mut earlier = Vec::new();
        loop {
            let begun = Instant::now();
            let job = self.job(experiment, choice.clone());
            let ended = shown(job, &self.interrupt, self.arguments.place.manner()).await?;
            let took = begun.elapsed();
            if !quiet {
                let count = self.suite.experiments.len();
                let line = verdict::last_line(name, &ended);
                eprintln!("[{number}/{count}, {:.0} s] {line}", took.as_secs_f64());
            }
            let is_spoilt = ended.judged.as_ref().is_some_and(Judged::is_spoilt_by_host);
            let is_allowed = earlier.len() < self.suite.repeats as usize;
            let is_stopped = self.interrupt.stop.is_cancelled();
            if !is_spoilt || !is_allowed || is_stopped || Instant::now() + *budget > latest {
                return Ok(Done { name: name.clone(), earlier, ended, took, budget: *budget });
            }
            if !quiet {
                eprintln!("{name}: the host withheld CPU time; running it again");
            }
            earlier.push(ended);
        }
    }

    fn job(&self, experiment: &Experiment, choice: Choice) -> Job {
        let cause = Cause {
            workload: experiment.workload.clone(),
            scenario: experiment.scenario.clone(),
            set: experiment.set.clone(),
            program: program(),
            options: self.arguments.place.given(),
        };
        let stage = self.arguments.place.options();
        let (plan, out) = (experiment.plan.clone(), self.folder.to_owned());
        // The suite's folder is the latest; inside it the experiments stand beside each other.
        Job { plan, cause, choice, out, latest: false, stage }
    }
}

/// The outcome for programs, with the runs before the last.
fn json(done: &Done) -> serde_json::Value {
    let mut json = verdict::json(&done.name, &done.ended);
    let earlier = done.earlier.iter().map(|ended| verdict::json(&done.name, ended));
    json["earlier"] = earlier.collect();
    json
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
        if !done.earlier.is_empty() {
            let runs = format!("run {}, {SPOILT}", done.earlier.len() + 1);
            remark = if remark.is_empty() { runs } else { format!("{runs}; {remark}") };
        }
        let took = format!("{:.0} s", done.took.as_secs_f64());
        vec![done.name.clone(), word.to_owned(), took, rate, p99, remark]
    });
    rows.collect()
}
