//! `quorate capacity`: the highest rate of a workload that meets an objective; goes on where one
//! that was killed had come to.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::arguments::{CapacityArguments, wrong};
use super::resume::{TakenUp, take_up};
use super::run::{blocking, program, shown};
use super::{Exit, Output, VERSION, verdict};
use crate::capacity::{
    Bounds, Definition, Doubt, Figures, Objective, Outcome, Probe, Search, Step,
};
use crate::folder::SoundnessFinding;
use crate::plan::{LoadMode, Plan, build};
use crate::report;
use crate::resume::Resumable;
use crate::run::choice::{self, Choice, Offer};
use crate::run::interrupt::Interrupt;
use crate::run::place::Cause;
use crate::run::{Ended, Job, identities};
use crate::spec::{SpecError, workload};
use crate::sweep::Means;

pub(super) fn capacity(arguments: &CapacityArguments) -> anyhow::Result<Exit> {
    let place = &arguments.place;
    let searching = Searching::check(arguments)?;
    let definition = searching.definition()?;
    let label = format!("capacity-{}-{}", definition.name, definition.seed);
    let new = Search::new(definition);
    let TakenUp { folder, state: search, held: _held, .. } =
        take_up(&place.out, arguments.fresh, new, &label)?;
    if !place.json {
        searching.announce(&search, &folder)?;
    }
    let (search, exit) = blocking(searching.run(search, &folder))?;
    let page = report::capacity(&folder, &search)?;
    tell(&search, &folder, &page, exit, place.json)?;
    Ok(exit)
}

/// Everything that must be known before a server is started.
struct Searching<'a> {
    arguments: &'a CapacityArguments,
    objective: Objective,
    bounds: Bounds,
    choice: Choice,
    /// The plan at the first rate.
    first: Plan,
}

impl<'a> Searching<'a> {
    fn check(arguments: &'a CapacityArguments) -> anyhow::Result<Self> {
        let is_share = |share: f64| share > 0.0 && share < 1.0;
        if arguments.p99.as_ms() == 0 {
            return Err(wrong("--p99", "must be more than 0s").into());
        }
        if !(0.0..1.0).contains(&arguments.refused) {
            return Err(wrong("--refused", "legal: 0 up to, not including, 1").into());
        }
        if !is_share(arguments.within) {
            return Err(wrong("--within", "legal: more than 0 and less than 1").into());
        }
        if arguments.from > arguments.most {
            return Err(wrong("--from", "is above --most").into());
        }
        let first = plan_of(arguments, arguments.from, 0)?;
        if !first.faults.is_empty() {
            let what = "has faults; what servers can do is looked for without any";
            return Err(wrong(&arguments.spec.file.display().to_string(), what).into());
        }
        let (stage, options) = (&arguments.place.stage.stage, arguments.place.options());
        let choice = choice::choose(stage, &first, &options, &Offer::ask(stage, &options)?)?;
        let p99_ms = arguments.p99.as_ms() as f64;
        let CapacityArguments { from, most, within, repeats, refused, .. } = *arguments;
        Ok(Self {
            arguments,
            objective: Objective { p99_ms, refused },
            bounds: Bounds { from, most, within, repeats },
            choice,
            first,
        })
    }

    fn definition(&self) -> anyhow::Result<Definition> {
        let (arguments, stage) = (self.arguments, self.choice.stage);
        let hash = Sha256::digest(serde_json::to_vec(&self.first)?);
        let (options, proxied) = (arguments.place.options(), self.first.topology.proxied);
        let programs = blocking(async { Ok(identities(stage, &options, proxied).await?) })?;
        Ok(Definition {
            name: self.first.name.clone(),
            workload: arguments.spec.file.clone(),
            plan: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            set: arguments.spec.set.clone(),
            harness: VERSION.to_owned(),
            seed: self.first.seed,
            objective: self.objective,
            bounds: self.bounds,
            means: Means { stage: stage.to_string(), options: arguments.place.given(), programs },
        })
    }

    fn announce(&self, search: &Search, folder: &Path) -> anyhow::Result<()> {
        let (name, folder) = (&search.definition.name, folder.display());
        Output.line(&self.choice)?;
        Output.line(format!("{name}: {}, in {folder}", self.objective))?;
        if !search.runs.is_empty() {
            Output.line(format!("goes on behind {} runs", search.runs.len()))?;
        }
        Ok(())
    }

    /// Runs rate after rate until the search ends, or the user stops it.
    async fn run(&self, mut search: Search, to: &Path) -> anyhow::Result<(Search, Exit)> {
        let interrupt = Interrupt::listen()?;
        let quiet = self.arguments.place.quiet || self.arguments.place.json;
        let mut exit = Exit::Good;
        while let Step::Run { rate, repeat } = search.next() {
            let ended =
                shown(self.job(rate, repeat, to)?, &interrupt, self.arguments.place.manner())
                    .await?;
            let failed = verdict::exit_of(&ended) == Exit::Harness;
            if interrupt.stop.is_cancelled() || failed {
                // Half a run is none: the next start does it again.
                exit = if failed { Exit::Harness } else { Exit::Inconclusive };
                eprintln!("{rate}/s: {}", verdict::reasons(&ended));
                break;
            }
            search.runs.push(self.probe(rate, &ended));
            search.write(to)?;
            report::capacity(to, &search)?;
            if let (Some(run), false) = (search.runs.last(), quiet) {
                eprintln!("[{}] {}", search.runs.len(), cells(run).join(", "));
            }
        }
        let violated = search.runs.iter().any(|run| run.violated);
        let found = match search.next() {
            Step::Run { .. } => Exit::Inconclusive,
            Step::Done(Outcome::Found { .. } | Outcome::AtLeast { unusable: None, .. }) => {
                Exit::Good
            }
            Step::Done(
                Outcome::AtLeast { .. } | Outcome::Never { .. } | Outcome::Unusable { .. },
            ) => Exit::Inconclusive,
        };
        let safety = if violated { Exit::Violation } else { Exit::Good };
        Ok((search, exit.merge(found).merge(safety)))
    }

    fn job(&self, rate: u64, repeat: u32, to: &Path) -> anyhow::Result<Job> {
        let (spec, place) = (&self.arguments.spec, &self.arguments.place);
        let plan = plan_of(self.arguments, rate, repeat)?;
        let cause = Cause {
            workload: spec.file.clone(),
            scenario: spec.scenario.clone(),
            set: spec.set.iter().cloned().chain(at_rate(rate)).collect(),
            program: program(),
            options: place.given(),
        };
        let (choice, stage) = (self.choice.clone(), place.options());
        Ok(Job { plan, cause, choice, out: to.to_owned(), latest: false, stage })
    }

    /// What a run says. That servers refuse what is too much breaks no promise, so availability has
    /// no say here.
    fn probe(&self, rate: u64, ended: &Ended) -> Probe {
        use quorate_check::verdict::Verdict;
        let name = ended.folder.root().file_name().unwrap_or_default();
        let figures = ended.summary.as_ref().map(Figures::from);
        let safety = ended.judged.as_ref().map(|judged| judged.comparison.verdict);
        let mut remarks: Vec<String> = ended
            .judged
            .iter()
            .flat_map(|judged| judged.unsound())
            .map(|finding| format!("{}: {}", finding.code, finding.detail))
            .collect();
        if safety != Some(Verdict::Valid) {
            let mismatches = ended.judged.iter().flat_map(|judged| &judged.comparison.mismatches);
            remarks.extend(mismatches.map(ToString::to_string));
        }
        let late = |finding: &SoundnessFinding| finding.code == SoundnessFinding::DRIVER_SATURATED;
        let only_late = ended.judged.as_ref().is_some_and(|judged| judged.unsound().all(late));
        let doubt = match (safety, remarks.is_empty()) {
            (Some(Verdict::Valid), true) => Doubt::Nothing,
            (Some(Verdict::Valid), false) if only_late => Doubt::LateDriver,
            (Some(_) | None, _) => Doubt::Everything,
        };
        let said = self.objective.said(figures.as_ref(), doubt);
        Probe {
            rate,
            folder: name.to_string_lossy().into_owned(),
            said,
            remark: remarks.join("; "),
            violated: safety == Some(Verdict::Violated),
            figures,
        }
    }
}

/// What makes an open loop of that rate of any workload.
fn at_rate(rate: u64) -> [String; 2] {
    ["load.mode=open".to_owned(), format!("load.rate={rate}")]
}

fn plan_of(arguments: &CapacityArguments, rate: u64, repeat: u32) -> Result<Plan, SpecError> {
    let mut overrides = arguments.spec.overrides()?;
    for setting in at_rate(rate) {
        overrides.add(&setting)?;
    }
    let spec = workload(&arguments.spec.file, &overrides)?;
    let seed = spec.seed.wrapping_add(u64::from(repeat));
    let plan = build(&spec, seed).map_err(SpecError::Invalid)?;
    debug_assert!(matches!(plan.load.mode, LoadMode::Open { .. }));
    Ok(plan)
}

fn cells(run: &Probe) -> Vec<String> {
    let figures = |of: &dyn Fn(&Figures) -> String| run.figures.as_ref().map_or("–".into(), of);
    let p99 = |figures: &Figures| {
        figures.p99_ms.map_or("no p99".to_owned(), |p99| format!("p99 {p99:.1} ms"))
    };
    vec![
        format!("{}/s", run.rate),
        run.said.word().to_owned(),
        figures(&|figures| format!("{:.0} ok/s", figures.achieved)),
        figures(&p99),
        figures(&|figures| format!("{:.3} % refused", figures.refused * 100.0)),
        run.remark.clone(),
    ]
}

fn tell(search: &Search, folder: &Path, page: &Path, exit: Exit, json: bool) -> anyhow::Result<()> {
    let (name, told) = (&search.definition.name, search.told());
    if json {
        let outcome = match search.next() {
            Step::Run { .. } => None,
            Step::Done(outcome) => Some(outcome),
        };
        return Output.json(&serde_json::json!({
            "capacity": name, "exit": exit.code(), "folder": folder, "index": page,
            "outcome": outcome, "told": told, "definition": search.definition,
            "runs": search.runs,
        }));
    }
    Output.line("")?;
    let head = ["rate", "objective", "acknowledged", "latency", "refused", "remark"];
    Output.table(&head, search.runs.iter().map(cells).collect())?;
    Output.line(format!("\n{name} ({}): {told}", search.definition.objective))?;
    Ok(Output.line(format!("{name}: {}", page.display()))?)
}
