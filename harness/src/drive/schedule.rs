//! The schedule: when operation k arrives and what it does, as functions of the seed and k.
//! Pure: no clock, no network. Walked in order of k, because the n-th creation takes the n-th new
//! key, and no operation is meant for a key that an earlier one deletes; two walks over the same
//! plan are equal to the last bit.

use quorate_check::history::Nanos;

use crate::drive::keys::KeyChooser;
use crate::drive::places::Places;
use crate::drive::random::Stream;
use crate::plan::{Arrivals, LoadMode, OpClass, Plan};

/// One operation of the plan, before it meets any server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedOp {
    /// Its number, from 0.
    pub k: u64,
    /// What it does.
    pub class: OpClass,
    /// The logical key it is meant for. If that key has no record id yet when the operation is
    /// sent, the driver takes the nearest lower key that has one and was not deleted.
    pub key: u64,
}

/// Why a workload cannot be turned into operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Every weight is 0.
    #[error("the operation mix has no weight above 0")]
    EmptyMix,
    /// Operations on existing records are asked for, and there are none.
    #[error("the mix needs records to work on, but `records` is 0")]
    NoRecords,
    /// The arrival rate is not a positive number.
    #[error("the arrival rate must be a positive number")]
    BadRate,
}

/// Operations 0, 1, 2, … of a plan.
#[derive(Debug, Clone)]
pub struct Operations {
    /// Upper ends of the classes' shares of [0, total).
    shares: Vec<(OpClass, u64)>,
    total: u64,
    class: Stream,
    key: Stream,
    second: Stream,
    chooser: KeyChooser,
    places: Places,
    next_k: u64,
    next_new_key: u64,
    keyed: u64,
}

impl Operations {
    /// The operations of `plan`.
    ///
    /// # Errors
    /// When the mix is empty, or needs records that the plan does not have.
    pub fn new(plan: &Plan) -> Result<Self, ScheduleError> {
        let workload = &plan.workload;
        let mut total = 0;
        let mut shares = Vec::new();
        for (class, weight) in workload.mix.iter().filter(|(_, weight)| **weight > 0) {
            total += u64::from(*weight);
            shares.push((*class, total));
            if *class != OpClass::Create && workload.records == 0 {
                return Err(ScheduleError::NoRecords);
            }
        }
        if total == 0 {
            return Err(ScheduleError::EmptyMix);
        }
        let salt = Stream::named(plan.seed, "driver/popularity").bits(0);
        Ok(Self {
            shares,
            total,
            class: Stream::named(plan.seed, "driver/class"),
            key: Stream::named(plan.seed, "driver/key"),
            second: Stream::named(plan.seed, "driver/key/second"),
            chooser: KeyChooser::new(workload.keys, workload.records, salt),
            places: Places::default(),
            next_k: 0,
            next_new_key: workload.records,
            keyed: 0,
        })
    }

    /// The next operation. There is always one: the schedule of arrivals says when to stop.
    pub fn take(&mut self) -> PlannedOp {
        let k = self.next_k;
        self.next_k += 1;
        let point = self.class.below(k, self.total);
        let found = self.shares.iter().find(|(_, end)| point < *end);
        let class = found.map_or(OpClass::ReadLocal, |(class, _)| *class);
        let key = if class == OpClass::Create {
            let key = self.next_new_key;
            self.next_new_key += 1;
            if !self.chooser.grow() {
                self.places.fill(key);
            }
            key
        } else {
            self.keyed += 1;
            let place = self.chooser.key(self.keyed - 1, self.key.unit(k), self.second.unit(k));
            if class == OpClass::Delete {
                self.places.delete(place, self.chooser.count())
            } else {
                self.places.key(place, self.chooser.count())
            }
        };
        PlannedOp { k, class, key }
    }
}

/// Arrival times 0, 1, 2, … as offsets from the start of the load.
#[derive(Debug, Clone)]
pub struct ArrivalTimes {
    gap_ns: f64,
    poisson: Option<Stream>,
    next_k: u64,
    sum_ns: f64,
}

impl ArrivalTimes {
    /// The arrivals of an open-loop plan; `None` for a closed loop, which has none.
    ///
    /// # Errors
    /// When the rate is not a positive number.
    pub fn new(plan: &Plan) -> Result<Option<Self>, ScheduleError> {
        let LoadMode::Open { rate, arrivals } = plan.load.mode else {
            return Ok(None);
        };
        if !rate.is_finite() || rate <= 0.0 {
            return Err(ScheduleError::BadRate);
        }
        let poisson = match arrivals {
            Arrivals::Poisson => Some(Stream::named(plan.seed, "driver/arrivals")),
            Arrivals::Uniform => None,
        };
        Ok(Some(Self { gap_ns: 1e9 / rate, poisson, next_k: 0, sum_ns: 0.0 }))
    }

    /// The next arrival: k/λ, or the sum of k+1 exponential gaps of mean 1/λ.
    pub fn take(&mut self) -> Nanos {
        let k = self.next_k;
        self.next_k += 1;
        match self.poisson {
            // A product instead of a sum, so that no rounding error piles up.
            None => (k as f64 * self.gap_ns) as Nanos,
            Some(gaps) => {
                // A double holds a day in nanoseconds to 1/64 ns: the sum does not drift.
                self.sum_ns += gaps.exponential(k) * self.gap_ns;
                self.sum_ns as Nanos
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::drive::fixture::plan;
    use crate::plan::KeyDistribution;

    fn arrivals(rate: f64, arrivals: Arrivals) -> ArrivalTimes {
        let mut plan = plan();
        plan.load.mode = LoadMode::Open { rate, arrivals };
        ArrivalTimes::new(&plan).unwrap().unwrap()
    }

    #[test]
    fn uniform_arrivals_never_drift() {
        let mut times = arrivals(3000.0, Arrivals::Uniform);
        let last = (0..=3_000_000).map(|_| times.take()).last().unwrap();
        assert_eq!(last, 1_000_000_000_000);
    }

    #[test]
    fn poisson_gaps_have_mean_and_deviation_of_the_rate() {
        let mut times = arrivals(1000.0, Arrivals::Poisson);
        let mut before = 0;
        let gaps: Vec<f64> = (0..100_000)
            .map(|_| {
                let at = times.take();
                let gap = at - before;
                before = at;
                gap as f64 / 1e6
            })
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let var = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 1.0).abs() < 0.015, "{mean}");
        assert!((var.sqrt() - 1.0).abs() < 0.02, "{var}");
    }

    #[test]
    fn two_walks_are_equal_and_another_seed_differs() {
        let mut plan = plan();
        plan.load.mode = LoadMode::Open { rate: 500.0, arrivals: Arrivals::Poisson };
        let walk = |plan: &Plan| {
            let mut ops = Operations::new(plan).unwrap();
            let mut times = ArrivalTimes::new(plan).unwrap().unwrap();
            (0..5000).map(|_| (ops.take(), times.take())).collect::<Vec<_>>()
        };
        let first = walk(&plan);
        assert_eq!(first, walk(&plan));
        plan.seed += 1;
        assert_ne!(first, walk(&plan));
    }

    #[test]
    fn rate_changes_when_but_not_what() {
        let mut plan = plan();
        let mut slow = Operations::new(&plan).unwrap();
        plan.load.mode = LoadMode::Closed;
        let mut fast = Operations::new(&plan).unwrap();
        assert!((0..1000).all(|_| slow.take() == fast.take()));
        assert!(ArrivalTimes::new(&plan).unwrap().is_none());
    }

    #[test]
    fn mix_follows_the_weights_and_creations_take_new_keys() {
        let mut plan = plan();
        plan.workload.mix =
            [(OpClass::ReadLocal, 70), (OpClass::Update, 20), (OpClass::Create, 10)].into();
        let mut ops = Operations::new(&plan).unwrap();
        let taken: Vec<PlannedOp> = (0..100_000).map(|_| ops.take()).collect();
        let share =
            |class| taken.iter().filter(|op| op.class == class).count() as f64 / taken.len() as f64;
        assert!((share(OpClass::ReadLocal) - 0.7).abs() < 0.01);
        assert!((share(OpClass::Update) - 0.2).abs() < 0.01);
        let created = taken.iter().filter(|op| op.class == OpClass::Create);
        for (n, op) in created.enumerate() {
            assert_eq!(op.key, plan.workload.records + n as u64);
        }
        let old = taken.iter().filter(|op| op.class != OpClass::Create);
        assert!(old.into_iter().all(|op| op.key < plan.workload.records));
    }

    #[test]
    fn no_operation_is_meant_for_a_deleted_key_and_popularity_outlives_it() {
        for keys in [
            KeyDistribution::Uniform,
            KeyDistribution::Zipfian { theta: 0.9 },
            KeyDistribution::Latest { theta: 0.9 },
            KeyDistribution::Hotspot { data_fraction: 0.1, op_fraction: 0.9 },
            KeyDistribution::Sequential,
        ] {
            let mut plan = plan();
            plan.workload.keys = keys;
            plan.workload.mix =
                [(OpClass::Update, 94), (OpClass::Create, 5), (OpClass::Delete, 1)].into();
            let mut ops = Operations::new(&plan).unwrap();
            let taken: Vec<PlannedOp> = (0..100_000).map(|_| ops.take()).collect();
            let mut deleted = BTreeSet::new();
            for op in &taken {
                assert!(!deleted.contains(&op.key), "{keys:?}: {op:?}");
                if op.class == OpClass::Delete {
                    deleted.insert(op.key);
                }
            }
            assert!((800..1200).contains(&deleted.len()), "{keys:?}: {}", deleted.len());
            // Every loaded key was deleted sooner or later; those that came after them are used.
            let late = &taken[50_000..];
            let updates = late.iter().filter(|op| op.class == OpClass::Update);
            let used: BTreeSet<u64> = updates.map(|op| op.key).collect();
            assert!(used.iter().any(|key| *key >= plan.workload.records), "{keys:?}");
        }
    }

    #[test]
    fn what_cannot_run_is_refused() {
        let mut empty = plan();
        empty.workload.mix = [(OpClass::ReadLocal, 0)].into();
        assert_eq!(Operations::new(&empty).err(), Some(ScheduleError::EmptyMix));
        let mut bare = plan();
        bare.workload.records = 0;
        bare.workload.keys = KeyDistribution::Uniform;
        assert_eq!(Operations::new(&bare).err(), Some(ScheduleError::NoRecords));
        let mut still = plan();
        still.load.mode = LoadMode::Open { rate: 0.0, arrivals: Arrivals::Uniform };
        assert_eq!(ArrivalTimes::new(&still).err(), Some(ScheduleError::BadRate));
    }
}
