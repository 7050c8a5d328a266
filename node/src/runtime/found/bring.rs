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

use quorate_api::{ClusterKey, Committed, ErrorCode, ItemId, ItemKey, OpKind, Stamp};
use quorate_control::command::Command;
use quorate_control::found::Origin;
use quorate_control::indexes::{IndexKind, IndexState};
use quorate_control::members::Members;
use quorate_control::schema::{Database, Schema, TOKEN_CLUSTER};
use quorate_protocol::io::{Base, Proposal, SessionToken};

use super::aside::{self, Place};
use crate::http::backend::DecideError;
use crate::memory::Budget;
use crate::runtime::data_dir::{DataDir, saved_name};
use crate::runtime::handle::{NodeHandle, NodeState};
use crate::runtime::shared::Shared;
use crate::runtime::storage::{Share, StorageError};
use crate::runtime::{Node, Settings};

/// Items of one transaction; a page of them may have fewer, for their bytes.
const ITEMS_MAX: usize = 500;
/// How long the servers may take to agree, or to commit, before it is tried again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries of what servers refuse for now, who do not say when they will not, and two
/// looks at this server's own state, which changes a few times in its life.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at what cannot come for now, if nothing changes.
const RETRY: Duration = Duration::from_secs(1);
/// How long servers may refuse an item for now before other databases have their turn.
const TURN: Duration = Duration::from_secs(30);
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
    let path = place.path.display();
    if let Err(error) = place.begin() {
        tracing::error!(%error, "the databases in {path} are not brought in");
        return true;
    }
    let found = open(place, settings).await;
    let (found, positions) = match found {
        Ok(found) => found,
        Err(why) => {
            tracing::error!(why, "the databases in {path} are not brought in");
            opened(place);
            return true;
        }
    };
    let source = Source { node: place.node, handle: found.handle(), positions };
    let stopping =
        until(|| matches!(cluster.shared.state(), NodeState::ShuttingDown | NodeState::Offline));
    let bringing = async {
        source.settle().await;
        opened(place);
        source.bring_all(cluster).await;
    };
    let brought = tokio::select! {
        () = bringing => true,
        () = stopping => false,
    };
    opened(place);
    drop(source);
    if let Err(error) = found.stop(STOP_BOUND).await {
        tracing::warn!(%error, "what was set aside was not closed in order");
    }
    if brought && let Err(error) = place.is_done() {
        tracing::warn!(%error, "it is looked through again at the next start");
    }
    brought
}

fn opened(place: &Place) {
    if let Err(error) = place.is_opened() {
        tracing::warn!(%error, "this counts as if the server had ended meanwhile");
    }
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
            let opened = DataDir::open(&data, &name, settings.versions, Share::default());
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
            // It serves nobody but this one.
            heap: Budget::LITTLE,
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

/// Why one of its databases is not brought in.
enum Stopped {
    /// For now. What it waits for is said once.
    Waits(String),
    /// The servers did not agree, or commit, in time.
    Again,
    /// Its database in the cluster is no more, or is not this server's to bring.
    Dropped,
}

impl Source {
    /// What was acknowledged may have been undecided when its last life ended.
    async fn settle(&self) {
        until(|| self.handle.shared.state() == NodeState::Online).await;
        self.handle.votes_settled().await;
    }

    /// Brings in every database; what another one keeps away waits for that one to go.
    async fn bring_all(&self, cluster: &NodeHandle) {
        let mut changes = cluster.shared.changes.subscribe();
        let schema = self.handle.schema();
        let (halves, mut left): (Vec<Database>, Vec<Database>) =
            schema.databases.iter().cloned().partition(|database| database.brought_by().is_some());
        for half in halves {
            let name = &half.name;
            tracing::info!("database '{name}' was only coming here: what there is of it stays");
        }
        let mut told = BTreeSet::new();
        while !left.is_empty() {
            changes.mark_unchanged();
            let mut waits = Vec::new();
            for database in left {
                match self.bring(cluster, &database).await {
                    Ok(how) => {
                        cluster.shared.set_waiting(&database.name, None);
                        tracing::info!("database '{}' {how}", database.name);
                    }
                    Err(Stopped::Waits(why)) => {
                        cluster.shared.set_waiting(&database.name, Some(&why));
                        if told.insert(why.clone()) {
                            tracing::warn!("{why}");
                        }
                        waits.push(database);
                    }
                    Err(Stopped::Again | Stopped::Dropped) => waits.push(database),
                }
            }
            left = waits;
            if !left.is_empty() {
                tokio::time::timeout(RETRY, changes.changed()).await.ok();
            }
        }
    }

    /// Brings in one database; says how that ended.
    async fn bring(&self, cluster: &NodeHandle, found: &Database) -> Result<String, Stopped> {
        let me = cluster.shared.node;
        let own = Origin { server: self.node, number: found.id };
        let origin = found.origin.unwrap_or(own);
        let name = &found.name;
        let schema = cluster.schema();
        if schema.of_origin(origin, name).is_none() && !schema.was_dropped(origin) {
            self.adopt(cluster, origin, found).await?;
            if cluster.schema().of_origin(origin, name).is_some() {
                cluster.shared.set_waiting(name, None);
            }
        }
        let schema = cluster.schema();
        match schema.of_origin(origin, name) {
            Some(there) if there.brought_by() == Some(me) => {
                let began = Instant::now();
                let items = self.copy(cluster, found.id, there).await?;
                let cover = cluster.session(SessionToken::new(), Vec::new(), soon()).await;
                let cover = cover.map_err(|_| Stopped::Again)?;
                let brought = Command::Brought { database: there.id, by: me, cover };
                cluster.decide(brought, soon()).await.map_err(|_| Stopped::Again)?;
                Ok(format!("is brought in from the disk: {items} items in {:?}", began.elapsed()))
            }
            Some(_) => Ok("found on the disk is in the cluster: that one counts".to_owned()),
            None if schema.was_dropped(origin) => {
                Ok("was brought in and dropped: what is on the disk stays there".to_owned())
            }
            None => Err(Stopped::Waits(format!(
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
    ) -> Result<(), Stopped> {
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
            Err(DecideError::Refused(refusal)) => Err(Stopped::Waits(refusal.text)),
            Err(DecideError::Failed(_)) => Err(Stopped::Again),
        }
    }

    /// Writes everything that a database holds where it is `to` be in the cluster; gives how many
    /// items there are. Clusters and indexes are those that were agreed on there: an index may have
    /// become ready here since.
    async fn copy(&self, cluster: &NodeHandle, from: u32, to: &Database) -> Result<u64, Stopped> {
        let records = to.clusters.iter().map(|cluster| cluster.id);
        // Entries of the other indexes follow from the records.
        let unique = to.indexes.iter().filter(|index| index.kind == IndexKind::Unique);
        let keys = unique.map(|index| index.cluster);
        let mut items = 0;
        for number in records.chain(keys).chain([TOKEN_CLUSTER]) {
            let from = ClusterKey { database: from, cluster: number };
            let target = ClusterKey { database: to.id, cluster: number };
            let mut after = None;
            loop {
                let page = self.page(from, after).await.map_err(|error| {
                    let name = &to.name;
                    Stopped::Waits(format!(
                        "database '{name}' cannot be read from the disk: {error}"
                    ))
                })?;
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                // What was a witness has not all of it: rather none of a record than an empty one.
                let is_whole = |found: &Committed| found.live && !found.lacks_content();
                let live = page.into_iter().filter(|(_, committed)| is_whole(committed));
                let live: Vec<_> =
                    live.map(|(key, found)| (ItemId { cluster: target, key }, found)).collect();
                items += live.len() as u64;
                write(cluster, &to.name, live).await?;
            }
        }
        Ok(items)
    }

    /// The next items of a cluster. What cannot be read here is no reason to end: other databases
    /// of this server are in another store.
    async fn page(
        &self,
        of: ClusterKey,
        after: Option<ItemKey>,
    ) -> Result<Vec<(ItemKey, Committed)>, StorageError> {
        let storage = self.handle.shared.storage.clone();
        let read = move || storage.items_after(of, after.as_ref(), ITEMS_MAX);
        tokio::task::spawn_blocking(read).await.map_err(|_| StorageError::Stopping)?
    }
}

/// It is agreed on that this database cannot come.
fn is_noted(schema: &Schema, by: quorate_api::NodeId, origin: Origin, name: &str) -> bool {
    let mut strays = schema.strays.iter();
    strays.any(|stray| (stray.server, stray.origin) == (by, origin) && stray.database == name)
}

/// Writes these where they are not yet, until all of them are.
async fn write(
    cluster: &NodeHandle,
    name: &str,
    items: Vec<(ItemId, Committed)>,
) -> Result<(), Stopped> {
    let (began, mut at_once) = (Instant::now(), ITEMS_MAX);
    let mut left = absent(cluster, items).await;
    while let Some((first, _)) = left.first() {
        let (database, item) = (first.cluster.database, first.clone());
        let ops = left.iter().take(at_once).map(create).collect();
        let Err(failure) = cluster.submit(ops, soon()).await else {
            left.drain(..at_once.min(left.len()));
            continue;
        };
        tracing::debug!(?failure, "not written yet");
        let schema = cluster.schema();
        let mut all = schema.databases.iter();
        let found = all.find(|other| other.id == database);
        if found.is_none_or(|found| found.brought_by() != Some(cluster.shared.node)) {
            return Err(Stopped::Dropped);
        }
        let item = failure.item.unwrap_or(item);
        let code = failure.code;
        if code == ErrorCode::TooLarge && at_once > 1 {
            // Each of them was small enough by itself when it was written first.
            at_once = 1;
        } else if !is_for_now(code) || began.elapsed() > TURN {
            return Err(Stopped::Waits(format!(
                "database '{name}' waits with {item}, which is refused: {code}"
            )));
        } else {
            tokio::time::sleep(PAUSE).await;
        }
        left = absent(cluster, left).await;
    }
    Ok(())
}

/// Those that are not there.
async fn absent(cluster: &NodeHandle, items: Vec<(ItemId, Committed)>) -> Vec<(ItemId, Committed)> {
    let mut absent = Vec::new();
    for (item, found) in items {
        if cluster.read_local(&item).await.ok().flatten().is_none() {
            absent.push((item, found));
        }
    }
    absent
}

fn create((item, found): &(ItemId, Committed)) -> Proposal {
    Proposal {
        item: item.clone(),
        kind: OpKind::Create,
        base: Base::Exact(Stamp::ABSENT),
        image: found.image.clone(),
    }
}

/// Whether the same items may be written later. An attempt whose end is not known may have written
/// them, which is a conflict for the next one until it is seen here; and a server that aligns may
/// believe for a while in what was.
const fn is_for_now(code: ErrorCode) -> bool {
    code.retryable() || matches!(code, ErrorCode::Deadline | ErrorCode::VersionConflict)
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(PAUSE).await;
    }
}
