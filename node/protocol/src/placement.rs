//! Where clusters are, as the control plane says, and what servers report to it while that changes
//! (PROTOCOL.md 3.1, 3.9). Data with its arithmetic; `machine/generations` acts on it.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use quorate_api::{ClusterKey, NodeId};
use serde::{Deserialize, Serialize};

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
    /// W(c), between 1 and N.
    pub write_quorum: usize,
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
    /// How far it is.
    pub stage: Stage,
}

/// How far a change is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// MASTERs of this generation stop voting and settle what they voted for.
    Sealing {
        /// Whose [`Report::Sealed`] arrived.
        sealed: BTreeSet<NodeId>,
    },
    /// MASTERs of the next generation get whatever this one has committed.
    Transferring {
        /// Below it is whatever this generation, and those before it, have committed.
        token: SessionToken,
        /// Whose [`Report::Synced`] arrived.
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
}

impl Report {
    /// Which cluster it is about.
    #[must_use]
    pub const fn cluster(&self) -> ClusterKey {
        match self {
            Self::Sealed { cluster, .. }
            | Self::Synced { cluster, .. }
            | Self::Behind { cluster, .. } => *cluster,
        }
    }
}

impl Placement {
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

    /// True when a server keeps the cluster's items, as MASTER or REPLICA.
    #[must_use]
    pub fn is_held_by(&self, node: NodeId) -> bool {
        self.masters.contains(&node) || self.replicas.contains(&node)
    }

    /// True when fewer than half of the MASTERs are witnesses: a majority of them has one that keeps
    /// content, then.
    #[must_use]
    pub fn has_few_witnesses(&self) -> bool {
        let witnesses = self.masters.iter().filter(|node| self.witnesses.contains(node)).count();
        2 * witnesses < self.masters.len()
    }

    /// True when W is at least a majority; PROTOCOL.md 3.2–3.9 hold for such clusters, 3.10 for the
    /// others.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.write_quorum >= self.majority()
    }

    /// The generation that a server has to get ready for, and what it has to have for that: the
    /// next one while it is transferred, else this one.
    #[must_use]
    pub fn to_enter(&self, node: NodeId) -> Option<(u32, &SessionToken)> {
        if let Some(Change { masters, stage: Stage::Transferring { token, .. } }) = &self.change
            && masters.contains(&node)
        {
            return Some((self.generation + 1, token));
        }
        self.masters.contains(&node).then_some((self.generation, &self.entry))
    }
}
