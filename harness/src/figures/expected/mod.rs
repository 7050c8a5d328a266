//! Whether the service was available where quorum arithmetic says that it must be, and refused
//! where it says that it cannot be: the history against what follows from plan and faults.
//!
//! An operation counts for an expectation that holds from its begin to its answer. One that is
//! acknowledged although it cannot be is a breach by itself. That something is *not* served, or
//! not refused, takes three operations in a row at one server, all in need of the same, over a
//! second or two: a single one may be a collision, a disk that is busy or a slow machine. What
//! never reached a server says nothing about it.
//! May not judge what was read or written; that is the checkers' business.

mod arithmetic;
mod stalls;
mod states;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use quorate_check::history::{Nanos, OpKind, Operation, Outcome, ReadLevel};
use quorate_check::verdict::Verdict;
use serde::{Deserialize, Serialize};

use self::arithmetic::Need;
use self::states::Since;
use super::{Input, class_of, is_workload_reply};
use crate::folder::{NodeSample, SoundnessFinding};

pub use self::arithmetic::Expectation;
pub use self::stalls::Stall;
pub use self::states::DETECTION;

/// Operations in a row that must not be served, or not be refused, before that is a breach …
const IN_A_ROW: usize = 3;

/// … and the least time between the intended starts of the first and the last of them, in
/// nanoseconds.
const LASTING: Nanos = 2_000_000_000;

/// Operations of a breach that are named.
const NAMED: usize = 5;

/// The same for what must be refused: hanging takes the client's time-out as well.
const HANGING: Nanos = 1_000_000_000;

/// Too much was asked, whatever the quorum: as a server says, or as a client that could not even
/// send it found out.
const TOO_MUCH: [&str; 3] = ["overload", "not_sent", "never_sent"];

/// How many operations had which expectation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Had to be served.
    pub served: u64,
    /// Had to be refused.
    pub refused: u64,
    /// Could not be acknowledged.
    pub impossible: u64,
    /// Might do either.
    pub either: u64,
}

impl Expected {
    fn add(&mut self, expectation: Expectation) {
        match expectation {
            Expectation::Served => self.served += 1,
            Expectation::Refused => self.refused += 1,
            Expectation::Impossible => self.impossible += 1,
            Expectation::Either => self.either += 1,
        }
    }

    /// Operations of which something definite was expected.
    #[must_use]
    pub fn definite(&self) -> u64 {
        self.served + self.refused + self.impossible
    }
}

/// In what way an expectation was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Breach {
    /// Acknowledged, although too few servers were in reach.
    Acknowledged,
    /// Not served, although enough were.
    NotServed,
    /// Left without an answer by a server that had to refuse.
    NotRefused,
}

impl Breach {
    /// What is wrong with the operations.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged although too few servers were in reach",
            Self::NotServed => "not served although enough servers were in reach",
            Self::NotRefused => "left without an answer although it had to be refused",
        }
    }
}

/// An expectation that a series broke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// How.
    pub breach: Breach,
    /// The server asked.
    pub node: String,
    /// The operation classes.
    pub class: String,
    /// How many operations.
    pub count: u64,
    /// Ids of the first of them, as in the history.
    pub operations: Vec<u64>,
    /// Intended start of the first, in nanoseconds.
    pub from: Nanos,
    /// Intended start of the last.
    pub to: Nanos,
}

/// The verdict on availability, which is neither that on safety nor that on the measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// Violated if something was broken, valid if something definite was expected and nothing
    /// was; else unknown.
    pub verdict: Verdict,
    /// What was expected of how many operations.
    pub expected: Expected,
    /// What was broken.
    pub broken: Vec<Broken>,
    /// Times in which a disk stood still, so that nobody had to serve or to refuse.
    pub stalls: Vec<Stall>,
    /// Why breaches do not count, if they don't.
    pub doubt: Option<String>,
}

impl Availability {
    /// Of a run that cannot be judged.
    #[must_use]
    pub fn unknown(doubt: String) -> Self {
        let (broken, stalls) = (Vec::new(), Vec::new());
        let expected = Expected::default();
        Self { verdict: Verdict::Unknown, expected, broken, stalls, doubt: Some(doubt) }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, class, count, .. } = self;
        let ids: Vec<String> = self.operations.iter().map(u64::to_string).collect();
        let [from, to] = [self.from, self.to].map(super::seconds);
        write!(f, "{class} at {node} {}: {count} operations ", self.breach.sentence())?;
        write!(f, "from {from:.3} s to {to:.3} s of the history, ids {}", ids.join(", "))?;
        if self.count > ids.len() as u64 { f.write_str(", …") } else { Ok(()) }
    }
}

/// Why what a run measured says nothing about availability; `None` if nothing was found.
#[must_use]
pub fn doubt(findings: &[SoundnessFinding]) -> Option<String> {
    let spoils = |finding: &&SoundnessFinding| {
        finding.fatal || finding.code == SoundnessFinding::HOST_WITHHELD_CPU
    };
    findings.iter().find(spoils).map(|finding| finding.code.clone())
}

/// Judges the measure phase. With `doubt`, a reason not to trust the measurement, only what was
/// acknowledged against all arithmetic counts: a machine that stands still serves nobody.
#[must_use]
pub fn availability(
    input: &Input<'_>,
    samples: &[NodeSample],
    doubt: Option<String>,
) -> Availability {
    let stalls = stalls::stalls(samples);
    let states = states::states(input, &stalls);
    let mut expected = Expected::default();
    let mut broken = Vec::new();
    let mut groups: BTreeMap<(u32, Option<Need>), Vec<&Operation>> = BTreeMap::new();
    for op in input.measured() {
        groups.entry((op.node, need(op))).or_default().push(op);
    }
    for ((node, need), mut operations) in groups {
        operations.sort_by_key(|op| (op.intended, op.id));
        let name = input.history.header.nodes.get(node as usize).cloned().unwrap_or_default();
        let mut found = Found { node: name, broken: Vec::new() };
        let judged: Vec<Judged<'_>> =
            operations.iter().map(|op| judge(input, &states, op, need)).collect();
        judged.iter().for_each(|judged| expected.add(judged.expectation));
        found.acknowledged(&judged);
        found.in_a_row(&judged, Breach::NotServed, LASTING, |judged| judged.is_unserved());
        found.in_a_row(&judged, Breach::NotRefused, HANGING, |judged| judged.is_unrefused());
        broken.append(&mut found.broken);
    }
    let counts = |one: &Broken| doubt.is_none() || one.breach == Breach::Acknowledged;
    let verdict = if broken.iter().any(counts) {
        Verdict::Violated
    } else if broken.is_empty() && expected.definite() > 0 {
        Verdict::Valid
    } else {
        Verdict::Unknown
    };
    Availability { verdict, expected, broken, stalls, doubt }
}

/// An operation and what could be expected of it.
struct Judged<'a> {
    op: &'a Operation,
    expectation: Expectation,
}

impl Judged<'_> {
    fn is_unserved(&self) -> bool {
        let answered = self.op.outcome == Outcome::Ok || is_workload_reply(self.op);
        let too_much = self.op.code.as_deref().is_some_and(|code| TOO_MUCH.contains(&code));
        self.expectation == Expectation::Served && !answered && !too_much
    }

    fn is_unrefused(&self) -> bool {
        self.expectation == Expectation::Refused && self.op.outcome == Outcome::Unknown
    }
}

/// What an operation needs; `None` if that cannot be told.
fn need(op: &Operation) -> Option<Need> {
    match (op.kind, op.level) {
        (OpKind::Read, Some(ReadLevel::Local)) => Some(Need::Itself),
        (OpKind::Read, Some(ReadLevel::Majority)) => Some(Need::Majority),
        (OpKind::Read, None) => None,
        (OpKind::Create | OpKind::Update | OpKind::Delete | OpKind::Transaction, _) => {
            Some(Need::WriteQuorum)
        }
    }
}

fn judge<'a>(
    input: &Input<'_>,
    states: &[Since],
    op: &'a Operation,
    need: Option<Need>,
) -> Judged<'a> {
    let Some(need) = need else {
        return Judged { op, expectation: Expectation::Either };
    };
    let answered = input.answered(op).max(op.sent);
    let during = |from: Nanos| {
        let first = states.partition_point(|since| since.from <= from).saturating_sub(1);
        let last = states.partition_point(|since| since.from <= answered).max(first + 1);
        states[first..last].iter().map(|since| since.state.expects(op.node as usize, need))
    };
    let all = |from: Nanos, wanted: fn(Expectation) -> bool| during(from).all(wanted);
    // Distances that are simulated may be longer than clients wait, which no quorum can help.
    let near = input.plan.network.is_none();
    let expectation = if all(op.intended.min(op.sent), |e| e == Expectation::Served) && near {
        Expectation::Served
    } else if all(op.sent, |e| e == Expectation::Refused) {
        Expectation::Refused
    } else if all(op.sent, Expectation::forbids) {
        Expectation::Impossible
    } else {
        Expectation::Either
    };
    Judged { op, expectation }
}

/// What was broken at one server of what needs the same.
struct Found {
    node: String,
    broken: Vec<Broken>,
}

impl Found {
    fn acknowledged(&mut self, judged: &[Judged<'_>]) {
        let wrong = |judged: &&Judged<'_>| judged.expectation.forbids() && judged.op.is_ok();
        let mut classes: BTreeMap<&str, Vec<&Judged<'_>>> = BTreeMap::new();
        for judged in judged.iter().filter(wrong) {
            classes.entry(class_of(judged.op)).or_default().push(judged);
        }
        for operations in classes.values() {
            self.add(Breach::Acknowledged, operations);
        }
    }

    fn in_a_row(
        &mut self,
        judged: &[Judged<'_>],
        breach: Breach,
        least: Nanos,
        wrong: impl Fn(&Judged<'_>) -> bool,
    ) {
        for row in judged.chunk_by(|one, next| wrong(one) == wrong(next)) {
            let [first, .., last] = row else { continue };
            let lasting = last.op.intended - first.op.intended >= least;
            if wrong(first) && row.len() >= IN_A_ROW && lasting {
                self.add(breach, &row.iter().collect::<Vec<_>>());
            }
        }
    }

    fn add(&mut self, breach: Breach, operations: &[&Judged<'_>]) {
        let ([first, ..], [.., last]) = (operations, operations) else { return };
        let classes: BTreeSet<&str> = operations.iter().map(|judged| class_of(judged.op)).collect();
        self.broken.push(Broken {
            breach,
            node: self.node.clone(),
            class: Vec::from_iter(classes).join(", "),
            count: operations.len() as u64,
            operations: operations.iter().take(NAMED).map(|judged| judged.op.id).collect(),
            from: first.op.intended,
            to: last.op.intended,
        });
    }
}

#[cfg(test)]
#[path = "expected_test.rs"]
mod tests;
