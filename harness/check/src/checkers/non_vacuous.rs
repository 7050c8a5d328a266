//! A run in which some kind of operation never succeeded proves nothing about it: valid only if
//! each did (STYLE.md part 1, habit 22; Jepsen's `stats` checker). Says unknown, never violated:
//! whether something *should* have succeeded is not for a safety checker to judge.

use std::collections::BTreeMap;

use super::Checker;
use crate::budget::{Budget, OutOfBudget};
use crate::history::{Action, OpKind, Operation, Outcome, Phase, ReadLevel};
use crate::index::Index;
use crate::verdict::{Counts, Judgement};

/// Each kind and level must have succeeded: in the measured phase if it was tried there, otherwise
/// anywhere. At least one majority read and one write must have succeeded at all.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    let operations = &index.history.operations;
    budget.spend(operations.len())?;
    let mut counts = Counts::of(&["ok", "failed", "unknown"]);
    let mut tried: BTreeMap<(OpKind, Option<ReadLevel>), Tried> = BTreeMap::new();
    let (mut majority_reads, mut writes) = (false, false);
    for operation in operations {
        counts.add(match operation.outcome {
            Outcome::Ok => "ok",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
        });
        let tried = tried.entry((operation.kind, operation.level)).or_default();
        tried.add(operation);
        let has = |wanted: fn(&Action) -> bool| {
            operation.is_ok() && operation.steps.iter().any(|step| wanted(&step.action))
        };
        writes |= has(|action| !matches!(action, Action::Read(_)));
        majority_reads |= operation.level == Some(ReadLevel::Majority)
            && has(|action| matches!(action, Action::Read(Some(_))));
    }
    let mut reasons: Vec<String> = tried
        .iter()
        .filter(|(_, tried)| !tried.succeeded())
        .map(|(&(kind, level), tried)| tried.told(kind, level))
        .collect();
    let measured = |operation: &Operation| operation.phase == Phase::Measure;
    for (missing, reason) in [
        (!operations.iter().any(measured), "nothing was measured"),
        (!majority_reads, "no majority read succeeded"),
        (!writes, "no write succeeded"),
    ] {
        if missing {
            reasons.push(reason.to_owned());
        }
    }
    if reasons.is_empty() {
        let said = format!("all {} kinds of operation succeeded", tried.len());
        return Ok(Judgement::valid(Checker::NonVacuous, counts, said));
    }
    Ok(Judgement::unknown(Checker::NonVacuous, counts, reasons.join("; ")))
}

/// How often one kind of operation was tried, and succeeded.
#[derive(Debug, Default)]
struct Tried {
    anywhere: u64,
    anywhere_ok: u64,
    measured: u64,
    measured_ok: u64,
}

impl Tried {
    fn add(&mut self, operation: &Operation) {
        let (measured, ok) = (operation.phase == Phase::Measure, operation.is_ok());
        self.anywhere += 1;
        self.anywhere_ok += u64::from(ok);
        self.measured += u64::from(measured);
        self.measured_ok += u64::from(measured && ok);
    }

    fn succeeded(&self) -> bool {
        if self.measured > 0 { self.measured_ok > 0 } else { self.anywhere_ok > 0 }
    }

    fn told(&self, kind: OpKind, level: Option<ReadLevel>) -> String {
        let level = match level {
            Some(ReadLevel::Local) => "local ",
            Some(ReadLevel::Majority) => "majority ",
            None => "",
        };
        let kind = match kind {
            OpKind::Create => "create",
            OpKind::Read => "read",
            OpKind::Update => "update",
            OpKind::Delete => "delete",
            OpKind::Transaction => "transaction",
        };
        if self.measured > 0 {
            format!("none of {} {level}{kind} operations succeeded while measured", self.measured)
        } else {
            format!("none of {} {level}{kind} operations succeeded", self.anywhere)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Seen;
    use crate::sample::Sample;
    use crate::verdict::Verdict::{Unknown, Valid};

    fn sample() -> Sample {
        let mut sample = Sample::new();
        let value = sample.create(0).phase(Phase::Load).ok(1, 2);
        sample.read(0, value).ok(3, 4);
        sample
    }

    fn said(sample: &Sample) -> String {
        let judgement = sample.judge(Checker::NonVacuous);
        assert_eq!(judgement.verdict, Unknown);
        judgement.explanation
    }

    #[test]
    fn every_kind_succeeded() {
        assert_eq!(sample().judge(Checker::NonVacuous).verdict, Valid);
    }

    #[test]
    fn a_kind_that_never_succeeded_is_unknown() {
        let mut sample = sample();
        sample.write(0).failed(5, 6);
        sample.write(0).unknown(7);
        assert_eq!(said(&sample), "none of 2 update operations succeeded while measured");
    }

    #[test]
    fn a_success_outside_the_measured_phase_does_not_count() {
        let mut sample = sample();
        sample.write(0).phase(Phase::Warmup).ok(5, 6);
        sample.write(0).failed(7, 8);
        assert_eq!(said(&sample), "none of 1 update operations succeeded while measured");
    }

    #[test]
    fn levels_count_apart() {
        let mut sample = sample();
        sample.local(0, 0, Seen::Value(1)).failed(5, 6);
        assert_eq!(said(&sample), "none of 1 local read operations succeeded while measured");
    }

    #[test]
    fn an_empty_history_is_unknown() {
        assert_eq!(
            said(&Sample::new()),
            "nothing was measured; no majority read succeeded; no write succeeded"
        );
    }
}
