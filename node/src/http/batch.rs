//! `/batch`: several record operations in one request. With `"transaction":true` they are one
//! transaction; otherwise each is its own, in order, and the first failure ends the batch with the
//! earlier ones done (the refusal then says `unknown`, because the batch as a whole is neither).
//! May not know SQL.
//!
//! Operations: `c` (create), `u` (replace), `d` (delete) as in the original, and `check`: the
//! record must still have the given version when the transaction commits. At most one operation a
//! record. The reply has the original's `result` (the last operation's record) and, as an
//! addition, `operations` with id and version of every one.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use quorate_api::{ErrorCode, Image, OpKind, Rid, Stamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::access::{Access, Db};
use super::backend::Backend;
use super::context::Ctx;
use super::draft::{Draft, base};
use super::error::ApiError;
use super::record::{self, Incoming, parse_rid};
use super::reply::{self, Reply};

/// Most operations of one batch: what a transaction can be asked to lock at once.
const OPERATIONS_MAX: usize = 1000;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    transaction: bool,
    #[serde(default)]
    operations: Vec<Operation>,
}

#[derive(Deserialize)]
struct Operation {
    #[serde(rename = "type")]
    kind: String,
    record: Option<Map<String, Value>>,
    tombstone: Option<u64>,
}

/// What one committed operation left.
struct Done {
    rid: Rid,
    kind: OpKind,
    stamp: Stamp,
    image: Option<Image>,
}

/// `POST /batch/{db}`.
pub(super) async fn run<B: Backend>(ctx: Ctx<B>) -> Reply {
    let batch: Body = serde_json::from_slice(&ctx.body)
        .map_err(|e| ApiError::bad_request(format!("the body is not the JSON of a batch: {e}")))?;
    if batch.operations.is_empty() {
        return Err(ApiError::bad_request("Input JSON has no operations to execute"));
    }
    if batch.operations.len() > OPERATIONS_MAX {
        let text = format!("a batch has at most {OPERATIONS_MAX} operations");
        return Err(ApiError::new(ErrorCode::TooLarge, text));
    }
    let db = ctx.database().await?;
    let access = ctx.access();
    let done = if batch.transaction {
        as_one(access, db, batch.operations).await?
    } else {
        one_by_one(access, db, batch.operations).await?
    };
    answer(&done)
}

async fn as_one<B: Backend>(
    access: Access<'_, B>,
    mut db: Db,
    operations: Vec<Operation>,
) -> Result<Vec<Done>, ApiError> {
    let mut proposals = Vec::with_capacity(operations.len());
    let mut done = Vec::with_capacity(operations.len());
    let mut seen = BTreeSet::new();
    for (index, operation) in operations.into_iter().enumerate() {
        let (draft, same) = prepare(access, db, operation).await.map_err(|e| at(index, e))?;
        db = same;
        if !seen.insert(draft.rid) {
            let text = format!("record {} is in the transaction twice", draft.rid);
            return Err(at(index, ApiError::bad_request(text)));
        }
        done.push(Done {
            rid: draft.rid,
            kind: draft.proposal.kind,
            stamp: Stamp::ABSENT,
            image: draft.proposal.image.clone(),
        });
        proposals.push(draft.proposal);
    }
    let commit = access.submit(proposals).await?;
    for (entry, stamp) in done.iter_mut().zip(commit.stamps) {
        entry.stamp = stamp;
    }
    Ok(done)
}

async fn one_by_one<B: Backend>(
    access: Access<'_, B>,
    mut db: Db,
    operations: Vec<Operation>,
) -> Result<Vec<Done>, ApiError> {
    let mut done: Vec<Done> = Vec::with_capacity(operations.len());
    for (index, operation) in operations.into_iter().enumerate() {
        let step = async {
            let (draft, same) = prepare(access, db, operation).await?;
            let kind = draft.proposal.kind;
            let (rid, stamp, image) = draft.commit(access).await?;
            Ok((Done { rid, kind, stamp, image }, same))
        };
        let (entry, same) = step.await.map_err(|error| {
            let mut error = at(index, error);
            error.partial = index > 0;
            error
        })?;
        db = same;
        done.push(entry);
    }
    Ok(done)
}

async fn prepare<B: Backend>(
    access: Access<'_, B>,
    db: Db,
    operation: Operation,
) -> Result<(Draft, Db), ApiError> {
    if matches!(operation.kind.as_str(), "cmd" | "script") {
        let text = format!("operation type '{}' is not supported in a batch", operation.kind);
        return Err(ApiError::new(ErrorCode::Unsupported, text));
    }
    let Some(map) = operation.record else {
        return Err(ApiError::bad_request("the operation has no record"));
    };
    let record = Incoming::from_map(map)?;
    if operation.kind == "c" {
        return Draft::create(access, db, &record).await;
    }
    let Some(own) = &record.rid else {
        return Err(ApiError::bad_request("the record has no @rid"));
    };
    let rid = parse_rid(own)?;
    let base = base(record.version);
    let draft = match operation.kind.as_str() {
        "u" => Draft::replace(&db, rid, base, &record.fields)?,
        "d" => Draft::delete(&db, rid, base, operation.tombstone)?,
        "check" => Draft::check(&db, rid, base)?,
        other => {
            let text = format!("operation type '{other}' is none of c, u, d, check");
            return Err(ApiError::bad_request(text));
        }
    };
    Ok((draft, db))
}

/// Says which operation of the batch it was.
fn at(index: usize, mut error: ApiError) -> ApiError {
    error.text = format!("operation {index}: {}", error.text);
    error
}

#[derive(Serialize)]
struct Written {
    #[serde(rename = "@rid")]
    rid: String,
    #[serde(rename = "@version")]
    version: u64,
}

fn answer(done: &[Done]) -> Reply {
    let written: Vec<Written> =
        done.iter().map(|d| Written { rid: d.rid.to_string(), version: d.stamp.version }).collect();
    let last = match done.last() {
        Some(d) if matches!(d.kind, OpKind::Create | OpKind::Update) => {
            record::render(d.rid, d.stamp.version, d.image.as_ref())?
        }
        Some(_) | None => Vec::new(),
    };
    let operations = serde_json::to_vec(&written)
        .map_err(|e| ApiError::new(ErrorCode::Storage, e.to_string()))?;
    let parts: [&[u8]; 5] = [br#"{"result":["#, &last, br#"],"operations":"#, &operations, b"}"];
    Ok(reply::json_bytes(StatusCode::OK, parts.concat()))
}
