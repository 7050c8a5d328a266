//! How the engine is set up: memory bounded, one log flush a group commit. May not open anything.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel,
    Options,
};

use super::keys;

const MIB: usize = 1 << 20;
/// Shared by all families; what does not fit is read again from the page cache.
const BLOCK_CACHE_BYTES: usize = 32 * MIB;
/// All memtables together; when full, the largest is written out.
const MEMTABLES_BYTES: usize = 64 * MIB;
/// One memtable; at most two a family, writers are held back beyond.
const MEMTABLE_BYTES: usize = 16 * MIB;
/// Write-ahead log on disk; when full, the oldest memtables are written out.
const WAL_BYTES: u64 = 128 * MIB as u64;
/// Table files held open.
const OPEN_FILES: i32 = 256;
/// Bits a key of the filters that spare lookups of absent keys.
const BLOOM_BITS: f64 = 10.0;
/// Share of a memtable given to its own filter: a Prepare looks up a transaction that is not there.
const MEMTABLE_BLOOM: f64 = 0.05;

const _: () = assert!(2 * MEMTABLE_BYTES <= MEMTABLES_BYTES);

/// Options of the whole store.
pub(super) fn database() -> Options {
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
    options.set_db_write_buffer_size(MEMTABLES_BYTES);
    options.set_max_open_files(OPEN_FILES);
    options.set_max_background_jobs(2);
    // One thread writes nearly everything.
    options.set_allow_concurrent_memtable_write(false);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options
}

/// All families with their options.
pub(super) fn families() -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&cache);
    table.set_bloom_filter(BLOOM_BITS, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    keys::FAMILIES
        .iter()
        .map(|name| {
            let mut options = Options::default();
            options.set_write_buffer_size(MEMTABLE_BYTES);
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
