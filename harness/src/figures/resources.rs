//! What the servers used, as series over time for plots: CPU, memory, disk syncs, persist queue.

use std::collections::BTreeMap;

use quorate_check::history::Nanos;
use serde::{Deserialize, Serialize};

use crate::folder::{GROUP_PEAK_MEMORY, NodeSample, PEAK_MEMORY};

/// One figure at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Nanoseconds on the history's clock.
    pub at: Nanos,
    /// In the unit of the resource.
    pub value: f64,
}

/// What is plotted per server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// CPU cores busy, mean since the previous sample.
    Cpu,
    /// Resident memory in MiB.
    Memory,
    /// Mean duration of a disk sync since the previous sample, in milliseconds.
    Sync,
    /// Batches waiting for the disk.
    Queue,
}

impl Resource {
    /// All, in display order.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Sync, Self::Queue];

    /// Name and unit for the axis.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Cpu => "CPU (cores)",
            Self::Memory => "memory (MiB)",
            Self::Sync => "disk sync, mean (ms)",
            Self::Queue => "persist queue (batches)",
        }
    }

    /// The figure at `now`, from two consecutive samples of one server where it is a rate. `None`
    /// when it can't be known: no metrics, no previous sample, or a restart in between.
    fn value(self, before: Option<&NodeSample>, now: &NodeSample) -> Option<f64> {
        match self {
            Self::Cpu => {
                let before = before?;
                let seconds = super::seconds(now.at.checked_sub(before.at)?);
                let used = now.cpu_seconds - before.cpu_seconds;
                (seconds > 0.0 && used >= 0.0).then(|| used / seconds)
            }
            Self::Memory => Some(now.rss_bytes as f64 / (1024.0 * 1024.0)),
            Self::Sync => {
                let difference = |name: &str| Some(metric(now, name)? - metric(before?, name)?);
                let count = difference("quorate_fsync_seconds_count")?;
                let sum = difference("quorate_fsync_seconds_sum")?;
                (count > 0.0 && sum >= 0.0).then(|| sum / count * 1000.0)
            }
            Self::Queue => metric(now, "quorate_persist_queue"),
        }
    }
}

/// One line of a plot.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceSeries {
    /// The server.
    pub node: String,
    /// Points in order of time; a new run begins where the figure was not known in between.
    pub runs: Vec<Vec<Point>>,
}

impl ResourceSeries {
    /// All points in order of time.
    pub fn points(&self) -> impl Iterator<Item = &Point> {
        self.runs.iter().flatten()
    }
}

/// One series a server, by name. A server that is not running has no points.
#[must_use]
pub fn resources(samples: &[NodeSample], resource: Resource) -> Vec<ResourceSeries> {
    let mut by_node: BTreeMap<&str, Vec<&NodeSample>> = BTreeMap::new();
    for sample in samples {
        by_node.entry(&sample.node).or_default().push(sample);
    }
    let series = |(node, mut samples): (&str, Vec<&NodeSample>)| {
        samples.sort_by_key(|sample| sample.at);
        let mut runs = vec![Vec::new()];
        let mut before = None;
        for now in samples {
            let value = resource.value(before, now).filter(|_| now.state != "dead");
            match (value, runs.last_mut()) {
                (Some(value), Some(run)) => run.push(Point { at: now.at, value }),
                _ => runs.push(Vec::new()),
            }
            before = Some(now);
        }
        runs.retain(|run| !run.is_empty());
        ResourceSeries { node: node.to_owned(), runs }
    };
    by_node.into_iter().map(series).collect()
}

/// The most memory that a server had at any time, over all of its lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PeakMemory {
    /// Resident, its program included, in bytes.
    pub resident_bytes: f64,
    /// Of its control group, page cache included; `None` where it has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_bytes: Option<f64>,
}

/// The peak of a server; `None` where nobody looked.
#[must_use]
pub fn peak_memory(samples: &[NodeSample], node: &str) -> Option<PeakMemory> {
    let most = |name: &str| {
        let own = samples.iter().filter(|sample| sample.node == node);
        own.filter_map(|sample| sample.metrics.get(name).copied()).reduce(f64::max)
    };
    let group_bytes = most(GROUP_PEAK_MEMORY);
    most(PEAK_MEMORY).map(|resident_bytes| PeakMemory { resident_bytes, group_bytes })
}

/// The sum over all labels of a metric; `None` if the server did not name it.
pub(super) fn metric(sample: &NodeSample, name: &str) -> Option<f64> {
    let named = sample.metrics.iter().filter(|(key, _)| {
        key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
    });
    named.map(|(_, value)| *value).reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: u64, cpu_seconds: f64, metrics: &[(&str, f64)]) -> NodeSample {
        NodeSample {
            at: at_s * 1_000_000_000,
            node: "n1".to_owned(),
            state: "running".to_owned(),
            cpu_seconds,
            rss_bytes: 3 * 1024 * 1024,
            metrics: metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        }
    }

    fn values(samples: &[NodeSample], resource: Resource) -> Vec<f64> {
        resources(samples, resource)[0].points().map(|point| point.value).collect()
    }

    #[test]
    fn cpu_is_a_rate_and_a_restart_makes_a_hole() {
        let samples =
            [sample(0, 1.0, &[]), sample(2, 2.0, &[]), sample(4, 0.5, &[]), sample(5, 0.75, &[])];
        assert_eq!(values(&samples, Resource::Cpu), [0.5, 0.25]);
        assert_eq!(resources(&samples, Resource::Cpu)[0].runs.len(), 2);
        assert_eq!(values(&samples, Resource::Memory), [3.0; 4]);
    }

    /// FEATURES: S3
    #[test]
    fn the_peak_is_over_all_lives_of_a_server() {
        let restarted = [
            sample(0, 0.0, &[(PEAK_MEMORY, 7.0), (GROUP_PEAK_MEMORY, 9.0)]),
            sample(1, 0.0, &[]),
            sample(2, 0.0, &[(PEAK_MEMORY, 3.0)]),
        ];
        let peak = PeakMemory { resident_bytes: 7.0, group_bytes: Some(9.0) };
        assert_eq!(peak_memory(&restarted, "n1"), Some(peak));
        assert_eq!(peak_memory(&restarted, "n2"), None);
        assert_eq!(peak_memory(&restarted[2..], "n1").unwrap().group_bytes, None);
    }

    #[test]
    fn syncs_are_a_mean_over_the_interval_and_labels_add_up() {
        let sum = "quorate_fsync_seconds_sum";
        let count = "quorate_fsync_seconds_count";
        let samples = [
            sample(0, 0.0, &[(sum, 1.0), (count, 10.0), ("quorate_persist_queue{db=\"a\"}", 2.0)]),
            sample(1, 0.0, &[(sum, 1.5), (count, 110.0), ("quorate_persist_queue", 1.0)]),
            sample(2, 0.0, &[]),
        ];
        assert_eq!(values(&samples, Resource::Sync), [5.0]);
        assert_eq!(values(&samples, Resource::Queue), [2.0, 1.0]);
    }
}
