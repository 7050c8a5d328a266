//! Waiting for sockets or for a point in time, whichever comes first, to tens of microseconds.
//! `epoll_wait` alone counts in milliseconds, too coarse for a schedule; a timer descriptor in
//! the same set is exact. Knows neither connections nor operations.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use quorate_check::history::Nanos;

use crate::run::parts::Clock;

/// Token of the timer; sockets count from 0.
const TIMER: Token = Token(usize::MAX - 1);
/// Waits shorter than this are spent polling: falling asleep takes as long. Longer ones are slept
/// to their end. Polling away the last 15 µs was tried on two cores: it halves the start delay's
/// p99 (46 to 23 µs at 5,000/s, 72 to 26 at 40,000/s), which is small either way, and takes up to
/// a third of a core from the servers under test.
const SPIN_NS: Nanos = 5_000;
/// Longest sleep without an event: how soon a cancellation is noticed at the latest.
const SLEEP_MAX: Duration = Duration::from_millis(20);

/// A set of sockets with a precise alarm.
#[derive(Debug)]
pub(crate) struct Waiter {
    clock: Clock,
    poll: Poll,
    timer: TimerFd,
    armed: Option<Nanos>,
}

impl Waiter {
    /// An empty set.
    pub(crate) fn new(clock: Clock) -> io::Result<Self> {
        let poll = Poll::new()?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let fd = timer.as_fd().as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), TIMER, Interest::READABLE)?;
        Ok(Self { clock, poll, timer, armed: None })
    }

    /// Where sockets are registered.
    pub(crate) fn registry(&self) -> &mio::Registry {
        self.poll.registry()
    }

    /// Waits until a socket has news or the clock shows `until`, and not much longer than 20 ms.
    /// Returns sooner without news now and then; callers look at the clock themselves.
    pub(crate) fn wait(&mut self, until: Nanos, events: &mut Events) -> io::Result<()> {
        let gap = until.saturating_sub(self.clock.now());
        let timeout = if gap <= SPIN_NS {
            Duration::ZERO
        } else {
            self.arm(until, gap)?;
            SLEEP_MAX
        };
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn arm(&mut self, until: Nanos, gap: Nanos) -> io::Result<()> {
        // Beyond the longest sleep the alarm makes no difference.
        if self.armed == Some(until) || u128::from(gap) > SLEEP_MAX.as_nanos() {
            return Ok(());
        }
        let wait = TimeSpec::from_duration(Duration::from_nanos(gap));
        self.timer.set(Expiration::OneShot(wait), TimerSetTimeFlags::empty())?;
        self.armed = Some(until);
        Ok(())
    }
}

/// True for events of sockets, false for the alarm's own.
pub(crate) fn is_socket(token: Token) -> bool {
    token != TIMER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_neither_early_nor_a_millisecond_late() {
        let clock = Clock::start();
        let mut waiter = Waiter::new(clock).unwrap();
        let mut events = Events::with_capacity(8);
        let mut late: Vec<Nanos> = (0..50)
            .map(|_| {
                let until = clock.now() + 300_000;
                while clock.now() < until {
                    waiter.wait(until, &mut events).unwrap();
                }
                clock.now() - until
            })
            .collect();
        late.sort_unstable();
        // The median, since a loaded machine may take the core away for longer now and then.
        assert!(late[25] < 1_000_000, "{late:?}");
    }
}
