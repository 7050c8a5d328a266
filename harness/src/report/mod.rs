//! The report of a run: figures, plots, one self-contained page, `summary.json`; and the index of
//! a suite. Works offline on any run folder, also that of a crashed run.
//! Measures nothing and judges nothing: figures come from `figures/`, verdicts from the checkers.

mod availability;
mod capacity;
mod comparison;
mod consequences;
mod error;
mod explain;
mod figure;
mod index;
mod ladder;
mod load;
mod page;
mod plot;
mod points;
mod sections;
mod summary;
mod sweep;
mod trend;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

pub use availability::{AvailabilitySummary, BrokenSummary, StallSummary};
pub use capacity::capacity;
pub use comparison::{COMPARISON_FILE, CompareSide, Found, Page, compared_runs, comparison};
pub use consequences::{SeriesSummary, Waited};
pub use error::ReportError;
pub use explain::{Explanation, Part, explain};
pub use index::{Index, folders, index, run_folders};
pub use load::Marks;
pub(crate) use load::versioned_in;
pub use plot::PlotError;
pub use points::sweep;
pub use summary::{
    ClassSummary, FaultSummary, GapSummary, GroupSummary, InterruptionSummary, Measurement,
    NodeSummary, SUMMARY_FORMAT, Safety, StalenessSummary, Summary,
};
pub use trend::{LeftOut, change, trend};

use crate::figures::figures;
use crate::folder::{Manifest, RunFolder};

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// The page.
    pub report: PathBuf,
    /// The figures, as in `summary.json`.
    pub summary: Summary,
}

/// Makes `report.html`, `summary.json` and `plots/` from what the run folder holds.
///
/// # Errors
/// See [`ReportError`]. Files that a crashed run lacks are no error; the report names them.
pub fn write(folder: &RunFolder) -> Result<Written, ReportError> {
    let run = load::load(folder)?;
    let figures = figures(&run.input());
    let summary = summary::summary(&run, &figures);
    let plots = figure::Plots::draw(&run, &figures)?;
    plots.write(&folder.plots())?;
    let json = serde_json::to_string_pretty(&summary).map_err(ReportError::Summary)?;
    write_file(&folder.summary(), json.as_bytes())?;
    let html = page::page(&run, &figures, &summary, &plots)?;
    write_file(&folder.report(), html.as_bytes())?;
    Ok(Written { report: folder.report(), summary })
}

/// What a run folder holds of phases, faults and servers; empty where a run did not get that far.
///
/// # Errors
/// What is there and cannot be read.
pub fn marks(folder: &RunFolder) -> Result<Marks, ReportError> {
    load::marks(folder)
}

/// Reads the `summary.json` of a run folder; `None` if it has none.
///
/// # Errors
/// Another format version, or not a summary.
pub fn read_summary(folder: &RunFolder) -> Result<Option<Summary>, ReportError> {
    load::versioned(&folder.summary(), SUMMARY_FORMAT)
}

/// Reads the `manifest.json` of a run folder; `None` if it has none.
///
/// # Errors
/// Another format version, or not a manifest.
pub fn read_manifest(folder: &RunFolder) -> Result<Option<Manifest>, ReportError> {
    load::versioned(&folder.manifest(), load::MANIFEST_FORMAT)
}

/// Writes a file as a whole.
fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    fs::write(path, bytes).map_err(|source| ReportError::Io { file: load::name(path), source })
}
