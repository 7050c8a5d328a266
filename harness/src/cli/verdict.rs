//! The verdicts of a run in words, and the exit code that they amount to.
//! May not judge: that was done when these functions are called.

use quorate_check::verdict::Verdict;
use serde_json::{Value, json};

use super::Exit;
use crate::report::{InterruptionSummary, StalenessSummary, Summary};
use crate::run::Ended;
use crate::run::judge::Judged;

/// The exit code of a judged run.
pub(super) fn exit(judged: &Judged) -> Exit {
    let availability = &judged.availability;
    match judged.comparison.verdict.merge(match availability.verdict {
        Verdict::Violated => Verdict::Violated,
        // Nothing definite was expected, or all of it kept.
        Verdict::Valid | Verdict::Unknown if availability.broken.is_empty() => Verdict::Valid,
        Verdict::Valid | Verdict::Unknown => Verdict::Unknown,
    }) {
        Verdict::Violated => Exit::Violation,
        Verdict::Unknown => Exit::Inconclusive,
        Verdict::Valid if judged.unsound().next().is_some() => Exit::Inconclusive,
        Verdict::Valid => Exit::Good,
    }
}

/// The exit code of a run, however it ended.
pub(super) fn exit_of(ended: &Ended) -> Exit {
    let judged = ended.judged.as_ref().map_or(Exit::Inconclusive, exit);
    let whole = if ended.error.is_some() { Exit::Harness } else { Exit::Good };
    judged.merge(whole)
}

/// One row a checker: name, verdict, remark.
pub(super) fn rows(judged: &Judged) -> Vec<Vec<String>> {
    let rows = judged.report.judgements.iter().map(|judgement| {
        let mismatch = judged.comparison.mismatches.iter().find(|m| m.checker == judgement.checker);
        let remark = match mismatch {
            Some(mismatch) => format!("expected {}: {}", mismatch.expected, judgement.explanation),
            None if judgement.verdict == Verdict::Valid => judgement.explanation.clone(),
            None => format!("as expected: {}", judgement.explanation),
        };
        vec![judgement.checker.to_string(), judgement.verdict.to_string(), remark]
    });
    rows.collect()
}

/// What was expected of availability, and what of it was broken, a line each.
pub(super) fn availability(judged: &Judged) -> Vec<String> {
    let found = &judged.availability;
    let expected = &found.expected;
    let head = format!(
        "availability: {}: {} operations had to be served, {} had to be refused, {} could not be \
         acknowledged, {} might do either",
        found.verdict, expected.served, expected.refused, expected.impossible, expected.either
    );
    let doubt = found.doubt.as_ref().filter(|_| !found.broken.is_empty());
    let doubt = doubt.map(|doubt| format!("may be the machine's doing: {doubt}"));
    let stalls = found.stalls.iter().map(|stall| {
        let (from, length) = (crate::figures::seconds(stall.window.from), stall.window.seconds());
        format!(
            "nothing was expected while the disk of {} stood still: {length:.1} s from {from:.3} s \
             of the history on",
            stall.node
        )
    });
    std::iter::once(head)
        .chain(stalls)
        .chain(found.broken.iter().map(ToString::to_string))
        .chain(doubt)
        .collect()
}

/// The most telling figures.
pub(super) fn figures(summary: &Summary) -> Vec<Vec<String>> {
    let rate = match summary.asked_rate {
        Some(asked) => format!("{:.0}/s acknowledged, {asked:.0}/s asked", summary.achieved_rate),
        None => format!("{:.0}/s acknowledged", summary.achieved_rate),
    };
    let p99 = summary.p99().map_or("no figure".to_owned(), |bound| {
        let sign = if bound.at_least { "≥ " } else { "" };
        format!("{sign}{:.1} ms", bound.micros / 1e3)
    });
    let counts = &summary.counts;
    let outcomes =
        format!("{} ok, {} failed, {} unknown", counts.ok, counts.failed, counts.unknown);
    let gap = format!("{:.0} ms", summary.gap.length_s * 1e3);
    let rows = [
        ("throughput", rate),
        ("latency p99", p99),
        ("outcomes", outcomes),
        ("longest time without success", gap),
    ]
    .map(|(key, value)| vec![key.to_owned(), value]);
    let ages = summary.staleness.iter().map(staleness);
    rows.into_iter().chain(ages).chain(summary.interruptions.iter().map(interruption)).collect()
}

/// How long writers that had a majority were interrupted by faults of one kind.
fn interruption(found: &InterruptionSummary) -> Vec<String> {
    let ms = |seconds: f64| format!("{:.0} ms", seconds * 1e3);
    let open = if found.longest.open { "≥ " } else { "" };
    let (median, longest) = (ms(found.median_s), ms(found.longest.length_s));
    let worst = &found.longest_of;
    let resolution = found.resolution_s.map_or("none".to_owned(), ms);
    vec![
        format!("writes interrupted by {}", found.requested),
        format!(
            "{} times: median {median}, longest {open}{longest} ({worst}); resolution {resolution}",
            found.times
        ),
    ]
}

/// How old local reads were at the servers of one role.
fn staleness(found: &StalenessSummary) -> Vec<String> {
    let StalenessSummary { role, reads, stale, p99_s, max_s } = found;
    vec![
        format!("local reads at {role}"),
        format!(
            "{stale} of {reads} stale; age p99 {:.1} ms, oldest {:.0} ms",
            p99_s * 1e3,
            max_s * 1e3
        ),
    ]
}

/// Why a run is not good, in a few words; empty when it is.
pub(super) fn reasons(ended: &Ended) -> String {
    let mut reasons = Vec::new();
    if let Some(judged) = &ended.judged {
        reasons.extend(judged.comparison.mismatches.iter().map(ToString::to_string));
        reasons.extend(judged.availability.broken.iter().map(ToString::to_string));
    }
    if let Some(error) = &ended.error {
        reasons.push(format!("the harness failed: {}", first_line(&error.to_string())));
    } else if ended.interrupted {
        reasons.push("stopped by the user before its end".to_owned());
    } else if let Some(judged) = &ended.judged {
        let unsound = judged.unsound();
        reasons.extend(unsound.map(|finding| format!("{}: {}", finding.code, finding.detail)));
    }
    reasons.join("; ")
}

/// The one line that ends a run: how it went, where the report is, how to repeat it.
pub(super) fn last_line(name: &str, ended: &Ended) -> String {
    let report = ended.folder.report();
    let place = if report.exists() { report } else { ended.folder.root().to_owned() };
    let place = place.display();
    let word = match exit_of(ended) {
        Exit::Good => return format!("ok: {name}; report: {place}"),
        Exit::Violation => "FAILED",
        Exit::Inconclusive => "INCONCLUSIVE",
        Exit::BadSpec | Exit::Harness => "ERROR",
    };
    format!("{word}: {name}: {}; report: {place}; repeat: {}", reasons(ended), ended.repeat)
}

/// The outcome for programs.
pub(super) fn json(name: &str, ended: &Ended) -> Value {
    let judged = ended.judged.as_ref();
    json!({
        "name": name,
        "exit": exit_of(ended).code(),
        "folder": ended.folder.root(),
        "report": ended.folder.report(),
        "repeat": ended.repeat,
        "interrupted": ended.interrupted,
        "error": ended.error.as_ref().map(ToString::to_string),
        "safety": judged.map(|judged| &judged.report),
        "as_expected": judged.map(|judged| &judged.comparison),
        "availability": judged.map(|judged| &judged.availability),
        "measurement": judged.map(|judged| &judged.findings),
        "summary": ended.summary,
    })
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
