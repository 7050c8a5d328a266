//! Lets data through and delays the end of the stream.

use std::time::Instant;

use super::{Draws, Item, Queue, Stage, Step, ms};
use crate::model::Attributes;
use crate::model::toxic::SlowCloseAttributes;

/// Holds the sender's end of stream for `delay` after it arrived.
pub(crate) struct SlowClose {
    attributes: SlowCloseAttributes,
}

impl SlowClose {
    pub(crate) fn new(attributes: SlowCloseAttributes) -> Self {
        Self { attributes }
    }
}

impl Stage for SlowClose {
    fn advance(
        &mut self,
        now: Instant,
        _draws: &mut Draws,
        input: &mut Queue,
        out: &mut Queue,
    ) -> Step {
        let mut step = Step::default();
        while out.has_room() {
            let Some(chunk) = input.front() else { break };
            if chunk.item == Item::Fin {
                let due = chunk.at + ms(self.attributes.delay);
                if due > now {
                    step.wake_at(due);
                    break;
                }
            }
            let Some(chunk) = input.pop() else { break };
            out.push(chunk);
            step.moved = true;
        }
        step
    }

    fn update(&mut self, _now: Instant, attributes: &Attributes) {
        if let Attributes::SlowClose(new) = attributes {
            self.attributes = *new;
        }
    }
}
