//! The world: servers, links, disks and clients on one virtual clock. Runs a seed and says what
//! went wrong. Faults live in `faults.rs`, what comes after the heal in `verdict.rs`.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_api::Boot;
use quorate_protocol::io::{Effect, Event, Note, PersistSeq, Tick, Write};
use quorate_protocol::machine::Machine;
use quorate_protocol::message;
use quorate_protocol::survey::Leaves;

use crate::clients::{Clients, Counts};
use crate::control::{self, Control};
use crate::invariants::{Invariants, Violation};
use crate::options::Options;
use crate::plant::Plant;
use crate::rng::Stream;
use crate::server::{self, Input, Out, Server};
use crate::stage::{self, Stage};
use crate::trace::Trace;

/// What the clock brings.
pub(crate) enum Happening {
    Arrive(Box<Arrival>),
    Synced {
        server: usize,
        boot: Boot,
        seq: PersistSeq,
    },
    Wake {
        server: usize,
        boot: Boot,
    },
    /// A server has read a whole cluster.
    Surveyed {
        server: usize,
        boot: Boot,
        number: u64,
        leaves: Leaves,
    },
    /// The failure detector of a server looks at its peers.
    Detect {
        server: usize,
        boot: Boot,
    },
    Client {
        client: u64,
    },
    Cut,
    HealCut(usize),
    Crash,
    Restart(usize),
    Pause,
    Resume(usize),
    Slow,
    Hurry(usize),
    Jump,
    /// A server that started has met the others.
    Met {
        server: usize,
        boot: Boot,
    },
    /// Somebody moves an owner, or drops a cluster.
    Entry,
    /// Somebody changes a cluster's MASTERs or W.
    Change,
    /// A server comes, goes, or gets another role.
    Member,
    /// Somebody creates classes or moves owners.
    Order,
    /// A server asks to be taken in.
    Enlist(usize),
    /// A server loses power while it copies, or is copied from.
    CutCopy(usize),
    /// The safety phase is over: everything heals.
    HealAll,
    /// Nothing may be in doubt any more.
    Serve,
    /// Clients come back.
    Return,
    /// Everything must have converged by now.
    Judge,
    /// A client of a harness asks a server.
    Asked(Box<stage::Ask>),
    /// One is told what came of it.
    Told(Box<stage::Answer>),
}

/// What is said over links.
#[expect(clippy::large_enum_variant, reason = "what travels is boxed")]
#[derive(Clone)]
pub(crate) enum Message {
    Machine(message::Message),
    /// From one control plane to another.
    Control(Vec<u8>),
}

/// A message that travels.
pub(crate) struct Arrival {
    pub(crate) to: usize,
    pub(crate) to_boot: Boot,
    pub(crate) from: usize,
    pub(crate) from_boot: Boot,
    pub(crate) cfg: u64,
    pub(crate) message: Message,
}

/// A run in progress.
pub struct World {
    pub(crate) options: Options,
    pub(crate) now: Tick,
    queue: BTreeMap<(Tick, u64), Happening>,
    next_id: u64,
    pub(crate) servers: Vec<Server>,
    /// Directed links that are cut, by fault number.
    pub(crate) cuts: BTreeMap<usize, Vec<(usize, usize)>>,
    pub(crate) next_cut: usize,
    pub(crate) healed: bool,
    /// The quiet after the heal is over.
    pub(crate) serving: bool,
    pub(crate) control: Control,
    pub(crate) changes: Stream,
    pub(crate) network: Stream,
    pub(crate) faults: Stream,
    pub(crate) disks: Stream,
    pub(crate) starts: Stream,
    pub(crate) planes: Stream,
    pub(crate) blocks: Stream,
    surveys: Stream,
    pub(crate) clients: Clients,
    pub(crate) invariants: Invariants,
    pub(crate) trace: Trace,
    pub(crate) plant: Plant,
    /// A harness's plan, if one is executed.
    pub(crate) stage: Option<Stage>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// Options drawn from the seed.
    pub options: Options,
    /// Hash over the whole run: same seed, same hash.
    pub trace_hash: u64,
    /// The trace as text, if asked for.
    pub trace: Vec<String>,
    /// What went wrong, in order of discovery.
    pub violations: Vec<Violation>,
    /// What clients were told, and what it took.
    pub counts: Counts,
    /// Events handled.
    pub events: u64,
}

/// What somebody who panicked said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without text").to_owned()
}

impl World {
    /// Builds the world of a seed.
    #[must_use]
    pub fn new(seed: u64, options: Options, keep_trace: bool) -> Self {
        Self::planted(seed, options, keep_trace, Plant::NONE)
    }

    /// Builds the world of a seed with something wrong in it.
    #[must_use]
    pub fn planted(seed: u64, options: Options, keep_trace: bool, plant: Plant) -> Self {
        Self::made(seed, options, keep_trace, plant, None)
    }

    fn made(
        seed: u64,
        options: Options,
        keep_trace: bool,
        plant: Plant,
        stage: Option<Stage>,
    ) -> Self {
        let mut clocks = Stream::new(seed, "clocks");
        let mut rate = || 1_000 + clocks.between(0, 2 * options.drift) - options.drift;
        let mut servers: Vec<Server> =
            (0..options.servers).map(|index| Server::new(index, rate())).collect();
        let mut invariants = Invariants::new(&options);
        let loaded = server::load(&options, &mut servers, &mut invariants);
        let rng = &mut Stream::new(seed, "control");
        let founded = control::found(&options, &mut servers, rng, plant.control);
        let mut world = Self {
            now: 1,
            queue: BTreeMap::new(),
            next_id: 0,
            servers,
            cuts: BTreeMap::new(),
            next_cut: 0,
            healed: false,
            serving: false,
            control: Control::new(founded),
            changes: Stream::new(seed, "changing"),
            network: Stream::new(seed, "network"),
            faults: Stream::new(seed, "faults"),
            disks: Stream::new(seed, "disks"),
            starts: Stream::new(seed, "starts"),
            planes: Stream::new(seed, "planes"),
            blocks: Stream::new(seed, "blocks"),
            surveys: Stream::new(seed, "surveys"),
            clients: Clients::new(seed, &options, &loaded),
            invariants,
            trace: Trace::new(keep_trace),
            options,
            plant,
            stage,
        };
        world.schedule_start();
        world
    }

    /// Builds the world that executes a harness's plan.
    pub(crate) fn staged(seed: u64, options: Options, stage: Stage) -> Self {
        Self::made(seed, options, false, Plant::NONE, Some(stage))
    }

    /// Events so far.
    pub(crate) const fn events(&self) -> u64 {
        self.next_id
    }

    fn schedule_start(&mut self) {
        for index in 0..self.servers.len() {
            self.start(index);
        }
        for client in 0..self.options.clients {
            self.at(self.now + 5_000 + client * 500, Happening::Client { client });
        }
        let o = &self.options;
        let alone = self.servers.len() < 2;
        let faults = [
            (if alone { 0 } else { o.cut_every }, Happening::Cut),
            (o.crash_every, Happening::Crash),
            (o.pause_every, Happening::Pause),
            (o.slow_every, Happening::Slow),
            (o.jump_every, Happening::Jump),
            (o.entry_every, Happening::Entry),
            (o.change_every, Happening::Change),
            (o.membership.as_ref().map_or(0, |m| m.every), Happening::Member),
            (o.membership.as_ref().map_or(0, |m| m.orders_every), Happening::Order),
        ];
        for (every, what) in faults {
            if every > 0 {
                self.again_after(every, what);
            }
        }
        self.at(self.options.duration, Happening::HealAll);
    }

    pub(crate) fn at(&mut self, when: Tick, what: Happening) {
        let id = self.next_id;
        self.next_id += 1;
        self.queue.insert((when.max(self.now), id), what);
    }

    /// Runs to the end. A machine that stops because its state is impossible is a violation.
    #[must_use]
    pub fn run(mut self) -> Report {
        let run = catch_unwind(AssertUnwindSafe(|| self.run_phases()));
        if let Err(panic) = run {
            self.invariants.report("no-panic", panic_text(&*panic));
        }
        self.clients.counts_mut().leaders = self.invariants.leaders();
        Report {
            options: self.options,
            trace_hash: self.trace.hash(),
            trace: self.trace.into_lines(),
            violations: self.invariants.take(),
            counts: self.clients.counts(),
            events: self.next_id,
        }
    }

    fn run_phases(&mut self) {
        while let Some(happening) = self.next_until(Tick::MAX) {
            if matches!(happening, Happening::Judge) || !self.invariants.violations().is_empty() {
                break;
            }
            self.happen(happening);
            if self.serving && self.clients.all_quiet() && self.has_converged() {
                break;
            }
        }
        if self.invariants.violations().is_empty() {
            self.judge_end();
        }
    }

    /// The next thing to happen, if it does so by then; time has gone on to it.
    pub(crate) fn next_until(&mut self, last: Tick) -> Option<Happening> {
        let first = self.queue.first_entry().filter(|first| first.key().0 <= last)?;
        let ((now, number), happening) = first.remove_entry();
        self.now = now;
        self.trace.mix(now);
        self.trace.mix(number);
        Some(happening)
    }

    pub(crate) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive(arrival) => self.arrive(*arrival),
            Happening::Synced { server, boot, seq } => self.synced(server, boot, seq),
            Happening::Wake { server, boot } => {
                // An earlier one took its place, if it is not the one waited for.
                let due = self.servers[server].wake == self.now;
                if due && self.servers[server].boot == boot {
                    self.servers[server].wake = Tick::MAX;
                    self.wake(server);
                }
            }
            Happening::Surveyed { server, boot, number, leaves } => {
                if self.servers[server].boot == boot {
                    self.step(server, Event::Surveyed { number, leaves });
                }
            }
            Happening::Detect { server, boot } => self.detect(server, boot),
            Happening::Client { client } => self.client_turn(client),
            Happening::Cut => self.cut(),
            Happening::HealCut(number) => self.heal_cut(number),
            Happening::Crash => self.crash(),
            Happening::Restart(server) => self.start(server),
            Happening::Pause => self.pause(),
            Happening::Resume(server) => self.resume(server),
            Happening::Slow => self.slow_down(),
            Happening::Hurry(server) => self.servers[server].slowness = 0,
            Happening::Jump => self.jump_clock(),
            Happening::Entry => self.new_entry(),
            Happening::Change => self.change_generation(),
            Happening::Member => self.change_members(),
            Happening::Order => self.give_order(),
            Happening::Enlist(server) => self.enlist(server),
            Happening::CutCopy(server) => self.power_off(server),
            Happening::Met { server, boot } => {
                if self.servers[server].boot == boot {
                    self.begin_plane(server);
                }
            }
            Happening::HealAll => self.end_of_faults(),
            Happening::Serve => self.serve(),
            Happening::Return => self.clients_return(),
            Happening::Judge => {}
            Happening::Asked(ask) => self.asked(&ask),
            Happening::Told(answer) => self.told(*answer),
        }
    }

    pub(crate) fn step(&mut self, index: usize, event: Event) {
        if self.servers[index].paused {
            self.servers[index].backlog.push(Input::Machine(event));
            return;
        }
        let id = self.servers[index].id;
        self.trace.mix(id.0);
        if let Event::Message { from, message, .. } = &event {
            self.trace.line(self.now, format_args!("{id} < {from} {message:?}"));
        }
        let mut out = Vec::new();
        let server = &mut self.servers[index];
        let now = server.clock.now(self.now);
        let Some(machine) = &mut server.machine else { return };
        machine.step(now, event, &server.disk, &mut out);
        for effect in out {
            self.effect(index, effect);
        }
        self.flush_outbox(index);
        self.begin_sync(index);
        self.arm(index);
    }

    /// A server's timer is due.
    fn wake(&mut self, index: usize) {
        let server = &self.servers[index];
        let now = server.clock.now(self.now);
        let deadline = server.machine.as_ref().and_then(Machine::next_deadline);
        if deadline.is_some_and(|deadline| deadline <= now) {
            self.step(index, Event::Tick);
        }
        self.turn_plane(index);
        if !self.servers[index].paused {
            self.arm(index);
        }
    }

    pub(crate) fn arm(&mut self, index: usize) {
        let server = &mut self.servers[index];
        let deadline = server.machine.as_ref().and_then(Machine::next_deadline);
        let tick = server.plane.as_ref().map(|_| server.next_tick);
        let Some(due) = deadline.into_iter().chain(tick).min() else { return };
        let due = server.clock.when(due).max(self.now);
        if due < server.wake {
            server.wake = due;
            let boot = server.boot;
            self.at(due, Happening::Wake { server: index, boot });
        }
    }

    fn effect(&mut self, index: usize, effect: Effect) {
        let server = &mut self.servers[index];
        match effect {
            Effect::Persist { seq, writes } => {
                let by = (server.id, server.boot);
                self.invariants.writes(by, index, &writes, server.disk.visible());
                let drops = |write: &Write| {
                    let content = matches!(write, Write::Item(_, c) if c.elsewhere.is_some());
                    content || matches!(write, Write::Purge(_))
                };
                if writes.iter().any(drops) {
                    // What is dropped behind it on the same disk is durable behind it, too.
                    let mut disks: Vec<_> = self.servers.iter().map(|s| s.disk.durable()).collect();
                    disks[index] = self.servers[index].disk.visible();
                    self.invariants.purged(index, &writes, &disks, &self.options);
                }
                let server = &mut self.servers[index];
                server.disk.write(seq, writes);
                let written = server.disk.last_written();
                self.invariants.wrote(index, written, server.disk.visible(), &self.options);
            }
            Effect::Send { to, after, message } => {
                let after = server.disk.ticket_of(after);
                server.outbox.push_back((after, Out::Send(to, message)));
            }
            Effect::Copy { to, part } => {
                let message = part.message_from(&server.disk);
                // It shows what was written last, too.
                let after = server.disk.unsynced().unwrap_or_default();
                server.outbox.push_back((after, Out::Send(to, message)));
            }
            Effect::Survey { number, survey } => {
                let (boot, leaves) = (server.boot, survey.of(&server.disk));
                // As long as a message takes: what happens meanwhile may be in it or not.
                let at = self.now + self.surveys.below(self.options.delay_max.max(1));
                self.at(at, Happening::Surveyed { server: index, boot, number, leaves });
            }
            Effect::Reply { request, after, reply } => {
                let after = server.disk.ticket_of(after);
                server.outbox.push_back((after, Out::Reply(request, reply)));
            }
            Effect::Note(note) => self.noted(index, &note),
            Effect::Report { after, report } => {
                let after = server.disk.ticket_of(after);
                server.outbox.push_back((after, Out::Report(report)));
            }
        }
    }

    fn noted(&mut self, index: usize, note: &Note) {
        let id = self.servers[index].id;
        let counts = self.clients.counts_mut();
        match note {
            Note::Committed { one_round: true } => counts.one_round += 1,
            Note::Committed { one_round: false } => counts.two_rounds += 1,
            Note::Recovering(_) => counts.recoveries += 1,
            Note::Corruption { tx, detail } => {
                self.invariants.report("no-corruption", format!("{id}: {tx}: {detail}"));
            }
            Note::Diverged { .. } if self.options.low_quorums => counts.diverged += 1,
            Note::Merged { .. } => counts.merged += 1,
            Note::NoWinner { .. } => counts.undecided += 1,
            Note::Diverged { .. } => {
                self.invariants.report("no-corruption", format!("{id}: {note:?}"));
            }
            Note::Damaged(from) => {
                self.invariants.report("no-corruption", format!("{id}: chunk of {from}"));
            }
            Note::LeftOnline => counts.left_online += 1,
            Note::BackOnline => counts.aligned += 1,
            Note::Copied { .. } => self.copied(index),
            Note::Purged { tombstones } => counts.purged += tombstones,
            Note::Dropped { contents } => counts.dropped += contents,
            Note::Aborted(_)
            | Note::Retried
            | Note::Alignment(_)
            | Note::PassedOver(_)
            | Note::AllCopied
            | Note::LostDropped { .. }
            | Note::Lag { .. } => {}
        }
        self.trace.line(self.now, format_args!("{id} note {note:?}"));
    }
}
