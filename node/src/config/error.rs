//! Why settings are refused, in words that name the setting and what is legal. May not decide it.

use std::path::PathBuf;

use quorate_control::data_centers::DataCenterError;
use quorate_control::members::{MembersError, QuorumError};
use quorate_control::settings::{ExecutionModeError, ReadQuorumError};
use quorate_control::versions::Versions;
use quorate_protocol::chain::ChainError;

use super::dial::DialError;
use super::first_run::NameError;
use super::limits::OutOfRange;
use super::template::TemplateError;
use crate::memory::TooSmall;
use crate::memory::size::{OptionsError, SizeError};

/// Why settings are refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The file is no settings file.
    #[error("{}: {detail}", .path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Line, key and what would be legal.
        detail: String,
    },
    /// The list of MASTERs.
    #[error("masters: {0}")]
    Members(#[from] MembersError),
    /// This server is not one of them.
    #[error("masters: server '{name}' is not in the list of MASTERs ({list}); {advice}")]
    NotListed {
        /// Its name.
        name: String,
        /// The list, joined with commas.
        list: String,
        /// What to do.
        advice: &'static str,
    },
    /// It can do only one of the two.
    #[error(
        "join: `masters:` and `join:` exclude each other: a server founds a cluster with others, \
         or joins one that is there"
    )]
    FoundsAndJoins,
    /// A version that this program does not speak.
    #[error(
        "speak_version: {0} is not spoken by this program, which speaks {all}",
        all = Versions::ALL
    )]
    Version(u16),
    /// Nobody would look for it.
    #[error(
        "multicast: a server that stands alone is not looked for; give --masters or --join, or \
         leave multicast out"
    )]
    MulticastAlone,
    /// Roles that a server cannot join in.
    #[error(
        "role: '{0}' is not legal: a server joins as replica, and is made a MASTER once it is \
         ONLINE; or it joins, or founds a cluster with others, as witness"
    )]
    Role(String),
    /// Majorities without any records.
    #[error(
        "{witnesses} of {masters} MASTERs would be witnesses, which keep no records: less than \
         half may be"
    )]
    Witnesses {
        /// How many.
        witnesses: usize,
        /// Of those who found the cluster.
        masters: usize,
    },
    /// A name that nobody configured.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The write quorum.
    #[error("write_quorum: {0}; legal are majority, all and numbers from 1")]
    Quorum(#[from] QuorumError),
    /// The read quorum.
    #[error("read_quorum: {0}; legal are majority, all and numbers from 1")]
    ReadQuorum(#[from] ReadQuorumError),
    /// The execution mode.
    #[error("execution_mode: {0}")]
    ExecutionMode(#[from] ExecutionModeError),
    /// The chain of conflict resolvers.
    #[error("conflict_resolver_chain: {0}")]
    Chain(#[from] ChainError),
    /// The data center that a resolver lets win is none.
    #[error("conflict_resolver_chain: {0}; the template of distributed configurations names them")]
    NoSuchCenter(DataCenterError),
    /// Data centers of the template, or quorums of them.
    #[error("default_db_config: {0}")]
    DataCenters(#[from] DataCenterError),
    /// More votes or answers than there are MASTERs.
    #[error(
        "{key}: {value} cannot be reached, there are {masters} MASTERs; legal are majority, all \
         and numbers from 1 to {masters}"
    )]
    QuorumTooLarge {
        /// Which setting, of which file if it is the template's.
        key: String,
        /// What it was set to.
        value: usize,
        /// How many MASTERs there are.
        masters: usize,
    },
    /// The template of distributed configurations.
    #[error("default_db_config: {0}")]
    Template(#[from] TemplateError),
    /// Nowhere to keep data.
    #[error("data: missing; give --data DIR, or `data:` in the file")]
    NoData,
    /// Where the other MASTERs are.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No password for links.
    #[error(
        "cluster password: missing; servers prove to each other that they know it, set \
         QUORATE_CLUSTER_PASSWORD or `cluster_password:` in the file"
    )]
    NoPassword,
    /// The heap.
    #[error("heap: {0}")]
    Heap(#[from] SizeError),
    /// The heap, as the original's variable gives it.
    #[error("ORIENTDB_OPTS_MEMORY: {0}")]
    HeapOptions(#[from] OptionsError),
    /// Less than a server needs.
    #[error("heap: {0}")]
    HeapTooSmall(#[from] TooSmall),
    /// A number.
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
}
