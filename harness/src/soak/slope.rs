//! Whether servers grow: the slope of memory and open files while processes of a round live, and
//! where its mean over rounds may lie. What a process needs to warm up is left out. Pure: samples
//! in, figures out.

use std::collections::BTreeMap;

use quorate_check::history::Nanos;
use serde::Serialize;

use crate::figures::bootstrap::{Estimate, estimate};
use crate::folder::{NodeSample, OPEN_FILES};

/// Seconds at the beginning of a process's life that are left out: caches and pools fill.
const WARM_UP_S: f64 = 10.0;
/// Seconds that a process must have been seen after that for its slope to say anything.
const SEEN_MIN_S: f64 = 10.0;
const NANOS_PER_S: f64 = 1e9;

/// Growth per hour, each the mean over rounds with its interval; `None` where nobody lived long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Slopes {
    /// Resident memory, bytes an hour.
    pub memory: Option<Estimate>,
    /// Open files an hour.
    pub files: Option<Estimate>,
}

/// Collects slopes round by round. A round is the unit: its processes share their load, their
/// faults and their machine, so one says little that the next does not.
#[derive(Debug, Default)]
pub struct Growth {
    memory: Vec<f64>,
    files: Vec<f64>,
}

impl Growth {
    /// Takes the samples of a round in, which measured from `measure` on. A process that was
    /// started again is another life.
    pub fn add(&mut self, samples: &[NodeSample], measure: Nanos) {
        let mut servers: BTreeMap<&str, Vec<&NodeSample>> = BTreeMap::new();
        for sample in samples.iter().filter(|sample| sample.state != "dead") {
            servers.entry(&sample.node).or_default().push(sample);
        }
        let (mut memory, mut files) = (Pool::default(), Pool::default());
        for lived in servers.values() {
            // A process never uses less processor time than it has used.
            for life in lived.chunk_by(|a, b| a.cpu_seconds <= b.cpu_seconds) {
                let Some(born) = life.first().map(|sample| sample.at) else { continue };
                let warm = measure.max(born.saturating_add((WARM_UP_S * NANOS_PER_S) as Nanos));
                let warm = life.iter().filter(|sample| sample.at >= warm);
                memory.add(warm.clone().map(|sample| (sample.at, sample.rss_bytes as f64)));
                files.add(warm.filter_map(|s| Some((s.at, *s.metrics.get(OPEN_FILES)?))));
            }
        }
        self.memory.extend(memory.slope());
        self.files.extend(files.slope());
    }

    /// The slopes so far.
    #[must_use]
    pub fn slopes(&self) -> Slopes {
        Slopes { memory: estimate(&self.memory), files: estimate(&self.files) }
    }
}

/// Least squares over several lives, each with a level of its own and all with one slope: who was
/// seen for longer counts for more.
#[derive(Debug, Default)]
struct Pool {
    /// Products of time and value, and squares of time, each from its life's mean.
    products: f64,
    squares: f64,
}

impl Pool {
    /// Takes a life in, unless it was seen too shortly.
    fn add(&mut self, points: impl Iterator<Item = (Nanos, f64)>) {
        let points: Vec<(Nanos, f64)> = points.collect();
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let seconds = |at: Nanos| at.saturating_sub(first.0) as f64 / NANOS_PER_S;
        if seconds(last.0) < SEEN_MIN_S {
            return;
        }
        let count = points.len() as f64;
        let mean_x = points.iter().map(|(at, _)| seconds(*at)).sum::<f64>() / count;
        let mean_y = points.iter().map(|(_, value)| value).sum::<f64>() / count;
        for (at, value) in &points {
            let x = seconds(*at) - mean_x;
            self.products += x * (value - mean_y);
            self.squares += x * x;
        }
    }

    /// Per hour; `None` of no life.
    fn slope(&self) -> Option<f64> {
        (self.squares > 0.0).then(|| self.products / self.squares * 3_600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(node: &str, second: u64, cpu_seconds: f64, rss_bytes: u64) -> NodeSample {
        NodeSample {
            at: second * 1_000_000_000,
            node: node.to_owned(),
            state: "running".to_owned(),
            cpu_seconds,
            rss_bytes,
            metrics: BTreeMap::from([(OPEN_FILES.to_owned(), 20.0)]),
        }
    }

    /// A life of `node` over these seconds that grows so many bytes a second.
    fn life(node: &str, seconds: std::ops::Range<u64>, per_second: u64) -> Vec<NodeSample> {
        let first = seconds.start;
        let grows = |s: u64| sample(node, s, (s - first) as f64, 5_000 + per_second * (s - first));
        seconds.map(grows).collect()
    }

    #[test]
    fn growth_is_told_with_its_interval_over_rounds() {
        let mut growth = Growth::default();
        for per_second in [90, 100, 110] {
            let servers = ["n1", "n2", "n3"].map(|node| life(node, 0..60, per_second));
            growth.add(&servers.concat(), 0);
        }
        let slopes = growth.slopes();
        let memory = slopes.memory.unwrap();
        assert!((memory.mean - 360_000.0).abs() < 1.0, "{memory:?}");
        let (low, high) = memory.interval.unwrap();
        // Student's t of two degrees of freedom: nine servers are three rounds.
        let half = 4.302_653 * 36_000.0 / 3_f64.sqrt();
        assert!((high - low - 2.0 * half).abs() < 10.0, "{memory:?}");
        assert_eq!(memory.runs, 3);
        assert_eq!(slopes.files.map(|files| (files.mean, files.runs)), Some((0.0, 3)));
    }

    #[test]
    fn a_process_that_begins_anew_with_less_does_not_shrink_nor_grow() {
        let mut samples = life("n1", 0..30, 0);
        samples.push(NodeSample { state: "dead".to_owned(), ..sample("n1", 30, 0.0, 0) });
        let fewer = |sample| NodeSample { rss_bytes: 4_000, ..sample };
        samples.extend(life("n1", 31..60, 0).into_iter().map(fewer));
        let mut growth = Growth::default();
        growth.add(&samples, 0);
        let memory = growth.slopes().memory.unwrap();
        assert_eq!((memory.mean, memory.runs), (0.0, 1));
    }

    #[test]
    fn what_is_needed_to_warm_up_is_no_growth() {
        let warms = |sample: NodeSample| NodeSample {
            rss_bytes: 9_000 + 1_000 * (sample.at / 1_000_000_000).min(15),
            ..sample
        };
        let samples: Vec<_> = life("n1", 0..60, 0).into_iter().map(warms).collect();
        let mut growth = Growth::default();
        growth.add(&samples, 15_000_000_000);
        assert_eq!(growth.slopes().memory.map(|memory| memory.mean), Some(0.0));
        // One that is started again in the measure phase warms up then.
        let again = life("n1", 30..60, 0).into_iter().map(|sample| NodeSample {
            rss_bytes: 9_000 + 1_000 * (sample.at / 1_000_000_000).min(40),
            ..sample
        });
        growth = Growth::default();
        growth.add(&again.collect::<Vec<_>>(), 15_000_000_000);
        assert_eq!(growth.slopes().memory.map(|memory| memory.mean), Some(0.0));
    }

    #[test]
    fn a_short_life_says_nothing() {
        let mut growth = Growth::default();
        growth.add(&life("n1", 0..19, 1_000_000), 0);
        assert_eq!(growth.slopes(), Slopes::default());
    }
}
