//! Composes what this server tells the others of itself, and puts what they tell beside it. May not
//! send it: links do, with their signs of life.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_api::{ClusterKey, NodeId};
use quorate_control::schema::Schema;
use quorate_protocol::io::Placement;

use super::metrics::{machine_bytes, resident_bytes};
use super::shared::Shared;
use crate::http::members::{
    Addendum, Bulletin, Found, FoundState, Server, ServerState, Servers, Uniting,
};

/// Between two bulletins while the databases stay the same, of few servers. Among more of them each
/// tells less often, so that everybody hears no more than so many a second.
const EVERY: Duration = Duration::from_secs(1);
const A_SECOND: u32 = 20;
const SELDOM: Duration = Duration::from_secs(10);

/// Keeps the bulletin fresh, for ever.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut changes = shared.changes.subscribe();
    loop {
        changes.mark_unchanged();
        let servers = u32::try_from(shared.schema.load().servers.len()).unwrap_or(u32::MAX);
        let period = (EVERY * servers.min(1_000) / A_SECOND).clamp(EVERY, SELDOM);
        shared.own.publish(compose(&shared), period);
        // Whichever comes first: the schema changed, or the rest grew old.
        tokio::time::timeout(period, changes.changed()).await.ok();
    }
}

/// This server as of now.
fn compose(shared: &Shared) -> Bulletin {
    let peers = shared.links.as_ref().map(|links| links.peers()).unwrap_or_default();
    Bulletin {
        http: shared.listeners.http,
        peer: shared.listeners.peer,
        started_ms: shared.started_us / 1_000,
        connections: shared.connections.load(Ordering::Relaxed),
        memory: resident_bytes().unwrap_or(0),
        memory_max: machine_bytes().unwrap_or(0),
        databases: served(shared),
        lags: shared.metrics.behind(),
        toward: peers
            .iter()
            .filter(|(_, peer)| peer.is_always_linked())
            .map(|(name, peer)| (name.clone(), peer.toward()))
            .collect(),
        addendum: Addendum {
            speaks: shared.versions.newest,
            behind_ms: shared.metrics.behind_ms(shared.clock.now()),
            progress: shared.progress(),
        },
    }
}

/// Names of the databases that clients of this server can see.
fn served(shared: &Shared) -> Vec<String> {
    let schema = shared.schema.load();
    schema.served_by(shared.node).map(|database| database.name.clone()).collect()
}

/// Databases on servers' disks that are not, or not yet, in the cluster. Why one waits is known to
/// its own server alone, unless it is agreed on.
fn found(shared: &Shared, schema: &Schema) -> Vec<Found> {
    let waiting = shared.waiting();
    let is_own =
        |server: &str, database: &str| server == shared.name && waiting.contains_key(database);
    let coming = schema.databases.iter().filter_map(|database| {
        let server = schema.server_name(database.brought_by()?)?.to_owned();
        Some(Found { server, database: database.name.clone(), state: FoundState::Coming })
    });
    let coming = coming.filter(|found| !is_own(&found.server, &found.database));
    let strays = schema.strays.iter().filter_map(|stray| {
        let server = schema.server_name(stray.server)?.to_owned();
        Some(Found { server, database: stray.database.clone(), state: FoundState::Refused })
    });
    let strays: Vec<Found> = strays.collect();
    let is_stray = |name: &str| {
        strays.iter().any(|stray| (&*stray.server, &*stray.database) == (&*shared.name, name))
    };
    let waits = waiting.iter().filter(|(database, _)| !is_stray(database));
    let waits = waits.map(|(database, why)| Found {
        server: shared.name.clone(),
        database: database.clone(),
        state: FoundState::Waits(why.clone()),
    });
    coming.chain(strays.iter().cloned()).chain(waits).collect()
}

/// All servers, as this one sees them.
pub(super) fn servers(shared: &Shared) -> Servers {
    let schema = shared.schema.load();
    let role = |node: Option<NodeId>| {
        let agreed = node.and_then(|node| schema.server(node));
        agreed.map(|server| server.role).unwrap_or_default()
    };
    let itself = Server {
        role: role(Some(shared.node)),
        name: shared.name.clone(),
        node: Some(shared.node),
        state: ServerState::Is(shared.state()),
        is_heard: true,
        bulletin: Some(compose(shared)),
        received: [].into(),
    };
    let peers = shared.links.as_ref().map(|links| links.peers()).unwrap_or_default();
    let others = peers.values().map(|peer| peer.server(role(peer.node())));
    let mut list: Vec<Server> = others.chain([itself]).collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    Servers {
        own: shared.name.clone(),
        is_distributed: shared.links.is_some(),
        now_ms: shared.clock.wall_us() / 1_000,
        found: found(shared, &schema),
        list,
        uniting: uniting(&shared.placements.load(), &schema),
        offline: schema.offline(),
    }
}

/// Clusters on their way from W below a majority to one.
pub(super) fn uniting(
    placements: &BTreeMap<ClusterKey, Placement>,
    schema: &Schema,
) -> Vec<Uniting> {
    let name = |node| schema.server_name(node).map_or_else(|| node.to_string(), str::to_owned);
    placements.iter().filter_map(|(key, p)| Uniting::of(*key, p, name)).collect()
}
