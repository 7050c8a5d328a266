//! What the control plane's log makes: the agreement, and which command of each server was the
//! last. Applying an entry is a pure function of the state before; every server that has applied
//! the same entries has the same state, to the byte.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_api::{Boot, NodeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::StateMachine;
use crate::agreement::{Agreement, Refusal};

/// Version of the state's and the entries' JSON; a newer one is refused, not guessed at.
const FORMAT: u32 = 2;

/// Names a proposal: its server, that one's boot, and a number that counts up within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct ProposalId {
    pub(super) node: NodeId,
    pub(super) boot: Boot,
    pub(super) number: u64,
}

/// Content of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry<C> {
    pub(super) id: ProposalId,
    pub(super) command: C,
}

/// What became of a server's last command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    boot: Boot,
    number: u64,
    refused: Option<Refusal>,
}

/// What all servers agree on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State<A = Agreement> {
    format: u32,
    /// Index of the last entry that changed the agreement: `cfg` of PROTOCOL.md 3.1.
    pub cfg: u64,
    /// The agreement.
    pub agreement: A,
    /// A server has one command under way at a time, so its last one tells whether an entry is a
    /// copy: a proposal may be made again when nobody knows whether it arrived.
    last: BTreeMap<NodeId, Last>,
}

impl<A: Default> Default for State<A> {
    fn default() -> Self {
        Self { format: FORMAT, cfg: 0, agreement: A::default(), last: BTreeMap::new() }
    }
}

/// Why bytes are no state or no entry.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableError {
    /// Not the JSON of one.
    #[error("{what} of the control plane is not understood: {error}")]
    Json {
        /// What was read.
        what: &'static str,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// Not a message of the log's library.
    #[error("{what} of the control plane is not understood: {error}")]
    Wire {
        /// What was read.
        what: &'static str,
        /// What is wrong.
        error: String,
    },
    /// Written by another version.
    #[error("the control plane's state has format {0}, this server reads format {FORMAT}")]
    Format(u32),
}

impl UnreadableError {
    pub(super) fn library(what: &'static str, error: &raft::Error) -> Self {
        Self::Wire { what, error: error.to_string() }
    }
}

impl<A: StateMachine> State<A> {
    /// What a cluster of these MASTERs begins with.
    pub(super) fn founded_by(founders: &[(String, NodeId)]) -> Self {
        Self { agreement: A::founded_by(founders), ..Self::default() }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, UnreadableError> {
        let json = |error| UnreadableError::Json { what: "the state", error };
        serde_json::to_vec(self).map_err(json)
    }

    /// Reads a state.
    ///
    /// # Errors
    /// Not a state, or one of another format.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, UnreadableError> {
        #[derive(Deserialize)]
        struct Header {
            format: u32,
        }
        let json = |error| UnreadableError::Json { what: "the state", error };
        let header: Header = serde_json::from_slice(bytes).map_err(json)?;
        if header.format != FORMAT {
            return Err(UnreadableError::Format(header.format));
        }
        serde_json::from_slice(bytes).map_err(json)
    }

    /// Applies the entry at `index`; true when the agreement changed.
    pub(super) fn apply(&mut self, index: u64, entry: &Entry<A::Command>) -> bool {
        let ProposalId { node, boot, number } = entry.id;
        if self.last.get(&node).is_some_and(|last| (last.boot, last.number) >= (boot, number)) {
            return false;
        }
        let applied = self.agreement.apply(&entry.command);
        let changed = matches!(applied, Ok(true));
        self.last.insert(node, Last { boot, number, refused: applied.err() });
        if changed {
            self.cfg = index;
        }
        changed
    }

    /// What became of a proposal; `None`: it was not applied, so far as is known here.
    pub(super) fn outcome(&self, id: ProposalId) -> Option<Result<(), Refusal>> {
        let last = self.last.get(&id.node)?;
        let same = (last.boot, last.number) == (id.boot, id.number);
        same.then(|| last.refused.clone().map_or(Ok(()), Err))
    }
}

impl<C: Serialize + DeserializeOwned> Entry<C> {
    pub(super) fn encode(&self) -> Result<Vec<u8>, UnreadableError> {
        let json = |error| UnreadableError::Json { what: "an entry", error };
        serde_json::to_vec(self).map_err(json)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, UnreadableError> {
        let json = |error| UnreadableError::Json { what: "an entry", error };
        serde_json::from_slice(bytes).map_err(json)
    }
}
