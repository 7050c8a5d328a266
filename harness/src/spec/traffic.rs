//! Faults of the traffic of links, as a spec asks for them.

use super::raw::{Kind, RawFault};
use super::units::Span;
use super::validate::Findings;
use crate::plan::{FaultKind, Target, Traffic};

/// A connection must be seen to be reset within a second.
const RESET_MAX: Span = Span::millis(500);
/// A transfer of a fifth of a second must show it.
const RATE_MAX: u64 = 10_000;
const PIECE_MAX: u64 = 65_536;
/// Shorter pauses could not be told from those of a busy machine, longer ones not be seen in time.
const PAUSES: (Span, Span) = (Span::millis(1), Span::millis(100));

/// The fault that `raw` asks for; what is missing or wrong is reported.
pub(super) fn of(
    raw: &RawFault,
    key: &str,
    target: Target,
    findings: &mut Findings<'_>,
) -> Option<FaultKind> {
    let traffic = match raw.fault {
        Kind::Reset => reset(raw, key, findings),
        Kind::Bandwidth => {
            let legal = format!("a number of thousands of bytes a second from 1 to {RATE_MAX}");
            let kilobytes = number(raw.rate, RATE_MAX, ("rate", &legal), key, findings)?;
            Traffic::Bandwidth { kilobytes }
        }
        Kind::Slice => {
            let legal = format!("a number of bytes from 1 to {PIECE_MAX}");
            let bytes = number(raw.size, PIECE_MAX, ("size", &legal), key, findings);
            let pause_us = pause(raw, key, findings);
            Traffic::Slice { bytes: bytes?, pause_us: pause_us? }
        }
        Kind::Kill
        | Kind::Restart
        | Kind::Pause
        | Kind::Partition
        | Kind::Latency
        | Kind::Disk
        | Kind::Reconfigure => return None,
    };
    Some(FaultKind::Traffic { target, traffic })
}

fn reset(raw: &RawFault, key: &str, findings: &mut Findings<'_>) -> Traffic {
    let after = raw.delay.unwrap_or_default();
    if after > RESET_MAX || !after.as_us().is_multiple_of(1_000) {
        let what = format!("{after} is not legal; legal: whole milliseconds, {RESET_MAX} at most");
        findings.wrong(&format!("{key}.delay"), what);
    }
    Traffic::Reset { after_ms: after.as_ms() }
}

fn pause(raw: &RawFault, key: &str, findings: &mut Findings<'_>) -> Option<u64> {
    let (least, most) = PAUSES;
    match raw.delay {
        Some(pause) if pause >= least && pause <= most => return Some(pause.as_us()),
        Some(pause) => {
            let what = format!("{pause} is not legal; legal: {least} to {most}");
            findings.wrong(&format!("{key}.delay"), what);
        }
        None => {
            let what = format!("slice needs `delay` between pieces; legal: {least} to {most}");
            findings.wrong(key, what);
        }
    }
    None
}

fn number(
    given: Option<u64>,
    most: u64,
    (part, legal): (&str, &str),
    key: &str,
    findings: &mut Findings<'_>,
) -> Option<u64> {
    match given {
        Some(number) if (1..=most).contains(&number) => return Some(number),
        Some(number) => {
            findings
                .wrong(&format!("{key}.{part}"), format!("{number} is not legal; legal: {legal}"));
        }
        None => findings.wrong(key, format!("needs `{part}`; legal: {legal}")),
    }
    None
}
