//! Runs parsed statements: scans and reads through the backend, writes as one transaction a
//! statement. May not parse, and may not know methods and paths.

use std::collections::BTreeSet;

use quorate_api::{ErrorCode, Rid};
use serde_json::{Map, Value, json};

use super::access::{Access, Db};
use super::backend::Backend;
use super::error::ApiError;
use super::graph::{edges_in, found_elsewhere};
use super::record::{self, Incoming};
use super::reply::Answer;
use super::source::{Found, Source, fields_if, query, row, weight_of};
use super::tries::Tries;
use super::weight::{Held, of_body, of_values};
use super::work::{Fields, RECORDS_MAX, Work, Written};
use crate::sql::{
    Column, Condition, CreateEdge, CreateVertex, Delete, DeleteEdge, Insert, OrderKey, Row, Select,
    SqlError, Statement, Target, Update, holds, order, order_keys, project,
};

/// Most bytes of records in one result; above, the client must ask in parts.
const RESULT_BYTES_MAX: usize = 64 << 20;

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

/// Runs a statement. `limit` holds where the statement itself has none.
pub(super) async fn execute<B: Backend>(
    access: Access<'_, B>,
    database: &str,
    statement: &Statement,
    limit: Option<usize>,
) -> Result<Answer, ApiError> {
    let mut tries = Tries::new(access);
    loop {
        let access = tries.access();
        let access = if statement.is_idempotent() { access } else { access.for_writing() };
        match attempt(access, database, statement, limit).await {
            Ok(answer) => return Ok(answer),
            Err(error) => tries.after(error).await?,
        }
    }
}

async fn attempt<B: Backend>(
    access: Access<'_, B>,
    database: &str,
    statement: &Statement,
    limit: Option<usize>,
) -> Result<Answer, ApiError> {
    let db = if statement.is_administrative() {
        access.database(database).await?
    } else {
        access.served(database).await?
    };
    match statement {
        Statement::Select(select) => run_select(access, db, select, limit).await,
        Statement::Explain(select) => explain(access, db, select).await,
        Statement::Insert(insert) => run_insert(access, db, insert).await,
        Statement::Update(update) => run_update(access, db, update).await,
        Statement::Delete(delete) => run_delete(access, db, delete, None).await,
        Statement::CreateVertex(create) => run_create_vertex(access, db, create).await,
        Statement::CreateEdge(create) => run_create_edge(access, db, create).await,
        Statement::DeleteVertex(delete) => run_delete(access, db, delete, Some("V")).await,
        Statement::DeleteEdge(delete) => run_delete_edge(access, db, delete).await,
        Statement::CreateClass(create) => access.run_create_class(database, create).await,
        Statement::AddCluster(add) => access.run_add_cluster(database, add).await,
        Statement::DropClass(drop) => access.run_drop_class(database, drop).await,
        Statement::CreateIndex(create) => access.run_create_index(database, create).await,
        Statement::DropIndex(drop) => access.run_drop_index(database, drop).await,
        Statement::HaConflicts(after) => access.run_ha_conflicts(&db, *after).await,
        Statement::HaResolve(resolve) => access.run_ha_resolve(&db, resolve).await,
        Statement::HaDismiss(dismiss) => access.run_ha_dismiss(&db, dismiss).await,
        Statement::HaSync(sync) => access.run_ha_sync(&db, sync),
        Statement::HaStatus(parts) => access.run_ha_status(&db, *parts),
        Statement::HaSet(set) => access.run_ha_set(database, set).await,
        Statement::HaRemoveServer(remove) => access.run_remove_server(remove).await,
    }
}

/// Where a query's records would come from.
async fn explain<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    select: &Select,
) -> Result<Answer, ApiError> {
    let source = Source::open(access, db, &select.target, select.filter.as_ref()).await?;
    let plan =
        json!({"executionPlan": {"type": "QueryExecutionPlan", "steps": [source.describe()]}});
    Ok(Answer::result(&[plan.to_string().into_bytes()]))
}

/// Result rows that are being gathered, with what they are ordered by.
struct Gathered {
    rows: Vec<(Vec<Value>, Vec<u8>)>,
    bytes: usize,
    /// Rows that can still make it into the result.
    wanted: usize,
    held: Held,
}

/// What a row takes beside its text.
const ROW: usize = size_of::<(Vec<Value>, Vec<u8>)>();

impl Gathered {
    fn push(&mut self, keys: Vec<Value>, row: Vec<u8>, by: &[OrderKey]) -> Result<(), ApiError> {
        self.bytes = self.bytes.saturating_add(Self::weight(&keys, &row));
        // The rows, and the answer that they are put together to.
        self.held.set(self.bytes.saturating_mul(2))?;
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
        self.bytes = self.rows.iter().map(|(keys, row)| Self::weight(keys, row)).sum();
    }

    fn weight(keys: &[Value], row: &[u8]) -> usize {
        ROW + weight_of(keys) + row.len()
    }
}

async fn run_select<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    select: &Select,
    limit: Option<usize>,
) -> Result<Answer, ApiError> {
    let limit = select.limit.unwrap_or(limit).unwrap_or(usize::MAX);
    let mut source = Source::open(access, db, &select.target, select.filter.as_ref()).await?;
    let counts = select.projections.iter().find(|p| p.what == Column::Count);
    let looks_inside =
        select.filter.is_some() || !select.order.is_empty() || !select.projections.is_empty();
    let wanted = select.skip.saturating_add(limit);
    let held = access.weight.hold(0)?;
    let mut gathered = Gathered { rows: Vec::new(), bytes: 0, wanted, held };
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
        return Ok(Answer::result(&[to_bytes(&result)?]));
    }
    if !select.order.is_empty() {
        gathered.shrink(&select.order);
    }
    gathered.held.keep();
    let rows = gathered.rows.into_iter().map(|(_, row)| row).skip(select.skip).take(limit);
    Ok(Answer::result(&rows.collect::<Vec<_>>()))
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

/// Which of a target's records a changing statement is about.
struct Wanted<'a, F> {
    filter: Option<&'a Condition>,
    /// What no condition of the statement says.
    also: F,
    limit: Option<usize>,
}

impl<'a> Wanted<'a, fn(&Fields) -> bool> {
    const fn new(filter: Option<&'a Condition>, limit: Option<usize>) -> Self {
        Self { filter, also: |_| true, limit }
    }
}

/// Records that a changing statement is about, not more than one transaction takes.
async fn matching<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    target: &Target,
    wanted: Wanted<'_, impl Fn(&Fields) -> bool + Send + Sync>,
) -> Result<(Db, Vec<(Found, Fields)>), ApiError> {
    let filter = wanted.filter;
    let mut source = Source::open(access, db, target, filter).await?;
    let limit = wanted.limit.unwrap_or(usize::MAX);
    let mut matching = Vec::new();
    'pages: while matching.len() < limit {
        let Some(page) = source.next().await? else { break };
        for found in page {
            let fields = fields_if(true, &found)?;
            if filter.is_some_and(|f| row(&source.db, &found, &fields).is_ok_and(|r| !holds(f, &r)))
            {
                continue;
            }
            if !(wanted.also)(&fields) {
                continue;
            }
            if matching.len() == RECORDS_MAX {
                let text = format!(
                    "the statement matches more than {RECORDS_MAX} records, which are \
                     changed as one transaction; use LIMIT"
                );
                return Err(ApiError::new(ErrorCode::TooLarge, text));
            }
            // Held with its values, and what becomes of them, until the commit.
            if let Some(image) = &found.committed.image {
                access.weight.take(of_body(image.0.len()) + of_values(&image.0))?;
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
) -> Result<Answer, ApiError> {
    update.set.iter().try_for_each(|a| record::refuse_attribute(&a.field))?;
    let wanted = Wanted::new(update.filter.as_ref(), update.limit);
    let (db, found) = matching(access, db, &update.target, wanted).await?;
    let set: Fields = update.set.iter().map(|a| (a.field.clone(), a.value.clone())).collect();
    let (mut work, count) = (Work::new(access, db), found.len());
    for (found, fields) in found {
        work.adopt(found.rid, found.committed.stamp, &fields)?;
        work.merge(found.rid, &set).await?;
    }
    work.commit(|_| Ok(counted(count))).await
}

/// Vertices take their edges along, edges leave their ends, whatever the statement calls them.
async fn run_delete<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    delete: &Delete,
    class: Option<&str>,
) -> Result<Answer, ApiError> {
    let wanted = Wanted::new(delete.filter.as_ref(), delete.limit);
    let (db, found) = matching(access, db, &delete.target, wanted).await?;
    remove(access, db, found, class).await
}

async fn run_delete_edge<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    delete: &DeleteEdge,
) -> Result<Answer, ApiError> {
    let (db, from) = ends(access, db, delete.from.as_ref()).await?;
    let (db, to) = ends(access, db, delete.to.as_ref()).await?;
    let (db, listed) = match &delete.target {
        Target::Class(class) => {
            let db = access.database_with_class(db, class).await?;
            let listed = listed_edges(access, &db, class, from.as_deref(), to.as_deref()).await?;
            (db, listed.map(Target::Rids))
        }
        Target::Cluster(_) | Target::Rids(_) | Target::Query(_) => (db, None),
    };
    let at = |fields: &Fields, end: &str, wanted: Option<&[Rid]>| {
        let rid = fields.get(end).and_then(Value::as_str).and_then(|text| text.parse().ok());
        wanted.is_none_or(|wanted| rid.is_some_and(|rid| wanted.contains(&rid)))
    };
    let wanted = Wanted {
        filter: delete.filter.as_ref(),
        also: |f: &Fields| at(f, "out", from.as_deref()) && at(f, "in", to.as_deref()),
        limit: delete.limit,
    };
    let target = listed.as_ref().unwrap_or(&delete.target);
    let (db, found) = matching(access, db, target, wanted).await?;
    remove(access, db, found, Some("E")).await
}

/// Edges of a class that the vertices at their ends list: few, however many there are elsewhere.
/// `None` when no end is given.
async fn listed_edges<B: Backend>(
    access: Access<'_, B>,
    db: &Db,
    class: &str,
    from: Option<&[Rid]>,
    to: Option<&[Rid]>,
) -> Result<Option<Vec<Rid>>, ApiError> {
    let clusters = db.clusters_of(class);
    let mut listed: Option<BTreeSet<Rid>> = None;
    for (end, vertices) in [("out_", from), ("in_", to)] {
        let Some(vertices) = vertices else { continue };
        let mut edges = BTreeSet::new();
        for vertex in vertices.iter().filter(|v| db.cluster(v.cluster).is_some()) {
            let found = access.base(&db.item(*vertex), None).await?.filter(|c| c.live);
            let Some(found) = found else { continue };
            let fields = record::decode(*vertex, found.image.as_ref())?;
            let lists = fields.iter().filter(|(field, _)| field.starts_with(end));
            edges.extend(lists.flat_map(|(field, list)| edges_in(db, field, list)));
        }
        edges.retain(|edge| clusters.contains(&edge.cluster));
        if let Some(others) = &listed {
            edges.retain(|edge| others.contains(edge));
        }
        listed = Some(edges);
    }
    Ok(listed.map(|edges| edges.into_iter().collect()))
}

async fn remove<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    found: Vec<(Found, Fields)>,
    class: Option<&str>,
) -> Result<Answer, ApiError> {
    let (mut work, count) = (Work::new(access, db), found.len());
    for (found, fields) in &found {
        let own = work.db.class_name(found.rid.cluster)?;
        if let Some(class) = class.filter(|class| !work.db.is_a(own, class)) {
            let text = format!("class '{own}' of record {} does not extend {class}", found.rid);
            return Err(ApiError::bad_request(text));
        }
        work.adopt(found.rid, found.committed.stamp, fields)?;
    }
    for (found, _) in &found {
        // An edge may have gone with its vertex.
        if !work.is_deleted(found.rid) {
            work.delete(found.rid, None, None).await?;
        }
    }
    work.commit(|_| Ok(counted(count))).await
}

/// How many records a statement is about.
fn counted(count: usize) -> Answer {
    Answer::result(&[json!({ "count": count }).to_string().into_bytes()])
}

/// New records as they were written.
fn shown_new(written: &[Written], rids: &[Rid]) -> Result<Answer, ApiError> {
    let new = written.iter().filter(|w| rids.contains(&w.rid));
    let rendered: Result<Vec<_>, ApiError> =
        new.map(|w| record::render(w.rid, w.version, w.image.as_ref())).collect();
    Ok(Answer::result(&rendered?))
}

async fn run_insert<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    insert: &Insert,
) -> Result<Answer, ApiError> {
    if insert.rows.len() > RECORDS_MAX {
        let text = format!("one statement inserts at most {RECORDS_MAX} records");
        return Err(ApiError::new(ErrorCode::TooLarge, text));
    }
    let db = access.database_with_class(db, &insert.class).await?;
    let mut work = Work::new(access, db);
    let mut rids = Vec::with_capacity(insert.rows.len());
    for row in &insert.rows {
        let fields = Incoming::from_map(row.clone())?.fields;
        rids.push(work.create(&insert.class, insert.cluster.as_deref(), fields).await?);
    }
    work.commit(|written| shown_new(written, &rids)).await
}

async fn run_create_vertex<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    create: &CreateVertex,
) -> Result<Answer, ApiError> {
    let db = access.database_with_class(db, &create.class).await?;
    require(&db, &create.class, "V")?;
    let mut work = Work::new(access, db);
    let fields = Incoming::from_map(create.fields.clone())?.fields;
    let rid = work.create(&create.class, create.cluster.as_deref(), fields).await?;
    work.commit(|written| shown_new(written, &[rid])).await
}

async fn run_create_edge<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    create: &CreateEdge,
) -> Result<Answer, ApiError> {
    let db = access.database_with_class(db, &create.class).await?;
    require(&db, &create.class, "E")?;
    let (db, from) = ends(access, db, Some(&create.from)).await?;
    let (db, to) = ends(access, db, Some(&create.to)).await?;
    let mut work = Work::new(access, db);
    let fields = Incoming::from_map(create.fields.clone())?.fields;
    let queries = [&create.from, &create.to].iter().any(|end| matches!(end, Target::Query(_)));
    let mut rids = Vec::new();
    for from in from.iter().flatten() {
        for to in to.iter().flatten() {
            let cluster = create.cluster.as_deref();
            let made = work.create_edge(&create.class, cluster, *from, *to, fields.clone()).await;
            rids.push(made.map_err(|error| if queries { found_elsewhere(error) } else { error })?);
        }
    }
    if rids.is_empty() {
        let text = "no edge was made: FROM or TO names no vertex";
        return Err(ApiError::new(ErrorCode::NotFound, text));
    }
    work.commit(|written| shown_new(written, &rids)).await
}

fn require(db: &Db, class: &str, ancestor: &str) -> Result<(), ApiError> {
    if db.is_a(class, ancestor) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!("class '{class}' does not extend {ancestor}")))
}

/// The vertices at one end of edges; `None` for any.
async fn ends<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    target: Option<&Target>,
) -> Result<(Db, Option<Vec<Rid>>), ApiError> {
    Ok(match target {
        None => (db, None),
        Some(Target::Rids(rids)) => (db, Some(rids.clone())),
        Some(Target::Query(select)) => {
            let (db, rids) = query(access, db, select).await?;
            (db, Some(rids))
        }
        Some(Target::Class(_) | Target::Cluster(_)) => {
            return Err(ApiError::bad_request("ends of edges are named by ids or by a query"));
        }
    })
}
