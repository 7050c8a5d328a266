//! Group commit: a thread that writes and syncs the log as often as it can while batches arrive,
//! and tells how far it got. One sync covers everything written before it started. May not know
//! what is in the batches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use quorate_protocol::io::PersistSeq;
use tokio::sync::watch;

use super::{Storage, StorageError, die};
use crate::clock::Clock;

/// How far batches are visible and durable in this boot.
pub(crate) struct Durability {
    handed_over: AtomicU64,
    written: AtomicU64,
    durable: watch::Sender<PersistSeq>,
    work: Mutex<Work>,
    wake: Condvar,
}

#[derive(Default)]
struct Work {
    stop: bool,
    waiting: bool,
}

impl Durability {
    pub(super) fn new() -> Self {
        Self {
            handed_over: AtomicU64::new(0),
            written: AtomicU64::new(0),
            durable: watch::Sender::new(0),
            work: Mutex::new(Work::default()),
            wake: Condvar::new(),
        }
    }

    /// A batch is about to become visible.
    pub(super) fn hand_over(&self, seq: PersistSeq) {
        self.handed_over.store(seq, Ordering::Release);
    }

    /// Last batch that may be visible: read after a snapshot was taken, it covers all that the
    /// snapshot shows.
    pub(crate) fn handed_over(&self) -> PersistSeq {
        self.handed_over.load(Ordering::Acquire)
    }

    /// Last batch that is visible for certain, and so in what the next sync covers.
    pub(crate) fn written(&self) -> PersistSeq {
        self.written.load(Ordering::Acquire)
    }

    /// Last batch that is durable.
    pub(crate) fn durable(&self) -> PersistSeq {
        *self.durable.borrow()
    }

    /// Returns once a batch is durable.
    pub(crate) async fn wait_for(&self, seq: PersistSeq) {
        if self.durable() >= seq {
            return;
        }
        // The sender lives in `self`, so the wait cannot end early.
        self.durable.subscribe().wait_for(|durable| *durable >= seq).await.ok();
    }

    /// A batch has become visible; the sync thread may start.
    pub(super) fn advance(&self, seq: PersistSeq) {
        self.written.store(seq, Ordering::Release);
        let work = self.lock();
        if work.waiting {
            drop(work);
            self.wake.notify_one();
        }
    }

    /// Next batch to make durable; `None` when there is nothing left and the thread is to end.
    fn next(&self, durable: PersistSeq) -> Option<PersistSeq> {
        let mut work = self.lock();
        loop {
            let written = self.written();
            if written > durable {
                return Some(written);
            }
            if work.stop {
                return None;
            }
            work.waiting = true;
            work = self.wake.wait(work).unwrap_or_else(|poisoned| poisoned.into_inner());
            work.waiting = false;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The running sync thread. Ends, with everything synced, when it is stopped.
pub(crate) struct SyncThread {
    storage: Arc<Storage>,
    thread: JoinHandle<()>,
}

impl SyncThread {
    /// Starts it. `synced` is called after every sync with the last batch that it covers and its
    /// duration, once the progress is published.
    pub(crate) fn start(
        storage: Arc<Storage>,
        clock: Clock,
        synced: impl Fn(PersistSeq, Duration) + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = storage.clone();
        let thread = std::thread::Builder::new().name("sync".into()).spawn(move || {
            let mut durable = 0;
            while let Some(target) = shared.durability.next(durable) {
                let start = clock.now();
                // After a failed sync nobody knows what the disk holds; asking again could lie.
                shared.sync().unwrap_or_else(|error| die(&error));
                durable = target;
                shared.durability.durable.send_replace(durable);
                synced(durable, Duration::from_micros(clock.now() - start));
            }
        })?;
        Ok(Self { storage, thread })
    }

    /// Syncs what is left and ends the thread.
    ///
    /// # Errors
    /// The last sync failed.
    pub(crate) fn stop(self) -> Result<(), StorageError> {
        self.storage.durability.lock().stop = true;
        self.storage.durability.wake.notify_one();
        self.thread.join().map_err(|_| StorageError::Stopping)?;
        self.storage.sync()
    }
}
