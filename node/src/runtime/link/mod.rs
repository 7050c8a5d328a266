//! Links between servers: one TCP connection per direction, authenticated, framed, bounded. May not
//! know what the messages mean, and dials a peer only at the address that the dial map gives.

mod accept;
mod auth;
mod dial;
pub(crate) mod frame;
pub(crate) mod handshake;
pub mod metrics;
pub(crate) mod own;
mod peer;
mod queue;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate_api::{Boot, NodeId};
use quorate_protocol::io::{PersistSeq, Tick};
use quorate_protocol::message::Message;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::inbox::Inbox;
use super::storage::{Durable, Storage, StorageError};
use crate::clock::{Clock, micros};
use auth::Key;
use handshake::{Credentials, Hello, Refusal};
use own::Own;

pub use metrics::LinkBytes;
pub(crate) use peer::Peer;

/// Between two signs of life on a link.
const HEARTBEAT: Duration = Duration::from_millis(50);
/// Heartbeats between two looks at what is to be remembered of peers.
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
    /// Address per other MASTER.
    pub(crate) dial: BTreeMap<String, String>,
    pub(crate) suspect_after: Duration,
    /// What is told of this server.
    pub(crate) own: Arc<Own>,
}

/// All links of this server.
pub(crate) struct Links {
    me: Me,
    credentials: Credentials,
    dial: BTreeMap<String, String>,
    peers: BTreeMap<String, Arc<Peer>>,
    storage: Arc<Storage>,
    inbox: Arc<Inbox>,
    clock: Clock,
    own: Arc<Own>,
    /// One introduction is judged and remembered at a time.
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
        let bindings: BTreeMap<_, _> = storage.bindings()?.into_iter().collect();
        let suspect_after: Tick = micros(config.suspect_after);
        let mut peers = BTreeMap::new();
        for name in config.dial.keys() {
            let known = bindings.get(name).copied();
            let own = config.own.clone();
            let peer = Arc::new(Peer::new(name.clone(), known, inbox.clone(), suspect_after, own));
            if let Some(binding) = known {
                peer.bind(binding);
            }
            peers.insert(name.clone(), peer);
        }
        let key = Key::derive(&config.cluster, &config.password);
        Ok(Arc::new(Self {
            me: config.me,
            credentials: Credentials { cluster: config.cluster, key },
            dial: config.dial,
            peers,
            storage,
            inbox,
            clock,
            own: config.own,
            admitting: Mutex::new(()),
        }))
    }

    /// All other MASTERs by name.
    pub(crate) fn peers(&self) -> &BTreeMap<String, Arc<Peer>> {
        &self.peers
    }

    /// Sends a sign of life to every peer, with what is told of this server now.
    pub(crate) fn tell(&self) {
        let now = self.clock.now();
        self.peers.values().for_each(|peer| peer.heartbeat(now));
    }

    /// Starts listening, dialing and heartbeats; all of it ends when the set is dropped.
    pub(crate) fn run(self: &Arc<Self>, listener: TcpListener) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        tasks.spawn(accept::listen(self.clone(), listener));
        for (name, address) in &self.dial {
            if let Some(peer) = self.peers.get(name) {
                tasks.spawn(dial::keep(self.clone(), peer.clone(), address.clone()));
            }
        }
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
        let _one_at_a_time = self.admitting.lock().unwrap_or_else(|p| p.into_inner());
        let peer = self.peers.get(&hello.name).ok_or(Refusal::UnknownName)?;
        let taken = |other: &Arc<Peer>| {
            other.name != hello.name && other.binding().is_some_and(|b| b.node == hello.node)
        };
        if hello.node == self.me.node || self.peers.values().any(taken) {
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
            let met = self.peers.values().filter(|peer| peer.binding().is_some()).count() + 2;
            let (name, of) = (&peer.name, self.peers.len() + 1);
            tracing::info!(id = %binding.node, "added new node '{name}': {met} of {of} have met");
        }
        peer.bind(binding);
        Ok(peer.clone())
    }
}

/// Sends signs of life, at once when there is news, notices silence, remembers how far peers got.
async fn beat(links: Arc<Links>) {
    let mut timer = tokio::time::interval(HEARTBEAT);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for count in 1u32.. {
        tokio::select! {
            _ = timer.tick() => {}
            () = links.own.changed() => {}
        }
        let now = links.clock.now();
        for peer in links.peers.values() {
            peer.heartbeat(now);
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
    for peer in links.peers.values() {
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
