//! Verdicts of checkers.
use serde::{Deserialize, Serialize};

/// Three-valued verdict; `Violated` beats `Unknown` beats `Valid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing wrong was found, and there was something to judge.
    Valid,
    /// Could not be judged.
    Unknown,
    /// A counter-example exists.
    Violated,
}
