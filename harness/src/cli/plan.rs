//! `quorate plan`: what a workload would do, without starting anything.

use std::fmt::Write as _;

use quorate_check::verdict::Verdict;

use super::arguments::PlanArguments;
use super::{Exit, Output};
use crate::plan::{
    DiskFault, FaultKind, KeyDistribution, LoadMode, Network, Plan, PlannedFault, Shape, Target,
    Topology, build, estimate, shape,
};
use crate::run::choice::{self, Offer};
use crate::spec::{SpecError, workload};

pub(super) fn plan(arguments: &PlanArguments) -> anyhow::Result<Exit> {
    let spec = workload(&arguments.spec.file, &arguments.spec.overrides()?)?;
    let plan = build(&spec, spec.seed).map_err(SpecError::Invalid)?;
    let (asked, options) = (&arguments.stage.stage, arguments.stage.options());
    let offer = Offer::ask(asked, &options)?;
    let choice = choice::choose(asked, &plan, &options, &offer)?;
    if arguments.json {
        Output.json(&plan)?;
        return Ok(Exit::Good);
    }
    Output.line(&choice)?;
    for warning in &spec.warnings {
        Output.line(format!("warning: {warning}"))?;
    }
    Output.table(&[], settings(&plan))?;
    if !plan.faults.is_empty() {
        Output.line("")?;
        Output.table(&["fault", "at", "for", "what", "target", "hits"], faults(&plan))?;
    }
    Output.line(format!("\n{}", duration(&plan)))?;
    Ok(Exit::Good)
}

fn settings(plan: &Plan) -> Vec<Vec<String>> {
    let links = if plan.topology.proxied { "through fault proxies" } else { "direct" };
    let servers = if plan.topology.standalone {
        format!("one, standalone, links {links}")
    } else {
        servers(&plan.topology, links)
    };
    let mix = plan.workload.mix.iter().map(|(class, weight)| format!("{} {weight}", class.name()));
    let rows = [
        ("name", plan.name.clone()),
        ("description", plan.description.clone()),
        ("seed", plan.seed.to_string()),
        ("servers", servers),
        ("network", plan.network.as_ref().map(Network::describe).unwrap_or_default()),
        ("write quorum", plan.topology.write_quorum.clone()),
        ("records", format!("{} of {} bytes", plan.workload.records, plan.workload.value_bytes)),
        ("mix", mix.collect::<Vec<_>>().join(", ")),
        ("keys", keys(plan.workload.keys)),
        ("load", load(plan)),
        ("expect", expect(plan)),
    ];
    let shown = rows.into_iter().filter(|(_, value)| !value.is_empty());
    shown.map(|(key, value)| vec![key.to_owned(), value]).collect()
}

fn servers(topology: &Topology, links: &str) -> String {
    let masters = format!("{} MASTERs", topology.masters.len());
    match topology.replicas.len() {
        0 => format!("{masters}, links {links}"),
        replicas if topology.proxied && !topology.proxies_replicas() => {
            let most = Topology::PROXIED_MAX;
            format!(
                "{masters}, {replicas} REPLICAs; links {links}, those between a REPLICA and \
                 another server direct (more than {most} servers)"
            )
        }
        replicas => format!("{masters}, {replicas} REPLICAs, links {links}"),
    }
}

fn keys(keys: KeyDistribution) -> String {
    match keys {
        KeyDistribution::Uniform => "uniform".to_owned(),
        KeyDistribution::Zipfian { theta } => format!("zipfian, theta {theta}"),
        KeyDistribution::Latest { theta } => format!("latest, theta {theta}"),
        KeyDistribution::Hotspot { data_fraction, op_fraction } => {
            format!("hotspot, {op_fraction} of the operations on {data_fraction} of the keys")
        }
        KeyDistribution::Sequential => "sequential".to_owned(),
    }
}

fn load(plan: &Plan) -> String {
    let load = &plan.load;
    let targets = load.targets.join(", ");
    let reading = match load.readers.len() {
        0 => String::new(),
        readers => format!(", which read at {readers} servers"),
    };
    let (clients, ms) = (load.clients, load.timeout_ms);
    let shared = format!("{clients} clients on {targets}{reading}, timeout {ms} ms");
    match load.mode {
        LoadMode::Open { rate, arrivals } => {
            format!("open loop, {rate}/s {arrivals:?}, {shared}").to_lowercase()
        }
        LoadMode::Closed => format!("closed loop, {shared}"),
    }
}

fn expect(plan: &Plan) -> String {
    let expected = plan.expect.iter().map(|(checker, verdict)| {
        let verdict = match verdict {
            Verdict::Valid => "valid",
            Verdict::Violated => "violated",
            Verdict::Unknown => "any",
        };
        format!("{checker} {verdict}")
    });
    expected.collect::<Vec<_>>().join(", ")
}

fn faults(plan: &Plan) -> Vec<Vec<String>> {
    let rows = plan.faults.iter().map(|fault| {
        let what = told(&fault.kind);
        let hits = shape::hit(fault, &plan.topology, plan.seed);
        vec![
            fault.name.clone(),
            begins(fault),
            format!("{} ms", fault.for_ms),
            what,
            requested(&fault.kind),
            hits.join(", "),
        ]
    });
    rows.collect()
}

/// When a fault begins, in words.
fn begins(fault: &PlannedFault) -> String {
    match &fault.trigger {
        Some(trigger) => format!("{} ms {}", fault.at_ms, trigger.event),
        None => format!("{} ms", fault.at_ms),
    }
}

fn told(kind: &FaultKind) -> String {
    match kind {
        FaultKind::Kill { .. } => "kill".to_owned(),
        FaultKind::Restart { .. } => "restart".to_owned(),
        FaultKind::Pause { .. } => "pause".to_owned(),
        FaultKind::Disk { disk: DiskFault::PowerCut { .. }, .. } => "cut the power of".to_owned(),
        FaultKind::Disk { disk: DiskFault::Slow { delay_us }, .. } => {
            format!("hold up by {delay_us} µs every sync of")
        }
        FaultKind::Disk { disk: DiskFault::Full, .. } => "fill the disk of".to_owned(),
        FaultKind::Partition { cut, shape: Shape::Sides, .. } => {
            format!("partition {}", cut.word())
        }
        FaultKind::Partition { cut, shape, .. } => {
            format!("partition {} {}", cut.word(), shape.word())
        }
        FaultKind::Latency { delay_us, jitter_us, distribution, .. } => {
            format!("latency {}", distribution.told(*delay_us, *jitter_us))
        }
        FaultKind::Traffic { traffic, .. } => traffic.to_string(),
        FaultKind::Reconfigure { write_quorum, .. } => format!("write quorum {write_quorum}"),
    }
}

fn requested(kind: &FaultKind) -> String {
    if matches!(kind, FaultKind::Partition { shape, .. } if shape.takes_no_target()) {
        return "drawn".to_owned();
    }
    match kind.target() {
        Target::Names(names) => names.join(", "),
        target @ (Target::One
        | Target::Minority
        | Target::Majority
        | Target::All
        | Target::Replicas) => format!("{target:?}").to_lowercase(),
    }
}

fn duration(plan: &Plan) -> String {
    let mut text = format!("takes at most about {:.0} s:", estimate::longest(plan).as_secs_f64());
    for (index, (part, duration)) in estimate::parts(plan).iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string cannot fail.
        write!(text, "{comma} {part} {:.1}", duration.as_secs_f64()).unwrap_or_default();
    }
    text
}
