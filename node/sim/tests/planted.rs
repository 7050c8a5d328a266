//! Proof that the invariants can fail: each planted bug is caught, by what is meant to catch it, in
//! plain seeds of the swarm, and the same seeds without it are clean. A program of its own:
//! `--campaigns N` runs N ranges of seeds a bug and prints bug, catcher, seeds needed (median and
//! maximum). Without it there is one. Other words choose the bugs whose names contain one of them.
//!
//! FEATURES: A1, A8, A9, A10, A11, A15, H8

use std::process::ExitCode;

use parallel::parallel;
use quorate_protocol::io::Config;
use quorate_protocol::planted::Bug;
use quorate_sim::options::Options;
use quorate_sim::plant::{ControlBug, Plant, ShellBug};
use quorate_sim::world::World;

mod membership;
mod parallel;

/// Seeds between the beginnings of two campaigns.
const STRIDE: u64 = 100_000;

/// After so many seeds without a catch a bug counts as missed.
const SEEDS_MAX: u64 = 4_000;

/// A kind of seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swarm {
    Plain,
    /// Write quorums below a majority.
    LowQuorums,
    /// Write quorums that go below a majority and back.
    Crossing,
    /// Servers that come and go.
    Membership,
}

const SWARMS: [Swarm; 4] = [Swarm::Plain, Swarm::LowQuorums, Swarm::Crossing, Swarm::Membership];

/// A bug and what must catch it.
struct Row {
    /// Of what kind its seeds are.
    swarm: Swarm,
    name: &'static str,
    /// The rule it breaks: of PROTOCOL.md, or of its part 2.
    rule: &'static str,
    plant: Plant,
    /// The invariant or checker meant for it. A machine that stops because its own state has
    /// become impossible does not count.
    caught_by: &'static [&'static str],
}

const fn machine(
    name: &'static str,
    rule: &'static str,
    machine: fn(&mut Config),
    caught_by: &'static [&'static str],
) -> Row {
    let plant = Plant { machine, ..Plant::NONE };
    Row { swarm: Swarm::Plain, name, rule, plant, caught_by }
}

const fn shell(
    name: &'static str,
    rule: &'static str,
    bug: ShellBug,
    caught_by: &'static [&'static str],
) -> Row {
    let plant = Plant { shell: Some(bug), ..Plant::NONE };
    Row { swarm: Swarm::Plain, name, rule, plant, caught_by }
}

/// Every bug. Where the first thing to notice may differ from seed to seed, each is listed.
fn rows() -> Vec<Row> {
    let rows = commits_and_votes().into_iter().chain(recovery_and_bases());
    let rows = rows.chain(alignment()).chain(relays()).chain(generations());
    let rows = rows.chain(disks()).chain(control_plane()).chain(below_majority());
    rows.chain(membership::rows()).collect()
}

fn commits_and_votes() -> Vec<Row> {
    vec![
        machine(
            "commit on W Yes, without the Accept round",
            "3.5.3, X1, O1",
            |c| c.planted = Some(Bug::CommitOnQuorum),
            &["durable-before-ok"],
        ),
        machine(
            "Accept(1, aborted) on silence",
            "3.5.3, X2, A7",
            |c| c.planted = Some(Bug::AbortOnSilence),
            &["one-outcome", "failed-write-visible", "all-or-nothing"],
        ),
        machine(
            "a No becomes a Yes after a restart",
            "3.4.4, X3",
            |c| c.planted = Some(Bug::NoIsForgotten),
            &["votes-stand"],
        ),
        machine(
            "state forgotten when the outcome is learned",
            "3.9, X4, A5",
            |c| c.planted = Some(Bug::ForgetOnLearning),
            &["votes-stand", "one-outcome", "exact-bases"],
        ),
        machine(
            "a cluster applies its own value",
            "3.5.4, X5, O6, A8",
            |c| c.planted = Some(Bug::ApplyOwnValue),
            &["all-or-nothing", "bank-total", "unique-key", "edges-symmetric"],
        ),
        machine(
            "votes leave before they are durable",
            "3.2, A11",
            |c| c.planted = Some(Bug::VoteBeforeDurable),
            &["durable-before-ok"],
        ),
        machine(
            "a majority read ignores undecided votes",
            "3.8, O5, A9",
            |c| c.planted = Some(Bug::ReadIgnoresVotes),
            &["linearizable"],
        ),
        machine(
            "a base is compared by its version only",
            "3.4.3b, A4",
            |c| c.planted = Some(Bug::BaseByVersion),
            &["one-commit-per-base", "exact-bases"],
        ),
        machine(
            "a majority read is answered by one server",
            "3.8, A10",
            |c| c.planted = Some(Bug::ReadOneServer),
            &["linearizable"],
        ),
    ]
}

fn recovery_and_bases() -> Vec<Row> {
    vec![
        machine(
            "a Prepare that comes again is judged again",
            "3.4.4",
            |c| c.planted = Some(Bug::VoteTwice),
            &["votes-stand"],
        ),
        machine(
            "a promise does not keep from voting",
            "3.4.1, A11",
            |c| c.planted = Some(Bug::VoteAfterPromise),
            &["votes-stand"],
        ),
        machine(
            "recovery aborts whatever was accepted",
            "3.7.3, A7",
            |c| c.planted = Some(Bug::RecoverToAbort),
            &["one-outcome", "failed-write-visible", "all-or-nothing"],
        ),
        machine(
            "recovery counts silence as a possible Yes",
            "3.7.3, O1, A1",
            |c| c.planted = Some(Bug::RecoverFromSilence),
            &["one-commit-per-base", "one-outcome"],
        ),
        machine(
            "a commit that is in is applied again",
            "3.6.3",
            |c| c.planted = Some(Bug::ApplyTwice),
            &["exact-bases"],
        ),
        machine(
            "locks are not rebuilt at the start",
            "3.2, A27",
            |c| c.planted = Some(Bug::LoseLocks),
            &["one-commit-per-base", "no-corruption"],
        ),
        machine(
            "a new boot numbers its transactions anew",
            "3.1, A6",
            |c| c.planted = Some(Bug::ReuseIds),
            &["one-content", "votes-stand", "durable-before-ok"],
        ),
        machine(
            "ok when the own server has voted",
            "3.5.3",
            |c| c.planted = Some(Bug::AckBeforeQuorum),
            &["durable-before-ok"],
        ),
        machine(
            "base stamps are not compared",
            "3.4.3b",
            |c| c.planted = Some(Bug::SkipVersionCheck),
            &["one-commit-per-base", "exact-bases"],
        ),
    ]
}

fn alignment() -> Vec<Row> {
    vec![
        machine(
            "a tombstone is dropped when the server has it",
            "3.9, A18, A20",
            |c| c.planted = Some(Bug::TombstoneDroppedEarly),
            &["tombstone-kept"],
        ),
        machine(
            "a witness drops a content when it has applied it",
            "3.9, machine/witness",
            |c| c.planted = Some(Bug::ContentDroppedEarly),
            &["content-kept"],
        ),
        machine(
            "back ONLINE without what was decided meanwhile",
            "3.6.5",
            |c| c.planted = Some(Bug::BackBeforeMeanwhile),
            // What it lacks makes its copy another one; it has half a transaction only if the other
            // half came by comparison, which takes thousands of seeds to happen.
            &[
                "converges-after-heal",
                "all-or-nothing",
                "bank-total",
                "unique-key",
                "edges-symmetric",
                "exact-bases",
            ],
        ),
        machine(
            "a record is repaired alone while ONLINE",
            "3.6.5, A12",
            |c| c.planted = Some(Bug::RecordWiseRepair),
            &["all-or-nothing", "exact-bases"],
        ),
    ]
}

fn relays() -> Vec<Row> {
    vec![
        machine(
            "a relay acknowledges for all below it",
            "3.9, A18",
            |c| c.planted = Some(Bug::AckForThoseBelow),
            &["tombstone-kept", "converges-after-heal", "no-corruption"],
        ),
        machine(
            "a REPLICA goes on where its new parent stands",
            "3.6.1",
            |c| c.planted = Some(Bug::GapSkipped),
            &["tombstone-kept", "converges-after-heal", "no-corruption"],
        ),
        machine(
            "a coordinator feeds what is not durable",
            "3.2, 3.6.1",
            |c| c.planted = Some(Bug::FedBeforeDurable),
            &["no-corruption", "converges-after-heal"],
        ),
    ]
}

fn generations() -> Vec<Row> {
    vec![
        machine(
            "the old MASTERs go on voting",
            "3.9.2, E1, A2",
            |c| c.planted = Some(Bug::OldSetNotSealed),
            &["one-generation", "one-commit-per-base"],
        ),
        machine(
            "MASTERs enter without what was committed before",
            "3.9.4, E3",
            |c| c.planted = Some(Bug::EnterWithoutTransfer),
            &["one-generation", "one-commit-per-base", "linearizable"],
        ),
        machine(
            "sealed with votes undecided",
            "3.9.3, E4",
            |c| c.planted = Some(Bug::DrainSkipped),
            &["one-generation", "one-outcome", "one-commit-per-base"],
        ),
        machine(
            "a late MASTER votes before it is synced",
            "3.9.5",
            |c| c.planted = Some(Bug::VoterBeforeSynced),
            &["one-generation"],
        ),
    ]
}

fn disks() -> Vec<Row> {
    vec![
        shell(
            "everything leaves before it is durable",
            "3.2, A11",
            ShellBug::SendBeforeDurable,
            &["durable-before-ok"],
        ),
        shell(
            "a sync returns before the disk has it",
            "3.2",
            ShellBug::SyncLies,
            &["durable-before-ok", "votes-stand", "one-commit-per-base"],
        ),
        shell(
            "a damaged disk is served from as if it were new",
            "3.9, A3",
            ShellBug::DamageForgotten,
            &["bank-total", "edges-symmetric", "exact-bases", "one-commit-per-base"],
        ),
        shell(
            "a torn batch counts as far as it can be read",
            "3.6.2, A12",
            ShellBug::TornBatchCounts,
            &["all-or-nothing", "bank-total", "unique-key", "edges-symmetric", "exact-bases"],
        ),
        shell(
            "transaction ids come again after a restart",
            "3.1, A6",
            ShellBug::SameBoot,
            &["one-content", "votes-stand"],
        ),
    ]
}

fn control_plane() -> Vec<Row> {
    vec![
        shell(
            "the control plane's messages leave too early",
            "3.2",
            ShellBug::ControlBeforeDurable,
            &["one-agreement", "one-leader"],
        ),
        shell(
            "an entry is applied before it is durable",
            "3.2, 3.9",
            ShellBug::ControlSyncLies,
            &["configuration-kept"],
        ),
        shell(
            "vote and commit are forgotten by a restart",
            "3.2, 3.9",
            ShellBug::ControlForgets,
            &["configuration-kept", "one-leader"],
        ),
    ]
}

fn below_majority() -> Vec<Row> {
    let rows = vec![
        machine(
            "another line is taken for a newer state",
            "3.10, A24",
            |c| c.planted = Some(Bug::DivergenceTakenForLag),
            &["acknowledged-or-listed", "versions-rise"],
        ),
        machine(
            "a merge is written below the highest version",
            "3.10",
            |c| c.planted = Some(Bug::MergeBelowHighest),
            &["versions-rise"],
        ),
    ];
    let low = rows.into_iter().map(|row| Row { swarm: Swarm::LowQuorums, ..row });
    low.chain(crossing()).collect()
}

fn crossing() -> Vec<Row> {
    let (swarm, rule, caught_by) = (Swarm::Crossing, "3.10", &["united"][..]);
    let control = |name, bug| {
        let plant = Plant { control: Some(bug), ..Plant::NONE };
        Row { swarm, name, rule, plant, caught_by }
    };
    let rows = vec![
        control("a majority unites", ControlBug::UnitedByMajority),
        control("one is given up, and nobody else asked", ControlBug::GivenUpUnasked),
        machine(
            "MASTERs unite uncompared",
            rule,
            |c| c.planted = Some(Bug::UnitedUncompared),
            &["united", "no-corruption"],
        ),
        machine(
            "votes end with a generation that is taken back",
            rule,
            |c| c.planted = Some(Bug::VotesEndWithGeneration),
            &["converges-after-heal"],
        ),
    ];
    rows.into_iter().map(|row| Row { swarm, ..row }).collect()
}

/// The options of a seed, for a kind of row.
fn options(seed: u64, swarm: Swarm) -> Options {
    let options = Options::of_seed(seed);
    match swarm {
        Swarm::Plain => options,
        Swarm::LowQuorums => options.with_low_quorums(seed),
        Swarm::Crossing => options.with_crossing(seed),
        Swarm::Membership => options.with_membership(seed),
    }
}

/// Seeds until the catch, and by what; `None` when missed.
fn campaign(row: &Row, number: u64) -> Option<(u64, &'static str)> {
    for tried in 1..=SEEDS_MAX {
        let seed = number * STRIDE + tried;
        let report = World::planted(seed, options(seed, row.swarm), false, row.plant).run();
        let found = report.violations.iter().map(|violation| violation.invariant);
        let caught = found.into_iter().find(|name| row.caught_by.contains(name));
        if let Some(name) = caught {
            return Some((tried, name));
        }
    }
    None
}

/// What the clean machine shows in the seeds that the bugs needed.
fn dirty_seeds(number: u64, seeds: u64, swarm: Swarm) -> Vec<u64> {
    let seeds = (1..=seeds).map(|tried| number * STRIDE + tried);
    let dirty = |seed: &u64| {
        let report = World::new(*seed, options(*seed, swarm), false).run();
        !report.violations.is_empty()
    };
    seeds.filter(dirty).collect()
}

/// The words of the command line: number of campaigns, and what the names of bugs may contain.
/// Options are those of any test program, and mean nothing here.
fn asked(mut args: impl Iterator<Item = String>) -> (usize, Vec<String>) {
    let (mut campaigns, mut words) = (1, Vec::new());
    while let Some(arg) = args.next() {
        if arg == "--campaigns" {
            let number = args.next().and_then(|number| number.parse().ok());
            campaigns = number.filter(|n| *n > 0).expect("--campaigns is followed by a number");
        } else if !arg.starts_with("--") {
            words.push(arg);
        }
    }
    (campaigns, words)
}

#[expect(clippy::print_stdout, reason = "the table is the result")]
fn main() -> ExitCode {
    let (campaigns, words) = asked(std::env::args().skip(1));
    // A machine that stops because its state is impossible is told in the report of its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let mut rows = rows();
    rows.retain(|row| words.is_empty() || words.iter().any(|word| row.name.contains(word)));
    let caught = parallel(rows.len() * campaigns, |job| {
        campaign(&rows[job / campaigns], (job % campaigns) as u64)
    });
    let mut missed = 0;
    println!("{:<46} {:<18} {:>6} {:>6}  caught by", "bug", "rule", "median", "max");
    for (row, results) in rows.iter().zip(caught.chunks(campaigns)) {
        let mut needed: Vec<u64> = results.iter().flatten().map(|(seeds, _)| *seeds).collect();
        needed.sort_unstable();
        let mut catchers: Vec<&str> = results.iter().flatten().map(|(_, name)| *name).collect();
        catchers.sort_unstable();
        catchers.dedup();
        let catchers = catchers.join(", ");
        let (name, rule) = (row.name, row.rule);
        if needed.len() < campaigns {
            missed += 1;
            println!("{name:<46} {rule:<18} missed in {} of {campaigns}", campaigns - needed.len());
        } else {
            let (median, max) = (needed[campaigns / 2], needed[campaigns - 1]);
            println!("{name:<46} {rule:<18} {median:>6} {max:>6}  {catchers}");
        }
    }
    let most = |number: usize, swarm: Swarm| {
        let of_campaign = rows.iter().zip(caught.chunks(campaigns));
        let of_kind = of_campaign.filter(|(row, _)| row.swarm == swarm);
        let of_kind = of_kind.filter_map(|(_, results)| results[number]);
        of_kind.map(|(seeds, _)| seeds).max().unwrap_or(0)
    };
    let dirty = parallel(SWARMS.len() * campaigns, |job| {
        let (number, swarm) = (job / SWARMS.len(), SWARMS[job % SWARMS.len()]);
        dirty_seeds(number as u64, most(number, swarm), swarm)
    });
    let dirty: Vec<u64> = dirty.into_iter().flatten().collect();
    println!("{} bugs, {missed} missed; the same seeds without them: {dirty:?} dirty", rows.len());
    if missed == 0 && dirty.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
