//! `quorate sweep`: a workload at many points, in an order drawn from the seed; goes on where one
//! that was killed had come to.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::arguments::SweepArguments;
use super::resume::{TakenUp, take_up};
use super::run::{blocking, program, shown};
use super::{Exit, Output, VERSION, verdict};
use crate::figures::bootstrap::Estimate;
use crate::plan::{Plan, estimate};
use crate::report;
use crate::resume::Resumable;
use crate::run::choice::{self, Choice, Offer, StageName};
use crate::run::interrupt::Interrupt;
use crate::run::judge::Judged;
use crate::run::place::Cause;
use crate::run::{Ended, Job, identities};
use crate::spec;
use crate::sweep::{Definition, Done, Ledger, Means, RunFigures};
use crate::sweep::{define, is_made_good, is_wanted, mean_of, order};

pub(super) fn sweep(arguments: &SweepArguments) -> anyhow::Result<Exit> {
    let place = &arguments.place;
    let swept = spec::sweep(&arguments.spec.file, &arguments.spec.overrides()?)?;
    let (stage, options) = (&place.stage.stage, place.options());
    let offer = Offer::ask(stage, &options)?;
    let mut choices = Vec::new();
    let (mut definition, plans) = define(&swept, VERSION, |plan| {
        let choice = choice::choose(stage, plan, &options, &offer);
        choice.map(|choice| choices.push(choice)).map_err(|refused| refused.to_string())
    });
    // All points at one stage, or they could not be compared.
    let processes = choices.iter().position(|choice| choice.stage == StageName::Process);
    let Some(choice) = choices.into_iter().nth(processes.unwrap_or(0)) else {
        for point in &definition.points {
            eprintln!(
                "{}: {}",
                point.labels.join(", "),
                point.refused.as_deref().unwrap_or_default()
            );
        }
        return Ok(Exit::BadSpec);
    };
    definition.means = means(arguments, &choice, &plans)?;
    let label = format!("sweep-{}-{}", definition.name, definition.seed);
    let new = Ledger::new(definition);
    let TakenUp { folder, state: ledger, went_on, held: _held } =
        take_up(&place.out, arguments.fresh, new, &label)?;
    if !place.json {
        announce(&choice, &ledger, went_on, &folder)?;
    }
    let sweeping = Sweeping { arguments, plans, choice, folder: folder.clone() };
    let (ledger, exit) = blocking(sweeping.run(ledger))?;
    let page = report::sweep(&folder, &ledger)?;
    if place.json {
        Output.json(&serde_json::json!({
            "sweep": ledger.definition.name, "exit": exit.code(), "folder": folder,
            "index": page, "runs": ledger.runs,
        }))?;
    } else {
        Output.line("")?;
        let axes = ledger.definition.axes.iter().map(|axis| axis.name.as_str());
        let head: Vec<&str> = axes.chain(["runs", "ok/s", "p99", "remark"]).collect();
        Output.table(&head, rows(&ledger))?;
        Output.line(format!("\n{}: {}", ledger.definition.name, page.display()))?;
    }
    Ok(exit)
}

/// With what the runs are done.
fn means(
    arguments: &SweepArguments,
    choice: &Choice,
    plans: &[Vec<Plan>],
) -> anyhow::Result<Means> {
    let place = &arguments.place;
    let (stage, options) = (choice.stage, place.options());
    let proxied = plans.iter().flatten().any(|plan| plan.topology.proxied);
    let programs = blocking(async { Ok(identities(stage, &options, proxied).await?) })?;
    Ok(Means { stage: stage.to_string(), options: place.given(), programs })
}

fn announce(choice: &Choice, ledger: &Ledger, went_on: bool, folder: &Path) -> anyhow::Result<()> {
    let definition = &ledger.definition;
    Output.line(choice)?;
    let (points, repeats) = (definition.points.len(), definition.repeats);
    Output.line(format!(
        "{}: {points} points, {repeats} runs each at most, in {}",
        definition.name,
        folder.display()
    ))?;
    for point in &definition.points {
        if let Some(why) = &point.refused {
            Output.line(format!("{} cannot be run: {why}", point.labels.join(", ")))?;
        }
    }
    if went_on {
        Output.line(format!("goes on behind {} runs", ledger.runs.len()))?;
    }
    Ok(())
}

/// A sweep being run.
struct Sweeping<'a> {
    arguments: &'a SweepArguments,
    /// Of each point's runs.
    plans: Vec<Vec<Plan>>,
    choice: Choice,
    folder: PathBuf,
}

impl Sweeping<'_> {
    /// Runs what is wanted until nothing is, or the user stops it.
    async fn run(self, mut ledger: Ledger) -> anyhow::Result<(Ledger, Exit)> {
        let interrupt = Interrupt::listen()?;
        let definition = ledger.definition.clone();
        let order = order(definition.points.len(), definition.repeats, definition.seed);
        let mut pace = Pace::default();
        let mut exit = Exit::Good;
        let mut index = 0;
        while let Some(next) = order.get(index) {
            // The same one comes again when the harness failed, and is wanted still.
            let Some(plan) = self.plan(&ledger, *next) else {
                index += 1;
                continue;
            };
            let begun = Instant::now();
            let expected = estimate::longest(&plan);
            let job = self.job(&definition, plan, next.0);
            let quiet = self.arguments.place.quiet || self.arguments.place.json;
            let ended = shown(job, &interrupt, self.arguments.place.manner()).await?;
            if interrupt.stop.is_cancelled() {
                // Half a run is none: the next start does it again. What it found was found.
                exit = verdict::exit_of(&ended);
                break;
            }
            pace.note(expected, begun.elapsed());
            ledger.runs.push(done(*next, &ended));
            ledger.write(&self.folder)?;
            report::sweep(&self.folder, &ledger)?;
            if !quiet {
                let left = order[index..].iter().filter_map(|next| self.plan(&ledger, *next));
                let left: Vec<Duration> = left.map(|plan| estimate::longest(&plan)).collect();
                self.tell(&ledger, &pace, &left);
            }
        }
        let interrupted = interrupt.stop.is_cancelled();
        ledger.finished = !interrupted;
        ledger.write(&self.folder)?;
        let whole = if interrupted { Exit::Inconclusive } else { Exit::Good };
        let counted = ledger.runs.iter().filter(|run| !is_made_good(&ledger, run));
        let exit = counted.map(exit_of_done).fold(whole.merge(exit), Exit::merge);
        Ok((ledger, exit))
    }

    /// The plan of a run, if it is wanted.
    fn plan(&self, ledger: &Ledger, next: (usize, u32)) -> Option<Plan> {
        let plan = self.plans[next.0].get(next.1 as usize)?;
        is_wanted(ledger, next).then(|| plan.clone())
    }

    fn job(&self, definition: &Definition, plan: Plan, point: usize) -> Job {
        let spec = &self.arguments.spec;
        let mut set = spec.set.clone();
        set.extend(definition.points[point].set.iter().cloned());
        let cause = Cause {
            workload: spec.file.clone(),
            scenario: spec.scenario.clone(),
            set,
            program: program(),
            options: self.arguments.place.given(),
        };
        let (choice, stage) = (self.choice.clone(), self.arguments.place.options());
        Job { plan, cause, choice, out: self.folder.clone(), latest: false, stage }
    }

    /// One line behind each run, with the time that is left.
    fn tell(&self, ledger: &Ledger, pace: &Pace, left: &[Duration]) {
        let Some(run) = ledger.runs.last() else { return };
        let labels = ledger.definition.points[run.point].labels.join(", ");
        let figures = run.figures.map_or("no figures".to_owned(), |figures| {
            let p99 = figures.p99_ms.map_or("–".to_owned(), |ms| format!("{ms:.1} ms"));
            format!("{:.0}/s, p99 {p99}", figures.rate)
        });
        let remark =
            if run.remark.is_empty() { String::new() } else { format!("; {}", run.remark) };
        let (done, seconds) = (ledger.runs.len(), pace.left(left).as_secs_f64());
        eprintln!(
            "[{done} done, {} to come, about {:.0} min] {labels}: {figures}{remark}",
            left.len(),
            seconds / 60.0
        );
    }
}

/// How runs take against what was expected.
#[derive(Debug, Default)]
struct Pace {
    expected: Duration,
    took: Duration,
}

impl Pace {
    fn note(&mut self, expected: Duration, took: Duration) {
        self.expected += expected;
        self.took += took;
    }

    fn left(&self, expected: &[Duration]) -> Duration {
        let sum: Duration = expected.iter().sum();
        let ratio = match self.expected.as_secs_f64() {
            0.0 => 1.0,
            all => self.took.as_secs_f64() / all,
        };
        sum.mul_f64(ratio)
    }
}

/// What a run came to.
fn exit_of_done(run: &Done) -> Exit {
    match (run.violated, run.failed, run.remark.is_empty()) {
        (true, _, _) => Exit::Violation,
        (false, true, _) => Exit::Harness,
        (false, false, false) => Exit::Inconclusive,
        (false, false, true) => Exit::Good,
    }
}

fn done((point, repeat): (usize, u32), ended: &Ended) -> Done {
    let name = ended.folder.root().file_name().unwrap_or_default();
    Done {
        point,
        repeat,
        folder: name.to_string_lossy().into_owned(),
        remark: match verdict::exit_of(ended) {
            Exit::Good => String::new(),
            Exit::Violation | Exit::Inconclusive | Exit::BadSpec | Exit::Harness => {
                verdict::reasons(ended)
            }
        },
        violated: verdict::exit_of(ended) == Exit::Violation,
        failed: verdict::exit_of(ended) == Exit::Harness,
        spoilt: ended.judged.as_ref().is_some_and(Judged::is_spoilt_by_host),
        figures: ended.summary.as_ref().map(RunFigures::from),
    }
}

fn rows(ledger: &Ledger) -> Vec<Vec<String>> {
    let told = |of: Option<Estimate>, digits: usize| {
        let Some(found) = of else { return "–".to_owned() };
        let interval =
            found.interval.map(|(low, high)| format!(" [{low:.digits$}, {high:.digits$}]"));
        format!("{:.digits$}{}", found.mean, interval.unwrap_or_default())
    };
    let row = |(at, point): (usize, &crate::sweep::PointOfSweep)| {
        let runs = || ledger.runs.iter().filter(move |run| run.point == at);
        let remarks = runs().map(|run| run.remark.as_str()).filter(|remark| !remark.is_empty());
        let remark =
            point.refused.clone().unwrap_or_else(|| remarks.collect::<Vec<_>>().join("; "));
        let p99 = told(mean_of(ledger, at, |run| run.p99_ms), 1);
        let mut row = point.labels.clone();
        row.extend([
            format!("{} good of {}", ledger.good(at).count(), runs().count()),
            told(mean_of(ledger, at, |run| Some(run.rate)), 0),
            if p99 == "–" { p99 } else { format!("{p99} ms") },
            remark,
        ]);
        row
    };
    ledger.definition.points.iter().enumerate().map(row).collect()
}
