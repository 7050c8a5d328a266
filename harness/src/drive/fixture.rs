//! A small plan and a call for the driver's unit tests to vary.

use std::collections::BTreeMap;

use quorate_check::history::Phase;

use crate::drive::request::Call;
use crate::plan::{
    Arrivals, KeyDistribution, Load, LoadMode, OpClass, PLAN_FORMAT, Phases, Plan, Topology,
    Workload,
};

/// An open-loop plan over one server.
pub(crate) fn plan() -> Plan {
    Plan {
        format: PLAN_FORMAT,
        name: "fixture".to_owned(),
        description: String::new(),
        seed: 42,
        topology: Topology {
            masters: vec!["n1".to_owned()],
            replicas: Vec::new(),
            standalone: false,
            write_quorum: "majority".to_owned(),
            proxied: false,
            limits: crate::plan::Limits::default(),
            heap_bytes: None,
        },
        network: None,
        workload: Workload {
            records: 100,
            value_bytes: 16,
            mix: [(OpClass::ReadLocal, 50), (OpClass::Update, 50)].into(),
            keys: KeyDistribution::Uniform,
        },
        load: Load {
            mode: LoadMode::Open { rate: 1000.0, arrivals: Arrivals::Uniform },
            clients: 4,
            timeout_ms: 1000,
            in_flight_cap: 100,
            targets: vec!["n1".to_owned()],
            readers: Vec::new(),
        },
        phases: Phases { warmup_ms: 0, measure_ms: 1000, settle_ms: 1000 },
        faults: Vec::new(),
        expect: BTreeMap::new(),
    }
}

/// A local read of key 0.
pub(crate) fn call() -> Call {
    Call {
        id: 1,
        process: 0,
        session: 0,
        node: 0,
        class: OpClass::ReadLocal,
        phase: Phase::Measure,
        key: 0,
        rid: None,
        base: None,
        intended: 0,
    }
}
