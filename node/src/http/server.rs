//! Routes about the server itself: connect, disconnect, ping, health, metrics, version.
//! May not know records.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, StatusCode};
use quorate_api::ErrorCode;
use quorate_control::data_centers;
use quorate_control::schema::Database;
use serde_json::{Map, Value, json};

use super::backend::{Backend, NodeState};
use super::context::{App, Ctx, HttpConfig};
use super::ddl::database_names;
use super::error::ApiError;
use super::reply::{self, Reply};

/// Content type of the Prometheus text format.
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4");

/// `GET /connect/{db}`.
pub(super) async fn connect<B: Backend>(ctx: Ctx<B>) -> Reply {
    ctx.database().await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}

/// `GET /disconnect`: 401 so that browsers forget the credentials, as in the original.
pub(super) async fn disconnect<B: Backend>(ctx: Ctx<B>) -> Reply {
    drop(ctx);
    Err(ApiError::new(ErrorCode::Unauthorized, "Logged out"))
}

/// `GET /ping`.
pub(super) async fn ping() -> Response<Body> {
    reply::text(StatusCode::OK, "pong")
}

/// `GET /server/version`.
pub(super) async fn version<B: Backend>(ctx: Ctx<B>) -> Reply {
    drop(ctx);
    Ok(reply::text(StatusCode::OK, env!("CARGO_PKG_VERSION")))
}

/// `GET /server`.
pub(super) async fn describe<B: Backend>(ctx: Ctx<B>) -> Reply {
    let app = &ctx.app;
    let schema = app.backend.schema();
    let status = app.backend.status();
    let storages: Vec<Value> = schema
        .served_by(app.node)
        .map(|d| json!({"name": d.name, "type": d.kind.name(), "activeUsers": 0}))
        .collect();
    let connections = app.counters.connections.load(Ordering::Relaxed);
    let low = |d: &Database| {
        let warning = schema.warning_of(d)?;
        Some(format!("database '{}': {warning}", d.name))
    };
    let mut warnings: Vec<String> = schema.served_by(app.node).filter_map(low).collect();
    let names: Vec<&str> = status.masters.keys().map(String::as_str).collect();
    let HttpConfig { write_quorum, data_centers, .. } = &app.config;
    let default = data_centers::rule(*write_quorum, data_centers, &names);
    if let Some(warning) = default.warning(names.len()) {
        warnings.push(format!("default of new databases: {warning}"));
    }
    let body = json!({
        "connections": [],
        "dbs": database_names(&schema, app.node),
        "storages": storages,
        "properties": [
            {"name": "node.name", "value": status.name},
            {"name": "node.id", "value": status.node.to_string()},
            {"name": "node.boot", "value": status.boot},
            {"name": "node.status", "value": status.state.name()},
            {"name": "http.connections", "value": connections},
        ],
        "globalProperties": [],
        "warnings": warnings,
    });
    reply::json(StatusCode::OK, &body)
}

/// `GET /health`: 200 once this server serves, 503 before and while it stops.
pub(super) async fn health<B: Backend>(State(app): State<Arc<App<B>>>) -> Reply {
    let status = app.backend.status();
    let masters: Map<String, Value> =
        status.masters.iter().map(|(name, m)| (name.clone(), Value::Bool(m.up))).collect();
    if status.state == NodeState::Online {
        let body = json!({"status": status.state.name(), "masters": masters});
        return reply::json(StatusCode::OK, &body);
    }
    let unmet = status.masters.iter().filter(|(_, m)| m.node.is_none());
    let unmet: Vec<&str> = unmet.map(|(name, _)| name.as_str()).collect();
    let mut text = format!("server '{}' is {}", status.name, status.state.name());
    if !unmet.is_empty() {
        text.push_str(&format!("; never met so far: {}", unmet.join(", ")));
    }
    let mut error = ApiError::new(ErrorCode::NotReady, text);
    let beside = [
        ("status".to_owned(), Value::from(status.state.name())),
        ("masters".to_owned(), Value::Object(masters)),
    ];
    error.beside = Some(Box::new(beside.into_iter().collect()));
    Err(error)
}

/// `GET /metrics`.
pub(super) async fn metrics<B: Backend>(State(app): State<Arc<App<B>>>) -> Response<Body> {
    let mut text = app.backend.metrics();
    text.push_str(&app.counters.render(app.scales.figures()));
    let mut response = reply::text(StatusCode::OK, text);
    response.headers_mut().insert(CONTENT_TYPE, PROMETHEUS);
    response
}
