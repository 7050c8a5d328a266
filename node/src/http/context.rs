//! What every handler starts from: the application, the caller's credentials checked, headers that
//! steer the request parsed, path parameters decoded, the body read within limits.
//! May not know what a path means.
//!
//! Request headers: `X-Quorate-Deadline-Ms` (how long the client waits; default and maximum in
//! `Limits`), `X-Quorate-Read-Level` (`local` | `majority` | `all` | a number of MASTERs),
//! `X-Quorate-Tombstone-Id`, `If-Match`, `If-None-Match`, `X-Quorate-Transaction-Token` (see
//! `token`), `X-Quorate-Session-Token` (see `session`), `X-Quorate-Execution-Mode` (see
//! `asynchronous`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use quorate_api::{ErrorCode, NodeId};
use quorate_control::data_centers::DataCenters;
use quorate_control::dynamic::NewNodes;
use quorate_control::members::WriteQuorum;
use quorate_control::settings::{ExecutionMode, ReadQuorum};
use quorate_protocol::chain::Chain;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::allocate::Turns;
use super::asynchronous::{Early, Outcomes};
use super::auth::Authenticator;
use super::backend::Backend;
use super::error::ApiError;
use super::metrics::Counters;
use super::session::Trail;
use super::token::Token;
use super::tries::RetryPolicy;

/// Bounds of what one client, and all together, can make the server hold.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest body; above: 413.
    pub body_bytes_max: usize,
    /// Bodies being read or worked on, all connections together; above: 503.
    pub bodies_bytes_max: usize,
    /// Open connections; above: 503 and closed.
    pub connections_max: usize,
    /// Request line and headers; above: closed by the HTTP library.
    pub header_bytes_max: usize,
    /// Request line and headers must have arrived within this.
    pub header_timeout: Duration,
    /// Requests without a deadline of their own.
    pub deadline_default: Duration,
    /// Longest deadline a request may ask for.
    pub deadline_max: Duration,
    /// For so long requests are still answered once the server was told to stop: refused, if it
    /// says that it leaves.
    pub shutdown_stay: Duration,
    /// Running requests may finish within this once the server was told to stop.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 4 << 20,
            bodies_bytes_max: 64 << 20,
            connections_max: 1024,
            header_bytes_max: 64 << 10,
            header_timeout: Duration::from_secs(30),
            deadline_default: Duration::from_secs(5),
            deadline_max: Duration::from_secs(60),
            shutdown_stay: Duration::from_millis(300),
            shutdown_grace: Duration::from_secs(5),
        }
    }
}

/// Settings of the HTTP layer.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Who may come in.
    pub authenticator: Authenticator,
    /// W of databases whose creation does not name one.
    pub write_quorum: WriteQuorum,
    /// Where servers are, in theirs.
    pub data_centers: DataCenters,
    /// R of theirs.
    pub read_quorum: ReadQuorum,
    /// Whether their writers wait.
    pub execution_mode: ExecutionMode,
    /// Which servers they enlist.
    pub new_nodes: NewNodes,
    /// Who decides in them between contents that diverged.
    pub chain: Chain,
    /// How requests start over by themselves.
    pub retry: RetryPolicy,
    /// Bounds.
    pub limits: Limits,
}

/// Bytes that one unit of the budget for bodies stands for.
const BUDGET_UNIT: usize = 1024;

/// Shared by all requests.
pub(super) struct App<B> {
    /// The server.
    pub(super) backend: B,
    /// This server's identity; fixed for the life of the process.
    pub(super) node: NodeId,
    /// This server's name.
    pub(super) name: String,
    /// Counter of its starts.
    pub(super) boot: u32,
    /// Settings.
    pub(super) config: HttpConfig,
    /// What this layer counts itself.
    pub(super) counters: Counters,
    /// Of requests that were answered early.
    pub(super) outcomes: Outcomes,
    /// Whose turn it is of clusters that records could be created in.
    pub(super) turns: Turns,
    bodies: Arc<Semaphore>,
}

impl<B: Backend> App<B> {
    /// Asks the server once who it is.
    pub(super) fn new(backend: B, config: HttpConfig) -> Self {
        let status = backend.status();
        let counters = Counters::new(backend.connections(), backend.running());
        let units = config.limits.bodies_bytes_max.div_ceil(BUDGET_UNIT);
        Self {
            backend,
            node: status.node,
            name: status.name,
            boot: status.boot,
            config,
            counters,
            outcomes: Outcomes::default(),
            turns: Turns::default(),
            bodies: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
        }
    }
}

/// One authenticated request.
pub(super) struct Ctx<B> {
    /// The application.
    pub(super) app: Arc<App<B>>,
    /// Its method.
    pub(super) method: Method,
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// When the client stops waiting.
    pub(super) deadline: Instant,
    /// How many MASTERs answer its reads; `None`: as its database says.
    pub(super) level: Option<ReadQuorum>,
    /// Under which token the request's transaction runs.
    pub(super) token: Option<Token>,
    /// What the session must remember, if the request belongs to one.
    pub(super) trail: Option<Arc<Trail>>,
    /// How it asks not to be waited for.
    pub(super) early: Option<Early>,
    params: Option<RawPathParams>,
    query: Option<String>,
    /// Its body; empty for methods that have none.
    pub(super) body: Bytes,
    /// Given back when the request is done.
    _budget: Option<OwnedSemaphorePermit>,
}

impl<B: Backend> FromRequest<Arc<App<B>>> for Ctx<B> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App<B>>) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let params = match RawPathParams::from_request_parts(&mut parts, app).await {
            Ok(params) => Some(params),
            Err(RawPathParamsRejection::InvalidUtf8InPathParam(error)) => {
                return Err(ApiError::bad_request(error.body_text()));
            }
            // A path without parameters.
            Err(_) => None,
        };
        if !app.config.authenticator.accepts(&parts.headers) {
            return Err(unauthorized(database_of(params.as_ref()), &parts.headers));
        }
        let trail: Option<Arc<Trail>> = parts.extensions.remove();
        let early: Option<Early> = parts.extensions.remove();
        // A session's wait counts too.
        let deadline = match &trail {
            Some(trail) => trail.until,
            None => Instant::now() + deadline(&parts.headers, &app.config.limits)?,
        };
        let level = read_level(&parts.headers)?;
        let (body, budget) = if matches!(parts.method, Method::GET | Method::HEAD) {
            (Bytes::new(), None)
        } else {
            read_body(app, body, deadline).await?
        };
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        let request = [parts.method.as_str().as_bytes(), path.as_bytes(), &body];
        let token = Token::of(&parts.headers, &request)?;
        Ok(Self {
            app: Arc::clone(app),
            method: parts.method,
            headers: parts.headers,
            deadline,
            level,
            token,
            trail,
            early,
            params,
            query: parts.uri.query().map(str::to_owned),
            body,
            _budget: budget,
        })
    }
}

impl<B: Backend> Ctx<B> {
    /// A decoded path parameter; empty when the route has none of this name.
    pub(super) fn param(&self, name: &str) -> &str {
        self.optional_param(name).unwrap_or_default()
    }

    /// A decoded path parameter that only some routes of the handler have.
    pub(super) fn optional_param(&self, name: &str) -> Option<&str> {
        self.params.as_ref()?.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// True when the query string has this pair, spelled exactly so.
    pub(super) fn has_query_pair(&self, pair: &str) -> bool {
        self.query.as_deref().is_some_and(|q| q.split('&').any(|p| p == pair))
    }

    /// The version the client expects, from `If-Match`; `None` when absent or `*`.
    pub(super) fn if_match(&self) -> Result<Option<u64>, ApiError> {
        version_header(&self.headers, "if-match")
    }

    /// The version the client has, from `If-None-Match`.
    pub(super) fn if_none_match(&self) -> Result<Option<u64>, ApiError> {
        version_header(&self.headers, "if-none-match")
    }

    /// The id to keep in a tombstone.
    pub(super) fn tombstone_id(&self) -> Result<Option<u64>, ApiError> {
        number_header(&self.headers, "x-quorate-tombstone-id")
    }
}

/// Reads a body. It counts against the budget of all bodies until the request is done.
async fn read_body<B: Backend>(
    app: &App<B>,
    body: Body,
    deadline: Instant,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), ApiError> {
    let limit = app.config.limits.body_bytes_max;
    // Of a body in chunks nothing is known beforehand: anything up to the limit can come.
    let declared = body.size_hint().upper();
    let expected = declared.map_or(limit, |n| usize::try_from(n).unwrap_or(usize::MAX));
    if expected > limit {
        return Err(too_large(limit));
    }
    if expected == 0 {
        return Ok((Bytes::new(), None));
    }
    let units = u32::try_from(expected.div_ceil(BUDGET_UNIT)).unwrap_or(u32::MAX);
    let budget = Arc::clone(&app.bodies).try_acquire_many_owned(units).map_err(|_| {
        ApiError::new(ErrorCode::Overload, "too many bytes of request bodies in flight")
    })?;
    let read = Limited::new(body, limit).collect();
    match tokio::time::timeout_at(deadline.into(), read).await {
        Ok(Ok(body)) => Ok((body.to_bytes(), Some(budget))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(error)) => Err(ApiError::bad_request(format!("body not readable: {error}"))),
        Err(_) => Err(ApiError::bad_request("the body did not arrive before the deadline")),
    }
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(ErrorCode::TooLarge, format!("the body is larger than {limit} bytes"))
}

fn database_of(params: Option<&RawPathParams>) -> Option<&str> {
    params?.iter().find(|(key, _)| *key == "db").map(|(_, value)| value)
}

/// The refusal of a stranger. Browsers' background requests get no challenge, so that no dialog
/// pops up.
fn unauthorized(database: Option<&str>, headers: &HeaderMap) -> ApiError {
    let mut error = ApiError::new(ErrorCode::Unauthorized, "401 Unauthorized.");
    if headers.get("x-requested-with").is_none_or(|v| v != "XMLHttpRequest") {
        error.realm = Some(match database {
            // A quote would end the parameter; other characters are checked by the header type.
            Some(name) if !name.contains(['"', '\\']) => format!("OrientDB db-{name}"),
            Some(_) | None => "OrientDB Server".to_owned(),
        });
    }
    error
}

/// How long the client waits.
pub(super) fn deadline(headers: &HeaderMap, limits: &Limits) -> Result<Duration, ApiError> {
    let max = limits.deadline_max;
    match number_header(headers, "x-quorate-deadline-ms")? {
        None => Ok(limits.deadline_default),
        Some(ms) if ms > 0 && Duration::from_millis(ms) <= max => Ok(Duration::from_millis(ms)),
        Some(ms) => Err(ApiError::bad_request(format!(
            "X-Quorate-Deadline-Ms is {ms}, must be 1 to {}",
            max.as_millis()
        ))),
    }
}

fn read_level(headers: &HeaderMap) -> Result<Option<ReadQuorum>, ApiError> {
    let Some(value) = headers.get("x-quorate-read-level") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text.eq_ignore_ascii_case("local") {
        return Ok(Some(ReadQuorum::Count(1)));
    }
    text.parse().map(Some).map_err(|_| {
        ApiError::bad_request(
            "X-Quorate-Read-Level must be local, localDataCenter, majority, all or a number of \
             MASTERs from 1",
        )
    })
}

fn number_header(headers: &HeaderMap, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match value.to_str().ok().map(str::trim).and_then(|text| text.parse().ok()) {
        Some(number) => Ok(Some(number)),
        None => Err(ApiError::bad_request(format!("header {name} must be a whole number"))),
    }
}

/// Versions may come as `3` (the original's ETag) or `"3"` (what the standard asks for).
fn version_header(headers: &HeaderMap, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    match text.trim_matches('"').parse() {
        Ok(version) => Ok(Some(version)),
        Err(_) => Err(ApiError::bad_request(format!("header {name} must be a record version"))),
    }
}
