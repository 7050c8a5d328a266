//! Gate files: which metrics a comparison must not find worse, within which margins.
//! May not compare anything.

use std::path::Path;

use super::load::{checked, typed};
use super::problem::{Problem, SpecError};
use super::raw::{RawBetter, RawGateFile};
use super::schema::FileKind;
use crate::compare::{Metric, Wanted};

/// Reads and checks a gate file.
///
/// # Errors
/// Everything wrong with it.
pub fn gate(path: &Path) -> Result<Vec<Wanted>, SpecError> {
    let tree = checked(path, FileKind::Gate)?;
    let raw: RawGateFile = typed(&tree)?;
    let mut problems = Vec::new();
    let mut gate: Vec<Wanted> = Vec::new();
    for (at, of) in raw.gate.into_iter().enumerate() {
        let mut refuse = |part: &str, what: String| {
            let key = format!("gate.{at}.{part}");
            problems.push(Problem { origin: tree.origin_of(&key), key, what });
        };
        if of.class.is_some() && of.metric.quantile().is_none() {
            refuse("class", "latencies alone have classes: p50, p99, p999".to_owned());
        }
        let metric = Metric { kind: of.metric, class: of.class };
        if gate.iter().any(|known| known.metric == metric) {
            refuse("metric", format!("`{metric}` is in the gate already"));
        }
        let is_more_better = of.better.map(|better| better == RawBetter::More);
        gate.push(Wanted {
            margin: of.margin.unwrap_or(metric.kind.margin()),
            is_more_better: is_more_better.unwrap_or(metric.kind.is_more_better()),
            metric,
        });
    }
    if problems.is_empty() { Ok(gate) } else { Err(SpecError::Invalid(problems)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Kind;

    fn read(text: &str) -> Result<Vec<Wanted>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gate.yaml");
        std::fs::write(&path, text).unwrap();
        gate(&path).map_err(|error| error.to_string())
    }

    /// FEATURES: H9
    #[test]
    fn a_gate_has_defaults_for_what_it_does_not_say() {
        let found = read(
            "gate:\n- { metric: throughput }\n- { metric: p99, class: update, margin: 0.2 }\n\
             - { metric: cpu-per-write, better: more }\n",
        );
        let found = found.unwrap();
        assert_eq!(found[0], Metric::from(Kind::Throughput).into());
        assert!(found[0].is_more_better && (found[0].margin - 0.05).abs() < 1e-12);
        assert_eq!(found[1].metric.to_string(), "p99, update");
        assert!(!found[1].is_more_better && (found[1].margin - 0.2).abs() < 1e-12);
        assert!(found[2].is_more_better);
    }

    /// FEATURES: H9
    #[test]
    fn what_is_wrong_is_named_with_its_line_and_a_hint() {
        for (text, wanted) in [
            ("gate:\n- metric: p98\n", "gate.yaml:2: gate.0.metric: `p98` is not legal here;"),
            ("gate:\n- metric: p99\n  margn: 1\n", "gate.yaml:3: gate.0.margn: unknown key"),
            ("gate:\n- metric: p99\n  margin: -1\n", "gate.yaml:3: gate.0.margin: `-1`"),
            ("gate:\n- metric: p99\n  margin: five\n", "gate.yaml:3: gate.0.margin: `five`"),
            ("gate: []\n", "gate.yaml:1: gate: an empty list is not legal here"),
            ("{}\n", "missing key `gate`"),
            (
                "gate:\n- metric: refused\n  class: update\n",
                "gate.yaml:3: gate.0.class: latencies alone have classes",
            ),
            (
                "gate:\n- metric: p99\n- metric: p99\n",
                "gate.yaml:3: gate.1.metric: `p99` is in the gate already",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
