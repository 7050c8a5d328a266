//! Times in which a server's disk synced nothing although something waited for it, by the server's
//! own count, or in which nobody so much as looked at it. What stands still there is the machine,
//! and all servers of a stage share it.
//! May not know what was expected.

use std::collections::BTreeMap;

use quorate_check::history::Nanos;
use serde::{Deserialize, Serialize};

use super::super::Window;
use super::super::resources::metric;
use crate::folder::NodeSample;

/// Shorter ones belong to disks.
const LEAST: Nanos = 1_000_000_000;

/// A disk that stood still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Whose.
    pub node: String,
    /// From the last look at which it had synced something new to the first at which it had again;
    /// or between two looks that are far apart.
    pub window: Window,
}

/// Every stall, by server.
pub(super) fn stalls(samples: &[NodeSample]) -> Vec<Stall> {
    let mut by_node: BTreeMap<&str, Vec<Look>> = BTreeMap::new();
    for sample in samples {
        by_node.entry(&sample.node).or_default().push(look(sample));
    }
    let of_node = |(node, mut looks): (&str, Vec<Look>)| {
        looks.sort_by_key(|look| look.at);
        let mut windows = unseen(&looks);
        // A server that runs and does not say in time how far it is ends no stall.
        looks.retain(|look| look.synced.is_some() || !look.runs);
        windows.extend(still(&looks));
        windows
            .into_iter()
            .map(|window| Stall { node: node.to_owned(), window })
            .collect::<Vec<_>>()
    };
    by_node.into_iter().flat_map(of_node).collect()
}

/// A sample, as far as it matters here.
struct Look {
    at: Nanos,
    /// Syncs since the start of the process; `None` if the server did not say.
    synced: Option<u64>,
    /// True if something waits for a sync.
    waiting: bool,
    /// Its process is there and goes on.
    runs: bool,
}

fn look(sample: &NodeSample) -> Look {
    Look {
        at: sample.at,
        synced: metric(sample, "quorate_fsync_seconds_count").map(|count| count as u64),
        waiting: metric(sample, "quorate_persist_queue").is_some_and(|batches| batches > 0.0),
        runs: sample.state == "running",
    }
}

/// Times without a look at a server that ran: whoever looks, several times a second, got no turn.
fn unseen(looks: &[Look]) -> Vec<Window> {
    let pairs = looks.windows(2).filter(|pair| pair.iter().all(|look| look.runs));
    let windows = pairs.map(|pair| Window { from: pair[0].at, to: pair[1].at });
    windows.filter(|window| window.length() >= LEAST).collect()
}

/// The stalls among the looks at one server, in order of time.
fn still(looks: &[Look]) -> Vec<Window> {
    let mut found = Vec::new();
    let mut first = 0;
    for same in looks.chunk_by(|one, next| one.synced == next.synced) {
        // The look behind them saw something new; behind the last ones there is none.
        let next = looks.get(first + same.len()).filter(|next| next.synced > same[0].synced);
        let last = next.or(same.last()).map_or(0, |look| look.at);
        let window = Window { from: same[0].at, to: last };
        let waited = same.iter().skip(1).any(|look| look.waiting);
        if same[0].synced.is_some() && waited && window.length() >= LEAST {
            found.push(window);
        }
        first += same.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn sample(at: Nanos, synced: Option<f64>, queue: f64) -> NodeSample {
        let counted = synced.map(|synced| ("quorate_fsync_seconds_count".to_owned(), synced));
        let waiting = ("quorate_persist_queue".to_owned(), queue);
        NodeSample {
            at: at * SECOND / 4,
            node: "n1".to_owned(),
            state: "running".to_owned(),
            cpu_seconds: 0.0,
            rss_bytes: 0,
            metrics: counted.into_iter().chain([waiting]).collect(),
        }
    }

    /// Whether each look at a quarter of a second shows these syncs and waiting batches.
    fn of(looks: &[(Option<f64>, f64)]) -> Vec<(Nanos, Nanos)> {
        let sampled = |(at, look): (usize, &(Option<f64>, f64))| sample(at as u64, look.0, look.1);
        let samples: Vec<NodeSample> = looks.iter().enumerate().map(sampled).collect();
        let window = |stall: &Stall| (stall.window.from * 4 / SECOND, stall.window.to * 4 / SECOND);
        stalls(&samples).iter().map(window).collect()
    }

    #[test]
    fn a_disk_that_syncs_nothing_for_a_second_stands_still() {
        let at = |synced: f64, queue: f64| (Some(synced), queue);
        let long = [at(5.0, 0.0), at(6.0, 2.0), at(6.0, 9.0), at(6.0, 9.0), at(6.0, 9.0)];
        // Until the look that sees it go on, or to the end.
        assert_eq!(of(&[&long[..], &[at(7.0, 0.0)]].concat()), [(1, 5)]);
        assert_eq!(of(&[&long[..], &[at(6.0, 9.0)]].concat()), [(1, 5)]);
        assert_eq!(of(&[&long[..4], &[at(7.0, 9.0), at(8.0, 0.0)]].concat()), []);
        // Nor does a look that the server leaves without an answer end it.
        let missed = [at(6.0, 1.0), at(6.0, 2.0), (None, 0.0), at(6.0, 2.0), at(6.0, 2.0)];
        assert_eq!(of(&[&missed[..], &[at(7.0, 0.0)]].concat()), [(0, 5)]);
    }

    #[test]
    fn where_nobody_looks_for_a_second_something_stands_still() {
        let looks = |state: &str| {
            let mut looks = [0, 1, 7, 8].map(|at| sample(at, Some(at as f64), 0.0));
            looks[2].state = state.to_owned();
            stalls(&looks).iter().map(|stall| stall.window.length()).collect::<Vec<_>>()
        };
        assert_eq!(looks("running"), [6 * SECOND / 4]);
        assert_eq!(looks("dead"), Vec::<Nanos>::new());
    }

    #[test]
    fn who_has_nothing_to_sync_or_begins_anew_does_not() {
        assert_eq!(of(&[(Some(6.0), 0.0); 9]), []);
        let restarted = [(Some(6.0), 3.0), (Some(6.0), 3.0), (None, 0.0), (Some(0.0), 3.0)];
        assert_eq!(of(&restarted), []);
        assert_eq!(of(&[(None, 3.0); 9]), []);
    }
}
