//! What can go wrong with the disk, typed. May not decide what to do about it.

use std::io;
use std::path::PathBuf;

use quorate_api::ClusterKey;
use rocksdb::ErrorKind;
use tokio::task::JoinError;

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
    /// What was read is not all there is: a witness drops contents that everybody has.
    #[error("contents of cluster {0} are kept by other servers: this one has become a witness")]
    Elsewhere(ClusterKey),
    /// The note of how far the log was synced cannot be written.
    #[error("cannot note how far the log is synced: {source}")]
    Witness {
        /// The system's words.
        source: io::Error,
    },
    /// A page of a scan could not be read because the server stops.
    #[error("the server is shutting down")]
    Stopping,
    /// What read it ended half-way: nobody knows why.
    #[error("a thread that read panicked: {0}")]
    Panicked(String),
}

/// What to do about a disk without room.
const MAKE_ROOM: &str =
    "make room on this disk and start the server again: it comes back with all it acknowledged";
/// What to do about damaged files.
const DAMAGED: &str = "check the disk; put the files back as they were if there is an exact copy; \
    otherwise this server's votes are lost, and it must not rejoin under its identity";
/// What to do when it is not known what is wrong.
const LOOK: &str = "check the disk and the kernel's log before starting the server again";

impl StorageError {
    /// What whoever runs this server can do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Engine { source, .. } if is_full(source) => MAKE_ROOM,
            Self::Engine { source, .. } if source.kind() == ErrorKind::Corruption => DAMAGED,
            Self::Engine { source, .. } if source.as_ref().contains("No such file") => DAMAGED,
            Self::Corrupt { .. } => DAMAGED,
            Self::Witness { source } if source.kind() == io::ErrorKind::StorageFull => MAKE_ROOM,
            Self::Engine { .. }
            | Self::Encode { .. }
            | Self::Witness { .. }
            | Self::Panicked(_) => LOOK,
            Self::Locked { .. } => "stop the other process first",
            Self::Stopping | Self::Aligning | Self::Elsewhere(_) => "nothing",
        }
    }

    /// Whether the engine merely repeats that something failed before.
    pub(crate) fn is_consequence(&self) -> bool {
        matches!(self, Self::Engine { source, .. } if source.as_ref().contains("Seen error"))
    }

    /// Why a task that read gave nothing: it is left out while the server stops, and at no other
    /// time.
    pub(crate) fn unread(error: &JoinError) -> Self {
        if error.is_panic() { Self::Panicked(error.to_string()) } else { Self::Stopping }
    }

    /// Wraps the engine's refusal of an action.
    pub(crate) fn engine(action: &'static str) -> impl FnOnce(rocksdb::Error) -> Self {
        move |source| Self::Engine { action, source }
    }
}

/// The engine wraps the system's errors into text.
fn is_full(error: &rocksdb::Error) -> bool {
    let text = error.as_ref();
    text.contains("No space left") || text.contains("Disk quota exceeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_fits_its_cause() {
        let witness = |kind| StorageError::Witness { source: io::Error::from(kind) };
        assert_eq!(witness(io::ErrorKind::StorageFull).remedy(), MAKE_ROOM);
        assert_eq!(witness(io::ErrorKind::Other).remedy(), LOOK);
        let corrupt =
            StorageError::Corrupt { family: "tx", key: String::new(), detail: "too short" };
        assert_eq!(corrupt.remedy(), DAMAGED);
    }

    #[tokio::test]
    async fn what_panicked_is_told_from_what_is_stopped() {
        let panicked = tokio::task::spawn_blocking(|| panic!("an item nobody thought of"));
        let error = StorageError::unread(&panicked.await.unwrap_err());
        assert!(matches!(error, StorageError::Panicked(_)), "{error}");
        let stopped = tokio::spawn(std::future::pending::<()>());
        stopped.abort();
        let error = StorageError::unread(&stopped.await.unwrap_err());
        assert!(matches!(error, StorageError::Stopping), "{error}");
    }
}
