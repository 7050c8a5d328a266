//! Looks at every server a few times a second: run state, processor, memory, counters.
//! Reads alone; what the figures mean is the report's business.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::node::Node;
use super::node_api::metrics;
use super::{StageError, procfs};
use crate::folder::{NodeSample, OPEN_FILES, PEAK_MEMORY};
use crate::run::parts::Clock;

/// Time between two samples of a server, where there are as many as a quorum has.
const PERIOD: Duration = Duration::from_millis(250);
/// With more servers than this they are looked at as much more seldom, or looking at them would be
/// what they do.
const OFTEN_MAX: usize = 12;
/// Longest wait for `/metrics`: less than the period, so that a hung server delays nobody.
const METRICS_LIMIT: Duration = Duration::from_millis(200);

/// Appends samples to the file until cancelled.
pub(crate) async fn run(
    cluster: &Arc<Cluster>,
    clock: Clock,
    path: &Path,
    cancel: CancellationToken,
) -> Result<(), StageError> {
    let open = File::options().create(true).append(true).open(path);
    let mut file = open.map_err(StageError::file(path))?;
    let times = u32::try_from(cluster.nodes.len().div_ceil(OFTEN_MAX)).unwrap_or(u32::MAX);
    let mut ticks = tokio::time::interval(PERIOD * times.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let mut lines = Vec::new();
        for sample in sample_all(cluster, clock).await {
            serde_json::to_writer(&mut lines, &sample)
                .map_err(|error| StageError::file(path)(error.into()))?;
            lines.push(b'\n');
        }
        file.write_all(&lines).map_err(StageError::file(path))?;
    }
}

/// All servers at the same time, so that a slow one does not shift the others' times.
async fn sample_all(cluster: &Arc<Cluster>, clock: Clock) -> Vec<NodeSample> {
    let tasks: Vec<_> = (0..cluster.nodes.len())
        .map(|index| {
            let cluster = Arc::clone(cluster);
            tokio::spawn(async move { sample(&cluster.nodes[index], clock).await })
        })
        .collect();
    let mut samples = Vec::new();
    for task in tasks {
        match task.await {
            Ok(sample) => samples.push(sample),
            Err(error) => tracing::warn!(%error, "a sample was lost"),
        }
    }
    samples
}

async fn sample(node: &Node, clock: Clock) -> NodeSample {
    let mut sample = NodeSample {
        at: clock.now(),
        node: node.name().to_string(),
        state: "dead".to_string(),
        cpu_seconds: 0.0,
        rss_bytes: 0,
        metrics: std::collections::BTreeMap::new(),
    };
    let Some(life) = node.running() else {
        return sample;
    };
    let Some(look) = life.process.look() else {
        return sample;
    };
    sample.cpu_seconds = look.cpu_seconds;
    sample.rss_bytes = look.rss_bytes;
    let mut figures = life.process.group_figures();
    let files = procfs::open_files(life.process.pid());
    figures.extend(files.map(|count| (OPEN_FILES.to_string(), f64::from(count))));
    let peak = procfs::peak_memory(life.process.pid());
    figures.extend(peak.map(|bytes| (PEAK_MEMORY.to_string(), bytes as f64)));
    if look.is_stopped {
        sample.state = "paused".to_string();
        sample.metrics = figures;
        return sample;
    }
    sample.state = "running".to_string();
    match metrics(life.said.http, METRICS_LIMIT).await {
        Ok(metrics) => sample.metrics = metrics,
        Err(error) => tracing::debug!(node = node.name(), %error, "no metrics"),
    }
    sample.metrics.extend(figures);
    sample
}
