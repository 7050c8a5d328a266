//! Reads what a server must know before its first event. May not change anything.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{ClusterKey, ItemId, NodeId, TxId};
use quorate_control::plane::RecoveredLog;
use quorate_protocol::conflict::{self, Fate, Rival};
use quorate_protocol::io::Recovered;
use quorate_protocol::message::{Decided, LogPosition};
use rocksdb::{Direction, IteratorMode};
use serde::de::DeserializeOwned;

use super::{Storage, StorageError, keys, value};

/// Items with rivals read in one go.
const RIVALS_PAGE: usize = 256;

impl Storage {
    /// Everything the machine starts from.
    ///
    /// # Errors
    /// Corrupt value, or the engine refuses.
    pub fn recover(&self) -> Result<Recovered, StorageError> {
        let mut recovered = Recovered::default();
        self.recover_marks(&mut recovered)?;
        self.recover_log(&mut recovered)?;
        self.recover_undecided(&mut recovered)?;
        self.recover_diverged(&mut recovered)?;
        recovered.aligning = self.get::<()>(keys::META, keys::META_ALIGNING)?.is_some();
        Ok(recovered)
    }

    /// The control plane's log.
    ///
    /// # Errors
    /// Corrupt value, or the engine refuses.
    pub fn recover_control(&self) -> Result<RecoveredLog, StorageError> {
        let mut log = RecoveredLog {
            hard_state: self.get(keys::CONTROL, keys::CONTROL_HARD_STATE)?,
            entries: Vec::new(),
            snapshot: self.get(keys::CONTROL, keys::CONTROL_SNAPSHOT)?,
        };
        let mode = IteratorMode::From(keys::CONTROL_ENTRY, Direction::Forward);
        for entry in self.db.iterator_cf(self.family(keys::CONTROL), mode) {
            let (key, bytes) = entry.map_err(StorageError::engine("read the control log"))?;
            if !key.starts_with(keys::CONTROL_ENTRY) {
                break;
            }
            log.entries.push(value::decode(keys::CONTROL, &key, &bytes)?);
        }
        Ok(log)
    }

    fn recover_marks(&self, recovered: &mut Recovered) -> Result<(), StorageError> {
        recovered.applied = self.positions(keys::META_APPLIED)?;
        recovered.shown = self.positions(keys::META_SHOWN)?;
        for (key, bytes) in self.meta_with(keys::META_BOOT_END)? {
            let of = keys::parse_node_boot(&key[keys::META_BOOT_END.len()..]);
            let of = of.ok_or_else(|| odd_key(keys::META, &key))?;
            recovered.ended.insert(of, value::decode(keys::META, &key, &bytes)?);
        }
        for (key, bytes) in self.meta_with(keys::META_LOW)? {
            let of = keys::parse_node_boot(&key[keys::META_LOW.len()..]);
            let of = of.ok_or_else(|| odd_key(keys::META, &key))?;
            recovered.low.insert(of, value::decode(keys::META, &key, &bytes)?);
        }
        recovered.out_of_log = self.txs(keys::META_OUT_OF_LOG)?;
        recovered.begun = self.txs(keys::META_BEGUN)?;
        recovered.copied = self.by_cluster(keys::META_COPIED)?;
        recovered.sealed = self.by_cluster(keys::META_SEALED)?;
        recovered.entered = self.by_cluster(keys::META_ENTERED)?;
        Ok(())
    }

    /// What is listed beside committed contents.
    fn recover_diverged(&self, recovered: &mut Recovered) -> Result<(), StorageError> {
        for (key, bytes) in self.meta_with(keys::META_LOST)? {
            let place = key[keys::META_LOST.len()..].try_into();
            let place = u64::from_be_bytes(place.map_err(|_| odd_key(keys::META, &key))?);
            recovered.lost_order.insert(place, value::decode(keys::META, &key, &bytes)?);
        }
        let mut after = None;
        loop {
            let page = self.rivals_after(after.as_ref(), RIVALS_PAGE)?;
            let is_open = |rivals: &[Rival]| rivals.iter().any(|rival| rival.fate != Fate::Lost);
            let of_page = page.iter().filter(|(_, rivals)| is_open(rivals));
            recovered.diverged.extend(of_page.map(|(item, _)| item.clone()));
            for (item, rivals) in &page {
                recovered.lost.extend(conflict::lost_of(item, rivals));
            }
            after = page.last().map(|(item, _)| item.clone());
            if page.len() < RIVALS_PAGE {
                return Ok(());
            }
        }
    }

    /// Items with contents beside the committed ones, behind an item, in the order of their keys.
    ///
    /// # Errors
    /// Corrupt value, or the engine refuses.
    pub(crate) fn rivals_after(
        &self,
        after: Option<&ItemId>,
        limit: usize,
    ) -> Result<Vec<(ItemId, Vec<Rival>)>, StorageError> {
        let start = after.map(|item| [&keys::item(item)[..], &[0]].concat()).unwrap_or_default();
        let mode = IteratorMode::From(&start, Direction::Forward);
        let mut found = Vec::new();
        for entry in self.db.iterator_cf(self.family(keys::RIVALS), mode).take(limit) {
            let (key, bytes) = entry.map_err(StorageError::engine("list what diverged"))?;
            let item = keys::parse_any_item(&key).ok_or_else(|| odd_key(keys::RIVALS, &key))?;
            found.push((item, value::decode(keys::RIVALS, &key, &bytes)?));
        }
        Ok(found)
    }

    /// Transactions that stand behind a prefix.
    fn txs(&self, prefix: &[u8]) -> Result<BTreeSet<TxId>, StorageError> {
        let keys = self.meta_with(prefix)?.into_iter().map(|(key, _)| key);
        let tx = |key: Box<[u8]>| {
            keys::parse_tx(&key[prefix.len()..]).ok_or_else(|| odd_key(keys::META, &key))
        };
        keys.map(tx).collect()
    }

    /// What stands behind a prefix for clusters.
    fn by_cluster<T: DeserializeOwned>(
        &self,
        prefix: &[u8],
    ) -> Result<BTreeMap<ClusterKey, T>, StorageError> {
        let mut found = BTreeMap::new();
        for (key, bytes) in self.meta_with(prefix)? {
            let cluster = keys::parse_cluster(&key[prefix.len()..]);
            let cluster = cluster.ok_or_else(|| odd_key(keys::META, &key))?;
            found.insert(cluster, value::decode(keys::META, &key, &bytes)?);
        }
        Ok(found)
    }

    /// A position in each server's decision log.
    fn positions(&self, prefix: &[u8]) -> Result<BTreeMap<NodeId, LogPosition>, StorageError> {
        let mut found = BTreeMap::new();
        for (key, bytes) in self.meta_with(prefix)? {
            let node = key[prefix.len()..].try_into();
            let node = NodeId(u64::from_be_bytes(node.map_err(|_| odd_key(keys::META, &key))?));
            found.insert(node, value::decode(keys::META, &key, &bytes)?);
        }
        Ok(found)
    }

    fn recover_log(&self, recovered: &mut Recovered) -> Result<(), StorageError> {
        let start: Option<LogPosition> = self.get(keys::META, keys::META_LOG_START)?;
        recovered.log_start = start.unwrap_or_default();
        recovered.log_end = recovered.log_start;
        let last = self.db.iterator_cf(self.family(keys::LOG), IteratorMode::End).next();
        if let Some(entry) = last {
            let (key, _) = entry.map_err(StorageError::engine("read the decision log"))?;
            let position = keys::parse_log(&key).ok_or_else(|| odd_key(keys::LOG, &key))?;
            recovered.log_end = recovered.log_end.max(position);
        }
        Ok(())
    }

    fn recover_undecided(&self, recovered: &mut Recovered) -> Result<(), StorageError> {
        for entry in self.db.iterator_cf(self.family(keys::TX), IteratorMode::Start) {
            let (key, bytes) = entry.map_err(StorageError::engine("read the votes"))?;
            let tx = keys::parse_tx(&key).ok_or_else(|| odd_key(keys::TX, &key))?;
            if recovered.low.get(&(tx.node, tx.boot)).is_some_and(|low| tx.seq < *low) {
                continue;
            }
            if self.get::<Decided>(keys::OUTCOMES, &key)?.is_none() {
                recovered.undecided.push((tx, value::decode(keys::TX, &key, &bytes)?));
            }
        }
        Ok(())
    }
}

pub(super) fn odd_key(family: &'static str, key: &[u8]) -> StorageError {
    StorageError::Corrupt { family, key: value::hex(key), detail: "not a key of this family" }
}
