//! A server's clocks: a monotonic one that drifts and jumps forward, a wall clock that jumps both
//! ways. No safety rule may depend on either (PROTOCOL.md part 1, trap A26).

use quorate_protocol::io::Tick;

/// Both clocks of one server, as a function of virtual time.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// Virtual time of the last change.
    since: Tick,
    /// What the monotonic clock showed then.
    shown: Tick,
    /// Microseconds shown per thousand of virtual time.
    rate: u64,
    /// How far the wall clock is off, in microseconds.
    wall_offset: i64,
}

impl Clock {
    pub(crate) const fn new(rate: u64) -> Self {
        Self { since: 0, shown: 0, rate, wall_offset: 0 }
    }

    /// The monotonic clock.
    pub(crate) const fn now(&self, virtual_time: Tick) -> Tick {
        self.shown + (virtual_time - self.since) * self.rate / 1_000
    }

    /// The first virtual time at which the monotonic clock shows `due`.
    pub(crate) const fn when(&self, due: Tick) -> Tick {
        self.since + (due.saturating_sub(self.shown) * 1_000).div_ceil(self.rate)
    }

    /// The wall clock.
    pub(crate) fn wall(&self, virtual_time: Tick) -> u64 {
        // Far from zero, so that a jump back stays positive.
        (self.now(virtual_time) + 1_000_000_000_000).saturating_add_signed(self.wall_offset)
    }

    /// The monotonic clock jumps forward, the wall clock anywhere.
    pub(crate) fn jump(&mut self, virtual_time: Tick, forward: Tick, wall: i64) {
        self.shown = self.now(virtual_time) + forward;
        self.since = virtual_time;
        self.wall_offset += wall;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_met_and_not_early() {
        for rate in [700, 999, 1_000, 1_300] {
            let mut clock = Clock::new(rate);
            clock.jump(12_345, 777, -5);
            for due in [13_000, 20_001, 999_999] {
                let when = clock.when(due).max(12_345);
                assert!(clock.now(when) >= due, "{rate} {due}");
                assert!(when == 12_345 || clock.now(when - 1) < due, "{rate} {due}");
            }
        }
    }
}
