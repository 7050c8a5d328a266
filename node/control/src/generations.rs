//! Generations of clusters: who the MASTERs are, W, and how both change (PROTOCOL.md 3.9). Pure:
//! proposals and servers' reports in, placements out. Whoever leads the control plane puts both
//! into its log in any order, any number of times; nothing here waits for a leader to go on. What
//! servers do meanwhile is in the protocol's `machine/generations`.
//!
//! A change runs through two stages. *Sealing* ends with the reports of a majority of the old
//! MASTERs, whose tokens' merged maximum covers whatever the old generation has committed.
//! *Transferring* ends with the reports of a majority of the new ones that they have all that;
//! then the next generation is active. A MASTER that was not among those finds the token in its
//! placement (`entry`), and gets that far before it votes.
//!
//! **From W below a majority to one** (3.10), each MASTER may have what was acknowledged and nobody
//! else has. So none of them may be missing: first all say that they know of nothing to be merged,
//! then all seal, and then all compare: each has entered the next generation, applies nothing of an
//! earlier one any more, and tells the digest of what it has. If the digests are equal, and nobody
//! lists anything that is open, the next generation is active with the new W. If not, it is active
//! with the old one, and the change begins anew, without clients: reports name their generation, so
//! none counts for two comparisons.
//!
//! The same way leads on without a MASTER that is given up (`forced`).
//!
//! Not built: servers that have nothing of a cluster yet; W below a majority (3.10) together with
//! MASTERs that come, other data centers, or another W below it; going on without a majority of the
//! old MASTERs.

mod forced;
mod progress;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{ClusterKey, NodeId};
use quorate_protocol::alignment::Digest;
use quorate_protocol::io::{self, LocalQuorum, Placement, Report, SessionToken};
use serde::{Deserialize, Serialize};

/// All clusters. Its maps have keys that are no strings: to be kept in a binary format.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Generations {
    clusters: BTreeMap<ClusterKey, Cluster>,
}

/// Who keeps a cluster, and its write quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keepers {
    /// MASTERs, in order.
    pub masters: Vec<NodeId>,
    /// REPLICAs; no MASTER is among them.
    pub replicas: Vec<NodeId>,
    /// W, from 1 to the number of MASTERs.
    pub write_quorum: usize,
    /// Where data centers decide by themselves.
    pub local_quorums: Vec<LocalQuorum>,
}

impl From<Placement> for Keepers {
    fn from(placement: Placement) -> Self {
        let Placement { masters, replicas, write_quorum, local_quorums, .. } = placement;
        Self { masters, replicas, write_quorum, local_quorums }
    }
}

impl Keepers {
    const fn majority(&self) -> usize {
        self.masters.len() / 2 + 1
    }

    /// W is at least a majority.
    pub(crate) const fn is_safe(&self) -> bool {
        self.write_quorum >= self.majority()
    }

    /// The same MASTERs and W.
    fn decides_like(&self, other: &Self) -> bool {
        (&self.masters, self.write_quorum, &self.local_quorums)
            == (&other.masters, other.write_quorum, &other.local_quorums)
    }

    fn all(&self) -> impl Iterator<Item = NodeId> {
        self.masters.iter().chain(&self.replicas).copied()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cluster {
    generation: u32,
    keepers: Keepers,
    entry: SessionToken,
    turn: Option<NodeId>,
    change: Option<Change>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    next: Keepers,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Sealing { sealed: BTreeMap<NodeId, SessionToken> },
    Transferring { token: SessionToken, synced: BTreeSet<NodeId> },
    Merging { merged: BTreeSet<NodeId>, quiet: bool },
    Uniting { sealed: BTreeMap<NodeId, SessionToken> },
    Comparing { token: SessionToken, compared: BTreeMap<NodeId, Contents> },
}

/// What a MASTER has when it is compared: the digest of its items, and whether it lists contents
/// that are not merged.
type Contents = (Digest, bool);

impl Cluster {
    /// True when it is kept by a server, or will be.
    fn names(&self, node: NodeId) -> bool {
        let next = self.change.as_ref().map(|change| &change.next);
        let mut keepers = [&self.keepers].into_iter().chain(next);
        keepers.any(|keepers| keepers.all().any(|known| known == node))
    }
}

impl Stage {
    /// MASTERs unite before the next generation has W of a majority.
    const fn unites(&self) -> bool {
        match self {
            Self::Sealing { .. } | Self::Transferring { .. } => false,
            Self::Merging { .. } | Self::Uniting { .. } | Self::Comparing { .. } => true,
        }
    }

    fn shown(&self) -> io::Stage {
        match self {
            Self::Sealing { sealed } | Self::Uniting { sealed } => {
                io::Stage::Sealing { sealed: sealed.keys().copied().collect() }
            }
            Self::Transferring { token, synced } => {
                io::Stage::Transferring { token: token.clone(), synced: synced.clone() }
            }
            Self::Merging { merged, quiet } => {
                io::Stage::Merging { merged: merged.clone(), quiet: *quiet }
            }
            Self::Comparing { token, compared } => {
                let synced = compared.keys().copied().collect();
                io::Stage::Transferring { token: token.clone(), synced }
            }
        }
    }
}

/// Why a change is refused. Nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// No such cluster.
    #[error("no cluster {0}")]
    Unknown(ClusterKey),
    /// One change at a time.
    #[error("another change of {0} is on its way")]
    UnderWay(ClusterKey),
    /// There is no change to give up.
    #[error("no change of {0} is on its way")]
    NoChange(ClusterKey),
    /// It would be as it is.
    #[error("the change would leave {0} as it is")]
    Same(ClusterKey),
    /// A cluster needs a MASTER.
    #[error("{0} would have no MASTER")]
    NoMaster(ClusterKey),
    /// Named twice, in one role or in both.
    #[error("{node} is named twice for {cluster}")]
    Twice {
        /// Which cluster.
        cluster: ClusterKey,
        /// Who.
        node: NodeId,
    },
    /// It keeps nothing of the cluster: a server joins as REPLICA.
    #[error("{node} keeps nothing of {cluster}; it has to be a REPLICA of it first")]
    Stranger {
        /// Which cluster.
        cluster: ClusterKey,
        /// Who.
        node: NodeId,
    },
    /// W is none of 1 to N.
    #[error("write quorum {write_quorum} of {cluster} is not between 1 and its {masters} MASTERs")]
    Quorum {
        /// Which cluster.
        cluster: ClusterKey,
        /// W.
        write_quorum: usize,
        /// N.
        masters: usize,
    },
    /// W is below a majority, before the change or after it, and more is changed than from there
    /// to a majority, or back.
    #[error(
        "write quorum {write_quorum} of {cluster} is below the majority of its {masters} MASTERs: \
         from or to there a cluster changes alone, with the MASTERs it has, none of which decide \
         for their data center"
    )]
    BelowMajority {
        /// Which cluster.
        cluster: ClusterKey,
        /// W.
        write_quorum: usize,
        /// N.
        masters: usize,
    },
}

impl Generations {
    /// A new cluster, in its first generation. One that is there stays as it is.
    pub fn insert(&mut self, cluster: ClusterKey, keepers: Keepers) {
        self.clusters.entry(cluster).or_insert(Cluster {
            generation: 1,
            keepers,
            entry: SessionToken::new(),
            turn: None,
            change: None,
        });
    }

    /// A server keeps every cluster from now on, as REPLICA: it aligns with what it has nothing of.
    /// That is no business of MASTERs and W, so it needs no generation, and a change that is on its
    /// way goes on. A server that is among the keepers stays what it is.
    pub fn add_replica(&mut self, node: NodeId) {
        for cluster in self.clusters.values_mut() {
            let next = cluster.change.as_mut().map(|change| &mut change.next);
            for keepers in [&mut cluster.keepers].into_iter().chain(next) {
                if keepers.all().all(|known| known != node) {
                    keepers.replicas.push(node);
                }
            }
        }
    }

    /// Begins a change. Where MASTERs and W stay, only REPLICAs going, it is done at once and makes
    /// no generation.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn propose(&mut self, cluster: ClusterKey, next: Keepers) -> Result<(), ChangeError> {
        self.begin(cluster, next, false)
    }

    /// Begins a change, or gives up the one that is on its way where that is what is asked for.
    /// In a closed cluster nothing is voted for, so there W may be any before the change.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub fn bring(
        &mut self,
        cluster: ClusterKey,
        to: Keepers,
        is_closed: bool,
    ) -> Result<(), ChangeError> {
        let now = self.keepers(cluster).ok_or(ChangeError::Unknown(cluster))?;
        let stays = (&now.masters, &now.replicas) == (&to.masters, &to.replicas);
        let stays = stays && (is_closed || now.write_quorum == to.write_quorum);
        if stays && self.is_changing(cluster) {
            return self.give_up(cluster);
        }
        self.begin(cluster, to, is_closed)
    }

    fn begin(
        &mut self,
        cluster: ClusterKey,
        next: Keepers,
        is_closed: bool,
    ) -> Result<(), ChangeError> {
        let found = self.clusters.get_mut(&cluster).ok_or(ChangeError::Unknown(cluster))?;
        if found.change.is_some() {
            return Err(ChangeError::UnderWay(cluster));
        }
        check(cluster, &found.keepers, &next)?;
        if found.keepers.decides_like(&next) {
            found.keepers = next;
            return Ok(());
        }
        let crosses = crosses(&found.keepers, &next);
        if !is_closed && !crosses {
            check_majority(cluster, &found.keepers)?;
        }
        if !crosses {
            check_majority(cluster, &next)?;
        }
        let stage = if crosses && next.is_safe() && !is_closed {
            Stage::Merging { merged: BTreeSet::new(), quiet: false }
        } else {
            Stage::Sealing { sealed: BTreeMap::new() }
        };
        found.change = Some(Change { next, stage });
        Ok(())
    }

    /// Turns a change round: it ends where it began, in a generation of its own, because the old
    /// one may be sealed.
    ///
    /// # Errors
    /// Unknown cluster, or nothing to give up.
    pub fn give_up(&mut self, cluster: ClusterKey) -> Result<(), ChangeError> {
        let found = self.clusters.get_mut(&cluster).ok_or(ChangeError::Unknown(cluster))?;
        let change = found.change.as_mut().ok_or(ChangeError::NoChange(cluster))?;
        change.next = found.keepers.clone();
        match &mut change.stage {
            // Nothing is sealed yet.
            Stage::Merging { .. } => {
                found.change = None;
                return Ok(());
            }
            Stage::Uniting { sealed } => {
                change.stage = Stage::Sealing { sealed: core::mem::take(sealed) };
            }
            Stage::Comparing { token, compared } => {
                let synced = compared.keys().copied().collect();
                change.stage = Stage::Transferring { token: core::mem::take(token), synced };
            }
            Stage::Sealing { .. } | Stage::Transferring { .. } => {}
        }
        if let Stage::Transferring { synced, .. } = &mut change.stage {
            synced.retain(|node| change.next.masters.contains(node));
        }
        found.turn = found.turn.filter(|node| found.keepers.masters.contains(node));
        found.go_on();
        Ok(())
    }

    /// Takes a server's report. True when something changed; what comes late or again changes
    /// nothing.
    pub fn report(&mut self, from: NodeId, report: &Report) -> bool {
        let Some(cluster) = self.clusters.get_mut(&report.cluster()) else { return false };
        match report {
            Report::Sealed { generation, token, .. } => cluster.sealed(from, *generation, token),
            Report::Synced { generation, .. } => cluster.synced(from, *generation),
            Report::Behind { generation, instead_of, .. } => {
                cluster.behind(from, *generation, *instead_of)
            }
            Report::Merged { generation, .. } => cluster.merged(from, *generation),
            Report::Compared { generation, digest, differs, .. } => {
                cluster.compared(from, *generation, (*digest, *differs))
            }
        }
    }

    /// True while a change of the cluster is on its way.
    #[must_use]
    pub fn is_changing(&self, cluster: ClusterKey) -> bool {
        self.clusters.get(&cluster).is_some_and(|found| found.change.is_some())
    }

    /// Clusters with W below a majority that change, or have changed, with their generations.
    pub(crate) fn loose(&self) -> impl Iterator<Item = (ClusterKey, u32)> {
        let clusters = self.clusters.iter().filter(|(_, found)| !found.keepers.is_safe());
        let changed = clusters.filter(|(_, found)| found.generation > 1 || found.change.is_some());
        changed.map(|(cluster, found)| (*cluster, found.generation))
    }

    /// True while some cluster is kept by a server, or will be.
    #[must_use]
    pub(crate) fn names(&self, node: NodeId) -> bool {
        self.clusters.values().any(|cluster| cluster.names(node))
    }

    /// True while every cluster is kept by a server, or will be.
    pub(crate) fn all_name(&self, node: NodeId) -> bool {
        self.clusters.values().all(|cluster| cluster.names(node))
    }

    /// True when a server is a MASTER of every cluster there is.
    #[must_use]
    pub fn is_master_of_all(&self, node: NodeId) -> bool {
        self.clusters.values().all(|cluster| cluster.keepers.masters.contains(&node))
    }

    /// True when a server is a MASTER of some cluster.
    pub(crate) fn is_master_of_any(&self, node: NodeId) -> bool {
        self.clusters.values().any(|cluster| cluster.keepers.masters.contains(&node))
    }

    /// True while MASTERs of the cluster unite.
    pub(crate) fn unites(&self, cluster: ClusterKey) -> bool {
        let change = self.clusters.get(&cluster).and_then(|found| found.change.as_ref());
        change.is_some_and(|change| change.stage.unites())
    }

    /// True when a change to these would be one from W below a majority to W of one, or back.
    pub(crate) fn crosses(&self, cluster: ClusterKey, to: &Keepers) -> bool {
        self.keepers(cluster).is_some_and(|now| crosses(now, to))
    }

    /// Who keeps a cluster now.
    #[must_use]
    pub fn keepers(&self, cluster: ClusterKey) -> Option<&Keepers> {
        self.clusters.get(&cluster).map(|found| &found.keepers)
    }

    /// Who will keep it once the change on its way is done.
    #[must_use]
    pub fn next_keepers(&self, cluster: ClusterKey) -> Option<&Keepers> {
        let change = self.clusters.get(&cluster)?.change.as_ref()?;
        Some(&change.next)
    }

    /// Puts what is known of a cluster into its placement; its owner and what its schema asks of
    /// writers stay.
    pub fn place(&self, cluster: ClusterKey, placement: &mut Placement) {
        let Some(found) = self.clusters.get(&cluster) else { return };
        placement.generation = found.generation;
        placement.masters.clone_from(&found.keepers.masters);
        placement.replicas.clone_from(&found.keepers.replicas);
        placement.write_quorum = found.keepers.write_quorum;
        placement.local_quorums.clone_from(&found.keepers.local_quorums);
        placement.entry.clone_from(&found.entry);
        placement.turn = found.turn;
        placement.change = found.change.as_ref().map(|change| io::Change {
            masters: change.next.masters.clone(),
            unites: change.stage.unites(),
            stage: change.stage.shown(),
        });
    }
}

/// From W below a majority to W of one, or back, and nothing else.
fn crosses(now: &Keepers, next: &Keepers) -> bool {
    let is_alike = now.masters == next.masters;
    let is_local = [now, next].iter().any(|keepers| !keepers.local_quorums.is_empty());
    is_alike && !is_local && now.is_safe() != next.is_safe()
}

fn check(cluster: ClusterKey, now: &Keepers, next: &Keepers) -> Result<(), ChangeError> {
    if now == next {
        return Err(ChangeError::Same(cluster));
    }
    if next.masters.is_empty() {
        return Err(ChangeError::NoMaster(cluster));
    }
    let mut seen = BTreeSet::new();
    for node in next.all() {
        if !seen.insert(node) {
            return Err(ChangeError::Twice { cluster, node });
        }
        if now.all().all(|known| known != node) {
            return Err(ChangeError::Stranger { cluster, node });
        }
    }
    let (write_quorum, masters) = (next.write_quorum, next.masters.len());
    if !(1..=masters).contains(&write_quorum) {
        return Err(ChangeError::Quorum { cluster, write_quorum, masters });
    }
    Ok(())
}

fn check_majority(cluster: ClusterKey, keepers: &Keepers) -> Result<(), ChangeError> {
    let (write_quorum, masters) = (keepers.write_quorum, keepers.masters.len());
    if write_quorum < keepers.majority() {
        return Err(ChangeError::BelowMajority { cluster, write_quorum, masters });
    }
    Ok(())
}

#[cfg(test)]
#[path = "generations_tests.rs"]
mod tests;
