//! Versions of `plan.json`: which one a plan is written in, and which are read.

use std::ops::RangeInclusive;

use super::{Cut, Event, FaultKind, PlannedFault};

/// The newest version of `plan.json`.
///
/// 1: the first. 2: delays that are not uniform, half-open cuts, faults that wait for other events
/// than heals.
pub const PLAN_FORMAT: u32 = 2;

/// The versions that this build reads: what came with a later one is absent from an earlier one.
pub const PLAN_FORMATS: RangeInclusive<u32> = 1..=PLAN_FORMAT;

/// The oldest version that says all of these: programs that do not know what came later refuse
/// a plan that has it by its version, and read every other one.
pub(super) fn oldest_for(faults: &[PlannedFault]) -> u32 {
    let waits = |fault: &PlannedFault| match fault.trigger.as_ref().map(|trigger| &trigger.event) {
        None | Some(Event::Healed { .. }) => false,
        Some(Event::State { .. } | Event::Committed { .. }) => true,
    };
    let newer = |fault: &PlannedFault| match &fault.kind {
        FaultKind::Latency { distribution, .. } => !distribution.is_uniform(),
        FaultKind::Partition { cut, .. } => *cut == Cut::HalfOpen,
        FaultKind::Kill { .. }
        | FaultKind::Restart { .. }
        | FaultKind::Pause { .. }
        | FaultKind::Traffic { .. }
        | FaultKind::Disk { .. }
        | FaultKind::Reconfigure { .. } => false,
    };
    if faults.iter().any(|fault| newer(fault) || waits(fault)) { 2 } else { 1 }
}
