//! A plan of the harness executed in virtual time: `quorate-sim --stage plan.json`. The harness
//! sends its clients' operations over standard input and is told what came of them over standard
//! output (`wire`); servers, network and disks are the world's. So the load is planned, timed and
//! recorded by the one driver that real servers have, too. May not plan load or judge histories.

mod clients;
mod links;
mod network;
mod plan;
mod wire;

use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_protocol::io::Tick;

use self::clients::Requests;
pub(crate) use self::links::Linked;
use self::network::Network;
pub use self::plan::PlanError;
pub(crate) use self::wire::{Answer, Ask};
use self::wire::{End, Order, Told};
use crate::world::{World, panic_text};

/// Events after which the harness is told how far time went, whatever has happened: it must be able
/// to tell a long wait from a simulator that hangs.
const EVENTS_A_TURN: usize = 50_000;

/// Nanoseconds of a tick.
const NANOS: u64 = 1_000;

/// What a world has beside its own when it executes a plan.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) network: Network,
    pub(crate) linked: Linked,
    requests: Requests,
    /// What has reached clients since the harness was told last.
    answers: Vec<Answer>,
    value_bytes: usize,
    /// A server's state was impossible: nothing happens any more.
    stands_still: bool,
}

/// Why a plan was not executed to its end.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It cannot be simulated.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The harness cannot be heard, or told.
    #[error("talking to the harness: {0}")]
    Talk(#[from] std::io::Error),
    /// The harness says something that is no order.
    #[error("not an order: {0}")]
    Order(#[from] serde_json::Error),
    /// A client asks a server that is not there.
    #[error("there is no server with index {0}")]
    NoServer(usize),
}

/// Executes a plan for as long as orders come.
///
/// # Errors
/// When the plan cannot be simulated, or the harness is not understood.
pub fn execute(path: &str, orders: impl BufRead, mut told: impl Write) -> Result<(), StageError> {
    let plan = plan::Plan::read(path)?;
    let options = plan.options()?;
    let stage = Stage {
        network: plan.network()?,
        linked: Linked::of(&options),
        requests: Requests::default(),
        answers: Vec::new(),
        value_bytes: plan.value_bytes(),
        stands_still: false,
    };
    let mut world = World::staged(plan.seed, options, stage);
    for line in orders.lines() {
        match serde_json::from_str(&line?)? {
            Order::Ask(ask) if ask.node >= world.servers.len() => {
                return Err(StageError::NoServer(ask.node));
            }
            Order::Ask(ask) => world.ask(ask),
            Order::Advance { until } => {
                let now = world.advance(until);
                let answers = world.take_answers();
                say(&mut told, &Told { now, answers: &answers })?;
            }
            Order::End => {
                say(&mut told, &world.end_of_stage())?;
                return Ok(());
            }
        }
    }
    Ok(())
}

fn say(told: &mut impl Write, what: &impl serde::Serialize) -> Result<(), StageError> {
    serde_json::to_writer(&mut *told, what)?;
    told.write_all(b"\n")?;
    Ok(told.flush()?)
}

impl World {
    /// Goes on until then, or until a client was answered, or for [`EVENTS_A_TURN`]; gives the
    /// time, in nanoseconds. A machine that stops because its state is impossible is a violation:
    /// after it the world stands still, and clients time out.
    fn advance(&mut self, until: u64) -> u64 {
        if self.stage.as_ref().is_some_and(|stage| stage.stands_still) {
            return until;
        }
        match catch_unwind(AssertUnwindSafe(|| self.go_on(until))) {
            Ok(now) => now,
            Err(panic) => {
                self.invariants.report("no-panic", panic_text(&*panic));
                if let Some(stage) = &mut self.stage {
                    stage.stands_still = true;
                }
                until
            }
        }
    }

    fn go_on(&mut self, until: u64) -> u64 {
        let last: Tick = until / NANOS;
        for _ in 0..EVENTS_A_TURN {
            let Some(happening) = self.next_until(last) else { return until };
            self.happen(happening);
            if self.stage.as_ref().is_some_and(|stage| !stage.answers.is_empty()) {
                break;
            }
        }
        self.now * NANOS
    }

    /// A client reads an answer.
    pub(crate) fn told(&mut self, answer: Answer) {
        if let Some(stage) = &mut self.stage {
            stage.answers.push(answer);
        }
    }

    fn take_answers(&mut self) -> Vec<Answer> {
        self.stage.as_mut().map(|stage| std::mem::take(&mut stage.answers)).unwrap_or_default()
    }

    fn end_of_stage(&self) -> End {
        let violations = self.invariants.violations().iter();
        End {
            assumed: self.stage.as_ref().map(|s| s.network.describe()).unwrap_or_default(),
            violations: violations.map(|v| format!("{}: {}", v.invariant, v.detail)).collect(),
            events: self.events(),
            trace_hash: self.trace.hash(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Happening;

    fn world() -> World {
        let plan = plan::Plan::of(3, 0, "majority");
        let options = plan.options().unwrap();
        let stage = Stage {
            network: plan.network().unwrap(),
            linked: Linked::of(&options),
            requests: Requests::default(),
            answers: Vec::new(),
            value_bytes: plan.value_bytes(),
            stands_still: false,
        };
        World::staged(plan.seed, options, stage)
    }

    #[test]
    fn a_machine_that_stops_is_a_violation_and_time_goes_on() {
        let mut world = world();
        let second = 1_000_000_000;
        assert_eq!(world.advance(second), second);
        assert!(world.end_of_stage().violations.is_empty());
        world.at(world.now, Happening::Resume(usize::MAX));
        assert_eq!(world.advance(2 * second), 2 * second);
        assert_eq!(world.advance(3 * second), 3 * second);
        let violations = world.end_of_stage().violations;
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert!(violations[0].starts_with("no-panic: index out of bounds"), "{violations:?}");
    }

    #[test]
    fn a_long_wait_is_told_of_in_between() {
        let (mut world, day) = (world(), 86_400_000_000_000);
        let first = world.advance(day);
        assert!(first < day && world.take_answers().is_empty(), "{first}");
        assert!((first..day).contains(&world.advance(day)));
    }
}
