//! Clients: registers read, written, created and deleted, one and two at a time; their history is
//! judged by the checkers that judge real runs.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{Committed, ErrorCode, Image, ItemId, ItemKey, OpKind, Outcome as Known, Stamp};
use quorate_check::history::{
    Action, Header, History, OpKind as Kind, Operation, Outcome, Phase, ReadLevel, Seen, Step,
};
use quorate_check::{Verdict, check_all};
use quorate_protocol::io::{
    Base, Event, Note, Proposal, ReadQuorum, ReadRequest, Reply, Submit, Tick,
};

use crate::options::Options;
use crate::rng::Stream;

/// Operations that each client still does after everything healed: the cluster must serve.
const AFTER_HEAL: u32 = 5;

/// How long a client waits.
const PATIENCE: Tick = 600_000;

/// All clients and their history.
#[derive(Debug)]
pub struct Clients {
    rng: Stream,
    options: Options,
    keys: u64,
    servers: usize,
    history: Vec<Operation>,
    /// Operation in flight by client.
    in_flight: BTreeMap<u64, u64>,
    process: BTreeMap<u64, u64>,
    next_process: u64,
    /// Version last seen by (client, key).
    seen: BTreeMap<(u64, u64), u64>,
    after_heal: BTreeMap<u64, u32>,
    clients: u64,
    counts: Counts,
    /// Commits in one round, and in two.
    pub rounds: (u64, u64),
    /// Recoveries begun.
    pub recoveries: u64,
    /// Times a server left ONLINE to align, and came back.
    pub aligned: (u64, u64),
    /// Tombstones dropped.
    pub purged: u64,
    /// Keys whose one create was sent, where positions are used once.
    used: BTreeSet<u64>,
    /// Unsynced batches taken by crashes.
    pub batches_lost: u64,
}

/// What clients were told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// `ok` for writes.
    pub committed: u64,
    /// Definite failures.
    pub failed: u64,
    /// Unknown outcomes.
    pub unknown: u64,
    /// Majority reads answered.
    pub reads: u64,
}

impl Clients {
    /// The clients of a seed.
    #[must_use]
    pub fn new(seed: u64, options: &Options) -> Self {
        Self {
            rng: Stream::new(seed, "clients"),
            options: options.clone(),
            keys: options.keys,
            servers: options.servers(),
            history: Vec::new(),
            in_flight: BTreeMap::new(),
            process: (0..options.clients).map(|c| (c, c)).collect(),
            next_process: options.clients,
            seen: BTreeMap::new(),
            after_heal: BTreeMap::new(),
            clients: options.clients,
            counts: Counts::default(),
            rounds: (0, 0),
            recoveries: 0,
            aligned: (0, 0),
            purged: 0,
            used: BTreeSet::new(),
            batches_lost: 0,
        }
    }

    /// Which server a client asks next: mostly its own, sometimes another.
    pub fn target(&mut self, client: u64, servers: u64) -> usize {
        let other = self.rng.chance(200);
        let drawn = self.rng.below(servers);
        usize::try_from(if other { drawn } else { client % servers }).unwrap_or(0)
    }

    /// Pause before the next operation.
    pub fn think(&mut self) -> Tick {
        self.rng.between(100, 10_000)
    }

    /// True once a client has done its part after the heal.
    #[must_use]
    pub fn is_retired(&self, client: u64) -> bool {
        self.after_heal.get(&client).copied().unwrap_or(0) >= AFTER_HEAL
    }

    /// True once all clients have.
    #[must_use]
    pub fn all_quiet(&self) -> bool {
        self.in_flight.is_empty() && (0..self.clients).all(|client| self.is_retired(client))
    }

    /// Begins a client's next operation on a server whose committed state is given.
    pub fn begin(
        &mut self,
        client: u64,
        server: usize,
        now: Tick,
        committed: &BTreeMap<ItemId, Committed>,
    ) -> Event {
        let id = self.history.len() as u64 + 1;
        let deadline = now + PATIENCE;
        let first = self.rng.below(self.keys);
        let pair = self.rng.chance(self.options.pairs) && self.keys > 1;
        let second = (first + 1 + self.rng.below(self.keys.max(2) - 1)) % self.keys;
        let reads = self.rng.chance(400);
        let keys = if pair { vec![first, second] } else { vec![first] };
        let (kind, steps, event) = if reads {
            let items = keys.iter().map(|key| self.item(*key)).collect();
            let steps = keys.iter().map(|key| step(*key, Action::Read(None))).collect();
            (
                Kind::Read,
                steps,
                Event::Read(ReadRequest {
                    request: id,
                    items,
                    quorum: ReadQuorum::Majority,
                    deadline,
                }),
            )
        } else {
            let mut steps = Vec::new();
            let mut ops = Vec::new();
            for key in &keys {
                let (proposal, action) = self.proposal(client, server, *key, id, committed);
                ops.push(proposal);
                steps.push(step(*key, action));
            }
            let kind = if pair { Kind::Transaction } else { Kind::Update };
            let submit = Submit { request: id, ops, deadline, wall_us: now, schema: 0 };
            (kind, steps, Event::Submit(submit))
        };
        self.history.push(Operation {
            id,
            process: self.process[&client],
            session: client,
            kind,
            phase: Phase::Measure,
            node: u32::try_from(server).unwrap_or(0),
            level: reads.then_some(ReadLevel::Majority),
            steps,
            intended: now * 1_000,
            sent: now * 1_000,
            done: None,
            outcome: Outcome::Unknown,
            code: None,
        });
        self.in_flight.insert(client, id);
        event
    }

    fn proposal(
        &mut self,
        client: u64,
        server: usize,
        key: u64,
        id: u64,
        committed: &BTreeMap<ItemId, Committed>,
    ) -> (Proposal, Action) {
        let item = self.item(key);
        let image = Some(Image::from(id.to_be_bytes().as_slice()));
        let seen = self.seen.get(&(client, key)).copied();
        // A server that does not hold the record is asked by who has seen it.
        let exists = committed.contains_key(&item)
            || (!self.holds(server, key) && seen.is_some_and(|version| version > 0));
        let base = match seen {
            Some(version) if self.rng.chance(250) => Base::Version(version),
            // A client may claim anything (trap A4).
            Some(version) if self.rng.chance(20) => Base::Version(version + 3),
            _ => Base::Current,
        };
        let deletes = if self.options.purge { 60 } else { 15 };
        // Without tombstones nothing but the owner's care keeps a position from being used twice
        // (trap A20): the first create stays the only one.
        let exists = exists || (self.options.purge && !self.used.insert(key));
        let (kind, base, action) = match exists.then_some(()) {
            None => (OpKind::Create, Base::Exact(Stamp::ABSENT), Action::Write(id)),
            Some(_) if self.rng.chance(deletes) => (OpKind::Delete, base, Action::Delete(id)),
            Some(_) => (OpKind::Update, base, Action::Write(id)),
        };
        (Proposal { item, kind, base, image }, action)
    }

    /// True when a server masters the cluster of a record.
    fn holds(&self, server: usize, key: u64) -> bool {
        let cluster = self.options.cluster_of(key);
        let shapes = self.options.clusters();
        shapes.iter().any(|s| s.cluster == cluster && s.masters.contains(&server))
    }

    fn item(&self, key: u64) -> ItemId {
        ItemId { cluster: self.options.cluster_of(key), key: ItemKey::Record(key) }
    }

    /// Something happened that is only counted.
    pub fn noted(&mut self, note: &Note) {
        match note {
            Note::LeftOnline => self.aligned.0 += 1,
            Note::BackOnline => self.aligned.1 += 1,
            Note::Purged { tombstones } => self.purged += tombstones,
            _ => {}
        }
    }

    /// A client found its server down before anything was sent.
    pub fn refused(&mut self) {
        self.counts.failed += 1;
    }

    /// An answer arrived. The client, if it still waits for this one.
    pub fn end(&mut self, request: u64, now: Tick, healed: bool, reply: &Reply) -> Option<u64> {
        let (client, _) = self.in_flight.iter().find(|(_, id)| **id == request)?;
        let client = *client;
        self.in_flight.remove(&client);
        let operation = self.history.get_mut(usize::try_from(request).ok()? - 1)?;
        operation.done = Some(now * 1_000);
        match reply {
            Reply::Committed { stamps, .. } => {
                operation.outcome = Outcome::Ok;
                self.counts.committed += 1;
                for (step, stamp) in operation.steps.iter_mut().zip(stamps) {
                    step.version = Some(stamp.version);
                    self.seen.insert((client, step.key), stamp.version);
                }
            }
            Reply::Read(found) => {
                operation.outcome = Outcome::Ok;
                self.counts.reads += 1;
                for (step, (_, committed)) in operation.steps.iter_mut().zip(found) {
                    step.action = Action::Read(Some(seen_in(committed.as_ref())));
                    step.version = committed.as_ref().map(|c| c.stamp.version);
                    self.seen.insert((client, step.key), step.version.unwrap_or(0));
                }
            }
            Reply::Session(_) => {}
            Reply::Failed(failure) => {
                operation.code = Some(failure.code.name().to_owned());
                let unknown = failure.code.outcome() != Known::Failed;
                assert!(failure.code != ErrorCode::BadRequest, "a malformed request: {failure:?}");
                if unknown {
                    self.lost(client, request);
                } else if let Some(operation) = self.operation(request) {
                    operation.outcome = Outcome::Failed;
                    self.counts.failed += 1;
                }
            }
        }
        if healed {
            *self.after_heal.entry(client).or_default() += 1;
        }
        Some(client)
    }

    fn operation(&mut self, id: u64) -> Option<&mut Operation> {
        self.history.get_mut(usize::try_from(id).ok()?.checked_sub(1)?)
    }

    /// Nothing is known: pending for ever, and the client goes on as somebody else.
    fn lost(&mut self, client: u64, id: u64) {
        if let Some(operation) = self.operation(id) {
            operation.done = None;
        }
        self.counts.unknown += 1;
        self.process.insert(client, self.next_process);
        self.next_process += 1;
    }

    /// A server crashed: its clients' connections broke.
    pub fn abandon(&mut self, server: usize) -> Vec<u64> {
        let of_server = |id: &u64| {
            let index = usize::try_from(*id).unwrap_or(0).wrapping_sub(1);
            self.history.get(index).is_some_and(|o| o.node as usize == server)
        };
        let clients: Vec<(u64, u64)> = self
            .in_flight
            .iter()
            .filter(|(_, id)| of_server(id))
            .map(|(client, id)| (*client, *id))
            .collect();
        for (client, id) in &clients {
            self.in_flight.remove(client);
            self.lost(*client, *id);
        }
        clients.into_iter().map(|(client, _)| client).collect()
    }

    /// What clients were told.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Who still waits, for an error.
    #[must_use]
    pub fn describe_waiting(&self) -> String {
        format!("in flight (client: operation): {:?}", self.in_flight)
    }

    /// Judges the whole history, with the final state as a read of every key on every server.
    pub fn judge(&mut self, items: &BTreeMap<ItemId, Committed>, now: Tick) -> Vec<String> {
        for key in 0..self.keys {
            let committed = items.get(&self.item(key));
            let majority = std::iter::once((0, ReadLevel::Majority));
            let holders: Vec<usize> = (0..self.servers).filter(|s| self.holds(*s, key)).collect();
            let local = holders.into_iter().map(|server| (server, ReadLevel::Local));
            for (server, level) in majority.chain(local) {
                self.final_read(key, server, level, committed, now);
            }
        }
        let nodes = (0..self.servers).map(|n| format!("n{}", n + 1)).collect();
        let header = Header::new(nodes, self.keys, true);
        let history = History { header, operations: std::mem::take(&mut self.history) };
        let names = ["acknowledged-durable", "linearizable", "failed-write-visible"];
        let options = match quorate_check::Options::only(names) {
            Ok(options) => options,
            Err(unknown) => return vec![unknown.to_string()],
        };
        let report = check_all(&history, &options);
        let violated = report.judgements.iter().filter(|j| j.verdict == Verdict::Violated);
        violated.map(ToString::to_string).collect()
    }

    fn final_read(
        &mut self,
        key: u64,
        server: usize,
        level: ReadLevel,
        committed: Option<&Committed>,
        now: Tick,
    ) {
        let at = now * 1_000 + 1;
        let mut step = step(key, Action::Read(Some(seen_in(committed))));
        step.version = committed.map(|c| c.stamp.version);
        let process = self.next_process;
        self.next_process += 1;
        self.history.push(Operation {
            id: self.history.len() as u64 + 1,
            process,
            session: process,
            kind: Kind::Read,
            phase: Phase::Final,
            node: u32::try_from(server).unwrap_or(0),
            level: Some(level),
            steps: vec![step],
            intended: at,
            sent: at,
            done: Some(at + 1),
            outcome: Outcome::Ok,
            code: None,
        });
    }
}

fn step(key: u64, action: Action) -> Step {
    Step::new(key, action)
}

fn seen_in(committed: Option<&Committed>) -> Seen {
    let id = |c: &Committed| {
        let bytes = c.image.as_ref().and_then(|i| i.0.first_chunk::<8>().copied());
        bytes.map(u64::from_be_bytes)
    };
    match committed {
        Some(c) if c.live => id(c).map_or(Seen::Absent(None), Seen::Value),
        Some(c) => Seen::Absent(id(c)),
        None => Seen::Absent(None),
    }
}
