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
}

/// A cut of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cut {
    pub(crate) kind: CutKind,
    /// Directions of a silent cut; a closed one is always both.
    #[serde(default)]
    pub(crate) stream: Streams,
}

impl Cut {
    /// # Errors
    /// `Invalid` for a closed cut of one direction: a connection is closed or it is not.
    pub(crate) fn check(self) -> Result<(), Refusal> {
        if self.kind == CutKind::Closed && self.stream != Streams::Both {
            let problem = "a closed cut is always both directions";
            return Err(Refusal::Invalid(problem.to_owned()));
        }
        Ok(())
    }

    /// Whether bytes of a direction are held.
    pub(crate) fn silences(self, stream: Stream) -> bool {
        self.kind == CutKind::Silent && self.stream.covers(stream)
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
        assert!(serde_json::from_str::<Cut>(r#"{"kind":"silent","stream":"left"}"#).is_err());
        assert!(serde_json::from_str::<Delay>(r#"{"latency_us":5,"jiter_us":1}"#).is_err());
        let day_and_more = r#"{"latency_us":86400000001}"#;
        assert!(serde_json::from_str::<Delay>(day_and_more).unwrap().check().is_err());
    }
}
