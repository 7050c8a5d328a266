//! Positions for new records: from blocks reserved durably before use, never continued after a
//! restart (trap A20). May not know who owns a cluster; the caller has checked it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use quorate_api::ClusterKey;
use tokio::sync::Notify;

use super::storage::{Storage, StorageError};

/// Positions reserved at a time. A restart wastes at most two blocks a cluster.
const BLOCK: u64 = 1_024;

#[derive(Default)]
struct Block {
    current: Range<u64>,
    spare: Option<Range<u64>>,
    reserving: bool,
}

impl Block {
    fn take(&mut self) -> Option<u64> {
        if self.current.is_empty() {
            self.current = self.spare.take()?;
        }
        self.current.next()
    }

    fn needs_more(&self) -> bool {
        let left = self.current.end - self.current.start;
        self.spare.is_none() && !self.reserving && left <= BLOCK / 2
    }
}

/// Hands out positions.
pub(crate) struct Allocator {
    storage: Arc<Storage>,
    blocks: Mutex<BTreeMap<ClusterKey, Block>>,
    reserved: Notify,
}

impl Allocator {
    pub(crate) fn new(storage: Arc<Storage>) -> Arc<Self> {
        Arc::new(Self { storage, blocks: Mutex::default(), reserved: Notify::new() })
    }

    /// Next position of a cluster that this server owns.
    pub(crate) async fn next(self: &Arc<Self>, cluster: ClusterKey) -> Result<u64, StorageError> {
        loop {
            let reserved = self.reserved.notified();
            tokio::pin!(reserved);
            // Registered before looking, so that a block reserved in between is not missed.
            reserved.as_mut().enable();
            let (position, reserve) = {
                let mut blocks = self.lock();
                let block = blocks.entry(cluster).or_default();
                let position = block.take();
                let reserve = block.needs_more();
                block.reserving |= reserve;
                (position, reserve)
            };
            match (position, reserve) {
                (Some(position), true) => {
                    // A failure shows when the block is needed and reserved again.
                    drop(self.reserve(cluster));
                    return Ok(position);
                }
                (Some(position), false) => return Ok(position),
                (None, true) => {
                    self.reserve(cluster).await.map_err(|_| StorageError::Stopping)??
                }
                (None, false) => reserved.await,
            }
        }
    }

    /// Reserves a block in the background, whether or not somebody waits for the result.
    fn reserve(
        self: &Arc<Self>,
        cluster: ClusterKey,
    ) -> tokio::task::JoinHandle<Result<(), StorageError>> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            let range = this.storage.reserve(cluster, BLOCK);
            let mut blocks = this.lock();
            let block = blocks.entry(cluster).or_default();
            block.reserving = false;
            let outcome = range.map(|range| block.spare = Some(range));
            drop(blocks);
            this.reserved.notify_waiters();
            if let Err(error) = &outcome {
                tracing::error!(%error, %cluster, "cannot reserve positions");
            }
            outcome
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClusterKey, Block>> {
        self.blocks.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const CLUSTER: ClusterKey = ClusterKey { database: 1, cluster: 10 };

    #[tokio::test]
    async fn positions_are_unique_among_tasks_and_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = BTreeSet::new();
        for _ in 0..2 {
            let storage = Arc::new(Storage::open(&dir.path().join("store")).unwrap());
            let allocator = Allocator::new(storage);
            let tasks: Vec<_> = (0..8)
                .map(|_| {
                    let allocator = allocator.clone();
                    tokio::spawn(async move {
                        let mut own = Vec::new();
                        for _ in 0..400 {
                            own.push(allocator.next(CLUSTER).await.unwrap());
                        }
                        own
                    })
                })
                .collect();
            for task in tasks {
                for position in task.await.unwrap() {
                    assert!(seen.insert(position), "{position} twice");
                }
            }
            while Arc::strong_count(&allocator) > 1 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(seen.len(), 6_400);
    }

    #[tokio::test]
    async fn clusters_count_apart_and_from_zero() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Arc::new(Storage::open(&dir.path().join("store")).unwrap());
        let allocator = Allocator::new(storage);
        let other = ClusterKey { cluster: 11, ..CLUSTER };
        assert_eq!(allocator.next(CLUSTER).await.unwrap(), 0);
        assert_eq!(allocator.next(CLUSTER).await.unwrap(), 1);
        assert_eq!(allocator.next(other).await.unwrap(), 0);
    }
}
