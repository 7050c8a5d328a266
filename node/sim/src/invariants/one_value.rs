//! One value per transaction, cluster and ballot, on every disk (PROTOCOL.md 3.11, 3.5.3; Lamport,
//! "Paxos Made Simple", 2001: a proposer sends one value in a ballot).

use std::collections::BTreeMap;

use quorate_api::{ClusterKey, TxId};
use quorate_protocol::message::{Ballot, TxRecord, Value};

#[derive(Debug, Default)]
pub(super) struct OneValue(BTreeMap<(TxId, ClusterKey, Ballot), Value>);

impl OneValue {
    pub(super) fn see(&mut self, tx: TxId, record: &TxRecord) -> Option<String> {
        for (cluster, instance) in &record.instances {
            let Some((ballot, value)) = instance.accepted else { continue };
            let before = *self.0.entry((tx, *cluster, ballot)).or_insert(value);
            if before != value {
                return Some(format!("{tx} in {cluster}, {ballot:?}: {before:?} and {value:?}"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_protocol::message::Instance;

    #[test]
    fn two_values_of_one_ballot_are_caught() {
        let mut invariant = OneValue::default();
        let record = |value| {
            let instance =
                Instance { accepted: Some((Ballot::default(), value)), ..Instance::default() };
            TxRecord { instances: vec![(ClusterKey::default(), instance)], ..TxRecord::default() }
        };
        assert_eq!(invariant.see(TxId::NONE, &record(Value::Prepared)), None);
        assert!(invariant.see(TxId::NONE, &record(Value::Aborted)).is_some());
    }
}
