//! A run for other tools: its operations and its intervals as CSV, its latencies as interval logs
//! of HdrHistogram that know no tags. Reads what the run left behind; measures and judges nothing.

mod csv;
mod logs;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use quorate_check::format::FormatError;

use crate::folder::RunFolder;

/// Why a run could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It lacks what is asked for. What was asked for is wrong, not the harness.
    #[error(
        "{folder} has no {file}: the run did not get that far, is none, or was kept without it"
    )]
    Missing {
        /// The folder as it was named.
        folder: String,
        /// What it lacks.
        file: &'static str,
    },
    /// The history can't be read.
    #[error("history.jsonl: {0}")]
    History(#[from] FormatError),
    /// The interval log is damaged.
    #[error("intervals.hlog: {0}")]
    Intervals(String),
    /// A file can't be read or written.
    #[error("{file}: {source}")]
    Io {
        /// Which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A histogram of the run's interval log.
struct Interval {
    /// Class of the operations, as plans spell it.
    class: String,
    /// `ok`, `failed` or `unknown`.
    outcome: String,
    /// Seconds on the history's clock.
    from_s: f64,
    /// Seconds.
    length_s: f64,
    /// Microseconds from the intended start.
    response: Histogram<u64>,
}

/// Writes `operations.csv` and `intervals.csv` into `out`, which is made if it is not there.
///
/// # Errors
/// See [`ExportError`].
pub fn csv(run: &RunFolder, out: &Path) -> Result<Vec<PathBuf>, ExportError> {
    if !run.history().is_file() {
        return Err(missing(run, "history.jsonl"));
    }
    let history = quorate_check::format::read_path(run.history())?.history;
    let intervals = intervals(run)?;
    make(out)?;
    let files = [
        (out.join("operations.csv"), csv::operations(&history)),
        (out.join("intervals.csv"), csv::intervals(&intervals)),
    ];
    files.into_iter().map(|(path, text)| write(path, text.as_bytes())).collect()
}

/// Writes one log for each class and outcome into `out`, and one of all classes for each outcome.
///
/// # Errors
/// See [`ExportError`].
pub fn logs(run: &RunFolder, out: &Path) -> Result<Vec<PathBuf>, ExportError> {
    let intervals = intervals(run)?;
    make(out)?;
    let written = logs::logs(&intervals)?;
    written.into_iter().map(|(name, text)| write(out.join(name), &text)).collect()
}

fn missing(run: &RunFolder, file: &'static str) -> ExportError {
    ExportError::Missing { folder: run.root().display().to_string(), file }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    |source| ExportError::Io { file: path.display().to_string(), source }
}

fn make(folder: &Path) -> Result<(), ExportError> {
    fs::create_dir_all(folder).map_err(failed(folder))
}

fn write(path: PathBuf, bytes: &[u8]) -> Result<PathBuf, ExportError> {
    fs::write(&path, bytes).map_err(failed(&path))?;
    Ok(path)
}

/// Everything in the run's interval log, in its order.
fn intervals(run: &RunFolder) -> Result<Vec<Interval>, ExportError> {
    let path = run.intervals();
    let log = match fs::read(&path) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(missing(run, "intervals.hlog"));
        }
        Err(error) => return Err(failed(&path)(error)),
    };
    let mut found = Vec::new();
    let mut deserializer = Deserializer::new();
    for entry in IntervalLogIterator::new(&log) {
        let LogEntry::Interval(of) = entry.map_err(|error| broken(format!("{error:?}")))? else {
            continue;
        };
        let tag = of.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default();
        let Some((class, outcome)) = tag.rsplit_once('.') else {
            return Err(broken(format!("the tag {tag:?} names no outcome")));
        };
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(of.encoded_histogram())
            .map_err(|error| broken(error.to_string()))?;
        let response =
            deserializer.deserialize(&mut &bytes[..]).map_err(|error| broken(error.to_string()))?;
        found.push(Interval {
            class: class.to_owned(),
            outcome: outcome.to_owned(),
            from_s: of.start_timestamp().as_secs_f64(),
            length_s: of.duration().as_secs_f64(),
            response,
        });
    }
    Ok(found)
}

fn broken(what: String) -> ExportError {
    ExportError::Intervals(what)
}
