//! A scripted stand-in for the control plane, with its interface: a growing list of entries, each a
//! complete table of clusters under an index, that servers apply in order and at different times.
//! Owners change; MASTERs and quorums do not, so every generation stays 1. Clusters are dropped,
//! and stay so until it was seen that nothing is left in doubt on them; then, in this stand-in
//! alone, they take writes again, so that service after the heal can be asked of all.

use std::collections::BTreeMap;

use quorate_api::{ClusterKey, NodeId};
use quorate_protocol::io::{CLOSED, Event, Placement};

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
        };
        (shape.cluster, placement)
    };
    options.clusters.iter().map(placement).collect()
}

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
