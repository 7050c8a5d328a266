//! The control plane of one server as a synchronous machine: a replicated log of commands (Raft, by
//! the `raft` library) and the state they make. Events in, effects out, time only as ticks. What
//! the state is it does not know (`state_machine`).
//!
//! Three rules beside the library's own:
//! - **What is applied stays applied.** An entry is applied once it *and the fact that it is
//!   committed* are durable here. A server that restarts is never on an older configuration than
//!   the one it has voted by: what it refuses because of an entry (an older writer, a sealed
//!   cluster), it goes on refusing.
//! - **A command happens at most once.** A server has one proposal under way at a time, under a
//!   number of its own; it is made again until it is seen in the log, and a copy changes nothing
//!   (`state`). So a lost message costs time and never the truth.
//! - **Same inputs, same outputs.** The library draws election time-outs from its thread's
//!   generator; each is replaced, before it is looked at, by one from the seeded generator.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use quorate_api::NodeId;
use raft::eraftpb::{self, EntryType};
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::agreement::Agreement;
use crate::schema::Schema;

mod detour;
mod elections;
mod io;
mod log;
mod observer;
#[cfg(test)]
mod observer_tests;
mod proposals;
mod questions;
mod state;
mod state_machine;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod voters;
mod wire;

use detour::Links;
pub use io::{Answer, Effect, Event, PlaneConfig};
use log::Log;
pub use log::{LogWrite, RecoveredLog};
use observer::Observer;
use proposals::Proposals;
use questions::{Asker, Questions};
use state::Entry;
pub use state::{State, UnreadableError};
pub use state_machine::StateMachine;
use voters::Voters;
use wire::Wire;

/// Microseconds between two ticks.
pub const TICK: u64 = 50_000;
/// Ticks between two signs of life of the leader.
const HEARTBEAT: usize = 2;
/// Ticks without one after which another server stands for election, at least; at most twice as
/// many.
const ELECTION: usize = 10;
/// Entries behind the snapshot from which on a server's log is cut.
pub const ENTRIES_MAX: usize = 512;
/// The same for their bytes.
const BYTES_MAX: usize = 4 << 20;
/// Requests of clients that wait; above, the next one is refused.
const REQUESTS_MAX: usize = 1_024;
/// Ticks after which a snapshot that a server did not acknowledge is sent again.
const SNAPSHOT: usize = 2 * ELECTION;
/// Content of one message.
const MESSAGE_BYTES: u64 = 1 << 20;

/// What has to be durable before it goes on.
struct Pending<A> {
    /// Number of the last batch handed to the disk by then.
    after: u64,
    /// The library's number for what it is about.
    ready: u64,
    /// The state that takes the place of everything, and its index.
    snapshot: Option<(State<A>, u64)>,
    committed: Vec<eraftpb::Entry>,
}

/// One server's control plane.
pub struct Plane<A: StateMachine = Agreement> {
    config: PlaneConfig,
    raft: RawNode<Log>,
    rng: ChaCha8Rng,
    election: usize,
    /// Ticks until it stands for election without having waited for the leader's silence.
    stands_in: Option<usize>,
    state: State<A>,
    applied: u64,
    /// Batches handed to the disk, and those of them that are durable.
    handed: u64,
    durable: u64,
    pending: VecDeque<Pending<A>>,
    proposals: Proposals,
    /// Clients that want to catch up, and servers that ask for theirs.
    questions: Questions,
    observer: Observer,
    /// Servers that this one, leading, has sent a snapshot, and for how many ticks they have not
    /// acknowledged it.
    snapshots: BTreeMap<u64, usize>,
    led: (Option<NodeId>, u64),
    voters: Voters,
    links: Links,
}

impl Plane {
    /// The schema that was agreed on.
    #[must_use]
    pub fn schema(&self) -> Arc<Schema> {
        self.state.agreement.schema.clone()
    }
}

impl<A: StateMachine> core::fmt::Debug for Plane<A> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let raft = &self.raft.raft;
        f.debug_struct("Plane")
            .field("config", &self.config)
            .field("role", &raft.state)
            .field("term", &raft.term)
            .field("applied", &self.applied)
            .finish_non_exhaustive()
    }
}

impl<A: StateMachine> Plane<A> {
    /// The control plane of a server that was in a cluster before, or founds one together with
    /// `founders`, itself included: every founder must name the same. Without founders it waits
    /// until it is taken in by a cluster.
    ///
    /// # Errors
    /// The disk holds what this version does not understand.
    pub fn new(
        config: PlaneConfig,
        recovered: &RecoveredLog,
        founders: &[(String, NodeId)],
        out: &mut Vec<Effect>,
    ) -> Result<Self, UnreadableError> {
        let log = match &recovered.snapshot {
            Some(snapshot) => Log::read(snapshot, recovered)?,
            None if founders.is_empty() => Log::of_a_stranger(State::<A>::default().encode()?),
            None => {
                let nodes: Vec<NodeId> = founders.iter().map(|(_, node)| *node).collect();
                Log::founded_by(&nodes, State::<A>::founded_by(founders).encode()?)
            }
        };
        let (applied, bytes) = log.snapshot_state();
        let state = State::<A>::decode(bytes)?;
        let mut handed = 0;
        if recovered.snapshot.is_none() {
            handed = 1;
            out.push(Effect::Persist { number: handed, writes: log.writes() });
        }
        let raft = library(config.node, applied, log)?;
        let mut plane = Self {
            raft,
            rng: ChaCha8Rng::seed_from_u64(config.seed),
            election: ELECTION,
            stands_in: None,
            state,
            applied,
            handed,
            durable: 0,
            pending: VecDeque::new(),
            proposals: Proposals::new(config.node, config.boot),
            questions: Questions::new(config.boot),
            observer: Observer::default(),
            snapshots: BTreeMap::new(),
            led: (None, 0),
            voters: Voters::default(),
            links: Links::default(),
            config,
        };
        // What it had applied, before a vote that is not durable yet holds it up.
        plane.work(out)?;
        let is_first = founders.iter().map(|(_, node)| *node).min() == Some(plane.config.node);
        plane.stand_early(recovered.snapshot.is_none() && is_first);
        plane.work(out)?;
        Ok(plane)
    }

    /// Handles one event.
    ///
    /// # Errors
    /// An entry or a state that this version does not understand was agreed on: the server must
    /// stop rather than go on without it.
    pub fn step(
        &mut self,
        event: Event<A::Command>,
        out: &mut Vec<Effect>,
    ) -> Result<(), UnreadableError> {
        match event {
            Event::Tick => self.tick(out)?,
            Event::Message { from, bytes } => self.receive(from, &bytes, out)?,
            Event::Peer { node, up } => self.link(node, up, out),
            Event::Persisted(number) => self.durable = self.durable.max(number),
            Event::Propose { request, .. } | Event::CatchUp { request } if self.is_full() => {
                out.push(Effect::Answer { request, answer: Answer::NotProposed });
            }
            Event::Propose { request, command } => self.proposals.add(request, command)?,
            Event::Report(report) => self.proposals.report(report),
            Event::CatchUp { request } => {
                let number = self.questions.add(Asker::Client(request));
                self.ask(number, out);
            }
            Event::GiveUp { request } => self.give_up(request, out),
            Event::Resign if self.is_leader() => self.hand_over(),
            Event::Resign => {}
        }
        self.work(out)
    }

    /// What was agreed on, as far as this server has applied it.
    #[must_use]
    pub const fn state(&self) -> &State<A> {
        &self.state
    }

    /// The server whose part of the control plane this is.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.config.node
    }

    /// Index of the last entry that this server has applied.
    #[must_use]
    pub const fn applied(&self) -> u64 {
        self.applied
    }

    /// Who leads, as far as this server knows, and in which term.
    #[must_use]
    pub const fn led(&self) -> (Option<NodeId>, u64) {
        self.led
    }

    fn is_full(&self) -> bool {
        self.proposals.len() + self.questions.len() >= REQUESTS_MAX
    }

    fn tick(&mut self, out: &mut Vec<Effect>) -> Result<(), UnreadableError> {
        self.proposals.tick();
        self.tick_links();
        self.ask_again(out);
        self.tick_beside(out);
        // In between the library has the snapshot and not what comes before it: it could not stand.
        if self.pending.iter().any(|pending| pending.snapshot.is_some()) {
            return Ok(());
        }
        if self.raft.raft.election_elapsed == 0 {
            self.election = ELECTION + (self.rng.next_u32() as usize) % ELECTION;
        }
        // The library has drawn one of its own whenever it began anew.
        self.raft.raft.set_randomized_election_timeout(self.election);
        self.raft.tick();
        self.stand_if_due();
        self.send_snapshots_again();
        self.follow_the_agreement()
    }

    /// The library waits for an answer to a snapshot for ever, and sends nothing else meanwhile.
    fn send_snapshots_again(&mut self) {
        let progress = self.raft.raft.prs().iter();
        let waiting: BTreeSet<u64> = progress
            .filter(|(_, progress)| progress.state == ProgressState::Snapshot)
            .map(|(id, _)| *id)
            .collect();
        self.snapshots.retain(|id, _| waiting.contains(id));
        for id in waiting {
            let ticks = self.snapshots.entry(id).or_default();
            *ticks += 1;
            if *ticks >= SNAPSHOT {
                *ticks = 0;
                self.raft.report_snapshot(id, SnapshotStatus::Failure);
            }
        }
    }

    fn receive(
        &mut self,
        from: NodeId,
        bytes: &[u8],
        out: &mut Vec<Effect>,
    ) -> Result<(), UnreadableError> {
        // From a link that is authenticated: at worst of a version that this one does not know.
        let Ok(wire) = postcard::from_bytes(bytes) else { return Ok(()) };
        let Wire::Log(bytes) = wire else { return self.receive_beside(from, wire, out) };
        self.receive_log(from, bytes, out);
        Ok(())
    }

    fn give_up(&mut self, request: u64, out: &mut Vec<Effect>) {
        let answer = if self.questions.withdraw(request) {
            Answer::NotProposed
        } else {
            match self.proposals.give_up(request) {
                Some(true) => Answer::Unknown,
                Some(false) => Answer::NotProposed,
                None => return,
            }
        };
        out.push(Effect::Answer { request, answer });
    }

    /// Takes from the library whatever it has to say, until it has nothing more.
    fn work(&mut self, out: &mut Vec<Effect>) -> Result<(), UnreadableError> {
        let cfg = self.state.cfg;
        // Behind the change: whoever is answered finds here what was agreed on.
        let mut answers = Vec::new();
        loop {
            self.propose(&mut answers, out)?;
            let settled = self.settle()?;
            if !self.raft.has_ready() {
                if settled {
                    continue;
                }
                break;
            }
            self.take_ready(out)?;
        }
        self.compact(out)?;
        if self.state.cfg != cfg {
            out.push(Effect::Changed);
        }
        out.append(&mut answers);
        self.answer(out);
        self.feed_all(out);
        let led = self.led_now();
        if led.0 != self.led.0 {
            out.push(Effect::Led { leader: led.0, term: led.1 });
        }
        self.led = led;
        Ok(())
    }

    fn propose(
        &mut self,
        answers: &mut Vec<Effect>,
        out: &mut Vec<Effect>,
    ) -> Result<(), UnreadableError> {
        while let Some((request, outcome)) = self.proposals.settled_by(&self.state) {
            answers.push(Effect::Answer { request, answer: Answer::Applied(outcome) });
        }
        if let Some(entry) = self.proposals.due(&self.state)? {
            // Refused without a leader; the next tick tries again.
            let handed = self.hand_in(entry, out);
            self.proposals.proposed(handed);
        }
        Ok(())
    }

    fn take_ready(&mut self, out: &mut Vec<Effect>) -> Result<(), UnreadableError> {
        let mut ready = self.raft.ready();
        let mut writes = Vec::new();
        let mut restored = None;
        if !ready.snapshot().is_empty() {
            let snapshot = ready.snapshot().clone();
            restored = Some((State::decode(&snapshot.data)?, log::index_of(&snapshot)));
            writes.extend(self.raft.mut_store().restore(snapshot));
        }
        let entries = ready.take_entries();
        writes.extend(self.raft.mut_store().append(entries));
        if let Some(hard_state) = ready.hs() {
            let hard_state = hard_state.clone();
            writes.push(self.raft.mut_store().set_hard_state(hard_state));
        }
        if !writes.is_empty() {
            self.handed += 1;
            out.push(Effect::Persist { number: self.handed, writes });
        }
        for message in ready.take_messages() {
            self.send(&message, 0, out);
        }
        for message in ready.take_persisted_messages() {
            self.send(&message, self.handed, out);
        }
        for state in ready.take_read_states() {
            if let Some(number) = self.number_in(&state.request_ctx) {
                self.questions.settle(number, state.index);
            }
        }
        let committed = ready.take_committed_entries();
        let (after, number) = (self.handed, ready.number());
        let pending = Pending { after, ready: number, snapshot: restored, committed };
        self.pending.push_back(pending);
        self.raft.advance_append_async(ready);
        Ok(())
    }

    /// Goes on with what has become durable; true when there was something.
    fn settle(&mut self) -> Result<bool, UnreadableError> {
        let mut any = false;
        while let Some(pending) = self.pending.pop_front_if(|first| first.after <= self.durable) {
            any = true;
            self.raft.on_persist_ready(pending.ready);
            if let Some((state, index)) = pending.snapshot {
                self.state = state;
                self.applied = index;
            }
            for entry in pending.committed {
                self.apply(&entry)?;
            }
            self.raft.advance_apply_to(self.applied);
        }
        Ok(any)
    }

    fn apply(&mut self, entry: &eraftpb::Entry) -> Result<(), UnreadableError> {
        if entry.index <= self.applied {
            return Ok(());
        }
        self.applied = entry.index;
        if entry.entry_type() == EntryType::EntryConfChange {
            return self.change_voters(entry);
        }
        // A new leader's first entry is empty.
        if !entry.data.is_empty() {
            self.state.apply(entry.index, &Entry::decode(&entry.data)?);
        }
        Ok(())
    }

    /// Cuts the log when it has grown. Nothing waits for that.
    fn compact(&mut self, out: &mut Vec<Effect>) -> Result<(), UnreadableError> {
        let (entries, bytes) = self.raft.store().size();
        let (at, _) = self.raft.store().snapshot_state();
        let is_large = entries >= self.config.entries_max || bytes >= BYTES_MAX;
        let due = is_large || self.voters.take_changed();
        if !due || self.applied <= at {
            return Ok(());
        }
        let voters = self.raft.raft.prs().conf().to_conf_state();
        let (applied, state) = (self.applied, self.state.encode()?);
        let write = self.raft.mut_store().compact(applied, state, voters);
        self.handed += 1;
        out.push(Effect::Persist { number: self.handed, writes: [write].into() });
        Ok(())
    }

    /// True when this server leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.raft.raft.state == StateRole::Leader
    }
}

/// The library over a log of which so much is applied.
fn library(node: NodeId, applied: u64, log: Log) -> Result<RawNode<Log>, UnreadableError> {
    let settings = raft::Config {
        id: node.0,
        election_tick: ELECTION,
        heartbeat_tick: HEARTBEAT,
        applied,
        max_size_per_msg: MESSAGE_BYTES,
        check_quorum: true,
        pre_vote: true,
        ..raft::Config::default()
    };
    let silent = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&settings, log, &silent)
        .map_err(|error| UnreadableError::library("the log", &error))
}
