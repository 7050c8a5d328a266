//! The index of a suite: every run below a results folder with its verdicts, five numbers and a
//! small time line; and a matrix where runs differ in MASTERs and write quorum alone.

use std::fs;
use std::path::{Path, PathBuf};

use minijinja::context;
use serde::Serialize;

use super::error::ReportError;
use super::figure::{Figure, index_figure, inline};
use super::page::{Badge, Number, measurement, numbers, render, safety, style};
use super::plot::{Cell, Matrix};
use super::summary::Summary;
use super::sweep::{self, Common, Sweep};
use super::{comparison, load, read_summary, words, write_file};
use crate::folder::RunFolder;

const TEMPLATE: &str = include_str!("../../assets/index.html");

/// What was written.
#[derive(Debug)]
pub struct Index {
    /// The page.
    pub page: PathBuf,
    /// Summaries of the runs on it, by folder name.
    pub runs: Vec<(String, Summary)>,
    /// Run folders that are not on it, and why.
    pub skipped: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Entry {
    href: String,
    folder: String,
    name: String,
    description: String,
    safety: Badge,
    measurement: Badge,
    sound: bool,
    simulated: bool,
    numbers: [Number; 5],
    thumbnail: String,
}

/// Writes `index.html` into a results folder, one entry for each run folder directly below it.
///
/// # Errors
/// The folder can't be read or written. A run that can't be shown is no error; the page names it.
pub fn index(results: &Path) -> Result<Index, ReportError> {
    let mut runs = Vec::new();
    let mut entries = Vec::new();
    let mut skipped = Vec::new();
    let mut commons = Vec::new();
    for folder in run_folders(results)? {
        let name = load::name(&folder);
        let folder = RunFolder::new(folder);
        match read(&folder) {
            Ok(Some((summary, common))) => {
                entries.push(entry(&folder, &name, &summary)?);
                runs.push((name, summary));
                commons.push(common);
            }
            Ok(None) => skipped.push(format!("{name}: has no summary.json yet")),
            Err(error) => skipped.push(format!("{name}: {error}")),
        }
    }
    let comparable: Vec<_> =
        commons.into_iter().zip(runs.iter().map(|(_, summary)| summary)).collect();
    let sweep = sweep::largest(&comparable);
    let matrix = sweep.map(|sweep| matrix(results, &runs, &sweep)).transpose()?;
    let comparisons = comparisons(results, &mut skipped)?;
    let has_trend = results.join("trend/index.html").is_file();
    let values =
        context! { style => style(), runs => entries, comparisons, skipped, matrix, has_trend };
    let page = results.join("index.html");
    write_file(&page, render("index.html", TEMPLATE, values)?.as_bytes())?;
    Ok(Index { page, runs, skipped })
}

/// The figures of a run, and what makes it comparable with others.
fn read(folder: &RunFolder) -> Result<Option<(Summary, Option<Common>)>, ReportError> {
    let Some(summary) = read_summary(folder)? else {
        return Ok(None);
    };
    Ok(Some((summary, sweep::common(folder)?)))
}

/// Comparisons whose pages lie directly below `results`, by name.
fn comparisons(
    results: &Path,
    skipped: &mut Vec<String>,
) -> Result<Vec<minijinja::Value>, ReportError> {
    let mut found = Vec::new();
    for folder in folders(results)? {
        let name = load::name(&folder);
        match comparison::listed(&folder) {
            Ok(Some(of)) => found.push(context! {
                href => format!("{}/index.html", percent(&name)),
                title => of.title,
                word => of.word,
                tone => of.tone,
                folder => name,
            }),
            Ok(None) => {}
            Err(error) => skipped.push(format!("{name}: {error}")),
        }
    }
    Ok(found)
}

/// Run folders directly below `results`, which are those with a plan, by name. A link is left out:
/// `latest` would show a run twice.
///
/// # Errors
/// The folder can't be read.
pub fn run_folders(results: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let has_plan = |folder: &PathBuf| RunFolder::new(folder).plan().exists();
    Ok(folders(results)?.into_iter().filter(has_plan).collect())
}

/// Folders directly below `results`, by name; links are left out.
///
/// # Errors
/// The folder can't be read.
pub fn folders(results: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let failed = |source| ReportError::Io { file: load::name(results), source };
    let mut folders = Vec::new();
    for entry in fs::read_dir(results).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

fn entry(folder: &RunFolder, name: &str, summary: &Summary) -> Result<Entry, ReportError> {
    let thumbnail = load::text(&folder.plots().join("thumbnail.svg"))?.unwrap_or_default();
    Ok(Entry {
        href: format!("{}/report.html", percent(name)),
        folder: name.to_owned(),
        name: summary.name.clone(),
        description: summary.description.clone(),
        safety: safety(summary),
        measurement: measurement(summary),
        sound: summary.measurement.sound,
        simulated: summary.simulated,
        numbers: numbers(summary),
        thumbnail: inline(&thumbnail, "Throughput over time by outcome, faults shaded"),
    })
}

/// A folder's name inside a link.
pub(super) fn percent(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    name.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).into() } else { format!("%{byte:02X}") })
        .collect()
}

/// The matrix for the template, and as files.
fn matrix(
    results: &Path,
    runs: &[(String, Summary)],
    sweep: &Sweep,
) -> Result<minijinja::Value, ReportError> {
    let members: Vec<&(String, Summary)> = sweep.runs.iter().map(|index| &runs[*index]).collect();
    let rows: Vec<_> = members.iter().map(|run| row(run, &cell(&run.1))).collect();
    // A suite runs a point again when the host spoilt its figures: the sound run stands for both.
    let has_sound = |run: &Summary| {
        members.iter().any(|(_, other)| other.measurement.sound && point(other) == point(run))
    };
    let drawn = members.iter().filter(|(_, run)| run.measurement.sound || !has_sound(run));
    let matrix = Matrix { cells: drawn.map(|(_, run)| cell(run)).collect() };
    let mut doubles = Vec::new();
    for masters in matrix.columns() {
        for quorum in matrix.rows() {
            let count = matrix.runs(masters, &quorum).len();
            if count > 1 {
                doubles.push(format!("{masters} MASTERs with W = {quorum} ({count} runs)"));
            }
        }
    }
    let figure: Figure = index_figure("matrix", &matrix)?;
    figure.write(results)?;
    let label = "Throughput and p99 by number of MASTERs and write quorum";
    Ok(context! {
        wide => inline(&figure.wide, label),
        narrow => inline(&figure.narrow, label),
        workload => sweep.workload,
        doubles,
        rows,
    })
}

/// A line of the matrix as a table.
fn row((name, _): &(String, Summary), cell: &Cell) -> minijinja::Value {
    context! {
        run => name,
        href => format!("{}/report.html", percent(name)),
        masters => cell.masters,
        quorum => cell.quorum,
        rate => words::rate(cell.rate),
        latency => cell.latency,
        unsound => cell.unsound,
    }
}

/// Where a run stands in the matrix.
fn point(run: &Summary) -> (usize, &str) {
    (run.masters, &run.write_quorum)
}

fn cell(run: &Summary) -> Cell {
    Cell {
        masters: run.masters,
        quorum: run.write_quorum.clone(),
        rate: run.achieved_rate,
        latency: match run.p99() {
            Some(p99) => format!("p99 {}", words::bound(p99)),
            None => "nothing acknowledged".to_owned(),
        },
        unsound: !run.measurement.sound,
    }
}
