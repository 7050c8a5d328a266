//! HTTP: routes, bodies, statuses. Holds no state and decides nothing about links.

mod extension;
mod metrics;
mod reply;
mod standard;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::USER_AGENT;
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use self::reply::Refused;
use crate::control::Control;
use crate::model::Refusal;

/// Version of Toxiproxy's API that is spoken, with this crate's own as build metadata.
pub(crate) const API_VERSION: &str = concat!("2.12.0+quorate.", env!("CARGO_PKG_VERSION"));

/// Longest request body: a populate of some tens of thousands of links.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// All paths: Toxiproxy's, and the extension's under `/quorate/v1`.
pub(crate) fn router(control: Arc<Control>) -> Router {
    let toxics = get(standard::toxics).post(standard::add_toxic);
    let toxic = get(standard::toxic)
        .post(standard::update_toxic)
        .patch(standard::update_toxic)
        .delete(standard::remove_toxic);
    let proxy = get(standard::proxy)
        .post(standard::update)
        .patch(standard::update)
        .delete(standard::delete);
    let lease = get(extension::lease).put(extension::renew).delete(extension::release);
    Router::new()
        .route("/reset", post(standard::reset))
        .route("/proxies", get(standard::proxies).post(standard::create))
        .route("/populate", post(standard::populate))
        .route("/proxies/{proxy}", proxy)
        .route("/proxies/{proxy}/toxics", toxics)
        .route("/proxies/{proxy}/toxics/{toxic}", toxic)
        .route("/version", get(standard::version))
        .route("/metrics", get(metrics::metrics))
        .route("/quorate/v1/info", get(extension::info))
        .route("/quorate/v1/links", get(extension::links))
        .route("/quorate/v1/links/{link}", get(extension::link))
        .route("/quorate/v1/counters", get(extension::counters))
        .route("/quorate/v1/rules", post(extension::rules))
        .route("/quorate/v1/heal", post(extension::heal))
        .route("/quorate/v1/seed", get(extension::seed).put(extension::set_seed))
        .route("/quorate/v1/lease", lease)
        .fallback(|| async { Refused(Refusal::PathNotFound) })
        .method_not_allowed_fallback(|| async { Refused(Refusal::MethodNotAllowed) })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(map_response(reply::errors_as_json))
        .layer(from_fn(turn_browsers_away))
        .with_state(control)
}

/// Refuses browsers, as the original does: a web page could otherwise post to loopback.
async fn turn_browsers_away(request: Request, next: Next) -> Response {
    let agent = request.headers().get(USER_AGENT).map(|value| value.as_bytes());
    if agent.is_some_and(|agent| agent.starts_with(b"Mozilla/")) {
        return Refused(Refusal::Browser).into_response();
    }
    next.run(request).await
}
