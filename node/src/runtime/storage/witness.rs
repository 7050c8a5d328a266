//! A second opinion on how much of the store was synced: a small file of its own, overwritten after
//! every sync. May not know what the store holds.
//!
//! The engine reads its log, and its list of files, up to the first record that does not check,
//! because the unsynced end of a file may look like anything after a power cut. Damage in the synced
//! part looks the same to it, and everything behind the damage would be gone without a word: tables
//! that are not listed are even removed. So a start compares the store with this file, and a store
//! that holds less has lost what was acknowledged. The list is compared before the engine opens it.
//!
//! The file is written after the sync, and nothing waits for it, so it never claims more than was
//! synced. It is synced itself only when the server starts and stops: after a power cut it may claim
//! less, and then less damage is noticed here. Peers compare too, by what they were told
//! (`Binding::durable`).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use quorate_api::Boot;

use super::Durable;

/// Format, boot, batch, the list's number and length, checksum. Less than a sector, so a power cut
/// leaves the old or the new.
const LENGTH: usize = 33;
/// Where the checksum begins.
const SUM_AT: usize = LENGTH - 4;
/// Format of the file.
const FORMAT: u8 = 1;
/// The engine's file that names the list of files in use.
const CURRENT: &str = "CURRENT";
/// What the names of lists begin with.
const PREFIX: &str = "MANIFEST-";

/// The engine's list of files in use, and how much of it is synced. A later list has a higher
/// number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Manifest {
    /// In its name.
    pub(crate) number: u64,
    /// Bytes.
    pub(crate) length: u64,
}

impl Manifest {
    /// The list that a store in this folder works with; `None` when that is not clear, which the
    /// engine refuses in its own words.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn of_store(store: &Path) -> io::Result<Option<Self>> {
        Ok(open_manifest(store)?.map(|(_, manifest)| manifest))
    }
}

/// The list in use, opened.
fn open_manifest(store: &Path) -> io::Result<Option<(File, Manifest)>> {
    let Some(bytes) = present(fs::read(store.join(CURRENT)))? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let name = text.trim_end();
    let number = name.strip_prefix(PREFIX).and_then(|digits| digits.parse().ok());
    let Some(number) = number else { return Ok(None) };
    let Some(file) = present(File::open(store.join(name)))? else { return Ok(None) };
    let length = file.metadata()?.len();
    Ok(Some((file, Manifest { number, length })))
}

/// A file that is missing is no error here.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is claimed to be synced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The last batch.
    pub(crate) durable: Durable,
    /// The list of files.
    pub(crate) manifest: Manifest,
}

impl Claim {
    /// Reads the file; `None` when it does not hold a claim.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        Ok(fs::read(path)?.as_slice().try_into().ok().and_then(decode))
    }

    /// Content of the file.
    pub(crate) fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let (boot, batch) = self.durable;
        bytes[0] = FORMAT;
        bytes[1..5].copy_from_slice(&boot.0.to_le_bytes());
        bytes[5..13].copy_from_slice(&batch.to_le_bytes());
        bytes[13..21].copy_from_slice(&self.manifest.number.to_le_bytes());
        bytes[21..SUM_AT].copy_from_slice(&self.manifest.length.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..SUM_AT]);
        bytes[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

fn decode(bytes: &[u8; LENGTH]) -> Option<Claim> {
    let (body, sum) = bytes.split_at_checked(SUM_AT)?;
    if body[0] != FORMAT || sum != crc32fast::hash(body).to_le_bytes() {
        return None;
    }
    let boot = u32::from_le_bytes(body[1..5].try_into().ok()?);
    let number = |at: usize| Some(u64::from_le_bytes(body[at..at + 8].try_into().ok()?));
    let manifest = Manifest { number: number(13)?, length: number(21)? };
    Some(Claim { durable: (Boot(boot), number(5)?), manifest })
}

/// The open file, and the list that it watches.
#[derive(Debug)]
pub(crate) struct Witness {
    file: File,
    watched: Mutex<(File, Manifest)>,
}

impl Witness {
    /// Opens the file beside a store that the engine has opened.
    ///
    /// # Errors
    /// The file system refuses, or the store has no list of files.
    pub(crate) fn open(path: &Path, store: &Path) -> io::Result<Self> {
        let file = File::options().write(true).open(path)?;
        let watched = open_manifest(store)?.ok_or(io::ErrorKind::NotFound)?;
        watched.0.sync_data()?;
        Ok(Self { file, watched: Mutex::new(watched) })
    }

    /// Claims that everything up to this batch was synced, and the list as it is now, which is
    /// synced first where it has grown.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn claim(&self, durable: Durable) -> io::Result<()> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let (list, manifest) = &mut *watched;
        let length = list.metadata()?.len();
        if length != manifest.length {
            list.sync_data()?;
            manifest.length = length;
        }
        let claim = Claim { durable, manifest: *manifest };
        self.file.write_all_at(&claim.encode(), 0)
    }

    /// Makes the claim durable.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_comes_back_and_a_changed_byte_is_no_claim() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("synced");
        fs::write(dir.path().join(CURRENT), "MANIFEST-000025\n").unwrap();
        fs::write(dir.path().join("MANIFEST-000025"), [0; 70]).unwrap();
        fs::write(&path, Claim::default().encode()).unwrap();
        assert_eq!(Claim::read(&path).unwrap(), Some(Claim::default()));
        let witness = Witness::open(&path, dir.path()).unwrap();
        witness.claim((Boot(3), 99)).unwrap();
        witness.sync().unwrap();
        let manifest = Manifest { number: 25, length: 70 };
        let claim = Claim { durable: (Boot(3), 99), manifest };
        assert_eq!(Claim::read(&path).unwrap(), Some(claim));
        fs::write(dir.path().join("MANIFEST-000025"), [0; 90]).unwrap();
        witness.claim((Boot(3), 99)).unwrap();
        assert_eq!(Claim::read(&path).unwrap().unwrap().manifest.length, 90);
        let good = fs::read(&path).unwrap();
        for at in 0..LENGTH {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert_eq!(Claim::read(&path).unwrap(), None, "byte {at}");
        }
        fs::write(&path, &good[..5]).unwrap();
        assert_eq!(Claim::read(&path).unwrap(), None);
    }

    #[test]
    fn a_store_without_a_clear_list_has_none() {
        let dir = tempfile::tempdir().unwrap();
        let found = || Manifest::of_store(dir.path()).unwrap();
        assert_eq!(found(), None);
        for text in ["MANIFEST-000025\n", "MANIFEST-x\n", "", "OTHER"] {
            fs::write(dir.path().join(CURRENT), text).unwrap();
            assert_eq!(found(), None, "{text}");
        }
    }
}
