//! A scripted stand-in for the control plane, with its interface: a growing list of entries, each a
//! complete table of clusters under an index, that servers apply in order and at different times.
//! Owners change, and so do MASTERs and write quorums, by the rules of `quorate-control`
//! (`generations`): servers' reports travel here, may be lost, and make entries. Clusters are
//! dropped, and stay so until it was seen that nothing is left in doubt on them; then, in this
//! stand-in alone, they take writes again, so that service after the heal can be asked of all.

use std::collections::BTreeMap;

use quorate_api::{ClusterKey, NodeId};
use quorate_control::generations::{Generations, Keepers};
use quorate_protocol::io::{CLOSED, Event, Placement, Report, SessionToken, Tick};

use crate::options::{Options, Shape};
use crate::rng::Stream;
use crate::world::{Happening, World};

/// A complete table of clusters.
pub(crate) type Entry = BTreeMap<ClusterKey, Placement>;

/// The first entry. Without changes to come anybody may create.
pub(crate) fn first_entry(options: &Options, nodes: &[NodeId], rng: &mut Stream) -> Entry {
    let placement = |shape: &Shape| {
        let of = |servers: &[usize]| servers.iter().map(|s| nodes[*s]).collect();
        let owner = (options.entry_every > 0).then(|| nodes[*rng.pick(&shape.masters)]);
        let placement = Placement {
            generation: 1,
            masters: of(&shape.masters),
            replicas: of(&shape.replicas),
            write_quorum: shape.write_quorum,
            owner,
            schema_min: 0,
            entry: SessionToken::new(),
            turn: None,
            change: None,
        };
        (shape.cluster, placement)
    };
    options.clusters.iter().map(placement).collect()
}

/// Every cluster in its first generation.
pub(crate) fn first_generations(first: &Entry) -> Generations {
    let mut generations = Generations::default();
    for (cluster, placement) in first {
        let (masters, replicas) = (placement.masters.clone(), placement.replicas.clone());
        let keepers = Keepers { masters, replicas, write_quorum: placement.write_quorum };
        generations.insert(*cluster, keepers);
    }
    generations
}

/// Longest time that a report travels.
const REPORT_DELAY: Tick = 100_000;

/// Share of reports that are lost, per mille.
const REPORT_LOSS: u64 = 200;

impl World {
    /// Index of the last entry; the first one is 1.
    fn last_cfg(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The configuration that a server has applied.
    pub(crate) fn configuration_of(&self, index: usize) -> Event {
        let cfg = self.servers[index].cfg;
        let entry = usize::try_from(cfg - 1).unwrap_or(0);
        Event::Configure { cfg, placements: self.entries[entry].clone() }
    }

    /// A cluster gets another owner, or is dropped; every server hears of it in its own time.
    pub(crate) fn new_entry(&mut self) {
        if self.healed {
            return;
        }
        let mut entry = self.entries[self.entries.len() - 1].clone();
        let shape = self.faults.pick(&self.options.clusters).clone();
        let owner = self.servers[*self.faults.pick(&shape.masters)].id;
        let drops = self.faults.chance(100);
        if let Some(placement) = entry.get_mut(&shape.cluster) {
            placement.owner = Some(owner);
            if drops {
                placement.schema_min = CLOSED;
            }
        }
        self.entries.push(entry);
        let cfg = self.last_cfg();
        let what = if drops { "dropped" } else { "owned" };
        let line = format_args!("entry {cfg}: {} {what} by {owner}", shape.cluster);
        self.trace.line(self.now, line);
        for server in 0..self.servers.len() {
            let at = self.now + self.faults.between(100, 200_000);
            self.at(at, Happening::Learn { server, cfg });
        }
        self.again_after(self.options.entry_every, Happening::Entry);
    }

    /// A cluster's MASTERs or W change from now on, or a change on its way is turned round.
    pub(crate) fn change_generation(&mut self) {
        if self.healed {
            return;
        }
        let shape = self.changes.index(self.options.clusters.len());
        let cluster = self.options.clusters[shape].cluster;
        if self.generations.is_changing(cluster) {
            if self.changes.chance(300) && self.generations.give_up(cluster).is_ok() {
                self.trace.line(self.now, format_args!("{cluster}: its change is given up"));
                self.enter_generation(cluster);
            }
        } else if let Some(next) = self.draw_keepers(cluster) {
            let line = format_args!("{cluster} shall be kept by {next:?}");
            self.trace.line(self.now, line);
            if self.generations.propose(cluster, next).is_ok() {
                self.enter_generation(cluster);
            }
        }
        let next = self.now + self.changes.between(1, 2 * self.options.change_every);
        self.at(next, Happening::Change);
    }

    /// One MASTER or REPLICA less or in another role, or another W; with enough of them alive.
    fn draw_keepers(&mut self, cluster: ClusterKey) -> Option<Keepers> {
        let mut next = self.generations.keepers(cluster)?.clone();
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
        self.serves(&next, None).then_some(next)
    }

    /// A server without any cluster would be no part of the database.
    fn keeps_another(&self, node: NodeId, cluster: ClusterKey) -> bool {
        let mut others = self.options.clusters.iter().filter(|shape| shape.cluster != cluster);
        let is_kept =
            |keepers: &Keepers| keepers.masters.contains(&node) || keepers.replicas.contains(&node);
        others.any(|shape| {
            let next = self.generations.next_keepers(shape.cluster);
            self.generations.keepers(shape.cluster).is_some_and(is_kept) && next.is_none_or(is_kept)
        })
    }

    /// True when these serve without those whose disks are damaged, and without one more.
    fn serves(&self, keepers: &Keepers, without: Option<usize>) -> bool {
        let lives = |node: &&NodeId| {
            let index = self.servers.iter().position(|server| server.id == **node);
            index.is_some_and(|index| {
                let server = &self.servers[index];
                !server.dead && !server.disk.is_damaged() && without != Some(index)
            })
        };
        let alive = keepers.masters.iter().filter(lives).count();
        alive >= keepers.write_quorum && alive > keepers.masters.len() / 2
    }

    /// True when every cluster serves without this server, and will.
    pub(crate) fn can_spare(&self, index: usize) -> bool {
        self.options.clusters.iter().all(|shape| {
            let now = self.generations.keepers(shape.cluster);
            let next = self.generations.next_keepers(shape.cluster);
            now.into_iter().chain(next).all(|keepers| self.serves(keepers, Some(index)))
        })
    }

    /// The MASTERs of a cluster as the last entry has them.
    pub(crate) fn masters_now(&self, cluster: ClusterKey) -> Vec<usize> {
        let masters = self.generations.keepers(cluster).map(|keepers| &keepers.masters);
        let index = |node: &NodeId| self.servers.iter().position(|server| server.id == *node);
        masters.into_iter().flatten().filter_map(index).collect()
    }

    /// Changes of generations that are not done, as text.
    pub(crate) fn changes_under_way(&self) -> Vec<String> {
        let clusters = self.options.clusters.iter().map(|shape| shape.cluster);
        let changing = clusters.filter(|cluster| self.generations.is_changing(*cluster));
        changing.map(|cluster| format!("{cluster} is changing")).collect()
    }

    /// A report leaves a server.
    pub(crate) fn tell_control(&mut self, index: usize, report: Report) {
        let id = self.servers[index].id;
        let lost = !self.healed && self.changes.chance(REPORT_LOSS);
        let what = if lost { "loses" } else { "reports" };
        self.trace.line(self.now, format_args!("{id} {what} {report:?}"));
        if !lost {
            let max = if self.healed { 1_000 } else { REPORT_DELAY };
            let at = self.now + self.changes.between(100, max);
            self.at(at, Happening::Reported { from: id, report });
        }
    }

    pub(crate) fn take_report(&mut self, from: NodeId, report: &Report) {
        if self.generations.report(from, report) {
            self.enter_generation(report.cluster());
        }
    }

    /// An entry of the control plane, with a cluster as its generations have it now.
    fn enter_generation(&mut self, cluster: ClusterKey) {
        let mut entry = self.entries[self.entries.len() - 1].clone();
        let Some(placement) = entry.get_mut(&cluster) else { return };
        let before = placement.generation;
        self.generations.place(cluster, placement);
        let placement = placement.clone();
        self.entries.push(entry);
        let cfg = self.last_cfg();
        self.trace.line(self.now, format_args!("entry {cfg}: {cluster} {placement:?}"));
        let keeps = |server: &usize| placement.is_held_by(self.servers[*server].id);
        let left = (0..self.servers.len()).filter(|server| !keeps(server)).collect();
        if let Some(shape) = self.options.clusters.iter_mut().find(|s| s.cluster == cluster) {
            shape.left = left;
        }
        if placement.generation > before {
            let masters = self.masters_now(cluster);
            let disks: Vec<_> = self.servers.iter().map(|s| s.disk.durable()).collect();
            self.invariants.activated(cluster, placement.generation, masters, &disks);
            self.clients.counts_mut().generations += 1;
        }
        let max = if self.healed { 1_000 } else { self.options.learn_max };
        for server in 0..self.servers.len() {
            let at = self.now + self.changes.between(100, max);
            self.at(at, Happening::Learn { server, cfg });
        }
    }

    /// A server learns what it keeps no more.
    fn let_go(&mut self, index: usize) {
        let entry = usize::try_from(self.servers[index].cfg - 1).unwrap_or(0);
        let id = self.servers[index].id;
        for shape in &mut self.options.clusters {
            let keeps = self.entries[entry][&shape.cluster].is_held_by(id);
            if !keeps && !shape.gone.contains(&index) {
                shape.gone.push(index);
            }
        }
    }

    /// Everything takes writes again.
    pub(crate) fn reopen(&mut self) {
        let mut entry = self.entries[self.entries.len() - 1].clone();
        if !entry.values().any(Placement::is_closed) {
            return;
        }
        for placement in entry.values_mut() {
            placement.schema_min = 0;
        }
        self.entries.push(entry);
        let cfg = self.last_cfg();
        self.trace.line(self.now, format_args!("entry {cfg}: all open"));
        for server in 0..self.servers.len() {
            self.learn_entry(server, cfg);
        }
    }

    /// A server applies the next entries, if it runs and has not yet.
    pub(crate) fn learn_entry(&mut self, index: usize, cfg: u64) {
        let server = &mut self.servers[index];
        let is_news = server.cfg < cfg || !server.configured;
        if server.machine.is_none() || server.paused || !is_news {
            return;
        }
        server.cfg = server.cfg.max(cfg);
        server.configured = true;
        self.let_go(index);
        let configuration = self.configuration_of(index);
        self.step(index, configuration);
    }

    /// A server that was away asks for what it missed. What it had applied is on its disk, and may
    /// be read a moment after its links are up.
    pub(crate) fn catch_up(&mut self, index: usize) {
        let cfg = self.last_cfg();
        if !self.servers[index].configured {
            let late = !self.healed && self.starts.chance(300);
            let wait = if late { self.starts.between(1, 20_000) } else { 0 };
            let cfg = self.servers[index].cfg;
            self.at(self.now + wait, Happening::Learn { server: index, cfg });
        }
        if self.servers[index].cfg < cfg {
            let at = self.now + self.faults.between(100, if self.healed { 1_000 } else { 100_000 });
            self.at(at, Happening::Learn { server: index, cfg });
        }
    }
}
