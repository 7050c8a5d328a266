//! The file that names the runs of a sweep, written as a whole after each of them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::{Definition, Done, RunFigures};

/// Its name in the sweep's folder.
pub const SWEEP_FILE: &str = "sweep.json";
/// Version of it that this build writes and reads.
pub const SWEEP_FORMAT: u32 = 2;

/// What a sweep is and which of its runs are done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// [`SWEEP_FORMAT`] of the writer.
    pub format: u32,
    /// True once no run is wanted any more.
    pub finished: bool,
    /// What it is.
    pub definition: Definition,
    /// In the order in which they ended.
    pub runs: Vec<Done>,
}

/// Why the file of a sweep, or of random chaos, could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The system refused.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// It is no such file.
    #[error("{path}: {source}")]
    Json {
        /// Which file.
        path: PathBuf,
        /// Cause.
        source: serde_json::Error,
    },
    /// Somebody else runs it.
    #[error("{folder}: another quorate runs this; let it end, or begin anew with --fresh")]
    Taken {
        /// Its folder.
        folder: PathBuf,
    },
    /// Another version wrote it.
    #[error("{path}: format {found}, this program reads {reads}")]
    Version {
        /// Which file.
        path: PathBuf,
        /// The version found.
        found: u64,
        /// The version that this program reads.
        reads: u32,
    },
}

impl Ledger {
    /// A sweep of which nothing has been run.
    #[must_use]
    pub fn new(definition: Definition) -> Self {
        Self { format: SWEEP_FORMAT, finished: false, definition, runs: Vec::new() }
    }

    /// Figures of the good runs of a point.
    pub fn good(&self, point: usize) -> impl Iterator<Item = &RunFigures> {
        let of = self.runs.iter().filter(move |run| run.point == point && run.remark.is_empty());
        of.filter_map(|run| run.figures.as_ref())
    }

    /// Reads that of a folder.
    ///
    /// # Errors
    /// When there is none, or it cannot be understood.
    pub fn read(folder: &Path) -> Result<Self, LedgerError> {
        let path = folder.join(SWEEP_FILE);
        let json = |source| LedgerError::Json { path: path.clone(), source };
        let text = fs::read_to_string(&path)
            .map_err(|source| LedgerError::File { path: path.clone(), source })?;
        let value: serde_json::Value = serde_json::from_str(&text).map_err(json)?;
        let found = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found != u64::from(SWEEP_FORMAT) {
            return Err(LedgerError::Version { path, found, reads: SWEEP_FORMAT });
        }
        serde_json::from_value(value).map_err(json)
    }

    /// Writes it into a folder; whoever is killed meanwhile leaves the one before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), LedgerError> {
        let path = folder.join(SWEEP_FILE);
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|source| LedgerError::Json { path: path.clone(), source })?;
        text.push('\n');
        let fresh = folder.join(format!(".{SWEEP_FILE}"));
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(|source| LedgerError::File { path, source })
    }
}

/// Keeps the folder of a sweep to this process for as long as what is given back lives; the kernel
/// lets go of it when the process is killed.
///
/// # Errors
/// When another one has it.
pub fn hold(folder: &Path) -> Result<Flock<File>, LedgerError> {
    let refused = |source| LedgerError::File { path: folder.to_path_buf(), source };
    let file = File::open(folder).map_err(refused)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
        if error == nix::errno::Errno::EWOULDBLOCK {
            return LedgerError::Taken { folder: folder.to_path_buf() };
        }
        refused(error.into())
    })
}

/// The latest folder below `out` with a sweep of this definition that did not get to its end. What
/// cannot be read is somebody else's.
#[must_use]
pub fn unfinished(out: &Path, definition: &Definition) -> Option<(PathBuf, Ledger)> {
    let entries = fs::read_dir(out).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut folders: Vec<PathBuf> =
        entries.filter(|path| !path.is_symlink() && path.join(SWEEP_FILE).is_file()).collect();
    folders.sort();
    let found = folders.into_iter().rev().find_map(|folder| {
        let ledger = Ledger::read(&folder).ok()?;
        (ledger.definition == *definition).then_some((folder, ledger))
    });
    found.filter(|(_, ledger)| !ledger.finished)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Means, PointOfSweep};
    use super::*;
    use crate::spec::{Axis, Measure};

    pub(crate) fn ledger() -> Ledger {
        let labels = ["1", "2", "3"].map(str::to_owned);
        let point = |label: &String| PointOfSweep {
            labels: vec![label.clone()],
            set: Vec::new(),
            refused: None,
        };
        Ledger::new(Definition {
            name: "x".to_owned(),
            description: String::new(),
            harness: "test".to_owned(),
            seed: 1,
            axes: vec![Axis { name: "n".to_owned(), labels: labels.to_vec(), is_size: false }],
            points: labels.iter().map(point).collect(),
            repeats: 5,
            narrow: 0.0,
            figure: Measure::Rate,
            closed_loop: true,
            plans: String::new(),
            means: Means::default(),
        })
    }

    pub(crate) fn done(point: usize, repeat: u32, rate: f64) -> Done {
        let figures = RunFigures { rate, p50_ms: Some(1.0), p99_ms: Some(2.0), refused: 0.0 };
        Done {
            point,
            repeat,
            folder: format!("run-{point}-{repeat}"),
            remark: String::new(),
            violated: false,
            spoilt: false,
            failed: false,
            figures: Some(figures),
        }
    }

    /// FEATURES: H7
    #[test]
    fn a_sweep_that_was_killed_is_found_again_and_one_that_differs_is_not() {
        let out = tempfile::tempdir().unwrap();
        let mut ledger = ledger();
        assert_eq!(unfinished(out.path(), &ledger.definition), None);
        let folder = out.path().join("2026-a");
        fs::create_dir(&folder).unwrap();
        ledger.runs.push(done(1, 0, 5.0));
        ledger.write(&folder).unwrap();
        let found = unfinished(out.path(), &ledger.definition);
        assert_eq!(found, Some((folder.clone(), ledger.clone())));
        let other = Definition { plans: "other".to_owned(), ..ledger.definition.clone() };
        assert_eq!(unfinished(out.path(), &other), None);
        let mut other = ledger.definition.clone();
        other.means.programs = vec![("node".to_owned(), "built anew".to_owned())];
        assert_eq!(unfinished(out.path(), &other), None);
        ledger.finished = true;
        ledger.write(&folder).unwrap();
        assert_eq!(unfinished(out.path(), &ledger.definition), None);
    }

    #[test]
    fn a_sweep_is_run_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let held = hold(folder.path()).unwrap();
        let error = hold(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another quorate runs this"), "{error}");
        drop(held);
        drop(hold(folder.path()).unwrap());
    }

    #[test]
    fn a_file_of_another_version_is_refused_with_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(SWEEP_FILE), "{\"format\": 9}").unwrap();
        let error = Ledger::read(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("format 9, this program reads 2"), "{error}");
    }
}
