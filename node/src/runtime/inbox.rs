//! The one queue into the loop: closed set of inputs, bounded, emptied in one go. May not know what
//! becomes of an input.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use quorate_api::{Boot, ClusterKey, ItemId, NodeId, Stamp, TxId};
use quorate_control::command::Command;
use quorate_control::plane::Answer;
use quorate_protocol::conflict::Dismissed;
use quorate_protocol::io::{Proposal, ReadQuorum, Reply, SessionToken, Tick};
use quorate_protocol::message::Message;
use quorate_protocol::survey::Leaves;
use tokio::sync::{Notify, oneshot};

use super::link::Peer;

/// Messages waiting for the loop; when full, the links stop reading and TCP pushes back to the
/// sender.
const MESSAGES_MAX: usize = 8_192;

/// Everything that can happen to the loop.
pub(crate) enum Input {
    /// A client's transaction.
    Submit {
        ops: Vec<Proposal>,
        schema: u64,
        deadline: Tick,
        wall_us: u64,
        /// Told when this server has voted for it, durably.
        accepted: Option<Arc<Notify>>,
        reply: oneshot::Sender<Reply>,
    },
    /// A client's read from several MASTERs.
    Read { items: Vec<ItemId>, quorum: ReadQuorum, deadline: Tick, reply: oneshot::Sender<Reply> },
    /// Somebody chose which content of an item shall be the one.
    Choose { item: ItemId, winner: Stamp, deadline: Tick, reply: oneshot::Sender<Reply> },
    /// Somebody has looked at contents that have lost.
    Dismiss { contents: Dismissed, reply: oneshot::Sender<Reply> },
    /// Somebody wants clusters compared.
    Compare { clusters: Vec<ClusterKey> },
    /// Which transactions have a vote and no outcome here?
    Undecided { reply: oneshot::Sender<Vec<TxId>> },
    /// A session's question whether this server has caught up.
    Session {
        token: SessionToken,
        seen: Vec<(ItemId, Stamp)>,
        deadline: Tick,
        reply: oneshot::Sender<Reply>,
    },
    /// A message, from a peer in one of its boots or from this server itself.
    Message { from: NodeId, boot: Boot, cfg: u64, message: Message },
    /// A cluster was read for its digests.
    Surveyed { number: u64, leaves: Leaves },
    /// A message of the control plane, from a peer in one of its boots.
    Control { from: NodeId, boot: Boot, bytes: Vec<u8> },
    /// A client's command for the control plane. The client made the number up.
    Propose { request: u64, command: Box<Command>, reply: oneshot::Sender<Answer> },
    /// A client wants this server to know everything decided by the control plane before.
    CatchUp { request: u64, reply: oneshot::Sender<Answer> },
    /// A client of the control plane waits no longer.
    GiveUp { request: u64 },
    /// A peer became reachable, or stopped being so.
    Peer { node: NodeId, boot: Boot, up: bool },
    /// It is known which server stands behind a name, and in which boot it is.
    Bound { peer: Arc<Peer>, node: NodeId, boot: Boot },
    /// That server is no peer any more.
    Unbound { node: NodeId },
    /// No new requests; say when the clusters of this server are with others. Running ones are
    /// waited for until `patience` before that is asked for.
    Leave { patience: Tick, left: oneshot::Sender<()> },
    /// End when the running ones are answered, or at the deadline.
    Stop { deadline: Tick },
}

/// The queue was full, or the loop has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushError {
    /// Too many requests wait.
    Full,
    /// Nobody will look at it any more.
    Closed,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Input>,
    clients: usize,
    messages: usize,
    bytes: usize,
    signalled: bool,
    waiting: bool,
    closed: bool,
}

/// The queue.
pub(crate) struct Inbox {
    /// Client requests waiting for the loop; when full, the next is refused with `Overload`.
    clients_max: usize,
    /// Bytes of messages waiting for the loop; same consequence as of [`MESSAGES_MAX`].
    bytes_max: usize,
    state: Mutex<State>,
    wake: Condvar,
    space: Notify,
}

impl Inbox {
    /// An empty queue that takes so many clients' requests, and messages up to one more than so
    /// many bytes.
    pub(crate) fn new(clients_max: usize, bytes_max: usize) -> Self {
        let (state, wake, space) = (Mutex::default(), Condvar::new(), Notify::new());
        Self { clients_max, bytes_max, state, wake, space }
    }

    fn has_space(&self, state: &State) -> bool {
        state.messages < MESSAGES_MAX && state.bytes < self.bytes_max
    }

    /// Puts a client's request in, unless too many wait already.
    pub(crate) fn push_client(&self, input: Input) -> Result<(), PushError> {
        let mut state = self.lock();
        if state.closed {
            return Err(PushError::Closed);
        }
        if state.clients >= self.clients_max {
            return Err(PushError::Full);
        }
        state.clients += 1;
        state.queue.push_back(input);
        self.notify(state);
        Ok(())
    }

    /// Puts messages of together `bytes` in, waiting for space.
    pub(crate) async fn push_messages(&self, inputs: &mut Vec<Input>, bytes: usize) {
        loop {
            let space = self.space.notified();
            tokio::pin!(space);
            // Registered before looking, so that space made in between is not missed.
            space.as_mut().enable();
            if self.offer(inputs, bytes) {
                return;
            }
            space.await;
        }
    }

    fn offer(&self, inputs: &mut Vec<Input>, bytes: usize) -> bool {
        let mut state = self.lock();
        if state.closed {
            inputs.clear();
            return true;
        }
        if !self.has_space(&state) {
            return false;
        }
        state.messages += inputs.len();
        state.bytes += bytes;
        state.queue.extend(inputs.drain(..));
        self.notify(state);
        true
    }

    /// Puts in what is rare and must not be lost. Bounded by the number of peers and their changes.
    pub(crate) fn push_control(&self, input: Input) {
        let mut state = self.lock();
        if !state.closed {
            state.queue.push_back(input);
            self.notify(state);
        }
    }

    /// Wakes the loop although nothing is in the queue: the disk has got further.
    pub(crate) fn signal(&self) {
        let mut state = self.lock();
        state.signalled = true;
        self.notify(state);
    }

    /// Moves everything to `into`, at first waiting for an input or a signal, at most for `wait`
    /// (`None`: for ever).
    pub(crate) fn take(&self, into: &mut VecDeque<Input>, wait: Option<Duration>) {
        let mut state = self.lock();
        if state.queue.is_empty() && !state.signalled {
            state.waiting = true;
            state = match wait {
                Some(wait) => match self.wake.wait_timeout(state, wait) {
                    Ok((state, _)) => state,
                    Err(poisoned) => poisoned.into_inner().0,
                },
                None => self.wake.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner()),
            };
            state.waiting = false;
        }
        state.signalled = false;
        if into.is_empty() {
            std::mem::swap(&mut state.queue, into);
        } else {
            into.append(&mut state.queue);
        }
        let was_full = !self.has_space(&state);
        (state.clients, state.messages, state.bytes) = (0, 0, 0);
        drop(state);
        if was_full {
            self.space.notify_waiters();
        }
    }

    /// Refuses everything from now on; what is queued is dropped.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.queue.clear();
        drop(state);
        self.space.notify_waiters();
    }

    /// Bytes of messages waiting now.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Inputs waiting now.
    pub(crate) fn len(&self) -> usize {
        self.lock().queue.len()
    }

    fn notify(&self, state: MutexGuard<'_, State>) {
        // Waking costs a system call; a loop that is busy looks into the queue by itself.
        let waiting = state.waiting;
        drop(state);
        if waiting {
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENTS: usize = 16;
    const BYTES: usize = 1 << 20;

    fn message() -> Input {
        let message = Message::Low { seq: 1 };
        Input::Message { from: NodeId(1), boot: Boot(1), cfg: 0, message }
    }

    #[tokio::test]
    async fn a_full_inbox_holds_links_back_until_it_is_emptied() {
        let inbox = Arc::new(Inbox::new(CLIENTS, BYTES));
        let mut batch: Vec<Input> = (0..MESSAGES_MAX).map(|_| message()).collect();
        inbox.push_messages(&mut batch, 0).await;
        let pushing = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.push_messages(&mut vec![message()], 1).await }
        });
        tokio::task::yield_now().await;
        assert_eq!(inbox.len(), MESSAGES_MAX);
        let mut work = VecDeque::new();
        inbox.take(&mut work, None);
        assert_eq!(work.len(), MESSAGES_MAX);
        pushing.await.unwrap();
        assert_eq!(inbox.len(), 1);
    }

    #[tokio::test]
    async fn many_bytes_count_like_many_messages() {
        let inbox = Inbox::new(CLIENTS, BYTES);
        inbox.push_messages(&mut vec![message()], BYTES).await;
        assert!(!inbox.offer(&mut vec![message()], 1));
    }

    #[test]
    fn clients_are_refused_when_too_many_wait() {
        let inbox = Inbox::new(CLIENTS, BYTES);
        let read = || Input::Read {
            items: vec![],
            quorum: ReadQuorum::Majority,
            deadline: 0,
            reply: oneshot::channel().0,
        };
        for _ in 0..CLIENTS {
            inbox.push_client(read()).unwrap();
        }
        assert_eq!(inbox.push_client(read()), Err(PushError::Full));
        inbox.close();
        assert_eq!(inbox.push_client(read()), Err(PushError::Closed));
    }

    #[test]
    fn a_signal_given_before_the_wait_is_not_lost() {
        let inbox = Inbox::new(CLIENTS, BYTES);
        inbox.signal();
        inbox.take(&mut VecDeque::new(), None);
    }
}
