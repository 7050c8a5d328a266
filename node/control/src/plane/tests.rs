//! Several control planes on one seed: a network that loses, delays and reorders, disks that lose
//! what was not synced, servers that crash.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use quorate_api::ErrorCode;

use super::*;
use crate::members::WriteQuorum;
use crate::schema::DatabaseKind;
use crate::settings::NewDatabase;

/// What a server has on its disk, in the order of writing.
#[derive(Default)]
struct Disk {
    synced: RecoveredLog,
    first: u64,
    unsynced: VecDeque<(u64, Vec<LogWrite>)>,
}

impl Disk {
    fn sync_one(&mut self) -> Option<u64> {
        let (number, writes) = self.unsynced.pop_front()?;
        for write in writes {
            match write {
                LogWrite::HardState(bytes) => self.synced.hard_state = Some(bytes),
                LogWrite::Cut(from) => {
                    let keep = from.saturating_sub(self.first);
                    self.synced.entries.truncate(usize::try_from(keep).unwrap());
                }
                LogWrite::Entry(index, bytes) => {
                    assert_eq!(index, self.first + self.synced.entries.len() as u64);
                    self.synced.entries.push(bytes);
                }
                LogWrite::Snapshot(index, bytes) => {
                    let gone = (index + 1).saturating_sub(self.first);
                    let gone = usize::try_from(gone).unwrap().min(self.synced.entries.len());
                    self.synced.entries.drain(..gone);
                    self.first = index + 1;
                    self.synced.snapshot = Some(bytes);
                }
            }
        }
        Some(number)
    }
}

struct Server {
    plane: Option<Plane>,
    disk: Disk,
    boot: u32,
    held: VecDeque<(u64, NodeId, Vec<u8>)>,
    durable: u64,
    /// Highest configuration that was ever applied.
    cfg: u64,
}

struct World {
    servers: Vec<Server>,
    rng: ChaCha8Rng,
    /// (due, number) → message.
    network: BTreeMap<(u64, u64), (NodeId, NodeId, u32, Vec<u8>)>,
    now: u64,
    sent: u64,
    loss: u32,
    loses_snapshots: bool,
    /// Of a thousand milliseconds, those in which a disk syncs nothing.
    slow: u32,
    /// Who led which term.
    leaders: BTreeMap<u64, usize>,
    cut: BTreeSet<(usize, usize)>,
    answers: BTreeMap<u64, Answer>,
    requests: u64,
    trace: Vec<String>,
}

fn node(index: usize) -> NodeId {
    NodeId(10 + index as u64)
}

fn create_database() -> Command {
    let new = NewDatabase::new("d", DatabaseKind::Plocal, WriteQuorum::Majority);
    let masters = (0..3).map(|i| (format!("n{i}"), node(i))).collect();
    Command::CreateDatabase { new, masters }
}

fn create_class(name: &str) -> Command {
    Command::CreateClass { database: "d".into(), name: name.into(), supers: Vec::new() }
}

impl World {
    fn new(seed: u64, servers: usize) -> Self {
        let mut world = Self {
            servers: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            network: BTreeMap::new(),
            now: 0,
            sent: 0,
            loss: 0,
            loses_snapshots: false,
            slow: 300,
            leaders: BTreeMap::new(),
            cut: BTreeSet::new(),
            answers: BTreeMap::new(),
            requests: 0,
            trace: Vec::new(),
        };
        for _ in 0..servers {
            let (disk, held) = (Disk::default(), VecDeque::new());
            world.servers.push(Server { plane: None, disk, boot: 0, held, durable: 0, cfg: 0 });
        }
        for index in 0..servers {
            world.start(index);
        }
        world
    }

    fn chance(&mut self, permille: u32) -> bool {
        self.rng.next_u32() % 1000 < permille
    }

    fn start(&mut self, index: usize) {
        let founders: Vec<NodeId> = (0..self.servers.len()).map(node).collect();
        let server = &mut self.servers[index];
        server.boot += 1;
        server.durable = 0;
        let (node, boot) = (node(index), Boot(server.boot));
        let seed = u64::from(server.boot) * 100 + index as u64;
        let mut out = Vec::new();
        let config = PlaneConfig { node, boot, seed };
        let plane = Plane::new(config, &server.disk.synced, &founders, &mut out).unwrap();
        server.plane = Some(plane);
        self.carry_out(index, out);
        // What it had applied, it applies again from its own disk.
        assert!(self.cfg(index) >= self.servers[index].cfg, "an older configuration came back");
    }

    fn crash(&mut self, index: usize) {
        let server = &mut self.servers[index];
        server.plane = None;
        server.disk.unsynced.clear();
        server.held.clear();
    }

    fn cfg(&self, index: usize) -> u64 {
        self.servers[index].plane.as_ref().map_or(0, |plane| plane.state().cfg)
    }

    fn step(&mut self, index: usize, event: Event) {
        let mut out = Vec::new();
        let Some(plane) = &mut self.servers[index].plane else { return };
        plane.step(event, &mut out).unwrap();
        self.carry_out(index, out);
    }

    fn carry_out(&mut self, index: usize, out: Vec<Effect>) {
        let told = out.iter().position(|effect| matches!(effect, Effect::Answer { .. }));
        let changed = out.iter().position(|effect| *effect == Effect::Changed);
        assert!(changed.is_none_or(|at| told.is_none_or(|told| told > at)), "answered too early");
        for effect in out {
            self.trace.push(format!("{} {index} {effect:?}", self.now));
            match effect {
                Effect::Persist { number, writes } => {
                    self.servers[index].disk.unsynced.push_back((number, writes));
                }
                Effect::Send { to, after, bytes } => {
                    self.servers[index].held.push_back((after, to, bytes));
                }
                Effect::Answer { request, answer } => {
                    assert!(self.answers.insert(request, answer).is_none(), "answered twice");
                }
                Effect::Changed | Effect::Led { .. } => {}
            }
        }
        self.let_out(index);
    }

    fn let_out(&mut self, index: usize) {
        let durable = self.servers[index].durable;
        let mut held = core::mem::take(&mut self.servers[index].held);
        held.retain(|(after, to, bytes)| {
            let free = *after <= durable;
            if free {
                let to_index = usize::try_from(to.0 - 10).unwrap();
                let message = eraftpb::Message::decode(&bytes[..]).unwrap();
                let lost = self.cut.contains(&(index, to_index))
                    || (self.loses_snapshots && message.msg_type() == MessageType::MsgSnapshot);
                let loss = self.loss;
                if !lost && !self.chance(loss) {
                    let due = self.now + 500 + u64::from(self.rng.next_u32() % 20_000);
                    self.sent += 1;
                    let boot = self.servers[to_index].boot;
                    let message = (node(index), *to, boot, bytes.clone());
                    self.network.insert((due, self.sent), message);
                }
            }
            !free
        });
        self.servers[index].held = held;
    }

    /// One millisecond.
    fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += 1_000;
            while let Some(((due, number), message)) = self.network.pop_first() {
                if due > self.now {
                    self.network.insert((due, number), message);
                    break;
                }
                let (from, to, boot, bytes) = message;
                let index = usize::try_from(to.0 - 10).unwrap();
                if self.servers[index].boot == boot {
                    self.step(index, Event::Message { from, bytes });
                }
            }
            for index in 0..self.servers.len() {
                let late = self.chance(self.slow);
                if !late && let Some(number) = self.servers[index].disk.sync_one() {
                    self.servers[index].durable = number;
                    self.let_out(index);
                    self.step(index, Event::Persisted(number));
                }
                if (self.now + index as u64 * 7_000).is_multiple_of(TICK) {
                    self.step(index, Event::Tick);
                }
                self.servers[index].cfg = self.servers[index].cfg.max(self.cfg(index));
                self.note_leader(index);
            }
        }
    }

    fn note_leader(&mut self, index: usize) {
        let Some(plane) = &self.servers[index].plane else { return };
        if plane.is_leader() {
            let term = plane.raft.raft.term;
            let first = *self.leaders.entry(term).or_insert(index);
            assert_eq!(first, index, "two leaders of term {term}");
        }
    }

    fn propose(&mut self, index: usize, command: Command) -> u64 {
        self.requests += 1;
        let request = self.requests;
        self.step(index, Event::Propose { request, command });
        request
    }

    fn leader(&self) -> Option<usize> {
        let leads = |s: &Server| s.plane.as_ref().is_some_and(Plane::is_leader);
        self.servers.iter().position(leads)
    }

    fn states(&self) -> Vec<Vec<u8>> {
        let planes = self.servers.iter().filter_map(|s| s.plane.as_ref());
        planes.map(|plane| plane.state().encode().unwrap()).collect()
    }

    fn classes(&self, index: usize) -> BTreeSet<String> {
        let schema = self.servers[index].plane.as_ref().unwrap().schema();
        let database = schema.database("d");
        database.into_iter().flat_map(|d| d.classes.iter().map(|c| c.name.clone())).collect()
    }
}

#[test]
fn every_server_proposes_and_all_agree() {
    let mut world = World::new(1, 3);
    world.run_ms(2_000);
    let made = world.propose(0, create_database());
    world.run_ms(500);
    assert_eq!(world.answers[&made], Answer::Applied(Ok(())));
    let all: Vec<u64> =
        (0..30).map(|i| world.propose(i % 3, create_class(&format!("C{i}")))).collect();
    let again = world.propose(2, create_class("C7"));
    world.run_ms(3_000);
    assert!(all.iter().all(|request| world.answers[request] == Answer::Applied(Ok(()))));
    let Answer::Applied(Err(refusal)) = &world.answers[&again] else { panic!("taken twice") };
    assert_eq!(
        (refusal.code, &refusal.text[..]),
        (ErrorCode::ClassExists, "Class 'C7' already exists")
    );
    let states = world.states();
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]));
    let schema = world.servers[0].plane.as_ref().unwrap().schema();
    let ids: BTreeSet<u32> =
        schema.database("d").unwrap().clusters.iter().map(|cluster| cluster.id).collect();
    assert_eq!(ids.len(), 3 * 32, "one number a cluster");
}

#[test]
fn a_server_alone_serves_without_an_election() {
    let mut world = World::new(1, 1);
    world.run_ms(30);
    assert_eq!(world.leader(), Some(0));
    let made = world.propose(0, create_database());
    world.run_ms(30);
    assert_eq!(world.answers[&made], Answer::Applied(Ok(())));
}

#[test]
fn a_minority_says_what_it_does_not_know() {
    let mut world = World::new(3, 3);
    world.run_ms(2_000);
    world.propose(0, create_database());
    world.run_ms(500);
    let leader = world.leader().unwrap();
    for other in (0..3).filter(|other| *other != leader) {
        world.cut.extend([(leader, other), (other, leader)]);
    }
    let alone = world.propose(leader, create_class("Alone"));
    world.step(leader, Event::CatchUp { request: 77 });
    world.run_ms(3_000);
    assert_eq!(world.leader().filter(|now| *now == leader), None, "it noticed that it is alone");
    let late = world.propose(leader, create_class("Late"));
    assert_eq!(world.answers.get(&alone), None);
    for request in [alone, late, 77] {
        world.step(leader, Event::GiveUp { request });
    }
    assert_eq!(world.answers[&alone], Answer::Unknown);
    assert_eq!(world.answers[&late], Answer::NotProposed);
    assert_eq!(world.answers[&77], Answer::NotProposed);
    let there = world.propose((leader + 1) % 3, create_class("There"));
    world.run_ms(1_000);
    assert_eq!(world.answers[&there], Answer::Applied(Ok(())), "the majority goes on");
    world.cut.clear();
    world.run_ms(3_000);
    assert!(world.classes(leader).contains("There"));
    assert!(!world.classes(leader).contains("Late"), "what was never proposed never happens");
}

#[test]
fn a_question_is_answered_with_everything_decided_before_it() {
    let mut world = World::new(5, 3);
    world.run_ms(2_000);
    world.propose(0, create_database());
    world.run_ms(500);
    for round in 0..20_usize {
        let made = world.propose(round % 3, create_class(&format!("C{round}")));
        while !world.answers.contains_key(&made) {
            world.run_ms(1);
        }
        let (asked, request) = ((round + 1) % 3, 1_000 + round as u64);
        world.step(asked, Event::CatchUp { request });
        while !world.answers.contains_key(&request) {
            world.run_ms(1);
        }
        assert_eq!(world.answers[&request], Answer::CaughtUp);
        assert!(world.classes(asked).contains(&format!("C{round}")), "round {round}");
    }
}

#[test]
fn a_server_that_was_away_for_long_gets_the_state_and_not_the_log() {
    let mut world = World::new(7, 3);
    world.run_ms(2_000);
    world.propose(0, create_database());
    world.run_ms(500);
    world.crash(2);
    world.run_ms(2_500);
    for i in 0..ENTRIES_MAX {
        world.propose(i % 2, create_class(&format!("C{i}")));
        world.run_ms(60);
    }
    world.run_ms(2_000);
    let (cut_at, _) = world.servers[0].plane.as_ref().unwrap().raft.store().snapshot_state();
    assert!(cut_at > 1, "the log was cut");
    world.start(2);
    world.run_ms(3_000);
    assert_eq!(world.classes(2).len(), 2 + ENTRIES_MAX);
    // And from its own disk once more.
    world.crash(2);
    world.start(2);
    assert!(world.classes(2).len() > 2);
    world.run_ms(3_000);
    let states = world.states();
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]));
}

/// The library waits for the answer to a snapshot for ever.
#[test]
fn a_snapshot_that_was_lost_is_sent_again() {
    let mut world = World::new(9, 3);
    world.run_ms(2_000);
    world.propose(0, create_database());
    world.run_ms(500);
    let leader = world.leader().unwrap();
    let behind = (leader + 1) % 3;
    world.crash(behind);
    for i in 0..2 * ENTRIES_MAX {
        world.propose(leader, create_class(&format!("C{i}")));
        world.run_ms(60);
    }
    world.start(behind);
    world.loses_snapshots = true;
    world.run_ms(500);
    assert!(world.classes(behind).len() < ENTRIES_MAX);
    world.loses_snapshots = false;
    world.run_ms(3_000);
    assert_eq!(world.leader(), Some(leader), "nobody else could have sent it");
    assert_eq!(world.classes(behind).len(), 2 + 2 * ENTRIES_MAX);
}

/// Loss, reordering, partitions, crashes that lose what was not synced; then a heal.
fn storm(seed: u64) -> World {
    let mut world = World::new(seed, 3 + 2 * usize::try_from(seed % 2).unwrap());
    let count = world.servers.len();
    world.run_ms(1_500);
    world.propose(0, create_database());
    world.run_ms(1_500);
    (world.loss, world.slow) = (30, 950);
    for round in 0..120 {
        let index = world.rng.next_u32() as usize % count;
        match world.rng.next_u32() % 6 {
            0 => world.crash(index),
            1 if world.servers[index].plane.is_none() => world.start(index),
            2 => {
                let other = world.rng.next_u32() as usize % count;
                world.cut.insert((index, other));
            }
            3 => world.cut.clear(),
            _ if world.servers[index].plane.is_some() => {
                let request = world.propose(index, create_class(&format!("C{round}")));
                assert_eq!(request, world.requests);
            }
            _ => {}
        }
        // Often before the disks have synced what it led to.
        let pause = 1 + u64::from(world.rng.next_u32() % 120);
        world.run_ms(pause);
    }
    (world.loss, world.slow) = (0, 300);
    world.cut.clear();
    for index in 0..count {
        if world.servers[index].plane.is_none() {
            world.start(index);
        }
    }
    world.run_ms(6_000);
    world
}

#[test]
fn storms_lose_nothing_and_do_nothing_twice() {
    let mut applied = 0;
    for seed in 0..40 {
        let world = storm(seed);
        let states = world.states();
        assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: not equal");
        for answer in world.answers.values() {
            // Every name is asked for once, so a refusal would be a command carried out twice.
            assert_eq!(*answer, Answer::Applied(Ok(())), "seed {seed}");
            applied += 1;
        }
        let there = world.classes(0).len();
        assert!(there >= world.answers.len(), "seed {seed}: acknowledged, and not there");
    }
    assert!(applied > 40 * 8, "only {applied} commands came through");
}

#[test]
fn same_seed_same_trace_whatever_thread_draws() {
    let trace = || std_thread_trace(11);
    assert_eq!(trace(), trace());
}

/// A thread has a generator of its own, which the library draws from.
fn std_thread_trace(seed: u64) -> Vec<String> {
    extern crate std;
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new();
        builder.spawn_scoped(scope, || storm(seed).trace).unwrap().join().unwrap()
    })
}

#[test]
fn a_disk_that_holds_something_else_is_refused() {
    let config = PlaneConfig { node: node(0), boot: Boot(1), seed: 1 };
    let mut world = World::new(2, 1);
    world.run_ms(100);
    world.propose(0, create_database());
    world.run_ms(100);
    let good = &world.servers[0].disk.synced;
    let refused = |log: &RecoveredLog| {
        let error = Plane::new(config, log, &[], &mut vec![]).unwrap_err();
        format!("{error}")
    };
    let other = RecoveredLog { snapshot: Some(vec![0xff; 9]), ..good.clone() };
    assert!(refused(&other).starts_with("a snapshot of the control plane is not understood"));
    let holed = RecoveredLog { entries: good.entries[1..].to_vec(), ..good.clone() };
    assert!(refused(&holed).contains("index 3 stands where 2 should"), "{}", refused(&holed));
    let short = RecoveredLog { entries: Vec::new(), ..good.clone() };
    assert!(refused(&short).contains("is committed, 1 is the last"), "{}", refused(&short));
    let junk = RecoveredLog { hard_state: Some(vec![0xff; 3]), ..good.clone() };
    assert!(refused(&junk).starts_with("the hard state"));
}

proptest::proptest! {
    #[test]
    fn messages_that_are_none_are_like_lost_ones(
        bytes in proptest::collection::vec(0_u8.., 0..100)
    ) {
        let mut world = World::new(2, 1);
        world.run_ms(20);
        world.step(0, Event::Message { from: node(1), bytes });
        world.run_ms(20);
        proptest::prop_assert_eq!(world.leader(), Some(0));
    }
}
