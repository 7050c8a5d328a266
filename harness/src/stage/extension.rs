//! What only the project's own proxy can do: cuts and fine delays on many links in one step,
//! counters of links, and a lease without which every rule falls.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::StageError;
use super::proxy_client::ProxyClient;
use crate::plan::DelayDistribution;

/// Version of the extension that this client speaks.
const VERSION: &str = "v1";

/// Which proxy it is.
#[derive(Debug, Clone, Deserialize)]
pub struct Info {
    /// Version of the extension.
    pub extension: String,
    /// Version of the proxy.
    pub version: String,
    /// Its commit.
    pub commit: String,
}

/// How a link is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CutKind {
    /// Bytes are held, connections stay.
    Silent,
    /// The sender's end of the direction stays, the receiver's is reset.
    #[serde(rename = "half_open")]
    HalfOpen,
    /// Connections are reset and refused.
    Closed,
}

/// Directions of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Streams {
    /// From the dialler to the dialled.
    Upstream,
    /// Back.
    Downstream,
    /// Both.
    #[default]
    Both,
}

/// A cut of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// How.
    pub kind: CutKind,
    /// Which directions; a closed one is always both, a half-open one never.
    #[serde(default)]
    pub stream: Streams,
}

impl Cut {
    /// What two faults at once come to. A closed cut hides all others, and is what two half-open
    /// ones come to that keep different ends.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match self.kind.cmp(&other.kind) {
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Equal if self.stream == other.stream => self,
            std::cmp::Ordering::Equal => {
                let half_open = self.kind == CutKind::HalfOpen;
                let kind = if half_open { CutKind::Closed } else { self.kind };
                Self { kind, stream: Streams::Both }
            }
        }
    }
}

/// A delay of both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    /// Microseconds one way.
    pub latency_us: u64,
    /// How much it varies.
    pub jitter_us: u64,
    /// How it varies.
    #[serde(default)]
    pub distribution: DelayDistribution,
}

/// A change of some links, part of a step.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RuleChange {
    /// Names of the links.
    pub links: Vec<String>,
    /// Absent: as it is; null: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<Option<Cut>>,
    /// Absent: as it is; null: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Option<Delay>>,
}

/// When a step took effect.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Effective {
    /// `CLOCK_MONOTONIC` in microseconds.
    pub monotonic_us: u64,
    /// False when connections that had to end had not ended yet.
    pub settled: bool,
}

/// A link with its rules and counters.
#[derive(Debug, Clone, Deserialize)]
pub struct LinkState {
    /// Whether it may listen at all.
    pub enabled: bool,
    /// Whether it listens now.
    pub listening: bool,
    /// Its cut.
    pub cut: Option<Cut>,
    /// Its delays.
    pub delays: PerStream<Option<Delay>>,
    /// Connections.
    pub connections: Connections,
    /// Bytes.
    pub bytes: PerStream<Bytes>,
}

/// One thing for each direction.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct PerStream<T> {
    /// From the dialler to the dialled.
    pub upstream: T,
    /// Back.
    pub downstream: T,
}

/// Connections of a link.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Connections {
    /// Accepted so far.
    pub accepted: u64,
    /// Open now, waiting ones included.
    pub open: u64,
    /// Accepted, and held back by a silent cut.
    pub waiting: u64,
    /// Ends that a half-open cut keeps, not among those open.
    #[serde(default)]
    pub half_open: u64,
    /// Accepted, then reset without having reached the server.
    pub refused: u64,
    /// Ended by a reset.
    pub reset: u64,
}

/// Bytes of one direction.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Bytes {
    /// Read from the sender.
    pub received_bytes: u64,
    /// Written to the receiver.
    pub delivered_bytes: u64,
    /// Thrown away.
    pub discarded_bytes: u64,
    /// Received, neither delivered nor discarded.
    pub held_bytes: u64,
}

#[derive(Deserialize)]
struct Links {
    links: BTreeMap<String, LinkState>,
}

#[derive(Serialize)]
struct Step<'a> {
    changes: &'a [RuleChange],
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<&'a Lease>,
}

#[derive(Deserialize)]
struct Applied {
    effective: Effective,
}

#[derive(Deserialize)]
struct LeaseView {
    expired: u64,
}

/// A lease on every fault.
#[derive(Debug, Clone, Serialize)]
pub struct Lease {
    /// Who holds it.
    pub holder: String,
    /// How long it lasts without being renewed.
    pub ttl_ms: u64,
    /// `all`: standard toxics too.
    pub covers: &'static str,
}

impl ProxyClient {
    /// Which proxy it is; `None` when it does not know the extension, as Toxiproxy does not.
    ///
    /// # Errors
    /// When it does not answer, or speaks another version of the extension.
    pub async fn info(&self) -> Result<Option<Info>, StageError> {
        let path = "/quorate/v1/info";
        let info: Info = match self.json(Method::GET, path, None::<&()>).await {
            Err(StageError::ProxyRefused { status, .. })
                if status == StatusCode::NOT_FOUND.as_u16() =>
            {
                return Ok(None);
            }
            answer => answer?,
        };
        if info.extension == VERSION {
            return Ok(Some(info));
        }
        let reason = format!("it speaks {}, this harness {VERSION}", info.extension);
        Err(StageError::ProxyUnexpected { request: format!("GET {path}"), reason })
    }

    /// State and counters of every link.
    ///
    /// # Errors
    /// When the proxy does not answer as it should; so below.
    pub async fn links(&self) -> Result<BTreeMap<String, LinkState>, StageError> {
        let answer: Links = self.json(Method::GET, "/quorate/v1/links", None::<&()>).await?;
        Ok(answer.links)
    }

    /// Changes many links in one step, under the lease.
    ///
    /// # Errors
    /// When nothing was changed.
    pub async fn step(
        &self,
        changes: &[RuleChange],
        lease: &Lease,
    ) -> Result<Effective, StageError> {
        let step = Step { changes, lease: Some(lease) };
        let applied: Applied = self.json(Method::POST, "/quorate/v1/rules", Some(&step)).await?;
        Ok(applied.effective)
    }

    /// How often a lease ran out since the proxy was started.
    ///
    /// # Errors
    /// When the proxy does not answer as it should.
    pub async fn leases_expired(&self) -> Result<u64, StageError> {
        let view: LeaseView = self.json(Method::GET, "/quorate/v1/lease", None::<&()>).await?;
        Ok(view.expired)
    }

    /// Takes or renews the lease.
    ///
    /// # Errors
    /// When somebody else holds it.
    pub async fn renew(&self, lease: &Lease) -> Result<(), StageError> {
        self.call(Method::PUT, "/quorate/v1/lease", Some(lease)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cut_is_not_the_same_as_an_unchanged_cut() {
        let links = vec!["n1->n2".to_string()];
        let change = RuleChange { links, cut: Some(None), delay: None };
        let json = serde_json::to_string(&change).unwrap();
        assert_eq!(json, r#"{"links":["n1->n2"],"cut":null}"#);
    }
}
