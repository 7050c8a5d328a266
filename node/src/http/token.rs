//! Retry tokens: a transaction under a token happens at most once, through whatever server it is
//! tried (PROTOCOL.md 3.9 and trap A23). May not know what the transaction does.
//!
//! A token is a session and a number, `X-Quorate-Transaction-Token: <session>:<number>`. It is an
//! item of the database's internal cluster, created in the transaction itself: of two attempts one
//! loses on it. Its image is the answer, so whoever finds it gives the first one's. The same
//! transaction checks the session's own item; once that is deleted nothing runs under it any more,
//! whatever any clock says, and its tokens may be forgotten. A clock only decides that a session
//! is refused early. An acknowledged token (`DELETE /retry/{db}/{session}/{number}`) leaves a
//! tombstone behind and is refused too.
//!
//! A refusal under a token is about this attempt. If an earlier one is still undecided its majority
//! read fails, and the answer's outcome is `unknown`.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use quorate_api::{ClusterKey, Committed, ErrorCode, Image, ItemId, ItemKey, OpKind, Stamp};
use quorate_control::schema::TOKEN_CLUSTER;
use quorate_protocol::io::{Base, Proposal};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::access::{Access, Db};
use super::backend::Backend;
use super::context::Ctx;
use super::error::ApiError;
use super::permitted;
use super::reply::{self, Answer, Reply};

/// The header.
const HEADER: &str = "x-quorate-transaction-token";
/// Other headers that say what a transaction does.
const STEERING: [&str; 2] = ["if-match", "x-quorate-tombstone-id"];
/// Longest session a client can ask for, and what it gets without asking, in seconds.
const SECONDS_MAX: u64 = 24 * 3600;
const SECONDS_DEFAULT: u64 = 3600;
/// Bytes of a session's random name.
const NAME_BYTES: usize = 18;

/// A token with what it was sent for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    session: String,
    number: u64,
    /// Of the whole request, with the headers that decide what it does: the same token with another
    /// one is a mistake of the client.
    digest: String,
}

/// What a token's item holds.
#[derive(Serialize, Deserialize)]
struct Kept {
    digest: String,
    status: u16,
    etag: Option<u64>,
    body: String,
}

/// What a session's item holds.
#[derive(Serialize, Deserialize)]
struct Session {
    /// Seconds since 1970.
    expires: u64,
}

impl Token {
    /// Reads the header.
    pub(super) fn of(headers: &HeaderMap, request: &[&[u8]]) -> Result<Option<Self>, ApiError> {
        let Some(value) = headers.get(HEADER) else { return Ok(None) };
        let parts = value.to_str().ok().and_then(|text| text.trim().split_once(':'));
        let session = parts.filter(|(s, _)| is_session(s)).map(|(s, _)| s.to_owned());
        let number = parts.and_then(|(_, number)| number.parse().ok());
        let (Some(session), Some(number)) = (session, number) else {
            let text = format!("header {HEADER} must be <session>:<number>");
            return Err(ApiError::bad_request(text));
        };
        let mut digest = Sha256::new();
        let mut add = |part: &[u8]| {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        };
        request.iter().for_each(|part| add(part));
        for name in STEERING {
            // Handlers look at the first of several. None at all is not an empty one.
            let value = headers.get(name).map(|value| value.as_bytes());
            add(if value.is_some() { name.as_bytes() } else { &[] });
            add(value.unwrap_or_default());
        }
        let digest = STANDARD.encode(digest.finalize());
        Ok(Some(Self { session, number, digest }))
    }

    /// The answer that was given under this token.
    fn answer(&self, found: &Committed) -> Result<Answer, ApiError> {
        if !found.live {
            return Err(self.expired("it was acknowledged"));
        }
        let bytes = found.image.as_ref().map_or(&[][..], |image| &image.0);
        let kept: Kept = serde_json::from_slice(bytes).map_err(unreadable)?;
        if kept.digest != self.digest {
            let text = format!("transaction token {self} was used for another request");
            return Err(ApiError::bad_request(text));
        }
        let status = StatusCode::from_u16(kept.status).map_err(unreadable)?;
        let body = STANDARD.decode(&kept.body).map_err(unreadable)?;
        Ok(Answer { status, etag: kept.etag, body })
    }

    fn expired(&self, why: &str) -> ApiError {
        let text = format!("transaction token {self} is not accepted: {why}");
        ApiError::new(ErrorCode::TokenExpired, text)
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.session, self.number)
    }
}

fn is_session(text: &str) -> bool {
    text.len() == NAME_BYTES * 4 / 3
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn unreadable(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::Storage, format!("the retry token cannot be read: {error}"))
}

fn session_item(database: u32, session: &str) -> ItemId {
    let cluster = ClusterKey { database, cluster: TOKEN_CLUSTER };
    ItemId { cluster, key: ItemKey::Token(session.as_bytes().to_vec()) }
}

/// Tokens follow their session in the order of keys.
fn token_item(database: u32, session: &str, number: u64) -> ItemId {
    let cluster = ClusterKey { database, cluster: TOKEN_CLUSTER };
    let key = [session.as_bytes(), b"/", &number.to_be_bytes()].concat();
    ItemId { cluster, key: ItemKey::Token(key) }
}

/// What a transaction under a token does beside its own: checks the session, leaves the answer.
pub(super) async fn operations<B: Backend>(
    access: &Access<'_, B>,
    db: &Db,
    token: &Token,
    answer: &Answer,
) -> Result<[Proposal; 2], ApiError> {
    let item = session_item(db.id, &token.session);
    let found = match access.read_local(&item).await? {
        Some(found) if !access.fresh => Some(found),
        Some(_) | None => access.read_majority(item.clone()).await?,
    };
    let found = found.filter(|c| c.live);
    let found = found.ok_or_else(|| token.expired("its session is unknown or has ended"))?;
    let bytes = found.image.as_ref().map_or(&[][..], |image| &image.0);
    let session: Session = serde_json::from_slice(bytes).map_err(unreadable)?;
    if session.expires < now() {
        return Err(token.expired("its session has expired"));
    }
    let kept = Kept {
        digest: token.digest.clone(),
        status: answer.status.as_u16(),
        etag: answer.etag,
        body: STANDARD.encode(&answer.body),
    };
    let image: Image = serde_json::to_vec(&kept).map_err(unreadable)?.into();
    Ok([
        Proposal { item, kind: OpKind::Check, base: Base::Exact(found.stamp), image: None },
        Proposal {
            item: token_item(db.id, &token.session, token.number),
            kind: OpKind::Create,
            base: Base::Exact(Stamp::ABSENT),
            image: Some(image),
        },
    ])
}

/// Runs a request that is one transaction: at once when it has no token, else not when an earlier
/// attempt did, and with that one's answer when it turns out that it did.
pub(super) async fn once<B: Backend>(
    access: Access<'_, B>,
    database: &str,
    run: impl Future<Output = Result<Answer, ApiError>> + Send,
) -> Reply {
    let Some(token) = access.token else { return run.await.map(Into::into) };
    let db = access.served(database).await?;
    let item = token_item(db.id, &token.session, token.number);
    if let Some(found) = access.read_local(&item).await? {
        return repeat(access, token, &found);
    }
    let mut error = match run.await {
        Ok(answer) => return Ok(answer.into()),
        Err(error) => error,
    };
    // Whatever stood in the way may be what the first attempt did.
    match access.read_majority(item).await {
        Ok(Some(found)) => repeat(access, token, &found),
        Ok(None) => Err(error),
        Err(unread) => {
            error.partial = true;
            error.text = format!("{}; an earlier attempt may count: {}", error.text, unread.text);
            Err(error)
        }
    }
}

fn repeat<B: Backend>(access: Access<'_, B>, token: &Token, found: &Committed) -> Reply {
    let answer = token.answer(found)?;
    access.app.counters.token_answers.fetch_add(1, Ordering::Relaxed);
    if let Some(trail) = access.trail {
        trail.repeated();
    }
    Ok(answer.into())
}

/// A request that is no single transaction cannot run under a token.
pub(super) fn refuse<B>(ctx: &Ctx<B>) -> Result<(), ApiError> {
    match ctx.token {
        None => Ok(()),
        Some(_) => Err(ApiError::bad_request(format!("header {HEADER}: not one transaction"))),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `POST /retry/{db}`: a session for tokens.
pub(super) async fn begin<B: Backend>(ctx: Ctx<B>) -> Reply {
    permitted::write(&ctx.app, || "Transaction Commit".to_owned())?;
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Options {
        seconds: u64,
    }
    impl Default for Options {
        fn default() -> Self {
            Self { seconds: SECONDS_DEFAULT }
        }
    }
    let options: Options = super::ddl::optional_json(&ctx.body)?;
    if !(1..=SECONDS_MAX).contains(&options.seconds) {
        return Err(ApiError::bad_request(format!("seconds must be 1 to {SECONDS_MAX}")));
    }
    let db = ctx.served().await?;
    let mut name = [0; NAME_BYTES];
    getrandom::fill(&mut name)
        .map_err(|e| ApiError::new(ErrorCode::NotReady, format!("no randomness: {e}")))?;
    let session = URL_SAFE_NO_PAD.encode(name);
    let expires = now() + options.seconds;
    let image = serde_json::to_vec(&Session { expires }).map_err(unreadable)?;
    let op = Proposal {
        item: session_item(db.id, &session),
        kind: OpKind::Create,
        base: Base::Exact(Stamp::ABSENT),
        image: Some(image.into()),
    };
    let submitted = ctx.access().submit(vec![op], db.schema().revision).await;
    submitted.map_err(|(error, _)| error)?;
    reply::json(StatusCode::CREATED, &json!({"session": session, "expires": expires}))
}

/// `DELETE /retry/{db}/{session}` ends a session, `…/{number}` acknowledges one token.
pub(super) async fn end<B: Backend>(ctx: Ctx<B>) -> Reply {
    permitted::write(&ctx.app, || "Transaction Commit".to_owned())?;
    let db = ctx.served().await?;
    let session = ctx.param("session");
    let item = match ctx.optional_param("number") {
        None => session_item(db.id, session),
        Some(text) => match text.parse() {
            Ok(number) => token_item(db.id, session, number),
            Err(_) => return Err(ApiError::bad_request("the number is none")),
        },
    };
    let access = ctx.access();
    let found = access.read_majority(item.clone()).await?.filter(|c| c.live);
    let Some(found) = found else {
        let text = "no such retry session or token";
        return Err(ApiError::new(ErrorCode::NotFound, text));
    };
    let base = Base::Exact(found.stamp);
    let op = Proposal { item, kind: OpKind::Delete, base, image: None };
    let submitted = access.submit(vec![op], db.schema().revision).await;
    submitted.map_err(|(error, _)| error)?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
