//! Why a report could not be made.

use std::io;

use quorate_check::format::FormatError;

use super::plot::PlotError;
use crate::run::place::quoted;

/// Why a report could not be made. Files are named as they are in the run folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The folder holds no plan, so nothing ever ran in it.
    #[error("{folder} is not a run folder: it has no plan.json")]
    NotARun {
        /// The folder as given.
        folder: String,
    },
    /// The folder is neither a run's nor a suite's.
    #[error(
        "{folder} is no run folder, and no run folder lies directly in it; name one such as \
         results/latest (`quorate list` shows all)"
    )]
    NoRuns {
        /// The folder as given.
        folder: String,
    },
    /// The run has no report yet, or ended before it could have one.
    #[error("{folder} has no summary.json: `quorate report {}` makes it", quoted(folder))]
    NoSummary {
        /// The folder as given.
        folder: String,
    },
    /// A file could not be read or written.
    #[error("{file}: {source}")]
    Io {
        /// Which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what its name says.
    #[error("{file}, line {line}: {}", without_line(cause))]
    Malformed {
        /// Which file.
        file: String,
        /// Which line of it, from 1.
        line: usize,
        /// What is wrong with it; told in full above, so no source of this error.
        cause: serde_json::Error,
    },
    /// A file was written by another version of its format.
    #[error("{file} has format version {found}; this program reads version {known}")]
    UnsupportedVersion {
        /// Which file.
        file: String,
        /// The version it names; 0 if it names none.
        found: u64,
        /// The version that this program reads.
        known: u32,
    },
    /// The history can't be read.
    #[error("history.jsonl: {0}")]
    History(#[from] FormatError),
    /// A plot can't be drawn.
    #[error("plot: {0}")]
    Plot(#[from] PlotError),
    /// The pixels of a plot can't be written as PNG.
    #[error("plots/{file}: {source}")]
    Png {
        /// Which file.
        file: String,
        /// What the encoder said.
        source: image::ImageError,
    },
    /// The page can't be filled in.
    #[error("page: {0}")]
    Page(#[from] minijinja::Error),
    /// A figure can't be written as JSON.
    #[error("summary.json: {0}")]
    Summary(serde_json::Error),
}

/// What is wrong, without the place: the parser counts lines within what it was given, which may
/// be a single line of the file.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(what, _)| what.to_owned())
}
