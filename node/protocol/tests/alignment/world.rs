//! Real machines on the simulator's disks, and a network without faults between them that counts.
//! May not judge what it counts.

use std::collections::{BTreeMap, VecDeque};

use quorate_api::{Boot, ClusterKey, Committed, Image, ItemId, NodeId, Stamp, TxId};
use quorate_protocol::alignment::Answer;
use quorate_protocol::copying::Chunk;
use quorate_protocol::io::{
    AlignConfig, AlignmentWork, Config, Effect, Event, Note, Placement, Tick, Write,
};
use quorate_protocol::machine::Machine;
use quorate_protocol::message::Message;

use super::disk::Disk;

pub(super) const CLUSTER: ClusterKey = ClusterKey { database: 1, cluster: 10 };
pub(super) const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// The one that aligns.
pub(super) const BEHIND: NodeId = NODES[2];

pub(super) struct Server {
    pub(super) machine: Machine,
    pub(super) disk: Disk,
}

/// Three servers, everything delivered at once, counted when one that aligns has a part in it.
pub(super) struct World {
    pub(super) servers: BTreeMap<NodeId, Server>,
    pub(super) letters: VecDeque<(NodeId, NodeId, Message)>,
    pub(super) now: Tick,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) work: AlignmentWork,
    pub(super) corruptions: Vec<&'static str>,
    pub(super) back: bool,
    /// Bytes of the largest message.
    pub(super) heaviest: u64,
    /// Items that came in chunks.
    pub(super) copied: u64,
    /// What becomes of chunks on their way.
    pub(super) fate: fn(u64, Chunk) -> Vec<Chunk>,
    /// Chunks under way so far, by the server that gave them.
    pub(super) chunks: Vec<NodeId>,
    pub(super) align: AlignConfig,
    /// Nothing reaches it, and nothing comes from it.
    pub(super) silent: Option<NodeId>,
    /// The newest configuration that each server was told of.
    pub(super) cfgs: BTreeMap<NodeId, u64>,
}

pub(super) fn item(position: u64, version: u64, content: u64) -> Write {
    let tx = TxId { node: NODES[0], boot: Boot(1), seq: position * 10 + version };
    let image = Some(Image::from(vec![u8::try_from(content % 251).unwrap(); 200]));
    let committed = Committed { stamp: Stamp { version, tx }, live: true, image, elsewhere: None };
    Write::Item(ItemId::record(CLUSTER, position), committed)
}

impl World {
    /// Servers with what is on their disks; the last one stopped while it aligned.
    pub(super) fn new(contents: [Vec<Write>; 3], align: &AlignConfig) -> Self {
        let mut servers = BTreeMap::new();
        for (node, mut writes) in NODES.into_iter().zip(contents) {
            let mut disk = Disk::default();
            writes.insert(0, Write::Aligning(node == BEHIND));
            if node != BEHIND {
                // What there is, is finished; the one that was away has not heard of that.
                writes.insert(0, Write::Low(NODES[0], Boot(1), u64::MAX - 1));
            }
            disk.write(1, writes);
            disk.synced(1);
            // Written by an earlier boot: the next one counts anew.
            disk.crash(0, 0);
            let mut config = Config::new(node, Boot(2), node.0);
            config.align = align.clone();
            let machine = Machine::new(config, disk.recover().expect("an undamaged disk"));
            servers.insert(node, Server { machine, disk });
        }
        let mut world = Self {
            servers,
            letters: VecDeque::new(),
            now: 0,
            messages: 0,
            bytes: 0,
            work: AlignmentWork::default(),
            corruptions: Vec::new(),
            back: false,
            heaviest: 0,
            copied: 0,
            fate: |_, chunk| vec![chunk],
            chunks: Vec::new(),
            align: align.clone(),
            silent: None,
            cfgs: BTreeMap::new(),
        };
        for node in NODES {
            world.start(node);
        }
        world
    }

    /// Tells a server where clusters are, and that everybody is there.
    fn start(&mut self, node: NodeId) {
        self.configure(node, 1, &[CLUSTER]);
        for other in NODES.into_iter().filter(|other| *other != node) {
            self.step(node, Event::Peer { node: other, boot: Boot(2), up: true });
        }
    }

    /// Tells a server where these clusters are.
    pub(super) fn configure(&mut self, node: NodeId, cfg: u64, clusters: &[ClusterKey]) {
        let placement = Placement::first(NODES.to_vec(), 2);
        let placements = clusters.iter().map(|cluster| (*cluster, placement.clone())).collect();
        self.cfgs.insert(node, cfg);
        self.step(node, Event::Configure { cfg, placements });
    }

    /// Kills the last server and starts it again; what is under way to it is lost.
    pub(super) fn restart(&mut self) {
        self.letters.retain(|(from, to, _)| *from != BEHIND && *to != BEHIND);
        let server = self.servers.get_mut(&BEHIND).unwrap();
        server.disk.crash(0, 0);
        let mut config = Config::new(BEHIND, Boot(3), BEHIND.0);
        config.align = self.align.clone();
        let recovered = server.disk.recover().expect("an undamaged disk");
        server.machine = Machine::new(config, recovered);
        for other in &NODES[..2] {
            for up in [false, true] {
                self.step(*other, Event::Peer { node: BEHIND, boot: Boot(3), up });
            }
        }
        // A machine's clock goes on where it was.
        self.start(BEHIND);
    }

    /// A message on its way; chunks have a fate.
    fn post(&mut self, from: NodeId, to: NodeId, message: Message) {
        let Message::AlignReply { session, answer: Answer::Copied(chunk) } = message else {
            self.letters.push_back((from, to, message));
            return;
        };
        self.chunks.push(from);
        for chunk in (self.fate)(self.chunks.len() as u64, chunk) {
            let answer = Answer::Copied(chunk);
            self.letters.push_back((from, to, Message::AlignReply { session, answer }));
        }
    }

    pub(super) fn step(&mut self, node: NodeId, event: Event) {
        let server = self.servers.get_mut(&node).unwrap();
        let (mut out, mut surveyed) = (Vec::new(), Vec::new());
        server.machine.step(self.now, event, &server.disk, &mut out);
        for effect in out {
            let server = self.servers.get_mut(&node).unwrap();
            match effect {
                Effect::Persist { seq, writes } => {
                    server.disk.write(seq, writes);
                    server.disk.synced(seq);
                }
                Effect::Send { to, message, .. } => self.letters.push_back((node, to, message)),
                Effect::Survey { number, survey } => {
                    surveyed.push(Event::Surveyed { number, leaves: survey.of(&server.disk) });
                }
                Effect::Copy { to, part } => {
                    let message = part.message_from(&server.disk);
                    self.post(node, to, message);
                }
                Effect::Note(Note::Corruption { detail, .. }) => self.corruptions.push(detail),
                Effect::Note(Note::BackOnline) => self.back |= node == BEHIND,
                Effect::Note(Note::Copied { part, .. }) => self.copied += part.items,
                Effect::Note(Note::Damaged(_)) => self.corruptions.push("a damaged chunk"),
                Effect::Note(Note::Alignment(work)) => {
                    self.work.compared += work.compared;
                    self.work.ranges += work.ranges;
                    self.work.fetched += work.fetched;
                }
                Effect::Note(_) | Effect::Reply { .. } | Effect::Report { .. } => {}
            }
        }
        for event in surveyed {
            self.step(node, event);
        }
    }

    /// Runs until the last server is back.
    pub(super) fn run(&mut self) {
        self.run_until(|world| world.back);
    }

    pub(super) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            assert!(self.now < 600_000_000, "ten minutes and not there");
            while let Some((from, to, message)) = self.letters.pop_front() {
                if self.silent.is_some_and(|silent| silent == from || silent == to) {
                    continue;
                }
                if done(self) {
                    self.letters.push_front((from, to, message));
                    return;
                }
                if from == BEHIND || to == BEHIND {
                    self.messages += 1;
                    let bytes = postcard::to_allocvec(&message).unwrap().len() as u64;
                    self.bytes += bytes;
                    self.heaviest = self.heaviest.max(bytes);
                }
                let cfg = self.cfgs[&from];
                self.step(to, Event::Message { from, cfg, message });
            }
            let due = self
                .servers
                .iter()
                .filter_map(|(node, s)| s.machine.next_deadline().map(|due| (due, *node)));
            let (due, node) = due.min().unwrap();
            self.now = due.max(self.now);
            self.step(node, Event::Tick);
        }
    }

    pub(super) fn assert_equal(&self) {
        let items = |node: NodeId| &self.servers[&node].disk.visible().items;
        assert!(items(BEHIND) == items(NODES[0]), "the copies differ");
    }
}
