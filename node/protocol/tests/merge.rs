//! Merging what differs where W is below a majority, with real machines on the simulator's disks:
//! what no list names, and what it costs where W is a majority.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

#[expect(dead_code, unreachable_pub, reason = "the simulator's disk, as it is; no crate edge")]
#[path = "../../sim/src/disk.rs"]
mod disk;

use std::collections::{BTreeMap, VecDeque};

use disk::Disk;
use quorate_api::{
    Boot, ClusterKey, Committed, Image, ItemId, NodeId, OpKind, Operation, Stamp, TxId,
};
use quorate_protocol::io::{
    Base, Config, Effect, Event, Note, Placement, Proposal, Submit, Tick, Write,
};
use quorate_protocol::machine::Machine;
use quorate_protocol::message::Message;

const CLUSTER: ClusterKey = ClusterKey { database: 1, cluster: 10 };
const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// Three servers, everything delivered at once.
struct World {
    servers: BTreeMap<NodeId, (Machine, Disk)>,
    letters: VecDeque<(NodeId, NodeId, Message)>,
    now: Tick,
    /// Messages about merging.
    merging: Vec<Message>,
    /// Writes of what items were built on, and of contents beside the committed ones.
    kept: usize,
    merged: Vec<&'static str>,
}

fn committed(seq: u64, content: &str) -> Committed {
    let tx = TxId { node: NODES[0], boot: Boot(1), seq };
    let image = Some(Image::from(content.as_bytes()));
    Committed { stamp: Stamp { version: 1, tx }, live: true, image, elsewhere: None }
}

impl World {
    /// Servers with these records, by position, on their disks.
    fn new(records: [Vec<u64>; 3], write_quorum: usize) -> Self {
        let mut servers = BTreeMap::new();
        for (node, records) in NODES.into_iter().zip(records) {
            let mut disk = Disk::default();
            for position in records {
                let item = ItemId::record(CLUSTER, position);
                disk.preload(&item, &committed(position + 1, &format!("record {position}")));
            }
            let mut config = Config::new(node, Boot(2), node.0);
            // So that a few hundred records are several pages.
            config.align.items = 16;
            let machine = Machine::new(config, disk.recover().expect("an undamaged disk"));
            servers.insert(node, (machine, disk));
        }
        let letters = VecDeque::new();
        let (merging, merged) = (Vec::new(), Vec::new());
        let mut world = Self { servers, letters, now: 0, merging, kept: 0, merged };
        let placement = Placement::first(NODES.to_vec(), write_quorum);
        for node in NODES {
            let placements = [(CLUSTER, placement.clone())].into();
            world.step(node, Event::Configure { cfg: 1, placements });
        }
        for node in NODES {
            for other in NODES.into_iter().filter(|other| *other != node) {
                world.step(node, Event::Peer { node: other, boot: Boot(2), up: true });
            }
        }
        world
    }

    fn step(&mut self, node: NodeId, event: Event) {
        let (machine, disk) = self.servers.get_mut(&node).unwrap();
        let mut out = Vec::new();
        machine.step(self.now, event, disk, &mut out);
        for effect in out {
            match effect {
                Effect::Persist { seq, writes } => {
                    let is_kept =
                        |write: &&Write| matches!(write, Write::Ancestors(..) | Write::Rivals(..));
                    self.kept += writes.iter().filter(is_kept).count();
                    disk.write(seq, writes);
                    disk.synced(seq);
                }
                Effect::Send { to, message, .. } => {
                    if matches!(message, Message::Merging(_)) {
                        self.merging.push(message.clone());
                    }
                    self.letters.push_back((node, to, message));
                }
                Effect::Copy { .. } | Effect::Survey { .. } => panic!("nobody aligns here"),
                Effect::Note(Note::Merged { by, .. }) => self.merged.push(by),
                Effect::Note(Note::Corruption { detail, .. }) => panic!("{detail}"),
                Effect::Note(_) | Effect::Reply { .. } | Effect::Report { .. } => {}
            }
        }
    }

    fn run(&mut self, time: Tick) {
        let end = self.now + time;
        loop {
            while let Some((from, to, message)) = self.letters.pop_front() {
                self.step(to, Event::Message { from, cfg: 1, message });
            }
            let due = self
                .servers
                .iter()
                .filter_map(|(node, (machine, _))| machine.next_deadline().map(|due| (due, *node)));
            let Some((due, node)) = due.min().filter(|(due, _)| *due <= end) else { break };
            self.now = due.max(self.now);
            self.step(node, Event::Tick);
        }
        self.now = end;
    }

    fn submit(&mut self, node: NodeId, position: u64, kind: OpKind, content: &str) {
        let item = ItemId::record(CLUSTER, position);
        let image = Some(Image::from(content.as_bytes()));
        let ops = vec![Proposal { item, kind, base: Base::Current, image }];
        let deadline = self.now + 1_000_000;
        self.step(node, Event::Submit(Submit { request: 1, ops, deadline, wall_us: 0, schema: 0 }));
    }

    fn items(&self, node: NodeId) -> &BTreeMap<ItemId, Committed> {
        &self.servers[&node].1.visible().items
    }
}

/// testRepairClusters, and more than one page of it: ten records on two servers only, ten on one
/// only, none of them in any list.
///
/// FEATURES: A14, A20
#[test]
fn records_missing_on_one_server_are_found_by_comparing() {
    let all: Vec<u64> = (0..300).collect();
    let without = |from: u64| all.iter().copied().filter(move |p| !(from..from + 10).contains(p));
    let records = [
        without(100).filter(|p| !(200..210).contains(p)).collect(),
        all.clone(),
        without(200).collect(),
    ];
    let mut world = World::new(records, 1);
    world.run(20_000_000);
    for node in NODES {
        assert_eq!(world.items(node).len(), 300, "{node}");
        assert!(world.items(node) == world.items(NODES[0]), "the copies differ");
    }
    assert_eq!(world.merged, ["lag"; 20]);
    let content = |position| {
        let item = ItemId::record(CLUSTER, position);
        world.items(NODES[0])[&item].image.clone().unwrap()
    };
    assert_eq!(&*content(105).0, b"record 105");
    // What differs is merged once, and nothing goes on after that.
    let sent = world.merging.len();
    world.run(60_000_000);
    assert_eq!(world.merging.len(), sent);
}

/// A record that grew by an update on all but one server lags there, although nobody knows of it.
///
/// FEATURES: A13
#[test]
fn clusters_are_equal_after_a_comparison_that_somebody_asked_for() {
    let mut world = World::new([vec![], vec![0], vec![0]], 1);
    world.step(NODES[2], Event::Compare { clusters: vec![CLUSTER] });
    world.run(4_000_000);
    assert!(world.items(NODES[0]) == world.items(NODES[2]));
    assert_eq!(world.items(NODES[0]).len(), 1);
}

/// Nothing is written, sent or stored for clusters with W of a majority, and what travels and is
/// stored of an operation has the bytes that it had before.
///
/// FEATURES: A13
#[test]
fn safe_clusters_pay_nothing() {
    for (write_quorum, pays) in [(2, false), (1, true)] {
        let mut world = World::new([vec![], vec![], vec![]], write_quorum);
        for (n, node) in NODES.into_iter().enumerate() {
            world.submit(node, n as u64, OpKind::Create, "a");
            world.run(100_000);
            world.submit(node, n as u64, OpKind::Update, "b");
            world.run(100_000);
        }
        world.step(NODES[0], Event::Compare { clusters: vec![CLUSTER] });
        world.run(20_000_000);
        assert_eq!((world.kept > 0, !world.merging.is_empty()), (pays, pays), "{write_quorum}");
    }
    let committed = committed(1, "content");
    let plain = (committed.stamp, committed.live, committed.image.clone());
    let bytes = |value: Vec<u8>| value.len();
    let stored = bytes(postcard::to_allocvec(&committed).unwrap());
    assert_eq!(stored, bytes(postcard::to_allocvec(&plain).unwrap()));
    let op = Operation {
        item: ItemId::record(CLUSTER, 1),
        kind: OpKind::Update,
        base: committed.stamp,
        image: committed.image,
    };
    let plain = (&op.item, 1_u8, op.base, &op.image);
    let sent = bytes(postcard::to_allocvec(&op).unwrap());
    assert_eq!(sent, bytes(postcard::to_allocvec(&plain).unwrap()));
}
