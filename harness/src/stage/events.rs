//! How a stage sees the events that faults wait for: servers are asked, past every proxy, again and
//! again. What is done then is `crate::fault`'s business.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cluster::Cluster;
use super::node_api;
use crate::fault::Happened;
use crate::plan::{Event, ServerState};

/// Time between two looks, which is how late an event may be seen beside the answer's own time.
const LOOK: Duration = Duration::from_millis(20);
/// Longest wait for one answer: a server that stands still must not hide what the others say.
const ANSWER: Duration = Duration::from_millis(250);
/// Transactions that a server committed as their coordinator in this life of it, in parts.
const COMMITTED: [&str; 2] = ["quorate_one_round_commits_total", "quorate_two_round_commits_total"];

impl Cluster {
    /// Looks until the event has happened.
    pub(super) async fn await_event(&self, event: &Event) -> Happened {
        match event {
            Event::State { server, state } => self.await_state(server, *state).await,
            Event::Committed { count } => self.await_committed(*count).await,
            // The schedule knows of heals; here nobody would ever see one.
            Event::Healed { .. } => std::future::pending().await,
        }
    }

    async fn await_state(&self, server: &str, wanted: ServerState) -> Happened {
        loop {
            let running = self.nodes.iter().find(|node| node.name() == server);
            if let Some(life) = running.and_then(super::node::Node::running)
                && let Ok(state) = node_api::state(life.said.http, ANSWER).await
                && state == wanted.word()
            {
                let evidence = format!("{server} said {state}");
                return Happened { at: self.clock.now(), evidence };
            }
            // Nobody tells; the server is asked.
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn await_committed(&self, wanted: u64) -> Happened {
        let mut tally = Tally::default();
        loop {
            for node in self.nodes.iter().filter(|node| !node.joins()) {
                if let Some(life) = node.running()
                    && let Ok(metrics) = node_api::metrics(life.said.http, ANSWER).await
                {
                    let count = COMMITTED.iter().filter_map(|name| metrics.get(*name)).sum();
                    tally.heard(node.name(), life.said.boot, count);
                }
            }
            if let Some(count) = tally.reached(wanted) {
                let evidence = format!("{count} transactions were committed");
                return Happened { at: self.clock.now(), evidence };
            }
            // As above.
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What servers counted since they were first asked, over all their lives. Never too much: what
/// one counted between the last look and its end is lost.
#[derive(Debug, Default)]
struct Tally {
    /// By server: its boot and count at the last look.
    last: BTreeMap<String, (u64, f64)>,
    sum: f64,
}

impl Tally {
    fn heard(&mut self, server: &str, boot: u64, count: f64) {
        let before = self.last.insert(server.to_string(), (boot, count));
        self.sum += match before {
            Some((same, before)) if same == boot => (count - before).max(0.0),
            // A new life counts from nothing.
            Some(_) => count,
            None => 0.0,
        };
    }

    /// How many there are, if enough.
    fn reached(&self, wanted: u64) -> Option<u64> {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a sum of counts"
        )]
        let sum = self.sum as u64;
        (sum >= wanted).then_some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_count_from_the_first_look_on_and_over_their_lives() {
        let mut tally = Tally::default();
        tally.heard("n1", 1, 1_000.0);
        tally.heard("n2", 1, 500.0);
        assert_eq!(tally.reached(1), None);
        tally.heard("n1", 1, 1_004.0);
        assert_eq!((tally.reached(4), tally.reached(5)), (Some(4), None));
        tally.heard("n2", 2, 3.0);
        tally.heard("n2", 2, 3.0);
        assert_eq!((tally.reached(7), tally.reached(8)), (Some(7), None));
    }
}
