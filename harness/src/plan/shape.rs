//! Shapes of partitions: which servers lose sight of which, purely from the servers and from whom
//! the fault hits. May not know proxies or how a link is cut.

use serde::{Deserialize, Serialize};

use super::{FaultKind, PlannedFault, Topology, target};

/// Which links a partition cuts.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Those between the target and all others.
    #[default]
    Sides,
    /// Every link of each server of the target: those among them as well.
    Isolate,
    /// Those between two halves of the other servers, drawn from the seed; the target, one server,
    /// sees both.
    Bridge,
    /// Each server sees as many neighbours in a ring as make a majority with it, and no two see
    /// the same; the order is drawn from the seed.
    Ring,
    /// Those between two halves of all servers, drawn from the seed.
    Halves,
    /// What others send to the target; they hear it.
    OneWayIn,
    /// What the target sends to others; it hears them.
    OneWayOut,
}

/// A cut between two servers: nothing sent by the first arrives at the second.
pub type Unheard = (String, String);

impl Shape {
    /// True for the usual one.
    #[must_use]
    pub fn is_sides(&self) -> bool {
        *self == Self::Sides
    }

    /// As it is written in a spec.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sides => "sides",
            Self::Isolate => "isolate",
            Self::Bridge => "bridge",
            Self::Ring => "ring",
            Self::Halves => "halves",
            Self::OneWayIn => "one-way-in",
            Self::OneWayOut => "one-way-out",
        }
    }

    /// True if the seed alone decides, so that a target has no meaning.
    #[must_use]
    pub fn takes_no_target(self) -> bool {
        match self {
            Self::Ring | Self::Halves => true,
            Self::Sides | Self::Isolate | Self::Bridge | Self::OneWayIn | Self::OneWayOut => false,
        }
    }

    /// True if it divides nobody when every server is hit.
    #[must_use]
    pub fn needs_others(self) -> bool {
        match self {
            Self::Sides | Self::OneWayIn | Self::OneWayOut => true,
            Self::Isolate | Self::Bridge | Self::Ring | Self::Halves => false,
        }
    }

    /// True if of two servers one may hear the other and not be heard.
    #[must_use]
    pub fn is_one_way(self) -> bool {
        match self {
            Self::OneWayIn | Self::OneWayOut => true,
            Self::Sides | Self::Isolate | Self::Bridge | Self::Ring | Self::Halves => false,
        }
    }

    /// The fewest servers that it divides.
    #[must_use]
    pub fn fewest(self) -> usize {
        match self {
            Self::Sides | Self::Isolate | Self::Halves | Self::OneWayIn | Self::OneWayOut => 2,
            Self::Bridge => 3,
            // In a ring of three everybody sees everybody.
            Self::Ring => 4,
        }
    }

    /// Who does not hear whom, given every server and those that [`hit`] gave.
    #[must_use]
    pub fn unheard(self, servers: &[String], hit: &[String]) -> Vec<Unheard> {
        let pairs = servers.iter().flat_map(|from| servers.iter().map(move |to| (from, to)));
        let pairs = pairs.filter(|(from, to)| from != to && self.cuts(from, to, hit));
        pairs.map(|(from, to)| (from.clone(), to.clone())).collect()
    }

    fn cuts(self, from: &String, to: &String, hit: &[String]) -> bool {
        let place = |server: &String| hit.iter().position(|other| other == server);
        let (at, other) = (place(from), place(to));
        match self {
            Self::Sides | Self::Halves => at.is_some() != other.is_some(),
            Self::Isolate => at.is_some() || other.is_some(),
            Self::Bridge => at != Some(0) && other != Some(0) && at.is_some() != other.is_some(),
            Self::Ring => match (at, other) {
                (Some(at), Some(other)) => {
                    let apart = at.abs_diff(other);
                    // On the shorter way round.
                    apart.min(hit.len() - apart) > reach(hit.len())
                }
                (None, _) | (_, None) => false,
            },
            Self::OneWayIn => at.is_none() && other.is_some(),
            Self::OneWayOut => at.is_some() && other.is_none(),
        }
    }
}

/// Neighbours seen on each side in a ring of that many: the fewest that make a majority.
fn reach(servers: usize) -> usize {
    (servers / 2).div_ceil(2)
}

/// The servers that a fault hits. Of a bridge: the bridge, then those on one side of it. Of a
/// ring: all, in the ring's order. Of halves: the smaller half.
#[must_use]
pub fn hit(fault: &PlannedFault, topology: &Topology, seed: u64) -> Vec<String> {
    let name = fault.drawn_as.as_ref().unwrap_or(&fault.name);
    let chosen = target::resolve(fault.kind.target(), topology, seed, name);
    let FaultKind::Partition { shape, .. } = &fault.kind else { return chosen };
    let servers = topology.servers();
    let half = |of: &[String]| target::some_of(of, of.len() / 2, seed, name);
    match shape {
        Shape::Sides | Shape::Isolate | Shape::OneWayIn | Shape::OneWayOut => chosen,
        Shape::Bridge => {
            let mut others = servers;
            others.retain(|server| !chosen.contains(server));
            chosen.into_iter().chain(half(&others)).collect()
        }
        Shape::Ring => target::shuffled(&servers, seed, name),
        Shape::Halves => half(&servers),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::{Cut, Limits, Target};

    fn topology(masters: usize) -> Topology {
        Topology {
            masters: (1..=masters).map(|i| format!("n{i}")).collect(),
            replicas: Vec::new(),
            standalone: false,
            write_quorum: "majority".to_owned(),
            proxied: true,
            limits: Limits::default(),
            heap_bytes: None,
        }
    }

    fn fault(shape: Shape, target: Target) -> PlannedFault {
        PlannedFault {
            name: "cut".to_owned(),
            at_ms: 0,
            for_ms: 1,
            kind: FaultKind::Partition { cut: Cut::Silent, target, shape },
            drawn_as: None,
            trigger: None,
        }
    }

    /// Whom each server hears, itself included.
    fn heard(shape: Shape, target: Target, masters: usize, seed: u64) -> Vec<BTreeSet<String>> {
        let topology = topology(masters);
        let servers = topology.servers();
        let unheard = shape.unheard(&servers, &hit(&fault(shape, target), &topology, seed));
        let by = |to: &String| {
            let hears = |from: &&String| !unheard.contains(&((*from).clone(), to.clone()));
            servers.iter().filter(hears).cloned().collect()
        };
        servers.iter().map(by).collect()
    }

    fn names(names: &[&str]) -> Target {
        Target::Names(names.iter().map(ToString::to_string).collect())
    }

    fn sizes(heard: &[BTreeSet<String>]) -> Vec<usize> {
        heard.iter().map(BTreeSet::len).collect()
    }

    #[test]
    fn in_a_ring_everybody_sees_a_majority_and_no_two_the_same() {
        for masters in 4..=12 {
            for seed in 0..20 {
                let heard = heard(Shape::Ring, Target::All, masters, seed);
                assert!(heard.iter().all(|seen| seen.len() > masters / 2), "{heard:?}");
                assert!(heard.iter().any(|seen| seen.len() < masters), "{heard:?}");
                let different: BTreeSet<_> = heard.iter().collect();
                assert_eq!(different.len(), masters, "{heard:?}");
            }
        }
    }

    #[test]
    fn a_bridge_sees_both_halves_which_do_not_see_each_other() {
        for seed in 0..20 {
            let heard = heard(Shape::Bridge, names(&["n3"]), 5, seed);
            assert_eq!(sizes(&heard), [3, 3, 5, 3, 3]);
            assert!(heard.iter().all(|seen| seen.contains("n3")), "{heard:?}");
        }
        let all: BTreeSet<_> =
            (0..20).map(|s| heard(Shape::Bridge, names(&["n3"]), 5, s)).collect();
        assert!(all.len() > 1, "the seed has no say");
    }

    #[test]
    fn halves_are_halves_and_the_seed_draws_them() {
        let mut seen = BTreeSet::new();
        for seed in 0..20 {
            let heard = heard(Shape::Halves, Target::All, 5, seed);
            let mut counts = sizes(&heard);
            counts.sort_unstable();
            assert_eq!(counts, [2, 2, 3, 3, 3]);
            seen.insert(heard);
        }
        assert!(seen.len() > 1, "the seed has no say");
    }

    #[test]
    fn isolated_servers_do_not_see_each_other_either() {
        let two = || names(&["n1", "n2"]);
        assert_eq!(sizes(&heard(Shape::Isolate, two(), 5, 1)), [1, 1, 3, 3, 3]);
        assert_eq!(sizes(&heard(Shape::Sides, two(), 5, 1)), [2, 2, 3, 3, 3]);
    }

    #[test]
    fn one_way_cuts_one_direction_alone() {
        let (inward, outward) = (Shape::OneWayIn, Shape::OneWayOut);
        assert_eq!(sizes(&heard(inward, names(&["n1"]), 3, 1)), [1, 3, 3]);
        assert_eq!(sizes(&heard(outward, names(&["n1"]), 3, 1)), [3, 2, 2]);
    }

    #[test]
    fn what_is_drawn_together_is_the_same_under_another_name() {
        let flap = |name: &str| PlannedFault {
            name: name.to_owned(),
            drawn_as: Some("cut".to_owned()),
            ..fault(Shape::Ring, Target::All)
        };
        let topology = topology(7);
        let first = hit(&flap("cut-1"), &topology, 3);
        assert_eq!(first, hit(&flap("cut-2"), &topology, 3));
        assert_eq!(first, hit(&fault(Shape::Ring, Target::All), &topology, 3));
    }
}
