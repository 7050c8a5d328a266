//! The control plane inside the world: one a server, the real one, over the world's network, disks
//! and clocks, wired as the server's loop does it (`runtime/control`). It runs over a state of the
//! simulator's (`table`), which knows clusters of every shape, or over the server's own, by its own
//! commands (`members`). May not decide anything.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{Boot, ClusterKey, NodeId};
use quorate_control::generations::Keepers;
use quorate_control::plane::{Answer, Effect, Event, Plane, PlaneConfig};
use quorate_protocol::io::{self, Placement};

use crate::options::{Options, Shape};
use crate::plant::{ControlBug, ShellBug};
use crate::rng::Stream;
use crate::server::{Input, Out, Server};
use crate::world::World;

mod agreed;
mod blocks;
mod changes;
mod founding;
mod links;
mod log;
mod members;
mod orders;
mod table;

pub(crate) use agreed::{Agreed, Command};
pub(crate) use blocks::Blocks;
pub(crate) use links::Place;
pub(crate) use log::ControlLog;
use members::Orders;

/// Ticks of a server without a part in the log that pass at once where a plan is executed.
const OBSERVER_TICKS: u64 = 4;

/// Why a foundation cannot fail.
const READABLE: &str = "the control plane reads what it wrote";

/// What the world knows of what its servers agree on.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// The newest state that some server has applied, and its index.
    pub(crate) newest: Agreed,
    pub(crate) applied: u64,
    /// Requests made so far.
    requests: u64,
    /// Changes of generations that were asked for and may yet come: what became of a request whose
    /// server crashed is never told.
    asked: BTreeMap<u64, (ClusterKey, Keepers)>,
    /// Requests without an answer, and where they were made.
    waiting: BTreeMap<u64, usize>,
    orders: Orders,
}

impl Control {
    /// With nothing asked for yet.
    pub(crate) fn new(newest: Agreed) -> Self {
        Self { newest, ..Self::default() }
    }

    const fn next_request(&mut self) -> u64 {
        self.requests += 1;
        self.requests
    }

    /// Nobody waits for what was asked of a server that crashed.
    pub(crate) fn abandon(&mut self, server: usize) {
        self.waiting.retain(|_, at| *at != server);
    }
}

/// What a cluster of every shape begins with.
fn first_table(
    options: &Options,
    servers: &[Server],
    rng: &mut Stream,
    planted: Option<ControlBug>,
) -> Command {
    let first = |shape: &Shape| {
        let of = |indexes: &[usize]| indexes.iter().map(|at| servers[*at].id).collect();
        let owner =
            (options.entry_every > 0).then(|| servers[*rng.pick(&options.owners_of(shape))].id);
        let (masters, replicas) = (of(&shape.masters), of(&shape.replicas));
        let local_quorums = options.local_quorums_of(shape);
        let write_quorum = shape.write_quorum;
        (shape.cluster, Keepers { masters, replicas, write_quorum, local_quorums }, owner)
    };
    let witnesses = options.witnesses.iter().map(|at| servers[*at].id).collect();
    let clusters = options.clusters.iter().map(first).collect();
    let founded = table::Command::Found(clusters, options.places(), witnesses, planted);
    Command::Table(founded)
}

/// Makes every server's disk what it is when the cluster has been founded; gives what was agreed.
///
/// # Panics
/// When servers do not agree although nothing goes wrong.
pub(crate) fn found(
    options: &Options,
    servers: &mut [Server],
    rng: &mut Stream,
    planted: Option<ControlBug>,
) -> Agreed {
    let Some(membership) = &options.membership else {
        let first = vec![first_table(options, servers, rng, planted)];
        return founding::found(servers, &options.voting(), first).expect(READABLE);
    };
    let (founding, later) = servers.split_at_mut(membership.founders);
    let named = |server: &Server| (server.name.clone(), server.id);
    let founders: Vec<(String, NodeId)> = founding.iter().map(named).collect();
    let listed: BTreeSet<NodeId> = founding.iter().map(|server| server.id).collect();
    for server in founding.iter_mut() {
        (server.place.listed, server.place.is_member) = (listed.clone(), true);
    }
    for server in later {
        server.dead = true;
    }
    let first = vec![
        Command::Begin(founders, planted),
        Command::Server(members::first_database(membership)),
    ];
    founding::found(founding, &options.voting(), first).expect(READABLE)
}

impl World {
    /// A server that started has met all others and reads what it had applied.
    pub(crate) fn begin_plane(&mut self, index: usize) {
        let server = &mut self.servers[index];
        if server.machine.is_none() || server.paused || server.plane.is_some() {
            return;
        }
        let mut recovered = server.disk.beside().recovered().clone();
        if self.plant.has(ShellBug::ControlForgets) && server.boot > Boot(1) {
            recovered.hard_state = None;
        }
        let config = PlaneConfig {
            node: server.id,
            boot: server.boot,
            seed: self.planes.below(u64::MAX),
            entries_max: self.options.plane_entries,
        };
        let mut out = Vec::new();
        match Plane::new(config, &recovered, &[], &mut out) {
            Ok(plane) => server.plane = Some(plane),
            Err(error) => {
                self.invariants.report("no-corruption", format!("server {index}: {error}"));
                return;
            }
        }
        server.next_tick = server.clock.now(self.now) + self.options.plane_tick;
        self.look_at_plane(index);
        // What it writes first: what the machine reports makes it write more.
        self.carry_out_plane(index, out);
        self.configure(index);
        let peers = self.servers[index].peers.iter().filter(|(_, (_, up))| *up);
        let there: Vec<NodeId> = peers.map(|(peer, _)| self.servers[*peer].id).collect();
        for node in there {
            self.step_plane(index, Event::Peer { node, up: true });
        }
    }

    /// Something happens to a server's control plane.
    pub(crate) fn step_plane(&mut self, index: usize, event: Event<Command>) {
        let server = &mut self.servers[index];
        if server.paused {
            server.backlog.push(Input::Control(event));
            return;
        }
        let Some(plane) = &mut server.plane else { return };
        let (mut out, before) = (Vec::new(), plane.applied());
        if let Err(error) = plane.step(event, &mut out) {
            self.invariants.report("no-corruption", format!("server {index}: {error}"));
        }
        let went_on = plane.applied() > before;
        let leads = plane.is_leader().then(|| plane.led().1);
        if let Some(term) = leads {
            self.invariants.leads(index, term);
        }
        if went_on {
            self.look_at_plane(index);
        }
        if !out.is_empty() {
            self.carry_out_plane(index, out);
        }
    }

    /// Time passed, or the disk got further.
    pub(crate) fn turn_plane(&mut self, index: usize) {
        let server = &mut self.servers[index];
        if server.paused {
            return;
        }
        let mut durable = None;
        while let Some((number, _)) =
            server.handed.pop_front_if(|(_, ticket)| *ticket <= server.durable)
        {
            durable = Some(number);
        }
        let now = server.clock.now(self.now);
        // A server that stood still for long has missed ticks; others have not.
        let due = server.plane.is_some() && server.next_tick <= now;
        // As in the server: whoever has no part in the log need not wake as often.
        let waits = self.stage.is_some() && server.plane.as_ref().is_some_and(Plane::is_observer);
        let ticks = if waits { OBSERVER_TICKS } else { 1 };
        if due {
            server.next_tick = now + ticks * self.options.plane_tick;
        }
        if let Some(number) = durable {
            self.step_plane(index, Event::Persisted(number));
        }
        for _ in 0..if due { ticks } else { 0 } {
            self.step_plane(index, Event::Tick);
        }
    }

    /// In order: what happens to the control plane because of an effect comes behind those that
    /// are on their way.
    fn carry_out_plane(&mut self, index: usize, out: Vec<Effect>) {
        let server = &mut self.servers[index];
        server.effects.extend(out);
        if std::mem::replace(&mut server.carries_out, true) {
            return;
        }
        let mut early = None;
        while let Some(effect) = self.servers[index].effects.pop_front() {
            let server = &mut self.servers[index];
            match effect {
                Effect::Persist { number, writes } => {
                    let ticket = server.disk.write_beside(writes);
                    server.handed.push_back((number, ticket));
                    early = Some(number).filter(|_| self.plant.has(ShellBug::ControlSyncLies));
                }
                Effect::Send { to, after, bytes } => {
                    let waits = server.handed.iter().find(|(number, _)| *number == after);
                    let ticket = waits.map_or(0, |(_, ticket)| *ticket);
                    server.outbox.push_back((ticket, Out::Control(to, bytes)));
                }
                Effect::Changed => self.configure(index),
                Effect::Answer { request, answer } => {
                    self.trace.line(self.now, format_args!("request {request}: {answer:?}"));
                    self.control.waiting.remove(&request);
                    if matches!(answer, Answer::Applied(_) | Answer::NotProposed) {
                        self.control.asked.remove(&request);
                    }
                    self.order_answered(index, request, &answer);
                }
                Effect::Led { leader, term } => {
                    let id = server.id;
                    let line = format_args!("{id} is led by {leader:?} in term {term}");
                    self.trace.line(self.now, line);
                }
            }
        }
        self.servers[index].carries_out = false;
        if let Some(number) = early {
            self.step_plane(index, Event::Persisted(number));
        }
        self.flush_outbox(index);
        self.begin_sync(index);
        self.arm(index);
    }

    /// Tells a server's machine where everything is placed, as agreed on.
    fn configure(&mut self, index: usize) {
        if !self.takes_its_place(index) {
            return;
        }
        let server = &mut self.servers[index];
        let Some(plane) = &server.plane else { return };
        server.cfg = plane.state().cfg;
        let (cfg, placements) = (server.cfg, plane.state().agreement.placements());
        for shape in &mut self.options.clusters {
            // It learns what it keeps, and what it keeps no more.
            let placement = placements.get(&shape.cluster);
            let keeps = placement.is_some_and(|placement| placement.is_held_by(server.id));
            if keeps {
                shape.gone.retain(|other| *other != index);
            } else if !shape.gone.contains(&index) {
                shape.gone.push(index);
            }
        }
        self.invariants.configured(index, &placements);
        self.trace.line(self.now, format_args!("{} applies configuration {cfg}", server.id));
        self.step(index, io::Event::Configure { cfg, placements });
    }

    /// What invariants and verdict need to know of a server's control plane.
    fn look_at_plane(&mut self, index: usize) {
        let Some(plane) = &self.servers[index].plane else { return };
        self.invariants.plane(index, plane);
        if plane.applied() <= self.control.applied {
            return;
        }
        self.control.applied = plane.applied();
        if plane.state().agreement == self.control.newest {
            return;
        }
        let newest = plane.state().agreement.clone();
        let before = std::mem::replace(&mut self.control.newest, newest);
        if let Some(agreement) = self.control.newest.agreement() {
            self.invariants.agreed(agreement);
            let schema = &agreement.schema;
            let (there, gone) = (schema.servers.len() as u64, schema.gone.len() as u64);
            let founders = self.options.membership.as_ref().map_or(0, |m| m.founders as u64);
            let counts = self.clients.counts_mut();
            (counts.joined, counts.removed) = (there + gone - founders, gone);
            let absent = |agreed: &Agreed| agreed.agreement().map_or(0, |a| a.schema.absent.len());
            let (was, is) = (absent(&before), absent(&self.control.newest));
            counts.absent += is.saturating_sub(was) as u64;
            counts.returned += was.saturating_sub(is) as u64;
        }
        self.agreed(&before);
    }

    /// Something new was agreed on: some server has applied it, the first of all.
    fn agreed(&mut self, before: &Agreed) {
        let (before, now) = (before.placements(), self.control.newest.placements());
        for (cluster, placement) in now {
            let Some(old) = before.get(&cluster) else {
                self.cluster_made(cluster, &placement);
                continue;
            };
            if *old == placement {
                continue;
            }
            let counts = self.clients.counts_mut();
            counts.owners += u64::from(placement.owner != old.owner);
            counts.drops += u64::from(placement.is_closed() && !old.is_closed());
            counts.generations += u64::from(placement.generation - old.generation);
            self.trace.line(self.now, format_args!("agreed: {cluster} {placement:?}"));
            let keeps = |server: &usize| placement.is_held_by(self.servers[*server].id);
            let left = (0..self.servers.len()).filter(|server| !keeps(server)).collect();
            if let Some(shape) = self.options.clusters.iter_mut().find(|s| s.cluster == cluster) {
                (shape.left, shape.closed) = (left, placement.is_closed());
            }
            if placement.generation > old.generation {
                let masters = self.masters_now(cluster);
                let disks: Vec<_> = self.servers.iter().map(|s| s.disk.durable()).collect();
                self.invariants.activated(cluster, &placement, masters, &disks);
            }
        }
    }

    /// A class got a cluster; nobody has read of it.
    fn cluster_made(&mut self, cluster: ClusterKey, placement: &Placement) {
        let masters = self.indexes_of(&placement.masters);
        self.invariants.cluster_made(cluster, masters.clone());
        let all = 0..self.servers.len();
        let mut shape = Shape::new(0, masters, placement.write_quorum);
        shape.cluster = cluster;
        shape.replicas = all.clone().filter(|at| !shape.masters.contains(at)).collect();
        let keeps = |server: &usize| placement.is_held_by(self.servers[*server].id);
        shape.left = all.clone().filter(|server| !keeps(server)).collect();
        shape.gone = all.collect();
        self.options.clusters.push(shape);
    }

    fn indexes_of(&self, nodes: &[NodeId]) -> Vec<usize> {
        let index = |node: &NodeId| self.servers.iter().position(|server| server.id == *node);
        nodes.iter().filter_map(index).collect()
    }

    /// The MASTERs of a cluster as they were last agreed on.
    pub(crate) fn masters_now(&self, cluster: ClusterKey) -> Vec<usize> {
        let placements = self.control.newest.placements();
        placements.get(&cluster).map_or(Vec::new(), |placement| self.indexes_of(&placement.masters))
    }

    /// What keeps the control plane from being at rest, as text.
    pub(crate) fn control_in_doubt(&self) -> Vec<String> {
        let placements = self.control.newest.placements().into_iter();
        let changing = placements.filter(|(_, placement)| placement.change.is_some());
        let mut found: Vec<String> =
            changing.map(|(cluster, _)| format!("{cluster} is changing")).collect();
        found.extend(self.members_in_doubt());
        found.extend(self.control.waiting.keys().map(|request| format!("request {request} waits")));
        let newest = self.control.applied;
        for server in self.servers.iter().filter(|server| !server.dead) {
            let id = server.id;
            match server.plane.as_ref().map(|plane| (plane.led(), plane.applied())) {
                Some(((Some(_), _), applied)) if applied == newest => {}
                Some(((Some(_), _), applied)) => {
                    found.push(format!("{id} has applied {applied}, not {newest}"));
                }
                Some(((None, _), _)) | None => found.push(format!("{id} knows no leader")),
            }
        }
        found
    }
}
