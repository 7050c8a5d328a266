//! Runs the plan's faults at their times, each on a task of its own, and heals every one on every
//! way out: its time, cancellation, an error elsewhere. Never sleeps past a cancellation.

use std::sync::Arc;

use quorate_check::history::Nanos;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Effect, Ledger, Levers, Until, describe};
use crate::folder::{FaultAction, FaultRecord};
use crate::plan::{Plan, PlannedFault, shape};
use crate::run::parts::Clock;
use crate::stage::StageError;

const NANOS_PER_MS: u64 = 1_000_000;

/// Injects and heals the plan's faults; everything is healed when it returns.
///
/// # Errors
/// The first error of an inject or a heal; the other faults are healed before.
pub async fn run<L: Levers>(
    levers: &Arc<L>,
    ledger: &Arc<Ledger>,
    clock: Clock,
    plan: &Plan,
    measure_start: Nanos,
    cancel: CancellationToken,
) -> Result<(), StageError> {
    // An error of one fault ends the others early, but never skips their heals.
    let cancel = cancel.child_token();
    let mut tasks = JoinSet::new();
    for fault in plan.faults.clone() {
        let servers = shape::hit(&fault, &plan.topology, plan.seed);
        let one = OneFault {
            levers: Arc::clone(levers),
            ledger: Arc::clone(ledger),
            clock,
            inject_at: measure_start + fault.at_ms * NANOS_PER_MS,
            heal_at: measure_start + (fault.at_ms + fault.for_ms) * NANOS_PER_MS,
            fault,
            servers,
            cancel: cancel.clone(),
        };
        tasks.spawn(async move { one.run().await });
    }
    let mut first_error = None;
    while let Some(ended) = tasks.join_next().await {
        let result = ended.unwrap_or_else(|panic| {
            Err(StageError::NotHealed { name: "?".to_string(), reason: panic.to_string() })
        });
        if let Err(error) = result {
            cancel.cancel();
            first_error.get_or_insert(error);
        }
    }
    // A task that panicked may have left its fault behind.
    let healed = heal_all(levers, ledger).await;
    first_error.map_or(healed, Err)
}

/// Heals whatever is noted as injected. Any number of times, at any time.
///
/// # Errors
/// The first heal that failed; the others are tried all the same.
pub async fn heal_all<L: Levers>(levers: &Arc<L>, ledger: &Ledger) -> Result<(), StageError> {
    let mut first_error = None;
    for (fault, servers) in ledger.active() {
        let planned = levers.now();
        if let Err(error) = heal(&**levers, ledger, &fault, &servers, planned).await {
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

struct OneFault<L> {
    levers: Arc<L>,
    ledger: Arc<Ledger>,
    clock: Clock,
    inject_at: Nanos,
    heal_at: Nanos,
    fault: PlannedFault,
    servers: Vec<String>,
    cancel: CancellationToken,
}

impl<L: Levers> OneFault<L> {
    async fn run(self) -> Result<(), StageError> {
        if !self.sleep_until(self.inject_at).await {
            return Ok(());
        }
        self.ledger.open(&self.fault, &self.servers);
        let injected = self.inject().await;
        if injected.is_ok() {
            self.sleep_until(self.heal_at).await;
        }
        let (levers, ledger) = (&*self.levers, &*self.ledger);
        let healed = heal(levers, ledger, &self.fault, &self.servers, self.heal_at).await;
        injected.and(healed)
    }

    async fn inject(&self) -> Result<(), StageError> {
        let begun = self.levers.now();
        let effect = if self.servers.is_empty() {
            nobody(begun)
        } else {
            let until = Until {
                fault: &self.fault,
                servers: &self.servers,
                heal_at: Some(self.clock.instant(self.heal_at)),
            };
            self.levers.inject(until).await?
        };
        let times = (self.inject_at, begun);
        let action = FaultAction::Inject;
        self.ledger.record(to_record(&self.fault, action, &self.servers, times, effect))
    }

    /// False when cancelled before that time.
    async fn sleep_until(&self, at: Nanos) -> bool {
        let at = tokio::time::Instant::from_std(self.clock.instant(at));
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => false,
            () = tokio::time::sleep_until(at) => true,
        }
    }
}

async fn heal<L: Levers>(
    levers: &L,
    ledger: &Ledger,
    fault: &PlannedFault,
    servers: &[String],
    planned: Nanos,
) -> Result<(), StageError> {
    if !ledger.is_open(&fault.name) {
        return Ok(());
    }
    let begun = levers.now();
    let effect = if servers.is_empty() {
        nobody(begun)
    } else {
        levers.heal(Until { fault, servers, heal_at: None }).await?
    };
    // Struck only when done: a heal that fails or is dropped half-way is tried again later.
    if !ledger.close(&fault.name) {
        return Ok(());
    }
    let times = (planned, begun);
    ledger.record(to_record(fault, FaultAction::Heal, servers, times, effect))
}

/// A symbolic target may mean nobody: the minority of two servers.
fn nobody(at: Nanos) -> Effect {
    let evidence = "the target means no server of this topology".to_string();
    Effect { acknowledged: at, proven: None, evidence }
}

fn to_record(
    fault: &PlannedFault,
    action: FaultAction,
    servers: &[String],
    (planned, begun): (Nanos, Nanos),
    effect: Effect,
) -> FaultRecord {
    FaultRecord {
        name: fault.name.clone(),
        action,
        requested: describe(&fault.kind),
        resolved: servers.to_vec(),
        planned,
        begun,
        acknowledged: effect.acknowledged,
        proven: effect.proven,
        evidence: effect.evidence,
    }
}

#[cfg(test)]
#[path = "schedule_test.rs"]
mod tests;
