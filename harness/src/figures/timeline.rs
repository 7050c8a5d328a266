//! Figures over time, in slots of equal length by *intended* time, so that an absence of
//! completions cannot hide an outage. Covers warm-up and measure phases.

use std::collections::BTreeMap;

use quorate_check::history::{Nanos, Operation, Outcome, Phase};
use serde::{Deserialize, Serialize};

use super::{Bound, Counts, Distribution, Input, Window, code_of};

/// Slot lengths to choose from, in nanoseconds.
const SLOT_LENGTHS: [Nanos; 7] = [
    100_000_000,
    250_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    15_000_000_000,
    60_000_000_000,
];

/// A slot should hold this many operations on average, or its percentiles mean little.
const OPERATIONS_PER_SLOT: u64 = 20;

/// More slots than this are more than a plot has pixels for.
const SLOTS_MAX: u64 = 1200;

/// One slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Its begin, nanoseconds on the history's clock.
    pub from: Nanos,
    /// Outcomes of the operations that were intended to start in it.
    pub counts: Counts,
    /// Median response of acknowledged and unanswered operations, the latter as lower bounds.
    pub p50: Option<Bound>,
    /// 99 %.
    pub p99: Option<Bound>,
    /// The longest.
    pub max: Option<Bound>,
}

/// Figures over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// Length of a slot in nanoseconds.
    pub slot: Nanos,
    /// Begin of the measure phase; a slot begins there, and time 0 of every plot is here.
    pub origin: Nanos,
    /// From the first to the last slot without holes.
    pub slots: Vec<Slot>,
    /// Not-ok operations by code, one count a slot.
    pub codes: BTreeMap<String, Vec<u64>>,
}

impl Timeline {
    /// What the slots cover.
    #[must_use]
    pub fn window(&self) -> Window {
        let from = self.slots.first().map_or(self.origin, |slot| slot.from);
        let to = self.slots.last().map_or(self.origin, |slot| slot.from + self.slot);
        Window { from, to }
    }

    /// Count of operations as operations per second.
    #[must_use]
    pub fn rate(&self, count: u64) -> f64 {
        count as f64 / super::seconds(self.slot)
    }
}

/// The shortest slot that holds enough operations and does not make too many slots.
#[must_use]
pub fn slot_length(operations: u64, length: Nanos) -> Nanos {
    let fits = |slot: &Nanos| {
        operations.saturating_mul(*slot) >= OPERATIONS_PER_SLOT.saturating_mul(length)
            && length / slot <= SLOTS_MAX
    };
    let short = SLOT_LENGTHS.iter().copied().filter(|slot| *slot <= 1_000_000_000);
    short.clone().find(fits).unwrap_or_else(|| {
        let few = |slot: &Nanos| *slot >= 1_000_000_000 && length / slot <= SLOTS_MAX;
        SLOT_LENGTHS.iter().copied().find(few).unwrap_or(SLOT_LENGTHS[SLOT_LENGTHS.len() - 1])
    })
}

/// Computes the time line.
#[must_use]
pub fn timeline(input: &Input<'_>) -> Timeline {
    let slot = slot_length(input.measured().count() as u64, input.measure_window().length());
    timeline_in(input, slot)
}

/// Computes the time line in slots of a given length, so that those of several runs fit together.
#[must_use]
pub fn timeline_in(input: &Input<'_>, slot: Nanos) -> Timeline {
    let measure = input.measure_window();
    let shown = |op: &&Operation| match op.phase {
        Phase::Warmup | Phase::Measure => true,
        // Bursts of reads that watch the servers settle would dwarf the load.
        Phase::Load | Phase::Settle | Phase::Final => false,
    };
    // Slots are numbered from the begin of the measure phase, so that none straddles it.
    let origin = measure.from;
    let number = |at: Nanos| {
        if at >= origin {
            ((at - origin) / slot) as i64
        } else {
            -((origin - at).div_ceil(slot) as i64)
        }
    };
    let mut by_slot: BTreeMap<i64, Vec<&Operation>> = BTreeMap::new();
    for op in input.history.operations.iter().filter(shown) {
        by_slot.entry(number(op.intended)).or_default().push(op);
    }
    if measure.length() > 0 {
        by_slot.entry(0).or_default();
        by_slot.entry(number(measure.to - 1)).or_default();
    }
    let (Some(first), Some(last)) =
        (by_slot.keys().next().copied(), by_slot.keys().next_back().copied())
    else {
        return Timeline { slot, origin, slots: Vec::new(), codes: BTreeMap::new() };
    };
    let mut made = Timeline { slot, origin, slots: Vec::new(), codes: BTreeMap::new() };
    let mut waiting = Distribution::default();
    for (index, n) in (first..=last).enumerate() {
        let operations = by_slot.get(&n).map_or(&[][..], Vec::as_slice);
        let from = origin.saturating_add_signed(n * slot as i64);
        made.slots.push(fill(input, &mut waiting, from, operations));
        for op in operations.iter().filter(|op| op.outcome != Outcome::Ok) {
            let counts = made.codes.entry(code_of(op)).or_default();
            counts.resize(index + 1, 0);
            counts[index] += 1;
        }
    }
    let length = made.slots.len();
    made.codes.values_mut().for_each(|counts| counts.resize(length, 0));
    made
}

/// One slot; `waiting` is lent so that its memory is used again.
fn fill(
    input: &Input<'_>,
    waiting: &mut Distribution,
    from: Nanos,
    operations: &[&Operation],
) -> Slot {
    waiting.clear();
    let mut counts = Counts::default();
    for op in operations {
        counts.add(op.outcome);
        match op.outcome {
            Outcome::Ok => waiting.add(input.response(op)),
            Outcome::Unknown => waiting.add_censored(input.response(op)),
            Outcome::Failed => {}
        }
    }
    Slot {
        from,
        counts,
        p50: waiting.quantile(0.5),
        p99: waiting.quantile(0.99),
        max: waiting.max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::sample::{MS, Sample, fail};
    use crate::folder::PhaseMark;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn slots_hold_enough_operations_and_are_not_too_many() {
        // 200 a second fill 100 ms, 80 a second fill 250 ms, 20 a second fill 1 s.
        assert_eq!(slot_length(200 * 60, 60 * SECOND), SECOND / 10);
        assert_eq!(slot_length(199 * 60, 60 * SECOND), SECOND / 4);
        assert_eq!(slot_length(80 * 60, 60 * SECOND), SECOND / 4);
        assert_eq!(slot_length(5 * 60, 60 * SECOND), SECOND);
        // An hour in 100 ms slots were 36 000.
        assert_eq!(slot_length(1_000_000_000, 3600 * SECOND), 5 * SECOND);
        assert_eq!(slot_length(0, 0), SECOND / 10);
    }

    #[test]
    fn operations_count_in_the_slot_of_their_intended_start() {
        let mut sample = Sample::new(300);
        sample.phases[0] = PhaseMark { phase: Phase::Measure, from: 200 * MS, to: 500 * MS };
        (0..30).for_each(|n| {
            sample.read(0, 200 + n, 1000 * (n + 1));
        });
        // Slot 1 is empty; in slot 2 all fail late.
        (0..30).for_each(|_| fail(sample.update(0, 450, 600_000), Outcome::Unknown, "deadline"));
        // Warm-up lies before 0, load is not shown.
        sample.read(0, 150, 1000).phase = Phase::Warmup;
        sample.read(0, 10, 1000).phase = Phase::Load;
        let line = timeline(&sample.input());
        assert_eq!((line.slot, line.origin), (100 * MS, 200 * MS));
        let begins: Vec<Nanos> = line.slots.iter().map(|slot| slot.from / MS).collect();
        assert_eq!(begins, [100, 200, 300, 400]);
        let counts: Vec<u64> = line.slots.iter().map(|slot| slot.counts.total()).collect();
        assert_eq!(counts, [1, 30, 0, 30]);
        assert_eq!(line.slots[1].max, Some(Bound { micros: 30_000.0, at_least: false }));
        assert_eq!(line.slots[2].p50, None);
        assert!(line.slots[3].p50.unwrap().at_least);
        assert_eq!(line.codes["deadline"], [0, 0, 0, 30]);
        assert!((line.rate(30) - 300.0).abs() < 1e-9);
        assert_eq!(line.window(), Window { from: 100 * MS, to: 500 * MS });
    }

    #[test]
    fn an_empty_history_has_an_empty_time_line() {
        let mut sample = Sample::new(0);
        sample.phases.clear();
        assert!(timeline(&sample.input()).slots.is_empty());
    }
}
