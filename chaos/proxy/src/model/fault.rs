//! Faults beyond the original's: cuts and delays of a link.
//! Values and checks only; the extension's request bodies are made of these.

use serde::{Deserialize, Serialize};

use super::{DURATION_MS_MAX, Refusal, Stream};

/// Which directions of a link a fault is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Streams {
    /// Client to node only.
    Upstream,
    /// Node to client only.
    Downstream,
    /// Both directions.
    #[default]
    Both,
}

impl Streams {
    /// Whether it takes in one direction.
    pub(crate) fn covers(self, stream: Stream) -> bool {
        match self {
            Self::Both => true,
            Self::Upstream => stream == Stream::Upstream,
            Self::Downstream => stream == Stream::Downstream,
        }
    }
}

/// The kinds of cut, which end users see differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CutKind {
    /// A black hole: nothing arrives, connections stay, everything is delivered after the heal.
    Silent,
    /// A crash seen from outside: connections are reset, new ones refused.
    Closed,
    /// Who sends in the direction sees a black hole, who receives in it sees a crash.
    #[serde(rename = "half_open")]
    HalfOpen,
}

/// A cut of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cut {
    pub(crate) kind: CutKind,
    /// Directions of a silent cut; a closed one is always both, a half-open one never.
    #[serde(default)]
    pub(crate) stream: Streams,
}

impl Cut {
    /// # Errors
    /// `Invalid` for a closed cut of one direction, as a connection is closed or it is not, and
    /// for a half-open one of both, as then nobody would be left to keep it open.
    pub(crate) fn check(self) -> Result<(), Refusal> {
        let problem = match (self.kind, self.stream) {
            (CutKind::Closed, Streams::Upstream | Streams::Downstream) => {
                "a closed cut is always both directions"
            }
            (CutKind::HalfOpen, Streams::Both) => {
                "a half-open cut needs `stream`, upstream or downstream: whose sender stays"
            }
            (CutKind::Silent, _)
            | (CutKind::Closed, Streams::Both)
            | (CutKind::HalfOpen, Streams::Upstream | Streams::Downstream) => return Ok(()),
        };
        Err(Refusal::Invalid(problem.to_owned()))
    }

    /// Whether bytes of a direction are held.
    pub(crate) fn silences(self, stream: Stream) -> bool {
        match self.kind {
            CutKind::Silent => self.stream.covers(stream),
            CutKind::HalfOpen => true,
            CutKind::Closed => false,
        }
    }

    /// Whether new connections are refused: the client sees a crash.
    pub(crate) fn refuses(self) -> bool {
        match self.kind {
            CutKind::Silent => false,
            CutKind::Closed => true,
            CutKind::HalfOpen => self.stream == Streams::Downstream,
        }
    }

    /// The direction whose sender keeps its end of every connection, of a half-open cut.
    pub(crate) fn keeps(self) -> Option<Stream> {
        match (self.kind, self.stream) {
            (CutKind::HalfOpen, Streams::Upstream) => Some(Stream::Upstream),
            (CutKind::HalfOpen, Streams::Downstream) => Some(Stream::Downstream),
            (CutKind::HalfOpen, Streams::Both) | (CutKind::Silent | CutKind::Closed, _) => None,
        }
    }
}

/// Shape of the jitter round a delay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Distribution {
    /// Evenly from `latency - jitter` to `latency + jitter`.
    #[default]
    Uniform,
    /// Bell curve round `latency` with standard deviation `jitter`; never below zero.
    Normal,
    /// From `latency` up with a heavy tail of scale `jitter`, bounded.
    Pareto,
}

/// A delay of a link in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delay {
    pub(crate) latency_us: u64,
    #[serde(default)]
    pub(crate) jitter_us: u64,
    #[serde(default)]
    pub(crate) distribution: Distribution,
    #[serde(default)]
    pub(crate) stream: Streams,
}

impl Delay {
    /// # Errors
    /// `Invalid` when longer than a day.
    pub(crate) fn check(self) -> Result<(), Refusal> {
        if self.latency_us.max(self.jitter_us) > DURATION_MS_MAX * 1_000 {
            return Err(Refusal::Invalid("delay is longer than a day".to_owned()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_and_delays_are_checked() {
        let cut: Cut = serde_json::from_str(r#"{"kind":"silent"}"#).unwrap();
        assert!(cut.check().is_ok() && cut.silences(Stream::Upstream));
        let cut: Cut = serde_json::from_str(r#"{"kind":"closed","stream":"upstream"}"#).unwrap();
        assert!(cut.check().is_err());
        let half = |stream: &str| {
            let text = format!(r#"{{"kind":"half_open","stream":"{stream}"}}"#);
            serde_json::from_str::<Cut>(&text).unwrap()
        };
        assert!(half("both").check().is_err() && half("upstream").check().is_ok());
        assert!(half("downstream").refuses() && !half("upstream").refuses());
        assert!(half("upstream").silences(Stream::Downstream), "nothing passes either way");
        assert!(serde_json::from_str::<Cut>(r#"{"kind":"silent","stream":"left"}"#).is_err());
        assert!(serde_json::from_str::<Delay>(r#"{"latency_us":5,"jiter_us":1}"#).is_err());
        let day_and_more = r#"{"latency_us":86400000001}"#;
        assert!(serde_json::from_str::<Delay>(day_and_more).unwrap().check().is_err());
    }
}
