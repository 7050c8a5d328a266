//! Exit codes, which scripts rely on.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: everything as expected.
    Good,
    /// 1: a promise was broken, or an expected violation was not found.
    Violation,
    /// 2: a verdict is unknown, or the measurement is unsound.
    Inconclusive,
    /// 3: the spec or the command line is wrong; nothing was started.
    BadSpec,
    /// 4: the harness itself failed.
    Harness,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Violation => 1,
            Self::Inconclusive => 2,
            Self::BadSpec => 3,
            Self::Harness => 4,
        }
    }

    /// The one that counts when several things ended: 1 beats 4 beats 3 beats 2 beats 0.
    ///
    /// A violation that was seen stays true whatever else went wrong.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let weight = |exit: Self| match exit {
            Self::Good => 0,
            Self::Inconclusive => 1,
            Self::BadSpec => 2,
            Self::Harness => 3,
            Self::Violation => 4,
        };
        if weight(other) > weight(self) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::Exit::{BadSpec, Good, Harness, Inconclusive, Violation};

    #[test]
    fn one_beats_two_beats_nought() {
        assert_eq!(Good.merge(Inconclusive), Inconclusive);
        assert_eq!(Inconclusive.merge(Violation), Violation);
        assert_eq!(Violation.merge(Harness), Violation);
        assert_eq!(Harness.merge(Inconclusive), Harness);
        assert_eq!(Good.merge(Good), Good);
        assert_eq!(BadSpec.code(), 3);
    }
}
