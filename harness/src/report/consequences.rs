//! A fault's consequences for each series, as `summary.json` has them and as rows of the page.
//! Figures come from `figures/`; a figure that there is none of says why.

use serde::{Deserialize, Serialize};

use super::words::{self, NONE};
use crate::figures::{
    Answers, Convergence, Counts, FaultFigures, SeriesFigures, Served, Unavailable, seconds,
};

/// A time that was waited for something, or why there is none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Waited {
    /// `after`: it came. `not_within`: it did not while it was watched. Else why there is no time:
    /// `no_traffic`, `nothing_failed`, `always`, `nothing_written`, `not_looked`, `never_behind`,
    /// `not_healed`; empty in summaries of earlier versions.
    pub state: String,
    /// The time, in seconds; with `not_within` a lower bound, with `never_behind` the first look.
    pub seconds: Option<f64>,
    /// It may have come that much earlier; `None` where the series' resolution says so.
    #[serde(default)]
    pub resolution_s: Option<f64>,
}

/// A fault's consequences for the operations of one class at one server; seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesSummary {
    /// The server asked.
    pub node: String,
    /// The operation class.
    pub class: String,
    /// Outcomes of operations intended while the fault was in force.
    pub counts: Counts,
    /// Those of them that were not served well.
    pub lost: u64,
    /// Longest time between two operations while it was watched; `None` with fewer than two.
    pub resolution_s: Option<f64>,
    /// From the effect to the first failure; `None` if there was none.
    pub first_failure_s: Option<f64>,
    /// From the effect until every failure was a definite answer.
    pub answers: Waited,
    /// Sum of the unavailable times.
    pub unavailable_s: f64,
    /// How many there were.
    pub unavailable_times: usize,
    /// True if the last of them lasted longer than was watched.
    pub unavailable_open: bool,
    /// Unavailable times that began after the heal.
    pub afterwards_times: usize,
    /// Sum of these.
    pub afterwards_s: f64,
    /// From the heal until it was served well again.
    pub served: Waited,
}

fn waited(state: &str, nanos: Option<u64>) -> Waited {
    Waited { state: state.to_owned(), seconds: nanos.map(seconds), resolution_s: None }
}

impl From<Answers> for Waited {
    fn from(answers: Answers) -> Self {
        match answers {
            Answers::NoTraffic => waited("no_traffic", None),
            Answers::NothingFailed => waited("nothing_failed", None),
            Answers::After(nanos) => waited("after", Some(nanos)),
            Answers::NotWithin(nanos) => waited("not_within", Some(nanos)),
        }
    }
}

impl From<Served> for Waited {
    fn from(served: Served) -> Self {
        match served {
            Served::NoTraffic => waited("no_traffic", None),
            Served::Always => waited("always", None),
            Served::After(nanos) => waited("after", Some(nanos)),
            Served::NotWithin(nanos) => waited("not_within", Some(nanos)),
            Served::NotHealed => waited("not_healed", None),
        }
    }
}

impl From<Convergence> for Waited {
    fn from(convergence: Convergence) -> Self {
        match convergence {
            Convergence::NothingWritten => waited("nothing_written", None),
            Convergence::NotLooked => waited("not_looked", None),
            Convergence::NeverBehind { looked } => waited("never_behind", Some(looked)),
            Convergence::After { nanos, resolution } => {
                Self { resolution_s: Some(seconds(resolution)), ..waited("after", Some(nanos)) }
            }
            Convergence::NotWithin { nanos } => waited("not_within", Some(nanos)),
            Convergence::NotHealed => waited("not_healed", None),
        }
    }
}

/// Sum of unavailable times, in nanoseconds.
fn sum(times: &[Unavailable]) -> u64 {
    times.iter().map(|found| found.window.length()).sum()
}

/// One series for programs.
pub(super) fn series(series: &SeriesFigures) -> SeriesSummary {
    SeriesSummary {
        node: series.node.clone(),
        class: series.class.clone(),
        counts: series.counts,
        lost: series.lost,
        resolution_s: series.resolution.map(seconds),
        first_failure_s: series.first_failure.map(seconds),
        answers: series.answers.into(),
        unavailable_s: seconds(sum(&series.unavailable)),
        unavailable_times: series.unavailable.len(),
        unavailable_open: series.unavailable.iter().any(|found| found.open),
        afterwards_times: series.afterwards.len(),
        afterwards_s: seconds(sum(&series.afterwards)),
        served: series.served.into(),
    }
}

/// A fault for people.
#[derive(Debug, Serialize)]
pub(super) struct Consequences {
    /// Names of the faults that overlap it.
    overlaps: String,
    /// How long at least one series was unavailable.
    unavailable: String,
    /// From the heal until no read lacked anything.
    convergence: String,
    /// Series that lost an operation or were unavailable.
    rows: Vec<Row>,
    /// How many others there are.
    undisturbed: usize,
    /// How many series nobody asked while it was in force.
    unasked: usize,
}

/// One series in the table.
#[derive(Debug, Serialize)]
struct Row {
    series: String,
    /// Of how many operations, how many not served well, how many without a known outcome, the
    /// resolution, and the times.
    cells: [String; 9],
}

/// What the page says of a fault.
pub(super) fn of_fault(fault: &FaultFigures) -> Consequences {
    let disturbed = |series: &&SeriesFigures| {
        series.lost > 0 || !series.unavailable.is_empty() || !series.afterwards.is_empty()
    };
    let rows: Vec<Row> = fault.series.iter().filter(disturbed).map(row).collect();
    let unasked = |series: &&SeriesFigures| !disturbed(series) && series.counts.total() == 0;
    let unasked = fault.series.iter().filter(unasked).count();
    let open = if fault.unavailable_open { "≥\u{a0}" } else { "" };
    let none = fault.series.iter().all(|series| series.unavailable.is_empty());
    Consequences {
        overlaps: fault.overlaps.join(", "),
        unavailable: if none {
            "none".to_owned()
        } else {
            format!("{open}{}", words::nanos(fault.unavailable))
        },
        convergence: convergence(fault.convergence),
        undisturbed: fault.series.len() - rows.len() - unasked,
        unasked,
        rows,
    }
}

fn convergence(found: Convergence) -> String {
    match found {
        Convergence::NothingWritten => "nothing was acknowledged meanwhile".to_owned(),
        Convergence::NotLooked => "nobody read any of it".to_owned(),
        Convergence::NeverBehind { looked } => {
            format!("never seen behind, first read answered after {}", words::nanos(looked))
        }
        Convergence::After { nanos, resolution } => {
            format!("{}, resolution {}", words::nanos(nanos), words::nanos(resolution))
        }
        Convergence::NotWithin { nanos } => format!("not within {}", words::nanos(nanos)),
        Convergence::NotHealed => "not healed".to_owned(),
    }
}

fn row(series: &SeriesFigures) -> Row {
    let times = |found: &[Unavailable]| match found {
        [] => "none".to_owned(),
        [one] if one.open => format!("≥\u{a0}{}", words::nanos(one.window.length())),
        [one] => words::nanos(one.window.length()),
        many => {
            let open = if many.iter().any(|one| one.open) { "≥\u{a0}" } else { "" };
            format!("{open}{} in {}", words::nanos(sum(many)), words::count(many.len() as u64))
        }
    };
    let or_none = |figure: Option<u64>| figure.map_or_else(|| "none".to_owned(), words::nanos);
    Row {
        series: format!("{}, {}", series.node, series.class),
        cells: [
            words::count(series.counts.total()),
            words::count(series.lost),
            words::count(series.counts.unknown),
            or_none(series.first_failure),
            match series.answers {
                Answers::NoTraffic => NONE.to_owned(),
                Answers::NothingFailed => "nothing failed".to_owned(),
                Answers::After(nanos) => words::nanos(nanos),
                Answers::NotWithin(nanos) => format!("not within {}", words::nanos(nanos)),
            },
            times(&series.unavailable),
            match series.served {
                Served::NoTraffic => NONE.to_owned(),
                Served::Always => "always".to_owned(),
                Served::After(nanos) => words::nanos(nanos),
                Served::NotWithin(nanos) => format!("not within {}", words::nanos(nanos)),
                Served::NotHealed => "not healed".to_owned(),
            },
            times(&series.afterwards),
            series.resolution.map_or_else(|| NONE.to_owned(), words::nanos),
        ],
    }
}
