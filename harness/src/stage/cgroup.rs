//! The control groups of a process, version 1 or 2: whether they are frozen, memory, processor.
//! Reads alone; limits are set through the container engine.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Where the system mounts control groups.
const ROOT: &str = "/sys/fs/cgroup";
/// Version 1 writes "no limit" as the largest number of pages, in bytes.
const UNLIMITED: f64 = 1e18;

/// The control groups of one process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    /// By controller; version 2 has one, under the empty name.
    folders: BTreeMap<String, PathBuf>,
}

impl Groups {
    /// The groups of a process now.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        Ok(Self::parse(&text, Path::new(ROOT)))
    }

    /// Lines `ID:CONTROLLER[,CONTROLLER]:PATH`.
    fn parse(text: &str, root: &Path) -> Self {
        let mut folders = BTreeMap::new();
        for line in text.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let below = path.trim_start_matches('/');
            for controller in controllers.split(',') {
                folders.insert(controller.to_string(), root.join(controller).join(below));
            }
        }
        Self { folders }
    }

    /// Whether they are named after this container.
    pub(crate) fn belong_to(&self, container: &str) -> bool {
        let names = |path: &PathBuf| path.to_string_lossy().contains(container);
        !container.is_empty() && self.folders.values().any(names)
    }

    fn file(&self, controller: &str, name_1: &str, name_2: &str) -> Option<String> {
        let (folder, name) = match self.folders.get(controller) {
            Some(folder) => (folder, name_1),
            None => (self.folders.get("")?, name_2),
        };
        std::fs::read_to_string(folder.join(name)).ok()
    }

    /// Whether the kernel holds all of it still; `None` where it does not say.
    pub(crate) fn is_frozen(&self) -> Option<bool> {
        let text = self.file("freezer", "freezer.state", "cgroup.events")?;
        Some(text.trim() == "FROZEN" || value_of(&text, "frozen") == Some(1.0))
    }

    /// Bytes of memory that it may have, and of swap beside them where the kernel counts swap.
    pub(crate) fn memory_limits(&self) -> Option<(u64, Option<u64>)> {
        let number = |name_1: &str, name_2: &str| {
            let text = self.file("memory", name_1, name_2)?;
            Some(if text.trim() == "max" { u64::MAX } else { text.trim().parse().ok()? })
        };
        let memory = number("memory.limit_in_bytes", "memory.max")?;
        let swap = if self.folders.contains_key("memory") {
            // Version 1 counts both together.
            number("memory.memsw.limit_in_bytes", "").map(|both| both.saturating_sub(memory))
        } else {
            number("", "memory.swap.max")
        };
        Some((memory, swap))
    }

    /// Processors that it may use at a time; infinite without a limit, `None` where the kernel does
    /// not say.
    pub(crate) fn processors(&self) -> Option<f64> {
        let text = self.file("cpu", "cpu.cfs_quota_us", "cpu.max")?;
        // Version 2 has the period beside the quota.
        let (quota, period) = match text.trim().split_once(' ') {
            Some((quota, period)) => (quota.to_string(), period.to_string()),
            None => (text.trim().to_string(), self.file("cpu", "cpu.cfs_period_us", "")?),
        };
        // A word or a negative number in place of the quota is none.
        match quota.parse::<f64>() {
            Ok(quota) if quota >= 0.0 => Some(quota / period.trim().parse::<f64>().ok()?),
            Ok(_) | Err(_) => Some(f64::INFINITY),
        }
    }

    /// Figures by the names that cAdvisor made usual.
    pub(crate) fn figures(&self) -> BTreeMap<String, f64> {
        let number = |name_1: &str, name_2: &str| {
            self.file("memory", name_1, name_2)?.trim().parse::<f64>().ok()
        };
        let limit = |found: Option<f64>| found.filter(|bytes| *bytes < UNLIMITED);
        let oom = self.file("memory", "memory.oom_control", "memory.events");
        let throttled = self.file("cpu", "cpu.stat", "cpu.stat");
        let throttled = throttled.and_then(|text| {
            let nanos = value_of(&text, "throttled_time").map(|nanos| nanos / 1e9);
            nanos.or_else(|| Some(value_of(&text, "throttled_usec")? / 1e6))
        });
        let figures = [
            ("container_memory_usage_bytes", number("memory.usage_in_bytes", "memory.current")),
            (
                "container_memory_max_usage_bytes",
                number("memory.max_usage_in_bytes", "memory.peak"),
            ),
            (
                "container_spec_memory_limit_bytes",
                limit(number("memory.limit_in_bytes", "memory.max")),
            ),
            ("container_oom_events_total", oom.and_then(|text| value_of(&text, "oom_kill"))),
            ("container_cpu_cfs_throttled_seconds_total", throttled),
        ];
        let known = figures.into_iter();
        known.filter_map(|(name, value)| Some((name.to_string(), value?))).collect()
    }
}

/// The number behind a word, one pair a line.
fn value_of(text: &str, word: &str) -> Option<f64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == word)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn version_1_has_a_folder_a_controller() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "freezer/docker/abc/freezer.state", "FROZEN\n");
        write(root.path(), "memory/docker/abc/memory.usage_in_bytes", "4096\n");
        write(root.path(), "memory/docker/abc/memory.limit_in_bytes", "9223372036854771712\n");
        write(root.path(), "memory/docker/abc/memory.oom_control", "under_oom 0\noom_kill 2\n");
        write(root.path(), "cpu/docker/abc/cpu.stat", "nr_periods 1\nthrottled_time 500000000\n");
        let text = "9:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:freezer:/docker/abc\n\
                    1:name=systemd:/docker/abc\n";
        let groups = Groups::parse(text, root.path());
        assert!(groups.belong_to("abc") && !groups.belong_to("abd") && !groups.belong_to(""));
        assert_eq!(groups.is_frozen(), Some(true));
        let figures = groups.figures();
        assert_eq!(figures["container_memory_usage_bytes"], 4096.0);
        assert_eq!(figures["container_oom_events_total"], 2.0);
        assert_eq!(figures["container_cpu_cfs_throttled_seconds_total"], 0.5);
        assert!(!figures.contains_key("container_spec_memory_limit_bytes"), "{figures:?}");
        write(root.path(), "memory/docker/abc/memory.limit_in_bytes", "8192\n");
        assert_eq!(groups.memory_limits(), Some((8192, None)));
        write(root.path(), "memory/docker/abc/memory.memsw.limit_in_bytes", "12288\n");
        assert_eq!(groups.memory_limits(), Some((8192, Some(4096))));
        assert_eq!(groups.processors(), None);
        write(root.path(), "cpu/docker/abc/cpu.cfs_period_us", "100000\n");
        write(root.path(), "cpu/docker/abc/cpu.cfs_quota_us", "-1\n");
        assert_eq!(groups.processors(), Some(f64::INFINITY));
        write(root.path(), "cpu/docker/abc/cpu.cfs_quota_us", "150000\n");
        assert_eq!(groups.processors(), Some(1.5));
    }

    #[test]
    fn version_2_has_one_folder() {
        let root = tempfile::tempdir().unwrap();
        let folder = "system.slice/docker-abc.scope";
        let file = |name: &str, text: &str| write(root.path(), &format!("{folder}/{name}"), text);
        file("cgroup.events", "populated 1\nfrozen 0\n");
        file("memory.max", "268435456\n");
        file("memory.events", "oom 3\noom_kill 1\n");
        file("cpu.stat", "usage_usec 9\nthrottled_usec 250000\n");
        let groups = Groups::parse(&format!("0::/{folder}\n"), root.path());
        assert!(groups.belong_to("abc"));
        assert_eq!(groups.is_frozen(), Some(false));
        let figures = groups.figures();
        assert_eq!(figures["container_spec_memory_limit_bytes"], 268_435_456.0);
        assert_eq!(figures["container_oom_events_total"], 1.0);
        assert_eq!(figures["container_cpu_cfs_throttled_seconds_total"], 0.25);
        file("memory.swap.max", "0\n");
        assert_eq!(groups.memory_limits(), Some((268_435_456, Some(0))));
        file("cpu.max", "max 100000\n");
        assert_eq!(groups.processors(), Some(f64::INFINITY));
        file("cpu.max", "50000 100000\n");
        assert_eq!(groups.processors(), Some(0.5));
        file("memory.max", "max\n");
        assert!(!groups.figures().contains_key("container_spec_memory_limit_bytes"));
    }

    #[test]
    fn nothing_known_is_nothing_said() {
        let groups = Groups::default();
        assert_eq!(groups.is_frozen(), None);
        assert!(groups.figures().is_empty());
    }
}
