//! Positions for new records: blocks of them, each granted once, to one boot of one server
//! (PROTOCOL.md 3.9, trap A20). May not know who owns a cluster; `agreement` has checked it.

use alloc::collections::BTreeMap;
use core::ops::Range;

use quorate_api::{Boot, ClusterKey, NodeId};
use serde::{Deserialize, Serialize};

/// Positions of one block. A restart wastes at most two blocks a cluster.
pub const BLOCK: u64 = 10_000;

/// Positions that one boot of a server may use. Another boot of it may not: nobody knows how far
/// the earlier one came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block {
    to: NodeId,
    boot: Boot,
    positions: Range<u64>,
}

/// The newest block of every cluster that has one; those before it are used by whom they were
/// granted to, and nobody else needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Positions {
    newest: BTreeMap<ClusterKey, Block>,
}

impl Positions {
    /// Grants the next block of a cluster: it begins where all before it have ended.
    pub(crate) fn grant(&mut self, cluster: ClusterKey, to: NodeId, boot: Boot) {
        let lo = self.newest.get(&cluster).map_or(0, |block| block.positions.end);
        self.newest.insert(cluster, Block { to, boot, positions: lo..lo + BLOCK });
    }

    /// Nothing before this position of a cluster is granted.
    pub(crate) fn begin(&mut self, cluster: ClusterKey, at: u64) {
        let nobodys = Block { to: NodeId(0), boot: Boot(0), positions: at..at };
        self.newest.insert(cluster, nobodys);
    }

    /// By cluster of a database, where all blocks have ended.
    pub(crate) fn ends(&self, database: u32) -> impl Iterator<Item = (u32, u64)> {
        let of = self.newest.iter().filter(move |(cluster, _)| cluster.database == database);
        of.map(|(cluster, block)| (cluster.cluster, block.positions.end))
    }

    /// Forgets clusters that are no more; their numbers are never used again.
    pub(crate) fn retain(&mut self, is_there: impl Fn(ClusterKey) -> bool) {
        self.newest.retain(|cluster, _| is_there(*cluster));
    }

    /// The newest block of each cluster, where it was granted to this boot of this server.
    pub(crate) fn granted_to(
        &self,
        node: NodeId,
        boot: Boot,
    ) -> impl Iterator<Item = (ClusterKey, Range<u64>)> {
        let own = self.newest.iter().filter(move |(_, b)| (b.to, b.boot) == (node, boot));
        own.map(|(cluster, block)| (*cluster, block.positions.clone()))
    }
}
