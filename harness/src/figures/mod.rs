//! Figures of a run: pure functions over its history, plan, phases and fault records.
//! No files, no clock, no drawing here; loading and printing live in `report/`.
//!
//! Only operations of the measure phase count, except on the time line, which also shows warm-up
//! and settling. Every latency starts at the *intended* time, and an operation with unknown outcome
//! stays in the distribution as "at least as long as was waited".

mod availability;
pub mod bootstrap;
mod convergence;
mod distribution;
mod expected;
mod faults;
mod gaps;
mod interruptions;
mod operations;
mod resources;
mod series;
mod staleness;
mod timeline;
pub mod usl;

#[cfg(test)]
mod sample;

use std::collections::BTreeMap;

use quorate_check::history::{History, Nanos, Operation, Outcome, Phase};
use serde::{Deserialize, Serialize};

use crate::folder::{FaultRecord, PhaseMark};
use crate::plan::Plan;

pub use availability::{NodeAvailability, Slice, node_availability};
pub use convergence::Convergence;
pub use distribution::{Bound, Distribution, curve_quantiles};
pub use expected::{
    Availability, Breach, Broken, DETECTION, Expectation, Expected, Stall, availability, doubt,
};
pub use faults::{FaultFigures, GroupFigures, Recovery, fault_figures};
pub use gaps::{Gap, longest_gap, longest_gap_touching};
pub use interruptions::Interruption;
pub use operations::{ClassFigures, Latencies, class_figures, class_of};
pub use resources::{PeakMemory, Point, Resource, ResourceSeries, peak_memory, resources};
pub use series::{Answers, BAD_RUN, GOOD_RUN, SeriesFigures, Served, Unavailable};
pub use staleness::{Staleness, staleness};
pub use timeline::{Slot, Timeline, slot_length, timeline, timeline_in};

/// Replies that are a normal part of a workload: they prove that the server works, not that it
/// failed.
///
/// `busy` is none of them. The server has waited and tried again before it says so, and the answer
/// does not depend on what the client asked for: a lock whose coordinator is out of reach looks
/// like this, and a user whose write is refused until the heal has an outage.
const WORKLOAD_CODES: [&str; 3] = ["version_conflict", "not_found", "class_exists"];

/// Codes of definite failures that the client found itself, so no server refused anything.
const CLIENT_CODES: [&str; 4] = ["connect_refused", "connect_timeout", "not_sent", "never_sent"];

/// A span of time, nanoseconds on the history's clock; `to` is excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its begin.
    pub from: Nanos,
    /// Its end.
    pub to: Nanos,
}

impl Window {
    /// Length in nanoseconds; 0 when the end lies before the begin.
    #[must_use]
    pub fn length(&self) -> Nanos {
        self.to.saturating_sub(self.from)
    }

    /// Length in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        seconds(self.length())
    }

    /// True if `at` lies inside.
    #[must_use]
    pub fn contains(&self, at: Nanos) -> bool {
        self.from <= at && at < self.to
    }
}

/// Nanoseconds as seconds.
#[must_use]
pub fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}

/// How many operations had which outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Acknowledged.
    pub ok: u64,
    /// Definitely did not happen.
    pub failed: u64,
    /// May have happened.
    pub unknown: u64,
}

impl Counts {
    /// One more of `outcome`.
    pub fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Ok => self.ok += 1,
            Outcome::Failed => self.failed += 1,
            Outcome::Unknown => self.unknown += 1,
        }
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.ok + self.failed + self.unknown
    }
}

/// What the figures are made from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Every operation.
    pub history: &'a History,
    /// What was planned.
    pub plan: &'a Plan,
    /// When the phases were; may be empty for a run that crashed.
    pub phases: &'a [PhaseMark],
    /// Injects and heals; may be empty.
    pub faults: &'a [FaultRecord],
}

impl Input<'_> {
    /// The measure phase: as marked, else from the first to the last operation of it.
    #[must_use]
    pub fn measure_window(&self) -> Window {
        if let Some(mark) = self.phases.iter().find(|mark| mark.phase == Phase::Measure) {
            return Window { from: mark.from, to: mark.to };
        }
        let from = self.measured().map(|op| op.intended).min().unwrap_or(0);
        let to = self.measured().map(|op| op.done.unwrap_or(op.sent)).max().unwrap_or(from);
        Window { from, to: to.max(from) }
    }

    /// Operations of the measure phase.
    pub fn measured(&self) -> impl Iterator<Item = &Operation> {
        self.history.operations.iter().filter(|op| op.phase == Phase::Measure)
    }

    /// The last time that the history knows of: what is pending was waited for until then.
    #[must_use]
    pub fn end(&self) -> Nanos {
        let operations = self.history.operations.iter().map(|op| op.done.unwrap_or(op.sent)).max();
        let phases = self.phases.iter().map(|mark| mark.to).max();
        operations.unwrap_or(0).max(phases.unwrap_or(0))
    }

    /// When the client knew the outcome of `op`, or gave up waiting for it.
    #[must_use]
    pub fn answered(&self, op: &Operation) -> Nanos {
        if let Some(done) = op.done {
            return done;
        }
        if op.code.as_deref() == Some("client_timeout") {
            return op.sent + self.timeout();
        }
        self.end().max(op.sent)
    }

    /// The client's time-out in nanoseconds.
    #[must_use]
    pub fn timeout(&self) -> Nanos {
        self.plan.load.timeout_ms * 1_000_000
    }

    /// Nanoseconds from the intended start of `op` until the client knew or gave up.
    #[must_use]
    pub fn response(&self, op: &Operation) -> Nanos {
        self.answered(op).saturating_sub(op.intended)
    }

    /// True if a user would say that the service worked: acknowledged within the client's time-out
    /// counted from the intended start, or answered with a code that is part of the workload.
    #[must_use]
    pub fn is_good(&self, op: &Operation) -> bool {
        match op.outcome {
            Outcome::Ok => self.response(op) <= self.timeout(),
            Outcome::Failed => is_workload_reply(op),
            Outcome::Unknown => false,
        }
    }
}

/// True for a definite failure that is a normal part of the workload, such as a version conflict.
#[must_use]
pub fn is_workload_reply(op: &Operation) -> bool {
    op.outcome == Outcome::Failed && op.code.as_deref().is_some_and(is_workload_code)
}

/// True for the code of such a failure.
#[must_use]
pub fn is_workload_code(code: &str) -> bool {
    WORKLOAD_CODES.contains(&code)
}

/// True for an explicit refusal by a server, as opposed to a hang or a broken connection.
#[must_use]
pub fn is_refusal(op: &Operation) -> bool {
    op.outcome == Outcome::Failed
        && !is_workload_reply(op)
        && op.code.as_deref().is_some_and(|code| !CLIENT_CODES.contains(&code))
}

/// Every figure of a run.
#[derive(Debug, Clone)]
pub struct Figures {
    /// The measure phase.
    pub window: Window,
    /// Outcomes of the measure phase.
    pub counts: Counts,
    /// Operations intended per second of the measure phase.
    pub offered_rate: f64,
    /// Acknowledged operations per second of the measure phase.
    pub achieved_rate: f64,
    /// All classes together; its name is `all`.
    pub all: ClassFigures,
    /// One an operation class, by name.
    pub classes: Vec<ClassFigures>,
    /// Not-ok operations by code.
    pub codes: BTreeMap<String, u64>,
    /// Longest time without an acknowledged operation of any class.
    pub gap: Gap,
    /// The same for operations that write; `None` if the workload has none.
    pub gap_writes: Option<Gap>,
    /// Figures over time.
    pub timeline: Timeline,
    /// One a server.
    pub nodes: Vec<NodeAvailability>,
    /// One a fault, in order of effect.
    pub faults: Vec<FaultFigures>,
    /// One a kind of fault that left a majority.
    pub interruptions: Vec<Interruption>,
    /// How old local reads were, by the role of the server asked.
    pub staleness: Vec<Staleness>,
}

/// Computes every figure.
#[must_use]
pub fn figures(input: &Input<'_>) -> Figures {
    let window = input.measure_window();
    let mut counts = Counts::default();
    let mut codes = BTreeMap::new();
    for op in input.measured() {
        counts.add(op.outcome);
        if op.outcome != Outcome::Ok {
            *codes.entry(code_of(op)).or_insert(0) += 1;
        }
    }
    let per_second = |count: u64| {
        if window.length() == 0 { 0.0 } else { count as f64 / window.seconds() }
    };
    let timeline = timeline(input);
    let faults = fault_figures(input, timeline.slot);
    Figures {
        window,
        counts,
        offered_rate: per_second(counts.total()),
        achieved_rate: per_second(counts.ok),
        all: class_figures(input, "all", |_| true),
        classes: operations::classes(input),
        codes,
        gap: longest_gap(&gaps::acknowledged(input, |_| true), window),
        gap_writes: gaps::writes(input),
        nodes: node_availability(input, timeline.slot),
        interruptions: interruptions::interruptions(input, &faults),
        faults,
        staleness: staleness(input),
        timeline,
    }
}

/// The code of an operation that is not ok, `pending` or `unnamed` where the history has none.
#[must_use]
pub fn code_of(op: &Operation) -> String {
    match (&op.code, op.done) {
        (Some(code), _) => code.clone(),
        (None, None) => "pending".to_owned(),
        (None, Some(_)) => "unnamed".to_owned(),
    }
}
