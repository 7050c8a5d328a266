//! The table of routes. May not do anything but name handlers.

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use quorate_api::ErrorCode;

use super::backend::Backend;
use super::context::App;
use super::error::ApiError;
use super::{
    asynchronous, batch, command, conflicts, ddl, distributed, distributed_config, document,
    server, session, token, weight,
};

/// All routes. What is not here, or not with this method, is refused with 405 as in the original.
pub(super) fn router<B: Backend>(app: Arc<App<B>>) -> Router {
    Router::new()
        .route(
            "/document/{db}",
            post(document::create::<B>).put(document::replace::<B>).patch(document::merge::<B>),
        )
        .route(
            "/document/{db}/{rid}",
            get(document::read::<B>)
                .head(document::read::<B>)
                .put(document::replace::<B>)
                .patch(document::merge::<B>)
                .delete(document::delete::<B>),
        )
        .route("/batch/{db}", post(batch::run::<B>))
        .route("/query/{db}/{language}/{text}", get(command::query::<B>))
        .route("/query/{db}/{language}/{text}/{limit}", get(command::query::<B>))
        .route("/command/{db}/{language}", post(command::command::<B>))
        .route(
            "/command/{db}/{language}/{text}",
            get(command::query::<B>).post(command::command::<B>),
        )
        .route(
            "/command/{db}/{language}/{text}/{limit}",
            get(command::query::<B>).post(command::command::<B>),
        )
        .route("/cluster/{db}/{cluster}", get(command::cluster::<B>))
        .route("/cluster/{db}/{cluster}/{limit}", get(command::cluster::<B>))
        .route(
            "/class/{db}/{class}",
            get(ddl::describe_class::<B>).post(ddl::create_class::<B>).delete(ddl::drop_class::<B>),
        )
        .route("/database/{db}", get(ddl::describe_database::<B>).delete(ddl::drop_database::<B>))
        .route("/database/{db}/{kind}", post(ddl::create_database::<B>))
        .route("/database/{db}/{kind}/{model}", post(ddl::create_database::<B>))
        .route(
            "/distributed/database/{db}",
            get(distributed_config::describe::<B>).put(distributed_config::change::<B>),
        )
        .route("/conflicts/{db}", get(conflicts::list::<B>).delete(conflicts::dismiss::<B>))
        .route("/conflicts/{db}/after/{rid}", get(conflicts::list::<B>))
        .route(
            "/conflicts/{db}/{rid}",
            post(conflicts::resolve::<B>).delete(conflicts::dismiss::<B>),
        )
        .route("/conflicts/{db}/{rid}/{stamp}", delete(conflicts::dismiss::<B>))
        .route("/listDatabases", get(ddl::list_databases::<B>))
        .route("/distributed/node", get(distributed::node::<B>))
        .route("/distributed/stats", get(distributed::stats::<B>))
        .route("/distributed/stats/{server}", get(distributed::stats::<B>))
        .route("/retry/{db}", post(token::begin::<B>))
        .route("/retry/{db}/{session}", delete(token::end::<B>))
        .route("/retry/{db}/{session}/{number}", delete(token::end::<B>))
        .route("/outcome/{id}", get(asynchronous::outcome::<B>))
        .route("/connect/{db}", get(server::connect::<B>))
        .route("/disconnect", get(server::disconnect::<B>))
        .route("/server", get(server::describe::<B>))
        .route("/server/version", get(server::version::<B>))
        .route("/ping", get(server::ping))
        .route("/health", get(server::health::<B>))
        .route("/metrics", get(server::metrics::<B>))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        // Innermost: whatever else keeps an answer, it is weighed until it is sent.
        .layer(from_fn_with_state(Arc::clone(&app), weight::weighed::<B>))
        .layer(from_fn_with_state(Arc::clone(&app), session::keep::<B>))
        // Outermost: a session is waited for, and its token made, with the transaction.
        .layer(from_fn_with_state(Arc::clone(&app), asynchronous::answer_early::<B>))
        .with_state(app)
}

/// The original's refusal of a path or method it does not know.
async fn unknown(method: Method, uri: Uri) -> ApiError {
    let command = uri.path().trim_start_matches('/');
    ApiError::new(ErrorCode::UnknownRoute, format!("Command not found: {method}.{command}"))
}
