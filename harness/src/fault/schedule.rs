//! Runs the plan's faults at their times, each on a task of its own, and heals every one on every
//! way out: its time, cancellation, an error elsewhere. One that waits for another begins when the
//! heal of that was proven, or never. Never sleeps past a cancellation.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_check::history::Nanos;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Effect, Ledger, Levers, Until, describe};
use crate::folder::{FaultAction, FaultRecord};
use crate::plan::{Event, Plan, PlannedFault, shape};
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
    let names = plan.faults.iter().map(|fault| fault.name.clone());
    let mut courses: BTreeMap<String, watch::Sender<Course>> =
        names.map(|name| (name, watch::Sender::new(None))).collect();
    let seen: BTreeMap<String, watch::Receiver<Course>> =
        courses.iter().map(|(name, course)| (name.clone(), course.subscribe())).collect();
    let mut tasks = JoinSet::new();
    for fault in plan.faults.clone() {
        let servers = shape::hit(&fault, &plan.topology, plan.seed);
        let awaited = fault.trigger.iter().flat_map(|trigger| trigger.event.faults());
        let one = OneFault {
            levers: Arc::clone(levers),
            ledger: Arc::clone(ledger),
            clock,
            measure_start,
            measure_end: measure_start + plan.phases.measure_ms * NANOS_PER_MS,
            awaited: awaited.map(|name| (name.clone(), seen.get(name).cloned())).collect(),
            course: courses.remove(&fault.name).unwrap_or_default(),
            fault,
            servers,
            seen: None,
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

/// What became of a fault, for those that wait for it: when its heal was proven, or why it will
/// not be; `None` while nobody knows.
type Course = Option<Result<Nanos, String>>;

struct OneFault<L> {
    levers: Arc<L>,
    ledger: Arc<Ledger>,
    clock: Clock,
    measure_start: Nanos,
    measure_end: Nanos,
    /// The courses of the faults that it waits for, by name.
    awaited: Vec<(String, Option<watch::Receiver<Course>>)>,
    /// Its own.
    course: watch::Sender<Course>,
    fault: PlannedFault,
    servers: Vec<String>,
    /// How the event was seen that it waited for, if it was looked for.
    seen: Option<String>,
    cancel: CancellationToken,
}

/// When a fault begins.
enum Begin {
    At(Nanos),
    /// Not at all, and why.
    Never(String),
    Cancelled,
}

impl<L: Levers> OneFault<L> {
    async fn run(mut self) -> Result<(), StageError> {
        let inject_at = match self.begin().await {
            Begin::At(at) => at,
            Begin::Cancelled => return Ok(()),
            Begin::Never(why) => {
                self.ledger.left_out(&self.fault, &why);
                self.course.send_replace(Some(Err("was left out".to_string())));
                return Ok(());
            }
        };
        if !self.sleep_until(inject_at).await {
            return Ok(());
        }
        let heal_at = inject_at + self.fault.for_ms * NANOS_PER_MS;
        self.ledger.open(&self.fault, &self.servers);
        let injected = self.inject(inject_at, heal_at).await;
        if injected.is_ok() {
            self.sleep_until(heal_at).await;
        }
        let (levers, ledger) = (&*self.levers, &*self.ledger);
        let healed = heal(levers, ledger, &self.fault, &self.servers, heal_at).await;
        let proven = injected.and(healed)?;
        let proven = proven.ok_or_else(|| "was not seen to heal".to_string());
        self.course.send_replace(Some(proven));
        Ok(())
    }

    /// Waits for what the fault waits for.
    async fn begin(&mut self) -> Begin {
        let after_ns = self.fault.at_ms * NANOS_PER_MS;
        let Some(trigger) = self.fault.trigger.clone() else {
            return Begin::At(self.measure_start + after_ns);
        };
        let (came, how) = match &trigger.event {
            Event::Healed { .. } => (self.healed().await, "healed"),
            event @ (Event::State { .. } | Event::Committed { .. }) => {
                (self.happened(event).await, "seen")
            }
        };
        let came = match came {
            Ok(came) => came,
            Err(otherwise) => return otherwise,
        };
        let at = came + after_ns;
        if at + self.fault.for_ms * NANOS_PER_MS > self.measure_end {
            let late_ms = came.saturating_sub(self.measure_start) / NANOS_PER_MS;
            return Begin::Never(format!(
                "what it waits for was {how} {late_ms} ms after the start of the measure phase, \
                 and too little of it was left"
            ));
        }
        Begin::At(at)
    }

    /// When the heals of all that it waits for were proven.
    async fn healed(&mut self) -> Result<Nanos, Begin> {
        let never = |why| Err(Begin::Never(why));
        let mut healed = self.measure_start;
        for (other, course) in &mut self.awaited {
            let Some(course) = course else {
                return never(format!("there is no fault `{other}` to wait for"));
            };
            let course = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(Begin::Cancelled),
                course = course.wait_for(Option::is_some) => course.ok().and_then(|c| c.clone()),
            };
            match course {
                Some(Ok(proven)) => healed = healed.max(proven),
                Some(Err(why)) => return never(format!("`{other}` {why}")),
                None => return never(format!("`{other}` did not come to its end")),
            }
        }
        Ok(healed)
    }

    /// When the event was seen, if that was within the measure phase.
    async fn happened(&mut self, event: &Event) -> Result<Nanos, Begin> {
        if !self.sleep_until(self.measure_start).await {
            return Err(Begin::Cancelled);
        }
        let end = tokio::time::Instant::from_std(self.clock.instant(self.measure_end));
        let happened = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(Begin::Cancelled),
            happened = tokio::time::timeout_at(end, self.levers.happened(event)) => happened,
        };
        let Ok(happened) = happened else {
            return Err(Begin::Never(format!("it waits to begin {event}, which was never seen")));
        };
        self.seen = Some(happened.evidence);
        Ok(happened.at)
    }

    async fn inject(&self, inject_at: Nanos, heal_at: Nanos) -> Result<(), StageError> {
        let begun = self.levers.now();
        let effect = if self.servers.is_empty() {
            nobody(begun)
        } else {
            let until = Until {
                fault: &self.fault,
                servers: &self.servers,
                heal_at: Some(self.clock.instant(heal_at)),
            };
            let mut effect = self.levers.inject(until).await?;
            if let Some(seen) = &self.seen {
                effect.evidence = format!("begun when {seen}; {}", effect.evidence);
            }
            effect
        };
        let times = (inject_at, begun);
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

/// When the heal was proven, if it was.
async fn heal<L: Levers>(
    levers: &L,
    ledger: &Ledger,
    fault: &PlannedFault,
    servers: &[String],
    planned: Nanos,
) -> Result<Option<Nanos>, StageError> {
    if !ledger.is_open(&fault.name) {
        return Ok(None);
    }
    let begun = levers.now();
    let effect = if servers.is_empty() {
        nobody(begun)
    } else {
        levers.heal(Until { fault, servers, heal_at: None }).await?
    };
    // Struck only when done: a heal that fails or is dropped half-way is tried again later.
    if !ledger.close(&fault.name) {
        return Ok(None);
    }
    let (times, proven) = ((planned, begun), effect.proven);
    ledger.record(to_record(fault, FaultAction::Heal, servers, times, effect))?;
    Ok(proven)
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
