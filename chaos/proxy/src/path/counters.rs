//! What happened on a link, as numbers that only grow (gauges are named so).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

/// Counters of one link.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Connections the proxy accepted.
    pub(crate) accepted: AtomicU64,
    /// Accepted, then reset without ever reaching the node: it could not be dialled, or the link
    /// was cut meanwhile.
    pub(crate) refused: AtomicU64,
    /// Joined connections that ended with a reset.
    pub(crate) reset: AtomicU64,
    /// Gauge: accepted and waiting to be dialled, a silent cut being the usual reason.
    pub(crate) waiting: AtomicU64,
    /// Gauge: ends kept by a half-open cut after the other end was reset.
    pub(crate) half_open: AtomicU64,
    /// By `Stream::index`.
    pub(crate) streams: [StreamCounters; 2],
}

/// Bytes of one direction.
#[derive(Debug, Default)]
pub(crate) struct StreamCounters {
    /// Read from the sender's socket.
    pub(crate) received: AtomicU64,
    /// Written to the receiver's socket.
    pub(crate) delivered: AtomicU64,
    /// Thrown away: by a toxic, or inside the proxy when the connection ended.
    pub(crate) discarded: AtomicU64,
}

/// A reading of one direction, bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct StreamCounts {
    pub(crate) received_bytes: u64,
    pub(crate) delivered_bytes: u64,
    pub(crate) discarded_bytes: u64,
    /// Gauge: received, neither delivered nor discarded.
    pub(crate) held_bytes: u64,
}

/// A reading of the connections.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct ConnectionCounts {
    pub(crate) accepted: u64,
    /// Gauge, waiting ones included.
    pub(crate) open: u64,
    /// Gauge.
    pub(crate) waiting: u64,
    /// Gauge, not among those open.
    pub(crate) half_open: u64,
    pub(crate) refused: u64,
    pub(crate) reset: u64,
}

impl StreamCounters {
    /// Adds to a counter. Relaxed: each is only ever summed.
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Relaxed);
    }

    /// Reads the direction.
    pub(crate) fn read(&self) -> StreamCounts {
        // What left is read before what came in, so that held never underflows.
        let delivered_bytes = self.delivered.load(Relaxed);
        let discarded_bytes = self.discarded.load(Relaxed);
        let received_bytes = self.received.load(Relaxed);
        let held_bytes = received_bytes.saturating_sub(delivered_bytes + discarded_bytes);
        StreamCounts { received_bytes, delivered_bytes, discarded_bytes, held_bytes }
    }
}

impl Counters {
    /// Reads the connections; the number open is kept by the link.
    pub(crate) fn connections(&self, open: u64) -> ConnectionCounts {
        ConnectionCounts {
            accepted: self.accepted.load(Relaxed),
            open,
            waiting: self.waiting.load(Relaxed),
            half_open: self.half_open.load(Relaxed),
            refused: self.refused.load(Relaxed),
            reset: self.reset.load(Relaxed),
        }
    }
}
