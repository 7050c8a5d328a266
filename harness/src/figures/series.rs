//! What each fault did to one series: the operations of one class that were sent to one server.
//! Everything is told by operations, not by slots, so that a series of any rate has figures; what
//! its operations are too far apart to show is told by its resolution.

use std::collections::BTreeMap;

use quorate_check::history::{History, Nanos, Operation, Outcome, Phase};
use serde::{Deserialize, Serialize};

use super::{Counts, Input, Window, class_of, is_workload_reply};

/// A series is unavailable from the first of this many operations in a row that were not served
/// well …
pub const BAD_RUN: usize = 2;

/// … until the answer to the first of this many in a row that were.
pub const GOOD_RUN: usize = 3;

/// A time in which a series was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailable {
    /// From the intended start of the first operation that was not served well to the answer of
    /// the first one of those that were again.
    pub window: Window,
    /// True if there was no such answer: it lasted longer than was watched.
    pub open: bool,
}

/// When clients got definite answers instead of waiting for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answers", content = "nanos")]
pub enum Answers {
    /// Nobody asked while the fault was in force.
    NoTraffic,
    /// Nothing failed while it was.
    NothingFailed,
    /// This many nanoseconds after the effect came the first definite failure behind which no
    /// operation was left without an answer.
    After(Nanos),
    /// Operations were left without an answer as long as the fault was in force, this long.
    NotWithin(Nanos),
}

/// How long after the heal a series was served well again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "recovery", content = "nanos")]
pub enum Served {
    /// Nobody asked from the effect until recovery was watched no longer.
    NoTraffic,
    /// It was never unavailable.
    Always,
    /// Since this many nanoseconds after the heal; 0 if it was before.
    After(Nanos),
    /// Not within this many nanoseconds after it.
    NotWithin(Nanos),
    /// The fault was not healed while the run lasted.
    NotHealed,
}

/// A fault's consequences for one series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesFigures {
    /// The server asked.
    pub node: String,
    /// The operation class.
    pub class: String,
    /// Outcomes of operations intended while the fault was in force.
    pub counts: Counts,
    /// Those of them that were not served well: refused, left unanswered, or too late.
    pub lost: u64,
    /// The longest time between two operations, by intended start, from the effect until recovery
    /// was watched no longer. `None` with fewer than two.
    pub resolution: Option<Nanos>,
    /// From the effect to the answer of the first operation that was not served well.
    pub first_failure: Option<Nanos>,
    /// When clients got definite answers.
    pub answers: Answers,
    /// Unavailable times that began before the heal and lasted beyond the effect.
    pub unavailable: Vec<Unavailable>,
    /// Those that began after the heal, before recovery was watched no longer.
    pub afterwards: Vec<Unavailable>,
    /// How long after the heal it was served well again.
    pub served: Served,
}

/// When a fault was in force, and how long its end was watched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// The harness began to apply it.
    pub(super) begun: Nanos,
    /// Its effect.
    pub(super) effect: Nanos,
    /// The heal, if any.
    pub(super) healed: Option<Nanos>,
    /// Until when recovery can be watched.
    pub(super) horizon: Nanos,
}

impl Span {
    /// From its begin to the heal, else as long as it was watched.
    pub(super) fn in_force(&self) -> Window {
        let to = self.healed.unwrap_or(self.horizon);
        Window { from: self.begun, to: to.max(self.begun) }
    }
}

/// One series of the measure phase, whatever the faults.
#[derive(Debug)]
pub(super) struct Series<'a> {
    node: String,
    class: &'static str,
    /// By intended start.
    operations: Vec<&'a Operation>,
    unavailable: Vec<Unavailable>,
}

/// Every series of the run, by server and class.
pub(super) fn series<'a>(input: &Input<'a>) -> Vec<Series<'a>> {
    let mut groups: BTreeMap<(u32, &'static str), Vec<&'a Operation>> = BTreeMap::new();
    let history: &'a History = input.history;
    for op in history.operations.iter().filter(|op| op.phase == Phase::Measure) {
        groups.entry((op.node, class_of(op))).or_default().push(op);
    }
    let names = &input.history.header.nodes;
    let made = groups.into_iter().filter_map(|((node, class), mut operations)| {
        operations.sort_by_key(|op| (op.intended, op.id));
        let unavailable = unavailable(input, &operations);
        Some(Series { node: names.get(node as usize)?.clone(), class, operations, unavailable })
    });
    made.collect()
}

/// The unavailable times of operations in order of their intended start.
pub(super) fn unavailable(input: &Input<'_>, operations: &[&Operation]) -> Vec<Unavailable> {
    let good: Vec<bool> = operations.iter().map(|op| input.is_good(op)).collect();
    let run = |from: usize, length: usize, wanted: bool| {
        good.get(from..from + length).is_some_and(|some| some.iter().all(|good| *good == wanted))
    };
    let mut found = Vec::new();
    let mut at = 0;
    while at < operations.len() {
        if !run(at, BAD_RUN, false) {
            at += 1;
            continue;
        }
        let from = operations[at].intended;
        let again = (at..operations.len()).find(|next| run(*next, GOOD_RUN, true));
        let end =
            again.map_or_else(|| input.measure_window().to, |n| input.answered(operations[n]));
        found.push(Unavailable {
            window: Window { from, to: end.max(from) },
            open: again.is_none(),
        });
        at = again.unwrap_or(operations.len());
    }
    found
}

/// How long at least one of the series was unavailable for the fault, and whether one of them
/// still was when it was watched no longer.
pub(super) fn united(series: &[SeriesFigures]) -> (Nanos, bool) {
    let all = || series.iter().flat_map(|series| &series.unavailable);
    let mut windows: Vec<Window> = all().map(|found| found.window).collect();
    windows.sort_by_key(|window| window.from);
    let mut reached = 0;
    let mut sum = 0;
    for window in windows {
        sum += window.to.saturating_sub(window.from.max(reached));
        reached = reached.max(window.to);
    }
    (sum, all().any(|found| found.open))
}

impl Series<'_> {
    /// What a fault did to it.
    pub(super) fn under(&self, input: &Input<'_>, span: &Span) -> SeriesFigures {
        let (in_force, watched) = (span.in_force(), self.between(span.effect, span.horizon));
        let during = self.between(in_force.from, in_force.to);
        let mut counts = Counts::default();
        during.iter().for_each(|op| counts.add(op.outcome));
        let lost = during.iter().filter(|op| !input.is_good(op)).count() as u64;
        let failures = self.operations.iter().filter(|op| !input.is_good(op));
        let failed = failures.map(|op| input.answered(op)).filter(|at| in_force.contains(*at));
        let touches =
            |found: &&Unavailable| found.window.from < in_force.to && found.window.to > span.effect;
        let unavailable: Vec<Unavailable> =
            self.unavailable.iter().filter(touches).copied().collect();
        let later = |found: &&Unavailable| {
            (in_force.to..span.horizon).contains(&found.window.from) && span.healed.is_some()
        };
        SeriesFigures {
            node: self.node.clone(),
            class: self.class.to_owned(),
            counts,
            lost,
            resolution: watched.windows(2).map(|pair| pair[1].intended - pair[0].intended).max(),
            first_failure: failed.min().map(|at| at.saturating_sub(span.effect)),
            answers: answers(input, during, span),
            served: served(&unavailable, watched.is_empty(), span),
            unavailable,
            afterwards: self.unavailable.iter().filter(later).copied().collect(),
        }
    }

    /// Operations intended from one time on and before another.
    fn between(&self, from: Nanos, to: Nanos) -> &[&Operation] {
        let at = |time: Nanos| self.operations.partition_point(|op| op.intended < time);
        &self.operations[at(from)..at(to.max(from))]
    }
}

fn answers(input: &Input<'_>, during: &[&Operation], span: &Span) -> Answers {
    if during.is_empty() {
        return Answers::NoTraffic;
    }
    let unanswered = during.iter().rposition(|op| op.outcome == Outcome::Unknown);
    let refused = |op: &&&Operation| op.outcome == Outcome::Failed && !is_workload_reply(op);
    let behind = &during[unanswered.map_or(0, |last| last + 1)..];
    match behind.iter().filter(refused).map(|op| input.answered(op)).min() {
        Some(at) => Answers::After(at.saturating_sub(span.effect)),
        None if unanswered.is_none() => Answers::NothingFailed,
        None => Answers::NotWithin(span.in_force().to.saturating_sub(span.effect)),
    }
}

fn served(unavailable: &[Unavailable], no_traffic: bool, span: &Span) -> Served {
    match (unavailable.last(), span.healed) {
        (None, _) if no_traffic => Served::NoTraffic,
        (None, _) => Served::Always,
        (Some(_), None) => Served::NotHealed,
        // What lasts beyond the next fault may be that one's.
        (Some(last), Some(healed)) if last.open || last.window.to > span.horizon => {
            Served::NotWithin(span.horizon.saturating_sub(healed))
        }
        (Some(last), Some(healed)) => Served::After(last.window.to.saturating_sub(healed)),
    }
}

#[cfg(test)]
#[path = "series_test.rs"]
mod tests;
