//! The distributed configuration of a database: the document of the original, versions 1.6 to 3.x,
//! as a checked type, and which of its values counts where. May not know files, nor whether a
//! server can keep what it says (that is `support`).
//!
//! A value counts in this order: that of the cluster, that of the database, the default. A cluster
//! that is not listed is what `*` says, whose own values then count as the cluster's; one that is
//! listed inherits nothing from `*`.

mod document;
mod obsolete;
mod parse;
mod servers;
mod support;
mod tree;
mod write;

#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

pub use self::document::document;
pub use self::parse::CHAIN;
pub use self::servers::{NEW_NODE, ServerList};
pub use self::support::{Defaults, Supported, Unsupported};
pub use self::write::WriteError;
use quorate_protocol::chain::Chain;
use serde::{Deserialize, Serialize};

use crate::data_centers::DataCenters;
use crate::members::WriteQuorum;
use crate::settings::ExecutionMode;

/// Stands for every cluster, or every server, that is not listed.
pub const ANY: &str = "*";

/// The template that a server begins with: that of 2.2 and later.
pub const SHIPPED_TEMPLATE: &str = include_str!("default-distributed-db-config.json");

/// Largest legal version: beyond, numbers of JSON lose digits in many readers.
pub const VERSION_MAX: u64 = 1 << 53;

/// The configuration of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistributedConfig {
    /// Rises with every change.
    pub version: u64,
    /// Whether servers that join and lack the database are given it.
    pub auto_deploy: bool,
    /// What counts where a cluster says nothing.
    pub overridable: Overridable,
    /// What becomes of a server that joins.
    pub new_node_strategy: NewNodeStrategy,
    /// Roles by server; `*` is everybody else.
    pub servers: BTreeMap<String, Role>,
    /// Data centers by name.
    pub data_centers: DataCenters,
    /// Who decides between contents that diverged; `None`: nothing is said.
    pub chain: Option<Chain>,
    /// Clusters by name; `*` is every other one.
    pub clusters: BTreeMap<String, ClusterConfig>,
}

/// Settings that a cluster can override; `None`: it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overridable {
    /// Servers that answer a read.
    pub read_quorum: Option<Quorum>,
    /// MASTERs that say Yes to a write.
    pub write_quorum: Option<Quorum>,
    /// Whether a writer waits.
    pub execution_mode: Option<ExecutionMode>,
    /// Whether a write waits until the server that was asked has it too.
    pub read_your_writes: Option<bool>,
}

/// What is said of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterConfig {
    /// Who keeps it, the owner first; nobody: it is not replicated.
    pub servers: ServerList,
    /// The owner, whatever the order; one of the servers.
    pub owner: Option<String>,
    /// What counts for this cluster alone.
    pub overridable: Overridable,
}

/// How many servers a read or a write needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quorum {
    /// ⌊N/2⌋ + 1.
    Majority,
    /// N.
    All,
    /// As the data center of the asked server says.
    LocalDataCenter,
    /// A fixed number, at least 1.
    Count(u32),
}

impl fmt::Display for Quorum {
    /// As in the document, without quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Majority => f.write_str("majority"),
            Self::All => f.write_str("all"),
            Self::LocalDataCenter => f.write_str("localDataCenter"),
            Self::Count(n) => write!(f, "{n}"),
        }
    }
}

impl From<WriteQuorum> for Quorum {
    fn from(quorum: WriteQuorum) -> Self {
        match quorum {
            WriteQuorum::Majority => Self::Majority,
            WriteQuorum::All => Self::All,
            WriteQuorum::Count(n) => Self::Count(n),
            WriteQuorum::LocalDataCenter => Self::LocalDataCenter,
        }
    }
}

impl From<Quorum> for WriteQuorum {
    fn from(quorum: Quorum) -> Self {
        match quorum {
            Quorum::Majority => Self::Majority,
            Quorum::All => Self::All,
            Quorum::Count(n) => Self::Count(n),
            Quorum::LocalDataCenter => Self::LocalDataCenter,
        }
    }
}

/// What a server may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads, writes, owns clusters, votes.
    #[default]
    Master,
    /// Reads only.
    Replica,
    /// Votes only: it keeps no records, and serves none.
    Witness,
}

impl Role {
    /// True for those whose votes count: MASTERs, and witnesses among them.
    #[must_use]
    pub const fn votes(self) -> bool {
        matches!(self, Self::Master | Self::Witness)
    }

    /// The original's word for it in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Master => "MASTER",
            Self::Replica => "REPLICA",
            Self::Witness => "WITNESS",
        }
    }
}

/// What becomes of a server that joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NewNodeStrategy {
    /// It is enlisted, and counts for good.
    #[default]
    Static,
    /// It counts while it is there.
    Dynamic,
}

impl NewNodeStrategy {
    /// The original's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Dynamic => "dynamic",
        }
    }
}

/// Why a text is no distributed configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A value of the wrong type or out of its range.
    #[error("{path}: {value} is not legal; legal are {legal}")]
    Value {
        /// Where, as `clusters.client_usa.writeQuorum`.
        path: String,
        /// What stands there.
        value: String,
        /// What could.
        legal: String,
    },
    /// A key that no version has.
    #[error("{path}: there is no such setting; {hint}")]
    Unknown {
        /// Where.
        path: String,
        /// The known key that looks like it, or else all of them.
        hint: String,
    },
    /// A key, a server or a tag that stands there twice.
    #[error("{path}: given twice")]
    Twice {
        /// Where, the second time.
        path: String,
    },
    /// Something that must be there.
    #[error("{path}: missing; legal are {legal}")]
    Missing {
        /// Where.
        path: String,
        /// What could be there.
        legal: &'static str,
    },
}

/// What a configuration says that counts otherwise than it may look.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A setting of an earlier version.
    #[error("{path} is obsolete: {instead}")]
    Obsolete {
        /// Where.
        path: String,
        /// Its successor, or what happens instead.
        instead: &'static str,
    },
    /// Said neither for the cluster nor for the database.
    #[error("{setting} is set neither for cluster '{cluster}' nor for the database: {used} counts")]
    Absent {
        /// Which setting.
        setting: &'static str,
        /// Of which cluster.
        cluster: String,
        /// What counts instead.
        used: &'static str,
    },
    /// Legal, and without effect in this server as it is today.
    #[error("{path} has no effect: {instead}")]
    NoEffect {
        /// Where.
        path: String,
        /// What happens instead.
        instead: &'static str,
    },
}

/// A configuration as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// What it says.
    pub config: DistributedConfig,
    /// What a person should know about it.
    pub warnings: Vec<Warning>,
}

impl DistributedConfig {
    /// What is said of a cluster: under its name, whatever the case, else under `*`.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Option<&ClusterConfig> {
        let named = self.clusters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, cluster)| cluster).or_else(|| self.clusters.get(ANY))
    }

    fn pick<T>(&self, cluster: &str, setting: impl Fn(&Overridable) -> Option<T>) -> Option<T> {
        let own = self.cluster(cluster).and_then(|cluster| setting(&cluster.overridable));
        own.or_else(|| setting(&self.overridable))
    }

    /// Servers that answer a read of a cluster; 1 unless said.
    #[must_use]
    pub fn read_quorum(&self, cluster: &str) -> Quorum {
        self.pick(cluster, |o| o.read_quorum).unwrap_or(Quorum::Count(1))
    }

    /// MASTERs that say Yes to a write in a cluster; the majority unless said, as from 2.2 on.
    #[must_use]
    pub fn write_quorum(&self, cluster: &str) -> Quorum {
        self.pick(cluster, |o| o.write_quorum).unwrap_or(Quorum::Majority)
    }

    /// Whether writers in a cluster wait; as each request says unless said here.
    #[must_use]
    pub fn execution_mode(&self, cluster: &str) -> ExecutionMode {
        self.pick(cluster, |o| o.execution_mode).unwrap_or_default()
    }

    /// Whether a write in a cluster waits for the asked server too; it does unless said.
    #[must_use]
    pub fn read_your_writes(&self, cluster: &str) -> bool {
        self.pick(cluster, |o| o.read_your_writes).unwrap_or(true)
    }

    /// Who keeps a cluster.
    #[must_use]
    pub fn servers(&self, cluster: &str) -> &[String] {
        self.cluster(cluster).map_or(&[], |cluster| cluster.servers.names())
    }

    /// Who creates records in a cluster: its static owner, else the first of its servers.
    #[must_use]
    pub fn owner(&self, cluster: &str) -> Option<&str> {
        let cluster = self.cluster(cluster)?;
        let first = cluster.servers.names().first();
        cluster.owner.as_ref().or(first).map(String::as_str)
    }

    /// What a server may do: as said of it, else of `*`, else everything.
    #[must_use]
    pub fn role(&self, server: &str) -> Role {
        self.servers.get(server).or_else(|| self.servers.get(ANY)).copied().unwrap_or_default()
    }
}
