//! Bodies in and out: JSON whatever the content type says, errors in the original's shape.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::Refusal;

/// A refusal on its way out.
#[derive(Debug)]
pub(super) struct Refused(pub(super) Refusal);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

/// The error object: words and the status again.
#[derive(Serialize)]
pub(super) struct ErrorBody {
    error: String,
    status: u16,
}

impl Refused {
    /// Status and body.
    pub(super) fn parts(&self) -> (StatusCode, ErrorBody) {
        let status = self.0.status();
        let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (code, ErrorBody { error: self.0.to_string(), status })
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (code, body) = self.parts();
        (code, Json(body)).into_response()
    }
}

/// Gives errors of the HTTP library, a body too long for one, the shape of all other errors.
pub(super) async fn errors_as_json(response: Response) -> Response {
    let code = response.status();
    let json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if json || !(code.is_client_error() || code.is_server_error()) {
        return response;
    }
    let error = code.canonical_reason().unwrap_or("error").to_lowercase();
    (code, Json(ErrorBody { error, status: code.as_u16() })).into_response()
}

/// Reads a body. Clients of the original do not all send a content type, so none is asked for.
///
/// # Errors
/// `Invalid` with the place where the JSON goes wrong.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    Ok(serde_json::from_slice(body)?)
}
