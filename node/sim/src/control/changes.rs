//! Who changes what while clients write: owners, MASTERs, REPLICAs and write quorums, clusters that
//! are dropped; each as a command at a drawn server. May not know how commands are agreed on.

use quorate_api::{ClusterKey, NodeId};
use quorate_control::generations::Keepers;
use quorate_control::plane::{Event, StateMachine as _};
use quorate_protocol::io::Tick;

use super::Command;
use super::table::{Command as Change, Table};
use crate::world::{Happening, World};

/// How long the control plane has to take dropped clusters back before clients come.
const REOPENED: Tick = 100_000;

impl World {
    /// A cluster gets another owner, or is dropped.
    pub(crate) fn new_entry(&mut self) {
        if self.healed {
            return;
        }
        let shape = self.faults.pick(&self.options.clusters).clone();
        let owner = self.servers[*self.faults.pick(&self.options.owners_of(&shape))].id;
        let drops = self.faults.chance(self.options.drops);
        let at = self.faults.index(self.servers.len());
        let own = Change::Own(shape.cluster, owner);
        self.propose(at, if drops { Change::Drop(shape.cluster) } else { own });
        self.again_after(self.options.entry_every, Happening::Entry);
    }

    /// A cluster's MASTERs or W shall change, or a change on its way is turned round.
    pub(crate) fn change_generation(&mut self) {
        if self.gives_up_one() {
            self.again_after(self.options.change_every, Happening::Change);
            return;
        }
        if self.healed {
            return;
        }
        let shape = self.changes.index(self.options.clusters.len());
        let cluster = self.options.clusters[shape].cluster;
        let at = self.changes.index(self.servers.len());
        let table = self.control.newest.table();
        if table.is_some_and(|table| table.generations.is_changing(cluster)) {
            if self.changes.chance(300) {
                self.propose(at, Change::GiveUp(cluster));
            }
        } else if let Some(next) = self.draw_keepers(cluster) {
            self.propose(at, Change::Change(cluster, next));
        }
        let next = self.now + self.changes.between(1, 2 * self.options.change_every);
        self.at(next, Happening::Change);
    }

    /// A MASTER is lost for good, and given up by every cluster in turn; true while some names it.
    fn gives_up_one(&mut self) -> bool {
        if self.options.gives_up == 0 || self.now < self.options.gives_up {
            return false;
        }
        let lost = self.servers.iter().position(|server| server.dead);
        if lost.is_none() && self.healed {
            return false;
        }
        let lost = lost.unwrap_or_else(|| *self.changes.pick(&self.options.voting()));
        if !self.servers[lost].dead {
            if !self.can_spare(lost) {
                return false;
            }
            self.lose(lost);
        }
        let node = self.servers[lost].id;
        let clusters: Vec<ClusterKey> =
            self.options.clusters.iter().map(|shape| shape.cluster).collect();
        let names = |cluster: &ClusterKey| {
            self.keepers(*cluster).any(|keepers| keepers.masters.contains(&node))
        };
        let naming: Vec<ClusterKey> = clusters.into_iter().filter(names).collect();
        for cluster in &naming {
            let at = self.changes.index(self.servers.len());
            self.propose(at, Change::Without(*cluster, node));
        }
        !naming.is_empty()
    }

    /// Everything takes writes again; clients come back when it does.
    pub(crate) fn reopen(&mut self) {
        let mut wait = 0;
        if self.control.newest.table().is_some_and(Table::is_any_closed) {
            let serves = |at: &usize| self.servers[*at].plane.is_some();
            if let Some(at) = (0..self.servers.len()).find(serves) {
                self.propose(at, Change::Reopen);
            }
            wait = REOPENED;
        }
        self.at(self.now + wait, Happening::Return);
    }

    /// Somebody asks this server for a change, if it runs.
    fn propose(&mut self, index: usize, change: Change) {
        let server = &self.servers[index];
        if server.paused || server.plane.is_none() {
            return;
        }
        let (id, request) = (server.id, self.control.next_request());
        self.trace.line(self.now, format_args!("{id} is asked for {request}: {change:?}"));
        if let Change::Change(cluster, next) = &change {
            self.control.asked.insert(request, (*cluster, next.clone()));
        }
        self.control.waiting.insert(request, index);
        self.step_plane(index, Event::Propose { request, command: Command::Table(change) });
    }

    /// One MASTER or REPLICA less or in another role, or another W; with enough of them alive.
    fn draw_keepers(&mut self, cluster: ClusterKey) -> Option<Keepers> {
        let mut next = self.control.newest.table()?.generations.keepers(cluster)?.clone();
        if self.options.crossing {
            let (masters, majority) = (next.masters.len(), next.masters.len() / 2 + 1);
            let below = next.write_quorum >= majority && majority > 1;
            next.write_quorum = if below {
                1 + self.changes.index(majority - 1)
            } else {
                majority + self.changes.index(masters - majority + 1)
            };
            return Some(next);
        }
        let kind = self.changes.below(5);
        match kind {
            0 | 1 if next.masters.len() > 1 => {
                let at = self.changes.index(next.masters.len());
                let node = next.masters.remove(at);
                if kind == 0 || !self.keeps_another(node, cluster) {
                    next.replicas.push(node);
                    next.replicas.sort_unstable();
                }
            }
            2 | 3 if !next.replicas.is_empty() => {
                let at = self.changes.index(next.replicas.len());
                let node = next.replicas.remove(at);
                if kind == 2 || !self.keeps_another(node, cluster) {
                    next.masters.push(node);
                    next.masters.sort_unstable();
                }
            }
            _ => {}
        }
        let masters = next.masters.len();
        let majority = masters / 2 + 1;
        next.write_quorum = majority + self.changes.index(masters - majority + 1);
        let witnesses = self.control.newest.table().map(|table| &table.witnesses);
        let is_witness = |node: &NodeId| witnesses.is_some_and(|all| all.contains(node));
        let witnesses = next.masters.iter().filter(|node| is_witness(node)).count();
        (2 * witnesses < masters && self.serves(&next, None)).then_some(next)
    }

    /// Who keeps a cluster now, who will, and who would by what was asked for and may yet come.
    fn keepers(&self, cluster: ClusterKey) -> impl Iterator<Item = &Keepers> {
        let generations = self.control.newest.table().map(|table| &table.generations).into_iter();
        let now = generations.flat_map(move |generations| {
            let next = generations.next_keepers(cluster);
            generations.keepers(cluster).into_iter().chain(next)
        });
        let asked = self.control.asked.values().filter(move |(of, _)| *of == cluster);
        now.chain(asked.map(|(_, keepers)| keepers))
    }

    /// A server without any cluster would be no part of the database.
    fn keeps_another(&self, node: NodeId, cluster: ClusterKey) -> bool {
        let mut others = self.options.clusters.iter().filter(|shape| shape.cluster != cluster);
        let is_kept =
            |keepers: &Keepers| keepers.masters.contains(&node) || keepers.replicas.contains(&node);
        others.any(|shape| self.keepers(shape.cluster).all(is_kept))
    }

    /// True when a server, for good, is there.
    pub(super) fn lives(&self, index: usize) -> bool {
        let server = &self.servers[index];
        !server.dead && !server.disk.is_damaged()
    }

    /// True when these serve without those whose disks are damaged, and without one more.
    fn serves(&self, keepers: &Keepers, without: Option<usize>) -> bool {
        let lives = |node: &&NodeId| {
            let index = self.servers.iter().position(|server| server.id == **node);
            index.is_some_and(|index| self.lives(index) && without != Some(index))
        };
        let alive = keepers.masters.iter().filter(lives).count();
        alive >= keepers.write_quorum && alive > keepers.masters.len() / 2
    }

    /// True when every cluster and the control plane serve without this server, and will.
    pub(crate) fn can_spare(&self, index: usize) -> bool {
        if let Some(agreement) = self.control.newest.agreement() {
            return self.members_can_spare(agreement, index);
        }
        let voting = self.control.newest.voters();
        let votes = |at: &usize| voting.contains(&self.servers[*at].id);
        let voters = (0..self.servers.len()).filter(votes);
        let alive = voters.filter(|at| *at != index && self.lives(*at)).count();
        let mut clusters = self.options.clusters.iter();
        alive > voting.len() / 2
            && clusters
                .all(|shape| self.keepers(shape.cluster).all(|k| self.serves(k, Some(index))))
    }
}
