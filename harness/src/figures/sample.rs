//! Hand-made histories for the tests of this module.

use std::collections::BTreeMap;

use quorate_check::history::{
    Header, History, Nanos, OpKind, Operation, Outcome, Phase, ReadLevel,
};

use super::Input;
use crate::folder::{FaultAction, FaultRecord, PhaseMark};
use crate::plan::{
    Arrivals, Cut, FaultKind, KeyDistribution, Load, LoadMode, PLAN_FORMAT, Phases, Plan,
    PlannedFault, Shape, Target, Topology, Workload,
};

/// A millisecond in nanoseconds.
pub(super) const MS: Nanos = 1_000_000;

/// Owns what an [`Input`] borrows.
pub(super) struct Sample {
    pub(super) history: History,
    pub(super) plan: Plan,
    pub(super) phases: Vec<PhaseMark>,
    pub(super) faults: Vec<FaultRecord>,
}

impl Sample {
    /// Three servers, a measure phase of `measure_ms` that begins at 0, time-out 1 s.
    pub(super) fn new(measure_ms: u64) -> Self {
        let nodes: Vec<String> = (1..=3).map(|n| format!("n{n}")).collect();
        let header = Header::new(nodes.clone(), 1, false);
        Self {
            history: History { header, operations: Vec::new() },
            plan: plan(nodes, measure_ms),
            phases: vec![PhaseMark { phase: Phase::Measure, from: 0, to: measure_ms * MS }],
            faults: Vec::new(),
        }
    }

    /// What the figures are made from.
    pub(super) fn input(&self) -> Input<'_> {
        Input {
            history: &self.history,
            plan: &self.plan,
            phases: &self.phases,
            faults: &self.faults,
        }
    }

    /// A majority read of server `node`, intended and sent at `at_ms`, done `after_us` later.
    pub(super) fn read(&mut self, node: u32, at_ms: u64, after_us: u64) -> &mut Operation {
        self.push(OpKind::Read, node, at_ms, after_us)
    }

    /// The same as an update.
    pub(super) fn update(&mut self, node: u32, at_ms: u64, after_us: u64) -> &mut Operation {
        self.push(OpKind::Update, node, at_ms, after_us)
    }

    fn push(&mut self, kind: OpKind, node: u32, at_ms: u64, after_us: u64) -> &mut Operation {
        let id = self.history.operations.len() as u64 + 1;
        self.history.operations.push(Operation {
            id,
            process: id,
            session: id,
            kind,
            phase: Phase::Measure,
            node,
            level: (kind == OpKind::Read).then_some(ReadLevel::Majority),
            steps: Vec::new(),
            intended: at_ms * MS,
            sent: at_ms * MS,
            done: Some(at_ms * MS + after_us * 1000),
            outcome: Outcome::Ok,
            code: None,
        });
        self.history.operations.last_mut().unwrap()
    }

    /// A silent partition `cut` of n3, in force from `from_ms` to `to_ms`.
    pub(super) fn partition(&mut self, name: &str, from_ms: u64, to_ms: u64) {
        self.plan.faults.push(PlannedFault {
            name: name.to_owned(),
            at_ms: from_ms,
            for_ms: to_ms - from_ms,
            kind: FaultKind::Partition {
                cut: Cut::Silent,
                target: Target::One,
                shape: Shape::Sides,
            },
            drawn_as: None,
            trigger: None,
        });
        for (action, at_ms) in [(FaultAction::Inject, from_ms), (FaultAction::Heal, to_ms)] {
            self.faults.push(FaultRecord {
                name: name.to_owned(),
                action,
                requested: "partition silent one".to_owned(),
                resolved: vec!["n3".to_owned()],
                planned: at_ms * MS,
                begun: at_ms * MS,
                acknowledged: at_ms * MS,
                proven: Some(at_ms * MS),
                evidence: "bytes held".to_owned(),
            });
        }
    }
}

/// Makes an operation a failure with a code.
pub(super) fn fail(op: &mut Operation, outcome: Outcome, code: &str) {
    op.outcome = outcome;
    op.code = Some(code.to_owned());
}

fn plan(masters: Vec<String>, measure_ms: u64) -> Plan {
    Plan {
        format: PLAN_FORMAT,
        name: "sample".to_owned(),
        description: "hand-made".to_owned(),
        seed: 1,
        topology: Topology {
            masters: masters.clone(),
            replicas: Vec::new(),
            standalone: false,
            write_quorum: "majority".to_owned(),
            proxied: true,
            limits: crate::plan::Limits::default(),
            heap_bytes: None,
        },
        network: None,
        workload: Workload {
            records: 1,
            value_bytes: 0,
            mix: BTreeMap::new(),
            keys: KeyDistribution::Uniform,
        },
        load: Load {
            mode: LoadMode::Open { rate: 100.0, arrivals: Arrivals::Uniform },
            clients: 1,
            timeout_ms: 1000,
            in_flight_cap: 0,
            targets: masters,
            readers: Vec::new(),
        },
        phases: Phases { warmup_ms: 0, measure_ms, settle_ms: 0 },
        faults: Vec::new(),
        expect: BTreeMap::new(),
    }
}
