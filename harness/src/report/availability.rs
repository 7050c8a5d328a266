//! The verdict on availability as `summary.json` has it, and as the page tells it.
//! Judging is `figures/expected`'s.

use quorate_check::verdict::Verdict;
use serde::{Deserialize, Serialize};

use super::page::{Badge, tone};
use super::plot::since;
use super::words;
use crate::figures::{Availability, Breach, Broken, DETECTION, Expected, seconds};

/// What followed from quorum arithmetic, and whether it was kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AvailabilitySummary {
    /// Violated if something was broken; unknown if nothing definite was expected or the figures
    /// cannot be trusted.
    pub verdict: Verdict,
    /// What was expected of how many operations.
    pub expected: Expected,
    /// How long servers may take to notice a change, in seconds.
    pub detection_s: f64,
    /// What was broken.
    pub broken: Vec<BrokenSummary>,
    /// Times in which a disk stood still and nothing was expected.
    pub stalls: Vec<StallSummary>,
    /// Why breaches do not count, if they don't.
    pub doubt: Option<String>,
}

/// A disk that synced nothing although something waited for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StallSummary {
    /// Whose.
    pub node: String,
    /// Its begin, in seconds from the begin of the measure phase.
    pub from_s: f64,
    /// Its length in seconds, as looked at now and then.
    pub length_s: f64,
}

/// An expectation that the operations of one class at one server broke.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BrokenSummary {
    /// How.
    pub breach: Breach,
    /// The server asked.
    pub node: String,
    /// The operation class.
    pub class: String,
    /// How many operations.
    pub count: u64,
    /// Ids of the first of them, as in the history.
    pub operations: Vec<u64>,
    /// Intended start of the first, in seconds from the begin of the measure phase.
    pub from_s: f64,
    /// Intended start of the last.
    pub to_s: f64,
}

/// For programs; `origin` is the begin of the measure phase.
pub(super) fn summary(origin: u64, found: &Availability) -> AvailabilitySummary {
    let broken = |broken: &Broken| BrokenSummary {
        breach: broken.breach,
        node: broken.node.clone(),
        class: broken.class.clone(),
        count: broken.count,
        operations: broken.operations.clone(),
        from_s: since(origin, broken.from),
        to_s: since(origin, broken.to),
    };
    AvailabilitySummary {
        verdict: found.verdict,
        expected: found.expected,
        detection_s: seconds(DETECTION),
        broken: found.broken.iter().map(broken).collect(),
        stalls: found
            .stalls
            .iter()
            .map(|stall| StallSummary {
                node: stall.node.clone(),
                from_s: since(origin, stall.window.from),
                length_s: stall.window.seconds(),
            })
            .collect(),
        doubt: found.doubt.clone(),
    }
}

/// The badge of the first screen.
pub(super) fn badge(summary: &AvailabilitySummary) -> Badge {
    let expected = &summary.expected;
    let detail = match (summary.broken.first(), &summary.doubt) {
        (Some(first), None) => sentence(first),
        (Some(first), Some(doubt)) => format!("{}; but {doubt}", sentence(first)),
        (None, _) if expected.definite() == 0 => "nothing definite could be expected".to_owned(),
        (None, _) => format!(
            "{} operations were served or refused as quorums have it",
            words::count(expected.definite())
        ),
    };
    let word = match summary.verdict {
        Verdict::Valid => "as expected",
        Verdict::Violated => "not as expected",
        Verdict::Unknown => "not judged",
    };
    Badge { word: word.to_owned(), tone: tone(summary.verdict), detail }
}

/// A breach in a sentence.
fn sentence(broken: &BrokenSummary) -> String {
    let what = broken.breach.sentence();
    let BrokenSummary { node, class, count, from_s, .. } = broken;
    let from = words::seconds(*from_s);
    format!("{class} at {node} {what}: {} from {from} on", words::count(*count))
}

/// Disks that stood still, in words.
pub(super) fn stalls(summary: &AvailabilitySummary) -> Vec<String> {
    let words = |stall: &StallSummary| {
        let [from, length] = [stall.from_s, stall.length_s].map(words::seconds);
        format!("{}, {length} from {from} on", stall.node)
    };
    summary.stalls.iter().map(words).collect()
}

/// A row of the table of breaches: series, breach, how many, from, to, ids.
pub(super) fn rows(summary: &AvailabilitySummary) -> Vec<[String; 6]> {
    let row = |broken: &BrokenSummary| {
        let ids: Vec<String> = broken.operations.iter().map(u64::to_string).collect();
        let more = if broken.count > ids.len() as u64 { ", …" } else { "" };
        [
            format!("{}, {}", broken.node, broken.class),
            broken.breach.sentence().to_owned(),
            words::count(broken.count),
            words::seconds(broken.from_s),
            words::seconds(broken.to_s),
            ids.join(", ") + more,
        ]
    };
    summary.broken.iter().map(row).collect()
}
