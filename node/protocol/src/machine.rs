//! The machine itself.

use alloc::vec::Vec;

use crate::io::{Config, Effect, Event, Recovered, Store, Tick};

/// One server's part of the data plane.
#[derive(Debug)]
pub struct Machine {
    config: Config,
}

impl Machine {
    /// Builds the machine from what the disk holds. The lock table is rebuilt before the first event.
    #[must_use]
    pub fn new(config: Config, _recovered: Recovered) -> Self {
        Self { config }
    }

    /// Handles one event. Effects are to be carried out in order before the next call.
    pub fn step(&mut self, _now: Tick, _event: Event, _store: &dyn Store, _out: &mut Vec<Effect>) {
        let _ = &self.config;
    }

    /// When `Event::Tick` is due even if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        None
    }
}
