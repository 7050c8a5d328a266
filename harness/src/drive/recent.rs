//! Rates and percentiles of about the last second by operation class, for people who watch. What
//! reports say comes from the files; nothing here is kept.

use hdrhistogram::Histogram;
use quorate_check::history::Nanos;

use crate::drive::DriverError;
use crate::plan::OpClass;

/// Shortest time that a figure is of; a busy driver looks at the clock a little later.
const SECOND: Nanos = 1_000_000_000;
/// Longest latency told, in microseconds: an hour.
const LONGEST_US: u64 = 3_600_000_000;

/// What was acknowledged of a class in about the last second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Recent {
    /// Acknowledged per second.
    pub rate: f64,
    /// From their intended start on; `None` if nothing was acknowledged.
    pub response: Option<Percentiles>,
}

/// Response times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentiles {
    /// Half took no longer.
    pub p50_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
}

/// The second that goes on.
#[derive(Debug)]
pub(crate) struct Window {
    begun: Nanos,
    responses_us: Vec<Histogram<u64>>,
}

impl Window {
    /// The first one.
    pub(crate) fn new(begun: Nanos) -> Result<Self, DriverError> {
        // Two digits: enough to look at, and quick to empty.
        let one = |_| Histogram::new_with_bounds(1, LONGEST_US, 2).map_err(DriverError::Histogram);
        let responses_us = OpClass::ALL.iter().map(one).collect::<Result<_, _>>()?;
        Ok(Self { begun, responses_us })
    }

    /// An operation was acknowledged `response` after it should have started.
    pub(crate) fn acknowledged(&mut self, class: OpClass, response: Nanos) {
        if let Some(of_class) = self.responses_us.get_mut(class as usize) {
            of_class.saturating_record((response / 1_000).max(1));
        }
    }

    /// The figures by class, in the order of [`OpClass::ALL`], once the second is over; the next
    /// one begins.
    pub(crate) fn ended(&mut self, now: Nanos) -> Option<[Recent; OpClass::ALL.len()]> {
        if now < self.begun + SECOND {
            return None;
        }
        let seconds = (now - self.begun) as f64 / SECOND as f64;
        let mut figures = [Recent::default(); OpClass::ALL.len()];
        for (figure, responses) in figures.iter_mut().zip(&mut self.responses_us) {
            let at = |q: f64| responses.value_at_quantile(q) as f64 / 1e3;
            let rate = responses.len() as f64 / seconds;
            let percentiles = || Percentiles { p50_ms: at(0.5), p99_ms: at(0.99) };
            *figure = Recent { rate, response: (!responses.is_empty()).then(percentiles) };
            responses.reset();
        }
        self.begun = now;
        Some(figures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn a_second_has_its_own_figures_and_leaves_none_behind() {
        let mut window = Window::new(0).unwrap();
        for k in 1..=100 {
            window.acknowledged(OpClass::Update, k * MS);
        }
        window.acknowledged(OpClass::Delete, 3 * MS);
        assert_eq!(window.ended(999 * MS), None);
        let figures = window.ended(2_000 * MS).unwrap();
        let of = |class: OpClass| figures[class as usize];
        assert!((of(OpClass::Update).rate - 50.0).abs() < 1e-9, "{figures:?}");
        let response = of(OpClass::Update).response.unwrap();
        assert!((response.p50_ms - 50.0).abs() < 1.0, "{figures:?}");
        assert!((response.p99_ms - 99.0).abs() < 1.0, "{figures:?}");
        assert!((of(OpClass::Delete).rate - 0.5).abs() < 1e-9, "{figures:?}");
        assert_eq!(of(OpClass::Create), Recent::default());
        assert_eq!(window.ended(2_500 * MS), None);
        assert_eq!(window.ended(3_000 * MS), Some(Default::default()));
    }

    #[test]
    fn classes_are_in_the_order_of_their_numbers() {
        for (at, class) in OpClass::ALL.iter().enumerate() {
            assert_eq!(*class as usize, at);
        }
    }
}
