//! Bytes of one end of a directed link, as the socket saw them, the handshake included.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts one end of a directed link over all its connections.
#[derive(Debug, Default)]
pub struct LinkBytes {
    sent: AtomicU64,
    received: AtomicU64,
    packed: AtomicU64,
}

impl LinkBytes {
    pub(crate) fn add_sent(&self, count: usize) {
        self.sent.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_received(&self, count: usize) {
        self.received.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_packed(&self, count: usize) {
        self.packed.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Bytes received in compressed frames: copies of clusters.
    pub(crate) fn packed(&self) -> u64 {
        self.packed.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, other: &Self) {
        self.sent.fetch_add(other.sent(), Ordering::Relaxed);
        self.received.fetch_add(other.received(), Ordering::Relaxed);
    }

    /// Bytes handed to the socket.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes taken from the socket.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}
