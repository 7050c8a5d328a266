//! `summary.json`: the figures of a report for programs. Versioned; units are in the names.

use std::collections::BTreeMap;

use quorate_check::verdict::Verdict;
use serde::{Deserialize, Serialize};

use super::availability::{self, AvailabilitySummary};
use super::consequences::{self, SeriesSummary, Waited};
use super::load::Run;
use crate::figures::{
    self, Availability, Bound, ClassFigures, Counts, FaultFigures, Figures, Gap, GroupFigures,
    Interruption, Latencies, NodeAvailability, PeakMemory, Recovery, Staleness, doubt, peak_memory,
    seconds,
};
use crate::folder::{DriverSummary, NodeSample};
use crate::plan::LoadMode;

/// Version of `summary.json` that this program writes and reads.
pub const SUMMARY_FORMAT: u32 = 1;

/// The figures of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`SUMMARY_FORMAT`] of the writer.
    pub format: u32,
    /// Name of the experiment.
    pub name: String,
    /// One sentence about it.
    pub description: String,
    /// Root of every random stream.
    pub seed: u64,
    /// Wall-clock start, RFC 3339; empty if unknown.
    pub started: String,
    /// Stage that ran; empty if unknown.
    pub stage: String,
    /// True if the figures come from the simulator.
    pub simulated: bool,
    /// Command that repeats the run; empty if unknown.
    pub repeat: String,
    /// Number of MASTERs.
    pub masters: usize,
    /// Number of REPLICAs; 0 in summaries of earlier versions, which had none.
    #[serde(default)]
    pub replicas: usize,
    /// Write quorum as configured.
    pub write_quorum: String,
    /// What the checkers say.
    pub safety: Safety,
    /// Whether the figures can be trusted.
    pub measurement: Measurement,
    /// Whether what quorum arithmetic expects was kept; `None` in earlier versions.
    #[serde(default)]
    pub availability: Option<AvailabilitySummary>,
    /// Arrivals per second asked for; `None` in a closed loop.
    pub asked_rate: Option<f64>,
    /// Operations intended per second.
    pub offered_rate: f64,
    /// Acknowledged operations per second.
    pub achieved_rate: f64,
    /// Length of the measure phase in seconds.
    pub measured_s: f64,
    /// Outcomes in the measure phase.
    pub counts: Counts,
    /// Not-ok operations by code.
    pub codes: BTreeMap<String, u64>,
    /// Longest time without an acknowledged operation.
    pub gap: GapSummary,
    /// The same for writing operations; `None` without any.
    pub gap_writes: Option<GapSummary>,
    /// All classes together.
    pub all: ClassSummary,
    /// One an operation class.
    pub classes: Vec<ClassSummary>,
    /// One a server.
    pub nodes: Vec<NodeSummary>,
    /// One a fault.
    pub faults: Vec<FaultSummary>,
    /// One a kind of fault that left a majority; not in summaries of earlier versions.
    #[serde(default)]
    pub interruptions: Vec<InterruptionSummary>,
    /// How old local reads were, by role; not in summaries of earlier versions.
    #[serde(default)]
    pub staleness: Vec<StalenessSummary>,
    /// The driver about itself.
    pub driver: Option<DriverSummary>,
    /// What the run folder lacks.
    pub missing: Vec<String>,
}

/// For how long newer values had been acknowledged when local reads were sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StalenessSummary {
    /// `MASTERs` or `REPLICAs`.
    pub role: String,
    /// Acknowledged local reads.
    pub reads: u64,
    /// Those that saw what was no longer the newest.
    pub stale: u64,
    /// Age of the 99th of a hundred reads, in seconds; 0 is up to date.
    pub p99_s: f64,
    /// Age of the oldest.
    pub max_s: f64,
}

/// What the checkers say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Safety {
    /// The merge of all verdicts; unknown if there are none.
    pub verdict: Verdict,
    /// True if every checker says what the plan expects of it.
    pub as_expected: bool,
    /// Verdict by checker.
    pub checkers: BTreeMap<String, Verdict>,
    /// Acknowledged records that were lost; `None` if not judged.
    pub records_lost: Option<u64>,
    /// Records on which servers differ at the end; `None` if not judged.
    pub records_diverged: Option<u64>,
}

/// Whether the figures can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    /// False if any finding is fatal, or the run ended before anybody looked.
    pub sound: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

/// A time without success; seconds from the begin of the measure phase.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GapSummary {
    /// Its begin.
    pub from_s: f64,
    /// Its length.
    pub length_s: f64,
    /// True if it reached the end of the measure phase and may have lasted longer.
    pub open: bool,
}

/// Figures of an operation class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassSummary {
    /// Its name.
    pub name: String,
    /// By outcome.
    pub counts: Counts,
    /// Not-ok operations by code.
    pub codes: BTreeMap<String, u64>,
    /// From the intended start, acknowledged.
    pub response_ok: Latencies,
    /// From the intended start, definitely failed.
    pub response_failed: Latencies,
    /// From the intended start until given up.
    pub response_unknown: Latencies,
    /// Acknowledged and given up together, the latter as lower bounds.
    pub response_waiting: Latencies,
    /// From sending, acknowledged.
    pub service_ok: Latencies,
    /// From the intended start to sending.
    pub start_delay: Latencies,
}

/// Figures of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeSummary {
    /// Its name.
    pub name: String,
    /// Outcomes of operations sent to it.
    pub counts: Counts,
    /// Operations that it served well.
    pub good: u64,
    /// Longest time without an acknowledged operation.
    pub gap: GapSummary,
    /// The most memory it had; not in summaries of earlier versions, nor of simulated servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<PeakMemory>,
}

/// How long writers that had a majority were interrupted by faults of one kind; seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterruptionSummary {
    /// Kind and target as requested.
    pub requested: String,
    /// How many faults this is over.
    pub times: usize,
    /// The median of their longest times without an acknowledged write.
    pub median_s: f64,
    /// The longest of all.
    pub longest: GapSummary,
    /// The fault that it belongs to.
    pub longest_of: String,
    /// Below it an interruption cannot be told from none; `None` without writes outside faults.
    pub resolution_s: Option<f64>,
}

/// A fault and its consequences; seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultSummary {
    /// Its name in the plan.
    pub name: String,
    /// Kind and target as requested.
    pub requested: String,
    /// Servers hit.
    pub resolved: Vec<String>,
    /// Its effect, from the begin of the measure phase.
    pub effect_s: f64,
    /// Its heal, from the begin of the measure phase; `None` if there was none.
    pub healed_s: Option<f64>,
    /// From the effect to the first failure that a client saw.
    pub first_failure_s: Option<f64>,
    /// From the effect to the first explicit refusal.
    pub first_refusal_s: Option<f64>,
    /// Other faults in force at the same time.
    #[serde(default)]
    pub overlaps: Vec<String>,
    /// How long at least one series was unavailable for it; `None` in earlier versions.
    #[serde(default)]
    pub unavailable_s: Option<f64>,
    /// True if one still was when it was watched no longer.
    #[serde(default)]
    pub unavailable_open: bool,
    /// From the heal until no local read lacked what was acknowledged meanwhile.
    #[serde(default)]
    pub convergence: Waited,
    /// What became of each series; none in earlier versions.
    #[serde(default)]
    pub series: Vec<SeriesSummary>,
    /// All servers, the servers hit, the others.
    pub groups: Vec<GroupSummary>,
}

/// What clients of a group of servers saw of a fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupSummary {
    /// Which servers.
    pub label: String,
    /// Outcomes of operations intended while it was in force.
    pub counts: Counts,
    /// Explicit refusals among the failed.
    pub refused: u64,
    /// Operations that were not served well; 0 in earlier versions.
    #[serde(default)]
    pub lost: u64,
    /// Longest time without an acknowledged operation.
    pub gap: GapSummary,
    /// The same for writing operations; `None` if nobody tried to write.
    pub gap_writes: Option<GapSummary>,
    /// True if clients noticed.
    pub disturbed: bool,
    /// Seconds from the heal until service was good again; exact unless `at_least`. `None` if not
    /// disturbed or not healed.
    pub recovery_s: Option<f64>,
    /// True if service was not good again while it was watched.
    pub recovery_at_least: bool,
}

/// Builds the summary.
pub(super) fn summary(run: &Run, figures: &Figures) -> Summary {
    let manifest = run.manifest.as_ref();
    let origin = figures.window.from;
    let text =
        |of: fn(&crate::folder::Manifest) -> &String| manifest.map(of).cloned().unwrap_or_default();
    Summary {
        format: SUMMARY_FORMAT,
        name: run.plan.name.clone(),
        description: run.plan.description.clone(),
        seed: run.plan.seed,
        started: text(|manifest| &manifest.started),
        stage: text(|manifest| &manifest.stage),
        simulated: run.history.header.simulated,
        repeat: text(|manifest| &manifest.repeat),
        masters: run.plan.topology.masters.len(),
        replicas: run.plan.topology.replicas.len(),
        write_quorum: run.plan.topology.write_quorum.clone(),
        safety: safety(run),
        measurement: measurement(run),
        availability: Some(availability::summary(origin, &judged(run))),
        asked_rate: match run.plan.load.mode {
            LoadMode::Open { rate, .. } => Some(rate),
            LoadMode::Closed => None,
        },
        offered_rate: figures.offered_rate,
        achieved_rate: figures.achieved_rate,
        measured_s: figures.window.seconds(),
        counts: figures.counts,
        codes: figures.codes.clone(),
        gap: gap(origin, figures.gap),
        gap_writes: figures.gap_writes.map(|found| gap(origin, found)),
        all: class(&figures.all),
        classes: figures.classes.iter().map(class).collect(),
        nodes: figures.nodes.iter().map(|found| node(origin, found, &run.samples)).collect(),
        faults: figures.faults.iter().map(|found| fault(origin, found)).collect(),
        interruptions: figures.interruptions.iter().map(|i| interruption(origin, i)).collect(),
        staleness: figures.staleness.iter().map(staleness).collect(),
        driver: run.driver.clone(),
        missing: run.missing.clone(),
    }
}

/// The verdict on availability. A run that ended before its figures were looked at is doubted.
fn judged(run: &Run) -> Availability {
    let ended = "the run ended before its soundness was looked at";
    let doubt = match &run.soundness {
        Some(findings) => doubt(findings),
        None => Some(ended.to_owned()),
    };
    figures::availability(&run.input(), &run.samples, doubt)
}

impl Summary {
    /// Quantile of acknowledged operations that stands on the first screen.
    #[must_use]
    pub fn p99(&self) -> Option<Bound> {
        self.all.response_ok.p99
    }
}

fn safety(run: &Run) -> Safety {
    let Some(report) = &run.verdicts else {
        return Safety {
            verdict: Verdict::Unknown,
            as_expected: false,
            checkers: BTreeMap::new(),
            records_lost: None,
            records_diverged: None,
        };
    };
    let checkers: BTreeMap<String, Verdict> = report
        .judgements
        .iter()
        .map(|judgement| (judgement.checker.name().to_owned(), judgement.verdict))
        .collect();
    // What the simulator saw broken; no plan expects it.
    let of_checkers = checkers.values().copied().fold(Verdict::Valid, Verdict::merge);
    let beyond = report.verdict == Verdict::Violated && of_checkers != Verdict::Violated;
    let named = run.plan.expect.keys().all(|name| checkers.contains_key(name));
    let count = |name: &str| {
        let found = report.judgements.iter().filter_map(|judgement| judgement.counts.get(name));
        found.copied().reduce(|sum, next| sum + next)
    };
    Safety {
        verdict: report.verdict,
        as_expected: named
            && !beyond
            && checkers.iter().all(|(name, found)| run.plan.accepts(name, *found)),
        records_lost: count("acked-lost"),
        records_diverged: count("keys-diverged"),
        checkers,
    }
}

fn measurement(run: &Run) -> Measurement {
    let reasons: Vec<String> = match &run.soundness {
        None => vec!["the run ended before its soundness was looked at".to_owned()],
        Some(findings) => findings
            .iter()
            .filter(|finding| finding.fatal)
            .map(|finding| format!("{}: {}", finding.code, finding.detail))
            .collect(),
    };
    Measurement { sound: reasons.is_empty(), reasons }
}

fn gap(origin: u64, gap: Gap) -> GapSummary {
    GapSummary {
        from_s: super::plot::since(origin, gap.from),
        length_s: seconds(gap.length()),
        open: gap.open,
    }
}

fn class(class: &ClassFigures) -> ClassSummary {
    ClassSummary {
        name: class.name.clone(),
        counts: class.counts,
        codes: class.codes.clone(),
        response_ok: (&class.response_ok).into(),
        response_failed: (&class.response_failed).into(),
        response_unknown: (&class.response_unknown).into(),
        response_waiting: (&class.response_waiting).into(),
        service_ok: (&class.service_ok).into(),
        start_delay: (&class.start_delay).into(),
    }
}

fn node(origin: u64, node: &NodeAvailability, samples: &[NodeSample]) -> NodeSummary {
    NodeSummary {
        name: node.name.clone(),
        counts: node.counts,
        good: node.good,
        gap: gap(origin, node.gap),
        peak_memory: peak_memory(samples, &node.name),
    }
}

fn fault(origin: u64, fault: &FaultFigures) -> FaultSummary {
    FaultSummary {
        name: fault.name.clone(),
        requested: fault.requested.clone(),
        resolved: fault.resolved.clone(),
        effect_s: super::plot::since(origin, fault.effect),
        healed_s: fault.healed.map(|at| super::plot::since(origin, at)),
        first_failure_s: fault.first_failure.map(seconds),
        first_refusal_s: fault.first_refusal.map(seconds),
        overlaps: fault.overlaps.clone(),
        unavailable_s: Some(seconds(fault.unavailable)),
        unavailable_open: fault.unavailable_open,
        convergence: fault.convergence.into(),
        series: fault.series.iter().map(consequences::series).collect(),
        groups: fault.groups.iter().map(|found| group(origin, found)).collect(),
    }
}

fn interruption(origin: u64, found: &Interruption) -> InterruptionSummary {
    InterruptionSummary {
        requested: found.requested.clone(),
        times: found.times,
        median_s: seconds(found.median),
        longest: gap(origin, found.longest),
        longest_of: found.longest_of.clone(),
        resolution_s: found.resolution.map(seconds),
    }
}

fn staleness(found: &Staleness) -> StalenessSummary {
    StalenessSummary {
        role: found.role.to_owned(),
        reads: found.reads,
        stale: found.stale,
        p99_s: seconds(found.p99),
        max_s: seconds(found.max),
    }
}

fn group(origin: u64, group: &GroupFigures) -> GroupSummary {
    let (recovery_s, recovery_at_least) = match group.recovery {
        Recovery::NoTraffic | Recovery::Undisturbed | Recovery::NotHealed => (None, false),
        Recovery::After(nanos) => (Some(seconds(nanos)), false),
        Recovery::NotWithin(nanos) => (Some(seconds(nanos)), true),
    };
    GroupSummary {
        label: group.label.clone(),
        counts: group.counts,
        refused: group.refused,
        lost: group.lost,
        gap: gap(origin, group.gap),
        gap_writes: group.gap_writes.map(|found| gap(origin, found)),
        disturbed: match group.recovery {
            Recovery::NoTraffic | Recovery::Undisturbed => false,
            Recovery::After(_) | Recovery::NotWithin(_) | Recovery::NotHealed => true,
        },
        recovery_s,
        recovery_at_least,
    }
}
