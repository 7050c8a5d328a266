//! Several control planes on one seed, for tests: a network that loses, delays and reorders, disks
//! that lose what was not synced, servers that crash. May not judge what comes of it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_api::Boot;
use quorate_protocol::io::{Report, SessionToken, Stage};

use prost::Message as _;
use raft::eraftpb::MessageType;

use super::*;
use crate::command::Command;
use crate::members::WriteQuorum;
use crate::schema::DatabaseKind;
use crate::settings::NewDatabase;

/// Few enough for logs to be cut in tests.
pub(super) const ENTRIES_FEW: usize = 8;

/// What a server has on its disk, in the order of writing.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) synced: RecoveredLog,
    pub(super) first: u64,
    pub(super) unsynced: VecDeque<(u64, Vec<LogWrite>)>,
}

impl Disk {
    /// One batch becomes durable. Whoever has acknowledged an entry keeps it, and all before it,
    /// unless something else comes to stand there.
    pub(super) fn sync_one(&mut self) -> Option<u64> {
        let (number, writes) = self.unsynced.pop_front()?;
        let is_cut = writes.iter().any(|write| matches!(write, LogWrite::Cut(_)));
        let before = if is_cut { self.places() } else { BTreeMap::new() };
        self.write(writes);
        let after = if is_cut { self.places() } else { BTreeMap::new() };
        let other = before.iter().any(|(at, term)| after.get(at).is_some_and(|now| now != term));
        let is_shorter = after.last_key_value().map(|last| last.0) < before.keys().last();
        assert!(other || !is_shorter, "{before:?} became {after:?}");
        Some(number)
    }

    /// Index and term of all that is in the log, and of its snapshot.
    fn places(&self) -> BTreeMap<u64, u64> {
        let snapshot = self.synced.snapshot.as_deref().unwrap_or_default();
        let snapshot = eraftpb::Snapshot::decode(snapshot).unwrap().metadata.unwrap_or_default();
        let entries = self.synced.entries.iter();
        let entries = entries.map(|bytes| eraftpb::Entry::decode(&bytes[..]).unwrap());
        let entries = entries.map(|entry| (entry.index, entry.term));
        entries.chain([(snapshot.index, snapshot.term)]).collect()
    }

    fn write(&mut self, writes: Vec<LogWrite>) {
        for write in writes {
            match write {
                LogWrite::HardState(bytes) => self.synced.hard_state = Some(bytes),
                LogWrite::Cut(from) => {
                    let keep = from.saturating_sub(self.first);
                    self.synced.entries.truncate(usize::try_from(keep).unwrap());
                }
                LogWrite::Entry(index, bytes) => {
                    assert_eq!(index, self.first + self.synced.entries.len() as u64);
                    self.synced.entries.push(bytes);
                }
                LogWrite::Snapshot(index, bytes) => {
                    let gone = (index + 1).saturating_sub(self.first);
                    let gone = usize::try_from(gone).unwrap().min(self.synced.entries.len());
                    self.synced.entries.drain(..gone);
                    self.first = index + 1;
                    self.synced.snapshot = Some(bytes);
                }
            }
        }
    }
}

pub(super) struct Server {
    pub(super) plane: Option<Plane>,
    pub(super) disk: Disk,
    pub(super) boot: u32,
    pub(super) held: VecDeque<(u64, NodeId, Vec<u8>)>,
    pub(super) durable: u64,
    /// Highest configuration that was ever applied.
    pub(super) cfg: u64,
    /// Others have links with it.
    pub(super) met: bool,
}

/// Sender, receiver, the receiver's boot, the message.
type Travelling = (NodeId, NodeId, u32, Vec<u8>);

pub(super) struct World {
    pub(super) servers: Vec<Server>,
    /// The first of them; the others join.
    pub(super) founders: usize,
    pub(super) rng: ChaCha8Rng,
    /// (due, number) → message.
    pub(super) network: BTreeMap<(u64, u64), Travelling>,
    pub(super) now: u64,
    pub(super) sent: u64,
    pub(super) loss: u32,
    pub(super) loses_snapshots: bool,
    /// Of a thousand milliseconds, those in which a disk syncs nothing.
    pub(super) slow: u32,
    /// Who led which term.
    pub(super) leaders: BTreeMap<u64, usize>,
    pub(super) cut: BTreeSet<(usize, usize)>,
    pub(super) answers: BTreeMap<u64, Answer>,
    pub(super) requests: u64,
    /// Servers report at once what changes of generations wait for, as if they kept data.
    pub(super) has_machines: bool,
    pub(super) trace: Vec<String>,
}

pub(super) fn node(index: usize) -> NodeId {
    NodeId(10 + index as u64)
}

/// Who votes, in order.
pub(super) fn voters(plane: &Plane) -> Vec<NodeId> {
    let voters: BTreeSet<u64> = plane.raft.raft.prs().conf().voters().ids().iter().collect();
    voters.into_iter().map(NodeId).collect()
}

pub(super) fn is_snapshot(bytes: &[u8]) -> bool {
    match postcard::from_bytes(bytes).unwrap() {
        Wire::Log(bytes) => {
            let message = eraftpb::Message::decode(&bytes[..]).unwrap();
            message.msg_type() == MessageType::MsgSnapshot
        }
        Wire::Fed { news, .. } => matches!(news, wire::News::Snapshot(_)),
        Wire::Follow { .. } | Wire::Propose { .. } | Wire::Ask { .. } | Wire::Answered { .. } => {
            false
        }
    }
}

pub(super) fn create_database() -> Command {
    let new = NewDatabase::new("d", DatabaseKind::Plocal, WriteQuorum::Majority);
    Command::CreateDatabase { new }
}

pub(super) fn create_class(name: &str) -> Command {
    Command::CreateClass { database: "d".into(), name: name.into(), supers: Vec::new() }
}

impl World {
    pub(super) fn new(seed: u64, servers: usize) -> Self {
        let mut world = Self {
            servers: Vec::new(),
            founders: servers,
            rng: ChaCha8Rng::seed_from_u64(seed),
            network: BTreeMap::new(),
            now: 0,
            sent: 0,
            loss: 0,
            loses_snapshots: false,
            slow: 300,
            leaders: BTreeMap::new(),
            cut: BTreeSet::new(),
            answers: BTreeMap::new(),
            requests: 0,
            has_machines: false,
            trace: Vec::new(),
        };
        for _ in 0..servers {
            world.add();
        }
        for index in 0..servers {
            world.start(index);
        }
        world
    }

    /// One more server, which is not started yet.
    pub(super) fn add(&mut self) -> usize {
        let (disk, held) = (Disk::default(), VecDeque::new());
        let met = self.servers.len() < self.founders;
        self.servers.push(Server { plane: None, disk, boot: 0, held, durable: 0, cfg: 0, met });
        self.servers.len() - 1
    }

    /// All servers have links with this one from now on.
    pub(super) fn meet(&mut self, index: usize) {
        self.servers[index].met = true;
        for other in (0..self.servers.len()).filter(|other| *other != index) {
            if self.servers[other].met {
                self.step(index, Event::Peer { node: node(other), up: true });
                self.step(other, Event::Peer { node: node(index), up: true });
            }
        }
    }

    pub(super) fn chance(&mut self, permille: u32) -> bool {
        self.rng.next_u32() % 1000 < permille
    }

    pub(super) fn start(&mut self, index: usize) {
        let founders: Vec<_> = (0..self.founders).map(|i| (format!("n{i}"), node(i))).collect();
        let founders = if index < self.founders { &founders[..] } else { &[] };
        let server = &mut self.servers[index];
        server.boot += 1;
        server.durable = 0;
        let (node, boot) = (node(index), Boot(server.boot));
        let seed = u64::from(server.boot) * 100 + index as u64;
        let mut out = Vec::new();
        let config = PlaneConfig { node, boot, seed, entries_max: ENTRIES_FEW };
        let plane = Plane::new(config, &server.disk.synced, founders, &mut out).unwrap();
        server.plane = Some(plane);
        self.carry_out(index, out);
        // What it had applied, it applies again from its own disk.
        assert!(self.cfg(index) >= self.servers[index].cfg, "an older configuration came back");
        if self.servers[index].met {
            self.meet(index);
        }
    }

    pub(super) fn crash(&mut self, index: usize) {
        let server = &mut self.servers[index];
        server.plane = None;
        server.disk.unsynced.clear();
        server.held.clear();
    }

    pub(super) fn cfg(&self, index: usize) -> u64 {
        self.servers[index].plane.as_ref().map_or(0, |plane| plane.state().cfg)
    }

    pub(super) fn step(&mut self, index: usize, event: Event) {
        let mut out = Vec::new();
        let Some(plane) = &mut self.servers[index].plane else { return };
        plane.step(event, &mut out).unwrap();
        self.carry_out(index, out);
    }

    pub(super) fn carry_out(&mut self, index: usize, out: Vec<Effect>) {
        let told = out.iter().position(|effect| matches!(effect, Effect::Answer { .. }));
        let changed = out.iter().position(|effect| *effect == Effect::Changed);
        assert!(changed.is_none_or(|at| told.is_none_or(|told| told > at)), "answered too early");
        for effect in out {
            self.trace.push(format!("{} {index} {effect:?}", self.now));
            match effect {
                Effect::Persist { number, writes } => {
                    self.servers[index].disk.unsynced.push_back((number, writes));
                }
                Effect::Send { to, after, bytes } => {
                    self.servers[index].held.push_back((after, to, bytes));
                }
                Effect::Answer { request, answer } => {
                    assert!(self.answers.insert(request, answer).is_none(), "answered twice");
                }
                Effect::Changed => self.report(index),
                Effect::Led { .. } => {}
            }
        }
        self.let_out(index);
    }

    /// What a server's machine tells of changes of generations that are on their way.
    fn report(&mut self, index: usize) {
        let Some(plane) = self.servers[index].plane.as_ref().filter(|_| self.has_machines) else {
            return;
        };
        let placements = plane.state().agreement.placements();
        let reports = placements.into_iter().filter_map(|(cluster, placement)| {
            let generation = placement.generation;
            Some(match placement.change?.stage {
                Stage::Sealing { .. } => {
                    Report::Sealed { cluster, generation, token: SessionToken::new() }
                }
                Stage::Transferring { .. } => {
                    Report::Synced { cluster, generation: generation + 1 }
                }
                Stage::Merging { .. } => Report::Merged { cluster, generation },
            })
        });
        for report in reports.collect::<Vec<_>>() {
            self.step(index, Event::Report(report));
        }
    }

    pub(super) fn let_out(&mut self, index: usize) {
        let durable = self.servers[index].durable;
        let mut held = core::mem::take(&mut self.servers[index].held);
        held.retain(|(after, to, bytes)| {
            let free = *after <= durable;
            if free {
                let to_index = usize::try_from(to.0 - 10).unwrap();
                let lost = self.servers.get(to_index).is_none()
                    || self.cut.contains(&(index, to_index))
                    || (self.loses_snapshots && is_snapshot(bytes));
                let loss = self.loss;
                if !lost && !self.chance(loss) {
                    let due = self.now + 500 + u64::from(self.rng.next_u32() % 20_000);
                    self.sent += 1;
                    let boot = self.servers[to_index].boot;
                    let message = (node(index), *to, boot, bytes.clone());
                    self.network.insert((due, self.sent), message);
                }
            }
            !free
        });
        self.servers[index].held = held;
    }

    /// One millisecond.
    pub(super) fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += 1_000;
            while let Some(((due, number), message)) = self.network.pop_first() {
                if due > self.now {
                    self.network.insert((due, number), message);
                    break;
                }
                let (from, to, boot, bytes) = message;
                let index = usize::try_from(to.0 - 10).unwrap();
                if self.servers[index].boot == boot {
                    self.step(index, Event::Message { from, bytes });
                }
            }
            for index in 0..self.servers.len() {
                let late = self.chance(self.slow);
                if !late && let Some(number) = self.servers[index].disk.sync_one() {
                    self.servers[index].durable = number;
                    self.let_out(index);
                    self.step(index, Event::Persisted(number));
                }
                if (self.now + index as u64 * 7_000).is_multiple_of(TICK) {
                    self.step(index, Event::Tick);
                }
                self.servers[index].cfg = self.servers[index].cfg.max(self.cfg(index));
                self.note_leader(index);
            }
        }
    }

    pub(super) fn note_leader(&mut self, index: usize) {
        let Some(plane) = &self.servers[index].plane else { return };
        if plane.is_leader() {
            let term = plane.raft.raft.term;
            let first = *self.leaders.entry(term).or_insert(index);
            assert_eq!(first, index, "two leaders of term {term}");
        }
    }

    pub(super) fn propose(&mut self, index: usize, command: Command) -> u64 {
        self.requests += 1;
        let request = self.requests;
        self.step(index, Event::Propose { request, command });
        request
    }

    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |s: &Server| s.plane.as_ref().is_some_and(Plane::is_leader);
        self.servers.iter().position(leads)
    }

    pub(super) fn states(&self) -> Vec<Vec<u8>> {
        let planes = self.servers.iter().filter_map(|s| s.plane.as_ref());
        planes.map(|plane| plane.state().encode().unwrap()).collect()
    }

    pub(super) fn classes(&self, index: usize) -> BTreeSet<String> {
        let schema = self.servers[index].plane.as_ref().unwrap().schema();
        let database = schema.database("d");
        database.into_iter().flat_map(|d| d.classes.iter().map(|c| c.name.clone())).collect()
    }
}
