//! What a database promises beside its write quorum: how many MASTERs answer a read, and whether
//! writers wait for the outcome. May not know requests or how either is kept.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

use quorate_protocol::chain::Chain;
use serde::{Deserialize, Serialize};

use crate::data_centers::DataCenters;
use crate::dynamic::NewNodes;
use crate::members::{QuorumError, RawQuorum, WriteQuorum};
use crate::schema::DatabaseKind;

/// How many MASTERs answer a read (PROTOCOL.md 3.8), of those configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawQuorum", into = "RawQuorum")]
pub enum ReadQuorum {
    /// ⌊N/2⌋ + 1: linearizable, record by record.
    Majority,
    /// N.
    All,
    /// A fixed number, at least 1. 1 is the asked server's own committed state; below a majority
    /// it is the newest of so many committed states, and no more is promised.
    Count(u32),
    /// That of the asked server's data center, of the MASTERs there: the newest of so many of their
    /// committed states.
    LocalDataCenter,
}

/// The server's own state, as in the original.
impl Default for ReadQuorum {
    fn default() -> Self {
        Self::Count(1)
    }
}

/// Text of a quorum that is none; the original's wording (ORIENTDB.md 1.2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The value '{0}' is not supported for readQuorum in distributed configuration")]
pub struct ReadQuorumError(pub String);

/// A read quorum is written as a write quorum is.
impl From<WriteQuorum> for ReadQuorum {
    fn from(quorum: WriteQuorum) -> Self {
        match quorum {
            WriteQuorum::Majority => Self::Majority,
            WriteQuorum::All => Self::All,
            WriteQuorum::Count(n) => Self::Count(n),
            WriteQuorum::LocalDataCenter => Self::LocalDataCenter,
        }
    }
}

impl From<ReadQuorum> for WriteQuorum {
    fn from(quorum: ReadQuorum) -> Self {
        match quorum {
            ReadQuorum::Majority => Self::Majority,
            ReadQuorum::All => Self::All,
            ReadQuorum::Count(n) => Self::Count(n),
            ReadQuorum::LocalDataCenter => Self::LocalDataCenter,
        }
    }
}

impl TryFrom<RawQuorum> for ReadQuorum {
    type Error = ReadQuorumError;

    fn try_from(raw: RawQuorum) -> Result<Self, ReadQuorumError> {
        WriteQuorum::try_from(raw)
            .map(Self::from)
            .map_err(|QuorumError(text)| ReadQuorumError(text))
    }
}

impl From<ReadQuorum> for RawQuorum {
    fn from(quorum: ReadQuorum) -> Self {
        WriteQuorum::from(quorum).into()
    }
}

impl FromStr for ReadQuorum {
    type Err = ReadQuorumError;

    fn from_str(text: &str) -> Result<Self, ReadQuorumError> {
        let parsed: Result<WriteQuorum, QuorumError> = text.parse();
        parsed.map(Self::from).map_err(|QuorumError(text)| ReadQuorumError(text))
    }
}

impl fmt::Display for ReadQuorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        WriteQuorum::from(*self).fmt(f)
    }
}

impl ReadQuorum {
    /// R for N configured MASTERs; above N when a fixed number is.
    #[must_use]
    pub fn effective(self, masters: usize) -> usize {
        WriteQuorum::from(self).effective(masters)
    }

    /// True when the asked server answers by itself.
    #[must_use]
    pub fn is_local(self) -> bool {
        self == Self::Count(1)
    }
}

/// Whether a writer waits for the outcome of its transaction (PROTOCOL.md 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ExecutionMode {
    /// As each request says; one that says nothing waits.
    #[default]
    Undefined,
    /// It waits.
    Synchronous,
    /// It is answered once the server it asked has voted for the transaction, durably: that is no
    /// commit, and may still be undone.
    Asynchronous,
}

/// Text of a mode that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "The value '{0}' is not supported for executionMode: legal are undefined, synchronous and \
     asynchronous"
)]
pub struct ExecutionModeError(pub String);

impl ExecutionMode {
    /// The original's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undefined => "undefined",
            Self::Synchronous => "synchronous",
            Self::Asynchronous => "asynchronous",
        }
    }
}

impl fmt::Display for ExecutionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ExecutionMode {
    type Err = ExecutionModeError;

    fn from_str(text: &str) -> Result<Self, ExecutionModeError> {
        let all = [Self::Undefined, Self::Synchronous, Self::Asynchronous];
        let named = all.into_iter().find(|mode| text.eq_ignore_ascii_case(mode.name()));
        named.ok_or_else(|| ExecutionModeError(text.to_string()))
    }
}

impl TryFrom<String> for ExecutionMode {
    type Error = ExecutionModeError;

    fn try_from(text: String) -> Result<Self, ExecutionModeError> {
        text.parse()
    }
}

impl From<ExecutionMode> for String {
    fn from(mode: ExecutionMode) -> Self {
        mode.name().into()
    }
}

/// What of a database can be changed while it is used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// W of its clusters.
    pub write_quorum: WriteQuorum,
    /// R of reads that do not name one.
    pub read_quorum: ReadQuorum,
    /// Of transactions that do not name one.
    pub execution_mode: ExecutionMode,
    /// Where its servers are, as far as that matters.
    pub data_centers: DataCenters,
    /// Who decides between contents that diverged; `None`: it stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Chain>,
}

/// What a new database shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDatabase {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: DatabaseKind,
    /// W of its clusters.
    pub write_quorum: WriteQuorum,
    /// R of reads that do not name one.
    pub read_quorum: ReadQuorum,
    /// Of transactions that do not name one.
    pub execution_mode: ExecutionMode,
    /// Where its servers are, as far as that matters.
    pub data_centers: DataCenters,
    /// Which servers it enlists.
    #[serde(default, skip_serializing_if = "NewNodes::is_static")]
    pub new_nodes: NewNodes,
    /// Who decides between contents that diverged; `None`: each server as it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Chain>,
}

impl NewDatabase {
    /// Reads local and writes waiting unless requests say otherwise.
    #[must_use]
    pub fn new(name: &str, kind: DatabaseKind, write_quorum: WriteQuorum) -> Self {
        let (read_quorum, execution_mode) = (ReadQuorum::default(), ExecutionMode::default());
        let (name, data_centers) = (name.to_string(), DataCenters::new());
        let (new_nodes, chain) = (NewNodes::Static, None);
        Self {
            name,
            kind,
            write_quorum,
            read_quorum,
            execution_mode,
            data_centers,
            new_nodes,
            chain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_quorums_are_words_and_numbers_as_text_and_json() {
        for (text, quorum, of_three, of_four) in [
            ("1", ReadQuorum::Count(1), 1, 1),
            ("Majority", ReadQuorum::Majority, 2, 3),
            ("ALL", ReadQuorum::All, 3, 4),
            ("4", ReadQuorum::Count(4), 4, 4),
            ("localDataCenter", ReadQuorum::LocalDataCenter, 2, 3),
        ] {
            assert_eq!(text.parse(), Ok(quorum));
            assert_eq!((quorum.effective(3), quorum.effective(4)), (of_three, of_four), "{text}");
            let json = serde_json::to_string(&quorum).unwrap();
            assert_eq!(serde_json::from_str::<ReadQuorum>(&json).unwrap(), quorum);
        }
        assert!(ReadQuorum::default().is_local());
        assert!(!ReadQuorum::Majority.is_local());
        for bad in ["0", "-1", "most", "", "4294967296", "1.5", "local"] {
            assert_eq!(bad.parse::<ReadQuorum>(), Err(ReadQuorumError(bad.into())));
        }
        let error = serde_json::from_str::<ReadQuorum>("0").unwrap_err().to_string();
        assert_eq!(
            error,
            "The value '0' is not supported for readQuorum in distributed configuration"
        );
    }

    #[test]
    fn execution_modes_are_the_originals_words_and_nothing_else() {
        for (text, mode) in [
            ("undefined", ExecutionMode::Undefined),
            ("Synchronous", ExecutionMode::Synchronous),
            ("ASYNCHRONOUS", ExecutionMode::Asynchronous),
        ] {
            assert_eq!(text.parse(), Ok(mode));
            let json = serde_json::to_string(&mode).unwrap();
            assert_eq!(serde_json::from_str::<ExecutionMode>(&json).unwrap(), mode);
        }
        // The original takes any other word for asynchronous.
        let error = serde_json::from_str::<ExecutionMode>("\"async\"").unwrap_err().to_string();
        assert!(error.contains("'async'") && error.contains("legal are undefined"), "{error}");
    }
}
