//! The volume as a FUSE file system. Translates, and holds callers up when the disk is to be slow;
//! decides nothing about content.
//!
//! The mount lives in a mount namespace of the mounting process, so that it is gone with the
//! process, however that ends. Others reach it below `/proc/PID/root`. Nothing is cached in the
//! kernel: what a cut takes away must not be read any more.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::volume::{About, Volume};
use super::{Counts, CutReport, Survival};

/// How long the kernel may believe an answer: not at all.
const NO_CACHE: Duration = Duration::ZERO;
/// Threads that serve requests, so that a sync that is held up does not hold up reads.
const THREADS: usize = 4;
/// Block size that is told; the model knows sectors alone.
const BLOCK: u32 = 4096;
/// Blocks that a disk without limit claims to have.
const BLOCKS: u64 = 1 << 28;
/// `fallocate` that does not change the length (linux/falloc.h).
const KEEP_SIZE: i32 = 1;

/// How long callers are held up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Delays {
    write: Duration,
    sync: Duration,
}

/// A volume and its faults, shared by the mount and whoever commands it.
#[derive(Debug)]
pub struct Disk {
    volume: Mutex<Volume>,
    delays: Mutex<Delays>,
}

impl Disk {
    /// A disk in good order.
    #[must_use]
    pub fn new(volume: Volume) -> Self {
        Self { volume: Mutex::new(volume), delays: Mutex::default() }
    }

    /// Power comes back.
    pub fn power_on(&self) {
        self.volume().power_on();
    }

    /// Power is cut: everything answers `EIO` until it comes back, a sync under way too.
    ///
    /// # Errors
    /// The backing folder.
    pub fn cut(&self, survival: Survival) -> io::Result<CutReport> {
        self.volume().cut(survival)
    }

    /// Holds up every write and every sync from now on; zero takes that back.
    pub fn slow_down(&self, write: Duration, sync: Duration) {
        *self.delays() = Delays { write, sync };
    }

    /// Leaves room for this many bytes more; `None` takes that back.
    pub fn limit(&self, free: Option<u64>) {
        self.volume().limit(free);
    }

    /// What was done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.volume().counts()
    }

    fn volume(&self) -> MutexGuard<'_, Volume> {
        self.volume.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delays(&self) -> MutexGuard<'_, Delays> {
        self.delays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits without holding anything, in front of the work: what is cut meanwhile is lost.
    fn hold_up(&self, which: impl FnOnce(Delays) -> Duration) {
        let delay = which(*self.delays());
        if !delay.is_zero() {
            self.volume().count_delayed();
            std::thread::sleep(delay);
        }
    }
}

/// A mounted disk. Dropping it unmounts.
#[derive(Debug)]
pub struct Mounted {
    session: BackgroundSession,
}

impl Mounted {
    /// Mounts a disk on a folder, seen by this process alone.
    ///
    /// To be called before other threads are started: a namespace belongs to a thread and those it
    /// starts.
    ///
    /// # Errors
    /// No right to mount, or no `/dev/fuse`.
    pub fn mount(disk: Arc<Disk>, folder: &Path) -> io::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS)?;
        // Or else the mount would show up where this namespace was copied from.
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?;
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName("quorate-disk".to_owned()), MountOption::NoAtime];
        config.n_threads = Some(THREADS);
        let session = fuser::spawn_mount(Fuse(disk), folder, &config)?;
        Ok(Self { session })
    }

    /// Unmounts and waits for the last request.
    ///
    /// # Errors
    /// The folder is in use.
    pub fn unmount(self) -> io::Result<()> {
        self.session.umount_and_join()
    }
}

/// What the kernel talks to.
struct Fuse(Arc<Disk>);

impl Fuse {
    fn volume(&self) -> MutexGuard<'_, Volume> {
        self.0.volume()
    }
}

fn attributes(about: &About) -> FileAttr {
    let kind = if about.is_dir { FileType::Directory } else { FileType::RegularFile };
    let uid = nix::unistd::geteuid().as_raw();
    FileAttr {
        ino: INodeNo(about.ino),
        size: about.size,
        blocks: about.size.div_ceil(512),
        atime: about.changed,
        mtime: about.changed,
        ctime: about.changed,
        crtime: about.changed,
        kind,
        perm: about.mode,
        nlink: 1,
        uid,
        gid: nix::unistd::getegid().as_raw(),
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

fn permission_bits(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).unwrap_or(0o600)
}

fn answer_entry(found: io::Result<About>, reply: ReplyEntry) {
    match found {
        Ok(about) => reply.entry(&NO_CACHE, &attributes(&about), Generation(0)),
        Err(error) => reply.error(error.into()),
    }
}

fn answer_attributes(found: io::Result<About>, reply: ReplyAttr) {
    match found {
        Ok(about) => reply.attr(&NO_CACHE, &attributes(&about)),
        Err(error) => reply.error(error.into()),
    }
}

fn answer(done: io::Result<()>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error.into()),
    }
}

fn answer_open(handle: io::Result<u64>, reply: ReplyOpen) {
    match handle {
        Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO),
        Err(error) => reply.error(error.into()),
    }
}

impl Filesystem for Fuse {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer_entry(self.volume().lookup(parent.0, name), reply);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        answer_attributes(self.volume().about(ino.0), reply);
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut volume = self.volume();
        let sized = size.map_or(Ok(()), |size| volume.set_length(ino.0, size));
        let mode = mode.map(permission_bits);
        let set = sized.and_then(|()| mode.map_or(Ok(()), |mode| volume.set_mode(ino.0, mode)));
        answer_attributes(set.and_then(|()| volume.about(ino.0)), reply);
    }

    fn mkdir(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let mode = permission_bits(mode & !umask);
        answer_entry(self.volume().create_directory(parent.0, name, mode), reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.volume().remove(parent.0, name, false), reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.volume().remove(parent.0, name, true), reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        answer(self.volume().rename((parent.0, name), (newparent.0, newname)), reply);
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut volume = self.volume();
        let mode = permission_bits(mode & !umask);
        let made = volume.create_file(parent.0, name, mode);
        let opened = made.and_then(|about| Ok((about, volume.open(about.ino)?)));
        match opened {
            Ok((about, handle)) => reply.created(
                &NO_CACHE,
                &attributes(&about),
                Generation(0),
                FileHandle(handle),
                FopenFlags::FOPEN_DIRECT_IO,
            ),
            Err(error) => reply.error(error.into()),
        }
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        answer_open(self.volume().open(ino.0), reply);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.volume().read(ino.0, fh.0, offset, size.into());
        match read {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.0.hold_up(|delays| delays.write);
        let written = self.volume().write(ino.0, fh.0, offset, data);
        match written {
            // A request holds less than 4 GiB.
            Ok(length) => reply.written(u32::try_from(length).unwrap_or(u32::MAX)),
            Err(error) => reply.error(error.into()),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Closing a file syncs nothing.
        reply.ok();
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        answer(self.volume().close(ino.0, fh.0), reply);
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.0.hold_up(|delays| delays.sync);
        answer(self.volume().sync_file(ino.0, fh.0), reply);
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let handle = self.volume().open(ino.0);
        match handle {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(error) => reply.error(error.into()),
        }
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let volume = self.volume();
        let names = match volume.names(ino.0) {
            Ok(names) => names,
            Err(error) => return reply.error(error.into()),
        };
        let dots = [OsStr::new("."), OsStr::new("..")].map(|name| (name, ino.0));
        let named = names.iter().map(|(name, found)| (name.as_os_str(), *found));
        let first = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, (name, found)) in dots.into_iter().chain(named).enumerate().skip(first) {
            let is_dir = volume.about(found).is_ok_and(|about| about.is_dir);
            let kind = if is_dir { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(found), index as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        answer(self.volume().close(ino.0, fh.0), reply);
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.0.hold_up(|delays| delays.sync);
        answer(self.volume().sync_directory(ino.0, fh.0), reply);
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let (used, free) = self.volume().space();
        let free = free.map_or(BLOCKS, |free| free / u64::from(BLOCK));
        let blocks = used.div_ceil(BLOCK.into()) + free;
        reply.statfs(blocks, free, free, BLOCKS, BLOCKS, BLOCK, 255, BLOCK);
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mut volume = self.volume();
        let end = offset.saturating_add(length);
        let done = match mode {
            // Room is not reserved here: a full disk may still refuse the write.
            KEEP_SIZE => Ok(()),
            0 => volume.about(ino.0).and_then(|about| match about.size < end {
                true => volume.set_length(ino.0, end),
                false => Ok(()),
            }),
            _ => Err(nix::errno::Errno::EOPNOTSUPP.into()),
        };
        answer(done, reply);
    }
}
