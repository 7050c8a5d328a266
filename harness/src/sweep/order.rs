//! In which order a sweep's runs come, and which of them are still wanted.

use rand_chacha::rand_core::RngCore;

use super::{Done, Ledger, mean_of};
use crate::plan::stream;

/// Fewer runs than this say nothing about how far runs lie apart.
const RUNS_MIN: usize = 5;

/// Attempts at a run that the harness fails to do.
const TRIES: usize = 3;

/// Every run as (point, repeat): one block of all points after the other, each in an order of its
/// own. What drifts on the machine then meets all points alike.
#[must_use]
pub fn order(points: usize, repeats: u32, seed: u64) -> Vec<(usize, u32)> {
    let block = |repeat: u32| {
        let mut rng = stream::rng(seed, &format!("sweep/order/{repeat}"));
        let mut block: Vec<usize> = (0..points).collect();
        for at in (1..block.len()).rev() {
            // The modulo's bias is below 2^-50 for a thousand points.
            let other = (rng.next_u64() % (at as u64 + 1)) as usize;
            block.swap(at, other);
        }
        block.into_iter().map(move |point| (point, repeat))
    };
    (0..repeats).flat_map(block).collect()
}

/// True if a run of the point was found unsound for a reason of its own: neither another moment nor
/// another attempt would make it better.
#[must_use]
pub fn is_unsound(ledger: &Ledger, point: usize) -> bool {
    let of = |run: &Done| run.point == point && !run.spoilt && !run.failed;
    ledger.runs.iter().any(|run| of(run) && !run.remark.is_empty())
}

/// True of a run that the harness failed to do and that another attempt did.
#[must_use]
pub fn is_made_good(ledger: &Ledger, failed: &Done) -> bool {
    let of = |run: &Done| (run.point, run.repeat) == (failed.point, failed.repeat);
    failed.failed && ledger.runs.iter().any(|run| of(run) && !run.failed)
}

/// False if the run is done or was attempted often enough, its point cannot be run, was found
/// unsound for a reason of its own, or is known well enough.
#[must_use]
pub fn is_wanted(ledger: &Ledger, (point, repeat): (usize, u32)) -> bool {
    let is_done = || {
        let of = |run: &&Done| (run.point, run.repeat) == (point, repeat);
        let attempts = || ledger.runs.iter().filter(of);
        attempts().count() >= TRIES || attempts().any(|run| !run.failed)
    };
    let is_refused = ledger.definition.points.get(point).is_none_or(|of| of.refused.is_some());
    let is_known = || {
        if ledger.definition.narrow <= 0.0 {
            return false;
        }
        let figure = ledger.definition.figure;
        let estimate = mean_of(ledger, point, |figures| figures.of(figure));
        estimate
            .filter(|found| found.runs >= RUNS_MIN)
            .and_then(|found| found.spread())
            .is_some_and(|spread| spread <= ledger.definition.narrow)
    };
    !is_refused && !is_done() && !is_unsound(ledger, point) && !is_known()
}

#[cfg(test)]
mod tests {
    use super::super::ledger::tests::{done, ledger};
    use super::*;

    #[test]
    fn each_block_has_every_point_in_an_order_of_its_own() {
        let order = order(12, 3, 7);
        assert_eq!(order, super::order(12, 3, 7));
        let block = |repeat: u32| -> Vec<usize> {
            let of = order.iter().filter(|(_, r)| *r == repeat);
            of.map(|(point, _)| *point).collect()
        };
        assert_ne!(block(0), block(1));
        for repeat in 0..3 {
            let mut points = block(repeat);
            points.sort_unstable();
            assert_eq!(points, (0..12).collect::<Vec<_>>());
        }
        assert!(order.windows(2).all(|pair| pair[0].1 <= pair[1].1));
    }

    /// FEATURES: H7
    #[test]
    fn a_point_is_left_alone_once_it_is_known_or_hopeless() {
        let mut ledger = ledger();
        ledger.definition.narrow = 0.05;
        ledger.definition.points[2].refused = Some("no".to_owned());
        assert!(is_wanted(&ledger, (0, 0)) && !is_wanted(&ledger, (2, 0)));
        // Equal runs: known from the fifth on. Runs apart: never.
        ledger.definition.repeats = 9;
        for repeat in 0..5 {
            assert!(is_wanted(&ledger, (0, repeat)));
            ledger.runs.push(done(0, repeat, 100.0));
            ledger.runs.push(done(1, repeat, 100.0 * f64::from(repeat + 1)));
        }
        assert!(!is_wanted(&ledger, (0, 5)) && is_wanted(&ledger, (1, 5)));
        assert!(!is_wanted(&ledger, (1, 2)), "it is done");
        let mut bad = done(1, 5, 100.0);
        (bad.remark, bad.spoilt) = ("late".to_owned(), true);
        ledger.runs.push(bad.clone());
        assert!(is_wanted(&ledger, (1, 6)), "another moment may be better");
        bad.spoilt = false;
        ledger.runs.push(bad);
        assert!(!is_wanted(&ledger, (1, 6)));
    }

    #[test]
    fn a_run_that_the_harness_fails_to_do_is_tried_again_within_a_bound() {
        let mut ledger = ledger();
        let mut failed = done(0, 0, 0.0);
        (failed.remark, failed.failed, failed.figures) = ("no disk".to_owned(), true, None);
        for _ in 0..TRIES {
            assert!(is_wanted(&ledger, (0, 0)));
            ledger.runs.push(failed.clone());
        }
        assert!(!is_wanted(&ledger, (0, 0)), "often enough");
        assert!(is_wanted(&ledger, (0, 1)) && !is_unsound(&ledger, 0), "the point goes on");
        assert!(!is_made_good(&ledger, &failed));
        ledger.runs[2] = done(0, 0, 5.0);
        assert!(!is_wanted(&ledger, (0, 0)) && is_made_good(&ledger, &failed));
    }
}
