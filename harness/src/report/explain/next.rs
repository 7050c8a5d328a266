//! What to run next? One command a sentence, the most urgent first.

use quorate_check::verdict::Verdict;

use super::super::{Measurement, Summary};
use crate::folder::SoundnessFinding;
use crate::plan::{LoadMode, Plan};

/// Acknowledged operations from which p99 of all kinds together is worth its name.
const SAMPLES_MIN: u64 = 1000;
/// In the command that repeats a run of a shipped workload: its scenarios are there, too.
const SHIPPED: &str = " workloads/";

pub(super) fn sentences(plan: &Plan, summary: &Summary, folder: &str) -> Vec<String> {
    let again = |option: &str| format!("{} {option}", summary.repeat);
    let repeats = !summary.repeat.is_empty();
    let mut told = Vec::new();
    if summary.safety.verdict != Verdict::Valid || !summary.safety.as_expected {
        let what = if summary.safety.checkers.is_empty() {
            "To have what there is of the history judged"
        } else {
            "What the checkers saw, each with its smallest example"
        };
        told.push(format!("{what}: `quorate check {folder}`."));
    }
    if repeats && summary.safety.verdict == Verdict::Violated && is_below_majority(summary) {
        let with = again("--set topology.write_quorum=majority");
        told.push(format!(
            "Whether a majority as write quorum keeps it: `{with} --set expect={{}}`."
        ));
    }
    if let (true, false, LoadMode::Open { rate, .. }) =
        (repeats, summary.measurement.sound, plan.load.mode)
        && is_saturated(&summary.measurement)
    {
        let with = again(&format!("--set load.rate={}", (rate / 2.0).max(1.0).round()));
        told.push(format!("At a rate that the load generator can keep up with: `{with}`."));
    }
    let acknowledged = summary.all.response_ok.count;
    if repeats && acknowledged > 0 && acknowledged < SAMPLES_MIN {
        let longer = SAMPLES_MIN.div_ceil(acknowledged) * plan.phases.measure_ms.div_ceil(1000);
        let with = again(&format!("--set phases.measure={longer}s"));
        told.push(format!("For as many operations as p99 needs: `{with}`."));
    }
    if repeats && summary.simulated {
        let with = summary.repeat.replace("--stage sim", "--stage process");
        told.push(format!("With real servers, which can fail, too: `{with}`."));
    } else if told.is_empty() && summary.repeat.contains(SHIPPED) && may_be_cut(plan) {
        let with = again("--scenario chaos/partition-silent.yaml");
        told.push(format!("What the same servers do when one is cut off: `{with}`."));
    }
    if repeats && told.is_empty() {
        told.push(format!("The same again, to see how far runs lie apart: `{}`.", summary.repeat));
    }
    told.push(format!("Beside another run: `quorate compare {folder} OTHER`."));
    told
}

/// True if nothing failed yet and a cut would leave something to look at.
fn may_be_cut(plan: &Plan) -> bool {
    plan.faults.is_empty() && plan.topology.proxied && plan.topology.masters.len() > 2
}

fn is_saturated(measurement: &Measurement) -> bool {
    let begins = |reason: &String| reason.starts_with(SoundnessFinding::DRIVER_SATURATED);
    measurement.reasons.iter().any(begins)
}

/// True if two sides of a cut could both acknowledge.
fn is_below_majority(summary: &Summary) -> bool {
    let quorum: Option<usize> = summary.write_quorum.parse().ok();
    quorum.is_some_and(|quorum| quorum * 2 <= summary.masters)
}
