//! What the system's own files say for and against figures: processors, clock, swap, ports, control
//! groups, packages. Reads alone, below a root folder, so that tests can plant a system.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::finding::{Finding, State};

/// Ports that stages take for servers and links, as `NoPorts` names them.
const PORTS: std::ops::RangeInclusive<u16> = 20_000..=31_999;
/// Free ones of them below which a large workload may find too few.
const PORTS_MIN: usize = 1_000;
/// Where a server by itself listens when nothing else is said: clients, other servers.
const SERVER_PORTS: [u16; 2] = [2480, 2434];
/// Governors under which a processor that is not busy is slow.
const SAVING: [&str; 2] = ["powersave", "conservative"];
/// Clocks that are read without a call into the kernel or the hypervisor.
const CLOCKS: [&str; 4] = ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];
/// In `/proc/net/tcp`: a socket that listens.
const LISTENS: &str = "0A";

/// A system's files: `/`, or what a test planted.
#[derive(Debug)]
pub(super) struct System<'a> {
    root: &'a Path,
}

impl<'a> System<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root }
    }

    /// Everything that is found out here.
    pub(super) fn findings(&self) -> Vec<Finding> {
        vec![
            self.packages(),
            self.control_groups(),
            self.ports(),
            self.governor(),
            self.turbo(),
            self.swap(),
            self.clock_source(),
        ]
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    fn word(&self, path: &str) -> Option<String> {
        self.text(path).map(|text| text.trim().to_owned())
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(folder)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// What only the build needs: a program that was built elsewhere runs without.
    fn packages(&self) -> Finding {
        let folders = ["usr/local/bin", "usr/bin", "bin"];
        let program =
            |name: &str| folders.iter().any(|folder| self.root.join(folder).join(name).exists());
        let library = |wanted: &dyn Fn(&str) -> bool| {
            self.library_folders().iter().any(|folder| self.names(folder).iter().any(|n| wanted(n)))
        };
        let clang = |name: &str| name.starts_with("libclang") && name.contains(".so");
        let wanted = [
            ("g++", program("cc") && program("c++")),
            ("pkg-config", program("pkg-config")),
            ("libssl-dev", library(&|name| name == "libssl.so")),
            ("libclang-dev", library(&clang)),
            ("protobuf-compiler", program("protoc")),
        ];
        let missing: Vec<&str> =
            wanted.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
        let what = "packages to build with";
        if missing.is_empty() {
            return Finding::ok(what, "all there");
        }
        let missing = missing.join(" ");
        let fix = format!("sudo apt-get install -y {missing}");
        Finding::new(
            what,
            State::Optional,
            format!("not found, by their names in Debian: {missing}"),
            fix,
        )
    }

    /// `usr/lib`, `usr/lib64`, those of architectures and those of LLVM's versions.
    fn library_folders(&self) -> Vec<String> {
        let mut folders = vec!["usr/lib64".to_owned(), "usr/lib".to_owned()];
        for name in self.names("usr/lib") {
            if name.contains("-linux-") {
                folders.push(format!("usr/lib/{name}"));
            } else if name.starts_with("llvm-") {
                folders.push(format!("usr/lib/{name}/lib"));
            }
        }
        folders
    }

    /// Limits of servers in containers need them.
    fn control_groups(&self) -> Finding {
        let what = "control groups";
        let lacks = |version: &str, has: &dyn Fn(&str) -> bool| {
            let missing: Vec<&str> =
                ["cpu", "memory"].into_iter().filter(|name| !has(name)).collect();
            if missing.is_empty() {
                return Finding::ok(what, version);
            }
            let found = format!("{version} without {}", missing.join(" and "));
            let fix = "enable them on the kernel's command line (cgroup_enable=memory), or leave \
                       topology.memory and topology.cpus out";
            Finding::new(what, State::Optional, found, fix)
        };
        if let Some(controllers) = self.text("sys/fs/cgroup/cgroup.controllers") {
            let has = |name: &str| controllers.split_whitespace().any(|word| word == name);
            return lacks("version 2", &has);
        }
        let folders = self.names("sys/fs/cgroup");
        if folders.is_empty() {
            let fix = "mount -t cgroup2 none /sys/fs/cgroup, or leave topology.memory and \
                       topology.cpus out";
            return Finding::new(what, State::Optional, "none mounted", fix);
        }
        // Version 1 has a folder for each, or one for several: cpu,cpuacct.
        let has = |name: &str| {
            folders.iter().any(|folder| folder.split(',').any(|controller| controller == name))
        };
        lacks("version 1", &has)
    }

    fn ports(&self) -> Finding {
        let what = "ports";
        let taken = self.listening();
        let busy = taken.range(PORTS).count();
        let free = PORTS.count() - busy;
        let range = format!("{free} of {} to {} are free", PORTS.start(), PORTS.end());
        if free < PORTS_MIN {
            let fix = "ss -ltnp shows who listens there; stop some of them";
            return Finding::new(what, State::Doubtful, range, fix);
        }
        let outgoing = self.text("proc/sys/net/ipv4/ip_local_port_range");
        let first = outgoing.and_then(|text| text.split_whitespace().next()?.parse::<u16>().ok());
        if let Some(first) = first.filter(|first| first <= PORTS.end()) {
            let found = format!("{range}, and outgoing connections take some from {first} on");
            let fix = "sudo sysctl -w net.ipv4.ip_local_port_range='32768 60999'";
            return Finding::new(what, State::Doubtful, found, fix);
        }
        let own: Vec<String> =
            SERVER_PORTS.iter().filter(|port| taken.contains(port)).map(u16::to_string).collect();
        if own.is_empty() {
            return Finding::ok(what, range);
        }
        let found = format!("{range}; in use: {}", own.join(", "));
        let fix = "a server by itself: --http and --peer with other ports; runs take none of these";
        Finding::new(what, State::Optional, found, fix)
    }

    /// Ports on which somebody listens, at whatever address.
    fn listening(&self) -> BTreeSet<u16> {
        let tables = ["proc/net/tcp", "proc/net/tcp6"].iter().filter_map(|path| self.text(path));
        let mut taken = BTreeSet::new();
        for table in tables {
            // `sl local_address rem_address st …`, addresses as HEX:PORT.
            taken.extend(table.lines().filter_map(|line| {
                let mut fields = line.split_whitespace();
                let (_, port) = fields.nth(1)?.rsplit_once(':')?;
                (fields.nth(1)? == LISTENS).then(|| u16::from_str_radix(port, 16).ok())?
            }));
        }
        taken
    }

    fn governor(&self) -> Finding {
        let what = "CPU governor";
        let folder = "sys/devices/system/cpu";
        let found: BTreeSet<String> = self
            .names(folder)
            .iter()
            .filter_map(|cpu| self.word(&format!("{folder}/{cpu}/cpufreq/scaling_governor")))
            .collect();
        let named = found.iter().cloned().collect::<Vec<_>>().join(", ");
        if found.is_empty() {
            Finding::ok(what, "not this system's to choose (as in most virtual machines)")
        } else if SAVING.iter().any(|saving| found.contains(*saving)) {
            let found = format!("{named}: saves power, so a server that is not busy is slow");
            let fix = "sudo cpupower frequency-set -g performance";
            Finding::new(what, State::Doubtful, found, fix)
        } else {
            Finding::ok(what, named)
        }
    }

    /// The clock of a processor with turbo depends on how warm and how busy the others are.
    fn turbo(&self) -> Finding {
        let what = "CPU turbo";
        // Intel's driver says when there is none, the others when there is.
        let switches = [
            ("sys/devices/system/cpu/intel_pstate/no_turbo", "0", "1"),
            ("sys/devices/system/cpu/cpufreq/boost", "1", "0"),
        ];
        for (path, on, off) in switches {
            match self.word(path) {
                Some(word) if word == on => {
                    let fix = format!("echo {off} | sudo tee /{path}");
                    let found = "on: speed depends on heat and neighbours";
                    return Finding::new(what, State::Optional, found, fix);
                }
                Some(_) => return Finding::ok(what, "off"),
                None => {}
            }
        }
        Finding::ok(what, "not this system's to choose (as in most virtual machines)")
    }

    fn swap(&self) -> Finding {
        let what = "swap";
        let table = self.text("proc/swaps").unwrap_or_default();
        // `Filename Type Size Used Priority`, sizes in KiB.
        let used = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3));
        let used: Vec<u64> = used.filter_map(|kib| kib.parse().ok()).collect();
        let mib = used.iter().sum::<u64>() >> 10;
        let fix = "sudo swapoff -a";
        match (used.is_empty(), mib) {
            (true, _) => Finding::ok(what, "off"),
            (false, 0) => {
                let found = "on, not used: short memory would look like slow servers";
                Finding::new(what, State::Optional, found, fix)
            }
            (false, mib) => {
                let found = format!("{mib} MiB used: what is swapped looks like slow servers");
                Finding::new(what, State::Doubtful, found, fix)
            }
        }
    }

    fn clock_source(&self) -> Finding {
        let what = "clock source";
        let folder = PathBuf::from("sys/devices/system/clocksource/clocksource0");
        let read = |name: &str| self.word(&folder.join(name).display().to_string());
        let Some(current) = read("current_clocksource") else {
            return Finding::ok(what, "not named by this system");
        };
        if CLOCKS.contains(&current.as_str()) {
            return Finding::ok(what, current);
        }
        let offered = read("available_clocksource").unwrap_or_default();
        let better = CLOCKS.iter().find(|clock| offered.split_whitespace().any(|o| o == **clock));
        let fix = match better {
            Some(clock) => {
                let path = folder.join("current_clocksource");
                format!("echo {clock} | sudo tee /{}", path.display())
            }
            None => "none better is offered: leave latencies below 0.1 ms alone".to_owned(),
        };
        let found =
            format!("{current}: each look at the clock costs a call, and every operation looks");
        Finding::new(what, State::Doubtful, found, fix)
    }
}

#[cfg(test)]
#[path = "system_test.rs"]
mod tests;
