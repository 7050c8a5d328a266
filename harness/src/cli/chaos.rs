//! `quorate chaos --random`: rounds of a workload under faults drawn from a seed; goes on where
//! one that was killed had come to.

use std::path::Path;

use quorate_check::history::Phase;
use sha2::{Digest, Sha256};

use super::arguments::{ChaosArguments, wrong};
use super::resume::{TakenUp, take_up};
use super::run::{blocking, program, shown};
use super::{Exit, Output, VERSION, verdict};
use crate::figures::bootstrap::Estimate;
use crate::folder::{FaultAction, FaultRecord, NodeSample, PhaseMark, RunFolder};
use crate::plan::{Plan, build};
use crate::resume::Resumable;
use crate::run::choice::{self, Choice, Offer};
use crate::run::interrupt::Interrupt;
use crate::run::place::Cause;
use crate::run::{Ended, Job, identities};
use crate::soak::{
    Campaign, Deck, Definition, Growth, MASTERS_MIN, ROUND_MS_MIN, Round, Slopes, Weights, round,
    seed_of, usual_weights, weights,
};
use crate::spec::{Overrides, Span, SpecError, workload};
use crate::sweep::Means;

/// How often a round is tried at which the harness itself fails.
const TRIES_MAX: u32 = 3;
/// Rounds in a row that could not be run: the next one will not do better.
const BROKEN_MAX: u32 = 2;

pub(super) fn chaos(arguments: &ChaosArguments) -> anyhow::Result<Exit> {
    let place = &arguments.place;
    let ready = Ready::check(arguments)?;
    let definition = ready.definition()?;
    let label = format!("chaos-{}-{}", definition.name, definition.seed);
    let new = Campaign::new(definition);
    let TakenUp { folder, state: campaign, held: _held, .. } =
        take_up(&place.out, arguments.fresh, new, &label)?;
    if !place.json {
        ready.announce(&campaign, &folder)?;
    }
    let (campaign, exit) = blocking(ready.run(campaign, &folder))?;
    tell(&campaign, &folder, exit, place.json)?;
    Ok(exit)
}

/// Everything that must be known before a server is started.
struct Ready<'a> {
    arguments: &'a ChaosArguments,
    deck: Deck,
    /// What is never drawn, and why.
    refused: Vec<String>,
    /// The stage of all rounds.
    choice: Choice,
    offer: Offer,
    /// A plan of the workload, for its topology.
    base: Plan,
}

impl<'a> Ready<'a> {
    fn check(arguments: &'a ChaosArguments) -> anyhow::Result<Self> {
        if arguments.round.as_ms() < ROUND_MS_MIN {
            let least = Span::millis(ROUND_MS_MIN);
            let what = format!("{} is too short; legal: from {least} on", arguments.round);
            return Err(wrong("--round", what).into());
        }
        if arguments.duration.as_ms() == 0 {
            return Err(wrong("--duration", "must be more than 0s").into());
        }
        let asked = arguments.weights.as_deref().map(weights).transpose();
        let asked = asked.map_err(|what| wrong("--weights", what))?;
        let (stage, options) = (&arguments.place.stage.stage, arguments.place.options());
        let base = plan_of(arguments, BARE, arguments.seed)?;
        if base.topology.masters.len() < MASTERS_MIN {
            let (file, found) = (arguments.file.display(), base.topology.masters.len());
            let what = format!(
                "{found} MASTERs have no minority; legal: {MASTERS_MIN} or more, as with \
                 --set topology.masters=3"
            );
            return Err(wrong(&file.to_string(), what).into());
        }
        let offer = Offer::ask(stage, &options)?;
        let choice = choice::choose(stage, &base, &options, &offer)?;
        let (deck, refused) = (Deck::default(), Vec::new());
        let mut ready = Self { arguments, deck, refused, choice, offer, base };
        ready.shuffle(asked)?;
        Ok(ready)
    }

    /// Puts together what can be drawn: every form is asked about before anything starts.
    fn shuffle(&mut self, asked: Option<Weights>) -> Result<(), SpecError> {
        let all = asked.is_none();
        for (hurt, weight) in asked.unwrap_or_else(usual_weights) {
            let mut forms = hurt.forms(&self.base.topology);
            let count = forms.len();
            let mut why = None;
            forms.retain(|form| match self.can_do(&hurt.probe(form)) {
                Ok(()) => true,
                Err(reason) => {
                    why.get_or_insert((form.clone(), reason));
                    false
                }
            });
            let left = forms.len();
            self.deck.add(hurt, weight, forms);
            match why {
                None => {}
                Some((_, why)) if left == 0 && !all => {
                    return Err(wrong("--weights", format!("{}: {why}", hurt.word())));
                }
                Some((_, why)) if left == 0 => self.refused.push(format!("{}: {why}", hurt.word())),
                Some((form, why)) => {
                    let gone = count - left;
                    self.refused.push(format!("{gone} of {count} forms of {form}: {why}"));
                }
            }
        }
        if self.deck.is_empty() {
            let what = format!("nothing can be drawn: {}", self.refused.join("; "));
            return Err(wrong("--weights", what));
        }
        Ok(())
    }

    /// Whether the workload and the stage allow a scenario; why not, if not.
    fn can_do(&self, scenario: &str) -> Result<(), String> {
        let plan = plan_of(self.arguments, scenario, self.arguments.seed);
        let plan = plan.map_err(|error| error.to_string())?;
        let (stage, options) = (self.choice.stage.to_string(), self.arguments.place.options());
        let choice = choice::choose(&stage, &plan, &options, &self.offer);
        choice.map(drop).map_err(|refused| refused.to_string())
    }

    fn definition(&self) -> anyhow::Result<Definition> {
        let arguments = self.arguments;
        let round_ms = arguments.round.as_ms();
        let rounds = arguments.duration.as_ms().div_ceil(round_ms);
        let first = plan_of(arguments, &self.scenario(1), seed_of(arguments.seed, 1))?;
        let hash = Sha256::digest(serde_json::to_vec(&first)?);
        let stage = self.choice.stage;
        let (options, proxied) = (arguments.place.options(), first.topology.proxied);
        let programs = blocking(async { Ok(identities(stage, &options, proxied).await?) })?;
        Ok(Definition {
            name: self.base.name.clone(),
            workload: arguments.file.clone(),
            plan: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            set: arguments.set.clone(),
            harness: VERSION.to_owned(),
            seed: arguments.seed,
            rounds: u32::try_from(rounds).unwrap_or(u32::MAX),
            round_ms,
            weights: self.deck.told(),
            means: Means { stage: stage.to_string(), options: arguments.place.given(), programs },
        })
    }

    fn scenario(&self, number: u32) -> String {
        let which = (self.arguments.seed, number);
        round(which, &self.deck, self.arguments.round.as_ms())
    }

    fn announce(&self, campaign: &Campaign, folder: &Path) -> anyhow::Result<()> {
        let definition = &campaign.definition;
        Output.line(&self.choice)?;
        for what in &self.refused {
            Output.line(format!("never {what}"))?;
        }
        let (rounds, lasts) = (definition.rounds, self.arguments.round);
        let (name, seed) = (&definition.name, definition.seed);
        let folder = folder.display();
        Output.line(format!("{name}: {rounds} rounds of {lasts} from seed {seed}, in {folder}"))?;
        if !campaign.rounds.is_empty() {
            Output.line(format!("goes on behind {} rounds", campaign.rounds.len()))?;
        }
        Ok(())
    }

    /// Runs round after round until none is left, the user stops it, or nothing can be run.
    async fn run(&self, mut campaign: Campaign, to: &Path) -> anyhow::Result<(Campaign, Exit)> {
        let interrupt = Interrupt::listen()?;
        let quiet = self.arguments.place.quiet || self.arguments.place.json;
        let mut exit = Exit::Good;
        let (mut tries, mut broken) = (0, 0);
        while let Some(number) = campaign.next() {
            tries += 1;
            let ended =
                shown(self.job(number, to)?, &interrupt, self.arguments.place.manner()).await;
            let round = done(number, tries, &ended);
            let stopped = interrupt.stop.is_cancelled();
            let then = then(exit_of_round(&round), stopped, tries);
            if then != Then::Keep || stopped {
                eprintln!("round {number}: {}", round.remark);
            } else if !quiet {
                eprintln!("{}", told(&campaign, &round, &ended));
            }
            match then {
                Then::Keep => {
                    let failed = exit_of_round(&round) == Exit::Harness;
                    broken = if failed { broken + 1 } else { 0 };
                    tries = 0;
                    campaign.rounds.push(round);
                    campaign.write(to)?;
                }
                Then::Again => continue,
                // Half a round is none: the next start does it again.
                Then::Stop => exit = Exit::Inconclusive.merge(exit_of_round(&round)),
            }
            if stopped {
                exit = exit.merge(Exit::Inconclusive);
                break;
            }
            if broken == BROKEN_MAX {
                eprintln!("{BROKEN_MAX} rounds in a row could not be run: it ends here");
                break;
            }
        }
        let exits = campaign.rounds.iter().map(exit_of_round);
        let exit = exits.fold(exit, Exit::merge);
        Ok((campaign, exit))
    }

    fn job(&self, number: u32, to: &Path) -> anyhow::Result<Job> {
        let arguments = self.arguments;
        // Kept, so that the round can be run again by itself.
        let scenario = to.join(format!("round-{number}.yaml"));
        std::fs::write(&scenario, self.scenario(number))?;
        let plan = plan_with(arguments, &scenario, seed_of(arguments.seed, number))?;
        let cause = Cause {
            workload: arguments.file.clone(),
            scenario: Some(scenario),
            set: settings(arguments),
            program: program(),
            options: arguments.place.given(),
        };
        let (choice, stage) = (self.choice.clone(), arguments.place.options());
        Ok(Job { plan, cause, choice, out: to.to_owned(), latest: false, stage })
    }
}

/// A scenario that everybody can do.
const BARE: &str = "name: bare\nfaults:\n  - { fault: kill, at: 1ms, for: 1ms }\n";

/// What differs from the file: what the user says, and the round's length.
fn settings(arguments: &ChaosArguments) -> Vec<String> {
    let measure = format!("phases.measure={}", arguments.round);
    arguments.set.iter().cloned().chain([measure]).collect()
}

/// The plan under a scenario that is not written anywhere.
fn plan_of(arguments: &ChaosArguments, scenario: &str, seed: u64) -> anyhow::Result<Plan> {
    let name = format!("quorate-chaos-{}.yaml", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, scenario)?;
    let plan = plan_with(arguments, &file, seed);
    std::fs::remove_file(&file)?;
    Ok(plan?)
}

fn plan_with(arguments: &ChaosArguments, scenario: &Path, seed: u64) -> Result<Plan, SpecError> {
    let scenario = Some(scenario.to_owned());
    let mut overrides = Overrides { scenario, seed: Some(seed), set: Vec::new() };
    for setting in settings(arguments) {
        overrides.add(&setting)?;
    }
    let spec = workload(&arguments.file, &overrides)?;
    build(&spec, spec.seed).map_err(SpecError::Invalid)
}

/// What follows a try of a round.
#[derive(Debug, PartialEq, Eq)]
enum Then {
    /// It is a round.
    Keep,
    /// It is tried again.
    Again,
    /// It is none, and no other follows.
    Stop,
}

fn then(exit: Exit, stopped: bool, tries: u32) -> Then {
    match exit {
        // What was found was found.
        Exit::Violation => Then::Keep,
        _ if stopped => Then::Stop,
        Exit::Harness if tries < TRIES_MAX => Then::Again,
        Exit::Harness | Exit::BadSpec | Exit::Inconclusive | Exit::Good => Then::Keep,
    }
}

/// How a round went, for those who watch.
fn told(campaign: &Campaign, round: &Round, ended: &anyhow::Result<Ended>) -> String {
    let (of, faults) = (campaign.definition.rounds, round.faults);
    let name = format!("round {}", round.number);
    let line = match ended {
        Ok(ended) => verdict::last_line(&name, ended),
        Err(_) => format!("ERROR: {name}: {}", round.remark),
    };
    format!("[{} of {of}, {faults} faults] {line}", round.number)
}

fn done(number: u32, tries: u32, ended: &anyhow::Result<Ended>) -> Round {
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            let (exit, remark) = (Exit::Harness.code(), format!("the harness failed: {error:#}"));
            return Round { number, folder: String::new(), exit, faults: 0, tries, remark };
        }
    };
    let exit = verdict::exit_of(ended);
    let name = ended.folder.root().file_name().unwrap_or_default();
    let faults = lines::<FaultRecord>(&ended.folder.faults());
    Round {
        number,
        folder: name.to_string_lossy().into_owned(),
        exit: exit.code(),
        faults: faults.iter().filter(|record| record.action == FaultAction::Inject).count(),
        tries,
        remark: if exit == Exit::Good { String::new() } else { verdict::reasons(ended) },
    }
}

/// What a file of a run has, a line each. One that is not there, or was cut off, has nothing more.
fn lines<T: serde::de::DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn exit_of_round(round: &Round) -> Exit {
    match round.exit {
        0 => Exit::Good,
        1 => Exit::Violation,
        2 => Exit::Inconclusive,
        3 => Exit::BadSpec,
        _ => Exit::Harness,
    }
}

/// Growth over all rounds, from the samples in their folders.
fn slopes(campaign: &Campaign, folder: &Path) -> Slopes {
    let mut growth = Growth::default();
    for round in campaign.rounds.iter().filter(|round| !round.folder.is_empty()) {
        let run = RunFolder::new(folder.join(&round.folder));
        let marks = lines::<PhaseMark>(&run.phases());
        // A round that never measured has no server whose growth was seen.
        if let Some(mark) = marks.iter().find(|mark| mark.phase == Phase::Measure) {
            growth.add(&lines::<NodeSample>(&run.nodes()), mark.from);
        }
    }
    growth.slopes()
}

fn tell(campaign: &Campaign, folder: &Path, exit: Exit, json: bool) -> anyhow::Result<()> {
    let slopes = slopes(campaign, folder);
    let name = &campaign.definition.name;
    if json {
        return Output.json(&serde_json::json!({
            "chaos": name, "seed": campaign.definition.seed, "exit": exit.code(),
            "folder": folder, "of": campaign.definition.rounds, "rounds": campaign.rounds,
            "growth_per_hour": slopes,
        }));
    }
    let rows = campaign.rounds.iter().map(|round| {
        let word = match exit_of_round(round) {
            Exit::Good => "ok",
            Exit::Violation => "FAILED",
            Exit::Inconclusive => "inconclusive",
            Exit::BadSpec | Exit::Harness => "error",
        };
        let (number, faults) = (round.number.to_string(), round.faults.to_string());
        vec![number, word.to_owned(), faults, round.folder.clone(), round.remark.clone()]
    });
    Output.line("")?;
    Output.table(&["round", "", "faults", "run", "remark"], rows.collect())?;
    let mib = 1_048_576.0;
    Output.line(format!("\nmemory of a server: {}", growth(slopes.memory, mib, "MiB")))?;
    Output.line(format!("its open files: {}", growth(slopes.files, 1.0, "files")))?;
    let (done, of) = (campaign.rounds.len(), campaign.definition.rounds);
    let faults: usize = campaign.rounds.iter().map(|round| round.faults).sum();
    let place = folder.display();
    Ok(Output.line(format!("{name}: {done} of {of} rounds, {faults} faults: {place}"))?)
}

fn growth(slope: Option<Estimate>, unit: f64, word: &str) -> String {
    let Some(slope) = slope else { return "nobody lived long enough to tell".to_owned() };
    let mean = slope.mean / unit;
    let interval = slope
        .interval
        .map_or(String::new(), |(low, high)| format!(" [{:+.1}, {:+.1}]", low / unit, high / unit));
    format!("{mean:+.1} {word} an hour{interval}, over {} rounds", slope.runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_is_kept_however_the_round_ended_and_a_failure_is_tried_again_at_most_twice() {
        for (exit, stopped, tries, expected) in [
            (Exit::Violation, true, 1, Then::Keep),
            (Exit::Good, false, 1, Then::Keep),
            (Exit::Inconclusive, false, 1, Then::Keep),
            (Exit::Inconclusive, true, 1, Then::Stop),
            (Exit::Harness, true, 1, Then::Stop),
            (Exit::Harness, false, 1, Then::Again),
            (Exit::Harness, false, TRIES_MAX - 1, Then::Again),
            (Exit::Harness, false, TRIES_MAX, Then::Keep),
        ] {
            assert_eq!(then(exit, stopped, tries), expected, "{exit:?} {stopped} {tries}");
        }
    }
}
