//! Who feeds whom with decision logs: a pure function of where clusters are. No state, and no
//! opinion about who is reachable: `machine/upstream` chooses among the candidates named here.
//!
//! **The tree.** MASTERs of any cluster are the roots; every decider streams its log to all of them
//! itself. Servers that are MASTER of nothing (REPLICAs) hang below, in the order in which they
//! came (so that one that comes moves nobody), level by level: a level has `fan_out` times as many
//! places as the one above it, and number `j` of a level hangs below number `j` modulo the size of
//! the level above. So the trees below the MASTERs are equally deep and wide, and nobody has more
//! than `fan_out` children while everybody is there.
//!
//! **Candidates.** A REPLICA whose parent is away tries the other servers of its parent's level,
//! each child of one parent beginning at another, then the levels above, the MASTERs last. They all
//! are strictly above it, so following candidates never goes round in a circle (while servers have
//! different configurations it may: that is what the count of hops in `machine/upstream` ends).
//!
//! **Links.** What has to be connected always: MASTERs with each other, and a REPLICA with its
//! parent and [`SPARES`] further candidates. Any other pair talks only when something is out of the
//! ordinary, and needs a link only then: a REPLICA with MASTERs (it asks for a base, aligns, takes
//! up a log where no relay keeps it, reads from a majority, coordinates), and with further
//! candidates when none of those is left.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{ClusterKey, NodeId};

use crate::placement::Placement;

/// Candidates besides the parent that a REPLICA is always connected with.
pub const SPARES: usize = 2;

/// The tree of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// MASTERs, then the levels of REPLICAs; every level but the last is full.
    levels: Vec<Vec<NodeId>>,
    /// Level and number within it.
    places: BTreeMap<NodeId, (usize, usize)>,
    /// Clusters that some REPLICA keeps.
    relayed: BTreeSet<ClusterKey>,
}

impl Topology {
    /// The tree over the servers that keep these clusters.
    #[must_use]
    pub fn new(placements: &BTreeMap<ClusterKey, Placement>, fan_out: usize) -> Self {
        let masters = placements.values().flat_map(|p| p.masters.iter().copied());
        let roots: BTreeSet<NodeId> = masters.collect();
        let keepers = || placements.values().flat_map(|p| p.replicas.iter().copied());
        let replicas: BTreeSet<NodeId> = keepers().filter(|node| !roots.contains(node)).collect();
        let has_replica = |p: &Placement| p.replicas.iter().any(|node| replicas.contains(node));
        let relayed = placements.iter().filter(|(_, p)| has_replica(p)).map(|(c, _)| *c).collect();
        Self { relayed, ..Self::over(roots, keepers(), fan_out) }
    }

    /// The tree of these servers below these MASTERs, whatever they keep. Each is taken once, and
    /// MASTERs are not among them.
    #[must_use]
    pub fn over(
        roots: BTreeSet<NodeId>,
        replicas: impl Iterator<Item = NodeId>,
        fan_out: usize,
    ) -> Self {
        let mut known = roots.clone();
        let replicas: Vec<NodeId> = replicas.filter(|node| known.insert(*node)).collect();
        let mut size = roots.len();
        let mut levels = Vec::from([roots.into_iter().collect::<Vec<_>>()]);
        let mut left = replicas.into_iter().peekable();
        while left.peek().is_some() && size > 0 {
            size *= fan_out.max(1);
            levels.push(left.by_ref().take(size).collect());
        }
        let place = |(level, nodes): (usize, &Vec<NodeId>)| {
            let of_level = nodes.iter().enumerate().map(move |(j, node)| (*node, (level, j)));
            of_level.collect::<Vec<_>>()
        };
        let places = levels.iter().enumerate().flat_map(place).collect();
        Self { levels, places, relayed: BTreeSet::new() }
    }

    /// MASTERs of any cluster, in order.
    #[must_use]
    pub fn roots(&self) -> &[NodeId] {
        self.levels.first().map_or(&[], Vec::as_slice)
    }

    /// True for a MASTER of any cluster, and for a server that is in no configuration: nobody feeds
    /// it.
    #[must_use]
    pub fn is_root(&self, node: NodeId) -> bool {
        self.places.get(&node).is_none_or(|(level, _)| *level == 0)
    }

    /// True when some server may ask this one for decision logs.
    #[must_use]
    pub fn has_below(&self, node: NodeId) -> bool {
        self.places.get(&node).is_some_and(|(level, _)| level + 1 < self.levels.len())
    }

    /// True when some REPLICA keeps the cluster.
    #[must_use]
    pub fn is_relayed(&self, cluster: ClusterKey) -> bool {
        self.relayed.contains(&cluster)
    }

    /// Whom a REPLICA may follow, best first: its parent, then whoever stands in. Empty for roots.
    pub fn candidates(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let (level, number) = self.places.get(&node).copied().unwrap_or_default();
        let above = if level == 0 { 0 } else { self.levels[level - 1].len() };
        // The children of one parent do not all go to the same server when it is gone.
        let turn = number.checked_div(above).unwrap_or(0);
        let of_level = move |level: usize| {
            let nodes = &self.levels[level];
            let first = number % nodes.len();
            let others = (1..nodes.len()).map(move |n| 1 + (n - 1 + turn) % (nodes.len() - 1));
            core::iter::once(0).chain(others).map(move |n| nodes[(first + n) % nodes.len()])
        };
        (0..level).rev().flat_map(of_level)
    }

    /// The servers that a server has to be connected with always; see the module's doc.
    #[must_use]
    pub fn links(&self, node: NodeId) -> BTreeSet<NodeId> {
        let mut links: BTreeSet<NodeId> = BTreeSet::new();
        if self.is_root(node) {
            links.extend(self.roots().iter().filter(|root| **root != node));
        }
        for replica in self.levels.iter().skip(1).flatten() {
            for candidate in self.candidates(*replica).take(1 + SPARES) {
                if *replica == node {
                    links.insert(candidate);
                } else if candidate == node {
                    links.insert(*replica);
                }
            }
        }
        links
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn tree(masters: u64, replicas: u64, fan_out: usize) -> Topology {
        let placement = Placement {
            replicas: (masters + 1..=masters + replicas).map(NodeId).collect(),
            ..Placement::first((1..=masters).map(NodeId).collect(), 1)
        };
        let cluster = ClusterKey { database: 1, cluster: 1 };
        Topology::new(&[(cluster, placement)].into(), fan_out)
    }

    fn parents(tree: &Topology) -> BTreeMap<NodeId, Vec<NodeId>> {
        let mut children: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for node in tree.places.keys().filter(|node| !tree.is_root(**node)) {
            let parent = tree.candidates(*node).next().unwrap();
            children.entry(parent).or_default().push(*node);
        }
        children
    }

    #[test]
    fn nobody_has_more_children_than_the_fan_out() {
        for (masters, replicas, fan_out) in [(3, 100, 4), (1, 9, 2), (2, 12, 1), (3, 2, 4)] {
            let children = parents(&tree(masters, replicas, fan_out));
            assert!(children.values().all(|nodes| nodes.len() <= fan_out), "{children:?}");
            assert_eq!(children.values().flatten().count() as u64, replicas);
        }
        let tree = tree(3, 100, 4);
        assert_eq!(tree.levels.iter().map(Vec::len).collect::<Vec<_>>(), [3, 12, 48, 40]);
        assert!(tree.has_below(NodeId(3)) && !tree.has_below(NodeId(103)));
    }

    #[test]
    fn candidates_are_all_servers_above_each_once() {
        let tree = tree(3, 100, 4);
        for (node, (level, _)) in &tree.places {
            let candidates: Vec<NodeId> = tree.candidates(*node).collect();
            let above: BTreeSet<NodeId> = tree.levels[..*level].iter().flatten().copied().collect();
            assert_eq!(candidates.len(), above.len(), "{node:?}");
            assert_eq!(candidates.into_iter().collect::<BTreeSet<_>>(), above);
        }
    }

    /// What a dead relay has fed is spread.
    #[test]
    fn the_children_of_one_parent_have_different_second_choices() {
        let tree = tree(3, 100, 4);
        for children in parents(&tree).values() {
            let seconds: BTreeSet<NodeId> =
                children.iter().filter_map(|node| tree.candidates(*node).nth(1)).collect();
            let choices = tree.levels[tree.places[&children[0]].0 - 1].len() - 1;
            assert_eq!(seconds.len(), children.len().min(choices), "{children:?}");
        }
    }

    #[test]
    fn links_go_both_ways_and_do_not_grow_with_the_replicas() {
        for replicas in [0, 12, 100, 1_000] {
            let tree = tree(3, replicas, 4);
            let most = tree.places.keys().map(|node| tree.links(*node).len()).max();
            assert!(most <= Some(2 + (1 + SPARES) * 5), "{most:?} of {replicas}");
            if replicas > 100 {
                continue;
            }
            for node in tree.places.keys() {
                let links = tree.links(*node);
                assert!(!links.contains(node));
                assert!(links.iter().all(|other| tree.links(*other).contains(node)));
            }
        }
    }

    #[test]
    fn whoever_masters_anything_is_a_root() {
        let mut placements = BTreeMap::new();
        for (cluster, masters, replicas) in [(1, vec![1], vec![2, 3]), (2, vec![2], vec![1])] {
            let of = |nodes: Vec<u64>| nodes.into_iter().map(NodeId).collect::<Vec<_>>();
            let placement =
                Placement { replicas: of(replicas), ..Placement::first(of(masters), 1) };
            placements.insert(ClusterKey { database: 1, cluster }, placement);
        }
        let tree = Topology::new(&placements, 4);
        assert_eq!(tree.roots(), [NodeId(1), NodeId(2)]);
        assert!(!tree.is_root(NodeId(3)) && tree.is_root(NodeId(9)));
        let relayed = |cluster| tree.is_relayed(ClusterKey { database: 1, cluster });
        assert!(relayed(1) && !relayed(2));
    }
}
