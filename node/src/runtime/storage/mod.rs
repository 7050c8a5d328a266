//! The server's durable state in one RocksDB: opening, reading, remembering peers.
//! Writing for the machine is in `writer`, syncing in `sync`. May not know links, requests or what
//! the records mean.

mod entries;
mod error;
pub(crate) mod keys;
mod options;
mod recent;
mod recover;
mod sync;
mod value;
pub(crate) mod witness;
mod writer;

use std::path::Path;
use std::time::Duration;

use quorate_api::{Boot, ClusterKey, Committed, ItemId, ItemKey, NodeId};
use quorate_protocol::copying::{Chunk, Part};
use quorate_protocol::io::{PAGE_BYTES, PersistSeq, SKIPPED_BYTES, Tombstones, bytes_of};
use rocksdb::{
    ColumnFamily, DB, Direction, ErrorKind, IteratorMode, Options, ReadOptions, ReadTier,
    WriteBatch,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(crate) use entries::Filling;
pub use error::StorageError;
pub use options::Share;
pub(crate) use sync::{Durability, SyncThread};
pub use writer::Writer;

use options::Pool;
use recent::RecentWrites;

/// The last batch of writes of a boot: how far a disk got. Orders over boots.
pub(crate) type Durable = (Boot, PersistSeq);

/// Whose store this is, and in which boot it was last opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// The server's identity.
    pub(crate) node: NodeId,
    /// Its last boot.
    pub(crate) boot: Boot,
}

/// What is remembered of a peer: who it is, and how far it got. One that comes back with less is
/// refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Binding {
    /// Identity behind the name; never changes.
    pub(crate) node: NodeId,
    /// Highest boot seen.
    pub(crate) boot: Boot,
    /// Random number of the process that runs this boot; two of them are two copies of one server.
    pub(crate) process: u64,
    /// Highest durable batch seen.
    pub(crate) durable: Durable,
}

/// How long the report of a consequence waits for that of its cause.
const CAUSE_WAIT: Duration = Duration::from_secs(1);
/// How long the end of the process may take. Exit handlers run first, and one of RocksDB's waits
/// for its threads, which may be waiting for the very disk that failed. Meanwhile the links would
/// go on telling others that this server lives, and nobody would recover what it holds locked.
const EXIT_MAX: Duration = Duration::from_millis(500);
/// Exit code of a server whose disk or data cannot be used: damaged, lost or full.
pub const EXIT_STORAGE: u8 = 4;

/// Key and value as the engine hands them out.
type Entry = (Box<[u8]>, Box<[u8]>);

/// What a read without disk access found out.
enum Cached {
    Known(Option<Committed>),
    NeedsDisk,
}

/// The store. Readers share it; only [`Writer`] writes for the machine.
pub struct Storage {
    db: DB,
    pool: Pool,
    durability: Durability,
    recent: RecentWrites,
}

impl Storage {
    /// Opens or creates the store in a folder and takes its lock.
    ///
    /// # Errors
    /// In use by another process, or the engine refuses.
    pub fn open(path: &Path, share: Share) -> Result<Self, StorageError> {
        let pool = Pool::new(share);
        let mut options = options::database(&pool);
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        Self::open_with(&options, pool, path)
    }

    /// Opens a store that must be there, whole: nothing of it is made anew.
    ///
    /// # Errors
    /// In use by another process, damaged, or the engine refuses.
    pub(crate) fn open_existing(path: &Path, share: Share) -> Result<Self, StorageError> {
        let pool = Pool::new(share);
        Self::open_with(&options::database(&pool), pool, path)
    }

    fn open_with(options: &Options, pool: Pool, path: &Path) -> Result<Self, StorageError> {
        let opened = DB::open_cf_descriptors(options, path, options::families(&pool));
        let db = opened.map_err(|source| {
            if source.kind() == ErrorKind::IOError && source.to_string().contains("lock") {
                StorageError::Locked { path: path.to_path_buf() }
            } else {
                StorageError::Engine { action: "open the store", source }
            }
        })?;
        Ok(Self { db, pool, durability: Durability::new(), recent: RecentWrites::new() })
    }

    /// Bytes that the engine's cache holds, memtables included, and how much of it these are.
    pub(crate) fn memory(&self) -> (usize, usize) {
        (self.pool.cache.get_usage(), self.pool.memtables.get_usage())
    }

    /// How far writes are visible and durable.
    pub(crate) fn durability(&self) -> &Durability {
        &self.durability
    }

    /// Writes and syncs the log: everything written before the call is durable after it.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn sync(&self) -> Result<(), StorageError> {
        self.db.flush_wal(true).map_err(StorageError::engine("sync the log"))
    }

    /// Committed state of an item, durable or not.
    pub(crate) fn committed(&self, item: &ItemId) -> Result<Option<Committed>, StorageError> {
        self.get(keys::ITEMS, &keys::item(item))
    }

    /// Like [`Self::committed`], but gives up where it would have to wait for the disk.
    fn committed_cached(&self, item: &ItemId) -> Result<Cached, StorageError> {
        let key = keys::item(item);
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::BlockCache);
        match self.db.get_pinned_cf_opt(self.family(keys::ITEMS), &key, &options) {
            Ok(None) => Ok(Cached::Known(None)),
            Ok(Some(bytes)) => Ok(Cached::Known(Some(value::decode(keys::ITEMS, &key, &bytes)?))),
            Err(error) if error.kind() == ErrorKind::Incomplete => Ok(Cached::NeedsDisk),
            Err(source) => Err(StorageError::Engine { action: "read an item", source }),
        }
    }

    /// Committed state of an item once it is durable, without blocking the runtime.
    ///
    /// # Errors
    /// Corrupt value, or the engine refuses.
    pub(crate) async fn committed_durable(
        self: &std::sync::Arc<Self>,
        item: &ItemId,
    ) -> Result<Option<Committed>, StorageError> {
        let found = match self.committed_cached(item)? {
            Cached::Known(found) => found,
            Cached::NeedsDisk => {
                let (store, item) = (self.clone(), item.clone());
                tokio::task::spawn_blocking(move || store.committed(&item))
                    .await
                    .map_err(|_| StorageError::Stopping)??
            }
        };
        // Looked up after the read: a batch marks its items before it becomes visible.
        self.durability.wait_for(self.recent.last_write(&keys::item(item))).await;
        Ok(found)
    }

    /// Live records of a cluster from a position on, in order, at most `limit` and none behind the
    /// one with which they are a page of bytes; all from one snapshot.
    pub(crate) fn scan(
        &self,
        cluster: ClusterKey,
        from: u64,
        limit: usize,
    ) -> Result<(Vec<(u64, Committed)>, PersistSeq), StorageError> {
        let start = keys::item(&ItemId::record(cluster, from));
        let snapshot = self.db.snapshot();
        let visible = self.durability.handed_over();
        let mode = IteratorMode::From(&start, Direction::Forward);
        let (mut page, mut size) = (Vec::new(), 0);
        for entry in snapshot.iterator_cf(self.family(keys::ITEMS), mode) {
            let (key, bytes) = entry.map_err(StorageError::engine("scan a cluster"))?;
            let Some(position) = keys::record_position(cluster, &key) else { break };
            if page.len() == limit || size >= PAGE_BYTES {
                break;
            }
            let committed: Committed = value::decode(keys::ITEMS, &key, &bytes)?;
            if committed.live {
                size += committed.image.as_ref().map_or(0, |image| image.0.len());
                page.push((position, committed));
            }
        }
        Ok((page, visible))
    }

    /// Items of a cluster behind a key, tombstones included, in key order: at most `limit`, and
    /// not more than a page of bytes.
    pub(crate) fn items_after(
        &self,
        cluster: ClusterKey,
        after: Option<&ItemKey>,
        limit: usize,
    ) -> Result<Vec<(ItemKey, Committed)>, StorageError> {
        let mut found = Vec::new();
        let mut page = 0;
        self.look_through(cluster, after, |item, key, bytes| {
            if found.len() == limit || page >= PAGE_BYTES {
                return Ok(false);
            }
            let committed = value::decode(keys::ITEMS, key, bytes)?;
            page += bytes_of(&item, &committed);
            found.push((item, committed));
            Ok(true)
        })?;
        Ok(found)
    }

    /// Reads a part of a cluster for a copy, and the last batch that it may show.
    ///
    /// # Errors
    /// Corrupt value, or the engine refuses.
    pub(crate) fn read_part(&self, part: Part) -> Result<(Chunk, PersistSeq), StorageError> {
        let cluster = part.cluster;
        let mut chunk = part.read(|after, limit| self.items_after(cluster, after, limit))?;
        let name = "rocksdb.estimate-num-keys";
        let estimate = self.db.property_int_value_cf(self.family(keys::ITEMS), name);
        chunk.there = estimate.map_err(StorageError::engine("count the items"))?.unwrap_or(0);
        Ok((chunk, self.durability.handed_over()))
    }

    /// The tombstones among the items of a cluster behind a key. Looks at `limit` items at most,
    /// and stops once what it skips is [`SKIPPED_BYTES`].
    fn tombstones_after(
        &self,
        cluster: ClusterKey,
        after: Option<&ItemKey>,
        limit: usize,
    ) -> Result<Tombstones, StorageError> {
        let mut page = Tombstones::default();
        let mut last = None;
        self.look_through(cluster, after, |item, key, bytes| {
            if page.looked_at == limit || page.bytes >= SKIPPED_BYTES {
                page.next = last.take();
                return Ok(false);
            }
            page.looked_at += 1;
            page.bytes += bytes.len();
            if value::is_tombstone(keys::ITEMS, key, bytes)? {
                let committed: Committed = value::decode(keys::ITEMS, key, bytes)?;
                page.found.push((item.clone(), committed.stamp));
            }
            last = Some(item);
            Ok(true)
        })?;
        Ok(page)
    }

    /// Hands the items of a cluster behind a key to `each`, with key and value as they are stored,
    /// until it says that it has enough. For work that goes through all there is: what it reads
    /// does not push anything out of the cache.
    fn look_through(
        &self,
        cluster: ClusterKey,
        after: Option<&ItemKey>,
        mut each: impl FnMut(ItemKey, &[u8], &[u8]) -> Result<bool, StorageError>,
    ) -> Result<(), StorageError> {
        let start = match after {
            // The next key in the engine's order.
            Some(key) => {
                let mut start = keys::item(&ItemId { cluster, key: key.clone() });
                start.push(0);
                start
            }
            None => keys::cluster(cluster).to_vec(),
        };
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mut iterator = self.db.raw_iterator_cf_opt(self.family(keys::ITEMS), options);
        iterator.seek(start);
        while let Some((key, bytes)) = iterator.item() {
            if !key.starts_with(&keys::cluster(cluster)) {
                break;
            }
            let item = keys::parse_item(cluster, key);
            let item = item.ok_or_else(|| recover::odd_key(keys::ITEMS, key))?;
            if !each(item, key, bytes)? {
                break;
            }
            iterator.next();
        }
        iterator.status().map_err(StorageError::engine("read a cluster"))
    }

    /// Whose store this is; `None` when it was just made.
    pub(crate) fn owner(&self) -> Result<Option<Owner>, StorageError> {
        self.get(keys::META, keys::META_OWNER)
    }

    /// Makes the store this server's in this boot, durably.
    pub(crate) fn set_owner(&self, owner: Owner) -> Result<(), StorageError> {
        self.put(keys::META, keys::META_OWNER, &owner)?;
        self.sync()
    }

    /// The last batch found on the disk.
    pub(crate) fn last_batch(&self) -> Result<Durable, StorageError> {
        Ok(self.get(keys::META, keys::META_LAST)?.unwrap_or_default())
    }

    /// All peers ever met, by name.
    pub(crate) fn bindings(&self) -> Result<Vec<(String, Binding)>, StorageError> {
        let mut bindings = Vec::new();
        for (key, bytes) in self.meta_with(keys::META_PEER)? {
            let name = String::from_utf8_lossy(&key[keys::META_PEER.len()..]).into_owned();
            bindings.push((name, value::decode(keys::META, &key, &bytes)?));
        }
        Ok(bindings)
    }

    /// Remembers a peer; durable with the next sync.
    pub(crate) fn bind(&self, name: &str, binding: &Binding) -> Result<(), StorageError> {
        self.put(keys::META, &keys::meta(keys::META_PEER, name.as_bytes()), binding)
    }

    /// Forgets a peer; durable with the next sync.
    pub(crate) fn unbind(&self, name: &str) -> Result<(), StorageError> {
        let key = keys::meta(keys::META_PEER, name.as_bytes());
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.family(keys::META), key);
        self.db.write(batch).map_err(StorageError::engine("forget a peer"))
    }

    /// What is here is not whole: the server has to align before it serves. Durable with whatever
    /// is written next.
    pub(crate) fn start_aligning(&self) -> Result<(), StorageError> {
        self.put(keys::META, keys::META_ALIGNING, &())
    }

    fn family(&self, name: &'static str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every family is opened with the store")
    }

    fn get<T: DeserializeOwned>(
        &self,
        family: &'static str,
        key: &[u8],
    ) -> Result<Option<T>, StorageError> {
        let found = self.db.get_pinned_cf(self.family(family), key);
        let found = found.map_err(StorageError::engine("read a value"))?;
        found.map(|bytes| value::decode(family, key, &bytes)).transpose()
    }

    fn put<T: Serialize>(
        &self,
        family: &'static str,
        key: &[u8],
        value: &T,
    ) -> Result<(), StorageError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.family(family), key, value::encode(family, key, value)?);
        self.db.write(batch).map_err(StorageError::engine("write a value"))
    }

    /// Entries of `meta` whose key starts with a prefix.
    fn meta_with(&self, prefix: &[u8]) -> Result<Vec<Entry>, StorageError> {
        let mode = IteratorMode::From(prefix, Direction::Forward);
        let mut found = Vec::new();
        for entry in self.db.iterator_cf(self.family(keys::META), mode) {
            let (key, bytes) = entry.map_err(StorageError::engine("scan the marks"))?;
            if !key.starts_with(prefix) {
                break;
            }
            found.push((key, bytes));
        }
        Ok(found)
    }
}

/// Ends the process: the disk gave an answer that nothing may be built on. Used where no caller
/// can be told, the machine's view of the store and the sync thread; whoever can return an error
/// returns it.
///
/// No thread is waited for beyond [`EXIT_MAX`]: the machine may already count on the write that
/// failed. Then the process ends by a signal instead of with [`EXIT_STORAGE`].
pub(crate) fn die(error: &StorageError) -> ! {
    let wait = if error.is_consequence() { CAUSE_WAIT } else { Duration::ZERO };
    let end = move || {
        // Only the clock is left to go by: exit handlers that hang tell nobody.
        std::thread::sleep(wait + EXIT_MAX);
        std::process::abort();
    };
    if std::thread::Builder::new().name("end".into()).spawn(end).is_err() {
        std::process::abort();
    }
    // The thread that met the cause of a consequence is about to tell it and end the process, and
    // this one with it, so there is nothing to wait for but that. If it never does, the consequence
    // is told instead.
    std::thread::sleep(wait);
    let remedy = error.remedy();
    tracing::error!(%error, remedy, "the storage failed; this server stops rather than guess");
    std::process::exit(EXIT_STORAGE.into())
}

#[cfg(test)]
mod tests;
