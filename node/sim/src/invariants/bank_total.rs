//! The sum of all accounts never changes, in any server's snapshot: a transaction is there whole or
//! not at all (PROTOCOL.md 3.6.3, traps A8 and A12; Bailis et al., "Scalable Atomic Visibility with
//! RAMP Transactions", 2014: fractured reads).

use std::collections::BTreeMap;

use quorate_api::{Committed, ItemId};

use crate::options::Options;
use crate::workload::bank::{OPENING, balance};

pub(super) fn check(items: &BTreeMap<ItemId, Committed>, options: &Options) -> Option<String> {
    let mut total = 0;
    for key in 0..options.keys {
        match balance(items.get(&options.record_of(key))) {
            Some(balance) => total += balance,
            None => return Some(format!("account {key} is gone")),
        }
    }
    let promised = OPENING * i64::try_from(options.keys).unwrap_or(0);
    (total != promised).then(|| format!("the accounts sum to {total} instead of {promised}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::{Image, Stamp};

    #[test]
    fn money_made_and_an_account_lost_are_caught() {
        let options = Options { keys: 2, ..Options::of_seed(1) };
        let account = |balance: i64| {
            let mut bytes = 7_u64.to_be_bytes().to_vec();
            bytes.extend_from_slice(&balance.to_be_bytes());
            Committed {
                stamp: Stamp::ABSENT,
                live: true,
                image: Some(Image::from(bytes)),
                elsewhere: None,
            }
        };
        let mut items = BTreeMap::new();
        items.insert(options.record_of(0), account(OPENING - 5));
        assert!(check(&items, &options).is_some());
        items.insert(options.record_of(1), account(OPENING + 5));
        assert_eq!(check(&items, &options), None);
        items.insert(options.record_of(1), account(OPENING + 6));
        assert!(check(&items, &options).is_some());
    }
}
