//! What the machine must offer before a run: a disk that syncs, enough open files, free ports.
//! Measures and counts; judging results beyond these findings is the report's business.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Link, StageError};
use crate::folder::SoundnessFinding;
use crate::plan::Plan;

/// A sync faster than this never reached a device.
const SYNC_P50_MIN: Duration = Duration::from_micros(5);
/// Syncs measured.
const SYNC_PROBES: usize = 32;
/// Descriptors a server, the proxy or the driver may need beside its connections.
const FILES_BASE: u64 = 256;
/// Ports below Linux's usual ephemeral range, so that no outgoing connection takes them.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// `f_type` of tmpfs in statfs(2).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Measures synced writes in the directory and says what is wrong with them, if anything.
///
/// # Errors
/// When the directory cannot be written.
pub(crate) fn probe_disk(directory: &Path) -> Result<Option<SoundnessFinding>, StageError> {
    let path = directory.join(".sync-probe");
    let failed = |source| StageError::File { path: path.clone(), source };
    let median = sync_median(&path).map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(judge_sync(median, is_tmpfs(directory)))
}

fn sync_median(path: &Path) -> io::Result<Duration> {
    let mut file = File::create(path)?;
    let mut times = Vec::with_capacity(SYNC_PROBES);
    for _ in 0..SYNC_PROBES {
        file.rewind()?;
        file.write_all(&[0x51; 4096])?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[SYNC_PROBES / 2])
}

fn judge_sync(median: Duration, tmpfs: bool) -> Option<SoundnessFinding> {
    if median >= SYNC_P50_MIN && !tmpfs {
        return None;
    }
    let place = if tmpfs { "the data lies on tmpfs, which" } else { "the data's disk" };
    Some(SoundnessFinding {
        code: "disk_does_not_sync".to_string(),
        // On tmpfs the missing sync is a choice that the environment's list shows as well.
        fatal: !tmpfs,
        detail: format!("{place} syncs in {} ns (p50): nothing is synced", median.as_nanos()),
    })
}

fn is_tmpfs(directory: &Path) -> bool {
    #[cfg(target_os = "linux")]
    let found = nix::sys::statfs::statfs(directory)
        .is_ok_and(|stat| i128::from(stat.filesystem_type().0) == i128::from(TMPFS_MAGIC));
    #[cfg(not(target_os = "linux"))]
    let found = false;
    found
}

/// Descriptors that the driver and the proxy may need for a plan, each for itself.
#[must_use]
pub fn files_needed(plan: &Plan) -> u64 {
    let links = u64::try_from(Link::proxied(&plan.topology).len()).unwrap_or(u64::MAX);
    // The proxy listens for every link, and holds two descriptors a connection.
    FILES_BASE + 2 * u64::from(plan.load.clients) + 3 * links
}

/// Raises the limit of open files to what the plan needs; says so when that is not allowed.
pub(crate) fn raise_open_files(needed: u64) -> Option<SoundnessFinding> {
    let finding = |detail: String| {
        Some(SoundnessFinding { code: "open_file_limit".to_string(), fatal: true, detail })
    };
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(errno) => return finding(format!("the limit cannot be read: {errno}")),
    };
    if soft >= needed {
        return None;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, hard.min(needed.max(soft)), hard) {
        Ok(()) if hard >= needed => None,
        Ok(()) => finding(format!("{needed} open files may be needed, {hard} are allowed")),
        Err(errno) => finding(format!("{needed} open files may be needed, {soft} set: {errno}")),
    }
}

/// Finds free ports on loopback. None is found twice before all were tried: it is free until
/// whoever asked for it listens.
///
/// # Errors
/// When there are not enough.
pub(crate) fn free_ports(wanted: usize) -> Result<Vec<u16>, StageError> {
    // Runs side by side begin at different places.
    let width = u32::from(PORTS.end - PORTS.start);
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97) % width;
    let rotated = (0..width).map(|_| (first + NEXT.fetch_add(1, Ordering::Relaxed)) % width);
    let ports = rotated.filter_map(|at| u16::try_from(at).ok()).map(|at| PORTS.start + at);
    let mut held = Vec::new();
    for port in ports {
        if held.len() == wanted {
            break;
        }
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(|socket| (socket, port)));
    }
    if held.len() < wanted {
        return Err(StageError::NoPorts { wanted, first: PORTS.start, last: PORTS.end - 1 });
    }
    Ok(held.into_iter().map(|(_, port)| port).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_answers_at_once_is_fatal_unless_it_is_memory() {
        let slow = Duration::from_micros(80);
        let fast = Duration::from_nanos(900);
        assert!(judge_sync(slow, false).is_none());
        assert!(judge_sync(fast, false).unwrap().fatal);
        assert!(!judge_sync(fast, true).unwrap().fatal);
    }

    #[test]
    fn ports_differ() {
        let ports = [free_ports(8).unwrap(), free_ports(8).unwrap()].concat();
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), 16);
    }

    #[test]
    fn few_files_are_always_allowed() {
        assert_eq!(raise_open_files(FILES_BASE), None);
    }
}
