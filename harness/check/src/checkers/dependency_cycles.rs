//! No cycle of dependencies: write-write, write-read and read-write edges after Adya, "Weak
//! Consistency", MIT 1999, with Elle's classes (HARNESS.md 4.4). Record versions give the order of
//! writes, so edges are neighbours in a sorted list and the search is for components: linear but
//! for the sort.
//!
//! What is promised, and so judged (PROTOCOL.md 3.6 and 3.8):
//! - G0 (write cycle) and G1c (circular information flow), of everything that committed;
//! - G-single (read skew) and G2-item (write skew), over reads to which a transaction was held when
//!   it committed: of keys that it writes, and all of them if the history is declared serializable;
//! - G-single of a local snapshot, over the keys it read: exact bases mean that a server which has
//!   a transaction has whole everything that this built on. Two snapshots of different servers may
//!   disagree on the order of unrelated writes (a long fork), which is not judged.
//!
//! Records whose versions are not known, or claimed twice, have no order and add no edges; the
//! latter leave the verdict unknown and are for `lost_update` to report.

use std::collections::BTreeSet;

use super::Checker;
use crate::budget::{Budget, OutOfBudget};
use crate::describe::counterexample;
use crate::graph::{Edge, Graph, Kind};
use crate::history::{OpKind, Operation, ReadLevel};
use crate::index::Index;
use crate::order::{Order, Place};
use crate::verdict::{Counts, Judgement};

/// Starts tried for a short cycle.
const STARTS_MAX: usize = 64;

/// Edges of a cycle that are put into words.
const EDGES_TOLD_MAX: usize = 12;

/// Judges every transaction whose records name versions.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    let mut counts = Counts::of(&["transactions", "ww", "wr", "rw", "snapshots"]);
    let order = Order::new(index, budget)?;
    let dependencies = Dependencies::of(index, &order, budget)?;
    let graph = Graph::new(index.history.operations.len(), dependencies.edges);
    let transactions =
        index.history.operations.iter().filter(|operation| is_transaction(operation));
    counts.set("transactions", transactions.count() as u64);
    counts.set("ww", graph.count(Kind::Overwrote));
    counts.set("wr", graph.count(Kind::ReadHeld) + graph.count(Kind::ReadLoose));
    counts.set("rw", graph.count(Kind::Replaced));
    counts.set("snapshots", dependencies.snapshots.len() as u64);
    counts.set("records-without-order", order.ambiguous() as u64);

    let checker = Checker::DependencyCycles;
    let mut found = committed_cycle(&graph, budget)?;
    if found.is_none() {
        found = held_cycle(&graph, budget)?;
    }
    if found.is_none() {
        found = skewed_snapshot(index, &graph, &dependencies.snapshots, budget)?;
    }
    if let Some((class, cycle)) = found {
        let told = class.told();
        let said = format!("{} operations each come before the other: {told}", cycle.len());
        let operations = cycle.iter().map(|edge| edge.from).collect();
        let reason = format!("{}: {told}", explained(index, &cycle));
        let example = counterexample(index, operations, None, reason);
        return Ok(Judgement::violated(checker, counts, said, example));
    }
    let unknown = |counts, said: String| Ok(Judgement::unknown(checker, counts, said));
    if counts.get("transactions") == 0 {
        return unknown(counts, "no acknowledged transaction to judge".to_owned());
    }
    if counts.get("ww") + counts.get("wr") + counts.get("rw") == 0 {
        return unknown(counts, "no versions were named, so nothing depends".to_owned());
    }
    if order.ambiguous() > 0 {
        let said = format!("{} records have a version with two writers", order.ambiguous());
        return unknown(counts, said);
    }
    let said = if index.history.header.promises.serializable {
        "no cycle of dependencies: serializable"
    } else {
        "no cycle of the dependencies that are promised"
    };
    Ok(Judgement::valid(checker, counts, said.to_owned()))
}

/// What a cycle is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    G0,
    G1c,
    GSingle,
    G2Item,
    /// A knot too large to tell the last two apart.
    Either,
}

impl Class {
    fn told(self) -> &'static str {
        match self {
            Self::G0 => "a write cycle (G0)",
            Self::G1c => "circular information flow (G1c)",
            Self::GSingle => "read skew (G-single)",
            Self::G2Item => "write skew (G2-item)",
            Self::Either => "read skew or write skew (G-single or G2-item)",
        }
    }
}

type Found = Option<(Class, Vec<Edge>)>;

/// A cycle of what committed operations wrote and read.
fn committed_cycle(graph: &Graph, budget: &mut Budget) -> Result<Found, OutOfBudget> {
    let writes = |edge: &Edge| edge.kind == Kind::Overwrote;
    let flows = |edge: &Edge| edge.kind != Kind::Replaced;
    if let Some(knot) = graph.knots(budget, writes)?.first() {
        return Ok(shortest(graph, knot, budget, writes)?.map(|cycle| (Class::G0, cycle)));
    }
    if let Some(knot) = graph.knots(budget, flows)?.first() {
        return Ok(shortest(graph, knot, budget, flows)?.map(|cycle| (Class::G1c, cycle)));
    }
    Ok(None)
}

/// A cycle of what transactions were held to; there is none without a read-write edge in it.
fn held_cycle(graph: &Graph, budget: &mut Budget) -> Result<Found, OutOfBudget> {
    let held = |edge: &Edge| edge.kind != Kind::ReadLoose;
    let knots = graph.knots(budget, held)?;
    let Some(knot) = knots.first() else { return Ok(None) };
    let inside = |edge: &&Edge| knot.contains(&edge.to) && edge.kind == Kind::Replaced;
    let replaced: Vec<Edge> =
        knot.iter().flat_map(|node| graph.from(*node).iter().filter(inside)).copied().collect();
    let mut best: Option<Vec<Edge>> = None;
    for edge in replaced.iter().take(STARTS_MAX) {
        let back = |node| node == edge.from;
        let flows =
            |edge: &Edge| held(edge) && edge.kind != Kind::Replaced && knot.contains(&edge.to);
        if let Some(path) = graph.path(budget, &[edge.to], back, flows)? {
            let cycle: Vec<Edge> = std::iter::once(*edge).chain(path).collect();
            if best.as_ref().is_none_or(|best| cycle.len() < best.len()) {
                best = Some(cycle);
            }
        }
    }
    if let Some(cycle) = best {
        return Ok(Some((Class::GSingle, cycle)));
    }
    let class = if replaced.len() > STARTS_MAX { Class::Either } else { Class::G2Item };
    Ok(shortest(graph, knot, budget, held)?.map(|cycle| (class, cycle)))
}

/// A short cycle inside `knot`.
fn shortest(
    graph: &Graph,
    knot: &BTreeSet<usize>,
    budget: &mut Budget,
    allowed: impl Fn(&Edge) -> bool,
) -> Result<Option<Vec<Edge>>, OutOfBudget> {
    let mut best: Option<Vec<Edge>> = None;
    for &start in knot.iter().take(STARTS_MAX) {
        let inside = |edge: &Edge| allowed(edge) && knot.contains(&edge.to);
        let cycle = graph.path(budget, &[start], |node| node == start, inside)?;
        if let Some(cycle) = cycle
            && best.as_ref().is_none_or(|best| cycle.len() < best.len())
        {
            best = Some(cycle);
        }
    }
    Ok(best)
}

/// A local snapshot that has what a transaction built on another left, and not the whole of that
/// other.
fn skewed_snapshot(
    index: &Index<'_>,
    graph: &Graph,
    snapshots: &[Snapshot],
    budget: &mut Budget,
) -> Result<Found, OutOfBudget> {
    if snapshots.is_empty() {
        return Ok(None);
    }
    let held = |edge: &Edge| matches!(edge.kind, Kind::Overwrote | Kind::ReadHeld);
    let sent = |op: usize| index.operation(op).sent;
    let places = graph.order(budget, sent, held)?;
    for Snapshot { reader, from, missed } in snapshots {
        budget.spend(from.len() + missed.len())?;
        let keys: BTreeSet<u64> = from.iter().chain(missed).map(|(key, _)| *key).collect();
        let sources: BTreeSet<usize> = from.iter().map(|(_, op)| *op).collect();
        let Some(newest) = sources.iter().map(|op| places[*op]).max() else { continue };
        let mut starts: Vec<usize> = missed.iter().map(|(_, op)| *op).collect();
        starts.retain(|op| places[*op] <= newest);
        let path = match starts.iter().find(|op| sources.contains(op)) {
            Some(both) => Some((*both, Vec::new())),
            None => {
                let reaches = |edge: &Edge| {
                    held(edge) && keys.contains(&edge.key) && places[edge.to] <= newest
                };
                let path = graph.path(budget, &starts, |op| sources.contains(&op), reaches)?;
                path.map(|path| (path[0].from, path))
            }
        };
        let Some((first, path)) = path else { continue };
        let last = path.last().map_or(first, |edge| edge.to);
        let edge = |from: usize, to: usize, kind: Kind, of: &[(u64, usize)], op: usize| {
            let key = of.iter().find(|(_, other)| *other == op).map(|(key, _)| *key);
            key.map(|key| Edge { from, to, kind, key })
        };
        let skipped = edge(*reader, first, Kind::Replaced, missed, first);
        let read = edge(last, *reader, Kind::ReadLoose, from, last);
        let cycle = skipped.into_iter().chain(path).chain(read).collect();
        return Ok(Some((Class::GSingle, cycle)));
    }
    Ok(None)
}

/// What a local snapshot read.
#[derive(Debug)]
struct Snapshot {
    reader: usize,
    /// Key, and who wrote what was read of it.
    from: Vec<(u64, usize)>,
    /// Key, and who first replaced what was read of it.
    missed: Vec<(u64, usize)>,
}

#[derive(Debug, Default)]
struct Dependencies {
    edges: Vec<Edge>,
    snapshots: Vec<Snapshot>,
}

fn is_transaction(operation: &Operation) -> bool {
    operation.is_ok() && operation.kind == OpKind::Transaction
}

impl Dependencies {
    fn of(index: &Index<'_>, order: &Order<'_>, budget: &mut Budget) -> Result<Self, OutOfBudget> {
        let mut all = Self::default();
        budget.spend(order.chain.len())?;
        for (first, then) in order.pairs() {
            let key = index.writes[first.write].key;
            all.add(first.op, then.op, Kind::Overwrote, key);
        }
        let serializable = index.history.header.promises.serializable;
        // A single read depends on nothing that its record's own writes do not already order.
        for read in index.reads().filter(|read| is_transaction(index.operation(read.op))) {
            let operation = index.operation(read.op);
            budget.spend(1)?;
            let key = read.step.key;
            let Some(place) = order.of_read(index, &read) else { continue };
            let local = operation.level == Some(ReadLevel::Local);
            let held = (serializable && !local) || index.writes_key(read.op, key);
            let source = index.source(key, read.seen).map(|at| index.writes[at].op);
            let replaced = first_other(order, place, read.op);
            if let Some(source) = source {
                let kind = if held { Kind::ReadHeld } else { Kind::ReadLoose };
                all.add(source, read.op, kind, key);
            }
            if held && let Some(replaced) = replaced {
                all.add(read.op, replaced, Kind::Replaced, key);
            }
            if local {
                if all.snapshots.last().is_none_or(|last| last.reader != read.op) {
                    let (from, missed) = (Vec::new(), Vec::new());
                    all.snapshots.push(Snapshot { reader: read.op, from, missed });
                }
                if let Some(snapshot) = all.snapshots.last_mut() {
                    snapshot.from.extend(source.map(|op| (key, op)));
                    snapshot.missed.extend(replaced.map(|op| (key, op)));
                }
            }
        }
        Ok(all)
    }

    fn add(&mut self, from: usize, to: usize, kind: Kind, key: u64) {
        if from != to {
            self.edges.push(Edge { from, to, kind, key });
        }
    }
}

/// Who wrote the first known version after `place`, unless that was `reader` itself.
fn first_other(order: &Order<'_>, place: Place, reader: usize) -> Option<usize> {
    order.next(place).map(|link| link.op).filter(|op| *op != reader)
}

/// The edges in words.
fn explained(index: &Index<'_>, cycle: &[Edge]) -> String {
    let id = |op: usize| index.operation(op).id;
    let mut told: Vec<String> = cycle
        .iter()
        .take(EDGES_TOLD_MAX)
        .map(|edge| {
            let (from, to, key) = (id(edge.from), id(edge.to), edge.key);
            match edge.kind {
                Kind::Overwrote => format!("op {from} wrote key {key} before op {to} did"),
                Kind::ReadHeld | Kind::ReadLoose => {
                    format!("op {to} read what op {from} wrote to key {key}")
                }
                Kind::Replaced => format!("op {from} read key {key} before op {to} wrote it"),
            }
        })
        .collect();
    if cycle.len() > told.len() {
        told.push("…".to_owned());
    }
    told.join("; ")
}

#[cfg(test)]
mod tests;
