//! A database's distributed configuration over HTTP. May not know records, nor how servers agree.

use axum::http::StatusCode;
use quorate_api::ErrorCode;
use quorate_control::distributed::document;

use super::backend::Backend;
use super::context::Ctx;
use super::error::ApiError;
use super::reply::{self, Reply};

/// `GET /distributed/database/{db}`: the very bytes of the file that each server keeps.
pub(super) async fn describe<B: Backend>(ctx: Ctx<B>) -> Reply {
    let db = ctx.database().await?;
    let text = document(db.schema(), &db).write();
    let text = text.map_err(|error| ApiError::new(ErrorCode::Storage, error.to_string()))?;
    Ok(reply::json_bytes(StatusCode::OK, text))
}
