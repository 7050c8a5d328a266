//! Entries of derived indexes: kept beside the records in the batch that writes them, filled in for
//! records that were there before the index, dropped with it. May not know how a key is made.
//!
//! Everything here but the lookup runs on the loop's thread, so filling cannot race with commits.
//! What is filled is marked per index and cluster, because a record can arrive before the schema
//! that says that its cluster is covered.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_api::{ClusterKey, Committed, ItemId, Rid};
use quorate_protocol::io::{PersistSeq, Write};
use rocksdb::{Direction, IteratorMode, WriteBatch};

use super::{Storage, StorageError, Writer, keys};
use crate::index::table::{IndexTable, rid_of};

/// Records looked at in one go, so that filling does not hold commits up.
const FILL_RECORDS: usize = 128;

/// Where the filling of one index from one cluster stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filling {
    index: ClusterKey,
    cluster: ClusterKey,
    from: u64,
}

impl Writer {
    /// Files everything from now on as the schema says; gives what is still to be filled in.
    ///
    /// # Errors
    /// Corrupt mark, or the engine refuses.
    pub(crate) fn set_indexes(&mut self, table: IndexTable) -> Result<Vec<Filling>, StorageError> {
        let mut todo = Vec::new();
        let mut batch = WriteBatch::default();
        for (key, _) in self.storage.meta_with(keys::META_FILLED)? {
            let Some((index, cluster)) = keys::parse_filled(&key) else { continue };
            let covered = table.indexes().find(|(of, _)| *of == index).map(|(_, covered)| covered);
            // Numbers of clusters are never used again: entries of one that was dropped are seen
            // by nobody, and go with the index.
            if covered.is_none_or(|covered| !covered.contains(&cluster)) {
                batch.delete_cf(self.storage.family(keys::META), &key);
            }
            if covered.is_none() {
                let family = self.storage.family(keys::ENTRIES);
                batch.delete_range_cf(family, keys::cluster(index).to_vec(), keys::after(index));
            }
        }
        for (index, covered) in table.indexes() {
            for cluster in covered.iter().copied() {
                let mark = keys::filled(index, cluster);
                if self.storage.get::<bool>(keys::META, &mark)?.is_none() {
                    todo.push(Filling { index, cluster, from: 0 });
                }
            }
        }
        self.storage.db.write(batch).map_err(StorageError::engine("drop an index"))?;
        self.table = Arc::new(table);
        Ok(todo)
    }

    /// Fills a part in; gives where to go on, `None` when the cluster is done.
    ///
    /// # Errors
    /// Corrupt value, or the engine refuses.
    pub(crate) fn fill(&self, filling: Filling) -> Result<Option<Filling>, StorageError> {
        let Filling { index, cluster, from } = filling;
        let mut batch = WriteBatch::default();
        let (page, _) = self.storage.scan(cluster, from, FILL_RECORDS)?;
        for (position, committed) in &page {
            let item = ItemId::record(cluster, *position);
            let own = self.table.entries(&item, Some(committed)).into_iter();
            for (of, key) in own.filter(|(of, _)| *of == index) {
                let rid = Rid { cluster: cluster.cluster, position: *position };
                batch.put_cf(self.storage.family(keys::ENTRIES), keys::entry(of, &key, rid), b"");
            }
        }
        let next = page.last().and_then(|(last, _)| last.checked_add(1));
        let next = next.filter(|_| page.len() == FILL_RECORDS);
        if next.is_none() {
            self.put(&mut batch, keys::META, &keys::filled(index, cluster), &true)?;
        }
        self.storage.db.write(batch).map_err(StorageError::engine("fill an index"))?;
        Ok(next.map(|from| Filling { from, ..filling }))
    }

    /// Adds the change of entries that a batch's items bring.
    pub(super) fn file(
        &self,
        batch: &mut WriteBatch,
        writes: &[Write],
    ) -> Result<(), StorageError> {
        // An item can be written twice in one batch; the store shows only what was before it.
        let mut seen: BTreeMap<&ItemId, &Committed> = BTreeMap::new();
        for write in writes {
            let Write::Item(item, committed) = write else { continue };
            if !self.table.covers(item) {
                continue;
            }
            let Some(rid) = rid_of(item) else { continue };
            let stored = match seen.insert(item, committed) {
                Some(earlier) => Some(earlier.clone()),
                None => self.storage.committed(item)?,
            };
            let before = self.table.entries(item, stored.as_ref());
            let after = self.table.entries(item, Some(committed));
            let family = self.storage.family(keys::ENTRIES);
            for (index, key) in before.iter().filter(|entry| !after.contains(entry)) {
                batch.delete_cf(family, keys::entry(*index, key, rid));
            }
            for (index, key) in after.iter().filter(|entry| !before.contains(entry)) {
                batch.put_cf(family, keys::entry(*index, key, rid), b"");
            }
        }
        Ok(())
    }
}

impl Storage {
    /// True when every covered cluster is filled in.
    pub(crate) fn is_filled(
        &self,
        index: ClusterKey,
        covered: &[ClusterKey],
    ) -> Result<bool, StorageError> {
        for cluster in covered {
            if self.get::<bool>(keys::META, &keys::filled(index, *cluster))?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Records under a key, in order of their ids, and the batch up to which they are seen.
    pub(crate) fn entries(
        &self,
        index: ClusterKey,
        key: &[u8],
    ) -> Result<(Vec<Rid>, PersistSeq), StorageError> {
        let prefix = [&keys::cluster(index)[..], key].concat();
        let snapshot = self.db.snapshot();
        let visible = self.durability.handed_over();
        let mode = IteratorMode::From(&prefix, Direction::Forward);
        let mut found = Vec::new();
        for entry in snapshot.iterator_cf(self.family(keys::ENTRIES), mode) {
            let (key, _) = entry.map_err(StorageError::engine("look into an index"))?;
            let Some(rest) = key.strip_prefix(&prefix[..]) else { break };
            found.extend(keys::parse_rid(rest));
        }
        Ok((found, visible))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quorate_api::{Boot, Image, NodeId, Stamp, TxId};
    use quorate_control::indexes::{IndexKind, NewIndex};
    use quorate_control::members::WriteQuorum;
    use quorate_control::schema::{DatabaseKind, Schema};
    use quorate_control::settings::NewDatabase;
    use serde_json::json;

    use super::super::Share;
    use super::*;
    use crate::index::key::encode;

    const CLUSTER: ClusterKey = ClusterKey { database: 1, cluster: 12 };
    const INDEX: ClusterKey = ClusterKey { database: 1, cluster: 13 };

    fn schema(indexed: bool) -> Schema {
        let new = NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority);
        let schema = Schema::founded_by(&[("n1".into(), NodeId(1))]).create_database(&new).unwrap();
        let schema = schema.create_class("bench", "Item", &[]).unwrap();
        if !indexed {
            return schema;
        }
        let new = NewIndex {
            name: "Item.k".into(),
            class: "Item".into(),
            field: "k".into(),
            kind: IndexKind::NotUnique,
        };
        schema.create_index("bench", &new).unwrap()
    }

    fn record(position: u64, version: u64, k: Option<i64>) -> Write {
        let stamp = Stamp { version, tx: TxId { seq: version, ..TxId::NONE } };
        let image =
            k.map(|k| Image::from(json!({"@class": "Item", "k": k}).to_string().into_bytes()));
        Write::Item(
            ItemId::record(CLUSTER, position),
            Committed { stamp, live: image.is_some(), image, elsewhere: None },
        )
    }

    fn found(storage: &Storage, k: i64) -> Vec<u64> {
        let (rids, _) = storage.entries(INDEX, &encode(&json!(k)).unwrap()).unwrap();
        rids.into_iter().map(|rid| rid.position).collect()
    }

    fn open(dir: &tempfile::TempDir, indexed: bool) -> (Arc<Storage>, Writer, Vec<Filling>) {
        let storage = Arc::new(Storage::open(&dir.path().join("store"), Share::default()).unwrap());
        let mut writer = Writer::new(storage.clone(), Boot(1), &storage.recover().unwrap());
        let todo = writer.set_indexes(IndexTable::of(&schema(indexed))).unwrap();
        (storage, writer, todo)
    }

    /// FEATURES: A18
    #[test]
    fn entries_follow_the_records_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (storage, mut writer, todo) = open(&dir, false);
        assert_eq!(todo, []);
        let old: Vec<Write> = (0..300).map(|n| record(n, 1, Some(5))).collect();
        writer.apply(1, &old).unwrap();
        let mut todo = writer.set_indexes(IndexTable::of(&schema(true))).unwrap();
        assert_eq!(todo.len(), 1);
        // Records change while the index is filled.
        writer.apply(2, &[record(0, 2, Some(6)), record(1, 2, None)]).unwrap();
        assert!(!storage.is_filled(INDEX, &[CLUSTER]).unwrap());
        while let Some(filling) = todo.pop() {
            todo.extend(writer.fill(filling).unwrap());
        }
        assert!(storage.is_filled(INDEX, &[CLUSTER]).unwrap());
        assert_eq!((found(&storage, 5), found(&storage, 6)), ((2..300).collect(), vec![0]));
        // Twice in one batch: what was before the second is not in the store yet.
        writer.apply(3, &[record(0, 3, Some(7)), record(0, 4, Some(8))]).unwrap();
        assert_eq!(
            (found(&storage, 6), found(&storage, 7), found(&storage, 8)),
            (vec![], vec![], vec![0])
        );
        drop((storage, writer));
        let (storage, mut writer, todo) = open(&dir, true);
        assert_eq!((todo, found(&storage, 8)), (vec![], vec![0]));
        writer.set_indexes(IndexTable::of(&schema(false))).unwrap();
        assert_eq!((found(&storage, 5), found(&storage, 8)), (vec![], vec![]));
        assert!(!storage.is_filled(INDEX, &[CLUSTER]).unwrap());
    }
}
