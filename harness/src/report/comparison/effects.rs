//! The plots of effects: ratios on one axis, and differences, whose units differ, as multiples of
//! what is none. Each has its table.

use minijinja::context;

use super::super::error::ReportError;
use super::super::figure::{Figure, index_figure};
use super::super::plot::{Forest, ForestRow, Measure, palette};
use super::{Found, Page, drawn};
use crate::compare::{Beside, Metric, Row, Run, Scale, metrics, words};

/// A plot with the table behind it.
pub(super) struct Shown {
    pub(super) figure: Figure,
    caption: String,
    /// Metric, effect with interval, and what is said of it.
    rows: Vec<[String; 2]>,
}

impl Shown {
    /// For the template.
    pub(super) fn context(&mut self) -> minijinja::Value {
        let label = format!("Effects: {}", self.caption);
        context! { plot => drawn(&self.figure, &label), caption => self.caption, rows => self.rows }
    }
}

/// Ratios, and differences if there are any.
pub(super) fn forests(page: &Page<'_>) -> Result<Vec<Shown>, ReportError> {
    let mut shown = Vec::new();
    for (id, scale, measure) in [
        ("ratios", Scale::Ratio, Measure::Ratio),
        ("differences", Scale::Difference, Measure::Margins),
    ] {
        let rows: Vec<ForestRow> = match page.found {
            Found::Judged { comparison, .. } => {
                let of =
                    comparison.rows.iter().filter(|row| row.wanted.metric.kind.scale() == scale);
                of.filter_map(judged).collect()
            }
            Found::Beside(beside, runs) => {
                let all = metrics(runs).into_iter().filter(|metric| metric.kind.scale() == scale);
                all.filter_map(|metric| single(beside, runs, &metric)).collect()
            }
        };
        if rows.is_empty() && scale == Scale::Difference {
            continue;
        }
        let (title, axis, caption) = texts(page, scale);
        // A plot may be looked at by itself: it says what its page does.
        let title = if page.is_simulated() { format!("{title}, simulated") } else { title };
        let table = rows.iter().map(|row| [row.label.clone(), row.told.clone()]).collect();
        let forest = Forest { title, axis, measure, rows };
        shown.push(Shown { figure: index_figure(id, &forest)?, caption, rows: table });
    }
    Ok(shown)
}

fn texts(page: &Page<'_>, scale: Scale) -> (String, String, String) {
    let other = match page.sides.as_slice() {
        [_, _] | [] | [_] => "B",
        [_, _, ..] => "each",
    };
    let shaded = match page.found {
        Found::Judged { .. } => {
            "Shaded: the margin within which a difference is none, of the \
            metrics of the gate. Lines: 95 % intervals of Student's t over blocks."
        }
        Found::Beside(Beside { calibration: Some(_), apart: None, .. }, _) => {
            "Shaded: what chance alone leaves between two single runs in 95 of 100 cases, as an \
             A/A found. Single runs have no interval."
        }
        Found::Beside(..) => {
            "Nothing is shaded, since nothing says how far runs of one build lie \
            apart. Single runs have no interval."
        }
    };
    match scale {
        Scale::Ratio => (
            format!("{other} divided by A"),
            format!("{other} / A: left of 1 is less than A, right of it more"),
            shaded.to_owned(),
        ),
        Scale::Difference => (
            format!("{other} less A, in margins"),
            "multiples of the margin".to_owned(),
            format!("{shaded} Units differ, so the axis counts margins; the texts have the units."),
        ),
    }
}

fn label(metric: &Metric) -> String {
    if metric.kind.is_more_better() {
        format!("{metric} (more is better)")
    } else {
        metric.to_string()
    }
}

/// A value on the axis: ratios as they are, differences in margins; `None` of no margin.
fn place(metric: &Metric, margin: f64, value: f64) -> Option<f64> {
    match metric.kind.scale() {
        Scale::Ratio => Some(value),
        Scale::Difference => (margin > 0.0).then(|| value / margin),
    }
}

fn judged(row: &Row) -> Option<ForestRow> {
    let metric = &row.wanted.metric;
    let effect = row.effect?;
    let at = |value: f64| place(metric, row.wanted.margin, value);
    let interval = effect.interval.and_then(|(low, high)| Some((at(low)?, at(high)?)));
    let margin = metric.kind.scale().margin(row.wanted.margin);
    let verdict = row.finding.as_ref().map(|found| format!(" {}", found.verdict));
    Some(ForestRow {
        label: label(metric),
        told: format!("{}{}", words::effect(row), verdict.unwrap_or_default()),
        band: row.finding.as_ref().and_then(|_| at(margin)),
        effects: vec![(palette::side(1), at(effect.mean)?, interval)],
    })
}

fn single(beside: &Beside, runs: &[Run], metric: &Metric) -> Option<ForestRow> {
    let changes = beside.changes(metric, runs);
    let margin = metric.kind.margin();
    let effects: Vec<_> = (1..)
        .zip(&changes)
        .filter_map(|(side, change)| {
            Some((palette::side(side), place(metric, margin, (*change)?)?, None))
        })
        .collect();
    let told = changes.iter().flatten().map(|change| words::change(metric.kind, *change));
    let told = told.collect::<Vec<_>>().join(", ");
    let usual = beside.usual(metric, &changes).map(|word| format!(" {word}"));
    let band = beside.left_to_chance(metric).and_then(|of| place(metric, margin, of));
    let told = format!("{told}{}", usual.unwrap_or_default());
    (!effects.is_empty()).then(|| ForestRow { label: label(metric), told, band, effects })
}
