//! Bounded queue of stream pieces between stages.
//! Knows sizes only; the stages decide what moves.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

/// A piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// Bytes, written in one piece.
    Data(Bytes),
    /// The sender will send no more; the other direction goes on.
    Fin,
    /// Close both directions in good order.
    Close,
    /// Reset both directions.
    Reset,
}

/// A piece with the time it left the previous stage.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) item: Item,
    pub(crate) at: Instant,
}

impl Chunk {
    /// Payload bytes.
    pub(crate) fn len(&self) -> usize {
        match &self.item {
            Item::Data(data) => data.len(),
            Item::Fin | Item::Close | Item::Reset => 0,
        }
    }
}

/// What a queued piece costs beside its payload, so that a flood of one-byte pieces is bounded
/// in memory as well.
const CHUNK_OVERHEAD_BYTES: usize = 128;

/// Pieces in order, bounded by bytes. A full queue refuses nothing: whoever fills it asks
/// `has_room` first and stops taking, which pushes back up to the sender's socket. One piece may
/// overshoot the bound.
#[derive(Debug)]
pub(crate) struct Queue {
    chunks: VecDeque<Chunk>,
    payload: usize,
    capacity: usize,
}

impl Queue {
    /// An empty queue for so many bytes, overhead included.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { chunks: VecDeque::new(), payload: 0, capacity }
    }

    /// Whether another piece may be pushed.
    pub(crate) fn has_room(&self) -> bool {
        self.payload + self.chunks.len() * CHUNK_OVERHEAD_BYTES < self.capacity
    }

    /// Adds a piece at the end.
    pub(crate) fn push(&mut self, chunk: Chunk) {
        self.payload += chunk.len();
        self.chunks.push_back(chunk);
    }

    /// Puts a piece, or what is left of it, back at the front.
    pub(crate) fn put_back(&mut self, chunk: Chunk) {
        self.payload += chunk.len();
        self.chunks.push_front(chunk);
    }

    /// Takes the oldest piece.
    pub(crate) fn pop(&mut self) -> Option<Chunk> {
        let chunk = self.chunks.pop_front()?;
        self.payload -= chunk.len();
        Some(chunk)
    }

    /// The oldest piece.
    pub(crate) fn front(&self) -> Option<&Chunk> {
        self.chunks.front()
    }

    /// Takes the first `count` payload bytes of the oldest piece away, the piece with them when
    /// nothing is left of it.
    pub(crate) fn consume(&mut self, count: usize) {
        let Some(mut chunk) = self.pop() else { return };
        if let Item::Data(data) = &mut chunk.item
            && count < data.len()
        {
            drop(data.split_to(count));
            self.put_back(chunk);
        }
    }

    /// Payload bytes held.
    pub(crate) fn payload(&self) -> usize {
        self.payload
    }

    /// Whether nothing is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Number of pieces.
    pub(crate) fn len(&self) -> usize {
        self.chunks.len()
    }
}
