//! Waiting for a moment with a resolution of microseconds.
//! May not know what is waited for.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Shortest time that is armed: a zero would disarm the timer instead.
const SHORTEST: Duration = Duration::from_nanos(1);

/// A timer of one direction of one connection. tokio's own timer rounds up to milliseconds; a
/// `timerfd` is a high-resolution kernel timer that wakes the same epoll loop, so it costs no
/// spinning and no thread of its own, and a `select!` interrupts it like any other wait. It is
/// created at the first wait: links without delays have none.
#[derive(Default)]
pub(crate) struct Alarm {
    timer: Option<AsyncFd<Descriptor>>,
    armed: Option<Instant>,
}

/// Puts a timer under the reactor's watch.
#[allow(deprecated, reason = "the successor is unsafe; its condition holds, the timer owns its fd")]
fn register(timer: Descriptor) -> std::io::Result<AsyncFd<Descriptor>> {
    AsyncFd::with_interest(timer, Interest::READABLE)
}

/// Gives the timer the trait that the reactor asks for.
struct Descriptor(TimerFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    /// Waits until `deadline`; for ever when there is none. Cancel-safe.
    ///
    /// Where no timer can be had (out of descriptors) it falls back on tokio's, late by up to
    /// a millisecond, rather than fail the connection.
    pub(crate) async fn wait(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else {
            return std::future::pending().await;
        };
        if self.wait_timer(deadline).await.is_err() {
            tokio::time::sleep_until(deadline.into()).await;
        }
    }

    async fn wait_timer(&mut self, deadline: Instant) -> std::io::Result<()> {
        let timer = match &mut self.timer {
            Some(timer) => timer,
            slot @ None => {
                let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
                let timer = Descriptor(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
                slot.insert(register(timer)?)
            }
        };
        // An interrupted wait leaves the timer armed; the same deadline need not be set again.
        if self.armed != Some(deadline) {
            let left = deadline.saturating_duration_since(Instant::now()).max(SHORTEST);
            let once = Expiration::OneShot(TimeSpec::from_duration(left));
            timer.get_ref().0.set(once, TimerSetTimeFlags::empty())?;
            self.armed = Some(deadline);
        }
        loop {
            let mut ready = timer.readable().await?;
            match timer.get_ref().0.wait() {
                Ok(()) => {
                    self.armed = None;
                    return Ok(());
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_at_least_and_survives_interruption() {
        let mut alarm = Alarm::default();
        let start = Instant::now();
        let far = start + Duration::from_secs(3_600);
        let near = start + Duration::from_micros(300);
        tokio::select! {
            biased;
            () = alarm.wait(Some(far)) => panic!("an hour cannot have passed"),
            () = std::future::ready(()) => {}
        }
        alarm.wait(Some(near)).await;
        assert!(start.elapsed() >= Duration::from_micros(300));
        alarm.wait(Some(near)).await;
    }
}
