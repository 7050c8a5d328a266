//! When all servers had what was acknowledged while a fault was in force, by what local reads saw
//! after its heal: those of the load, of settling and of the end.
//! May not judge: a local read promises nothing about its age.

use std::collections::{BTreeMap, BTreeSet};

use quorate_check::history::{Action, Nanos, Operation, Seen};
use serde::{Deserialize, Serialize};

use super::Input;
use super::series::Span;
use super::staleness::is_local_read;

/// How long after the heal no local read lacked anything any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "convergence")]
pub enum Convergence {
    /// Nothing was acknowledged while the fault was in force, so nothing could be missed.
    NothingWritten,
    /// Nobody read any of it locally before the next fault.
    NotLooked,
    /// No read lacked anything.
    NeverBehind {
        /// The first of them was answered this many nanoseconds after the heal.
        looked: Nanos,
    },
    /// Some reads did, and later ones did not.
    After {
        /// Answer of the first read behind the last that lacked something, from the heal.
        nanos: Nanos,
        /// Time between these two: it may have been that much earlier.
        resolution: Nanos,
    },
    /// The last read, this many nanoseconds after the heal, still lacked something.
    NotWithin {
        /// From the heal to the sending of that read.
        nanos: Nanos,
    },
    /// The fault was not healed while the run lasted.
    NotHealed,
}

/// By key, the newest version that was acknowledged while a fault was in force.
type Missed = BTreeMap<u64, u64>;

/// What the local reads after the heal of a fault saw; `until` is when the next fault began.
pub(super) fn convergence(input: &Input<'_>, span: &Span, until: Option<Nanos>) -> Convergence {
    let Some(healed) = span.healed else {
        return Convergence::NotHealed;
    };
    let missed = missed(input, span.effect, healed);
    if missed.is_empty() {
        return Convergence::NothingWritten;
    }
    let watched = healed..until.unwrap_or(Nanos::MAX);
    let looks = input.history.operations.iter().filter(|op| watched.contains(&op.sent));
    let looks = looks.filter(|op| is_local_read(op));
    let mut current = Vec::new();
    let mut behind = None;
    for op in looks {
        match look(&missed, op) {
            Some(true) => behind = behind.max(Some(op.sent)),
            Some(false) => current.push(op),
            None => {}
        }
    }
    let since = behind.unwrap_or(healed);
    let later = current.into_iter().filter(|op| op.sent > since || behind.is_none());
    match (later.map(|op| input.answered(op)).min(), behind) {
        (None, None) => Convergence::NotLooked,
        (None, Some(behind)) => Convergence::NotWithin { nanos: behind - healed },
        (Some(at), None) => Convergence::NeverBehind { looked: at.saturating_sub(healed) },
        (Some(at), Some(behind)) => Convergence::After {
            nanos: at.saturating_sub(healed),
            resolution: at.saturating_sub(behind),
        },
    }
}

/// Records that were deleted by somebody are left out: their absence says nothing.
fn missed(input: &Input<'_>, effect: Nanos, healed: Nanos) -> Missed {
    let mut missed = Missed::new();
    let mut deleted = BTreeSet::new();
    for op in &input.history.operations {
        for step in op.steps.iter().filter(|step| step.is_write()) {
            if matches!(step.action, Action::Delete(_)) {
                deleted.insert(step.key);
            }
            let in_force = op.done.is_some_and(|done| (effect..healed).contains(&done));
            if let (true, true, Some(version)) = (in_force, op.is_ok(), step.version) {
                let newest = missed.entry(step.key).or_insert(version);
                *newest = version.max(*newest);
            }
        }
    }
    missed.retain(|key, _| !deleted.contains(key));
    missed
}

/// Whether a read lacked something; `None` if it read nothing of it.
fn look(missed: &Missed, op: &Operation) -> Option<bool> {
    let lacks = op.steps.iter().filter_map(|step| {
        let newest = missed.get(&step.key)?;
        match (&step.action, step.version) {
            (Action::Read(Some(Seen::Absent(_))), _) => Some(true),
            (Action::Read(Some(Seen::Value(_))), Some(version)) => Some(version < *newest),
            (Action::Read(_) | Action::Write(_) | Action::Delete(_), _) => None,
        }
    });
    lacks.reduce(|some, lacks| some || lacks)
}

#[cfg(test)]
mod tests {
    use quorate_check::history::{Phase, Step};

    use super::super::sample::{MS, Sample};
    use super::*;

    const SPAN: Span =
        Span { begun: 90 * MS, effect: 100 * MS, healed: Some(200 * MS), horizon: 1000 * MS };

    fn write(sample: &mut Sample, key: u64, version: u64, at_ms: u64) {
        let op = sample.update(0, at_ms, 1_000);
        let step = Step::new(key, Action::Write(op.id));
        op.steps = vec![Step { version: Some(version), ..step }];
    }

    fn read(sample: &mut Sample, key: u64, version: Option<u64>, at_ms: u64) {
        let op = sample.read(2, at_ms, 1_000);
        op.level = Some(quorate_check::history::ReadLevel::Local);
        let seen = version.map_or(Seen::Absent(None), Seen::Value);
        op.steps = vec![Step { version, ..Step::new(key, Action::Read(Some(seen))) }];
    }

    fn of(sample: &Sample) -> Convergence {
        convergence(&sample.input(), &SPAN, None)
    }

    #[test]
    fn the_last_read_that_lacks_something_and_the_next_one_bracket_it() {
        let mut sample = Sample::new(1000);
        write(&mut sample, 1, 4, 50);
        assert_eq!(of(&sample), Convergence::NothingWritten);
        write(&mut sample, 1, 5, 150);
        // What is acknowledged after the heal is no business of this fault.
        write(&mut sample, 2, 9, 250);
        read(&mut sample, 2, Some(8), 300);
        assert_eq!(of(&sample), Convergence::NotLooked);
        read(&mut sample, 1, Some(4), 220);
        assert_eq!(of(&sample), Convergence::NotWithin { nanos: 20 * MS });
        read(&mut sample, 1, Some(5), 210);
        read(&mut sample, 1, Some(6), 260);
        sample.history.operations.last_mut().unwrap().phase = Phase::Settle;
        let found = Convergence::After { nanos: 61 * MS, resolution: 41 * MS };
        assert_eq!(of(&sample), found);
        // Until the next fault it was not seen to come.
        let cut_short = convergence(&sample.input(), &SPAN, Some(250 * MS));
        assert_eq!(cut_short, Convergence::NotWithin { nanos: 20 * MS });
        let unhealed = Span { healed: None, ..SPAN };
        assert_eq!(convergence(&sample.input(), &unhealed, None), Convergence::NotHealed);
    }

    #[test]
    fn a_record_that_is_not_there_yet_is_missed_and_a_deleted_one_is_not() {
        let mut sample = Sample::new(1000);
        write(&mut sample, 7, 1, 150);
        read(&mut sample, 7, None, 230);
        read(&mut sample, 7, Some(1), 240);
        let found = Convergence::After { nanos: 41 * MS, resolution: 11 * MS };
        assert_eq!(of(&sample), found);
        let op = sample.update(1, 235, 1_000);
        op.steps = vec![Step::new(7, Action::Delete(op.id))];
        assert_eq!(of(&sample), Convergence::NothingWritten);
    }

    #[test]
    fn servers_that_never_lacked_anything_say_when_they_were_looked_at() {
        let mut sample = Sample::new(1000);
        write(&mut sample, 1, 5, 150);
        read(&mut sample, 1, Some(5), 200);
        assert_eq!(of(&sample), Convergence::NeverBehind { looked: MS });
    }
}
