//! Frames on their way to one peer: a bounded buffer that the loop fills and flushes, and a task
//! that finishes what the socket did not take at once. May not wait for a peer, ever.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::frame::{self, FrameError, Kind};
use super::metrics::LinkBytes;
use super::seen::Heartbeat;

/// Frames waiting for a peer; when full, the next is dropped and counted: the protocol sends again.
pub(crate) const QUEUE_FRAMES_MAX: usize = 16_384;
/// Most of their bytes with which another is taken; same consequence.
const WAITING_MOST: usize = 16 << 20;
/// Least of them, however many peers there are: less would be lost as soon as a peer is slow.
const WAITING_LEAST: usize = 256 << 10;
/// Space that an empty buffer may keep.
const KEEP_BYTES: usize = 1 << 20;

/// What all queues may hold together: each linked peer has the same share, so that one that does
/// not read takes nothing from the others.
#[derive(Debug)]
pub(crate) struct Room {
    bytes: usize,
    linked: AtomicUsize,
}

impl Room {
    /// Room for so many bytes.
    pub(crate) const fn new(bytes: usize) -> Self {
        Self { bytes, linked: AtomicUsize::new(0) }
    }

    /// Bytes that may wait for one peer when another frame is to be taken.
    fn share(&self) -> usize {
        // A buffer that grows takes up to twice its content.
        let share = self.bytes / 2 / self.linked.load(Ordering::Relaxed).max(1);
        share.clamp(WAITING_LEAST, WAITING_MOST)
    }
}

impl Default for Room {
    /// For tests of what is no matter of room.
    fn default() -> Self {
        Self::new(2 * WAITING_MOST)
    }
}

#[derive(Default)]
struct State {
    stream: Option<Arc<TcpStream>>,
    /// What both ends of the link speak.
    version: u16,
    buffer: Vec<u8>,
    /// Bytes of the buffer that the socket has taken.
    taken: usize,
    /// Where in the buffer the frames end that are not taken completely.
    ends: VecDeque<usize>,
}

impl State {
    /// There is a link, and not too much waits for it already.
    fn has_room(&self, share: usize) -> bool {
        self.stream.is_some()
            && self.ends.len() < QUEUE_FRAMES_MAX
            && self.buffer.len() - self.taken < share
    }
}

/// What became of a flush.
enum Flushed {
    All,
    Blocked(Arc<TcpStream>),
    Broken(io::Error),
    Detached,
}

/// The queue to one peer.
pub(crate) struct OutQueue {
    room: Arc<Room>,
    state: Mutex<State>,
    wake: Notify,
    dropped: AtomicU64,
}

impl Drop for OutQueue {
    fn drop(&mut self) {
        self.detach();
    }
}

impl OutQueue {
    /// An empty queue without a link.
    pub(crate) fn new(room: Arc<Room>) -> Self {
        let (state, wake, dropped) = (Mutex::default(), Notify::new(), AtomicU64::new(0));
        Self { room, state, wake, dropped }
    }

    /// Appends a frame; false when it was dropped because there is no link or too much waits
    /// already.
    pub(crate) fn push<T: Serialize>(&self, kind: Kind, value: &T) -> bool {
        self.append(kind, |buffer, _| frame::append(buffer, kind, value))
    }

    /// Appends a sign of life, in the shape that the other end knows; false like for
    /// [`Self::push`].
    pub(crate) fn push_heartbeat(&self, heartbeat: &Heartbeat) -> bool {
        self.append(Kind::Heartbeat, |buffer, version| heartbeat.append(buffer, version))
    }

    fn append(
        &self,
        kind: Kind,
        write: impl FnOnce(&mut Vec<u8>, u16) -> Result<(), FrameError>,
    ) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        if !state.has_room(self.room.share()) {
            // A missing sign of life is no loss; a message is one, and worth counting.
            self.dropped.fetch_add(u64::from(kind != Kind::Heartbeat), Ordering::Relaxed);
            return false;
        }
        if let Err(error) = write(&mut state.buffer, state.version) {
            tracing::error!(%error, "a message does not fit a frame and was dropped");
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        state.ends.push_back(state.buffer.len());
        true
    }

    /// Appends a frame that is encoded already; false like for [`Self::push`].
    pub(crate) fn push_frame(&self, frame: &[u8]) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        if !state.has_room(self.room.share()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        state.buffer.extend_from_slice(frame);
        state.ends.push_back(state.buffer.len());
        true
    }

    /// Hands what waits to the socket, as far as it takes it without waiting; the task does the
    /// rest. Sending from the caller's thread spares a thread switch for every batch.
    pub(crate) fn flush(&self, bytes: &LinkBytes) {
        match self.try_flush(bytes) {
            Flushed::All | Flushed::Detached => {}
            Flushed::Blocked(_) | Flushed::Broken(_) => self.wake.notify_one(),
        }
    }

    /// Takes a fresh connection; what waited for the old one is gone.
    pub(crate) fn attach(&self, stream: Arc<TcpStream>, version: u16) {
        self.replace(State { stream: Some(stream), version, ..State::default() });
    }

    /// The connection is lost, and what waits with it.
    pub(crate) fn detach(&self) {
        self.replace(State::default());
    }

    fn replace(&self, state: State) {
        let is_linked = state.stream.is_some();
        let old = std::mem::replace(&mut *self.lock(), state);
        match (old.stream.is_some(), is_linked) {
            (false, true) => self.room.linked.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.room.linked.fetch_sub(1, Ordering::Relaxed),
            (true, true) | (false, false) => return,
        };
    }

    /// Sends what `flush` could not; returns when the connection breaks or is detached.
    pub(crate) async fn drive(&self, bytes: &LinkBytes) -> io::Error {
        loop {
            match self.try_flush(bytes) {
                Flushed::All => self.wake.notified().await,
                Flushed::Blocked(stream) => {
                    if let Err(error) = stream.writable().await {
                        return error;
                    }
                }
                Flushed::Broken(error) => return error,
                Flushed::Detached => return io::ErrorKind::NotConnected.into(),
            }
        }
    }

    /// Frames and bytes that wait.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let state = self.lock();
        (state.ends.len(), state.buffer.len() - state.taken)
    }

    /// Frames dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn try_flush(&self, bytes: &LinkBytes) -> Flushed {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(stream) = &state.stream else { return Flushed::Detached };
        while state.taken < state.buffer.len() {
            match stream.try_write(&state.buffer[state.taken..]) {
                Ok(count) => {
                    bytes.add_sent(count);
                    state.taken += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let stream = stream.clone();
                    compact(state);
                    return Flushed::Blocked(stream);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Flushed::Broken(error),
            }
        }
        compact(state);
        Flushed::All
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Forgets what the socket has taken.
fn compact(state: &mut State) {
    let taken = state.taken;
    while state.ends.front().is_some_and(|end| *end <= taken) {
        state.ends.pop_front();
    }
    if taken == state.buffer.len() {
        state.buffer.clear();
        state.buffer.shrink_to(KEEP_BYTES);
        state.taken = 0;
    } else if taken > KEEP_BYTES {
        state.buffer.drain(..taken);
        state.ends.iter_mut().for_each(|end| *end -= taken);
        state.taken = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::link::frame::FRAME_MAX;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    async fn pair() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialed = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Arc::new(dialed), listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_costs_bounded_memory_and_no_time() {
        let (stream, _blocked) = pair().await;
        let (queue, bytes) = (OutQueue::new(Arc::default()), LinkBytes::default());
        queue.attach(stream, 9);
        let body = vec![0u8; 64 << 10];
        for _ in 0..4_000 {
            queue.push(Kind::Message, &body);
            queue.flush(&bytes);
        }
        let (frames, waiting) = queue.depth();
        assert!(waiting <= WAITING_MOST + FRAME_MAX, "{waiting}");
        assert!(queue.dropped() > 3_000, "{} dropped, {frames} wait", queue.dropped());
        let capacity = queue.lock().buffer.capacity();
        assert!(capacity <= 2 * (WAITING_MOST + FRAME_MAX), "{capacity}");
    }

    #[tokio::test]
    async fn queues_share_their_room_and_a_blocked_one_leaves_the_others_theirs() {
        let room = Arc::new(Room::new(4 << 20));
        let queues: Vec<OutQueue> = (0..2).map(|_| OutQueue::new(room.clone())).collect();
        let mut streams = Vec::new();
        for queue in &queues {
            let (stream, reader) = pair().await;
            // A second link of the same peer is not another peer.
            queue.attach(stream.clone(), 9);
            queue.attach(stream, 9);
            streams.push(reader);
        }
        assert_eq!(room.share(), 1 << 20);
        let body = vec![0u8; 64 << 10];
        let fill = |queue: &OutQueue| while queue.push(Kind::Message, &body) {};
        fill(&queues[0]);
        assert!(queues[1].push(Kind::Message, &body));
        fill(&queues[1]);
        for queue in &queues {
            let (_, waiting) = queue.depth();
            assert!(((1 << 20)..(1 << 20) + (65 << 10)).contains(&waiting), "{waiting}");
        }
        queues[0].detach();
        queues[0].detach();
        assert_eq!(room.share(), 2 << 20);
        assert!(queues[1].push(Kind::Message, &body));
        drop(queues);
        assert_eq!(room.linked.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn small_frames_are_bounded_by_their_number() {
        let (stream, _blocked) = pair().await;
        let queue = OutQueue::new(Arc::default());
        queue.attach(stream, 9);
        for _ in 0..QUEUE_FRAMES_MAX {
            assert!(queue.push(Kind::Heartbeat, &(1u64, 1u64)));
        }
        assert!(!queue.push(Kind::Heartbeat, &(1u64, 1u64)));
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_at_once_follows_in_order() {
        let (stream, mut reader) = pair().await;
        let queue = Arc::new(OutQueue::new(Arc::default()));
        let bytes = Arc::new(LinkBytes::default());
        queue.attach(stream, 9);
        let driver = tokio::spawn({
            let (queue, bytes) = (queue.clone(), bytes.clone());
            async move { queue.drive(&bytes).await }
        });
        let count = 200u32;
        for n in 0..count {
            assert!(queue.push(Kind::Message, &(n, vec![0u8; 50_000])));
            queue.flush(&bytes);
        }
        let mut decoder = frame::Decoder::default();
        let mut next = 0;
        while next < count {
            assert!(reader.read_buf(decoder.space()).await.unwrap() > 0);
            while let Some((_, body)) = decoder.next(FRAME_MAX).unwrap() {
                let (n, _): (u32, Vec<u8>) = frame::decode(body).unwrap();
                assert_eq!(n, next);
                next += 1;
            }
        }
        assert_eq!(queue.depth(), (0, 0));
        driver.abort();
    }

    #[test]
    fn without_a_link_frames_are_dropped() {
        let queue = OutQueue::new(Arc::default());
        assert!(!queue.push(Kind::Heartbeat, &(1u64, 1u64)));
        assert_eq!(queue.dropped(), 0);
        assert!(!queue.push(Kind::Message, &1u64));
        assert_eq!(queue.dropped(), 1);
    }
}
