//! Sweeps: a workload file's axes turned into points, each a checked workload of its own. Which of
//! them run when is `crate::sweep`'s business.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Spec;
use super::load::{Overrides, typed, workload, workload_tree};
use super::problem::{Origin, Problem, SpecError};
use super::raw::{Measure, RawAxis, RawSweep};
use super::tree::Node;

/// More points than this are a mistake in a range.
const POINTS_MAX: usize = 1_000;
/// What is counted at these paths does work, the more of it the more; a REPLICA comes on top of
/// what the MASTERs do.
const SIZES: [&str; 2] = ["topology.masters", "load.clients"];

/// A checked sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep {
    /// The workload at which nothing is changed.
    pub base: Spec,
    /// One or two.
    pub axes: Vec<Axis>,
    /// Every combination, the last axis changing fastest.
    pub points: Vec<Point>,
    /// Runs of each point.
    pub repeats: u32,
    /// Share of the mean below which half an interval needs no more runs; 0: never.
    pub narrow: f64,
    /// What that interval is of.
    pub figure: Measure,
}

/// What differs along one direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// For people.
    pub name: String,
    /// One a point of it.
    pub labels: Vec<String>,
    /// True if what differs is how many MASTERs or clients there are, and nothing else.
    pub is_size: bool,
}

/// A point of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// One an axis.
    pub labels: Vec<String>,
    /// `path=value` of everything that differs.
    pub set: Vec<String>,
    /// The workload there, or why there is none.
    pub spec: Result<Spec, String>,
}

/// A value along an axis.
struct Mark {
    label: String,
    set: Vec<(String, Value)>,
}

impl Mark {
    /// True if it is labelled with a number of what does the work, which alone differs.
    fn is_size(&self) -> bool {
        let [(path, value)] = self.set.as_slice() else { return false };
        SIZES.contains(&path.as_str())
            && value.as_f64().is_some_and(|n| self.label.parse() == Ok(n))
    }
}

/// Reads and checks a workload file with a sweep.
///
/// # Errors
/// Everything wrong with the file or its sweep, and all problems of the points if none of them can
/// be run. A point among others that cannot be run says so itself.
pub fn sweep(path: &Path, overrides: &Overrides) -> Result<Sweep, SpecError> {
    let base = workload(path, overrides)?;
    let tree = workload_tree(path, overrides)?;
    let Some(node) = tree.get("sweep") else {
        let what = "this workload has no `sweep`; `quorate run` runs it".to_owned();
        return Err(Problem { origin: tree.origin.clone(), key: "sweep".to_owned(), what }.into());
    };
    let raw: RawSweep = typed(node)?;
    let mut problems = Vec::new();
    let mut axes: Vec<Vec<Mark>> = Vec::new();
    for (index, axis) in raw.axes.iter().enumerate() {
        match marks(axis) {
            Ok(found) => axes.push(found),
            Err(what) => {
                let key = format!("sweep.axes.{index}");
                problems.push(Problem { origin: tree.origin_of(&key), key, what });
            }
        }
    }
    let count = axes.iter().map(Vec::len).product::<usize>();
    if count > POINTS_MAX {
        let (origin, key) = (tree.origin_of("sweep.axes"), "sweep.axes".to_owned());
        let what = format!("{count} points are more than {POINTS_MAX}");
        problems.push(Problem { origin, key, what });
    }
    if !problems.is_empty() {
        return Err(SpecError::Invalid(problems));
    }
    let mut first = None;
    let points = combinations(&axes).into_iter().map(|marks| {
        let (point, error) = point(path, overrides, &marks);
        first = first.take().or(error);
        point
    });
    let points: Vec<Point> = points.collect();
    if let (Some(error), true) = (first, points.iter().all(|point| point.spec.is_err())) {
        return Err(error);
    }
    let named = raw.axes.iter().zip(&axes).map(|(axis, marks)| Axis {
        name: name(axis),
        labels: marks.iter().map(|mark| mark.label.clone()).collect(),
        is_size: marks.iter().all(Mark::is_size),
    });
    let (axes, repeats) = (named.collect(), raw.repeats);
    Ok(Sweep { base, axes, points, repeats, narrow: raw.narrow, figure: raw.figure })
}

fn name(axis: &RawAxis) -> String {
    let path = axis.path.as_deref().unwrap_or_default();
    axis.name.clone().unwrap_or_else(|| path.rsplit('.').next().unwrap_or(path).to_owned())
}

/// The values along an axis, or what is wrong with it.
fn marks(axis: &RawAxis) -> Result<Vec<Mark>, String> {
    let ranged = axis.from.is_some() || axis.to.is_some() || axis.step.is_some();
    let found = match (&axis.path, &axis.values, &axis.points) {
        (None, None, Some(points)) if !ranged => points
            .iter()
            .map(|point| Mark {
                label: point.label.clone(),
                set: point.set.clone().into_iter().collect(),
            })
            .collect(),
        (Some(path), Some(values), None) if !ranged => {
            values.iter().map(|value| mark(path, value)).collect()
        }
        (Some(path), None, None) if ranged => {
            range(axis)?.map(|value| mark(path, &value)).collect()
        }
        _ => {
            return Err("an axis has `path` with `values`, or with `from` and `to`, or `points`, \
                        and nothing beside"
                .to_owned());
        }
    };
    let found: Vec<Mark> = found;
    if found.is_empty() {
        return Err("an axis without a value has no points".to_owned());
    }
    Ok(found)
}

fn mark(path: &str, value: &Value) -> Mark {
    let label = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Mark { label, set: vec![(path.to_owned(), value.clone())] }
}

fn range(axis: &RawAxis) -> Result<impl Iterator<Item = Value> + use<>, String> {
    let (Some(from), Some(to)) = (axis.from, axis.to) else {
        return Err("a range needs `from` and `to`".to_owned());
    };
    let step = axis.step.unwrap_or(1.0);
    if step <= 0.0 || to < from || (to - from) / step > POINTS_MAX as f64 {
        return Err(format!("{from} to {to} by {step} is no range of numbers to go through"));
    }
    // A little more than the last, which rounding may have missed.
    let count = ((to - from) / step + 1e-9).floor() as u32;
    Ok((0..=count).map(move |index| {
        let value = from + f64::from(index) * step;
        if value.fract() == 0.0 { Value::from(value as i64) } else { Value::from(value) }
    }))
}

fn combinations(axes: &[Vec<Mark>]) -> Vec<Vec<&Mark>> {
    let mut found: Vec<Vec<&Mark>> = vec![Vec::new()];
    for axis in axes {
        let mut longer = Vec::new();
        for marks in &found {
            longer.extend(axis.iter().map(|mark| [marks.as_slice(), &[mark]].concat()));
        }
        found = longer;
    }
    found
}

/// The point with these values, and what is wrong with it.
fn point(path: &Path, overrides: &Overrides, marks: &[&Mark]) -> (Point, Option<SpecError>) {
    let labels = marks.iter().map(|mark| mark.label.clone()).collect();
    let assignments = || marks.iter().flat_map(|mark| &mark.set);
    let set: Vec<String> = assignments().map(|(path, value)| format!("{path}={value}")).collect();
    let mut overrides = overrides.clone();
    let added = assignments().try_for_each(|(path, value)| {
        let mut node = Node::parse(&format!("sweep, {path}={value}"), &value.to_string())?;
        node.origin = Origin { line: 0, ..node.origin };
        overrides.set.push((path.clone(), node));
        Ok(())
    });
    match added.and_then(|()| workload(path, &overrides)) {
        Ok(spec) => (Point { labels, set, spec: Ok(spec) }, None),
        Err(error) => (Point { labels, set, spec: Err(error.to_string()) }, Some(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sweep: &str) -> Result<Sweep, SpecError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.yaml");
        std::fs::write(&path, format!("name: x\nsweep: {sweep}\n")).unwrap();
        super::sweep(&path, &Overrides::default())
    }

    /// FEATURES: H7
    #[test]
    fn every_value_meets_every_other() {
        let found = read(
            "{ repeats: 3, axes: [{ path: topology.masters, values: [3, 5] }, \
             { path: load.rate, from: 100, to: 150, step: 25 }] }",
        )
        .unwrap();
        let labels: Vec<_> = found.points.iter().map(|point| point.labels.join("/")).collect();
        assert_eq!(labels, ["3/100", "3/125", "3/150", "5/100", "5/125", "5/150"]);
        assert_eq!(found.points[4].set, ["topology.masters=5", "load.rate=125"]);
        let spec = found.points[4].spec.as_ref().unwrap();
        assert_eq!(spec.topology.masters.len(), 5);
        assert_eq!((found.axes[1].name.as_str(), found.repeats), ("rate", 3));
        let is_size: Vec<bool> = found.axes.iter().map(|axis| axis.is_size).collect();
        assert_eq!(is_size, [true, false], "servers are a size, a rate is none");
    }

    #[test]
    fn a_point_that_cannot_be_says_why_and_the_others_are_there() {
        let found = read(
            "{ axes: [{ name: W, points: [{ label: two, set: { topology.write_quorum: 2 } }, \
             { label: five, set: { topology.write_quorum: 5 } }] }] }",
        )
        .unwrap();
        assert!(found.points[0].spec.is_ok());
        let why = found.points[1].spec.as_ref().unwrap_err();
        assert!(why.contains("5 MASTERs can never vote"), "{why}");
    }

    #[test]
    fn what_is_no_sweep_is_refused_with_its_place() {
        for (sweep, wanted) in [
            ("{ axes: [{ path: load.rate }] }", "w.yaml:2: sweep.axes.0: an axis has `path` with"),
            ("{ axes: [{ path: load.rte, values: [1] }] }", "unknown key `rte`"),
            ("{ axes: [{ path: load.rate, values: [] }] }", "an axis without a value"),
            ("{ axes: [{ path: load.rate, from: 2 }] }", "a range needs `from` and `to`"),
            ("{ axes: [{ path: load.rate, from: 2, to: 1 }] }", "2 to 1 by 1 is no range"),
            ("{ axes: [] }", "sweep.axes"),
            ("{ axs: [] }", "unknown key `axs`"),
        ] {
            let error = read(sweep).unwrap_err().to_string();
            assert!(error.contains(wanted), "{sweep}: {error}");
        }
    }
}
