//! The page of a comparison: what differs, the verdict of each metric in words, effects with their
//! intervals, percentile curves and time lines of both sides over each other, what can be seen here
//! at all, and links to the runs. What is compared comes from `crate::compare`. Draws and writes;
//! decides nothing.

mod effects;
mod rows;
mod sides;

use std::fs;
use std::path::{Component, Path, PathBuf};

use minijinja::context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ReportError;
use super::figure::{Figure, index_figure, inline};
use super::index::percent;
use super::page::{Badge, render, style};
use super::{load, write_file};
use crate::compare::{Beside, Calibration, Comparison, Difference, Run, Verdict};

const TEMPLATE: &str = include_str!("../../../assets/comparison.html");
const SCRIPT: &str = include_str!("../../../assets/report.js");

/// Name of the file with what a page says, for programs.
pub const COMPARISON_FILE: &str = "comparison.json";
/// Version of [`COMPARISON_FILE`].
const COMPARISON_FORMAT: u32 = 1;

/// One of those that are compared.
#[derive(Debug, Clone)]
pub struct CompareSide<'a> {
    /// What it is: a run, or a program with its settings.
    pub name: String,
    /// Its runs; at least one.
    pub runs: Vec<&'a Run>,
}

/// What was found.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// Single runs, each a side: no verdict.
    Beside(&'a Beside, &'a [Run]),
    /// What blocks say of B.
    Judged {
        /// By metric.
        comparison: &'a Comparison,
        /// What an A/A of the same circumstances found.
        calibration: Option<&'a Calibration>,
        /// False if more blocks are to come.
        finished: bool,
        /// True if the A/A found a difference, so that no verdict counts.
        withheld: bool,
        /// What it comes to, a sentence each.
        said: &'a [String],
    },
}

/// What a page shows.
#[derive(Debug, Clone)]
pub struct Page<'a> {
    /// What is compared.
    pub title: String,
    /// A first, with which the others are compared.
    pub sides: Vec<CompareSide<'a>>,
    /// What differs before any figure does.
    pub differences: &'a [Difference],
    /// What was found.
    pub found: Found<'a>,
    /// All of it for programs, kept beside the page.
    pub json: &'a Value,
}

impl Page<'_> {
    /// True if any figure is of virtual time.
    fn is_simulated(&self) -> bool {
        self.sides.iter().flat_map(|side| &side.runs).any(|run| run.summary.simulated)
    }
}

/// What lists of results say of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    format: u32,
    /// What is compared.
    pub(super) title: String,
    /// The verdict in a word or two.
    pub(super) word: String,
    /// `good`, `bad` or `open`.
    pub(super) tone: String,
    /// The run folders, from the folder of the page.
    pub(super) refers: Vec<PathBuf>,
}

/// Writes `index.html`, the plots and `comparison.json` into a folder, which is made if it is not
/// there; gives the page.
///
/// # Errors
/// The folder can't be written, a history can't be read, or a plot can't be drawn.
pub fn comparison(folder: &Path, page: &Page<'_>) -> Result<PathBuf, ReportError> {
    let failed = |source| ReportError::Io { file: load::name(folder), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let lines = sides::lines(&page.sides)?;
    let mut figures = effects::forests(page)?;
    let percentiles = sides::percentiles(&page.sides);
    let curves = index_figure("percentiles", &percentiles)?;
    let timeline = index_figure("timeline", &lines.plot)?;
    let badges = rows::badges(page);
    for figure in figures.iter().map(|found| &found.figure).chain([&curves, &timeline]) {
        figure.write(folder)?;
    }
    let rows = rows::rows(page);
    let runs = page.sides.iter().flat_map(|side| side.runs.iter().copied());
    let listed = Listed {
        format: COMPARISON_FORMAT,
        title: page.title.clone(),
        word: badges[0].word.clone(),
        tone: badges[0].tone.to_owned(),
        refers: runs.map(|run| way(folder, run)).collect::<Result<_, _>>()?,
    };
    write_json(folder, &listed, page.json)?;
    let values = context! {
        title => page.title,
        simulated => page.is_simulated(),
        style => style(),
        script => SCRIPT,
        badges,
        sides => rows::sides(page),
        differences => rows::differences(page),
        verdicts => rows::verdicts(page),
        said => rows::said(page),
        forests => figures.iter_mut().map(effects::Shown::context).collect::<Vec<_>>(),
        rows,
        curves => drawn(&curves, "Percentile curves of all sides over each other"),
        curves_table => super::sections::percentiles(&percentiles),
        timeline => drawn(&timeline, "Throughput and p99 of all sides over time"),
        timeline_data => lines.data(),
        timeline_table => lines.table(),
        missing => lines.missing,
        slot => lines.slot,
        calibration => rows::calibration(page),
        runs => rows::runs(page, folder)?,
    };
    let file = folder.join("index.html");
    write_file(&file, render("comparison.html", TEMPLATE, values)?.as_bytes())?;
    Ok(file)
}

/// What lists need first, then everything.
fn write_json(folder: &Path, listed: &Listed, all: &Value) -> Result<(), ReportError> {
    let mut json = serde_json::to_value(listed).map_err(ReportError::Summary)?;
    if let (Value::Object(into), Value::Object(of)) = (&mut json, all) {
        into.extend(of.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    let text = serde_json::to_string_pretty(&json).map_err(ReportError::Summary)?;
    write_file(&folder.join(COMPARISON_FILE), (text + "\n").as_bytes())
}

/// What the folder of a comparison says for lists; `None` if it is none.
pub(super) fn listed(folder: &Path) -> Result<Option<Listed>, ReportError> {
    load::versioned(&folder.join(COMPARISON_FILE), COMPARISON_FORMAT)
}

pub(super) fn drawn(figure: &Figure, label: &str) -> minijinja::Value {
    context! {
        id => figure.id.clone(),
        wide => inline(&figure.wide, label),
        narrow => inline(&figure.narrow, label),
    }
}

fn tone(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better | Verdict::Same => "good",
        Verdict::Worse => "bad",
        Verdict::CannotTell => "open",
    }
}

/// A badge of the first screen.
fn badge(word: impl Into<String>, tone: &'static str, detail: impl Into<String>) -> Badge {
    Badge { word: word.into(), tone, detail: detail.into() }
}

/// The way from a page's folder to a run's.
fn way(from: &Path, run: &Run) -> Result<PathBuf, ReportError> {
    let whole = |path: &Path| {
        let failed = |source| ReportError::Io { file: load::name(path), source };
        fs::canonicalize(path).map_err(failed)
    };
    let (from, to) = (whole(from)?, whole(run.folder.root())?);
    let (from, to): (Vec<Component<'_>>, Vec<Component<'_>>) =
        (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[shared..].iter().map(|_| Component::ParentDir);
    Ok(up.chain(to[shared..].iter().copied()).collect())
}

/// The same to the run's report, as a link.
fn href(from: &Path, run: &Run) -> Result<String, ReportError> {
    let way = way(from, run)?;
    let part = |part: Component<'_>| percent(&part.as_os_str().to_string_lossy());
    let parts: Vec<String> = way.components().map(part).chain(["report.html".to_owned()]).collect();
    Ok(parts.join("/"))
}

/// The run folders that a comparison in this folder refers to; none if it is none.
///
/// # Errors
/// When its file cannot be read or is of another format.
pub fn compared_runs(folder: &Path) -> Result<Vec<PathBuf>, ReportError> {
    let refers = listed(folder)?.map(|of| of.refers).unwrap_or_default();
    Ok(refers.into_iter().map(|way| folder.join(way)).collect())
}
