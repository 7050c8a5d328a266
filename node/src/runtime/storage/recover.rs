//! Reads what a server must know before its first event. May not change anything.

use quorate_api::NodeId;
use quorate_protocol::io::Recovered;
use quorate_protocol::message::{Decided, LogPosition};
use rocksdb::IteratorMode;

use super::{Storage, StorageError, keys, value};

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
        recovered.aligning = self.get::<()>(keys::META, keys::META_ALIGNING)?.is_some();
        Ok(recovered)
    }

    fn recover_marks(&self, recovered: &mut Recovered) -> Result<(), StorageError> {
        for (key, bytes) in self.meta_with(keys::META_APPLIED)? {
            let node = key[keys::META_APPLIED.len()..].try_into();
            let node = NodeId(u64::from_be_bytes(node.map_err(|_| odd_key(keys::META, &key))?));
            recovered.applied.insert(node, value::decode(keys::META, &key, &bytes)?);
        }
        for (key, bytes) in self.meta_with(keys::META_LOW)? {
            let of = keys::parse_node_boot(&key[keys::META_LOW.len()..]);
            let of = of.ok_or_else(|| odd_key(keys::META, &key))?;
            recovered.low.insert(of, value::decode(keys::META, &key, &bytes)?);
        }
        Ok(())
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
