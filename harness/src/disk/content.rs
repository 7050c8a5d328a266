//! One file's content: what is synced lies in an object file, what is not is kept here in order.
//! May not know names, room or handles.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rand_chacha::rand_core::RngCore;

use super::SECTOR;

/// Something done to a file that was not synced yet.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Write { at: u64, data: Vec<u8> },
    Length(u64),
}

/// A file's content.
#[derive(Debug)]
pub(super) struct Content {
    object: File,
    synced: u64,
    size: u64,
    pending: Vec<Change>,
}

/// Bytes of unsynced writes after a cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Remains {
    pub(super) kept: u64,
    pub(super) lost: u64,
}

impl Content {
    /// An empty file whose synced content lies at `path`, which must not exist.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let object = File::options().read(true).write(true).create_new(true).open(path)?;
        Ok(Self { object, synced: 0, size: 0, pending: Vec::new() })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn is_synced(&self) -> bool {
        self.pending.is_empty()
    }

    /// Bytes of writes since the last sync.
    pub(super) fn unsynced(&self) -> u64 {
        let length = |change: &Change| match change {
            Change::Write { data, .. } => data.len() as u64,
            Change::Length(_) => 0,
        };
        self.pending.iter().map(length).sum()
    }

    pub(super) fn write(&mut self, at: u64, data: &[u8]) {
        self.size = self.size.max(at + data.len() as u64);
        if let Some(Change::Write { at: last, data: old }) = self.pending.last_mut()
            && (*last, old.len()) == (at, data.len())
        {
            // As in a page cache; a counter overwritten for ever must not take memory for ever.
            old.copy_from_slice(data);
            return;
        }
        self.pending.push(Change::Write { at, data: data.to_vec() });
    }

    pub(super) fn set_length(&mut self, length: u64) {
        self.size = length;
        self.pending.push(Change::Length(length));
    }

    /// What a reader sees: everything written, synced or not.
    pub(super) fn read(&self, at: u64, length: u64) -> io::Result<Vec<u8>> {
        let end = self.size.min(at.saturating_add(length));
        let Some(length) = end.checked_sub(at) else {
            return Ok(Vec::new());
        };
        let mut seen = vec![0; usize_of(length)];
        let stored = usize_of(self.synced.saturating_sub(at).min(length));
        self.object.read_exact_at(&mut seen[..stored], at)?;
        for change in &self.pending {
            match change {
                Change::Write { at: from, data } => overlay(&mut seen, at, *from, data),
                Change::Length(length) => {
                    let kept = usize_of(length.saturating_sub(at)).min(seen.len());
                    seen[kept..].fill(0);
                }
            }
        }
        Ok(seen)
    }

    /// Makes everything so far survive.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        for change in std::mem::take(&mut self.pending) {
            self.settle(&change)?;
        }
        Ok(())
    }

    fn settle(&mut self, change: &Change) -> io::Result<()> {
        match change {
            Change::Write { at, data } => {
                self.object.write_all_at(data, *at)?;
                self.synced = self.synced.max(at + data.len() as u64);
            }
            Change::Length(length) => {
                self.object.set_len(*length)?;
                self.synced = *length;
            }
        }
        Ok(())
    }

    /// Power is cut and nothing unsynced is left.
    pub(super) fn lose_all(&mut self) -> Remains {
        let lost = self.unsynced();
        self.pending.clear();
        self.size = self.synced;
        Remains { kept: 0, lost }
    }

    /// Power is cut: the first changes are left, the write after them up to a sector's end.
    pub(super) fn keep_prefix(&mut self, rng: &mut impl RngCore) -> io::Result<Remains> {
        let all = self.unsynced();
        let mut pending = std::mem::take(&mut self.pending);
        let whole = below(rng, pending.len() as u64 + 1);
        let torn = pending.get(usize_of(whole)).cloned();
        pending.truncate(usize_of(whole));
        if let Some(Change::Write { at, data }) = torn {
            let sectors = (at % SECTOR + data.len() as u64).div_ceil(SECTOR);
            // None of it up to all but its last sector.
            let end = (at / SECTOR + below(rng, sectors)) * SECTOR;
            let kept = usize_of(end.saturating_sub(at));
            if kept > 0 {
                pending.push(Change::Write { at, data: data[..kept].to_vec() });
            }
        }
        self.pending = pending;
        let kept = self.unsynced();
        self.sync()?;
        self.size = self.synced;
        Ok(Remains { kept, lost: all - kept })
    }

    /// Power is cut: every sector that was written is left as it was synced, or as it was last
    /// written; the length is one that the file had since.
    pub(super) fn keep_sectors(&mut self, rng: &mut impl RngCore) -> io::Result<Remains> {
        let all = self.unsynced();
        let survivors = self.surviving_sectors(rng)?;
        let lengths = self.lengths();
        let length = lengths[usize_of(below(rng, lengths.len() as u64))];
        self.pending.clear();
        let kept = survivors.values().map(|bytes| bytes.len() as u64).sum::<u64>().min(all);
        self.settle(&Change::Length(length))?;
        for (at, mut data) in survivors {
            data.truncate(usize_of(length.saturating_sub(at)));
            if !data.is_empty() {
                self.settle(&Change::Write { at, data })?;
            }
        }
        self.size = self.synced;
        Ok(Remains { kept, lost: all - kept })
    }

    /// Content of the written sectors that are left, by where they begin.
    fn surviving_sectors(&self, rng: &mut impl RngCore) -> io::Result<BTreeMap<u64, Vec<u8>>> {
        let mut survivors = BTreeMap::new();
        for change in &self.pending {
            let Change::Write { at, data } = change else { continue };
            let last = (at + data.len() as u64).div_ceil(SECTOR);
            for sector in at / SECTOR..last {
                let at = sector * SECTOR;
                if !survivors.contains_key(&at) && below(rng, 2) == 0 {
                    survivors.insert(at, self.read(at, SECTOR)?);
                }
            }
        }
        Ok(survivors)
    }

    /// Every length since the last sync.
    fn lengths(&self) -> Vec<u64> {
        let mut length = self.synced;
        let mut lengths = vec![length];
        for change in &self.pending {
            length = match change {
                Change::Write { at, data } => length.max(at + data.len() as u64),
                Change::Length(length) => *length,
            };
            lengths.push(length);
        }
        lengths
    }
}

/// Lays what was written at `from` over what is seen at `at`.
fn overlay(seen: &mut [u8], at: u64, from: u64, data: &[u8]) {
    let begin = from.max(at);
    let end = (from + data.len() as u64).min(at + seen.len() as u64);
    if begin < end {
        let source = &data[usize_of(begin - from)..usize_of(end - from)];
        seen[usize_of(begin - at)..usize_of(end - at)].copy_from_slice(source);
    }
}

/// A number below `limit`, which is not 0. The modulo's bias does not matter here.
pub(super) fn below(rng: &mut impl RngCore, limit: u64) -> u64 {
    rng.next_u64() % limit
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::stream;

    struct Bench {
        content: Content,
        _folder: tempfile::TempDir,
    }

    /// A file that holds 1024 bytes of 1, synced.
    fn synced() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let mut content = Content::create(&folder.path().join("object")).unwrap();
        content.write(0, &[1; 1024]);
        content.sync().unwrap();
        Bench { content, _folder: folder }
    }

    fn all(content: &Content) -> Vec<u8> {
        content.read(0, u64::MAX / 2).unwrap()
    }

    #[test]
    fn readers_see_what_is_not_synced() {
        let Bench { mut content, _folder } = synced();
        content.write(1000, &[2; 100]);
        content.set_length(1050);
        content.write(1060, &[3; 2]);
        let seen = all(&content);
        assert_eq!(seen.len(), 1062);
        assert_eq!((seen[999], seen[1000], seen[1049]), (1, 2, 2));
        assert_eq!((&seen[1050..1060], &seen[1060..]), (&[0; 10][..], &[3; 2][..]));
        assert_eq!(content.read(1061, 10).unwrap(), [3]);
        assert_eq!(content.read(5000, 10).unwrap(), [0u8; 0]);
        content.sync().unwrap();
        assert_eq!(all(&content), seen);
    }

    #[test]
    fn a_place_overwritten_again_and_again_is_held_once() {
        let Bench { mut content, _folder } = synced();
        for value in 2..200 {
            content.write(100, &[value; 17]);
        }
        assert_eq!(content.unsynced(), 17);
        assert_eq!(content.read(116, 2).unwrap(), [199, 1]);
    }

    #[test]
    fn a_cut_takes_everything_back_to_the_last_sync() {
        let Bench { mut content, _folder } = synced();
        content.set_length(10);
        content.write(4, &[2; 2000]);
        assert_eq!(content.lose_all(), Remains { kept: 0, lost: 2000 });
        assert_eq!(all(&content), [1; 1024]);
    }

    #[test]
    fn a_prefix_is_torn_at_a_sector_and_every_length_of_it_occurs() {
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let Bench { mut content, _folder } = synced();
            content.write(1024, &[2; 700]);
            content.write(1724, &[3; 700]);
            let remains = content.keep_prefix(&mut stream::rng(seed, "torn")).unwrap();
            let left = all(&content);
            assert_eq!(left.len() as u64, 1024 + remains.kept);
            assert_eq!(remains.kept + remains.lost, 1400);
            let whole = [vec![1; 1024], vec![2; 700], vec![3; 700]].concat();
            assert_eq!(left, whole[..left.len()]);
            lengths.insert(left.len());
        }
        // Nothing, a sector of the first write, all of it, sectors of the second, all.
        assert_eq!(Vec::from_iter(lengths), [1024, 1536, 1724, 2048, 2424]);
    }

    #[test]
    fn any_sector_may_be_old_while_a_later_one_is_new() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let Bench { mut content, _folder } = synced();
            content.write(0, &[2; 1536]);
            content.keep_sectors(&mut stream::rng(seed, "sectors")).unwrap();
            let left = all(&content);
            let sectors: Vec<u8> = left.chunks(512).map(|sector| sector[0]).collect();
            assert!(left.chunks(512).all(|s| s.iter().all(|byte| *byte == s[0])), "{sectors:?}");
            seen.insert(sectors);
        }
        for wanted in [vec![1, 1], vec![1, 2], vec![2, 1], vec![1, 1, 2], vec![2, 2, 0]] {
            assert!(seen.contains(&wanted), "{wanted:?} in {seen:?}");
        }
    }
}
