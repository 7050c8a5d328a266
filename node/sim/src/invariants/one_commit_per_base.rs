//! Of two transactions with the same base stamp on an item at most one commits, so that there is
//! one content per (item, version) (PROTOCOL.md 3.11, traps A1 and A4; Adya, "Weak Consistency",
//! 1999: lost update).

use std::collections::BTreeMap;

use quorate_api::{Committed, ItemId, TxId};

#[derive(Debug, Default)]
pub(super) struct OneCommitPerBase {
    written: BTreeMap<(ItemId, u64), Committed>,
    /// (item, version) by writer.
    by_tx: BTreeMap<TxId, Vec<(ItemId, u64)>>,
}

impl OneCommitPerBase {
    pub(super) fn see(&mut self, item: &ItemId, committed: &Committed) -> Option<String> {
        let version = committed.stamp.version;
        if let Some(before) = self.written.get(&(item.clone(), version)) {
            let text = || {
                format!(
                    "{item} version {version} was written by {} and by {}",
                    before.stamp.tx, committed.stamp.tx
                )
            };
            return (before != committed).then(text);
        }
        if version > 1 && !self.written.contains_key(&(item.clone(), version - 1)) {
            return Some(format!("{item} version {version} builds on one that nobody wrote"));
        }
        self.written.insert((item.clone(), version), committed.clone());
        self.by_tx.entry(committed.stamp.tx).or_default().push((item.clone(), version));
        None
    }

    /// What a transaction wrote, on any server.
    pub(super) fn of_tx(&self, tx: TxId) -> &[(ItemId, u64)] {
        self.by_tx.get(&tx).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::{Boot, ClusterKey, NodeId, Stamp};

    #[test]
    fn two_writers_of_one_version_are_caught() {
        let mut invariant = OneCommitPerBase::default();
        let item = ItemId::record(ClusterKey::default(), 0);
        let by = |seq| {
            let tx = TxId { node: NodeId(1), boot: Boot(1), seq };
            let stamp = Stamp { version: 1, tx };
            Committed { stamp, live: true, image: None, elsewhere: None }
        };
        assert_eq!(invariant.see(&item, &by(1)), None);
        assert_eq!(invariant.see(&item, &by(1)), None);
        assert!(invariant.see(&item, &by(2)).is_some());
    }
}
