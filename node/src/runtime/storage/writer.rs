//! The machine's side of the store: what it looks up and what it hands to the disk. Owned by the
//! loop's thread. A lookup that fails ends the process (`die`): the machine has no error to answer
//! with, and a guess could cost an acknowledged commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_api::{Boot, ClusterKey, Committed, ItemId, ItemKey, NodeId, Stamp, TxId};
use quorate_control::plane::LogWrite;
use quorate_protocol::conflict::Rival;
use quorate_protocol::io::{PersistSeq, Recovered, Store, Tombstones, Write};
use quorate_protocol::message::{Decided, LogEntry, LogPosition, TxRecord};
use rocksdb::{Direction, IteratorMode, WriteBatch};

use super::recover::odd_key;
use super::{Storage, StorageError, die, keys, value};
use crate::index::table::IndexTable;

/// Forgotten entries are dropped from the disk this many at a time: a range deletion costs every
/// later read a little. Until then they are hidden.
const DROP_BATCH: u64 = 512;

/// A low-water mark, and how far the entries below it are dropped from the disk.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    low: u64,
    dropped: u64,
}

/// Applies batches in order and answers the machine's lookups.
pub struct Writer {
    pub(super) storage: Arc<Storage>,
    boot: Boot,
    /// Last batch of the machine.
    last: PersistSeq,
    /// Last batch of all: what becomes durable is counted in these.
    ticket: PersistSeq,
    /// For every batch of the control plane, the machine's last one before it.
    control: Vec<PersistSeq>,
    marks: BTreeMap<(NodeId, Boot), Mark>,
    log_start: LogPosition,
    log_dropped: LogPosition,
    pub(super) table: Arc<IndexTable>,
}

impl Writer {
    /// A writer for this boot, going on from what the disk holds.
    #[must_use]
    pub fn new(storage: Arc<Storage>, boot: Boot, recovered: &Recovered) -> Self {
        let mark = |low: u64| Mark { low, dropped: 0 };
        Self {
            storage,
            boot,
            last: 0,
            ticket: 0,
            control: Vec::new(),
            marks: recovered.low.iter().map(|(key, low)| (*key, mark(*low))).collect(),
            log_start: recovered.log_start,
            log_dropped: LogPosition::default(),
            table: Arc::default(),
        }
    }

    /// Makes a batch visible at once; the sync thread makes it durable.
    ///
    /// # Errors
    /// The engine refuses.
    ///
    /// # Panics
    /// When the machine skips or repeats a number: it counts without gaps.
    pub fn apply(&mut self, seq: PersistSeq, writes: &[Write]) -> Result<(), StorageError> {
        assert_eq!(seq, self.last + 1, "the machine's batches count up without gaps");
        let mut batch = WriteBatch::default();
        for write in writes {
            self.add(&mut batch, self.ticket + 1, write)?;
        }
        self.file(&mut batch, writes)?;
        self.write(batch)?;
        self.last = seq;
        Ok(())
    }

    /// The same for the control plane; gives the number under which it becomes durable.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn apply_control(&mut self, writes: &[LogWrite]) -> Result<PersistSeq, StorageError> {
        let mut batch = WriteBatch::default();
        let family = self.storage.family(keys::CONTROL);
        for write in writes {
            match write {
                LogWrite::HardState(bytes) => {
                    self.put(&mut batch, keys::CONTROL, keys::CONTROL_HARD_STATE, bytes)?;
                }
                LogWrite::Cut(from) => {
                    let end = keys::control_entry(u64::MAX);
                    batch.delete_range_cf(family, keys::control_entry(*from), end);
                }
                LogWrite::Entry(index, bytes) => {
                    self.put(&mut batch, keys::CONTROL, &keys::control_entry(*index), bytes)?;
                }
                LogWrite::Snapshot(index, bytes) => {
                    self.put(&mut batch, keys::CONTROL, keys::CONTROL_SNAPSHOT, bytes)?;
                    let end = keys::control_entry(index + 1);
                    batch.delete_range_cf(family, keys::control_entry(0), end);
                }
            }
        }
        self.write(batch)?;
        self.control.push(self.last);
        Ok(self.ticket)
    }

    /// The number under which the last batch becomes durable.
    #[must_use]
    pub const fn ticket(&self) -> PersistSeq {
        self.ticket
    }

    /// Under which number a batch of the machine becomes durable; 0 for none.
    #[must_use]
    pub fn ticket_of(&self, seq: PersistSeq) -> PersistSeq {
        seq + self.control.partition_point(|before| *before < seq) as PersistSeq
    }

    fn write(&mut self, mut batch: WriteBatch) -> Result<(), StorageError> {
        let ticket = self.ticket + 1;
        self.put(&mut batch, keys::META, keys::META_LAST, &(self.boot, ticket))?;
        self.storage.durability.hand_over(ticket);
        self.storage.db.write(batch).map_err(StorageError::engine("write a batch"))?;
        self.ticket = ticket;
        self.storage.durability.advance(ticket);
        Ok(())
    }

    fn add(
        &mut self,
        batch: &mut WriteBatch,
        ticket: PersistSeq,
        write: &Write,
    ) -> Result<(), StorageError> {
        match write {
            Write::Item(item, committed) => {
                let key = keys::item(item);
                self.storage.recent.mark(&key, ticket);
                self.put(batch, keys::ITEMS, &key, committed)
            }
            Write::Tx(tx, record) => self.put(batch, keys::TX, &keys::tx(*tx), record),
            Write::Outcome(tx, outcome) => self.put(batch, keys::OUTCOMES, &keys::tx(*tx), outcome),
            Write::Log(position, entry) => self.put(batch, keys::LOG, &keys::log(*position), entry),
            Write::TruncateLog(position) => self.truncate(batch, *position),
            Write::Applied(node, position) => {
                let key = keys::meta(keys::META_APPLIED, &node.0.to_be_bytes());
                self.put(batch, keys::META, &key, position)
            }
            Write::Low(node, boot, low) => self.forget(batch, *node, *boot, *low),
            Write::BootEnd(node, boot, last) => {
                let key = keys::meta(keys::META_BOOT_END, &keys::node_boot(*node, *boot));
                self.put(batch, keys::META, &key, last)
            }
            Write::OutOfLog(tx) => {
                let key = keys::meta(keys::META_OUT_OF_LOG, &keys::tx(*tx));
                self.put(batch, keys::META, &key, &())
            }
            Write::InLog(tx) => {
                let key = keys::meta(keys::META_OUT_OF_LOG, &keys::tx(*tx));
                batch.delete_cf(self.storage.family(keys::META), key);
                Ok(())
            }
            Write::Shown(node, position) => {
                let key = keys::meta(keys::META_SHOWN, &node.0.to_be_bytes());
                self.put(batch, keys::META, &key, position)
            }
            Write::Purge(item) => {
                let key = keys::item(item);
                self.storage.recent.mark(&key, ticket);
                batch.delete_cf(self.storage.family(keys::ITEMS), key);
                Ok(())
            }
            Write::Begun(tx) => {
                let key = keys::meta(keys::META_BEGUN, &keys::tx(*tx));
                self.put(batch, keys::META, &key, &())
            }
            Write::Copied(cluster, upto) => self.copied(batch, *cluster, upto.as_ref()),
            Write::Sealed(cluster, generation) => {
                let key = keys::meta(keys::META_SEALED, &keys::cluster(*cluster));
                self.put(batch, keys::META, &key, generation)
            }
            Write::Entered(cluster, generation) => {
                let key = keys::meta(keys::META_ENTERED, &keys::cluster(*cluster));
                self.put(batch, keys::META, &key, generation)
            }
            Write::Ancestors(item, ancestors) => {
                self.put_list(batch, keys::ANCESTORS, item, ancestors)
            }
            Write::Rivals(item, rivals) => self.put_list(batch, keys::RIVALS, item, rivals),
            Write::Lost(place, content) => self.lost(batch, *place, content.as_ref()),
            Write::Aligning(true) => self.put(batch, keys::META, keys::META_ALIGNING, &()),
            Write::Aligning(false) => {
                self.end_alignment(batch);
                Ok(())
            }
        }
    }

    fn end_alignment(&self, batch: &mut WriteBatch) {
        let family = self.storage.family(keys::META);
        batch.delete_cf(family, keys::META_ALIGNING);
        for prefix in [keys::META_BEGUN, keys::META_COPIED] {
            let end = keys::meta(prefix, &[u8::MAX; 21]);
            batch.delete_range_cf(family, prefix.to_vec(), end);
        }
    }

    fn lost(
        &self,
        batch: &mut WriteBatch,
        place: u64,
        content: Option<&(ItemId, Stamp)>,
    ) -> Result<(), StorageError> {
        let key = keys::meta(keys::META_LOST, &place.to_be_bytes());
        let Some(content) = content else {
            batch.delete_cf(self.storage.family(keys::META), key);
            return Ok(());
        };
        self.put(batch, keys::META, &key, content)
    }

    fn copied(
        &self,
        batch: &mut WriteBatch,
        cluster: ClusterKey,
        upto: Option<&ItemKey>,
    ) -> Result<(), StorageError> {
        let key = keys::meta(keys::META_COPIED, &keys::cluster(cluster));
        let Some(upto) = upto else {
            batch.delete_cf(self.storage.family(keys::META), key);
            return Ok(());
        };
        self.put(batch, keys::META, &key, upto)
    }

    /// Nothing is kept of an empty list.
    fn put_list<T: serde::Serialize>(
        &self,
        batch: &mut WriteBatch,
        family: &'static str,
        item: &ItemId,
        list: &[T],
    ) -> Result<(), StorageError> {
        let key = keys::item(item);
        if list.is_empty() {
            batch.delete_cf(self.storage.family(family), key);
            return Ok(());
        }
        self.put(batch, family, &key, &list)
    }

    pub(super) fn put<T: serde::Serialize>(
        &self,
        batch: &mut WriteBatch,
        family: &'static str,
        key: &[u8],
        value: &T,
    ) -> Result<(), StorageError> {
        batch.put_cf(self.storage.family(family), key, value::encode(family, key, value)?);
        Ok(())
    }

    fn truncate(
        &mut self,
        batch: &mut WriteBatch,
        position: LogPosition,
    ) -> Result<(), StorageError> {
        if position <= self.log_start {
            return Ok(());
        }
        self.log_start = position;
        self.put(batch, keys::META, keys::META_LOG_START, &position)?;
        let dropped = self.log_dropped;
        if position.boot != dropped.boot || position.index - dropped.index >= DROP_BATCH {
            let end = LogPosition { index: position.index + 1, ..position };
            let family = self.storage.family(keys::LOG);
            batch.delete_range_cf(family, keys::log(dropped), keys::log(end));
            self.log_dropped = position;
        }
        Ok(())
    }

    fn forget(
        &mut self,
        batch: &mut WriteBatch,
        node: NodeId,
        boot: Boot,
        low: u64,
    ) -> Result<(), StorageError> {
        let mut mark = self.marks.get(&(node, boot)).copied().unwrap_or_default();
        if low <= mark.low {
            return Ok(());
        }
        mark.low = low;
        let key = keys::meta(keys::META_LOW, &keys::node_boot(node, boot));
        self.put(batch, keys::META, &key, &low)?;
        if low == u64::MAX {
            // The boot is closed.
            let end = keys::meta(keys::META_BOOT_END, &keys::node_boot(node, boot));
            batch.delete_cf(self.storage.family(keys::META), end);
        }
        if low - mark.dropped >= DROP_BATCH {
            let key = |seq| keys::tx(TxId { node, boot, seq });
            for family in [keys::TX, keys::OUTCOMES] {
                let family = self.storage.family(family);
                batch.delete_range_cf(family, key(mark.dropped), key(low));
            }
            mark.dropped = low;
        }
        self.marks.insert((node, boot), mark);
        Ok(())
    }

    /// Outcomes that are not forgotten. What is below a mark is skipped in one seek a boot.
    fn outcomes_behind(
        &self,
        after: TxId,
        limit: usize,
    ) -> Result<Vec<(TxId, Decided)>, StorageError> {
        let mut found = Vec::new();
        let mut iterator = self.storage.db.raw_iterator_cf(self.storage.family(keys::OUTCOMES));
        iterator.seek(keys::tx(TxId { seq: after.seq.saturating_add(1), ..after }));
        while found.len() < limit
            && let Some((key, bytes)) = iterator.item()
        {
            let tx = keys::parse_tx(key).ok_or_else(|| odd_key(keys::OUTCOMES, key))?;
            match self.marks.get(&(tx.node, tx.boot)) {
                Some(mark) if tx.seq < mark.low => {
                    iterator.seek(keys::tx(TxId { seq: mark.low, ..tx }));
                }
                _ => {
                    found.push((tx, value::decode(keys::OUTCOMES, key, bytes)?));
                    iterator.next();
                }
            }
        }
        iterator.status().map_err(StorageError::engine("read the outcomes"))?;
        Ok(found)
    }

    fn forgotten(&self, tx: TxId) -> bool {
        self.marks.get(&(tx.node, tx.boot)).is_some_and(|mark| tx.seq < mark.low)
    }

    fn log_entry(
        &self,
        position: LogPosition,
    ) -> Result<Option<(LogPosition, LogEntry)>, StorageError> {
        let from = position.max(self.log_start);
        let next = LogPosition { index: from.index + 1, ..from };
        // Within a boot entries are dense, so this nearly always hits; an iterator costs several
        // times as much.
        if let Some(entry) = self.storage.get(keys::LOG, &keys::log(next))? {
            return Ok(Some((next, entry)));
        }
        let start = keys::log(next);
        let mode = IteratorMode::From(&start, Direction::Forward);
        let family = self.storage.family(keys::LOG);
        let Some(entry) = self.storage.db.iterator_cf(family, mode).next() else {
            return Ok(None);
        };
        let (key, bytes) = entry.map_err(StorageError::engine("read the decision log"))?;
        let entry = value::decode(keys::LOG, &key, &bytes)?;
        Ok(keys::parse_log(&key).map(|position| (position, entry)))
    }
}

impl Store for Writer {
    fn item(&self, item: &ItemId) -> Option<Committed> {
        self.storage.committed(item).unwrap_or_else(|error| die(&error))
    }

    fn tx(&self, tx: TxId) -> Option<TxRecord> {
        if self.forgotten(tx) {
            return None;
        }
        self.storage.get(keys::TX, &keys::tx(tx)).unwrap_or_else(|error| die(&error))
    }

    fn outcome(&self, tx: TxId) -> Option<Decided> {
        if self.forgotten(tx) {
            return None;
        }
        self.storage.get(keys::OUTCOMES, &keys::tx(tx)).unwrap_or_else(|error| die(&error))
    }

    fn log_after(&self, position: LogPosition) -> Option<(LogPosition, LogEntry)> {
        self.log_entry(position).unwrap_or_else(|error| die(&error))
    }

    fn items_after(
        &self,
        cluster: ClusterKey,
        after: Option<&ItemKey>,
        limit: usize,
    ) -> Vec<(ItemKey, Committed)> {
        self.storage.items_after(cluster, after, limit).unwrap_or_else(|error| die(&error))
    }

    fn tombstones_after(
        &self,
        cluster: ClusterKey,
        after: Option<&ItemKey>,
        limit: usize,
    ) -> Tombstones {
        let found = self.storage.tombstones_after(cluster, after, limit);
        found.unwrap_or_else(|error| die(&error))
    }

    fn outcomes_after(&self, after: TxId, limit: usize) -> Vec<(TxId, Decided)> {
        self.outcomes_behind(after, limit).unwrap_or_else(|error| die(&error))
    }

    fn ancestors(&self, item: &ItemId) -> Vec<Stamp> {
        let found = self.storage.get(keys::ANCESTORS, &keys::item(item));
        found.unwrap_or_else(|error| die(&error)).unwrap_or_default()
    }

    fn rivals(&self, item: &ItemId) -> Vec<Rival> {
        let found = self.storage.get(keys::RIVALS, &keys::item(item));
        found.unwrap_or_else(|error| die(&error)).unwrap_or_default()
    }
}
