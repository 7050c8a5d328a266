//! How much memory this process can have: the limits of its control groups, version 1 or 2, and
//! what the machine has. Reads alone.

use std::fmt;
use std::fs;
use std::path::Path;

/// Where the system mounts control groups.
const ROOT: &str = "/sys/fs/cgroup";

/// What sets the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A control group, as containers have them.
    ControlGroup,
    /// The machine.
    Machine,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ControlGroup => "control group",
            Self::Machine => "machine",
        })
    }
}

/// What this process can have, and by whom; `None` where the system does not say.
#[must_use]
pub fn available() -> Option<(u64, Source)> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| machine_bytes(&text));
    smallest(group_limit(&groups, Path::new(ROOT)), machine)
}

/// Old kernels write "no limit" as a number that no machine has.
fn smallest(group: Option<u64>, machine: Option<u64>) -> Option<(u64, Source)> {
    match (group, machine) {
        (Some(group), Some(machine)) if machine <= group => Some((machine, Source::Machine)),
        (Some(group), Some(_) | None) => Some((group, Source::ControlGroup)),
        (None, Some(machine)) => Some((machine, Source::Machine)),
        (None, None) => None,
    }
}

/// The smallest limit from the group of each line `ID:CONTROLLERS:PATH` up to the root. In a
/// container the path can be the one outside, which is not there; the root then is the container's.
fn group_limit(groups: &str, root: &Path) -> Option<u64> {
    let mut least = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (top, file) = if controllers.is_empty() {
            (root.to_path_buf(), "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (root.join("memory"), "memory.limit_in_bytes")
        } else {
            continue;
        };
        let own = top.join(path.trim_start_matches('/'));
        for folder in own.ancestors().take_while(|folder| folder.starts_with(&top)) {
            let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
            // `max` is no number: no limit.
            let limit = text.trim().parse::<u64>().ok();
            least = least.into_iter().chain(limit).min();
        }
    }
    least
}

/// The line `MemTotal:  16 kB`.
fn machine_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_smallest_limit_up_to_the_root_counts() {
        let root = tempfile::tempdir().unwrap();
        let limit = |groups: &str| group_limit(groups, root.path());
        assert_eq!(limit("0::/a/b\n"), None);
        write(root.path(), "a/b/memory.max", "max\n");
        assert_eq!(limit("0::/a/b\n"), None);
        write(root.path(), "a/memory.max", "4096\n");
        assert_eq!(limit("0::/a/b\n"), Some(4096));
        write(root.path(), "a/b/memory.max", "8192\n");
        assert_eq!(limit("0::/a/b\n"), Some(4096));
        write(root.path(), "memory.max", "2048\n");
        assert_eq!(limit("0::/not/there\n"), Some(2048));
    }

    #[test]
    fn version_1_has_a_folder_for_memory() {
        let root = tempfile::tempdir().unwrap();
        let groups = "9:cpu,cpuacct:/x\n7:memory:/docker/abc\n1:name=systemd:/docker/abc\n";
        write(root.path(), "memory/docker/abc/memory.limit_in_bytes", "9223372036854771712\n");
        write(root.path(), "cpu/x/memory.limit_in_bytes", "1\n");
        assert_eq!(group_limit(groups, root.path()), Some(9_223_372_036_854_771_712));
        write(root.path(), "memory/memory.limit_in_bytes", "65536\n");
        assert_eq!(group_limit(groups, root.path()), Some(65_536));
    }

    #[test]
    fn a_limit_that_the_machine_does_not_have_is_none() {
        let machine = machine_bytes("MemFree: 1 kB\nMemTotal:       64 kB\n");
        assert_eq!(machine, Some(65_536));
        assert_eq!(smallest(Some(1 << 62), machine), Some((65_536, Source::Machine)));
        assert_eq!(smallest(Some(4096), machine), Some((4096, Source::ControlGroup)));
        assert_eq!(smallest(None, machine), Some((65_536, Source::Machine)));
        assert_eq!(smallest(Some(4096), None), Some((4096, Source::ControlGroup)));
        assert_eq!(smallest(None, None), None);
    }
}
