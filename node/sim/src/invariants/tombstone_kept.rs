//! A tombstone is dropped only when every MASTER and REPLICA of its cluster durably has it, or had
//! it (PROTOCOL.md 3.9 "Forgetting", traps A18 and A20): whoever has less still has the item alive.

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
    /// Servers that came later, and have aligned once.
    joined: BTreeSet<usize>,
}

impl TombstoneKept {
    /// Takes note of a delete.
    pub(super) fn see(&mut self, item: &ItemId, committed: &Committed) {
        if committed.live {
            return;
        }
        let last = self.tombstones.entry(item.clone()).or_insert_with(|| committed.clone());
        if last.stamp < committed.stamp {
            *last = committed.clone();
        }
    }

    /// Looks at a batch, with what its disk holds before it, and every other one durably.
    pub(super) fn purged(
        &mut self,
        by: usize,
        writes: &[Write],
        disks: &[&Contents],
        options: &Options,
    ) -> Option<String> {
        let mut lacking = None;
        for write in writes {
            let Write::Purge(item) = write else { continue };
            lacking = lacking.or_else(|| self.lacking(item, disks, options));
            self.dropped.insert((by, item.clone()));
        }
        lacking
    }

    fn lacking(&self, item: &ItemId, disks: &[&Contents], options: &Options) -> Option<String> {
        let Some(tombstone) = self.tombstones.get(item) else {
            return Some(format!("dropped {item}, which was never deleted"));
        };
        let has = |server: usize| {
            let held = disks[server].items.get(item);
            held.is_some_and(|held| held.stamp == tombstone.stamp) || self.has_dropped(server, item)
        };
        // Whoever joins, with nothing, may be unknown to who drops it; it takes what is left.
        let joins = |server: usize| {
            let Contents { aligning, items, .. } = disks[server];
            self.is_joining(server, options) && *aligning && !items.contains_key(item)
        };
        let mut keepers = (0..options.servers).filter(|s| options.belongs(*s, item.cluster));
        let without = keepers.find(|server| !has(*server) && !joins(*server));
        without.map(|server| format!("dropped {item}, and server {server} does not have it"))
    }

    /// True when a server has dropped the tombstone of an item.
    pub(super) fn has_dropped(&self, server: usize, item: &ItemId) -> bool {
        self.dropped.contains(&(server, item.clone()))
    }

    /// A server that is none of the first, and has not aligned yet.
    pub(super) fn is_joining(&self, server: usize, options: &Options) -> bool {
        let comes_later = options.membership.as_ref().is_some_and(|m| server >= m.founders);
        comes_later && !self.joined.contains(&server)
    }

    /// A server that joined has aligned: what others had dropped by then, and it does not hold, it
    /// has as much as they. Gives these tombstones.
    pub(super) fn joined(&mut self, by: usize, holds: &Contents) -> Vec<(ItemId, Committed)> {
        let dropped = self.dropped().filter(|(item, _)| !holds.items.contains_key(*item));
        let found: Vec<_> = dropped.map(|(item, last)| (item.clone(), last.clone())).collect();
        self.dropped.extend(found.iter().map(|(item, _)| (by, item.clone())));
        self.joined.insert(by);
        found
    }

    /// The tombstones that some server has dropped.
    pub(super) fn dropped(&self) -> impl Iterator<Item = (&ItemId, &Committed)> {
        let items: BTreeSet<&ItemId> = self.dropped.iter().map(|(_, item)| item).collect();
        self.tombstones.iter().filter(move |(item, _)| items.contains(*item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Shape;
    use quorate_api::{Stamp, TxId};

    #[test]
    fn a_tombstone_dropped_early_is_caught() {
        let clusters = vec![Shape::new(0, vec![0, 1], 2)];
        let options = Options { servers: 2, clusters, ..Options::of_seed(1) };
        let item = options.record_of(0);
        let stamp = Stamp { version: 2, tx: TxId::NONE };
        let tombstone = Committed { stamp, live: false, image: None, elsewhere: None };
        let mut invariant = TombstoneKept::default();
        let (mut has, lacks) = (Contents::default(), Contents::default());
        has.items.insert(item.clone(), tombstone.clone());
        let purge = [Write::Purge(item.clone())];
        assert!(invariant.purged(0, &purge, &[&has, &has], &options).is_some());
        invariant.see(&item, &tombstone);
        assert!(invariant.purged(0, &purge, &[&has, &lacks], &options).is_some());
        assert_eq!(invariant.purged(1, &purge, &[&lacks, &has], &options), None);
        assert_eq!(invariant.purged(1, &purge, &[&lacks, &lacks], &options), None);
        assert_eq!(invariant.joined(2, &has), Vec::new());
        assert_eq!(invariant.joined(2, &lacks), [(item.clone(), tombstone)]);
        assert!(invariant.has_dropped(2, &item));
    }

    /// Only who joins, and only the first time, is asked for nothing while it aligns.
    #[test]
    fn a_tombstone_that_somebody_who_was_there_lacks_is_caught_while_that_one_aligns() {
        let options = Options::of_seed(1).with_membership(1);
        let founders = options.membership.as_ref().unwrap().founders;
        let clusters = vec![Shape::new(0, (0..=founders).collect(), 1)];
        let options = Options { servers: founders + 1, clusters, ..options };
        let item = options.record_of(0);
        let stamp = Stamp { version: 2, tx: TxId::NONE };
        let tombstone = Committed { stamp, live: false, image: None, elsewhere: None };
        let mut has = Contents::default();
        has.items.insert(item.clone(), tombstone.clone());
        let mut aligns = Contents::default();
        aligns.aligning = true;
        let purged = |invariant: &mut TombstoneKept, who: usize| {
            invariant.see(&item, &tombstone);
            let mut disks = vec![&has; founders + 1];
            disks[who] = &aligns;
            let by = if who == 0 { founders } else { 0 };
            invariant.purged(by, &[Write::Purge(item.clone())], &disks, &options)
        };
        assert!(purged(&mut TombstoneKept::default(), 0).is_some(), "a founder");
        assert_eq!(purged(&mut TombstoneKept::default(), founders), None);
        let mut invariant = TombstoneKept::default();
        invariant.joined(founders, &Contents::default());
        assert!(purged(&mut invariant, founders).is_some(), "it has joined before");
    }
}
