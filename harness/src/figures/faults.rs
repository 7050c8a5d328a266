//! What each fault did to the clients: from its proven effect until service was good again.
//! Groups are the servers hit and the rest, which for a partition are its two sides.

use quorate_check::history::{Nanos, Operation, Outcome};
use serde::{Deserialize, Serialize};

use super::convergence::{Convergence, convergence};
use super::operations::is_write;
use super::series::{self, Series, SeriesFigures, Span};
use super::{
    Counts, Gap, Input, Window, gaps, is_refusal, is_workload_reply, longest_gap_touching,
};
use crate::folder::{FaultAction, FaultRecord};
use crate::plan::{FaultKind, Shape};

/// Service is good again when this share of a slot's operations is served well …
const GOOD_SHARE: f64 = 0.95;

/// … in this many slots in a row.
const GOOD_SLOTS: usize = 3;

/// How long after the heal service was good again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "recovery", content = "nanos")]
pub enum Recovery {
    /// Nobody asked from the effect until recovery was watched no longer.
    NoTraffic,
    /// No slot between effect and heal was bad.
    Undisturbed,
    /// Good for three slots in a row, beginning this many nanoseconds after the heal.
    After(Nanos),
    /// Not good within this many nanoseconds after the heal: the end of the measure phase or the
    /// next fault came first. The real time is longer.
    NotWithin(Nanos),
    /// The fault was not healed while the run lasted.
    NotHealed,
}

/// What clients of one group of servers saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupFigures {
    /// `everywhere`, `hit (n3)`, `minority side (n3)`, ….
    pub label: String,
    /// The servers whose clients are meant.
    pub nodes: Vec<String>,
    /// Outcomes of operations intended while the fault was in force.
    pub counts: Counts,
    /// Explicit refusals among the failed.
    pub refused: u64,
    /// Of all of them, those that were not served well: refused, left unanswered, or too late.
    pub lost: u64,
    /// Longest time without an acknowledged operation that overlaps the fault.
    pub gap: Gap,
    /// The same for writing operations; `None` if nobody tried to write.
    pub gap_writes: Option<Gap>,
    /// How long after the heal service was good again.
    pub recovery: Recovery,
}

/// A fault and its consequences. Times in nanoseconds on the history's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultFigures {
    /// Its name in the plan.
    pub name: String,
    /// Kind and target as requested.
    pub requested: String,
    /// Servers hit.
    pub resolved: Vec<String>,
    /// When the harness began to apply it.
    pub begun: Nanos,
    /// When its effect was proven, else acknowledged.
    pub effect: Nanos,
    /// When the heal was proven, else acknowledged; `None` if there was none.
    pub healed: Option<Nanos>,
    /// From the effect to the first reply (or the first giving up) that was no success.
    pub first_failure: Option<Nanos>,
    /// From the effect to the first explicit refusal.
    pub first_refusal: Option<Nanos>,
    /// Other faults that were in force at the same time, so that these figures are theirs as well.
    pub overlaps: Vec<String>,
    /// How long at least one series was unavailable for it. Nanoseconds.
    pub unavailable: Nanos,
    /// True if one still was when it was watched no longer.
    pub unavailable_open: bool,
    /// When all servers had what was acknowledged meanwhile.
    pub convergence: Convergence,
    /// What became of each series, by server and class.
    pub series: Vec<SeriesFigures>,
    /// All servers together first, then the servers hit, then the rest.
    pub groups: Vec<GroupFigures>,
}

impl FaultFigures {
    /// While it was in force; until `end` if it was not healed.
    #[must_use]
    pub fn window(&self, end: Nanos) -> Window {
        Window { from: self.begun, to: self.healed.unwrap_or(end).max(self.begun) }
    }
}

/// One entry an inject.
#[must_use]
pub fn fault_figures(input: &Input<'_>, slot: Nanos) -> Vec<FaultFigures> {
    let injects = input.faults.iter().filter(|record| record.action == FaultAction::Inject);
    let series = series::series(input);
    injects.map(|inject| consequences(input, slot, inject, &series)).collect()
}

/// When a record took effect, as well as is known.
fn effect(record: &FaultRecord) -> Nanos {
    record.proven.unwrap_or(record.acknowledged)
}

/// The heal of an inject.
pub(super) fn heal_of<'a>(input: &Input<'a>, inject: &FaultRecord) -> Option<&'a FaultRecord> {
    input.faults.iter().find(|record| {
        record.action == FaultAction::Heal
            && record.name == inject.name
            && record.begun >= inject.begun
    })
}

fn consequences(
    input: &Input<'_>,
    slot: Nanos,
    inject: &FaultRecord,
    series: &[Series<'_>],
) -> FaultFigures {
    let healed = heal_of(input, inject).map(effect);
    let since = effect(inject);
    let end = input.measure_window().to.max(since);
    let span = Window { from: inject.begun, to: healed.unwrap_or(end) };
    let horizon = horizon(input, inject, healed);
    let watched = if healed.is_some() { horizon.max(since) } else { end };
    let whole = Span { begun: inject.begun, effect: since, healed, horizon: watched };
    let series: Vec<_> = series.iter().map(|series| series.under(input, &whole)).collect();
    let (unavailable, unavailable_open) = series::united(&series);
    let first = |wanted: &dyn Fn(&Operation) -> bool| {
        let failures = input.measured().filter(|op| wanted(op)).map(|op| input.answered(op));
        let during = failures.filter(|at| span.contains(*at));
        during.min().map(|at| at.saturating_sub(since))
    };
    let mut groups = vec![("everywhere".to_owned(), input.history.header.nodes.clone())];
    groups.extend(sides(input, inject));
    let groups = groups.into_iter().map(|(label, nodes)| {
        group(input, slot, label, nodes, Times { since, span, healed, horizon })
    });
    FaultFigures {
        name: inject.name.clone(),
        requested: inject.requested.clone(),
        resolved: inject.resolved.clone(),
        begun: inject.begun,
        effect: since,
        healed,
        first_failure: first(&|op| op.outcome != Outcome::Ok && !is_workload_reply(op)),
        first_refusal: first(&is_refusal),
        overlaps: overlaps(input, inject, span),
        unavailable,
        unavailable_open,
        convergence: convergence(input, &whole, next_inject(input, inject, healed)),
        series,
        groups: groups.collect(),
    }
}

/// Names of the other faults in force at some time of `span`.
fn overlaps(input: &Input<'_>, inject: &FaultRecord, span: Window) -> Vec<String> {
    let others = input.faults.iter().filter(|record| {
        record.action == FaultAction::Inject
            && (record.name != inject.name || record.begun != inject.begun)
    });
    let meanwhile = others.filter(|other| {
        let end = heal_of(input, other).map_or(Nanos::MAX, effect);
        other.begun < span.to && end > span.from
    });
    meanwhile.map(|other| other.name.clone()).collect()
}

/// Until when recovery can be watched: the next inject after the heal, or the end of measuring.
fn horizon(input: &Input<'_>, inject: &FaultRecord, healed: Option<Nanos>) -> Nanos {
    let end = input.measure_window().to;
    next_inject(input, inject, healed).map_or(end, |next| next.min(end))
}

/// When the next fault after the heal of this one began.
fn next_inject(input: &Input<'_>, inject: &FaultRecord, healed: Option<Nanos>) -> Option<Nanos> {
    let after = healed.unwrap_or(inject.begun);
    let later = input.faults.iter().filter(|record| {
        record.action == FaultAction::Inject && record.name != inject.name && record.begun >= after
    });
    later.map(|record| record.begun).min()
}

/// The servers hit and the others, named after what a partition does to them; a side without
/// servers is left out. A change of the configuration hits nobody.
fn sides(input: &Input<'_>, inject: &FaultRecord) -> Vec<(String, Vec<String>)> {
    let fault = input.plan.faults.iter().find(|fault| fault.name == inject.name);
    let all = &input.history.header.nodes;
    let (hit, rest): (Vec<String>, Vec<String>) =
        all.iter().cloned().partition(|name| inject.resolved.contains(name));
    let masters = &input.plan.topology.masters;
    let side = |nodes: &[String]| {
        let inside = nodes.iter().filter(|name| masters.contains(name)).count();
        if inside * 2 > masters.len() { "majority side" } else { "minority side" }
    };
    let groups = match fault.map(|fault| &fault.kind) {
        Some(FaultKind::Reconfigure { .. }) => return Vec::new(),
        Some(FaultKind::Partition { cut, shape, .. }) => match cut.felt(*shape) {
            Shape::Sides | Shape::Halves => vec![(side(&hit), hit), (side(&rest), rest)],
            Shape::Isolate => vec![("isolated", hit), ("others", rest)],
            Shape::Bridge => {
                let (bridge, half) =
                    hit.into_iter().partition(|n| inject.resolved.first() == Some(n));
                vec![("bridge", bridge), ("one half", half), ("other half", rest)]
            }
            Shape::Ring => vec![("ring", hit)],
            Shape::OneWayIn => vec![("hears nobody", hit), ("others", rest)],
            Shape::OneWayOut => vec![("heard by nobody", hit), ("others", rest)],
        },
        Some(
            FaultKind::Kill { .. }
            | FaultKind::Restart { .. }
            | FaultKind::Pause { .. }
            | FaultKind::Latency { .. }
            | FaultKind::Traffic { .. }
            | FaultKind::Disk { .. },
        )
        | None => vec![("hit", hit), ("others", rest)],
    };
    let named = groups.into_iter().filter(|(_, nodes)| !nodes.is_empty());
    named.map(|(label, nodes)| (format!("{label} ({})", nodes.join(", ")), nodes)).collect()
}

/// The times of a fault that its groups share.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// Its effect.
    since: Nanos,
    /// From begun to healed.
    span: Window,
    /// The heal, if any.
    healed: Option<Nanos>,
    /// Until when recovery can be watched.
    horizon: Nanos,
}

fn group(
    input: &Input<'_>,
    slot: Nanos,
    label: String,
    nodes: Vec<String>,
    times: Times,
) -> GroupFigures {
    let names = &input.history.header.nodes;
    let inside =
        |op: &Operation| names.get(op.node as usize).is_some_and(|name| nodes.contains(name));
    let mut counts = Counts::default();
    let (mut refused, mut lost) = (0, 0);
    for op in input.measured().filter(|op| inside(op) && times.span.contains(op.intended)) {
        counts.add(op.outcome);
        refused += u64::from(is_refusal(op));
        lost += u64::from(!input.is_good(op));
    }
    let gap = |wanted: &dyn Fn(&Operation) -> bool| {
        let oks = gaps::acknowledged(input, wanted);
        longest_gap_touching(&oks, input.measure_window(), times.span)
    };
    let writes = |op: &Operation| inside(op) && is_write(op);
    let gap_writes = input.measured().any(writes).then(|| gap(&writes));
    let operations: Vec<&Operation> = input.measured().filter(|op| inside(op)).collect();
    let recovery = recovery(input, slot, &operations, times);
    let gap = gap(&inside);
    GroupFigures { label, nodes, counts, refused, lost, gap, gap_writes, recovery }
}

fn recovery(input: &Input<'_>, slot: Nanos, operations: &[&Operation], times: Times) -> Recovery {
    let Some(healed) = times.healed else {
        return Recovery::NotHealed;
    };
    let asked = Window { from: times.since, to: times.horizon };
    if !operations.iter().any(|op| asked.contains(op.intended)) {
        return Recovery::NoTraffic;
    }
    let during = goodness(input, slot, operations, Window { from: times.since, to: healed });
    if during.iter().all(|(_, good)| *good) {
        return Recovery::Undisturbed;
    }
    let watched = Window { from: healed, to: times.horizon };
    let after = goodness(input, slot, operations, watched);
    let steady = after.windows(GOOD_SLOTS).find(|slots| slots.iter().all(|(_, good)| *good));
    let Some(first) = steady.map(|slots| slots[0].0) else {
        return Recovery::NotWithin(watched.length());
    };
    let in_slot = Window { from: first, to: first + slot };
    let served = operations
        .iter()
        .filter(|op| in_slot.contains(op.intended) && input.is_good(op))
        .map(|op| input.answered(op))
        .min();
    Recovery::After(served.unwrap_or(first).saturating_sub(healed))
}

/// Begin and goodness of every slot of `window` that has operations, counted from its begin.
fn goodness(
    input: &Input<'_>,
    slot: Nanos,
    operations: &[&Operation],
    window: Window,
) -> Vec<(Nanos, bool)> {
    let mut slots = vec![(0u64, 0u64); window.length().div_ceil(slot) as usize];
    for op in operations.iter().filter(|op| window.contains(op.intended)) {
        let (intended, good) = &mut slots[((op.intended - window.from) / slot) as usize];
        *intended += 1;
        *good += u64::from(input.is_good(op));
    }
    let begin = |index: usize| window.from + index as Nanos * slot;
    let filled = slots.into_iter().enumerate().filter(|(_, (intended, _))| *intended > 0);
    filled
        .map(|(index, (intended, good))| {
            (begin(index), good as f64 >= GOOD_SHARE * intended as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::sample::{MS, Sample, fail};

    /// One operation a millisecond and server for 10 s. From 2 s to 5 s n3 is cut off: its clients
    /// hang for a second each until 3 s, then are refused; service is good from 5.6 s on.
    fn cut() -> Sample {
        let mut sample = Sample::new(10_000);
        for at in 0..10_000 {
            sample.update(0, at, 500);
            sample.update(1, at, 500);
            let op = sample.update(2, at, 500);
            match at {
                2000..3000 => {
                    fail(op, Outcome::Unknown, "client_timeout");
                    op.done = Some((at + 1000) * MS);
                }
                3000..5600 => fail(op, Outcome::Failed, "no_quorum"),
                _ => {}
            }
        }
        sample.partition("cut", 2000, 5000);
        sample
    }

    #[test]
    fn consequences_of_a_partition() {
        let sample = cut();
        let faults = fault_figures(&sample.input(), 100 * MS);
        let fault = &faults[0];
        assert_eq!((fault.effect, fault.healed), (2000 * MS, Some(5000 * MS)));
        // The first hanging client gives up at 3000 ms; the first refusal comes 0.5 ms later.
        assert_eq!(fault.first_failure, Some(1000 * MS));
        assert_eq!(fault.first_refusal, Some(1000 * MS + 500_000));
        let labels: Vec<&str> = fault.groups.iter().map(|group| group.label.as_str()).collect();
        assert_eq!(labels, ["everywhere", "minority side (n3)", "majority side (n1, n2)"]);
        let [all, minority, majority] = &fault.groups[..] else { panic!("three groups") };
        assert_eq!(majority.counts, Counts { ok: 6000, failed: 0, unknown: 0 });
        assert_eq!(majority.gap.length(), MS);
        assert_eq!(majority.recovery, Recovery::Undisturbed);
        assert_eq!(minority.counts, Counts { ok: 0, failed: 2000, unknown: 1000 });
        assert_eq!(minority.refused, 2000);
        // Last success done at 1999.5 ms, first after at 5600.5 ms.
        assert_eq!(minority.gap.length(), 3601 * MS);
        assert_eq!(minority.gap_writes, Some(minority.gap));
        assert_eq!(minority.recovery, Recovery::After(600 * MS + 500_000));
        assert_eq!(all.counts.total(), 9000);
        assert_eq!(all.gap.length(), MS);
        assert_eq!(all.recovery, Recovery::After(600 * MS + 500_000));
    }

    #[test]
    fn records_locked_by_a_server_out_of_reach_are_a_disturbance() {
        // n3 began to write everything just before it was cut off: the majority finds it locked.
        let mut sample = Sample::new(10_000);
        for at in 0..10_000 {
            for node in 0..2 {
                let op = sample.update(node, at, 500);
                if (2000..5000).contains(&at) {
                    fail(op, Outcome::Failed, "busy");
                }
            }
        }
        sample.partition("cut", 2000, 5000);
        let faults = fault_figures(&sample.input(), 100 * MS);
        let fault = &faults[0];
        assert_eq!(fault.first_failure, Some(500_000));
        assert_eq!(fault.first_refusal, Some(500_000));
        let majority = &fault.groups[2];
        assert_eq!(majority.label, "majority side (n1, n2)");
        assert_eq!(majority.refused, 6000);
        assert_eq!(majority.recovery, Recovery::After(500_000));
    }

    #[test]
    fn recovery_is_watched_until_the_next_fault_only() {
        let mut sample = cut();
        sample.partition("next", 5300, 5400);
        let faults = fault_figures(&sample.input(), 100 * MS);
        assert_eq!(faults[0].groups[1].recovery, Recovery::NotWithin(300 * MS));
        assert_eq!(faults[1].groups[1].recovery, Recovery::After(200 * MS + 500_000));
    }

    #[test]
    fn a_fault_that_was_never_healed_says_so() {
        let mut sample = cut();
        sample.faults.pop();
        let faults = fault_figures(&sample.input(), 100 * MS);
        assert_eq!(faults[0].healed, None);
        assert_eq!(faults[0].groups[0].recovery, Recovery::NotHealed);
        assert_eq!(faults[0].window(7).to, faults[0].begun);
        assert_eq!(faults[0].window(9000 * MS).to, 9000 * MS);
    }
}
