//! Storms: servers that go and return again and again, as a spec asks for them. Each time is a
//! fault of its own with its own proofs, and waits for the proven return of everybody from the time
//! before; the pauses between them are drawn once a seed is known (`crate::plan::build`).

use super::faults::numbered;
use super::raw::{Kind, RawFault};
use super::units::Span;
use super::validate::Findings;
use crate::plan::{Event, Gap, Target, Topology, Trigger, target};

/// Fewer than two times are no storm; what comes behind them may lapse on a slow machine.
const FEWEST: u64 = 2;
/// More would make a plan that nobody reads.
const MOST: u64 = 1_000;
/// A shorter absence may be over before it is proven.
const DOWN_MIN: Span = Span::millis(100);

/// A storm that can be had.
pub(super) struct Storm {
    pub(super) count: u64,
    pub(super) every_ms: u64,
    pub(super) down_ms: u64,
}

impl Storm {
    /// What a time of the storm named `name` behind its first one waits for, and for how long.
    pub(super) fn follows(&self, raw: &RawFault, name: &str, time: u64) -> (Trigger, Gap) {
        let faults = vec![numbered(name, time.saturating_sub(1))];
        let may_lapse = raw.may_lapse.unwrap_or(time >= FEWEST);
        let place = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        let (index, count) = (place(time), place(self.count));
        let gap = Gap { storm: name.to_owned(), index, count, every_ms: self.every_ms };
        (Trigger { event: Event::Healed { faults }, may_lapse }, gap)
    }
}

/// What `storm` asks for; what is wrong with it is reported.
pub(super) fn of(
    raw: &RawFault,
    key: &str,
    target: &Target,
    topology: &Topology,
    findings: &mut Findings<'_>,
) -> Option<Storm> {
    let storm = raw.storm?;
    let key = format!("{key}.storm");
    if !matches!(raw.fault, Kind::Kill | Kind::Restart) {
        findings.wrong(&key, "has a meaning for kill and restart alone");
        return None;
    }
    if raw.times.is_some() {
        findings.wrong(&key, "has no meaning with `times`, which strikes at fixed times");
    }
    let (hit, masters) = (masters_hit(target, topology), topology.masters.len());
    if !storm.beyond_minority && hit * 2 >= masters {
        let what = format!(
            "hits {hit} of {masters} MASTERs at once, which leaves no majority; legal: a minority, \
             or `beyond_minority: true`"
        );
        findings.wrong(&key, what);
    }
    if storm.down < DOWN_MIN {
        let what = format!("{} is not legal; legal: {DOWN_MIN} at least", storm.down);
        findings.wrong(&format!("{key}.down"), what);
    }
    let (every_ms, down_ms, for_ms) = (storm.every.as_ms(), storm.down.as_ms(), raw.lasts.as_ms());
    let least = Span::millis(every_ms.saturating_add(down_ms.saturating_mul(2)));
    if every_ms == 0 {
        findings.wrong(&format!("{key}.every"), "must be at least 1ms");
        return None;
    }
    if raw.lasts < least {
        let what = format!("has no room for two times within `for` ({}): {least}", raw.lasts);
        findings.wrong(&key, what);
        return None;
    }
    let count = (for_ms - down_ms) / every_ms.saturating_add(down_ms) + 1;
    if count > MOST {
        findings.wrong(&key, format!("would strike {count} times; legal: {MOST} at most"));
        return None;
    }
    Some(Storm { count, every_ms, down_ms })
}

/// How many MASTERs the target means.
fn masters_hit(of: &Target, topology: &Topology) -> usize {
    match of {
        Target::Names(names) => names.iter().filter(|n| topology.masters.contains(n)).count(),
        Target::Replicas => 0,
        Target::One | Target::Minority | Target::Majority | Target::All => {
            target::size(of, topology)
        }
    }
}
