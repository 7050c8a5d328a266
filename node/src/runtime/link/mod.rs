//! Links between servers: one TCP connection per direction, authenticated, framed, bounded. May not
//! know what the messages mean, and dials a peer only at the address that the dial map gives, or
//! else at the one that the servers have agreed on.

pub(crate) mod accept;
mod arrange;
pub(crate) mod auth;
mod board;
mod dial;
pub(crate) mod enlist;
pub(crate) mod frame;
pub(crate) mod handshake;
pub mod metrics;
mod need;
pub(crate) mod own;
mod peer;
mod queue;
pub(crate) mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use quorate_api::{Boot, NodeId};
use quorate_control::servers::{Gone, Member};
use quorate_control::versions::Versions;
use quorate_protocol::io::{PersistSeq, Tick};
use quorate_protocol::message::Message;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::inbox::Inbox;
use super::shared::Shared;
use super::storage::{Durable, Storage, StorageError};
use crate::clock::{Clock, micros};
use auth::Key;
use handshake::{Credentials, Hello, Refusal};
use own::Own;

pub use metrics::LinkBytes;
pub(crate) use need::Use;
pub(crate) use peer::Peer;
pub(crate) use queue::Room;

/// Between two signs of life on a link.
const HEARTBEAT: Duration = Duration::from_millis(50);
/// The same on a server without links on which so many are needed.
const CALM: Duration = Duration::from_millis(250);
/// Between two looks at whether somebody can be reached, or everything is sent.
const REACH_POLL: Duration = Duration::from_millis(5);
/// Looks at the links between two looks at what is to be remembered of peers.
const REMEMBER_EVERY: u32 = 20;
/// A connection on which nothing is acknowledged for so long is given up by the system.
const UNACKNOWLEDGED: Duration = Duration::from_secs(2);

/// A message with what travels beside every message (PROTOCOL.md 3.3). Sender and boot are the
/// link's.
#[derive(Serialize)]
pub(crate) struct Envelope<'a> {
    /// The sender's `cfg`.
    pub(crate) cfg: u64,
    /// Last batch that is durable at the sender.
    pub(crate) durable: PersistSeq,
    /// The message.
    pub(crate) message: &'a Message,
}

/// Who this server is towards others.
#[derive(Debug, Clone)]
pub(crate) struct Me {
    pub(crate) name: String,
    pub(crate) node: NodeId,
    pub(crate) boot: Boot,
    pub(crate) process: u64,
    pub(crate) started_with: Durable,
}

/// What links are made from.
#[derive(Debug, Clone)]
pub(crate) struct LinkConfig {
    pub(crate) me: Me,
    pub(crate) cluster: String,
    pub(crate) password: String,
    /// Those that this server founds the cluster with.
    pub(crate) others: Vec<String>,
    /// Where servers are reached, whatever they say of themselves.
    pub(crate) dial: BTreeMap<String, String>,
    pub(crate) suspect_after: Duration,
    /// What this server speaks, before the cluster's level.
    pub(crate) versions: Versions,
    /// What is told of this server.
    pub(crate) own: Arc<Own>,
    /// What may wait for all peers together.
    pub(crate) room: Arc<Room>,
}

/// Other servers by name.
pub(crate) type Peers = BTreeMap<String, Arc<Peer>>;

/// All links of this server.
pub(crate) struct Links {
    me: Me,
    credentials: Credentials,
    dial: BTreeMap<String, String>,
    peers: ArcSwap<Peers>,
    /// Who there is, once that is agreed on, and who was removed.
    servers: ArcSwap<Vec<Member>>,
    /// Those of them that this one is always linked with.
    always: ArcSwap<BTreeSet<NodeId>>,
    /// Who may tell this server what is new of all, best first.
    above: ArcSwap<Vec<NodeId>>,
    gone: ArcSwap<Vec<Gone>>,
    /// Those who may come back as others.
    absent: ArcSwap<Vec<Gone>>,
    servers_changed: Notify,
    suspect_after: Tick,
    versions: Versions,
    /// Below it nothing is spoken any more.
    level: AtomicU16,
    /// Whom a server that wants to join is presented to.
    host: OnceLock<Weak<Shared>>,
    storage: Arc<Storage>,
    inbox: Arc<Inbox>,
    clock: Clock,
    own: Arc<Own>,
    room: Arc<Room>,
    /// One introduction is judged and remembered at a time, and not while the list changes.
    admitting: Mutex<()>,
}

impl Links {
    /// Prepares the links; tells the loop of every peer met in earlier boots.
    pub(crate) fn new(
        config: LinkConfig,
        storage: Arc<Storage>,
        inbox: Arc<Inbox>,
        clock: Clock,
    ) -> Result<Arc<Self>, StorageError> {
        let key = Key::derive(&config.cluster, &config.password);
        let links = Self {
            me: config.me,
            credentials: Credentials { cluster: config.cluster, key },
            dial: config.dial,
            peers: ArcSwap::default(),
            servers: ArcSwap::default(),
            always: ArcSwap::default(),
            above: ArcSwap::default(),
            gone: ArcSwap::default(),
            absent: ArcSwap::default(),
            servers_changed: Notify::new(),
            suspect_after: micros(config.suspect_after),
            versions: config.versions,
            level: AtomicU16::new(0),
            host: OnceLock::new(),
            storage,
            inbox,
            clock,
            own: config.own,
            room: config.room,
            admitting: Mutex::new(()),
        };
        let others = config.others.into_iter();
        let mut peers = Peers::new();
        for name in others {
            peers.insert(name.clone(), links.make_peer(name, None)?);
        }
        links.peers.store(Arc::new(peers));
        Ok(Arc::new(links))
    }

    /// All other servers by name.
    pub(crate) fn peers(&self) -> Arc<Peers> {
        self.peers.load_full()
    }

    /// What this server speaks on new links.
    pub(crate) fn versions(&self) -> Versions {
        self.versions.from_level(self.level.load(Ordering::Acquire))
    }

    /// The level that was agreed on.
    pub(crate) fn set_level(&self, level: u16) {
        self.level.store(level, Ordering::Release);
    }

    /// A server that is not linked yet; whether it is `expected` shows when it introduces itself.
    fn make_peer(&self, name: String, expected: Option<NodeId>) -> Result<Arc<Peer>, StorageError> {
        let known = self.storage.bindings()?.into_iter().find(|(known, _)| *known == name);
        let known = known.map(|(_, binding)| binding);
        let known = known.filter(|binding| expected.is_none_or(|node| node == binding.node));
        let (inbox, own) = (self.inbox.clone(), self.own.clone());
        let (suspect, room) = (self.suspect_after, &self.room);
        let peer = Arc::new(Peer::new((name, expected), known, inbox, suspect, own, room));
        if let Some(binding) = known {
            peer.bind(binding);
        }
        Ok(peer)
    }

    /// Whoever wants to join is presented to this server.
    pub(crate) fn set_host(&self, host: &Arc<Shared>) {
        // Set once, when the server starts.
        self.host.set(Arc::downgrade(host)).ok();
    }

    /// These are the servers from now on, and with some of them a link is always needed; links
    /// follow as soon as they can.
    pub(crate) fn follow(
        &self,
        servers: &[Member],
        (gone, absent): (&[Gone], &[Gone]),
        (always, above): (BTreeSet<NodeId>, Vec<NodeId>),
    ) {
        if **self.gone.load() != gone {
            self.gone.store(Arc::new(gone.to_vec()));
        }
        self.absent.store(Arc::new(absent.to_vec()));
        let same_links = **self.always.load() == always;
        self.always.store(Arc::new(always));
        self.above.store(Arc::new(above));
        if **self.servers.load() != servers || !same_links {
            self.servers.store(Arc::new(servers.to_vec()));
            self.servers_changed.notify_one();
        }
    }

    /// What is new of all servers goes between MASTERs, and between a REPLICA and the best server
    /// above it that can be reached: along a tree, so that nobody is told twice.
    fn choose_teller(&self, peers: &Peers) {
        let above = self.above.load();
        let find = |node: &NodeId| peers.values().find(|peer| peer.node() == Some(*node));
        let linked = above.iter().filter_map(find).find(|peer| peer.status().1);
        let teller = linked.map(|peer| peer.name.as_str());
        for peer in peers.values() {
            let is_teller = teller == Some(&peer.name);
            // Who may be in doubt with the neighbour before is heard of through the new one.
            if peer.ask_for_news(above.is_empty() && !peer.is_calm() || is_teller) && is_teller {
                self.own.tell_again();
            }
        }
    }

    /// Links with these servers are needed for a while.
    pub(crate) fn demand(&self, nodes: &BTreeSet<NodeId>) {
        if nodes.is_empty() {
            return;
        }
        let now = self.clock.now();
        for peer in self.peers().values() {
            if peer.node().is_some_and(|node| nodes.contains(&node)) {
                peer.demand(now);
            }
        }
    }

    /// Returns once these servers are linked, or the time is over.
    pub(crate) async fn reach(&self, nodes: &BTreeSet<NodeId>, patience: Duration) {
        let peers = self.peers();
        let wanted = |peer: &&Arc<Peer>| peer.node().is_some_and(|node| nodes.contains(&node));
        let far: Vec<_> =
            peers.values().filter(wanted).filter(|peer| !peer.is_always_linked()).collect();
        self.demand(nodes);
        let all_up = async {
            while far.iter().any(|peer| !peer.status().1) {
                // Links come up one by one, and nobody counts them: a short look costs nothing.
                tokio::time::sleep(REACH_POLL).await;
            }
        };
        tokio::time::timeout(patience, all_up).await.ok();
    }

    /// A peer says that this server was removed, which it knows for sure, or has left because it
    /// was lost.
    fn dismissed(&self, is_absent: bool) {
        if let Some(host) = self.host.get().and_then(Weak::upgrade) {
            host.dismiss(is_absent);
        }
    }

    /// Where all other servers are dialled, as far as that is known.
    pub(crate) fn seeds(&self) -> Vec<String> {
        self.peers().keys().filter_map(|name| self.address_of(name)).collect()
    }

    /// One list of peers, and one introduction, is made at a time.
    fn admitting(&self) -> MutexGuard<'_, ()> {
        self.admitting.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Sends a sign of life to every peer, with what is told of this server now.
    pub(crate) fn tell(&self) {
        let now = self.clock.now();
        self.peers().values().for_each(|peer| peer.heartbeat(now));
    }

    /// Returns once nothing waits for a link any more.
    pub(crate) async fn all_sent(&self) {
        let waits = |peer: &Arc<Peer>| peer.queue.depth().0 > 0;
        while self.peers().values().any(waits) {
            // Those who drive the queues tell nobody: a short look costs nothing.
            tokio::time::sleep(REACH_POLL).await;
        }
    }

    /// Starts listening, dialing and heartbeats; all of it ends when the set is dropped.
    pub(crate) fn run(self: &Arc<Self>, listener: TcpListener) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(accept::listen(self.clone(), listener));
        tasks.spawn(arrange::run(self.clone()));
        tasks.spawn(beat(self.clone()));
        tasks
    }

    fn hello(&self, to: &str) -> Result<Hello, getrandom::Error> {
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce)?;
        Ok(Hello {
            cluster: self.credentials.cluster.clone(),
            name: self.me.name.clone(),
            to: to.to_owned(),
            node: self.me.node,
            boot: self.me.boot,
            process: self.me.process,
            started_with: self.me.started_with,
            nonce,
        })
    }

    /// Judges an authenticated introduction and remembers what is new of it, durably, before the
    /// link is used.
    async fn admit(self: &Arc<Self>, hello: Hello) -> Result<Arc<Peer>, Refusal> {
        let links = self.clone();
        tokio::task::spawn_blocking(move || links.admit_blocking(&hello))
            .await
            .unwrap_or(Err(Refusal::Unavailable))
    }

    fn admit_blocking(&self, hello: &Hello) -> Result<Arc<Peer>, Refusal> {
        let _one_at_a_time = self.admitting();
        if self.gone.load().iter().any(|gone| gone.node == hello.node) {
            let may_return = self.absent.load().iter().any(|absent| absent.node == hello.node);
            return Err(if may_return { Refusal::Absent } else { Refusal::Removed });
        }
        let peers = self.peers();
        let peer = peers.get(&hello.name).ok_or(Refusal::UnknownName)?;
        let taken = |other: &Arc<Peer>| {
            other.name != hello.name && other.binding().is_some_and(|b| b.node == hello.node)
        };
        if hello.node == self.me.node || peers.values().any(taken) {
            return Err(Refusal::OtherIdentity);
        }
        let binding = peer.judge(hello)?;
        if peer.binding() != Some(binding) {
            let stored = self.storage.bind(&peer.name, &binding).and_then(|()| self.storage.sync());
            stored.map_err(|error| {
                tracing::error!(%error, peer = peer.name, "cannot remember a peer");
                Refusal::Unavailable
            })?;
        }
        if peer.binding().is_none() {
            // With this server and that one.
            let met = peers.values().filter(|peer| peer.binding().is_some()).count() + 2;
            let (name, of) = (&peer.name, peers.len() + 1);
            tracing::info!(id = %binding.node, "added new node '{name}': {met} of {of} have met");
        }
        peer.bind(binding);
        Ok(peer.clone())
    }
}

/// Sends signs of life, at once when there is news, notices silence, remembers how far peers got.
async fn beat(links: Arc<Links>) {
    for count in 1u32.. {
        let pause =
            if links.peers().values().all(|peer| peer.is_calm()) { CALM } else { HEARTBEAT };
        let is_news = tokio::time::timeout(pause, links.own.changed()).await.is_ok();
        let now = links.clock.now();
        // With no link there is no news either, and what is known grows old all the same.
        links.own.board().pass(now);
        links.choose_teller(&links.peers());
        for peer in links.peers().values() {
            if is_news || peer.is_due(now) {
                peer.heartbeat(now);
            }
            peer.evaluate(now);
        }
        if count.is_multiple_of(REMEMBER_EVERY) {
            remember(&links);
        }
    }
}

/// Durable with whatever is synced next: what is lost in a crash only makes this server less
/// suspicious.
fn remember(links: &Links) {
    for peer in links.peers().values() {
        if let Some(binding) = peer.unstored()
            && let Err(error) = links.storage.bind(&peer.name, &binding)
        {
            tracing::error!(%error, peer = peer.name, "cannot remember a peer");
        }
    }
}

/// Socket options of all links.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

#[cfg(test)]
mod tests;
