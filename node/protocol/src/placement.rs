//! Where clusters are, as the control plane says, and what servers report to it while that changes
//! (PROTOCOL.md 3.1, 3.9). Data with its arithmetic; `machine/generations` acts on it.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use quorate_api::{ClusterKey, NodeId};
use serde::{Deserialize, Serialize};

use crate::alignment::Digest;
use crate::io::SessionToken;

/// Where a cluster is. MASTERs and W are fixed for one generation (PROTOCOL.md 3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Counts the changes of `masters` and `write_quorum`, from 1.
    pub generation: u32,
    /// M(c), in order; never empty.
    pub masters: Vec<NodeId>,
    /// Servers that hold the cluster without a say: they get decisions, and never vote, promise,
    /// accept, recover or count in a read. No MASTER is among them.
    pub replicas: Vec<NodeId>,
    /// Those of `masters` that vote and keep no content that every server has
    /// (`machine/witness`). Less than half of them, and none where W is below a majority.
    pub witnesses: BTreeSet<NodeId>,
    /// W(c), between 1 and N; with `local_quorums` the least of them.
    pub write_quorum: usize,
    /// Where a data center decides by itself: each that has a MASTER, if there are two or more.
    /// None: W counts among all MASTERs.
    pub local_quorums: Vec<LocalQuorum>,
    /// The data center of every MASTER that is in one.
    pub data_centers: BTreeMap<NodeId, String>,
    /// The one server that creates records here; `None`: any (the system cluster).
    pub owner: Option<NodeId>,
    /// Schema revision below which writers are refused: what they write lacks the keys of an index
    /// that came since (PROTOCOL.md 3.9). 0: nobody is; [`CLOSED`]: everybody.
    pub schema_min: u64,
    /// How far every decision log must be applied at a MASTER before it votes or answers reads in
    /// this generation: what the generations before it committed is below. Empty in the first one.
    pub entry: SessionToken,
    /// The one MASTER of this generation, or of the next one, that may leave ONLINE to get what no
    /// decision log brings it: were they all to align, other clusters would have no majority.
    pub turn: Option<NodeId>,
    /// A change of MASTERs or W that is on its way.
    pub change: Option<Change>,
    /// First and last of the generations that had W below a majority, each range once, those that
    /// have such a change behind them alone; what was committed in them is applied by the rules of
    /// PROTOCOL.md 3.10 for good.
    pub loose: Vec<(u32, u32)>,
}

/// What a transaction needs that a MASTER of one data center coordinates. Two data centers have no
/// MASTER in common, so a cluster with such quorums diverges (PROTOCOL.md 3.10, trap A25).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalQuorum {
    /// The MASTERs there; never empty.
    pub masters: Vec<NodeId>,
    /// How many of them have to say Yes, from 1 to all.
    pub write_quorum: usize,
}

/// Whose votes count for a transaction in a cluster, and how many Yes of them it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Electorate<'a> {
    /// MASTERs, all of the cluster or those of the coordinator's data center.
    pub masters: &'a [NodeId],
    /// W among them.
    pub write_quorum: usize,
}

impl Electorate<'_> {
    /// How many of these servers count.
    #[must_use]
    pub fn count<'n>(&self, nodes: impl IntoIterator<Item = &'n NodeId>) -> usize {
        nodes.into_iter().filter(|node| self.masters.contains(node)).count()
    }
}

/// How many MASTERs of an item's cluster answer a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadQuorum {
    /// A majority: linearizable.
    #[default]
    Majority,
    /// So many, at most all. Below a majority the highest of their committed stamps is the answer,
    /// and no more is promised; from a majority on it is linearizable.
    Count(usize),
    /// So many of those in the asker's data center, at most all of them. They know what was decided
    /// there; no more is promised.
    Near(usize),
    /// A majority of those whose votes count for the asker's own transactions: what these can build
    /// on.
    Bases,
}

impl ReadQuorum {
    /// Those of a cluster's MASTERs whose answers count, and how many of them are needed.
    #[must_use]
    pub fn of(self, placement: &Placement, asker: NodeId) -> (Cow<'_, [NodeId]>, usize) {
        let all = Cow::from(&placement.masters);
        match self {
            Self::Majority => (all, placement.majority()),
            Self::Count(count) => {
                let count = count.clamp(1, all.len());
                (all, count)
            }
            Self::Near(count) => {
                let near = placement.near(asker);
                let near = if near.is_empty() { all } else { Cow::from(near) };
                let count = count.clamp(1, near.len());
                (near, count)
            }
            Self::Bases => {
                let masters = placement.electorate(asker).masters;
                (Cow::from(masters), masters.len() / 2 + 1)
            }
        }
    }
}

/// [`Placement::schema_min`] of a cluster that was dropped. Nothing new is voted for there; what
/// was under way is decided by its MASTERs as ever, or the locks it has in other clusters would
/// stay.
pub const CLOSED: u64 = u64::MAX;

/// A change of MASTERs or W that is on its way to the next generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// M(c) of the next generation.
    pub masters: Vec<NodeId>,
    /// From W below a majority to W of one, or without a MASTER that is given up: no report of one
    /// that stays may be missing, and what they have is compared before the next generation is
    /// active.
    pub unites: bool,
    /// How far it is.
    pub stage: Stage,
}

/// How far a change is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// MASTERs merge what differs, before a change that unites them.
    Merging {
        /// Whose [`Report::Merged`] arrived.
        merged: BTreeSet<NodeId>,
        /// They differed when they were compared: no client writes meanwhile.
        quiet: bool,
    },
    /// MASTERs of this generation stop voting and settle what they voted for.
    Sealing {
        /// Whose [`Report::Sealed`] arrived.
        sealed: BTreeSet<NodeId>,
    },
    /// MASTERs of the next generation get whatever this one has committed.
    Transferring {
        /// Below it is whatever this generation, and those before it, have committed.
        token: SessionToken,
        /// Whose [`Report::Synced`] arrived, or [`Report::Compared`] where MASTERs unite.
        synced: BTreeSet<NodeId>,
    },
}

/// What a server tells the control plane. Comes again until a configuration shows that it arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// It votes in this generation no more, and knows the outcome of whatever it had said Yes to.
    Sealed {
        /// Which cluster.
        cluster: ClusterKey,
        /// The generation that is sealed.
        generation: u32,
        /// How far decision logs have told of what it has.
        token: SessionToken,
    },
    /// It has whatever the generations before this one have committed.
    Synced {
        /// Which cluster.
        cluster: ClusterKey,
        /// The generation that it may enter.
        generation: u32,
    },
    /// Some decision log that it needs for that is out of reach: it wants to align.
    Behind {
        /// Which cluster.
        cluster: ClusterKey,
        /// The generation that it cannot enter.
        generation: u32,
        /// Who has the turn, if that one is not believed reachable.
        instead_of: Option<NodeId>,
    },
    /// It knows of nothing in the cluster that has to be merged.
    Merged {
        /// Which cluster.
        cluster: ClusterKey,
        /// The generation that is to end.
        generation: u32,
    },
    /// It has entered a generation in which MASTERs unite, and writes nothing of an earlier one any
    /// more.
    Compared {
        /// Which cluster.
        cluster: ClusterKey,
        /// The generation that it has entered.
        generation: u32,
        /// Over all items that it has.
        digest: Digest,
        /// It lists contents that are not merged.
        differs: bool,
    },
}

impl Report {
    /// Which cluster it is about.
    #[must_use]
    pub const fn cluster(&self) -> ClusterKey {
        match self {
            Self::Sealed { cluster, .. }
            | Self::Synced { cluster, .. }
            | Self::Behind { cluster, .. }
            | Self::Merged { cluster, .. }
            | Self::Compared { cluster, .. } => *cluster,
        }
    }
}

impl Placement {
    /// A first generation that is at rest: MASTERs that keep everything, decide with W of all of
    /// them, and all create records.
    #[must_use]
    pub const fn first(masters: Vec<NodeId>, write_quorum: usize) -> Self {
        Self {
            generation: 1,
            masters,
            replicas: Vec::new(),
            witnesses: BTreeSet::new(),
            write_quorum,
            local_quorums: Vec::new(),
            data_centers: BTreeMap::new(),
            owner: None,
            schema_min: 0,
            entry: SessionToken::new(),
            turn: None,
            change: None,
            loose: Vec::new(),
        }
    }

    /// True when the cluster was dropped.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.schema_min == CLOSED
    }

    /// ⌊N/2⌋ + 1.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.masters.len() / 2 + 1
    }

    /// Who decides on a transaction of this coordinator: the MASTERs of its data center where each
    /// decides by itself, else all.
    #[must_use]
    pub fn electorate(&self, coordinator: NodeId) -> Electorate<'_> {
        let local = self.local_quorums.iter().find(|local| local.masters.contains(&coordinator));
        match local {
            Some(LocalQuorum { masters, write_quorum }) => {
                Electorate { masters, write_quorum: *write_quorum }
            }
            None => Electorate { masters: &self.masters, write_quorum: self.write_quorum },
        }
    }

    /// The same for a transaction that is decided `safely`, as those of safe clusters are, or not:
    /// then all MASTERs vote, and a majority has to say Yes at least.
    #[must_use]
    pub fn deciders(&self, coordinator: NodeId, safely: bool) -> Electorate<'_> {
        if safely {
            let write_quorum = self.write_quorum.max(self.majority());
            Electorate { masters: &self.masters, write_quorum }
        } else {
            self.electorate(coordinator)
        }
    }

    /// MASTERs with contents in the data center of a server; all of them if it is in none.
    #[must_use]
    pub fn near(&self, node: NodeId) -> Vec<NodeId> {
        let center = self.data_centers.get(&node);
        let is_near = |master: &NodeId| self.data_centers.get(master) == center;
        let near = self.masters.iter().filter(|node| !self.witnesses.contains(node)).copied();
        near.filter(|master| center.is_none() || is_near(master)).collect()
    }

    /// True when a server keeps the cluster's items, as MASTER or REPLICA.
    #[must_use]
    pub fn is_held_by(&self, node: NodeId) -> bool {
        self.masters.contains(&node) || self.replicas.contains(&node)
    }

    /// True when fewer than half of the MASTERs are witnesses: a majority of them has one that
    /// keeps content, then.
    #[must_use]
    pub fn has_few_witnesses(&self) -> bool {
        let witnesses = self.masters.iter().filter(|node| self.witnesses.contains(node)).count();
        2 * witnesses < self.masters.len()
    }

    /// Stops a machine that was told what cannot be.
    ///
    /// # Panics
    /// Nobody votes, a quorum is none, or there are too many witnesses.
    pub(crate) fn assert_sound(&self, cluster: ClusterKey) {
        let n = self.masters.len();
        assert!(n > 0, "cluster {cluster} without MASTERs");
        assert!((1..=n).contains(&self.write_quorum), "write quorum of {cluster}");
        let is_fine = self.witnesses.is_empty() || (self.has_few_witnesses() && self.is_safe());
        assert!(is_fine, "witnesses of {cluster}");
        for local in &self.local_quorums {
            let n = local.masters.len();
            assert!((1..=n).contains(&local.write_quorum), "local quorum of {cluster}");
        }
    }

    /// True when W is at least a majority; PROTOCOL.md 3.2–3.9 hold for such clusters, 3.10 for the
    /// others.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.write_quorum >= self.majority()
    }

    /// The same of a generation: this one, or one before it. Of a later one nothing is known; it
    /// counts as safe.
    #[must_use]
    pub fn was_safe(&self, generation: u32) -> bool {
        if generation == self.generation {
            return self.is_safe();
        }
        !self.loose.iter().any(|(first, last)| (*first..=*last).contains(&generation))
    }

    /// True when clients have to wait for the change on its way.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.change.as_ref().is_some_and(|change| match change.stage {
            Stage::Merging { quiet, .. } => quiet,
            Stage::Sealing { .. } | Stage::Transferring { .. } => true,
        })
    }

    /// True when MASTERs stop voting in this generation.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.change.as_ref().is_some_and(|change| match change.stage {
            Stage::Merging { .. } => false,
            Stage::Sealing { .. } | Stage::Transferring { .. } => true,
        })
    }

    /// True while MASTERs unite.
    #[must_use]
    pub fn unites(&self) -> bool {
        self.change.as_ref().is_some_and(|change| change.unites)
    }

    /// Whose contents count when MASTERs merge: all of them, but those that are given up while the
    /// others unite.
    #[must_use]
    pub fn merging(&self) -> &[NodeId] {
        let uniting = self.change.as_ref().filter(|change| change.unites);
        uniting.map_or(&self.masters, |change| &change.masters)
    }

    /// The generation that a server has to get ready for, and what it has to have for that: the
    /// next one while it is transferred, else this one.
    #[must_use]
    pub fn to_enter(&self, node: NodeId) -> Option<(u32, &SessionToken)> {
        if let Some(Change { masters, stage: Stage::Transferring { token, .. }, .. }) = &self.change
            && masters.contains(&node)
        {
            return Some((self.generation + 1, token));
        }
        self.masters.contains(&node).then_some((self.generation, &self.entry))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    const ALL: [NodeId; 5] = [NodeId(1), NodeId(2), NodeId(3), NodeId(4), NodeId(5)];

    fn placement(write_quorum: usize, local_quorums: Vec<LocalQuorum>) -> Placement {
        let name = |node: &NodeId| (*node, String::from(if node.0 < 4 { "rome" } else { "oslo" }));
        Placement {
            replicas: vec![NodeId(9)],
            local_quorums,
            data_centers: ALL[..4].iter().map(name).collect(),
            ..Placement::first(ALL.to_vec(), write_quorum)
        }
    }

    /// FEATURES: A17
    #[test]
    fn who_decides_follows_from_where_the_coordinator_is() {
        let local = |range: core::ops::Range<usize>, write_quorum| LocalQuorum {
            masters: ALL[range].to_vec(),
            write_quorum,
        };
        let two = || vec![local(0..3, 2), local(3..5, 1)];
        for (w, locals, coordinator, masters, needed, is_safe) in [
            (3, vec![], 1, &ALL[..], 3, true),
            (1, vec![], 1, &ALL[..], 1, false),
            (1, two(), 1, &ALL[..3], 2, false),
            (1, two(), 3, &ALL[..3], 2, false),
            (1, two(), 4, &ALL[3..], 1, false),
            // Of another cluster's MASTERs, or gone meanwhile: the least, among all.
            (1, two(), 9, &ALL[..], 1, false),
        ] {
            let placement = placement(w, locals);
            let found = placement.electorate(NodeId(coordinator));
            let expected = Electorate { masters, write_quorum: needed };
            assert_eq!((found, placement.is_safe()), (expected, is_safe), "{coordinator}");
        }
        let placement = placement(1, two());
        let oslo = placement.electorate(NodeId(5));
        assert_eq!(oslo.count(&[NodeId(1), NodeId(5), NodeId(9)]), 1);
    }

    /// FEATURES: A17
    #[test]
    fn near_are_the_masters_of_the_same_data_center() {
        let placement = placement(3, vec![]);
        assert_eq!(placement.near(NodeId(2)), ALL[..3]);
        assert_eq!(placement.near(NodeId(4)), ALL[3..4]);
        for nowhere in [5, 9] {
            assert_eq!(placement.near(NodeId(nowhere)), ALL, "{nowhere}");
        }
    }
}
