//! `/document`: one record created, read, replaced, merged, deleted. May not know batches or SQL.

use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use quorate_api::{Committed, ErrorCode, Rid};
use quorate_protocol::io::Base;
use serde_json::{Map, Value};

use super::access::{Access, Db, version_conflict};
use super::backend::Backend;
use super::context::{Ctx, ReadLevel};
use super::draft::{Draft, base};
use super::error::ApiError;
use super::record::{self, Incoming, parse_rid};
use super::reply::{self, Reply};

/// Times a merge without an expected version starts over when another writer came first.
const MERGE_ATTEMPTS_MAX: u32 = 4;

/// `POST /document/{db}`. The id is this server's to choose: `@rid` and `@version` are ignored.
pub(super) async fn create<B: Backend>(ctx: Ctx<B>) -> Reply {
    let record = Incoming::parse(&ctx.body)?;
    let db = ctx.database().await?;
    let access = ctx.access();
    let (draft, _) = Draft::create(access, db, &record).await?;
    let (rid, stamp, image) = draft.commit(access).await?;
    written(StatusCode::CREATED, rid, stamp.version, image.as_ref())
}

/// `GET` and `HEAD /document/{db}/{rid}`.
pub(super) async fn read<B: Backend>(ctx: Ctx<B>) -> Reply {
    let db = ctx.database().await?;
    let rid = parse_rid(ctx.param("rid"))?;
    let known = ctx.if_none_match()?;
    let committed = live(ctx.access(), &db, rid).await?;
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
    let target = Target::of(ctx).await?;
    let draft =
        Draft::replace(&target.db, target.rid, base(target.version), &target.record.fields)?;
    let (rid, stamp, image) = draft.commit(target.ctx.access()).await?;
    written(StatusCode::OK, rid, stamp.version, image.as_ref())
}

/// `PATCH /document/{db}[/{rid}]`: fields given replace those stored, the others stay.
pub(super) async fn merge<B: Backend>(ctx: Ctx<B>) -> Reply {
    let target = Target::of(ctx).await?;
    let mut access = target.ctx.access();
    let mut attempt = 1;
    loop {
        let draft = merged(access, &target).await?;
        match draft.commit(access).await {
            Ok((rid, stamp, image)) => {
                return written(StatusCode::OK, rid, stamp.version, image.as_ref());
            }
            // The client named no version, so the one that was read here is not its business. The
            // abort is a decided fact: starting over cannot apply the change twice.
            Err(error)
                if error.code == ErrorCode::VersionConflict
                    && target.version.is_none()
                    && attempt < MERGE_ATTEMPTS_MAX =>
            {
                attempt += 1;
                access.level = ReadLevel::Majority;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads the record and lays the given fields over it.
async fn merged<B: Backend>(access: Access<'_, B>, target: &Target<B>) -> Result<Draft, ApiError> {
    let committed = current(access, target).await?;
    let mut fields: Map<String, Value> = record::decode(target.rid, committed.image.as_ref())?;
    for (name, value) in &target.record.fields {
        fields.insert(name.clone(), value.clone());
    }
    Draft::replace(&target.db, target.rid, Base::Exact(committed.stamp), &fields)
}

/// The record to merge into, in the version the client expects.
async fn current<B: Backend>(
    access: Access<'_, B>,
    target: &Target<B>,
) -> Result<Committed, ApiError> {
    let found = live(access, &target.db, target.rid).await;
    let Some(wanted) = target.version else { return found };
    let is_behind = match &found {
        Ok(committed) => committed.stamp.version < wanted,
        Err(error) => error.code == ErrorCode::NotFound,
    };
    let found = if is_behind && access.level == ReadLevel::Local {
        // The client has seen more than this server has applied.
        let access = Access { level: ReadLevel::Majority, ..access };
        live(access, &target.db, target.rid).await?
    } else {
        found?
    };
    if found.stamp.version == wanted {
        Ok(found)
    } else {
        Err(version_conflict("UPDATE", target.rid, found.stamp.version, wanted))
    }
}

/// `DELETE /document/{db}/{rid}`.
pub(super) async fn delete<B: Backend>(ctx: Ctx<B>) -> Reply {
    let mut version = ctx.if_match()?;
    if version.is_none() && !ctx.body.is_empty() {
        version = Incoming::parse(&ctx.body)?.version;
    }
    let tombstone = ctx.tombstone_id()?;
    let rid = parse_rid(ctx.param("rid"))?;
    let db = ctx.database().await?;
    let draft = Draft::delete(&db, rid, base(version), tombstone)?;
    draft.commit(ctx.access()).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// An existing record that a body is meant for.
struct Target<B> {
    ctx: Ctx<B>,
    db: Db,
    rid: Rid,
    record: Incoming,
    version: Option<u64>,
}

impl<B: Backend> Target<B> {
    async fn of(ctx: Ctx<B>) -> Result<Self, ApiError> {
        let record = Incoming::parse(&ctx.body)?;
        let rid = match (ctx.optional_param("rid"), &record.rid) {
            (Some(path), _) => parse_rid(path)?,
            (None, Some(own)) => parse_rid(own)?,
            (None, None) => {
                return Err(ApiError::bad_request("neither path nor body names the record's id"));
            }
        };
        let version = ctx.if_match()?.or(record.version);
        let db = ctx.database().await?;
        Ok(Self { ctx, db, rid, record, version })
    }
}

/// A record that exists, or the refusal with what its tombstone keeps.
pub(super) async fn live<B: Backend>(
    access: Access<'_, B>,
    db: &Db,
    rid: Rid,
) -> Result<Committed, ApiError> {
    db.class_name(rid.cluster)?;
    match access.read(&db.item(rid)).await? {
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
