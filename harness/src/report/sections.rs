//! The tables of the page: figures turned into words, row by row. No HTML here.

use serde::Serialize;

use super::consequences::{self, Consequences};
use super::load::Run;
use super::plot::since;
use super::words::{self, NONE};
use crate::figures::{
    Bound, ClassFigures, Distribution, FaultFigures, Figures, Gap, GroupFigures, Interruption,
    Latencies, Recovery, Resource, ResourceSeries, Staleness, Timeline,
};
use crate::folder::{FaultAction, FaultRecord};
use crate::plan::PlannedFault;

/// One line of the per-operation table.
#[derive(Debug, Serialize)]
pub(super) struct OperationRow {
    class: String,
    /// Rows of this class if this is its first, else 0.
    rows: usize,
    what: &'static str,
    count: String,
    share: String,
    figures: [String; 5],
}

/// The per-operation table; `all` comes last.
pub(super) fn operations(figures: &Figures) -> Vec<OperationRow> {
    let classes = figures.classes.iter().chain(std::iter::once(&figures.all));
    classes.flat_map(class_rows).collect()
}

fn class_rows(class: &ClassFigures) -> Vec<OperationRow> {
    let total = class.counts.total();
    let kinds: [(&'static str, &Distribution); 6] = [
        ("ok, response", &class.response_ok),
        ("ok, service", &class.service_ok),
        ("failed, response", &class.response_failed),
        ("unknown, waited", &class.response_unknown),
        ("ok and unknown, response", &class.response_waiting),
        ("start delay", &class.start_delay),
    ];
    let several = class.counts.ok > 0 && class.counts.unknown > 0;
    let shown: Vec<_> = kinds
        .into_iter()
        .filter(|(what, of)| of.count() > 0 && (several || !what.starts_with("ok and")))
        .collect();
    let rows = shown.len();
    let row = |(index, (what, of)): (usize, (&'static str, &Distribution))| {
        let latencies = Latencies::from(of);
        OperationRow {
            class: class.name.clone(),
            rows: if index == 0 { rows } else { 0 },
            what,
            count: words::count(latencies.count),
            share: words::share(latencies.count, total),
            figures: [latencies.p50, latencies.p90, latencies.p99, latencies.p999, latencies.max]
                .map(words::bound_or_none),
        }
    };
    shown.into_iter().enumerate().map(row).collect()
}

/// Not-ok operations of one class and code.
#[derive(Debug, Serialize)]
pub(super) struct CodeRow {
    class: String,
    code: String,
    count: String,
    share: String,
}

/// How old local reads were at the servers of one role.
#[derive(Debug, Serialize)]
pub(super) struct StalenessRow {
    role: &'static str,
    reads: String,
    stale: String,
    share: String,
    p99: String,
    max: String,
}

/// One a role that was read at.
pub(super) fn staleness(figures: &Figures) -> Vec<StalenessRow> {
    let row = |found: &Staleness| StalenessRow {
        role: found.role,
        reads: words::count(found.reads),
        stale: words::count(found.stale),
        share: words::share(found.stale, found.reads),
        p99: words::nanos(found.p99),
        max: words::nanos(found.max),
    };
    figures.staleness.iter().map(row).collect()
}

/// Every class and code that occurred.
pub(super) fn codes(figures: &Figures) -> Vec<CodeRow> {
    let of_class = |class: &ClassFigures| -> Vec<CodeRow> {
        let row = |(code, count): (&String, &u64)| CodeRow {
            class: class.name.clone(),
            code: code.clone(),
            count: words::count(*count),
            share: words::share(*count, class.counts.total()),
        };
        class.codes.iter().map(row).collect()
    };
    figures.classes.iter().flat_map(of_class).collect()
}

/// A table behind a plot.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

fn table<const N: usize>(head: [&str; N], rows: Vec<Vec<String>>) -> Table {
    Table { head: head.map(str::to_owned).to_vec(), rows }
}

/// Second of a slot's begin.
fn second(line: &Timeline, at: u64) -> String {
    format!("{:.2}", since(line.origin, at)).replace('-', "−")
}

/// What the time line shows.
pub(super) fn timeline(line: &Timeline) -> Table {
    let row = |slot: &crate::figures::Slot| {
        let counts = [slot.counts.ok, slot.counts.failed, slot.counts.unknown].map(words::count);
        let figures = [slot.p50, slot.p99, slot.max].map(words::bound_or_none);
        std::iter::once(second(line, slot.from)).chain(counts).chain(figures).collect()
    };
    let rows = line.slots.iter().map(row).collect();
    table(["from (s)", "ok", "failed", "unknown", "p50", "p99", "max"], rows)
}

/// What the plot of codes shows, slots without any left out.
pub(super) fn codes_over_time(line: &Timeline) -> Table {
    let mut head = vec!["from (s)".to_owned()];
    head.extend(line.codes.keys().cloned());
    let any = |index: &usize| line.codes.values().any(|counts| counts[*index] > 0);
    let row = |index: usize| {
        let counts = line.codes.values().map(|counts| words::count(counts[index]));
        std::iter::once(second(line, line.slots[index].from)).chain(counts).collect()
    };
    Table { head, rows: (0..line.slots.len()).filter(any).map(row).collect() }
}

/// What a plot of percentiles shows.
pub(super) fn percentiles(plot: &super::plot::Percentiles) -> Table {
    const QUANTILES: [f64; 7] = [0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 0.99999];
    let mut head = vec!["curve".to_owned()];
    head.extend(QUANTILES.map(|q| format!("{}\u{a0}%", (q * 1e5).round() / 1e3)));
    let row = |curve: &super::plot::Curve| {
        let reached = |q: f64| -> Option<Bound> {
            curve.points.iter().find(|(at, _)| *at >= q - 1e-9).map(|(_, bound)| *bound)
        };
        let figures = QUANTILES.map(|q| words::bound_or_none(reached(q)));
        std::iter::once(curve.name.clone()).chain(figures).collect()
    };
    Table { head, rows: plot.curves.iter().map(row).collect() }
}

/// What the availability strips show.
pub(super) fn nodes(figures: &Figures) -> Table {
    let row = |node: &crate::figures::NodeAvailability| {
        let counts = [node.counts.ok, node.counts.failed, node.counts.unknown].map(words::count);
        let total = node.counts.total();
        let gap = format!(
            "{}, from {}\u{a0}s",
            words::nanos(node.gap.length()),
            second(&figures.timeline, node.gap.from)
        );
        let gap = if total == 0 { NONE.to_owned() } else { gap };
        std::iter::once(node.name.clone())
            .chain(counts)
            .chain([words::share(node.good, total), gap])
            .collect()
    };
    let rows = figures.nodes.iter().map(row).collect();
    table(
        ["server", "ok", "failed", "unknown", "served well", "longest gap without a success"],
        rows,
    )
}

/// What the plot of resources shows: least, mean and most.
pub(super) fn resources(series: &[(Resource, Vec<ResourceSeries>)]) -> Table {
    let row = |resource: Resource, node: &ResourceSeries| {
        let values = || node.points().map(|point| point.value);
        let count = node.points().count();
        let figures = if count == 0 {
            [(); 3].map(|()| NONE.to_owned())
        } else {
            let least = values().fold(f64::INFINITY, f64::min);
            let mean = values().sum::<f64>() / count as f64;
            [least, mean, values().fold(f64::NEG_INFINITY, f64::max)].map(|v| format!("{v:.2}"))
        };
        let names = [resource.label().to_owned(), node.node.clone()];
        names.into_iter().chain(figures).collect()
    };
    let rows = series
        .iter()
        .flat_map(|(resource, nodes)| nodes.iter().map(|node| row(*resource, node)))
        .collect();
    table(["resource", "server", "least", "mean", "most"], rows)
}

/// A fault with everything that is known about it.
#[derive(Debug, Serialize)]
pub(super) struct FaultView {
    name: String,
    requested: String,
    resolved: String,
    /// Inject and heal: what, planned, begun, acknowledged, proven, evidence.
    steps: Vec<FaultStep>,
    first_failure: String,
    first_refusal: String,
    groups: Vec<GroupRow>,
    /// What became of each series; `None` if it never fired.
    consequences: Option<Consequences>,
    /// Planned, but never begun.
    fired: bool,
}

#[derive(Debug, Serialize)]
struct FaultStep {
    action: &'static str,
    planned: String,
    begun: String,
    acknowledged: String,
    proven: String,
    evidence: String,
}

#[derive(Debug, Serialize)]
struct GroupRow {
    label: String,
    ok: String,
    refused: String,
    other_failed: String,
    unknown: String,
    lost: String,
    gap: String,
    gap_writes: String,
    recovery: String,
}

/// How long writers that had a majority were interrupted, one line a kind of fault.
#[derive(Debug, Serialize)]
pub(super) struct InterruptionRow {
    requested: String,
    times: String,
    median: String,
    longest: String,
    longest_of: String,
    resolution: String,
}

/// One row a kind of fault.
pub(super) fn interruptions(figures: &Figures) -> Vec<InterruptionRow> {
    let row = |found: &Interruption| InterruptionRow {
        requested: found.requested.clone(),
        times: words::count(found.times as u64),
        median: words::nanos(found.median),
        longest: gap(found.longest),
        longest_of: found.longest_of.clone(),
        resolution: found.resolution.map_or_else(|| NONE.to_owned(), words::nanos),
    };
    figures.interruptions.iter().map(row).collect()
}

/// Every fault that was planned or fired.
pub(super) fn faults(run: &Run, figures: &Figures) -> Vec<FaultView> {
    let fired = figures.faults.iter().map(|fault| fault_view(run, figures, fault));
    let is_fired = |planned: &PlannedFault| figures.faults.iter().any(|f| f.name == planned.name);
    let missed = run.plan.faults.iter().filter(|planned| !is_fired(planned));
    fired.chain(missed.map(never_fired)).collect()
}

fn never_fired(planned: &PlannedFault) -> FaultView {
    let (at, lasts) = (planned.at_ms as f64 / 1e3, planned.for_ms as f64 / 1e3);
    let begins = match &planned.trigger {
        Some(trigger) => format!("{} {}", words::seconds(at), trigger.event),
        None => format!("at {}", words::seconds(at)),
    };
    FaultView {
        name: planned.name.clone(),
        requested: format!("planned {begins} for {}", words::seconds(lasts)),
        resolved: NONE.to_owned(),
        steps: Vec::new(),
        first_failure: NONE.to_owned(),
        first_refusal: NONE.to_owned(),
        groups: Vec::new(),
        consequences: None,
        fired: false,
    }
}

fn fault_view(run: &Run, figures: &Figures, fault: &FaultFigures) -> FaultView {
    let records = run.faults.iter().filter(|record| record.name == fault.name);
    let asked = fault.groups.iter().any(|group| group.counts.total() > 0);
    let waited = |figure: Option<u64>| match figure {
        Some(nanos) => words::nanos(nanos),
        None if asked => "none".to_owned(),
        None => "nobody asked".to_owned(),
    };
    FaultView {
        name: fault.name.clone(),
        requested: fault.requested.clone(),
        resolved: fault.resolved.join(", "),
        steps: records.map(|record| fault_step(figures.timeline.origin, record)).collect(),
        first_failure: waited(fault.first_failure),
        first_refusal: waited(fault.first_refusal),
        groups: fault.groups.iter().map(group_row).collect(),
        consequences: Some(consequences::of_fault(fault)),
        fired: true,
    }
}

fn fault_step(origin: u64, record: &FaultRecord) -> FaultStep {
    let at = |nanos: u64| format!("{:.3}\u{a0}s", since(origin, nanos)).replace('-', "−");
    FaultStep {
        action: match record.action {
            FaultAction::Inject => "inject",
            FaultAction::Heal => "heal",
        },
        planned: at(record.planned),
        begun: at(record.begun),
        acknowledged: at(record.acknowledged),
        proven: record.proven.map_or_else(|| "not proven".to_owned(), at),
        evidence: record.evidence.clone(),
    }
}

/// The length of a gap; a lower bound if it reached the end of the measure phase.
fn gap(gap: Gap) -> String {
    let open = if gap.open { "≥\u{a0}" } else { "" };
    format!("{open}{}", words::nanos(gap.length()))
}

fn group_row(group: &GroupFigures) -> GroupRow {
    GroupRow {
        label: group.label.clone(),
        ok: words::count(group.counts.ok),
        refused: words::count(group.refused),
        other_failed: words::count(group.counts.failed - group.refused),
        unknown: words::count(group.counts.unknown),
        lost: words::count(group.lost),
        gap: gap(group.gap),
        gap_writes: group.gap_writes.map_or_else(|| NONE.to_owned(), gap),
        recovery: match group.recovery {
            Recovery::NoTraffic => NONE.to_owned(),
            Recovery::Undisturbed => "not disturbed".to_owned(),
            Recovery::After(nanos) => words::nanos(nanos),
            Recovery::NotWithin(nanos) => format!("≥\u{a0}{}", words::nanos(nanos)),
            Recovery::NotHealed => "not healed".to_owned(),
        },
    }
}
