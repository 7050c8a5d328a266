//! The task that brings in what was set aside: a server within the server, which stands alone and
//! listens to nobody, settles what was under way in its last life; then its databases are made in
//! the cluster and their items written there, with the ids that they had, by ordinary transactions
//! of this server. May not know what items hold.
//!
//! Nothing but this task writes to a database that is coming, and it writes each item once, on
//! absence: what is there after a kill, or after a transaction in doubt, is what was to be written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_api::{ClusterKey, Committed, ItemId, ItemKey, OpKind, Stamp};
use quorate_control::command::Command;
use quorate_control::found::Origin;
use quorate_control::indexes::{IndexKind, IndexState};
use quorate_control::members::Members;
use quorate_control::schema::{Database, Schema, TOKEN_CLUSTER};
use quorate_protocol::io::{Base, Proposal, SessionToken};

use super::aside::{self, Place};
use crate::http::backend::DecideError;
use crate::runtime::data_dir::{DataDir, saved_name};
use crate::runtime::handle::{NodeHandle, NodeState};
use crate::runtime::shared::Shared;
use crate::runtime::{Node, Settings};

/// Items of one transaction; a page of them may have fewer, for their bytes.
const ITEMS_MAX: usize = 500;
/// How long the servers may take to agree, or to commit, before it is tried again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries, and two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at what cannot come for now, if nothing changes.
const RETRY: Duration = Duration::from_secs(1);
/// How long the server within may take to end.
const STOP_BOUND: Duration = Duration::from_secs(3);

/// Brings in all that was set aside, unless this server stops before.
pub(in crate::runtime) async fn run(shared: Arc<Shared>, settings: Settings) {
    let places = match aside::places(&settings.data) {
        Ok(places) => places,
        Err(error) => {
            tracing::error!(%error, "what was set aside is not brought in");
            return;
        }
    };
    let cluster = NodeHandle::new(shared.clone());
    let stopping = async {
        while !matches!(shared.state(), NodeState::ShuttingDown | NodeState::Offline) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = forget_strays(&cluster) => {}
        () = stopping => return,
    }
    for place in places {
        if !bring_from(&cluster, &place, &settings).await {
            return;
        }
    }
}

/// What cannot come is noted again if it still cannot.
async fn forget_strays(cluster: &NodeHandle) {
    let node = cluster.shared.node;
    until(|| cluster.shared.state() == NodeState::Online).await;
    while cluster.schema().strays.iter().any(|stray| stray.server == node) {
        if cluster.decide(Command::ForgetStrays { of: node }, soon()).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Brings in what one folder has; false when this server stops.
async fn bring_from(cluster: &NodeHandle, place: &Place, settings: &Settings) -> bool {
    let found = match open(place, settings).await {
        Ok(found) => found,
        Err(why) => {
            let path = place.path.display();
            tracing::error!(why, "the databases in {path} are not brought in");
            return true;
        }
    };
    let source = Source { node: place.node, handle: found.0.handle(), positions: found.1 };
    let stopping =
        until(|| matches!(cluster.shared.state(), NodeState::ShuttingDown | NodeState::Offline));
    let brought = tokio::select! {
        () = source.bring_all(cluster) => true,
        () = stopping => false,
    };
    drop(source);
    if let Err(error) = found.0.stop(STOP_BOUND).await {
        tracing::warn!(%error, "what was set aside was not closed in order");
    }
    if brought && let Err(error) = place.is_done() {
        tracing::warn!(%error, "it is looked through again at the next start");
    }
    brought
}

/// By database, and cluster of it, the first position that was never granted.
type Positions = BTreeMap<u32, BTreeMap<u32, u64>>;

/// Starts the server within.
async fn open(place: &Place, settings: &Settings) -> Result<(Node, Positions), String> {
    let (data, settings) = (place.path.clone(), settings.clone());
    let start = move || {
        let name = saved_name(&data).map_err(|error| error.to_string())?;
        let name = name.ok_or("there is no identity in it")?;
        let positions = {
            let opened = DataDir::open(&data, &name, settings.versions);
            let opened = opened.map_err(|error| error.to_string())?;
            let control = opened.storage.recover_control().map_err(|error| error.to_string())?;
            let agreed = aside::alone(&opened, &control);
            let agreed = agreed.ok_or("it is not that of a server that stood alone")?;
            let ids = agreed.schema.databases.iter().map(|database| database.id);
            ids.map(|id| (id, agreed.positions_of(id))).collect()
        };
        let within = Settings {
            members: Members::new([name.as_str()]).map_err(|error| error.to_string())?,
            name,
            data,
            http: None,
            join: Vec::new(),
            advertise: None,
            multicast: false,
            dial: BTreeMap::new(),
            ..settings
        };
        let node = Node::start(within, None).map_err(|error| error.to_string())?;
        Ok((node, positions))
    };
    let started = tokio::task::spawn_blocking(start).await;
    started.map_err(|error| error.to_string())?
}

/// What is brought in.
struct Source {
    /// Its identity.
    node: quorate_api::NodeId,
    handle: NodeHandle,
    positions: Positions,
}

/// One of its databases is not done with yet, and why.
enum NotYet {
    /// What it waits for is said once.
    Waits(String),
    /// The servers did not agree, or commit, in time.
    Again,
}

impl Source {
    /// Brings in every database; what another one keeps away waits for that one to go.
    async fn bring_all(&self, cluster: &NodeHandle) {
        until(|| self.handle.shared.state() == NodeState::Online).await;
        // What was acknowledged may have been undecided when its last life ended.
        self.handle.votes_settled().await;
        let mut changes = cluster.shared.changes.subscribe();
        let mut left: Vec<Database> = self.handle.schema().databases.clone();
        let mut told = BTreeSet::new();
        while !left.is_empty() {
            changes.mark_unchanged();
            let mut waits = Vec::new();
            for database in left {
                match self.bring(cluster, &database).await {
                    Ok(how) => tracing::info!("database '{}' {how}", database.name),
                    Err(NotYet::Waits(why)) => {
                        if told.insert(why.clone()) {
                            tracing::warn!("{why}");
                        }
                        waits.push(database);
                    }
                    Err(NotYet::Again) => waits.push(database),
                }
            }
            left = waits;
            if !left.is_empty() {
                tokio::time::timeout(RETRY, changes.changed()).await.ok();
            }
        }
    }

    /// Brings in one database; says how that ended.
    async fn bring(&self, cluster: &NodeHandle, found: &Database) -> Result<String, NotYet> {
        let me = cluster.shared.node;
        let own = Origin { server: self.node, number: found.id };
        let origin = found.origin.unwrap_or(own);
        let name = &found.name;
        let schema = cluster.schema();
        if schema.of_origin(origin, name).is_none() {
            self.adopt(cluster, origin, found).await?;
        }
        let schema = cluster.schema();
        match schema.of_origin(origin, name) {
            Some(there) if there.brought_by() == Some(me) => {
                let (to, began) = (there.id, Instant::now());
                let Some(items) = self.copy(cluster, found, to).await else {
                    return Ok("was dropped while it came: it stays on the disk".to_owned());
                };
                let cover = cluster.session(SessionToken::new(), Vec::new(), soon()).await;
                let cover = cover.map_err(|_| NotYet::Again)?;
                let brought = Command::Brought { database: to, by: me, cover };
                cluster.decide(brought, soon()).await.map_err(|_| NotYet::Again)?;
                Ok(format!("is brought in from the disk: {items} items in {:?}", began.elapsed()))
            }
            Some(_) => Ok("found on the disk is in the cluster: that one counts".to_owned()),
            None => Err(NotYet::Waits(format!(
                "database '{name}' found on the disk is another one than that of this name in the \
                 cluster: it stays where it is; whoever wants it drops the other one"
            ))),
        }
    }

    /// Has the database made, or a note that it cannot be.
    async fn adopt(
        &self,
        cluster: &NodeHandle,
        origin: Origin,
        found: &Database,
    ) -> Result<(), NotYet> {
        let by = cluster.shared.node;
        if is_noted(&cluster.schema(), by, origin, &found.name) {
            return Ok(());
        }
        let positions = self.positions.get(&found.id).cloned().unwrap_or_default();
        let mut database = Box::new(found.clone());
        database.indexes.retain(|index| {
            let is_ready = index.state == IndexState::Ready;
            if !is_ready {
                let (state, name) = (index.state.name(), &index.name);
                tracing::warn!("index '{name}' is {state} on the disk and stays there");
            }
            is_ready
        });
        let adopt = Command::Adopt { by, origin, database, positions };
        match cluster.decide(adopt, soon()).await {
            Ok(()) => Ok(()),
            Err(DecideError::Refused(refusal)) => Err(NotYet::Waits(refusal.text)),
            Err(DecideError::Failed(_)) => Err(NotYet::Again),
        }
    }

    /// Writes everything that a database holds under its number in the cluster; gives how many
    /// items there are, or `None` once it is no more.
    async fn copy(&self, cluster: &NodeHandle, found: &Database, to: u32) -> Option<u64> {
        let records = found.clusters.iter().map(|cluster| cluster.id);
        // Entries of the other indexes follow from the records.
        let unique = found
            .indexes
            .iter()
            .filter(|index| index.kind == IndexKind::Unique && index.state == IndexState::Ready);
        let keys = unique.map(|index| index.cluster);
        let mut items = 0;
        for number in records.chain(keys).chain([TOKEN_CLUSTER]) {
            let from = ClusterKey { database: found.id, cluster: number };
            let to = ClusterKey { database: to, cluster: number };
            let mut after = None;
            loop {
                let page = self.page(from, after).await;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                // What was a witness has not all of it: rather none of a record than an empty one.
                let is_whole = |found: &Committed| found.live && !found.lacks_content();
                let live = page.into_iter().filter(|(_, committed)| is_whole(committed));
                let live: Vec<_> =
                    live.map(|(key, found)| (ItemId { cluster: to, key }, found)).collect();
                items += live.len() as u64;
                write(cluster, live).await?;
            }
        }
        Some(items)
    }

    /// The next items of a cluster. A disk that gives none ends the process, as it does elsewhere.
    async fn page(&self, of: ClusterKey, after: Option<ItemKey>) -> Vec<(ItemKey, Committed)> {
        let storage = self.handle.shared.storage.clone();
        let read = move || storage.items_after(of, after.as_ref(), ITEMS_MAX);
        match tokio::task::spawn_blocking(read).await {
            Ok(Ok(page)) => page,
            Ok(Err(error)) => crate::runtime::storage::die(&error),
            // Only when the process ends.
            Err(_) => std::future::pending().await,
        }
    }
}

/// It is agreed on that this database cannot come.
fn is_noted(schema: &Schema, by: quorate_api::NodeId, origin: Origin, name: &str) -> bool {
    let mut strays = schema.strays.iter();
    strays.any(|stray| (stray.server, stray.origin) == (by, origin) && stray.database == name)
}

/// Writes these where they are not yet, until all of them are; `None` once their database is no
/// more, or is not this server's to bring.
async fn write(cluster: &NodeHandle, items: Vec<(ItemId, Committed)>) -> Option<()> {
    let me = cluster.shared.node;
    let database = items.first().map(|(item, _)| item.cluster.database);
    let mut left = items;
    loop {
        let mut absent = Vec::new();
        for (item, found) in left {
            let there = cluster.read_local(&item).await.ok().flatten();
            if there.is_none() {
                absent.push((item, found));
            }
        }
        if absent.is_empty() {
            return Some(());
        }
        let create = |(item, found): &(ItemId, Committed)| Proposal {
            item: item.clone(),
            kind: OpKind::Create,
            base: Base::Exact(Stamp::ABSENT),
            image: found.image.clone(),
        };
        let ops = absent.iter().map(create).collect();
        match cluster.submit(ops, soon()).await {
            Ok(_) => return Some(()),
            Err(failure) => tracing::debug!(?failure, "not written yet"),
        }
        let schema = cluster.schema();
        let is_coming = |id| {
            let mut all = schema.databases.iter();
            all.any(|other| Some(other.id) == id && other.brought_by() == Some(me))
        };
        if !is_coming(database) {
            return None;
        }
        left = absent;
        tokio::time::sleep(PAUSE).await;
    }
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(PAUSE).await;
    }
}
