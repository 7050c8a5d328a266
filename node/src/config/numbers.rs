//! Settings that are numbers, from flags and file, each within its limits. May not know what else
//! there is to set.

use std::time::Duration;

use quorate_protocol::io::AlignConfig;

use super::limits::{self, OutOfRange};
use super::{File, ServeArgs};
use crate::http::RetryPolicy;

/// Settings that are numbers within limits.
pub(super) struct Numbers {
    pub(super) align: AlignConfig,
    pub(super) retry: RetryPolicy,
    /// Contents that lost and are kept, and their bytes.
    pub(super) lost_max: (usize, usize),
    /// Requests and connections at once.
    pub(super) loads: (usize, usize),
}

impl Numbers {
    pub(super) fn of(flags: &ServeArgs, file: &File) -> Result<Self, OutOfRange> {
        let (align, retry) = (align(flags, file)?, retry(flags, file)?);
        Ok(Self { align, retry, lost_max: lost_max(flags, file)?, loads: loads(flags, file)? })
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

fn loads(flags: &ServeArgs, file: &File) -> Result<(usize, usize), OutOfRange> {
    let requests = limits::IN_FLIGHT_MAX.pick(flags.in_flight_max, file.in_flight_max)?;
    let connections = limits::CONNECTIONS_MAX.pick(flags.connections_max, file.connections_max)?;
    Ok((requests, connections))
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
