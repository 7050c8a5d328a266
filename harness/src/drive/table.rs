//! What the clients know of each logical key: its record id, and the newest version they saw.
//! Pure bookkeeping, filled by replies.

use crate::drive::request::Rid;

/// One row a key. Shared by all clients of a driver, as a cache in front of them would be.
#[derive(Debug, Default)]
pub(crate) struct KeyTable {
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    rid: Option<Rid>,
    version: u64,
    /// A delete was sent, whatever became of it.
    deleted: bool,
}

impl KeyTable {
    /// Keeps what a successful creation of `key` said.
    pub(crate) fn created(&mut self, key: u64, rid: Rid, version: u64) {
        let index = key as usize;
        if self.rows.len() <= index {
            self.rows.resize(index + 1, Row::default());
        }
        self.rows[index] = Row { rid: Some(rid), version, deleted: false };
    }

    /// Keeps a version that a reply named. Replies may overtake each other, and local reads may
    /// be stale: the highest one counts.
    pub(crate) fn saw(&mut self, key: u64, version: u64) {
        if let Some(row) = self.rows.get_mut(key as usize) {
            row.version = row.version.max(version);
        }
    }

    /// Keeps that a delete of `key` was sent: the key stands in for no other from now on.
    pub(crate) fn deleting(&mut self, key: u64) {
        if let Some(row) = self.rows.get_mut(key as usize) {
            row.deleted = true;
        }
    }

    /// The record of `key`, if its creation was acknowledged.
    pub(crate) fn rid(&self, key: u64) -> Option<Rid> {
        self.rows.get(key as usize).and_then(|row| row.rid)
    }

    /// The newest version seen of `key`, 0 if none.
    pub(crate) fn version(&self, key: u64) -> u64 {
        self.rows.get(key as usize).map_or(0, |row| row.version)
    }

    /// `key`, or the nearest key with a record: downwards first, then from the top. Keys that were
    /// deleted stand in only where there are no others.
    pub(crate) fn nearest(&self, key: u64) -> Option<(u64, Rid)> {
        if let Some(rid) = self.rid(key) {
            return Some((key, rid));
        }
        let end = self.rows.len() as u64;
        let others = || (0..key.min(end)).rev().chain((key.min(end)..end).rev());
        let alive = |at: &u64| self.rows.get(*at as usize).is_some_and(|row| !row.deleted);
        let found = |at: u64| self.rid(at).map(|rid| (at, rid));
        others().filter(alive).find_map(found).or_else(|| others().find_map(found))
    }

    /// All keys that have a record, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = u64> + '_ {
        let rows = self.rows.iter().enumerate();
        rows.filter(|(_, row)| row.rid.is_some()).map(|(key, _)| key as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RID: Rid = Rid { cluster: 12, position: 0 };

    #[test]
    fn the_highest_version_counts() {
        let mut table = KeyTable::default();
        table.saw(3, 9);
        assert_eq!(table.version(3), 0);
        table.created(3, RID, 1);
        table.saw(3, 5);
        table.saw(3, 4);
        assert_eq!(table.version(3), 5);
    }

    #[test]
    fn keys_without_record_give_way_to_the_next_lower_one() {
        let mut table = KeyTable::default();
        assert_eq!(table.nearest(0), None);
        table.created(2, RID, 1);
        table.created(5, RID, 1);
        assert_eq!(table.nearest(5), Some((5, RID)));
        assert_eq!(table.nearest(4), Some((2, RID)));
        assert_eq!(table.nearest(99), Some((5, RID)));
        assert_eq!(table.nearest(0), Some((5, RID)));
        assert_eq!(table.keys().collect::<Vec<_>>(), [2, 5]);
    }

    #[test]
    fn deleted_keys_stand_in_for_no_other_while_there_is_a_choice() {
        let mut table = KeyTable::default();
        table.created(2, RID, 1);
        table.created(5, RID, 1);
        table.deleting(5);
        assert_eq!(table.nearest(7), Some((2, RID)));
        assert_eq!(table.nearest(5), Some((5, RID)), "asked for by name");
        table.deleting(2);
        assert_eq!(table.nearest(7), Some((5, RID)));
        assert_eq!(table.keys().collect::<Vec<_>>(), [2, 5]);
    }
}
