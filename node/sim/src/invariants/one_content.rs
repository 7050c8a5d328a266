//! A transaction id names one content for ever: whoever records an operation of it records the same
//! (PROTOCOL.md 3.1, trap A6).

use std::collections::BTreeMap;

use quorate_api::{ItemId, Operation, TxId};
use quorate_protocol::message::TxRecord;

#[derive(Debug, Default)]
pub(super) struct OneContent(BTreeMap<TxId, BTreeMap<ItemId, Operation>>);

impl OneContent {
    pub(super) fn see(&mut self, tx: TxId, record: &TxRecord) -> Option<String> {
        let known = self.0.entry(tx).or_default();
        for op in &record.ops {
            match known.get(&op.item) {
                None => {
                    known.insert(op.item.clone(), op.clone());
                }
                Some(before) if before == op => {}
                Some(before) => {
                    return Some(format!("{tx} does {before:?} and {op:?}"));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::{ClusterKey, OpKind, Stamp};

    #[test]
    fn two_contents_of_one_id_are_caught() {
        let mut invariant = OneContent::default();
        let record = |kind| {
            let item = ItemId::record(ClusterKey::default(), 0);
            let op = Operation { item, kind, base: Stamp::ABSENT, image: None };
            TxRecord { ops: vec![op], ..TxRecord::default() }
        };
        assert_eq!(invariant.see(TxId::NONE, &record(OpKind::Create)), None);
        assert_eq!(invariant.see(TxId::NONE, &record(OpKind::Create)), None);
        assert!(invariant.see(TxId::NONE, &record(OpKind::Delete)).is_some());
    }
}
