//! The machine's fingerprint, printed in every report: figures of different machines do not
//! compare.
//! Reads alone. What cannot be read is said to be unknown; it never stops a run.

use std::fs;
use std::io;
use std::path::Path;

use super::disk;

/// Key and value in display order. `data` is the folder that the servers write to.
///
/// # Errors
/// When `data` cannot be written.
pub fn describe(data: &Path) -> io::Result<Vec<(String, String)>> {
    let sync = disk::sync_cost(data)?;
    let micros = |duration: std::time::Duration| duration.as_micros().to_string();
    let entries = [
        ("cpu", cpu_model()),
        ("cores", cores()),
        ("memory", memory("MemTotal")),
        ("memory available", memory("MemAvailable")),
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        ("os", os_name()),
        ("file system", disk::file_system(data)),
        ("fdatasync p50 µs", Some(micros(sync.p50))),
        ("fdatasync p99 µs", Some(micros(sync.p99))),
        ("cgroup memory limit", cgroup("memory.max", "memory/memory.limit_in_bytes")),
        ("cgroup cpu limit", cgroup("cpu.max", "cpu/cpu.cfs_quota_us")),
        ("clock source", first_line(CLOCK_SOURCE)),
        ("load average at start", first_line("/proc/loadavg")),
    ];
    let told = |(key, value): (&str, Option<String>)| {
        (key.to_owned(), value.unwrap_or_else(|| "unknown".to_owned()))
    };
    Ok(entries.into_iter().map(told).collect())
}

/// Version 1 writes the largest number of pages that there can be, in bytes.
const CGROUP_UNLIMITED: u64 = 1 << 60;
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// Bytes of memory that could be used now; `None` where the system does not say.
#[must_use]
pub fn memory_available() -> Option<u64> {
    meminfo(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable")
}

fn memory(key: &str) -> Option<String> {
    let bytes = meminfo(&fs::read_to_string("/proc/meminfo").ok()?, key)?;
    Some(format!("{} MiB", bytes / (1024 * 1024)))
}

fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    // Arm names no model; the part number identifies it.
    let of = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    of("model name").or_else(|| of("CPU part").map(|part| format!("CPU part {part}")))
}

fn cores() -> Option<String> {
    std::thread::available_parallelism().ok().map(|cores| cores.to_string())
}

fn os_name() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}

/// A limit of this process's cgroup, version 2 or 1.
fn cgroup(version_2: &str, version_1: &str) -> Option<String> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"));
    let unified = own.map(|own| format!("/sys/fs/cgroup{}/{version_2}", own.trim_end_matches('/')));
    let limit = unified.and_then(|path| first_line(&path));
    limit.or_else(|| first_line(&format!("/sys/fs/cgroup/{version_1}"))).map(limit_in_words)
}

/// Each version has its own way to say that there is no limit.
fn limit_in_words(limit: String) -> String {
    let none = limit.starts_with("max")
        || limit.starts_with('-')
        || limit.parse::<u64>().is_ok_and(|bytes| bytes > CGROUP_UNLIMITED);
    if none { "none".to_owned() } else { limit }
}

fn first_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_value() {
        let folder = tempfile::tempdir().unwrap();
        let entries = describe(folder.path()).unwrap();
        assert_eq!(entries.first().unwrap().0, "cpu");
        assert!(entries.iter().all(|(_, value)| !value.is_empty()), "{entries:?}");
    }

    #[test]
    fn a_missing_limit_is_none_in_either_version() {
        for (written, told) in [
            ("max", "none"),
            ("max 100000", "none"),
            ("-1", "none"),
            ("9223372036854771712", "none"),
            ("200000 100000", "200000 100000"),
            ("1073741824", "1073741824"),
        ] {
            assert_eq!(limit_in_words(written.to_owned()), told);
        }
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       2048 kB\nMemAvailable:   1024 kB\n";
        assert_eq!(meminfo(text, "MemAvailable"), Some(1024 * 1024));
        assert_eq!(meminfo(text, "Mem"), None);
    }
}
