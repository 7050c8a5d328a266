//! Refuses, before anything is started, what this stage cannot do. Never skips a fault silently.
//! Looks at the plan, the settings, and whether the machine can mount a disk.

use super::extension::Delay;
use super::toxics::Milliseconds;
use super::{StageError, StageOptions, disks_unavailable};
use crate::folder::SoundnessFinding;
use crate::plan::{Cut, DelayDistribution, FaultKind, Order, Plan, PlannedFault, Topology};

/// REPLICAs that are started on one machine at most.
const REPLICAS_MAX: usize = 200;

/// Time between the end of one delay and the beginning of the next, which are told to the proxy by
/// themselves.
const DELAYS_APART_MS: u64 = 1;

const OWN_PROXY: &str = "run it with the project's own proxy";

/// Checks every planned fault against topology and proxy.
///
/// # Errors
/// The first that cannot be done, with what could be done instead.
pub fn can_do(plan: &Plan, options: &StageOptions) -> Result<(), StageError> {
    if !plan.topology.limits.are_none() {
        return Err(StageError::CannotDo {
            what: "limits of memory or processors".to_string(),
            reason: "processes run without control groups of their own",
            instead: "--stage docker can",
        });
    }
    either_can_do(plan, options)
}

/// What processes and containers have in common.
fn either_can_do(plan: &Plan, options: &StageOptions) -> Result<(), StageError> {
    const INSTEAD: &str = "--stage sim can";
    let refuse =
        |what: String, reason, instead| Err(StageError::CannotDo { what, reason, instead });
    if let Some(network) = &plan.network {
        let what = format!("the distances of {}", network.name);
        return refuse(what, "all servers are on this machine", INSTEAD);
    }
    let replicas = plan.topology.replicas.len();
    if replicas > REPLICAS_MAX {
        let what = format!("{replicas} REPLICAs");
        return refuse(what, "at most 200 are started on one machine", INSTEAD);
    }
    let foreign = options.toxiproxy.is_some();
    if let Some(fault) = plan.faults.iter().find(|fault| hurts_disk(fault))
        && let Some(reason) = disks_unavailable()
    {
        return Err(StageError::cannot(fault, reason, "run it as root where /dev/fuse is"));
    }
    let order = Order::of(&plan.faults);
    for (index, fault) in plan.faults.iter().enumerate() {
        on_links(fault, &plan.topology, foreign)?;
        let earlier = plan.faults[..index].iter();
        let mut delays = earlier.filter(|other| is_delay(other) && is_delay(fault));
        if delays.any(|other| order.can_meet(other, fault, DELAYS_APART_MS)) {
            let reason = "two delays at the same time on one link have no defined sum here";
            return Err(StageError::cannot(fault, reason, "let one end before the other begins"));
        }
    }
    Ok(())
}

/// The same for containers.
///
/// # Errors
/// The first that cannot be done, with what could be done instead.
pub fn containers_can_do(plan: &Plan, options: &StageOptions) -> Result<(), StageError> {
    const INSTEAD: &str = "--stage process can";
    let refuse = |what: &str, reason| {
        Err(StageError::CannotDo { what: what.to_string(), reason, instead: INSTEAD })
    };
    if let Some(fault) = plan.faults.iter().find(|fault| hurts_disk(fault)) {
        let reason = "the data of containers lies on volumes of the engine";
        return Err(StageError::cannot(fault, reason, INSTEAD));
    }
    if options.toxiproxy.is_some() {
        return refuse("--toxiproxy", "containers have a proxy of their own on their network");
    }
    if options.keep_data {
        return refuse("--keep-data", "the data goes with the containers");
    }
    either_can_do(plan, options)
}

/// The same for the simulator.
///
/// # Errors
/// The first that is not simulated, with a stage that can do it.
pub fn simulator_can_do(plan: &Plan, options: &StageOptions) -> Result<(), StageError> {
    const INSTEAD: &str = "--stage process can";
    let refuse = |what: &str, reason, instead| {
        Err(StageError::CannotDo { what: what.to_string(), reason, instead })
    };
    if !plan.topology.limits.are_none() {
        let reason = "simulated servers use no memory or processors of their own";
        return refuse("limits of memory or processors", reason, "--stage docker can");
    }
    if options.toxiproxy.is_some() {
        return refuse("--toxiproxy", "simulated links have no proxies", INSTEAD);
    }
    if options.keep_data {
        return refuse("--keep-data", "simulated disks leave nothing behind", INSTEAD);
    }
    match plan.faults.first() {
        Some(fault) => Err(StageError::cannot(fault, "faults are not simulated yet", INSTEAD)),
        None => Ok(()),
    }
}

/// What is done less well than wanted, though not refused.
pub(crate) fn notes(plan: &Plan, options: &StageOptions) -> Option<SoundnessFinding> {
    let partitions = |fault: &PlannedFault| matches!(fault.kind, FaultKind::Partition { .. });
    let affected = options.toxiproxy.is_some() && plan.faults.iter().any(partitions);
    affected.then(|| SoundnessFinding {
        code: "partition_not_atomic".to_string(),
        fatal: false,
        detail: "a foreign Toxiproxy is cut link by link: for a moment the network is neither \
                 whole nor divided as planned"
            .to_string(),
    })
}

fn on_links(fault: &PlannedFault, topology: &Topology, foreign: bool) -> Result<(), StageError> {
    let refuse = |reason, instead| Err(StageError::cannot(fault, reason, instead));
    match &fault.kind {
        FaultKind::Kill { .. }
        | FaultKind::Restart { .. }
        | FaultKind::Pause { .. }
        | FaultKind::Disk { .. }
        | FaultKind::Reconfigure { .. } => Ok(()),
        FaultKind::Partition { .. } | FaultKind::Latency { .. } | FaultKind::Traffic { .. }
            if !topology.proxied =>
        {
            refuse("links are not proxied", "set proxied in the topology")
        }
        FaultKind::Partition { .. } | FaultKind::Latency { .. } | FaultKind::Traffic { .. }
            if !topology.replicas.is_empty() && !topology.proxies_replicas() =>
        {
            refuse("links of REPLICAs are not proxied with so many servers", "take fewer REPLICAs")
        }
        FaultKind::Partition { cut: Cut::Silent, .. } if foreign => {
            refuse("Toxiproxy closes connections when a timeout toxic is removed", OWN_PROXY)
        }
        FaultKind::Partition { cut: Cut::HalfOpen, .. } if foreign => {
            refuse("Toxiproxy ends both ends of a connection or none", OWN_PROXY)
        }
        FaultKind::Latency { distribution, .. } if foreign && !distribution.is_uniform() => {
            refuse("Toxiproxy varies delays uniformly only", OWN_PROXY)
        }
        FaultKind::Latency { delay_us, jitter_us, distribution, .. }
            if foreign && !whole(*delay_us, *jitter_us, *distribution) =>
        {
            refuse("Toxiproxy delays by whole milliseconds only", OWN_PROXY)
        }
        FaultKind::Partition { .. } | FaultKind::Latency { .. } | FaultKind::Traffic { .. } => {
            Ok(())
        }
    }
}

fn whole(latency_us: u64, jitter_us: u64, distribution: DelayDistribution) -> bool {
    Milliseconds::of(Delay { latency_us, jitter_us, distribution }).is_some()
}

fn hurts_disk(fault: &PlannedFault) -> bool {
    matches!(fault.kind, FaultKind::Disk { .. })
}

fn is_delay(fault: &PlannedFault) -> bool {
    matches!(fault.kind, FaultKind::Latency { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Limits, Shape, Target};

    fn fault(kind: FaultKind) -> PlannedFault {
        PlannedFault {
            name: "f".to_string(),
            at_ms: 10,
            for_ms: 5,
            kind,
            drawn_as: None,
            trigger: None,
        }
    }

    fn refusal(kind: FaultKind, proxied: bool, foreign: bool) -> Option<String> {
        let masters = vec!["n1".to_string()];
        let topology = Topology {
            masters,
            replicas: Vec::new(),
            standalone: false,
            write_quorum: "all".to_string(),
            proxied,
            limits: Limits::default(),
        };
        on_links(&fault(kind), &topology, foreign).err().map(|error| error.to_string())
    }

    #[test]
    fn what_cannot_be_done_is_named_with_what_can() {
        let silent =
            FaultKind::Partition { cut: Cut::Silent, target: Target::One, shape: Shape::Sides };
        let closed =
            FaultKind::Partition { cut: Cut::Closed, target: Target::One, shape: Shape::Sides };
        let delay = |delay_us, distribution| {
            let target = Target::One;
            FaultKind::Latency { target, delay_us, jitter_us: 0, distribution }
        };
        let fine = delay(300, DelayDistribution::Uniform);
        let bell = delay(3_000, DelayDistribution::Normal);
        let (cut, target, shape) = (Cut::HalfOpen, Target::One, Shape::OneWayIn);
        let half_open = FaultKind::Partition { cut, target, shape };
        assert!(refusal(bell.clone(), true, true).unwrap().contains("uniformly"));
        assert!(refusal(half_open.clone(), true, true).unwrap().contains("both ends"));
        assert_eq!(refusal(bell, true, false).or(refusal(half_open, true, false)), None);
        let text = refusal(silent.clone(), true, true).unwrap();
        assert!(text.contains("partition silent one") && text.contains("own proxy"), "{text}");
        assert!(refusal(fine.clone(), true, true).unwrap().contains("300±0"));
        assert!(refusal(closed.clone(), false, false).unwrap().contains("proxied"));
        assert_eq!(refusal(closed, true, true), None);
        assert_eq!(refusal(silent, true, false), None);
        assert_eq!(refusal(fine, true, false), None);
        assert_eq!(refusal(FaultKind::Kill { target: Target::One }, false, false), None);
    }
}
