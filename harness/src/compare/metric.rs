//! What runs are compared by: names, which way is good, how two values are set against each other,
//! and the margins within which a difference is none. May not know where values come from.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of figure. Lower is better in all of them but throughput.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Acknowledged operations per second.
    Throughput,
    /// Median time from the intended start until acknowledged, milliseconds. What was never
    /// answered took for ever.
    P50,
    /// The same of 99 %.
    P99,
    /// The same of 99.9 %.
    P999,
    /// Share of operations that were refused, without answers that belong to the workload.
    Refused,
    /// Share of operations whose outcome is unknown.
    Unknown,
    /// Unavailability per fault: mean over the faults of a run, seconds.
    Unavailable,
    /// Time from the heal of a fault until service was good again, seconds.
    Recovery,
    /// Processor time of all servers per acknowledged write, microseconds.
    CpuPerWrite,
    /// Bytes that servers sent each other per acknowledged write.
    WirePerWrite,
    /// The largest resident memory of any server, MiB.
    MemoryPeak,
}

impl Kind {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 11] = [
        Self::Throughput,
        Self::P50,
        Self::P99,
        Self::P999,
        Self::Refused,
        Self::Unknown,
        Self::Unavailable,
        Self::Recovery,
        Self::CpuPerWrite,
        Self::WirePerWrite,
        Self::MemoryPeak,
    ];

    /// The quantile, of a latency.
    #[must_use]
    pub fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P99 => Some(0.99),
            Self::P999 => Some(0.999),
            Self::Throughput
            | Self::Refused
            | Self::Unknown
            | Self::Unavailable
            | Self::Recovery
            | Self::CpuPerWrite
            | Self::WirePerWrite
            | Self::MemoryPeak => None,
        }
    }

    /// How two values are set against each other.
    #[must_use]
    pub fn scale(self) -> Scale {
        match self {
            // Nothing is a good value of these, and nothing has no ratio.
            Self::Refused | Self::Unknown | Self::Unavailable | Self::Recovery => Scale::Difference,
            Self::Throughput
            | Self::P50
            | Self::P99
            | Self::P999
            | Self::CpuPerWrite
            | Self::WirePerWrite
            | Self::MemoryPeak => Scale::Ratio,
        }
    }

    /// True where more is better.
    #[must_use]
    pub fn is_more_better(self) -> bool {
        self == Self::Throughput
    }

    /// The margin that counts where nobody names one: a share of a ratio, else in the unit.
    #[must_use]
    pub fn margin(self) -> f64 {
        match self {
            Self::Throughput | Self::CpuPerWrite | Self::WirePerWrite => 0.05,
            Self::P50 | Self::P99 | Self::MemoryPeak => 0.1,
            Self::P999 => 0.2,
            Self::Refused | Self::Unknown => 0.001,
            Self::Unavailable => 0.1,
            Self::Recovery => 0.5,
        }
    }

    /// What follows a value.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Self::Throughput => "/s",
            Self::P50 | Self::P99 | Self::P999 => " ms",
            Self::Refused | Self::Unknown => " %",
            Self::Unavailable | Self::Recovery => " s",
            Self::CpuPerWrite => " µs",
            Self::WirePerWrite => " B",
            Self::MemoryPeak => " MiB",
        }
    }

    /// A value in its unit; shares in per cent.
    #[must_use]
    pub fn told(self, value: f64) -> String {
        let shown = match self {
            Self::Refused | Self::Unknown => value * 100.0,
            Self::Throughput
            | Self::P50
            | Self::P99
            | Self::P999
            | Self::Unavailable
            | Self::Recovery
            | Self::CpuPerWrite
            | Self::WirePerWrite
            | Self::MemoryPeak => value,
        };
        let digits = match shown.abs() {
            size if size >= 99.95 => 0,
            size if size >= 9.995 => 1,
            size if size >= 0.0995 || size == 0.0 => 2,
            _ => 4,
        };
        format!("{shown:.digits$}{}", self.unit()).replace('-', "−")
    }

    fn word(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Refused => "refused",
            Self::Unknown => "unknown outcome",
            Self::Unavailable => "unavailable per fault",
            Self::Recovery => "recovery after heal",
            Self::CpuPerWrite => "CPU per write",
            Self::WirePerWrite => "wire per write",
            Self::MemoryPeak => "memory peak",
        }
    }
}

/// How two values are set against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// B divided by A; effects are natural logarithms of it.
    Ratio,
    /// B less A, in the unit.
    Difference,
}

impl Scale {
    /// A value on the scale on which effects are differences; `None` of what has no place there.
    #[must_use]
    pub fn place(self, value: f64) -> Option<f64> {
        match self {
            Self::Ratio => (value > 0.0).then(|| value.ln()),
            Self::Difference => Some(value),
        }
    }

    /// A margin as an effect. That of a ratio reaches from 1 / (1 + margin) to 1 + margin.
    #[must_use]
    pub fn margin(self, margin: f64) -> f64 {
        match self {
            Self::Ratio => margin.ln_1p(),
            Self::Difference => margin,
        }
    }

    /// An effect as people read it: a ratio, or a difference in the unit.
    #[must_use]
    pub fn shown(self, effect: f64) -> f64 {
        match self {
            Self::Ratio => effect.exp(),
            Self::Difference => effect,
        }
    }
}

/// A kind of figure, of all operations or of one class of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Metric {
    /// Which figure.
    pub kind: Kind,
    /// Of which class of operations; `None`: of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
}

impl From<Kind> for Metric {
    fn from(kind: Kind) -> Self {
        Self { kind, class: None }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.word())?;
        match &self.class {
            Some(class) => write!(f, ", {class}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_margin_of_a_ratio_is_as_far_below_one_as_above() {
        let margin = Scale::Ratio.margin(0.25);
        assert!((Scale::Ratio.shown(margin) - 1.25).abs() < 1e-12);
        assert!((Scale::Ratio.shown(-margin) - 0.8).abs() < 1e-12);
        assert_eq!(Scale::Ratio.place(0.0), None);
        assert_eq!(Scale::Difference.place(0.0), Some(0.0));
    }

    #[test]
    fn values_have_their_unit() {
        assert_eq!(Kind::P99.told(12.345), "12.3 ms");
        assert_eq!(Kind::Refused.told(0.0015), "0.15 %");
        assert_eq!(Kind::Throughput.told(1234.5), "1234/s");
        assert_eq!(Kind::Unavailable.told(-0.25), "−0.25 s");
        let of = Metric { kind: Kind::P999, class: Some("update".to_owned()) };
        assert_eq!(of.to_string(), "p99.9, update");
    }
}
