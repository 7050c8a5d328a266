//! `/batch`: several record operations in one request. With `"transaction":true` they are one
//! transaction; otherwise each is its own, in order, and the first failure ends the batch with the
//! earlier ones done (the refusal then says `unknown`, because the batch as a whole is neither).
//! May not know SQL.
//!
//! Operations: `c` (create), `u` (replace), `d` (delete) as in the original, and `check`: the
//! record must still have the given version when the transaction commits. In a transaction they
//! take effect one after the other and are folded to one a record; a version they name is the one
//! before the transaction. A new record may call itself `#-1:-2` or the like, and operations behind
//! it may use that wherever a record id stands. The reply has the original's `result` (the last
//! operation's record) and, as an addition, `operations` with id and version of every one.

use std::collections::BTreeMap;

use quorate_api::{ErrorCode, Rid};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::access::Access;
use super::asynchronous;
use super::backend::Backend;
use super::context::Ctx;
use super::error::ApiError;
use super::permitted;
use super::record::{self, Incoming, parse_rid};
use super::reply::{Answer, Reply};
use super::token;
use super::tries::Tries;
use super::work::{After, RECORDS_MAX, Work, Written};

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

/// Ids that new records of the batch call themselves by.
type Names = BTreeMap<String, Rid>;

/// `POST /batch/{db}`.
pub(super) async fn run<B: Backend>(ctx: Ctx<B>) -> Reply {
    permitted::write(&ctx.app, || "Transaction Commit".to_owned())?;
    let batch: Body = serde_json::from_slice(&ctx.body)
        .map_err(|e| ApiError::bad_request(format!("the body is not the JSON of a batch: {e}")))?;
    if batch.operations.is_empty() {
        return Err(ApiError::bad_request("Input JSON has no operations to execute"));
    }
    if batch.operations.len() > RECORDS_MAX {
        let text = format!("a batch has at most {RECORDS_MAX} operations");
        return Err(ApiError::new(ErrorCode::TooLarge, text));
    }
    let (access, database) = (ctx.access(), ctx.param("db"));
    if batch.transaction {
        let run = as_one(access, database, &batch.operations);
        return token::once(access, database, run).await;
    }
    token::refuse(&ctx)?;
    asynchronous::refuse(&ctx)?;
    let access = Access { accepted: None, ..access };
    Ok(one_by_one(access, database, &batch.operations).await?.into())
}

async fn as_one<B: Backend>(
    access: Access<'_, B>,
    database: &str,
    operations: &[Operation],
) -> Result<Answer, ApiError> {
    let mut tries = Tries::new(access);
    loop {
        match attempt(tries.access(), database, operations, &mut Names::new()).await {
            Ok(done) => return answer(&done),
            Err(error) => tries.after(error).await?,
        }
    }
}

/// One transaction; gives what each operation's record is then.
async fn attempt<B: Backend>(
    access: Access<'_, B>,
    database: &str,
    operations: &[Operation],
    names: &mut Names,
) -> Result<Vec<Written>, ApiError> {
    let mut work = Work::new(access, access.served(database).await?);
    let mut rids = Vec::with_capacity(operations.len());
    for (index, operation) in operations.iter().enumerate() {
        let prepared = prepare(&mut work, operation, names).await;
        rids.push(prepared.map_err(|error| at(index, error))?);
    }
    let done = std::sync::Mutex::new(Vec::new());
    work.commit(|written| {
        let of = |rid: &Rid| {
            let own = written.iter().find(|w| w.rid == *rid).cloned();
            own.unwrap_or(Written { rid: *rid, version: 0, after: After::Untouched, image: None })
        };
        let all: Vec<Written> = rids.iter().map(of).collect();
        let kept = answer(&all);
        *done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = all;
        kept
    })
    .await?;
    Ok(done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

async fn one_by_one<B: Backend>(
    access: Access<'_, B>,
    database: &str,
    operations: &[Operation],
) -> Result<Answer, ApiError> {
    let mut done: Vec<Written> = Vec::with_capacity(operations.len());
    let mut names = Names::new();
    for (index, operation) in operations.iter().enumerate() {
        let mut tries = Tries::new(access);
        loop {
            let one = std::slice::from_ref(operation);
            let failed = match attempt(tries.access(), database, one, &mut names).await {
                Ok(written) => {
                    done.extend(written);
                    tries.done();
                    break;
                }
                Err(error) => tries.after(error).await,
            };
            failed.map_err(|mut error| {
                error.text = error.text.replacen("operation 0: ", "", 1);
                error.partial = index > 0;
                at(index, error)
            })?;
        }
    }
    answer(&done)
}

async fn prepare<B: Backend>(
    work: &mut Work<'_, B>,
    operation: &Operation,
    names: &mut Names,
) -> Result<Rid, ApiError> {
    if matches!(operation.kind.as_str(), "cmd" | "script") {
        let text = format!("operation type '{}' is not supported in a batch", operation.kind);
        return Err(ApiError::new(ErrorCode::Unsupported, text));
    }
    let Some(map) = &operation.record else {
        return Err(ApiError::bad_request("the operation has no record"));
    };
    let mut record = Incoming::from_map(map.clone())?;
    record.fields.values_mut().for_each(|value| rename(value, names));
    if operation.kind == "c" {
        let rid = create(work, &record).await?;
        if let Some(name) = record.rid.filter(|name| is_made_up(name)) {
            names.insert(name, rid);
        }
        return Ok(rid);
    }
    let Some(own) = &record.rid else {
        return Err(ApiError::bad_request("the record has no @rid"));
    };
    let (rid, version) = match names.get(own) {
        // Its version was made up too.
        Some(rid) => (*rid, None),
        None => (parse_rid(own)?, record.version),
    };
    match operation.kind.as_str() {
        "u" => work.replace(rid, version, record.fields).await?,
        "d" => work.delete(rid, version, operation.tombstone).await?,
        "check" => work.check(rid, version).await?,
        other => {
            let text = format!("operation type '{other}' is none of c, u, d, check");
            return Err(ApiError::bad_request(text));
        }
    }
    Ok(rid)
}

/// A new record of the class it names.
pub(super) async fn create<B: Backend>(
    work: &mut Work<'_, B>,
    record: &Incoming,
) -> Result<Rid, ApiError> {
    let Some(class) = &record.class else {
        return Err(ApiError::bad_request("a new record needs its @class"));
    };
    work.require_class(class).await?;
    work.create(class, None, record.fields.clone()).await
}

/// `#-1:-2`: an id that no record has.
fn is_made_up(name: &str) -> bool {
    let numbers = name.strip_prefix('#').unwrap_or(name).split_once(':');
    let negative = |text: &str| text.strip_prefix('-').is_some_and(|n| n.parse::<u64>().is_ok());
    numbers.is_some_and(|(cluster, position)| negative(cluster) && negative(position))
}

/// Puts real ids where made-up ones stand, at any depth the JSON reader let in.
fn rename(value: &mut Value, names: &Names) {
    match value {
        Value::String(text) => {
            if let Some(rid) = names.get(text) {
                *text = rid.to_string();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| rename(value, names)),
        Value::Object(map) => map.values_mut().for_each(|value| rename(value, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Says which operation of the batch it was.
fn at(index: usize, mut error: ApiError) -> ApiError {
    error.text = format!("operation {index}: {}", error.text);
    error
}

#[derive(Serialize)]
struct Entry {
    #[serde(rename = "@rid")]
    rid: String,
    #[serde(rename = "@version")]
    version: u64,
}

fn answer(done: &[Written]) -> Result<Answer, ApiError> {
    let written: Vec<Entry> =
        done.iter().map(|d| Entry { rid: d.rid.to_string(), version: d.version }).collect();
    let last = match done.last() {
        Some(d) if matches!(d.after, After::Created | After::Changed) => {
            record::render(d.rid, d.version, d.image.as_ref())?
        }
        Some(_) | None => Vec::new(),
    };
    let operations = serde_json::to_vec(&written)
        .map_err(|e| ApiError::new(ErrorCode::Storage, e.to_string()))?;
    let parts: [&[u8]; 5] = [br#"{"result":["#, &last, br#"],"operations":"#, &operations, b"}"];
    Ok(Answer::json(parts.concat()))
}
