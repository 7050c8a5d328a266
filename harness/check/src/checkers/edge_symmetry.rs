//! An edge is there in both directions or not at all: the vertex it leaves names it as outgoing and
//! the vertex it enters names it as incoming, in every snapshot and, after heal, on every server
//! (the original makes an edge by two operations outside a transaction, ORIENTDB.md, and promises
//! both directions on each server; PROTOCOL.md 3.11, "all-or-nothing, also in local snapshots").
//!
//! Only what was seen in one state is compared, so a snapshot may be of any part of the graph.
//! Loops and several edges between two vertices are allowed; one edge named twice by one vertex is
//! not.

use std::collections::BTreeSet;

use super::Checker;
use crate::budget::{Budget, OutOfBudget};
use crate::describe::{counterexample, node_name};
use crate::history::{Content, Edge, Vertex};
use crate::index::Index;
use crate::states::{State, Whose, states};
use crate::verdict::{Counts, Judgement};

/// Judges every snapshot, and the final reads of each server and at majority.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    let mut counts = Counts::of(&["states", "edges-compared", "one-sided"]);
    let mut first: Option<(Vec<usize>, String)> = None;
    for (whose, state) in states(index, budget)? {
        counts.add("states");
        let mut compared = 0;
        for half in Graph(state).halves(&mut compared, budget)? {
            counts.add("one-sided");
            first.get_or_insert_with(|| {
                let mut reason = half.told();
                if let Whose::Server(node) = whose {
                    let server = node_name(&index.history.header, node);
                    reason.push_str(&format!(", on server {server}"));
                }
                (half.operations, reason)
            });
        }
        counts.set("edges-compared", counts.get("edges-compared") + compared);
    }
    let checker = Checker::EdgeSymmetry;
    if let Some((operations, reason)) = first {
        let said = format!("{} ends of edges have no counterpart", counts.get("one-sided"));
        let example = counterexample(index, operations, None, reason);
        return Ok(Judgement::violated(checker, counts, said, example));
    }
    if counts.get("edges-compared") == 0 {
        let said = "no edge was seen together with its vertices".to_owned();
        return Ok(Judgement::unknown(checker, counts, said));
    }
    Ok(Judgement::valid(checker, counts, "every edge has both its ends".to_owned()))
}

/// What was seen in one state, as part of a graph.
#[derive(Debug)]
struct Graph<'h>(State<'h>);

/// An end of an edge that the other record does not know of.
#[derive(Debug)]
struct Half {
    operations: Vec<usize>,
    edge: u64,
    vertex: u64,
    is_outgoing: bool,
    /// True if the edge record is right and the vertex is not.
    vertex_is_wrong: bool,
}

impl Half {
    fn told(&self) -> String {
        let Self { edge, vertex, .. } = self;
        match (self.vertex_is_wrong, self.is_outgoing) {
            (true, true) => format!("edge {edge} leaves vertex {vertex}, which does not name it"),
            (true, false) => format!("edge {edge} enters vertex {vertex}, which does not name it"),
            (false, true) => {
                format!("vertex {vertex} names edge {edge} as outgoing, but it does not leave it")
            }
            (false, false) => {
                format!("vertex {vertex} names edge {edge} as incoming, but it does not enter it")
            }
        }
    }
}

impl<'h> Graph<'h> {
    fn edge(&self, key: u64) -> Option<&'h Edge> {
        match self.0.get(&key)?.1? {
            Content::Edge(edge) => Some(edge),
            Content::Balance(_) | Content::Unique(_) | Content::Vertex(_) => None,
        }
    }

    fn vertex(&self, key: u64) -> Option<&'h Vertex> {
        match self.0.get(&key)?.1? {
            Content::Vertex(vertex) => Some(vertex),
            Content::Balance(_) | Content::Unique(_) | Content::Edge(_) => None,
        }
    }

    /// Every end of an edge that is there on one side only. Adds to `compared` the ends that could
    /// be compared.
    fn halves(&self, compared: &mut u64, budget: &mut Budget) -> Result<Vec<Half>, OutOfBudget> {
        let mut named: BTreeSet<(u64, u64, bool)> = BTreeSet::new();
        let mut halves = Vec::new();
        for (&key, &(op, _)) in &self.0 {
            let Some(vertex) = self.vertex(key) else { continue };
            budget.spend(vertex.outgoing.len() + vertex.incoming.len())?;
            let outgoing = vertex.outgoing.iter().map(|edge| (*edge, true));
            let incoming = vertex.incoming.iter().map(|edge| (*edge, false));
            for (edge, is_outgoing) in outgoing.chain(incoming) {
                let twice = !named.insert((edge, key, is_outgoing));
                let Some(&(by, _)) = self.0.get(&edge) else { continue };
                *compared += 1;
                let end = |edge: &Edge| if is_outgoing { edge.from } else { edge.to };
                if twice || self.edge(edge).map(end) != Some(key) {
                    let operations = vec![op, by];
                    let (vertex, vertex_is_wrong) = (key, false);
                    halves.push(Half { operations, edge, vertex, is_outgoing, vertex_is_wrong });
                }
            }
        }
        for (&key, &(op, _)) in &self.0 {
            let Some(&Edge { from, to }) = self.edge(key) else { continue };
            budget.spend(2)?;
            for (vertex, is_outgoing) in [(from, true), (to, false)] {
                let Some(&(by, _)) = self.0.get(&vertex) else { continue };
                *compared += 1;
                if !named.contains(&(key, vertex, is_outgoing)) {
                    let operations = vec![op, by];
                    let (edge, vertex_is_wrong) = (key, true);
                    halves.push(Half { operations, edge, vertex, is_outgoing, vertex_is_wrong });
                }
            }
        }
        Ok(halves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Action, Phase, Seen};
    use crate::sample::Sample;
    use crate::verdict::Verdict::{self, Unknown, Valid, Violated};

    const CHECKER: Checker = Checker::EdgeSymmetry;

    fn vertex(outgoing: &[u64], incoming: &[u64]) -> Content {
        let (outgoing, incoming) = (outgoing.to_vec(), incoming.to_vec());
        Content::Vertex(Box::new(Vertex { outgoing, incoming }))
    }

    /// Edge 2 from vertex 0 to vertex 1, as it should be.
    fn graph() -> [Content; 3] {
        [vertex(&[2], &[]), vertex(&[], &[2]), Content::Edge(Edge { from: 0, to: 1 })]
    }

    /// A snapshot that sees `contents` of keys 0, 1, …
    fn snapshot(contents: &[Option<Content>]) -> Verdict {
        let mut sample = Sample::new();
        let saw = |content: &Option<Content>| match content {
            Some(_) => Seen::Value(9),
            None => Seen::Absent(None),
        };
        let steps = (0..).zip(contents).map(|(key, c)| (key, Action::Read(Some(saw(c)))));
        let added = sample.transaction(steps.collect()).snapshot();
        let filler = Content::Balance(0);
        let contents = contents.iter().map(|content| content.clone().unwrap_or(filler.clone()));
        added.contents(contents).ok(1, 2);
        sample.judge(CHECKER).verdict
    }

    #[test]
    fn both_ends_are_valid_and_so_are_loops_and_parts_of_the_graph() {
        let [from, to, edge] = graph().map(Some);
        assert_eq!(snapshot(&[from.clone(), to, edge]), Valid);
        assert_eq!(snapshot(&[from, None]), Unknown, "the edge itself was not read");
        let looped = [Some(vertex(&[1], &[1])), Some(Content::Edge(Edge { from: 0, to: 0 }))];
        assert_eq!(snapshot(&looped), Valid);
        assert_eq!(snapshot(&[Some(vertex(&[7], &[]))]), Unknown);
    }

    #[test]
    fn an_edge_with_one_end_is_violated() {
        let [from, to, edge] = graph().map(Some);
        let none = Some(vertex(&[], &[]));
        assert_eq!(snapshot(&[from.clone(), none.clone(), edge.clone()]), Violated);
        assert_eq!(snapshot(&[none, to.clone(), edge.clone()]), Violated);
        assert_eq!(snapshot(&[from.clone(), to.clone(), None]), Violated);
        assert_eq!(snapshot(&[None, to.clone(), edge.clone()]), Violated);
        let twice = Some(vertex(&[2, 2], &[]));
        assert_eq!(snapshot(&[twice, to.clone(), edge.clone()]), Violated);
        let wrong_way = [to, from, edge];
        assert_eq!(snapshot(&wrong_way), Violated);
    }

    #[test]
    fn a_server_that_ends_with_half_an_edge_is_violated() {
        let mut sample = Sample::new();
        for (node, incoming) in [(0, &[2][..]), (1, &[])] {
            let [from, _, edge] = graph();
            for (key, content) in (0..).zip([from, vertex(&[], incoming), edge]) {
                let added = sample.local(node, key, Seen::Value(9)).content(content);
                added.phase(Phase::Final).ok(1, 2);
            }
        }
        let judgement = sample.judge(CHECKER);
        assert_eq!((judgement.verdict, judgement.counts["one-sided"]), (Violated, 1));
        let lines = judgement.counterexample.unwrap().lines;
        assert_eq!(
            lines[2],
            "Impossible because edge 2 enters vertex 1, which does not name it, on server b"
        );
    }
}
