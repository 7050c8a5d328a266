//! `quorate-sim`: runs seeds, prints what went wrong with the command that shows it again.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Seeds run at once, a thread each.
    #[arg(long, short, default_value_t = default_jobs())]
    jobs: usize,
    /// Run one seed (this one, or that of --seed) twice, compare the traces byte for byte, and
    /// print the trace and what went wrong.
    #[arg(long, value_name = "SEED")]
    reproduce: Option<Option<u64>>,
    /// In each seed go on under load until so many changes of the configuration were carried out.
    #[arg(long, value_name = "COUNT")]
    changes: Option<u64>,
    /// In each seed write quorums are below a majority: what diverges is merged
    #[arg(long, conflicts_with = "changes")]
    low_quorums: bool,
    /// In each seed write quorums go below a majority and back
    #[arg(long, conflicts_with_all = ["changes", "low_quorums", "membership"])]
    crossing: bool,
    /// In each seed servers are in data centers that are far apart; in most each decides by itself.
    #[arg(long, conflicts_with_all = ["changes", "low_quorums", "crossing", "membership"])]
    data_centers: bool,
    /// Execute this plan of the harness, whose orders come over standard input.
    #[arg(long, value_name = "PLAN")]
    stage: Option<String>,
    /// In each seed servers join and leave, by the server's own commands
    #[arg(long, conflicts_with_all = ["changes", "low_quorums"])]
    membership: bool,
}

impl Args {
    fn options(&self, seed: u64) -> Options {
        let options = Options::of_seed(seed);
        match self.changes {
            Some(changes) => options.with_changes(changes),
            None if self.low_quorums => options.with_low_quorums(seed),
            None if self.crossing => options.with_crossing(seed),
            None if self.data_centers => options.with_data_centers(seed),
            None if self.membership => options.with_membership(seed),
            None => options,
        }
    }
}

fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(plan) = &args.stage {
        return stage(plan);
    }
    // A machine that stops because its state is impossible is a violation of its seed, told there.
    std::panic::set_hook(Box::new(|_| {}));
    match args.reproduce {
        Some(seed) => reproduce(&args, seed.unwrap_or(args.seed)),
        None => campaign(&args),
    }
}

#[expect(clippy::print_stderr, reason = "the command's output")]
fn stage(plan: &str) -> ExitCode {
    let told = std::io::BufWriter::new(std::io::stdout().lock());
    match quorate_sim::stage::execute(plan, std::io::stdin().lock(), told) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quorate-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Sums over a campaign.
#[derive(Debug, Default)]
struct Sums {
    committed: u64,
    failed: u64,
    unknown: u64,
    reads: u64,
    one_round: u64,
    two_rounds: u64,
    recoveries: u64,
    left_online: u64,
    aligned: u64,
    purged: u64,
    diverged: u64,
    merged: u64,
    undecided: u64,
    generations: u64,
    changes: u64,
    owners: u64,
    drops: u64,
    leaders: u64,
    joined: u64,
    removed: u64,
    absent: u64,
    returned: u64,
    disks_lost: u64,
    positions: u64,
    events: u64,
    violated: Vec<u64>,
}

impl Sums {
    fn add(&mut self, seed: u64, report: &Report) {
        let counts = &report.counts;
        self.committed += counts.committed;
        self.failed += counts.failed;
        self.unknown += counts.unknown;
        self.reads += counts.reads;
        self.one_round += counts.one_round;
        self.two_rounds += counts.two_rounds;
        self.recoveries += counts.recoveries;
        self.left_online += counts.left_online;
        self.aligned += counts.aligned;
        self.purged += counts.purged;
        self.diverged += counts.diverged;
        self.merged += counts.merged;
        self.undecided += counts.undecided;
        self.generations += counts.generations;
        self.changes += counts.changes();
        self.owners += counts.owners;
        self.drops += counts.drops;
        self.leaders += counts.leaders;
        self.joined += counts.joined;
        self.removed += counts.removed;
        self.absent += counts.absent;
        self.returned += counts.returned;
        self.disks_lost += counts.disks_lost;
        self.positions += counts.positions;
        self.events += report.events;
        if !report.violations.is_empty() {
            self.violated.push(seed);
            print_report(seed, report);
        }
    }
}

#[expect(clippy::print_stdout, reason = "the command's output")]
#[expect(clippy::disallowed_methods, reason = "how long the command took, not what it did")]
fn campaign(args: &Args) -> ExitCode {
    let begin = std::time::Instant::now();
    let next = AtomicU64::new(args.seed);
    let end = args.seed.saturating_add(args.seeds);
    let sums = Mutex::new(Sums::default());
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let report = World::new(seed, args.options(seed), false).run();
                    // Adding cannot leave the sums half done.
                    let mut sums = sums.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    sums.add(seed, &report);
                }
            });
        }
    });
    let mut sums = sums.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    sums.violated.sort_unstable();
    let seconds = begin.elapsed().as_secs_f64().max(1e-9);
    println!(
        "{} seeds in {seconds:.1} s: {:.0} seeds/s, {:.0} events/s",
        args.seeds,
        args.seeds as f64 / seconds,
        sums.events as f64 / seconds,
    );
    println!(
        "{} commits ({} in one round, {} in two), {} failed, {} unknown, {} reads, {} recoveries",
        sums.committed,
        sums.one_round,
        sums.two_rounds,
        sums.failed,
        sums.unknown,
        sums.reads,
        sums.recoveries,
    );
    println!(
        "left ONLINE {} times, back {} times, {} tombstones dropped",
        sums.left_online, sums.aligned, sums.purged,
    );
    println!(
        "{} configurations entered ({} owners, {} generations, {} drops), {} leaders elected",
        sums.changes, sums.owners, sums.generations, sums.drops, sums.leaders,
    );
    if args.membership {
        println!(
            "{} servers joined, {} were removed ({} because they were lost, {} of them back), \
             {} disks lost, {} positions used",
            sums.joined, sums.removed, sums.absent, sums.returned, sums.disks_lost, sums.positions,
        );
    }
    if args.low_quorums || args.crossing || args.data_centers {
        println!(
            "{} contents kept beside others, {} items merged, {} times without a winner",
            sums.diverged, sums.merged, sums.undecided,
        );
    }
    print_marks();
    if sums.violated.is_empty() {
        println!("no violation");
        return ExitCode::SUCCESS;
    }
    println!("{} seeds with violations: {:?}", sums.violated.len(), sums.violated);
    ExitCode::from(1)
}

/// Rare branches of the machine, and which of them nobody took.
#[cfg(feature = "marks")]
#[expect(clippy::print_stdout, reason = "the command's output")]
fn print_marks() {
    use quorate_protocol::marks::Mark;

    let mut marks: Vec<_> = Mark::ALL.iter().map(|mark| (mark.hits(), mark)).collect();
    marks.sort_by_key(|(hits, _)| *hits);
    let rare: Vec<_> =
        marks.iter().take(8).map(|(hits, mark)| format!("{mark:?} {hits}")).collect();
    println!("{} marks, rarest: {}", marks.len(), rare.join(", "));
    let never: Vec<_> = marks.iter().filter(|(hits, _)| *hits == 0).map(|(_, mark)| mark).collect();
    if never.is_empty() {
        println!("every mark was hit");
    } else {
        println!("{} marks not hit: {never:?}", never.len());
    }
}

#[cfg(not(feature = "marks"))]
const fn print_marks() {}

#[expect(clippy::print_stdout, reason = "the command's output")]
fn reproduce(args: &Args, seed: u64) -> ExitCode {
    let run = || World::new(seed, args.options(seed), true).run();
    let (first, second) = (run(), run());
    for line in &first.trace {
        println!("{line}");
    }
    print_report(seed, &first);
    if first.trace != second.trace || first.trace_hash != second.trace_hash {
        println!("seed {seed} is not deterministic: two traces differ");
        return ExitCode::from(4);
    }
    if first.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

#[expect(clippy::print_stdout, reason = "the command's output")]
fn print_report(seed: u64, report: &Report) {
    println!("seed {seed}: {:?}", report.options);
    println!("  {:?}, {} events, trace {:016x}", report.counts, report.events, report.trace_hash);
    for violation in &report.violations {
        println!("  {}: {}", violation.invariant, violation.detail);
    }
    if !report.violations.is_empty() {
        let changes = report.options.changes;
        let centers = &report.options.centers[..];
        let low = if report.options.crossing { " --crossing" } else { " --low-quorums" };
        let kind = match (&report.options.membership, centers, report.options.low_quorums) {
            (Some(_), ..) => " --membership".to_owned(),
            (None, [_, ..], _) => " --data-centers".to_owned(),
            (None, [], true) => low.to_owned(),
            (None, [], false) if changes > 0 => format!(" --changes {changes}"),
            (None, [], false) => String::new(),
        };
        println!("  again: quorate-sim --reproduce {seed}{kind}");
    }
}
