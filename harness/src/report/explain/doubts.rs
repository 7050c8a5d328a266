//! What should a reader doubt? Why figures are unsound, what hides in few samples and coarse
//! looks, and what one run cannot say.

use super::super::{Summary, words};
use crate::plan::{LoadMode, Plan};

/// So many operations must lie beyond a quantile for it to be worth its name.
const BEYOND_MIN: u64 = 10;
/// Below this share of what was asked, the servers or the driver did not keep up.
const KEPT_UP: f64 = 0.98;

pub(super) fn sentences(plan: &Plan, summary: &Summary) -> Vec<String> {
    let mut told: Vec<String> = summary.measurement.reasons.iter().map(|r| reason(r)).collect();
    told.extend(load(plan, summary));
    told.extend(samples(summary));
    told.extend(resolution(summary));
    if summary.simulated {
        let what = "The figures are of a simulation: they compare with other simulated runs alone.";
        told.push(what.to_owned());
    }
    if !summary.missing.is_empty() {
        let missing = summary.missing.join("; ");
        told.push(format!("The run folder is incomplete: {missing}."));
    }
    told.push(
        "It is one run. Another of the same programs would differ by chance, and one run does not \
         say by how much."
            .to_owned(),
    );
    told
}

fn reason(reason: &str) -> String {
    let what = match reason.split_once(": ") {
        Some(("driver_saturated", detail)) => {
            return format!(
                "The load generator was too slow, so the latencies are its own in part: {detail}."
            );
        }
        Some(("fault_without_effect", detail)) => {
            return format!("A fault did not bite: {detail}. Nothing here shows what it does.");
        }
        Some(("disk_does_not_sync", detail)) => {
            return format!("The disk does not keep what it acknowledges: {detail}.");
        }
        Some(("interrupted", detail)) => detail,
        Some(_) | None => reason,
    };
    format!("The figures cannot be trusted: {}.", what.trim_end_matches('.'))
}

fn load(plan: &Plan, summary: &Summary) -> Vec<String> {
    let mut told = Vec::new();
    match (plan.load.mode, summary.asked_rate) {
        (LoadMode::Closed, _) => told.push(
            "Clients waited for each answer, so a slow server was asked less: latencies here are \
             lower than those of users who come when they like."
                .to_owned(),
        ),
        (LoadMode::Open { .. }, Some(asked)) if summary.offered_rate < KEPT_UP * asked => {
            told.push(format!(
                "{} were asked for and {} were started: the load was less than the workload says.",
                words::rate(asked),
                words::rate(summary.offered_rate)
            ));
        }
        (LoadMode::Open { .. }, _) => {}
    }
    if let Some(driver) = summary.driver.as_ref().filter(|driver| driver.capped_ms > 0) {
        told.push(format!(
            "Up to {} operations waited for a free place at the load generator, for {} in all: \
             more would have been on their way at once.",
            words::count(driver.backlog_max),
            words::seconds(driver.capped_ms as f64 / 1e3)
        ));
    }
    told
}

/// Quantiles that rest on too few operations.
fn samples(summary: &Summary) -> Vec<String> {
    let mut told = Vec::new();
    let few = |count: u64, of: u64| count / of < BEYOND_MIN;
    let all = summary.all.response_ok.count;
    if all == 0 {
        return vec!["Nothing was acknowledged, so there is no latency.".to_owned()];
    }
    if few(all, 100) {
        told.push(format!(
            "With {} acknowledged operations p99 rests on {}.",
            words::count(all),
            slowest(all / 100)
        ));
    }
    let classes = summary.classes.iter().filter(|class| few(class.response_ok.count, 100));
    let classes: Vec<String> = classes
        .filter(|class| class.response_ok.count > 0)
        .map(|class| format!("`{}` ({})", class.name, words::count(class.response_ok.count)))
        .collect();
    if !classes.is_empty() {
        told.push(format!(
            "Few were acknowledged of {}: p99 of a kind needs {} to be worth its name.",
            classes.join(", "),
            words::count(100 * BEYOND_MIN)
        ));
    } else if few(all, 1000) {
        told.push(format!("p99.9 rests on {}.", slowest(all / 1000)));
    }
    if summary.all.response_ok.p99.is_some_and(|p99| p99.at_least) {
        let what = "p99 is a lower bound: clients gave up before the servers answered.";
        told.push(what.to_owned());
    }
    told
}

fn slowest(count: u64) -> String {
    match count {
        0 | 1 => "the slowest alone".to_owned(),
        count => format!("the slowest {count}"),
    }
}

/// What is too short to be seen under faults.
fn resolution(summary: &Summary) -> Option<String> {
    let series = summary.faults.iter().flat_map(|fault| &fault.series);
    let seen = series.filter_map(|series| Some((series, series.resolution_s?)));
    let (series, seconds) = seen.max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(format!(
        "Operations are the only eyes: of `{}` at {} up to {} passed between two of them under a \
         fault, and what was shorter than that could not be seen there.",
        series.class,
        series.node,
        words::seconds(seconds)
    ))
}
