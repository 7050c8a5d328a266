//! What a stage must be able to do to its servers and links, so that the schedule need not know
//! how. One method a verb; each says when it was acknowledged and how its effect was proven.

use std::future::Future;
use std::time::Instant;

use quorate_check::history::Nanos;

use super::PROOF_LIMIT;
use crate::plan::{Event, PlannedFault};
use crate::stage::StageError;

/// A fault to inject or heal.
#[derive(Debug, Clone, PartialEq)]
pub struct Until<'a> {
    /// The fault of the plan.
    pub fault: &'a PlannedFault,
    /// Servers hit, in the order of the plan's servers.
    pub servers: &'a [String],
    /// When the heal is due, which looking for proof of the inject must not put off; `None` in a
    /// heal.
    pub heal_at: Option<Instant>,
}

impl Until<'_> {
    /// When looking for proof must end, to be asked when the last part was acknowledged.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let limit = Instant::now() + PROOF_LIMIT;
        self.heal_at.map_or(limit, |heal_at| heal_at.min(limit))
    }
}

/// What an inject or a heal came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// When the last part of it was acknowledged.
    pub acknowledged: Nanos,
    /// When its effect was seen, if it was.
    pub proven: Option<Nanos>,
    /// How it was seen, or what was seen instead.
    pub evidence: String,
}

/// An event that a fault waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// When it was seen.
    pub at: Nanos,
    /// How.
    pub evidence: String,
}

/// A stage's means to hurt its cluster.
pub trait Levers: Send + Sync + 'static {
    /// Nanoseconds on the run's clock.
    fn now(&self) -> Nanos;

    /// Looks again and again until the event has happened, from now on; for ever, if it never does.
    /// Of heals only the schedule knows.
    fn happened(&self, event: &Event) -> impl Future<Output = Happened> + Send;

    /// Applies a fault and looks for its effect until `until.deadline()`.
    fn inject(&self, until: Until<'_>) -> impl Future<Output = Result<Effect, StageError>> + Send;

    /// Undoes a fault and looks for proof. Idempotent, and right after a half-done inject.
    fn heal(&self, until: Until<'_>) -> impl Future<Output = Result<Effect, StageError>> + Send;
}
