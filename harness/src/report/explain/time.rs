//! Where did time go? Outcomes, latencies from the intended start, what of them was waiting to be
//! sent, the slowest kind of operation, the longest silence, how old local reads were.

use super::super::{ClassSummary, GapSummary, Summary, words};
use super::told;

/// From this share of a slow operation's time on, most of it was waiting to be sent.
const WAITING_MOST: f64 = 0.5;
/// Up to this share it was hardly any.
const WAITING_HARDLY: f64 = 0.1;

pub(super) fn sentences(summary: &Summary) -> Vec<String> {
    let counts = &summary.counts;
    if counts.total() == 0 {
        return vec!["No operation was measured.".to_owned()];
    }
    let mut said = vec![format!(
        "Of {} operations {} were acknowledged, which is {}; {} definitely did not happen, and of \
         {} the clients never learnt.",
        words::count(counts.total()),
        words::share(counts.ok, counts.total()),
        words::rate(summary.achieved_rate),
        words::count(counts.failed),
        words::count(counts.unknown),
    )];
    said.extend(latencies(&summary.all));
    said.extend(waiting(&summary.all));
    said.extend(classes(&summary.classes));
    said.extend(silence(summary.gap, "No operation at all was acknowledged"));
    said.extend(summary.gap_writes.and_then(|gap| silence(gap, "No write was acknowledged")));
    said.extend(codes(summary));
    said.extend(summary.staleness.iter().filter(|found| found.stale > 0).map(|found| {
        format!(
            "Of {} local reads at {}, {} saw what was no longer the newest: at p99 it had been \
             replaced {} before, at worst {}.",
            words::count(found.reads),
            found.role,
            words::count(found.stale),
            words::seconds(found.p99_s),
            words::seconds(found.max_s),
        )
    }));
    said
}

fn latencies(all: &ClassSummary) -> Option<String> {
    let found = &all.response_ok;
    let (p50, p99, max) = (found.p50?, found.p99?, found.max?);
    Some(format!(
        "From the moment at which an acknowledged one should have started, half took up to {}, 99 \
         of 100 up to {}, the slowest {}.",
        told(p50),
        told(p99),
        told(max)
    ))
}

/// Whether the slow ones waited for the servers, or to be sent.
fn waiting(all: &ClassSummary) -> Option<String> {
    let (response, delay) = (all.response_ok.p99?, all.start_delay.p99?);
    let service = all.service_ok.p99?;
    let share = delay.micros / response.micros;
    let (service, delay) = (told(service), told(delay));
    Some(if share >= WAITING_MOST {
        format!(
            "Much of that was waiting to be sent, behind operations before it: at p99 {delay}, \
             against {service} from sending to the answer."
        )
    } else if share > WAITING_HARDLY {
        format!(
            "Both sides have a part in that: at p99 {service} from sending to the answer, and \
             {delay} until it was sent."
        )
    } else {
        format!(
            "That is the servers' time: from sending to the answer p99 is {service}, and until it \
             was sent {delay}."
        )
    })
}

/// The slowest and the fastest kind of operation.
fn classes(classes: &[ClassSummary]) -> Option<String> {
    let by_p99 = || classes.iter().filter_map(|class| Some((class, class.response_ok.p99?)));
    let order = |a: &(_, crate::figures::Bound), b: &(_, crate::figures::Bound)| {
        a.1.micros.total_cmp(&b.1.micros)
    };
    let (slow, slowest) = by_p99().max_by(order)?;
    let (fast, fastest) = by_p99().min_by(order)?;
    let (slowest, fastest) = (told(slowest), told(fastest));
    let (slow, fast) = (&slow.name, &fast.name);
    (slowest != fastest).then(|| {
        format!(
            "The slowest kind at p99 is `{slow}` with {slowest}, the fastest `{fast}` with \
             {fastest}."
        )
    })
}

fn silence(gap: GapSummary, what: &str) -> Option<String> {
    (gap.length_s > 0.0).then(|| {
        let open = if gap.open { "at least " } else { "" };
        let (length, from) = (words::seconds(gap.length_s), words::seconds(gap.from_s));
        format!("{what} for {open}{length} from {from} of the measured time on, the longest time.")
    })
}

/// What most of the operations that were not acknowledged came to.
fn codes(summary: &Summary) -> Option<String> {
    let (code, count) = summary.codes.iter().max_by_key(|(_, count)| **count)?;
    let all = summary.counts.failed + summary.counts.unknown;
    let (count, all) = (words::count(*count), words::count(all));
    Some(format!("Of the {all} not acknowledged {count} ended as `{code}`."))
}
