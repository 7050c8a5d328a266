//! Swallows data, then closes the connection after a while, or never.

use std::time::Instant;

use super::{Chunk, Draws, Item, Queue, Stage, Step, ms};
use crate::model::Attributes;
use crate::model::toxic::TimeoutAttributes;

/// Throws data away from the moment it starts and closes `timeout` later, 0 meaning never. Data
/// does not restart the clock. The stream has a hole from then on, so removal closes it.
pub(crate) struct Timeout {
    attributes: TimeoutAttributes,
    started: Instant,
    closed: bool,
}

impl Timeout {
    pub(crate) fn new(now: Instant, attributes: TimeoutAttributes) -> Self {
        Self { attributes, started: now, closed: false }
    }
}

impl Stage for Timeout {
    fn advance(
        &mut self,
        now: Instant,
        _draws: &mut Draws,
        input: &mut Queue,
        out: &mut Queue,
    ) -> Step {
        let mut step = Step::default();
        while let Some(chunk) = input.pop() {
            step.moved = true;
            step.discarded += chunk.len() as u64;
            if !matches!(chunk.item, Item::Data(_)) {
                out.push(chunk);
            }
        }
        if self.attributes.timeout > 0 && !self.closed {
            let due = self.started + ms(self.attributes.timeout);
            if due > now {
                step.wake_at(due);
            } else {
                out.push(Chunk { item: Item::Close, at: due });
                self.closed = true;
                step.moved = true;
            }
        }
        step
    }

    fn update(&mut self, now: Instant, attributes: &Attributes) {
        if let Attributes::Timeout(new) = attributes {
            self.attributes = *new;
            self.started = now;
        }
    }

    fn leaves_hole(&self) -> bool {
        true
    }
}
