//! CPU time of the calling thread, from the kernel.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of CPU, user and system, that the calling thread has used; 0 if not known.
pub(crate) fn thread_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map(|time| std::time::Duration::from(time).as_nanos())
        .ok()
        .and_then(|ns| u64::try_from(ns).ok())
        .unwrap_or(0)
}
