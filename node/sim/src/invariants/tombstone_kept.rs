//! A tombstone is dropped only when every MASTER of its cluster durably has it, or had it (traps
//! A18 and A20): whoever has less still has the item alive.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{Committed, ItemId};
use quorate_protocol::io::Write;

use crate::disk::Contents;
use crate::options::Options;

#[derive(Debug, Default)]
pub(super) struct TombstoneKept {
    /// The last tombstone of each item.
    tombstones: BTreeMap<ItemId, Committed>,
    dropped: BTreeSet<(usize, ItemId)>,
}

impl TombstoneKept {
    pub(super) fn see(
        &mut self,
        by: usize,
        write: &Write,
        disks: &[&Contents],
        options: &Options,
    ) -> Option<String> {
        match write {
            Write::Item(item, committed) if !committed.live => {
                self.tombstones.insert(item.clone(), committed.clone());
                None
            }
            Write::Purge(item) => {
                self.dropped.insert((by, item.clone()));
                self.lacking(item, disks, options)
            }
            _ => None,
        }
    }

    fn lacking(&self, item: &ItemId, disks: &[&Contents], options: &Options) -> Option<String> {
        let Some(tombstone) = self.tombstones.get(item) else {
            return Some(format!("dropped {item}, which was never deleted"));
        };
        let shapes = options.clusters();
        let shape = shapes.iter().find(|shape| shape.cluster == item.cluster)?;
        for master in shape.masters.clone() {
            let has = disks[master].items.get(item).is_some_and(|c| c.stamp == tombstone.stamp);
            if !has && !self.dropped.contains(&(master, item.clone())) {
                return Some(format!("dropped {item}, and server {master} does not have it"));
            }
        }
        None
    }

    /// What was deleted, dropped or not.
    pub(super) fn tombstones(&self) -> &BTreeMap<ItemId, Committed> {
        &self.tombstones
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::{Stamp, TxId};

    #[test]
    fn a_tombstone_dropped_early_is_caught() {
        let item = ItemId::record(crate::options::CLUSTER, 0);
        let options = Options { masters: 2, second: None, ..Options::of_seed(1) };
        let stamp = Stamp { version: 2, tx: TxId::NONE };
        let tombstone = Committed { stamp, live: false, image: None };
        let mut invariant = TombstoneKept::default();
        let (mut has, lacks) = (Contents::default(), Contents::default());
        has.items.insert(item.clone(), tombstone.clone());
        let write = Write::Item(item.clone(), tombstone);
        assert_eq!(invariant.see(0, &write, &[&has, &lacks], &options), None);
        let purge = Write::Purge(item);
        assert_eq!(invariant.see(0, &purge, &[&has, &has], &options), None);
        assert!(invariant.see(0, &purge, &[&has, &lacks], &options).is_some());
    }
}
