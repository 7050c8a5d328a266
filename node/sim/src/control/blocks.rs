//! Positions for new records, from blocks that were granted to this boot of this server, as the
//! server's allocator has them (`runtime/blocks`). May not know who owns a cluster.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use quorate_api::ClusterKey;

/// What one server has left, by cluster.
#[derive(Debug, Default)]
pub(crate) struct Blocks(BTreeMap<ClusterKey, Left>);

#[derive(Debug, Default)]
struct Left {
    unused: VecDeque<Range<u64>>,
    /// End of the newest block that came in: it is told of again and again.
    seen: u64,
    /// Positions of that block.
    size: u64,
    /// A block is being asked for.
    is_asked: bool,
}

impl Blocks {
    /// Takes in the newest block; one that is known already changes nothing.
    pub(super) fn granted(&mut self, cluster: ClusterKey, block: Range<u64>) {
        let left = self.0.entry(cluster).or_default();
        if block.start >= left.seen {
            (left.seen, left.size) = (block.end, block.end - block.start);
            left.unused.push_back(block);
        }
    }

    /// The next position, behind so many that are left out.
    pub(super) fn take(&mut self, cluster: ClusterKey, holes: u64) -> Option<u64> {
        let left = self.0.get_mut(&cluster)?;
        let mut first = left.unused.pop_front()?;
        let position = (first.start + holes).min(first.end - 1);
        first.start = position + 1;
        if !first.is_empty() {
            left.unused.push_front(first);
        }
        Some(position)
    }

    /// True once, when it is time to ask for the next block.
    pub(super) fn begins_to_ask(&mut self, cluster: ClusterKey) -> bool {
        let left = self.0.entry(cluster).or_default();
        let unused: u64 = left.unused.iter().map(|block| block.end - block.start).sum();
        unused <= left.size / 2 && !std::mem::replace(&mut left.is_asked, true)
    }

    /// What was asked for came, or will not.
    pub(super) fn answered(&mut self, cluster: ClusterKey) {
        if let Some(left) = self.0.get_mut(&cluster) {
            left.is_asked = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_from_blocks_and_the_next_is_asked_for_at_half_use() {
        let cluster = ClusterKey { database: 1, cluster: 10 };
        let mut blocks = Blocks::default();
        assert_eq!(blocks.take(cluster, 0), None);
        assert!(blocks.begins_to_ask(cluster) && !blocks.begins_to_ask(cluster));
        blocks.granted(cluster, 4..8);
        blocks.granted(cluster, 4..8);
        blocks.answered(cluster);
        assert!(!blocks.begins_to_ask(cluster));
        let taken = [0, 1, 0, 0].map(|holes| blocks.take(cluster, holes));
        assert_eq!(taken, [Some(4), Some(6), Some(7), None]);
        assert!(blocks.begins_to_ask(cluster));
    }
}
