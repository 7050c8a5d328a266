//! A run folder as something to compare: its figures by metric, its waits after faults, its
//! latencies by second. Reads what the report and the driver wrote; measures nothing anew, and
//! judges nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use quorate_check::history::Phase;

use super::bootstrap::{self, NEVER, Sparse, Stretches};
use super::metric::{Kind, Metric};
use super::survival::Wait;
use crate::figures::is_workload_code;
use crate::folder::{Manifest, NodeSample, RunFolder};
use crate::plan::{PLAN_FORMATS, Plan};
use crate::report::{self, FaultSummary, Marks, Summary};

/// So many operations must lie beyond a quantile for it to be one.
const BEYOND_MIN: f64 = 10.0;

/// A figure of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Value {
    /// In the unit of its metric.
    pub value: f64,
    /// True if the real one is this or more.
    pub at_least: bool,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Run {
    /// The folder as it was named.
    pub name: String,
    /// The folder itself.
    pub folder: RunFolder,
    /// What it did.
    pub plan: Plan,
    /// Who ran it, where.
    pub manifest: Manifest,
    /// Its report's figures.
    pub summary: Summary,
    /// What it is compared by.
    pub figures: Figures,
}

/// What a run is compared by.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Figures by metric.
    pub values: BTreeMap<Metric, Value>,
    /// From the heal of each fault until service was good again.
    pub recoveries: Vec<Wait>,
    /// Acknowledged and unanswered operations by class; `None`: of all. A second each; what was
    /// never acknowledged is [`NEVER`].
    pub latencies: BTreeMap<Option<String>, Stretches>,
}

/// Why a run cannot be compared. What was asked for is wrong, not the harness.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// It cannot be read.
    #[error("{folder}: {cause}")]
    Report {
        /// The folder as it was named.
        folder: String,
        /// Cause.
        cause: report::ReportError,
    },
    /// It has not got to its end.
    #[error("{folder} has no {file}: the run did not get to its end, or is none")]
    Missing {
        /// The folder as it was named.
        folder: String,
        /// What it lacks.
        file: &'static str,
    },
    /// Its interval log is damaged.
    #[error("{folder}/intervals.hlog: {what}")]
    Intervals {
        /// The folder as it was named.
        folder: String,
        /// What is wrong.
        what: String,
    },
    /// A folder of a suite without a run of the experiment that it is compared with.
    #[error("{folder} has no run of `{name}`: name one of its runs (`quorate list`)")]
    NotIn {
        /// The folder as it was named.
        folder: String,
        /// The experiment.
        name: String,
    },
    /// Fewer than two.
    #[error("name at least two runs to compare")]
    TooFew,
}

/// The runs that folders stand for: themselves, and of the folder of a suite the last run of the
/// experiment that the others did.
///
/// # Errors
/// When there is no such run, or a plan cannot be understood.
pub fn runs_in(folders: &[PathBuf]) -> Result<Vec<PathBuf>, CompareError> {
    let mut names = Vec::new();
    for folder in folders {
        names.extend(experiment(folder)?);
    }
    let Some(name) = names.first() else { return Ok(folders.to_vec()) };
    let runs = folders.iter().map(|folder| {
        let is_suite = !RunFolder::new(folder).plan().exists() && folder.is_dir();
        if is_suite { last_of(folder, name) } else { Ok(folder.clone()) }
    });
    runs.collect()
}

/// What the run in a folder did; `None` if there is none.
fn experiment(folder: &Path) -> Result<Option<String>, CompareError> {
    let named = folder.display().to_string();
    let plan = report::versioned_in::<Plan>(&RunFolder::new(folder).plan(), PLAN_FORMATS);
    let plan = plan.map_err(|cause| CompareError::Report { folder: named, cause })?;
    Ok(plan.map(|plan| plan.name))
}

fn last_of(suite: &Path, name: &str) -> Result<PathBuf, CompareError> {
    let folder = suite.display().to_string();
    let failed = |cause| CompareError::Report { folder: folder.clone(), cause };
    // By their names, which begin with the time.
    for run in report::run_folders(suite).map_err(failed)?.into_iter().rev() {
        if experiment(&run)?.as_deref() == Some(name) {
            return Ok(run);
        }
    }
    Err(CompareError::NotIn { folder, name: name.to_owned() })
}

/// Reads the run in a folder.
///
/// # Errors
/// When the run did not get to its end, or something in it cannot be understood.
pub fn run(path: &Path) -> Result<Run, CompareError> {
    let folder = RunFolder::new(path);
    let name = path.display().to_string();
    let failed = |cause| CompareError::Report { folder: name.clone(), cause };
    let lacks = |file| CompareError::Missing { folder: name.clone(), file };
    let plan: Plan = report::versioned_in(&folder.plan(), PLAN_FORMATS)
        .map_err(failed)?
        .ok_or_else(|| lacks("plan.json"))?;
    let manifest = report::read_manifest(&folder).map_err(failed)?;
    let manifest = manifest.ok_or_else(|| lacks("manifest.json"))?;
    let summary = report::read_summary(&folder).map_err(failed)?;
    let summary = summary.ok_or_else(|| lacks("summary.json"))?;
    let marks = report::marks(&folder).map_err(failed)?;
    let recoveries = recoveries(&summary.faults);
    let log = match std::fs::read(folder.intervals()) {
        Ok(log) => by_second(&log)
            .map_err(|what| CompareError::Intervals { folder: name.clone(), what })?,
        // A run of an earlier version may lack it; what is made of it is then left out.
        Err(_) => Log::default(),
    };
    let mut values = values(&summary, &marks);
    values.extend(log.quantiles());
    let latencies = log.seconds;
    let figures = Figures { values, recoveries, latencies };
    Ok(Run { name, folder, plan, manifest, summary, figures })
}

/// The figures of a run.
fn values(summary: &Summary, marks: &Marks) -> BTreeMap<Metric, Value> {
    let mut values = BTreeMap::new();
    let mut put = |metric: Metric, value: f64, at_least: bool| {
        values.insert(metric, Value { value, at_least });
    };
    put(Kind::Throughput.into(), summary.achieved_rate, false);
    let total = summary.counts.total().max(1) as f64;
    let of_workload = summary.codes.iter().filter(|(code, _)| is_workload_code(code));
    let of_workload: u64 = of_workload.map(|(_, count)| *count).sum();
    let refused = summary.counts.failed.saturating_sub(of_workload);
    put(Kind::Refused.into(), refused as f64 / total, false);
    put(Kind::Unknown.into(), summary.counts.unknown as f64 / total, false);
    let unavailable: Vec<f64> = summary.faults.iter().filter_map(|of| of.unavailable_s).collect();
    if !unavailable.is_empty() {
        let mean = unavailable.iter().sum::<f64>() / unavailable.len() as f64;
        let is_open = summary.faults.iter().any(|fault| fault.unavailable_open);
        put(Kind::Unavailable.into(), mean, is_open);
    }
    let used = Used::of(marks);
    let writes: u64 =
        summary.classes.iter().filter(|of| is_write(&of.name)).map(|of| of.counts.ok).sum();
    if writes > 0 && used.cpu_s > 0.0 {
        put(Kind::CpuPerWrite.into(), used.cpu_s * 1e6 / writes as f64, false);
    }
    if writes > 0 && used.sent > 0.0 {
        put(Kind::WirePerWrite.into(), used.sent / writes as f64, false);
    }
    if used.memory > 0 {
        put(Kind::MemoryPeak.into(), used.memory as f64 / f64::from(1 << 20), false);
    }
    values
}

fn is_write(class: &str) -> bool {
    !class.starts_with("read")
}

/// What the servers used in the measure phase.
#[derive(Debug, Default)]
struct Used {
    cpu_s: f64,
    sent: f64,
    memory: u64,
}

impl Used {
    fn of(marks: &Marks) -> Self {
        let mut used = Self::default();
        let Some(measured) = marks.phases.iter().find(|mark| mark.phase == Phase::Measure) else {
            return used;
        };
        let mut last: BTreeMap<&str, &NodeSample> = BTreeMap::new();
        let inside = |sample: &&NodeSample| (measured.from..measured.to).contains(&sample.at);
        for sample in marks.samples.iter().filter(inside) {
            used.memory = used.memory.max(sample.rss_bytes);
            if let Some(before) = last.insert(&sample.node, sample) {
                used.cpu_s += grown(before.cpu_seconds, sample.cpu_seconds);
                used.sent += grown(sent(before), sent(sample));
            }
        }
        used
    }
}

/// How much a counter grew; a process that began anew began at 0.
fn grown(before: f64, now: f64) -> f64 {
    if now >= before { now - before } else { now }
}

/// Bytes that a server sent to others over all its links.
fn sent(sample: &NodeSample) -> f64 {
    let is_sent = |name: &str| {
        name.starts_with("quorate_link_bytes_total{") && name.contains("direction=\"sent\"")
    };
    sample.metrics.iter().filter(|(name, _)| is_sent(name)).map(|(_, value)| value).sum()
}

/// One wait a fault that was healed and that clients everywhere could notice; 0 s where none did.
fn recoveries(faults: &[FaultSummary]) -> Vec<Wait> {
    let of = |fault: &FaultSummary| {
        let all = fault.groups.first().filter(|all| all.counts.total() > 0)?;
        fault.healed_s?;
        match all.recovery_s {
            Some(seconds) => Some(Wait { seconds, censored: all.recovery_at_least }),
            None if !all.disturbed => Some(Wait { seconds: 0.0, censored: false }),
            None => None,
        }
    };
    faults.iter().filter_map(of).collect()
}

/// An interval log by class; `None`: all classes together.
#[derive(Debug, Default)]
struct Log {
    /// In order of time. What was never acknowledged is [`NEVER`].
    seconds: BTreeMap<Option<String>, Stretches>,
    /// For how long anything was waited for, in microseconds.
    longest: BTreeMap<Option<String>, u64>,
}

impl Log {
    /// The quantiles that enough operations lie beyond. One that lies among operations that were
    /// never acknowledged is as long as was waited, or more.
    fn quantiles(&self) -> BTreeMap<Metric, Value> {
        let mut found = BTreeMap::new();
        for (class, seconds) in &self.seconds {
            let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
            for (value, count) in seconds.iter().flatten() {
                *counts.entry(*value).or_default() += count;
            }
            let all: u64 = counts.values().sum();
            let counts: Sparse = counts.into_iter().collect();
            for kind in [Kind::P50, Kind::P99, Kind::P999] {
                let q = kind.quantile().unwrap_or_default();
                let Some(micros) = bootstrap::quantile(&counts, q) else { continue };
                if (1.0 - q) * all as f64 + 1e-6 < BEYOND_MIN {
                    continue;
                }
                let at_least = micros == NEVER;
                let longest = self.longest.get(class).copied().unwrap_or_default();
                let micros = if at_least { longest } else { micros };
                let value = Value { value: micros as f64 / 1e3, at_least };
                found.insert(Metric { kind, class: class.clone() }, value);
            }
        }
        found
    }
}

/// Reads an interval log.
fn by_second(log: &[u8]) -> Result<Log, String> {
    let mut seconds: BTreeMap<(Option<String>, u64), BTreeMap<u64, u64>> = BTreeMap::new();
    let mut read = Log::default();
    let mut deserializer = Deserializer::new();
    for entry in IntervalLogIterator::new(log) {
        let LogEntry::Interval(interval) = entry.map_err(|error| format!("{error:?}"))? else {
            continue;
        };
        let named = interval.tag().and_then(|tag| tag.as_str().rsplit_once('.'));
        let Some((tag, outcome)) = named.filter(|(_, outcome)| *outcome != "failed") else {
            continue;
        };
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(interval.encoded_histogram())
            .map_err(|error| error.to_string())?;
        let found: Histogram<u64> =
            deserializer.deserialize(&mut &bytes[..]).map_err(|error| error.to_string())?;
        let second = interval.start_timestamp().as_secs();
        for class in [Some(class(tag).to_owned()), None] {
            let longest = read.longest.entry(class.clone()).or_default();
            *longest = found.max().max(*longest);
            let into = seconds.entry((class, second)).or_default();
            for step in found.iter_recorded() {
                let place = if outcome == "ok" { step.value_iterated_to() } else { NEVER };
                *into.entry(place).or_default() += step.count_at_value();
            }
        }
    }
    for ((class, _), counts) in seconds {
        read.seconds.entry(class).or_default().push(counts.into_iter().collect());
    }
    Ok(read)
}

/// The class of a tag as reports name it.
fn class(tag: &str) -> &str {
    match tag {
        "read_majority" => "read (majority)",
        "read_local" => "read (local)",
        "update_versioned" => "update",
        other => other,
    }
}
