//! Whether servers grow: the slope of memory and open files within the life of a process, and
//! where its mean over all lives may lie. Pure: samples in, figures out.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::figures::bootstrap::{Estimate, estimate};
use crate::folder::{NodeSample, OPEN_FILES};

/// Seconds that a process must have been seen for its slope to say anything.
const SEEN_MIN_S: f64 = 10.0;
const NANOS_PER_S: f64 = 1e9;

/// Growth per hour, each the mean over lives with its interval; `None` where nobody lived long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Slopes {
    /// Resident memory, bytes an hour.
    pub memory: Option<Estimate>,
    /// Open files an hour.
    pub files: Option<Estimate>,
}

/// Collects slopes run by run.
#[derive(Debug, Default)]
pub struct Lives {
    memory: Vec<f64>,
    files: Vec<f64>,
}

impl Lives {
    /// Takes the samples of a run in. A process that was started again is another life.
    pub fn add(&mut self, samples: &[NodeSample]) {
        let mut servers: BTreeMap<&str, Vec<&NodeSample>> = BTreeMap::new();
        for sample in samples.iter().filter(|sample| sample.state != "dead") {
            servers.entry(&sample.node).or_default().push(sample);
        }
        for lived in servers.values() {
            // A process never uses less processor time than it has used.
            for life in lived.chunk_by(|a, b| a.cpu_seconds <= b.cpu_seconds) {
                self.add_life(life);
            }
        }
    }

    fn add_life(&mut self, life: &[&NodeSample]) {
        let memory = life.iter().map(|sample| (sample.at, sample.rss_bytes as f64));
        self.memory.extend(slope(&memory.collect::<Vec<_>>()));
        let files = |sample: &&NodeSample| Some((sample.at, *sample.metrics.get(OPEN_FILES)?));
        self.files.extend(slope(&life.iter().filter_map(files).collect::<Vec<_>>()));
    }

    /// The slopes so far.
    #[must_use]
    pub fn slopes(&self) -> Slopes {
        Slopes { memory: estimate(&self.memory), files: estimate(&self.files) }
    }
}

/// Least squares, per hour; `None` of what was seen too shortly.
fn slope(points: &[(u64, f64)]) -> Option<f64> {
    let (first, last) = (points.first()?.0, points.last()?.0);
    let seconds = |at: u64| at.saturating_sub(first) as f64 / NANOS_PER_S;
    if seconds(last) < SEEN_MIN_S {
        return None;
    }
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(at, _)| seconds(*at)).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, value)| value).sum::<f64>() / count;
    let mut products = (0.0, 0.0);
    for (at, value) in points {
        let x = seconds(*at) - mean_x;
        products = (products.0 + x * (value - mean_y), products.1 + x * x);
    }
    Some(products.0 / products.1 * 3_600.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: u64, cpu_seconds: f64, rss_bytes: u64, files: f64) -> NodeSample {
        NodeSample {
            at: second * 1_000_000_000,
            node: "n1".to_owned(),
            state: "running".to_owned(),
            cpu_seconds,
            rss_bytes,
            metrics: BTreeMap::from([(OPEN_FILES.to_owned(), files)]),
        }
    }

    #[test]
    fn growth_is_told_with_its_interval() {
        let mut lives = Lives::default();
        for per_second in [90, 100, 110] {
            let grows = |s: u64| sample(s, s as f64, 5_000 + per_second * s, 20.0);
            lives.add(&(0..60).map(grows).collect::<Vec<_>>());
        }
        let slopes = lives.slopes();
        let memory = slopes.memory.unwrap();
        assert!((memory.mean - 360_000.0).abs() < 1.0, "{memory:?}");
        let (low, high) = memory.interval.unwrap();
        assert!(low > 0.0 && high < 720_000.0, "{memory:?}");
        assert_eq!(slopes.files.map(|files| (files.mean, files.runs)), Some((0.0, 3)));
    }

    #[test]
    fn a_process_that_begins_anew_with_less_does_not_shrink_nor_grow() {
        let mut samples: Vec<_> = (0..30).map(|s| sample(s, s as f64, 9_000, 30.0)).collect();
        samples.push(NodeSample { state: "dead".to_owned(), ..sample(30, 0.0, 0, 0.0) });
        samples.extend((31..60).map(|s| sample(s, (s - 31) as f64, 4_000, 10.0)));
        let mut lives = Lives::default();
        lives.add(&samples);
        let memory = lives.slopes().memory.unwrap();
        assert_eq!((memory.mean, memory.runs), (0.0, 2));
    }

    #[test]
    fn a_short_life_says_nothing() {
        let mut lives = Lives::default();
        lives.add(&(0..9).map(|s| sample(s, s as f64, s * 1_000_000, 1.0)).collect::<Vec<_>>());
        assert_eq!(lives.slopes(), Slopes::default());
    }
}
