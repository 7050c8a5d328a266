//! No write is acknowledged without its quorum: W durable Yes votes of MASTERs of its cluster, or a
//! commit that a majority of them accepted in one later ballot, which is how recovery finishes a
//! transaction (PROTOCOL.md 3.5, 3.7 and 3.11, "no `ok` before W durable Yes votes").
//!
//! A client cannot see votes. Judged is the evidence that an observer of the servers' disks added
//! ([`crate::history::Evidence`]); an acknowledged write without it leaves the verdict unknown.

use super::Checker;
use crate::budget::{Budget, OutOfBudget};
use crate::describe::counterexample;
use crate::history::{Evidence, Header, KeyQuorum, Step};
use crate::index::Index;
use crate::verdict::{Counts, Judgement};

/// Judges every step of every acknowledged write.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    let header = &index.history.header;
    let mut counts = Counts::of(&["writes", "without-evidence", "recovered", "below-quorum"]);
    let mut first = None;
    let operations = index.history.operations.iter().enumerate();
    for (op, operation) in operations.filter(|(_, operation)| operation.is_ok()) {
        budget.spend(operation.steps.len())?;
        for step in operation.steps.iter().filter(|step| step.is_write()) {
            counts.add("writes");
            let (Some(quorum), Some(evidence)) = (quorum_of(header, step), &step.evidence) else {
                counts.add("without-evidence");
                continue;
            };
            match Support::of(quorum, evidence) {
                support if support.voted >= quorum.write as usize => {}
                support if support.accepted > quorum.masters.len() / 2 => counts.add("recovered"),
                support => {
                    counts.add("below-quorum");
                    first.get_or_insert((op, step, quorum, support));
                }
            }
        }
    }
    let checker = Checker::QuorumCompliance;
    let (writes, missing) = (counts.get("writes"), counts.get("without-evidence"));
    if let Some((op, step, quorum, support)) = first {
        let bad = counts.get("below-quorum");
        let said = format!("{bad} of {writes} acknowledged writes had no quorum behind them");
        let reason = format!(
            "op {} was acknowledged, but only {} of the {} MASTERs of key {} had voted for it and \
             {} accepted it; writeQuorum is {}",
            index.operation(op).id,
            support.voted,
            quorum.masters.len(),
            step.key,
            support.accepted,
            quorum.write
        );
        let example = counterexample(index, vec![op], Some(step.key), reason);
        return Ok(Judgement::violated(checker, counts, said, example));
    }
    let said = match (writes, missing) {
        (0, _) => "no acknowledged write to judge".to_owned(),
        (_, 0) => {
            let said = "every acknowledged write had its quorum".to_owned();
            return Ok(Judgement::valid(checker, counts, said));
        }
        _ => format!("{missing} of {writes} acknowledged writes come without evidence"),
    };
    Ok(Judgement::unknown(checker, counts, said))
}

/// The quorum that `step` needs; `None` if none was declared for its key.
fn quorum_of<'h>(header: &'h Header, step: &Step) -> Option<&'h KeyQuorum> {
    let quorums = &header.promises.quorums;
    let after = quorums.partition_point(|quorum| quorum.from_key <= step.key);
    after.checked_sub(1).map(|at| &quorums[at])
}

/// How many distinct MASTERs stood behind a write.
#[derive(Debug, Clone, Copy)]
struct Support {
    voted: usize,
    accepted: usize,
}

impl Support {
    fn of(quorum: &KeyQuorum, evidence: &Evidence) -> Self {
        let count = |servers: &[u32]| {
            quorum.masters.iter().filter(|master| servers.contains(master)).count()
        };
        Self { voted: count(&evidence.voted), accepted: count(&evidence.accepted) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;
    use crate::verdict::Verdict::{Unknown, Valid, Violated};

    const CHECKER: Checker = Checker::QuorumCompliance;

    /// Keys below 5 have MASTERs a, b, c and W = 2; the others a and b and W = 2.
    fn sample() -> Sample {
        let mut sample = Sample::new();
        sample.promise().quorums = vec![
            KeyQuorum { from_key: 0, masters: vec![0, 1, 2], write: 2 },
            KeyQuorum { from_key: 5, masters: vec![0, 1], write: 2 },
        ];
        sample
    }

    #[test]
    fn votes_or_a_recovered_commit_are_enough() {
        let mut sample = sample();
        sample.promise().quorums[0].write = 3;
        sample.write(0).evidence(&[0, 1, 2], &[]).ok(1, 2);
        sample.write(1).evidence(&[0], &[1, 2]).ok(1, 2);
        sample.write(2).evidence(&[], &[]).failed(1, 2);
        let judgement = sample.judge(CHECKER);
        assert_eq!((judgement.verdict, judgement.counts["recovered"]), (Valid, 1));
    }

    #[test]
    fn one_vote_of_three_is_violated_and_so_is_a_voter_that_is_no_master() {
        for (key, voted) in [(0, &[1][..]), (5, &[0, 2][..]), (0, &[1, 1][..])] {
            let mut sample = sample();
            sample.write(key).evidence(voted, &[]).ok(1, 2);
            let judgement = sample.judge(CHECKER);
            assert_eq!(judgement.verdict, Violated, "{key} {voted:?}");
            assert_eq!(judgement.counterexample.unwrap().operations.len(), 1);
        }
    }

    #[test]
    fn without_evidence_or_declared_quorum_it_is_unknown() {
        let mut sample = sample();
        sample.write(0).evidence(&[0, 1], &[]).ok(1, 2);
        sample.write(0).ok(1, 2);
        assert_eq!(sample.judge(CHECKER).verdict, Unknown);
        let mut undeclared = Sample::new();
        undeclared.write(0).evidence(&[0, 1], &[]).ok(1, 2);
        assert_eq!(undeclared.judge(CHECKER).verdict, Unknown);
    }
}
