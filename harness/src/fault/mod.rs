//! Faults: each a pair of inject and heal with evidence that it took effect.
//! Says what is done when (`schedule.rs`) and what is remembered (`ledger.rs`); how a stage does
//! it is behind [`Levers`]. May not know processes, sockets or proxies.

mod ledger;
mod levers;
mod schedule;

pub use ledger::Ledger;
pub use levers::{Effect, Happened, Levers, Until};
pub use schedule::{heal_all, run};

use crate::plan::{Cut, DiskFault, FaultKind, Shape, Survives, Target};

/// A fault that shows no effect within this time makes the run unsound.
pub const PROOF_LIMIT: std::time::Duration = std::time::Duration::from_secs(1);

/// Kind and requested target, for people: `partition silent one`.
#[must_use]
pub fn describe(kind: &FaultKind) -> String {
    let target = describe_target(kind.target());
    match kind {
        FaultKind::Kill { .. } => format!("kill {target}"),
        FaultKind::Restart { .. } => format!("restart {target}"),
        FaultKind::Pause { .. } => format!("pause {target}"),
        FaultKind::Partition { cut, shape, .. } => partition(*cut, *shape, &target),
        FaultKind::Latency { delay_us, jitter_us, distribution, .. } => {
            format!("latency {} {target}", distribution.told(*delay_us, *jitter_us))
        }
        FaultKind::Traffic { traffic, .. } => format!("{traffic} {target}"),
        FaultKind::Reconfigure { write_quorum, .. } => format!("write quorum {write_quorum}"),
        FaultKind::Disk { disk, .. } => match disk {
            DiskFault::PowerCut { survives } => format!("power cut {target}, {}", left(*survives)),
            DiskFault::Slow { delay_us } => format!("slow disk {delay_us} µs {target}"),
            DiskFault::Full => format!("full disk {target}"),
        },
    }
}

fn partition(cut: Cut, shape: Shape, target: &str) -> String {
    let cut = cut.word();
    let words = [if shape.is_sides() { "" } else { shape.word() }, target];
    let told = &words[..if shape.takes_no_target() { 1 } else { 2 }];
    let told = told.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>();
    format!("partition {cut} {}", told.join(" "))
}

fn left(survives: Survives) -> &'static str {
    match survives {
        Survives::Nothing => "nothing unsynced survives",
        Survives::Prefix => "a prefix of the unsynced survives",
        Survives::Sectors => "any unsynced sectors survive",
    }
}

fn describe_target(target: &Target) -> String {
    match target {
        Target::One => "one".to_string(),
        Target::Minority => "minority".to_string(),
        Target::Majority => "majority".to_string(),
        Target::All => "all".to_string(),
        Target::Replicas => "replicas".to_string(),
        Target::Names(names) => names.join("+"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::DelayDistribution;

    #[test]
    fn descriptions_name_kind_and_target() {
        let cut = |shape| {
            describe(&FaultKind::Partition { cut: Cut::Silent, target: Target::One, shape })
        };
        assert_eq!(cut(Shape::Sides), "partition silent one");
        assert_eq!(cut(Shape::Isolate), "partition silent isolate one");
        assert_eq!(cut(Shape::Ring), "partition silent ring");
        let names = Target::Names(vec!["n1".to_string(), "n3".to_string()]);
        assert_eq!(describe(&FaultKind::Kill { target: names.clone() }), "kill n1+n3");
        let latency = |distribution| {
            let target = names.clone();
            describe(&FaultKind::Latency { target, delay_us: 500, jitter_us: 50, distribution })
        };
        assert_eq!(latency(DelayDistribution::Uniform), "latency 500±50 µs n1+n3");
        assert_eq!(latency(DelayDistribution::Pareto), "latency 500 µs pareto 50 µs n1+n3");
    }
}
