//! Writes synthetic run folders: deterministic, with an outage of known length, a partition, a
//! violated checker, an unsound measurement, or what a crash leaves behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use quorate::folder::{
    DriverSummary, FaultAction, FaultRecord, Manifest, NodeSample, PhaseMark, RunFolder,
    SoundnessFinding,
};
use quorate::plan::{
    Arrivals, Cut, FaultKind, KeyDistribution, Load, LoadMode, OpClass, PLAN_FORMAT, Phases, Plan,
    PlannedFault, Shape, Target, Topology, Workload,
};
use quorate_check::format::Writer;
use quorate_check::history::{
    Action, Header, Nanos, OpKind, Operation, Outcome, Phase, ReadLevel, Seen, Step,
};
use quorate_check::{Checker, Counterexample, Judgement, Report, Verdict};

const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1000 * MS;

/// Begin of the measure phase on the history's clock.
const MEASURE: Nanos = 10 * SECOND;

/// A run that never took place.
#[derive(Debug, Clone)]
pub(crate) struct Synthetic {
    /// Its name.
    pub(crate) name: &'static str,
    /// Number of servers.
    pub(crate) masters: usize,
    /// Write quorum.
    pub(crate) quorum: &'static str,
    /// Operations per second, evenly spaced.
    pub(crate) rate: u64,
    /// Length of the measure phase in seconds.
    pub(crate) seconds: u64,
    /// Everything stands still from this second of it on, for so many milliseconds.
    pub(crate) outage: Option<(u64, u64)>,
    /// Faults at 35 s (partition of the last server for 10 s) and 50 s (kill of the first, 3 s).
    pub(crate) faults: bool,
    /// Service times with a tail; else 2 ms each.
    pub(crate) tail: bool,
    /// Two records are lost.
    pub(crate) violated: bool,
    /// The driver was saturated.
    pub(crate) unsound: bool,
    /// The recorder was killed: files are missing, the last line is cut off.
    pub(crate) crashed: bool,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self {
            name: "synthetic",
            masters: 3,
            quorum: "majority",
            rate: 100,
            seconds: 10,
            outage: Some((3, 1400)),
            faults: false,
            tail: false,
            violated: false,
            unsound: false,
            crashed: false,
        }
    }
}

impl Synthetic {
    /// A minute with everything that a report can show.
    pub(crate) fn rich() -> Self {
        Self {
            name: "partition-and-crash",
            rate: 500,
            seconds: 60,
            outage: Some((20, 1400)),
            faults: true,
            tail: true,
            ..Self::default()
        }
    }

    /// Writes the folder at `root`.
    pub(crate) fn write(&self, root: &Path) -> RunFolder {
        fs::create_dir_all(root).unwrap();
        let folder = RunFolder::new(root);
        json(&folder.plan(), &self.plan());
        json(&folder.manifest(), &self.manifest());
        self.write_history(&folder);
        lines(&folder.faults(), &self.fault_records());
        lines(&folder.nodes(), &self.samples());
        if self.crashed {
            let mut text = fs::read_to_string(folder.nodes()).unwrap();
            text.truncate(text.len() - 20);
            fs::write(folder.nodes(), text).unwrap();
            return folder;
        }
        lines(&folder.phases(), &self.phases());
        json(&folder.driver(), &self.driver());
        json(&folder.soundness(), &self.soundness());
        json(&folder.verdicts(), &self.verdicts());
        folder
    }

    fn nodes(&self) -> Vec<String> {
        (1..=self.masters).map(|n| format!("n{n}")).collect()
    }

    fn end(&self) -> Nanos {
        MEASURE + self.seconds * SECOND
    }

    fn plan(&self) -> Plan {
        let mix = [
            (OpClass::ReadMajority, 40),
            (OpClass::ReadLocal, 20),
            (OpClass::Update, 30),
            (OpClass::Create, 10),
        ];
        let partition =
            FaultKind::Partition { cut: Cut::Silent, target: Target::One, shape: Shape::Sides };
        let kill = FaultKind::Kill { target: Target::One };
        let fault = |name: &str, at_ms, for_ms, kind| PlannedFault {
            name: name.to_owned(),
            at_ms,
            for_ms,
            kind,
            drawn_as: None,
            trigger: None,
        };
        Plan {
            format: PLAN_FORMAT,
            name: self.name.to_owned(),
            description: "A made-up run: what a report must show, <escaped> & all.".to_owned(),
            seed: 7,
            topology: Topology {
                masters: self.nodes(),
                replicas: Vec::new(),
                standalone: false,
                write_quorum: self.quorum.to_owned(),
                proxied: true,
                limits: quorate::plan::Limits::default(),
                heap_bytes: None,
            },
            network: None,
            workload: Workload {
                records: 1000,
                value_bytes: 100,
                mix: BTreeMap::from(mix),
                keys: KeyDistribution::Zipfian { theta: 0.99 },
            },
            load: Load {
                mode: LoadMode::Open { rate: self.rate as f64, arrivals: Arrivals::Uniform },
                clients: 32,
                timeout_ms: 1000,
                in_flight_cap: 256,
                targets: self.nodes(),
                readers: Vec::new(),
            },
            phases: Phases { warmup_ms: 5000, measure_ms: self.seconds * 1000, settle_ms: 5000 },
            faults: if self.faults {
                vec![
                    fault("cut-one", 35_000, 10_000, partition),
                    fault("kill-one", 50_000, 3_000, kill),
                ]
            } else {
                Vec::new()
            },
            expect: BTreeMap::new(),
        }
    }

    fn manifest(&self) -> Manifest {
        let pairs = [
            ("CPU", "an imaginary processor, 2 cores"),
            ("memory", "16 GiB"),
            ("kernel", "Linux 6.1"),
            ("file system of the data", "ext4"),
            ("fdatasync p50", "410 µs"),
            ("fdatasync p99", "2900 µs"),
            ("clock source", "tsc"),
        ];
        let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        Manifest {
            format: 1,
            harness: "quorate 0.1.0 (0000000)".to_owned(),
            node: "quorate-node 0.1.0 (0000000)".to_owned(),
            node_sha256: "0".repeat(64),
            stage: "process".to_owned(),
            stage_reason: "no container engine answers".to_owned(),
            started: "2026-01-01T00:00:00Z".to_owned(),
            repeat: format!("quorate run workloads/{}.yaml --seed 7 --stage process", self.name),
            workload: format!("workloads/{}.yaml", self.name),
            environment: pairs.map(pair).to_vec(),
        }
    }

    fn phases(&self) -> Vec<PhaseMark> {
        let mark = |phase, from, to| PhaseMark { phase, from, to };
        vec![
            mark(Phase::Load, 0, 5 * SECOND),
            mark(Phase::Warmup, 5 * SECOND, MEASURE),
            mark(Phase::Measure, MEASURE, self.end()),
            mark(Phase::Settle, self.end(), self.end() + 5 * SECOND),
            mark(Phase::Final, self.end() + 5 * SECOND, self.end() + 6 * SECOND),
        ]
    }

    fn write_history(&self, folder: &RunFolder) {
        let header = Header::new(self.nodes(), 1000, false);
        let mut writer = Writer::new(Vec::new(), &header).unwrap();
        for op in self.operations() {
            writer.invoke(&op).unwrap();
            if op.code.as_deref() != Some("pending") {
                writer.complete(&op).unwrap();
            }
        }
        fs::write(folder.history(), writer.finish().unwrap()).unwrap();
    }

    fn operations(&self) -> Vec<Operation> {
        let gap = SECOND / self.rate;
        let mut noise = Noise(1);
        let measured = self.seconds * self.rate;
        let of_phase =
            |phase, begin: Nanos, count: u64| (0..count).map(move |k| (phase, begin + k * gap));
        let warm = of_phase(Phase::Warmup, 5 * SECOND, if self.tail { 5 * self.rate } else { 0 });
        let settle = if self.tail { self.rate } else { 0 };
        warm.chain(of_phase(Phase::Measure, MEASURE, measured))
            .chain(of_phase(Phase::Settle, self.end(), settle))
            .enumerate()
            .map(|(k, (phase, intended))| self.operation(k as u64, phase, intended, &mut noise))
            .collect()
    }

    fn operation(&self, k: u64, phase: Phase, intended: Nanos, noise: &mut Noise) -> Operation {
        let draw = noise.next();
        let (kind, level) = match (phase, draw % 10) {
            (Phase::Settle, _) | (_, 4..6) => (OpKind::Read, Some(ReadLevel::Local)),
            (_, 0..4) => (OpKind::Read, Some(ReadLevel::Majority)),
            (_, 6..9) => (OpKind::Update, None),
            _ => (OpKind::Create, None),
        };
        let service = self.service(kind, level, noise);
        let action = match level {
            Some(_) => Action::Read(None),
            None => Action::Write(k + 1),
        };
        let step = Step::new(k % 1000, action);
        let mut op = Operation {
            id: k + 1,
            process: k % 32,
            session: k % 32,
            kind,
            phase,
            node: (k % self.masters as u64) as u32,
            level,
            steps: vec![step],
            intended,
            sent: intended,
            done: Some(intended + service),
            outcome: Outcome::Ok,
            code: None,
        };
        if self.tail {
            op.sent += 20_000 + noise.next() % 60_000;
            op.done = op.done.map(|done| done + (op.sent - op.intended));
        }
        self.stand_still(&mut op, service);
        if self.faults && phase == Phase::Measure {
            self.suffer(&mut op, noise);
        }
        if let (Outcome::Ok, Some(Action::Read(seen))) =
            (op.outcome, op.steps.first_mut().map(|step| &mut step.action))
        {
            *seen = Some(Seen::Absent(None));
        }
        op
    }

    fn service(&self, kind: OpKind, level: Option<ReadLevel>, noise: &mut Noise) -> Nanos {
        if !self.tail {
            return 2 * MS;
        }
        let base = match (kind, level) {
            (_, Some(ReadLevel::Local)) => 220_000,
            (_, Some(ReadLevel::Majority)) => 610_000,
            _ => 1_350_000,
        };
        // A Pareto tail: one in a thousand takes ten times as long.
        let unit = (noise.next() % 1_000_000 + 1) as f64 / 1_000_001.0;
        (base as f64 * unit.powf(-1.0 / 3.0)).min(4e8) as Nanos
    }

    /// Operations of the outage are served when it is over.
    fn stand_still(&self, op: &mut Operation, service: Nanos) {
        let Some((from, millis)) = self.outage else {
            return;
        };
        let from = MEASURE + from * SECOND;
        let to = from + millis * MS;
        if (from..to).contains(&op.intended) {
            op.sent = to;
            op.done = Some(to + service);
        }
    }

    /// The last server is cut off from 35 s to 45 s, the first is dead from 50 s to 53 s.
    fn suffer(&self, op: &mut Operation, noise: &mut Noise) {
        let at = (op.intended - MEASURE) / MS;
        let last = op.node as usize == self.masters - 1;
        let local = op.level == Some(ReadLevel::Local);
        let fail = |op: &mut Operation, outcome, code: &str, after: Nanos| {
            op.outcome = outcome;
            op.code = Some(code.to_owned());
            op.done = Some(op.sent + after);
        };
        match at {
            35_000..36_000 if last && !local => {
                fail(op, Outcome::Unknown, "client_timeout", 1000 * MS);
                op.done = None;
            }
            36_000..45_350 if last && !local => {
                let after = 400_000 + noise.next() % 900_000;
                fail(op, Outcome::Failed, "no_quorum", after);
            }
            50_000..50_012 if op.node == 0 => fail(op, Outcome::Unknown, "connection_lost", 3 * MS),
            50_012..53_600 if op.node == 0 => {
                fail(op, Outcome::Failed, "connect_refused", 150_000);
            }
            _ if op.kind == OpKind::Update && noise.next().is_multiple_of(400) => {
                fail(op, Outcome::Failed, "version_conflict", MS);
            }
            _ => {}
        }
    }

    fn fault_records(&self) -> Vec<FaultRecord> {
        if !self.faults {
            return Vec::new();
        }
        let record = |name: &str, action, requested: &str, hit: String, at_ms: u64, proof: &str| {
            let at = MEASURE + at_ms * MS;
            FaultRecord {
                name: name.to_owned(),
                action,
                requested: requested.to_owned(),
                resolved: vec![hit],
                planned: at,
                begun: at + 300_000,
                acknowledged: at + 2 * MS,
                proven: Some(at + 9 * MS),
                evidence: proof.to_owned(),
            }
        };
        let last = format!("n{}", self.masters);
        let (inject, heal) = (FaultAction::Inject, FaultAction::Heal);
        let (cut, kill) = ("partition silent one", "kill one");
        vec![
            record("cut-one", inject, cut, last.clone(), 35_000, "canary on 4 links held"),
            record("cut-one", heal, cut, last, 45_000, "canary on 4 links passed"),
            record("kill-one", inject, kill, "n1".to_owned(), 50_000, "exit by signal 9 observed"),
            record("kill-one", heal, kill, "n1".to_owned(), 53_000, "health said ONLINE"),
        ]
    }

    fn samples(&self) -> Vec<NodeSample> {
        let mut samples = Vec::new();
        let steps = (self.seconds + 10) * 2;
        for step in 0..steps {
            let at = 5 * SECOND + step * SECOND / 2;
            let into = at.saturating_sub(MEASURE) / MS;
            for (index, node) in self.nodes().into_iter().enumerate() {
                let dead = self.faults && index == 0 && (50_000..53_000).contains(&into);
                let wave = ((step as f64 / 9.0 + index as f64).sin() + 1.5) * 0.06;
                let count = step as f64 * 40.0;
                let metrics = [
                    ("quorate_fsync_seconds_count", count),
                    ("quorate_fsync_seconds_sum", count * 0.0004 + wave * 0.02),
                    ("quorate_persist_queue", (step % 5) as f64),
                ];
                let named = metrics.map(|(name, value)| (name.to_owned(), value));
                samples.push(NodeSample {
                    at,
                    node,
                    state: if dead { "dead" } else { "running" }.to_owned(),
                    cpu_seconds: step as f64 * 0.15 + wave,
                    rss_bytes: (48 << 20) + step * 100_000 + index as u64 * 3_000_000,
                    metrics: if dead { BTreeMap::new() } else { BTreeMap::from(named) },
                });
            }
        }
        samples
    }

    fn driver(&self) -> DriverSummary {
        let count = self.rate * self.seconds;
        DriverSummary {
            scheduled: count,
            sent: count,
            completed: count,
            asked_rate: self.rate as f64,
            achieved_rate: self.rate as f64,
            start_delay_us: [31.0, 85.0, 912.0],
            backlog_max: 12,
            capped_ms: 0,
            cpu_seconds: 3.25,
        }
    }

    fn soundness(&self) -> Vec<SoundnessFinding> {
        let finding = |code: &str, fatal, detail: &str| SoundnessFinding {
            code: code.to_owned(),
            fatal,
            detail: detail.to_owned(),
        };
        let mut findings = vec![finding("shared_cores", false, "driver and nodes share 2 cores")];
        if self.unsound {
            let detail = "start delay p99 41 ms outside back-pressure, limit 1 ms";
            findings.push(finding("driver_saturated", true, detail));
        }
        findings
    }

    fn verdicts(&self) -> Report {
        let judgement = |checker, counts: &[(&str, u64)], explanation: &str| Judgement {
            checker,
            verdict: Verdict::Valid,
            counts: counts.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect(),
            explanation: explanation.to_owned(),
            counterexample: None,
        };
        let lost = if self.violated { 2 } else { 0 };
        let mut judgements = vec![
            judgement(
                Checker::AcknowledgedDurable,
                &[("acked-lost", lost), ("acked-present", 998)],
                "every acknowledged write is there at the end",
            ),
            judgement(Checker::Linearizable, &[("keys", 1000)], "each key is linearizable"),
            judgement(Checker::Convergence, &[("keys-diverged", 0)], "all servers agree"),
        ];
        if self.violated {
            let lines = [
                "key 17: #12:17, write 4711 by n3 acknowledged at 35.204 s",
                "key 17: final majority read sees write 4102, acknowledged at 12.871 s",
                "key 23: #12:23, write 4719 by n3 acknowledged at 35.311 s; final read: absent",
            ];
            judgements[0].verdict = Verdict::Violated;
            judgements[0].explanation = "2 acknowledged writes are gone".to_owned();
            judgements[0].counterexample = Some(Counterexample {
                operations: Vec::new(),
                lines: lines.map(str::to_owned).to_vec(),
            });
        }
        Report::new(judgements)
    }
}

/// A sequence that is the same on every machine.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

fn json(path: &Path, value: &impl serde::Serialize) {
    fs::write(path, serde_json::to_string_pretty(value).unwrap()).unwrap();
}

fn lines(path: &Path, values: &[impl serde::Serialize]) {
    let text: String =
        values.iter().map(|value| serde_json::to_string(value).unwrap() + "\n").collect();
    fs::write(path, text).unwrap();
}
