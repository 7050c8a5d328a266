//! What a synced write costs on a disk: figures for the manifest and for `quorate doctor`.
//! Measures alone; a disk that does not sync at all is found again, and judged, by the stage.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Writes measured: enough for a p99 that is one of the two slowest.
const WRITES: usize = 100;
/// A synced write faster than this never reached a device.
pub const SYNC_P50_MIN: Duration = Duration::from_micros(5);

/// What `fdatasync` after a write of 4 KiB took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncCost {
    /// Half of the writes took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
}

/// Writes and syncs a file in `folder`, which must exist, and removes it again.
///
/// # Errors
/// When the folder cannot be written.
pub fn sync_cost(folder: &Path) -> io::Result<SyncCost> {
    let path = folder.join(format!(".sync-cost-{}", std::process::id()));
    let measured = measure(&path);
    let removed = fs::remove_file(&path);
    let mut times = measured?;
    removed?;
    times.sort_unstable();
    let at = |share: usize| times.get(WRITES * share / 100).copied().unwrap_or_default();
    Ok(SyncCost { p50: at(50), p99: at(99) })
}

fn measure(path: &Path) -> io::Result<Vec<Duration>> {
    let mut file = File::create(path)?;
    let block = [0x51; 4096];
    let mut times = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        // In place, as a log does that was allocated before.
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&block)?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

/// Type of the file system that holds `path`: `ext4`, `tmpfs`, ….
#[must_use]
pub fn file_system(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounted_on(&mounts, &path)
}

/// The last of the longest mount points above `path`, as later mounts hide earlier ones.
fn mounted_on(mounts: &str, path: &Path) -> Option<String> {
    let found = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let point = fields.nth(1)?.replace("\\040", " ");
        let kind = fields.next()?;
        path.starts_with(&point).then_some((point.len(), kind))
    });
    found.max_by_key(|(length, _)| *length).map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_are_measured_and_nothing_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let cost = sync_cost(folder.path()).unwrap();
        assert!(cost.p50 <= cost.p99 && cost.p99 > Duration::ZERO);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_longest_mount_point_wins() {
        let mounts =
            "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/x\\040y xfs rw 0 0\n";
        let kind = |path| mounted_on(mounts, Path::new(path)).unwrap();
        assert_eq!(kind("/home/u"), "ext4");
        assert_eq!(kind("/tmp/z"), "tmpfs");
        assert_eq!(kind("/tmp/x y/z"), "xfs");
        assert_eq!(kind("/tmpfile"), "ext4");
    }
}
