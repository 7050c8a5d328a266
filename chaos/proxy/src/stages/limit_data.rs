//! Closes the connection after so many bytes.

use std::time::Instant;

use super::{Chunk, Draws, Item, Queue, Stage, Step};
use crate::model::Attributes;
use crate::model::toxic::LimitDataAttributes;

/// Lets `bytes` through, then closes. What was let through counts on over updates.
pub(crate) struct LimitData {
    attributes: LimitDataAttributes,
    passed: u64,
    closed: bool,
}

impl LimitData {
    pub(crate) fn new(attributes: LimitDataAttributes) -> Self {
        Self { attributes, passed: 0, closed: false }
    }

    fn left(&self) -> u64 {
        self.attributes.bytes.saturating_sub(self.passed)
    }
}

impl Stage for LimitData {
    fn advance(
        &mut self,
        _now: Instant,
        _draws: &mut Draws,
        input: &mut Queue,
        out: &mut Queue,
    ) -> Step {
        let mut step = Step::default();
        while out.has_room() {
            let Some(Chunk { item, at }) = input.pop() else {
                break;
            };
            step.moved = true;
            let Item::Data(mut data) = item else {
                out.push(Chunk { item, at });
                continue;
            };
            let keep = usize::try_from(self.left()).unwrap_or(usize::MAX).min(data.len());
            step.discarded += (data.len() - keep) as u64;
            data.truncate(keep);
            self.passed += keep as u64;
            if !data.is_empty() {
                out.push(Chunk { item: Item::Data(data), at });
            }
            if self.left() == 0 && !self.closed {
                out.push(Chunk { item: Item::Close, at });
                self.closed = true;
            }
        }
        step
    }

    fn update(&mut self, _now: Instant, attributes: &Attributes) {
        if let Attributes::LimitData(new) = attributes {
            self.attributes = *new;
        }
    }
}
