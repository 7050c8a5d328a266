//! What an alignment costs and what it refuses, with real machines on the simulator's disks and a
//! network without faults: messages, bytes and items grow with the difference, not with the data.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]
#![allow(clippy::print_stdout, reason = "the figures are what the test is for")]

#[expect(dead_code, unreachable_pub, reason = "the simulator's disk, as it is; no crate edge")]
#[path = "../../sim/src/disk.rs"]
mod disk;
#[path = "alignment/world.rs"]
mod world;

use quorate_api::{Boot, ClusterKey, Committed, Image, ItemId, ItemKey, NodeId, Stamp, TxId};
use quorate_protocol::copying::{CHUNK_BYTES, Chunk};
use quorate_protocol::io::{AlignConfig, Event, Write};
use quorate_protocol::message::Decided;
use world::{BEHIND, CLUSTER, NODES, World, item};

/// FEATURES: A12
#[test]
fn ten_of_a_hundred_thousand_cost_little() {
    let full: Vec<Write> = (0..100_000).map(|p| item(p, 2, p)).collect();
    let mut behind = full.clone();
    for n in 0..10 {
        behind[usize::try_from(n).unwrap() * 9_973] = item(n * 9_973, 1, n + 7);
    }
    let mut world = World::new([full.clone(), full, behind], &AlignConfig::new());
    world.run();
    world.assert_equal();
    println!("{} messages, {} bytes, {:?}", world.messages, world.bytes, world.work);
    assert_eq!(world.work.fetched, 10);
    // 100,000 records of 200 bytes are 20 MB.
    assert!(world.bytes < 60_000, "{} bytes", world.bytes);
    // Most of them say that nothing happened meanwhile, and that the tree is not finished.
    assert!(world.messages < 400, "{} messages", world.messages);
    assert!(world.corruptions.is_empty());
}

/// FEATURES: A12
#[test]
fn equal_copies_cost_nearly_nothing() {
    let full: Vec<Write> = (0..20_000).map(|p| item(p, 2, p)).collect();
    let mut world = World::new([full.clone(), full.clone(), full], &AlignConfig::new());
    world.run();
    assert_eq!((world.work.fetched, world.work.ranges), (0, 0));
    assert!(world.bytes < 3_000, "{} bytes", world.bytes);
}

/// FEATURES: A12
#[test]
fn with_nothing_everything_is_copied_and_then_compared() {
    let full: Vec<Write> = (0..3_000).map(|p| item(p, 2, p)).collect();
    let mut world = World::new([full.clone(), full, Vec::new()], &AlignConfig::new());
    world.run();
    world.assert_equal();
    assert_eq!((world.copied, world.work.fetched), (3_000, 0));
    assert_eq!(world.work.ranges, 0);
    assert!(world.work.compared >= 3_000, "compared after the copy");
}

/// Three thousand items of 2 kB: six chunks.
fn six_chunks() -> World {
    let heavy = |position: u64| {
        let Write::Item(id, committed) = item(position, 2, position) else { unreachable!() };
        let image = Some(Image::from(vec![u8::try_from(position % 251).unwrap(); 2_000]));
        Write::Item(id, Committed { image, ..committed })
    };
    let full: Vec<Write> = (0..3_000).map(heavy).collect();
    World::new([full.clone(), full, Vec::new()], &AlignConfig::new())
}

/// What is copied is taken once, whatever becomes of the chunks.
///
/// FEATURES: S10, L9
#[test]
fn chunks_may_be_lost_come_twice_or_be_damaged() {
    let fates: [fn(u64, Chunk) -> Vec<Chunk>; 3] = [
        |n, chunk| if n % 2 == 1 { Vec::new() } else { vec![chunk] },
        |_, chunk| vec![chunk.clone(), chunk],
        |n, mut chunk| {
            if n == 3 {
                chunk.items[5].1.image = Some(Image::from(vec![1]));
            }
            vec![chunk]
        },
    ];
    for fate in fates {
        let mut world = six_chunks();
        world.fate = fate;
        world.run();
        world.assert_equal();
        assert_eq!((world.copied, world.work.fetched, world.work.ranges), (3_000, 0, 0));
        let damaged = world.corruptions.iter().all(|what| *what == "a damaged chunk");
        assert!(damaged && world.corruptions.len() <= 1, "{:?}", world.corruptions);
    }
}

/// FEATURES: S10, L9
#[test]
fn a_chunk_that_comes_late_is_left_out() {
    let mut world = six_chunks();
    world.run_until(|world| world.chunks.len() == 2);
    let late = world.letters.clone();
    world.run_until(|world| world.chunks.len() == 5);
    world.letters.extend(late);
    world.run();
    world.assert_equal();
    assert_eq!((world.copied, world.chunks.len(), world.work.fetched), (3_000, 6, 0));
}

/// FEATURES: S10, L9
#[test]
fn a_copy_goes_on_where_it_was_when_the_server_was_killed() {
    let mut world = six_chunks();
    for killed in 1..=6 {
        world.run_until(|world| world.copied >= 524 * killed || world.back);
        world.restart();
    }
    world.run();
    world.assert_equal();
    assert_eq!((world.copied, world.work.fetched), (3_000, 0), "each item once");
    assert!(world.chunks.len() <= 12, "one chunk a kill may have been under way");
}

/// FEATURES: S10, L9
#[test]
fn another_master_goes_on_when_the_source_is_gone_or_silent() {
    for says_so in [true, false] {
        let mut world = six_chunks();
        world.run_until(|world| world.chunks.len() == 2);
        if says_so {
            let gone = Event::Peer { node: NODES[0], boot: Boot(2), up: false };
            world.step(BEHIND, gone);
        }
        world.silent = Some(NODES[0]);
        world.run();
        world.assert_equal();
        assert_eq!((world.copied, world.work.fetched), (3_000, 0));
        let given = |node| world.chunks.iter().filter(|by| **by == node).count();
        assert!(given(NODES[0]) <= 2 && given(NODES[1]) >= 4, "{:?}", world.chunks);
    }
}

/// FEATURES: S10, L9
#[test]
fn who_aligns_gives_no_copy_and_nobody_waits_for_one() {
    let full: Vec<Write> = (0..3_000).map(|p| item(p, 2, p)).collect();
    let mut aligning = full.clone();
    aligning.push(Write::Aligning(true));
    let mut world = World::new([aligning, full, Vec::new()], &AlignConfig::new());
    world.run();
    world.assert_equal();
    assert!(world.chunks.iter().all(|by| *by == NODES[1]), "{:?}", world.chunks);
    assert_eq!((world.copied, world.work.fetched), (3_000, 0));
}

/// A class was made while it was away, and something written there, which its sources have applied:
/// nobody tells of it once more.
///
/// FEATURES: L9
#[test]
fn nobody_is_back_by_an_older_configuration_than_its_sources_have() {
    let made = ClusterKey { cluster: CLUSTER.cluster + 1, ..CLUSTER };
    let Write::Item(_, new) = item(2, 1, 2) else { unreachable!("an item") };
    let both = || vec![item(1, 1, 1), Write::Item(ItemId::record(made, 2), new.clone())];
    let mut world = World::new([both(), both(), vec![item(1, 1, 1)]], &AlignConfig::new());
    for node in &NODES[..2] {
        world.configure(*node, 2, &[CLUSTER, made]);
    }
    world.run_until(|world| world.back || world.now > 10_000_000);
    assert!(!world.back, "it does not know of the new cluster");
    world.configure(BEHIND, 2, &[CLUSTER, made]);
    world.run();
    world.assert_equal();
}

/// All of them are noted in the one step that comes back: looking through what the step has written
/// for each of them would take hours.
///
/// FEATURES: A12
#[test]
fn very_many_outcomes_are_noted_at_once() {
    const OUTCOMES: u64 = 50_000;
    let tx = |seq| TxId { node: NODES[1], boot: Boot(1), seq };
    let settled: Vec<Write> =
        (1..=OUTCOMES).map(|seq| Write::Outcome(tx(seq), Decided::Abort)).collect();
    let mut world = World::new([settled.clone(), settled, Vec::new()], &AlignConfig::new());
    world.run();
    let noted = &world.servers[&BEHIND].disk.visible().outcomes;
    assert_eq!(noted.len() as u64, OUTCOMES);
}

/// FEATURES: A12
#[test]
fn one_stamp_with_two_contents_is_reported_and_not_merged() {
    let full: Vec<Write> = (0..300).map(|p| item(p, 2, p)).collect();
    let mut behind = full.clone();
    behind[77] = item(77, 2, 78);
    let kept = behind.clone();
    let mut world = World::new([full.clone(), full, behind], &AlignConfig::new());
    world.run();
    assert_eq!(world.corruptions, ["one stamp with two contents"]);
    let (Write::Item(id, kept), disk) = (&kept[77], &world.servers[&BEHIND].disk) else { panic!() };
    assert_eq!(disk.visible().items.get(id), Some(kept));
}

/// FEATURES: A12
#[test]
fn the_pace_is_a_setting() {
    let full: Vec<Write> = (0..4_000).map(|p| item(p, 2, p)).collect();
    let old = |p| item(p, if p % 50 == 0 { 1 } else { 2 }, p);
    let behind: Vec<Write> = (0..4_000).map(old).collect();
    let took = |align: AlignConfig| {
        let mut world = World::new([full.clone(), full.clone(), behind.clone()], &align);
        world.run();
        world.now
    };
    let fast = took(AlignConfig { pause: 1_000, items: 1_000, ..AlignConfig::new() });
    let slow = took(AlignConfig { pause: 10_000, items: 100, ..AlignConfig::new() });
    assert!(slow > 8 * fast, "{slow} µs and {fast} µs");
}

/// The servers are in their second boot and close the first. Of unique keys the tombstones stay: a
/// server that kept one would take the next claim's version 1 for an old one.
///
/// FEATURES: A12
#[test]
fn tombstones_of_closed_boots_go_and_those_of_unique_keys_stay() {
    let retention = 5_000_000;
    let align = AlignConfig { retention, ..AlignConfig::new() };
    let record = ItemId::record(CLUSTER, 1);
    let key = ItemId { cluster: CLUSTER, key: ItemKey::Key(vec![1]) };
    // Who had closed boot 1 before the servers started (the one that aligns hears of it from the
    // others), the boot that deleted, what is left.
    let (nobody, others, all) = (&[][..], &NODES[..2], &NODES[..]);
    let cases = [(nobody, 1, false), (others, 1, false), (all, 1, false), (nobody, 2, true)];
    for (closed, boot, stays) in cases {
        let tx = TxId { node: NODES[0], boot: Boot(boot), seq: 5 };
        let gone = Committed {
            stamp: Stamp { version: 2, tx },
            live: false,
            image: None,
            elsewhere: None,
        };
        let contents = |node: NodeId| {
            let items = [&record, &key].into_iter();
            let mut writes: Vec<Write> =
                items.map(|item| Write::Item(item.clone(), gone.clone())).collect();
            let is_closed = closed.contains(&node);
            writes.extend(is_closed.then_some(Write::Low(NODES[0], Boot(1), u64::MAX)));
            writes
        };
        let mut world = World::new(NODES.map(contents), &align);
        world.run_until(|world| world.now > 6 * retention);
        for node in NODES {
            let items = &world.servers[&node].disk.visible().items;
            let there = [&record, &key].map(|item| items.contains_key(item));
            assert_eq!(there, [stays, true], "closed by {closed:?}, boot {boot}, {node}");
        }
    }
}

/// FEATURES: A12
#[test]
fn large_items_come_few_at_a_time() {
    let large = |position: u64| {
        let Write::Item(id, committed) = item(position, 2, position) else { unreachable!() };
        let image = Some(Image::from(vec![u8::try_from(position % 251).unwrap(); 100 << 10]));
        Write::Item(id, Committed { image, ..committed })
    };
    let full: Vec<Write> = (0..200).map(large).collect();
    for behind in [Vec::new(), full[..100].to_vec()] {
        let missing = 200 - u64::try_from(behind.len()).unwrap();
        let mut world = World::new([full.clone(), full.clone(), behind], &AlignConfig::new());
        world.run();
        world.assert_equal();
        assert_eq!(world.copied + world.work.fetched, missing);
        let most = if world.copied > 0 { CHUNK_BYTES as u64 + (300 << 10) } else { 400 << 10 };
        assert!(world.heaviest < most, "{} bytes in one message", world.heaviest);
    }
}
