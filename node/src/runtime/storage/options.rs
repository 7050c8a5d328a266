//! How the engine is set up: memory within a share, one log flush a group commit. May not open
//! anything.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel,
    LruCacheOptions, Options, WriteBufferManager,
};

use super::keys;
use crate::memory::Budget;

const MIB: usize = 1 << 20;
/// Largest memtable; at most two a family, writers are held back beyond.
const MEMTABLE_MOST: usize = 16 * MIB;
/// Smallest one.
const MEMTABLE_LEAST: usize = MIB / 2;
/// Smallest part of the cache with a lock of its own: a part must hold a few large blocks.
const SHARD_LEAST: usize = 4 * MIB;
/// What a merge of tables reads ahead in each, where memory is short.
const READ_AHEAD_LEAST: usize = 256 << 10;
/// Write-ahead log on disk; when full, the oldest memtables are written out.
const WAL_BYTES: u64 = 128 * MIB as u64;
/// Table files held open.
const OPEN_FILES: i32 = 256;
/// Bits a key of the filters that spare lookups of absent keys.
const BLOOM_BITS: f64 = 10.0;
/// Share of a memtable given to its own filter: a Prepare looks up a transaction that is not there.
const MEMTABLE_BLOOM: f64 = 0.05;

/// What the engine may hold. Shared by all families; what does not fit the cache is read again
/// from the page cache.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// Blocks of tables, their indexes and filters, and memtables.
    pub cache: usize,
    /// The memtables among it; when they are full, the largest is written out.
    pub memtables: usize,
}

impl Default for Share {
    /// Of a small server.
    fn default() -> Self {
        Self { cache: 16 * MIB, memtables: 8 * MIB }
    }
}

impl From<Budget> for Share {
    fn from(budget: Budget) -> Self {
        Self { cache: Budget::bytes(budget.store), memtables: Budget::bytes(budget.memtables) }
    }
}

impl Share {
    /// One memtable.
    fn memtable(&self) -> usize {
        (self.memtables / 4).clamp(MEMTABLE_LEAST, MEMTABLE_MOST)
    }
}

/// The engine's memory: what is in use can be asked. The limit is no hard one: a read that found
/// no room would fail, and a server cannot go on from a read that fails.
pub(super) struct Pool {
    share: Share,
    pub(super) cache: Cache,
    pub(super) memtables: WriteBufferManager,
}

impl Pool {
    pub(super) fn new(share: Share) -> Self {
        let mut options = LruCacheOptions::default();
        options.set_capacity(share.cache);
        // At most 64 parts, as the engine has it.
        options.set_num_shard_bits((share.cache / SHARD_LEAST).max(1).ilog2().min(6) as i32);
        let cache = Cache::new_lru_cache_opts(&options);
        // Writers go on while a memtable is written out; two a family is the bound.
        let memtables = WriteBufferManager::new_write_buffer_manager_with_cache(
            share.memtables,
            false,
            cache.clone(),
        );
        Self { share, cache, memtables }
    }
}

/// Options of the whole store.
pub(super) fn database(pool: &Pool) -> Options {
    let mut options = Options::default();
    // Up to the first record that does not check: behind the last sync anything may lie after a
    // power cut. Damage before it is told apart by the witness.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // A log that is missing or shorter than when it was closed is refused.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_paranoid_checks(true);
    // Batches gather in the log's buffer; the sync thread writes and syncs them together.
    options.set_manual_wal_flush(true);
    options.set_max_total_wal_size(WAL_BYTES);
    options.set_write_buffer_manager(&pool.memtables);
    if pool.share.memtable() < MEMTABLE_MOST {
        options.set_compaction_readahead_size(READ_AHEAD_LEAST);
    }
    options.set_max_open_files(OPEN_FILES);
    options.set_max_background_jobs(2);
    // One thread writes nearly everything.
    options.set_allow_concurrent_memtable_write(false);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options
}

/// All families with their options.
pub(super) fn families(pool: &Pool) -> Vec<ColumnFamilyDescriptor> {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&pool.cache);
    table.set_bloom_filter(BLOOM_BITS, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    keys::FAMILIES
        .iter()
        .map(|name| {
            let mut options = Options::default();
            options.set_write_buffer_size(pool.share.memtable());
            options.set_max_write_buffer_number(2);
            options.set_compression_type(DBCompressionType::Lz4);
            options.set_block_based_table_factory(&table);
            if matches!(*name, keys::ITEMS | keys::TX | keys::OUTCOMES) {
                options.set_memtable_whole_key_filtering(true);
                options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM);
            }
            ColumnFamilyDescriptor::new(*name, options)
        })
        .collect()
}
