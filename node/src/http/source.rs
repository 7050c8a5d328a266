//! Where a statement's records come from: ids, an index, or a walk through clusters; in order of
//! their ids. May not know what is done with them.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Instant;

use quorate_api::{Committed, ErrorCode, ItemId, Rid, Stamp};
use quorate_control::indexes::{Index, IndexKind, IndexState};
use serde_json::{Map, Value, json};

use super::access::{Access, Db};
use super::backend::{Backend, is_last};
use super::error::ApiError;
use super::weight::Held;
use super::{permitted, record};
use crate::index::key;
use crate::sql::{Comparison, Condition, Operand, Row, Select, Target, holds, order, order_keys};

/// Records of one page of a scan: small, so that a page of large records stays bounded.
const PAGE_RECORDS: usize = 128;

/// A record that a statement is about.
pub(super) struct Found {
    pub(super) rid: Rid,
    pub(super) committed: Committed,
}

/// Walks the records of a target, in order of their ids.
pub(super) struct Source<'a, B> {
    access: Access<'a, B>,
    pub(super) db: Db,
    /// Clusters still to be read, the next one last.
    clusters: Vec<u32>,
    /// Records still to be read, the next one last.
    rids: Vec<Rid>,
    /// Next position in the cluster that is being read.
    from: u64,
    /// The index that gave the ids.
    index: Option<String>,
    /// The key that named the record, if that index is unique.
    lookup: Option<Lookup>,
    /// The page that was handed out last.
    page: Held,
    /// Ids that are still to be read, and those that were.
    _ids: Held,
}

/// What an id takes while it is read and looked for among the others.
const ID: usize = 64;

/// A unique key with who had it when it was read. It is read apart from the record, and may move
/// in between.
struct Lookup {
    item: ItemId,
    field: String,
    key: Vec<u8>,
    held: Stamp,
    /// Where the record may be.
    clusters: Vec<u32>,
}

impl<'a, B: Backend> Source<'a, B> {
    /// `filter` is what the caller will let pass; an index may leave out only what it does not.
    pub(super) async fn open(
        access: Access<'a, B>,
        db: Db,
        target: &Target,
        filter: Option<&Condition>,
    ) -> Result<Self, ApiError> {
        let (clusters, rids) = (Vec::new(), Vec::new());
        let (index, lookup) = (None, None);
        let (page, _ids) = (access.weight.hold(0)?, access.weight.hold(0)?);
        let mut source = Source { access, db, clusters, rids, from: 0, index, lookup, page, _ids };
        match target {
            Target::Class(class) => {
                source.db = access.database_with_class(source.db, class).await?;
                source.clusters = source.db.clusters_of(class);
                source.use_index(class, filter).await?;
            }
            Target::Cluster(name) => {
                let found = match name.parse() {
                    Ok(id) => source.db.cluster(id),
                    Err(_) => source.db.cluster_named(name),
                };
                let found = found.ok_or_else(|| source.db.unknown_cluster(name))?;
                source.clusters = vec![found.id];
            }
            Target::Rids(rids) => source.rids = rids.clone(),
            Target::Query(select) => {
                let (db, rids) = query(access, source.db, select).await?;
                (source.db, source.rids) = (db, rids);
            }
        }
        let level = access.level_in(&source.db);
        if !level.is_local() && !source.clusters.is_empty() {
            let by = match access.level {
                Some(_) => "X-Quorate-Read-Level of the request",
                None => "readQuorum of the database",
            };
            let text = format!(
                "read level {level} ({by}) for a scan: only records by id or by a unique index can \
                 be read so; X-Quorate-Read-Level: local scans this server's own state"
            );
            return Err(ApiError::new(ErrorCode::Unsupported, text));
        }
        source._ids.set(source.rids.len().saturating_mul(ID))?;
        let mut seen = BTreeSet::new();
        source.rids.retain(|rid| seen.insert(*rid));
        source.clusters.reverse();
        source.rids.reverse();
        Ok(source)
    }

    /// Replaces the walk by what an index has under a value that the filter asks for.
    async fn use_index(&mut self, class: &str, filter: Option<&Condition>) -> Result<(), ApiError> {
        let choices: Vec<(Index, Vec<u8>)> = equalities(filter)
            .into_iter()
            .filter_map(|(field, value)| Some((field, key::encode(value)?)))
            .flat_map(|(field, key)| {
                let ready = self.db.indexes_of(class).filter(|i| i.state == IndexState::Ready);
                let fits = ready.filter(move |i| i.field == field);
                fits.map(move |i| (i.clone(), key.clone()))
            })
            .collect();
        // Unique ones first: they name one record, and can be read by majority.
        let unique = |(index, _): &&(Index, _)| index.kind == IndexKind::Unique;
        let best = choices.iter().find(unique).or(choices.first());
        let Some((index, key)) = best else { return Ok(()) };
        let found = match index.kind {
            IndexKind::Unique => {
                let item = key::item(self.db.id, index.cluster, key.clone());
                let (held, owner) = self.holder(&item).await?;
                let (field, clusters) = (index.field.clone(), self.clusters.clone());
                self.lookup = Some(Lookup { item, field, key: key.clone(), held, clusters });
                Some(owner.into_iter().collect())
            }
            IndexKind::NotUnique if !self.access.level_in(&self.db).is_local() => None,
            IndexKind::NotUnique => {
                let of = self.db.key(index.cluster);
                let app = self.access.app;
                let found = permitted::reader(app)?.index_scan(of, key.clone()).await;
                found.map_err(|error| permitted::unread(app, error))?
            }
        };
        let Some(found): Option<Vec<Rid>> = found else { return Ok(()) };
        self.access.app.counters.index_lookups.fetch_add(1, Ordering::Relaxed);
        let clusters = std::mem::take(&mut self.clusters);
        self.rids = found.into_iter().filter(|rid| clusters.contains(&rid.cluster)).collect();
        self.rids.sort_unstable();
        self.index = Some(index.name.clone());
        Ok(())
    }

    /// Who has a unique key, and in which version of it.
    async fn holder(&self, item: &ItemId) -> Result<(Stamp, Option<Rid>), ApiError> {
        let found = self.access.read(&self.db, item).await?;
        let held = found.as_ref().map_or(Stamp::ABSENT, |c| c.stamp);
        let owner = found.filter(|c| c.live).and_then(|c| key::owner(c.image.as_ref()));
        Ok((held, owner))
    }

    /// The record to read instead of one that should have the key looked up and has not: the key
    /// may have moved since it was read. `None`: it has not, or nobody here has it any more.
    async fn moved(
        &mut self,
        rid: Rid,
        found: Option<&Committed>,
    ) -> Result<Option<Rid>, ApiError> {
        let Some(lookup) = &self.lookup else { return Ok(None) };
        let fields = found.map(|c| record::decode(rid, c.image.as_ref())).transpose()?;
        let own = fields.as_ref().and_then(|fields| fields.get(&lookup.field));
        if own.and_then(key::encode).as_ref() == Some(&lookup.key) {
            return Ok(None);
        }
        let (held, owner) = self.holder(&lookup.item).await?;
        let owner = owner.filter(|owner| lookup.clusters.contains(&owner.cluster));
        let is_news = held != lookup.held;
        if let Some(lookup) = &mut self.lookup {
            lookup.held = held;
        }
        Ok(owner.filter(|_| is_news))
    }

    /// In the original's words.
    pub(super) fn describe(&self) -> Value {
        match &self.index {
            Some(index) => json!({"type": "FetchFromIndexStep", "index": index}),
            None if self.clusters.is_empty() => {
                json!({"type": "FetchFromRidsStep", "records": self.rids.len()})
            }
            None => {
                let clusters: Vec<u32> = self.clusters.iter().rev().copied().collect();
                json!({"type": "FetchFromClusterExecutionStep", "clusters": clusters})
            }
        }
    }

    /// The next records, in order; `None` when there are no more.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Found>>, ApiError> {
        if Instant::now() >= self.access.deadline {
            let text = "the deadline passed before the scan was done";
            return Err(ApiError::new(ErrorCode::ReadTimeout, text));
        }
        let Some(page) = self.read_page().await? else { return Ok(None) };
        let images = page.iter().filter_map(|found| found.committed.image.as_ref());
        // A record is looked into one at a time.
        self.page.set(images.map(|image| image.0.len()).sum::<usize>().saturating_mul(2))?;
        Ok(Some(page))
    }

    async fn read_page(&mut self) -> Result<Option<Vec<Found>>, ApiError> {
        if let Some(rid) = self.rids.pop() {
            self.db.class_name(rid.cluster)?;
            let item = self.db.item(rid);
            let found = self.access.read(&self.db, &item).await?.filter(|c| c.live);
            if let Some(owner) = self.moved(rid, found.as_ref()).await? {
                self.rids.push(owner);
                return Ok(Some(Vec::new()));
            }
            return Ok(Some(found.map(|committed| Found { rid, committed }).into_iter().collect()));
        }
        let Some(cluster) = self.clusters.last().copied() else { return Ok(None) };
        let page = self.access.scan(self.db.key(cluster), self.from, PAGE_RECORDS).await?;
        let last = page.last().map(|(position, _)| *position);
        match last.and_then(|position| position.checked_add(1)) {
            Some(next) if !is_last(&page, PAGE_RECORDS) => self.from = next,
            Some(_) | None => {
                self.clusters.pop();
                self.from = 0;
            }
        }
        let found = |(position, committed)| Found { rid: Rid { cluster, position }, committed };
        Ok(Some(page.into_iter().map(found).collect()))
    }
}

/// Fields that must equal a value wherever the filter holds.
fn equalities(filter: Option<&Condition>) -> Vec<(&str, &Value)> {
    let mut found = Vec::new();
    let mut open: Vec<&Condition> = filter.into_iter().collect();
    while let Some(condition) = open.pop() {
        match condition {
            Condition::And(list) => open.extend(list.iter().rev()),
            Condition::Compare(left, Comparison::Equal, right) => match (left, right) {
                (Operand::Field(path), Operand::Value(value))
                | (Operand::Value(value), Operand::Field(path)) => {
                    if let [field] = path.as_slice() {
                        found.push((field.as_str(), value));
                    }
                }
                _ => {}
            },
            Condition::Compare(..)
            | Condition::Or(_)
            | Condition::Not(_)
            | Condition::IsNull(_)
            | Condition::In(..)
            | Condition::Like(..) => {}
        }
    }
    found
}

/// What keys of an order take.
pub(super) fn weight_of(keys: &[Value]) -> usize {
    let text = |key: &Value| key.as_str().map_or(0, str::len);
    size_of_val(keys) + keys.iter().map(text).sum::<usize>()
}

/// A record's fields, read only when something looks into them.
pub(super) fn fields_if(needed: bool, found: &Found) -> Result<Map<String, Value>, ApiError> {
    if needed { record::decode(found.rid, found.committed.image.as_ref()) } else { Ok(Map::new()) }
}

/// A record as conditions see it.
pub(super) fn row<'a>(
    db: &'a Db,
    found: &Found,
    fields: &'a Map<String, Value>,
) -> Result<Row<'a>, ApiError> {
    let class = db.class_name(found.rid.cluster)?;
    Ok(Row { rid: found.rid, version: found.committed.stamp.version, class, fields })
}

type Rids<'a> = Pin<Box<dyn Future<Output = Result<(Db, Vec<Rid>), ApiError>> + Send + 'a>>;

/// Ids of the records that a query finds, in its order; queries can stand in each other.
pub(super) fn query<'a, B: Backend>(access: Access<'a, B>, db: Db, select: &'a Select) -> Rids<'a> {
    Box::pin(async move {
        let filter = select.filter.as_ref();
        let mut source = Source::open(access, db, &select.target, filter).await?;
        let mut found: Vec<(Vec<Value>, Rid)> = Vec::new();
        let (mut held, mut bytes) = (access.weight.hold(0)?, 0usize);
        while let Some(page) = source.next().await? {
            for entry in &page {
                let fields = fields_if(filter.is_some() || !select.order.is_empty(), entry)?;
                let row = row(&source.db, entry, &fields)?;
                if filter.is_none_or(|filter| holds(filter, &row)) {
                    let keys = order_keys(&select.order, &row);
                    bytes = bytes.saturating_add(ID + weight_of(&keys));
                    found.push((keys, entry.rid));
                }
            }
            held.set(bytes)?;
        }
        found.sort_by(|a, b| order(&select.order, &a.0, &b.0));
        let limit = select.limit.flatten().unwrap_or(usize::MAX);
        let rids = found.into_iter().map(|(_, rid)| rid).skip(select.skip).take(limit);
        Ok((source.db, rids.collect()))
    })
}
