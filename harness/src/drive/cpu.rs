//! CPU time as the kernel counts it: of the calling thread, and what a host withholds from a
//! virtual machine. No judgement.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of CPU, user and system, that the calling thread has used; 0 if not known.
pub(crate) fn thread_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map(|time| std::time::Duration::from(time).as_nanos())
        .ok()
        .and_then(|ns| u64::try_from(ns).ok())
        .unwrap_or(0)
}

/// What the kernel counts of the whole machine's CPU time, in clock ticks since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Ticks of every kind, over all CPUs.
    all: u64,
    /// Ticks in which a virtual CPU wanted to run and the host ran something else.
    stolen: u64,
}

impl Machine {
    /// The counters now; none where the kernel has no such file.
    pub(crate) fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    /// Reads the first line of `/proc/stat` (proc(5)): user, nice, system, idle, iowait, irq,
    /// softirq, steal; guest time, which follows, is within user.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> =
            line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { all: ticks.iter().sum(), stolen: *ticks.get(7)? })
    }

    /// The share of the machine's CPU time since `before` that the host withheld, 0 to 1.
    pub(crate) fn stolen_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.stolen.saturating_sub(before.stolen) as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_the_host_withheld() {
        let before = Machine::parse("cpu  100 0 50 800 10 0 5 35 7 0\ncpu0 1 2 3\n").unwrap();
        let after = Machine::parse("cpu  150 0 75 900 10 0 5 60 9 0\n").unwrap();
        assert_eq!(after.stolen_since(before), 0.125);
        assert_eq!(before.stolen_since(before), 0.0);
    }

    #[test]
    fn a_kernel_without_the_figure_tells_none() {
        for text in ["", "cpu  1 2 3 4\n", "cpu  1 2 3 4 5 6 7 x\n", "intr 1 2\n"] {
            assert_eq!(Machine::parse(text), None, "{text:?}");
        }
    }
}
