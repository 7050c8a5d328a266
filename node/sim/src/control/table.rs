//! What the simulator's servers agree on: clusters with MASTERs, REPLICAs and a write quorum of
//! their own each, and who owns them, by the rules of `quorate-control` (`generations`). Swarms are
//! wider than what the server's commands can make. Dropped clusters take writes again, in this
//! state alone, so that service after the heal can be asked of all. May not know how commands come
//! to have one order.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{ClusterKey, ErrorCode, NodeId};
use quorate_control::agreement::Refusal;
use quorate_control::generations::{Generations, Keepers};
use quorate_control::loose::Loose;
use quorate_control::plane::StateMachine;
use quorate_protocol::alignment::Digest;
use quorate_protocol::io::{CLOSED, Placement, Report, SessionToken, Stage};
use quorate_protocol::topology::Topology;
use serde::{Deserialize, Serialize};

use crate::plant::ControlBug;

/// Servers below each other one: few, so that some are far down.
const FAN_OUT: usize = 2;

/// A change of what all servers agree on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Command {
    /// The clusters that there are, with their owners, the data centers of servers, and those that
    /// keep no contents. Without an owner anybody may create.
    Found(
        Vec<(ClusterKey, Keepers, Option<NodeId>)>,
        #[serde(with = "quorate_control::binary")] BTreeMap<NodeId, String>,
        BTreeSet<NodeId>,
        Option<ControlBug>,
    ),
    /// A cluster gets another owner.
    Own(ClusterKey, NodeId),
    /// A cluster is dropped.
    Drop(ClusterKey),
    /// A cluster's MASTERs, REPLICAs or W shall be others.
    Change(ClusterKey, Keepers),
    /// A cluster goes on without a MASTER that is lost.
    Without(ClusterKey, NodeId),
    /// A change on its way is turned round.
    GiveUp(ClusterKey),
    /// Every cluster takes writes again.
    Reopen,
    /// How far a server is with changes of generations.
    Reports(NodeId, #[serde(with = "quorate_control::binary")] Vec<Report>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Row {
    cluster: ClusterKey,
    owner: Option<NodeId>,
    closed: bool,
}

/// All clusters.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Table {
    /// Those who vote; all others follow them.
    servers: BTreeSet<NodeId>,
    /// Those of them that keep no contents.
    pub(crate) witnesses: BTreeSet<NodeId>,
    rows: Vec<Row>,
    #[serde(with = "quorate_control::binary")]
    data_centers: BTreeMap<NodeId, String>,
    #[serde(with = "quorate_control::binary")]
    pub(crate) generations: Generations,
    #[serde(with = "quorate_control::binary")]
    loose: Loose,
    planted: Option<ControlBug>,
}

impl Table {
    fn row(&mut self, cluster: ClusterKey) -> Result<&mut Row, Refusal> {
        let found = self.rows.iter_mut().find(|row| row.cluster == cluster);
        let text = || format!("cluster {cluster} does not exist");
        found.ok_or_else(|| Refusal { code: ErrorCode::UnknownCluster, text: text() })
    }

    /// Where every cluster is, and in which generation.
    pub(crate) fn placements(&self) -> BTreeMap<ClusterKey, Placement> {
        let placed = self.rows.iter().map(|row| {
            let mut placement = Placement {
                generation: 1,
                masters: Vec::new(),
                replicas: Vec::new(),
                write_quorum: 1,
                local_quorums: Vec::new(),
                data_centers: self.data_centers.clone(),
                owner: row.owner,
                schema_min: if row.closed { CLOSED } else { 0 },
                entry: SessionToken::new(),
                turn: None,
                witnesses: self.witnesses.clone(),
                change: None,
                loose: Vec::new(),
            };
            self.generations.place(row.cluster, &mut placement);
            self.loose.place(row.cluster, &mut placement);
            (row.cluster, placement)
        });
        placed.collect()
    }

    /// Some cluster is dropped.
    pub(crate) fn is_any_closed(&self) -> bool {
        self.rows.iter().any(|row| row.closed)
    }
}

impl StateMachine for Table {
    type Command = Command;

    fn founded_by(founders: &[(String, NodeId)]) -> Self {
        Self { servers: founders.iter().map(|(_, node)| *node).collect(), ..Self::default() }
    }

    fn members(&self) -> BTreeSet<NodeId> {
        self.servers.clone()
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        self.servers.clone()
    }

    fn feeders(&self, node: NodeId) -> Vec<NodeId> {
        let others = |masters: Vec<NodeId>| masters.into_iter().filter(|other| *other != node);
        if self.servers.contains(&node) {
            return others(self.servers.iter().copied().collect()).collect();
        }
        let placements = self.placements();
        let kept = placements.values().flat_map(|p| p.masters.iter().chain(&p.replicas).copied());
        let tree = Topology::over(self.servers.clone(), kept, FAN_OUT);
        // One that keeps nothing yet has no place.
        let roots =
            if tree.is_root(node) { self.servers.iter().copied().collect() } else { vec![] };
        tree.candidates(node).chain(others(roots)).collect()
    }

    fn apply(&mut self, command: &Command) -> Result<bool, Refusal> {
        let changed = self.carry_out(command)?;
        self.loose.note(&self.generations);
        Ok(changed)
    }

    fn news(&self, from: NodeId, mut reports: Vec<Report>) -> Vec<Report> {
        let mut generations = self.generations.clone();
        reports.retain(|report| generations.report(from, report));
        reports
    }

    fn tell(from: NodeId, reports: Vec<Report>) -> Command {
        Command::Reports(from, reports)
    }
}

impl Table {
    /// The planted bug: what a majority reports counts for all MASTERs.
    fn unite_by_majority(&mut self, reports: &[Report]) {
        for report in reports {
            let Some(placement) = self.placements().remove(&report.cluster()) else { continue };
            let Some(change) = placement.change.as_ref().filter(|change| change.unites) else {
                continue;
            };
            let done = match &change.stage {
                Stage::Merging { merged, .. } => merged,
                Stage::Sealing { sealed } => sealed,
                Stage::Transferring { synced, .. } => synced,
            };
            if done.len() < placement.majority() {
                continue;
            }
            for node in placement.masters.iter().filter(|node| !done.contains(node)) {
                self.generations.report(*node, report);
            }
        }
    }

    /// The planted bug: whoever stays is taken to have merged, sealed and compared already.
    fn unite_unasked(&mut self, cluster: ClusterKey) {
        let Some(Placement { generation, change: Some(change), .. }) =
            self.placements().remove(&cluster)
        else {
            return;
        };
        let (token, digest) = (SessionToken::new(), Digest::default());
        for report in [
            Report::Merged { cluster, generation },
            Report::Sealed { cluster, generation, token },
            Report::Compared { cluster, generation: generation + 1, digest, differs: false },
        ] {
            for node in &change.masters {
                self.generations.report(*node, &report);
            }
        }
    }

    fn go_on_without(&mut self, cluster: ClusterKey, lost: NodeId) -> Result<(), Refusal> {
        let generations = &mut self.generations;
        let next = generations.next_keepers(cluster).or(generations.keepers(cluster));
        let Some(mut next) = next.cloned() else { return Ok(()) };
        next.masters.retain(|node| *node != lost);
        next.write_quorum = next.write_quorum.min(next.masters.len());
        if generations.is_loose(cluster) {
            generations.go_on_without(cluster, next)?;
            if self.planted == Some(ControlBug::GivenUpUnasked) {
                self.unite_unasked(cluster);
            }
        } else {
            generations.propose(cluster, next)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, command: &Command) -> Result<bool, Refusal> {
        match command {
            Command::Found(clusters, data_centers, witnesses, planted) => {
                self.planted = *planted;
                self.witnesses.clone_from(witnesses);
                self.data_centers.clone_from(data_centers);
                for (cluster, keepers, owner) in clusters {
                    self.rows.push(Row { cluster: *cluster, owner: *owner, closed: false });
                    self.generations.insert(*cluster, keepers.clone());
                }
            }
            Command::Own(cluster, owner) => self.row(*cluster)?.owner = Some(*owner),
            Command::Drop(cluster) => self.row(*cluster)?.closed = true,
            Command::Change(cluster, next) => self.generations.propose(*cluster, next.clone())?,
            Command::Without(cluster, node) => self.go_on_without(*cluster, *node)?,
            Command::GiveUp(cluster) => self.generations.give_up(*cluster)?,
            Command::Reopen => self.rows.iter_mut().for_each(|row| row.closed = false),
            Command::Reports(from, reports) => {
                let news = reports.iter().map(|report| self.generations.report(*from, report));
                let changed = news.fold(false, |any, one| any | one);
                if self.planted == Some(ControlBug::UnitedByMajority) {
                    self.unite_by_majority(reports);
                }
                return Ok(changed);
            }
        }
        Ok(true)
    }
}
