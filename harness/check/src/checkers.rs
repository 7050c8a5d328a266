//! The table of checkers, and the loop that runs them. One file each below, with its source.
//! A checker is pure: it sees a history and a budget, nothing else.

mod aborted_read;
mod acknowledged_durable;
mod bank_total;
mod convergence;
mod dependency_cycles;
mod dirty;
mod edge_symmetry;
mod failed_write_visible;
mod intermediate_read;
mod linearizable;
mod lost_update;
mod non_vacuous;
mod quorum_compliance;
mod rid_unique;
mod session_guarantees;
mod unique_key;
mod versions;
mod zones;

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::budget::{Budget, OutOfBudget};
use crate::history::{Content, History, OpKind};
use crate::index::{Index, ValueNotUnique};
use crate::verdict::{Counts, Judgement, Report};

/// The checkers, in the order in which they run and report. Written in kebab-case everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checker {
    /// No acknowledged write is lost after heal.
    AcknowledgedDurable,
    /// Majority reads and all writes of each record are linearizable.
    Linearizable,
    /// No read sees a value whose write definitely failed, or that nobody wrote.
    FailedWriteVisible,
    /// No record id is allocated twice.
    RidUnique,
    /// After heal all servers hold the same.
    Convergence,
    /// Every snapshot of all accounts sums to the total.
    BankTotal,
    /// No two live records own one unique key.
    UniqueKey,
    /// Every edge is there in both directions or not at all.
    EdgeSymmetry,
    /// No read sees what a failed operation wrote (G1a).
    AbortedRead,
    /// No read sees what its own transaction replaced (G1b).
    IntermediateRead,
    /// No session goes back in time.
    SessionGuarantees,
    /// No cycle of dependencies (G0, G1c, G-single, G2-item).
    DependencyCycles,
    /// No two acknowledged writes replaced the same version.
    LostUpdate,
    /// No write is acknowledged without its quorum.
    QuorumCompliance,
    /// Every kind of operation succeeded at least once.
    NonVacuous,
}

impl Checker {
    /// All of them, in order.
    pub const ALL: [Self; 15] = [
        Self::AcknowledgedDurable,
        Self::Linearizable,
        Self::FailedWriteVisible,
        Self::RidUnique,
        Self::Convergence,
        Self::BankTotal,
        Self::UniqueKey,
        Self::EdgeSymmetry,
        Self::AbortedRead,
        Self::IntermediateRead,
        Self::SessionGuarantees,
        Self::DependencyCycles,
        Self::LostUpdate,
        Self::QuorumCompliance,
        Self::NonVacuous,
    ];

    /// Its kebab-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::AcknowledgedDurable => "acknowledged-durable",
            Self::Linearizable => "linearizable",
            Self::FailedWriteVisible => "failed-write-visible",
            Self::RidUnique => "rid-unique",
            Self::Convergence => "convergence",
            Self::BankTotal => "bank-total",
            Self::UniqueKey => "unique-key",
            Self::EdgeSymmetry => "edge-symmetry",
            Self::AbortedRead => "aborted-read",
            Self::IntermediateRead => "intermediate-read",
            Self::SessionGuarantees => "session-guarantees",
            Self::DependencyCycles => "dependency-cycles",
            Self::LostUpdate => "lost-update",
            Self::QuorumCompliance => "quorum-compliance",
            Self::NonVacuous => "non-vacuous",
        }
    }

    /// True if `history` holds what this checker is about. A checker that was not asked for by name
    /// is left out of the report if there is none of it, so that a run without accounts is not
    /// inconclusive for want of a bank.
    pub fn applies(self, history: &History) -> bool {
        let promises = &history.header.promises;
        let any_content = |wanted: fn(&Content) -> bool| {
            let mut steps = history.operations.iter().flat_map(|operation| &operation.steps);
            steps.any(|step| step.content.as_ref().is_some_and(wanted))
        };
        match self {
            Self::BankTotal => promises.bank.is_some(),
            Self::UniqueKey => any_content(|content| matches!(content, Content::Unique(_))),
            Self::EdgeSymmetry => {
                any_content(|content| matches!(content, Content::Edge(_) | Content::Vertex(_)))
            }
            Self::SessionGuarantees => promises.sessions,
            Self::DependencyCycles | Self::LostUpdate => {
                let mut operations = history.operations.iter();
                operations.any(|operation| operation.kind == OpKind::Transaction)
            }
            Self::QuorumCompliance => !promises.quorums.is_empty(),
            Self::AcknowledgedDurable
            | Self::Linearizable
            | Self::FailedWriteVisible
            | Self::RidUnique
            | Self::Convergence
            | Self::AbortedRead
            | Self::IntermediateRead
            | Self::NonVacuous => true,
        }
    }

    fn judge(self, index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
        match self {
            Self::AcknowledgedDurable => acknowledged_durable::judge(index, budget),
            Self::Linearizable => linearizable::judge(index, budget),
            Self::FailedWriteVisible => failed_write_visible::judge(index, budget),
            Self::RidUnique => rid_unique::judge(index, budget),
            Self::Convergence => convergence::judge(index, budget),
            Self::BankTotal => bank_total::judge(index, budget),
            Self::UniqueKey => unique_key::judge(index, budget),
            Self::EdgeSymmetry => edge_symmetry::judge(index, budget),
            Self::AbortedRead => aborted_read::judge(index, budget),
            Self::IntermediateRead => intermediate_read::judge(index, budget),
            Self::SessionGuarantees => session_guarantees::judge(index, budget),
            Self::DependencyCycles => dependency_cycles::judge(index, budget),
            Self::LostUpdate => lost_update::judge(index, budget),
            Self::QuorumCompliance => quorum_compliance::judge(index, budget),
            Self::NonVacuous => non_vacuous::judge(index, budget),
        }
    }
}

impl fmt::Display for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Checker {
    type Err = UnknownChecker;

    fn from_str(name: &str) -> Result<Self, UnknownChecker> {
        let found = Self::ALL.into_iter().find(|checker| checker.name() == name);
        found.ok_or_else(|| UnknownChecker { name: name.to_owned() })
    }
}

/// There is no checker of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no checker is called `{name}`; there are: {}", Checker::ALL.map(Checker::name).join(", "))]
pub struct UnknownChecker {
    /// The name that was asked for.
    pub name: String,
}

/// What to judge, and how hard to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The checkers that are wanted.
    pub checkers: BTreeSet<Checker>,
    /// Leave out those that do not apply to the history (see [`Checker::applies`]).
    pub applicable_only: bool,
    /// Units of work (about one access looked at each) that one checker may spend before its
    /// verdict is unknown. Counted, not timed, so that reports repeat on any machine.
    pub work_max: u64,
}

impl Options {
    /// Enough for 10⁸ operations, and an end to every search.
    pub const WORK_MAX_DEFAULT: u64 = 2_000_000_000;

    /// Only the named checkers, whether they apply or not.
    ///
    /// # Errors
    /// A name that is not one of [`Checker::ALL`]; the error lists the legal ones.
    pub fn only<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self, UnknownChecker> {
        let checkers: Result<_, _> = names.into_iter().map(|name| name.as_ref().parse()).collect();
        Ok(Self { checkers: checkers?, applicable_only: false, ..Self::default() })
    }
}

impl Default for Options {
    fn default() -> Self {
        let work_max = Self::WORK_MAX_DEFAULT;
        Self { checkers: Checker::ALL.into(), applicable_only: true, work_max }
    }
}

/// Runs the wanted checkers in the order of [`Checker::ALL`].
///
/// A checker that panics or exceeds its budget, and every checker of a history whose values are
/// not unique, says unknown, never valid. The same history gives the same report to the byte.
pub fn check_all(history: &History, options: &Options) -> Report {
    let index = Index::new(history);
    let wanted = Checker::ALL.into_iter().filter(|checker| {
        options.checkers.contains(checker) && (!options.applicable_only || checker.applies(history))
    });
    let judgements = wanted.map(|checker| match &index {
        Ok(index) => guarded(checker, || checker.judge(index, &mut Budget::new(options.work_max))),
        Err(clash) => Judgement::unknown(checker, Counts::default(), told_clash(clash)),
    });
    Report::new(judgements.collect())
}

/// Runs one checker such that nothing it does can pass for a valid verdict.
fn guarded(checker: Checker, judge: impl FnOnce() -> Result<Judgement, OutOfBudget>) -> Judgement {
    let reason = match catch_unwind(AssertUnwindSafe(judge)) {
        Ok(Ok(judgement)) => return judgement,
        Ok(Err(OutOfBudget)) => "gave up: the budget of work was used up".to_owned(),
        Err(panic) => {
            let said = panic.downcast_ref::<&str>().map(|said| (*said).to_owned());
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
            format!("the checker itself failed: {}", said.unwrap_or_else(|| "panic".to_owned()))
        }
    };
    Judgement::unknown(checker, Counts::default(), reason)
}

fn told_clash(clash: &ValueNotUnique) -> String {
    format!(
        "not judged: operations {} and {} both write value {} to key {}, so reads of it prove \
         nothing",
        clash.operations.0, clash.operations.1, clash.value, clash.key
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;
    use crate::verdict::Verdict;

    #[test]
    fn names_are_the_ones_that_serde_writes() {
        for checker in Checker::ALL {
            let json = serde_json::to_string(&checker).unwrap();
            assert_eq!(json, format!("\"{checker}\""));
            assert_eq!(checker.name().parse(), Ok(checker));
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_legal_ones() {
        let error = Options::only(["linearizable", "linear"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no checker is called `linear`; there are: acknowledged-durable, linearizable, \
             failed-write-visible, rid-unique, convergence, bank-total, unique-key, \
             edge-symmetry, aborted-read, intermediate-read, session-guarantees, \
             dependency-cycles, lost-update, quorum-compliance, non-vacuous"
        );
    }

    #[test]
    fn a_panicking_checker_is_unknown() {
        let judgement = guarded(Checker::Linearizable, || panic!("planted"));
        assert_eq!(judgement.verdict, Verdict::Unknown);
        assert!(judgement.explanation.contains("planted"));
    }

    #[test]
    fn a_checker_out_of_budget_is_unknown() {
        let mut sample = Sample::new();
        sample.write(0).ok(1, 2);
        sample.read(0, 1).ok(3, 4);
        let options = Options { work_max: 0, ..Options::default() };
        for judgement in check_all(&sample.history(), &options).judgements {
            assert_eq!(judgement.verdict, Verdict::Unknown, "{judgement}");
        }
    }

    #[test]
    fn a_value_written_by_two_operations_is_unknown() {
        let mut sample = Sample::new();
        sample.write(0).ok(1, 2);
        sample.write_value(0, 1).ok(3, 4);
        let report = check_all(&sample.history(), &Options::default());
        assert_eq!(report.verdict, Verdict::Unknown);
        assert!(report.judgements[0].explanation.contains("operations 1 and 2 both write value 1"));
    }
}
