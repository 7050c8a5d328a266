//! Cuts data into small writes with a pause between them.

use std::time::{Duration, Instant};

use super::{Chunk, Draws, Item, Queue, Stage, Step};
use crate::model::Attributes;
use crate::model::toxic::SlicerAttributes;

/// Slices of `average_size` give or take `size_variation`, drawn evenly, `delay` µs apart.
pub(crate) struct Slicer {
    attributes: SlicerAttributes,
    /// When the next slice may leave.
    free_at: Instant,
}

impl Slicer {
    pub(crate) fn new(now: Instant, attributes: SlicerAttributes) -> Self {
        Self { attributes, free_at: now }
    }
}

impl Stage for Slicer {
    fn advance(
        &mut self,
        now: Instant,
        draws: &mut Draws,
        input: &mut Queue,
        out: &mut Queue,
    ) -> Step {
        let mut step = Step::default();
        while out.has_room() && !input.is_empty() {
            if self.free_at > now {
                step.wake_at(self.free_at);
                break;
            }
            let Some(Chunk { item, at }) = input.pop() else {
                break;
            };
            let at = at.max(self.free_at);
            step.moved = true;
            let Item::Data(mut data) = item else {
                out.push(Chunk { item, at });
                continue;
            };
            let a = self.attributes;
            let low = a.average_size.saturating_sub(a.size_variation).max(1);
            let size = draws.between(low, a.average_size.saturating_add(a.size_variation));
            let size = usize::try_from(size).unwrap_or(usize::MAX).min(data.len());
            let slice = data.split_to(size);
            if !data.is_empty() {
                input.put_back(Chunk { item: Item::Data(data), at });
            }
            out.push(Chunk { item: Item::Data(slice), at });
            self.free_at = at + Duration::from_micros(a.delay);
        }
        step
    }

    fn update(&mut self, now: Instant, attributes: &Attributes) {
        if let Attributes::Slicer(new) = attributes {
            self.attributes = *new;
            self.free_at = now;
        }
    }
}
