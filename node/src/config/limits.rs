//! Numbers among the settings: what each is when nobody says, and what is legal. May not know what
//! a number is for.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{File, ServeArgs};

/// Silence after which a peer counts as unreachable. Below three heartbeats a busy processor looks
/// like a failure.
const SUSPECT_AFTER_MS: Limit = Limit::new("suspect_after_ms", 500, 150..=60_000);

/// Milliseconds for which a MASTER that may leave is lost before it does; -1: it never leaves. As
/// in the original, at once if nobody says; at most a day.
const REMOVE_AFTER_MS: RangeInclusive<i64> = -1..=86_400_000;

/// After what silence a server is lost, and for how long it is before it leaves, where it may.
///
/// # Errors
/// One of them is not legal.
pub(super) fn lost_after(
    flags: &ServeArgs,
    file: &File,
) -> Result<(Duration, Option<Duration>), OutOfRange> {
    let suspect = SUSPECT_AFTER_MS.pick(flags.suspect_after_ms, file.suspect_after_ms)?;
    let (flag, file) = (flags.auto_remove_offline_servers, file.auto_remove_offline_servers);
    Ok((Duration::from_millis(suspect), remove_after(flag, file)?))
}

fn remove_after(flag: Option<i64>, file: Option<i64>) -> Result<Option<Duration>, OutOfRange> {
    let value = flag.or(file).unwrap_or(0);
    if !REMOVE_AFTER_MS.contains(&value) {
        let legal = i128::from(*REMOVE_AFTER_MS.start())..=i128::from(*REMOVE_AFTER_MS.end());
        let key = "auto_remove_offline_servers";
        return Err(OutOfRange { key, value: value.into(), legal });
    }
    Ok(u64::try_from(value).ok().map(Duration::from_millis))
}

/// Decisions another server may be behind. None would leave everybody behind at once.
pub(super) const LOG_ENTRIES_MAX: Limit =
    Limit::new("log_entries_max", 1_000_000, 1..=1_000_000_000);

/// How long it may be behind; at most a year.
pub(super) const LOG_AGE_MAX_S: Limit = Limit::new("log_age_max_s", 3_600, 1..=31_536_000);

/// Items read in one piece of alignment work. Everything else waits for a piece to end.
pub(super) const ALIGN_ITEMS: Limit = Limit::new("align_items", 512, 1..=65_536);

/// Pause behind each piece, in which everything else is done: none at all would stop the server.
/// Long pauses let a server that aligns wait for ever.
pub(super) const ALIGN_PAUSE_MS: Limit = Limit::new("align_pause_ms", 2, 1..=1_000);

/// Contents that lost a merge and are kept to be looked at. Each costs some memory, too.
pub(super) const LOST_CONTENTS_MAX: Limit = Limit::new("lost_contents_max", 10_000, 1..=1_000_000);

/// The same in MiB.
pub(super) const LOST_CONTENTS_MIB_MAX: Limit = Limit::new("lost_contents_mib_max", 64, 1..=65_536);

/// Automatic retries of a transaction that met a lock or another writer.
pub(super) const RETRY_COUNT: Limit = Limit::new("retry_count", 10, 0..=1_000);

/// Delay before the first of them; it doubles up to 32 times.
pub(super) const RETRY_DELAY_MS: Limit = Limit::new("retry_delay_ms", 2, 0..=10_000);

/// Share of that delay that chance decides.
pub(super) const RETRY_JITTER_PERCENT: Limit = Limit::new("retry_jitter_percent", 100, 0..=100);

/// Requests that a server works on at once; the next ones are refused with `overload`. Every one
/// costs memory, and locks that others wait for.
pub(super) const IN_FLIGHT_MAX: Limit = Limit::new("in_flight_max", 4_096, 1..=65_536);

/// Open connections of clients; each has one request at a time. Fewer where nobody says and the
/// heap is small (`memory`).
pub(super) const CONNECTIONS_MAX: Limit = Limit::new("connections_max", 1_024, 1..=65_536);

/// A number out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {value} is not legal; from {} to {}", .legal.start(), .legal.end())]
pub struct OutOfRange {
    /// Which setting.
    key: &'static str,
    /// What it was set to.
    value: i128,
    /// What it can be.
    legal: RangeInclusive<i128>,
}

/// A setting that is a number.
pub(super) struct Limit {
    key: &'static str,
    default: u64,
    legal: RangeInclusive<u64>,
}

impl Limit {
    const fn new(key: &'static str, default: u64, legal: RangeInclusive<u64>) -> Self {
        Self { key, default, legal }
    }

    /// The flag before the file before the default.
    ///
    /// # Errors
    /// It is not legal.
    pub(super) fn pick<T: TryFrom<u64>>(
        &self,
        flag: Option<u64>,
        file: Option<u64>,
    ) -> Result<T, OutOfRange> {
        let value = flag.or(file).unwrap_or(self.default);
        match T::try_from(value) {
            Ok(number) if self.legal.contains(&value) => Ok(number),
            _ => {
                let legal = i128::from(*self.legal.start())..=i128::from(*self.legal.end());
                Err(OutOfRange { key: self.key, value: value.into(), legal })
            }
        }
    }
}
