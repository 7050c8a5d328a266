//! Starting over by itself: when an attempt has definitely not happened, for a reason in which the
//! client has no part. May not know what is tried.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quorate_api::ErrorCode;

use super::access::Access;
use super::error::ApiError;

/// How often, and how far apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Further attempts after the first.
    pub count: u32,
    /// Before the first of them; doubles up to 32 times.
    pub delay: Duration,
    /// Share of the delay that chance decides, in percent: half of it either way.
    pub jitter_percent: u8,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { count: 10, delay: Duration::from_millis(2), jitter_percent: 100 }
    }
}

impl RetryPolicy {
    /// Before attempt `number`, counted from 1; `chance` of 65,535 parts.
    fn pause(&self, number: u32, chance: u16) -> Duration {
        let delay = self.delay * (1 << number.saturating_sub(1).min(5));
        let spread = delay * u32::from(self.jitter_percent) / 100;
        delay - spread / 2 + spread * u32::from(chance) / u32::from(u16::MAX)
    }
}

/// Attempts of one request.
pub(super) struct Tries<'a, B> {
    access: Access<'a, B>,
    number: u32,
    /// What the request held before the first attempt.
    mark: usize,
}

impl<'a, B> Tries<'a, B> {
    pub(super) fn new(access: Access<'a, B>) -> Self {
        Self { access, number: 0, mark: access.weight.mark() }
    }

    /// What the last attempt held is needed no longer, whatever became of it.
    pub(super) fn done(&self) {
        self.access.weight.back_to(self.mark);
    }

    /// What the next attempt works with: fresh state once one has failed.
    pub(super) fn access(&self) -> Access<'a, B> {
        Access { fresh: self.number > 0, ..self.access }
    }

    /// Waits for the next attempt, or gives the error back.
    pub(super) async fn after(&mut self, error: ApiError) -> Result<(), ApiError> {
        let (policy, counters) = (&self.access.app.config.retry, &self.access.app.counters);
        if error.code == ErrorCode::VersionConflict {
            counters.conflicts.fetch_add(1, Ordering::Relaxed);
        }
        self.number += 1;
        if !error.again || self.number > policy.count {
            return Err(error);
        }
        let mut chance = [0; 2];
        // Without randomness the attempts are merely less spread.
        getrandom::fill(&mut chance).ok();
        let pause = policy.pause(self.number, u16::from_be_bytes(chance));
        if Instant::now() + pause >= self.access.deadline {
            return Err(error);
        }
        self.done();
        tokio::time::sleep(pause).await;
        counters.restarts.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_spread() {
        let policy = RetryPolicy { count: 3, delay: Duration::from_millis(4), jitter_percent: 50 };
        let ms = |number, chance| policy.pause(number, chance).as_millis();
        assert_eq!([ms(1, 0), ms(1, u16::MAX), ms(2, 0), ms(2, u16::MAX)], [3, 5, 6, 10]);
        assert_eq!(ms(6, 0), ms(60, 0));
        let steady = RetryPolicy { jitter_percent: 0, ..policy };
        assert_eq!(steady.pause(1, 0), steady.pause(1, u16::MAX));
    }
}
