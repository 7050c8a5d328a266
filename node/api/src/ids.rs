//! Identities: servers, boots, transactions, clusters, records. Plain numbers with a textual form.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Identity of a server: made at its first start, kept outside database directories, never copied
/// (PROTOCOL.md 3.1).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Counter of a server's starts, synced before its first message (PROTOCOL.md 3.1).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Boot(pub u32);

/// Identity of one attempt of a transaction. Automatic retries get new ones (PROTOCOL.md 3.1, trap
/// A6).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct TxId {
    /// Its coordinator.
    pub node: NodeId,
    /// The coordinator's boot that made it.
    pub boot: Boot,
    /// Counts from 1 within the boot.
    pub seq: u64,
}

impl TxId {
    /// The writer of what was never written.
    pub const NONE: Self = Self { node: NodeId(0), boot: Boot(0), seq: 0 };
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.node, self.boot.0, self.seq)
    }
}

/// A record cluster of one database. Database 0 is the system database; its cluster 0 holds the
/// schema record.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ClusterKey {
    /// Database number, never reused.
    pub database: u32,
    /// Cluster number within the database.
    pub cluster: u32,
}

impl fmt::Display for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.database, self.cluster)
    }
}

/// Record id within a database, written `#cluster:position`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Rid {
    /// Cluster number.
    pub cluster: u32,
    /// Position within the cluster, from 0; holes are normal.
    pub position: u64,
}

impl fmt::Display for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}:{}", self.cluster, self.position)
    }
}

/// The text was not `#cluster:position` (the `#` may be left out, as in URLs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseRidError;

impl fmt::Display for ParseRidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record id looks like #12:0")
    }
}

impl core::error::Error for ParseRidError {}

impl FromStr for Rid {
    type Err = ParseRidError;

    fn from_str(text: &str) -> Result<Self, ParseRidError> {
        let text = text.strip_prefix('#').unwrap_or(text);
        let (cluster, position) = text.split_once(':').ok_or(ParseRidError)?;
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(cluster) || !digits(position) {
            return Err(ParseRidError);
        }
        Ok(Self {
            cluster: cluster.parse().map_err(|_| ParseRidError)?,
            position: position.parse().map_err(|_| ParseRidError)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn rids_round_trip_and_reject_junk() {
        for text in ["#12:0", "#0:18446744073709551615"] {
            assert_eq!(text.parse::<Rid>().unwrap().to_string(), text);
        }
        assert_eq!("7:1".parse::<Rid>().unwrap(), Rid { cluster: 7, position: 1 });
        for text in
            ["", "#", "12", "#12:", "#:1", "#-1:0", "#+1:0", "#1:2:3", "#4294967296:0", "#a:b"]
        {
            assert_eq!(text.parse::<Rid>(), Err(ParseRidError), "{text}");
        }
    }
}
