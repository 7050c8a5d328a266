//! Longest time without an acknowledged operation, between consecutive successes.
//! The edges of the window count as successes, so an outage that outlasts the window is not lost.

use quorate_check::history::{Nanos, Operation, Outcome};
use serde::{Deserialize, Serialize};

use super::{Input, Window};

/// A time without a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The last success before it, or the begin of the window. Nanoseconds.
    pub from: Nanos,
    /// The first success after it, or the end of the window. Nanoseconds.
    pub to: Nanos,
    /// True if it reaches the end of the window, so that it may have lasted longer.
    pub open: bool,
}

impl Gap {
    /// Its length in nanoseconds.
    #[must_use]
    pub fn length(&self) -> Nanos {
        self.to - self.from
    }
}

/// Completion times, sorted, of acknowledged measured operations that `wanted` accepts.
pub(super) fn acknowledged(input: &Input<'_>, wanted: impl Fn(&Operation) -> bool) -> Vec<Nanos> {
    let mut times: Vec<Nanos> = input
        .measured()
        .filter(|op| op.outcome == Outcome::Ok && wanted(op))
        .filter_map(|op| op.done)
        .collect();
    times.sort_unstable();
    times
}

/// The longest gap of writing operations, `None` if there is none among the operations.
pub(super) fn writes(input: &Input<'_>) -> Option<Gap> {
    let is_write = |op: &Operation| super::operations::is_write(op);
    input
        .measured()
        .any(is_write)
        .then(|| longest_gap(&acknowledged(input, is_write), input.measure_window()))
}

/// The longest gap inside `window` between the sorted times of success `oks`.
#[must_use]
pub fn longest_gap(oks: &[Nanos], window: Window) -> Gap {
    longest_gap_touching(oks, window, window)
}

/// The longest gap inside `window` that overlaps `part` of it. It counts in full: an outage that
/// begins during a fault and ends long after its heal is the fault's.
#[must_use]
pub fn longest_gap_touching(oks: &[Nanos], window: Window, part: Window) -> Gap {
    let mut longest = Gap { from: part.from, to: part.from, open: false };
    let mut last = window.from;
    let inside = oks.iter().copied().filter(|ok| window.contains(*ok));
    for next in inside.chain(std::iter::once(window.to.max(window.from))) {
        let overlaps = last < part.to.max(part.from + 1) && next > part.from;
        if overlaps && next - last > longest.length() {
            longest = Gap { from: last, to: next, open: next == window.to };
        }
        last = next;
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { from: 100, to: 1000 };

    #[test]
    fn without_a_success_the_gap_is_the_window() {
        assert_eq!(longest_gap(&[], WINDOW), Gap { from: 100, to: 1000, open: true });
        // Successes outside the window don't shorten it.
        assert_eq!(longest_gap(&[50, 1000], WINDOW), Gap { from: 100, to: 1000, open: true });
    }

    #[test]
    fn the_gap_between_consecutive_successes_is_found() {
        let oks = [110, 200, 640, 700, 990];
        assert_eq!(longest_gap(&oks, WINDOW), Gap { from: 200, to: 640, open: false });
    }

    #[test]
    fn the_edges_of_the_window_count() {
        assert_eq!(longest_gap(&[700, 990], WINDOW), Gap { from: 100, to: 700, open: false });
        assert_eq!(longest_gap(&[110, 300], WINDOW), Gap { from: 300, to: 1000, open: true });
    }

    #[test]
    fn a_gap_that_outlasts_the_part_counts_in_full() {
        let oks = [110, 200, 640, 650, 999];
        let part = Window { from: 300, to: 400 };
        assert_eq!(
            longest_gap_touching(&oks, WINDOW, part),
            Gap { from: 200, to: 640, open: false }
        );
        let later = Window { from: 641, to: 649 };
        assert_eq!(
            longest_gap_touching(&oks, WINDOW, later),
            Gap { from: 640, to: 650, open: false }
        );
    }

    #[test]
    fn an_empty_window_has_an_empty_gap() {
        let empty = Window { from: 5, to: 5 };
        assert_eq!(longest_gap(&[], empty).length(), 0);
    }
}
