//! Runs parsed statements: scans and reads through the backend, writes as one transaction a
//! statement. May not parse, and may not know methods and paths.

use std::time::Instant;

use quorate_api::{Committed, ErrorCode, Image, Rid};
use quorate_protocol::io::Base;
use serde_json::{Map, Value, json};

use super::access::{Access, Db};
use super::backend::Backend;
use super::context::ReadLevel;
use super::draft::Draft;
use super::error::ApiError;
use super::record::{self, Incoming};
use crate::sql::{
    Column, Condition, Delete, Insert, OrderKey, Row, Select, SqlError, Statement, Target, Update,
    holds, order, order_keys, project,
};

/// Most records that one statement changes: they are one transaction.
pub(super) const CHANGED_RECORDS_MAX: usize = 1000;

/// Most bytes of records in one result; above, the client must ask in parts.
const RESULT_BYTES_MAX: usize = 64 << 20;

/// Records of one page of a scan: small, so that a page of large records stays bounded.
const PAGE_RECORDS: usize = 128;

impl From<SqlError> for ApiError {
    fn from(error: SqlError) -> Self {
        let code = match error {
            SqlError::Unsupported { .. } => ErrorCode::Unsupported,
            SqlError::Syntax { .. } | SqlError::Parameter { .. } | SqlError::TooDeep { .. } => {
                ErrorCode::BadRequest
            }
        };
        Self::new(code, error.to_string())
    }
}

/// Runs a statement; gives the JSON of the result's records. `limit` holds where the statement
/// itself has none.
pub(super) async fn execute<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    statement: &Statement,
    limit: Option<usize>,
) -> Result<Vec<Vec<u8>>, ApiError> {
    match statement {
        Statement::Select(select) => run_select(access, db, select, limit).await,
        Statement::Insert(insert) => run_insert(access, db, insert).await,
        Statement::Update(update) => run_update(access, db, update).await,
        Statement::Delete(delete) => run_delete(access, db, delete).await,
    }
}

/// A record that a statement is about.
struct Found {
    rid: Rid,
    committed: Committed,
}

/// Walks the records of a target, in order of their ids.
struct Source<'a, B> {
    access: Access<'a, B>,
    db: Db,
    /// Clusters still to be read, the next one last.
    clusters: Vec<u32>,
    /// Records still to be read, the next one last.
    rids: Vec<Rid>,
    /// Next position in the cluster that is being read.
    from: u64,
}

impl<'a, B: Backend> Source<'a, B> {
    async fn open(access: Access<'a, B>, db: Db, target: &Target) -> Result<Self, ApiError> {
        let mut source = Source { access, db, clusters: Vec::new(), rids: Vec::new(), from: 0 };
        match target {
            Target::Class(class) => {
                source.db = access.database_with_class(source.db, class).await?;
                source.clusters = source.db.clusters_of(class);
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
        }
        if access.level == ReadLevel::Majority && !source.clusters.is_empty() {
            let text = "read level majority for a scan: only records by id can be read so";
            return Err(ApiError::new(ErrorCode::Unsupported, text));
        }
        source.clusters.reverse();
        source.rids.reverse();
        source.rids.dedup();
        Ok(source)
    }

    /// The next records, in order; `None` when there are no more.
    async fn next(&mut self) -> Result<Option<Vec<Found>>, ApiError> {
        if Instant::now() >= self.access.deadline {
            let text = "the deadline passed before the scan was done";
            return Err(ApiError::new(ErrorCode::ReadTimeout, text));
        }
        if let Some(rid) = self.rids.pop() {
            self.db.class_name(rid.cluster)?;
            let found = self.access.read(&self.db.item(rid)).await?.filter(|c| c.live);
            return Ok(Some(found.map(|committed| Found { rid, committed }).into_iter().collect()));
        }
        let Some(cluster) = self.clusters.last().copied() else { return Ok(None) };
        let page = self.access.scan(self.db.key(cluster), self.from, PAGE_RECORDS).await?;
        let last = page.last().map(|(position, _)| *position);
        match last.and_then(|position| position.checked_add(1)) {
            Some(next) if page.len() >= PAGE_RECORDS => self.from = next,
            Some(_) | None => {
                self.clusters.pop();
                self.from = 0;
            }
        }
        let found = |(position, committed)| Found { rid: Rid { cluster, position }, committed };
        Ok(Some(page.into_iter().map(found).collect()))
    }
}

/// A record's fields, read only when something looks into them.
fn fields_if(needed: bool, found: &Found) -> Result<Map<String, Value>, ApiError> {
    if needed { record::decode(found.rid, found.committed.image.as_ref()) } else { Ok(Map::new()) }
}

fn row<'a>(db: &'a Db, found: &Found, fields: &'a Map<String, Value>) -> Result<Row<'a>, ApiError> {
    let class = db.class_name(found.rid.cluster)?;
    Ok(Row { rid: found.rid, version: found.committed.stamp.version, class, fields })
}

/// Result rows that are being gathered, with what they are ordered by.
struct Gathered {
    rows: Vec<(Vec<Value>, Vec<u8>)>,
    bytes: usize,
    /// Rows that can still make it into the result.
    wanted: usize,
}

impl Gathered {
    fn push(&mut self, keys: Vec<Value>, row: Vec<u8>, by: &[OrderKey]) -> Result<(), ApiError> {
        self.bytes = self.bytes.saturating_add(row.len());
        self.rows.push((keys, row));
        // With an order and a limit only the best rows are kept; sorting now and then is enough.
        if !by.is_empty() && self.rows.len() >= self.wanted.saturating_mul(2).saturating_add(1024) {
            self.shrink(by);
        }
        if self.bytes <= RESULT_BYTES_MAX {
            return Ok(());
        }
        let text = format!("the result has more than {RESULT_BYTES_MAX} bytes; use SKIP and LIMIT");
        Err(ApiError::new(ErrorCode::TooLarge, text))
    }

    fn shrink(&mut self, by: &[OrderKey]) {
        self.rows.sort_by(|a, b| order(by, &a.0, &b.0));
        self.rows.truncate(self.wanted);
        self.bytes = self.rows.iter().map(|(_, row)| row.len()).sum();
    }
}

async fn run_select<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    select: &Select,
    limit: Option<usize>,
) -> Result<Vec<Vec<u8>>, ApiError> {
    let limit = select.limit.unwrap_or(limit).unwrap_or(usize::MAX);
    let mut source = Source::open(access, db, &select.target).await?;
    let counts = select.projections.iter().find(|p| p.what == Column::Count);
    let looks_inside =
        select.filter.is_some() || !select.order.is_empty() || !select.projections.is_empty();
    let wanted = select.skip.saturating_add(limit);
    let mut gathered = Gathered { rows: Vec::new(), bytes: 0, wanted };
    let mut count: u64 = 0;
    // Without an order the first rows are the result.
    let is_full = |rows: usize| counts.is_none() && select.order.is_empty() && rows >= wanted;
    while !is_full(gathered.rows.len()) {
        let Some(page) = source.next().await? else { break };
        for found in &page {
            let fields = fields_if(looks_inside && !is_plain_count(select), found)?;
            let row = row(&source.db, found, &fields)?;
            if select.filter.as_ref().is_some_and(|f| !holds(f, &row)) {
                continue;
            }
            if is_full(gathered.rows.len()) {
                break;
            }
            if counts.is_some() {
                count += 1;
                continue;
            }
            let keys = order_keys(&select.order, &row);
            gathered.push(keys, shown(select, found, &row)?, &select.order)?;
        }
    }
    if let Some(column) = counts {
        let mut result = Map::new();
        result.insert(column.name.clone(), Value::from(count));
        return Ok(vec![to_bytes(&result)?]);
    }
    if !select.order.is_empty() {
        gathered.shrink(&select.order);
    }
    Ok(gathered.rows.into_iter().map(|(_, row)| row).skip(select.skip).take(limit).collect())
}

/// True for a `count(*)` that needs to look into no record.
fn is_plain_count(select: &Select) -> bool {
    select.filter.is_none() && select.projections.iter().any(|p| p.what == Column::Count)
}

fn shown(select: &Select, found: &Found, row: &Row<'_>) -> Result<Vec<u8>, ApiError> {
    if select.projections.is_empty() {
        return record::render(row.rid, row.version, found.committed.image.as_ref());
    }
    to_bytes(&project(&select.projections, row))
}

fn to_bytes(map: &Map<String, Value>) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(map).map_err(|e| ApiError::new(ErrorCode::Storage, e.to_string()))
}

/// Records that a changing statement is about, not more than one transaction takes.
async fn matching<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    target: &Target,
    filter: Option<&Condition>,
    limit: Option<usize>,
) -> Result<(Db, Vec<(Found, Map<String, Value>)>), ApiError> {
    let mut source = Source::open(access, db, target).await?;
    let limit = limit.unwrap_or(usize::MAX);
    let mut matching = Vec::new();
    'pages: while matching.len() < limit {
        let Some(page) = source.next().await? else { break };
        for found in page {
            let fields = fields_if(true, &found)?;
            if filter.is_some_and(|f| row(&source.db, &found, &fields).is_ok_and(|r| !holds(f, &r)))
            {
                continue;
            }
            if matching.len() == CHANGED_RECORDS_MAX {
                let text = format!(
                    "the statement matches more than {CHANGED_RECORDS_MAX} records, which are \
                     changed as one transaction; use LIMIT"
                );
                return Err(ApiError::new(ErrorCode::TooLarge, text));
            }
            matching.push((found, fields));
            if matching.len() == limit {
                break 'pages;
            }
        }
    }
    Ok((source.db, matching))
}

async fn run_update<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    update: &Update,
) -> Result<Vec<Vec<u8>>, ApiError> {
    let filter = update.filter.as_ref();
    let (db, found) = matching(access, db, &update.target, filter, update.limit).await?;
    let change = |(found, mut fields): (Found, Map<String, Value>)| {
        for assignment in &update.set {
            fields.insert(assignment.field.clone(), assignment.value.clone());
        }
        Draft::replace(&db, found.rid, Base::Exact(found.committed.stamp), &fields)
    };
    let drafts: Result<Vec<Draft>, ApiError> = found.into_iter().map(change).collect();
    commit_counted(access, drafts?).await
}

async fn run_delete<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    delete: &Delete,
) -> Result<Vec<Vec<u8>>, ApiError> {
    let filter = delete.filter.as_ref();
    let (db, found) = matching(access, db, &delete.target, filter, delete.limit).await?;
    let remove = |(found, _): (Found, Map<String, Value>)| {
        Draft::delete(&db, found.rid, Base::Exact(found.committed.stamp), None)
    };
    let drafts: Result<Vec<Draft>, ApiError> = found.into_iter().map(remove).collect();
    commit_counted(access, drafts?).await
}

/// One transaction; the result is how many records it changed.
async fn commit_counted<B: Backend>(
    access: Access<'_, B>,
    drafts: Vec<Draft>,
) -> Result<Vec<Vec<u8>>, ApiError> {
    let count = drafts.len();
    if count > 0 {
        access.submit(drafts.into_iter().map(|d| d.proposal).collect()).await?;
    }
    Ok(vec![json!({ "count": count }).to_string().into_bytes()])
}

async fn run_insert<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    insert: &Insert,
) -> Result<Vec<Vec<u8>>, ApiError> {
    if insert.rows.len() > CHANGED_RECORDS_MAX {
        let text = format!("one statement inserts at most {CHANGED_RECORDS_MAX} records");
        return Err(ApiError::new(ErrorCode::TooLarge, text));
    }
    let db = access.database_with_class(db, &insert.class).await?;
    let class = db.class(&insert.class).ok_or_else(|| db.unknown_class(&insert.class))?;
    let cluster = match &insert.cluster {
        None => None,
        Some(name) => {
            let named = db.cluster_named(name).or_else(|| db.cluster(name.parse().ok()?));
            let named = named.filter(|c| class.clusters.contains(&c.id));
            Some(named.ok_or_else(|| db.unknown_cluster(name))?.id)
        }
    };
    let mut proposals = Vec::with_capacity(insert.rows.len());
    let mut written: Vec<(Rid, Option<Image>)> = Vec::with_capacity(insert.rows.len());
    for row in &insert.rows {
        let fields = Incoming::from_map(row.clone())?.fields;
        let rid = match cluster {
            None => access.allocate(&db, class).await?,
            Some(cluster) => access.allocate_in(&db, cluster).await?,
        };
        let draft = Draft::create_at(&db, rid, &class.name, &fields)?;
        written.push((rid, draft.proposal.image.clone()));
        proposals.push(draft.proposal);
    }
    let commit = access.submit(proposals).await?;
    let stamped = written.iter().zip(&commit.stamps);
    stamped.map(|((rid, image), s)| record::render(*rid, s.version, image.as_ref())).collect()
}
