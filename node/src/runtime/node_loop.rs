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

use quorate_api::{Boot, ErrorCode, NodeId};
use quorate_control::plane::Event as ControlEvent;
use quorate_protocol::io::{
    Choose, Dismiss, Effect, Event, Failure, Note, PersistSeq, ReadRequest, Reply, Report,
    SessionRequest, Submit,
};
use quorate_protocol::message::{Message, Vote, VoteReply};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use super::conflicts::{no_winner, tell_of_dropped};
use super::control::{Control, Foundation};
use super::copies;
use super::deployment::Deployment;
use super::inbox::Input;
use super::leaving::Leaving;
use super::link::frame::Kind;
use super::link::{Envelope, Peer};
use super::protocol::Protocol;
use super::settling::Settling;
use super::shared::Shared;
use super::storage::{Filling, Writer, die};

/// Inputs handled between two ticks of the machine, so that acknowledgements are not put off for
/// ever.
const BATCH_MAX: usize = 256;
/// Effects waiting for the disk; when full, the loop takes no inputs until the disk got further,
/// the inbox fills, links stop reading and clients are refused.
const HELD_MAX: usize = 65_536;

/// Something that leaves the machine or the control plane.
pub(super) enum Out {
    Send(NodeId, Message),
    Control(NodeId, Vec<u8>),
    Report(Report),
    Reply(u64, Reply),
    /// What was copied of a database is here to stay.
    Installed(Deployment),
}

/// A peer whose identity is known.
pub(super) struct Known {
    pub(super) peer: Arc<Peer>,
    pub(super) boot: Boot,
    /// Frames were queued since the last flush.
    pub(super) dirty: bool,
}

/// The loop's state.
pub(crate) struct NodeLoop<P> {
    pub(super) shared: Arc<Shared>,
    runtime: Handle,
    pub(super) protocol: P,
    pub(super) writer: Writer,
    pub(super) peers: BTreeMap<NodeId, Known>,
    /// What the control plane will be made from.
    pub(super) foundation: Option<Foundation>,
    pub(super) control: Option<Control>,
    /// For the control plane, at the end of the turn: it may change the configuration.
    pub(super) reports: Vec<Report>,
    /// Servers that something was to be sent to since the last flush, and that have no link.
    pub(super) wanted: BTreeSet<NodeId>,
    pub(super) cfg: u64,
    work: VecDeque<Input>,
    effects: Vec<Effect>,
    held: VecDeque<(PersistSeq, Out)>,
    pub(super) durable: PersistSeq,
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
    /// Who of them wants to know as soon as this server has voted for its transaction, durably.
    accepting: HashMap<u64, Arc<Notify>>,
    next_request: u64,
    /// Derived indexes that do not hold everything yet.
    pub(super) filling: Vec<Filling>,
    /// Schema whose indexes records are filed in.
    pub(super) filed: Option<u64>,
    /// It was told to stop, or that it will be.
    pub(super) leaving: Option<Leaving>,
    /// What is waited for before this server serves.
    pub(super) settling: Option<Settling>,
    /// The database that is copied to this server.
    deployment: Option<Deployment>,
}

impl<P: Protocol> NodeLoop<P> {
    pub(crate) fn new(
        shared: Arc<Shared>,
        runtime: Handle,
        protocol: P,
        writer: Writer,
        foundation: Foundation,
    ) -> Self {
        Self {
            shared,
            runtime,
            protocol,
            writer,
            peers: BTreeMap::new(),
            foundation: Some(foundation),
            control: None,
            reports: Vec::new(),
            wanted: BTreeSet::new(),
            cfg: 0,
            work: VecDeque::new(),
            effects: Vec::new(),
            held: VecDeque::new(),
            durable: 0,
            waiting: HashMap::new(),
            accepting: HashMap::new(),
            next_request: 1,
            filling: Vec::new(),
            filed: None,
            leaving: None,
            settling: None,
            deployment: None,
        }
    }

    /// Runs until it is told to stop and nobody waits any more, or the time for that is over.
    pub(crate) fn run(mut self) {
        self.found_when_complete();
        while !self.is_done() {
            self.turn();
        }
        self.say_goodbye();
    }

    /// Requests of clients that wait for their answers.
    pub(super) fn unanswered(&self) -> usize {
        self.waiting.len()
    }

    /// Lets out all that waits for the disk, if that gets so far in time.
    pub(super) fn let_everything_out(&mut self, patience: Duration) {
        if let Some((last, _)) = self.held.back() {
            let durable = self.shared.storage.durability().wait_for(*last);
            let waiting = async { tokio::time::timeout(patience, durable).await };
            // What is not durable by then stays here, and others ask for it.
            self.runtime.block_on(waiting).ok();
        }
        self.release();
        self.flush();
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
        self.turn_control();
        let due = self.protocol.next_deadline().is_some_and(|at| at <= self.shared.clock.now());
        if handled > 0 || due {
            self.step(Event::Tick);
        }
        self.serve_when_settled();
        self.turn_leaving();
        self.fill();
        self.release();
        self.flush();
        let metrics = &self.shared.metrics;
        metrics.held.store(self.held.len() as u64, Ordering::Relaxed);
        metrics.in_flight.store(self.waiting.len() as u64, Ordering::Relaxed);
        metrics.unmerged.store(self.protocol.diverged(), Ordering::Relaxed);
        metrics.lost.set(self.protocol.lost());
    }

    /// How long nothing needs to be done; `None`: until something happens.
    fn wait(&self) -> Option<Duration> {
        let settling = self.settling.as_ref().map(|settling| settling.deadline);
        let control = self.control.as_ref().map(Control::next_tick);
        let leaving = self.patience().or(self.end_by());
        let due = [self.protocol.next_deadline(), leaving, settling, control];
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
            Input::Choose { item, winner, deadline, reply } => {
                if let Some(request) = self.admit(reply) {
                    self.step(Event::Choose(Choose { request, item, winner, deadline }));
                }
            }
            Input::Dismiss { contents, reply } => {
                if let Some(request) = self.admit(reply) {
                    self.step(Event::Dismiss(Dismiss { request, contents }));
                }
            }
            Input::Compare { clusters } => self.step(Event::Compare { clusters }),
            Input::Surveyed { number, leaves } => {
                self.step(Event::Surveyed { number, leaves });
            }
            // Whoever asked may be gone.
            Input::Undecided { reply } => drop(reply.send(self.protocol.undecided())),
            Input::Message { from, boot, cfg, message } => {
                if self.takes(from, boot, &message) {
                    self.step(Event::Message { from, cfg, message });
                }
            }
            Input::Peer { node, boot, up } => {
                self.step(Event::Peer { node, boot, up });
                self.step_control(ControlEvent::Peer { node, up });
            }
            Input::Bound { peer, node, boot } => {
                let known = self.peers.insert(node, Known { peer, boot, dirty: false });
                if known.as_ref().is_none_or(|known| known.boot < boot) {
                    // Before its first message: a peer may believe in this server before this one
                    // does in it.
                    self.step(Event::Peer { node, boot, up: false });
                }
                if known.is_none() {
                    self.found_when_complete();
                }
            }
            Input::Unbound { node } => {
                self.peers.remove(&node);
                self.step_control(ControlEvent::Peer { node, up: false });
            }
            input @ (Input::Control { .. }
            | Input::Propose { .. }
            | Input::CatchUp { .. }
            | Input::GiveUp { .. }) => self.handle_control(input),
            Input::Leave { patience, left } => self.leave(patience, left),
            Input::Stop { deadline } => self.end(deadline),
        }
    }

    /// Messages of a boot that has ended are not for the machine.
    fn takes(&self, from: NodeId, boot: Boot, message: &Message) -> bool {
        if from == self.shared.node {
            return true;
        }
        let Some(known) = self.peers.get(&from).filter(|known| boot >= known.boot) else {
            self.shared.metrics.stale_messages.increment();
            return false;
        };
        self.shared.metrics.received(message);
        known.peer.received.count(message);
        true
    }

    /// Takes a request on, or refuses it before the machine has seen it.
    fn admit(&mut self, reply: oneshot::Sender<Reply>) -> Option<u64> {
        if !self.shared.is_serving() {
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

    pub(super) fn step(&mut self, event: Event) {
        let mut effects = std::mem::take(&mut self.effects);
        let now = self.shared.clock.now();
        self.protocol.step(now, event, &self.writer, &mut effects);
        let is_copied = effects.iter().any(|e| matches!(e, Effect::Note(Note::AllCopied)));
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        self.effects = effects;
        if is_copied && let Some(complete) = self.deployment.take() {
            // The last of it is among what was just written.
            self.hold(self.writer.ticket(), Out::Installed(complete));
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { seq, writes } => {
                // A batch that is not written cannot be answered for, nor taken back in the
                // machine.
                self.writer.apply(seq, &writes).unwrap_or_else(|error| die(&error));
            }
            Effect::Send { to, after, message } => {
                self.hold(self.writer.ticket_of(after), Out::Send(to, message));
            }
            Effect::Copy { to, part } => {
                if let Some(known) = self.peers.get(&to) {
                    let to = copies::To { node: to, peer: known.peer.clone(), cfg: self.cfg };
                    copies::send(&self.shared, &self.runtime, to, part);
                }
            }
            Effect::Survey { number, survey } => {
                copies::survey(&self.shared, &self.runtime, number, survey);
            }
            Effect::Reply { request, after, reply } => {
                self.hold(self.writer.ticket_of(after), Out::Reply(request, reply));
            }
            Effect::Note(note) => self.note(&note),
            Effect::Report { after, report } => {
                self.hold(self.writer.ticket_of(after), Out::Report(report));
            }
        }
    }

    fn note(&mut self, note: &Note) {
        self.shared.metrics.note(note);
        match note {
            Note::Corruption { tx, detail } => {
                tracing::error!(%tx, detail, "two servers contradict each other");
            }
            Note::Diverged { item, .. } => tracing::warn!(%item, "kept the local value"),
            Note::Merged { item, by } => tracing::info!(%item, by, "made all copies equal"),
            Note::NoWinner { item, groups } => {
                let text = no_winner(item, groups, |node| self.shared.name_of(node));
                tracing::warn!("{text}");
            }
            Note::LostDropped { is_first, .. } => tell_of_dropped(*is_first),
            Note::Recovering(tx) => tracing::debug!(%tx, "recovering"),
            Note::LeftOnline => {
                tracing::warn!("left behind by a decision log: has to align with a majority");
                self.shared.set_aligning(true);
            }
            Note::BackOnline => {
                tracing::info!("aligned with a majority");
                self.shared.set_aligning(false);
            }
            Note::Copied { part, .. } => {
                let complete = Deployment::chunk(&mut self.deployment, &self.shared, part);
                if let Some(complete) = complete {
                    self.hold(self.writer.ticket(), Out::Installed(complete));
                }
            }
            Note::Damaged(node) => {
                tracing::error!(%node, "a chunk holds other items than were read at its source");
            }
            Note::PassedOver(node) => {
                tracing::warn!(%node, "not waited for any more; it will have to align");
            }
            Note::AllCopied
            | Note::Committed { .. }
            | Note::Aborted(_)
            | Note::Retried
            | Note::Alignment(_)
            | Note::Lag { .. }
            | Note::Dropped { .. }
            | Note::Purged { .. } => {}
        }
    }

    /// Lets out what waits for nothing, holds the rest.
    pub(super) fn hold(&mut self, after: PersistSeq, out: Out) {
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
                let envelope = Envelope { cfg: self.cfg, durable: self.durable, message: &message };
                if let Some(known) = self.peers.get_mut(&to)
                    && known.peer.queue.push(Kind::Message, &envelope)
                {
                    self.shared.metrics.sent(&message);
                    known.peer.sent.count(&message);
                    known.dirty = true;
                } else {
                    tracing::debug!(%to, message = message.name(), "nobody to send to");
                    self.wanted.insert(to);
                }
            }
            Out::Report(report) => self.reports.push(report),
            Out::Installed(complete) => {
                complete.installed(&self.shared);
                if self.deployment.is_none() {
                    Deployment::unpublish(&self.shared);
                }
            }
            Out::Control(to, bytes) => self.send_control(to, &bytes),
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
        if let Some(links) = &self.shared.links
            && !self.wanted.is_empty()
        {
            links.demand(&std::mem::take(&mut self.wanted));
        }
        for known in self.peers.values_mut().filter(|known| known.dirty) {
            known.dirty = false;
            known.peer.queue.flush(&known.peer.out_bytes);
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
}

#[cfg(test)]
#[path = "node_loop_tests.rs"]
mod tests;
