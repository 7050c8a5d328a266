//! From a checked spec and a seed to a plan: pure, so that both repeat a run to the byte.
//! No clock, no network, no files here.

use super::format::oldest_for;
use super::{DiskFault, FaultKind, Order, Plan, PlannedFault, Topology, shape};
use crate::spec::{Problem, Spec, SpecFault};

/// The plan of `spec` under `seed`.
///
/// # Errors
/// Faults that would overlap on a server, which only the seed decides.
pub fn build(spec: &Spec, seed: u64) -> Result<Plan, Vec<Problem>> {
    let drawn: Vec<SpecFault> = spec.faults.iter().map(|fault| drawn(fault, seed)).collect();
    let mut faults: Vec<&SpecFault> = drawn.iter().collect();
    let order = Order::of(drawn.iter().map(|fault| &fault.fault));
    faults.sort_by_cached_key(|of| (order.earliest_ms(&of.fault), of.fault.name.clone()));
    let problems = overlaps(&faults, &order, &spec.topology, seed);
    if !problems.is_empty() {
        return Err(problems);
    }
    let faults: Vec<PlannedFault> = faults.into_iter().map(|fault| fault.fault.clone()).collect();
    Ok(Plan {
        format: oldest_for(&faults),
        name: spec.name.clone(),
        description: spec.description.clone(),
        seed,
        topology: spec.topology.clone(),
        network: spec.network.clone(),
        workload: spec.workload.clone(),
        load: spec.load.clone(),
        phases: spec.phases.clone(),
        faults,
        expect: spec.expect.clone(),
    })
}

/// The fault with what only the seed decides about its time.
fn drawn(fault: &SpecFault, seed: u64) -> SpecFault {
    let mut fault = fault.clone();
    if let Some(gap) = &fault.gap {
        fault.fault.at_ms = gap.ms(seed);
    }
    fault
}

/// What a fault holds on to; two of the same sort on the same server undo each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Process,
    Cut,
    Latency,
    Traffic,
    Disk,
    Configuration,
}

fn sort(kind: &FaultKind) -> Sort {
    match kind {
        FaultKind::Kill { .. } | FaultKind::Restart { .. } | FaultKind::Pause { .. } => {
            Sort::Process
        }
        FaultKind::Disk { disk: DiskFault::PowerCut { .. }, .. } => Sort::Process,
        FaultKind::Disk { disk: DiskFault::Slow { .. } | DiskFault::Full, .. } => Sort::Disk,
        FaultKind::Partition { .. } => Sort::Cut,
        FaultKind::Latency { .. } => Sort::Latency,
        FaultKind::Traffic { .. } => Sort::Traffic,
        FaultKind::Reconfigure { .. } => Sort::Configuration,
    }
}

fn overlaps(
    faults: &[&SpecFault],
    order: &Order<'_>,
    topology: &Topology,
    seed: u64,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, later) in faults.iter().enumerate() {
        let earlier = faults.iter().take(index).find_map(|earlier| {
            let earlier = &earlier.fault;
            let meet = order.can_meet(earlier, &later.fault, 0);
            let shared = meet.then(|| shared(earlier, &later.fault, topology, seed))?;
            Some((earlier, shared?))
        });
        if let Some((earlier, shared)) = earlier {
            let what = told(earlier, &later.fault, &shared);
            let origin = later.origin.clone();
            problems.push(Problem { origin, key: "faults".to_owned(), what });
        }
    }
    problems
}

fn told(earlier: &PlannedFault, later: &PlannedFault, shared: &str) -> String {
    let (name, before) = (&later.name, &earlier.name);
    if earlier.trigger.is_some() || later.trigger.is_some() {
        return format!(
            "`{name}` may begin while `{before}` still has {shared}: who waits for another has no \
             fixed time; let it wait for that one, by `after: {before}`"
        );
    }
    let (begins, at) = (later.at_ms, earlier.at_ms);
    let end = at + earlier.for_ms;
    format!(
        "`{name}` begins at {begins} ms, while `{before}` ({at} to {end} ms) still has {shared}; \
         let one end before the other begins"
    )
}

/// What two faults that overlap in time both hold on to; `None` when they do not meet.
fn shared(
    earlier: &PlannedFault,
    later: &PlannedFault,
    topology: &Topology,
    seed: u64,
) -> Option<String> {
    let (sort_a, sort_b) = (sort(&earlier.kind), sort(&later.kind));
    if sort_a != sort_b {
        return None;
    }
    if sort_a == Sort::Cut {
        // Any two cuts have a link in common, which the first heal would open.
        return Some("links cut".to_owned());
    }
    if sort_a == Sort::Configuration {
        return Some("the write quorum changed".to_owned());
    }
    let hit_a = shape::hit(earlier, topology, seed);
    let hit_b = shape::hit(later, topology, seed);
    let both: Vec<String> = hit_a.into_iter().filter(|name| hit_b.contains(name)).collect();
    (!both.is_empty()).then(|| both.join(", "))
}
