//! The run folder: its file names, and the record types of the small JSON files that parts of the
//! harness hand each other. Written from the first second of a run, so that a crash loses nothing.
//! The history's format lives in `quorate-check`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A run folder. Every path below is inside it.
#[derive(Debug, Clone)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// Names the folder; creates nothing.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }
    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// `plan.json`: a `crate::plan::Plan`, saved before anything starts.
    #[must_use]
    pub fn plan(&self) -> PathBuf {
        self.root.join("plan.json")
    }
    /// `manifest.json`: a [`Manifest`].
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.root.join("manifest.json")
    }
    /// `history.jsonl`: see `quorate_check::format`.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.root.join("history.jsonl")
    }
    /// `faults.jsonl`: one [`FaultRecord`] a line, in order of effect.
    #[must_use]
    pub fn faults(&self) -> PathBuf {
        self.root.join("faults.jsonl")
    }
    /// `nodes.jsonl`: one [`NodeSample`] a line.
    #[must_use]
    pub fn nodes(&self) -> PathBuf {
        self.root.join("nodes.jsonl")
    }
    /// `phases.jsonl`: one [`PhaseMark`] a line.
    #[must_use]
    pub fn phases(&self) -> PathBuf {
        self.root.join("phases.jsonl")
    }
    /// `driver.json`: a [`DriverSummary`].
    #[must_use]
    pub fn driver(&self) -> PathBuf {
        self.root.join("driver.json")
    }
    /// `intervals.hlog`: HdrHistogram interval log, one tagged histogram per operation class,
    /// outcome and second.
    #[must_use]
    pub fn intervals(&self) -> PathBuf {
        self.root.join("intervals.hlog")
    }
    /// `soundness.json`: a list of [`SoundnessFinding`].
    #[must_use]
    pub fn soundness(&self) -> PathBuf {
        self.root.join("soundness.json")
    }
    /// `verdicts.json`: the `quorate_check` report.
    #[must_use]
    pub fn verdicts(&self) -> PathBuf {
        self.root.join("verdicts.json")
    }
    /// `summary.json`: machine-readable figures of the report.
    #[must_use]
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }
    /// `report.html`: the self-contained report.
    #[must_use]
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }
    /// `plots/`: SVG and PNG files of the report's plots.
    #[must_use]
    pub fn plots(&self) -> PathBuf {
        self.root.join("plots")
    }
    /// `logs/`: standard output and error of every process.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
}

/// Who ran what, where: the fingerprint printed in the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this file's format.
    pub format: u32,
    /// Version and commit of the harness.
    pub harness: String,
    /// Version and commit of the node binary.
    pub node: String,
    /// SHA-256 of the node binary, or of the configuration of its image.
    pub node_sha256: String,
    /// Stage that ran: `process`, `docker` or `sim`.
    pub stage: String,
    /// Why that stage was chosen.
    pub stage_reason: String,
    /// Wall-clock start, RFC 3339.
    pub started: String,
    /// The exact command that repeats the run.
    pub repeat: String,
    /// The workload file as it was named; empty where an earlier version did not say.
    #[serde(default)]
    pub workload: String,
    /// Host name-free description of the machine: CPU model, cores, memory, kernel, OS, file system
    /// of the data, fdatasync p50 and p99 in microseconds, cgroup limits, clock source; key → value
    /// in display order.
    pub environment: Vec<(String, String)>,
}

/// One inject or heal. Times in nanoseconds on the history's clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultRecord {
    /// Name in the plan.
    pub name: String,
    /// `inject` or `heal`.
    pub action: FaultAction,
    /// Kind and requested target, for people: `partition silent one`.
    pub requested: String,
    /// Servers hit, after resolution.
    pub resolved: Vec<String>,
    /// When the plan wanted it.
    pub planned: u64,
    /// When the harness began to apply it.
    pub begun: u64,
    /// When the last part of it was acknowledged.
    pub acknowledged: u64,
    /// When its effect was proven (canary, process state), if it was.
    pub proven: Option<u64>,
    /// How it was proven, or why not.
    pub evidence: String,
}

/// Inject or heal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultAction {
    /// The fault begins.
    Inject,
    /// The fault ends.
    Heal,
}

/// Name of the number of open files, sockets included, among the figures of a sample.
pub const OPEN_FILES: &str = "process_open_files";

/// Name of the most memory that a process has had resident so far, among the same figures.
pub const PEAK_MEMORY: &str = "process_peak_memory_bytes";
/// The same of a container's control group, page cache included, as cAdvisor calls it.
pub const GROUP_PEAK_MEMORY: &str = "container_memory_max_usage_bytes";

/// State of one server at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeSample {
    /// Nanoseconds on the history's clock.
    pub at: u64,
    /// Server name.
    pub node: String,
    /// `running`, `paused`, `dead`.
    pub state: String,
    /// CPU seconds used since its start (user + system).
    pub cpu_seconds: f64,
    /// Resident bytes.
    pub rss_bytes: u64,
    /// Counters and gauges read from its `/metrics`, by metric name with labels, if it answered;
    /// with what the machine counts of it, such as [`OPEN_FILES`].
    pub metrics: std::collections::BTreeMap<String, f64>,
}

/// Start of a phase. Nanoseconds on the history's clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseMark {
    /// The phase.
    pub phase: quorate_check::history::Phase,
    /// When it began.
    pub from: u64,
    /// When it ended.
    pub to: u64,
}

/// The driver about itself, measure phase only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DriverSummary {
    /// Operations the schedule asked for.
    pub scheduled: u64,
    /// Operations sent.
    pub sent: u64,
    /// Operations completed before the drain ended.
    pub completed: u64,
    /// Arrivals per second asked for; 0 in a closed loop.
    pub asked_rate: f64,
    /// Completions per second achieved.
    pub achieved_rate: f64,
    /// sent − intended, microseconds, outside back-pressure: p50, p99, max.
    pub start_delay_us: [f64; 3],
    /// Longest backlog of arrivals waiting for a free slot.
    pub backlog_max: u64,
    /// Milliseconds spent at the in-flight cap.
    pub capped_ms: u64,
    /// CPU seconds of the driver's threads.
    pub cpu_seconds: f64,
}

/// One reason to doubt the figures (not the safety verdict).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoundnessFinding {
    /// Stable code: `driver_saturated`, `fault_without_effect`, `proxy_bypassed`,
    /// `disk_does_not_sync`, ….
    pub code: String,
    /// True when it makes the run unsound; false for a note.
    pub fatal: bool,
    /// What was seen, with figures.
    pub detail: String,
}

impl SoundnessFinding {
    /// Operations started later than planned with slots free.
    pub const DRIVER_SATURATED: &str = "driver_saturated";
    /// The host gave this machine's CPU time to others (steal).
    pub const HOST_WITHHELD_CPU: &str = "host_withheld_cpu";
    /// The simulator, which sees all servers, saw a rule of the protocol broken.
    pub const INVARIANT_BROKEN: &str = "invariant_broken";
}
