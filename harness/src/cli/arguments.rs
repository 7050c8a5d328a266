//! Subcommands and options, with the help text.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::VERSION;
use super::progress::Manner;
use crate::spec::{Origin, Overrides, Problem, Span, SpecError};
use crate::stage::StageOptions;

/// Benchmark and chaos for multi-master quorum databases.
///
/// Exit codes: 0 good, 1 violation, 2 inconclusive or unsound, 3 bad spec, 4 the harness failed.
#[derive(Debug, Parser)]
#[command(name = "quorate", version = VERSION, max_term_width = 100)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run a workload and judge what happened
    Run(RunArguments),
    /// Run every experiment of a suite
    Suite(SuiteArguments),
    /// Run a workload at every point of its sweep; goes on where a killed one had come to
    Sweep(SweepArguments),
    /// Look for the highest rate of a workload that meets an objective; goes on where a killed one
    /// had come to
    Capacity(CapacityArguments),
    /// Run a workload round after round under faults drawn from a seed; goes on where a killed one
    /// had come to
    Chaos(ChaosArguments),
    /// Set runs beside each other, or say what the blocks of `quorate ab` came to
    Compare(CompareArguments),
    /// Run two builds, or two settings, in turns, and say whether B is better, worse or the same;
    /// goes on where a killed one had come to
    Ab(AbArguments),
    /// Say where the figures of an experiment changed over all its runs
    Trend(TrendArguments),
    /// Show what a workload would do and how long it takes; starts nothing
    Plan(PlanArguments),
    /// Write the servers of a workload as a file for an engine of many machines; starts nothing
    Render(RenderArguments),
    /// Print the JSON Schema of a kind of spec file
    Schema(SchemaArguments),
    /// Judge the history of a run again, offline
    Check(FolderArguments),
    /// Draw the report of a run again, offline
    Report(FolderArguments),
    /// Write a run as files for other tools
    Export(ExportArguments),
    /// Say in sentences what a run came to, what to doubt, and what to run next
    Explain(FolderArguments),
    /// Write a commented workload to begin with; overwrites nothing
    Init(InitArguments),
    /// List workloads, scenarios, suites and runs
    List(ListArguments),
    /// Remove old results, but for what something refers to
    Prune(PruneArguments),
    /// Remove processes, containers and networks that killed runs left behind
    Clean(CleanArguments),
    /// Say what this machine lacks, and how to get it
    Doctor(DoctorArguments),
}

/// What is wrong with the value of an option, or with a file as a whole.
pub(super) fn wrong(option: &str, what: impl Into<String>) -> SpecError {
    let origin = Origin { source: option.into(), line: 0 };
    Problem { origin, key: String::new(), what: what.into() }.into()
}

/// Which experiment.
#[derive(Debug, Args)]
pub(super) struct SpecArguments {
    /// Workload file, such as workloads/baseline.yaml
    pub(super) file: PathBuf,
    /// Scenario file whose faults replace those of the workload
    #[arg(long, short = 'C', value_name = "FILE")]
    pub(super) scenario: Option<PathBuf>,
    /// Root of every random stream; replaces the seed of the file
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// Replace a value of the file, as in load.rate=500; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    pub(super) set: Vec<String>,
}

impl SpecArguments {
    /// The options as overrides.
    pub(super) fn overrides(&self) -> Result<Overrides, SpecError> {
        let scenario = self.scenario.clone();
        let mut overrides = Overrides { scenario, seed: self.seed, set: Vec::new() };
        for assignment in &self.set {
            overrides.add(assignment)?;
        }
        Ok(overrides)
    }
}

/// On what.
#[derive(Debug, Args)]
pub(super) struct StageArguments {
    /// Where the servers run: auto, process, docker or sim. auto takes docker when an engine
    /// answers and has the images of this version, else process
    #[arg(long, default_value = "auto", env = "STAGE")]
    pub(super) stage: String,
    /// A Toxiproxy that runs already, as http://HOST:PORT, in place of the own proxy; it cannot cut
    /// silently nor delay below a millisecond, and the report says what else it lacks
    #[arg(long, env = "QUORATE_TOXIPROXY", value_name = "URL")]
    pub(super) toxiproxy: Option<String>,
}

impl StageArguments {
    /// Settings of the stage, with what the environment names; the programs are looked for.
    pub(super) fn options(&self) -> StageOptions {
        let toxiproxy = self.toxiproxy.clone().filter(|url| !url.is_empty());
        StageOptions { toxiproxy, ..StageOptions::from_env() }
    }
}

/// Where and how runs are done.
#[derive(Debug, Args)]
pub(super) struct PlaceArguments {
    #[command(flatten)]
    pub(super) stage: StageArguments,
    /// Folder that gets the run folders
    #[arg(long, default_value = "results", value_name = "DIR")]
    pub(super) out: PathBuf,
    #[command(flatten)]
    pub(super) programs: ProgramArguments,
    /// Print the outcome as JSON instead of tables, and progress as lines of JSON on stderr
    #[arg(long)]
    pub(super) json: bool,
    /// Print the outcome alone, no progress
    #[arg(long, short)]
    pub(super) quiet: bool,
}

impl PlaceArguments {
    /// For whom progress is shown.
    pub(super) fn manner(&self) -> Manner {
        match (self.quiet, self.json) {
            (true, _) => Manner::Quiet,
            (false, true) => Manner::Json,
            (false, false) => Manner::People,
        }
    }

    /// Settings of the stage.
    pub(super) fn options(&self) -> StageOptions {
        let node = self.programs.node_bin.clone();
        let proxy = self.programs.proxy_bin.clone();
        StageOptions { node, proxy, ..self.stage.options() }
    }

    /// What was given, as options of a command line that does the same again.
    pub(super) fn given(&self) -> Vec<(String, String)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let stage = Some(&self.stage.stage).filter(|stage| *stage != "auto").cloned();
        let given = [
            ("--stage", stage),
            ("--toxiproxy", self.stage.toxiproxy.clone()),
            ("--node-bin", path(&self.programs.node_bin)),
            ("--proxy-bin", path(&self.programs.proxy_bin)),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// Programs that a run needs; looked for beside quorate when not given.
#[derive(Debug, Args)]
pub(super) struct ProgramArguments {
    /// The server's executable
    #[arg(long, env = "QUORATE_NODE_BIN", value_name = "FILE")]
    pub(super) node_bin: Option<PathBuf>,
    /// The fault proxy's executable
    #[arg(long, env = "QUORATE_PROXY_BIN", value_name = "FILE")]
    pub(super) proxy_bin: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    #[command(flatten)]
    pub(super) spec: SpecArguments,
    #[command(flatten)]
    pub(super) place: PlaceArguments,
    /// Leave the servers' data in the run folder
    #[arg(long)]
    pub(super) keep_data: bool,
}

#[derive(Debug, Args)]
pub(super) struct SuiteArguments {
    /// Suite file, such as workloads/suites/quick.yaml
    pub(super) file: PathBuf,
    /// Replaces the seed of every experiment
    #[arg(long)]
    pub(super) seed: Option<u64>,
    #[command(flatten)]
    pub(super) place: PlaceArguments,
}

#[derive(Debug, Args)]
pub(super) struct SweepArguments {
    #[command(flatten)]
    pub(super) spec: SpecArguments,
    #[command(flatten)]
    pub(super) place: PlaceArguments,
    /// Begin anew, also where an unfinished sweep of the same points is there
    #[arg(long)]
    pub(super) fresh: bool,
}

#[derive(Debug, Args)]
pub(super) struct CapacityArguments {
    #[command(flatten)]
    pub(super) spec: SpecArguments,
    /// 99 of 100 operations must be acknowledged within this time from their intended start
    #[arg(long, default_value = "50ms")]
    pub(super) p99: Span,
    /// Share of all operations that may be refused or left unanswered
    #[arg(long, default_value_t = 0.001)]
    pub(super) refused: f64,
    /// The first rate, per second; doubled while the objective is met, halved while it is not
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) from: u64,
    /// No higher rate is tried
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) most: u64,
    /// Share of the rate to which it is narrowed down
    #[arg(long, default_value_t = 0.05)]
    pub(super) within: f64,
    /// Runs of the rate that is named, most of which must meet the objective
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) repeats: u32,
    #[command(flatten)]
    pub(super) place: PlaceArguments,
    /// Begin anew, also where an unfinished search of the same kind is there
    #[arg(long)]
    pub(super) fresh: bool,
}

#[derive(Debug, Args)]
pub(super) struct ChaosArguments {
    /// Workload file; its own faults are left out
    #[arg(default_value = "workloads/baseline.yaml")]
    pub(super) file: PathBuf,
    /// Draw the faults at random; never more than a minority at once. Faults of your own: quorate
    /// run FILE --scenario FILE
    #[arg(long, required = true)]
    pub(super) random: bool,
    /// Root of every draw
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// How long to measure in all, such as 30m; rounded up to whole rounds
    #[arg(long, default_value = "10m")]
    pub(super) duration: Span,
    /// How long one round measures: its servers begin anew, and it is judged by itself
    #[arg(long, default_value = "1m")]
    pub(super) round: Span,
    /// What is drawn how often, as in kill=3,partition=1; what is not named is never drawn.
    /// Default: whatever the stage can do, partitions four times as often as each other
    #[arg(long, value_name = "NAME=NUMBER,…")]
    pub(super) weights: Option<String>,
    /// Replace a value of the file, as in load.rate=500; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    pub(super) set: Vec<String>,
    #[command(flatten)]
    pub(super) place: PlaceArguments,
    /// Begin anew, also where an unfinished one of the same kind is there
    #[arg(long)]
    pub(super) fresh: bool,
}

#[derive(Debug, Args)]
pub(super) struct CompareArguments {
    /// Run folders, the first of which the others are compared with; or one folder of `quorate ab`.
    /// The folder of a suite stands for its run of the same experiment
    #[arg(default_values = ["results/baseline", "results/latest"])]
    pub(super) folders: Vec<PathBuf>,
    /// Which metrics must not be worse, and within which margins; blocks of `quorate ab` alone can
    /// pass it
    #[arg(long, value_name = "FILE")]
    pub(super) gate: Option<PathBuf>,
    /// Folder that gets the page and its plots; default: compare-… beside the first run, or the
    /// folder of `quorate ab` itself
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct AbArguments {
    /// The server's program that B is compared with (an image at the docker stage)
    pub(super) a: PathBuf,
    /// The server's program that something is said of; the same one calibrates
    pub(super) b: PathBuf,
    #[command(flatten)]
    pub(super) spec: SpecArguments,
    /// Blocks of four runs: A B B A, then B A A B
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) blocks: u32,
    /// Replace a value of the file for A alone; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    pub(super) set_a: Vec<String>,
    /// Replace a value of the file for B alone; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    pub(super) set_b: Vec<String>,
    /// Which metrics must not be worse, and within which margins
    #[arg(long, value_name = "FILE")]
    pub(super) gate: Option<PathBuf>,
    #[command(flatten)]
    pub(super) place: PlaceArguments,
    /// Begin anew, also where an unfinished one of the same kind is there
    #[arg(long)]
    pub(super) fresh: bool,
}

#[derive(Debug, Args)]
pub(super) struct TrendArguments {
    /// Folder with the run folders
    #[arg(default_value = "results", value_name = "DIR")]
    pub(super) results: PathBuf,
    /// Folder that gets the page and its plots; default: trend, beside the runs
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Print JSON instead of tables
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct FolderArguments {
    /// Run folder, such as results/latest
    #[arg(default_value = "results/latest")]
    pub(super) folder: PathBuf,
    /// Print JSON instead of tables
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// Run folder, such as results/latest
    #[arg(default_value = "results/latest")]
    pub(super) run: PathBuf,
    /// As what
    #[arg(long)]
    pub(super) format: ExportFormat,
    /// Folder that gets the files; default: export, in that of the run
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ExportFormat {
    /// Operations and intervals as comma separated values
    Csv,
    /// Response times as HdrHistogram interval logs without tags
    Hdr,
}

#[derive(Debug, Args)]
pub(super) struct PruneArguments {
    /// Folder with the run folders
    #[arg(default_value = "results", value_name = "DIR")]
    pub(super) results: PathBuf,
    /// How many of the newest folders stay; folders with names of their own always do, as does what
    /// a link, a comparison or a calibration refers to
    #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub(super) keep: usize,
    /// Say what would go, and remove nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// Where to write it
    #[arg(default_value = "workload.yaml")]
    pub(super) file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct CleanArguments {
    /// Print JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// Workload that is to run; default: any that is shipped
    pub(super) file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) programs: ProgramArguments,
    /// Folder that would get the run folders
    #[arg(long, default_value = "results", value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    #[command(flatten)]
    pub(super) spec: SpecArguments,
    #[command(flatten)]
    pub(super) stage: StageArguments,
    /// Print the plan as plan.json has it
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RenderArguments {
    /// For which engine
    pub(super) target: RenderTarget,
    #[command(flatten)]
    pub(super) spec: SpecArguments,
    /// Image of the server, as the machines of the engine find it
    #[arg(long, default_value = "quorate-node:local")]
    pub(super) image: String,
    /// Namespace of the manifests; default: that of who applies them
    #[arg(long)]
    pub(super) namespace: Option<String>,
    /// Room for each server's data in the manifests
    #[arg(long, default_value = "10Gi")]
    pub(super) storage: String,
    /// Port for clients of the first server in a stack; the next server's is one above
    #[arg(long, default_value_t = 2480)]
    pub(super) port: u16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum RenderTarget {
    /// Kubernetes manifests
    K8s,
    /// A stack file for Docker Swarm
    Swarm,
}

#[derive(Debug, Args)]
pub(super) struct SchemaArguments {
    /// Kind of file
    #[arg(default_value = "workload")]
    pub(super) kind: SchemaKind,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum SchemaKind {
    /// workloads/*.yaml
    Workload,
    /// chaos/*.yaml
    Scenario,
    /// workloads/suites/*.yaml
    Suite,
    /// The file of --gate
    Gate,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Folder with the run folders
    #[arg(long, default_value = "results", value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Print JSON instead of tables
    #[arg(long)]
    pub(super) json: bool,
}
