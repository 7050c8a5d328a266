//! The thread that owns the protocol machine: takes inputs in batches, lets the machine handle them
//! one by one, carries out what it wants done. May not decide anything about data, and may not wait
//! for a peer or a client.
//!
//! Nothing leaves before what it depends on is durable: effects that wait are held in the order in
//! which the machine made them, so what waits for one peer also arrives in that order. What waits
//! for nothing overtakes them; the protocol does not rely on the order.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_api::{Boot, ErrorCode, NodeId, TxId};
use quorate_control::schema::{SCHEMA_ITEM, Schema, SystemPlacement};
use quorate_protocol::io::{
    Effect, Event, Failure, Note, PersistSeq, ReadRequest, Reply, SessionRequest, Store, Submit,
    Tick,
};
use quorate_protocol::message::{Message, Vote, VoteReply};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use super::handle::NodeState;
use super::inbox::Input;
use super::link::frame::Kind;
use super::link::{Envelope, Peer};
use super::protocol::Protocol;
use super::shared::Shared;
use super::storage::{Filling, Writer, die};
use crate::index::table::IndexTable;

/// Inputs handled between two ticks of the machine, so that acknowledgements are not put off for
/// ever.
const BATCH_MAX: usize = 256;
/// Effects waiting for the disk; when full, the loop takes no inputs until the disk got further,
/// the inbox fills, links stop reading and clients are refused.
const HELD_MAX: usize = 65_536;
/// How long a server that has met everybody waits, before it serves, for what its earlier boots
/// left undecided. Longer only without a majority, and then local reads shall not wait for one.
const SETTLE_MAX: Tick = 2_000_000;

/// Something that leaves the machine.
enum Out {
    Send(NodeId, Message),
    Reply(u64, Reply),
}

/// A peer whose identity is known.
struct Known {
    peer: Arc<Peer>,
    boot: Boot,
    /// Frames were queued since the last flush.
    dirty: bool,
}

/// The loop's state.
pub(crate) struct NodeLoop<P> {
    shared: Arc<Shared>,
    runtime: Handle,
    protocol: P,
    writer: Writer,
    peers: BTreeMap<NodeId, Known>,
    cfg: u64,
    work: VecDeque<Input>,
    effects: Vec<Effect>,
    held: VecDeque<(PersistSeq, Out)>,
    durable: PersistSeq,
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
    /// Who of them wants to know as soon as this server has voted for its transaction, durably.
    accepting: HashMap<u64, Arc<Notify>>,
    next_request: u64,
    schema_changed: bool,
    /// Derived indexes that do not hold everything yet.
    filling: Vec<Filling>,
    stop: Option<Tick>,
    /// What is waited for before this server serves.
    settling: Option<Settling>,
}

/// Own transactions of earlier boots that were undecided at the start. Their `ok` may have gone
/// out: it waits for votes, not for the decision to be durable here. A local read before they are
/// decided would not find what this server had acknowledged.
struct Settling {
    left: BTreeSet<TxId>,
    deadline: Tick,
}

impl<P: Protocol> NodeLoop<P> {
    pub(crate) fn new(shared: Arc<Shared>, runtime: Handle, protocol: P, writer: Writer) -> Self {
        Self {
            shared,
            runtime,
            protocol,
            writer,
            peers: BTreeMap::new(),
            cfg: 0,
            work: VecDeque::new(),
            effects: Vec::new(),
            held: VecDeque::new(),
            durable: 0,
            waiting: HashMap::new(),
            accepting: HashMap::new(),
            next_request: 1,
            schema_changed: false,
            filling: Vec::new(),
            stop: None,
            settling: None,
        }
    }

    /// Runs until it is told to stop and nobody waits any more, or the time for that is over.
    pub(crate) fn run(mut self) {
        // Before the first commit is applied: entries go with the records.
        self.read_schema();
        self.configure_when_complete();
        while !self.is_done() {
            self.turn();
        }
        self.shared.inbox.close();
        let unanswered = self.waiting.len();
        if unanswered > 0 {
            tracing::warn!(unanswered, "stopping with requests whose outcome is not known yet");
        }
    }

    fn is_done(&self) -> bool {
        self.stop.is_some_and(|deadline| {
            self.shared.clock.now() >= deadline || (self.waiting.is_empty() && self.held.is_empty())
        })
    }

    fn turn(&mut self) {
        if self.held.len() >= HELD_MAX {
            self.wait_for_disk();
        }
        let idle = self.work.is_empty() && self.filling.is_empty();
        let wait = if idle { self.wait() } else { Some(Duration::ZERO) };
        // What is left of the last turn comes first; meanwhile the inbox fills, and its bounds
        // hold.
        if self.work.len() < BATCH_MAX {
            self.shared.inbox.take(&mut self.work, wait);
        }
        self.release();
        let mut handled = 0;
        while handled < BATCH_MAX
            && let Some(input) = self.work.pop_front()
        {
            self.handle(input);
            handled += 1;
        }
        let due = self.protocol.next_deadline().is_some_and(|at| at <= self.shared.clock.now());
        if handled > 0 || due {
            self.step(Event::Tick);
        }
        self.serve_when_settled();
        self.fill();
        self.release();
        self.flush();
        let metrics = &self.shared.metrics;
        metrics.held.store(self.held.len() as u64, Ordering::Relaxed);
        metrics.in_flight.store(self.waiting.len() as u64, Ordering::Relaxed);
    }

    /// How long nothing needs to be done; `None`: until something happens.
    fn wait(&self) -> Option<Duration> {
        let settling = self.settling.as_ref().map(|settling| settling.deadline);
        let due = [self.protocol.next_deadline(), self.stop, settling];
        let deadline = due.into_iter().flatten().min()?;
        Some(Duration::from_micros(deadline.saturating_sub(self.shared.clock.now())))
    }

    fn wait_for_disk(&mut self) {
        if let Some((after, _)) = self.held.front() {
            self.runtime.block_on(self.shared.storage.durability().wait_for(*after));
            self.release();
            self.flush();
        }
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Submit { ops, schema, deadline, wall_us, accepted, reply } => {
                if let Some(request) = self.admit(reply) {
                    self.accepting.extend(accepted.map(|accepted| (request, accepted)));
                    let submit = Submit { request, ops, deadline, wall_us, schema };
                    self.step(Event::Submit(submit));
                }
            }
            Input::Read { items, quorum, deadline, reply } => {
                if let Some(request) = self.admit(reply) {
                    self.step(Event::Read(ReadRequest { request, items, quorum, deadline }));
                }
            }
            Input::Session { token, seen, deadline, reply } => {
                if let Some(request) = self.admit(reply) {
                    let session = SessionRequest { request, token, seen, deadline };
                    self.step(Event::Session(session));
                }
            }
            // Whoever asked may be gone.
            Input::Undecided { reply } => drop(reply.send(self.protocol.undecided())),
            Input::Message { from, boot, cfg, message } => {
                if from != self.shared.node {
                    let known = self.peers.get(&from).filter(|known| boot >= known.boot);
                    let Some(known) = known else {
                        self.shared.metrics.stale_messages.increment();
                        return;
                    };
                    self.shared.metrics.received(&message);
                    known.peer.received.count(&message);
                }
                self.step(Event::Message { from, cfg, message });
            }
            Input::Peer { node, boot, up } => self.step(Event::Peer { node, boot, up }),
            Input::Bound { peer, node, boot } => {
                let known = self.peers.insert(node, Known { peer, boot, dirty: false });
                if known.as_ref().is_none_or(|known| known.boot < boot) {
                    // Before its first message: a peer may believe in this server before this one
                    // does in it.
                    self.step(Event::Peer { node, boot, up: false });
                }
                if known.is_none() {
                    self.configure_when_complete();
                }
            }
            Input::Stop { deadline } => {
                self.stop = Some(deadline);
                self.shared.set_state(NodeState::ShuttingDown);
            }
        }
    }

    /// Takes a request on, or refuses it before the machine has seen it.
    fn admit(&mut self, reply: oneshot::Sender<Reply>) -> Option<u64> {
        if self.shared.state() != NodeState::Online {
            let failure =
                Failure { code: ErrorCode::NotReady, item: None, current: None, holder: None };
            // A client that has gone needs no answer.
            reply.send(Reply::Failed(failure)).ok();
            return None;
        }
        let request = self.next_request;
        self.next_request += 1;
        self.waiting.insert(request, reply);
        Some(request)
    }

    fn step(&mut self, event: Event) {
        let mut effects = std::mem::take(&mut self.effects);
        let now = self.shared.clock.now();
        self.protocol.step(now, event, &self.writer, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        self.effects = effects;
        if std::mem::take(&mut self.schema_changed) {
            if self.has_met_everybody() {
                self.configure();
            } else {
                self.read_schema();
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { seq, writes } => {
                // A batch that is not written cannot be answered for, nor taken back in the
                // machine.
                self.writer.apply(seq, &writes).unwrap_or_else(|error| die(&error));
            }
            Effect::Send { to, after, message } => self.hold(after, Out::Send(to, message)),
            Effect::Reply { request, after, reply } => {
                self.hold(after, Out::Reply(request, reply));
            }
            Effect::Note(note) => self.note(&note),
        }
    }

    fn note(&mut self, note: &Note) {
        self.shared.metrics.note(note);
        match note {
            Note::SystemChanged => self.schema_changed = true,
            Note::Corruption { tx, detail } => {
                tracing::error!(%tx, detail, "two servers contradict each other");
            }
            Note::Diverged { item, .. } => tracing::warn!(%item, "kept the local value"),
            Note::Recovering(tx) => tracing::debug!(%tx, "recovering"),
            Note::LeftOnline => {
                tracing::warn!("left behind by a decision log: has to align with a majority");
                self.shared.set_aligning(true);
            }
            Note::BackOnline => {
                tracing::info!("aligned with a majority");
                self.shared.set_aligning(false);
            }
            Note::PassedOver(node) => {
                tracing::warn!(%node, "not waited for any more; it will have to align");
            }
            Note::Committed { .. }
            | Note::Aborted(_)
            | Note::Retried
            | Note::Alignment(_)
            | Note::Lag { .. }
            | Note::Purged { .. } => {}
        }
    }

    /// Lets out what waits for nothing, holds the rest.
    fn hold(&mut self, after: PersistSeq, out: Out) {
        if after == 0 || (self.held.is_empty() && after <= self.durable) {
            self.let_out(out);
        } else {
            self.held.push_back((after, out));
        }
    }

    /// Lets out everything that has become durable.
    fn release(&mut self) {
        self.durable = self.shared.storage.durability().durable();
        while let Some((after, _)) = self.held.front()
            && *after <= self.durable
        {
            if let Some((_, out)) = self.held.pop_front() {
                self.let_out(out);
            }
        }
    }

    fn let_out(&mut self, out: Out) {
        match out {
            Out::Send(to, message) if to == self.shared.node => {
                self.tell_own_vote(&message);
                let (from, boot, cfg) = (to, self.shared.boot, self.cfg);
                self.work.push_back(Input::Message { from, boot, cfg, message });
            }
            Out::Send(to, message) => {
                let Some(known) = self.peers.get_mut(&to) else {
                    tracing::debug!(%to, message = message.name(), "nobody to send to");
                    return;
                };
                let envelope = Envelope { cfg: self.cfg, durable: self.durable, message: &message };
                if known.peer.queue.push(Kind::Message, &envelope) {
                    self.shared.metrics.sent(&message);
                    known.peer.sent.count(&message);
                    known.dirty = true;
                }
            }
            Out::Reply(request, reply) => {
                self.accepting.remove(&request);
                if let Some(client) = self.waiting.remove(&request) {
                    // A client that has gone needs no answer.
                    client.send(reply).ok();
                }
            }
        }
    }

    /// The own vote comes out once it is durable; more is not promised to a client that does not
    /// wait for the outcome.
    fn tell_own_vote(&mut self, message: &Message) {
        if self.accepting.is_empty() {
            return;
        }
        let Message::Vote { tx, reply: VoteReply::Vote(Vote::Yes) } = message else { return };
        let request = self.protocol.request_of(*tx);
        if let Some(accepted) = request.and_then(|request| self.accepting.remove(&request)) {
            accepted.notify_one();
        }
    }

    fn flush(&mut self) {
        for known in self.peers.values_mut().filter(|known| known.dirty) {
            known.dirty = false;
            known.peer.queue.flush(&known.peer.out_bytes);
        }
    }

    /// Once every MASTER was met, ever, the system cluster has a place and the server can serve.
    fn configure_when_complete(&mut self) {
        if !self.has_met_everybody() {
            return;
        }
        self.configure();
        if self.shared.state() == NodeState::Starting {
            let node = self.shared.node;
            let left = self.protocol.undecided().into_iter().filter(|tx| tx.node == node);
            let deadline = self.shared.clock.now() + SETTLE_MAX;
            self.settling = Some(Settling { left: left.collect(), deadline });
            self.serve_when_settled();
        }
    }

    fn has_met_everybody(&self) -> bool {
        self.peers.len() + 1 >= self.shared.members.count()
    }

    fn serve_when_settled(&mut self) {
        let Some(settling) = &mut self.settling else { return };
        let open: BTreeSet<TxId> = self.protocol.undecided().into_iter().collect();
        settling.left.retain(|tx| open.contains(tx));
        let undecided = settling.left.len();
        if undecided > 0 && self.shared.clock.now() < settling.deadline {
            return;
        }
        self.settling = None;
        if undecided > 0 {
            tracing::warn!(undecided, "serving with transactions of earlier boots undecided");
        }
        // It may have been told to stop meanwhile.
        if self.shared.state() == NodeState::Starting {
            self.shared.started();
        }
    }

    /// Goes on filling derived indexes, a little at a time.
    fn fill(&mut self) {
        let Some(filling) = self.filling.pop() else { return };
        let next = self.writer.fill(filling).unwrap_or_else(|error| die(&error));
        self.filling.extend(next);
        if next.is_none() {
            self.shared.changes.send_modify(|changes| *changes += 1);
        }
    }

    /// Reads the schema record again and tells the machine where everything is placed.
    fn configure(&mut self) {
        let schema = self.read_schema();
        // By name, so that all servers have the same order.
        let mut masters: BTreeMap<&str, NodeId> =
            self.peers.iter().map(|(id, known)| (known.peer.name.as_str(), *id)).collect();
        masters.insert(&self.shared.name, self.shared.node);
        let system = SystemPlacement { masters: masters.into_values().collect() };
        let placements = schema.placements(&system);
        let (cfg, clusters) = (self.cfg, placements.len());
        tracing::info!(cfg, clusters, "updated distributed configuration");
        self.warn_of_low_quorums(&schema);
        self.shared.set_schema(schema);
        self.shared.placements.store(Arc::new(placements.clone()));
        self.step(Event::Configure { cfg: self.cfg, placements });
        // Last: whoever is told may count on the machine knowing it too.
        self.shared.changes.send_modify(|changes| *changes += 1);
    }

    /// Says of every database that is new here, at the start of all, what its quorum gives up.
    fn warn_of_low_quorums(&self, schema: &Schema) {
        let before = self.shared.schema.load();
        for database in &schema.databases {
            let is_new = before.databases.iter().all(|other| other.id != database.id);
            let warning = database.write_quorum.warning(schema.masters.len());
            if let Some(warning) = warning.filter(|_| is_new) {
                tracing::warn!(database = database.name, "{warning}");
            }
        }
    }

    /// The schema record as applied here; files records as it says from now on.
    fn read_schema(&mut self) -> Schema {
        let record = self.writer.item(&SCHEMA_ITEM);
        self.cfg = record.as_ref().map_or(0, |record| record.stamp.version);
        let schema = match record.as_ref().and_then(|record| record.image.as_ref()) {
            // A schema that cannot be read leaves no way to know who votes on what.
            Some(image) => Schema::decode(&image.0).unwrap_or_else(|error| {
                tracing::error!(%error, "this server stops rather than guess");
                std::process::abort()
            }),
            None => Schema::default(),
        };
        let filling = self.writer.set_indexes(IndexTable::of(&schema));
        self.filling = filling.unwrap_or_else(|error| die(&error));
        schema
    }
}

#[cfg(test)]
#[path = "node_loop_tests.rs"]
mod tests;
