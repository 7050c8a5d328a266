//! How fast three machines commit a record in one round, with disks in memory that sync at once and
//! a network without delay: the machine's own cost. No correctness here, except that it commits.

use std::collections::VecDeque;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quorate_api::{Boot, ClusterKey, Image, ItemId, NodeId, OpKind};
use quorate_protocol::io::{Base, Config, Effect, Event, Placement, Proposal, Reply, Submit, Tick};
use quorate_protocol::machine::Machine;

use disk::Disk;

#[expect(dead_code, unreachable_pub, reason = "the simulator's disk, as it is; no crate edge")]
#[path = "../../sim/src/disk.rs"]
mod disk;

const SERVERS: u64 = 3;
const CLUSTER: ClusterKey = ClusterKey { database: 1, cluster: 10 };
const IMAGE_BYTES: usize = 256;

/// Time between two transactions: acknowledgements and marks have their turn.
const GAP: Tick = 200;

struct Servers {
    now: Tick,
    machines: Vec<(Machine, Disk)>,
    events: VecDeque<(usize, Event)>,
    committed: u64,
    requests: u64,
}

impl Servers {
    fn new() -> Self {
        let nodes: Vec<NodeId> = (1..=SERVERS).map(NodeId).collect();
        let start = |node: &NodeId| {
            let disk = Disk::default();
            let recovered = disk.recover().expect("a new disk");
            (Machine::new(Config::new(*node, Boot(1), node.0), recovered), disk)
        };
        let machines = nodes.iter().map(start).collect();
        let events = VecDeque::new();
        let mut servers = Self { now: 0, machines, events, committed: 0, requests: 0 };
        let placement = Placement::first(nodes.clone(), 2);
        for at in 0..nodes.len() {
            let placements = [(CLUSTER, placement.clone())].into();
            servers.events.push_back((at, Event::Configure { cfg: 1, placements }));
            for peer in nodes.iter().filter(|peer| **peer != nodes[at]) {
                let event = Event::Peer { node: *peer, boot: Boot(1), up: true };
                servers.events.push_back((at, event));
            }
        }
        servers.settle();
        servers
    }

    /// One transaction at the first server, until nothing is under way.
    fn commit(&mut self, kind: OpKind, position: u64, image: &Image) {
        self.now += GAP;
        self.requests += 1;
        let item = ItemId::record(CLUSTER, position);
        let proposal = Proposal { item, kind, base: Base::Current, image: Some(image.clone()) };
        let submit = Submit {
            request: self.requests,
            ops: vec![proposal],
            deadline: self.now + 1_000_000,
            wall_us: self.now,
            schema: 0,
        };
        self.events.push_back((0, Event::Submit(submit)));
        self.settle();
        for at in 0..self.machines.len() {
            if self.machines[at].0.next_deadline().is_some_and(|due| due <= self.now) {
                self.events.push_back((at, Event::Tick));
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        let mut out = Vec::new();
        while let Some((at, event)) = self.events.pop_front() {
            let (machine, disk) = &mut self.machines[at];
            machine.step(self.now, event, &*disk, &mut out);
            for effect in out.drain(..) {
                match effect {
                    Effect::Persist { seq, writes } => {
                        disk.write(seq, writes);
                        disk.synced(seq);
                    }
                    Effect::Send { to, message, .. } => {
                        let from = NodeId(at as u64 + 1);
                        let event = Event::Message { from, cfg: 1, message };
                        self.events.push_back((to.0 as usize - 1, event));
                    }
                    Effect::Reply { reply: Reply::Committed { .. }, .. } => self.committed += 1,
                    Effect::Reply { reply, .. } => panic!("{reply:?}"),
                    Effect::Note(_)
                    | Effect::Copy { .. }
                    | Effect::Survey { .. }
                    | Effect::Report { .. } => {}
                }
            }
        }
    }
}

fn machine(criterion: &mut Criterion) {
    let image = Image::from(vec![7; IMAGE_BYTES]);
    let mut group = criterion.benchmark_group("machine");
    group.throughput(Throughput::Elements(1));
    let mut servers = Servers::new();
    let mut position = 0;
    group.bench_function("create, 3 machines, one round", |bencher| {
        bencher.iter(|| {
            position += 1;
            servers.commit(OpKind::Create, position, &image);
        });
    });
    assert_eq!(servers.committed, servers.requests);
    let mut servers = Servers::new();
    servers.commit(OpKind::Create, 0, &image);
    group.bench_function("update one record, 3 machines, one round", |bencher| {
        bencher.iter(|| servers.commit(OpKind::Update, 0, &image));
    });
    assert_eq!(servers.committed, servers.requests);
    group.finish();
}

criterion_group!(benches, machine);
criterion_main!(benches);
