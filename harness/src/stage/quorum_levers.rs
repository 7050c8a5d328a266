//! How the process stage gives the database under test another write quorum while it is used.
//! Which one, and when, is decided elsewhere.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::StageError;
use super::cluster::Cluster;
use super::node::Node;
use super::node_api::{configuration, metrics, reconfigure};
use crate::fault::{Effect, Until};

/// Longest wait for one answer of one server: one that stands still must not hold up the others.
const ANSWER: Duration = Duration::from_secs(1);
/// Time between two rounds through the servers.
const ROUND: Duration = Duration::from_millis(5);
/// Clusters on their way to another generation, as a server knows it.
const CHANGING: &str = "quorate_clusters_changing";

impl Cluster {
    /// Asks one server after the other until one has changed it; proven once a majority of the
    /// MASTERs, and nobody who answers otherwise, shows it with no cluster still on its way.
    pub(super) async fn set_write_quorum(
        &self,
        until: &Until<'_>,
        quorum: &str,
    ) -> Result<Effect, StageError> {
        let quorum = quorum.parse::<u64>().map_or_else(|_| Value::from(quorum), Value::from);
        let deadline = until.deadline();
        let asked = loop {
            let (changed, told) = self.ask_for_quorum(&quorum).await;
            if changed {
                break told;
            }
            if Instant::now() >= deadline {
                // A database that does not take it is a result, not a failure of the harness.
                let evidence = format!("write quorum {quorum} was not taken: {told}");
                return Ok(Effect { acknowledged: self.clock.now(), proven: None, evidence });
            }
            // Nobody tells when a change on its way is done; the servers are asked.
            tokio::time::sleep(ROUND).await;
        };
        let acknowledged = self.clock.now();
        loop {
            let (entered, shown) = self.show_quorum(&quorum).await;
            let proven = entered.then(|| self.clock.now());
            if proven.is_some() || Instant::now() >= deadline {
                let evidence = format!("{asked}; {shown}");
                return Ok(Effect { acknowledged, proven, evidence });
            }
            // As above.
            tokio::time::sleep(ROUND).await;
        }
    }

    /// REPLICAs count for no quorum.
    fn masters(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| !node.joins())
    }

    /// True once a server has it, with what was said.
    async fn ask_for_quorum(&self, quorum: &Value) -> (bool, String) {
        let mut said = Vec::new();
        for (name, direct) in self.masters().filter_map(running) {
            match self.put_quorum(direct, quorum).await {
                Ok(version) => return (true, format!("{name}: version {version}")),
                Err(reason) => said.push(format!("{name}: {reason}")),
            }
        }
        (false, said.join("; "))
    }

    /// The version with which one server has it.
    async fn put_quorum(&self, direct: SocketAddr, quorum: &Value) -> Result<Value, String> {
        let password = self.options.password();
        let document = configuration(direct, password, ANSWER).await;
        let mut document = document.map_err(|error| error.to_string())?;
        // Put even if it reads so: a server that was away may show what was.
        document["writeQuorum"] = quorum.clone();
        let reply = reconfigure(direct, password, &document, ANSWER).await;
        let reply = reply.map_err(|error| error.to_string())?;
        if !reply.status.is_success() {
            return Err(format!("{} {}", reply.status, reply.text()));
        }
        let mut document: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        Ok(document["version"].take())
    }

    /// True once a majority has entered it and nobody who answers has not.
    async fn show_quorum(&self, quorum: &Value) -> (bool, String) {
        let password = self.options.password();
        let mut entered = 0;
        let mut evidence = Vec::new();
        for (name, direct) in self.masters().filter_map(running) {
            // The document first: with it come the clusters that are on their way.
            let Ok(document) = configuration(direct, password, ANSWER).await else {
                evidence.push(format!("{name}: no answer"));
                continue;
            };
            let Ok(metrics) = metrics(direct, ANSWER).await else { continue };
            let (shown, changing) = (&document["writeQuorum"], metrics.get(CHANGING));
            if shown != quorum || changing.is_none_or(|changing| *changing > 0.0) {
                return (false, format!("{name}: {shown}, {changing:?} clusters changing"));
            }
            entered += 1;
            evidence.push(format!("{name}: {shown}, no cluster changing"));
        }
        (entered > self.masters().count() / 2, evidence.join("; "))
    }
}

fn running(node: &Node) -> Option<(&str, SocketAddr)> {
    node.running().map(|life| (node.name(), life.said.http))
}
