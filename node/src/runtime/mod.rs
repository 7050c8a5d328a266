//! The runtime round the protocol machine: disk, links, the loop, and their common life. May not
//! know HTTP or SQL.

#[cfg(test)]
mod agreed_shapes;
mod backend;
mod blocks;
mod bulletin;
mod config_files;
mod conflicts;
mod control;
mod copies;
pub mod data_dir;
mod decide;
mod deployment;
mod discovery;
mod found;
pub mod handle;
mod inbox;
mod join;
mod leaving;
mod level;
pub mod link;
mod message_names;
pub mod metrics;
mod node_loop;
mod owners;
mod protocol;
mod returned;
mod settling;
#[cfg(test)]
mod shapes;
mod shared;
mod standing;
pub mod storage;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use quorate_api::{Boot, NodeId};
use quorate_control::members::Members;
use quorate_control::versions::Versions;
use quorate_protocol::chain::Chain;
use quorate_protocol::io::{AlignConfig, Config, MergeConfig};
use quorate_protocol::machine::Machine;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::clock::{Clock, micros};
use crate::http::RetryPolicy;
use crate::memory::Budget;
use control::Foundation;
use data_dir::DataError;
use discovery::Discovery;
pub(crate) use discovery::MULTICAST;
use handle::{NodeHandle, NodeState};
use inbox::{Inbox, Input};
use link::own::Own;
use link::{LinkConfig, Links, Me, Room};
use node_loop::NodeLoop;
pub use shared::Dismissal;
use shared::{Listeners, Parts, Shared};
use storage::witness::Witness;
use storage::{StorageError, SyncThread, Writer, die};

/// Longest wait until others have been sent what this server said last.
const LAST_WORD: Duration = Duration::from_millis(100);

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// Its data folder.
    pub data: PathBuf,
    /// Where clients reach it, for other servers to show; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// The MASTERs that found a cluster, this one included; of one that joins, itself.
    pub members: Members,
    /// Servers of the cluster that it joins, as `HOST:PORT` or `multicast`; empty: it founds one.
    pub join: Vec<String>,
    /// It is to be a witness.
    pub witness: bool,
    /// Where other servers reach it; `None`: where it listens.
    pub advertise: Option<String>,
    /// Others of the network can find it.
    pub multicast: bool,
    /// Where other servers are reached, whatever they say of themselves.
    pub dial: BTreeMap<String, String>,
    /// Name of the cluster.
    pub cluster: String,
    /// Password that all its servers share.
    pub password: String,
    /// Versions that it speaks to other servers.
    pub versions: Versions,
    /// Silence after which a peer counts as unreachable.
    pub suspect_after: Duration,
    /// When decision logs are cut past a server that is behind, and how fast servers align.
    pub align: AlignConfig,
    /// Who decides between contents that diverged where W is below a majority.
    pub chain: Chain,
    /// For how long a MASTER that no database enlists is lost before it leaves; `None`: for ever.
    pub remove_after: Option<Duration>,
    /// Contents that lost and are kept to be looked at, and their bytes.
    pub lost_max: (usize, usize),
    /// How transactions that meet a lock are tried again.
    pub retry: RetryPolicy,
    /// Clients' requests worked on at once, and waiting for it; above, the next one is refused.
    pub in_flight_max: usize,
    /// Memory.
    pub heap: Budget,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its data folder.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Its store.
    #[error("{0}; {remedy}", remedy = .0.remedy())]
    Storage(#[from] StorageError),
    /// Its threads.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// Its place in the network.
    #[error("multicast: {0}; without --multicast, servers are found by --join HOST:PORT")]
    Multicast(#[from] mdns_sd::Error),
    /// Its seed.
    #[error("no randomness from the operating system: {0}")]
    Random(getrandom::Error),
}

impl StartError {
    /// Whether the disk or the data is to blame, and not the settings or the system.
    #[must_use]
    pub fn is_storage(&self) -> bool {
        match self {
            Self::Data(error) => error.is_damage(),
            Self::Storage(_) => true,
            Self::Thread(_) | Self::Multicast(_) | Self::Random(_) => false,
        }
    }
}

/// A running server without its outer layers.
pub struct Node {
    handle: NodeHandle,
    shared: Arc<Shared>,
    looping: JoinHandle<()>,
    sync: SyncThread,
    witness: Arc<Witness>,
    /// Links, and the tasks that fill new indexes and keep files of configurations.
    tasks: JoinSet<()>,
    /// Brings in what was found on the disk, and has that open.
    bringing: Option<tokio::task::JoinHandle<()>>,
}

/// Where others reach this server. One that stands for all of its interfaces is no use to them.
fn address_of(advertised: Option<String>, listens: Option<SocketAddr>) -> Option<String> {
    let listens_at = listens.filter(|address| !address.ip().is_unspecified());
    let address = advertised.or_else(|| listens_at.map(|at| at.to_string()));
    if let (None, Some(at)) = (&address, listens) {
        tracing::warn!(
            "peers are listened for at {at}, which is no address to dial: a server that joins will \
             not dial this one; give --advertise HOST:PORT"
        );
    }
    address
}

impl Node {
    /// Opens the data folder, raises the boot, starts loop and links. `peers` is the listener for
    /// other servers, `None` for a server that stands alone.
    ///
    /// # Errors
    /// The folder cannot be used, or the system lacks something.
    pub fn start(mut settings: Settings, peers: Option<TcpListener>) -> Result<Self, StartError> {
        let clock = Clock::start();
        settings.join.extend(data_dir::seeds(&settings.data)?);
        let (data, control) = found::aside::open(&settings)?;
        let brings = peers.is_some().then(|| settings.clone());
        let (node, boot, started_with) = (data.node, data.boot, data.started_with);
        let databases = data_dir::databases(&settings.data);
        let seed = getrandom::u64().map_err(StartError::Random)?;
        let process = getrandom::u64().map_err(StartError::Random)?;
        let storage = Arc::new(data.storage);
        let (joins, after) = (!settings.join.is_empty(), settings.remove_after.map(micros));
        if joins && control.snapshot.is_none() {
            storage.start_aligning()?;
        }
        let recovered = storage.recover()?;
        let foundation = Foundation { recovered: control, seed, joins, remove_after: after };
        tracing::info!(
            node_id = %node, boot = boot.0, seed, undecided = recovered.undecided.len(),
            "data folder opened"
        );
        deployment::goes_on(recovered.copied.keys());
        let writer = Writer::new(storage.clone(), boot, &recovered);
        let aligning = recovered.aligning;
        let machine = Machine::new(machine_config(&settings, (node, boot), seed), recovered);
        let (inbox, own) = (Arc::new(inbox(&settings)), Arc::new(Own::new(node, boot)));
        let me = Me { name: settings.name.clone(), node, boot, process, started_with };
        let links = peers.is_some().then(|| link_config(me, &settings, Arc::clone(&own)));
        let links = links.map(|config| Links::new(config, storage.clone(), inbox.clone(), clock));
        let links = links.transpose()?;
        let listens = peers.as_ref().and_then(|peers| peers.local_addr().ok());
        let address = address_of(settings.advertise, listens);
        let multicast = listens.filter(|_| settings.multicast);
        let discovery = multicast.map(|at| Discovery::start(&settings.cluster, at.ip()));
        let discovery = discovery.transpose()?.map(Arc::new);
        let shared = Arc::new(Shared::new(Parts {
            name: settings.name,
            node,
            boot,
            members: settings.members,
            address,
            clock,
            inbox,
            storage,
            links,
            own,
            versions: settings.versions,
            listeners: Listeners { http: settings.http, peer: listens },
            heap: settings.heap,
        }));
        if let Some(links) = &shared.links {
            links.set_host(&shared);
        }
        shared.tell_state(NodeState::Starting);
        shared.set_aligning(aligning);
        let parts = (machine, foundation);
        let mut node = Self::run(shared, parts, writer, Arc::new(data.witness), peers)?;
        node.follow_schema(databases, settings.data);
        node.tasks.spawn(standing::run(node.shared.clone(), settings.witness));
        if joins {
            node.tasks.spawn(join::run(node.shared.clone(), settings.join, discovery.clone()));
        }
        if let Some(settings) = brings {
            node.tasks.spawn(found::arrive::run(node.shared.clone()));
            node.bringing = Some(tokio::spawn(found::bring::run(node.shared.clone(), settings)));
        }
        if let Some(discovery) = discovery {
            node.tasks.spawn(discovery.announce(node.shared.clone()));
        }
        Ok(node)
    }

    /// Starts the tasks that do what the schema asks for, at every server.
    fn follow_schema(&mut self, databases: PathBuf, root: PathBuf) {
        self.tasks.spawn(config_files::run(self.handle(), databases));
        self.tasks.spawn(level::run(self.shared.clone(), root));
        self.tasks.spawn(returned::run(self.shared.clone()));
    }

    fn run(
        shared: Arc<Shared>,
        (machine, foundation): (Machine, Foundation),
        writer: Writer,
        witness: Arc<Witness>,
        peers: Option<TcpListener>,
    ) -> Result<Self, StartError> {
        let sync = start_sync(&shared, witness.clone())?;
        let node_loop =
            NodeLoop::new(shared.clone(), Handle::current(), machine, writer, foundation);
        let looping =
            std::thread::Builder::new().name("loop".into()).spawn(move || node_loop.run())?;
        let mut tasks = match (&shared.links, peers) {
            (Some(links), Some(listener)) => {
                let mut tasks = links.run(listener);
                tasks.spawn(bulletin::keep(shared.clone()));
                tasks
            }
            (None, _) | (_, None) => JoinSet::new(),
        };
        let handle = NodeHandle::new(shared.clone());
        let counters = shared.metrics.filling.clone();
        tasks.spawn(crate::index::worker::run(handle.clone(), counters));
        Ok(Self { handle, shared, looping, sync, witness, tasks, bringing: None })
    }

    /// What the layers above work with.
    #[must_use]
    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Identity and boot.
    #[must_use]
    pub fn identity(&self) -> (NodeId, Boot) {
        (self.shared.node, self.shared.boot)
    }

    /// Tells the others that this server is to stop, and gives them its clusters. New requests are
    /// refused from now on, and running ones may end within half of the bound: the rest is for the
    /// others to agree. Longer than the bound nothing is waited for.
    pub async fn leave(&self, bound: Duration) {
        let (left, gave) = oneshot::channel();
        let patience = self.shared.clock.now() + micros(bound / 2);
        self.shared.inbox.push_control(Input::Leave { patience, left });
        if tokio::time::timeout(bound, gave).await.is_err() {
            tracing::warn!("stopping before this server's clusters have other owners");
        }
    }

    /// Takes no more requests, answers the running ones within the bound, makes everything durable,
    /// ends.
    ///
    /// # Errors
    /// The last sync failed.
    pub async fn stop(mut self, bound: Duration) -> Result<(), StorageError> {
        let deadline = self.shared.clock.now() + micros(bound);
        self.shared.inbox.push_control(Input::Stop { deadline });
        let (looping, sync, witness) = (self.looping, self.sync, self.witness);
        let stopped = tokio::task::spawn_blocking(move || {
            looping.join().map_err(|_| StorageError::Stopping)?;
            sync.stop()?;
            witness.sync().map_err(|source| StorageError::Witness { source })
        });
        let outcome = stopped.await.map_err(|_| StorageError::Stopping)?;
        if let Some(links) = &self.shared.links {
            // The last word is on its way out; nobody is waited for who does not read.
            tokio::time::timeout(LAST_WORD, links.all_sent()).await.ok();
        }
        if let Some(bringing) = self.bringing {
            tokio::time::timeout(bound, bringing).await.ok();
        }
        self.tasks.shutdown().await;
        outcome
    }
}

fn machine_config(settings: &Settings, (node, boot): (NodeId, Boot), seed: u64) -> Config {
    Config {
        retries: settings.retry.count,
        retry_delay: micros(settings.retry.delay),
        retry_jitter: settings.retry.jitter_percent,
        align: settings.align.clone(),
        in_flight_max: settings.in_flight_max,
        merge: MergeConfig {
            chain: settings.chain.clone(),
            lost_max: settings.lost_max.0,
            lost_bytes_max: settings.lost_max.1,
            ..MergeConfig::default()
        },
        ..Config::new(node, boot, seed)
    }
}

/// What the loop has taken out of it is in memory, too.
fn inbox(settings: &Settings) -> Inbox {
    Inbox::new(settings.in_flight_max, Budget::bytes(settings.heap.inbox / 2))
}

fn link_config(me: Me, settings: &Settings, own: Arc<Own>) -> LinkConfig {
    let founders = if settings.join.is_empty() { settings.members.names() } else { &[] };
    let others = founders.iter().filter(|name| **name != me.name);
    LinkConfig {
        cluster: settings.cluster.clone(),
        password: settings.password.clone(),
        others: others.cloned().collect(),
        dial: settings.dial.clone(),
        suspect_after: settings.suspect_after,
        versions: settings.versions,
        own,
        room: Arc::new(Room::new(Budget::bytes(settings.heap.links))),
        me,
    }
}

fn start_sync(shared: &Arc<Shared>, witness: Arc<Witness>) -> Result<SyncThread, std::io::Error> {
    let (inbox, waker) = (shared.inbox.clone(), Arc::downgrade(shared));
    let boot = shared.boot;
    SyncThread::start(shared.storage.clone(), shared.clock, move |batch, took| {
        let claimed = witness.claim((boot, batch));
        claimed.unwrap_or_else(|source| die(&StorageError::Witness { source }));
        if let Some(shared) = waker.upgrade() {
            shared.metrics.fsync.record(took);
        }
        inbox.signal();
    })
}
