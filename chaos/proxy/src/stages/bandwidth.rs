//! Rate limit: bytes leave as a line of the given rate would have serialised them.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Chunk, Draws, Item, Queue, Stage, Step};
use crate::model::Attributes;
use crate::model::toxic::BandwidthAttributes;

/// Most time one write stands for. Longer pieces are cut, so that the rate is even and a change
/// of rate bites soon.
const QUANTUM_MS: u64 = 5;

/// How far behind its own clock the line may fall (a late timer, a slow receiver) and still
/// catch up; beyond it lost time is lost, else a stalled receiver would be followed by a burst.
const CATCH_UP: Duration = Duration::from_millis(20);

/// A line of `rate` thousand bytes a second; 0 holds everything.
pub(crate) struct Bandwidth {
    rate: u64,
    /// When the line has sent everything before the front of the input.
    free_at: Instant,
}

impl Bandwidth {
    pub(crate) fn new(now: Instant, attributes: BandwidthAttributes) -> Self {
        Self { rate: attributes.rate, free_at: now }
    }

    /// One write's worth of the front piece.
    fn cut(&self, input: &mut Queue) -> Option<Chunk> {
        let chunk = input.pop()?;
        let quantum = self.rate.saturating_mul(QUANTUM_MS).max(1);
        let quantum = usize::try_from(quantum).unwrap_or(usize::MAX);
        let Chunk { item: Item::Data(mut data), at } = chunk else {
            return Some(chunk);
        };
        if data.len() <= quantum {
            return Some(Chunk { item: Item::Data(data), at });
        }
        let head: Bytes = data.split_to(quantum);
        input.put_back(Chunk { item: Item::Data(data), at });
        Some(Chunk { item: Item::Data(head), at })
    }
}

impl Stage for Bandwidth {
    fn advance(
        &mut self,
        now: Instant,
        _draws: &mut Draws,
        input: &mut Queue,
        out: &mut Queue,
    ) -> Step {
        let mut step = Step::default();
        if self.rate == 0 {
            return step;
        }
        while out.has_room() {
            let Some(mut chunk) = self.cut(input) else {
                break;
            };
            let start = self.free_at.max(chunk.at);
            // A rate of thousands of bytes a second is bytes a millisecond.
            let micros = (chunk.len() as u64).saturating_mul(1_000) / self.rate;
            let due = start + Duration::from_micros(micros);
            if due > now {
                input.put_back(chunk);
                step.wake_at(due);
                break;
            }
            self.free_at = now.checked_sub(CATCH_UP).map_or(due, |oldest| due.max(oldest));
            chunk.at = due;
            out.push(chunk);
            step.moved = true;
        }
        step
    }

    fn update(&mut self, now: Instant, attributes: &Attributes) {
        if let Attributes::Bandwidth(new) = attributes {
            self.rate = new.rate;
            // What was waiting at the old rate starts afresh: no credit, no debt.
            self.free_at = now;
        }
    }
}
