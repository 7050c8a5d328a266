//! The zone test for registers with unique writes: Gibbons & Korach, "Testing Shared Memories",
//! SIAM J. Comput. 26(4), 1997, section 4; Golab, Li & Shah, PODC 2011. O(n log n), exact.
//! Knows intervals only; what is a read or a write of what is decided in `linearizable.rs`.
//!
//! All operations on one value form a cluster: the write and every read of it. In a legal order
//! the operations of a cluster stand together, so one operation of A that returned before one of
//! B was sent puts all of A before all of B. With `lo` the earliest return and `hi` the latest
//! invocation of a cluster that is `A.lo < B.hi`. A register is linearizable if and only if no two
//! clusters are put both ways round. (The paper's two cases, overlapping forward zones and a
//! backward zone inside a forward one, are this one inequality pair, for two backward zones never
//! satisfy it.)

use crate::history::Nanos;

/// Stands for "before everything". Other times are shifted by one to make room.
const START: u64 = 0;

/// Stands for "never": the return of an operation whose outcome is unknown.
const NEVER: u64 = u64::MAX;

/// The span of all operations on one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zone {
    /// Earliest return, shifted.
    lo: u64,
    /// Latest invocation, shifted.
    hi: u64,
    /// Operation that returned at `lo`; `None` for the initial state and for a pending write.
    pub(crate) lo_op: Option<usize>,
    /// Operation sent at `hi`; `None` for the initial state.
    pub(crate) hi_op: Option<usize>,
}

impl Zone {
    /// The zone of the state before the first operation.
    pub(crate) const INITIAL: Self = Self { lo: START, hi: START, lo_op: None, hi_op: None };

    /// The zone of a write; `done` is `None` if its outcome is unknown.
    pub(crate) fn of_write(op: usize, sent: Nanos, done: Option<Nanos>) -> Self {
        let lo = done.map_or(NEVER, shifted);
        Self { lo, hi: shifted(sent), lo_op: done.map(|_| op), hi_op: Some(op) }
    }

    /// The zone with one more read. Ties keep the operation that came first.
    #[must_use]
    pub(crate) fn with_read(mut self, op: usize, sent: Nanos, done: Nanos) -> Self {
        if shifted(done) < self.lo {
            (self.lo, self.lo_op) = (shifted(done), Some(op));
        }
        if shifted(sent) > self.hi {
            (self.hi, self.hi_op) = (shifted(sent), Some(op));
        }
        self
    }

    /// True if some operation of `self` returned before some operation of `other` was sent.
    pub(crate) fn precedes(&self, other: &Self) -> bool {
        self.lo < other.hi
    }

    /// The operations that the zone's ends come from.
    pub(crate) fn ends(&self) -> impl Iterator<Item = usize> {
        [self.lo_op, self.hi_op].into_iter().flatten()
    }
}

fn shifted(at: Nanos) -> u64 {
    at.saturating_add(1)
}

/// The zones of one key, ready to be asked which of them contradicts a given one.
#[derive(Debug)]
pub(crate) struct Zones {
    /// Sorted by `lo`; each with the caller's number for it.
    sorted: Vec<(Zone, usize)>,
    /// For each prefix of `sorted`: positions of the greatest `hi`, and of the second greatest.
    tops: Vec<(usize, Option<usize>)>,
}

impl Zones {
    /// Sorts `zones`; the numbers must differ from each other.
    pub(crate) fn new(mut zones: Vec<(Zone, usize)>) -> Self {
        zones.sort_unstable_by_key(|(zone, number)| (zone.lo, zone.hi, *number));
        let mut tops: Vec<(usize, Option<usize>)> = Vec::with_capacity(zones.len());
        for (at, (zone, _)) in zones.iter().enumerate() {
            let top = match tops.last() {
                None => (at, None),
                Some(&(first, _)) if zone.hi > zones[first].0.hi => (at, Some(first)),
                Some(&(first, second)) if second.is_none_or(|s| zone.hi > zones[s].0.hi) => {
                    (first, Some(at))
                }
                Some(&top) => top,
            };
            tops.push(top);
        }
        Self { sorted: zones, tops }
    }

    /// A zone, other than `number`, that `zone` must come both before and after.
    pub(crate) fn contradicts(&self, zone: &Zone, number: usize) -> Option<(Zone, usize)> {
        // Those that must come before `zone` are a prefix; among them, the latest `hi` is the one
        // most likely to have to come after it, too.
        let before = self.sorted.partition_point(|(other, _)| other.precedes(zone));
        let (first, second) = *self.tops.get(before.checked_sub(1)?)?;
        let own = self.sorted[first].1 == number;
        let (other, its_number) = self.sorted[if own { second? } else { first }];
        zone.precedes(&other).then_some((other, its_number))
    }

    /// Of all contradicting pairs one with the fewest operations, then the first in time.
    pub(crate) fn contradiction(&self) -> Option<[(Zone, usize); 2]> {
        let pairs = self.sorted.iter().filter_map(|&(zone, number)| {
            let other = self.contradicts(&zone, number)?;
            // The value that was there first is told first.
            let first = (zone.lo, zone.hi) <= (other.0.lo, other.0.hi);
            Some(if first { [(zone, number), other] } else { [other, (zone, number)] })
        });
        pairs.min_by_key(|pair| {
            let mut ends: Vec<usize> = pair.iter().flat_map(|(zone, _)| zone.ends()).collect();
            ends.sort_unstable();
            ends.dedup();
            (ends.len(), pair.map(|(zone, _)| zone.hi))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contradicting(zones: &[(u64, u64)]) -> bool {
        let zone = |&(lo, hi): &(u64, u64)| Zone { lo, hi, lo_op: None, hi_op: None };
        let zones = zones.iter().enumerate().map(|(number, ends)| (zone(ends), number));
        Zones::new(zones.collect()).contradiction().is_some()
    }

    #[test]
    fn the_two_cases_of_the_paper_and_their_edges() {
        // (lo, hi): forward if lo < hi, backward otherwise.
        assert!(!contradicting(&[(1, 4), (5, 8)]), "forward zones apart");
        assert!(!contradicting(&[(1, 4), (4, 8)]), "forward zones that touch");
        assert!(contradicting(&[(1, 5), (4, 8)]), "forward zones that overlap");
        assert!(contradicting(&[(1, 9), (5, 4)]), "backward zone inside a forward one");
        assert!(!contradicting(&[(1, 9), (9, 4)]), "backward zone that reaches the end");
        assert!(!contradicting(&[(1, 9), (5, 1)]), "backward zone that reaches the start");
        assert!(!contradicting(&[(9, 1), (8, 2)]), "backward zones never contradict");
        assert!(!contradicting(&[(1, 9)]), "a zone does not contradict itself");
        assert!(!contradicting(&[]));
    }

    #[test]
    fn all_small_sets_agree_with_the_definition() {
        let ends: Vec<(u64, u64)> = (0..4).flat_map(|lo| (0..4).map(move |hi| (lo, hi))).collect();
        for &a in &ends {
            for &b in &ends {
                for &c in &ends {
                    let set = [a, b, c];
                    let both = |x: (u64, u64), y: (u64, u64)| x.0 < y.1 && y.0 < x.1;
                    let expected = both(a, b) || both(a, c) || both(b, c);
                    assert_eq!(contradicting(&set), expected, "{set:?}");
                }
            }
        }
    }
}
