//! `quorate trend`: figures of all runs of an experiment in order of time, and where they changed.

use std::path::{Path, PathBuf};

use super::arguments::TrendArguments;
use super::list::files;
use super::{Exit, Output};
use crate::ab::Ab;
use crate::compare::{self, FIGURES_MIN, Run, Trend, TrendRow, trends, words};
use crate::folder::RunFolder;
use crate::report::{self, LeftOut, ReportError};
use crate::resume::Resumable as _;

/// That of the orders that are drawn: equal runs have equal trends.
const SEED: u64 = 1;

pub(super) fn trend(arguments: &TrendArguments) -> anyhow::Result<Exit> {
    let results = &arguments.results;
    let found = runs(results)?;
    if found.is_empty() {
        let folder = results.display().to_string();
        return Err(ReportError::NoRuns { folder }.into());
    }
    let (mut runs, mut left_out): (Vec<Run>, LeftOut) = (Vec::new(), Vec::new());
    for folder in found {
        match compare::run(&folder) {
            Ok(run) if run.summary.measurement.sound => runs.push(run),
            Ok(run) => {
                let reasons = run.summary.measurement.reasons.join("; ");
                left_out.push((run.name, format!("unsound: {reasons}")));
            }
            Err(error) => left_out.push((folder.display().to_string(), error.to_string())),
        }
    }
    let trends = trends(runs, SEED);
    let folder = arguments.out.clone().unwrap_or_else(|| results.join("trend"));
    let page = report::trend(&folder, &trends, &left_out)?;
    if arguments.json {
        let json = serde_json::json!({
            "trends": trends, "left_out": left_out, "page": page.display().to_string(),
        });
        Output.json(&json)?;
        return Ok(Exit::Good);
    }
    for trend in &trends {
        tell(trend)?;
    }
    if !left_out.is_empty() {
        Output.line(format!("{} runs are left out; the page says why", left_out.len()))?;
    }
    Output.line(format!("page: {}", page.display()))?;
    Ok(Exit::Good)
}

/// Run folders, those of suites included. Two builds in turns are no history: the runs of
/// `quorate ab` are left out.
fn runs(results: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let is_run = |path: &Path| RunFolder::new(path).plan().is_file();
    let mut found = Vec::new();
    for folder in files(results, Path::is_dir)? {
        if is_run(&folder) {
            found.push(folder);
        } else if !folder.join(Ab::FILE).is_file() {
            found.extend(files(&folder, is_run)?);
        }
    }
    Ok(found)
}

fn tell(trend: &Trend) -> anyhow::Result<()> {
    let (runs, name, stage) = (trend.runs.len(), &trend.name, &trend.stage);
    Output.line(format!("{name}: {runs} runs at stage {stage} ({})", trend.circumstances))?;
    if runs < FIGURES_MIN {
        Output.line(format!("fewer than {FIGURES_MIN} runs are too few to show a change"))?;
    }
    let rows = trend.rows.iter().map(|row| line(trend, row)).collect();
    Output.table(&["metric", "runs", "last", "level", "changes"], rows)?;
    Ok(Output.line("")?)
}

fn line(trend: &Trend, row: &TrendRow) -> Vec<String> {
    let kind = row.metric.kind;
    let known = || row.values.iter().flatten().copied();
    let level = row.levels.last().map(|(_, _, level)| *level);
    let mut changes: Vec<String> =
        row.changes.iter().map(|of| report::change(trend, row, of)).collect();
    if changes.is_empty() {
        changes.push("none".to_owned());
    }
    if row.has_bounds {
        changes.push("some are lower bounds".to_owned());
    }
    vec![
        row.metric.to_string(),
        known().count().to_string(),
        words::median(kind, known().last()),
        words::median(kind, level),
        changes.join("\n"),
    ]
}
