//! What each toxic does to a stream of bytes, as synchronous machines: time and chance are
//! arguments, so that every behaviour is tested without sockets. May not know sockets or tasks.

mod bandwidth;
mod draws;
mod latency;
mod limit_data;
mod pipeline;
mod queue;
mod reset_peer;
mod slicer;
mod slow_close;
mod timeout;

#[cfg(test)]
mod tests;

pub(crate) use draws::Draws;
pub(crate) use pipeline::{Naming, Pipeline, StageSpec};
pub(crate) use queue::{Chunk, Item, Queue};

use std::time::{Duration, Instant};

use crate::model::Attributes;

/// What a stage did when it was given the time.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Something was taken from the input or given to the output.
    pub(crate) moved: bool,
    /// When the stage wants to be asked again although nothing arrives; `None` is never.
    pub(crate) wake: Option<Instant>,
    /// Bytes thrown away in this step, on purpose.
    pub(crate) discarded: u64,
}

impl Step {
    /// Keeps the earlier wake-up.
    pub(crate) fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |old| old.min(at)));
    }

    /// Adds the step of another stage.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.moved |= other.moved;
        self.discarded += other.discarded;
        if let Some(at) = other.wake {
            self.wake_at(at);
        }
    }
}

/// One toxic at work on one direction of one connection.
pub(crate) trait Stage: Send {
    /// Moves what is due from `input` to `out`, stopping when `out` has no room.
    fn advance(
        &mut self,
        now: Instant,
        draws: &mut Draws,
        input: &mut Queue,
        out: &mut Queue,
    ) -> Step;

    /// Takes new attributes over without losing state. A toxic's type never changes, so
    /// attributes of another type cannot arrive and are passed over.
    fn update(&mut self, now: Instant, attributes: &Attributes);

    /// Whether bytes are missing from the stream, so that taking the stage away must close the
    /// connection rather than let a stream with a hole go on.
    fn leaves_hole(&self) -> bool {
        false
    }
}

/// Most bytes a stage other than a delay line holds before its sender feels back-pressure.
pub(crate) const STAGE_BYTES_MAX: usize = 64 * 1024;

/// The stage for a toxic's attributes, and how many bytes its input may hold.
pub(crate) fn build(
    now: Instant,
    attributes: &Attributes,
    delay_line_bytes: usize,
) -> (Box<dyn Stage>, usize) {
    match *attributes {
        Attributes::Latency(a) => (Box::new(latency::Latency::standard(a)), delay_line_bytes),
        Attributes::Delay(delay) => (Box::new(latency::Latency::rule(delay)), delay_line_bytes),
        Attributes::Bandwidth(a) => (Box::new(bandwidth::Bandwidth::new(now, a)), STAGE_BYTES_MAX),
        Attributes::SlowClose(a) => (Box::new(slow_close::SlowClose::new(a)), STAGE_BYTES_MAX),
        Attributes::Timeout(a) => (Box::new(timeout::Timeout::new(now, a)), STAGE_BYTES_MAX),
        Attributes::ResetPeer(a) => (Box::new(reset_peer::ResetPeer::new(a)), STAGE_BYTES_MAX),
        Attributes::Slicer(a) => (Box::new(slicer::Slicer::new(now, a)), STAGE_BYTES_MAX),
        Attributes::LimitData(a) => (Box::new(limit_data::LimitData::new(a)), STAGE_BYTES_MAX),
    }
}

/// Milliseconds of a checked attribute as a duration.
fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}
