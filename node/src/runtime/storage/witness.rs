//! A second opinion on how far the log was synced: one number in a file of its own, overwritten
//! after every sync. May not know the store.
//!
//! The engine reads its log up to the first record that does not check, because the unsynced end of
//! a log may look like anything after a power cut. Damage in the synced part looks the same to it,
//! and everything behind the damage would be gone without a word. So the start compares what the
//! store holds with this file: a store that holds less has lost what was acknowledged.
//!
//! The file is written after the sync, and nothing waits for it, so it never claims more than
//! was synced. It is synced itself only when the server starts and stops: after a power cut it may
//! claim less, and then less damage is noticed here. Peers compare too, by what they were told
//! (`Binding::durable`).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use quorate_api::Boot;

use super::Durable;

/// Format, boot, batch, checksum. Less than a sector, so a power cut leaves the old or the new.
const LENGTH: usize = 17;
/// Where the checksum begins.
const SUM_AT: usize = LENGTH - 4;
/// Format of the file.
const FORMAT: u8 = 1;

/// The open file.
#[derive(Debug)]
pub(crate) struct Witness(File);

impl Witness {
    /// What a new file holds: nothing was synced yet.
    pub(crate) fn first() -> [u8; LENGTH] {
        encode(Durable::default())
    }

    /// Opens the file and reads what it claims; `None` when it does not hold a claim.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Option<Durable>)> {
        let file = File::options().read(true).write(true).open(path)?;
        let mut bytes = [0; LENGTH];
        let claim = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        Ok((Self(file), claim))
    }

    /// Claims that everything up to this batch was synced.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn claim(&self, durable: Durable) -> io::Result<()> {
        self.0.write_all_at(&encode(durable), 0)
    }

    /// Makes the claim durable.
    ///
    /// # Errors
    /// The file system refuses.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

fn encode((boot, batch): Durable) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[0] = FORMAT;
    bytes[1..5].copy_from_slice(&boot.0.to_le_bytes());
    bytes[5..SUM_AT].copy_from_slice(&batch.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..SUM_AT]);
    bytes[SUM_AT..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; LENGTH]) -> Option<Durable> {
    let (body, sum) = bytes.split_at_checked(SUM_AT)?;
    if body[0] != FORMAT || sum != crc32fast::hash(body).to_le_bytes() {
        return None;
    }
    let boot = u32::from_le_bytes(body[1..5].try_into().ok()?);
    let batch = u64::from_le_bytes(body[5..].try_into().ok()?);
    Some((Boot(boot), batch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_comes_back_and_a_changed_byte_is_no_claim() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("synced");
        std::fs::write(&path, Witness::first()).unwrap();
        let (witness, claim) = Witness::open(&path).unwrap();
        assert_eq!(claim, Some((Boot(0), 0)));
        witness.claim((Boot(3), 99)).unwrap();
        witness.sync().unwrap();
        assert_eq!(Witness::open(&path).unwrap().1, Some((Boot(3), 99)));
        let good = std::fs::read(&path).unwrap();
        for at in 0..LENGTH {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(Witness::open(&path).unwrap().1, None, "byte {at}");
        }
        std::fs::write(&path, &good[..5]).unwrap();
        assert_eq!(Witness::open(&path).unwrap().1, None);
    }
}
