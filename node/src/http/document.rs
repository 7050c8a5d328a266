//! `/document`: one record created, read, replaced, merged, deleted. May not know batches or SQL.

use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use quorate_api::{Committed, Rid};

use super::access::{Access, Db};
use super::backend::Backend;
use super::batch;
use super::context::Ctx;
use super::error::ApiError;
use super::permitted;
use super::record::{self, Incoming, parse_rid};
use super::reply::{self, Answer, Reply};
use super::token;
use super::tries::Tries;
use super::work::Work;

/// `POST /document/{db}`. The id is this server's to choose: `@rid` and `@version` are ignored.
pub(super) async fn create<B: Backend>(ctx: Ctx<B>) -> Reply {
    permitted::write(&ctx.app, || "Create record #-1:-1".to_owned())?;
    let record = Incoming::parse(&ctx.body)?;
    change(&ctx, Change::Create(&record)).await
}

/// `GET` and `HEAD /document/{db}/{rid}`.
pub(super) async fn read<B: Backend>(ctx: Ctx<B>) -> Reply {
    let db = ctx.served().await?;
    let rid = parse_rid(ctx.param("rid"))?;
    let known = ctx.if_none_match()?;
    let committed = live(ctx.access(), &db, rid).await?;
    // The record, and the answer made of it.
    ctx.weight.take(2 * committed.image.as_ref().map_or(0, |image| image.0.len()))?;
    let version = committed.stamp.version;
    if known == Some(version) {
        return Ok(reply::with_etag(reply::empty(StatusCode::NOT_MODIFIED), version));
    }
    if ctx.method == Method::HEAD {
        return Ok(reply::with_etag(reply::empty(StatusCode::NO_CONTENT), version));
    }
    written(StatusCode::OK, rid, version, committed.image.as_ref())
}

/// `PUT /document/{db}[/{rid}][?updateMode=partial]`.
pub(super) async fn replace<B: Backend>(ctx: Ctx<B>) -> Reply {
    if ctx.has_query_pair("updateMode=partial") {
        return merge(ctx).await;
    }
    let record = Incoming::parse(&ctx.body)?;
    let (rid, version) = target(&ctx, &record)?;
    permitted::write(&ctx.app, || format!("Update record {rid}"))?;
    change(&ctx, Change::Replace(rid, version, &record)).await
}

/// `PATCH /document/{db}[/{rid}]`: fields given replace those stored, the others stay.
pub(super) async fn merge<B: Backend>(ctx: Ctx<B>) -> Reply {
    let record = Incoming::parse(&ctx.body)?;
    let (rid, version) = target(&ctx, &record)?;
    permitted::write(&ctx.app, || format!("Update record {rid}"))?;
    change(&ctx, Change::Merge(rid, version, &record)).await
}

/// `DELETE /document/{db}/{rid}`; vertices and edges go as what they are.
pub(super) async fn delete<B: Backend>(ctx: Ctx<B>) -> Reply {
    let mut version = ctx.if_match()?;
    if version.is_none() && !ctx.body.is_empty() {
        version = Incoming::parse(&ctx.body)?.version;
    }
    let tombstone = ctx.tombstone_id()?;
    let rid = parse_rid(ctx.param("rid"))?;
    permitted::write(&ctx.app, || format!("Delete record {rid}"))?;
    change(&ctx, Change::Delete(rid, version, tombstone)).await
}

/// Which existing record a body is meant for, in which version.
fn target<B: Backend>(ctx: &Ctx<B>, record: &Incoming) -> Result<(Rid, Option<u64>), ApiError> {
    let rid = match (ctx.optional_param("rid"), &record.rid) {
        (Some(path), _) => parse_rid(path)?,
        (None, Some(own)) => parse_rid(own)?,
        (None, None) => {
            return Err(ApiError::bad_request("neither path nor body names the record's id"));
        }
    };
    Ok((rid, ctx.if_match()?.or(record.version)))
}

/// What a request does to its record.
#[derive(Clone, Copy)]
enum Change<'a> {
    Create(&'a Incoming),
    Replace(Rid, Option<u64>, &'a Incoming),
    Merge(Rid, Option<u64>, &'a Incoming),
    Delete(Rid, Option<u64>, Option<u64>),
}

async fn change<B: Backend>(ctx: &Ctx<B>, change: Change<'_>) -> Reply {
    let (access, database) = (ctx.access(), ctx.param("db"));
    let run = async {
        let mut tries = Tries::new(access);
        loop {
            match attempt(tries.access(), database, change).await {
                Ok(answer) => return Ok(answer),
                Err(error) => tries.after(error).await?,
            }
        }
    };
    token::once(access, database, run).await
}

async fn attempt<B: Backend>(
    access: Access<'_, B>,
    database: &str,
    change: Change<'_>,
) -> Result<Answer, ApiError> {
    let mut work = Work::new(access, access.served(database).await?);
    let (rid, status) = match change {
        Change::Create(record) => (batch::create(&mut work, record).await?, StatusCode::CREATED),
        Change::Replace(rid, version, record) => {
            work.replace(rid, version, record.fields.clone()).await?;
            (rid, StatusCode::OK)
        }
        Change::Merge(rid, version, record) => {
            work.expect(rid, version)?;
            work.merge(rid, &record.fields).await?;
            (rid, StatusCode::OK)
        }
        Change::Delete(rid, version, tombstone) => {
            work.delete(rid, version, tombstone).await?;
            return work.commit(|_| Ok(Answer::no_content())).await;
        }
    };
    work.commit(|written| {
        let own = written.iter().find(|w| w.rid == rid);
        let own = own.ok_or_else(|| record::not_found(rid, None))?;
        let body = record::render(rid, own.version, own.image.as_ref())?;
        Ok(Answer { status, etag: Some(own.version), body })
    })
    .await
}

/// A record that exists, or the refusal with what its tombstone keeps.
pub(super) async fn live<B: Backend>(
    access: Access<'_, B>,
    db: &Db,
    rid: Rid,
) -> Result<Committed, ApiError> {
    db.class_name(rid.cluster)?;
    match access.read(db, &db.item(rid)).await? {
        Some(committed) if committed.live => Ok(committed),
        found => Err(record::not_found(rid, found.as_ref())),
    }
}

fn written(
    status: StatusCode,
    rid: Rid,
    version: u64,
    image: Option<&quorate_api::Image>,
) -> Result<Response<Body>, ApiError> {
    let body = record::render(rid, version, image)?;
    Ok(reply::with_etag(reply::json_bytes(status, body), version))
}
