//! The words and tables of a comparison's page. No HTML here, and no judgement.

use std::path::Path;

use minijinja::context;

use super::super::error::ReportError;
use super::super::page::Badge;
use super::super::plot::palette;
use super::{Found, Page, badge, href, tone};
use crate::compare::words::{self, NONE, letter};
use crate::compare::{Beside, Calibration, Metric, Row, Scale, metrics};

/// Verdict, calibration, runs.
pub(super) fn badges(page: &Page<'_>) -> [Badge; 3] {
    [verdict(page), calibrated(page), sound(page)]
}

fn verdict(page: &Page<'_>) -> Badge {
    match page.found {
        Found::Beside(Beside { apart: Some(why), .. }, _) => badge("no verdict", "open", why),
        Found::Beside(..) => badge("no verdict", "open", "single runs settle nothing"),
        Found::Judged { withheld: true, .. } => {
            badge("no verdict", "open", "an A/A of these circumstances found a difference")
        }
        Found::Judged { comparison, finished, .. } => {
            let blocks = comparison.blocks;
            let rest = if finished { "" } else { "; not finished, the same command goes on" };
            let word = comparison.overall.to_string();
            let tone = if finished { tone(comparison.overall) } else { "open" };
            badge(word, tone, format!("B against A, by {blocks} blocks{rest}"))
        }
    }
}

fn found_calibration<'a>(page: &Page<'a>) -> Option<&'a Calibration> {
    match page.found {
        Found::Beside(beside, _) => beside.calibration.as_ref(),
        Found::Judged { calibration, .. } => calibration,
    }
}

fn calibrated(page: &Page<'_>) -> Badge {
    match found_calibration(page) {
        Some(found) if found.alarms.is_empty() => {
            let detail = format!("an A/A of {} blocks found nothing, as it should", found.blocks);
            badge("calibrated", "good", detail)
        }
        Some(found) => badge(
            "alarm",
            "bad",
            format!("an A/A found a difference in {}", found.alarms.join(", ")),
        ),
        None => badge("not calibrated", "open", "no A/A of these circumstances was run here"),
    }
}

fn sound(page: &Page<'_>) -> Badge {
    let all: Vec<_> = page.sides.iter().flat_map(|side| &side.runs).collect();
    let unsound = all.iter().filter(|run| !run.summary.measurement.sound).count();
    if unsound == 0 {
        return badge(format!("{} runs", all.len()), "good", "every measurement is sound");
    }
    badge(format!("{} runs", all.len()), "bad", format!("unsound: {unsound} of them"))
}

/// The sides with their colours.
pub(super) fn sides(page: &Page<'_>) -> Vec<minijinja::Value> {
    let side = |(at, side): (usize, &super::CompareSide<'_>)| {
        let unsound = side.runs.iter().any(|run| !run.summary.measurement.sound);
        let colour = palette::side(at).hex();
        context! { letter => letter(at), name => side.name, colour, unsound }
    };
    page.sides.iter().enumerate().map(side).collect()
}

/// What differs before any figure does.
pub(super) fn differences(page: &Page<'_>) -> Vec<minijinja::Value> {
    let row = |of: &crate::compare::Difference| {
        let blank = |value: &String| if value.is_empty() { NONE.to_owned() } else { value.clone() };
        let mut values: Vec<String> = of.values.iter().map(blank).collect();
        values.resize(page.sides.len(), String::new());
        context! { part => of.part, key => of.key, values }
    };
    page.differences.iter().map(row).collect()
}

/// Each metric in a sentence: those of the gate, or what single runs have of all operations.
pub(super) fn verdicts(page: &Page<'_>) -> Vec<minijinja::Value> {
    match page.found {
        Found::Judged { comparison, .. } => {
            comparison.rows.iter().filter_map(judged_sentence).collect()
        }
        Found::Beside(beside, runs) => {
            let whole = metrics(runs).into_iter().filter(|metric| metric.class.is_none());
            whole.map(|metric| beside_sentence(beside, runs, &metric)).collect()
        }
    }
}

fn judged_sentence(row: &Row) -> Option<minijinja::Value> {
    let found = row.finding.as_ref()?;
    let metric = &row.wanted.metric;
    let margin = words::margin(metric.kind, row.wanted.margin);
    let against = match metric.kind.scale() {
        Scale::Ratio => "times A",
        Scale::Difference => "against A",
    };
    let remark = words::remark(found);
    let remark = if remark.is_empty() { remark } else { format!("; {remark}") };
    let effect = words::effect(row);
    let sentence = format!("{effect} {against}, margin {margin}{remark}");
    Some(context! {
        metric => metric.to_string(), word => found.verdict.to_string(),
        tone => tone(found.verdict), sentence,
    })
}

fn beside_sentence(
    beside: &Beside,
    runs: &[crate::compare::Run],
    metric: &Metric,
) -> minijinja::Value {
    let changes = beside.changes(metric, runs);
    let (word, tone) = match beside.usual(metric, &changes) {
        Some("usual") => ("usual", "good"),
        Some(word) => (word, "bad"),
        None => ("no verdict", "open"),
    };
    let told = changes.iter().enumerate().map(|(at, change)| {
        let change = change.map_or(NONE.to_owned(), |of| words::change(metric.kind, of));
        match metric.kind.scale() {
            Scale::Ratio => format!("{} is {change} times A", letter(at + 1)),
            Scale::Difference => format!("{} less A is {change}", letter(at + 1)),
        }
    });
    let sentence = told.collect::<Vec<_>>().join(", ");
    context! { metric => metric.to_string(), word, tone, sentence }
}

/// What it comes to.
pub(super) fn said(page: &Page<'_>) -> Vec<String> {
    match page.found {
        Found::Judged { said, .. } => said.to_vec(),
        Found::Beside(Beside { apart: Some(why), .. }, _) => {
            vec![format!("side by side, without a verdict: {why}")]
        }
        Found::Beside(beside, _) => {
            let alarmed = beside.calibration.as_ref().filter(|found| !found.alarms.is_empty());
            let mut said: Vec<String> = alarmed.map(Calibration::alarm).into_iter().collect();
            said.push(format!("single runs settle nothing; this would: {}", beside.settle));
            said
        }
    }
}

/// The table of all metrics: values of each side, then what is said.
pub(super) fn rows(page: &Page<'_>) -> Vec<minijinja::Value> {
    match page.found {
        Found::Judged { comparison, .. } => comparison.rows.iter().map(judged).collect(),
        Found::Beside(beside, runs) => {
            let row = |metric: Metric| {
                let value = |run: &crate::compare::Run| {
                    words::value(metric.kind, run.figures.values.get(&metric).copied())
                };
                let changes = beside.changes(&metric, runs);
                let change = |of: &Option<f64>| {
                    of.map_or(NONE.to_owned(), |of| words::change(metric.kind, of))
                };
                context! {
                    metric => metric.to_string(),
                    values => runs.iter().map(value).collect::<Vec<_>>(),
                    effects => changes.iter().map(change).collect::<Vec<_>>(),
                    margin => "", word => beside.usual(&metric, &changes).unwrap_or_default(),
                    remark => "",
                }
            };
            metrics(runs).into_iter().map(row).collect()
        }
    }
}

fn judged(row: &Row) -> minijinja::Value {
    let kind = row.wanted.metric.kind;
    let found = row.finding.as_ref();
    let (a, b) = row.medians;
    context! {
        metric => row.wanted.metric.to_string(),
        values => [a, b].map(|of| words::median(kind, of)),
        effects => [words::effect(row)],
        margin => found.map_or(String::new(), |_| words::margin(kind, row.wanted.margin)),
        word => found.map_or(String::new(), |found| found.verdict.to_string()),
        tone => found.map_or("", |found| tone(found.verdict)),
        remark => found.map_or("not in the gate".to_owned(), words::remark),
    }
}

/// What can be seen here: by metric, how far single runs lie apart by chance, and what blocks see.
pub(super) fn calibration(page: &Page<'_>) -> minijinja::Value {
    let found = found_calibration(page);
    let rows: Vec<_> = match page.found {
        Found::Judged { comparison, .. } => {
            let own = comparison.rows.iter().filter(|row| row.detectable.is_some());
            own.map(|row| {
                let metric = &row.wanted.metric;
                spread(metric, found, row.detectable)
            })
            .collect()
        }
        Found::Beside(..) => {
            let spreads = found.iter().flat_map(|found| &found.spreads);
            spreads.map(|of| spread(&of.metric, found, of.detectable)).collect()
        }
    };
    context! {
        folder => found.map(|found| found.folder.clone()),
        blocks => found.map(|found| found.blocks),
        alarms => found.map(|found| found.alarms.join(", ")).unwrap_or_default(),
        rows,
    }
}

fn spread(metric: &Metric, of: Option<&Calibration>, detectable: Option<f64>) -> minijinja::Value {
    let told =
        |effect: Option<f64>| effect.map_or(NONE.to_owned(), |effect| words::size(metric, effect));
    let usual = of.and_then(|found| found.spread(metric)).map(crate::compare::Spread::usual);
    context! {
        metric => metric.to_string(), usual => told(usual), detectable => told(detectable),
    }
}

/// Every run with a link to its report.
pub(super) fn runs(page: &Page<'_>, folder: &Path) -> Result<Vec<minijinja::Value>, ReportError> {
    let mut rows = Vec::new();
    for (at, side) in page.sides.iter().enumerate() {
        for run in &side.runs {
            let measurement = &run.summary.measurement;
            rows.push(context! {
                side => letter(at),
                href => href(folder, run)?,
                name => run.name,
                started => run.manifest.started,
                server => run.manifest.node,
                seed => run.plan.seed,
                sound => measurement.sound,
                reasons => measurement.reasons.join("; "),
            });
        }
    }
    Ok(rows)
}
