//! Servers that follow the log without a part in it: what they get, what they cost, and what
//! becomes of them when they get one.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;

use prost::Message as _;

use super::testing::{ENTRIES_FEW, World, create_class, create_database, node, voters};
use super::tests::{enlist, is_level};
use super::*;
use crate::command::Command;
use crate::servers::Role;

/// Three that vote, and so many that follow.
fn with_observers(seed: u64, observers: usize) -> World {
    let mut world = World::new(seed, 3);
    world.run_ms(2_000);
    for _ in 0..observers {
        let joins = world.add();
        world.start(joins);
        world.propose(joins % 3, enlist(joins));
        world.meet(joins);
    }
    world.run_ms(3_000);
    assert!((0..world.servers.len()).all(|index| is_level(&world, index)), "seed {seed}");
    world
}

fn plane(world: &World, index: usize) -> &Plane {
    world.servers[index].plane.as_ref().unwrap()
}

fn role(index: usize, role: Role) -> Command {
    Command::SetRole { server: format!("n{index}"), role }
}

/// FEATURES: A3
#[test]
fn a_leader_has_to_do_with_voters_alone() {
    let mut world = with_observers(1, 16);
    world.propose(0, create_database());
    world.run_ms(500);
    let leader = world.leader().unwrap();
    let list: BTreeSet<u64> = plane(&world, leader).raft.raft.prs().iter().map(|p| *p.0).collect();
    assert_eq!(list, [0, 1, 2].map(|index| node(index).0).into());
    // Of 16 below three MASTERs with four children each, four are on the second level.
    let fed = |index: usize| plane(&world, index).fed_by().unwrap();
    let sources: BTreeSet<NodeId> = (3..19).map(fed).collect();
    assert!((3..7).any(|index| sources.contains(&node(index))), "{sources:?}");
    let made = world.propose(18, create_class("FromBelow"));
    world.run_ms(500);
    assert_eq!(world.answers[&made], Answer::Applied(Ok(())));
    assert!((0..19).all(|index| world.classes(index).contains("FromBelow")));
    for index in [3, 18] {
        let made = world.propose(0, create_class(&format!("C{index}")));
        while !world.answers.contains_key(&made) {
            world.run_ms(1);
        }
        let request = 1_000 + index as u64;
        world.step(index, Event::CatchUp { request });
        world.run_ms(500);
        assert_eq!(world.answers[&request], Answer::CaughtUp);
        assert!(world.classes(index).contains(&format!("C{index}")));
    }
}

#[test]
fn who_was_away_for_long_gets_a_snapshot_from_its_relay() {
    let mut world = with_observers(2, 16);
    world.propose(0, create_database());
    world.run_ms(500);
    world.crash(18);
    for i in 0..3 * ENTRIES_FEW {
        world.propose(i % 3, create_class(&format!("C{i}")));
        world.run_ms(60);
    }
    world.start(18);
    world.run_ms(1_000);
    assert!(is_level(&world, 18));
    // And from its own disk once more.
    let cfg = world.cfg(18);
    world.crash(18);
    world.start(18);
    assert_eq!(world.cfg(18), cfg);
    assert!(is_level(&world, 18));
}

/// The minority's MASTER still feeds; it has no leader, and the observer finds one that has.
#[test]
fn who_is_fed_by_somebody_without_a_leader_looks_elsewhere() {
    let mut world = with_observers(3, 2);
    world.propose(0, create_database());
    world.run_ms(500);
    let source = plane(&world, 3).fed_by().unwrap();
    let cut = usize::try_from(source.0 - 10).unwrap();
    for other in (0..3).filter(|other| *other != cut) {
        world.cut.extend([(cut, other), (other, cut)]);
    }
    let there = (cut + 1) % 3;
    world.run_ms(4_000);
    world.propose(there, create_class("Majority"));
    world.run_ms(4_000);
    assert!(world.classes(3).contains("Majority"));
    assert_ne!(plane(&world, 3).fed_by(), Some(source));
    world.cut.clear();
    world.run_ms(12_000);
    assert_eq!(plane(&world, 3).fed_by(), Some(source), "it is the best one again");
}

/// A voter has acknowledged entries and never heard that they are committed. Then it follows, and
/// its source has cut its log in the midst of them.
#[test]
fn a_snapshot_leaves_a_voter_what_it_has_acknowledged_behind_it() {
    let mut world = World::new(4, 3);
    world.run_ms(2_000);
    let leader = world.leader().unwrap();
    let (voter, away) = ((leader + 1) % 3, (leader + 2) % 3);
    world.crash(away);
    world.cut.insert((voter, leader));
    let last = |world: &World| plane(world, voter).raft.raft.raft_log.last_index();
    let before = last(&world);
    for _ in 0..3 {
        let raft = &mut world.servers[leader].plane.as_mut().unwrap().raft;
        raft.propose(Vec::new(), Vec::new()).unwrap();
        world.run_ms(100);
    }
    assert_eq!((last(&world), plane(&world, voter).applied()), (before + 3, before));
    world.crash(leader);
    world.run_ms(u64::from(observer::LOST) * TICK / 1_000 + 200);
    assert!(plane(&world, voter).follows());
    let source = plane(&world, voter);
    let metadata = eraftpb::SnapshotMetadata {
        conf_state: Some(source.raft.raft.prs().conf().to_conf_state()),
        index: before + 1,
        term: source.raft.raft.raft_log.term(before + 1).unwrap(),
    };
    let data = source.state().encode().unwrap();
    let snapshot = eraftpb::Snapshot { data, metadata: Some(metadata) };
    let news = wire::News::Snapshot(snapshot.encode_to_vec());
    let fed = Wire::Fed { led: (None, 0), age: 0, news };
    let bytes = postcard::to_allocvec(&fed).unwrap();
    world.step(voter, Event::Message { from: node(away), bytes });
    world.run_ms(100);
    assert_eq!((last(&world), plane(&world, voter).applied()), (before + 3, before + 1));
    // On its disk too: it leads with them, and they are committed.
    world.crash(voter);
    world.cut.clear();
    world.start(away);
    world.start(voter);
    assert_eq!(last(&world), before + 3);
    world.run_ms(5_000);
    assert!(plane(&world, away).applied() > before + 3);
    assert!(is_level(&world, away) && is_level(&world, voter));
}

/// What a server tells the one that follows it.
fn tell(world: &mut World, index: usize, news: wire::News) {
    let from = plane(world, index).fed_by().unwrap_or(node(0));
    let bytes = postcard::to_allocvec(&Wire::Fed { led: (None, 0), age: 0, news }).unwrap();
    world.step(index, Event::Message { from, bytes });
}

#[test]
fn what_is_no_log_is_not_taken_whoever_tells_it() {
    let mut world = with_observers(6, 1);
    world.propose(0, create_database());
    world.run_ms(1_000);
    world.cut.extend((0..3).flat_map(|other| [(3, other), (other, 3)]));
    let (at, term) = (plane(&world, 3).applied(), plane(&world, 3).applied_term());
    assert!(term > 1);
    let entry = |(index, term)| eraftpb::Entry { index, term, ..eraftpb::Entry::default() };
    let entries = |places: &[(u64, u64)]| {
        wire::News::Entries(places.iter().map(|place| entry(*place).encode_to_vec()).collect())
    };
    let gap = [(at + 1, term), (at + 3, term)];
    let falling = [(at + 1, term + 1), (at + 2, term)];
    for places in [&gap[..], &falling[..], &[(at + 1, term - 1)][..]] {
        tell(&mut world, 3, entries(places));
        world.run_ms(100);
        assert_eq!(plane(&world, 3).raft.raft.raft_log.last_index(), at, "{places:?}");
    }
    let metadata = eraftpb::SnapshotMetadata {
        conf_state: Some(plane(&world, 3).raft.raft.prs().conf().to_conf_state()),
        index: at + 9,
        term: term - 1,
    };
    let data = plane(&world, 3).state().encode().unwrap();
    let older = eraftpb::Snapshot { data, metadata: Some(metadata) };
    tell(&mut world, 3, wire::News::Snapshot(older.encode_to_vec()));
    world.run_ms(100);
    assert_eq!(plane(&world, 3).applied(), at);
    tell(&mut world, 3, entries(&[(at, term), (at + 1, term), (at + 2, term + 1)]));
    world.run_ms(100);
    assert_eq!(plane(&world, 3).applied(), at + 2);
    world.crash(3);
    world.start(3);
}

/// It may take longer to arrive than whoever waits for it takes to ask again.
#[test]
fn a_snapshot_that_is_on_its_way_is_not_sent_again_at_each_word() {
    let mut world = World::new(7, 1);
    world.run_ms(200);
    let follower = NodeId(99);
    let bytes = postcard::to_allocvec(&Wire::Follow { applied: 0 }).unwrap();
    let mut sent = Vec::new();
    for tick in 0..2 * SNAPSHOT {
        let plane = world.servers[0].plane.as_mut().unwrap();
        let mut out = Vec::new();
        if tick.is_multiple_of(5) {
            plane.step(Event::Message { from: follower, bytes: bytes.clone() }, &mut out).unwrap();
        }
        let is_snapshot = |effect: &Effect| {
            matches!(effect, Effect::Send { to, bytes, .. }
                if *to == follower && testing::is_snapshot(bytes))
        };
        sent.extend(out.iter().filter(|effect| is_snapshot(effect)).map(|_| tick));
        plane.step(Event::Tick, &mut out).unwrap();
    }
    assert_eq!(sent, [0, SNAPSHOT]);
}

/// Whom a server follows is gone, as is everybody else that it may follow.
fn lose_feeders(world: &mut World, index: usize) -> Vec<NodeId> {
    let feeders = plane(world, index).state().agreement.schema.feeders(node(index));
    for other in 0..world.servers.len() {
        world.step(index, Event::Peer { node: node(other), up: false });
        world.cut.extend([(index, other), (other, index)]);
    }
    feeders
}

/// What it knows may be so old that none of them will ever come back.
#[test]
fn who_can_reach_nobody_that_it_may_follow_follows_anybody() {
    let mut world = with_observers(8, 16);
    let feeders = lose_feeders(&mut world, 18);
    let other = (3..18).find(|other| !feeders.contains(&node(*other))).unwrap();
    world.propose(0, create_database());
    world.run_ms(3_100);
    world.cut.clear();
    world.step(18, Event::Peer { node: node(other), up: true });
    world.run_ms(500);
    assert!(!is_level(&world, 18), "they may come back soon");
    world.run_ms(u64::from(observer::STALE) * TICK / 1_000 - 3_000);
    assert_eq!(plane(&world, 18).fed_by(), Some(node(other)));
    assert!(is_level(&world, 18));
    world.step(18, Event::Peer { node: feeders[2], up: true });
    world.run_ms(100);
    assert_eq!(plane(&world, 18).fed_by(), Some(feeders[2]), "it is one of its own");
}

/// Links are there only where they are asked for.
#[test]
fn who_is_told_nothing_fresh_asks_for_links_with_those_who_vote_one_by_one() {
    let mut world = with_observers(9, 16);
    let fed = |index: &usize| plane(&world, *index).fed_by().unwrap();
    let below = (3..19).find(|index| fed(index) > node(2)).unwrap();
    let best = fed(&below);
    assert_eq!(plane(&world, below).needs(), [best].into());
    assert_eq!(plane(&world, 0).needs(), BTreeSet::new(), "it gets the log from its leader");
    lose_feeders(&mut world, below);
    let mut asked = Vec::new();
    for _ in 0..4 * observer::STALE {
        world.step(below, Event::Tick);
        let mut needs = plane(&world, below).needs();
        assert!(needs.remove(&best));
        assert_eq!(needs.len(), 1);
        asked.extend(needs);
    }
    asked.dedup();
    asked.truncate(3);
    asked.sort_unstable();
    assert_eq!(asked, [0, 1, 2].map(node));
}

/// Questions of servers without a part in the log that are on their way.
fn questions(world: &World) -> Vec<u64> {
    let asked = |message: &Vec<u8>| {
        let Wire::Ask { question, .. } = postcard::from_bytes(message).unwrap() else {
            return None;
        };
        Some(question)
    };
    world.network.values().filter_map(|(.., message)| asked(message)).collect()
}

/// The index would be one from before what the second life asks for was agreed on.
#[test]
fn what_a_server_asked_before_it_crashed_answers_nothing_that_it_asks_now() {
    let mut world = with_observers(5, 1);
    let source = plane(&world, 3).fed_by().unwrap();
    world.step(3, Event::CatchUp { request: 1_001 });
    let [before] = questions(&world)[..] else { panic!("one question") };
    world.crash(3);
    world.network.clear();
    world.start(3);
    world.run_ms(500);
    world.cut.extend((0..3).flat_map(|other| [(3, other), (other, 3)]));
    world.step(3, Event::CatchUp { request: 1_002 });
    let bytes = postcard::to_allocvec(&Wire::Answered { question: before, index: 1 }).unwrap();
    world.step(3, Event::Message { from: source, bytes });
    assert_eq!(world.answers.get(&1_002), None);
    world.cut.clear();
    world.run_ms(2_000);
    assert_eq!(world.answers.get(&1_002), Some(&Answer::CaughtUp));
}

/// FEATURES: L7
#[test]
fn an_observer_becomes_a_voter_and_a_voter_an_observer() {
    for seed in 0..20 {
        let mut world = with_observers(seed, 3);
        let (rises, falls) = (3 + seed as usize % 3, seed as usize % 3);
        // No database: it would have to be handed over, which takes machines.
        world.propose(0, role(rises, Role::Master));
        world.run_ms(2_000);
        world.crash(falls);
        world.propose((falls + 1) % 3, role(falls, Role::Replica));
        world.run_ms(3_000);
        world.start(falls);
        world.run_ms(4_000);
        let leader = world.leader().unwrap();
        let now: Vec<NodeId> = voters(plane(&world, leader));
        let wanted: BTreeSet<NodeId> =
            (0..3).filter(|index| *index != falls).chain([rises]).map(node).collect();
        assert_eq!(now.into_iter().collect::<BTreeSet<_>>(), wanted, "seed {seed}");
        assert!(plane(&world, falls).is_observer() && !plane(&world, rises).is_observer());
        let made = world.propose(falls, create_database());
        world.run_ms(1_000);
        assert_eq!(world.answers.get(&made), Some(&Answer::Applied(Ok(()))), "seed {seed}");
        assert!((0..6).all(|index| is_level(&world, index)), "seed {seed}");
    }
}

/// Somebody votes from now on, or does not any more; of the first five, so that both happens.
fn change_role(world: &mut World, asked: usize) {
    let index = world.rng.next_u32() as usize % 5;
    let role_now = if world.chance(500) { Role::Master } else { Role::Replica };
    world.propose(asked, role(index, role_now));
}

/// One thing happens to somebody; the class that was asked for, under its request.
fn round(world: &mut World, round: usize) -> Option<(u64, String)> {
    let count = world.servers.len();
    let index = world.rng.next_u32() as usize % count;
    let other = world.rng.next_u32() as usize % count;
    match world.rng.next_u32() % 9 {
        0 => world.crash(index),
        1 | 2 if world.servers[index].plane.is_none() => world.start(index),
        3 => drop(world.cut.insert((index, other))),
        4 if round.is_multiple_of(3) => world.cut.clear(),
        5 => {
            world.step(index, Event::Peer { node: node(other), up: false });
            world.step(index, Event::Peer { node: node(other), up: true });
        }
        6 => {
            let voter = world.rng.next_u32() as usize % 5;
            if world.servers[voter].plane.is_some() {
                world.crash(voter)
            } else {
                world.start(voter)
            }
        }
        7 => change_role(world, index),
        _ if world.servers[index].plane.is_some() => {
            let name = format!("C{round}");
            return Some((world.propose(index, create_class(&name)), name));
        }
        _ => {}
    }
    None
}

/// Loss, cuts, crashes that lose what was not synced, changing roles; then a heal.
#[test]
fn storms_among_observers_lose_nothing_and_do_nothing_twice() {
    let (mut applied, mut changed) = (0, 0);
    for seed in 0..8 {
        let mut world = with_observers(seed, 14);
        world.has_machines = true;
        world.propose(0, create_database());
        world.run_ms(500);
        (world.loss, world.slow) = (30, 950);
        let mut asked = BTreeMap::new();
        for number in 0..120 {
            asked.extend(round(&mut world, number));
            let pause = 1 + u64::from(world.rng.next_u32() % 120);
            world.run_ms(pause);
        }
        (world.loss, world.slow) = (0, 300);
        world.cut.clear();
        for index in 0..world.servers.len() {
            if world.servers[index].plane.is_none() {
                world.start(index);
            }
        }
        world.run_ms(8_000);
        let states = world.states();
        assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: not equal");
        let there = world.classes(0);
        for (request, name) in asked {
            let Some(answer) = world.answers.get(&request) else { continue };
            assert_eq!(*answer, Answer::Applied(Ok(())), "seed {seed}");
            assert!(there.contains(&name), "seed {seed}: {name} was acknowledged");
            applied += 1;
        }
        let leader = world.leader().unwrap();
        changed += usize::from(voters(plane(&world, leader)) != [0, 1, 2].map(node));
    }
    assert!(applied > 8 * 8, "only {applied} commands came through");
    assert!(changed > 2, "voters changed in {changed} storms");
}

/// It has just read that it votes no more, and then the leader that it knows is gone. The others
/// would vote for it.
#[test]
fn who_has_lost_its_vote_does_not_stand_when_the_leader_is_lost() {
    for seed in 0..20 {
        let mut world = with_observers(seed, 3);
        world.propose(0, role(3, Role::Master));
        world.run_ms(2_000);
        let leader = world.leader().unwrap();
        let falls = (0..3).find(|index| *index != leader).unwrap();
        world.propose(leader, role(falls, Role::Replica));
        let is_listed = |world: &World| {
            let raft = &plane(world, falls).raft.raft;
            raft.prs().get(node(falls).0).is_some()
        };
        while is_listed(&world) {
            world.run_ms(1);
        }
        world.crash(leader);
        for index in (0..world.servers.len()).filter(|index| *index != leader) {
            world.step(index, Event::Peer { node: node(leader), up: false });
        }
        world.run_ms(4_000);
        let next = world.leader().unwrap();
        assert!(voters(plane(&world, next)).contains(&node(next)), "seed {seed}");
    }
}
