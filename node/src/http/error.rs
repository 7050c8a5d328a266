//! The error reply: one JSON shape for every refusal, whatever raised it, always with its outcome.
//! May not decide what an error proves: that is `ErrorCode`'s.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use quorate_api::{ErrorCode, Outcome};
use serde::Serialize;
use serde_json::{Map, Value};

use super::backend::{DecideError, ReadError};

/// Seconds that a refused client is asked to wait.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// A refusal on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {text}")]
pub(super) struct ApiError {
    /// The reason; gives status, outcome and retryable.
    pub(super) code: ErrorCode,
    /// For people.
    pub(super) text: String,
    /// Id in the tombstone of a deleted record.
    pub(super) tombstone: Option<u64>,
    /// Earlier parts of the request took effect, so the whole is neither done nor undone.
    pub(super) partial: bool,
    /// Decided not to have happened, for a reason that the client has no part in: the same request
    /// can be tried again, here while there are tries left, and by the client afterwards.
    pub(super) again: bool,
    /// Realm of the challenge, for 401.
    pub(super) realm: Option<String>,
    /// Put beside `errors`, where a route's refusal says more than the error.
    pub(super) beside: Option<Box<Map<String, Value>>>,
}

impl ApiError {
    /// A refusal with a text.
    #[must_use]
    pub(super) fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        let text = text.into();
        let (partial, again) = (false, false);
        Self { code, text, tombstone: None, partial, again, realm: None, beside: None }
    }

    /// The request cannot be understood.
    #[must_use]
    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(ErrorCode::BadRequest, text)
    }

    /// What the client may conclude.
    #[must_use]
    pub(super) const fn outcome(&self) -> Outcome {
        if self.partial { Outcome::Unknown } else { self.code.outcome() }
    }

    /// Reply's body.
    fn body(&self) -> Vec<u8> {
        let status = self.code.http_status();
        let entry = Entry {
            code: status,
            reason: status,
            content: &self.text,
            error_code: self.code.name(),
            outcome: self.outcome(),
            retryable: (self.code.retryable() || self.again) && !self.partial,
            tombstone: self.tombstone,
        };
        serde_json::to_vec(&Envelope { beside: self.beside.as_deref(), errors: [entry] })
            .unwrap_or_else(|_| FALLBACK.to_vec())
    }
}

/// What is sent should the serializer ever fail on strings and numbers.
const FALLBACK: &[u8] = br#"{"errors":[{"code":500,"reason":500,"content":"error not serializable",
"errorCode":"storage","outcome":"unknown","retryable":false}]}"#;

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(flatten)]
    beside: Option<&'a Map<String, Value>>,
    errors: [Entry<'a>; 1],
}

/// `reason` repeats the number, as the original does.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    code: u16,
    reason: u16,
    content: &'a str,
    error_code: &'static str,
    outcome: Outcome,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tombstone: Option<u64>,
}

impl From<DecideError> for ApiError {
    fn from(error: DecideError) -> Self {
        let code = match error {
            DecideError::Refused(refusal) => return Self::new(refusal.code, refusal.text),
            DecideError::Failed(code) => code,
        };
        let text = if code == ErrorCode::NoQuorum {
            "no majority of the MASTERs could be asked to agree on it in time; nothing happened"
        } else if code == ErrorCode::Deadline {
            "the servers had not agreed on it in time; it may still be carried out"
        } else {
            "the servers cannot be asked to agree on it now"
        };
        Self::new(code, text)
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        Self::new(error.code, error.text)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body()));
        let status = StatusCode::from_u16(self.code.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, super::reply::JSON);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        if let Some(realm) = &self.realm
            && let Ok(value) = HeaderValue::try_from(format!("Basic realm=\"{realm}\""))
        {
            headers.insert(WWW_AUTHENTICATE, value);
        }
        // For the counters, which see only the finished reply.
        response.extensions_mut().insert(self.code);
        response.extensions_mut().insert(self.outcome());
        response
    }
}

/// The general text of a code.
pub(super) const fn describe(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NoQuorum => "Quorum cannot be reached, nothing was sent",
        ErrorCode::QuorumFailed => "Quorum not reached, the transaction is aborted",
        ErrorCode::VersionConflict => "The version is not the latest",
        ErrorCode::Busy => "The record is locked by another transaction",
        ErrorCode::GenerationChanged => "The cluster's configuration changed meanwhile",
        ErrorCode::NotFound => "The record was not found",
        ErrorCode::UnknownDatabase => "The database does not exist",
        ErrorCode::UnknownClass => "The class does not exist",
        ErrorCode::UnknownCluster => "The cluster does not exist",
        ErrorCode::DatabaseExists => "The database already exists",
        ErrorCode::ClassExists => "The class already exists",
        ErrorCode::UnknownIndex => "The index does not exist",
        ErrorCode::IndexExists => "The index already exists",
        ErrorCode::DuplicateKey => "Another record has this key of a unique index",
        ErrorCode::SchemaChanged => {
            "The schema changed meanwhile; the same request can succeed now"
        }
        ErrorCode::TokenExpired => "The retry session has ended or the token is acknowledged",
        ErrorCode::NotOwner => "Another server owns the cluster",
        ErrorCode::NotMaster => "Cannot execute write operation on a node that is non a master",
        ErrorCode::Deadline => {
            "The deadline passed before the outcome was known; the transaction may still commit"
        }
        ErrorCode::UnresolvedIntent => {
            "The read met an undecided write that could not be resolved in time"
        }
        ErrorCode::ReadTimeout => "The read did not finish in time",
        ErrorCode::SessionBehind => "This server has not caught up with the session",
        ErrorCode::Overload => "The server has too much to do",
        ErrorCode::NotReady => "The server is not ready",
        ErrorCode::BadRequest => "The request cannot be understood",
        ErrorCode::Unsupported => "Not supported",
        ErrorCode::TooLarge => "Too large",
        ErrorCode::Unauthorized => "401 Unauthorized.",
        ErrorCode::UnknownRoute => "Command not found",
        ErrorCode::Storage => "The storage failed",
    }
}
