//! A second opinion on how much of the store was synced: a small file of its own, overwritten after
//! every sync. May not know what the store holds.
//!
//! The engine reads its log, and its list of files, up to the first record that does not check: the
//! unsynced end of a file may look like anything after a power cut. Damage in the synced part looks
//! the same to it, and everything behind the damage would be gone without a word; tables that are
//! not listed are even removed. So a start compares the store with this file, and a store that
//! holds less has lost what was acknowledged. The list is compared before the engine opens it.
//!
//! The file is written after the sync, and nothing waits for it, so it never claims more than was
//! synced. It is synced itself only when the server starts and stops: after a power cut it may
//! claim less, and then less damage is noticed here. Peers compare too, by what they were told
//! (`Binding::durable`).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use quorate_api::Boot;

use super::Durable;

/// Format, boot, batch, the list's number, length and checksum, own checksum. Less than a sector,
/// so a power cut leaves the old or the new.
const LENGTH: usize = 37;
/// Where the checksum begins.
const SUM_AT: usize = LENGTH - 4;
/// Format of the file.
const FORMAT: u8 = 1;
/// The engine's file that names the list of files in use.
const CURRENT: &str = "CURRENT";
/// What the names of lists begin with.
const PREFIX: &str = "MANIFEST-";

/// The engine's list of files in use, as far as it is synced. A later list has a higher number.
///
/// The checksum is needed although the engine has its own: damage to the length of its last record
/// makes that one look torn, and the engine goes on without it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// In its name.
    pub(crate) number: u64,
    /// Bytes.
    pub(crate) length: u64,
    /// CRC-32 of those bytes.
    pub(crate) sum: u32,
}

impl Manifest {
    /// What is wrong with the list that a store in this folder works with, if it is older or
    /// shorter than this one, or differs. A list that is missing the engine refuses itself.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn contradicted_by(&self, store: &Path) -> io::Result<Option<String>> {
        let Some((list, number)) = open_manifest(store)? else { return Ok(None) };
        let length = list.metadata()?.len();
        if number > self.number {
            return Ok(None);
        }
        if number < self.number || length < self.length {
            return Ok(Some(format!(
                "{PREFIX}{number:06} has {length} bytes, and {} of {PREFIX}{:06} were confirmed",
                self.length, self.number
            )));
        }
        let mut hasher = crc32fast::Hasher::new();
        hash(&list, &mut hasher, 0, self.length)?;
        let differs = hasher.finalize() != self.sum;
        Ok(differs.then(|| format!("{PREFIX}{number:06} is not what was confirmed")))
    }
}

/// Adds a part of a file to a checksum.
fn hash(file: &File, hasher: &mut crc32fast::Hasher, from: u64, to: u64) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut at = from;
    while at < to {
        let wanted = usize::try_from(to - at).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..wanted], at)?;
        hasher.update(&buffer[..wanted]);
        at += wanted as u64;
    }
    Ok(())
}

/// The list in use, opened, and its number; `None` when it is not clear which that is.
fn open_manifest(store: &Path) -> io::Result<Option<(File, u64)>> {
    let Some(bytes) = present(fs::read(store.join(CURRENT)))? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let name = text.trim_end();
    let number = name.strip_prefix(PREFIX).and_then(|digits| digits.parse().ok());
    let Some(number) = number else { return Ok(None) };
    let Some(file) = present(File::open(store.join(name)))? else { return Ok(None) };
    Ok(Some((file, number)))
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
        bytes[21..29].copy_from_slice(&self.manifest.length.to_le_bytes());
        bytes[29..SUM_AT].copy_from_slice(&self.manifest.sum.to_le_bytes());
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
    let sum = u32::from_le_bytes(body[29..].try_into().ok()?);
    let manifest = Manifest { number: number(13)?, length: number(21)?, sum };
    Some(Claim { durable: (Boot(boot), number(5)?), manifest })
}

/// The open file, and the list that it watches.
#[derive(Debug)]
pub(crate) struct Witness {
    file: File,
    watched: Mutex<Watched>,
}

/// The list, as far as it was hashed and synced.
#[derive(Debug)]
struct Watched {
    list: File,
    manifest: Manifest,
    hasher: crc32fast::Hasher,
}

impl Watched {
    /// Catches up with the list.
    fn follow(&mut self) -> io::Result<Manifest> {
        let length = self.list.metadata()?.len();
        if length > self.manifest.length {
            self.list.sync_data()?;
            hash(&self.list, &mut self.hasher, self.manifest.length, length)?;
            self.manifest.length = length;
            self.manifest.sum = self.hasher.clone().finalize();
        }
        Ok(self.manifest)
    }
}

impl Witness {
    /// Opens the file beside a store that the engine has opened.
    ///
    /// # Errors
    /// The file system refuses, or the store has no list of files.
    pub(crate) fn open(path: &Path, store: &Path) -> io::Result<Self> {
        let file = File::options().write(true).open(path)?;
        let (list, number) = open_manifest(store)?.ok_or(io::ErrorKind::NotFound)?;
        let manifest = Manifest { number, ..Manifest::default() };
        let watched = Watched { list, manifest, hasher: crc32fast::Hasher::new() };
        Ok(Self { file, watched: Mutex::new(watched) })
    }

    /// Claims that everything up to this batch was synced, and the list as it is now, which is
    /// synced first where it has grown.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn claim(&self, durable: Durable) -> io::Result<()> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let claim = Claim { durable, manifest: watched.follow()? };
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
        let sum = crc32fast::hash(&[0; 70]);
        let manifest = Manifest { number: 25, length: 70, sum };
        let claim = Claim { durable: (Boot(3), 99), manifest };
        assert_eq!(Claim::read(&path).unwrap(), Some(claim));
        fs::write(dir.path().join("MANIFEST-000025"), [0; 90]).unwrap();
        witness.claim((Boot(3), 99)).unwrap();
        let manifest = Claim::read(&path).unwrap().unwrap().manifest;
        assert_eq!((manifest.length, manifest.sum), (90, crc32fast::hash(&[0; 90])));
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
    fn an_older_shorter_or_changed_list_contradicts() {
        let dir = tempfile::tempdir().unwrap();
        let confirmed = Manifest { number: 25, length: 70, sum: crc32fast::hash(&[1; 70]) };
        let found = || confirmed.contradicted_by(dir.path()).unwrap();
        for text in ["", "MANIFEST-000025\n", "MANIFEST-x\n"] {
            fs::write(dir.path().join(CURRENT), text).unwrap();
            assert_eq!(found(), None, "the engine refuses {text}");
        }
        let list = |number: u64, bytes: &[u8]| {
            let name = format!("{PREFIX}{number:06}");
            fs::write(dir.path().join(&name), bytes).unwrap();
            fs::write(dir.path().join(CURRENT), format!("{name}\n")).unwrap();
        };
        for (number, bytes, wanted) in [
            (25, &[1; 70][..], None),
            (25, &[1; 71][..], None),
            (26, &[][..], None),
            (25, &[1; 69][..], Some("has 69 bytes, and 70 of MANIFEST-000025")),
            (24, &[1; 90][..], Some("MANIFEST-000024 has 90 bytes")),
            (25, &[2; 70][..], Some("is not what was confirmed")),
        ] {
            list(number, bytes);
            let found = found();
            assert_eq!(found.is_some(), wanted.is_some(), "{found:?}");
            assert!(found.unwrap_or_default().contains(wanted.unwrap_or_default()));
        }
    }
}
