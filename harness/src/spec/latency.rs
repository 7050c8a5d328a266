//! Delays of links, as a spec asks for them.

use super::raw::RawFault;
use super::units::Span;
use super::validate::Findings;
use crate::plan::{DelayDistribution, FaultKind, Target};

/// A spread below this could not be told from that of a busy machine.
const SPREAD_MIN: Span = Span::millis(1);
/// Standard deviations between a normal delay and nothing: below 0 none can go.
const NORMAL_ABOVE: u64 = 3;

/// The fault that `raw` asks for; what is missing or wrong is reported.
pub(super) fn of(
    raw: &RawFault,
    key: &str,
    target: Target,
    findings: &mut Findings<'_>,
) -> Option<FaultKind> {
    let Some(delay) = raw.delay else {
        let what = format!("latency needs `delay`; legal: {}", Span::LEGAL);
        findings.wrong(key, what);
        return None;
    };
    if delay.as_us() == 0 {
        let what = "must be at least 1us: a delay of nothing never bites";
        findings.wrong(&format!("{key}.delay"), what);
    }
    let distribution = raw.distribution.unwrap_or_default();
    let jitter = jitter(raw, key, delay, distribution, findings);
    let (delay_us, jitter_us) = (delay.as_us(), jitter.as_us());
    Some(FaultKind::Latency { target, delay_us, jitter_us, distribution })
}

fn jitter(
    raw: &RawFault,
    key: &str,
    delay: Span,
    distribution: DelayDistribution,
    findings: &mut Findings<'_>,
) -> Span {
    let Some(jitter) = raw.jitter else {
        if !distribution.is_uniform() {
            let what = format!("{} needs `jitter`, {SPREAD_MIN} at least", distribution.word());
            findings.wrong(key, what);
        }
        return Span::default();
    };
    let key = format!("{key}.jitter");
    let spread = jitter.as_us();
    let most = match distribution {
        DelayDistribution::Uniform | DelayDistribution::Pareto => delay.as_us(),
        DelayDistribution::Normal => delay.as_us() / NORMAL_ABOVE,
    };
    if !distribution.is_uniform() && jitter < SPREAD_MIN {
        let what = format!(
            "{jitter} is not legal with {}; legal: {SPREAD_MIN} at least, for less is not told \
             from the machine's own",
            distribution.word()
        );
        findings.wrong(&key, what);
    } else if spread > most {
        let what = match distribution {
            DelayDistribution::Uniform => {
                format!("{jitter} is more than the delay ({delay}), which cannot go below 0s")
            }
            DelayDistribution::Normal => format!(
                "{jitter} is more than a third of the delay ({delay}), which cannot go below 0s"
            ),
            DelayDistribution::Pareto => format!("{jitter} is more than the delay ({delay})"),
        };
        findings.wrong(&key, what);
    }
    jitter
}
