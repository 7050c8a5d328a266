//! The world of a script: machines, the simulator's disks, and messages that wait to be delivered.
//! What it prints is made in `print`.

mod print;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_api::{Boot, ClusterKey, NodeId, OpKind, Operation, Stamp, TxId};
use quorate_protocol::io::{
    Base, CLOSED, Choose, Config, Effect, Event, Note, PersistSeq, Placement, Proposal,
    ReadRequest, RelayConfig, Reply, Report, SessionRequest, SessionToken, Submit, Tick,
};
use quorate_protocol::machine::Machine;
use quorate_protocol::message::{Age, Ballot, Message, Participant};

use crate::command::{Body, Changing, Command, Shape, Syncing, Which};
use crate::disk::Disk;
use crate::show;

#[derive(Default)]
struct Server {
    boot: Boot,
    disk: Disk,
    machine: Option<Machine>,
    outbox: VecDeque<(PersistSeq, Out)>,
    durable: PersistSeq,
    hold_sync: bool,
    cut: bool,
}

enum Out {
    Send(NodeId, Message),
    Reply(u64, Reply),
    Report(Report),
}

/// A message under way, between two boots.
#[derive(Clone)]
struct Letter {
    from: (NodeId, Boot),
    to: (NodeId, Boot),
    cfg: u64,
    message: Message,
}

#[derive(Default)]
pub(crate) struct World {
    now: Tick,
    cfg: BTreeMap<NodeId, u64>,
    log_entries: Option<u64>,
    retention: Option<Tick>,
    shapes: Vec<Shape>,
    replicas: Vec<NodeId>,
    witnesses: BTreeSet<NodeId>,
    relay: RelayConfig,
    servers: BTreeMap<NodeId, Server>,
    letters: Vec<Letter>,
    output: String,
    muted: bool,
    /// The last line, when it is a message: who sent it to whom, and its text.
    last: Option<(NodeId, Vec<NodeId>, String)>,
    /// The time last printed.
    printed_at: Tick,
}

impl World {
    pub(crate) fn run(&mut self, command: Command) {
        match command {
            Command::Cluster(shapes) => self.cluster(shapes),
            Command::Replicas(nodes, relay) => (self.replicas, self.relay) = (nodes, relay),
            Command::Witnesses(nodes) => self.witnesses = nodes.into_iter().collect(),
            Command::Given(items) => self.given(items),
            Command::Submit { server, client, body } => {
                let submit = self.submit(client, body);
                self.step(server, Event::Submit(submit));
            }
            Command::Session { server, client, token, seen, deadline } => {
                let deadline = self.now + deadline;
                let request = SessionRequest { request: client, token, seen, deadline };
                self.step(server, Event::Session(request));
            }
            Command::Read { server, client, items, quorum, deadline } => {
                let deadline = self.now + deadline;
                let request = ReadRequest { request: client, items, quorum, deadline };
                self.step(server, Event::Read(request));
            }
            Command::Deliver(which) => self.deliver(&which, false),
            Command::Drop(which) => self.letters.retain(|letter| !which.matches(letter)),
            Command::Duplicate(which) => self.deliver(&which, true),
            Command::Pending => self.pending(),
            Command::Settle => self.settle(),
            Command::Sync(server, syncing) => self.sync(server, &syncing),
            Command::Tick(ticks) => self.tick(ticks, false),
            Command::Run(ticks) => self.tick(ticks, true),
            Command::Crash { server, keep } => self.crash(server, keep),
            Command::Restart(server, before) => self.start(server, &before),
            Command::Connect(server) => self.connect(server),
            Command::Peer { server, peer, up } => {
                let boot = self.servers[&peer].boot;
                self.step(server, Event::Peer { node: peer, boot, up });
            }
            Command::Cut(server, cut) => {
                self.server(server).cut = cut;
                if cut {
                    self.letters.retain(|l| l.from.0 != server && l.to.0 != server);
                }
            }
            Command::Configure { server, cfg, generation, owner, closed, change, shapes } => {
                self.cfg.insert(server, cfg);
                let mut placements = self.placements(&shapes, generation, owner);
                if let Some(placement) = closed.and_then(|c| placements.get_mut(&c)) {
                    placement.schema_min = CLOSED;
                }
                if let Some((first, _, _)) = shapes.first() {
                    change_first(&mut placements, *first, change);
                }
                self.step(server, Event::Configure { cfg, placements });
            }
            Command::SendPrepare { from, to, tx, body } => self.send_prepare(from, to, tx, body),
            Command::SendRejected { from, to, tx, cluster, round } => {
                let promised = Ballot { round, node: from, boot: self.servers[&from].boot };
                self.send(from, to, 1, Message::Rejected { tx, cluster, promised });
            }
            Command::Forget { log_entries, retention } => {
                (self.log_entries, self.retention) = (log_entries, retention);
            }
            Command::Choose { server, client, item, winner } => {
                let deadline = self.now + 1_000_000;
                let choose = Choose { request: client, item, winner, deadline };
                self.step(server, Event::Choose(choose));
            }
            Command::Compare(server, clusters) => self.step(server, Event::Compare { clusters }),
            Command::Status(server) => self.status(server),
            Command::Outcome(tx) => self.outcome(tx),
        }
    }

    fn placements(
        &self,
        shapes: &[Shape],
        generation: u32,
        owner: Option<NodeId>,
    ) -> BTreeMap<ClusterKey, Placement> {
        let placement = |(cluster, masters, write_quorum): &Shape| {
            let is_master = |node: &&NodeId| masters.contains(node);
            let placement = Placement {
                generation,
                masters: masters.clone(),
                replicas: self.replicas.clone(),
                witnesses: self.witnesses.iter().filter(is_master).copied().collect(),
                write_quorum: *write_quorum,
                local_quorums: Vec::new(),
                data_centers: BTreeMap::new(),
                owner,
                schema_min: 0,
                entry: SessionToken::new(),
                turn: None,
                change: None,
                loose: Vec::new(),
            };
            (*cluster, placement)
        };
        shapes.iter().map(placement).collect()
    }

    fn server(&mut self, node: NodeId) -> &mut Server {
        self.servers.get_mut(&node).expect("a server of the script's cluster")
    }

    fn cluster(&mut self, shapes: Vec<Shape>) {
        let masters = shapes.iter().flat_map(|(_, masters, _)| masters.clone());
        let nodes: BTreeSet<NodeId> = masters.chain(self.replicas.clone()).collect();
        self.shapes = shapes;
        self.muted = true;
        for node in &nodes {
            self.servers.insert(*node, Server::default());
            self.start(*node, &[]);
        }
        for node in &nodes {
            self.connect(*node);
        }
        self.run(Command::Settle);
        self.muted = false;
    }

    fn given(&mut self, items: Vec<(quorate_api::ItemId, quorate_api::Image)>) {
        self.muted = true;
        let propose = |(item, image)| {
            let base = Base::Exact(Stamp::ABSENT);
            Proposal { item, kind: OpKind::Create, base, image: Some(image) }
        };
        let proposals = items.into_iter().map(propose).collect();
        let body = Body { proposals, deadline: 1_000_000, wall: None, cfg: 1 };
        let submit = self.submit(0, body);
        self.step(NodeId(1), Event::Submit(submit));
        self.run(Command::Settle);
        self.muted = false;
    }

    fn submit(&self, client: u64, body: Body) -> Submit {
        let wall_us = body.wall.unwrap_or(self.now);
        let deadline = self.now + body.deadline;
        Submit { request: client, ops: body.proposals, deadline, wall_us, schema: 0 }
    }

    fn start(&mut self, node: NodeId, reachable: &[NodeId]) {
        let placements = self.placements(&self.shapes, 1, None);
        self.cfg.insert(node, 1);
        let (log_entries, retention) = (self.log_entries, self.retention);
        let relay = self.relay.clone();
        let server = self.server(node);
        server.boot = Boot(server.boot.0 + 1);
        server.durable = 0;
        let mut config = Config::new(node, server.boot, node.0);
        config.align.log_entries = log_entries.unwrap_or(config.align.log_entries);
        config.align.retention = retention.unwrap_or(config.align.retention);
        config.relay = relay;
        let recovered = server.disk.recover().expect("no script damages a disk");
        server.machine = Some(Machine::new(config, recovered));
        for peer in reachable {
            let boot = self.servers[peer].boot;
            self.step(node, Event::Peer { node: *peer, boot, up: true });
        }
        self.step(node, Event::Configure { cfg: 1, placements });
    }

    fn connect(&mut self, node: NodeId) {
        let running = self.servers.iter().filter(|(_, s)| s.machine.is_some());
        let running: Vec<(NodeId, Boot)> = running.map(|(node, s)| (*node, s.boot)).collect();
        let boot = self.servers[&node].boot;
        for (other, other_boot) in running.into_iter().filter(|(other, _)| *other != node) {
            self.step(node, Event::Peer { node: other, boot: other_boot, up: true });
            self.step(other, Event::Peer { node, boot, up: true });
        }
    }

    fn crash(&mut self, node: NodeId, keep: usize) {
        let server = self.server(node);
        server.disk.crash(keep, 0);
        server.machine = None;
        server.outbox.clear();
        self.letters.retain(|l| l.from.0 != node && l.to.0 != node);
    }

    /// Hands an event to a machine, and to itself whatever it sends itself.
    fn step(&mut self, node: NodeId, event: Event) {
        let now = self.now;
        let server = self.server(node);
        let Some(machine) = &mut server.machine else { return };
        let (mut out, mut surveyed) = (Vec::new(), Vec::new());
        machine.step(now, event, &server.disk, &mut out);
        for effect in out {
            let server = self.server(node);
            match effect {
                Effect::Persist { seq, writes } => {
                    server.disk.write(seq, writes);
                    if !server.hold_sync {
                        server.disk.synced(seq);
                        server.durable = seq;
                    }
                }
                Effect::Send { to, after, message } => {
                    server.outbox.push_back((after, Out::Send(to, message)));
                }
                Effect::Survey { number, survey } => {
                    surveyed.push(Event::Surveyed { number, leaves: survey.of(&server.disk) });
                }
                Effect::Copy { to, part } => {
                    let message = part.message_from(&server.disk);
                    let after = server.disk.unsynced().unwrap_or_default();
                    server.outbox.push_back((after, Out::Send(to, message)));
                }
                Effect::Reply { request, after, reply } => {
                    server.outbox.push_back((after, Out::Reply(request, reply)));
                }
                Effect::Report { after, report } => {
                    server.outbox.push_back((after, Out::Report(report)));
                }
                Effect::Note(Note::Lag { .. }) => {}
                Effect::Note(note) => {
                    self.print(&format!("{}: note {}", show::node(node), show::note(&note)));
                }
            }
        }
        for event in surveyed {
            self.step(node, event);
        }
        self.flush(node);
        let due = self.servers[&node].machine.as_ref().and_then(Machine::next_deadline);
        if due.is_some_and(|due| due <= now) {
            self.step(node, Event::Tick);
        }
    }

    /// Lets out what is durable enough.
    fn flush(&mut self, node: NodeId) {
        let server = self.server(node);
        let (durable, boot) = (server.durable, server.boot);
        let outbox = std::mem::take(&mut server.outbox);
        let (ready, kept): (VecDeque<_>, VecDeque<_>) =
            outbox.into_iter().partition(|(after, _)| *after <= durable);
        server.outbox = kept;
        let mut own = Vec::new();
        for (_, out) in ready {
            match out {
                Out::Send(to, message) => {
                    let from = (node, boot);
                    if to == node {
                        self.print_message(node, to, &message);
                        own.push(message);
                        continue;
                    }
                    if self.servers[&node].cut || self.servers[&to].cut {
                        continue;
                    }
                    self.print_message(node, to, &message);
                    let to = (to, self.servers[&to].boot);
                    if self.servers[&to.0].machine.is_some() {
                        let cfg = self.cfg[&node];
                        self.letters.push(Letter { from, to, cfg, message });
                    }
                }
                Out::Report(report) => {
                    self.print(&format!("{}: reports {}", show::node(node), show::report(&report)));
                }
                Out::Reply(request, reply) => {
                    let text = show::reply(&reply);
                    self.print(&format!("{}: client {request} gets {text}", show::node(node)));
                }
            }
        }
        for message in own {
            let cfg = self.cfg[&node];
            self.step(node, Event::Message { from: node, cfg, message });
        }
    }

    fn deliver(&mut self, which: &Which, keep: bool) {
        let (matching, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.letters).into_iter().partition(|l| which.matches(l));
        self.letters = kept;
        if keep {
            self.letters.extend(matching.iter().cloned());
        }
        for Letter { from: (from, _), to: (to, _), cfg, message } in matching {
            self.step(to, Event::Message { from, cfg, message });
        }
    }

    fn settle(&mut self) {
        while !self.letters.is_empty() {
            self.deliver(&Which::default(), false);
        }
    }

    fn sync(&mut self, node: NodeId, syncing: &Syncing) {
        let server = self.server(node);
        server.hold_sync = match syncing {
            Syncing::Hold => true,
            Syncing::Once => server.hold_sync,
            Syncing::Auto => false,
        };
        if *syncing != Syncing::Hold {
            if let Some(seq) = server.disk.unsynced() {
                server.disk.synced(seq);
                server.durable = seq;
            }
            self.flush(node);
        }
    }

    fn tick(&mut self, ticks: Tick, delivers: bool) {
        let end = self.now + ticks;
        loop {
            if delivers {
                self.settle();
            }
            let due = self.servers.iter().filter_map(|(node, server)| {
                server.machine.as_ref()?.next_deadline().map(|due| (due, *node))
            });
            let Some((due, node)) = due.min().filter(|(due, _)| *due <= end) else { break };
            self.now = due.max(self.now);
            self.step(node, Event::Tick);
        }
        self.now = end;
    }

    fn send_prepare(&mut self, from: NodeId, to: NodeId, tx: TxId, body: Body) {
        let op = |p: Proposal| {
            let base = match p.base {
                Base::Exact(stamp) => stamp,
                Base::Current | Base::Version(_) => panic!("a made-up Prepare has exact bases"),
            };
            Operation { item: p.item, kind: p.kind, base, image: p.image }
        };
        let cfg = body.cfg;
        let age = Age { wall_us: body.wall.unwrap_or(self.now), first: tx };
        let ops: Vec<Operation> = body.proposals.into_iter().map(op).collect();
        let clusters: BTreeSet<_> = ops.iter().map(|op| op.item.cluster).collect();
        let generation = if cfg > 1 { 2 } else { 1 };
        let participant = |cluster| Participant { cluster, generation };
        let participants = clusters.into_iter().map(participant).collect();
        let message = Message::Prepare { tx, age, participants, ops, schema: 0 };
        self.send(from, to, cfg, message);
    }

    /// A made-up message is under way.
    fn send(&mut self, from: NodeId, to: NodeId, cfg: u64, message: Message) {
        self.print_message(from, to, &message);
        let from = (from, self.servers[&from].boot);
        let to = (to, self.servers[&to].boot);
        self.letters.push(Letter { from, to, cfg, message });
    }

    fn pending(&mut self) {
        for letter in self.letters.clone() {
            self.print_message(letter.from.0, letter.to.0, &letter.message);
        }
    }
}

impl Which {
    fn matches(&self, letter: &Letter) -> bool {
        self.from.is_none_or(|from| from == letter.from.0)
            && self.to.is_none_or(|to| to == letter.to.0)
            && self.kind.as_ref().is_none_or(|kind| kind == letter.message.name())
    }
}

/// The first cluster of a configuration is changing; the others have not changed.
fn change_first(
    placements: &mut BTreeMap<ClusterKey, Placement>,
    first: ClusterKey,
    changing: Changing,
) {
    let Some(placement) = placements.get_mut(&first) else { return };
    let Changing { entry, turn, change, loose } = changing;
    (placement.entry, placement.turn, placement.change) = (entry, turn, change);
    placement.loose = loose;
    if !placement.entry.is_empty() {
        let others = placements.values_mut().filter(|p| p.entry.is_empty());
        others.for_each(|other| other.generation = 1);
    }
}
