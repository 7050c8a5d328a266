//! Session tokens over HTTP (PROTOCOL.md 3.8): what the header says, waiting before a request is
//! handled, and the token of its reply. May not know what the request is about.
//!
//! `X-Quorate-Session-Token` is a list of `<server>.<boot>:<index>` with commas, empty to begin a
//! session; several such headers are one list. A request with it is handled once this server has
//! caught up with all entries, or refused with `session_behind` at the deadline; nothing was done
//! then. The reply carries a token of the same form that holds everything the request's did, what
//! the request committed, and what this server had applied: a client needs to keep the last one
//! only, as long as it sends one request after the other. Through any server it then sees its own
//! writes, and never an older state of a record than before. Entries of a boot leave the token once
//! that boot is closed, for every server has applied all of it then. A request without the header
//! gets none.
//!
//! What was read by majority may be ahead of this server; its reply waits until this server has
//! caught up. If that takes too long, a read is refused, for nothing is lost with it. A commit is
//! not: its reply says so, with a token that holds the commit, but perhaps not all that was looked
//! at on the way. The answer to an earlier attempt (`token`) has no position of its own; it turns
//! into a refusal with the outcome `unknown`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use quorate_api::{Boot, ErrorCode, ItemId, NodeId, OpKind, Stamp};
use quorate_protocol::io::SessionToken;

use super::backend::{Backend, Commit};
use super::context::{App, deadline};
use super::error::ApiError;

const HEADER: &str = "x-quorate-session-token";

/// Most entries of a token: far more servers and boots than a session meets.
const ENTRIES_MAX: usize = 1024;

/// What a request did that its session must remember.
#[derive(Debug)]
pub(super) struct Trail {
    /// When the client stops waiting, counted from before the session was waited for.
    pub(super) until: Instant,
    steps: Mutex<Steps>,
}

#[derive(Debug, Default)]
struct Steps {
    committed: SessionToken,
    /// The reply is about a transaction that an earlier attempt committed.
    is_repeated: bool,
    /// Items read by majority: other servers' states, perhaps ahead of this one's.
    seen: Vec<(ItemId, Stamp)>,
}

impl Trail {
    const fn new(until: Instant, steps: Steps) -> Self {
        Self { until, steps: Mutex::new(steps) }
    }

    fn steps(&self) -> std::sync::MutexGuard<'_, Steps> {
        // All fields are whole after every statement.
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transaction of this server committed; `ops` in its order. Whoever has applied it has also
    /// applied what it wrote over, so that needs no waiting; what it checked was seen.
    pub(super) fn committed<'a>(
        &self,
        node: NodeId,
        commit: &Commit,
        ops: impl Iterator<Item = (&'a OpKind, &'a ItemId)>,
    ) {
        let at = commit.decision;
        let (checked, written): (Vec<_>, Vec<_>) =
            ops.zip(&commit.stamps).partition(|((kind, _), _)| **kind == OpKind::Check);
        let written: BTreeSet<&ItemId> = written.into_iter().map(|((_, item), _)| item).collect();
        let mut steps = self.steps();
        raise(&mut steps.committed, (node, at.boot), at.index);
        steps.seen.retain(|(item, _)| !written.contains(item));
        steps.seen.extend(checked.into_iter().map(|((_, item), stamp)| (item.clone(), *stamp)));
    }

    /// The reply is the one that an earlier attempt earned.
    pub(super) fn repeated(&self) {
        self.steps().is_repeated = true;
    }

    /// An item was read by majority.
    pub(super) fn saw(&self, item: ItemId, stamp: Stamp) {
        self.steps().seen.push((item, stamp));
    }
}

/// Wraps every request that belongs to a session.
pub(super) async fn keep<B: Backend>(
    State(app): State<Arc<App<B>>>,
    mut request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    if !headers.contains_key(HEADER) {
        return next.run(request).await;
    }
    // A stranger is refused by the handler, like any other.
    if !app.config.authenticator.accepts(headers) {
        return next.run(request).await;
    }
    let Some(mut token) = read(headers) else {
        let text = "X-Quorate-Session-Token must be a list of server.boot:index";
        return ApiError::bad_request(text).into_response();
    };
    let until = match deadline(headers, &app.config.limits) {
        Ok(time) => Instant::now() + time,
        Err(error) => return error.into_response(),
    };
    let begun = Instant::now();
    let reached = reach(&app, token.clone(), Vec::new(), until).await;
    app.counters.waited(begun.elapsed());
    match reached {
        Ok(reached) => merge(&mut token, reached),
        Err(refused) => return refused.into_response(),
    }
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let trail = Arc::new(Trail::new(until, Steps::default()));
    request.extensions_mut().insert(Arc::clone(&trail));
    let mut response = next.run(request).await;
    let Steps { committed, is_repeated, seen } = std::mem::take(&mut *trail.steps());
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let is_committed = !committed.is_empty();
    merge(&mut token, committed);
    // The answer to an earlier request brings the token that was earned then.
    for earlier in response.headers().get_all(HEADER) {
        merge(&mut token, earlier.to_str().ok().and_then(parse).unwrap_or_default());
    }
    match reach(&app, SessionToken::new(), seen, until).await {
        Ok(reached) => merge(&mut token, reached),
        Err(mut refused) if is_read || (!is_error && !is_committed) => {
            // What was read is not to be shown without the token that goes with it.
            refused.partial = is_repeated;
            return refused.into_response();
        }
        Err(refused) => tracing::debug!(%refused, "session token without what was looked at"),
    }
    forget_closed(&app, &mut token).await;
    if let Ok(value) = HeaderValue::from_str(&render(&token)) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}

/// Leaves out what every server has applied: entries of boots that are closed.
async fn forget_closed<B: Backend>(app: &App<B>, token: &mut SessionToken) {
    let later = |(node, boot): (NodeId, Boot)| {
        token.range((node, boot)..=(node, Boot(u32::MAX))).nth(1).is_some()
    };
    let ended: Vec<_> = token.keys().copied().filter(|entry| later(*entry)).collect();
    for entry in ended {
        // No log gets that far: only a closed boot satisfies it.
        let beyond = SessionToken::from([(entry, u64::MAX)]);
        if app.backend.session(beyond, Vec::new(), Instant::now()).await.is_ok() {
            token.remove(&entry);
        }
    }
}

async fn reach<B: Backend>(
    app: &App<B>,
    token: SessionToken,
    seen: Vec<(ItemId, Stamp)>,
    until: Instant,
) -> Result<SessionToken, ApiError> {
    app.backend.session(token, seen, until).await.map_err(|failure| {
        let text = if failure.code == ErrorCode::SessionBehind {
            "this server has not caught up with the session in time"
        } else {
            "this server cannot say whether it has caught up with the session"
        };
        ApiError::new(failure.code, text)
    })
}

fn render(token: &SessionToken) -> String {
    let entry =
        |((node, boot), index): (&(NodeId, Boot), &u64)| format!("{node}.{}:{index}", boot.0);
    token.iter().map(entry).collect::<Vec<_>>().join(",")
}

/// All headers of a request together; `None` when one of them is no token.
fn read(headers: &HeaderMap) -> Option<SessionToken> {
    let mut token = SessionToken::new();
    for value in headers.get_all(HEADER) {
        merge(&mut token, parse(value.to_str().ok()?)?);
    }
    (token.len() <= ENTRIES_MAX).then_some(token)
}

fn parse(text: &str) -> Option<SessionToken> {
    let mut token = SessionToken::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (who, index) = entry.split_once(':')?;
        let (node, boot) = who.split_once('.')?;
        let node = NodeId(u64::from_str_radix(node, 16).ok()?);
        raise(&mut token, (node, Boot(boot.parse().ok()?)), index.parse().ok()?);
    }
    Some(token)
}

fn merge(token: &mut SessionToken, other: SessionToken) {
    for (entry, index) in other {
        raise(token, entry, index);
    }
}

fn raise(token: &mut SessionToken, entry: (NodeId, Boot), index: u64) {
    let highest = token.entry(entry).or_insert(index);
    *highest = index.max(*highest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_junk_is_refused() {
        let text = "000000000000000a.1:7,000000000000000a.2:1,00000000000000ff.1:3";
        assert_eq!(render(&parse(text).unwrap()), text);
        assert_eq!(parse(" ").unwrap(), SessionToken::new());
        assert_eq!(parse("a.1:7,a.1:5").unwrap(), parse("a.1:7").unwrap());
        for junk in ["a", "a.1", "a:1", "x.1:1", "a.b:1", "a.1:-1", "a.1:1:1"] {
            assert!(parse(junk).is_none(), "{junk}");
        }
    }

    #[test]
    fn headers_of_one_request_are_one_token() {
        let mut headers = HeaderMap::new();
        for text in ["a.1:7,b.1:1", "b.1:3", "c.1:2"] {
            headers.append(HEADER, HeaderValue::from_static(text));
        }
        assert_eq!(read(&headers), parse("a.1:7,b.1:3,c.1:2"));
        headers.append(HEADER, HeaderValue::from_static("junk"));
        assert_eq!(read(&headers), None);
    }

    #[test]
    fn a_token_has_a_most_of_entries() {
        let token = |entries: usize| {
            let entries = (1..=entries).map(|boot| format!("a.{boot}:1"));
            let text = entries.collect::<Vec<_>>().join(",");
            read(&HeaderMap::from_iter([(HEADER.parse().unwrap(), text.parse().unwrap())]))
        };
        assert_eq!(token(ENTRIES_MAX).map(|token| token.len()), Some(ENTRIES_MAX));
        assert_eq!(token(ENTRIES_MAX + 1), None);
    }
}
