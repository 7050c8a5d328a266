//! What loop, links and handles share: who this server is, what it counts, and its state. May not
//! read or write anything for a client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use quorate_api::{Boot, ClusterKey, NodeId};
use quorate_control::members::Members;
use quorate_control::schema::Schema;
use quorate_protocol::io::Placement;
use tokio::sync::watch;

use super::blocks::Allocator;
use super::inbox::Inbox;
use super::link::Links;
use super::metrics::Metrics;
use super::storage::{Storage, StorageError};
use crate::clock::Clock;
use crate::http::backend::NodeState;

/// What loop, links and handles share.
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) node: NodeId,
    pub(crate) boot: Boot,
    pub(crate) members: Members,
    pub(crate) clock: Clock,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) storage: Arc<Storage>,
    pub(crate) links: Option<Arc<Links>>,
    pub(crate) metrics: Metrics,
    pub(crate) schema: ArcSwap<Schema>,
    pub(crate) placements: ArcSwap<BTreeMap<ClusterKey, Placement>>,
    pub(crate) allocator: Arc<Allocator>,
    /// Number of the next request to the control plane.
    pub(super) next_control: AtomicU64,
    /// Counts what waiters for the schema or an index look at again.
    pub(crate) changes: watch::Sender<u64>,
    state: AtomicU8,
    /// How often the server left ONLINE and came back: odd while it aligns.
    alignments: AtomicU64,
    pub(super) failed: watch::Sender<bool>,
}

/// What [`Shared`] is made from.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) node: NodeId,
    pub(crate) boot: Boot,
    pub(crate) members: Members,
    pub(crate) clock: Clock,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) storage: Arc<Storage>,
    pub(crate) links: Option<Arc<Links>>,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        let metrics = Metrics::default();
        metrics.observe(&parts.name, &parts.inbox, &parts.storage, parts.links.as_ref());
        Self {
            name: parts.name,
            node: parts.node,
            boot: parts.boot,
            members: parts.members,
            clock: parts.clock,
            inbox: parts.inbox,
            allocator: Allocator::new(parts.storage.clone()),
            storage: parts.storage,
            links: parts.links,
            metrics,
            schema: ArcSwap::default(),
            placements: ArcSwap::default(),
            state: AtomicU8::new(NodeState::Starting as u8),
            alignments: AtomicU64::new(0),
            next_control: AtomicU64::new(1),
            changes: watch::Sender::new(0),
            failed: watch::Sender::new(false),
        }
    }

    pub(crate) fn state(&self) -> NodeState {
        let state = self.state.load(Ordering::Acquire);
        let states =
            [NodeState::Starting, NodeState::Online, NodeState::ShuttingDown, NodeState::Aligning];
        states[usize::from(state)]
    }

    /// Odd while items on the disk are no snapshot; holds while the server stops, too.
    pub(super) fn alignments(&self) -> u64 {
        self.alignments.load(Ordering::Acquire)
    }

    pub(super) fn is_aligning(&self) -> bool {
        !self.alignments().is_multiple_of(2)
    }

    /// The server left ONLINE, or may come back. Called by the loop alone.
    pub(crate) fn set_aligning(&self, aligning: bool) {
        if aligning != self.is_aligning() {
            self.alignments.fetch_add(1, Ordering::AcqRel);
        }
        self.metrics.aligning.store(u64::from(aligning), Ordering::Relaxed);
        let (from, to) = if aligning {
            (NodeState::Online, NodeState::Aligning)
        } else {
            (NodeState::Aligning, NodeState::Online)
        };
        if self.state() == from {
            self.set_state(to);
        }
    }

    /// Everybody was met: the server serves, unless it has to align first. Called by the loop
    /// alone.
    pub(crate) fn started(&self) {
        let aligning = self.is_aligning();
        self.set_state(if aligning { NodeState::Aligning } else { NodeState::Online });
    }

    pub(crate) fn set_state(&self, state: NodeState) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Stops serving: the disk gave an answer that nothing may be built on.
    pub(super) fn fail(&self, error: &StorageError) {
        if matches!(error, StorageError::Stopping) {
            return;
        }
        let remedy = error.remedy();
        tracing::error!(%error, remedy, "the storage failed; this server stops serving");
        self.set_state(NodeState::ShuttingDown);
        self.failed.send_replace(true);
    }
}
