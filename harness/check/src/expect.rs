//! Compares what was found with what a spec said would be found. No judging of histories here.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::checkers::Checker;
use crate::verdict::{Report, Verdict};

/// The verdict that a spec expects of some checkers; the others are expected to be valid.
///
/// Read from a map such as `acknowledged-durable: violated`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expectations(pub BTreeMap<Checker, Verdict>);

/// A checker that did not say what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// Which one.
    pub checker: Checker,
    /// What was expected of it.
    pub expected: Verdict,
    /// What it said; `None` if it did not run.
    pub found: Option<Verdict>,
}

impl Mismatch {
    /// True if the mismatch only says that too little was seen to tell: a verdict of unknown where
    /// valid was expected. All others fail.
    pub fn is_inconclusive(&self) -> bool {
        self.expected == Verdict::Valid && self.found == Some(Verdict::Unknown)
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { checker, expected, found } = self;
        match found {
            Some(found) => write!(f, "{checker}: expected {expected}, found {found}"),
            None => write!(f, "{checker}: expected {expected}, but it did not run"),
        }
    }
}

/// How a report compares with what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Valid: all as expected. Unknown: something could not be judged. Violated: something was
    /// found that was not expected, or something expected was not found.
    pub verdict: Verdict,
    /// Everything that was not as expected, in the order of [`Checker::ALL`].
    pub mismatches: Vec<Mismatch>,
}

impl Expectations {
    /// Compares `report` with these expectations.
    ///
    /// A checker without expectation is expected to be valid if it ran. An expected verdict must
    /// be found exactly: an expected violation that is not found is a failure, too.
    pub fn compare(&self, report: &Report) -> Comparison {
        let mut mismatches = Vec::new();
        let mut verdict = Verdict::Valid;
        for checker in Checker::ALL {
            let found = report.of(checker).map(|judgement| judgement.verdict);
            let expected = match (self.0.get(&checker), found) {
                (Some(&expected), _) => expected,
                (None, Some(_)) => Verdict::Valid,
                (None, None) => continue,
            };
            if found == Some(expected) {
                continue;
            }
            let mismatch = Mismatch { checker, expected, found };
            let weight =
                if mismatch.is_inconclusive() { Verdict::Unknown } else { Verdict::Violated };
            verdict = verdict.merge(weight);
            mismatches.push(mismatch);
        }
        Comparison { verdict, mismatches }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{Counterexample, Counts, Judgement};
    use Verdict::{Unknown, Valid, Violated};

    fn report(verdict: Verdict) -> Report {
        let checker = Checker::Linearizable;
        let nothing = Counterexample { operations: Vec::new(), lines: Vec::new() };
        Report::new(vec![match verdict {
            Valid => Judgement::valid(checker, Counts::default(), String::new()),
            Unknown => Judgement::unknown(checker, Counts::default(), String::new()),
            Violated => Judgement::violated(checker, Counts::default(), String::new(), nothing),
        }])
    }

    #[test]
    fn every_pair_of_expected_and_found() {
        for (expected, found, verdict) in [
            (None, Valid, Valid),
            (None, Unknown, Unknown),
            (None, Violated, Violated),
            (Some(Valid), Unknown, Unknown),
            (Some(Violated), Violated, Valid),
            (Some(Violated), Valid, Violated),
            (Some(Violated), Unknown, Violated),
            (Some(Unknown), Unknown, Valid),
            (Some(Unknown), Valid, Violated),
        ] {
            let expectations =
                expected.map(|expected| (Checker::Linearizable, expected)).into_iter().collect();
            let comparison = Expectations(expectations).compare(&report(found));
            assert_eq!(comparison.verdict, verdict, "expected {expected:?}, found {found}");
            assert_eq!(comparison.mismatches.is_empty(), verdict == Valid);
        }
    }

    #[test]
    fn an_expectation_of_a_checker_that_did_not_run_fails() {
        let expectations: Expectations =
            serde_json::from_str(r#"{"convergence":"violated"}"#).unwrap();
        let comparison = expectations.compare(&report(Valid));
        assert_eq!(comparison.verdict, Violated);
        assert_eq!(
            comparison.mismatches[0].to_string(),
            "convergence: expected violated, but it did not run"
        );
    }

    #[test]
    fn a_misspelt_checker_is_refused_with_the_legal_names() {
        let error = serde_json::from_str::<Expectations>(r#"{"linear":"valid"}"#).unwrap_err();
        assert!(error.to_string().contains("`linearizable`"), "{error}");
    }
}
