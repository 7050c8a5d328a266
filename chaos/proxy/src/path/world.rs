//! The rules of all links as one value that is swapped in one step.
//! Written by the control plane only.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};

use super::Counters;
use crate::model::Stream;
use crate::stages::StageSpec;

/// A link in this process; never used again after the link is gone.
pub(crate) type LinkId = u64;

/// How connections end that the rules no longer allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// In good order, as Toxiproxy's disabling does.
    Close,
    /// With a reset in both directions.
    Reset,
    /// Half: who sends in this direction keeps its end and hears nothing; the other end is reset.
    HalfOpen(Stream),
}

/// What one link does now.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Connections accepted under an earlier generation end.
    pub(crate) generation: u64,
    /// How they end.
    pub(crate) ending: Ending,
    /// Whether new connections are taken at all.
    pub(crate) listening: bool,
    /// Whether bytes are held, by `Stream::index`.
    pub(crate) silent: [bool; 2],
    /// Chain of toxics, by `Stream::index`.
    pub(crate) stages: [Vec<Arc<StageSpec>>; 2],
    /// Where connections are dialled to, `host:port`.
    pub(crate) upstream: String,
}

/// The rules of all links at one moment. One pointer holds it, so a change of many links takes
/// effect everywhere in one store.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// Counts the changes.
    pub(crate) epoch: u64,
    /// Seed of streams of draws that start from now on.
    pub(crate) seed: u64,
    /// Rules by link.
    pub(crate) links: HashMap<LinkId, Arc<Rules>>,
}

/// What every task of the data path shares.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The rules in force. Every write to a socket is preceded by a look at it.
    pub(crate) world: ArcSwap<World>,
    /// Most bytes one delay line holds.
    pub(crate) delay_line_bytes: usize,
}

/// One link's part of the data path.
#[derive(Debug)]
pub(crate) struct LinkPath {
    pub(crate) id: LinkId,
    pub(crate) name: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) counters: Counters,
    /// Wakes the link's tasks after a change; the value is the epoch.
    pub(crate) changes: watch::Sender<u64>,
    /// Connections that have not ended, those waiting to be dialled included.
    pub(crate) open: watch::Sender<u64>,
    /// Index of the next connection.
    pub(crate) next_connection: AtomicU64,
    /// A place for each connection that may wait to be dialled.
    pub(crate) undialled: Arc<Semaphore>,
}

/// Most connections of a link that wait to be dialled, under a silent cut for instance. Further
/// ones stay in the kernel's backlog.
const UNDIALLED_MAX: usize = 1_024;

impl LinkPath {
    /// A link without connections.
    pub(crate) fn new(id: LinkId, name: String, shared: Arc<Shared>) -> Self {
        Self {
            id,
            name,
            shared,
            counters: Counters::default(),
            changes: watch::Sender::new(0),
            open: watch::Sender::new(0),
            next_connection: AtomicU64::new(0),
            undialled: Arc::new(Semaphore::new(UNDIALLED_MAX)),
        }
    }

    /// The rules in force, `None` once the link is deleted.
    pub(crate) fn rules(&self) -> Option<Arc<Rules>> {
        self.shared.world.load().links.get(&self.id).cloned()
    }
}
