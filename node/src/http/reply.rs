//! Successful replies: bodies, content types, ETags. May not know what they are about.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use super::error::ApiError;

/// Content type of every JSON body.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Content type of plain text.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Result of a handler.
pub(super) type Reply = Result<Response<Body>, ApiError>;

/// No body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// JSON that is ready.
pub(super) fn json_bytes(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// JSON of a value.
pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Reply {
    let body = serde_json::to_vec(value).map_err(|e| {
        ApiError::new(quorate_api::ErrorCode::Storage, format!("reply not serializable: {e}"))
    })?;
    Ok(json_bytes(status, body))
}

/// Plain text.
pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

/// A reply in a form that can be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Version of the one record it is about.
    pub(super) etag: Option<u64>,
    /// JSON; empty for none.
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// `{"result":[…]}` round records that are JSON already.
    pub(super) fn result(records: &[Vec<u8>]) -> Self {
        let mut body = Vec::with_capacity(16 + records.iter().map(|r| r.len() + 1).sum::<usize>());
        body.extend_from_slice(br#"{"result":["#);
        for (index, record) in records.iter().enumerate() {
            if index > 0 {
                body.push(b',');
            }
            body.extend_from_slice(record);
        }
        body.extend_from_slice(b"]}");
        Self::json(body)
    }

    /// JSON that is ready.
    pub(super) const fn json(body: Vec<u8>) -> Self {
        Self { status: StatusCode::OK, etag: None, body }
    }

    /// Done, and nothing to say.
    pub(super) const fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, etag: None, body: Vec::new() }
    }
}

impl From<Answer> for Response<Body> {
    fn from(answer: Answer) -> Self {
        let response = if answer.body.is_empty() {
            empty(answer.status)
        } else {
            json_bytes(answer.status, answer.body)
        };
        match answer.etag {
            Some(version) => with_etag(response, version),
            None => response,
        }
    }
}

/// Adds the version as an ETag, without quotes as the original has it.
pub(super) fn with_etag(mut response: Response<Body>, version: u64) -> Response<Body> {
    response.headers_mut().insert(ETAG, HeaderValue::from(version));
    response
}
