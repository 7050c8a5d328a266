//! An acknowledged commit is never lost: every version it wrote is at or below the final one of its
//! item, and was really written (PROTOCOL.md 3.11).

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{Committed, ItemId, TxId};

use super::one_commit_per_base::OneCommitPerBase;

#[derive(Debug, Default)]
pub(super) struct AcknowledgedStays(BTreeSet<TxId>);

impl AcknowledgedStays {
    pub(super) fn see(&mut self, tx: TxId) {
        self.0.insert(tx);
    }

    pub(super) fn check(
        &self,
        items: &BTreeMap<ItemId, Committed>,
        commits: &OneCommitPerBase,
    ) -> Option<String> {
        for tx in &self.0 {
            let wrote = commits.of_tx(*tx);
            if wrote.is_empty() {
                return Some(format!("{tx} was acknowledged and never applied anywhere"));
            }
            for (item, version) in wrote {
                let last = items.get(item).map_or(0, |c| c.stamp.version);
                if last < *version {
                    return Some(format!(
                        "{tx} wrote version {version} of {item}; it ended at {last}"
                    ));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_acknowledged_write_is_caught() {
        let mut invariant = AcknowledgedStays::default();
        let nothing = OneCommitPerBase::default();
        assert_eq!(invariant.check(&BTreeMap::new(), &nothing), None);
        invariant.see(TxId::NONE);
        assert!(invariant.check(&BTreeMap::new(), &nothing).is_some());
    }
}
