//! The world: servers, links, disks and clients on one virtual clock. Runs a seed and says what
//! went wrong. Faults live in `faults.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use quorate_api::{Boot, ClusterKey, Committed, ItemId, NodeId};
use quorate_protocol::io::{Config, Effect, Event, Note, PersistSeq, Placement, Reply, Tick};
use quorate_protocol::machine::Machine;
use quorate_protocol::message::Message;

use crate::clients::{Clients, Counts};
use crate::disk::Disk;
use crate::invariants::{Invariants, Violation};
use crate::options::{Options, Shape};
use crate::rng::Stream;
use crate::trace::Trace;

/// How long a healed cluster may take to converge and serve.
const LIVENESS: Tick = 20_000_000;

/// One server.
pub(crate) struct Server {
    pub(crate) id: NodeId,
    pub(crate) boot: Boot,
    pub(crate) disk: Disk,
    /// `None` while crashed.
    pub(crate) machine: Option<Machine>,
    pub(crate) paused: bool,
    /// Sends and replies in order, each with the durability it waits for.
    pub(crate) outbox: VecDeque<(PersistSeq, Out)>,
    pub(crate) durable: PersistSeq,
    pub(crate) syncing: bool,
    /// Boots of peers as this server knows them, and whether it believes them reachable.
    peers: BTreeMap<usize, (Boot, bool)>,
    /// Events that arrived while paused.
    pub(crate) backlog: Vec<Event>,
    pub(crate) wake: Tick,
}

/// What waits for durability.
pub(crate) enum Out {
    Send(NodeId, Message),
    Reply(u64, Reply),
}

/// What the clock brings.
pub(crate) enum Happening {
    Arrive {
        to: usize,
        to_boot: Boot,
        from: usize,
        from_boot: Boot,
        message: Box<Message>,
    },
    Synced {
        server: usize,
        boot: Boot,
        seq: PersistSeq,
    },
    Wake {
        server: usize,
        boot: Boot,
    },
    /// The failure detector of a server looks at its peers.
    Detect {
        server: usize,
        boot: Boot,
    },
    Client {
        client: u64,
    },
    Cut,
    HealCut(usize),
    Crash,
    Restart(usize),
    Pause,
    Resume(usize),
    /// The safety phase is over: everything heals.
    HealAll,
    /// Everything must have converged by now.
    Judge,
}

/// A run in progress.
pub struct World {
    pub(crate) options: Options,
    pub(crate) now: Tick,
    queue: BTreeMap<(Tick, u64), Happening>,
    next_id: u64,
    pub(crate) servers: Vec<Server>,
    /// Directed links that are cut, by fault number.
    pub(crate) cuts: BTreeMap<usize, BTreeSet<(usize, usize)>>,
    pub(crate) next_cut: usize,
    pub(crate) healed: bool,
    pub(crate) network: Stream,
    pub(crate) faults: Stream,
    pub(crate) disks: Stream,
    pub(crate) clients: Clients,
    invariants: Invariants,
    pub(crate) trace: Trace,
    tune: fn(&mut Config),
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// Options drawn from the seed.
    pub options: Options,
    /// Hash over the whole trace: same seed, same hash.
    pub trace_hash: u64,
    /// The trace as text, if asked for.
    pub trace: Vec<String>,
    /// What went wrong, in order of discovery.
    pub violations: Vec<Violation>,
    /// What clients were told.
    pub counts: Counts,
    /// Commits that took one round, and two.
    pub rounds: (u64, u64),
    /// Recoveries begun.
    pub recoveries: u64,
    /// Times a server left ONLINE to align, and came back.
    pub aligned: (u64, u64),
    /// Tombstones dropped.
    pub purged: u64,
    /// Unsynced batches taken by crashes.
    pub batches_lost: u64,
}

impl World {
    /// Builds the world of a seed.
    #[must_use]
    pub fn new(seed: u64, options: Options, keep_trace: bool) -> Self {
        Self::with_machines(seed, options, keep_trace, |_| {})
    }

    /// Builds the world of a seed, its machines with settings of the caller's.
    #[must_use]
    pub fn with_machines(
        seed: u64,
        options: Options,
        keep_trace: bool,
        tune: fn(&mut Config),
    ) -> Self {
        let server = |index: usize| Server {
            id: NodeId(index as u64 + 1),
            boot: Boot(0),
            disk: Disk::default(),
            machine: None,
            paused: false,
            outbox: VecDeque::new(),
            durable: 0,
            syncing: false,
            peers: BTreeMap::new(),
            backlog: Vec::new(),
            wake: Tick::MAX,
        };
        let mut world = Self {
            now: 1,
            queue: BTreeMap::new(),
            next_id: 0,
            servers: (0..options.servers()).map(server).collect(),
            cuts: BTreeMap::new(),
            next_cut: 0,
            healed: false,
            network: Stream::new(seed, "network"),
            faults: Stream::new(seed, "faults"),
            disks: Stream::new(seed, "disks"),
            clients: Clients::new(seed, &options),
            invariants: Invariants::default(),
            trace: Trace::new(keep_trace),
            options,
            tune,
        };
        world.schedule_start();
        world
    }

    fn schedule_start(&mut self) {
        for index in 0..self.servers.len() {
            self.start(index);
        }
        for client in 0..self.options.clients {
            self.at(self.now + 50_000 + client * 1_000, Happening::Client { client });
        }
        if self.options.cut_every > 0 && self.servers.len() > 1 {
            self.at(self.options.cut_every, Happening::Cut);
        }
        if self.options.crash_every > 0 {
            self.at(self.options.crash_every, Happening::Crash);
        }
        if self.options.pause_every > 0 {
            self.at(self.options.pause_every, Happening::Pause);
        }
        self.at(self.options.duration, Happening::HealAll);
        self.at(self.options.duration + LIVENESS, Happening::Judge);
    }

    pub(crate) fn at(&mut self, when: Tick, what: Happening) {
        let id = self.next_id;
        self.next_id += 1;
        self.queue.insert((when.max(self.now), id), what);
    }

    /// Runs to the end.
    #[must_use]
    pub fn run(mut self) -> Report {
        while let Some(((now, _), happening)) = self.queue.pop_first() {
            self.now = now;
            if matches!(happening, Happening::Judge) || !self.invariants.violations().is_empty() {
                break;
            }
            self.happen(happening);
            if self.healed && self.clients.all_quiet() && self.has_converged() {
                break;
            }
        }
        if self.invariants.violations().is_empty() {
            self.judge_end();
        }
        Report {
            options: self.options,
            trace_hash: self.trace.hash(),
            trace: self.trace.into_lines(),
            violations: self.invariants.take(),
            counts: self.clients.counts(),
            rounds: self.clients.rounds,
            recoveries: self.clients.recoveries,
            aligned: self.clients.aligned,
            purged: self.clients.purged,
            batches_lost: self.clients.batches_lost,
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive { to, to_boot, from, from_boot, message } => {
                self.arrive(to, to_boot, from, from_boot, *message);
            }
            Happening::Synced { server, boot, seq } => self.synced(server, boot, seq),
            Happening::Wake { server, boot } => {
                if self.servers[server].boot == boot {
                    self.servers[server].wake = Tick::MAX;
                    self.step(server, Event::Tick);
                }
            }
            Happening::Detect { server, boot } => self.detect(server, boot),
            Happening::Client { client } => self.client_turn(client),
            Happening::Cut => self.cut(),
            Happening::HealCut(number) => self.heal_cut(number),
            Happening::Crash => self.crash(),
            Happening::Restart(server) => {
                if self.servers[server].machine.is_none() {
                    self.start(server);
                }
            }
            Happening::Pause => self.pause(),
            Happening::Resume(server) => self.resume(server),
            Happening::HealAll => self.heal_all(),
            Happening::Judge => {}
        }
    }

    /// Starts a server from what its disk holds, in a new boot.
    pub(crate) fn start(&mut self, index: usize) {
        let placements = self.placements();
        let server = &mut self.servers[index];
        server.boot = Boot(server.boot.0 + 1);
        let (id, boot) = (server.id, server.boot);
        let mut config = Config::new(id, boot, id.0 ^ u64::from(boot.0) << 32);
        self.options.align(&mut config.align);
        (self.tune)(&mut config);
        self.invariants.restarted((id, boot), server.disk.durable());
        server.machine = Some(Machine::new(config, server.disk.recover()));
        server.durable = 0;
        server.syncing = false;
        server.peers.clear();
        self.trace.line(self.now, format_args!("start {id} boot {}", boot.0));
        self.step(index, Event::Configure { cfg: 1, placements });
        self.at(self.now + 1_000, Happening::Detect { server: index, boot });
    }

    fn placements(&self) -> BTreeMap<ClusterKey, Placement> {
        let placement = |shape: Shape| {
            let masters = self.servers[shape.masters].iter().map(|s| s.id).collect();
            let write_quorum = shape.write_quorum;
            let (owner, schema_min) = (None, 0);
            let generation = 1;
            (shape.cluster, Placement { generation, masters, write_quorum, owner, schema_min })
        };
        self.options.clusters().into_iter().map(placement).collect()
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.values().any(|links| links.contains(&(from, to)))
    }

    /// Reachability is decided by looking at the truth now and then, so it is often out of date.
    fn detect(&mut self, index: usize, boot: Boot) {
        if self.servers[index].boot != boot || self.servers[index].machine.is_none() {
            return;
        }
        for peer in (0..self.servers.len()).filter(|peer| *peer != index) {
            let other = &self.servers[peer];
            let up = other.machine.is_some()
                && !other.paused
                && !self.is_cut(index, peer)
                && !self.is_cut(peer, index);
            let (node, current) = (other.id, other.boot);
            let before = self.servers[index].peers.get(&peer).copied();
            let boot = match before {
                None if !up => continue,
                Some((known, false)) if !up => {
                    debug_assert!(known <= current);
                    continue;
                }
                Some((known, true)) if !up => known,
                Some((known, true)) if known == current => continue,
                _ => current,
            };
            self.servers[index].peers.insert(peer, (boot, up));
            self.step(index, Event::Peer { node, boot, up });
        }
        let again = self.now + self.network.between(10_000, 150_000);
        self.at(again, Happening::Detect { server: index, boot });
    }

    fn arrive(&mut self, to: usize, to_boot: Boot, from: usize, from_boot: Boot, message: Message) {
        if self.servers[to].boot != to_boot || self.servers[to].machine.is_none() {
            return;
        }
        // The shell drops what a boot sent that the receiver does not talk to (any more).
        if to != from && self.servers[to].peers.get(&from).is_none_or(|(b, _)| *b != from_boot) {
            return;
        }
        let from = self.servers[from].id;
        self.step(to, Event::Message { from, cfg: 1, message });
    }

    pub(crate) fn step(&mut self, index: usize, event: Event) {
        if self.servers[index].paused {
            self.servers[index].backlog.push(event);
            return;
        }
        if let Event::Message { from, message, .. } = &event {
            let id = self.servers[index].id;
            self.trace.line(self.now, format_args!("{id} < {from} {message:?}"));
        }
        let mut out = Vec::new();
        let server = &mut self.servers[index];
        let Some(machine) = &mut server.machine else { return };
        machine.step(self.now, event, &server.disk, &mut out);
        for effect in out {
            self.effect(index, effect);
        }
        self.flush_outbox(index);
        self.begin_sync(index);
        self.arm(index);
    }

    fn arm(&mut self, index: usize) {
        let server = &mut self.servers[index];
        let Some(due) = server.machine.as_ref().and_then(Machine::next_deadline) else { return };
        let due = due.max(self.now);
        if due < server.wake {
            server.wake = due;
            let boot = server.boot;
            self.at(due, Happening::Wake { server: index, boot });
        }
    }

    fn effect(&mut self, index: usize, effect: Effect) {
        let server = &mut self.servers[index];
        match effect {
            Effect::Persist { seq, writes } => {
                self.invariants.writes((server.id, server.boot), &writes, &self.options);
                let disks: Vec<_> = self.servers.iter().map(|s| s.disk.durable()).collect();
                self.invariants.dropped(index, &writes, &disks, &self.options);
                let server = &mut self.servers[index];
                server.disk.write(seq, writes.clone());
                self.invariants.wrote(index, &writes, server.disk.visible(), &self.options);
            }
            Effect::Send { to, after, message } => {
                server.outbox.push_back((after, Out::Send(to, message)));
            }
            Effect::Reply { request, after, reply } => {
                server.outbox.push_back((after, Out::Reply(request, reply)));
            }
            Effect::Note(note) => self.noted(index, &note),
        }
    }

    fn noted(&mut self, index: usize, note: &Note) {
        let id = self.servers[index].id;
        match note {
            Note::Committed { one_round: true } => self.clients.rounds.0 += 1,
            Note::Committed { one_round: false } => self.clients.rounds.1 += 1,
            Note::Recovering(_) => self.clients.recoveries += 1,
            Note::Corruption { tx, detail } => {
                self.invariants.report("no-corruption", format!("{id}: {tx}: {detail}"));
            }
            other => self.clients.noted(other),
        }
        self.trace.line(self.now, format_args!("{id} note {note:?}"));
    }

    fn client_turn(&mut self, client: u64) {
        if self.healed && self.clients.is_retired(client) {
            return;
        }
        let target = self.clients.target(client, self.servers.len() as u64);
        if self.servers[target].machine.is_none() {
            self.clients.refused();
            self.at(self.now + 5_000, Happening::Client { client });
            return;
        }
        let committed = &self.servers[target].disk.visible().items;
        let event = self.clients.begin(client, target, self.now, committed);
        if let Event::Submit(submit) = &event {
            self.trace.line(self.now, format_args!("client {client} {submit:?}"));
        }
        self.step(target, event);
    }

    pub(crate) fn reply(&mut self, request: u64, reply: &Reply) {
        self.trace.line(self.now, format_args!("reply {request} {reply:?}"));
        if let Reply::Committed { tx, .. } = &reply {
            let disks: Vec<_> = self.servers.iter().map(|s| s.disk.durable()).collect();
            self.invariants.acknowledged(*tx, &disks, &self.options);
        }
        if let Some(client) = self.clients.end(request, self.now, self.healed, reply) {
            let next = self.now + self.clients.think();
            self.at(next, Happening::Client { client });
        }
    }

    fn has_converged(&self) -> bool {
        let whole = self.items();
        self.servers.iter().enumerate().all(|(index, server)| {
            let quiet = server.machine.as_ref().is_some_and(|m| {
                m.undecided().len() == 0 && m.in_flight() == 0 && !m.is_aligning()
            });
            let items = &server.disk.visible().items;
            let mut shapes = self.options.clusters();
            shapes.retain(|shape| shape.masters.contains(&index));
            let mine = |item: &ItemId| shapes.iter().any(|s| s.cluster == item.cluster);
            // Servers drop tombstones at their own pace.
            let kept = |(_, c): &(&ItemId, &Committed)| c.live || !self.options.purge;
            let whole = whole.iter().filter(|(item, _)| mine(item)).filter(kept);
            quiet && items.iter().filter(kept).eq(whole)
        })
    }

    /// All records, each as the first MASTER of its cluster has it.
    fn items(&self) -> BTreeMap<ItemId, Committed> {
        let mut all = BTreeMap::new();
        for Shape { cluster, masters, .. } in self.options.clusters() {
            let items = &self.servers[masters.start].disk.visible().items;
            let of_cluster = items.iter().filter(|(item, _)| item.cluster == cluster);
            all.extend(of_cluster.map(|(item, committed)| (item.clone(), committed.clone())));
        }
        all
    }

    fn judge_end(&mut self) {
        if !self.clients.all_quiet() {
            let waiting = self.clients.describe_waiting();
            self.invariants.report("serves-after-heal", waiting);
        }
        if !self.has_converged() {
            let mut text = String::from("not converged within the bound:");
            let whole = self.items();
            for server in &self.servers {
                let undecided: Vec<_> = server
                    .machine
                    .iter()
                    .flat_map(Machine::undecided)
                    .map(|(tx, _)| tx.to_string())
                    .collect();
                let items = &server.disk.visible().items;
                let other = items.iter().filter(|(item, c)| whole.get(*item) != Some(*c));
                let other: Vec<_> =
                    other.map(|(item, c)| format!("{item}@{:?}", c.stamp)).collect();
                let (id, count) = (server.id, items.len());
                let undecided = format!("undecided {undecided:?}, {count} items, other {other:?}");
                if write!(text, " {id}: {undecided};").is_err() {
                    break;
                }
            }
            self.invariants.report("converges-after-heal", text);
            return;
        }
        let mut items = self.items();
        for (item, tombstone) in self.invariants.tombstones() {
            items.entry(item.clone()).or_insert_with(|| tombstone.clone());
        }
        self.invariants.final_state(&items);
        for violation in self.clients.judge(&items, self.now) {
            self.invariants.report("client-history", violation);
        }
    }
}
