//! After heal all servers hold the same: the local reads of the final phase agree on every key, in
//! content and in version (PROTOCOL.md 3.11, "after heal: all MASTERs and REPLICAs equal";
//! HARNESS.md 4.7). Whether what they agree on is right is for `acknowledged_durable` to say.
//!
//! Every key that some server was asked for locally is expected on every server. Two absences are
//! equal unless both name a tombstone, or both a version, and these differ: a server may have
//! forgotten its tombstone.

use std::collections::BTreeMap;

use super::Checker;
use crate::budget::{Budget, OutOfBudget};
use crate::describe::{counterexample, node_name, seen};
use crate::history::{Action, Phase, ReadLevel, Seen};
use crate::index::{Index, Read};
use crate::verdict::{Counts, Judgement};

/// Judges every key that was read locally in the final phase.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    let header = &index.history.header;
    let mut counts = Counts::of(&["keys", "keys-not-read-everywhere", "keys-diverged"]);
    let mut differing: BTreeMap<u32, u64> = BTreeMap::new();
    let mut first: Option<(u64, Odd<'_>)> = None;
    for (key, reads) in last_reads(index, budget)? {
        counts.add("keys");
        if reads.len() < header.nodes.len() {
            counts.add("keys-not-read-everywhere");
        }
        let odd = odd_ones(&reads);
        let Some(&(node, pair)) = odd.first() else {
            continue;
        };
        counts.add("keys-diverged");
        for (node, _) in odd {
            *differing.entry(node).or_default() += 1;
        }
        first.get_or_insert((key, (node, pair)));
    }
    let checker = Checker::Convergence;
    if let Some((key, (node, [common, odd]))) = first {
        let told: Vec<String> = differing
            .iter()
            .map(|(&node, keys)| format!("{} on {keys}", node_name(header, node)))
            .collect();
        let (diverged, keys) = (counts.get("keys-diverged"), counts.get("keys"));
        let said = format!("{diverged} of {keys} keys differ between servers: {}", told.join(", "));
        let reason = format!(
            "after heal key {key} is {} for others, yet {} at node {}",
            told_state(&common),
            told_state(&odd),
            node_name(header, node)
        );
        let example = counterexample(index, vec![common.op, odd.op], Some(key), reason);
        return Ok(Judgement::violated(checker, counts, said, example));
    }
    let said = if counts.get("keys") == 0 {
        "no local read in the final phase"
    } else if counts.get("keys-not-read-everywhere") > 0 {
        "some servers could not be read"
    } else {
        let said = format!("all {} servers agree on every key", header.nodes.len());
        return Ok(Judgement::valid(checker, counts, said));
    };
    Ok(Judgement::unknown(checker, counts, said.to_owned()))
}

/// A server that differs, and the proof: a read of another one, and its own.
type Odd<'h> = (u32, [Read<'h>; 2]);

type LastReads<'h> = BTreeMap<u64, BTreeMap<u32, Read<'h>>>;

/// The last acknowledged final local read by key and node. Keys nobody could read have none.
fn last_reads<'h>(index: &Index<'h>, budget: &mut Budget) -> Result<LastReads<'h>, OutOfBudget> {
    let is_wanted = |operation: &crate::history::Operation| {
        operation.phase == Phase::Final && operation.level == Some(ReadLevel::Local)
    };
    let mut reads = LastReads::new();
    for operation in index.history.operations.iter().filter(|operation| is_wanted(operation)) {
        budget.spend(operation.steps.len())?;
        for step in &operation.steps {
            if matches!(step.action, Action::Read(_)) {
                reads.entry(step.key).or_default();
            }
        }
    }
    for read in index.reads() {
        budget.spend(1)?;
        let operation = index.operation(read.op);
        if is_wanted(operation) {
            let of_key = reads.entry(read.step.key).or_default();
            let last = of_key.entry(operation.node).or_insert(read);
            if index.operation(last.op).sent <= operation.sent {
                *last = read;
            }
        }
    }
    Ok(reads)
}

/// The servers that differ from what most of them hold, each with a proof.
fn odd_ones<'h>(reads: &BTreeMap<u32, Read<'h>>) -> Vec<Odd<'h>> {
    let mut groups: Vec<Vec<(u32, Read<'h>)>> = Vec::new();
    for (&node, read) in reads {
        // Within a group everybody agrees with everybody: "may agree" is not transitive.
        let fits =
            |group: &&mut Vec<(u32, Read<'h>)>| group.iter().all(|(_, other)| agree(read, other));
        match groups.iter_mut().find(fits) {
            Some(group) => group.push((node, *read)),
            None => groups.push(vec![(node, *read)]),
        }
    }
    // Among groups of one size the one with the lowest node counts as what is common.
    let Some(common) = (0..groups.len()).rev().max_by_key(|&at| groups[at].len()) else {
        return Vec::new();
    };
    let common = groups.swap_remove(common);
    let mut odd: Vec<Odd<'h>> = Vec::new();
    for (node, read) in groups.into_iter().flatten() {
        let disagreeing = common.iter().find(|(_, other)| !agree(&read, other));
        odd.extend(disagreeing.map(|(_, other)| (node, [*other, read])));
    }
    odd.sort_unstable_by_key(|(node, _)| *node);
    odd
}

fn agree(a: &Read<'_>, b: &Read<'_>) -> bool {
    let both_or_equal = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => a == b,
        (None, _) | (_, None) => true,
    };
    let content = match (a.seen, b.seen) {
        (Seen::Absent(a), Seen::Absent(b)) => both_or_equal(a, b),
        (a, b) => a == b,
    };
    content && both_or_equal(a.step.version, b.step.version)
}

fn told_state(read: &Read<'_>) -> String {
    match read.step.version {
        Some(version) => format!("{} in version {version}", seen(read.seen)),
        None => seen(read.seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;
    use crate::verdict::Verdict::{Unknown, Valid, Violated};

    const CHECKER: Checker = Checker::Convergence;

    fn final_reads(states: &[(Seen, u64)]) -> Sample {
        let mut sample = Sample::new();
        for (node, &(seen, version)) in (0..).zip(states) {
            sample.local(node, 0, seen).version(version).phase(Phase::Final).ok(100, 101);
        }
        sample
    }

    #[test]
    fn equal_servers_are_valid() {
        let judgement = final_reads(&[(Seen::Value(1), 3); 3]).judge(CHECKER);
        assert_eq!((judgement.verdict, judgement.counts["keys"]), (Valid, 1));
    }

    #[test]
    fn another_value_on_one_server_is_violated_and_named() {
        let states = [(Seen::Value(2), 3), (Seen::Value(1), 3), (Seen::Value(1), 3)];
        let judgement = final_reads(&states).judge(CHECKER);
        assert_eq!(judgement.verdict, Violated);
        assert_eq!(judgement.explanation, "1 of 1 keys differ between servers: a on 1");
        assert_eq!(judgement.counterexample.unwrap().operations.len(), 2);
    }

    #[test]
    fn another_version_of_the_same_value_is_violated() {
        let states = [(Seen::Value(1), 3), (Seen::Value(1), 4), (Seen::Value(1), 3)];
        assert_eq!(final_reads(&states).judge(CHECKER).verdict, Violated);
    }

    #[test]
    fn a_record_missing_on_one_server_is_violated() {
        let states = [(Seen::Value(1), 3), (Seen::Value(1), 3), (Seen::Absent(None), 0)];
        let judgement = final_reads(&states).judge(CHECKER);
        assert_eq!(judgement.explanation, "1 of 1 keys differ between servers: c on 1");
    }

    #[test]
    fn forgotten_tombstones_agree_but_different_ones_do_not() {
        let mut sample = Sample::new();
        for (node, tombstone) in [(0, Some(7)), (1, None), (2, Some(7))] {
            sample.local(node, 0, Seen::Absent(tombstone)).phase(Phase::Final).ok(100, 101);
        }
        assert_eq!(sample.judge(CHECKER).verdict, Valid);
        sample.local(2, 0, Seen::Absent(Some(8))).phase(Phase::Final).ok(102, 103);
        assert_eq!(sample.judge(CHECKER).verdict, Violated);
    }

    #[test]
    fn a_server_that_could_not_be_read_is_unknown() {
        let mut sample = final_reads(&[(Seen::Value(1), 3); 2]);
        sample.local(2, 0, Seen::Value(1)).phase(Phase::Final).failed(100, 101);
        assert_eq!(sample.judge(CHECKER).verdict, Unknown);
    }

    #[test]
    fn the_last_read_of_a_server_counts() {
        let mut sample =
            final_reads(&[(Seen::Value(1), 3), (Seen::Value(1), 3), (Seen::Value(2), 2)]);
        sample.local(2, 0, Seen::Value(1)).version(3).phase(Phase::Final).ok(200, 201);
        assert_eq!(sample.judge(CHECKER).verdict, Valid);
    }

    #[test]
    fn no_final_reads_are_unknown() {
        let mut sample = Sample::new();
        sample.local(0, 0, Seen::Value(1)).ok(1, 2);
        assert_eq!(sample.judge(CHECKER).verdict, Unknown);
    }
}
