//! At most one live record has a key, and the key's item names it, in any server's snapshot
//! (PROTOCOL.md 3.11, trap A13).

use std::collections::BTreeMap;

use quorate_api::{Committed, ItemId, ItemKey};

use crate::options::Options;
use crate::workload::unique::{claimed, key_item, owner};

pub(super) fn check(items: &BTreeMap<ItemId, Committed>, options: &Options) -> Option<String> {
    let mut holders: BTreeMap<u64, &ItemId> = BTreeMap::new();
    let records = items.iter().filter(|(item, _)| matches!(item.key, ItemKey::Record(_)));
    for (record, committed) in records {
        let Some(key) = claimed(Some(committed)) else { continue };
        if let Some(other) = holders.insert(key, record) {
            return Some(format!("{other} and {record} both have key {key}"));
        }
    }
    for key in 0..options.keys {
        let named = owner(items.get(&key_item(options, key)));
        let holder = holders.get(&key).copied();
        if named.as_ref() != holder {
            return Some(format!("key {key} is owned by {named:?} and claimed by {holder:?}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::{Image, Stamp};

    #[test]
    fn a_key_of_two_records_is_caught() {
        let options = Options { keys: 1, ..Options::of_seed(1) };
        let live = |body: &[u8]| {
            let mut bytes = 7_u64.to_be_bytes().to_vec();
            bytes.extend_from_slice(body);
            Committed {
                stamp: Stamp::ABSENT,
                live: true,
                image: Some(Image::from(bytes)),
                elsewhere: None,
            }
        };
        let cluster = options.clusters[0].cluster;
        let mut owner = cluster.cluster.to_be_bytes().to_vec();
        owner.extend_from_slice(&1_000_u64.to_be_bytes());
        let mut items = BTreeMap::new();
        items.insert(ItemId::record(cluster, 1_000), live(&0_u64.to_be_bytes()));
        assert!(check(&items, &options).is_some());
        items.insert(key_item(&options, 0), live(&owner));
        assert_eq!(check(&items, &options), None);
        items.insert(ItemId::record(cluster, 1_001), live(&0_u64.to_be_bytes()));
        assert!(check(&items, &options).is_some());
    }
}
