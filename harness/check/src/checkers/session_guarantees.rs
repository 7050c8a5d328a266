//! What a session has done and seen, it goes on seeing: read your writes, monotonic reads,
//! monotonic writes, writes follow reads, after Terry et al., "Session Guarantees for Weakly
//! Consistent Replicated Data", PDIS 1994, judged record by record on versions (PROTOCOL.md 3.8:
//! session tokens give the first two; the other two follow from exact bases).
//!
//! Majority reads are always judged, local ones if the history says that sessions sent their
//! tokens. Across records nothing is judged: a local snapshot need not have two unrelated writes in
//! the order of one session. An operation precedes another of its session if it returned before
//! that was sent.

use super::Checker;
use crate::budget::{Budget, OutOfBudget};
use crate::describe::counterexample;
use crate::history::{Nanos, ReadLevel};
use crate::index::Index;
use crate::order::{Order, Place};
use crate::verdict::{Counts, Judgement};

/// Judges every session that touched a record twice.
pub(super) fn judge(index: &Index<'_>, budget: &mut Budget) -> Result<Judgement, OutOfBudget> {
    let mut counts = Counts::of(&["accesses", "pairs"]);
    for guarantee in Guarantee::ALL {
        counts.set(guarantee.name(), 0);
    }
    let mut accesses = accesses(index, budget)?;
    counts.set("accesses", accesses.len() as u64);
    accesses.sort_unstable_by_key(|access| (access.session, access.place.record, access.sent));
    let mut first: Option<(Guarantee, Access, Access)> = None;
    for of_record in
        accesses.chunk_by(|a, b| (a.session, a.place.record) == (b.session, b.place.record))
    {
        budget.spend(of_record.len())?;
        counts.set("pairs", counts.get("pairs") + (of_record.len() - 1) as u64);
        for (guarantee, before, then) in broken(of_record) {
            counts.add(guarantee.name());
            first.get_or_insert((guarantee, before, then));
        }
    }
    let checker = Checker::SessionGuarantees;
    if let Some((guarantee, before, then)) = first {
        let bad: u64 = Guarantee::ALL.map(|guarantee| counts.get(guarantee.name())).iter().sum();
        let said = format!("{bad} accesses broke a promise to their session");
        let reason = format!(
            "session {} had {} version {} before it {} version {}: {}",
            then.session,
            if before.is_write { "written" } else { "read" },
            before.place.version,
            if then.is_write { "wrote" } else { "read" },
            then.place.version,
            guarantee.told()
        );
        let operations = vec![before.op, then.op];
        let example = counterexample(index, operations, Some(then.key), reason);
        return Ok(Judgement::violated(checker, counts, said, example));
    }
    if counts.get("pairs") == 0 {
        let said = "no session touched a record twice with versions named".to_owned();
        return Ok(Judgement::unknown(checker, counts, said));
    }
    Ok(Judgement::valid(checker, counts, "no session went back in time".to_owned()))
}

/// The four guarantees, by what came before and what then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guarantee {
    ReadYourWrites,
    MonotonicReads,
    MonotonicWrites,
    WritesFollowReads,
}

impl Guarantee {
    const ALL: [Self; 4] = [
        Self::ReadYourWrites,
        Self::MonotonicReads,
        Self::MonotonicWrites,
        Self::WritesFollowReads,
    ];

    fn of(before: &Access, then: &Access) -> Self {
        match (before.is_write, then.is_write) {
            (true, false) => Self::ReadYourWrites,
            (false, false) => Self::MonotonicReads,
            (true, true) => Self::MonotonicWrites,
            (false, true) => Self::WritesFollowReads,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ReadYourWrites => "read-your-writes",
            Self::MonotonicReads => "monotonic-reads",
            Self::MonotonicWrites => "monotonic-writes",
            Self::WritesFollowReads => "writes-follow-reads",
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::ReadYourWrites => "it does not read its own writes",
            Self::MonotonicReads => "its reads are not monotonic",
            Self::MonotonicWrites => "its writes are not monotonic",
            Self::WritesFollowReads => "its write does not follow its read",
        }
    }
}

/// One acknowledged access to one version.
#[derive(Debug, Clone, Copy)]
struct Access {
    session: u64,
    key: u64,
    place: Place,
    sent: Nanos,
    done: Nanos,
    is_write: bool,
    op: usize,
}

fn accesses(index: &Index<'_>, budget: &mut Budget) -> Result<Vec<Access>, OutOfBudget> {
    let order = Order::new(index, budget)?;
    let sessions = index.history.header.promises.sessions;
    let access = |key, place, is_write, op| {
        let operation = index.operation(op);
        let (session, sent) = (operation.session, operation.sent);
        operation.done.map(|done| Access { session, key, place, sent, done, is_write, op })
    };
    let mut accesses = Vec::new();
    for (at, write) in index.writes.iter().enumerate() {
        budget.spend(1)?;
        if let Some(place) = order.of_write(at).filter(|_| index.operation(write.op).is_ok()) {
            accesses.extend(access(write.key, place, true, write.op));
        }
    }
    for read in index.reads() {
        budget.spend(1)?;
        let is_judged = sessions || index.operation(read.op).level == Some(ReadLevel::Majority);
        if let Some(place) = order.of_read(index, &read).filter(|_| is_judged) {
            accesses.extend(access(read.step.key, place, false, read.op));
        }
    }
    Ok(accesses)
}

/// Pairs of which the second went back behind the first. `accesses` are those of one session to one
/// record, sorted by when they were sent.
fn broken(accesses: &[Access]) -> Vec<(Guarantee, Access, Access)> {
    let mut by_done: Vec<&Access> = accesses.iter().collect();
    by_done.sort_unstable_by_key(|access| (access.done, access.op));
    let mut returned = by_done.into_iter().peekable();
    let mut highest: Option<&Access> = None;
    let mut broken = Vec::new();
    for then in accesses {
        while let Some(before) = returned.next_if(|before| before.done < then.sent) {
            // Of one version, the session's own write is the plainer evidence.
            let rank = |access: &Access| (access.place.version, access.is_write);
            if highest.is_none_or(|highest| rank(before) > rank(highest)) {
                highest = Some(before);
            }
        }
        let Some(before) = highest else { continue };
        let goes_back = if then.is_write {
            then.place.version <= before.place.version
        } else {
            then.place.version < before.place.version
        };
        if goes_back {
            broken.push((Guarantee::of(before, then), *before, *then));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Seen;
    use crate::sample::Sample;
    use crate::verdict::Verdict::{Unknown, Valid, Violated};

    const CHECKER: Checker = Checker::SessionGuarantees;

    /// Session 1 creates a record, session 2 replaces it.
    fn sample() -> Sample {
        let mut sample = Sample::new();
        sample.promise().sessions = true;
        sample.create(0).version(1).session(1).ok(1, 2);
        sample.write(0).version(2).session(2).ok(3, 4);
        sample
    }

    fn broken_by(sample: &Sample) -> Vec<&'static str> {
        let counts = sample.judge(CHECKER).counts;
        let names = Guarantee::ALL.map(Guarantee::name);
        names.into_iter().filter(|name| counts[*name] > 0).collect()
    }

    #[test]
    fn sessions_may_lag_behind_others_but_not_behind_themselves() {
        let mut sample = sample();
        sample.local(1, 0, Seen::Value(1)).session(1).ok(5, 6);
        sample.local(1, 0, Seen::Value(2)).session(1).ok(7, 8);
        sample.write(0).version(3).session(1).ok(9, 10);
        assert_eq!(sample.judge(CHECKER).verdict, Valid);
    }

    #[test]
    fn each_guarantee_is_told_apart() {
        let mut own = sample();
        own.local(1, 0, Seen::Value(1)).session(2).ok(5, 6);
        assert_eq!(broken_by(&own), ["read-your-writes"]);

        let mut reads = sample();
        reads.local(0, 0, Seen::Value(2)).session(3).ok(5, 6);
        reads.local(1, 0, Seen::Value(1)).session(3).ok(7, 8);
        assert_eq!(broken_by(&reads), ["monotonic-reads"]);

        let mut writes = sample();
        writes.write(0).version(5).session(3).ok(5, 6);
        writes.write(0).version(4).session(3).ok(7, 8);
        assert_eq!(broken_by(&writes), ["monotonic-writes"]);

        let mut follows = sample();
        let newest = follows.write(0).version(9).session(4).ok(5, 6);
        follows.local(0, 0, Seen::Value(newest)).session(3).ok(7, 8);
        follows.write(0).version(5).session(3).ok(9, 10);
        assert_eq!(broken_by(&follows), ["writes-follow-reads"]);
    }

    #[test]
    fn an_own_record_that_is_not_there_yet_breaks_read_your_writes() {
        let mut sample = sample();
        sample.local(2, 0, Seen::Absent(None)).session(1).ok(5, 6);
        let judgement = sample.judge(CHECKER);
        assert_eq!((judgement.verdict, broken_by(&sample)), (Violated, vec!["read-your-writes"]));
        let lines = judgement.counterexample.unwrap().lines;
        assert_eq!(
            lines[2],
            "Impossible because session 1 had written version 1 before it read version 0: it does \
             not read its own writes"
        );
    }

    #[test]
    fn concurrent_operations_of_a_session_may_come_in_any_order() {
        let mut sample = sample();
        sample.local(0, 0, Seen::Value(2)).session(3).ok(5, 9);
        sample.local(1, 0, Seen::Value(1)).session(3).ok(6, 7);
        assert_eq!(sample.judge(CHECKER).verdict, Valid);
    }

    #[test]
    fn local_reads_without_tokens_promise_nothing() {
        let mut sample = sample();
        sample.promise().sessions = false;
        sample.local(1, 0, Seen::Value(1)).session(2).ok(5, 6);
        assert_eq!(sample.judge(CHECKER).verdict, Unknown);
        sample.read(0, 1).session(2).ok(7, 8);
        assert_eq!(sample.judge(CHECKER).verdict, Violated);
    }
}
