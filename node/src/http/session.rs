//! Session tokens over HTTP (PROTOCOL.md 3.8): what the header says, waiting before a request is
//! handled, and the token of its reply. May not know what the request is about.
//!
//! `X-Quorate-Session-Token` is a list of `<server>.<boot>:<index>` with commas, empty to begin a
//! session. A request with it is handled once this server has caught up with all entries, or
//! refused with `session_behind` at the deadline; nothing was done then. The reply carries a token
//! of the same form: the client keeps, of each `<server>.<boot>` it was ever told, the highest
//! index, and sends all of them. Through any server it then sees its own writes, and never an older
//! state of a record than before. A request without the header gets none.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use quorate_api::{Boot, ErrorCode, ItemId, NodeId, Stamp};
use quorate_protocol::io::SessionToken;

use super::backend::{Backend, Commit};
use super::context::{App, deadline};
use super::error::ApiError;

const HEADER: &str = "x-quorate-session-token";

/// Most entries of a token: far more servers and boots than a session meets.
const ENTRIES_MAX: usize = 1024;

/// What a request did that its session must remember.
#[derive(Debug, Default)]
pub(super) struct Trail(Mutex<Steps>);

#[derive(Debug, Default)]
struct Steps {
    committed: SessionToken,
    /// Items read by majority: other servers' states, perhaps ahead of this one's.
    seen: Vec<(ItemId, Stamp)>,
}

impl Trail {
    fn steps(&self) -> std::sync::MutexGuard<'_, Steps> {
        // Both fields are whole after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transaction of this server committed.
    pub(super) fn committed(&self, node: NodeId, commit: &Commit) {
        let at = commit.decision;
        let mut steps = self.steps();
        let index = steps.committed.entry((node, at.boot)).or_default();
        *index = at.index.max(*index);
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
    let Some(header) = headers.get(HEADER) else { return next.run(request).await };
    // A stranger is refused by the handler, like any other.
    if !app.config.authenticator.accepts(headers) {
        return next.run(request).await;
    }
    let begun = header.to_str().ok().and_then(parse);
    let Some(token) = begun else {
        let text = "X-Quorate-Session-Token must be a list of server.boot:index";
        return ApiError::bad_request(text).into_response();
    };
    let until = match deadline(headers, &app.config.limits) {
        Ok(time) => Instant::now() + time,
        Err(error) => return error.into_response(),
    };
    if let Err(refused) = reach(&app, token, Vec::new(), until).await {
        return refused.into_response();
    }
    let trail = Arc::new(Trail::default());
    request.extensions_mut().insert(Arc::clone(&trail));
    let mut response = next.run(request).await;
    let Steps { mut committed, seen } = std::mem::take(&mut *trail.steps());
    if committed.is_empty() {
        match reach(&app, SessionToken::new(), seen, until).await {
            Ok(reached) => committed = reached,
            // What was read is not to be shown without the token that goes with it.
            Err(refused) if response.status().is_success() => return refused.into_response(),
            Err(_) => return response,
        }
    }
    if let Ok(value) = HeaderValue::from_str(&render(&committed)) {
        response.headers_mut().insert(HEADER, value);
    }
    response
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

fn parse(text: &str) -> Option<SessionToken> {
    let mut token = SessionToken::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (who, index) = entry.split_once(':')?;
        let (node, boot) = who.split_once('.')?;
        let node = NodeId(u64::from_str_radix(node, 16).ok()?);
        let index = index.parse().ok()?;
        let highest = token.entry((node, Boot(boot.parse().ok()?))).or_insert(index);
        *highest = index.max(*highest);
        if token.len() > ENTRIES_MAX {
            return None;
        }
    }
    Some(token)
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
}
