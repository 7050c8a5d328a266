//! Which runs of a results folder can stand in one matrix: those without faults whose workloads
//! differ in the MASTERs and the write quorum alone. Anything else that differed would be read as
//! the price of a quorum. Draws nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::error::ReportError;
use super::load;
use super::summary::Summary;
use crate::folder::{Manifest, RunFolder};
use crate::plan::{PLAN_FORMATS, Plan};

/// What runs of one matrix have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Common {
    /// The workload file; empty if the manifest does not name it.
    workload: String,
    /// The stage: simulated figures do not stand beside measured ones.
    stage: String,
    /// The plan without what may differ, as JSON.
    plan: String,
}

/// What a run has in common with those that it may be set beside; `None` for a run with faults.
pub(super) fn common(folder: &RunFolder) -> Result<Option<Common>, ReportError> {
    let Some(plan) = load::versioned_in::<Plan>(&folder.plan(), PLAN_FORMATS)? else {
        return Ok(None);
    };
    if !plan.faults.is_empty() {
        return Ok(None);
    }
    let manifest = load::versioned::<Manifest>(&folder.manifest(), load::MANIFEST_FORMAT)?;
    let said = manifest.map(|manifest| (manifest.workload, manifest.stage));
    let (workload, stage) = said.unwrap_or_default();
    let json = serde_json::to_string(&without_what_may_differ(plan));
    Ok(Some(Common { workload, stage, plan: json.map_err(ReportError::Summary)? }))
}

fn without_what_may_differ(mut plan: Plan) -> Plan {
    if plan.load.targets == plan.topology.masters {
        plan.load.targets.clear();
    }
    plan.topology.masters.clear();
    plan.topology.write_quorum.clear();
    plan.name.clear();
    plan.description.clear();
    plan.seed = 0;
    plan.expect.clear();
    plan
}

/// The runs of a matrix.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sweep {
    /// The workload file; empty if unknown.
    pub(super) workload: String,
    /// Which of the runs, in their order.
    pub(super) runs: Vec<usize>,
}

/// The largest sweep among the runs; `None` if no two comparable ones differ in MASTERs or quorum.
pub(super) fn largest(runs: &[(Option<Common>, &Summary)]) -> Option<Sweep> {
    let mut sweeps: BTreeMap<&Common, Vec<usize>> = BTreeMap::new();
    for (index, (common, _)) in runs.iter().enumerate() {
        if let Some(common) = common {
            sweeps.entry(common).or_default().push(index);
        }
    }
    let cells = |members: &[usize]| {
        let cell = |index: &usize| (runs[*index].1.masters, &runs[*index].1.write_quorum);
        members.iter().map(cell).collect::<BTreeSet<_>>().len()
    };
    let (common, members) = sweeps.into_iter().max_by_key(|(_, members)| cells(members))?;
    (cells(&members) > 1).then(|| Sweep { workload: common.workload.clone(), runs: members })
}
