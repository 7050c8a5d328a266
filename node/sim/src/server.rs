//! One simulated server: machine, disk, clocks, and what waits in between.

use std::collections::{BTreeMap, VecDeque};

use quorate_api::{Boot, Committed, ItemId, NodeId, Stamp, TxId};
use quorate_control::plane::{self, Plane};
use quorate_protocol::alignment::Digest;
use quorate_protocol::io::{Event, PersistSeq, Reply, Report, Tick};
use quorate_protocol::machine::Machine;
use quorate_protocol::message::Message;

use crate::clock::Clock;
use crate::control::{Agreed, Blocks, Command, ControlLog, Place};
use crate::disk::Disk;
use crate::invariants::Invariants;
use crate::options::Options;
use crate::workload;

/// Who wrote what is there before the first transaction.
const LOADER: TxId = TxId { node: NodeId(u64::MAX), boot: Boot(1), seq: 1 };

/// One server.
pub(crate) struct Server {
    pub(crate) id: NodeId,
    pub(crate) name: String,
    pub(crate) boot: Boot,
    pub(crate) disk: Disk<ControlLog>,
    /// `None` while crashed.
    pub(crate) machine: Option<Machine>,
    /// Its disk is damaged or lost, or it was removed: it is not there any more. Or it has not come
    /// yet.
    pub(crate) dead: bool,
    pub(crate) paused: bool,
    /// Everything takes this much longer here; 0 when it is not slow.
    pub(crate) slowness: Tick,
    pub(crate) clock: Clock,
    /// `None` while crashed, and until it has met the others.
    pub(crate) plane: Option<Plane<Agreed>>,
    /// What the own clock shows at the control plane's next tick.
    pub(crate) next_tick: Tick,
    /// Batches of the control plane that are not durable yet: its own number, and the disk's.
    pub(crate) handed: VecDeque<(u64, PersistSeq)>,
    /// What the control plane wants done, and whether that is being done.
    pub(crate) effects: VecDeque<plane::Effect>,
    pub(crate) carries_out: bool,
    /// The configuration that its machine was told of.
    pub(crate) cfg: u64,
    /// What it knows of who is in the cluster.
    pub(crate) place: Place,
    /// Positions granted to this boot.
    pub(crate) blocks: Blocks,
    /// Sends and replies in order, each with the durability it waits for.
    pub(crate) outbox: VecDeque<(PersistSeq, Out)>,
    pub(crate) durable: PersistSeq,
    pub(crate) syncing: bool,
    /// Boots of peers as this server knows them, and whether it believes them reachable.
    pub(crate) peers: BTreeMap<usize, (Boot, bool)>,
    /// What arrived while paused.
    pub(crate) backlog: Vec<Input>,
    /// Virtual time of the next timer.
    pub(crate) wake: Tick,
}

/// What waits for durability.
pub(crate) enum Out {
    Send(NodeId, Message),
    Reply(u64, Reply),
    Report(Report),
    Control(NodeId, Vec<u8>),
}

/// What happens to a server.
pub(crate) enum Input {
    Machine(Event),
    Control(plane::Event<Command>),
}

/// Who the server at an index is.
pub(crate) const fn server_id(index: usize) -> NodeId {
    NodeId(index as u64 + 1)
}

/// Where the server of an id is; beyond all of them if there is no such server.
pub(crate) fn server_index(id: NodeId) -> usize {
    usize::try_from(id.0.wrapping_sub(1)).unwrap_or(usize::MAX)
}

impl Server {
    pub(crate) fn new(index: usize, rate: u64) -> Self {
        Self {
            id: server_id(index),
            name: server_id(index).to_string(),
            boot: Boot(0),
            disk: Disk::default(),
            machine: None,
            dead: false,
            paused: false,
            slowness: 0,
            clock: Clock::new(rate),
            plane: None,
            next_tick: 0,
            handed: VecDeque::new(),
            effects: VecDeque::new(),
            carries_out: false,
            cfg: 0,
            place: Place::default(),
            blocks: Blocks::default(),
            outbox: VecDeque::new(),
            durable: 0,
            syncing: false,
            peers: BTreeMap::new(),
            backlog: Vec::new(),
            wake: Tick::MAX,
        }
    }

    /// Runs, and is not paused.
    pub(crate) fn is_awake(&self) -> bool {
        self.machine.is_some() && !self.paused
    }

    /// Power is gone: only the disk stays.
    pub(crate) fn power_off(&mut self) {
        self.machine = None;
        self.plane = None;
        self.blocks = Blocks::default();
        self.handed.clear();
        self.effects.clear();
        self.outbox.clear();
        self.backlog.clear();
        self.paused = false;
        self.slowness = 0;
        self.syncing = false;
        self.peers.clear();
        self.wake = Tick::MAX;
    }
}

/// Puts the workload's records on every disk that keeps them.
pub(crate) fn load(
    options: &Options,
    servers: &mut [Server],
    invariants: &mut Invariants,
) -> Vec<(ItemId, Vec<u8>)> {
    let loaded = workload::preloaded(options);
    for (item, body) in &loaded {
        let bytes: Vec<u8> = 1_u64.to_be_bytes().iter().chain(body).copied().collect();
        let stamp = Stamp { version: 1, tx: LOADER };
        let committed = Committed { stamp, live: true, image: Some(bytes.into()), elsewhere: None };
        let Digest(digest) = Digest::of(&item.key, &committed);
        let dropped = Committed::without_content(stamp, true, digest);
        let keepers = (0..options.servers).filter(|s| options.holds(*s, item.cluster));
        for index in keepers {
            let kept = if options.witnesses.contains(&index) { &dropped } else { &committed };
            servers[index].disk.preload(item, kept);
            if options.membership.is_some() {
                // Whoever joins asks for what wrote the items that it copies.
                servers[index].disk.preload_finished(LOADER);
            }
        }
        invariants.loaded(item, &committed);
    }
    loaded
}
