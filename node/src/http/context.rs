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
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use quorate_api::{ErrorCode, NodeId};
use quorate_control::data_centers::DataCenters;
use quorate_control::dynamic::NewNodes;
use quorate_control::members::WriteQuorum;
use quorate_control::settings::{ExecutionMode, ReadQuorum};
use quorate_protocol::chain::Chain;

use super::allocate::Turns;
use super::asynchronous::{Early, Outcomes};
use super::auth::Authenticator;
use super::backend::Backend;
use super::error::ApiError;
use super::metrics::Counters;
use super::session::Trail;
use super::token::Token;
use super::tries::RetryPolicy;
use super::weight::{self, Scales, Weight};
use crate::memory::Budget;

/// Bounds of what one client, and all together, can make the server hold.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest body; above: 413.
    pub body_bytes_max: usize,
    /// What all requests may hold together, bodies and results; above: 503.
    pub requests_bytes_max: usize,
    /// Answers that nobody waited for, kept to be asked for.
    pub answers_bytes_max: usize,
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
            requests_bytes_max: 256 << 20,
            answers_bytes_max: ANSWERS_MOST,
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

/// Answers that nobody waited for, where memory is no matter.
const ANSWERS_MOST: usize = 32 << 20;

impl Limits {
    /// Those that keep requests within their part of a budget.
    #[must_use]
    pub fn within(budget: &Budget) -> Self {
        let requests = Budget::bytes(budget.requests);
        let answers = (requests / 8).min(ANSWERS_MOST);
        Self {
            requests_bytes_max: requests - answers,
            answers_bytes_max: answers,
            connections_max: budget.connections,
            ..Self::default()
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
    /// What requests hold.
    pub(super) scales: Arc<Scales>,
}

impl<B: Backend> App<B> {
    /// Asks the server once who it is.
    pub(super) fn new(backend: B, config: HttpConfig) -> Self {
        let status = backend.status();
        let counters = Counters::new(backend.connections(), backend.running());
        let scales = Arc::new(Scales::new(config.limits.requests_bytes_max));
        let outcomes = Outcomes::new(config.limits.answers_bytes_max);
        Self {
            backend,
            node: status.node,
            name: status.name,
            boot: status.boot,
            config,
            counters,
            outcomes,
            turns: Turns::default(),
            scales,
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
    /// What it holds.
    pub(super) weight: Arc<Weight>,
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
        let weight: Option<Arc<Weight>> = parts.extensions.remove();
        let weight = weight.unwrap_or_else(|| app.scales.weigh());
        let body = if matches!(parts.method, Method::GET | Method::HEAD) {
            Bytes::new()
        } else {
            read_body(app.config.limits.body_bytes_max, body, &weight, deadline).await?
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
            weight,
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

/// Reads a body, which is weighed before it is: at once if its size is known, else piece by piece;
/// and once more for what its values take.
async fn read_body(
    limit: usize,
    mut body: Body,
    weight: &Arc<Weight>,
    deadline: Instant,
) -> Result<Bytes, ApiError> {
    let declared = body.size_hint().exact();
    let expected = declared.map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX));
    if expected > limit {
        return Err(too_large(limit));
    }
    let mut held = weight.hold(weight::of_body(expected))?;
    let mut read = BytesMut::with_capacity(expected);
    let reading = async {
        while let Some(frame) = body.frame().await {
            let frame = frame
                .map_err(|error| ApiError::bad_request(format!("body not readable: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            let length = read.len() + data.len();
            if length > limit {
                return Err(too_large(limit));
            }
            if length > expected {
                held.set(weight::of_body(length))?;
            }
            read.extend_from_slice(&data);
        }
        Ok(())
    };
    match tokio::time::timeout_at(deadline.into(), reading).await {
        Ok(done) => done?,
        Err(_) => {
            let text = "the body did not arrive before the deadline";
            return Err(ApiError::bad_request(text));
        }
    }
    held.set(weight::of_body(read.len()).saturating_add(weight::of_values(&read)))?;
    held.keep();
    Ok(read.freeze())
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
