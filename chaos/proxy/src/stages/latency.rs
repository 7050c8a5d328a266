//! Delay line: every piece leaves a drawn time after it arrived, in order.
//! Serves the standard `latency` toxic and the extension's delay rule in microseconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Draws, Queue, Stage, Step};
use crate::model::toxic::LatencyAttributes;
use crate::model::{Attributes, Delay, Distribution, Streams};

/// A delay, never a rate limit: the time counts from each piece's own arrival, so pieces travel
/// together. The end of the stream is delayed as data is, as a real link would.
pub(crate) struct Latency {
    delay: Delay,
    /// Drawn deviation of each piece in the input, in units of jitter. Kept beside the piece so
    /// that an update of the attributes re-times what waits without drawing again.
    deviations: VecDeque<f64>,
    /// No piece leaves before the one ahead of it.
    last_due: Option<Instant>,
}

impl Latency {
    /// The standard toxic: milliseconds, uniform.
    pub(crate) fn standard(attributes: LatencyAttributes) -> Self {
        Self::rule(from_standard(attributes))
    }

    /// The extension's rule: microseconds, named distribution.
    pub(crate) fn rule(delay: Delay) -> Self {
        Self { delay, deviations: VecDeque::new(), last_due: None }
    }

    fn draw(&self, draws: &mut Draws) -> f64 {
        if self.delay.jitter_us == 0 {
            return 0.0;
        }
        match self.delay.distribution {
            Distribution::Uniform => draws.unit().mul_add(2.0, -1.0),
            Distribution::Normal => draws.normal(),
            Distribution::Pareto => draws.pareto(),
        }
    }

    fn due(&self, arrived: Instant, deviation: f64) -> Instant {
        let jitter = deviation * self.delay.jitter_us as f64;
        let micros = (self.delay.latency_us as f64 + jitter).max(0.0);
        let due = arrived + Duration::from_nanos((micros * 1_000.0) as u64);
        self.last_due.map_or(due, |last| due.max(last))
    }
}

fn from_standard(attributes: LatencyAttributes) -> Delay {
    Delay {
        latency_us: attributes.latency * 1_000,
        jitter_us: attributes.jitter * 1_000,
        distribution: Distribution::Uniform,
        stream: Streams::Both,
    }
}

impl Stage for Latency {
    fn advance(
        &mut self,
        now: Instant,
        draws: &mut Draws,
        input: &mut Queue,
        out: &mut Queue,
    ) -> Step {
        let mut step = Step::default();
        while self.deviations.len() < input.len() {
            let deviation = self.draw(draws);
            self.deviations.push_back(deviation);
        }
        while out.has_room() {
            let (Some(chunk), Some(&deviation)) = (input.front(), self.deviations.front()) else {
                break;
            };
            let due = self.due(chunk.at, deviation);
            if due > now {
                step.wake_at(due);
                break;
            }
            let Some(mut chunk) = input.pop() else { break };
            self.deviations.pop_front();
            self.last_due = Some(due);
            // The due time, not the wake-up's: lateness of a timer does not add up over stages.
            chunk.at = due;
            out.push(chunk);
            step.moved = true;
        }
        step
    }

    fn update(&mut self, _now: Instant, attributes: &Attributes) {
        if let Attributes::Latency(new) = attributes {
            self.delay = from_standard(*new);
        } else if let Attributes::Delay(new) = attributes {
            self.delay = *new;
        }
        self.last_due = None;
    }
}
