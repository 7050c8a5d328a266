//! The one place of the server that reads a clock. Everything else is handed a `Clock` or a `Tick`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quorate_protocol::io::Tick;

/// Monotonic microseconds since it was made, and the wall clock. Copies share the origin.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose ticks start here.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Microseconds since the start.
    #[must_use]
    pub fn now(&self) -> Tick {
        self.tick_of(Instant::now())
    }

    /// The tick of an instant; 0 for instants before the start.
    #[must_use]
    pub fn tick_of(&self, instant: Instant) -> Tick {
        micros(instant.saturating_duration_since(self.origin))
    }

    /// The instant of a tick.
    #[must_use]
    pub fn instant_of(&self, tick: Tick) -> Instant {
        self.origin + Duration::from_micros(tick)
    }

    /// The instant that lies `wait` ahead: how deadlines are made.
    #[must_use]
    pub fn deadline_in(&self, wait: Duration) -> Instant {
        Instant::now() + wait
    }

    /// Microseconds since the epoch. Fairness and dates only, never safety.
    #[must_use]
    pub fn wall_us(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros)
    }
}

/// A duration in ticks.
#[must_use]
pub fn micros(duration: Duration) -> Tick {
    Tick::try_from(duration.as_micros()).unwrap_or(Tick::MAX)
}
