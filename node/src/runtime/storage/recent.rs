//! Which batch wrote an item last, roughly: enough to know whether a reader must wait for the disk.
//! May err only towards waiting.

use std::sync::atomic::{AtomicU64, Ordering};

use quorate_protocol::io::PersistSeq;

/// Slots; two items that share one wait for each other's batch, which costs a reader one group
/// commit at worst.
const SLOTS: usize = 4096;

const _: () = assert!(SLOTS.is_power_of_two());

/// Last batch per slot of item keys.
pub(super) struct RecentWrites(Box<[AtomicU64]>);

impl RecentWrites {
    pub(super) fn new() -> Self {
        Self((0..SLOTS).map(|_| AtomicU64::new(0)).collect())
    }

    /// To be called before the batch becomes visible.
    pub(super) fn mark(&self, key: &[u8], seq: PersistSeq) {
        self.slot(key).store(seq, Ordering::Release);
    }

    /// A batch at or behind the one that last wrote the item.
    pub(super) fn last_write(&self, key: &[u8]) -> PersistSeq {
        self.slot(key).load(Ordering::Acquire)
    }

    fn slot(&self, key: &[u8]) -> &AtomicU64 {
        &self.0[crc32fast::hash(key) as usize % SLOTS]
    }
}
