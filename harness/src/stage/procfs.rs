//! What `/proc` says about one process: run state, start time, processor time, memory.
//! Reads alone; signals and process handles live in `child.rs`.

use std::io;

use nix::unistd::{SysconfVar, sysconf};

/// The kernel's mark of its own threads among the flags of a process (`include/linux/sched.h`).
const PF_KTHREAD: u64 = 0x0020_0000;

/// The fields of `/proc/PID/stat` that the harness uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcStat {
    /// State letter: `R`, `S`, `D`, `T` (stopped), `Z` (zombie), ….
    pub state: char,
    /// True of a thread of the kernel, which has neither program nor variables.
    pub is_kernel_thread: bool,
    /// Start time in clock ticks since boot; with the pid it names one process for ever.
    pub started: u64,
    /// User and system time in seconds.
    pub cpu_seconds: f64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
}

impl ProcStat {
    /// Reads `/proc/PID/stat`.
    ///
    /// # Errors
    /// When there is no such process, or its line cannot be understood.
    pub fn read(pid: i32) -> io::Result<Self> {
        let line = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&line, ticks_per_second(), page_size()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("unexpected stat line {line:?}"))
        })
    }

    /// True while the process is stopped by a signal.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.state == 'T'
    }

    /// True when the process has ended, reaped or not.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    fn parse(line: &str, ticks_per_second: f64, page_size: u64) -> Option<Self> {
        // The command name may contain spaces and brackets, so count from the last bracket.
        let rest = line.get(line.rfind(')')? + 2..)?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        // Field numbers of proc(5) minus 3, as pid and name are cut off.
        #[allow(clippy::cast_precision_loss, reason = "2^53 ticks are three million years")]
        let ticks = (number(11)? + number(12)?) as f64;
        Some(Self {
            state: fields.first()?.chars().next()?,
            is_kernel_thread: number(6)? & PF_KTHREAD != 0,
            started: number(19)?,
            cpu_seconds: ticks / ticks_per_second,
            rss_bytes: number(21)? * page_size,
        })
    }
}

/// How many files a process has open, sockets included; `None` when it is gone, or somebody else's.
#[must_use]
pub fn open_files(pid: i32) -> Option<u32> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    u32::try_from(open.count()).ok()
}

/// Most memory that a process has had resident so far, in bytes; `None` when it is gone.
#[must_use]
pub fn peak_memory(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn ticks_per_second() -> f64 {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    #[allow(clippy::cast_precision_loss, reason = "the value is 100 or 1000")]
    let ticks = ticks as f64;
    ticks
}

fn page_size() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    u64::try_from(size).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let line = "42 (a) b (c)) T 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 777 \
                    1000 25 18446744073709551615";
        let stat = ProcStat::parse(line, 100.0, 4096).unwrap();
        assert_eq!(
            stat,
            ProcStat {
                state: 'T',
                is_kernel_thread: false,
                started: 777,
                cpu_seconds: 2.0,
                rss_bytes: 25 * 4096
            }
        );
        assert!(stat.is_stopped());
    }

    #[test]
    fn this_process_can_be_read() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let stat = ProcStat::read(pid).unwrap();
        assert!(stat.rss_bytes > 0);
        let peak = peak_memory(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(peak >= stat.rss_bytes / 2, "{peak}: the kernel counts in batches");
        assert!(!stat.is_dead() && !stat.is_kernel_thread);
        // Other tests open files of their own meanwhile, and those of standard streams stay.
        assert!(open_files(pid).unwrap() >= 3);
        assert_eq!(open_files(-1), None);
    }
}
