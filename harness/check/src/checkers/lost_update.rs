//! No update is lost: of two operations that wrote a record on the same base, at most one commits
//! (PROTOCOL.md 3.11, "of two transactions with the same base stamp on an item at most one
//! commits"). Linear, after Elle's grouping by what was read (Kingsbury & Alvaro, VLDB 14(3), 2020,
//! via HARNESS.md 4.4).
//!
//! A base is what a transaction read before it wrote the key, or the version below the one that
//! the reply named. An absence without tombstone is no base: a key may be absent many times.

use std::collections::BTreeMap;

use super::Checker;
use crate::budget::{Budget, OutOfBudget};
use crate::describe::{counterexample, seen};
use crate::history::Seen;
use crate::index::{Index, Read};
use crate::order::Order;
use crate::verdict::{Counts, Judgement};

/// Judges every acknowledged write whose base is known.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    let mut counts = Counts::of(&["based-on-a-read", "with-a-version", "lost-updates"]);
    let mut lost: BTreeMap<[usize; 2], Base> = BTreeMap::new();
    let mut based = based_on_reads(index, budget)?;
    counts.set("based-on-a-read", based.len() as u64);
    based.sort_unstable();
    based.dedup();
    for pair in based.windows(2) {
        let [(key, base, one), (other_key, other_base, other)] = [pair[0], pair[1]];
        if (key, base) == (other_key, other_base) {
            lost.entry([one, other]).or_insert(Base::Read(key, base));
        }
    }
    let order = Order::new(index, budget)?;
    let acknowledged = |op: usize| index.operation(op).is_ok();
    let links: Vec<_> = order.chain.iter().filter(|link| acknowledged(link.op)).collect();
    counts.set("with-a-version", links.len() as u64);
    for pair in links.windows(2).filter(|pair| pair[0].place == pair[1].place) {
        let (one, other) = (pair[0].op.min(pair[1].op), pair[0].op.max(pair[1].op));
        let key = index.writes[pair[0].write].key;
        lost.entry([one, other]).or_insert(Base::Version(key, pair[0].place.version));
    }
    counts.set("lost-updates", lost.len() as u64);
    let checker = Checker::LostUpdate;
    if let Some((ops, base)) = lost.first_key_value() {
        let said = format!("{} acknowledged updates were lost", lost.len());
        let example = counterexample(index, ops.to_vec(), Some(base.key()), base.told());
        return Ok(Judgement::violated(checker, counts, said, example));
    }
    if counts.get("based-on-a-read") + counts.get("with-a-version") == 0 {
        let said = "no acknowledged write says what it was based on".to_owned();
        return Ok(Judgement::unknown(checker, counts, said));
    }
    let said = "no two acknowledged writes replaced the same version".to_owned();
    Ok(Judgement::valid(checker, counts, said))
}

/// What two writes were both based on, with the key.
#[derive(Debug, Clone, Copy)]
enum Base {
    /// Both had read this.
    Read(u64, Seen),
    /// Both made this version.
    Version(u64, u64),
}

impl Base {
    fn key(self) -> u64 {
        match self {
            Self::Read(key, _) | Self::Version(key, _) => key,
        }
    }

    fn told(self) -> String {
        match self {
            Self::Read(key, base) => format!("both replaced {} of key {key}", seen(base)),
            Self::Version(key, version) => {
                format!("both wrote version {version} of key {key}, so on the same base")
            }
        }
    }
}

/// Key, what was read of it, and the operation that then wrote it.
fn based_on_reads(
    index: &Index<'_>,
    budget: &mut Budget,
) -> Result<Vec<(u64, Seen, usize)>, OutOfBudget> {
    let mut based = Vec::new();
    for Read { op, step, seen } in index.reads() {
        budget.spend(1)?;
        if index.writes_key(op, step.key) && seen != Seen::Absent(None) {
            based.push((step.key, seen, op));
        }
    }
    Ok(based)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Action;
    use crate::sample::Sample;
    use crate::verdict::Verdict::{Unknown, Valid, Violated};

    const CHECKER: Checker = Checker::LostUpdate;

    fn increment(base: u64, value: u64) -> Vec<(u64, Action)> {
        vec![(0, Action::Read(Some(Seen::Value(base)))), (0, Action::Write(value))]
    }

    #[test]
    fn a_chain_of_updates_is_valid_and_a_failed_rival_loses_nothing() {
        let mut sample = Sample::new();
        sample.create(0).ok(1, 2);
        sample.transaction(increment(1, 2)).ok(3, 4);
        sample.transaction(increment(2, 3)).ok(3, 4);
        sample.transaction(increment(2, 4)).failed(3, 4);
        sample.transaction(increment(2, 5)).unknown(3);
        assert_eq!(sample.judge(CHECKER).verdict, Valid);
    }

    #[test]
    fn two_acknowledged_updates_of_one_value_are_violated() {
        let mut sample = Sample::new();
        sample.create(0).ok(1, 2);
        sample.transaction(increment(1, 2)).ok(3, 6);
        sample.transaction(increment(1, 3)).ok(4, 5);
        let judgement = sample.judge(CHECKER);
        assert_eq!((judgement.verdict, judgement.counts["lost-updates"]), (Violated, 1));
        let lines = judgement.counterexample.unwrap().lines;
        assert_eq!(lines[2], "Impossible because both replaced value 1 of key 0");
    }

    #[test]
    fn two_acknowledged_writes_of_one_version_are_violated() {
        let mut sample = Sample::new();
        sample.write(0).version(4).ok(1, 2);
        sample.write(0).version(5).ok(3, 6);
        sample.write(0).version(5).ok(4, 5);
        assert_eq!(sample.judge(CHECKER).verdict, Violated);
    }

    #[test]
    fn two_creates_after_an_absence_prove_nothing() {
        let absent = || Action::Read(Some(Seen::Absent(None)));
        let mut sample = Sample::new();
        sample.transaction(vec![(0, absent()), (0, Action::Write(1))]).ok(1, 2);
        sample.transaction(vec![(0, absent()), (0, Action::Write(2))]).ok(5, 6);
        assert_eq!(sample.judge(CHECKER).verdict, Unknown);
    }
}
