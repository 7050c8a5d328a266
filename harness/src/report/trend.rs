//! The page of trends: each experiment's figures over its runs, and where they changed. What
//! changed is found by `crate::compare`. Draws and writes; decides nothing.

use std::fs;
use std::path::{Path, PathBuf};

use minijinja::context;

use super::comparison::drawn;
use super::error::ReportError;
use super::figure::index_figure;
use super::page::{render, style};
use super::plot::HistoryPlot;
use super::{load, write_file};
use crate::compare::{CHANGE_ALPHA, Change, FIGURES_MIN, Trend, TrendRow, words};

const TEMPLATE: &str = include_str!("../../assets/trend.html");

/// Runs that are in no trend, and why.
pub type LeftOut = Vec<(String, String)>;

/// Writes `index.html` and the plots into a folder, which is made if it is not there; gives the
/// page.
///
/// # Errors
/// The folder can't be written, or a plot can't be drawn.
pub fn trend(folder: &Path, trends: &[Trend], left_out: &LeftOut) -> Result<PathBuf, ReportError> {
    let failed = |source| ReportError::Io { file: load::name(folder), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let shown = trends.iter().map(|trend| section(folder, trend)).collect::<Result<Vec<_>, _>>()?;
    let values = context! {
        style => style(),
        trends => shown,
        left_out,
        alpha => format!("{}\u{a0}%", CHANGE_ALPHA * 100.0),
    };
    let page = folder.join("index.html");
    write_file(&page, render("trend.html", TEMPLATE, values)?.as_bytes())?;
    Ok(page)
}

fn section(folder: &Path, trend: &Trend) -> Result<minijinja::Value, ReportError> {
    let mut plots = Vec::new();
    // Figures of single classes are drawn where they changed; the table has them all.
    let is_shown = |row: &&TrendRow| row.metric.class.is_none() || !row.changes.is_empty();
    for row in trend.rows.iter().filter(is_shown) {
        let figure = index_figure(&name(trend, row), &plot(trend, row))?;
        figure.write(folder)?;
        let label = format!("{} of {} over {} runs", row.metric, trend.name, trend.runs.len());
        plots.push(context! { plot => drawn(&figure, &label), table => values(trend, row) });
    }
    Ok(context! {
        name => trend.name,
        stage => trend.stage,
        circumstances => trend.circumstances,
        runs => trend.runs,
        is_short => trend.runs.len() < FIGURES_MIN,
        wanted => FIGURES_MIN,
        rows => trend.rows.iter().map(|row| line(trend, row)).collect::<Vec<_>>(),
        plots,
    })
}

/// A plot's file and its place in the page.
fn name(trend: &Trend, row: &TrendRow) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let metric: String = row.metric.to_string().chars().map(plain).collect();
    format!("trend-{}-{metric}", trend.circumstances)
}

fn plot(trend: &Trend, row: &TrendRow) -> HistoryPlot {
    let kind = row.metric.kind;
    let share = kind.unit() == " %";
    let shown = |value: f64| if share { value * 100.0 } else { value };
    let day = |started: &str| started.get(5..16).unwrap_or(started).replace('T', " ");
    HistoryPlot {
        title: format!("{} ({})", row.metric, kind.unit().trim().replace("/s", "per second")),
        values: row.values.iter().map(|value| value.map(shown)).collect(),
        labels: trend.runs.iter().map(|run| day(&run.started)).collect(),
        levels: row.levels.iter().map(|(from, to, level)| (*from, *to, shown(*level))).collect(),
        changes: row.changes.iter().map(|of| (of.at, trend.runs[of.at].server.clone())).collect(),
    }
}

/// A change in words: from which level to which, and with which server.
#[must_use]
pub fn change(trend: &Trend, row: &TrendRow, of: &Change) -> String {
    let kind = row.metric.kind;
    let word = if of.word == "within" { "within the margin" } else { of.word };
    let before = of.at.checked_sub(1).map_or("", |at| &trend.runs[at].server);
    let run = &trend.runs[of.at];
    let with = if before == run.server {
        format!("with {} as before", run.server)
    } else {
        format!("from {before} to {}", run.server)
    };
    format!(
        "{word}: {} to {} ({}), since {}, {with}",
        kind.told(of.before),
        kind.told(of.behind),
        words::change(kind, of.effect),
        run.started,
    )
}

/// A line of an experiment's table.
fn line(trend: &Trend, row: &TrendRow) -> minijinja::Value {
    let kind = row.metric.kind;
    let known = || row.values.iter().flatten();
    let tone = |of: &Change| match of.word {
        "better" => "good",
        "worse" => "bad",
        _ => "open",
    };
    context! {
        metric => row.metric.to_string(),
        count => known().count(),
        last => words::median(kind, known().next_back().copied()),
        level => words::median(kind, row.levels.last().map(|(_, _, level)| *level)),
        bounds => row.has_bounds,
        changes => row.changes.iter().map(|of| {
            context! { tone => tone(of), word => of.word, told => change(trend, row, of) }
        }).collect::<Vec<_>>(),
    }
}

/// The table behind a plot.
fn values(trend: &Trend, row: &TrendRow) -> Vec<[String; 4]> {
    let value = |of: Option<f64>| words::median(row.metric.kind, of);
    let all = trend.runs.iter().zip(&row.values);
    all.map(|(run, of)| [run.started.clone(), run.server.clone(), value(*of), run.folder.clone()])
        .collect()
}
