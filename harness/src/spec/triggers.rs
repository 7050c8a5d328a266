//! What faults of a spec wait for. Whether two of them can meet is judged in `crate::plan::build`.

use std::collections::BTreeMap;

use super::SpecFault;
use super::raw::{RawFault, RawWhen};
use super::validate::Findings;
use crate::plan::{Event, Order, PlannedFault, Topology, Trigger};

/// What a fault waits for, and when that may have happened at the earliest, in milliseconds of the
/// measure phase. Only faults above it, `checked`, can be waited for: so none waits in a circle.
/// `names` are all above it, also those that could not be used.
pub(super) fn of(
    raw: &RawFault,
    key: &str,
    checked: &[SpecFault],
    names: &BTreeMap<String, usize>,
    topology: &Topology,
    findings: &mut Findings<'_>,
) -> (Option<Trigger>, u64) {
    let waits = raw.after.is_some() || raw.when.is_some();
    if raw.may_lapse.is_some() && !waits && raw.storm.is_none() {
        let what = "has a meaning with `after`, `when` and `storm` alone";
        findings.wrong(&format!("{key}.may_lapse"), what);
    }
    if raw.after.is_some() && raw.when.is_some() {
        findings.wrong(&format!("{key}.when"), "a fault waits for one thing; it has `after`");
    }
    let may_lapse = raw.may_lapse.unwrap_or(false);
    if let Some(when) = &raw.when {
        let event = seen(when, &format!("{key}.when"), topology, findings);
        // It may happen at once.
        return (event.map(|event| Trigger { event, may_lapse }), 0);
    }
    let Some(after) = &raw.after else {
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
    (Some(Trigger { event, may_lapse }), since_ms)
}

/// The event that is looked for.
fn seen(
    when: &RawWhen,
    key: &str,
    topology: &Topology,
    findings: &mut Findings<'_>,
) -> Option<Event> {
    match (&when.server, when.state, when.committed) {
        (Some(server), Some(state), None) => {
            let legal = topology.servers();
            if !legal.contains(server) {
                let what = format!("there is no server `{server}`; legal: {}", legal.join(", "));
                findings.wrong(&format!("{key}.server"), what);
            }
            Some(Event::State { server: server.clone(), state })
        }
        (None, None, Some(count)) => Some(Event::Committed { count }),
        (_, _, Some(_)) | (_, None, None) | (None, Some(_), None) => {
            findings.wrong(key, "legal: `server` and `state` together, or `committed` alone");
            None
        }
    }
}
