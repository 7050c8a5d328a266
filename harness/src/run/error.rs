//! Why a run, or its judgement, could not be done. Exit code 4, never a verdict on the database.

use std::io;
use std::path::{Path, PathBuf};

use quorate_check::UnknownChecker;
use quorate_check::format::FormatError;

use crate::drive::DriverError;
use crate::report::ReportError;

/// Why the harness failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file or folder could not be used.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is not the JSON that it should be.
    #[error("{}: {source}", path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A file was written by another version of its format.
    #[error("{} has format version {found}; this program reads version {known}", path.display())]
    Version {
        /// Which.
        path: PathBuf,
        /// The version it names; 0 if it names none.
        found: u64,
        /// The version that this program reads.
        known: u32,
    },
    /// The stage failed.
    #[error("stage, {step}: {source}")]
    Stage {
        /// At what.
        step: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The driver failed.
    #[error("driver: {0}")]
    Driver(#[from] DriverError),
    /// The driver was lost in an earlier failure.
    #[error("the driver was lost in an earlier failure")]
    DriverLost,
    /// A thread or task of the harness ended early.
    #[error("a task of the harness ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// The history cannot be read.
    #[error("history.jsonl: {0}")]
    History(#[from] FormatError),
    /// The plan expects something of a checker that does not exist.
    #[error("plan.json: {0}")]
    Checker(#[from] UnknownChecker),
    /// The report cannot be made.
    #[error("report: {0}")]
    Report(#[from] ReportError),
    /// The user asked twice.
    #[error("stopped at once, as asked twice")]
    StoppedNow,
}

impl RunError {
    /// An error of a file.
    pub(crate) fn file(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::File { path, source }
    }

    /// An error of a JSON file.
    pub(super) fn json(path: &Path) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Json { path, source }
    }

    /// An error of the stage.
    pub(super) fn stage(
        step: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Stage { step, source: Box::new(source) }
    }
}
