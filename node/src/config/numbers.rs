//! Settings that are numbers, from flags and file, each within its limits. May not know what else
//! there is to set.

use std::time::Duration;

use quorate_protocol::io::AlignConfig;

use super::limits::{self, OutOfRange};
use super::{ConfigError, File, ServeArgs};
use crate::http::RetryPolicy;
use crate::memory::size::{self, Size};
use crate::memory::{Budget, limit};

/// Settings that are numbers within limits.
pub(super) struct Numbers {
    pub(super) align: AlignConfig,
    pub(super) retry: RetryPolicy,
    /// Contents that lost and are kept, and their bytes.
    pub(super) lost_max: (usize, usize),
    /// Requests at once.
    pub(super) in_flight_max: usize,
    /// Memory, connections included.
    pub(super) heap: Budget,
}

impl Numbers {
    pub(super) fn of(flags: &ServeArgs, file: &File) -> Result<Self, ConfigError> {
        Ok(Self {
            align: align(flags, file)?,
            retry: retry(flags, file)?,
            lost_max: lost_max(flags, file)?,
            in_flight_max: limits::IN_FLIGHT_MAX.pick(flags.in_flight_max, file.in_flight_max)?,
            heap: heap(flags, file)?,
        })
    }
}

fn align(flags: &ServeArgs, file: &File) -> Result<AlignConfig, OutOfRange> {
    let age_s: u64 = limits::LOG_AGE_MAX_S.pick(flags.log_age_max_s, file.log_age_max_s)?;
    let pause_ms: u64 = limits::ALIGN_PAUSE_MS.pick(flags.align_pause_ms, file.align_pause_ms)?;
    Ok(AlignConfig {
        log_entries: limits::LOG_ENTRIES_MAX.pick(flags.log_entries_max, file.log_entries_max)?,
        log_age: age_s * 1_000_000,
        pause: pause_ms * 1_000,
        items: limits::ALIGN_ITEMS.pick(flags.align_items, file.align_items)?,
        ..AlignConfig::new()
    })
}

/// The flag before the original's variable before the file before what the system has.
fn heap(flags: &ServeArgs, file: &File) -> Result<Budget, ConfigError> {
    let (flag, filed) = (flags.connections_max, file.connections_max);
    let connections = flag.or(filed).map(|_| limits::CONNECTIONS_MAX.pick(flag, filed));
    let flag: Option<Size> = flags.heap.as_deref().map(str::parse).transpose()?;
    let variable = flags.env_memory.as_deref().map(size::of_options).transpose()?.flatten();
    let given = flag.or(variable).or(file.heap).map(|size| size.0);
    let total =
        given.unwrap_or_else(|| Budget::by_default(limit::available().map(|(bytes, _)| bytes)));
    Ok(Budget::divide(total, connections.transpose()?)?)
}

fn lost_max(flags: &ServeArgs, file: &File) -> Result<(usize, usize), OutOfRange> {
    let (flag, filed) = (flags.lost_contents_mib_max, file.lost_contents_mib_max);
    let mib: usize = limits::LOST_CONTENTS_MIB_MAX.pick(flag, filed)?;
    let contents =
        limits::LOST_CONTENTS_MAX.pick(flags.lost_contents_max, file.lost_contents_max)?;
    Ok((contents, mib << 20))
}

fn retry(flags: &ServeArgs, file: &File) -> Result<RetryPolicy, OutOfRange> {
    let delay_ms = limits::RETRY_DELAY_MS.pick(flags.retry_delay_ms, file.retry_delay_ms)?;
    Ok(RetryPolicy {
        count: limits::RETRY_COUNT.pick(flags.retry_count, file.retry_count)?,
        delay: Duration::from_millis(delay_ms),
        jitter_percent: limits::RETRY_JITTER_PERCENT
            .pick(flags.retry_jitter_percent, file.retry_jitter_percent)?,
    })
}
