//! Figures per operation class: counts by outcome and code, response, service and start delay.
//! Responses of acknowledged, refused and unanswered operations are never mixed unnamed.

use std::collections::{BTreeMap, BTreeSet};

use quorate_check::history::{OpKind, Operation, Outcome, ReadLevel};
use serde::{Deserialize, Serialize};

use super::{Bound, Counts, Distribution, Input, code_of};

/// Quantiles of one kind of duration. `None` where there was no operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// Number of durations.
    pub count: u64,
    /// Median.
    pub p50: Option<Bound>,
    /// 90 %.
    pub p90: Option<Bound>,
    /// 99 %.
    pub p99: Option<Bound>,
    /// 99.9 %.
    pub p999: Option<Bound>,
    /// The longest.
    pub max: Option<Bound>,
}

impl From<&Distribution> for Latencies {
    fn from(from: &Distribution) -> Self {
        Self {
            count: from.count(),
            p50: from.quantile(0.5),
            p90: from.quantile(0.9),
            p99: from.quantile(0.99),
            p999: from.quantile(0.999),
            max: from.max(),
        }
    }
}

/// Figures of one operation class in the measure phase.
#[derive(Debug, Clone)]
pub struct ClassFigures {
    /// `read (majority)`, `update`, …; `all` for all together.
    pub name: String,
    /// By outcome.
    pub counts: Counts,
    /// Not-ok operations by code.
    pub codes: BTreeMap<String, u64>,
    /// done − intended of acknowledged operations.
    pub response_ok: Distribution,
    /// done − intended of definite failures: how long a user waits for a "no".
    pub response_failed: Distribution,
    /// Time waited from the intended start with no definite answer; every one a lower bound.
    pub response_unknown: Distribution,
    /// Acknowledged and unanswered together, the latter as lower bounds: what users waited for
    /// success.
    pub response_waiting: Distribution,
    /// done − sent of acknowledged operations.
    pub service_ok: Distribution,
    /// sent − intended of all operations: how late the client itself was.
    pub start_delay: Distribution,
}

/// The operation class that `op` counts under.
#[must_use]
pub fn class_of(op: &Operation) -> &'static str {
    match (op.kind, op.level) {
        (OpKind::Read, Some(ReadLevel::Majority)) => "read (majority)",
        (OpKind::Read, Some(ReadLevel::Local)) => "read (local)",
        (OpKind::Read, None) => "read",
        (OpKind::Create, _) => "create",
        (OpKind::Update, _) => "update",
        (OpKind::Delete, _) => "delete",
        (OpKind::Transaction, _) => "transaction",
    }
}

/// True if `op` may change data.
pub(super) fn is_write(op: &Operation) -> bool {
    match op.kind {
        OpKind::Create | OpKind::Update | OpKind::Delete | OpKind::Transaction => true,
        OpKind::Read => false,
    }
}

/// One entry a class that occurs in the measure phase, by name.
pub(super) fn classes(input: &Input<'_>) -> Vec<ClassFigures> {
    let names: BTreeSet<&str> = input.measured().map(class_of).collect();
    names.into_iter().map(|name| class_figures(input, name, |op| class_of(op) == name)).collect()
}

/// Figures of the measured operations that `wanted` accepts.
#[must_use]
pub fn class_figures(
    input: &Input<'_>,
    name: &str,
    wanted: impl Fn(&Operation) -> bool,
) -> ClassFigures {
    let mut figures = ClassFigures {
        name: name.to_owned(),
        counts: Counts::default(),
        codes: BTreeMap::new(),
        response_ok: Distribution::default(),
        response_failed: Distribution::default(),
        response_unknown: Distribution::default(),
        response_waiting: Distribution::default(),
        service_ok: Distribution::default(),
        start_delay: Distribution::default(),
    };
    for op in input.measured().filter(|op| wanted(op)) {
        let response = input.response(op);
        figures.counts.add(op.outcome);
        figures.start_delay.add(op.sent.saturating_sub(op.intended));
        match op.outcome {
            Outcome::Ok => {
                figures.response_ok.add(response);
                figures.response_waiting.add(response);
                figures.service_ok.add(input.answered(op).saturating_sub(op.sent));
            }
            Outcome::Failed => figures.response_failed.add(response),
            Outcome::Unknown => {
                figures.response_unknown.add_censored(response);
                figures.response_waiting.add_censored(response);
            }
        }
        if op.outcome != Outcome::Ok {
            *figures.codes.entry(code_of(op)).or_insert(0) += 1;
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::sample::{MS, Sample, fail};

    fn exact(micros: f64) -> Option<Bound> {
        Some(Bound { micros, at_least: false })
    }

    #[test]
    fn response_counts_from_the_intended_start_and_service_from_sending() {
        let mut sample = Sample::new(1000);
        for n in 1..=10 {
            // Sent n ms late, served in 2 ms.
            let op = sample.read(0, 100, n * 1000 + 2000);
            op.sent = op.intended + n * MS;
        }
        let all = class_figures(&sample.input(), "all", |_| true);
        assert_eq!(all.counts, Counts { ok: 10, failed: 0, unknown: 0 });
        assert_eq!(all.response_ok.quantile(0.5), Some(bound(&all, 7000)));
        assert_eq!(all.service_ok.max(), exact(2000.0));
        assert_eq!(all.start_delay.max(), exact(10_000.0));
        assert_eq!(all.response_ok.max(), exact(12_000.0));
    }

    /// 7000 µs within three digits, as the histogram rounds it up.
    fn bound(all: &ClassFigures, micros: u64) -> Bound {
        let found = all.response_ok.quantile(0.5).unwrap();
        assert!((found.micros - micros as f64).abs() <= micros as f64 / 1000.0, "{found:?}");
        found
    }

    #[test]
    fn outcomes_have_their_own_distributions() {
        let mut sample = Sample::new(1000);
        for n in 0..8 {
            sample.read(0, n, 500);
        }
        fail(sample.update(1, 10, 300), Outcome::Failed, "no_quorum");
        let lost = sample.update(1, 20, 0);
        fail(lost, Outcome::Unknown, "client_timeout");
        lost.done = None;
        let input = sample.input();
        let classes = classes(&input);
        let names: Vec<&str> = classes.iter().map(|class| class.name.as_str()).collect();
        assert_eq!(names, ["read (majority)", "update"]);
        let update = &classes[1];
        assert_eq!(update.counts, Counts { ok: 0, failed: 1, unknown: 1 });
        assert_eq!(update.codes["no_quorum"], 1);
        assert_eq!(update.response_failed.max(), exact(300.0));
        // Given up after the client's time-out of 1 s.
        let longest = update.response_unknown.max().unwrap();
        assert_eq!(longest, Bound { micros: 1_000_000.0, at_least: true });
        assert_eq!(update.response_ok.quantile(0.5), None);
        let all = class_figures(&input, "all", |_| true);
        assert_eq!(Latencies::from(&all.response_waiting).count, 9);
        assert_eq!(all.response_waiting.quantile(0.5), exact(500.0));
        assert!(all.response_waiting.quantile(0.99).unwrap().at_least);
        assert_eq!(all.response_ok.quantile(0.99), exact(500.0));
    }

    #[test]
    fn a_pending_operation_is_waited_for_until_the_end_of_the_run() {
        let mut sample = Sample::new(5000);
        let pending = sample.update(0, 1000, 0);
        pending.done = None;
        pending.outcome = Outcome::Unknown;
        let all = class_figures(&sample.input(), "all", |_| true);
        assert_eq!(all.codes["pending"], 1);
        let longest = all.response_unknown.max().unwrap();
        assert_eq!(longest, Bound { micros: 4_000_000.0, at_least: true });
    }

    /// HARNESS.md 4.1: with an outage of P in T seconds at a constant rate, the q-quantile of the
    /// response is P − (1 − q)·T.
    #[test]
    fn a_known_outage_is_measured() {
        let mut sample = Sample::new(30_000);
        for at in 0..30_000 {
            // Stopped from 10 s for 1.4 s: everything intended then is done when it goes on.
            let until_open = if (10_000..11_400).contains(&at) { 11_400 - at } else { 0 };
            sample.read((at % 3) as u32, at, until_open * 1000 + 400);
        }
        let all = class_figures(&sample.input(), "all", |_| true);
        let p99 = all.response_ok.quantile(0.99).unwrap();
        assert!((p99.micros / 1e6 - 1.1).abs() < 0.033, "{p99:?}");
        let figures = crate::figures::figures(&sample.input());
        // Last success before: sent at 9 999 ms; first after: at 11 400 ms.
        assert_eq!(figures.gap.length(), 1_401 * MS);
    }
}
