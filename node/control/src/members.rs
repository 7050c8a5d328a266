//! The static list of MASTERs and the write quorum computed over it. May not know databases,
//! clusters or how a server is reached.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest legal server name, in bytes: it becomes part of cluster names and metric labels.
pub const NAME_BYTES_MAX: usize = 64;

/// Why a list of MASTERs is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// Nobody could vote.
    #[error("the list of MASTERs is empty")]
    Empty,
    /// Letters, digits, `_`, `-` and `.` only, first a letter or digit.
    #[error(
        "server name '{0}' is not legal: 1 to {NAME_BYTES_MAX} letters, digits, '_', '-' or '.', \
         the first one a letter or digit"
    )]
    Name(String),
    /// Two servers with one name would count as two votes.
    #[error("server name '{0}' is in the list of MASTERs twice")]
    Duplicate(String),
    /// The server does not take part in what it is asked to do.
    #[error("server '{name}' is not in the list of MASTERs ({list})")]
    NotListed {
        /// The name that was looked for.
        name: String,
        /// The list, joined with commas.
        list: String,
    },
}

/// The configured MASTERs, in the order of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members(Vec<String>);

impl Members {
    /// Checks a list of names.
    ///
    /// # Errors
    /// Empty list, illegal name, name given twice.
    pub fn new<I: IntoIterator<Item = S>, S: Into<String>>(names: I) -> Result<Self, MembersError> {
        let mut list: Vec<String> = Vec::new();
        for name in names {
            let name = name.into();
            if !is_legal_name(&name) {
                return Err(MembersError::Name(name));
            }
            if list.contains(&name) {
                return Err(MembersError::Duplicate(name));
            }
            list.push(name);
        }
        if list.is_empty() { Err(MembersError::Empty) } else { Ok(Self(list)) }
    }

    /// Names in configured order.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// N, the base of every quorum.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Refuses a name that is not a MASTER.
    ///
    /// # Errors
    /// The name is not in the list.
    pub fn require(&self, name: &str) -> Result<(), MembersError> {
        if self.0.iter().any(|n| n == name) {
            return Ok(());
        }
        Err(MembersError::NotListed { name: name.to_string(), list: self.0.join(", ") })
    }
}

impl FromStr for Members {
    type Err = MembersError;

    /// Reads `n1,n2,n3`; blanks round the names are ignored.
    fn from_str(text: &str) -> Result<Self, MembersError> {
        if text.trim().is_empty() {
            return Err(MembersError::Empty);
        }
        Self::new(text.split(',').map(str::trim))
    }
}

pub(crate) fn is_legal_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// The original's word for the quorum of the coordinator's data center.
const LOCAL: &str = "localDataCenter";

/// How many MASTERs must say Yes to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "RawQuorum", into = "RawQuorum")]
pub enum WriteQuorum {
    /// ⌊N/2⌋ + 1.
    #[default]
    Majority,
    /// N.
    All,
    /// A fixed number, at least 1.
    Count(u32),
    /// That of the coordinator's data center, of the MASTERs there (`data_centers`).
    LocalDataCenter,
}

/// Text of a quorum that is none; the original's wording (ORIENTDB.md 1.2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The value '{0}' is not supported for writeQuorum in distributed configuration")]
pub struct QuorumError(pub String);

/// The two JSON shapes of a quorum.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum RawQuorum {
    Number(i64),
    Text(String),
}

impl TryFrom<RawQuorum> for WriteQuorum {
    type Error = QuorumError;

    fn try_from(raw: RawQuorum) -> Result<Self, QuorumError> {
        match raw {
            RawQuorum::Number(number) => u32::try_from(number)
                .ok()
                .filter(|n| *n > 0)
                .map(Self::Count)
                .ok_or_else(|| QuorumError(number.to_string())),
            RawQuorum::Text(text) => text.parse(),
        }
    }
}

impl From<WriteQuorum> for RawQuorum {
    fn from(quorum: WriteQuorum) -> Self {
        match quorum {
            WriteQuorum::Majority => Self::Text("majority".into()),
            WriteQuorum::All => Self::Text("all".into()),
            WriteQuorum::Count(n) => Self::Number(i64::from(n)),
            WriteQuorum::LocalDataCenter => Self::Text(LOCAL.into()),
        }
    }
}

impl FromStr for WriteQuorum {
    type Err = QuorumError;

    fn from_str(text: &str) -> Result<Self, QuorumError> {
        if text.eq_ignore_ascii_case("majority") {
            return Ok(Self::Majority);
        }
        if text.eq_ignore_ascii_case("all") {
            return Ok(Self::All);
        }
        if text.eq_ignore_ascii_case(LOCAL) {
            return Ok(Self::LocalDataCenter);
        }
        text.parse()
            .ok()
            .filter(|n| *n > 0)
            .map(Self::Count)
            .ok_or_else(|| QuorumError(text.to_string()))
    }
}

impl fmt::Display for WriteQuorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Majority => f.write_str("majority"),
            Self::All => f.write_str("all"),
            Self::Count(n) => write!(f, "{n}"),
            Self::LocalDataCenter => f.write_str(LOCAL),
        }
    }
}

impl WriteQuorum {
    /// W for N configured MASTERs. A fixed number above N stays above N: such a cluster cannot be
    /// written, it is not silently lowered. What data centers come to is `data_centers::rule`'s;
    /// without any, theirs is a majority.
    #[must_use]
    pub fn effective(self, masters: usize) -> usize {
        match self {
            Self::Majority | Self::LocalDataCenter => masters / 2 + 1,
            Self::All => masters,
            Self::Count(n) => n as usize,
        }
    }

    /// True when two disjoint sets of MASTERs could both reach it.
    #[must_use]
    pub fn is_below_majority(self, masters: usize) -> bool {
        self.effective(masters) < masters / 2 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_checked() {
        let members: Members = "n1, n2,n-3.x".parse().unwrap();
        assert_eq!(members.names(), ["n1", "n2", "n-3.x"]);
        assert_eq!(members.count(), 3);
        assert_eq!(members.require("n2"), Ok(()));
        let error = members.require("n9").unwrap_err();
        assert_eq!(error.to_string(), "server 'n9' is not in the list of MASTERs (n1, n2, n-3.x)");
        assert_eq!("".parse::<Members>(), Err(MembersError::Empty));
        assert_eq!("n1,n1".parse::<Members>(), Err(MembersError::Duplicate("n1".into())));
        for bad in ["n1,", "-a", "a b", "ä", "a\"b"] {
            assert!(matches!(bad.parse::<Members>(), Err(MembersError::Name(_))), "{bad}");
        }
        assert!(Members::new(["x".repeat(NAME_BYTES_MAX)]).is_ok());
        assert!(Members::new(["x".repeat(NAME_BYTES_MAX + 1)]).is_err());
        assert_eq!(Members::new(Vec::<String>::new()), Err(MembersError::Empty));
    }

    #[test]
    fn quorum_reads_words_and_numbers_as_text_and_json() {
        for (text, quorum) in [
            ("majority", WriteQuorum::Majority),
            ("ALL", WriteQuorum::All),
            ("2", WriteQuorum::Count(2)),
            ("LocalDataCenter", WriteQuorum::LocalDataCenter),
        ] {
            assert_eq!(text.parse(), Ok(quorum));
            let json = serde_json::to_string(&quorum).unwrap();
            assert_eq!(serde_json::from_str::<WriteQuorum>(&json).unwrap(), quorum);
        }
        assert_eq!(serde_json::to_string(&WriteQuorum::Count(2)).unwrap(), "2");
        for bad in ["0", "-1", "most", "", "4294967296", "1.5"] {
            assert_eq!(bad.parse::<WriteQuorum>(), Err(QuorumError(bad.into())));
        }
        let error = serde_json::from_str::<WriteQuorum>("0").unwrap_err().to_string();
        assert_eq!(
            error,
            "The value '0' is not supported for writeQuorum in distributed configuration"
        );
    }

    #[test]
    fn effective_quorum_and_its_warning() {
        let table = [
            (WriteQuorum::Majority, 1, 1, false),
            (WriteQuorum::Majority, 2, 2, false),
            (WriteQuorum::Majority, 3, 2, false),
            (WriteQuorum::Majority, 4, 3, false),
            (WriteQuorum::All, 5, 5, false),
            (WriteQuorum::Count(1), 3, 1, true),
            (WriteQuorum::Count(2), 3, 2, false),
            (WriteQuorum::Count(2), 4, 2, true),
            (WriteQuorum::Count(9), 3, 9, false),
        ];
        for (quorum, n, w, below) in table {
            assert_eq!(quorum.effective(n), w, "{quorum} of {n}");
            assert_eq!(quorum.is_below_majority(n), below, "{quorum} of {n}");
        }
    }
}
