//! What faults of a spec wait for. Whether two of them can meet is judged in `crate::plan::build`.

use std::collections::BTreeMap;

use super::SpecFault;
use super::raw::RawFault;
use super::validate::Findings;
use crate::plan::{Event, Order, PlannedFault, Trigger};

/// What a fault waits for, and when that may have happened at the earliest, in milliseconds of the
/// measure phase. Only faults above it, `checked`, can be waited for: so none waits in a circle.
/// `names` are all above it, also those that could not be used.
pub(super) fn of(
    raw: &RawFault,
    key: &str,
    checked: &[SpecFault],
    names: &BTreeMap<String, usize>,
    findings: &mut Findings<'_>,
) -> (Option<Trigger>, u64) {
    let Some(after) = &raw.after else {
        if raw.may_lapse.is_some() && raw.storm.is_none() {
            let what = "has a meaning with `after` and `storm` alone";
            findings.wrong(&format!("{key}.may_lapse"), what);
        }
        return (None, 0);
    };
    let Some(index) = names.get(after) else {
        let what = format!("no fault above this one is named `{after}`");
        findings.wrong(&format!("{key}.after"), what);
        return (None, 0);
    };
    let above = || checked.iter().map(|fault| &fault.fault);
    let alone: Vec<&PlannedFault> = above().filter(|fault| fault.name == *after).collect();
    // Of one that happens several times, every time is meant.
    let repeats = above().filter(|fault| names.get(&fault.name) == Some(index));
    let awaited = if alone.is_empty() { repeats.collect() } else { alone };
    let order = Order::of(above());
    let ends = awaited.iter().map(|fault| order.earliest_ms(fault).saturating_add(fault.for_ms));
    let since_ms = ends.max().unwrap_or(0);
    let event = Event::Healed { faults: awaited.iter().map(|fault| fault.name.clone()).collect() };
    (Some(Trigger { event, may_lapse: raw.may_lapse.unwrap_or(false) }), since_ms)
}
