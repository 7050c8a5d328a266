//! What the driver's end-to-end tests share: a plan, endpoints, and reading a run folder back.

#![allow(dead_code, reason = "every test binary uses a part of this")]

pub(crate) mod pauses;

use std::net::SocketAddr;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use quorate::drive::{Driver, LoadReport, Progress};
use quorate::folder::RunFolder;
use quorate::plan::{
    Arrivals, KeyDistribution, Load, LoadMode, OpClass, PLAN_FORMAT, Phases, Plan, Topology,
    Workload,
};
use quorate::run::parts::{Clock, Endpoint};
use quorate_check::history::{Operation, Phase};
use tokio_util::sync::CancellationToken;

/// Nanoseconds in which a run is prepared and loaded, many times over: it takes milliseconds where
/// nobody else wants the machine.
pub(crate) const READY: u64 = 4_000_000_000;

pub(crate) fn plan(rate: f64, measure_ms: u64) -> Plan {
    Plan {
        format: PLAN_FORMAT,
        name: "driver-test".to_owned(),
        description: "driver against a null server".to_owned(),
        seed: 7,
        topology: Topology {
            masters: vec!["n1".to_owned()],
            replicas: Vec::new(),
            standalone: false,
            write_quorum: "majority".to_owned(),
            proxied: false,
            limits: quorate::plan::Limits::default(),
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
            mode: LoadMode::Open { rate, arrivals: Arrivals::Uniform },
            clients: 4,
            timeout_ms: 5000,
            in_flight_cap: 4000,
            targets: vec!["n1".to_owned()],
            readers: Vec::new(),
        },
        phases: Phases { warmup_ms: 0, measure_ms, settle_ms: 2000 },
        faults: Vec::new(),
        expect: std::collections::BTreeMap::new(),
    }
}

pub(crate) fn endpoint(node: &str, addr: SocketAddr) -> Endpoint {
    Endpoint { node: node.to_owned(), client: addr, direct: addr }
}

/// A run folder that goes away with the test.
pub(crate) struct Run {
    pub(crate) clock: Clock,
    pub(crate) folder: RunFolder,
    _dir: tempfile::TempDir,
}

impl Run {
    pub(crate) fn new(clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { clock, folder: RunFolder::new(dir.path()), _dir: dir }
    }

    pub(crate) fn driver(&self, plan: &Plan, endpoints: &[Endpoint]) -> Driver {
        Driver::new(plan, endpoints, "secret", self.clock, &self.folder).unwrap()
    }

    /// Load and measured load against one address, from `start` if given.
    pub(crate) fn measure(&self, plan: &Plan, addr: SocketAddr, start: Option<u64>) -> LoadReport {
        let endpoints: Vec<Endpoint> =
            plan.topology.masters.iter().map(|node| endpoint(node, addr)).collect();
        let mut driver = self.driver(plan, &endpoints);
        let cancel = CancellationToken::new();
        driver.prepare().unwrap();
        driver.load(&cancel).unwrap();
        let ready = self.clock.now();
        let start = start.unwrap_or(ready + 20_000_000);
        assert!(ready < start, "the machine was too slow to be ready for the planned start");
        let progress = tokio::sync::watch::Sender::new(Progress::default());
        let report = driver.run(start, &cancel, progress).unwrap();
        driver.finish().unwrap();
        report
    }

    pub(crate) fn history(&self) -> Vec<Operation> {
        let reading = quorate_check::format::read_path(self.folder.history()).unwrap();
        reading.history.operations
    }

    pub(crate) fn measured(&self) -> Vec<Operation> {
        let mut operations = self.history();
        operations.retain(|op| op.phase == Phase::Measure);
        operations
    }

    /// All histograms of the interval log whose tag ends so, added up.
    pub(crate) fn intervals(&self, tag_end: &str) -> Histogram<u64> {
        let log = std::fs::read(self.folder.intervals()).unwrap();
        let mut sum = Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        let mut deserializer = Deserializer::new();
        for entry in IntervalLogIterator::new(&log) {
            let LogEntry::Interval(interval) = entry.unwrap() else {
                continue;
            };
            if interval.tag().unwrap().as_str().ends_with(tag_end) {
                let bytes = base64_decode(interval.encoded_histogram());
                let part: Histogram<u64> = deserializer.deserialize(&mut &bytes[..]).unwrap();
                sum.add(part).unwrap();
            }
        }
        sum
    }
}

fn base64_decode(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
