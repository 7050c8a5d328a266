//! Relations between the keys of a workload: what no single value can be wrong about.
//! Faults have a file of their own; YAML and single values are done with before this runs.

use std::collections::{BTreeMap, BTreeSet};

use super::faults;
use super::network;
use super::problem::Problem;
use super::raw::{
    AllWord, Distribution, Mode, QuorumWord, RawKeys, RawLinks, RawLoad, RawMix, RawPhases,
    RawQuorum, RawReadAt, RawTargets, RawTopology, RawWorkload, RawWorkloadFile, ReadAtWord,
};
use super::size::Size;
use super::tree::Node;
use super::{Spec, SpecError};
use crate::plan::{
    Arrivals, KeyDistribution, Limits, Load, LoadMode, OpClass, Phases, Topology, Workload,
};

const RATE_DEFAULT: f64 = 300.0;
const CLIENTS_CLOSED_DEFAULT: u32 = 16;
/// More connections than this help nobody on one machine.
const CLIENTS_OPEN_MAX: f64 = 1024.0;
const CLIENTS_OPEN_MIN: f64 = 16.0;

/// The least memory that container engines accept.
const MEMORY_MIN: Size = Size::mib(6);
/// The least heap that servers accept.
const HEAP_MIN: Size = Size::mib(32);
/// The least share of a processor that container engines accept.
const CPUS_MIN: f64 = 0.01;
/// More than any machine has.
const CPUS_MAX: f64 = 1024.0;

/// Collects problems with the place where each was written.
pub(super) struct Findings<'a> {
    tree: &'a Node,
    problems: Vec<Problem>,
    /// What is allowed but deserves a word.
    pub(super) warnings: Vec<String>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(tree: &'a Node) -> Self {
        Self { tree, problems: Vec::new(), warnings: Vec::new() }
    }

    /// The value at the dotted `key` is wrong.
    pub(super) fn wrong(&mut self, key: &str, what: impl Into<String>) {
        let origin = self.tree.origin_of(key);
        self.problems.push(Problem { origin, key: key.to_owned(), what: what.into() });
    }

    /// The tree that is judged.
    pub(super) fn tree(&self) -> &'a Node {
        self.tree
    }
}

/// Turns a file that fits its schema into a spec.
pub(super) fn workload(tree: &Node, raw: RawWorkloadFile) -> Result<Spec, SpecError> {
    let mut findings = Findings::new(tree);
    let topology = topology(&raw.topology, &mut findings);
    let network = network::network(raw.network.as_ref(), &topology, &mut findings);
    let load = load(&raw.load, &topology, &mut findings);
    let phases = phases(&raw.phases, &raw.load, &mut findings);
    let faults = faults::check(&raw.faults, &topology, &phases, &mut findings);
    let workload = records(&raw.workload, &mut findings);
    if raw.sweep.is_some() {
        let what = "`quorate sweep` runs this file at all points of its sweep; this is one run of \
                    what stands in it otherwise";
        findings.warnings.push(what.to_owned());
    }
    if findings.problems.is_empty() {
        Ok(Spec {
            name: raw.name,
            description: raw.description,
            seed: raw.seed,
            topology,
            network,
            workload,
            load,
            phases,
            faults,
            expect: raw.expect.into_verdicts(),
            warnings: findings.warnings,
        })
    } else {
        findings.problems.sort_by_key(|problem| problem.origin.line);
        Err(SpecError::Invalid(findings.problems))
    }
}

fn topology(raw: &RawTopology, findings: &mut Findings<'_>) -> Topology {
    let write_quorum = match raw.write_quorum {
        RawQuorum::Word(QuorumWord::Majority) => "majority".to_owned(),
        RawQuorum::Word(QuorumWord::All) => "all".to_owned(),
        RawQuorum::Count(count) => {
            if count > raw.masters {
                let what = format!(
                    "{count} MASTERs can never vote, there are {}; legal: 1 to {}, majority, all",
                    raw.masters, raw.masters
                );
                findings.wrong("topology.write_quorum", what);
            } else if count < raw.masters / 2 + 1 {
                findings.warnings.push(format!(
                    "write quorum {count} of {} is below a majority: writes on two sides of a \
                     partition may diverge",
                    raw.masters
                ));
            }
            count.to_string()
        }
    };
    if raw.standalone && raw.masters != 1 {
        let what = format!("a standalone server is alone, there are {}; legal: 1", raw.masters);
        findings.wrong("topology.masters", what);
    }
    if raw.standalone && raw.replicas > 0 {
        let what = format!("nobody can join a standalone server, and there are {}", raw.replicas);
        findings.wrong("topology.replicas", what);
    }
    Topology {
        replicas: (1..=raw.replicas).map(|number| format!("r{number}")).collect(),
        masters: (1..=raw.masters).map(|number| format!("n{number}")).collect(),
        standalone: raw.standalone,
        write_quorum,
        proxied: raw.links == RawLinks::Proxied,
        limits: limits(raw, findings),
        heap_bytes: heap(raw, findings),
    }
}

/// Below the smallest memory no container can be made; processors come in billionths.
fn limits(raw: &RawTopology, findings: &mut Findings<'_>) -> Limits {
    if let Some(memory) = raw.memory.filter(|memory| *memory < MEMORY_MIN) {
        let what = format!("{memory} is less than a container can have ({MEMORY_MIN})");
        findings.wrong("topology.memory", what);
    }
    if let Some(cpus) = raw.cpus.filter(|cpus| !(CPUS_MIN..=CPUS_MAX).contains(cpus)) {
        let what = format!("{cpus} processors; legal: a number from {CPUS_MIN} to {CPUS_MAX}");
        findings.wrong("topology.cpus", what);
    }
    Limits { memory_bytes: raw.memory.map(Size::bytes), cpus: raw.cpus }
}

/// What the servers would refuse, and what they would warn of where nobody reads it.
fn heap(raw: &RawTopology, findings: &mut Findings<'_>) -> Option<u64> {
    if let Some(heap) = raw.heap.filter(|heap| *heap < HEAP_MIN) {
        let what = format!("{heap} is less than a server can do with ({HEAP_MIN})");
        findings.wrong("topology.heap", what);
    }
    if let (Some(heap), Some(memory)) = (raw.heap, raw.memory)
        && heap > memory
    {
        let what = format!("{heap} is more than the {memory} that the server may use");
        findings.wrong("topology.heap", what);
    }
    raw.heap.map(Size::bytes)
}

fn records(raw: &RawWorkload, findings: &mut Findings<'_>) -> Workload {
    let mix = weights(&raw.mix);
    if mix.is_empty() {
        findings.wrong("workload.mix", "every weight is 0, so there is nothing to do");
    }
    if raw.mix.delete > raw.mix.create {
        findings.warnings.push(format!(
            "the mix deletes more records ({}) than it creates ({}): in a long run the rest of \
             the mix will be told `not_found`",
            raw.mix.delete, raw.mix.create
        ));
    }
    Workload {
        records: raw.records,
        value_bytes: raw.value_bytes,
        mix,
        keys: keys(&raw.keys, findings),
    }
}

fn weights(raw: &RawMix) -> BTreeMap<OpClass, u32> {
    let all = [
        (OpClass::ReadMajority, raw.read_majority),
        (OpClass::ReadLocal, raw.read_local),
        (OpClass::Update, raw.update),
        (OpClass::UpdateVersioned, raw.update_versioned),
        (OpClass::Create, raw.create),
        (OpClass::Delete, raw.delete),
    ];
    all.into_iter().filter(|(_, weight)| *weight > 0).collect()
}

fn keys(raw: &RawKeys, findings: &mut Findings<'_>) -> KeyDistribution {
    let skewed = matches!(raw.distribution, Distribution::Zipfian | Distribution::Latest);
    let hotspot = raw.distribution == Distribution::Hotspot;
    let mut parameter = |name: &str, given: Option<f64>, default: f64, belongs: bool, of: &str| {
        let key = format!("workload.keys.{name}");
        match given {
            Some(_) if !belongs => findings.wrong(&key, format!("has a meaning for {of} alone")),
            Some(value) if !(value > 0.0 && value < 1.0) => {
                let what = format!("`{value}` is not legal here; legal: between 0 and 1");
                findings.wrong(&key, what);
            }
            Some(_) | None => {}
        }
        given.unwrap_or(default)
    };
    let theta = parameter("theta", raw.theta, 0.99, skewed, "zipfian and latest");
    let data_fraction = parameter("data_fraction", raw.data_fraction, 0.2, hotspot, "hotspot");
    let op_fraction = parameter("op_fraction", raw.op_fraction, 0.8, hotspot, "hotspot");
    match raw.distribution {
        Distribution::Uniform => KeyDistribution::Uniform,
        Distribution::Zipfian => KeyDistribution::Zipfian { theta },
        Distribution::Latest => KeyDistribution::Latest { theta },
        Distribution::Hotspot => KeyDistribution::Hotspot { data_fraction, op_fraction },
        Distribution::Sequential => KeyDistribution::Sequential,
    }
}

fn load(raw: &RawLoad, topology: &Topology, findings: &mut Findings<'_>) -> Load {
    let mode = match raw.mode {
        Mode::Open => LoadMode::Open {
            rate: raw.rate.unwrap_or(RATE_DEFAULT),
            arrivals: raw.arrivals.unwrap_or(Arrivals::Poisson),
        },
        Mode::Closed => {
            for (key, given) in
                [("load.rate", raw.rate.is_some()), ("load.arrivals", raw.arrivals.is_some())]
            {
                if given {
                    let what = "a closed loop has no schedule; remove it, or set `mode: open`";
                    findings.wrong(key, what);
                }
            }
            LoadMode::Closed
        }
    };
    if raw.timeout.as_ms() == 0 {
        findings.wrong("load.timeout", "must be at least 1ms");
    }
    Load {
        mode,
        clients: raw.clients.unwrap_or_else(|| clients(mode, raw.timeout.get().as_secs_f64())),
        timeout_ms: raw.timeout.as_ms(),
        in_flight_cap: raw.in_flight_cap,
        targets: targets(&raw.targets, topology, findings),
        readers: readers(raw.read_at.as_ref(), topology, findings),
    }
}

/// Enough connections that one time-out's worth of arrivals can hang without delaying the rest.
fn clients(mode: LoadMode, timeout_s: f64) -> u32 {
    match mode {
        LoadMode::Closed => CLIENTS_CLOSED_DEFAULT,
        LoadMode::Open { rate, .. } => {
            let wanted = (rate * timeout_s).ceil().clamp(CLIENTS_OPEN_MIN, CLIENTS_OPEN_MAX);
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "clamped between 16 and 1024"
            )]
            let wanted = wanted as u32;
            wanted
        }
    }
}

fn targets(raw: &RawTargets, topology: &Topology, findings: &mut Findings<'_>) -> Vec<String> {
    match raw {
        RawTargets::Word(AllWord::All) => topology.masters.clone(),
        RawTargets::Names(names) => {
            server_names("load.targets", names, &topology.masters, findings);
            names.clone()
        }
    }
}

fn readers(
    raw: Option<&RawReadAt>,
    topology: &Topology,
    findings: &mut Findings<'_>,
) -> Vec<String> {
    match raw {
        None => Vec::new(),
        Some(RawReadAt::Word(ReadAtWord::All)) => topology.servers(),
        Some(RawReadAt::Word(ReadAtWord::Replicas)) => {
            if topology.replicas.is_empty() {
                findings.wrong("load.read_at", "there is no REPLICA; set `topology.replicas`");
            }
            topology.replicas.clone()
        }
        Some(RawReadAt::Names(names)) => {
            server_names("load.read_at", names, &topology.servers(), findings);
            names.clone()
        }
    }
}

/// Complains about names that are not among these, about doubles, and about an empty list.
pub(super) fn server_names(
    key: &str,
    names: &[String],
    legal: &[String],
    findings: &mut Findings<'_>,
) {
    let servers = legal.join(", ");
    if names.is_empty() {
        findings.wrong(key, format!("an empty list is not legal here; legal: {servers}"));
    }
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let key = format!("{key}.{index}");
        if !legal.contains(name) {
            findings.wrong(&key, format!("there is no server `{name}`; legal: {servers}"));
        } else if !seen.insert(name) {
            findings.wrong(&key, format!("`{name}` is named twice"));
        }
    }
}

fn phases(raw: &RawPhases, load: &RawLoad, findings: &mut Findings<'_>) -> Phases {
    if raw.measure.as_ms() == 0 {
        findings.wrong("phases.measure", "must be longer than 0s");
    } else if load.timeout >= raw.measure {
        let what = format!(
            "{} is not shorter than the measure phase ({}), so a hanging operation would never \
             be seen to fail",
            load.timeout, raw.measure
        );
        findings.wrong("load.timeout", what);
    }
    Phases {
        warmup_ms: raw.warmup.as_ms(),
        measure_ms: raw.measure.as_ms(),
        settle_ms: raw.settle.as_ms(),
    }
}
