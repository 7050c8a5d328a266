//! A comparison in words: what tables of the command and the page say alike.
//! May not compare: that was done when these functions are called.

use super::metric::{Kind, Metric, Scale};
use super::read::Value;
use super::verdict::{Finding, Row};

/// What stands where there is no figure.
pub const NONE: &str = "–";

/// Name of the run or side in this place: A, B, and so on; numbers behind Z.
#[must_use]
pub fn letter(at: usize) -> String {
    u8::try_from(at)
        .ok()
        .filter(|at| *at < 26)
        .map_or_else(|| (at + 1).to_string(), |at| char::from(b'A' + at).to_string())
}

/// A figure of a run, with a sign where it is a lower bound.
#[must_use]
pub fn value(kind: Kind, of: Option<Value>) -> String {
    of.map_or(NONE.to_owned(), |of| {
        let sign = if of.at_least { "≥ " } else { "" };
        format!("{sign}{}", kind.told(of.value))
    })
}

/// A figure of several runs.
#[must_use]
pub fn median(kind: Kind, of: Option<f64>) -> String {
    of.map_or(NONE.to_owned(), |value| kind.told(value))
}

/// An effect as people read it: a ratio, or a difference with its unit.
#[must_use]
pub fn change(kind: Kind, effect: f64) -> String {
    match kind.scale() {
        Scale::Ratio => format!("{:.3}", Scale::Ratio.shown(effect)),
        Scale::Difference => kind.told(effect),
    }
}

/// The effect of a row with its interval.
#[must_use]
pub fn effect(row: &Row) -> String {
    let Some(effect) = row.effect else { return NONE.to_owned() };
    let told = |of: f64| change(row.wanted.metric.kind, of);
    let interval = effect.interval.map(|(low, high)| format!(" [{}, {}]", told(low), told(high)));
    format!("{}{}", told(effect.mean), interval.unwrap_or_default())
}

/// A margin: a share of a ratio, else in the unit.
#[must_use]
pub fn margin(kind: Kind, margin: f64) -> String {
    match kind.scale() {
        Scale::Ratio => format!("{:.3} %", margin * 100.0).replace(".000", ""),
        Scale::Difference => kind.told(margin),
    }
}

/// What is to be known beside a verdict; empty without.
#[must_use]
pub fn remark(found: &Finding) -> String {
    let more = found.more.map(|more| format!("{more} more blocks"));
    let remarks = more.into_iter().chain([found.remark.clone()]);
    remarks.filter(|of| !of.is_empty()).collect::<Vec<_>>().join("; ")
}

/// An effect that is seen, as a share or in the unit.
#[must_use]
pub fn size(metric: &Metric, effect: f64) -> String {
    match metric.kind.scale() {
        Scale::Ratio => format!("{:.1} %", effect.exp_m1() * 100.0),
        Scale::Difference => metric.kind.told(effect),
    }
}

/// The least effect that is seen, of a metric of the gate.
#[must_use]
pub fn detectable(row: &Row) -> Option<String> {
    row.finding.as_ref()?;
    let metric = &row.wanted.metric;
    Some(format!("{metric} {}", size(metric, row.detectable?)))
}
