//! Clients: one operation in flight each, planned by the workload. Every answer goes into the
//! history.

use std::collections::BTreeMap;

use quorate_api::{
    Boot, Committed, ErrorCode, ItemId, NodeId, OpKind, Outcome as Known, Stamp, TxId,
};
use quorate_check::history::{Outcome, ReadLevel};
use quorate_protocol::io::{
    Event, Proposal, ReadQuorum, ReadRequest, Reply, SessionRequest, SessionToken, Submit, Tick,
};

use crate::history::{Asked, Recorder};
use crate::options::Options;
use crate::rng::Stream;
use crate::workload::{self, Plan, Positions, View};

/// Operations that each client still does after everything healed: the cluster must serve.
const AFTER_HEAL: u32 = 3;

/// How long a client waits, on the clock of the server that it asked.
const PATIENCE: Tick = 600_000;

/// First position of records that clients create; below are those of keys.
const FIRST_POSITION: u64 = 1_000;

/// All clients and their history.
#[derive(Debug)]
pub struct Clients {
    rng: Stream,
    recorder: Recorder,
    /// Operation in flight by client.
    in_flight: BTreeMap<u64, InFlight>,
    process: BTreeMap<u64, u64>,
    /// Committed states that each client was told.
    seen: BTreeMap<u64, BTreeMap<ItemId, Committed>>,
    /// What each client's session has been told.
    tokens: BTreeMap<u64, SessionToken>,
    /// Newest stamps that each client's session read from a majority.
    majority: BTreeMap<u64, BTreeMap<ItemId, Stamp>>,
    positions: Positions,
    after_heal: BTreeMap<u64, u32>,
    clients: u64,
    coordinators: Vec<usize>,
    counts: Counts,
    /// Refusals after the heal that nothing excuses any more.
    refusals: Vec<String>,
}

#[derive(Debug)]
struct InFlight {
    id: u64,
    since: Tick,
    ops: Vec<Proposal>,
    /// What is read locally once the server has caught up with the session.
    local: Vec<ItemId>,
    /// State of each item when the transaction was planned, for what a `check` proves.
    bases: Vec<Option<Committed>>,
}

/// What clients were told, and what it took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// `ok` for transactions.
    pub committed: u64,
    /// Definite failures.
    pub failed: u64,
    /// Unknown outcomes.
    pub unknown: u64,
    /// Reads answered.
    pub reads: u64,
    /// Commits in one round.
    pub one_round: u64,
    /// Commits in two rounds.
    pub two_rounds: u64,
    /// Recoveries begun.
    pub recoveries: u64,
    /// Unsynced batches taken by crashes.
    pub batches_lost: u64,
    /// Times a server left ONLINE to align.
    pub left_online: u64,
    /// Times one came back.
    pub aligned: u64,
    /// Tombstones dropped.
    pub purged: u64,
    /// Contents that witnesses dropped.
    pub dropped: u64,
    /// Contents kept beside another one.
    pub diverged: u64,
    /// Items made equal by a merge.
    pub merged: u64,
    /// Times that no resolver named a winner.
    pub undecided: u64,
    /// Generations of clusters that became active.
    pub generations: u64,
    /// Owners of clusters that changed.
    pub owners: u64,
    /// Clusters that were dropped.
    pub drops: u64,
    /// Terms of the control plane that had a leader.
    pub leaders: u64,
    /// Shortest and longest time of a transaction that committed before the heal was due.
    pub times: Option<(Tick, Tick)>,
    /// Servers that were taken in.
    pub joined: u64,
    /// Servers that were removed and let go.
    pub removed: u64,
    /// MASTERs that left by themselves when they were lost.
    pub absent: u64,
    /// Those of them that were made MASTERs again, or that people decided on.
    pub returned: u64,
    /// Disks that were lost for good.
    pub disks_lost: u64,
    /// Positions of granted blocks that were used.
    pub positions: u64,
}

impl Counts {
    /// Changes of the configuration that were carried out.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.owners + self.generations + self.drops
    }

    fn took(&mut self, time: Tick) {
        let (shortest, longest) = self.times.unwrap_or((time, time));
        self.times = Some((shortest.min(time), longest.max(time)));
    }
}

/// When and where a client asks.
pub(crate) struct Turn<'a> {
    pub(crate) client: u64,
    pub(crate) server: usize,
    /// Virtual time.
    pub(crate) now: Tick,
    /// The server's clocks.
    pub(crate) clock: Tick,
    pub(crate) wall: u64,
    /// Committed state there.
    pub(crate) local: &'a BTreeMap<ItemId, Committed>,
    /// A record that the server may create.
    pub(crate) fresh: Option<ItemId>,
}

/// An answer of a server.
pub(crate) struct Answer<'a> {
    pub(crate) request: u64,
    pub(crate) now: Tick,
    /// Nothing excuses a refusal any more.
    pub(crate) serving: bool,
    /// No server is gone for good.
    pub(crate) whole: bool,
    pub(crate) reply: &'a Reply,
    /// Who answers, and its committed state.
    pub(crate) by: NodeId,
    pub(crate) local: &'a BTreeMap<ItemId, Committed>,
    /// It aligns: that is no snapshot.
    pub(crate) aligning: bool,
    /// The server that answers.
    pub(crate) server: usize,
    pub(crate) options: &'a Options,
}

impl Answer<'_> {
    fn holds(&self, items: &[ItemId]) -> bool {
        items.iter().all(|item| self.options.holds(self.server, item.cluster))
    }
}

impl Clients {
    /// The clients of a seed.
    #[must_use]
    pub fn new(seed: u64, options: &Options, loaded: &[(ItemId, Vec<u8>)]) -> Self {
        let mut recorder = Recorder::new(options);
        if !loaded.is_empty() {
            recorder.load(loaded);
        }
        let process = (0..options.clients).map(|c| (c, recorder.new_process())).collect();
        Self {
            rng: Stream::new(seed, "clients"),
            recorder,
            in_flight: BTreeMap::new(),
            process,
            seen: BTreeMap::new(),
            tokens: BTreeMap::new(),
            majority: BTreeMap::new(),
            positions: Positions::after(FIRST_POSITION),
            after_heal: BTreeMap::new(),
            clients: options.clients,
            coordinators: options.coordinators(),
            counts: Counts::default(),
            refusals: Vec::new(),
        }
    }

    /// Which server a client asks next: mostly its own, sometimes another.
    pub(crate) fn target(&mut self, client: u64) -> usize {
        let own = usize::try_from(client).unwrap_or(0) % self.coordinators.len();
        let other = self.rng.index(self.coordinators.len());
        self.coordinators[if self.rng.chance(200) { other } else { own }]
    }

    /// Pause before the next operation.
    pub(crate) fn think(&mut self, max: Tick) -> Tick {
        self.rng.between(100, max)
    }

    /// True once a client has done its part after the heal.
    pub(crate) fn is_retired(&self, client: u64) -> bool {
        self.after_heal.get(&client).copied().unwrap_or(0) >= AFTER_HEAL
    }

    /// True once all clients have.
    pub(crate) fn all_quiet(&self) -> bool {
        self.in_flight.is_empty() && (0..self.clients).all(|client| self.is_retired(client))
    }

    /// Begins a client's next operation.
    pub(crate) fn begin(&mut self, turn: &Turn<'_>, options: &Options) -> Event {
        let id = self.recorder.next_id();
        let seen = self.seen.entry(turn.client).or_default();
        let missing = std::collections::BTreeSet::new();
        let (server, local) = (turn.server, turn.local);
        let fresh = turn.fresh.clone();
        let mut view = View { options, server, local, seen, id, missing, fresh };
        let plan = workload::plan(&mut view, &mut self.rng, &mut self.positions);
        let process = self.process[&turn.client];
        let asked = Asked { process, session: turn.client, server, now: turn.now };
        let deadline = turn.clock + PATIENCE;
        let since = turn.now;
        let mut flight =
            InFlight { id, since, ops: Vec::new(), local: Vec::new(), bases: Vec::new() };
        let event = match plan {
            Plan::Local(items) => {
                self.recorder.read(&asked, &items, ReadLevel::Local);
                flight.local = items;
                let token = self.tokens.get(&turn.client).cloned().unwrap_or_default();
                let seen = self.majority.get(&turn.client).into_iter().flatten();
                let seen = seen.map(|(item, stamp)| (item.clone(), *stamp)).collect();
                Event::Session(SessionRequest { request: id, token, seen, deadline })
            }
            Plan::Read(items) => {
                self.recorder.read(&asked, &items, ReadLevel::Majority);
                let quorum = ReadQuorum::Majority;
                Event::Read(ReadRequest { request: id, items, quorum, deadline })
            }
            Plan::Write(ops) => {
                self.recorder.write(&asked, &ops);
                let state = |op: &Proposal| local.get(&op.item).or_else(|| seen.get(&op.item));
                flight.bases = ops.iter().map(|op| state(op).cloned()).collect();
                flight.ops = ops.clone();
                let wall_us = turn.wall;
                Event::Submit(Submit { request: id, ops, deadline, wall_us, schema: 0 })
            }
        };
        self.in_flight.insert(turn.client, flight);
        event
    }

    /// A client found its server down before anything was sent.
    pub(crate) fn refused(&mut self) {
        self.counts.failed += 1;
    }

    /// An answer arrived. The client, if it still waits for this one.
    pub(crate) fn end(&mut self, answer: &Answer<'_>) -> Option<u64> {
        let Answer { request, now, serving, reply, by, local, .. } = *answer;
        let (client, _) = self.in_flight.iter().find(|(_, flight)| flight.id == request)?;
        let client = *client;
        let flight = self.in_flight.remove(&client)?;
        match reply {
            Reply::Committed { tx, stamps, decision } => {
                if now < answer.options.duration {
                    self.counts.took(now.saturating_sub(flight.since));
                }
                self.committed(client, &flight, *tx, stamps);
                self.told(client, [((by, decision.boot), decision.index)]);
            }
            Reply::Read(found) => {
                self.counts.reads += 1;
                self.recorder.found(request, found.iter().map(|(_, state)| state.as_ref()));
                let seen = self.seen.entry(client).or_default();
                let newest = self.majority.entry(client).or_default();
                for (item, state) in found {
                    let stamp = state.as_ref().map_or(Stamp::ABSENT, |state| state.stamp);
                    let known = newest.entry(item.clone()).or_insert(stamp);
                    *known = stamp.max(*known);
                    match state {
                        Some(state) => seen.insert(item.clone(), state.clone()),
                        None => seen.remove(item),
                    };
                }
            }
            // The server has left ONLINE since, or keeps the items no more: its shell refuses.
            Reply::Session(_) if answer.aligning || !answer.holds(&flight.local) => {
                self.failed(client, &flight, ErrorCode::NotReady, now);
                self.retire(client, serving);
                return Some(client);
            }
            Reply::Dismissed { .. } => unreachable!("no client dismisses"),
            Reply::Session(token) => {
                self.counts.reads += 1;
                self.recorder.found(request, flight.local.iter().map(|item| local.get(item)));
                self.told(client, token.iter().map(|(log, index)| (*log, *index)));
            }
            Reply::Failed(failure) => {
                assert!(failure.code != ErrorCode::BadRequest, "a malformed request: {failure:?}");
                self.failed(client, &flight, failure.code, now);
                if serving && !is_excused(failure.code, answer) {
                    self.refusals.push(format!("operation {request}: {failure:?}"));
                }
                self.retire(client, serving);
                return Some(client);
            }
        }
        self.recorder.end(request, now, Outcome::Ok, None);
        self.retire(client, serving);
        Some(client)
    }

    /// A session merges what it is told, the higher index of each log.
    fn told(&mut self, client: u64, logs: impl IntoIterator<Item = ((NodeId, Boot), u64)>) {
        let token = self.tokens.entry(client).or_default();
        for (log, index) in logs {
            let known = token.entry(log).or_default();
            *known = index.max(*known);
        }
    }

    fn retire(&mut self, client: u64, serving: bool) {
        if serving {
            *self.after_heal.entry(client).or_default() += 1;
        }
    }

    fn committed(&mut self, client: u64, flight: &InFlight, tx: TxId, stamps: &[Stamp]) {
        self.counts.committed += 1;
        self.recorder.stamped(flight.id, stamps);
        let seen = self.seen.entry(client).or_default();
        for (nth, (op, stamp)) in flight.ops.iter().zip(stamps).enumerate() {
            if op.kind == OpKind::Check {
                let newest = self.majority.entry(client).or_default();
                let known = newest.entry(op.item.clone()).or_insert(*stamp);
                *known = (*known).max(*stamp);
                let base = flight.bases.get(nth).and_then(Option::as_ref);
                // A check on whatever was current may have met a later state than the planned one.
                let met = base.filter(|base| base.stamp == *stamp);
                if met.is_some() || *stamp == Stamp::ABSENT {
                    self.recorder.checked(flight.id, nth, met);
                }
                continue;
            }
            debug_assert_eq!(stamp.tx, tx);
            let live = op.kind != OpKind::Delete;
            let committed =
                Committed { stamp: *stamp, live, image: op.image.clone(), elsewhere: None };
            seen.insert(op.item.clone(), committed);
        }
    }

    fn failed(&mut self, client: u64, flight: &InFlight, code: ErrorCode, now: Tick) {
        // Whatever it built on may be out of date.
        let seen = self.seen.entry(client).or_default();
        for op in &flight.ops {
            seen.remove(&op.item);
        }
        let name = Some(code.name());
        if code.outcome() == Known::Failed {
            self.counts.failed += 1;
            self.recorder.end(flight.id, now, Outcome::Failed, name);
        } else {
            self.recorder.end(flight.id, now, Outcome::Unknown, name);
            self.lost(client);
        }
    }

    /// Nothing is known: pending for ever, and the client goes on as somebody else.
    fn lost(&mut self, client: u64) {
        self.counts.unknown += 1;
        let process = self.recorder.new_process();
        self.process.insert(client, process);
    }

    /// A server crashed: its clients' connections broke.
    pub(crate) fn abandon(&mut self, server: usize) -> Vec<u64> {
        let of_server = |flight: &InFlight| self.recorder.server(flight.id) == Some(server);
        let waiting = self.in_flight.iter().filter(|(_, flight)| of_server(flight));
        let clients: Vec<u64> = waiting.map(|(client, _)| *client).collect();
        for client in &clients {
            if let Some(flight) = self.in_flight.remove(client) {
                self.recorder.end(flight.id, 0, Outcome::Unknown, Some("connection_lost"));
            }
            self.lost(*client);
        }
        clients
    }

    /// What clients were told.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn counts_mut(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// What a healed cluster refused without a reason.
    pub(crate) fn refusals(&self) -> &[String] {
        &self.refusals
    }

    /// Who still waits, for an error.
    #[must_use]
    pub fn describe_waiting(&self) -> String {
        let waiting = self.in_flight.iter().map(|(client, flight)| (client, flight.id));
        format!("in flight (client, operation): {:?}", waiting.collect::<Vec<_>>())
    }

    /// The history.
    pub(crate) fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }
}

/// What may be refused although everything is well: conflicts between clients, and what a client
/// asked for wrongly. A position that a crash took is satisfied once its boot is closed, and that
/// takes every server. Where logs are cut after a few entries, servers that are well have to align.
fn is_excused(code: ErrorCode, answer: &Answer<'_>) -> bool {
    let conflict = matches!(
        code,
        ErrorCode::VersionConflict | ErrorCode::Busy | ErrorCode::NotFound | ErrorCode::NotOwner
    );
    conflict
        || (!answer.whole && matches!(code, ErrorCode::SessionBehind))
        || (answer.options.cuts_logs() && matches!(code, ErrorCode::NotReady))
}
