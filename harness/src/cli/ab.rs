//! `quorate ab`: two builds, or two settings, run in turns on fresh servers with common seeds; goes
//! on where one that was killed had come to.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::arguments::AbArguments;
use super::compared::{gate, tell_ab};
use super::resume::{TakenUp, take_up};
use super::run::{blocking, program, shown};
use super::{Exit, Output, VERSION, verdict};
use crate::ab::{Ab, Arm, Definition, Done, RUNS, Side, Turn, turns};
use crate::plan::{Plan, build};
use crate::resume::Resumable as _;
use crate::run::choice::{self, Choice, Offer, StageName};
use crate::run::interrupt::Interrupt;
use crate::run::judge::Judged;
use crate::run::place::Cause;
use crate::run::{Ended, Job, identities};
use crate::spec::{SpecError, workload};
use crate::stage::StageOptions;

pub(super) fn ab(arguments: &AbArguments) -> anyhow::Result<Exit> {
    let place = &arguments.place;
    let gate = gate(arguments.gate.as_deref())?;
    let plans = [plans(arguments, Side::A)?, plans(arguments, Side::B)?];
    let (choice, options) = choose(arguments, &plans)?;
    let definition = define(arguments, &plans, &choice, &options)?;
    let label = format!("ab-{}-{}", definition.name, definition.seed);
    let TakenUp { folder, state: ab, went_on, held: _held } =
        take_up(&place.out, arguments.fresh, Ab::new(definition), &label)?;
    if !place.json {
        announce(&choice, &ab, went_on, &folder)?;
    }
    let running = Running { arguments, plans, choice, options, folder: folder.clone() };
    let (ab, ran) = blocking(running.run(ab))?;
    let told = tell_ab(&folder, &ab, &gate, !place.json, (Some(&place.out), &folder))?;
    let exit = told.exit.merge(ran);
    if place.json {
        let mut json = told.json;
        json["exit"] = exit.code().into();
        Output.json(&json)?;
    }
    Ok(exit)
}

/// What a side alone has.
fn own(arguments: &AbArguments, side: Side) -> (&Path, &Vec<String>) {
    match side {
        Side::A => (&arguments.a, &arguments.set_a),
        Side::B => (&arguments.b, &arguments.set_b),
    }
}

/// The plans of a side's runs, in the order of their seeds.
fn plans(arguments: &AbArguments, side: Side) -> anyhow::Result<Vec<Plan>> {
    let mut overrides = arguments.spec.overrides()?;
    for assignment in own(arguments, side).1 {
        overrides.add(assignment)?;
    }
    let mut spec = workload(&arguments.spec.file, &overrides)?;
    // The folders of the runs say which side they are of.
    spec.name = format!("{}-{}", spec.name, format!("{side:?}").to_lowercase());
    let pairs = arguments.blocks * RUNS as u32 / 2;
    let seeds = (0..u64::from(pairs)).map(|pair| spec.seed.wrapping_add(pair));
    let plans = seeds.map(|seed| build(&spec, seed).map_err(SpecError::Invalid));
    Ok(plans.collect::<Result<_, _>>()?)
}

/// The stage of all runs, and what it runs of A and of B.
fn choose(
    arguments: &AbArguments,
    plans: &[Vec<Plan>; 2],
) -> anyhow::Result<(Choice, [StageOptions; 2])> {
    let (asked, given) = (&arguments.place.stage.stage, arguments.place.options());
    let first = StageOptions { node: Some(arguments.a.clone()), ..given.clone() };
    let offer = Offer::ask(asked, &first)?;
    let mut chosen: Option<Choice> = None;
    for plan in plans.iter().flatten() {
        let choice = choice::choose(asked, plan, &first, &offer)?;
        // All runs at one stage, or they could not be compared.
        if chosen.is_none() || choice.stage == StageName::Process {
            chosen = Some(choice);
        }
    }
    let Some(choice) = chosen else { anyhow::bail!("no run was asked for") };
    let of = |side| {
        let named = own(arguments, side).0.to_path_buf();
        let given = given.clone();
        match choice.stage {
            StageName::Process => StageOptions { node: Some(named), ..given },
            StageName::Sim => StageOptions { sim: Some(named), ..given },
            StageName::Docker => StageOptions { node_image: named.display().to_string(), ..given },
        }
    };
    let options = [of(Side::A), of(Side::B)];
    Ok((choice, options))
}

fn define(
    arguments: &AbArguments,
    plans: &[Vec<Plan>; 2],
    choice: &Choice,
    options: &[StageOptions; 2],
) -> anyhow::Result<Definition> {
    let arm = |side: Side| -> anyhow::Result<Arm> {
        let proxied = plans.iter().flatten().any(|plan| plan.topology.proxied);
        let options = &options[side as usize];
        let stage = choice.stage;
        let programs = blocking(async { Ok(identities(stage, options, proxied).await?) })?;
        let (program, set) = own(arguments, side);
        Ok(Arm { program: program.display().to_string(), programs, set: set.clone() })
    };
    // Plans are made of numbers and words: they always have a form in JSON.
    let json = serde_json::to_vec(plans)?;
    let hash: String = Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect();
    let (name, seed) =
        plans[0].first().map(|plan| (plan.name.clone(), plan.seed)).unwrap_or_default();
    Ok(Definition {
        name: name.strip_suffix("-a").unwrap_or(&name).to_owned(),
        harness: VERSION.to_owned(),
        seed,
        blocks: arguments.blocks,
        stage: choice.stage.to_string(),
        options: arguments.place.given(),
        a: arm(Side::A)?,
        b: arm(Side::B)?,
        plans: hash,
    })
}

fn announce(choice: &Choice, ab: &Ab, went_on: bool, folder: &Path) -> anyhow::Result<()> {
    let definition = &ab.definition;
    Output.line(choice)?;
    for (side, arm) in [("A", &definition.a), ("B", &definition.b)] {
        let hash = arm.programs.first().map_or("", |(_, hash)| hash.get(..12).unwrap_or(hash));
        let set = arm.set.iter().map(|set| format!(" {set}")).collect::<String>();
        Output.line(format!("{side}: {} ({hash}){set}", arm.program))?;
    }
    let (name, blocks) = (&definition.name, definition.blocks);
    Output.line(format!("{name}: {blocks} blocks of {RUNS} runs, in {}", folder.display()))?;
    if went_on {
        Output.line(format!("goes on behind {} runs", ab.runs.len()))?;
    }
    Ok(())
}

/// Two sides being run.
struct Running<'a> {
    arguments: &'a AbArguments,
    /// Of A and of B.
    plans: [Vec<Plan>; 2],
    choice: Choice,
    /// Of A and of B.
    options: [StageOptions; 2],
    folder: PathBuf,
}

impl Running<'_> {
    /// Runs what is wanted until nothing is, or the user stops it. What it gives back is about the
    /// runs themselves, not about how they compare.
    async fn run(self, mut ab: Ab) -> anyhow::Result<(Ab, Exit)> {
        let interrupt = Interrupt::listen()?;
        let turns = turns(ab.definition.blocks);
        let quiet = self.arguments.place.quiet || self.arguments.place.json;
        let mut index = 0;
        let mut exit = Exit::Good;
        while let Some(turn) = turns.get(index).copied() {
            // The same one comes again when it was spoilt, and is wanted still.
            if !ab.is_wanted(turn) {
                index += 1;
                continue;
            }
            let Some(job) = self.job(turn) else { anyhow::bail!("there is no plan for {turn:?}") };
            let ended = shown(job, &interrupt, self.arguments.place.manner()).await?;
            if interrupt.stop.is_cancelled() {
                // Half a run is none: the next start does it again. What it found was found.
                exit = verdict::exit_of(&ended);
                break;
            }
            ab.runs.push(done(turn, &ended));
            ab.write(&self.folder)?;
            if !quiet {
                tell(&ab, turns.len());
            }
        }
        ab.finished = !interrupt.stop.is_cancelled();
        ab.write(&self.folder)?;
        let counted = ab.runs.iter().filter(|run| !ab.is_made_good(run));
        Ok((ab.clone(), counted.map(exit_of_done).fold(exit, Exit::merge)))
    }

    fn job(&self, turn: Turn) -> Option<Job> {
        let (spec, side) = (&self.arguments.spec, turn.side as usize);
        let plan = self.plans[side].get(turn.seed_offset() as usize)?.clone();
        let (named, own) = own(self.arguments, turn.side);
        let mut set = spec.set.clone();
        set.extend(own.iter().cloned());
        let mut options = self.arguments.place.given();
        if self.choice.stage == StageName::Process {
            options.retain(|(name, _)| name != "--node-bin");
            options.push(("--node-bin".to_owned(), named.display().to_string()));
        }
        let cause = Cause {
            workload: spec.file.clone(),
            scenario: spec.scenario.clone(),
            set,
            program: program(),
            options,
        };
        let (choice, stage) = (self.choice.clone(), self.options[side].clone());
        Some(Job { plan, cause, choice, out: self.folder.clone(), latest: false, stage })
    }
}

/// One line behind each run.
fn tell(ab: &Ab, all: usize) {
    let Some(run) = ab.runs.last() else { return };
    let good = ab.runs.iter().filter(|run| run.remark.is_empty()).count();
    let remark = if run.remark.is_empty() { "good" } else { &run.remark };
    let Turn { block, side, .. } = run.turn;
    eprintln!("[{good} good of {all}] block {}, {side:?}: {remark}", block + 1);
}

fn exit_of_done(run: &Done) -> Exit {
    match (run.violated, run.failed) {
        (true, _) => Exit::Violation,
        (false, true) => Exit::Harness,
        (false, false) => Exit::Good,
    }
}

fn done(turn: Turn, ended: &Ended) -> Done {
    let exit = verdict::exit_of(ended);
    let name = ended.folder.root().file_name().unwrap_or_default();
    let remark = match verdict::reasons(ended) {
        _ if exit == Exit::Good => String::new(),
        reasons if reasons.is_empty() => "not judged good".to_owned(),
        reasons => reasons,
    };
    Done {
        turn,
        folder: name.to_string_lossy().into_owned(),
        remark,
        violated: exit == Exit::Violation,
        failed: exit == Exit::Harness,
        spoilt: ended.judged.as_ref().is_some_and(Judged::is_spoilt_by_host),
    }
}
