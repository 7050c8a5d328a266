//! How old local reads were: for how long a newer value had been acknowledged to somebody when the
//! read was sent. A local read promises nothing about it; this says what it was.

use std::collections::BTreeMap;

use quorate_check::history::{Action, Nanos, OpKind, Operation, Outcome, ReadLevel};

use super::Input;

/// Local reads at the servers of one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staleness {
    /// `MASTERs` or `REPLICAs`.
    pub role: &'static str,
    /// Acknowledged local reads that saw a version of a record.
    pub reads: u64,
    /// Those of them that saw one that was no longer the newest.
    pub stale: u64,
    /// Age of the 99th of a hundred reads, those up to date included; 0 is up to date. Nanoseconds.
    pub p99: Nanos,
    /// Age of the oldest.
    pub max: Nanos,
}

/// By key and version: when that version or a newer one was acknowledged first.
type Acknowledged = BTreeMap<u64, BTreeMap<u64, Nanos>>;

/// One a role that has servers and was read at.
#[must_use]
pub fn staleness(input: &Input<'_>) -> Vec<Staleness> {
    let acknowledged = acknowledged(input);
    let mut ages: BTreeMap<bool, Vec<Nanos>> = BTreeMap::new();
    for op in input.measured().filter(|op| is_local_read(op)) {
        for step in &op.steps {
            let (Action::Read(Some(_)), Some(version)) = (&step.action, step.version) else {
                continue;
            };
            let newer = acknowledged.get(&step.key);
            let newer = newer.and_then(|versions| versions.range(version + 1..).next());
            let age = newer.map_or(0, |(_, at)| op.sent.saturating_sub(*at));
            ages.entry(is_at_replica(input, op)).or_default().push(age);
        }
    }
    ages.into_iter().map(|(replica, ages)| of_ages(replica, ages)).collect()
}

fn of_ages(replica: bool, mut ages: Vec<Nanos>) -> Staleness {
    ages.sort_unstable();
    let rank = (ages.len() * 99).div_ceil(100).saturating_sub(1);
    let at = |rank: usize| ages.get(rank).copied().unwrap_or(0);
    Staleness {
        role: if replica { "REPLICAs" } else { "MASTERs" },
        reads: ages.len() as u64,
        stale: ages.iter().filter(|age| **age > 0).count() as u64,
        p99: at(rank),
        max: at(ages.len().saturating_sub(1)),
    }
}

fn acknowledged(input: &Input<'_>) -> Acknowledged {
    let mut found = Acknowledged::new();
    let writes = input.history.operations.iter().filter(|op| op.outcome == Outcome::Ok);
    for op in writes {
        let Some(done) = op.done else { continue };
        for step in op.steps.iter().filter(|step| step.is_write()) {
            let Some(version) = step.version else { continue };
            let first = found.entry(step.key).or_default().entry(version).or_insert(done);
            *first = done.min(*first);
        }
    }
    for versions in found.values_mut() {
        // Who acknowledges a version has moved on from all before it.
        let mut earliest = Nanos::MAX;
        for at in versions.values_mut().rev() {
            earliest = earliest.min(*at);
            *at = earliest;
        }
    }
    found
}

pub(super) fn is_local_read(op: &Operation) -> bool {
    op.kind == OpKind::Read && op.is_ok_at(ReadLevel::Local)
}

fn is_at_replica(input: &Input<'_>, op: &Operation) -> bool {
    let name = input.history.header.nodes.get(op.node as usize);
    name.is_some_and(|name| input.plan.topology.replicas.contains(name))
}

#[cfg(test)]
mod tests {
    use quorate_check::history::{Seen, Step};

    use super::super::sample::{MS, Sample};
    use super::*;

    /// An operation of a millisecond on server `node` at `at_ms` that wrote or saw `version`.
    fn op(sample: &mut Sample, is_write: bool, node: u32, version: u64, at_ms: u64) {
        let op = if is_write {
            sample.update(node, at_ms, 1_000)
        } else {
            sample.read(node, at_ms, 1_000)
        };
        let action =
            if is_write { Action::Write(op.id) } else { Action::Read(Some(Seen::Value(1))) };
        op.level = (!is_write).then_some(ReadLevel::Local);
        op.steps = vec![Step { version: Some(version), ..Step::new(7, action) }];
    }

    /// FEATURES: A2, A15
    #[test]
    fn a_read_is_as_old_as_the_first_newer_acknowledgement() {
        let mut sample = Sample::new(1_000);
        sample.plan.topology.replicas = vec!["n3".to_owned()];
        // Version 7 is acknowledged before version 6, at 151.
        for (version, at) in [(5, 100), (6, 200), (7, 150)] {
            op(&mut sample, true, 0, version, at);
        }
        for (node, version, at) in [(0, 7, 300), (2, 5, 120), (2, 5, 261), (2, 6, 301)] {
            op(&mut sample, false, node, version, at);
        }
        let found = staleness(&sample.input());
        assert_eq!((found[0].role, found[0].reads, found[0].stale), ("MASTERs", 1, 0));
        let replicas = &found[1];
        assert_eq!((replicas.role, replicas.reads, replicas.stale), ("REPLICAs", 3, 2));
        assert_eq!((replicas.p99, replicas.max), (150 * MS, 150 * MS));
    }
}
