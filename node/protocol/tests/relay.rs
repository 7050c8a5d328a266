//! REPLICAs fed by relays, with real machines on the simulator's disks and a network whose faults a
//! test chooses: what a write costs its coordinator, and that everybody gets everything.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]
#![allow(clippy::print_stdout, reason = "the figures are what the test is for")]

#[expect(dead_code, unreachable_pub, reason = "the simulator's disk, as it is; no crate edge")]
#[path = "../../sim/src/disk.rs"]
mod disk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use disk::Disk;
use quorate_api::{Boot, ClusterKey, Image, ItemId, NodeId, OpKind, Stamp};
use quorate_protocol::io::{
    Base, Config, Effect, Event, Note, Placement, Proposal, RelayConfig, Reply, Submit, Tick,
};
use quorate_protocol::machine::Machine;
use quorate_protocol::message::Message;
use quorate_protocol::topology::Topology;

const CLUSTER: ClusterKey = ClusterKey { database: 1, cluster: 10 };
const COORDINATOR: NodeId = NodeId(1);

struct Server {
    machine: Machine,
    disk: Disk,
    boot: Boot,
}

struct World {
    servers: BTreeMap<NodeId, Server>,
    placements: BTreeMap<ClusterKey, Placement>,
    relay: RelayConfig,
    letters: VecDeque<(NodeId, NodeId, Message)>,
    /// Servers that nothing reaches.
    deaf: BTreeSet<NodeId>,
    /// Pairs that have a link; `None`: everybody with everybody.
    links: Option<BTreeSet<(NodeId, NodeId)>>,
    now: Tick,
    written: u64,
    committed: u64,
    /// What the coordinator sent, and how many bytes that is.
    sent: u64,
    bytes: u64,
    /// Messages by sender and receiver.
    pairs: BTreeMap<(NodeId, NodeId), u64>,
    lags: BTreeMap<NodeId, u64>,
    left_online: u64,
}

impl World {
    fn new(masters: u64, replicas: u64, relay: RelayConfig) -> Self {
        Self::linked(masters, replicas, relay, false)
    }

    /// With links between the servers alone that the topology names, if so wanted.
    fn linked(masters: u64, replicas: u64, relay: RelayConfig, few: bool) -> Self {
        let placement = Placement {
            replicas: (masters + 1..=masters + replicas).map(NodeId).collect(),
            ..Placement::first(
                (1..=masters).map(NodeId).collect(),
                usize::try_from(masters / 2 + 1).unwrap(),
            )
        };
        let placements: BTreeMap<_, _> = [(CLUSTER, placement)].into();
        let tree = Topology::new(&placements, relay.fan_out);
        let nodes: Vec<NodeId> = (1..=masters + replicas).map(NodeId).collect();
        let pairs = |node: &NodeId| {
            let node = *node;
            tree.links(node).into_iter().map(move |other| (node, other)).collect::<Vec<_>>()
        };
        let links = few.then(|| nodes.iter().flat_map(pairs).collect());
        let mut world = Self {
            servers: BTreeMap::new(),
            placements,
            relay,
            letters: VecDeque::new(),
            deaf: BTreeSet::new(),
            links,
            now: 0,
            written: 0,
            committed: 0,
            sent: 0,
            bytes: 0,
            pairs: BTreeMap::new(),
            lags: BTreeMap::new(),
            left_online: 0,
        };
        for node in &nodes {
            world.start(*node, Boot(1), Disk::default());
        }
        for node in nodes {
            world.connect(node);
        }
        world.run(3_000_000);
        world
    }

    fn start(&mut self, node: NodeId, boot: Boot, mut disk: Disk) {
        disk.crash(0, 0);
        let mut config = Config::new(node, boot, node.0);
        config.relay = self.relay.clone();
        let machine = Machine::new(config, disk.recover().expect("an undamaged disk"));
        self.servers.insert(node, Server { machine, disk, boot });
        self.step(node, Event::Configure { cfg: 1, placements: self.placements.clone() });
    }

    fn is_linked(&self, a: NodeId, b: NodeId) -> bool {
        self.links.as_ref().is_none_or(|links| links.contains(&(a, b)))
    }

    fn others(&self, node: NodeId) -> Vec<NodeId> {
        self.servers.keys().copied().filter(|other| *other != node).collect()
    }

    /// It and everybody with a link to it believe each other reachable.
    fn connect(&mut self, node: NodeId) {
        for other in self.others(node) {
            if self.is_linked(node, other) {
                self.tell_up(node, other, true);
                self.tell_up(other, node, true);
            }
        }
    }

    fn tell_up(&mut self, to: NodeId, of: NodeId, up: bool) {
        let boot = self.servers[&of].boot;
        self.step(to, Event::Peer { node: of, boot, up });
    }

    /// Power fails, and everybody notices.
    fn kill(&mut self, node: NodeId) -> Disk {
        self.deaf.insert(node);
        for other in self.others(node) {
            self.tell_up(other, node, false);
        }
        core::mem::take(&mut self.servers.get_mut(&node).unwrap().disk)
    }

    fn restart(&mut self, node: NodeId, disk: Disk) {
        let boot = Boot(self.servers[&node].boot.0 + 1);
        self.deaf.remove(&node);
        self.start(node, boot, disk);
        self.connect(node);
    }

    fn step(&mut self, node: NodeId, event: Event) {
        let server = self.servers.get_mut(&node).unwrap();
        let mut out = Vec::new();
        server.machine.step(self.now, event, &server.disk, &mut out);
        for effect in out {
            match effect {
                Effect::Persist { seq, writes } => {
                    server.disk.write(seq, writes);
                    server.disk.synced(seq);
                }
                Effect::Send { to, message, .. } => {
                    if node == COORDINATOR && to != node {
                        self.sent += 1;
                        self.bytes += postcard::to_allocvec(&message).unwrap().len() as u64;
                    }
                    *self.pairs.entry((node, to)).or_default() += 1;
                    self.letters.push_back((node, to, message));
                }
                Effect::Copy { .. } | Effect::Survey { .. } => panic!("nobody aligns here"),
                Effect::Reply { reply, .. } => {
                    self.committed += u64::from(matches!(reply, Reply::Committed { .. }));
                }
                Effect::Note(Note::Corruption { detail, .. }) => panic!("{node:?}: {detail}"),
                Effect::Note(Note::LeftOnline) => self.left_online += 1,
                Effect::Note(Note::Lag { node: of, entries, .. }) if node == COORDINATOR => {
                    self.lags.insert(of, entries);
                }
                Effect::Note(_) | Effect::Report { .. } => {}
            }
        }
    }

    /// Delivers everything; no time passes.
    fn settle(&mut self) {
        loop {
            while let Some((from, to, message)) = self.letters.pop_front() {
                let linked = from == to || self.is_linked(from, to);
                if linked && !self.deaf.contains(&to) && !self.deaf.contains(&from) {
                    self.step(to, Event::Message { from, cfg: 1, message });
                }
            }
            let due =
                |server: &Server| server.machine.next_deadline().is_some_and(|d| d <= self.now);
            let due: Vec<NodeId> = self
                .servers
                .iter()
                .filter(|(node, server)| !self.deaf.contains(node) && due(server))
                .map(|(node, _)| *node)
                .collect();
            if due.is_empty() {
                return;
            }
            for node in due {
                self.step(node, Event::Tick);
            }
        }
    }

    /// Time passes.
    fn run(&mut self, span: Tick) {
        let end = self.now + span;
        self.settle();
        while self.now < end {
            self.now += 10_000;
            self.settle();
        }
    }

    /// A new record, written through the first MASTER.
    fn write(&mut self) {
        let proposal = Proposal {
            item: ItemId::record(CLUSTER, self.written),
            kind: OpKind::Create,
            base: Base::Exact(Stamp::ABSENT),
            image: Some(Image::from(vec![7; 100])),
        };
        self.written += 1;
        let submit = Submit {
            request: self.written,
            ops: vec![proposal],
            deadline: self.now + 1_000_000,
            wall_us: self.now,
            schema: 0,
        };
        self.step(COORDINATOR, Event::Submit(submit));
    }

    fn write_many(&mut self, count: u64) {
        for _ in 0..count {
            self.write();
            self.settle();
        }
        assert_eq!(self.committed, self.written);
    }

    fn has(&self, node: NodeId) -> usize {
        self.servers[&node].disk.visible().items.len()
    }

    fn assert_all_have_all(&self) {
        let all = usize::try_from(self.written).unwrap();
        for node in self.servers.keys().filter(|node| !self.deaf.contains(node)) {
            assert_eq!(self.has(*node), all, "{node:?}");
        }
    }
}

const fn relay(fan_out: usize, kept: usize) -> RelayConfig {
    RelayConfig { fan_out, kept }
}

/// What a hundred writes make the coordinator send, and what it sends in ten seconds after them.
#[derive(Debug, PartialEq, Eq)]
struct Cost {
    messages: u64,
    bytes: u64,
    messages_after: u64,
    bytes_after: u64,
}

fn cost(replicas: u64) -> Cost {
    const WRITES: u64 = 100;
    let mut world = World::new(3, replicas, RelayConfig::new());
    (world.sent, world.bytes) = (0, 0);
    world.write_many(WRITES);
    let (messages, bytes) = (world.sent, world.bytes);
    world.assert_all_have_all();
    (world.sent, world.bytes) = (0, 0);
    world.run(10_000_000);
    let (messages_after, bytes_after) = (world.sent, world.bytes);
    println!(
        "{replicas} REPLICAs: {} messages, {} bytes a write; {} messages, {} bytes a second after",
        messages as f64 / WRITES as f64,
        bytes as f64 / WRITES as f64,
        messages_after as f64 / 10.0,
        bytes_after as f64 / 10.0,
    );
    Cost { messages, bytes, messages_after, bytes_after }
}

/// FEATURES: A3
#[test]
fn a_write_costs_its_coordinator_no_more_with_more_replicas() {
    let (none, four, full) = (cost(0), cost(4), cost(12));
    assert!(none.messages < four.messages && four.messages < full.messages);
    for replicas in [20, 100] {
        let more = cost(replicas);
        assert_eq!((more.messages, more.bytes), (full.messages, full.bytes));
        assert_eq!(more.messages_after, full.messages_after);
        // Who has what is said by name, twice a second.
        let named = (replicas - 12) * 20 * 2 * 20;
        assert!(more.bytes_after <= full.bytes_after + named, "{more:?}, {full:?}");
    }
    let ten = cost(10);
    assert_eq!((ten.messages, ten.bytes), (full.messages, full.bytes));
}

/// FEATURES: A3
#[test]
fn links_of_the_topology_are_enough() {
    let mut world = World::linked(3, 40, relay(2, 100), true);
    world.write_many(50);
    world.assert_all_have_all();
    world.run(5_000_000);
    // Acknowledged by everybody, though nobody below the first level is linked with the MASTER.
    let outcomes = |node: u64| world.servers[&NodeId(node)].disk.visible().outcomes.len();
    for node in [1, 2, 3, 4, 20, 43] {
        assert_eq!(outcomes(node), 0, "{node} keeps what is finished");
    }
    assert_eq!(world.left_online, 0);
}

/// The next boot of a MASTER asks every REPLICA, and has links with a few of them.
///
/// FEATURES: A3
#[test]
fn ended_boots_are_closed_without_links() {
    let mut world = World::linked(3, 40, relay(2, 100), true);
    world.write_many(50);
    let first = COORDINATOR;
    let disk = world.kill(first);
    world.run(1_000_000);
    world.restart(first, disk);
    world.run(20_000_000);
    for (node, server) in &world.servers {
        let low = server.disk.recover().unwrap().low;
        assert_eq!(low.get(&(first, Boot(1))), Some(&u64::MAX), "{node:?}");
    }
    world.write_many(5);
    world.assert_all_have_all();
}

/// One MASTER, below it two, four and three: one of the two dies and comes back.
///
/// FEATURES: A3
#[test]
fn children_of_a_dead_relay_are_fed_by_another_one() {
    let mut world = World::new(1, 9, relay(2, 100));
    let below: Vec<NodeId> = [4, 6].map(NodeId).to_vec();
    world.write_many(5);
    for child in &below {
        assert!(world.pairs[&(NodeId(2), *child)] > 0, "{child:?} hangs below n2");
    }
    let disk = world.kill(NodeId(2));
    world.run(1_000_000);
    world.write_many(20);
    world.assert_all_have_all();
    world.restart(NodeId(2), disk);
    world.run(3_000_000);
    world.pairs.clear();
    world.write_many(5);
    world.assert_all_have_all();
    for child in &below {
        assert!(world.pairs[&(NodeId(2), *child)] > 0, "{child:?} is back below n2");
    }
    assert_eq!(world.left_online, 0);
}

/// It is deaf for more entries than its window and its relay hold, and then catches up.
///
/// FEATURES: A3
#[test]
fn a_slow_child_holds_up_nobody() {
    let mut world = World::new(1, 7, relay(2, 64));
    let (slow, sibling) = (NodeId(4), NodeId(6));
    world.deaf.insert(slow);
    world.write_many(3_000);
    assert_eq!(world.has(sibling), 3_000);
    assert!(world.has(slow) < 100, "deaf, but {}", world.has(slow));
    let to_slow = world.pairs[&(NodeId(2), slow)];
    assert!(to_slow < 2_000, "{to_slow} messages for one that says nothing");
    world.run(2_000_000);
    assert!(world.lags[&slow] > 2_900, "{:?}", world.lags);
    assert_eq!(world.lags.get(&sibling).copied().unwrap_or(0), 0);
    world.deaf.remove(&slow);
    world.run(5_000_000);
    world.assert_all_have_all();
    assert_eq!(world.lags[&slow], 0);
    assert_eq!(world.left_online, 0);
}
