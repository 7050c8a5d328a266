//! The machine: one server's acceptor, coordinator, reader and decision log in one synchronous
//! state. This file holds the state, the dispatch of events and the small services its parts
//! share; each part has a file.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{Boot, ClusterKey, ItemId, NodeId, Operation, TxId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::io::{Config, Effect, Event, Placement, Recovered, Store, Tick};
use crate::marks::Mark;
use crate::message::{Finished, LogPosition, Message, TxRecord};
use crate::topology::Topology;

mod acceptor;
mod align;
mod align_compare;
mod align_copy;
mod align_follow;
mod align_return;
mod align_source;
mod align_state;
mod align_survey;
mod answers;
mod apply;
mod carry;
mod closing;
mod coordinator;
mod cx;
mod generations;
mod held;
mod incoming;
mod lineage;
mod locks;
mod lost;
mod merge;
mod merge_compare;
mod merge_verdict;
mod merge_write;
mod merkle;
mod needs;
mod orphans;
mod parked;
mod reads;
mod recovery;
mod relay;
mod request;
mod ring;
mod session;
mod status;
mod stream;
#[cfg(test)]
mod testing;
mod timers;
mod tombstones;
mod truncation;
mod unite;
mod upstream;
mod votes;
mod witness;

use cx::Cx;

/// Reads, and sessions and journals of an alignment, that one boot can number; the bits above
/// them are the boot.
const READS_BITS: u32 = 32;

/// One server's part of the data plane.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    rng: ChaCha8Rng,
    now: Tick,
    /// Number of the last batch of writes handed to the disk.
    persist_seq: u64,
    /// Sequence number of the next own transaction.
    next_seq: u64,
    cfg: u64,
    /// Newest configuration that somebody was heard to act by.
    heard_cfg: u64,
    placements: BTreeMap<ClusterKey, Placement>,
    /// Every server named in a placement, this one included.
    members: BTreeSet<NodeId>,
    /// Who feeds whom, by the placements.
    topology: Topology,
    peers: BTreeMap<NodeId, stream::Peer>,
    /// Servers that asked for the own log itself.
    asked: BTreeSet<NodeId>,
    /// Whom this server feeds.
    relays: relay::Relays,
    /// Who feeds this server.
    upstream: upstream::Upstream,
    /// Acceptor records without outcome.
    txs: BTreeMap<TxId, TxRecord>,
    locks: locks::LockTable,
    held: held::Held,
    /// Commits known here that wait for the decision that wrote their base.
    parked: parked::Parking,
    /// Decision logs of all servers, this one included, as applied here.
    incoming: BTreeMap<NodeId, incoming::Incoming>,
    log_end: LogPosition,
    log_start: LogPosition,
    low: BTreeMap<(NodeId, Boot), u64>,
    coordinations: BTreeMap<TxId, coordinator::Coordination>,
    retries: BTreeMap<u64, request::Retry>,
    next_retry: u64,
    recoveries: BTreeMap<TxId, recovery::Recovery>,
    orphans: orphans::Orphans,
    reads: BTreeMap<u64, reads::ReadState>,
    next_read: u64,
    sessions: BTreeMap<u64, session::Waiting>,
    /// A log was applied further, a mark rose or a boot was closed in this step.
    session_progress: bool,
    closing: closing::Closing,
    /// Commits that no log has told of yet, durable like what they wrote (`apply.rs`).
    unlogged: BTreeSet<TxId>,
    /// How far the decision logs had told those whose state came in by alignment (`align_return`).
    shown: BTreeMap<NodeId, LogPosition>,
    /// Who asked for the outcome of a transaction that is still worked on here.
    watchers: BTreeMap<TxId, BTreeSet<NodeId>>,
    /// Items that changed or were unlocked in this step; whoever waited for them is looked at
    /// again.
    changed: BTreeSet<ItemId>,
    /// Peers owed a `DecideAck` at the next `Tick`.
    acks_due: BTreeSet<NodeId>,
    timers: timers::Timers,
    /// When recoveries were last told that a server is back.
    hurried_at: Tick,
    /// This server aligns; while it does, it answers for no quorum.
    align: Option<align_state::Aligning>,
    /// When the next piece of alignment work is due.
    align_at: Option<Tick>,
    /// Number of the last session with a source.
    last_source: u64,
    /// Number of the last journal kept for a server that aligns.
    last_journal: u64,
    /// Clusters that are read for their digests.
    surveys: align_survey::Surveys,
    /// Servers that align with this one.
    aligners: BTreeMap<NodeId, align_source::Session>,
    tombstones: tombstones::Tombstones,
    generations: generations::Generations,
    merger: merge::Merger,
    witness: witness::Witness,
    /// Usual time between the Yes that made W and the last one.
    vote_spread: Tick,
    /// It was told where clusters are, and has replayed its own log. Before that it takes no
    /// messages: it could not say what of them is its own.
    configured: bool,
}

impl Machine {
    /// Builds the machine from what the disk holds. The lock table is rebuilt before the first
    /// event (PROTOCOL.md 3.2); a vote that was cast before the restart holds its locks as if
    /// nothing had happened.
    #[must_use]
    pub fn new(config: Config, recovered: Recovered) -> Self {
        let (txs, locks) = locks::undecided_with_locks(&config, recovered.undecided);
        if recovered.aligning {
            Mark::AligningRestarted.hit();
        }
        let ended = |node| incoming::ends_of(&recovered.ended, node);
        let starting =
            |(node, applied)| (node, incoming::Incoming::starting_at(applied, ended(node)));
        let incoming = recovered.applied.into_iter().map(starting).collect();
        Self {
            rng: ChaCha8Rng::seed_from_u64(config.seed),
            now: 0,
            persist_seq: 0,
            next_seq: 1,
            cfg: 0,
            heard_cfg: 0,
            placements: BTreeMap::new(),
            members: BTreeSet::new(),
            topology: Topology::default(),
            peers: BTreeMap::new(),
            asked: BTreeSet::new(),
            relays: relay::Relays::default(),
            upstream: upstream::Upstream::default(),
            txs,
            locks,
            held: held::Held::default(),
            parked: parked::Parking::default(),
            incoming,
            log_end: recovered.log_end,
            log_start: recovered.log_start,
            tombstones: tombstones::Tombstones::of_closed_boots(&recovered.low),
            low: recovered.low,
            coordinations: BTreeMap::new(),
            retries: BTreeMap::new(),
            next_retry: 0,
            recoveries: BTreeMap::new(),
            orphans: orphans::Orphans::default(),
            reads: BTreeMap::new(),
            // An answer that an earlier boot asked for may come to this one.
            next_read: u64::from(config.boot.0) << READS_BITS,
            sessions: BTreeMap::new(),
            session_progress: false,
            closing: closing::Closing::default(),
            unlogged: recovered.out_of_log,
            shown: recovered.shown,
            watchers: BTreeMap::new(),
            changed: BTreeSet::new(),
            acks_due: BTreeSet::new(),
            timers: timers::Timers::default(),
            hurried_at: 0,
            align: recovered
                .aligning
                .then(|| align_state::Aligning::starting_with(recovered.begun, recovered.copied)),
            align_at: None,
            last_source: u64::from(config.boot.0) << READS_BITS,
            // Whoever aligned with an earlier boot must not take this one's journal for that.
            last_journal: u64::from(config.boot.0) << READS_BITS,
            surveys: align_survey::Surveys::default(),
            aligners: BTreeMap::new(),
            generations: generations::Generations::recovered(recovered.sealed, recovered.entered),
            witness: witness::Witness::default(),
            merger: merge::Merger::recovered(
                recovered.diverged,
                lost::Lost::recovered(recovered.lost, &recovered.lost_order),
            ),
            vote_spread: 0,
            configured: false,
            config,
        }
    }

    /// Handles one event. Effects are to be carried out in order before the next call; all writes
    /// of one step are one atomic batch, handed over before every message that depends on it.
    pub fn step(&mut self, now: Tick, event: Event, store: &dyn Store, out: &mut Vec<Effect>) {
        assert!(now >= self.now, "time went backwards");
        self.now = now;
        let mut cx = Cx::new(store, out, self.persist_seq);
        match event {
            Event::Submit(submit) => self.on_submit(&mut cx, submit),
            Event::Read(request) => self.on_read_request(&mut cx, request),
            Event::Session(request) => self.on_session(&mut cx, request),
            Event::Choose(choose) => self.on_choose(&mut cx, choose),
            Event::Dismiss(dismiss) => self.on_dismiss(&mut cx, &dismiss),
            Event::Compare { clusters } => self.compare_clusters(clusters),
            Event::Message { from, cfg, message } if self.configured => {
                self.on_message(&mut cx, from, cfg, message);
            }
            // Lost like any message may be: whoever sent it sends it again.
            Event::Message { .. } => Mark::BeforeConfiguration.hit(),
            Event::Peer { node, boot, up } => self.on_peer(&mut cx, node, boot, up),
            Event::Configure { cfg, placements } => {
                self.on_configure(&mut cx, cfg, placements);
                if !core::mem::replace(&mut self.configured, true) {
                    self.begin(&mut cx);
                }
            }
            Event::Chains(chains) => self.merger.chains = chains,
            Event::Surveyed { number, leaves } => self.on_surveyed(&mut cx, number, leaves),
            Event::Tick => {
                self.run_timers(&mut cx);
                self.send_acks(&mut cx);
            }
        }
        self.reconsider_changed(&mut cx);
        self.generations.progress |= self.session_progress;
        self.reconsider_sessions(&mut cx);
        self.reconsider_changes(&mut cx);
        self.persist_seq = cx.finish();
    }

    /// What earlier boots left, once it is known which operations are for this server.
    fn begin(&mut self, cx: &mut Cx<'_>) {
        self.arm_housekeeping();
        for tx in self.txs.keys().copied().collect::<Vec<_>>() {
            self.note_undecided(tx);
        }
        self.replay_own_log(cx);
        // A server alone waits for nobody.
        if self.members.iter().all(|node| self.is_up(*node)) {
            self.recover_own_orphans(cx);
        }
        for node in self.peers.keys().copied().collect::<Vec<_>>() {
            self.peer_changed(cx, node, true);
        }
    }

    /// When `Event::Tick` is due even if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Tick> {
        if self.owes_nothing() { self.timers.next() } else { Some(self.now) }
    }

    /// Undecided votes held here; for status pages and the simulator's invariants.
    #[must_use]
    pub fn undecided(&self) -> impl ExactSizeIterator<Item = (&TxId, &TxRecord)> {
        self.txs.iter()
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, from: NodeId, cfg: u64, message: Message) {
        self.heard_cfg = self.heard_cfg.max(cfg);
        if self.is_silent_on(&message) || self.is_of_ended_boot(from) {
            self.refuse_to_feed(cx, from, &message);
            return;
        }
        match message {
            Message::Prepare { tx, age, participants, ops, schema } => {
                let since = self.now;
                let prepare =
                    held::HeldPrepare { from, cfg, schema, age, participants, ops, since };
                self.on_prepare(cx, tx, prepare);
            }
            Message::Vote { tx, reply } => self.on_vote(cx, from, tx, reply),
            Message::Accept { tx, cluster, ballot, value, participants, ops } => {
                let proposal = acceptor::Proposed { cluster, ballot, value, participants, ops };
                self.on_accept(cx, from, tx, proposal);
            }
            Message::Accepted { tx, cluster, ballot } => {
                self.on_accepted(cx, from, tx, cluster, ballot);
            }
            Message::Rejected { tx, promised, .. } => self.on_rejected(cx, tx, promised),
            Message::Recover { tx, cluster, ballot, participants } => {
                self.on_recover(cx, from, tx, cluster, ballot, participants);
            }
            Message::Promise { tx, cluster, ballot, promise } => {
                self.on_promise(cx, from, tx, cluster, ballot, promise);
            }
            Message::Decide(entry) => self.on_decide(cx, from, cfg, entry),
            Message::DecideAck { applied, finished, fed } => {
                self.on_decide_ack(cx, from, applied, finished, fed);
            }
            Message::Relay(relay) => self.on_relay(cx, from, relay),
            Message::Status { tx, participants } => self.on_status(cx, from, tx, participants),
            Message::StatusReply { tx, knowledge } => {
                self.on_status_reply(cx, from, tx, knowledge);
            }
            Message::Read { read, items } => self.on_read(cx, from, cfg, read, &items),
            Message::ReadReply { read, answers } => self.on_read_reply(cx, from, read, answers),
            Message::Fetch { tx } => self.on_fetch(cx, from, tx),
            Message::FetchReply { tx, decision } => self.on_fetch_reply(cx, tx, decision),
            Message::Low { seq } => self.on_low(cx, from, seq),
            Message::Everywhere { seq } => self.on_everywhere(from, seq),
            Message::Truncated { start } => self.on_truncated(cx, from, start),
            Message::Left => self.on_left(cx, from),
            Message::AskLogged { txs } => self.on_ask_logged(cx, from, &txs),
            Message::Logged { txs, received } => self.on_logged(cx, txs, received),
            // It may keep clusters that it is not known to keep here. It asks again.
            Message::Align { .. } if cfg > self.cfg => Mark::SourceBehind.hit(),
            Message::Align { session, ask } => self.on_ask(cx, from, session, ask),
            // It may tell of a generation by whose rules nothing is done here yet (`align`). It is
            // asked again.
            Message::AlignReply { .. } if cfg > self.cfg => self.on_answer_ahead(from),
            Message::AlignReply { session, answer } => self.on_answer(cx, from, session, answer),
            Message::Ended { stage, boot } => self.on_ended(cx, from, stage, boot),
            // What was said to an earlier boot of this server says nothing of the boots since.
            Message::EndedReply { stage, boot, agreed } if boot == self.config.boot => {
                self.on_ended_reply(cx, from, stage, agreed);
            }
            Message::EndedReply { .. } => {}
            Message::Merging(merging) => self.on_merging(cx, from, merging),
        }
    }

    fn on_configure(
        &mut self,
        cx: &mut Cx<'_>,
        cfg: u64,
        placements: BTreeMap<ClusterKey, Placement>,
    ) {
        assert!(cfg >= self.cfg, "configuration went backwards");
        for (cluster, placement) in &placements {
            placement.assert_sound(*cluster);
        }
        self.cfg = cfg;
        let members: BTreeSet<NodeId> = placements
            .values()
            .flat_map(|p| p.masters.iter().chain(&p.replicas).copied())
            .collect();
        // How far somebody new said it was may have been cut from the log since: nobody waited for
        // it. While nobody at all is known, nothing is cut.
        let before = core::mem::replace(&mut self.members, members);
        for joined in self.members.difference(&before).filter(|_| !before.is_empty()) {
            if let Some(peer) = self.peers.get_mut(joined) {
                peer.synced = false;
            }
        }
        let is_same = |(a, b): (&Placement, &Placement)| {
            (a.generation, &a.masters, &a.replicas) == (b.generation, &b.masters, &b.replicas)
        };
        let was_root = self.topology.is_root(self.config.node);
        self.topology = Topology::new(&placements, self.config.relay.fan_out);
        let same_clusters = self.placements.keys().eq(placements.keys());
        let before = core::mem::replace(&mut self.placements, placements);
        if !same_clusters || !before.values().zip(self.placements.values()).all(is_same) {
            self.compare_again();
            // The base that they wait for may be in a cluster that is no more kept here.
            for tx in self.parked.all() {
                self.unpark(cx, tx);
            }
        }
        self.look_at_changes(cx);
        self.reconsider_configuration(cx);
        self.reconsider_feeding(cx, was_root);
        self.pump_all(cx);
    }

    fn on_peer(&mut self, cx: &mut Cx<'_>, node: NodeId, boot: Boot, up: bool) {
        let peer = self.peers.entry(node).or_default();
        assert!(boot >= peer.boot, "a closed boot came back");
        let is_new = boot > peer.boot;
        peer.aligning &= !is_new;
        if is_new {
            peer.finished = Finished::default();
        }
        peer.boot = boot;
        if peer.up != up || is_new {
            self.merger.changed_at = self.now;
        }
        peer.up = up;
        peer.reconnect();
        if self.configured {
            self.peer_changed(cx, node, is_new);
        }
    }

    fn peer_changed(&mut self, cx: &mut Cx<'_>, node: NodeId, is_new: bool) {
        let Some(stream::Peer { boot, up, .. }) = self.peers.get(&node) else { return };
        let (boot, up) = (*boot, *up);
        if up && self.align.is_some() {
            cx.send_durable(node, Message::Left);
        } else if up {
            self.acks_due.insert(node);
        }
        if !up || is_new {
            self.aligners.remove(&node);
            self.feeding_ends(node);
        }
        self.seek_parent(cx);
        if up {
            self.plan_comparison();
            self.pump_all(cx);
            self.resend_to(cx, node);
            self.hurry_recoveries();
            self.recover_own_orphans(cx);
        }
        self.drop_held_of_closed_boots(node, boot);
        self.reconsider_orphans(cx, node);
        self.log_what_was_proven(cx);
        self.reconsider_reachability(cx);
    }

    /// Somebody acts by a newer configuration than this server has: whoever joined by it may lack
    /// what all that are known here have, so nothing is forgotten before it is known here, too.
    const fn is_behind_in_cfg(&self) -> bool {
        self.heard_cfg > self.cfg
    }

    /// Believed reachable and to be counted; a server always reaches itself.
    fn is_up(&self, node: NodeId) -> bool {
        if node == self.config.node {
            return self.align.is_none();
        }
        self.peers.get(&node).is_some_and(|p| p.up && !p.aligning)
    }

    fn is_master(&self, node: NodeId, cluster: ClusterKey) -> bool {
        self.placements.get(&cluster).is_some_and(|p| p.masters.contains(&node))
    }

    /// As MASTER or REPLICA.
    fn is_kept_by(&self, node: NodeId, cluster: ClusterKey) -> bool {
        self.placements.get(&cluster).is_some_and(|p| p.is_held_by(node))
    }

    /// The operations of clusters that `node` masters.
    fn ops_for(&self, node: NodeId, ops: &[Operation]) -> Vec<Operation> {
        ops.iter().filter(|op| self.is_master(node, op.item.cluster)).cloned().collect()
    }

    /// The operations of clusters that `node` keeps, as MASTER or REPLICA.
    fn ops_held_by(&self, node: NodeId, ops: &[Operation]) -> Vec<Operation> {
        ops.iter().filter(|op| self.is_kept_by(node, op.item.cluster)).cloned().collect()
    }

    /// Below the low-water mark of its coordinator's boot: decided everywhere, and forgotten.
    fn is_finished(&self, tx: TxId) -> bool {
        self.low.get(&(tx.node, tx.boot)).is_some_and(|low| tx.seq < *low)
    }

    /// Uniform in `0..bound`, from the machine's own stream.
    fn draw(&mut self, bound: u64) -> u64 {
        self.rng.next_u64() % bound.max(1)
    }
}
