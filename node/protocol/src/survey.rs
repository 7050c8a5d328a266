//! Digests of all items of a cluster, in key order, cut into leaves. Data, and how it is read; who
//! compares what with whom is in `machine/align_compare`.
//!
//! Where a leaf ends depends on the key alone, so that two servers cut alike wherever they have the
//! same keys, and each reads its items once, whatever differs.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::convert::Infallible;

use quorate_api::{Boot, ClusterKey, Committed, ItemKey, NodeId};
use xxhash_rust::xxh3::xxh3_64;

use crate::alignment::Digest;
use crate::io::{Store, is_last_page};

/// Items asked of the store at once.
const PAGE_ITEMS: usize = 1_024;

/// What is to be surveyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Which cluster.
    pub cluster: ClusterKey,
    /// Items a leaf holds on average.
    pub leaf: usize,
    /// What everybody has of each boot: tombstones below may be dropped anywhere at any time, and
    /// do not count.
    pub everywhere: BTreeMap<(NodeId, Boot), u64>,
}

/// Digests of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaves {
    /// Last keys of all leaves but the last one, which has no bound.
    cuts: Vec<ItemKey>,
    /// One more than cuts.
    digests: Vec<Digest>,
    /// How many items were read.
    pub items: u64,
}

impl Survey {
    /// It may not be dropped anywhere: what everybody has to have.
    #[must_use]
    pub fn counts(&self, key: &ItemKey, committed: &Committed) -> bool {
        let tx = committed.stamp.tx;
        let mark = self.everywhere.get(&(tx.node, tx.boot));
        committed.live || !is_droppable(key) || mark.is_none_or(|mark| tx.seq >= *mark)
    }

    /// Reads the cluster, a page at a time.
    ///
    /// # Errors
    /// Whatever reading a page fails with.
    pub fn read<E>(
        &self,
        mut page: impl FnMut(Option<&ItemKey>, usize) -> Result<Vec<(ItemKey, Committed)>, E>,
    ) -> Result<Leaves, E> {
        let mut leaves = Leaves { cuts: Vec::new(), digests: [Digest::default()].into(), items: 0 };
        let mut after = None;
        loop {
            let found = page(after.as_ref(), PAGE_ITEMS)?;
            let is_last = is_last_page(&found, PAGE_ITEMS);
            for (key, committed) in found {
                leaves.items += 1;
                if self.counts(&key, &committed) {
                    leaves.add(Digest::of(&key, &committed));
                }
                if is_cut(&key, self.leaf) {
                    leaves.cut(key.clone());
                }
                after = Some(key);
            }
            if is_last {
                return Ok(leaves);
            }
        }
    }

    /// The same from a store that cannot fail.
    #[must_use]
    pub fn of(&self, store: &dyn Store) -> Leaves {
        let page =
            |after: Option<&ItemKey>, limit| Ok(store.items_after(self.cluster, after, limit));
        match self.read::<Infallible>(page) {
            Ok(leaves) => leaves,
            Err(never) => match never {},
        }
    }
}

/// Tombstones of unique keys stay.
pub(crate) const fn is_droppable(key: &ItemKey) -> bool {
    !matches!(key, ItemKey::Key(_))
}

fn is_cut(key: &ItemKey, leaf: usize) -> bool {
    let hash = match key {
        ItemKey::Record(position) => xxh3_64(&position.to_le_bytes()),
        ItemKey::Key(bytes) | ItemKey::Token(bytes) => xxh3_64(bytes),
    };
    hash.is_multiple_of(leaf.max(1) as u64)
}

impl Leaves {
    fn add(&mut self, digest: Digest) {
        if let Some(last) = self.digests.last_mut() {
            *last = last.plus(digest);
        }
    }

    fn cut(&mut self, key: ItemKey) {
        self.cuts.push(key);
        self.digests.push(Digest::default());
    }

    /// Digests of the leaves, in order; at least one.
    #[must_use]
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// Last key of a leaf; `None` for the last leaf.
    #[must_use]
    pub fn bound(&self, leaf: usize) -> Option<&ItemKey> {
        self.cuts.get(leaf)
    }

    /// Over the items behind one key, up to another, inclusive; `None` where no leaf ends there.
    #[must_use]
    pub fn over(&self, from: Option<&ItemKey>, upto: Option<&ItemKey>) -> Option<Digest> {
        let end_of = |key: &ItemKey| self.cuts.binary_search(key).ok().map(|leaf| leaf + 1);
        let start = from.map_or(Some(0), end_of)?;
        let end = upto.map_or(Some(self.digests.len()), end_of)?;
        let digests = self.digests.get(start..end)?;
        Some(digests.iter().fold(Digest::default(), |sum, digest| sum.plus(*digest)))
    }

    /// An item has changed since.
    pub fn change(&mut self, key: &ItemKey, before: Digest, after: Digest) {
        let leaf = self.cuts.partition_point(|cut| cut < key);
        if let Some(digest) = self.digests.get_mut(leaf) {
            *digest = digest.minus(before).plus(after);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use quorate_api::{Stamp, TxId};

    use super::*;

    const CLUSTER: ClusterKey = ClusterKey { database: 1, cluster: 1 };

    fn item(version: u64) -> Committed {
        Committed {
            stamp: Stamp { version, tx: TxId::NONE },
            live: true,
            image: None,
            elsewhere: None,
        }
    }

    fn survey(positions: impl Iterator<Item = (u64, u64)>) -> Leaves {
        let survey = Survey { cluster: CLUSTER, leaf: 8, everywhere: BTreeMap::new() };
        let mut items = positions.map(|(p, v)| (ItemKey::Record(p), item(v)));
        survey.read::<()>(|_, limit| Ok(items.by_ref().take(limit).collect())).unwrap()
    }

    #[test]
    fn leaves_are_cut_alike_whatever_else_is_there() {
        let all = survey((0..5_000).map(|p| (p, 1)));
        let half = survey((0..5_000).filter(|p| p % 2 == 0).map(|p| (p, 1)));
        assert_eq!((all.items, half.items), (5_000, 2_500));
        assert!(all.cuts.len() > 500 && half.cuts.iter().all(|cut| all.cuts.contains(cut)));
    }

    #[test]
    fn ranges_add_up_and_only_leaves_have_digests() {
        let all = survey((0..1_000).map(|p| (p, 1)));
        let (a, b) = (all.cuts[3].clone(), all.cuts[9].clone());
        let parts = [(None, Some(&a)), (Some(&a), Some(&b)), (Some(&b), None)];
        let sum = parts.map(|(from, upto)| all.over(from, upto).unwrap());
        let whole = all.over(None, None).unwrap();
        assert_eq!(sum.into_iter().fold(Digest::default(), Digest::plus), whole);
        let ItemKey::Record(position) = a else { unreachable!() };
        let between = (position + 1..).map(ItemKey::Record).find(|key| !is_cut(key, 8)).unwrap();
        assert_eq!(all.over(None, Some(&between)), None);
        assert_eq!(all.over(Some(&b), Some(&all.cuts[3])), None, "the wrong way round");
    }

    #[test]
    fn a_change_is_like_another_survey() {
        let mut before = survey((0..1_000).map(|p| (p, 1)));
        let after = survey((0..1_000).map(|p| (p, if p == 77 { 2 } else { 1 })));
        assert_ne!(before, after);
        let key = ItemKey::Record(77);
        before.change(&key, Digest::of(&key, &item(1)), Digest::of(&key, &item(2)));
        assert_eq!(before, after);
    }

    #[test]
    fn tombstones_that_may_be_dropped_do_not_count() {
        let tx = TxId { node: NodeId(1), boot: Boot(1), seq: 5 };
        let gone = Committed {
            stamp: Stamp { version: 2, tx },
            live: false,
            image: None,
            elsewhere: None,
        };
        for (mark, counts) in [(5, true), (6, false)] {
            let everywhere = [((NodeId(1), Boot(1)), mark)].into();
            let survey = Survey { cluster: CLUSTER, leaf: 8, everywhere };
            assert_eq!(survey.counts(&ItemKey::Record(1), &gone), counts);
            assert!(survey.counts(&ItemKey::Key(vec![1]), &gone), "keys keep theirs");
        }
    }
}
