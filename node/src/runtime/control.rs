//! The control plane inside the loop: it shares the loop's thread, disk and links. Carries out what
//! the plane wants done, and hands what was agreed on to the machine. May not decide anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use quorate_api::NodeId;
use quorate_control::command::Command;
use quorate_control::plane::{
    Answer, ENTRIES_MAX, Effect, Event, Plane, PlaneConfig, RecoveredLog, TICK, UnreadableError,
};
use quorate_control::schema::Schema;
use quorate_protocol::io::{Event as MachineEvent, PersistSeq, RelayConfig, Tick};
use quorate_protocol::topology::Topology;
use tokio::sync::oneshot;

use super::bulletin;
use super::inbox::Input;
use super::link::frame::Kind;
use super::node_loop::{NodeLoop, Out};
use super::owners::{Owners, Step};
use super::protocol::Protocol;
use super::storage::die;
use crate::http::members::ServerState;
use crate::index::table::IndexTable;

/// Ticks of a server without a part in the log that pass at once.
const OBSERVER_TICKS: u64 = 4;

/// The control plane, and who waits for what of it.
pub(super) struct Control {
    plane: Plane,
    next_tick: Tick,
    /// Its batches that are not durable yet: its own number, and the writer's.
    handed: VecDeque<(u64, PersistSeq)>,
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    owners: Owners,
    /// Number of the request that tells where this server is reached.
    announcing: Option<u64>,
}

/// What the control plane is started with.
pub(super) struct Foundation {
    /// What the disk holds.
    pub(super) recovered: RecoveredLog,
    /// Of its election time-outs.
    pub(super) seed: u64,
    /// It waits to be taken in by a cluster, unless it is in one already.
    pub(super) joins: bool,
    /// For how long a MASTER is lost before it leaves, where it may; `None`: for ever.
    pub(super) remove_after: Option<Tick>,
}

impl Control {
    /// Somebody leads, so commands can be carried out.
    pub(super) const fn is_led(&self) -> bool {
        self.plane.led().0.is_some()
    }

    /// What this server does next to give its clusters away.
    pub(super) fn give_owners(&self) -> Step {
        self.owners.give(&self.plane.schema(), self.plane.node())
    }

    /// It leads, and another one could.
    pub(super) fn can_resign(&self) -> bool {
        self.plane.can_resign()
    }

    /// When it is to be woken.
    pub(super) const fn next_tick(&self) -> Tick {
        self.next_tick
    }
}

impl<P: Protocol> NodeLoop<P> {
    /// The control plane can begin at once where there was one before, or where nothing is to be
    /// founded; else once every founder was met.
    pub(super) fn found_when_complete(&mut self) {
        let Some(foundation) = &self.foundation else { return };
        let founds = foundation.recovered.snapshot.is_none() && !foundation.joins;
        if founds && self.peers.len() + 1 < self.shared.members.count() {
            return;
        }
        let mut founders: Vec<(String, NodeId)> = Vec::new();
        if founds {
            let others = self.peers.iter().map(|(node, known)| (known.peer.name.clone(), *node));
            founders.extend(others.chain([(self.shared.name.clone(), self.shared.node)]));
            founders.sort_unstable_by_key(|(_, node)| *node);
        }
        let Some(foundation) = self.foundation.take() else { return };
        let (node, boot) = (self.shared.node, self.shared.boot);
        let config = PlaneConfig { node, boot, seed: foundation.seed, entries_max: ENTRIES_MAX };
        let mut effects = Vec::new();
        let plane = Plane::new(config, &foundation.recovered, &founders, &mut effects);
        let plane = plane.unwrap_or_else(|error| refuse(&error));
        self.control = Some(Control {
            plane,
            next_tick: self.shared.clock.now() + TICK,
            handed: VecDeque::new(),
            waiting: BTreeMap::new(),
            owners: Owners::new(foundation.remove_after.map(|after| after / TICK)),
            announcing: None,
        });
        self.check_place(foundation.joins);
        // Whatever it had applied is there again.
        self.configure();
        self.carry_out_control(effects);
        let there = self.peers.iter().filter(|(_, known)| known.peer.status().1);
        for node in there.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.step_control(Event::Peer { node, up: true });
        }
    }

    /// A data folder that has a cluster is used in that one, and by a server with links to it.
    fn check_place(&self, joins: bool) {
        let Some(control) = &self.control else { return };
        let schema = control.plane.schema();
        let linked = self.shared.links.is_some();
        let is_member = schema.server(self.shared.node).is_some();
        if joins && !is_member {
            self.shared.may_join.notify_one();
        } else if schema.servers.is_empty() {
            self.shared.refuse(
                "the data folder is that of a server that was to join a cluster and knows of none \
                 yet; start it with --join, as before, or found a cluster with another folder"
                    .to_owned(),
            );
        } else if !linked && schema.servers.len() > 1 {
            let names: Vec<&str> = schema.servers.iter().map(|s| s.name.as_str()).collect();
            let names = names.join(", ");
            self.shared.refuse(format!(
                "the data folder belongs to a server of a cluster ({names}); start it with \
                 --masters or --join, as before"
            ));
        }
    }

    /// An input that is for the control plane.
    pub(super) fn handle_control(&mut self, input: Input) {
        match input {
            Input::Control { from, boot, bytes } => {
                if self.peers.get(&from).is_none_or(|known| boot < known.boot) {
                    self.shared.metrics.stale_messages.increment();
                    return;
                }
                self.shared.metrics.control_received.increment();
                self.step_control(Event::Message { from, bytes });
            }
            Input::Propose { request, command, reply } => {
                if let Some(control) = &mut self.control {
                    control.waiting.insert(request, reply);
                    self.step_control(Event::Propose { request, command: *command });
                }
            }
            Input::CatchUp { request, reply } => {
                if let Some(control) = &mut self.control {
                    control.waiting.insert(request, reply);
                    self.step_control(Event::CatchUp { request });
                }
            }
            Input::GiveUp { request } => self.step_control(Event::GiveUp { request }),
            Input::Submit { .. }
            | Input::Read { .. }
            | Input::Choose { .. }
            | Input::Dismiss { .. }
            | Input::Compare { .. }
            | Input::Undecided { .. }
            | Input::Session { .. }
            | Input::Message { .. }
            | Input::Surveyed { .. }
            | Input::Peer { .. }
            | Input::Bound { .. }
            | Input::Unbound { .. }
            | Input::Leave { .. }
            | Input::Stop { .. } => {}
        }
    }

    /// Time passed, or the disk got further.
    pub(super) fn turn_control(&mut self) {
        let now = self.shared.clock.now();
        let Some(control) = &mut self.control else { return };
        let mut durable = None;
        while let Some((number, _)) =
            control.handed.pop_front_if(|(_, ticket)| *ticket <= self.durable)
        {
            durable = Some(number);
        }
        // A server that stood still for long has missed ticks; others have not.
        let due = control.next_tick <= now;
        // Whoever has no part in the log need not wake as often: several ticks at once will do.
        let ticks = if control.plane.is_observer() { OBSERVER_TICKS } else { 1 };
        if due {
            control.next_tick = now + ticks * TICK;
        }
        if let Some(number) = durable {
            self.step_control(Event::Persisted(number));
        }
        for report in std::mem::take(&mut self.reports) {
            self.step_control(Event::Report(report));
        }
        if due {
            for _ in 0..ticks {
                self.step_control(Event::Tick);
            }
            let voters = self.control.as_ref().map_or(0, |control| control.plane.voting().len());
            self.shared.metrics.control_voters.store(voters as u64, Ordering::Relaxed);
            self.watch_owners();
            self.resign();
            self.announce();
            if let (Some(links), Some(control)) = (&self.shared.links, &self.control) {
                let mut needs = self.protocol.needs();
                needs.extend(control.plane.needs());
                links.demand(&needs);
            }
        }
    }

    /// Tells the others where this server is reached, where they do not know it.
    fn announce(&mut self) {
        let node = self.shared.node;
        let Some(control) = &mut self.control else { return };
        let Some(address) = &self.shared.address else { return };
        let schema = control.plane.schema();
        let known = schema.server(node).map(|server| server.address.as_ref() == Some(address));
        if control.announcing.is_some() || known != Some(false) || !control.is_led() {
            return;
        }
        let request = self.shared.next_control.fetch_add(1, Ordering::Relaxed);
        control.announcing = Some(request);
        let command = Command::Announce { node, address: address.clone() };
        self.step_control(Event::Propose { request, command });
    }

    /// Sees who is there, and has owners moved if this server leads.
    fn watch_owners(&mut self) {
        let Some(control) = &mut self.control else { return };
        let peers = self.peers.iter();
        let peers = peers.filter_map(|(node, known)| Some((*node, known.peer.state()?)));
        let all = peers.chain([(self.shared.node, ServerState::Is(self.shared.state()))]);
        let plane = &control.plane;
        control.owners.look(all.map(|(node, state)| (node, state, plane.hears(node))));
        if !control.plane.is_leader() {
            return;
        }
        let agreement = &control.plane.state().agreement;
        let votes: BTreeSet<NodeId> = agreement.voters().collect();
        let (schema, owners) = (control.plane.schema(), &control.owners);
        let stays = owners.stays(&schema, agreement.lost_and_named());
        if let Some(command) = stays.or_else(|| owners.due(&schema, |node| votes.contains(&node))) {
            self.move_owners(command);
        }
    }

    /// Asks for what moves owners.
    pub(super) fn move_owners(&mut self, command: Command) {
        let Some(control) = &mut self.control else { return };
        let request = self.shared.next_control.fetch_add(1, Ordering::Relaxed);
        control.owners.asked(request, &command);
        self.step_control(Event::Propose { request, command });
    }

    pub(super) fn step_control(&mut self, event: Event) {
        let Some(control) = &mut self.control else { return };
        let mut effects = Vec::new();
        let done = control.plane.step(event, &mut effects);
        self.carry_out_control(effects);
        done.unwrap_or_else(|error| refuse(&error));
    }

    fn carry_out_control(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Persist { number, writes } => {
                    let ticket = self.writer.apply_control(&writes);
                    let ticket = ticket.unwrap_or_else(|error| die(&error));
                    if let Some(control) = &mut self.control {
                        control.handed.push_back((number, ticket));
                    }
                }
                Effect::Send { to, after, bytes } => {
                    let handed = self.control.as_ref().map(|control| &control.handed);
                    let waits = handed.and_then(|handed| {
                        handed.iter().find(|(number, _)| *number == after).map(|(_, t)| *t)
                    });
                    self.hold(waits.unwrap_or(0), Out::Control(to, bytes));
                }
                Effect::Changed => self.configure(),
                Effect::Answer { request, answer } => {
                    self.take_positions();
                    let Some(control) = &mut self.control else { continue };
                    let announced = control.announcing.take_if(|asked| *asked == request);
                    if control.owners.answered(request) || announced.is_some() {
                        continue;
                    }
                    if let Some(client) = control.waiting.remove(&request) {
                        // A client that has gone needs no answer.
                        client.send(answer).ok();
                    }
                }
                Effect::Led { leader, term } => self.led(leader, term),
            }
        }
    }

    /// Blocks granted to this boot: before who asked is told that there is one.
    fn take_positions(&self) {
        let Some(control) = &self.control else { return };
        let agreement = &control.plane.state().agreement;
        for (cluster, block) in agreement.granted_to(self.shared.node, self.shared.boot) {
            self.shared.allocator.granted(cluster, block);
        }
    }

    fn led(&self, leader: Option<NodeId>, term: u64) {
        self.shared.metrics.control_term.store(term, Ordering::Relaxed);
        let leads = leader == Some(self.shared.node);
        self.shared.metrics.control_leads.store(u64::from(leads), Ordering::Relaxed);
        let schema = self.control.as_ref().map(|control| control.plane.schema());
        let agreed = leader.and_then(|node| schema.as_ref()?.server_name(node));
        let name = agreed.or_else(|| leader.and_then(|node| self.name_of(node)));
        match name {
            Some(leader) => tracing::info!(leader, term, "the control plane has a leader"),
            None => tracing::info!(term, "the control plane has no leader"),
        }
    }

    fn name_of(&self, node: NodeId) -> Option<&str> {
        if node == self.shared.node {
            return Some(&self.shared.name);
        }
        self.peers.get(&node).map(|known| known.peer.name.as_str())
    }

    pub(super) fn send_control(&mut self, to: NodeId, bytes: &Vec<u8>) {
        let known = self.peers.get_mut(&to);
        if let Some(known) = known
            && known.peer.queue.push(Kind::Control, bytes)
        {
            self.shared.metrics.control_sent.increment();
            known.dirty = true;
        } else {
            self.wanted.insert(to);
        }
    }

    /// Tells the machine where everything is placed, as agreed on.
    pub(super) fn configure(&mut self) {
        let Some(control) = &self.control else { return };
        let (cfg, schema) = (control.plane.state().cfg, control.plane.schema());
        if schema.server(self.shared.node).is_none() {
            if self.shared.is_member() {
                self.shared.dismiss(schema.is_absent(self.shared.node));
            }
            // It is not taken in yet. Not before that it may align, for nobody would tell it what
            // is settled meanwhile.
            return;
        }
        let placements = control.plane.state().agreement.placements();
        if let Some(links) = &self.shared.links {
            let fan_out = RelayConfig::new().fan_out;
            let mut always = Topology::new(&placements, fan_out).links(self.shared.node);
            always.extend(schema.links(self.shared.node));
            let tree = schema.tree();
            let above = tree.candidates(self.shared.node).filter(|node| always.contains(node));
            let above = above.collect();
            links.set_level(schema.level);
            let gone = (&schema.gone[..], &schema.absent[..]);
            links.follow(&schema.servers, gone, (always, above));
        }
        // Filling begins again with other indexes only: configurations come more often.
        if self.filed != Some(schema.revision) {
            let filling = self.writer.set_indexes(IndexTable::of(&schema));
            self.filling = filling.unwrap_or_else(|error| die(&error));
            self.filed = Some(schema.revision);
        }
        self.cfg = cfg;
        let chains = schema.chains();
        self.warn_of_low_quorums(&schema);
        self.shared.set_schema(schema);
        self.shared.placements.store(Arc::new(placements.clone()));
        let changing = placements.values().filter(|p| p.change.is_some()).count();
        self.shared.metrics.changing.store(changing as u64, Ordering::Relaxed);
        let clusters = placements.len();
        tracing::info!(cfg, clusters, changing, "updated distributed configuration");
        for uniting in bulletin::uniting(&placements, &self.shared.schema.load()) {
            tracing::info!(database = uniting.database, "{uniting}");
        }
        self.step(MachineEvent::Chains(chains));
        self.step(MachineEvent::Configure { cfg, placements });
        // Last: whoever is told may count on the machine knowing it too.
        self.shared.changes.send_modify(|changes| *changes += 1);
        self.settle();
    }

    /// Says of every database that is new here, at the start of all, what its quorum gives up.
    fn warn_of_low_quorums(&self, schema: &Schema) {
        let before = self.shared.schema.load();
        for database in &schema.databases {
            let is_new = before.databases.iter().all(|other| other.id != database.id);
            let warning = schema.warning_of(database);
            if let Some(warning) = warning.filter(|_| is_new) {
                tracing::warn!(database = database.name, "{warning}");
            }
        }
    }
}

/// Something was agreed on that this version does not understand, or its own log is damaged.
fn refuse(error: &UnreadableError) -> ! {
    tracing::error!(%error, "this server stops rather than guess");
    std::process::abort()
}
