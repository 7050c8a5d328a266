//! What can go wrong with the disk, typed. May not decide what to do about it.

use std::path::PathBuf;

/// The storage cannot do what it was asked to do.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The engine refused.
    #[error("cannot {action}: {source}")]
    Engine {
        /// What was tried.
        action: &'static str,
        /// The engine's words.
        source: rocksdb::Error,
    },
    /// Bytes on disk are not what was written. Nothing is guessed from them.
    #[error("corrupt value in {family}, key {key}: {detail}")]
    Corrupt {
        /// Column family.
        family: &'static str,
        /// Key in hexadecimal.
        key: String,
        /// What does not fit.
        detail: &'static str,
    },
    /// A value cannot become bytes.
    #[error("cannot encode a value of {family}: {source}")]
    Encode {
        /// Column family.
        family: &'static str,
        /// The encoder's words.
        source: postcard::Error,
    },
    /// Another process works on the folder.
    #[error("{} is in use by another process", .path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// What was read may be a part of a transaction.
    #[error("the server is catching up with the others")]
    Aligning,
    /// A page of a scan could not be read because the server stops.
    #[error("the server is shutting down")]
    Stopping,
}

impl StorageError {
    /// Wraps the engine's refusal of an action.
    pub(crate) fn engine(action: &'static str) -> impl FnOnce(rocksdb::Error) -> Self {
        move |source| Self::Engine { action, source }
    }
}
