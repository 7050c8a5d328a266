//! Transactions whose clients do not wait (`executionMode: asynchronous`, PROTOCOL.md 3.5): who
//! gets an early answer, what it says, and what became of them afterwards. May not know what a
//! request does.
//!
//! A request with `X-Quorate-Execution-Mode: asynchronous`, or without that header in a database
//! whose `executionMode` is so, is answered with 202 once this server has voted for its
//! transaction, durably. That is no commit: others may refuse it, and it is then undone, or begun
//! again as any other. Its outcome is `unknown` until `GET /outcome/{id}` gives the answer that a
//! waiting client would have got. What is decided earlier than that vote is answered as ever.
//!
//! Answers are kept in memory, the latest ones within bounds. An id that is gone, or of an earlier
//! life of the server, leaves the outcome unknown; who must know for sure sends the request under a
//! transaction token and repeats it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use quorate_api::{ErrorCode, Outcome};
use quorate_control::settings::ExecutionMode;
use serde_json::json;
use tokio::sync::{Notify, oneshot, watch};

use super::backend::Backend;
use super::context::{App, Ctx};
use super::error::ApiError;
use super::reply::{self, Reply};

const HEADER: &str = "x-quorate-execution-mode";
/// Stands on an answer that was earned earlier, so that it is not taken for one about the question.
const OF: &str = "x-quorate-outcome-of";

/// Requests answered early that have no outcome yet; above, the next is refused.
const PENDING_MAX: usize = 4_096;
/// Answers kept; above, as above the bytes that they may have, the oldest is forgotten.
const KEPT_MAX: usize = 16_384;

/// Paths whose requests can be single transactions.
const TRANSACTIONS: [&str; 3] = ["document", "batch", "command"];

/// How a request asks for an early answer.
#[derive(Debug, Clone)]
pub(super) struct Early {
    /// Told once this server has voted.
    pub(super) accepted: Arc<Notify>,
    /// By the request itself, not by its database.
    pub(super) is_named: bool,
}

/// What became of requests that were answered early.
#[derive(Debug)]
pub(super) struct Outcomes {
    bytes_max: usize,
    state: Mutex<Kept>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Number of the next.
    next: u64,
    /// `None` while it has none.
    answers: BTreeMap<u64, Option<Answered>>,
    /// Those with an answer, in the order in which they got it.
    order: VecDeque<u64>,
    bytes: usize,
}

/// A reply that nobody waited for.
#[derive(Debug, Clone)]
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    outcome: Outcome,
}

impl Outcomes {
    /// Keeps answers of so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default(), changes: watch::Sender::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, Kept> {
        // Whole after every statement that can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a further request; `None` when too many have no outcome.
    fn begin(&self) -> Option<u64> {
        let mut state = self.state();
        if state.answers.len() - state.order.len() >= PENDING_MAX {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.answers.insert(number, None);
        Some(number)
    }

    fn forget(&self, number: u64) {
        self.state().answers.remove(&number);
    }

    /// False when nobody was told of it: its client was gone before this server had voted.
    fn finish(&self, number: u64, answered: Answered) -> bool {
        let mut state = self.state();
        let Some(answer) = state.answers.get_mut(&number) else { return false };
        let bytes = answered.bytes();
        if bytes > self.bytes_max {
            // Kept, it would drive out all others and then itself.
            state.answers.remove(&number);
        } else {
            *answer = Some(answered);
            state.bytes += bytes;
            state.order.push_back(number);
        }
        while state.order.len() > KEPT_MAX || state.bytes > self.bytes_max {
            let Some(oldest) = state.order.pop_front() else { break };
            let gone = state.answers.remove(&oldest).flatten();
            state.bytes -= gone.map_or(0, |gone| gone.bytes());
        }
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
        true
    }

    /// `None`: nothing is known of it; `Some(None)`: it has no outcome yet.
    fn look(&self, number: u64) -> Option<Option<Answered>> {
        self.state().answers.get(&number).cloned()
    }
}

/// A number that no client knows. It is forgotten with this: when the request is answered as ever
/// after all, and when its client is gone before it could be told.
struct Untold<'a> {
    outcomes: &'a Outcomes,
    number: u64,
}

impl Untold<'_> {
    fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        self.outcomes.forget(self.number);
    }
}

/// Wraps every request: answers those early that ask for it.
pub(super) async fn answer_early<B: Backend>(
    State(app): State<Arc<App<B>>>,
    mut request: Request,
    next: Next,
) -> Response {
    let is_named = match mode(request.headers()) {
        Ok(ExecutionMode::Undefined) => false,
        Ok(ExecutionMode::Synchronous) => return next.run(request).await,
        Ok(ExecutionMode::Asynchronous) => true,
        Err(refused) => return refused.into_response(),
    };
    let is_transaction = may_be_transaction(&request);
    if is_named && !is_transaction {
        return not_one_transaction().into_response();
    }
    let is_wanted = is_named || (is_transaction && is_default(&app, request.uri().path()));
    // A stranger is refused by the handler, like any other, and costs no entry.
    if !is_wanted || !app.config.authenticator.accepts(request.headers()) {
        return next.run(request).await;
    }
    let Some(number) = app.outcomes.begin() else {
        let text = "too many transactions that nobody waits for have no outcome yet";
        return ApiError::new(ErrorCode::Overload, text).into_response();
    };
    let accepted = Arc::new(Notify::new());
    request.extensions_mut().insert(Early { accepted: Arc::clone(&accepted), is_named });
    let (give, mut given) = oneshot::channel();
    let work = Arc::clone(&app);
    let untold = Untold { outcomes: &app.outcomes, number };
    // Goes on when the client is gone.
    tokio::spawn(async move {
        let response = next.run(request).await;
        if let Err(unwanted) = give.send(response) {
            let answered = keep(unwanted).await;
            let outcome = answered.outcome;
            if work.outcomes.finish(number, answered) {
                work.counters.decided_later(outcome);
            }
        }
    });
    let decided = tokio::select! {
        biased;
        given = &mut given => Some(given),
        () = accepted.notified() => {
            // From here on the answer is kept, unless it has come in between.
            given.close();
            given.try_recv().ok().map(Ok)
        }
    };
    let Some(given) = decided else {
        untold.disarm();
        return accepted_reply(&app, number);
    };
    given.unwrap_or_else(|_| unknown(ErrorCode::NotReady, "the server is stopping").into_response())
}

/// 202: accepted, which is no outcome.
fn accepted_reply<B: Backend>(app: &App<B>, number: u64) -> Response {
    app.counters.accepted();
    let id = id_of(app, number);
    let location = HeaderValue::try_from(format!("/outcome/{id}"));
    let body = json!({"accepted": id, "outcome": "unknown"});
    let mut response = match reply::json(StatusCode::ACCEPTED, &body) {
        Ok(response) => response,
        Err(mut error) => {
            error.partial = true;
            return error.into_response();
        }
    };
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// `GET /outcome/{id}`: the answer that a waiting client would have got, once it is there.
pub(super) async fn outcome<B: Backend>(ctx: Ctx<B>) -> Reply {
    let id = ctx.param("id");
    let own = id.rsplit_once('.').filter(|(server, _)| *server == server_of(&ctx.app));
    let number = own.and_then(|(_, number)| number.parse().ok());
    let Some(number) = number else {
        let text = "this server, in this life, has answered nothing early under this id; the \
                    server that did knows, as long as it is not restarted";
        return Err(unknown(ErrorCode::NotFound, text));
    };
    let mut changes = ctx.app.outcomes.changes.subscribe();
    let done = async {
        loop {
            changes.mark_unchanged();
            match ctx.app.outcomes.look(number) {
                None => {
                    return Err(unknown(ErrorCode::NotFound, "its answer is not kept any more"));
                }
                Some(Some(answered)) => return Ok(answered),
                // The sender lives as long as the application.
                Some(None) => changes.changed().await.ok(),
            };
        }
    };
    let until = ctx.deadline.max(Instant::now());
    match tokio::time::timeout_at(until.into(), done).await {
        Ok(answered) => Ok(answered?.into_response(id)),
        Err(_) => Err(unknown(ErrorCode::Deadline, "it has no outcome yet")),
    }
}

/// A refusal that says nothing about the transaction.
fn unknown(code: ErrorCode, text: &str) -> ApiError {
    ApiError { partial: true, ..ApiError::new(code, text) }
}

/// The refusal of an early answer to what is not one transaction.
pub(super) fn not_one_transaction() -> ApiError {
    ApiError::bad_request(format!(
        "header {HEADER}: asynchronous is for requests that are one transaction on records"
    ))
}

/// A request that is no single transaction cannot be answered early when it asks so itself.
pub(super) fn refuse<B>(ctx: &Ctx<B>) -> Result<(), ApiError> {
    match &ctx.early {
        Some(early) if early.is_named => Err(not_one_transaction()),
        Some(_) | None => Ok(()),
    }
}

fn mode(headers: &HeaderMap) -> Result<ExecutionMode, ApiError> {
    let Some(value) = headers.get(HEADER) else { return Ok(ExecutionMode::Undefined) };
    let text = value.to_str().unwrap_or_default().trim();
    text.parse().map_err(|error| ApiError::bad_request(format!("header {HEADER}: {error}")))
}

fn may_be_transaction(request: &Request) -> bool {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let first = request.uri().path().split('/').nth(1);
    !reads && first.is_some_and(|first| TRANSACTIONS.contains(&first))
}

/// True when the database in the path says so. Its legal names need no decoding.
fn is_default<B: Backend>(app: &App<B>, path: &str) -> bool {
    let schema = app.backend.schema();
    let database = path.split('/').nth(2).and_then(|name| schema.database(name));
    database.is_some_and(|d| d.execution_mode == ExecutionMode::Asynchronous)
}

/// Ids of one server's life begin so.
fn server_of<B: Backend>(app: &App<B>) -> String {
    format!("{}.{}", app.node, app.boot)
}

fn id_of<B: Backend>(app: &App<B>, number: u64) -> String {
    format!("{}.{number}", server_of(app))
}

async fn keep(response: Response) -> Answered {
    let (parts, body) = response.into_parts();
    let outcome = parts.extensions.get().copied().unwrap_or(Outcome::Ok);
    // Bodies are made as a whole and have no way to fail.
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    // A copy: the answer's own bytes hold what running requests share.
    let body = Bytes::copy_from_slice(&body);
    Answered { status: parts.status, headers: parts.headers, body, outcome }
}

impl Answered {
    /// Memory it takes, but for what is small in every answer.
    fn bytes(&self) -> usize {
        let header = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
        self.body.len() + self.headers.iter().map(header).sum::<usize>()
    }

    fn into_response(self, id: &str) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if let Ok(id) = HeaderValue::from_str(id) {
            response.headers_mut().insert(OF, id);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 1 << 20;

    fn answered(bytes: usize) -> Answered {
        let (status, headers) = (StatusCode::OK, HeaderMap::new());
        Answered { status, headers, body: vec![0; bytes].into(), outcome: Outcome::Ok }
    }

    #[test]
    fn only_so_many_may_have_no_outcome() {
        let outcomes = Outcomes::new(BYTES);
        let numbers: Vec<u64> = (0..PENDING_MAX).map(|_| outcomes.begin().unwrap()).collect();
        assert_eq!(outcomes.begin(), None);
        assert!(outcomes.finish(numbers[0], answered(1)));
        outcomes.forget(numbers[1]);
        assert!(!outcomes.finish(numbers[1], answered(1)));
        assert!(outcomes.begin().is_some() && outcomes.begin().is_some());
        assert_eq!(outcomes.begin(), None);
    }

    #[test]
    fn the_oldest_answers_are_forgotten_and_never_what_has_none() {
        let outcomes = Outcomes::new(BYTES);
        let open = outcomes.begin().unwrap();
        let finish = |bytes| {
            let number = outcomes.begin().unwrap();
            assert!(outcomes.finish(number, answered(bytes)));
            number
        };
        let first = finish(BYTES / 2);
        let second = finish(BYTES / 2);
        assert!(outcomes.look(first).is_some());
        let third = finish(1);
        assert!(outcomes.look(first).is_none());
        assert!(outcomes.look(second).flatten().is_some());
        let huge = finish(BYTES + 1);
        assert!(outcomes.look(huge).is_none() && outcomes.look(third).is_some());
        for _ in 0..KEPT_MAX {
            finish(0);
        }
        assert!(outcomes.look(third).is_none());
        assert!(outcomes.look(open).is_some_and(|answer| answer.is_none()));
        assert_eq!(outcomes.state().bytes, 0);
    }

    #[test]
    fn headers_count_too() {
        let outcomes = Outcomes::new(BYTES);
        let number = outcomes.begin().unwrap();
        let mut answer = answered(2);
        answer.headers.insert("etag", HeaderValue::from_static("12345"));
        assert!(outcomes.finish(number, answer));
        assert_eq!(outcomes.state().bytes, 2 + 4 + 5);
    }
}
