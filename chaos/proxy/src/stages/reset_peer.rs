//! Resets the connection once somebody tries to use it.

use std::time::Instant;

use super::{Chunk, Draws, Item, Queue, Stage, Step, ms};
use crate::model::Attributes;
use crate::model::toxic::ResetPeerAttributes;

/// Resets `timeout` after the first piece arrived. Pieces wait meanwhile, so that removing the
/// toxic in time loses nothing.
pub(crate) struct ResetPeer {
    attributes: ResetPeerAttributes,
    fired: bool,
}

impl ResetPeer {
    pub(crate) fn new(attributes: ResetPeerAttributes) -> Self {
        Self { attributes, fired: false }
    }
}

impl Stage for ResetPeer {
    fn advance(
        &mut self,
        now: Instant,
        _draws: &mut Draws,
        input: &mut Queue,
        out: &mut Queue,
    ) -> Step {
        let mut step = Step::default();
        let Some(first) = input.front() else {
            return step;
        };
        let due = first.at + ms(self.attributes.timeout);
        if self.fired {
            return step;
        }
        if due > now {
            step.wake_at(due);
            return step;
        }
        out.push(Chunk { item: Item::Reset, at: due });
        self.fired = true;
        step.moved = true;
        step
    }

    fn update(&mut self, _now: Instant, attributes: &Attributes) {
        if let Attributes::ResetPeer(new) = attributes {
            self.attributes = *new;
        }
    }
}
