//! A position is used once, whoever owned its cluster when, and however often servers restarted
//! (PROTOCOL.md 3.9 "RIDs", 3.11, trap A20; FEATURES A4).

use std::collections::BTreeMap;

use quorate_api::ItemId;

/// Records that servers were about to create, and which server was.
#[derive(Debug, Default)]
pub(super) struct PositionOnce(BTreeMap<ItemId, usize>);

impl PositionOnce {
    pub(super) fn see(&mut self, server: usize, record: &ItemId) -> Option<String> {
        let first = self.0.insert(record.clone(), server)?;
        Some(format!("uses {record}, which server {first} has used"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::ClusterKey;

    #[test]
    fn a_position_that_comes_again_is_caught() {
        let record = |position| ItemId::record(ClusterKey { database: 1, cluster: 10 }, position);
        let mut invariant = PositionOnce::default();
        assert_eq!(invariant.see(0, &record(1)), None);
        assert_eq!(invariant.see(1, &record(2)), None);
        assert!(invariant.see(1, &record(1)).is_some());
    }
}
