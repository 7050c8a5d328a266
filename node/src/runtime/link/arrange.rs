//! Brings the links to the servers that were agreed on: whoever is new is dialled and let in,
//! whoever is gone is not any more. May not decide who that is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};

use super::peer::{Direction, Peer};
use super::{Links, Peers, Use, dial};
use crate::runtime::storage::StorageError;

/// Before what did not work is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// A link that is kept.
struct Kept {
    peer: Arc<Peer>,
    address: String,
    task: AbortHandle,
}

/// Follows the servers, for ever; all links end with it.
pub(super) async fn run(links: Arc<Links>) {
    let mut tasks = JoinSet::new();
    let mut kept: BTreeMap<String, Kept> = BTreeMap::new();
    loop {
        let regrouping = links.clone();
        let regrouped = tokio::task::spawn_blocking(move || regrouping.regroup()).await;
        let Ok(regrouped) = regrouped else { return };
        let peers = links.peers();
        let is_stale = |name: &str, kept: &Kept| {
            let same = peers.get(name).is_some_and(|peer| Arc::ptr_eq(peer, &kept.peer));
            !same || links.address_of(name).as_ref() != Some(&kept.address)
        };
        for (_, old) in kept.extract_if(.., |name, kept| is_stale(name, kept)) {
            old.task.abort();
            old.peer.queue.detach();
            old.peer.link_down(Direction::Out, 0, links.clock.now());
        }
        for (name, peer) in peers.iter() {
            if kept.contains_key(name) {
                continue;
            }
            let Some(address) = links.address_of(name) else { continue };
            let keep = dial::keep(links.clone(), peer.clone(), address.clone());
            let task = tasks.spawn(keep);
            kept.insert(name.clone(), Kept { peer: peer.clone(), address, task });
        }
        while tasks.try_join_next().is_some() {}
        let changed = links.servers_changed.notified();
        if let Err(error) = regrouped {
            tracing::error!(%error, "links do not follow the servers yet");
            tokio::time::timeout(PAUSE, changed).await.ok();
        } else {
            changed.await;
        }
    }
}

impl Links {
    /// Where a server is dialled.
    pub(super) fn address_of(&self, name: &str) -> Option<String> {
        let servers = self.servers.load();
        let said = || servers.iter().find(|server| server.name == name)?.address.clone();
        self.dial.get(name).cloned().or_else(said)
    }

    /// Makes the peers those that were agreed on; before anything was, they are the founders.
    fn regroup(&self) -> Result<(), StorageError> {
        let servers = self.servers.load_full();
        if servers.is_empty() {
            return Ok(());
        }
        let _nobody_is_admitted = self.admitting();
        let before = self.peers();
        let mut after = Peers::new();
        for server in servers.iter().filter(|server| server.node != self.me.node) {
            let known = before.get(&server.name);
            let known = known.filter(|peer| peer.node().is_none_or(|node| node == server.node));
            let peer = match known {
                Some(known) => known.clone(),
                None => self.make_peer(server.name.clone(), Some(server.node))?,
            };
            after.insert(server.name.clone(), peer);
        }
        // What fails is tried again, with the same peers before it.
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            self.storage.unbind(name)?;
        }
        self.peers.store(Arc::new(after.clone()));
        let is_master = |node| servers.iter().any(|s| s.node == node && s.role.votes());
        self.own.board().keep(servers.iter().map(|server| server.node).collect());
        let (always, now) = (self.always.load(), self.clock.now());
        let master = is_master(self.me.node);
        for peer in after.values() {
            let Some(node) = peer.node() else { continue };
            let usage = Use { always: always.contains(&node), calm: !master || !is_master(node) };
            peer.set_use(usage, now);
        }
        for (name, peer) in before.iter() {
            if after.get(name).is_some_and(|kept| Arc::ptr_eq(kept, peer)) {
                continue;
            }
            tracing::info!("removed node '{name}'");
            peer.retire();
        }
        Ok(())
    }
}
