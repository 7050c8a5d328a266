//! A directed graph of dependencies: components, topological order, paths. Knows nothing of
//! histories but the kinds of its edges; what they mean is decided in `dependency_cycles.rs`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use crate::budget::{Budget, OutOfBudget};

/// Why one operation comes before another (Adya 1999, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The second replaced what the first wrote, or what replaced that.
    Overwrote,
    /// The second read what the first wrote, and was held to it when it committed.
    ReadHeld,
    /// The second read what the first wrote.
    ReadLoose,
    /// The first read, and was held to it when it committed, what the second replaced.
    Replaced,
}

/// `from` comes before `to`, because of what both did to `key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) kind: Kind,
    pub(crate) key: u64,
}

/// Edges sorted by where they begin.
#[derive(Debug)]
pub(crate) struct Graph {
    /// For each node, where its edges begin in `edges`; one more at the end.
    first: Vec<usize>,
    edges: Vec<Edge>,
}

impl Graph {
    /// A graph of the nodes below `nodes`.
    pub(crate) fn new(nodes: usize, mut edges: Vec<Edge>) -> Self {
        edges.sort_unstable();
        edges.dedup();
        let mut first = Vec::with_capacity(nodes + 1);
        let mut at = 0;
        for node in 0..=nodes {
            while at < edges.len() && edges[at].from < node {
                at += 1;
            }
            first.push(at);
        }
        Self { first, edges }
    }

    /// The edges that begin at `node`.
    pub(crate) fn from(&self, node: usize) -> &[Edge] {
        &self.edges[self.first[node]..self.first[node + 1]]
    }

    /// How many edges are of `kind`.
    pub(crate) fn count(&self, kind: Kind) -> u64 {
        self.edges.iter().filter(|edge| edge.kind == kind).count() as u64
    }

    fn nodes(&self) -> usize {
        self.first.len() - 1
    }

    /// The strongly connected components with more than one node, smallest first (Tarjan, "Depth-
    /// First Search and Linear Graph Algorithms", SIAM J. Comput. 1(2), 1972), without recursion.
    pub(crate) fn knots(
        &self,
        budget: &mut Budget,
        allowed: impl Fn(&Edge) -> bool,
    ) -> Result<Vec<BTreeSet<usize>>, OutOfBudget> {
        const UNSEEN: usize = usize::MAX;
        budget.spend(self.nodes() + self.edges.len())?;
        let mut seen = vec![UNSEEN; self.nodes()];
        let mut low = vec![UNSEEN; self.nodes()];
        let mut open: Vec<usize> = Vec::new();
        let mut is_open = vec![false; self.nodes()];
        let mut knots = Vec::new();
        let mut clock = 0;
        let mut calls: Vec<(usize, usize)> = Vec::new();
        for root in 0..self.nodes() {
            if seen[root] == UNSEEN {
                calls.push((root, self.first[root]));
            }
            while let Some((node, at)) = calls.pop() {
                if seen[node] == UNSEEN {
                    (seen[node], low[node]) = (clock, clock);
                    clock += 1;
                    open.push(node);
                    is_open[node] = true;
                }
                let mut at = at;
                let mut deeper = None;
                while deeper.is_none() && at < self.first[node + 1] {
                    let edge = &self.edges[at];
                    if !allowed(edge) {
                        at += 1;
                    } else if seen[edge.to] == UNSEEN {
                        // Comes back to this edge once the node has its low mark.
                        deeper = Some(edge.to);
                    } else {
                        if is_open[edge.to] {
                            low[node] = low[node].min(low[edge.to]);
                        }
                        at += 1;
                    }
                }
                if let Some(next) = deeper {
                    calls.push((node, at));
                    calls.push((next, self.first[next]));
                } else if low[node] == seen[node] {
                    let from = open.iter().rposition(|other| *other == node).unwrap_or(0);
                    let knot: BTreeSet<usize> = open.drain(from..).collect();
                    knot.iter().for_each(|member| is_open[*member] = false);
                    if knot.len() > 1 {
                        knots.push(knot);
                    }
                }
            }
        }
        knots.sort_by_key(|knot| (knot.len(), knot.first().copied()));
        Ok(knots)
    }

    /// The place of each node in an order that all allowed edges agree with, as near as possible to
    /// that of `priority`. Nodes on cycles come last, in no order.
    pub(crate) fn order(
        &self,
        budget: &mut Budget,
        priority: impl Fn(usize) -> u64,
        allowed: impl Fn(&Edge) -> bool,
    ) -> Result<Vec<usize>, OutOfBudget> {
        budget.spend(self.nodes() + self.edges.len())?;
        let mut waits_for = vec![0_usize; self.nodes()];
        for edge in self.edges.iter().filter(|edge| allowed(edge)) {
            waits_for[edge.to] += 1;
        }
        let free = (0..self.nodes()).filter(|node| waits_for[*node] == 0);
        let mut free: BinaryHeap<_> = free.map(|node| Reverse((priority(node), node))).collect();
        let mut places = vec![usize::MAX; self.nodes()];
        let mut next = 0;
        while let Some(Reverse((_, node))) = free.pop() {
            places[node] = next;
            next += 1;
            for edge in self.from(node).iter().filter(|edge| allowed(edge)) {
                waits_for[edge.to] -= 1;
                if waits_for[edge.to] == 0 {
                    free.push(Reverse((priority(edge.to), edge.to)));
                }
            }
        }
        Ok(places)
    }

    /// A shortest way over allowed edges, of at least one edge, from one of `starts` to a node that
    /// is a goal.
    pub(crate) fn path(
        &self,
        budget: &mut Budget,
        starts: &[usize],
        is_goal: impl Fn(usize) -> bool,
        allowed: impl Fn(&Edge) -> bool,
    ) -> Result<Option<Vec<Edge>>, OutOfBudget> {
        let mut came_by: BTreeMap<usize, Edge> = BTreeMap::new();
        let mut queue: VecDeque<usize> = starts.iter().copied().collect();
        while let Some(node) = queue.pop_front() {
            budget.spend(1 + self.from(node).len())?;
            for edge in self.from(node).iter().filter(|edge| allowed(edge)) {
                if came_by.contains_key(&edge.to) {
                    continue;
                }
                if is_goal(edge.to) {
                    return Ok(Some(Self::walked(&came_by, starts, *edge)));
                }
                if !starts.contains(&edge.to) {
                    came_by.insert(edge.to, *edge);
                    queue.push_back(edge.to);
                }
            }
        }
        Ok(None)
    }

    fn walked(came_by: &BTreeMap<usize, Edge>, starts: &[usize], last: Edge) -> Vec<Edge> {
        let mut path = vec![last];
        let mut at = last.from;
        while !starts.contains(&at) {
            let Some(edge) = came_by.get(&at) else { break };
            path.push(*edge);
            at = edge.from;
        }
        path.reverse();
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(nodes: usize, pairs: &[(usize, usize)]) -> Graph {
        let edge = |&(from, to)| Edge { from, to, kind: Kind::Overwrote, key: 0 };
        Graph::new(nodes, pairs.iter().map(edge).collect())
    }

    fn knots(graph: &Graph) -> Vec<Vec<usize>> {
        let knots = graph.knots(&mut Budget::new(1_000_000), |_| true).unwrap();
        knots.into_iter().map(|knot| knot.into_iter().collect()).collect()
    }

    #[test]
    fn knots_are_found_and_trees_have_none() {
        assert_eq!(knots(&graph(4, &[(0, 1), (1, 2), (0, 2), (3, 0)])), Vec::<Vec<usize>>::new());
        let two = graph(7, &[(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 3), (4, 5), (6, 5)]);
        assert_eq!(knots(&two), [vec![3, 4], vec![0, 1, 2]]);
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let pairs: Vec<(usize, usize)> = (0..100_000).map(|n| (n, n + 1)).collect();
        assert!(knots(&graph(100_001, &pairs)).is_empty());
        let closed: Vec<(usize, usize)> = pairs.into_iter().chain([(100_000, 0)]).collect();
        assert_eq!(knots(&graph(100_001, &closed))[0].len(), 100_001);
    }

    #[test]
    fn the_order_agrees_with_the_edges_and_then_with_the_priority() {
        let graph = graph(4, &[(3, 0), (0, 2)]);
        let order = graph.order(&mut Budget::new(100), |node| node as u64, |_| true).unwrap();
        assert_eq!(order, [2, 0, 3, 1]);
    }

    #[test]
    fn the_shortest_way_is_taken() {
        let graph = graph(6, &[(0, 1), (1, 2), (2, 3), (0, 4), (4, 3), (3, 0)]);
        let mut budget = Budget::new(100);
        let path = graph.path(&mut budget, &[0], |node| node == 3, |_| true).unwrap().unwrap();
        let nodes: Vec<usize> = path.iter().map(|edge| edge.to).collect();
        assert_eq!(nodes, [4, 3]);
        let round = graph.path(&mut budget, &[0], |node| node == 0, |_| true).unwrap().unwrap();
        assert_eq!(round.len(), 3);
        assert!(graph.path(&mut budget, &[0], |node| node == 5, |_| true).unwrap().is_none());
    }
}
