//! Commits are applied on exact bases only: each write of an item is one version above what the
//! server holds, so nothing is applied twice, skipped or undone (PROTOCOL.md 3.6.3, trap A12). A
//! server that aligns may skip versions (3.6.5), and still takes nothing twice or backwards.

use std::collections::BTreeMap;

use quorate_api::ItemId;
use quorate_protocol::io::Write;

use crate::disk::Contents;

/// Looks at one batch over what the disk holds before it.
pub(super) fn check(writes: &[Write], before: &Contents) -> Option<String> {
    let mut held: BTreeMap<&ItemId, u64> = BTreeMap::new();
    for write in writes {
        let Write::Item(item, committed) = write else { continue };
        let stored = || before.items.get(item).map_or(0, |stored| stored.stamp.version);
        let (version, held) = (committed.stamp.version, held.entry(item).or_insert_with(stored));
        let fits = version == *held + 1 || (before.aligning && version > *held);
        if !fits {
            return Some(format!("{item}: version {version} written over {held}"));
        }
        *held = version;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::{ClusterKey, Committed, Stamp, TxId};

    #[test]
    fn a_skipped_and_a_repeated_version_are_caught() {
        let item = ItemId::record(ClusterKey::default(), 0);
        let version = |version| {
            let stamp = Stamp { version, tx: TxId::NONE };
            Committed { stamp, live: true, image: None, elsewhere: None }
        };
        let write = |number| Write::Item(item.clone(), version(number));
        let mut before = Contents::default();
        before.items.insert(item.clone(), version(2));
        assert_eq!(check(&[write(3), write(4)], &before), None);
        assert!(check(&[write(4)], &before).is_some());
        assert!(check(&[write(3), write(3)], &before).is_some());
        before.aligning = true;
        assert_eq!(check(&[write(4)], &before), None);
        assert!(check(&[write(2)], &before).is_some());
    }
}
