//! The faults of a workload or scenario: each alone, and against the servers and the measure phase.
//! Overlaps depend on the seed and are judged in `crate::plan::build`.

use std::collections::BTreeMap;

use super::SpecFault;
use super::latency;
use super::raw::{DiskWord, Kind, QuorumWord, RawFault, RawQuorum, RawTarget, TargetWord};
use super::storm::{self, Storm};
use super::traffic;
use super::triggers;
use super::units::Span;
use super::validate::{Findings, server_names};
use crate::plan::{
    Cut, DiskFault, FaultKind, Phases, PlannedFault, Shape, Target, Topology, target,
};

/// A shorter cut may be over before it is seen to bite.
const FLAPPING_MIN_MS: u64 = 1_000;

/// Checks all faults; what cannot be used is reported and left out.
pub(super) fn check(
    faults: &[RawFault],
    topology: &Topology,
    phases: &Phases,
    findings: &mut Findings<'_>,
) -> Vec<SpecFault> {
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let mut checked = Vec::new();
    for (index, raw) in faults.iter().enumerate() {
        let key = format!("faults.{index}");
        let name = name(raw, &names);
        let (trigger, since_ms) = triggers::of(raw, &key, &checked, &names, topology, findings);
        if let Some(first) = names.insert(name.clone(), index) {
            let what = format!("`{name}` is already the name of faults.{first}");
            findings.wrong(&format!("{key}.name"), what);
        }
        let every_ms = repetition(raw, &key, findings);
        let count = u64::from(raw.times.unwrap_or(1));
        let later_ms = every_ms.saturating_mul(count.saturating_sub(1)).saturating_add(since_ms);
        window(raw, later_ms, &key, phases, findings);
        let target = target_of(raw, &key, topology, findings);
        let storm = storm::of(raw, &key, &target, topology, findings);
        let times = times(raw, &key, (count, every_ms), storm.as_ref(), findings);
        if let Some(kind) = kind(raw, &key, target, topology, findings) {
            let drawn_as = times.drawn_together.then(|| name.clone());
            for time in 0..times.count {
                let this = if times.numbered { numbered(&name, time) } else { name.clone() };
                if times.numbered
                    && let Some(first) = names.insert(this.clone(), index)
                {
                    let what = format!("`{this}` is already the name of faults.{first}");
                    findings.wrong(&key, what);
                }
                let (at_ms, trigger, gap) = match storm.as_ref().filter(|_| time > 0) {
                    Some(storm) => {
                        let (trigger, gap) = storm.follows(raw, &name, time);
                        (storm.every_ms, Some(trigger), Some(gap))
                    }
                    None => {
                        let later = times.period_ms.saturating_mul(time);
                        (raw.at.as_ms().saturating_add(later), trigger.clone(), None)
                    }
                };
                let origin = findings.tree().origin_of(&key);
                let (kind, drawn_as, for_ms) = (kind.clone(), drawn_as.clone(), times.for_ms);
                let fault = PlannedFault { name: this, at_ms, for_ms, kind, drawn_as, trigger };
                checked.push(SpecFault { origin, fault, gap });
            }
        }
    }
    checked
}

/// The name of one time, from 0, of what happens several times.
pub(super) fn numbered(name: &str, time: u64) -> String {
    format!("{name}-{}", time + 1)
}

/// How often a fault happens, and for how long each time.
struct Times {
    count: u64,
    /// From one beginning to the next, where that is known.
    period_ms: u64,
    for_ms: u64,
    /// Whether each has a number in its name.
    numbered: bool,
    /// Whether all hit the same.
    drawn_together: bool,
}

fn times(
    raw: &RawFault,
    key: &str,
    (count, period_ms): (u64, u64),
    storm: Option<&Storm>,
    findings: &mut Findings<'_>,
) -> Times {
    let for_ms = raw.lasts.as_ms();
    if let Some(flaps) = flaps(raw, key, findings) {
        let Flaps { count, period_ms, cut_ms } = flaps;
        return Times { count, period_ms, for_ms: cut_ms, numbered: true, drawn_together: true };
    }
    let (numbered, drawn_together) = (count > 1 || storm.is_some(), false);
    match storm {
        Some(Storm { count, down_ms, .. }) => {
            let (count, period_ms, for_ms) = (*count, 0, *down_ms);
            Times { count, period_ms, for_ms, numbered, drawn_together }
        }
        None => Times { count, period_ms, for_ms, numbered, drawn_together },
    }
}

/// The given name, else the kind, numbered from the second one on.
fn name(raw: &RawFault, taken: &BTreeMap<String, usize>) -> String {
    if let Some(name) = &raw.name {
        return name.clone();
    }
    let kind = word(raw.fault);
    let numbered = (2..).map(|number| format!("{kind}-{number}"));
    let mut free = std::iter::once(kind.to_owned()).chain(numbered);
    free.find(|name| !taken.contains_key(name)).unwrap_or_default()
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Kill => "kill",
        Kind::Restart => "restart",
        Kind::Pause => "pause",
        Kind::Partition => "partition",
        Kind::Latency => "latency",
        Kind::Reset => "reset",
        Kind::Bandwidth => "bandwidth",
        Kind::Slice => "slice",
        Kind::Disk => "disk",
        Kind::Reconfigure => "reconfigure",
    }
}

/// Milliseconds from one beginning to the next; 0 for what happens once.
fn repetition(raw: &RawFault, key: &str, findings: &mut Findings<'_>) -> u64 {
    match (raw.times, raw.every) {
        (None | Some(0 | 1), None) => 0,
        (Some(_), None) => {
            findings.wrong(key, "`times` needs `every`, from one beginning to the next");
            0
        }
        (None | Some(0 | 1), Some(_)) => {
            findings.wrong(&format!("{key}.every"), "has a meaning with `times` above 1 alone");
            0
        }
        (Some(_), Some(every)) => {
            if every <= raw.lasts {
                let what = format!("must be more than `for` ({}), or they overlap", raw.lasts);
                findings.wrong(&format!("{key}.every"), what);
            }
            every.as_ms()
        }
    }
}

/// A cut that comes and goes.
struct Flaps {
    count: u64,
    period_ms: u64,
    cut_ms: u64,
}

/// What `flapping` asks for, when it can be had.
fn flaps(raw: &RawFault, key: &str, findings: &mut Findings<'_>) -> Option<Flaps> {
    let period = raw.flapping?;
    let key = format!("{key}.flapping");
    if raw.times.is_some() {
        findings.wrong(&key, "has no meaning with `times`, which draws each time anew");
    }
    let (period_ms, for_ms) = (period.as_ms(), raw.lasts.as_ms());
    if period_ms < FLAPPING_MIN_MS || period_ms > for_ms {
        let least = Span::millis(FLAPPING_MIN_MS);
        let what = format!("{period} is not legal; legal: {least} to `for` ({})", raw.lasts);
        findings.wrong(&key, what);
        return None;
    }
    let cut_ms = period_ms / 2;
    let count = (for_ms - cut_ms) / period_ms + 1;
    Some(Flaps { count, period_ms, cut_ms })
}

/// `later_ms`: from the first beginning to the last one, and what it waits for before.
fn window(raw: &RawFault, later_ms: u64, key: &str, phases: &Phases, findings: &mut Findings<'_>) {
    if raw.lasts.as_ms() == 0 {
        findings.wrong(&format!("{key}.for"), "must be at least 1ms");
    }
    let end = raw.at.as_ms().saturating_add(raw.lasts.as_ms()).saturating_add(later_ms);
    if end > phases.measure_ms {
        let earliest =
            if raw.after.is_some() || raw.when.is_some() { " at the earliest" } else { "" };
        let what = format!(
            "ends at {}{earliest}, after the measure phase ({}); faults happen inside it",
            Span::millis(end),
            Span::millis(phases.measure_ms)
        );
        findings.wrong(&format!("{key}.for"), what);
    }
}

fn target_of(
    raw: &RawFault,
    key: &str,
    topology: &Topology,
    findings: &mut Findings<'_>,
) -> Target {
    let key = format!("{key}.target");
    match &raw.target {
        RawTarget::Word(TargetWord::One) => Target::One,
        RawTarget::Word(TargetWord::Minority) => {
            if topology.masters.len() < 3 {
                let what = "there is no minority of less than 3 MASTERs; legal: one, all, names";
                findings.wrong(&key, what);
            }
            Target::Minority
        }
        RawTarget::Word(TargetWord::Majority) => Target::Majority,
        RawTarget::Word(TargetWord::All) => Target::All,
        RawTarget::Word(TargetWord::Replicas) => {
            if topology.replicas.is_empty() {
                findings.wrong(&key, "there is no REPLICA; set `topology.replicas`");
            }
            Target::Replicas
        }
        RawTarget::Replica(number) => {
            let names = vec![format!("r{}", number.replica)];
            server_names(&key, &names, &topology.servers(), findings);
            Target::Names(names)
        }
        RawTarget::Names(names) => {
            server_names(&key, names, &topology.servers(), findings);
            Target::Names(names.clone())
        }
    }
}

fn kind(
    raw: &RawFault,
    key: &str,
    target: Target,
    topology: &Topology,
    findings: &mut Findings<'_>,
) -> Option<FaultKind> {
    let is_slow_disk = raw.disk == Some(DiskWord::Slow);
    let is_power_cut = raw.disk == Some(DiskWord::PowerCut);
    let given = [
        ("cut", raw.cut.is_some(), raw.fault == Kind::Partition, "partition"),
        ("shape", raw.shape.is_some(), raw.fault == Kind::Partition, "partition"),
        ("flapping", raw.flapping.is_some(), raw.fault == Kind::Partition, "partition"),
        (
            "delay",
            raw.delay.is_some(),
            matches!(raw.fault, Kind::Latency | Kind::Reset | Kind::Slice) || is_slow_disk,
            "latency, reset, slice and slow disks",
        ),
        ("rate", raw.rate.is_some(), raw.fault == Kind::Bandwidth, "bandwidth"),
        ("size", raw.size.is_some(), raw.fault == Kind::Slice, "slice"),
        ("disk", raw.disk.is_some(), raw.fault == Kind::Disk, "disk"),
        ("survives", raw.survives.is_some(), is_power_cut, "power cuts"),
        ("jitter", raw.jitter.is_some(), raw.fault == Kind::Latency, "latency"),
        ("distribution", raw.distribution.is_some(), raw.fault == Kind::Latency, "latency"),
        ("write_quorum", raw.write_quorum.is_some(), raw.fault == Kind::Reconfigure, "reconfigure"),
    ];
    for (part, given, belongs, of) in given {
        if given && !belongs {
            findings.wrong(&format!("{key}.{part}"), format!("has a meaning for {of} alone"));
        }
    }
    let is_traffic = matches!(raw.fault, Kind::Reset | Kind::Bandwidth | Kind::Slice);
    if is_traffic || matches!(raw.fault, Kind::Partition | Kind::Latency) {
        links(raw, key, &target, topology, findings);
    }
    match raw.fault {
        Kind::Kill => Some(FaultKind::Kill { target }),
        Kind::Restart => Some(FaultKind::Restart { target }),
        Kind::Pause => Some(FaultKind::Pause { target }),
        Kind::Partition => Some(partition(raw, key, target, topology, findings)),
        Kind::Latency => latency::of(raw, key, target, findings),
        Kind::Reset | Kind::Bandwidth | Kind::Slice => traffic::of(raw, key, target, findings),
        Kind::Disk => disk(raw, key, target, findings),
        Kind::Reconfigure => reconfigure(raw, key, topology, findings),
    }
}

/// Going below a majority and back would need a merge.
fn reconfigure(
    raw: &RawFault,
    key: &str,
    topology: &Topology,
    findings: &mut Findings<'_>,
) -> Option<FaultKind> {
    let masters = topology.masters.len();
    let (majority, before) = (masters / 2 + 1, topology.write_quorum.clone());
    if raw.target != RawTarget::default() {
        findings.wrong(&format!("{key}.target"), "has no meaning: every server takes part");
    }
    let is_below = |count: &u8| usize::from(*count) < majority;
    let legal = format!("legal: majority, all, or a number from {majority} to {masters}");
    if before.parse().is_ok_and(|count| is_below(&count)) {
        let what = format!("the database begins below a majority ({before} of {masters})");
        findings.wrong(&format!("{key}.fault"), what);
    }
    let write_quorum = match raw.write_quorum {
        None => {
            findings.wrong(key, format!("reconfigure needs `write_quorum`; {legal}"));
            return None;
        }
        Some(RawQuorum::Word(QuorumWord::Majority)) => "majority".to_owned(),
        Some(RawQuorum::Word(QuorumWord::All)) => "all".to_owned(),
        Some(RawQuorum::Count(count)) => {
            if is_below(&count) || usize::from(count) > masters {
                let what = format!("{count} of {masters} MASTERs is not legal here; {legal}");
                findings.wrong(&format!("{key}.write_quorum"), what);
            }
            count.to_string()
        }
    };
    Some(FaultKind::Reconfigure { write_quorum, before })
}

fn disk(
    raw: &RawFault,
    key: &str,
    target: Target,
    findings: &mut Findings<'_>,
) -> Option<FaultKind> {
    let disk = match (raw.disk, raw.delay) {
        (None, _) => {
            findings.wrong(key, "disk needs `disk`; legal: slow, full, power-cut");
            return None;
        }
        (Some(DiskWord::Slow), None) => {
            findings.wrong(key, format!("a slow disk needs `delay`; legal: {}", Span::LEGAL));
            return None;
        }
        (Some(DiskWord::Slow), Some(delay)) => DiskFault::Slow { delay_us: delay.as_us() },
        (Some(DiskWord::Full), _) => DiskFault::Full,
        (Some(DiskWord::PowerCut), _) => {
            DiskFault::PowerCut { survives: raw.survives.unwrap_or_default() }
        }
    };
    Some(FaultKind::Disk { target, disk })
}

/// Faults of links need links, and proxies on them.
fn links(
    raw: &RawFault,
    key: &str,
    target: &Target,
    topology: &Topology,
    findings: &mut Findings<'_>,
) {
    let fault = word(raw.fault);
    if !topology.proxied {
        let what = format!("{fault} needs proxies on the links; set `topology.links: proxied`");
        findings.wrong(&format!("{key}.fault"), what);
    }
    let servers = topology.servers().len();
    if topology.proxied && !topology.replicas.is_empty() && !topology.proxies_replicas() {
        let most = Topology::PROXIED_MAX;
        let what = format!(
            "{fault} needs proxies on every link, which up to {most} servers have, and there are \
             {servers}; legal: fewer REPLICAs, or kill, restart or pause"
        );
        findings.wrong(&format!("{key}.fault"), what);
    }
    if servers == 1 {
        let what = format!("{fault} needs a link between servers, and there is 1 MASTER");
        findings.wrong(&format!("{key}.fault"), what);
    } else if raw.fault == Kind::Partition
        && raw.shape.unwrap_or_default().needs_others()
        && target::size(target, topology) >= servers
    {
        let what = "leaves no server on the other side of the cut";
        findings.wrong(&format!("{key}.target"), what);
    }
}

fn partition(
    raw: &RawFault,
    key: &str,
    target: Target,
    topology: &Topology,
    findings: &mut Findings<'_>,
) -> FaultKind {
    let (cut, shape) = (raw.cut.unwrap_or(Cut::Silent), raw.shape.unwrap_or_default());
    let (word, servers) = (shape.word(), topology.servers().len());
    if servers > 1 && servers < shape.fewest() {
        let what = format!("{word} needs at least {} servers, not {servers}", shape.fewest());
        findings.wrong(&format!("{key}.shape"), what);
    }
    if shape.is_one_way() && cut == Cut::Closed {
        let what =
            format!("closes connections in both directions; {word} can be silent or half_open");
        findings.wrong(&format!("{key}.cut"), what);
    }
    if !shape.is_one_way() && cut == Cut::HalfOpen {
        let what = "half_open needs to know who keeps its ends; legal: `shape: one-way-out` (the \
                    target does) or `shape: one-way-in` (the others do)";
        findings.wrong(&format!("{key}.cut"), what);
    }
    let hit = target::size(&target, topology);
    if shape == Shape::Bridge && hit != 1 {
        let what = format!("a bridge is one server, not {hit}; legal: one, or a list of one");
        findings.wrong(&format!("{key}.target"), what);
    }
    if !shape.takes_no_target() {
        return FaultKind::Partition { cut, target, shape };
    }
    if raw.target != RawTarget::default() {
        let what = format!("has no meaning with {word}, which the seed draws from all servers");
        findings.wrong(&format!("{key}.target"), what);
    }
    FaultKind::Partition { cut, target: Target::All, shape }
}
