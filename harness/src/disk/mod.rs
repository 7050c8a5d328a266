//! A disk that can be slow, full, and without power: a FUSE pass-through (`quorate-disk`) that
//! holds back what was not synced, so that a power cut can take it away. No workload, no verdict
//! here, and nothing of the server: any program may run on it.
//!
//! What a cut can leave behind, and no more than that:
//!
//! - **A file's content** that was there at its last `fsync` or `fdatasync` is there. Of the writes
//!   and truncations since, [`Survival`] says what is left: nothing; a prefix in their order, the
//!   last write of it cut at a 512-byte sector; or any subset of sectors, each old or new as a
//!   whole, under any of the lengths in between, as from a disk that writes in an order of its own.
//!   A write over exactly the bytes of the write before it replaces it, as in a page cache: what
//!   the first of the two wrote is not among what can be left.
//! - **A name** (create, remove, rename, each as one step) that was there at its directory's last
//!   `fsync` is there. Of the steps since, none are left, or a prefix in their order, as a journal
//!   leaves them. Syncing a file does not sync its name, which POSIX leaves open and most file
//!   systems do. Syncing a directory syncs the steps that touch it, and those they build on.
//! - **A handle** from before the cut answers `EIO`, and so does everything until power comes back.
//!
//! Not modelled: damage to what was synced (tests flip bytes themselves), a disk that acknowledges
//! a sync and lies, lost directories that were synced in part of their path only, hard and symbolic
//! links (refused), and the host's own power: synced content goes to the backing folder without a
//! sync there. The names live in memory, so a backing folder serves one run of the program.
//!
//! `content` holds one file, `tree` the names, `volume` puts them together and keeps room and
//! counts,
//! `mount` speaks FUSE, `control` takes commands.

mod content;
pub mod control;
mod mount;
mod tree;
mod volume;

use serde::{Deserialize, Serialize};

pub use mount::{Disk, Mounted};
pub use volume::Volume;

/// Number of a file or directory; never used again.
pub type Ino = u64;

/// The topmost directory, as FUSE wants it.
pub const ROOT: Ino = 1;

/// What a disk writes as a whole or not at all, in bytes.
pub const SECTOR: u64 = 512;

/// What a power cut leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "survives")]
pub enum Survival {
    /// Nothing.
    Nothing,
    /// Of every file, and of the names, a prefix drawn from the seed; a write at its end is torn.
    Prefix {
        /// What is drawn from.
        seed: u64,
    },
    /// Of every file any sectors drawn from the seed; of the names a prefix.
    Sectors {
        /// What is drawn from.
        seed: u64,
    },
}

/// What a power cut did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutReport {
    /// Files that had something not synced.
    pub files: u64,
    /// Bytes of unsynced writes that are gone.
    pub lost_bytes: u64,
    /// Bytes of unsynced writes that are left.
    pub kept_bytes: u64,
    /// Steps on names that are gone.
    pub lost_names: u64,
    /// Steps on names that are left although not synced.
    pub kept_names: u64,
}

/// What the disk has done since it was mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Writes accepted.
    pub writes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Writes and creations refused for want of room.
    pub refused: u64,
    /// Writes and syncs held up.
    pub delayed: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Bytes in all files now.
    pub used: u64,
    /// Bytes written and not synced now.
    pub unsynced: u64,
}
