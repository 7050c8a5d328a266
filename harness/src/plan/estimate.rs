//! How long a plan takes: for people who wait, and for budgets of suites.
//! Coarse on purpose; figures were taken from runs on two cores.

use std::time::Duration;

use super::Plan;

/// Servers, proxies and the database coming up, first server.
const START_MS: u64 = 1_500;
/// The same for every further server.
const START_EACH_MS: u64 = 500;
/// Records created per second in the load phase.
const LOAD_PER_S: u64 = 400;
/// Reads per second of the final phase.
const FINAL_PER_S: u64 = 2_000;
/// Stopping the servers.
const STOP_MS: u64 = 1_500;
/// Judging the history and drawing the report.
const REPORT_MS: u64 = 4_000;

/// Duration by part of the run, in order. Settling counts in full.
#[must_use]
pub fn parts(plan: &Plan) -> Vec<(&'static str, Duration)> {
    let servers = u64::try_from(plan.topology.servers().len()).unwrap_or(u64::MAX);
    let records = plan.workload.records;
    let reads = records.saturating_mul(servers + 1);
    let ms = Duration::from_millis;
    vec![
        ("start", ms(START_MS + START_EACH_MS * servers)),
        ("load", ms(records.saturating_mul(1_000) / LOAD_PER_S)),
        ("warm up", ms(plan.phases.warmup_ms)),
        ("measure", ms(plan.phases.measure_ms)),
        ("drain", ms(plan.load.timeout_ms)),
        ("settle", ms(plan.phases.settle_ms)),
        ("final reads", ms(reads.saturating_mul(1_000) / FINAL_PER_S)),
        ("stop", ms(STOP_MS)),
        ("check and report", ms(REPORT_MS)),
    ]
}

/// The sum of [`parts`]: a run that settles quickly takes less.
#[must_use]
pub fn longest(plan: &Plan) -> Duration {
    parts(plan).into_iter().map(|(_, duration)| duration).sum()
}
