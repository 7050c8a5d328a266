//! Availability of each server as its clients saw it, by intended time.

use quorate_check::history::Nanos;
use serde::{Deserialize, Serialize};

use super::{Counts, Gap, Input, gaps, longest_gap};

/// What the clients of one server saw in one slot of the measure phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Operations intended for it.
    pub intended: u64,
    /// Operations that were served well: see [`Input::is_good`].
    pub good: u64,
}

impl Slice {
    /// Share that was served well; `None` without operations.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        (self.intended > 0).then(|| self.good as f64 / self.intended as f64)
    }
}

/// Availability of one server.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeAvailability {
    /// Its name.
    pub name: String,
    /// Outcomes in the measure phase.
    pub counts: Counts,
    /// Operations that were served well.
    pub good: u64,
    /// Longest time without an acknowledged operation.
    pub gap: Gap,
    /// One a slot from the begin of the measure phase.
    pub slices: Vec<Slice>,
}

/// One entry a server of the history's header.
#[must_use]
pub fn node_availability(input: &Input<'_>, slot: Nanos) -> Vec<NodeAvailability> {
    let window = input.measure_window();
    let slots = window.length().div_ceil(slot) as usize;
    let one = |(index, name): (usize, &String)| {
        let mut counts = Counts::default();
        let mut slices = vec![Slice::default(); slots];
        let mut good = 0;
        for op in input.measured().filter(|op| op.node as usize == index) {
            counts.add(op.outcome);
            let is_good = u64::from(input.is_good(op));
            good += is_good;
            let at = (op.intended.saturating_sub(window.from) / slot) as usize;
            if let Some(slice) = slices.get_mut(at) {
                slice.intended += 1;
                slice.good += is_good;
            }
        }
        let oks = gaps::acknowledged(input, |op| op.node as usize == index);
        NodeAvailability {
            name: name.clone(),
            counts,
            good,
            gap: longest_gap(&oks, window),
            slices,
        }
    };
    input.history.header.nodes.iter().enumerate().map(one).collect()
}

#[cfg(test)]
mod tests {
    use quorate_check::history::Outcome;

    use super::*;
    use crate::figures::sample::{MS, Sample, fail};

    #[test]
    fn each_server_is_judged_by_its_own_clients() {
        let mut sample = Sample::new(300);
        (0..30).for_each(|n| {
            sample.read(0, n * 10, 1000);
        });
        // n2 answers with conflicts, which is service; n3 is cut off after 100 ms.
        (0..10).for_each(|n| {
            fail(sample.update(1, n * 10, 1000), Outcome::Failed, "version_conflict");
        });
        sample.read(2, 50, 1000);
        fail(sample.update(2, 150, 1000), Outcome::Failed, "no_quorum");
        // Acknowledged, but later than a user waits.
        sample.update(2, 250, 1_000_001).done = Some(1251 * MS);
        let nodes = node_availability(&sample.input(), 100 * MS);
        let shares = |node: usize| -> Vec<Option<f64>> {
            nodes[node].slices.iter().map(Slice::share).collect()
        };
        assert_eq!(shares(0), [Some(1.0); 3]);
        assert_eq!(shares(1), [Some(1.0), None, None]);
        assert_eq!(shares(2), [Some(1.0), Some(0.0), Some(0.0)]);
        assert_eq!(nodes[0].gap.length(), 10 * MS);
        assert_eq!((nodes[2].gap.from, nodes[2].gap.to), (51 * MS, 300 * MS));
        assert_eq!((nodes[1].good, nodes[1].counts.failed), (10, 10));
    }
}
