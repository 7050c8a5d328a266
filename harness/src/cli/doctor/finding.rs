//! What `quorate doctor` says of one thing that it looked at.

use serde::Serialize;

/// How much a finding matters, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    /// Something optional is missing.
    Optional,
    /// Runs work, but their figures are doubtful.
    Doubtful,
    /// Nothing can run.
    Missing,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) what: String,
    pub(super) state: State,
    pub(super) found: String,
    /// What to do about it; empty when nothing is to be done.
    pub(super) fix: String,
}

impl Finding {
    pub(super) fn new(
        what: &str,
        state: State,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let fix = if state == State::Ok { String::new() } else { fix.into() };
        Self { what: what.to_owned(), state, found: found.into(), fix }
    }

    /// Nothing is wrong.
    pub(super) fn ok(what: &str, found: impl Into<String>) -> Self {
        Self::new(what, State::Ok, found, "")
    }
}
