//! The Merkle tree of one cluster at a source, told node by node. May not know sessions or
//! messages.
//!
//! Every node stands for sixteen nodes below. The other side adds up its own leaves between the
//! same bounds (a digest is a sum, so it needs no tree), and only descends where they differ: what
//! travels grows with the difference and with the logarithm of the cluster's size.

use alloc::vec::Vec;

use quorate_api::ItemKey;

use crate::alignment::{Child, Digest, TreeNode};
use crate::survey::Leaves;

/// Children of a node.
const FANOUT: usize = 16;

/// The tree.
#[derive(Debug)]
pub(super) struct Tree {
    leaves: Leaves,
    /// Digests per level, leaves first; none for an empty cluster.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// The tree above these leaves.
    pub(super) fn new(leaves: Leaves) -> Self {
        let mut levels = Vec::new();
        if leaves.items > 0 {
            levels.push(leaves.digests().to_vec());
        }
        while let Some(below) = levels.last().filter(|level: &&Vec<Digest>| level.len() > FANOUT) {
            let sum = |group: &[Digest]| group.iter().fold(Digest::default(), |a, b| a.plus(*b));
            let above = below.chunks(FANOUT).map(sum).collect();
            levels.push(above);
        }
        Self { leaves, levels }
    }

    /// Children of a node, of the root for `None`; none for a node that is not there.
    pub(super) fn children(&self, node: Option<TreeNode>) -> Vec<Child> {
        let (level, first, last) = match node {
            None => match self.levels.len().checked_sub(1) {
                Some(top) => (top, 0, self.levels[top].len()),
                None => return Vec::new(),
            },
            Some(TreeNode { level, index }) => {
                let Some(below) = usize::from(level).checked_sub(1) else { return Vec::new() };
                let first = (index as usize).saturating_mul(FANOUT);
                (below, first, first.saturating_add(FANOUT))
            }
        };
        let Some(digests) = self.levels.get(level) else { return Vec::new() };
        (first..last.min(digests.len()))
            .map(|index| Child {
                node: TreeNode {
                    level: u8::try_from(level).unwrap_or(u8::MAX),
                    index: u32::try_from(index).unwrap_or(u32::MAX),
                },
                upto: self.bound(level, index),
                digest: digests[index],
            })
            .collect()
    }

    /// Last key below a node; the last one of a level has no bound, so that what the other side has
    /// behind it is looked at, too.
    fn bound(&self, level: usize, index: usize) -> Option<ItemKey> {
        let leaves = FANOUT.pow(u32::try_from(level).unwrap_or(u32::MAX));
        let behind = (index + 1).saturating_mul(leaves);
        self.leaves.bound(behind - 1).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::survey::Survey;
    use quorate_api::{ClusterKey, Committed, Stamp, TxId};

    fn item(version: u64) -> Committed {
        Committed {
            stamp: Stamp { version, tx: TxId::NONE },
            live: true,
            image: None,
            elsewhere: None,
        }
    }

    fn tree(items: impl Iterator<Item = (u64, u64)>) -> Tree {
        let cluster = ClusterKey { database: 1, cluster: 1 };
        let survey = Survey { cluster, leaf: 4, everywhere: alloc::collections::BTreeMap::new() };
        let mut items = items.map(|(p, version)| (ItemKey::Record(p), item(version)));
        let leaves = survey.read::<()>(|_, limit| Ok(items.by_ref().take(limit).collect()));
        Tree::new(leaves.unwrap())
    }

    /// All ranges below a node, as leaves.
    fn leaves(tree: &Tree, node: Option<TreeNode>) -> Vec<Child> {
        let children = tree.children(node);
        let below = |child: Child| match child.node.level {
            0 => alloc::vec![child],
            _ => leaves(tree, Some(child.node)),
        };
        children.into_iter().flat_map(below).collect()
    }

    #[test]
    fn an_empty_tree_has_no_children() {
        assert!(tree(core::iter::empty()).children(None).is_empty());
        let one = tree([(7, 1)].into_iter()).children(None);
        assert_eq!(one.last().unwrap().upto, None);
    }

    #[test]
    fn ranges_follow_each_other_and_cover_everything() {
        let tree = tree((0..10_000).map(|p| (p * 3, 1)));
        let found = leaves(&tree, None);
        let count = found.len();
        assert!((2_000..3_000).contains(&count), "{count}");
        let bounds: Vec<_> = found.iter().map(|child| child.upto.clone()).collect();
        assert!(bounds[..count - 1].windows(2).all(|pair| pair[0] < pair[1]));
        assert!(bounds[..count - 1].iter().all(Option::is_some));
        assert_eq!(bounds[count - 1], None);
    }

    #[test]
    fn a_node_is_the_sum_of_its_children() {
        let tree = tree((0..5_000).map(|p| (p, 1)));
        for node in tree.children(None) {
            let children = tree.children(Some(node.node));
            let sum = children.iter().fold(Digest::default(), |sum, c| sum.plus(c.digest));
            assert_eq!(sum, node.digest);
            assert_eq!(children.last().unwrap().upto, node.upto);
        }
    }

    #[test]
    fn one_changed_item_changes_one_path() {
        let before = tree((0..5_000).map(|p| (p, 1)));
        let after = tree((0..5_000).map(|p| (p, if p == 1_234 { 2 } else { 1 })));
        let pairs = leaves(&before, None).into_iter().zip(leaves(&after, None));
        assert_eq!(pairs.filter(|(a, b)| a != b).count(), 1);
        let tops = before.children(None).into_iter().zip(after.children(None));
        assert_eq!(tops.filter(|(a, b)| a != b).count(), 1);
    }

    #[test]
    fn a_node_that_is_not_there_has_no_children() {
        let tree = tree((0..100).map(|p| (p, 1)));
        assert!(tree.children(Some(TreeNode { level: 9, index: 0 })).is_empty());
        assert!(tree.children(Some(TreeNode { level: 1, index: u32::MAX })).is_empty());
        assert!(tree.children(Some(TreeNode { level: 0, index: 0 })).is_empty());
    }

    #[test]
    fn content_counts_and_not_only_the_stamp() {
        let (key, mut item) = (ItemKey::Record(1), item(1));
        let digest = Digest::of(&key, &item);
        assert_ne!(digest, Digest::of(&ItemKey::Record(2), &item));
        item.image = Some(b"a".as_slice().into());
        let with_image = Digest::of(&key, &item);
        item.image = Some(b"b".as_slice().into());
        assert_ne!(with_image, Digest::of(&key, &item));
        item.live = false;
        assert_ne!(with_image, digest);
    }
}
