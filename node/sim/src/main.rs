//! `quorate-sim`: runs seeds, prints what went wrong with the command that shows it again.

use std::process::ExitCode;

use clap::Parser;
use quorate_sim::options::Options;
use quorate_sim::world::{Report, World};

/// Version and commit.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("QUORATE_COMMIT"), ")");

/// Deterministic simulator of Quorate's transaction protocol.
#[derive(Debug, Parser)]
#[command(name = "quorate-sim", version = VERSION)]
struct Args {
    /// First seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of seeds to run.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Run one seed twice, compare the traces and print the trace.
    #[arg(long)]
    reproduce: bool,
}

#[expect(clippy::print_stdout, reason = "the command's output")]
fn main() -> ExitCode {
    let args = Args::parse();
    if args.reproduce {
        return reproduce(args.seed);
    }
    let (mut committed, mut failed, mut aligned, mut purged) = (0, 0, 0, 0);
    for seed in args.seed..args.seed + args.seeds {
        let report = World::new(seed, Options::of_seed(seed), false).run();
        committed += report.counts.committed;
        aligned += report.aligned.1;
        purged += report.purged;
        if !report.violations.is_empty() {
            failed += 1;
            print_report(seed, &report);
        }
    }
    println!("{aligned} alignments, {purged} tombstones dropped");
    println!("{} seeds, {committed} commits, {failed} seeds with violations", args.seeds);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

#[expect(clippy::print_stdout, reason = "the command's output")]
fn reproduce(seed: u64) -> ExitCode {
    let first = World::new(seed, Options::of_seed(seed), true).run();
    let second = World::new(seed, Options::of_seed(seed), true).run();
    for line in &first.trace {
        println!("{line}");
    }
    print_report(seed, &first);
    if first.trace != second.trace {
        println!("seed {seed} is not deterministic: two traces differ");
        return ExitCode::from(4);
    }
    if first.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

#[expect(clippy::print_stdout, reason = "the command's output")]
fn print_report(seed: u64, report: &Report) {
    println!("seed {seed}: {:?}", report.options);
    println!(
        "  {:?}, rounds {:?}, {} recoveries, {} unsynced batches lost, trace {:016x}",
        report.counts, report.rounds, report.recoveries, report.batches_lost, report.trace_hash
    );
    for violation in &report.violations {
        println!("  {}: {}", violation.invariant, violation.detail);
    }
    if !report.violations.is_empty() {
        println!("  again: quorate-sim --seed {seed} --reproduce");
    }
}
