//! What this server knows of one peer right now: its identity and boot, its two links, whether both
//! directions work. May not open connections.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use quorate_api::{Boot, NodeId};
use quorate_control::servers::Role;
use quorate_protocol::io::Tick;
use tokio::sync::watch;

use super::handshake::{Hello, Refusal};
use super::metrics::LinkBytes;
use super::need::{Need, Use};
use super::own::Own;
use super::queue::OutQueue;
use super::seen::State;
pub(crate) use super::seen::{Current, Direction, Heartbeat};
use crate::clock::micros;
use crate::http::members::{Server, ServerState, Toward};
use crate::runtime::inbox::{Inbox, Input};
use crate::runtime::metrics::PerMessage;
use crate::runtime::storage::{Binding, Durable};

/// How long a neighbour cannot be reached before others are told.
const LOST: Tick = 1_000_000;
/// A sign of life that is due so soon goes with this look at what is due.
const EARLY: Tick = 10_000;
/// Between heartbeats that answer a peer not yet known to be up.
const ANSWER_PAUSE: Tick = 2_000;

/// One other server.
pub(crate) struct Peer {
    /// Its name.
    pub(crate) name: String,
    /// Who it has to be, where that is agreed on.
    expected: Option<NodeId>,
    /// Frames to it.
    pub(crate) queue: OutQueue,
    /// Bytes of the link that this server dials.
    pub(crate) out_bytes: Arc<LinkBytes>,
    /// Bytes of the link that the peer dials.
    pub(crate) in_bytes: Arc<LinkBytes>,
    /// Messages to it.
    pub(crate) sent: PerMessage,
    /// Messages from it.
    pub(crate) received: PerMessage,
    current: watch::Sender<Current>,
    need: Need,
    /// It is asked for what is new of all servers.
    is_asked: AtomicBool,
    state: Mutex<State>,
    inbox: Arc<Inbox>,
    suspect_after: Tick,
    own: Arc<Own>,
}

impl Peer {
    pub(crate) fn new(
        (name, expected): (String, Option<NodeId>),
        binding: Option<Binding>,
        inbox: Arc<Inbox>,
        suspect_after: Tick,
        own: Arc<Own>,
    ) -> Self {
        let mut state = State { binding, binding_stored: true, ..State::default() };
        state.seen = state.look();
        Self {
            name,
            expected,
            queue: OutQueue::default(),
            out_bytes: Arc::default(),
            in_bytes: Arc::default(),
            sent: PerMessage::default(),
            received: PerMessage::default(),
            current: watch::Sender::new(Current::default()),
            need: Need::new(),
            is_asked: AtomicBool::new(true),
            state: Mutex::new(state),
            inbox,
            suspect_after,
            own,
        }
    }

    /// Who it is, once met, ever; and whether it is reachable now.
    pub(crate) fn status(&self) -> (Option<NodeId>, bool) {
        let state = self.lock();
        (state.binding.map(|b| b.node), state.told_up)
    }

    /// The same, where there is no link by what it and its neighbours tell.
    pub(crate) fn presence(&self) -> (Option<NodeId>, bool) {
        let Server { node, state, .. } = self.server(Role::Master);
        (node, matches!(state, ServerState::Is(_)))
    }

    /// It, in its role, with all it told of itself.
    pub(crate) fn server(&self, role: Role) -> Server {
        let (node, binding, seen) = (self.node(), self.binding(), self.state());
        let board = self.own.board();
        let told = |node| board.bulletin(node, binding.map(|binding| binding.boot));
        // This one may have started after that one stopped.
        let has_left = binding.is_some_and(|binding| board.has_left(binding.node, binding.boot));
        let seen = match seen {
            Some(ServerState::NotAvailable) if has_left => Some(ServerState::Offline),
            seen => seen,
        };
        Server {
            name: self.name.clone(),
            node,
            role,
            state: seen.or_else(|| Some(board.state(node?))).unwrap_or_default(),
            is_heard: node.is_some_and(|node| board.is_heard(node)),
            bulletin: node.and_then(told),
            received: self.received.by_name().collect(),
        }
    }

    /// Whether it is the one to tell this server what is new of all servers. Who is asked anew
    /// has everything to tell, and is told everything. True when it is asked anew.
    pub(super) fn ask_for_news(&self, ask: bool) -> bool {
        let changes = self.is_asked.swap(ask, Ordering::AcqRel) != ask;
        if changes {
            self.lock().told = 0;
        }
        changes && ask
    }

    /// How it is seen from here; `None`: there is no link, and none is needed, which says nothing.
    pub(crate) fn state(&self) -> Option<ServerState> {
        let state = self.lock();
        (state.told_up || self.need.is_always()).then(|| state.look())
    }

    /// What the link with it is for.
    pub(crate) fn set_use(&self, usage: Use, now: Tick) {
        self.need.set_use(usage);
        self.need.look(now);
    }

    /// True when the link with it is one that is always kept.
    pub(crate) fn is_always_linked(&self) -> bool {
        self.need.is_always()
    }

    /// A link with it is needed for a while.
    pub(crate) fn demand(&self, now: Tick) {
        self.need.demand(now);
    }

    /// Watches whether a link is needed.
    pub(super) fn wanted(&self) -> watch::Receiver<bool> {
        self.need.wanted()
    }

    /// True when it has a right to a sign of life by now.
    pub(super) fn is_due(&self, now: Tick) -> bool {
        let (_, every) = self.need.patience(self.suspect_after);
        let state = self.lock();
        state.out.is_some() && now.saturating_sub(state.last_heartbeat) + EARLY >= micros(every)
    }

    /// True when a sign of life every now and then is enough.
    pub(super) fn is_calm(&self) -> bool {
        self.need.patience(0).1 > super::HEARTBEAT || self.lock().out.is_none()
    }

    /// What this server has to do with it.
    pub(crate) fn toward(&self) -> Toward {
        Toward { latency: self.lock().latency, messages: self.sent.total() }
    }

    /// Who it is, as far as that is known.
    pub(crate) fn node(&self) -> Option<NodeId> {
        self.binding().map(|binding| binding.node).or(self.expected)
    }

    /// It is no peer any more: its links end, and the loop forgets it.
    pub(crate) fn retire(&self) {
        let mut state = self.lock();
        self.set_up(&mut state, false);
        if let Some(binding) = state.binding {
            self.inbox.push_control(Input::Unbound { node: binding.node });
        }
        // A sign of life may just be on its way in.
        state.retired = true;
        drop(state);
        self.current.send_modify(|current| current.retired = true);
    }

    /// What is remembered of it.
    pub(crate) fn binding(&self) -> Option<Binding> {
        self.lock().binding
    }

    /// Judges an introduction against what is remembered. Nothing changes yet.
    pub(crate) fn judge(&self, hello: &Hello) -> Result<Binding, Refusal> {
        let state = self.lock();
        if self.expected.is_some_and(|expected| expected != hello.node) {
            return Err(Refusal::OtherIdentity);
        }
        let Some(known) = state.binding else {
            let (node, boot, process) = (hello.node, hello.boot, hello.process);
            return Ok(Binding { node, boot, process, durable: hello.started_with });
        };
        if known.node != hello.node {
            return Err(Refusal::OtherIdentity);
        }
        if hello.boot < known.boot {
            return Err(Refusal::ClosedBoot);
        }
        if hello.boot == known.boot {
            return if hello.process == known.process { Ok(known) } else { Err(Refusal::Twin) };
        }
        if hello.started_with < known.durable {
            return Err(Refusal::LostData);
        }
        Ok(Binding {
            boot: hello.boot,
            process: hello.process,
            durable: hello.started_with,
            ..known
        })
    }

    /// Takes over a judged introduction, already remembered durably. A new boot closes the links of
    /// the old one.
    pub(crate) fn bind(self: &Arc<Self>, binding: Binding) {
        let mut state = self.lock();
        if state.retired {
            return;
        }
        let known = state.binding.replace(binding);
        state.binding_stored = true;
        if known.is_none_or(|known| known.boot != binding.boot) {
            if state.told_up {
                state.told_up = false;
                self.tell(&known.unwrap_or(binding), false);
            }
            *state = State {
                binding: state.binding,
                binding_stored: true,
                latency: state.latency,
                seen: state.seen,
                ..State::default()
            };
        }
        if known.is_none() {
            // That it was met is said elsewhere.
            state.seen = state.look();
        }
        self.show(&mut state);
        let (node, boot) = (binding.node, binding.boot);
        self.inbox.push_control(Input::Bound { peer: self.clone(), node, boot });
        drop(state);
        self.current.send_if_modified(|current| {
            let newer = current.boot < boot;
            current.boot = current.boot.max(boot);
            newer
        });
    }

    /// Watches which connections may go on.
    pub(crate) fn current(&self) -> watch::Receiver<Current> {
        self.current.subscribe()
    }

    /// A direction is linked. A relink is told to the machine as down and up, because messages may
    /// be lost. To be called before anything is sent or read on the link, so that the machine hears
    /// of it before the peer's messages.
    pub(crate) fn link_up(&self, direction: Direction, now: Tick) {
        let mut state = self.lock();
        match direction {
            Direction::Out => {
                state.out = Some(now);
                // What was under way on the link before may be lost.
                state.told = 0;
            }
            Direction::In => {
                state.inward = Some(now);
                // Until it says otherwise.
                self.need.set_theirs(true, now);
            }
        }
        if state.linked_since().is_some() {
            state.lost = None;
        }
        self.set_up(&mut state, false);
    }

    /// Takes a number for a connection from the peer; earlier ones end.
    pub(crate) fn next_inward(&self) -> u64 {
        let mut number = 0;
        self.current.send_modify(|current| {
            current.inward += 1;
            number = current.inward;
        });
        number
    }

    /// A direction is lost. `inward` is the connection's number: a replaced one changes nothing.
    pub(crate) fn link_down(&self, direction: Direction, inward: u64, now: Tick) {
        let mut state = self.lock();
        match direction {
            Direction::Out => state.out = None,
            Direction::In if self.current.borrow().inward == inward => {
                state.inward = None;
                self.need.set_theirs(false, now);
            }
            Direction::In => return,
        }
        state.lost = Some(now);
    }

    /// A sign of life came in, on a link with this boot.
    pub(crate) fn heard(&self, heartbeat: Heartbeat, boot: Boot, now: Tick) {
        let mut state = self.lock();
        // Links of a boot that is over may still be read from, and its ticks are higher than those
        // of the new one.
        if state.binding.is_none_or(|binding| binding.boot != boot) {
            return;
        }
        if heartbeat.sent >= state.heard {
            // Two of them may come in the wrong order.
            state.said = Some(heartbeat.state);
            self.need.set_theirs(heartbeat.needs, now);
        }
        if heartbeat.sent > state.heard {
            (state.heard, state.heard_at) = (heartbeat.sent, now);
        }
        // A later tick than now was sent by an earlier process of this server.
        if heartbeat.echo <= now && heartbeat.echo > state.echo {
            state.echo = heartbeat.echo;
            state.latency.add((now - heartbeat.echo).saturating_sub(heartbeat.held));
        }
        if !std::mem::replace(&mut state.asks, heartbeat.asks) && heartbeat.asks {
            state.told = 0;
        }
        let from = state.binding.map(|binding| binding.node);
        if !heartbeat.news.is_empty() {
            self.own.learn(heartbeat.news, from);
        }
        self.evaluate_locked(&mut state, now);
        // The clock is read before the lock is had: another thread may have sent at a later tick.
        let pause = now.saturating_sub(state.last_heartbeat);
        let answer = !state.told_up && pause >= ANSWER_PAUSE;
        drop(state);
        if answer {
            self.heartbeat(now);
        }
    }

    /// The peer says how far its disk is.
    pub(crate) fn saw_durable(&self, durable: Durable) {
        let mut state = self.lock();
        if let Some(binding) = &mut state.binding
            && binding.durable < durable
        {
            binding.durable = durable;
            state.binding_stored = false;
        }
    }

    /// A binding that changed since the last call, to be stored.
    pub(crate) fn unstored(&self) -> Option<Binding> {
        let mut state = self.lock();
        let stored = std::mem::replace(&mut state.binding_stored, true);
        if stored { None } else { state.binding }
    }

    /// Sends a sign of life.
    pub(crate) fn heartbeat(&self, now: Tick) {
        let mut state = self.lock();
        state.last_heartbeat = now;
        let asks = self.is_asked.load(Ordering::Acquire);
        let (before, node) = (state.told, state.binding.map(|binding| binding.node));
        let mut board = self.own.board();
        board.pass(now);
        // Who neither asks nor is asked stands elsewhere in the tree.
        let shares = (asks || state.asks) && state.out.is_some();
        let (news, told) = if shares { board.news(before, node) } else { (Vec::new(), before) };
        drop(board);
        state.told = told;
        let heartbeat = Heartbeat {
            sent: now,
            echo: state.heard,
            held: now.saturating_sub(state.heard_at),
            needs: self.need.is_own(now),
            state: self.own.state(),
            asks,
            news,
        };
        drop(state);
        if !self.queue.push_heartbeat(&heartbeat) {
            // A new link may have begun to tell everything meanwhile.
            let mut state = self.lock();
            state.told = state.told.min(before);
        }
        self.queue.flush(&self.out_bytes);
    }

    /// Tells the machine when reachability has changed.
    pub(crate) fn evaluate(&self, now: Tick) {
        self.need.look(now);
        self.evaluate_locked(&mut self.lock(), now);
    }

    fn evaluate_locked(&self, state: &mut State, now: Tick) {
        let (suspect_after, _) = self.need.patience(self.suspect_after);
        let up = state.is_up(now, suspect_after);
        self.set_up(state, up);
        self.tell_lost(state, now);
    }

    /// Others are told of a neighbour that cannot be reached for a while.
    fn tell_lost(&self, state: &mut State, now: Tick) {
        let Some(binding) = state.binding.filter(|_| !state.told_up && self.need.is_always())
        else {
            state.down = None;
            return;
        };
        let since = *state.down.get_or_insert(now);
        // Again and again: what it said last may come from others only now.
        if now.saturating_sub(since) >= LOST {
            self.own.board().lose(binding.node, binding.boot);
        }
    }

    fn set_up(&self, state: &mut State, up: bool) {
        if let Some(binding) = state.binding
            && state.told_up != up
            && !state.retired
        {
            state.told_up = up;
            self.tell(&binding, up);
        }
        self.show(state);
    }

    /// Says in the log how the peer is seen, when that has changed.
    fn show(&self, state: &mut State) {
        let seen = state.look();
        // A link that ends because nobody needs it says nothing.
        let is_known = state.told_up || self.need.is_always();
        if is_known && std::mem::replace(&mut state.seen, seen) != seen {
            tracing::info!("updated status of node '{}' to '{}'", self.name, seen.name());
        }
    }

    /// Under the state's lock, so that the machine hears of changes in their order.
    fn tell(&self, binding: &Binding, up: bool) {
        let state = if up { "up" } else { "down" };
        if self.need.is_always() {
            tracing::info!(peer = self.name, boot = binding.boot.0, "peer {state}");
        } else {
            tracing::debug!(peer = self.name, boot = binding.boot.0, "peer {state}");
        }
        self.inbox.push_control(Input::Peer { node: binding.node, boot: binding.boot, up });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
