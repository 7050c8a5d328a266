//! What control planes do together, in calm and in storms.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use quorate_api::{Boot, ErrorCode};

use super::testing::{ENTRIES_FEW, World, create_class, create_database, node, voters};
use super::*;
use crate::command::Command;
use crate::servers::Role;

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
    // Its configuration is there again before anything is durable: the machine begins with it.
    world.crash(0);
    world.start(0);
    assert!(!world.classes(0).is_empty());
}

/// Who has lost the leader need not wait for its silence: nobody waits out an election time-out.
#[test]
fn a_leader_that_cannot_be_reached_is_followed_soon() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        world.run_ms(2_000);
        let lost = world.leader().unwrap();
        world.crash(lost);
        // A link that has ended brings nothing more.
        world.run_ms(25);
        for other in (0..3).filter(|other| *other != lost) {
            world.step(other, Event::Peer { node: node(lost), up: false });
        }
        let mut waited = 0;
        while world.leader().is_none() {
            world.run_ms(1);
            waited += 1;
            assert!(waited < ELECTION as u64 * TICK / 1_000, "seed {seed}: {waited} ms");
        }
    }
}

/// The others hear it, and it stays: one bad link must not unseat a leader. Nor is the server
/// behind that link left out: its commands are carried out, and it hears of those of others.
#[test]
fn a_leader_that_one_server_cannot_reach_goes_on() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        world.run_ms(2_000);
        world.propose(0, create_database());
        let leader = world.leader().unwrap();
        let term = world.servers[leader].plane.as_ref().unwrap().led().1;
        let other = (leader + 1) % 3;
        world.cut.extend([(leader, other), (other, leader)]);
        world.step(other, Event::Peer { node: node(leader), up: false });
        world.step(leader, Event::Peer { node: node(other), up: false });
        world.run_ms(1_000);
        let there = world.propose(other, create_class("There"));
        let here = world.propose(leader, create_class("Here"));
        world.step(other, Event::CatchUp { request: 77 });
        world.run_ms(2_000);
        for request in [there, here] {
            assert_eq!(world.answers.get(&request), Some(&Answer::Applied(Ok(()))), "seed {seed}");
        }
        assert_eq!(world.answers.get(&77), Some(&Answer::CaughtUp), "seed {seed}");
        assert_eq!(world.classes(other), world.classes(leader), "seed {seed}");
        assert_eq!(world.leader(), Some(leader), "seed {seed}");
        let found = world.servers[other].plane.as_ref().unwrap().led();
        assert_eq!(found, (Some(node(leader)), term), "seed {seed}");
    }
}

/// Everybody tries everybody else, and nothing goes in circles.
#[test]
fn what_nobody_can_bring_is_lost_and_not_passed_on_for_ever() {
    let mut world = World::new(1, 4);
    world.run_ms(2_000);
    let lost = (world.leader().unwrap() + 1) % 4;
    world.crash(lost);
    for other in (0..4).filter(|other| *other != lost) {
        world.step(other, Event::Peer { node: node(lost), up: false });
    }
    let before = world.sent;
    world.run_ms(10_000);
    // The leader's signs of life, ten a second to each of three, two of which answer.
    assert!(world.sent - before < 10 * 10 * 8, "{} messages", world.sent - before);
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
    for i in 0..ENTRIES_FEW {
        world.propose(i % 2, create_class(&format!("C{i}")));
        world.run_ms(60);
    }
    world.run_ms(2_000);
    let (cut_at, _) = world.servers[0].plane.as_ref().unwrap().raft.store().snapshot_state();
    assert!(cut_at > 1, "the log was cut");
    world.start(2);
    world.run_ms(3_000);
    assert_eq!(world.classes(2).len(), 2 + ENTRIES_FEW);
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
    for i in 0..2 * ENTRIES_FEW {
        world.propose(leader, create_class(&format!("C{i}")));
        world.run_ms(60);
    }
    world.start(behind);
    world.loses_snapshots = true;
    world.run_ms(500);
    assert!(world.classes(behind).len() < ENTRIES_FEW);
    world.loses_snapshots = false;
    world.run_ms(3_000);
    assert_eq!(world.leader(), Some(leader), "nobody else could have sent it");
    assert_eq!(world.classes(behind).len(), 2 + 2 * ENTRIES_FEW);
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
            4 if round % 2 == 0 => {
                let other = world.rng.next_u32() as usize % count;
                let up = world.chance(500);
                world.step(index, Event::Peer { node: node(other), up });
            }
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
    let (node, boot) = (node(0), Boot(1));
    let config = PlaneConfig { node, boot, seed: 1, entries_max: ENTRIES_FEW };
    let mut world = World::new(2, 1);
    world.run_ms(100);
    world.propose(0, create_database());
    world.run_ms(100);
    let good = &world.servers[0].disk.synced;
    let refused = |log: &RecoveredLog| {
        let error = Plane::<Agreement>::new(config, log, &[], &mut vec![]).unwrap_err();
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

pub(super) fn enlist(index: usize) -> Command {
    let (name, address) = (format!("n{index}"), format!("127.0.0.1:{index}"));
    Command::Enlist { name, node: node(index), address }
}

/// Whether a server has everything that the leader has agreed on.
pub(super) fn is_level(world: &World, index: usize) -> bool {
    let leader = world.leader().unwrap();
    let state = |index: usize| world.servers[index].plane.as_ref().map(Plane::state);
    state(index) == state(leader)
}

/// FEATURES: L9
#[test]
fn a_server_joins_without_a_vote_and_gets_everything_whatever_is_lost() {
    for seed in 0..20 {
        let mut world = World::new(seed, 3);
        world.run_ms(2_000);
        world.propose(0, create_database());
        for i in 0..20 {
            world.propose(i % 3, create_class(&format!("C{i}")));
        }
        world.run_ms(3_000);
        let joins = world.add();
        world.start(joins);
        world.run_ms(500);
        assert_eq!(world.cfg(joins), 0, "nobody has told it anything");
        world.loss = 200;
        let asked = world.propose(1, enlist(joins));
        world.meet(joins);
        for round in 0..4 {
            world.run_ms(700);
            world.crash(joins);
            let leader = world.leader().filter(|_| round == 1);
            leader.iter().for_each(|leader| world.crash(*leader));
            world.run_ms(100);
            world.start(joins);
            leader.iter().for_each(|leader| world.start(*leader));
        }
        world.loss = 0;
        world.run_ms(5_000);
        assert_eq!(world.answers.get(&asked), Some(&Answer::Applied(Ok(()))), "seed {seed}");
        assert!(is_level(&world, joins), "seed {seed}");
        let leader = world.leader().unwrap();
        let plane = world.servers[leader].plane.as_ref().unwrap();
        assert_eq!(voters(plane), [0, 1, 2].map(node), "it has no vote");
        // It proposes like any other, and its end keeps nobody from anything.
        let made = world.propose(joins, create_class("FromJoined"));
        world.run_ms(1_000);
        assert_eq!(world.answers[&made], Answer::Applied(Ok(())));
        world.crash(joins);
        let made = world.propose(leader, create_class("WithoutIt"));
        world.run_ms(1_000);
        assert_eq!(world.answers[&made], Answer::Applied(Ok(())));
    }
}

/// Whoever was let go ends; the others are asked for nothing but time.
fn run_and_end_who_is_gone(world: &mut World, ms: u64) {
    for _ in 0..ms {
        world.run_ms(1);
        let planes = world.servers.iter().filter_map(|server| server.plane.as_ref());
        let gone: BTreeSet<NodeId> =
            planes.flat_map(|plane| plane.schema().gone.clone()).map(|gone| gone.node).collect();
        for index in (0..world.servers.len()).filter(|index| gone.contains(&node(*index))) {
            world.crash(index);
        }
    }
}

fn remove(index: usize) -> Command {
    Command::RemoveServer { server: format!("n{index}"), force: false }
}

/// This one is left, agrees with itself, and knows who went.
fn is_alone(world: &mut World, left: usize) {
    run_and_end_who_is_gone(world, 5_000);
    let schema = world.servers[left].plane.as_ref().unwrap().schema();
    assert_eq!(schema.gone.len(), world.servers.len() - 1, "let go, and not for ever leaving");
    assert_eq!(voters(world.servers[left].plane.as_ref().unwrap()), [node(left)]);
    let made = world.propose(left, create_database());
    world.run_ms(1_000);
    assert_eq!(world.answers.get(&made), Some(&Answer::Applied(Ok(()))));
}

/// FEATURES: L7
#[test]
fn a_server_is_there_until_the_list_does_not_need_its_vote() {
    for seed in 0..20 {
        let mut world = World::new(seed, 2);
        world.run_ms(2_000);
        let goes = usize::try_from(seed % 2).unwrap();
        world.propose(1 - goes, remove(goes));
        is_alone(&mut world, 1 - goes);
    }
}

/// FEATURES: L7
#[test]
fn the_only_voter_goes_when_another_one_has_its_vote() {
    for seed in 0..20 {
        let mut world = World::new(seed, 1);
        world.run_ms(500);
        let joins = world.add();
        world.start(joins);
        world.propose(0, enlist(joins));
        world.meet(joins);
        world.propose(0, Command::SetRole { server: format!("n{joins}"), role: Role::Master });
        world.propose(0, remove(0));
        is_alone(&mut world, joins);
    }
}

/// The one that would be asked first ends, with as much of the log as the others.
#[test]
fn a_leader_that_goes_does_not_ask_the_same_one_for_ever() {
    for seed in 0..20 {
        let mut world = World::new(seed, 4);
        world.run_ms(2_000);
        let leader = world.leader().unwrap();
        let dead = (0..4).rfind(|other| *other != leader).unwrap();
        world.propose(leader, remove(leader));
        let has_all = |world: &World| {
            let raft = &world.servers[leader].plane.as_ref().unwrap().raft.raft;
            let matched = |id: usize| raft.prs().get(node(id).0).unwrap().matched;
            (0..4).all(|id| matched(id) == raft.raft_log.last_index())
        };
        while !has_all(&world) {
            world.run_ms(1);
        }
        world.crash(dead);
        run_and_end_who_is_gone(&mut world, 6_000);
        let led = world.leader();
        assert!(led.is_some_and(|now| now != leader && now != dead), "seed {seed}");
        let schema = world.servers[led.unwrap()].plane.as_ref().unwrap().schema();
        assert_eq!(schema.gone.len(), 1, "seed {seed}");
    }
}
