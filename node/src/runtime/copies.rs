//! What reads a lot for servers that align, beside the loop, so that clients' transactions do not
//! wait for it: chunks of clusters for those that copy from this one (`Effect::Copy`), and digests
//! of whole clusters (`Effect::Survey`). One of each at a time, in pieces, and as long a pause
//! behind a piece as it took: half of one processor at most, and the memory of one chunk or page.
//! May not decide what is copied or compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quorate_api::NodeId;
use quorate_protocol::alignment::Answer;
use quorate_protocol::copying::{COPIES, Part};
use quorate_protocol::message::Message;
use quorate_protocol::survey::Survey;
use tokio::runtime::Handle;
use tokio::sync::Mutex as Turn;

use super::handle::NodeState;
use super::inbox::Input;
use super::link::{Envelope, Peer, frame};
use super::shared::Shared;
use super::storage::{StorageError, die};

/// What this server gives to those that copy.
#[derive(Default)]
pub(crate) struct Copies {
    state: Mutex<State>,
    /// Held while a chunk is made, and during the pause behind it.
    turn: Turn<()>,
    /// Held while a cluster is read for its digests.
    survey: Turn<()>,
}

#[derive(Default)]
struct State {
    /// Whose chunk is under way: a question that comes again finds its answer coming.
    asked: BTreeSet<NodeId>,
    /// The database that was last said in the log to be sent to each of them.
    told: BTreeMap<NodeId, u32>,
}

/// Where a chunk goes.
pub(super) struct To {
    pub(super) node: NodeId,
    pub(super) peer: Arc<Peer>,
    /// This server's configuration when it was asked.
    pub(super) cfg: u64,
}

impl Copies {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves a state that is as good as before.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to send a chunk, unless one is under way to the same server.
pub(super) fn send(shared: &Arc<Shared>, runtime: &Handle, to: To, part: Part) {
    let database = part.cluster.database;
    let mut state = shared.copies.lock();
    if !state.asked.insert(to.node) {
        return;
    }
    if state.told.insert(to.node, database) != Some(database) {
        let name = shared.database_name(database);
        tracing::info!("sending database '{name}' to server '{}' over the network", to.peer.name);
    }
    drop(state);
    let shared = shared.clone();
    runtime.spawn(async move {
        let _turn = shared.copies.turn.lock().await;
        let began = Instant::now();
        let made = make(&shared, to.cfg, part).await;
        let took = began.elapsed();
        shared.copies.lock().asked.remove(&to.node);
        match made {
            Ok((message, frame)) => {
                if to.peer.queue.push_frame(&frame) {
                    to.peer.queue.flush(&to.peer.out_bytes);
                    to.peer.sent.count(&message);
                    shared.metrics.sent(&message);
                    shared.metrics.chunk_bytes_sent.add(frame.len() as u64);
                }
            }
            // It is asked for again, of another server, when this one stops.
            Err(StorageError::Stopping) => return,
            Err(error) => die(&error),
        }
        // Clients get as much of the disk and the processor as the chunk took.
        tokio::time::sleep(took).await;
    });
}

/// Reads and encodes a chunk; it leaves once what it shows is durable here.
async fn make(
    shared: &Arc<Shared>,
    cfg: u64,
    part: Part,
) -> Result<(Message, Vec<u8>), StorageError> {
    let of = shared.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let (chunk, visible) = of.storage.read_part(part)?;
        let message = chunk.into_message();
        let durable = of.storage.durability().durable();
        Ok::<_, StorageError>((packed(cfg, durable, message), visible))
    });
    let read = reading.await.unwrap_or_else(|error| Err(StorageError::unread(&error)));
    let (packed, visible) = read?;
    shared.storage.durability().wait_for(visible).await;
    Ok(packed)
}

/// A message and its frame; if it fits none, that this server has no copy: whoever asked goes on
/// with another one.
fn packed(cfg: u64, durable: u64, message: Message) -> (Message, Vec<u8>) {
    let pack = |message: &Message| frame::pack(&Envelope { cfg, durable, message });
    match pack(&message) {
        Ok(frame) => (message, frame),
        Err(error) => {
            // No item is larger than what a client may write, which fits a frame.
            tracing::error!(%error, "a part of a copy does not fit a frame");
            let none = Message::AlignReply { session: COPIES, answer: Answer::Unknown };
            let frame = pack(&none).expect("a few bytes fit a frame");
            (none, frame)
        }
    }
}

/// Begins to read a cluster for its digests, once those asked for before are read.
pub(super) fn survey(shared: &Arc<Shared>, runtime: &Handle, number: u64, survey: Survey) {
    let shared = shared.clone();
    runtime.spawn(async move {
        let turn = shared.copies.survey.lock().await;
        let of = shared.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = Instant::now();
            survey.read(|after, limit| {
                if matches!(of.state(), NodeState::ShuttingDown | NodeState::Offline) {
                    return Err(StorageError::Stopping);
                }
                let pause = after.map_or(Duration::ZERO, |_| piece.elapsed());
                // Clients get as much as the piece before took.
                std::thread::sleep(pause);
                piece = Instant::now();
                of.storage.items_after(survey.cluster, after, limit)
            })
        });
        // The machine waits for this survey before it has the next one made: whatever gives none
        // ends the server.
        match read.await.unwrap_or_else(|error| Err(StorageError::unread(&error))) {
            Ok(leaves) => shared.inbox.push_control(Input::Surveyed { number, leaves }),
            Err(StorageError::Stopping) => {}
            Err(error) => die(&error),
        }
        drop(turn);
    });
}

#[cfg(test)]
mod tests {
    use quorate_api::{Boot, ClusterKey, Committed, Image, ItemKey, Stamp, TxId};
    use quorate_protocol::alignment::Digest;
    use quorate_protocol::copying::Chunk;

    use super::*;
    use crate::runtime::link::frame::FRAME_MAX;

    fn chunk(bytes: usize) -> Message {
        let tx = TxId { node: NodeId(1), boot: Boot(1), seq: 1 };
        let stamp = Stamp { version: 1, tx };
        let image = Some(Image::from(vec![7; bytes].as_slice()));
        let items =
            vec![(ItemKey::Record(0), Committed { stamp, live: true, image, elsewhere: None })];
        let digest = Digest::over(&items);
        let cluster = ClusterKey { database: 1, cluster: 1 };
        let (from, next, low, there) = (None, None, Vec::new(), 1);
        Chunk { cluster, from, items, next, low, there, digest }.into_message()
    }

    /// FEATURES: S8
    #[test]
    fn a_part_that_fits_no_frame_is_answered_by_no_copy() {
        let (message, frame) = packed(1, 1, chunk(1_000));
        assert_eq!((message, frame.is_empty()), (chunk(1_000), false));
        let (message, frame) = packed(1, 1, chunk(FRAME_MAX + 1));
        let none = Message::AlignReply { session: COPIES, answer: Answer::Unknown };
        assert_eq!((message, frame.is_empty()), (none, false));
    }
}
