//! What a checker says: a three-valued verdict, what was judged, and the evidence.
//! No judging here (that is `checkers/`) and no comparison with expectations (`expect.rs`).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::checkers::Checker;
use crate::history::Operation;

/// Three-valued verdict, ordered so that the greater one wins a [`Verdict::merge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything that was promised and could be judged was kept.
    Valid,
    /// Could not be judged: vacuous, out of budget, or the evidence is missing.
    Unknown,
    /// A promise was broken; there is a counter-example.
    Violated,
}

impl Verdict {
    /// Violated beats unknown beats valid.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        self.max(other)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Valid => "valid",
            Self::Unknown => "unknown",
            Self::Violated => "violated",
        })
    }
}

/// The fewest operations that show a promise broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counterexample {
    /// The operations, ordered by when they were sent.
    pub operations: Vec<Operation>,
    /// One line an operation (what, who, where, when), then why together they are impossible.
    pub lines: Vec<String>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}

/// What one checker says about one history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Which checker.
    #[serde(rename = "name")]
    pub checker: Checker,
    /// Its verdict.
    pub verdict: Verdict,
    /// How much of what was judged, by kebab-case name.
    pub counts: BTreeMap<String, u64>,
    /// The verdict in a sentence or two.
    pub explanation: String,
    /// Present if and only if the verdict is [`Verdict::Violated`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counterexample: Option<Counterexample>,
}

impl Judgement {
    pub(crate) fn valid(checker: Checker, counts: Counts, explanation: String) -> Self {
        Self::new(checker, Verdict::Valid, counts, explanation, None)
    }

    pub(crate) fn unknown(checker: Checker, counts: Counts, explanation: String) -> Self {
        Self::new(checker, Verdict::Unknown, counts, explanation, None)
    }

    pub(crate) fn violated(
        checker: Checker,
        counts: Counts,
        explanation: String,
        example: Counterexample,
    ) -> Self {
        Self::new(checker, Verdict::Violated, counts, explanation, Some(example))
    }

    fn new(
        checker: Checker,
        verdict: Verdict,
        counts: Counts,
        explanation: String,
        counterexample: Option<Counterexample>,
    ) -> Self {
        Self { checker, verdict, counts: counts.0, explanation, counterexample }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<21} {:<8} {}", self.checker, self.verdict, self.explanation)?;
        let counts: Vec<String> =
            self.counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
        if !counts.is_empty() {
            writeln!(f, "  {}", counts.join(", "))?;
        }
        match &self.counterexample {
            Some(example) => write!(f, "{example}"),
            None => Ok(()),
        }
    }
}

/// What all wanted checkers say, in the fixed order of [`Checker::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The merge of all judgements.
    pub verdict: Verdict,
    /// One a checker.
    pub judgements: Vec<Judgement>,
}

impl Report {
    /// Merges `judgements`; none at all is unknown, because nothing was judged.
    pub fn new(judgements: Vec<Judgement>) -> Self {
        let verdict = judgements
            .iter()
            .map(|judgement| judgement.verdict)
            .reduce(Verdict::merge)
            .unwrap_or(Verdict::Unknown);
        Self { verdict, judgements }
    }

    /// What `checker` said; `None` if it was not asked.
    pub fn of(&self, checker: Checker) -> Option<&Judgement> {
        self.judgements.iter().find(|judgement| judgement.checker == checker)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "safety: {}", self.verdict)?;
        for judgement in &self.judgements {
            write!(f, "{judgement}")?;
        }
        Ok(())
    }
}

/// The counts of a judgement while it is being made.
#[derive(Debug, Default)]
pub(crate) struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// Counts that start at 0, so that a report names them even if nothing was found.
    pub(crate) fn of(names: &[&str]) -> Self {
        Self(names.iter().map(|name| ((*name).to_owned(), 0)).collect())
    }

    /// One more `name`.
    pub(crate) fn add(&mut self, name: &str) {
        match self.0.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.0.insert(name.to_owned(), 1);
            }
        }
    }

    /// Exactly `count` of `name`, for counts that are kept elsewhere.
    pub(crate) fn set(&mut self, name: &str, count: u64) {
        self.0.insert(name.to_owned(), count);
    }

    /// How many `name` so far.
    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Unknown, Valid, Violated};

    #[test]
    fn violated_beats_unknown_beats_valid() {
        for (a, b, merged) in [
            (Valid, Valid, Valid),
            (Valid, Unknown, Unknown),
            (Unknown, Violated, Violated),
            (Valid, Violated, Violated),
        ] {
            assert_eq!(a.merge(b), merged);
            assert_eq!(b.merge(a), merged);
        }
    }

    #[test]
    fn a_report_of_nothing_is_unknown() {
        assert_eq!(Report::new(Vec::new()).verdict, Unknown);
    }

    #[test]
    fn a_report_survives_json() {
        let judgement =
            Judgement::valid(Checker::Convergence, Counts::of(&["keys"]), "all agree".to_owned());
        let report = Report::new(vec![judgement]);
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains(r#""name":"convergence","verdict":"valid""#), "{json}");
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        assert!(report.to_string().starts_with("safety: valid\nconvergence"));
    }
}
