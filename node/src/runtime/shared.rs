//! What loop, links and handles share: who this server is, what it counts, and its state. May not
//! read or write anything for a client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use quorate_api::{Boot, ClusterKey, NodeId};
use quorate_control::members::Members;
use quorate_control::roles::gone_text;
use quorate_control::schema::{Database, Schema};
use quorate_control::versions::Versions;
use quorate_protocol::io::Placement;
use tokio::sync::{Notify, watch};

use super::blocks::Allocator;
use super::copies::Copies;
use super::inbox::Inbox;
use super::link::Links;
use super::link::own::Own;
use super::metrics::Metrics;
use super::storage::{Storage, StorageError};
use crate::clock::Clock;
use crate::http::backend::NodeState;
use crate::http::members::{Phase, Progress};
use crate::memory::Budget;

/// What loop, links and handles share.
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) node: NodeId,
    pub(crate) boot: Boot,
    /// Who founds the cluster; nobody looks at that once it is founded.
    pub(crate) members: Members,
    /// Where other servers reach this one, if that is known.
    pub(crate) address: Option<String>,
    pub(crate) clock: Clock,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) storage: Arc<Storage>,
    pub(crate) links: Option<Arc<Links>>,
    pub(crate) metrics: Metrics,
    pub(crate) copies: Copies,
    pub(crate) schema: ArcSwap<Schema>,
    pub(crate) placements: ArcSwap<BTreeMap<ClusterKey, Placement>>,
    pub(crate) allocator: Arc<Allocator>,
    /// Number of the next request to the control plane.
    pub(super) next_control: AtomicU64,
    /// Counts what waiters for the schema or an index look at again.
    pub(crate) changes: watch::Sender<u64>,
    /// State and bulletin, as told to others.
    pub(crate) own: Arc<Own>,
    /// Versions that it speaks.
    pub(crate) versions: Versions,
    /// Where it listens for clients and for other servers.
    pub(crate) listeners: Listeners,
    /// When it started, in microseconds since 1970.
    pub(crate) started_us: u64,
    /// Open connections of clients.
    pub(crate) connections: Arc<AtomicU64>,
    /// What is being copied to this server.
    pub(super) copying: Mutex<Option<Progress>>,
    /// Databases that were set aside here and cannot come for now, and why.
    waiting: Mutex<BTreeMap<String, String>>,
    /// When it left ONLINE, or started without being there.
    aligning_since: AtomicU64,
    /// How often the server left ONLINE and came back: odd while it aligns.
    alignments: AtomicU64,
    /// Requests of clients that run.
    pub(crate) running: Arc<AtomicU64>,
    /// It is to stop soon, and goes on with what its clients have begun.
    finishing: AtomicBool,
    pub(super) failed: watch::Sender<bool>,
    /// The loop has seen that this server is in no cluster, and may join one.
    pub(super) may_join: Notify,
    /// Why this server cannot be in the cluster, once that is known.
    pub(super) refused: watch::Sender<Option<Dismissal>>,
}

/// Why a server cannot be in the cluster as what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dismissal {
    /// It cannot be at all; the reason is for people.
    Final(String),
    /// The cluster went on without it while it was lost: it can join as another one of its name.
    Absent {
        /// Where the others are, as `HOST:PORT`.
        seeds: Vec<String>,
    },
}

/// Addresses that a server listens at.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Listeners {
    pub(crate) http: Option<SocketAddr>,
    pub(crate) peer: Option<SocketAddr>,
}

/// What [`Shared`] is made from.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) node: NodeId,
    pub(crate) boot: Boot,
    pub(crate) members: Members,
    pub(crate) address: Option<String>,
    pub(crate) clock: Clock,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) storage: Arc<Storage>,
    pub(crate) links: Option<Arc<Links>>,
    pub(crate) own: Arc<Own>,
    pub(crate) versions: Versions,
    pub(crate) listeners: Listeners,
    pub(crate) heap: Budget,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        let metrics = Metrics::default();
        let links = parts.links.as_ref();
        metrics.observe(&parts.name, &parts.inbox, &parts.storage, links, parts.heap);
        Self {
            name: parts.name,
            node: parts.node,
            boot: parts.boot,
            members: parts.members,
            address: parts.address,
            clock: parts.clock,
            inbox: parts.inbox,
            allocator: Arc::default(),
            storage: parts.storage,
            links: parts.links,
            metrics,
            copies: Copies::default(),
            schema: ArcSwap::default(),
            placements: ArcSwap::default(),
            own: parts.own,
            versions: parts.versions,
            listeners: parts.listeners,
            started_us: parts.clock.wall_us(),
            connections: Arc::default(),
            copying: Mutex::default(),
            waiting: Mutex::default(),
            aligning_since: AtomicU64::new(0),
            alignments: AtomicU64::new(0),
            running: Arc::default(),
            finishing: AtomicBool::new(false),
            next_control: AtomicU64::new(1),
            changes: watch::Sender::new(0),
            failed: watch::Sender::new(false),
            may_join: Notify::new(),
            refused: watch::Sender::new(None),
        }
    }

    pub(crate) fn state(&self) -> NodeState {
        self.own.state()
    }

    /// Requests of clients are worked on: those that were begun before, while it leaves.
    pub(super) fn is_serving(&self) -> bool {
        self.state() == NodeState::Online || self.finishing.load(Ordering::Acquire)
    }

    /// It is to stop soon. Called by the loop alone.
    pub(super) fn set_leaving(&self) {
        self.set_finishing(self.state() == NodeState::Online);
        self.set_state(NodeState::ShuttingDown);
    }

    /// What clients have begun goes on, or does no more.
    pub(super) fn set_finishing(&self, finishing: bool) {
        self.finishing.store(finishing, Ordering::Release);
    }

    /// Name of a database, or its number.
    pub(super) fn database_name(&self, id: u32) -> String {
        let schema = self.schema.load();
        let found = schema.databases.iter().find(|database| database.id == id);
        found.map_or_else(|| id.to_string(), |database| database.name.clone())
    }

    /// Name of a server, or its identity.
    pub(super) fn server_name(&self, node: NodeId) -> String {
        let schema = self.schema.load();
        schema.server(node).map_or_else(|| node.to_string(), |server| server.name.clone())
    }

    /// Bytes of compressed chunks received.
    pub(super) fn packed_bytes(&self) -> u64 {
        let peers = self.links.as_ref().map(|links| links.peers());
        peers.map_or(0, |peers| peers.values().map(|peer| peer.in_bytes.packed()).sum())
    }

    /// This server knows itself to be in a cluster.
    pub(super) fn is_member(&self) -> bool {
        self.schema.load().server(self.node).is_some()
    }

    /// Odd while items on the disk are no snapshot; holds while the server stops, too.
    pub(super) fn alignments(&self) -> u64 {
        self.alignments.load(Ordering::Acquire)
    }

    pub(super) fn is_aligning(&self) -> bool {
        !self.alignments().is_multiple_of(2)
    }

    /// Databases that were set aside here and cannot come for now, and why.
    pub(super) fn waiting(&self) -> BTreeMap<String, String> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why a database that was set aside here cannot come for now; `None` once it can.
    pub(super) fn set_waiting(&self, database: &str, why: Option<&str>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => waiting.insert(database.to_owned(), why.to_owned()),
            None => waiting.remove(database),
        };
    }

    /// How far this server is with getting what it lacks, while it does.
    pub(super) fn progress(&self) -> Option<Progress> {
        let copying = self.copying.lock().unwrap_or_else(PoisonError::into_inner).clone();
        copying.or_else(|| {
            let since = self.aligning_since.load(Ordering::Relaxed);
            self.is_aligning().then(|| Progress {
                phase: Phase::Comparing,
                database: None,
                source: None,
                items: self.metrics.align_fetched.get(),
                items_there: 0,
                bytes: 0,
                took_ms: self.clock.now().saturating_sub(since) / 1_000,
            })
        })
    }

    /// The server left ONLINE, or may come back. Called by the loop alone.
    pub(crate) fn set_aligning(&self, aligning: bool) {
        if aligning != self.is_aligning() {
            self.aligning_since.store(self.clock.now(), Ordering::Relaxed);
            self.alignments.fetch_add(1, Ordering::AcqRel);
        }
        self.metrics.aligning.store(u64::from(aligning), Ordering::Relaxed);
        let (from, to) = if aligning {
            (NodeState::Online, NodeState::Aligning)
        } else {
            (NodeState::Aligning, NodeState::Online)
        };
        if aligning {
            self.set_finishing(false);
        }
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
        if self.own.set_state(state) == state {
            return;
        }
        self.tell_state(state);
        if state == NodeState::Online && self.is_heard() {
            self.schema.load().served_by(self.node).for_each(tell_online);
        }
    }

    /// Says where this server is in its life.
    pub(super) fn tell_state(&self, state: NodeState) {
        if self.is_heard() {
            tracing::info!("updated node status to '{}'", state.name());
        }
    }

    /// It listens to somebody. Of one that does not, within another server, nobody wants to hear.
    const fn is_heard(&self) -> bool {
        self.listeners.http.is_some() || self.listeners.peer.is_some()
    }

    /// Another schema holds here from now on. Called by the loop alone.
    pub(crate) fn set_schema(&self, after: Arc<Schema>) {
        let before = self.schema.swap(after.clone());
        if !self.is_heard() {
            return;
        }
        tell_servers(&before, &after);
        tell_found(&before, &after);
        tell_statuses(&before, &after);
        if before.level != after.level && self.links.is_some() {
            tracing::info!("all servers speak version {} from now on", after.level);
        }
        tell_moves(&before, &after);
        let lacks = |schema: &Schema, id| schema.databases.iter().all(|other| other.id != id);
        for database in before.databases.iter().filter(|d| lacks(&after, d.id)) {
            tracing::info!("database '{}' was dropped", database.name);
        }
        let served = |id| before.served_by(self.node).any(|other| other.id == id);
        for database in after.served_by(self.node).filter(|d| !served(d.id)) {
            let masters: Vec<&str> = after.voters().map(|server| server.name.as_str()).collect();
            tracing::info!(
                "added database '{}' on {}: writeQuorum {}, readQuorum {}",
                database.name,
                masters.join(", "),
                database.write_quorum,
                database.read_quorum
            );
            if self.state() == NodeState::Online {
                tell_online(database);
            }
        }
    }

    /// This server has no place in the cluster: the process ends, and says why.
    pub(crate) fn refuse(&self, why: String) {
        self.end(Dismissal::Final(why));
    }

    /// The cluster has let this server go; if only because it was lost, it comes back as another.
    pub(crate) fn dismiss(&self, is_absent: bool) {
        match &self.links {
            Some(links) if is_absent && self.address.is_some() => {
                self.end(Dismissal::Absent { seeds: links.seeds() });
            }
            Some(_) | None => self.refuse(gone_text(&self.name)),
        }
    }

    fn end(&self, dismissal: Dismissal) {
        self.set_finishing(false);
        self.set_state(NodeState::ShuttingDown);
        self.refused.send_replace(Some(dismissal));
    }

    /// Stops serving: the disk gave an answer that nothing may be built on.
    pub(super) fn fail(&self, error: &StorageError) {
        if matches!(error, StorageError::Stopping) {
            return;
        }
        let remedy = error.remedy();
        tracing::error!(%error, remedy, "the storage failed; this server stops serving");
        self.set_finishing(false);
        self.set_state(NodeState::ShuttingDown);
        self.failed.send_replace(true);
    }
}

/// Says who is in the cluster from now on, and who is not.
fn tell_servers(before: &Schema, after: &Schema) {
    if before.servers.is_empty() {
        return;
    }
    for server in after.servers.iter().filter(|server| before.server(server.node).is_none()) {
        let (name, role) = (&server.name, server.role.name());
        let address = server.address.as_deref().unwrap_or("an unknown address");
        tracing::info!(id = %server.node, "server '{name}' joined as {role} at {address}");
    }
    for server in &before.servers {
        let name = &server.name;
        match after.server(server.node) {
            None => tracing::info!("server '{name}' is removed"),
            Some(now) if now.leaving && !server.leaving => {
                tracing::info!("server '{name}' is to be removed");
            }
            Some(now) if now.role != server.role => {
                tracing::info!("server '{name}' becomes {}", now.role.name());
            }
            Some(_) => {}
        }
    }
}

/// Says which databases people took OFFLINE on servers.
fn tell_statuses(before: &Schema, after: &Schema) {
    for database in &after.databases {
        let (name, now) = (&database.name, &database.offline);
        let was = before.databases.iter().find(|other| other.id == database.id);
        let was = was.map(|was| was.offline.clone()).unwrap_or_default();
        for server in now.difference(&was) {
            tracing::info!("database '{name}' is OFFLINE on server '{server}': HA SET STATUS");
        }
        for server in was.difference(now) {
            tracing::info!("database '{name}' is OFFLINE on server '{server}' no longer");
        }
    }
}

/// Says which databases are brought in, and which cannot be.
fn tell_found(before: &Schema, after: &Schema) {
    let name = |node| after.server_name(node).unwrap_or("?");
    for database in &after.databases {
        let was_known = before.databases.iter().any(|other| other.id == database.id);
        if let Some(by) = database.brought_by().filter(|_| !was_known) {
            let (database, server) = (&database.name, name(by));
            tracing::info!("database '{database}' is being brought in from the disk of '{server}'");
        }
    }
    for stray in after.strays.iter().filter(|stray| !before.strays.contains(stray)) {
        tracing::warn!(
            "database '{}' on the disk of '{}' is another one than that of this name here: it is \
             not brought in, and stays where it is",
            stray.database,
            name(stray.server)
        );
    }
}

/// Says which clusters have another owner.
fn tell_moves(before: &Schema, after: &Schema) {
    let name = |node| after.server_name(node).or(before.server_name(node)).unwrap_or("?");
    for database in &before.databases {
        let now = after.databases.iter().find(|other| other.id == database.id);
        for cluster in &database.clusters {
            let moved = now.and_then(|now| now.cluster(cluster.id));
            let Some(moved) = moved.filter(|moved| moved.owner != cluster.owner) else { continue };
            tracing::info!(
                database = database.name,
                "changing mastership of cluster '{}' from node '{}' to '{}'",
                cluster.name,
                name(cluster.owner),
                name(moved.owner)
            );
        }
    }
}

fn tell_online(database: &Database) {
    tracing::info!("database '{}' is ONLINE", database.name);
}
