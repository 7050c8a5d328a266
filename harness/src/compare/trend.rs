//! Runs of one experiment on one machine in the order in which they were done, and where their
//! figures changed for good. Pure; `change_points` says what a change is.

use std::collections::BTreeMap;

use serde::Serialize;

use super::beside::metrics;
use super::change_points::change_points;
use super::differences::circumstances;
use super::metric::{Metric, Scale};
use super::read::{Run, Value};

/// A run in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// The folder as it was named.
    pub folder: String,
    /// When it began, RFC 3339.
    pub started: String,
    /// Version and commit of the servers.
    pub server: String,
}

/// A change of a figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Place of the first run behind it.
    pub at: usize,
    /// The level before it: the mean, for ratios the geometric one, in the metric's unit.
    pub before: f64,
    /// The level behind it, up to the next change.
    pub behind: f64,
    /// From the one to the other on the metric's scale: a logarithm of a ratio, or a difference.
    pub effect: f64,
    /// Chance of finding such a change where there is none.
    pub chance: f64,
    /// `better`, `worse`, or `within` the margin within which a difference is none.
    pub word: &'static str,
}

/// A figure over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrendRow {
    /// Which.
    pub metric: Metric,
    /// One a run; `None` of those that do not have it.
    pub values: Vec<Option<f64>>,
    /// True if any of them is a lower bound.
    pub has_bounds: bool,
    /// Where it changed.
    pub changes: Vec<Change>,
    /// Level of each stretch between changes, with the places of its first and last run.
    pub levels: Vec<(usize, usize, f64)>,
}

/// An experiment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trend {
    /// Name of the workload in its latest run.
    pub name: String,
    /// See [`circumstances`].
    pub circumstances: String,
    /// The stage of all runs.
    pub stage: String,
    /// In order of time.
    pub runs: Vec<Moment>,
    /// By metric.
    pub rows: Vec<TrendRow>,
}

/// Runs by experiment and machine, those with most runs first. Unsound figures are left out: the
/// caller names such runs.
#[must_use]
pub fn trends(runs: Vec<Run>, seed: u64) -> Vec<Trend> {
    let mut by_kind: BTreeMap<String, Vec<Run>> = BTreeMap::new();
    for run in runs.into_iter().filter(|run| run.summary.measurement.sound) {
        by_kind.entry(circumstances(&run)).or_default().push(run);
    }
    let trend = |(circumstances, mut runs): (String, Vec<Run>)| {
        // RFC 3339 in UTC: the order of texts is that of times.
        let place = |run: &Run| (run.manifest.started.clone(), run.name.clone());
        runs.sort_by_key(place);
        let last = runs.last()?;
        let (name, stage) = (last.plan.name.clone(), last.manifest.stage.clone());
        let rows = metrics(&runs).into_iter().map(|metric| row(metric, &runs, seed)).collect();
        let moment = |run: &Run| Moment {
            folder: run.name.clone(),
            started: run.manifest.started.clone(),
            server: run.manifest.node.clone(),
        };
        Some(Trend { name, circumstances, stage, runs: runs.iter().map(moment).collect(), rows })
    };
    let mut found: Vec<Trend> = by_kind.into_iter().filter_map(trend).collect();
    found.sort_by_key(|trend| std::cmp::Reverse(trend.runs.len()));
    found
}

fn row(metric: Metric, runs: &[Run], seed: u64) -> TrendRow {
    let found: Vec<Option<Value>> =
        runs.iter().map(|run| run.figures.values.get(&metric).copied()).collect();
    let values: Vec<Option<f64>> = found.iter().map(|value| value.map(|of| of.value)).collect();
    let has_bounds = found.iter().flatten().any(|value| value.at_least);
    let (levels, changes) = history(&metric, &values, seed);
    TrendRow { metric, values, has_bounds, changes, levels }
}

/// Levels and changes of a series with holes.
fn history(
    metric: &Metric,
    values: &[Option<f64>],
    seed: u64,
) -> (Vec<(usize, usize, f64)>, Vec<Change>) {
    let scale = metric.kind.scale();
    let placed = |(at, value): (usize, &Option<f64>)| Some((at, scale.place((*value)?)?));
    let known: Vec<(usize, f64)> = values.iter().enumerate().filter_map(placed).collect();
    let places: Vec<f64> = known.iter().map(|(_, place)| *place).collect();
    let points = change_points(&places, seed);
    let mut edges: Vec<usize> = points.iter().map(|point| point.at).collect();
    edges.insert(0, 0);
    edges.push(known.len());
    let level = |pair: &[usize]| {
        let of = known.get(pair[0]..pair[1]).filter(|of| !of.is_empty())?;
        let mean = of.iter().map(|(_, place)| *place).sum::<f64>() / of.len() as f64;
        Some((of[0].0, of[of.len() - 1].0, mean))
    };
    let levels: Vec<(usize, usize, f64)> = edges.windows(2).filter_map(level).collect();
    let value = |place: f64| match scale {
        Scale::Ratio => place.exp(),
        Scale::Difference => place,
    };
    let change = |(point, pair): (&super::ChangePoint, &[(usize, usize, f64)])| {
        let effect = pair[1].2 - pair[0].2;
        let is_within = effect.abs() <= scale.margin(metric.kind.margin());
        let word = match (is_within, (effect > 0.0) == metric.kind.is_more_better()) {
            (true, _) => "within",
            (false, true) => "better",
            (false, false) => "worse",
        };
        let (before, behind) = (value(pair[0].2), value(pair[1].2));
        Change { at: pair[1].0, before, behind, effect, chance: point.chance, word }
    };
    let changes = points.iter().zip(levels.windows(2)).map(change).collect();
    (levels.into_iter().map(|(from, to, mean)| (from, to, value(mean))).collect(), changes)
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    /// FEATURES: H9
    #[test]
    fn a_change_has_its_place_its_levels_and_its_side() {
        let of = |at: usize| 10.0 * if at < 8 { 1.0 } else { 1.5 } * 1.01_f64.powi(at as i32 % 3);
        // A run without the figure keeps its place.
        let mut values: Vec<Option<f64>> = (0..16).map(|at| Some(of(at))).collect();
        values.insert(2, None);
        let (levels, changes) = history(&Kind::P99.into(), &values, 1);
        let [change] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!((change.at, change.word), (9, "worse"));
        assert!((change.effect.exp() - 1.5).abs() < 0.01, "{change:?}");
        assert!((change.behind / change.before - 1.5).abs() < 0.01, "{change:?}");
        let spans: Vec<(usize, usize)> = levels.iter().map(|(from, to, _)| (*from, *to)).collect();
        assert_eq!(spans, [(0, 8), (9, 16)]);
        let (_, changes) = history(&Kind::Throughput.into(), &values, 1);
        assert_eq!(changes[0].word, "better", "more of it is better");
    }

    /// FEATURES: H9
    #[test]
    fn a_small_change_is_told_and_named_small_and_without_figures_there_is_none() {
        let of = |at: usize| if at < 8 { 100.0 } else { 102.0 } + at as f64 % 3.0 * 0.1;
        let values: Vec<Option<f64>> = (0..16).map(|at| Some(of(at))).collect();
        let (_, changes) = history(&Kind::P99.into(), &values, 1);
        assert_eq!(changes.iter().map(|of| of.word).collect::<Vec<_>>(), ["within"]);
        assert_eq!(history(&Kind::P99.into(), &[None, None], 1), (Vec::new(), Vec::new()));
    }
}
