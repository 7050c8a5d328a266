//! Verdicts on a run folder: safety from the checkers against what the plan expects, availability
//! against quorum arithmetic, measurement from the soundness findings.
//! Works on any run folder, also long after the run.
//! May not draw reports or know how the run was made.

use std::path::Path;

use quorate_check::expect::{Comparison, Expectations, Mismatch};
use quorate_check::verdict::{Report, Verdict};
use quorate_check::{Options, UnknownChecker, check_all, format};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RunError;
use crate::figures::{Availability, Input, availability, doubt};
use crate::folder::{RunFolder, SoundnessFinding};
use crate::plan::{PLAN_FORMAT, PLAN_FORMATS, Plan};
use crate::report::{self, Marks};

/// All verdicts on a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// What the checkers say.
    pub report: Report,
    /// How that compares with what the plan expects.
    pub comparison: Comparison,
    /// Whether what had to be served or refused was.
    pub availability: Availability,
    /// What makes the figures doubtful.
    pub findings: Vec<SoundnessFinding>,
    /// What was odd about the history file, a sentence each.
    pub notes: Vec<String>,
}

impl Judged {
    /// The findings that make the run unsound.
    pub fn unsound(&self) -> impl Iterator<Item = &SoundnessFinding> {
        self.findings.iter().filter(|finding| finding.fatal)
    }

    /// True if the servers behaved as expected and nothing but a late driver spoils the figures,
    /// while the host withheld CPU time: the same run may be sound at another moment. A driver that
    /// is late on a host that withheld nothing is asked for too much, and stays so.
    pub fn is_spoilt_by_host(&self) -> bool {
        let withheld =
            self.findings.iter().any(|finding| finding.code == SoundnessFinding::HOST_WITHHELD_CPU);
        let mut unsound = self.unsound().peekable();
        self.comparison.verdict == Verdict::Valid
            && self.availability.verdict != Verdict::Violated
            && withheld
            && unsound.peek().is_some()
            && unsound.all(|finding| finding.code == SoundnessFinding::DRIVER_SATURATED)
    }
}

/// Judges the history of a run folder and writes `verdicts.json`.
///
/// # Errors
/// When a file is missing, malformed or of another format version.
pub fn judge(folder: &RunFolder) -> Result<Judged, RunError> {
    let plan = read_plan(folder)?;
    let findings = if folder.soundness().exists() {
        read_json(&folder.soundness())?
    } else {
        // A run that did not get to its end says nothing about its own measurement.
        let detail = "the run ended before its figures were looked at".to_owned();
        vec![SoundnessFinding { code: "crashed".to_owned(), fatal: true, detail }]
    };
    let reading = format::read_path(folder.history())?;
    let report = check_all(&reading.history, &Options::default());
    let (report, comparison) = with_invariants(report, &plan, &findings)?;
    write_json(&folder.verdicts(), &report)?;
    let availability = match report::marks(folder) {
        Ok(Marks { phases, faults, samples }) => {
            let (history, plan) = (&reading.history, &plan);
            let input = Input { history, plan, phases: &phases, faults: &faults };
            availability(&input, &samples, doubt(&findings))
        }
        // What these files say is not needed for the verdict on safety.
        Err(error) => Availability::unknown(error.to_string()),
    };
    let notes = reading.notes.iter().map(ToString::to_string).collect();
    Ok(Judged { report, comparison, availability, findings, notes })
}

/// The report against the plan; a rule that the simulator saw broken is a violation whatever the
/// clients saw, and no plan expects one.
fn with_invariants(
    mut report: Report,
    plan: &Plan,
    findings: &[SoundnessFinding],
) -> Result<(Report, Comparison), UnknownChecker> {
    let mut comparison = compare(&report, plan)?;
    if findings.iter().any(|finding| finding.code == SoundnessFinding::INVARIANT_BROKEN) {
        report.verdict = Verdict::Violated;
        comparison.verdict = Verdict::Violated;
    }
    Ok((report, comparison))
}

/// Compares with the plan's expectations, where unknown stands for any verdict.
fn compare(report: &Report, plan: &Plan) -> Result<Comparison, UnknownChecker> {
    let expected = plan.expect.iter().map(|(name, verdict)| Ok((name.parse()?, *verdict)));
    let expectations = Expectations(expected.collect::<Result<_, UnknownChecker>>()?);
    let accepted = |mismatch: &Mismatch| {
        mismatch.found.is_some_and(|found| plan.accepts(mismatch.checker.name(), found))
    };
    let mut comparison = expectations.compare(report);
    comparison.mismatches.retain(|mismatch| !accepted(mismatch));
    let weight = |mismatch: &Mismatch| match mismatch.is_inconclusive() {
        true => Verdict::Unknown,
        false => Verdict::Violated,
    };
    let weights = comparison.mismatches.iter().map(weight);
    comparison.verdict = weights.fold(Verdict::Valid, Verdict::merge);
    Ok(comparison)
}

/// The plan of a run folder.
///
/// # Errors
/// When there is none, or it has another format version.
pub fn read_plan(folder: &RunFolder) -> Result<Plan, RunError> {
    let path = folder.plan();
    let json: serde_json::Value = read_json(&path)?;
    let found = json.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if u32::try_from(found).map_or(true, |found| !PLAN_FORMATS.contains(&found)) {
        return Err(RunError::Version { path, found, known: PLAN_FORMAT });
    }
    serde_json::from_value(json).map_err(RunError::json(&path))
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RunError> {
    let text = std::fs::read_to_string(path).map_err(RunError::file(path))?;
    serde_json::from_str(&text).map_err(RunError::json(path))
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), RunError> {
    let mut text = serde_json::to_string_pretty(value).map_err(RunError::json(path))?;
    text.push('\n');
    std::fs::write(path, text).map_err(RunError::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Expected;
    use quorate_check::{Checker, Judgement};

    fn report(verdicts: &[(Checker, Verdict)]) -> Report {
        let judgement = |(checker, verdict): &(Checker, Verdict)| {
            let json = serde_json::json!({
                "name": checker, "verdict": verdict, "counts": {}, "explanation": "",
            });
            serde_json::from_value::<Judgement>(json).unwrap()
        };
        Report::new(verdicts.iter().map(judgement).collect())
    }

    fn expecting(expect: &str) -> Plan {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.yaml");
        std::fs::write(&path, format!("name: x\nexpect: {expect}\n")).unwrap();
        let spec = crate::spec::workload(&path, &crate::spec::Overrides::default()).unwrap();
        crate::plan::build(&spec, 1).unwrap()
    }

    #[test]
    fn a_rule_that_the_simulator_saw_broken_is_a_violation() {
        let plan = expecting("{}");
        let found = |code: &str| {
            let report = report(&[(Checker::Linearizable, Verdict::Valid)]);
            let detail = "one outcome: two of them".to_owned();
            let findings = [SoundnessFinding { code: code.to_owned(), fatal: true, detail }];
            let (report, comparison) = with_invariants(report, &plan, &findings).unwrap();
            (report.verdict, comparison.verdict)
        };
        let broken = found(SoundnessFinding::INVARIANT_BROKEN);
        assert_eq!(broken, (Verdict::Violated, Verdict::Violated));
        let late = found(SoundnessFinding::DRIVER_SATURATED);
        assert_eq!(late, (Verdict::Valid, Verdict::Valid));
    }

    #[test]
    fn any_forgives_and_an_expected_violation_must_be_found() {
        let found = report(&[
            (Checker::AcknowledgedDurable, Verdict::Violated),
            (Checker::Linearizable, Verdict::Violated),
        ]);
        for (expect, verdict) in [
            ("{}", Verdict::Violated),
            ("{ acknowledged-durable: violated }", Verdict::Violated),
            ("{ acknowledged-durable: violated, linearizable: any }", Verdict::Valid),
            ("{ acknowledged-durable: any, linearizable: any }", Verdict::Valid),
            (
                "{ acknowledged-durable: any, linearizable: any, convergence: violated }",
                Verdict::Violated,
            ),
        ] {
            assert_eq!(compare(&found, &expecting(expect)).unwrap().verdict, verdict, "{expect}");
        }
    }

    #[test]
    fn a_late_driver_is_the_hosts_doing_only_where_the_host_withheld_cpu() {
        let finding = |(code, fatal): &(&str, bool)| SoundnessFinding {
            code: (*code).to_owned(),
            fatal: *fatal,
            detail: String::new(),
        };
        let late = (SoundnessFinding::DRIVER_SATURATED, true);
        let withheld = (SoundnessFinding::HOST_WITHHELD_CPU, false);
        for (findings, found, spoilt) in [
            (vec![late, withheld], Verdict::Valid, true),
            (vec![late], Verdict::Valid, false),
            (vec![withheld], Verdict::Valid, false),
            (vec![late, withheld, ("proxy_bypassed", true)], Verdict::Valid, false),
            (vec![late, withheld, ("in_flight_cap_reached", false)], Verdict::Valid, true),
            (vec![late, withheld], Verdict::Violated, false),
            (vec![late, withheld], Verdict::Unknown, false),
        ] {
            let report = report(&[(Checker::NonVacuous, found)]);
            let comparison = compare(&report, &expecting("{}")).unwrap();
            let findings: Vec<_> = findings.iter().map(finding).collect();
            let availability = Availability {
                verdict: Verdict::Valid,
                expected: Expected::default(),
                broken: Vec::new(),
                stalls: Vec::new(),
                doubt: None,
            };
            let notes = Vec::new();
            let judged = Judged { report, comparison, availability, findings, notes };
            assert_eq!(judged.is_spoilt_by_host(), spoilt, "{:?} {found}", judged.findings);
        }
    }

    #[test]
    fn unknown_where_valid_was_expected_is_inconclusive() {
        let found = report(&[(Checker::NonVacuous, Verdict::Unknown)]);
        assert_eq!(compare(&found, &expecting("{}")).unwrap().verdict, Verdict::Unknown);
    }
}
