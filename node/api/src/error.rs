//! Error codes, each with what it proves about the operation. The one place that says so; every
//! `match` is exhaustive.

use core::fmt;

use serde::{Deserialize, Serialize};

/// What is known about the effect of an operation (DESIGN.md section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It happened.
    Ok,
    /// It definitely did not happen, and never will.
    Failed,
    /// It may have happened, or may happen at any later time.
    Unknown,
}

/// Machine-readable reason of a failure, stable over versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Too few MASTERs are believed reachable; refused before anything was sent.
    NoQuorum,
    /// The quorum was not reached, and the abort is decided.
    QuorumFailed,
    /// The item's version is not the one the operation builds on.
    VersionConflict,
    /// Another undecided transaction holds the item; automatic retries are used up and the abort is
    /// decided.
    Busy,
    /// The cluster's configuration changed under the transaction.
    GenerationChanged,
    /// No such record.
    NotFound,
    /// No such database.
    UnknownDatabase,
    /// No such class.
    UnknownClass,
    /// No such cluster.
    UnknownCluster,
    /// The database exists.
    DatabaseExists,
    /// The class exists.
    ClassExists,
    /// No such index.
    UnknownIndex,
    /// The index exists.
    IndexExists,
    /// Another live record has this key of a unique index.
    DuplicateKey,
    /// The schema changed between the request's planning and its vote; planned anew it can succeed.
    SchemaChanged,
    /// The retry session of the transaction token has ended, or the token was acknowledged: whether
    /// it was used is not known any more, so it is not executed.
    TokenExpired,
    /// Records of this cluster are created by another server.
    NotOwner,
    /// This server is a REPLICA, which reads only; MASTERs write.
    NotMaster,
    /// The deadline passed before the outcome was known.
    Deadline,
    /// A read met an undecided vote that could not be resolved in time; nothing was guessed.
    UnresolvedIntent,
    /// A read did not hear from a majority in time.
    ReadTimeout,
    /// The server did not catch up in time with what the session has seen.
    SessionBehind,
    /// A queue is full; come back later.
    Overload,
    /// The server is not ready yet, or is shutting down.
    NotReady,
    /// The request cannot be understood.
    BadRequest,
    /// The statement is understood but not supported.
    Unsupported,
    /// The body or a frame is larger than the limit.
    TooLarge,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// No such path, or the method does not fit it.
    UnknownRoute,
    /// The storage failed; whether the operation took effect is not known.
    Storage,
}

impl ErrorCode {
    /// What the code proves.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            // Nothing left this server, or the abort is a decided fact.
            Self::NoQuorum
            | Self::QuorumFailed
            | Self::VersionConflict
            | Self::Busy
            | Self::GenerationChanged
            | Self::NotFound
            | Self::UnknownDatabase
            | Self::UnknownClass
            | Self::UnknownCluster
            | Self::DatabaseExists
            | Self::ClassExists
            | Self::UnknownIndex
            | Self::IndexExists
            | Self::DuplicateKey
            | Self::SchemaChanged
            | Self::TokenExpired
            | Self::NotOwner
            | Self::NotMaster
            | Self::Overload
            | Self::NotReady
            | Self::BadRequest
            | Self::Unsupported
            | Self::TooLarge
            | Self::Unauthorized
            | Self::UnknownRoute
            // Reads change nothing.
            | Self::UnresolvedIntent
            | Self::ReadTimeout
            | Self::SessionBehind => Outcome::Failed,
            // The transaction goes on and may commit at any later time (trap A22).
            Self::Deadline => Outcome::Unknown,
            // The write may or may not be on disk.
            Self::Storage => Outcome::Unknown,
        }
    }

    /// True when the same request can succeed later without being changed.
    #[must_use]
    pub const fn retryable(self) -> bool {
        match self {
            Self::NoQuorum
            | Self::QuorumFailed
            | Self::Busy
            | Self::GenerationChanged
            | Self::SchemaChanged
            | Self::UnresolvedIntent
            | Self::ReadTimeout
            | Self::SessionBehind
            | Self::Overload
            | Self::NotReady => true,
            Self::VersionConflict
            | Self::NotFound
            | Self::UnknownDatabase
            | Self::UnknownClass
            | Self::UnknownCluster
            | Self::DatabaseExists
            | Self::ClassExists
            | Self::UnknownIndex
            | Self::IndexExists
            | Self::DuplicateKey
            | Self::TokenExpired
            | Self::NotOwner
            | Self::NotMaster
            | Self::Deadline
            | Self::BadRequest
            | Self::Unsupported
            | Self::TooLarge
            | Self::Unauthorized
            | Self::UnknownRoute
            | Self::Storage => false,
        }
    }

    /// The HTTP status, the original's where it has the case (ORIENTDB.md section 10).
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::NotFound
            | Self::UnknownDatabase
            | Self::UnknownClass
            | Self::UnknownCluster
            | Self::UnknownIndex => 404,
            Self::TokenExpired => 410,
            Self::VersionConflict | Self::DatabaseExists => 409,
            Self::Busy => 423,
            Self::Overload | Self::NotReady | Self::SessionBehind => 503,
            Self::BadRequest => 400,
            Self::Unsupported => 501,
            Self::TooLarge => 413,
            Self::Unauthorized => 401,
            Self::UnknownRoute => 405,
            Self::NoQuorum
            | Self::QuorumFailed
            | Self::GenerationChanged
            | Self::ClassExists
            | Self::IndexExists
            | Self::DuplicateKey
            | Self::SchemaChanged
            | Self::NotOwner
            | Self::NotMaster
            | Self::Deadline
            | Self::UnresolvedIntent
            | Self::ReadTimeout
            | Self::Storage => 500,
        }
    }

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoQuorum => "no_quorum",
            Self::QuorumFailed => "quorum_failed",
            Self::VersionConflict => "version_conflict",
            Self::Busy => "busy",
            Self::GenerationChanged => "generation_changed",
            Self::NotFound => "not_found",
            Self::UnknownDatabase => "unknown_database",
            Self::UnknownClass => "unknown_class",
            Self::UnknownCluster => "unknown_cluster",
            Self::DatabaseExists => "database_exists",
            Self::ClassExists => "class_exists",
            Self::UnknownIndex => "unknown_index",
            Self::IndexExists => "index_exists",
            Self::DuplicateKey => "duplicate_key",
            Self::SchemaChanged => "schema_changed",
            Self::TokenExpired => "token_expired",
            Self::NotOwner => "not_owner",
            Self::NotMaster => "not_master",
            Self::Deadline => "deadline",
            Self::UnresolvedIntent => "unresolved_intent",
            Self::ReadTimeout => "read_timeout",
            Self::SessionBehind => "session_behind",
            Self::Overload => "overload",
            Self::NotReady => "not_ready",
            Self::BadRequest => "bad_request",
            Self::Unsupported => "unsupported",
            Self::TooLarge => "too_large",
            Self::Unauthorized => "unauthorized",
            Self::UnknownRoute => "unknown_route",
            Self::Storage => "storage",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
