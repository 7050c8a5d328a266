//! What did faults cost? Each by its name: whom it hit, when it was noticed, how long nothing was
//! served, when all was well again.

use super::super::{FaultSummary, InterruptionSummary, Summary, words};
use crate::plan::Plan;

/// So many faults are told one by one; of more, those that cost most.
const TOLD_MAX: usize = 6;

pub(super) fn sentences(plan: &Plan, summary: &Summary) -> Vec<String> {
    if plan.faults.is_empty() {
        return vec![
            "None was planned: this is how the servers are when nothing fails.".to_owned(),
        ];
    }
    let (planned, came) = (plan.faults.len(), summary.faults.len());
    let mut told = Vec::new();
    if came < planned {
        told.push(format!("{planned} were planned, and {came} came about."));
    }
    let mut faults: Vec<&FaultSummary> = summary.faults.iter().collect();
    if faults.len() > TOLD_MAX {
        let cost = |fault: &FaultSummary| fault.unavailable_s.unwrap_or(0.0);
        faults.sort_by(|a, b| cost(b).total_cmp(&cost(a)));
        told.push(format!("Of {came} faults, these {TOLD_MAX} cost most."));
        faults.truncate(TOLD_MAX);
    }
    told.extend(faults.into_iter().map(fault));
    told.extend(summary.interruptions.iter().map(interruption));
    told
}

/// How long writers stood still although there was a majority.
fn interruption(found: &InterruptionSummary) -> String {
    let open = if found.longest.open { "at least " } else { "" };
    let longest = format!("{open}{}", words::seconds(found.longest.length_s));
    let head = format!("With a majority left, writes were interrupted by `{}`", found.requested);
    match found.times {
        1 => format!("{head} once, for {longest} at most."),
        many => format!(
            "{head} {many} times: half of the times for {} at most, at worst for {longest} ({}).",
            words::seconds(found.median_s),
            found.longest_of,
        ),
    }
}

/// One fault, from its effect to its end.
fn fault(fault: &FaultSummary) -> String {
    let hit = match fault.resolved.as_slice() {
        [] => "nobody".to_owned(),
        hit => hit.join(", "),
    };
    let healed = fault.healed_s.map_or("it was not healed".to_owned(), |healed| {
        format!("it was healed {} later", words::seconds(healed - fault.effect_s))
    });
    let mut told = format!(
        "`{}` ({}) hit {hit} at {} of the measured time; {healed}.",
        fault.name,
        fault.requested,
        words::seconds(fault.effect_s)
    );
    match fault.first_failure_s {
        None => told.push_str(" No operation failed for it."),
        Some(after) => {
            let after = words::seconds(after);
            told.push_str(&format!(" The first client noticed after {after}."));
        }
    }
    told.push_str(&unavailable(fault));
    told.push_str(&recovered(fault));
    told.push_str(&converged(fault));
    if !fault.overlaps.is_empty() {
        let others = fault.overlaps.join(", ");
        told.push_str(&format!(" It overlaps {others}, so the cost is of both together."));
    }
    told
}

fn unavailable(fault: &FaultSummary) -> String {
    match fault.unavailable_s {
        None => String::new(),
        Some(0.0) => " No kind of operation became unavailable at any server.".to_owned(),
        Some(seconds) => {
            let open = if fault.unavailable_open { "at least " } else { "" };
            let series = fault.series.iter().filter(|series| series.unavailable_s > 0.0);
            let worst = series.max_by(|a, b| a.unavailable_s.total_cmp(&b.unavailable_s));
            let worst = worst.map_or(String::new(), |worst| {
                format!(
                    ", longest `{}` at {} with {}",
                    worst.class,
                    worst.node,
                    words::seconds(worst.unavailable_s)
                )
            });
            let seconds = words::seconds(seconds);
            format!(" Something was unavailable for {open}{seconds}{worst}.")
        }
    }
}

/// When the last group of clients was served well again.
fn recovered(fault: &FaultSummary) -> String {
    let waits = fault.groups.iter().filter_map(|group| {
        let seconds = group.recovery_s?;
        Some((seconds, group.recovery_at_least))
    });
    match waits.max_by(|a, b| a.0.total_cmp(&b.0)) {
        None => String::new(),
        Some((seconds, true)) => format!(
            " Service was not good again for at least {} after the heal.",
            words::seconds(seconds)
        ),
        Some((seconds, false)) => {
            format!(" Service was good again {} after the heal.", words::seconds(seconds))
        }
    }
}

/// When local reads lacked nothing any more.
fn converged(fault: &FaultSummary) -> String {
    let found = &fault.convergence;
    let (Some(seconds), "after" | "not_within") = (found.seconds, found.state.as_str()) else {
        return String::new();
    };
    let seconds = words::seconds(seconds);
    match found.state.as_str() {
        "after" => format!(" All servers had caught up {seconds} after the heal."),
        _ => format!(" Not all servers had caught up {seconds} after the heal."),
    }
}
