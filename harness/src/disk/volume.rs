//! Files and directories by number, the room they take, and what a power cut does to all of them.
//! Synchronous, and without FUSE: `mount` translates. Delays are not kept here, since whoever waits
//! must not hold the volume.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;

use super::content::{Content, Remains, below};
use super::tree::{NameChange, Names, Tree};
use super::{Counts, CutReport, Ino, ROOT, Survival};
use crate::plan::stream;

/// What is known of a file or directory beside its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Its number.
    pub ino: Ino,
    /// Bytes; 0 for a directory.
    pub size: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Permission bits.
    pub mode: u16,
    /// Last change, by the host's clock; outlives a cut.
    pub changed: SystemTime,
}

#[derive(Debug)]
struct Node {
    mode: u16,
    changed: SystemTime,
    /// `None` for a directory.
    content: Option<Content>,
    open: u64,
}

/// A disk's content.
#[derive(Debug)]
pub struct Volume {
    objects: PathBuf,
    tree: Tree,
    nodes: BTreeMap<Ino, Node>,
    next: Ino,
    /// Number of cuts so far; handles from before the last one are dead.
    epoch: u64,
    /// Without power nothing answers.
    powered: bool,
    /// Bytes that all files may have together.
    capacity: Option<u64>,
    counts: Counts,
}

impl Volume {
    /// An empty disk whose synced content lies in `objects`, a folder that is made here.
    ///
    /// # Errors
    /// The folder is there already, or cannot be made.
    pub fn create(objects: &Path) -> io::Result<Self> {
        std::fs::create_dir(objects)?;
        let root = Node { mode: 0o755, changed: SystemTime::now(), content: None, open: 0 };
        Ok(Self {
            objects: objects.to_path_buf(),
            tree: Tree::new(),
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            epoch: 0,
            powered: true,
            capacity: None,
            counts: Counts::default(),
        })
    }

    /// What was done so far, and how full the disk is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let unsynced = self.contents().map(Content::unsynced).sum();
        Counts { used: self.used(), unsynced, ..self.counts }
    }

    /// Limits the room to what is used now and `free` bytes more; `None` takes the limit away.
    pub fn limit(&mut self, free: Option<u64>) {
        self.capacity = free.map(|free| self.used() + free);
    }

    /// Bytes used, and bytes free when there is a limit.
    #[must_use]
    pub fn space(&self) -> (u64, Option<u64>) {
        (self.used(), self.capacity.map(|_| self.room()))
    }

    /// Counts a write or sync that was held up.
    pub fn count_delayed(&mut self) {
        self.counts.delayed += 1;
    }

    /// What is known of a file or directory.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn about(&self, ino: Ino) -> io::Result<About> {
        let node = self.node(ino)?;
        let size = node.content.as_ref().map_or(0, Content::size);
        let is_dir = node.content.is_none();
        Ok(About { ino, size, is_dir, mode: node.mode, changed: node.changed })
    }

    /// The file or directory of a name.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn lookup(&self, dir: Ino, name: &OsStr) -> io::Result<About> {
        self.about(self.tree.lookup(dir, name).ok_or(Errno::ENOENT)?)
    }

    /// Names of a directory with what they stand for.
    ///
    /// # Errors
    /// `ENOTDIR`.
    pub fn names(&self, dir: Ino) -> io::Result<&Names> {
        self.has_power()?;
        Ok(self.tree.names(dir).ok_or(Errno::ENOTDIR)?)
    }

    /// Makes a file.
    ///
    /// # Errors
    /// `EEXIST`, `ENOTDIR`, `ENOSPC` on a full disk.
    pub fn create_file(&mut self, dir: Ino, name: &OsStr, mode: u16) -> io::Result<About> {
        self.free_name(dir, name)?;
        if self.room() == 0 {
            self.counts.refused += 1;
            return Err(Errno::ENOSPC.into());
        }
        let content = Content::create(&self.object(self.next))?;
        self.add(dir, name, mode, Some(content))
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// `EEXIST`, `ENOTDIR`.
    pub fn create_directory(&mut self, dir: Ino, name: &OsStr, mode: u16) -> io::Result<About> {
        self.free_name(dir, name)?;
        self.tree.add_directory(self.next);
        self.add(dir, name, mode, None)
    }

    fn free_name(&self, dir: Ino, name: &OsStr) -> io::Result<()> {
        match self.names(dir)?.contains_key(name) {
            true => Err(Errno::EEXIST.into()),
            false => Ok(()),
        }
    }

    fn add(
        &mut self,
        dir: Ino,
        name: &OsStr,
        mode: u16,
        content: Option<Content>,
    ) -> io::Result<About> {
        let ino = self.next;
        self.next += 1;
        self.nodes.insert(ino, Node { mode, changed: SystemTime::now(), content, open: 0 });
        self.tree.step(vec![NameChange { dir, name: name.to_owned(), to: Some(ino) }]);
        self.about(ino)
    }

    /// Removes a file's name, or an empty directory's.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `ENOTDIR`, `ENOTEMPTY`.
    pub fn remove(&mut self, dir: Ino, name: &OsStr, directory: bool) -> io::Result<()> {
        let found = self.lookup(dir, name)?;
        self.may_vanish(&found, directory)?;
        self.tree.step(vec![NameChange { dir, name: name.to_owned(), to: None }]);
        if directory {
            self.tree.remove_directory(found.ino);
        }
        self.forget_lost()
    }

    fn may_vanish(&self, found: &About, as_directory: bool) -> io::Result<()> {
        let refused = match (found.is_dir, as_directory) {
            (true, false) => Errno::EISDIR,
            (false, true) => Errno::ENOTDIR,
            (true, true) if !self.names(found.ino)?.is_empty() => Errno::ENOTEMPTY,
            (true, true) | (false, false) => return Ok(()),
        };
        Err(refused.into())
    }

    /// Gives a file or directory another name; what had it loses it.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EISDIR`, `ENOTEMPTY`.
    pub fn rename(&mut self, from: (Ino, &OsStr), to: (Ino, &OsStr)) -> io::Result<()> {
        let moved = self.lookup(from.0, from.1)?;
        self.names(to.0)?;
        let replaced = self.lookup(to.0, to.1).ok();
        if replaced.is_some_and(|replaced| replaced.ino == moved.ino) {
            return Ok(());
        }
        if let Some(replaced) = &replaced {
            self.may_vanish(replaced, moved.is_dir)?;
        }
        self.tree.step(vec![
            NameChange { dir: from.0, name: from.1.to_owned(), to: None },
            NameChange { dir: to.0, name: to.1.to_owned(), to: Some(moved.ino) },
        ]);
        if let Some(replaced) = replaced.filter(|replaced| replaced.is_dir) {
            self.tree.remove_directory(replaced.ino);
        }
        self.forget_lost()
    }

    /// Sets permission bits. They outlive a cut.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn set_mode(&mut self, ino: Ino, mode: u16) -> io::Result<()> {
        self.node_mut(ino)?.mode = mode;
        Ok(())
    }

    /// A handle for a file or directory.
    ///
    /// # Errors
    /// `ENOENT`.
    pub fn open(&mut self, ino: Ino) -> io::Result<u64> {
        self.node_mut(ino)?.open += 1;
        Ok(self.epoch)
    }

    /// Gives a handle back.
    ///
    /// # Errors
    /// The backing folder.
    pub fn close(&mut self, ino: Ino, handle: u64) -> io::Result<()> {
        if handle == self.epoch
            && let Ok(node) = self.node_mut(ino)
        {
            node.open = node.open.saturating_sub(1);
        }
        self.forget_lost()
    }

    /// Reads.
    ///
    /// # Errors
    /// `EIO` by a handle from before a cut, `EISDIR`, or the backing folder.
    pub fn read(&self, ino: Ino, handle: u64, at: u64, length: u64) -> io::Result<Vec<u8>> {
        self.alive(handle)?;
        let content = self.node(ino)?.content.as_ref().ok_or(Errno::EISDIR)?;
        content.read(at, length)
    }

    /// Writes as much as there is room for, at least something, and says how much.
    ///
    /// # Errors
    /// `ENOSPC` when nothing fits, `EIO` by a handle from before a cut, `EISDIR`.
    pub fn write(&mut self, ino: Ino, handle: u64, at: u64, data: &[u8]) -> io::Result<usize> {
        self.alive(handle)?;
        let room = self.room();
        let content = self.content_mut(ino)?;
        let fits = (content.size().max(at) - at).saturating_add(room);
        let length = data.len().min(usize::try_from(fits).unwrap_or(usize::MAX));
        // Beyond the end, the gap takes room too.
        let gap = at.saturating_sub(content.size());
        if gap > room || (length == 0 && !data.is_empty()) {
            self.counts.refused += 1;
            return Err(Errno::ENOSPC.into());
        }
        content.write(at, &data[..length]);
        self.counts.writes += 1;
        self.touch(ino)?;
        Ok(length)
    }

    /// Cuts or lengthens a file.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOENT`, `EISDIR`.
    pub fn set_length(&mut self, ino: Ino, length: u64) -> io::Result<()> {
        let room = self.room();
        let content = self.content_mut(ino)?;
        if length.saturating_sub(content.size()) > room {
            self.counts.refused += 1;
            return Err(Errno::ENOSPC.into());
        }
        content.set_length(length);
        self.touch(ino)
    }

    /// Makes a file's content survive.
    ///
    /// # Errors
    /// `EIO` by a handle from before a cut, or the backing folder.
    pub fn sync_file(&mut self, ino: Ino, handle: u64) -> io::Result<()> {
        self.alive(handle)?;
        self.counts.syncs += 1;
        self.content_mut(ino)?.sync()
    }

    /// Makes a directory's names survive.
    ///
    /// # Errors
    /// `EIO` by a handle from before a cut, or the backing folder.
    pub fn sync_directory(&mut self, ino: Ino, handle: u64) -> io::Result<()> {
        self.alive(handle)?;
        self.counts.syncs += 1;
        self.tree.sync(ino);
        self.forget_lost()
    }

    /// Power comes back.
    pub fn power_on(&mut self) {
        self.powered = true;
    }

    /// Power is cut: everything answers `EIO` until it comes back.
    ///
    /// # Errors
    /// The backing folder.
    pub fn cut(&mut self, survival: Survival) -> io::Result<CutReport> {
        let mut report = CutReport::default();
        self.powered = false;
        self.epoch += 1;
        self.counts.cuts += 1;
        let cut = self.counts.cuts;
        for (ino, node) in &mut self.nodes {
            node.open = 0;
            let Some(content) = node.content.as_mut().filter(|content| !content.is_synced()) else {
                continue;
            };
            let rng = |seed| stream::rng(seed, &format!("disk/{cut}/{ino}"));
            let Remains { kept, lost } = match survival {
                Survival::Nothing => content.lose_all(),
                Survival::Prefix { seed } => content.keep_prefix(&mut rng(seed))?,
                Survival::Sectors { seed } => content.keep_sectors(&mut rng(seed))?,
            };
            report.files += 1;
            report.kept_bytes += kept;
            report.lost_bytes += lost;
        }
        let steps = self.tree.unsynced();
        report.kept_names = match survival {
            Survival::Nothing => 0,
            Survival::Prefix { seed } | Survival::Sectors { seed } => {
                below(&mut stream::rng(seed, &format!("disk/{cut}/names")), steps + 1)
            }
        };
        report.lost_names = steps - report.kept_names;
        self.tree.cut(report.kept_names);
        self.forget_lost()?;
        Ok(report)
    }

    /// Drops what has no name, cannot get one back, and is not open.
    fn forget_lost(&mut self) -> io::Result<()> {
        let referred = self.tree.referred();
        let is_lost = |ino: &Ino, node: &Node| node.open == 0 && !referred.contains(ino);
        let lost = self.nodes.iter().filter(|(ino, node)| is_lost(ino, node));
        let lost: Vec<Ino> = lost.map(|(ino, _)| *ino).collect();
        for ino in lost {
            let node = self.nodes.remove(&ino);
            if node.is_some_and(|node| node.content.is_some()) {
                std::fs::remove_file(self.object(ino))?;
            }
        }
        Ok(())
    }

    fn touch(&mut self, ino: Ino) -> io::Result<()> {
        self.node_mut(ino)?.changed = SystemTime::now();
        Ok(())
    }

    fn has_power(&self) -> io::Result<()> {
        match self.powered {
            true => Ok(()),
            false => Err(Errno::EIO.into()),
        }
    }

    fn alive(&self, handle: u64) -> io::Result<()> {
        self.has_power()?;
        match handle == self.epoch {
            true => Ok(()),
            false => Err(Errno::EIO.into()),
        }
    }

    fn used(&self) -> u64 {
        self.contents().map(Content::size).sum()
    }

    fn room(&self) -> u64 {
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    fn contents(&self) -> impl Iterator<Item = &Content> {
        self.nodes.values().filter_map(|node| node.content.as_ref())
    }

    fn object(&self, ino: Ino) -> PathBuf {
        self.objects.join(ino.to_string())
    }

    fn node(&self, ino: Ino) -> io::Result<&Node> {
        self.has_power()?;
        Ok(self.nodes.get(&ino).ok_or(Errno::ENOENT)?)
    }

    fn node_mut(&mut self, ino: Ino) -> io::Result<&mut Node> {
        self.has_power()?;
        Ok(self.nodes.get_mut(&ino).ok_or(Errno::ENOENT)?)
    }

    fn content_mut(&mut self, ino: Ino) -> io::Result<&mut Content> {
        Ok(self.node_mut(ino)?.content.as_mut().ok_or(Errno::EISDIR)?)
    }
}

#[cfg(test)]
#[path = "volume_test.rs"]
mod tests;
