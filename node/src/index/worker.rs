//! The task of every server that fills a new index from its own committed state and reports
//! (`quorate_control::indexes` says why that is enough). Keys of existing records are claimed in
//! transactions that check the record, so that a writer who changes it meanwhile wins or loses as a
//! whole. May not know how requests come in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_api::{ClusterKey, Committed, ErrorCode, ItemId, OpKind, Rid, Stamp};
use quorate_control::command::Command;
use quorate_control::indexes::{Index, IndexKind, IndexState};
use quorate_control::schema::{Database, Schema};
use quorate_protocol::io::{Base, Proposal};
use serde_json::Value;

use super::{key, table};
use crate::http::backend::{Backend, DecideError, Planned};
use crate::runtime::metrics::Counter;

/// Records looked at, and at most claimed for, in one transaction.
const GROUP: usize = 64;
/// Most wait for one transaction or read.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before what did not work is tried again; a change of the schema ends it early.
const PAUSE: Duration = Duration::from_millis(200);
/// Tries to settle one key with whoever is in the way, before the whole is begun again.
const KEY_ATTEMPTS_MAX: u32 = 20;

/// What became of indexes that were to be filled.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Reported as filled.
    pub(crate) filled: Counter,
    /// Reported as impossible.
    pub(crate) impossible: Counter,
    /// Begun again later, because a step did not work.
    pub(crate) setbacks: Counter,
}

/// Why a step did not work; all of it is tried again later.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Setback {
    #[error("{0}")]
    Refused(ErrorCode),
    #[error("{0}")]
    Unreadable(String),
    #[error("the index is gone")]
    Gone,
}

impl From<crate::http::backend::ReadError> for Setback {
    fn from(error: crate::http::backend::ReadError) -> Self {
        Self::Unreadable(error.text)
    }
}

impl From<quorate_protocol::io::Failure> for Setback {
    fn from(failure: quorate_protocol::io::Failure) -> Self {
        Self::Refused(failure.code)
    }
}

/// Fills whatever is building, for ever.
pub(crate) async fn run<B: Backend>(backend: B, counters: Arc<Counters>) {
    let mut changes = backend.changes();
    let mut told = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let todo = unreported(&backend);
        for index in &todo {
            let task = Task { backend: &backend, index: *index, counters: &counters };
            if let Err(setback) = task.run().await {
                counters.setbacks.increment();
                tell(&backend, *index, setback, &mut told);
            }
        }
        told.retain(|index, _| todo.contains(index));
        let changed = if todo.is_empty() {
            changes.changed().await.is_ok()
        } else {
            let waited = tokio::time::timeout(PAUSE, changes.changed()).await;
            !matches!(waited, Ok(Err(_)))
        };
        if !changed {
            return;
        }
    }
}

/// Logs why an index is not filled yet: once for every reason, for it is tried again and again.
fn tell<B: Backend>(
    backend: &B,
    index: ClusterKey,
    setback: Setback,
    told: &mut BTreeMap<ClusterKey, Setback>,
) {
    if told.get(&index) == Some(&setback) {
        return;
    }
    let schema = backend.schema();
    let database = schema.databases.iter().find(|d| d.id == index.database);
    let found = database.and_then(|d| d.indexes.iter().find(|i| i.cluster == index.cluster));
    let name = found.map_or_else(|| index.to_string(), |i| i.name.clone());
    let database = database.map_or("?", |d| &d.name);
    match &setback {
        // Others want the same records, or the schema has moved on: it settles by itself.
        Setback::Gone
        | Setback::Refused(
            ErrorCode::Busy | ErrorCode::VersionConflict | ErrorCode::SchemaChanged,
        ) => tracing::info!(database, index = name, %setback, "index not filled yet"),
        Setback::Refused(_) | Setback::Unreadable(_) => {
            tracing::warn!(database, index = name, %setback, "index not filled yet");
        }
    }
    told.insert(index, setback);
}

/// Indexes that are building and wait for this server's report too.
fn unreported<B: Backend>(backend: &B) -> Vec<ClusterKey> {
    let (schema, node) = (backend.schema(), backend.status().node);
    if schema.masters().all(|master| master.node != node) {
        // Nobody waits for a REPLICA.
        return Vec::new();
    }
    let open = |index: &&Index| match &index.state {
        IndexState::Building(done) => !done.contains(&node),
        IndexState::Ready | IndexState::Failed(_) => false,
    };
    let of = |d: &Database| {
        let key = |cluster| ClusterKey { database: d.id, cluster };
        d.indexes.iter().filter(open).map(|i| key(i.cluster)).collect::<Vec<_>>()
    };
    schema.databases.iter().flat_map(of).collect()
}

/// A record whose key is to be claimed.
struct Claim {
    item: ItemId,
    rid: Rid,
    stamp: Stamp,
    key: Vec<u8>,
}

/// What became of one claim.
enum Claimed {
    Done,
    /// The record that has the key already.
    Duplicate(Rid),
}

struct Task<'a, B> {
    backend: &'a B,
    index: ClusterKey,
    counters: &'a Counters,
}

impl<B: Backend> Task<'_, B> {
    /// Fills the index and reports it, or reports why it cannot be.
    async fn run(&self) -> Result<(), Setback> {
        let (schema, index, covered) = self.look()?;
        let reasons = match index.kind {
            IndexKind::Unique => self.claim_all(&schema, &index, &covered).await?,
            IndexKind::NotUnique => {
                // Any key will do: what is asked is whether there is an answer.
                if self.backend.index_scan(self.index, Vec::new()).await?.is_none() {
                    return Ok(());
                }
                Vec::new()
            }
        };
        self.report(&index.name, &reasons).await
    }

    fn look(&self) -> Result<(Arc<Schema>, Index, Vec<u32>), Setback> {
        let schema = self.backend.schema();
        let database = schema.databases.iter().find(|d| d.id == self.index.database);
        let database = database.ok_or(Setback::Gone)?;
        let index = database.indexes.iter().find(|i| i.cluster == self.index.cluster);
        let index = index.ok_or(Setback::Gone)?.clone();
        let covered = database.clusters_of(&index.class);
        Ok((schema, index, covered))
    }

    /// Claims the keys of all records; gives what speaks against it.
    async fn claim_all(
        &self,
        schema: &Schema,
        index: &Index,
        covered: &[u32],
    ) -> Result<Vec<String>, Setback> {
        // What was voted for before the entry came is applied, so the scan sees it.
        self.backend.votes_settled().await;
        let mut reasons = BTreeSet::new();
        for cluster in covered {
            let cluster = ClusterKey { database: self.index.database, cluster: *cluster };
            let mut from = 0;
            loop {
                let page = self.backend.scan_local(cluster, from, GROUP).await?;
                let last = page.last().map(|(position, _)| *position);
                let mut claims = Vec::new();
                for (position, committed) in page {
                    match self.claim_of(index, cluster, position, &committed) {
                        Ok(claim) => claims.extend(claim),
                        Err(reason) => drop(reasons.insert(reason)),
                    }
                }
                self.claim_group(schema, index, claims, &mut reasons).await?;
                match last.and_then(|last| last.checked_add(1)) {
                    Some(next) if reasons.len() < quorate_control::indexes::DUPLICATES_MAX => {
                        from = next;
                    }
                    Some(_) | None => break,
                }
            }
        }
        Ok(reasons.into_iter().collect())
    }

    /// The claim that a record needs; an error is a reason why there can be no index.
    fn claim_of(
        &self,
        index: &Index,
        cluster: ClusterKey,
        position: u64,
        committed: &Committed,
    ) -> Result<Option<Claim>, String> {
        let item = ItemId::record(cluster, position);
        let rid = Rid { cluster: cluster.cluster, position };
        let value = value_of(committed, &index.field);
        if matches!(value, Value::Array(_) | Value::Object(_)) {
            return Err(format!("{rid}: a list or an object cannot be a unique key"));
        }
        let claim = |key| Claim { item, rid, stamp: committed.stamp, key };
        Ok(key::encode(&value).map(claim))
    }

    async fn claim_group(
        &self,
        schema: &Schema,
        index: &Index,
        claims: Vec<Claim>,
        reasons: &mut BTreeSet<String>,
    ) -> Result<(), Setback> {
        let mut ops = Vec::new();
        let mut fresh: BTreeMap<&[u8], &Claim> = BTreeMap::new();
        let mut hard: Vec<&Claim> = Vec::new();
        for claim in &claims {
            let item = self.key_item(&claim.key);
            let held = self.backend.read_local(&item).await?;
            let owner = held.as_ref().filter(|c| c.live).map(|c| key::owner(c.image.as_ref()));
            match owner {
                Some(owner) if owner == Some(claim.rid) => {}
                Some(_) => hard.push(claim),
                None if fresh.contains_key(&claim.key[..]) => hard.push(claim),
                None => {
                    let base = held.map_or(Stamp::ABSENT, |c| c.stamp);
                    ops.extend(self.ops(claim, claim.stamp, OpKind::Create, base));
                    fresh.insert(&claim.key, claim);
                }
            }
        }
        if !ops.is_empty() && self.submit(schema, ops).await.is_err() {
            hard.extend(fresh.into_values());
        }
        for claim in hard {
            if let Claimed::Duplicate(other) = self.claim_one(schema, index, claim).await? {
                let (a, b) = (other.min(claim.rid), other.max(claim.rid));
                reasons.insert(format!("{a} and {b} have one key"));
            }
        }
        Ok(())
    }

    /// Settles one key with whoever is in the way.
    async fn claim_one(
        &self,
        schema: &Schema,
        index: &Index,
        claim: &Claim,
    ) -> Result<Claimed, Setback> {
        for _ in 0..KEY_ATTEMPTS_MAX {
            let item = self.key_item(&claim.key);
            let wanted = vec![claim.item.clone(), item.clone()];
            let found = self.backend.read_majority(wanted, deadline()).await?;
            let of = |wanted: &ItemId| {
                found.iter().find(|(item, _)| item == wanted).and_then(|(_, found)| found.clone())
            };
            // Whoever changed it since has the new key claimed: it is a writer who knows the index.
            let record = of(&claim.item).filter(|c| c.live);
            let same = |c: &Committed| key::encode(&value_of(c, &index.field));
            let Some(record) = record.filter(|c| same(c).as_ref() == Some(&claim.key)) else {
                return Ok(Claimed::Done);
            };
            let held = of(&item);
            let base = held.as_ref().map_or(Stamp::ABSENT, |c| c.stamp);
            let mut kind = OpKind::Create;
            if let Some(held) = held.filter(|c| c.live) {
                let owner = key::owner(held.image.as_ref());
                if owner == Some(claim.rid) {
                    return Ok(Claimed::Done);
                }
                match owner {
                    Some(other) if self.has_key(index, other, &claim.key).await? => {
                        return Ok(Claimed::Duplicate(other));
                    }
                    Some(_) | None => kind = OpKind::Update,
                }
            }
            let ops = self.ops(claim, record.stamp, kind, base).into();
            if self.submit(schema, ops).await.is_ok() {
                return Ok(Claimed::Done);
            }
            tokio::time::sleep(PAUSE / KEY_ATTEMPTS_MAX).await;
        }
        Err(Setback::Refused(ErrorCode::Busy))
    }

    /// True when a record has the key now.
    async fn has_key(&self, index: &Index, rid: Rid, wanted: &[u8]) -> Result<bool, Setback> {
        let (schema, _, _) = self.look()?;
        let database = schema.databases.iter().find(|d| d.id == self.index.database);
        if database.is_none_or(|d| d.cluster(rid.cluster).is_none()) {
            return Ok(false);
        }
        let cluster = ClusterKey { database: self.index.database, cluster: rid.cluster };
        let item = ItemId::record(cluster, rid.position);
        let found = self.backend.read_majority(vec![item], deadline()).await?;
        let record = found.into_iter().find_map(|(_, found)| found).filter(|c| c.live);
        let has = |c: Committed| key::encode(&value_of(&c, &index.field));
        Ok(record.and_then(has).as_deref() == Some(wanted))
    }

    fn key_item(&self, bytes: &[u8]) -> ItemId {
        key::item(self.index.database, self.index.cluster, bytes.to_vec())
    }

    fn ops(&self, claim: &Claim, record: Stamp, kind: OpKind, base: Stamp) -> [Proposal; 2] {
        let item = self.key_item(&claim.key);
        let image = Some(key::owner_image(claim.rid));
        [
            Proposal {
                item: claim.item.clone(),
                kind: OpKind::Check,
                base: Base::Exact(record),
                image: None,
            },
            Proposal { item, kind, base: Base::Exact(base), image },
        ]
    }

    async fn submit(&self, schema: &Schema, ops: Vec<Proposal>) -> Result<(), Setback> {
        let planned = Planned { ops, schema: schema.revision, accepted: None };
        self.backend.submit(planned, deadline()).await?;
        Ok(())
    }

    /// Tells all servers that this one is done, or that the index cannot be.
    async fn report(&self, name: &str, reasons: &[String]) -> Result<(), Setback> {
        let (index, by) = (self.index, self.backend.status().node);
        let command = if reasons.is_empty() {
            Command::IndexFilled { index, by }
        } else {
            Command::IndexFailed { index, reasons: reasons.to_vec() }
        };
        self.backend.decide(command, deadline()).await.map_err(|error| match error {
            DecideError::Refused(refusal) => Setback::Refused(refusal.code),
            DecideError::Failed(code) => Setback::Refused(code),
        })?;
        if reasons.is_empty() {
            self.counters.filled.increment();
            tracing::info!(index = name, "index filled");
        } else {
            self.counters.impossible.increment();
            tracing::warn!(index = name, ?reasons, "index cannot be filled");
        }
        Ok(())
    }
}

fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// The indexed value of a record; null when it has none.
fn value_of(committed: &Committed, field: &str) -> Value {
    table::fields(committed).and_then(|mut f| f.shift_remove(field)).unwrap_or(Value::Null)
}
