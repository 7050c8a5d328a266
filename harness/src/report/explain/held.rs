//! Did everything hold? Safety by checker, and availability against quorum arithmetic.

use quorate_check::verdict::Verdict;

use super::super::{AvailabilitySummary, Summary, words};
use crate::plan::Plan;

pub(super) fn sentences(plan: &Plan, summary: &Summary) -> Vec<String> {
    let mut told = safety(plan, summary);
    match &summary.availability {
        Some(found) => told.extend(availability(found)),
        None => told.push("Nothing was looked at of availability.".to_owned()),
    }
    told
}

fn safety(plan: &Plan, summary: &Summary) -> Vec<String> {
    let checkers = &summary.safety.checkers;
    if checkers.is_empty() {
        return vec!["No checker judged the history: the run ended too early.".to_owned()];
    }
    let valid = checkers.values().filter(|found| **found == Verdict::Valid).count();
    let mut told = vec![match valid == checkers.len() {
        true => format!("All {valid} checkers found what they looked for kept."),
        false => format!("{valid} of {} checkers found what they looked for kept.", checkers.len()),
    }];
    for (name, found) in checkers {
        let expected = match plan.accepts(name, *found) {
            true => "which this experiment expects",
            false => "which it must not be",
        };
        let what = match found {
            Verdict::Valid if plan.accepts(name, Verdict::Valid) => continue,
            Verdict::Valid => {
                told.push(format!("`{name}` is kept, although a violation was to be shown."));
                continue;
            }
            Verdict::Violated => "broken",
            Verdict::Unknown => "undecided: there was too little to judge by",
        };
        told.push(format!("`{name}` is {what}, {expected}."));
    }
    let named = plan.expect.keys().filter(|name| !checkers.contains_key(*name));
    told.extend(named.map(|name| format!("`{name}` was to be judged and was not.")));
    let count = |records: u64| match records {
        1 => "1 record".to_owned(),
        records => format!("{} records", words::count(records)),
    };
    match summary.safety.records_lost {
        Some(0) => told.push("No acknowledged record was lost.".to_owned()),
        Some(lost) => {
            told.push(format!("Of what was acknowledged, {} lost.", was(count(lost), lost)))
        }
        None => {}
    }
    if let Some(apart @ 1..) = summary.safety.records_diverged {
        told.push(format!("At the end the servers differed on {}.", count(apart)));
    }
    told
}

fn was(what: String, number: u64) -> String {
    format!("{what} {}", if number == 1 { "was" } else { "were" })
}

fn availability(found: &AvailabilitySummary) -> Vec<String> {
    let expected = &found.expected;
    let mut told = Vec::new();
    let head = match found.verdict {
        Verdict::Valid => "Clients were served as quorum arithmetic says they must be",
        Verdict::Violated => "Clients were not served as quorum arithmetic says they must be",
        Verdict::Unknown => "Nothing certain can be said of whether clients were served",
    };
    told.push(format!(
        "{head}: {} operations had to be served, {} had to be refused, {} could not be \
         acknowledged, and {} might go either way.",
        words::count(expected.served),
        words::count(expected.refused),
        words::count(expected.impossible),
        words::count(expected.either),
    ));
    told.extend(found.broken.iter().map(|broken| {
        let what = match broken.count {
            1 => "1 operation was".to_owned(),
            many => format!("{} operations were", words::count(many)),
        };
        format!(
            "At {}, {what} ({}) {}, from {} of the measured time on.",
            broken.node,
            broken.class,
            broken.breach.sentence(),
            words::seconds(broken.from_s)
        )
    }));
    if let (Some(doubt), false) = (&found.doubt, found.broken.is_empty()) {
        told.push(format!("This may be the machine's doing: {doubt}."));
    }
    told
}
