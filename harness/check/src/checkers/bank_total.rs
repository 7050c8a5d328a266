//! Money is moved, never made: every snapshot of all accounts sums to the total, and so do the
//! final reads of each server and of the majority (FEATURES A8; Jepsen's bank test; PROTOCOL.md
//! 3.11, "all-or-nothing, also in local snapshots").
//!
//! A snapshot is a transaction that only reads (DESIGN.md 5: a query is none). One that does not
//! see every account is not judged; neither is a local one that lacks an account without tombstone,
//! which is a server that has not yet got what was loaded.

use std::collections::BTreeMap;

use super::Checker;
use crate::budget::{Budget, OutOfBudget};
use crate::describe::{counterexample, node_name};
use crate::history::{Action, Bank, Content, OpKind, Operation, Phase, ReadLevel, Seen, Step};
use crate::index::{Index, Read};
use crate::verdict::{Counts, Judgement};

/// Operations shown of final reads that do not add up.
const READS_SHOWN_MAX: usize = 6;

/// Judges every snapshot of all accounts, and the final reads.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    let checker = Checker::BankTotal;
    let mut counts = Counts::of(&["snapshots", "incomplete", "final-states", "wrong"]);
    let Some(bank) = index.history.header.promises.bank else {
        let said = "the history declares no bank".to_owned();
        return Ok(Judgement::unknown(checker, counts, said));
    };
    let mut first: Option<(Vec<usize>, String)> = None;
    let mut states = finals(index, bank, budget)?;
    let finals = states.len();
    states.extend(snapshots(index, bank, budget)?);
    for (at, state) in states.into_iter().enumerate() {
        let is_final = at < finals;
        let Some(sum) = state.sum(bank, is_final) else {
            counts.add("incomplete");
            continue;
        };
        counts.add(if is_final { "final-states" } else { "snapshots" });
        if sum != i128::from(bank.total) {
            counts.add("wrong");
            first.get_or_insert_with(|| (state.shown(), state.told(index, bank, sum)));
        }
    }
    let judged = counts.get("snapshots") + counts.get("final-states");
    if let Some((operations, reason)) = first {
        let said = format!("{} of {judged} states do not sum to the total", counts.get("wrong"));
        let example = counterexample(index, operations, None, reason);
        return Ok(Judgement::violated(checker, counts, said, example));
    }
    let said = match (counts.get("snapshots"), counts.get("final-states")) {
        (0, _) => "no snapshot of all accounts to judge",
        (_, 0) => "no final read of all accounts to judge",
        _ => {
            let said = format!("all {judged} states of the bank sum to {}", bank.total);
            return Ok(Judgement::valid(checker, counts, said));
        }
    };
    Ok(Judgement::unknown(checker, counts, said.to_owned()))
}

/// Where a state of the bank was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Majority,
    Server(u32),
}

/// What was read of the accounts, as far as that is one state.
#[derive(Debug)]
struct State {
    whose: Whose,
    /// By account: the operation that read it and what was there; `None` if that is not known.
    accounts: BTreeMap<u64, (usize, Option<Amount>)>,
}

#[derive(Debug, Clone, Copy)]
enum Amount {
    Money(i64),
    Deleted,
    Missing,
}

impl State {
    fn new(whose: Whose) -> Self {
        Self { whose, accounts: BTreeMap::new() }
    }

    /// The sum; `None` if not every account is known.
    fn sum(&self, bank: Bank, is_final: bool) -> Option<i128> {
        if self.accounts.len() as u64 != bank.accounts {
            return None;
        }
        let lags = |amount: Option<Amount>| {
            matches!(amount, Some(Amount::Missing)) && self.whose != Whose::Majority && !is_final
        };
        self.accounts.values().try_fold(0, |sum, &(_, amount)| {
            let money = match amount {
                lagging if lags(lagging) => return None,
                Some(Amount::Money(money)) => money,
                Some(Amount::Deleted | Amount::Missing) => 0,
                None => return None,
            };
            Some(sum + i128::from(money))
        })
    }

    fn shown(&self) -> Vec<usize> {
        self.accounts.values().map(|&(op, _)| op).take(READS_SHOWN_MAX).collect()
    }

    fn told(&self, index: &Index<'_>, bank: Bank, sum: i128) -> String {
        let whose = match self.whose {
            Whose::Majority => "read at majority".to_owned(),
            Whose::Server(node) => {
                format!("on server {}", node_name(&index.history.header, node))
            }
        };
        let (accounts, total) = (bank.accounts, bank.total);
        format!("all {accounts} accounts, {whose}, sum to {sum}; money is moved only, of {total}")
    }
}

fn whose(operation: &Operation) -> Option<Whose> {
    Some(match operation.level? {
        ReadLevel::Majority => Whose::Majority,
        ReadLevel::Local => Whose::Server(operation.node),
    })
}

/// Every acknowledged transaction that only reads, once the accounts are loaded.
fn snapshots(
    index: &Index<'_>,
    bank: Bank,
    budget: &mut Budget,
) -> Result<Vec<State>, OutOfBudget> {
    let mut states = Vec::new();
    for (op, operation) in index.history.operations.iter().enumerate() {
        let reads = operation.kind == OpKind::Transaction && operation.is_ok();
        if !reads || operation.phase == Phase::Load || operation.steps.iter().any(Step::is_write) {
            continue;
        }
        budget.spend(operation.steps.len())?;
        let Some(whose) = whose(operation) else { continue };
        let mut state = State::new(whose);
        for step in operation.steps.iter().filter(|step| step.key < bank.accounts) {
            state.accounts.insert(step.key, (op, amount(index, step)));
        }
        if !state.accounts.is_empty() {
            states.push(state);
        }
    }
    Ok(states)
}

/// The last final reads of each server, and those at majority.
fn finals(index: &Index<'_>, bank: Bank, budget: &mut Budget) -> Result<Vec<State>, OutOfBudget> {
    let mut states: BTreeMap<Whose, State> = BTreeMap::new();
    for Read { op, step, .. } in index.reads() {
        budget.spend(1)?;
        let operation = index.operation(op);
        if operation.phase != Phase::Final || step.key >= bank.accounts {
            continue;
        }
        let Some(whose) = whose(operation) else { continue };
        let state = states.entry(whose).or_insert_with(|| State::new(whose));
        let read = (op, amount(index, step));
        let last = state.accounts.entry(step.key).or_insert(read);
        if index.operation(last.0).sent <= operation.sent {
            *last = read;
        }
    }
    Ok(states.into_values().collect())
}

/// What `step` saw of an account: as the read says, otherwise as the write of that value said.
fn amount(index: &Index<'_>, step: &Step) -> Option<Amount> {
    let Action::Read(Some(seen)) = step.action else { return None };
    match (seen, &step.content) {
        (Seen::Absent(Some(_)), _) => Some(Amount::Deleted),
        (Seen::Absent(None), _) => Some(Amount::Missing),
        (Seen::Value(_), content) => match content.as_ref().or(index.content(step.key, seen))? {
            Content::Balance(money) => Some(Amount::Money(*money)),
            Content::Unique(_) | Content::Edge(_) | Content::Vertex(_) => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;
    use crate::verdict::Verdict::{Unknown, Valid, Violated};

    const CHECKER: Checker = Checker::BankTotal;

    fn saw(values: [u64; 2]) -> Vec<(u64, Action)> {
        let read = |(key, value)| (key, Action::Read(Some(Seen::Value(value))));
        (0..).zip(values).map(read).collect()
    }

    /// Two accounts of 50 each; operation 3 moves 10 from the first to the second.
    fn sample() -> Sample {
        let mut sample = Sample::new();
        sample.promise().bank = Some(Bank { accounts: 2, total: 100 });
        sample.create(0).content(Content::Balance(50)).phase(Phase::Load).ok(1, 2);
        sample.create(1).content(Content::Balance(50)).phase(Phase::Load).ok(1, 2);
        let moved = [Content::Balance(40), Content::Balance(60)];
        let steps = vec![(0, Action::Write(3)), (1, Action::Write(3))];
        sample.transaction(steps).contents(moved).ok(10, 20);
        sample
    }

    fn finally(sample: &mut Sample) {
        for key in 0..2 {
            sample.read(key, 3).phase(Phase::Final).ok(100, 101);
            sample.local(1, key, Seen::Value(3)).phase(Phase::Final).ok(100, 101);
        }
    }

    #[test]
    fn snapshots_before_and_after_a_transfer_are_valid() {
        let mut sample = sample();
        sample.transaction(saw([1, 2])).ok(12, 13);
        sample.transaction(saw([3, 3])).snapshot().ok(14, 15);
        assert_eq!(sample.judge(CHECKER).verdict, Unknown, "the final reads are missing");
        finally(&mut sample);
        let judgement = sample.judge(CHECKER);
        assert_eq!((judgement.verdict, judgement.counts["final-states"]), (Valid, 2));
    }

    #[test]
    fn half_a_transfer_in_a_snapshot_is_violated() {
        let mut sample = sample();
        sample.transaction(saw([3, 2])).snapshot().at(1).ok(12, 13);
        finally(&mut sample);
        let judgement = sample.judge(CHECKER);
        assert_eq!(judgement.verdict, Violated);
        let lines = judgement.counterexample.unwrap().lines;
        assert_eq!(
            lines[1],
            "Impossible because all 2 accounts, on server b, sum to 90; money is moved only, of \
             100"
        );
    }

    #[test]
    fn a_server_that_ends_with_half_a_transfer_is_violated() {
        let mut sample = sample();
        sample.transaction(saw([3, 3])).ok(30, 31);
        finally(&mut sample);
        sample.local(2, 0, Seen::Value(1)).phase(Phase::Final).ok(100, 101);
        sample.local(2, 1, Seen::Value(3)).phase(Phase::Final).ok(100, 101);
        assert_eq!(sample.judge(CHECKER).verdict, Violated);
    }

    #[test]
    fn content_that_differs_from_what_was_written_counts_as_read() {
        let mut sample = sample();
        let wrong = [Content::Balance(40), Content::Balance(61)];
        sample.transaction(saw([3, 3])).contents(wrong).ok(30, 31);
        assert_eq!(sample.judge(CHECKER).verdict, Violated);
    }

    #[test]
    fn reads_that_are_no_snapshot_and_servers_not_yet_loaded_prove_nothing() {
        let mut sample = sample();
        sample.transaction(vec![(0, Action::Read(Some(Seen::Value(3))))]).ok(12, 13);
        let absent = Action::Read(Some(Seen::Absent(None)));
        let steps = vec![(0, absent.clone()), (1, Action::Read(Some(Seen::Value(2))))];
        sample.transaction(steps).snapshot().at(1).ok(12, 13);
        finally(&mut sample);
        let judgement = sample.judge(CHECKER);
        assert_eq!((judgement.verdict, judgement.counts["incomplete"]), (Unknown, 2));
    }
}
