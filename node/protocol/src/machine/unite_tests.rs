//! What clients see of MASTERs that unite, and how a server goes through what it has.

use alloc::collections::BTreeSet;
use alloc::vec;

use quorate_api::{Boot, Committed, ErrorCode, NodeId, OpKind};

use super::*;
use crate::io::{
    Base, Change, Config, Effect, Event, Failure, Proposal, ReadQuorum, ReadRequest, Recovered,
    Reply, SessionToken, Store, Submit,
};
use crate::machine::testing::{CLUSTER, Disk, NOTHING, placement, sent};
use crate::message::Message;

/// A disk with so many records.
fn records(records: u64) -> Disk {
    Disk { records, ..Disk::default() }
}

fn config() -> Config {
    Config::new(NodeId(1), Boot(1), 0)
}

/// Three MASTERs, which unite, at this stage.
fn uniting(stage: Stage) -> Placement {
    let masters: Vec<NodeId> = (1..=3).map(NodeId).collect();
    let mut placement = placement(masters.clone(), 1);
    placement.change = Some(Change { masters, unites: true, stage });
    placement.loose = vec![(1, 1)];
    placement
}

/// The first of them.
fn at_stage(stage: Stage, disk: &Disk) -> Machine {
    let placement = uniting(stage);
    let mut machine = Machine::new(config(), Recovered::default());
    let placements = [(CLUSTER, placement)].into();
    machine.step(0, Event::Configure { cfg: 1, placements }, disk, &mut Vec::new());
    for node in [NodeId(2), NodeId(3)] {
        let up = Event::Peer { node, boot: Boot(1), up: true };
        machine.step(0, up, disk, &mut Vec::new());
    }
    machine
}

/// Nothing but time passes, up to this tick.
fn pass(machine: &mut Machine, until: Tick, disk: &Disk) -> Vec<(Tick, Effect)> {
    let mut seen = Vec::new();
    while let Some(at) = machine.next_deadline().filter(|at| *at <= until) {
        let mut out = Vec::new();
        machine.step(at, Event::Tick, disk, &mut out);
        seen.extend(out.into_iter().map(|effect| (at, effect)));
    }
    seen
}

fn update(request: u64, now: Tick) -> Event {
    let item = ItemId::record(CLUSTER, 0);
    let ops = vec![Proposal { item, kind: OpKind::Check, base: Base::Current, image: None }];
    let deadline = now + 1_000_000_000;
    Event::Submit(Submit { request, ops, schema: 0, wall_us: 0, deadline })
}

fn read(request: u64, now: Tick) -> Event {
    let (items, quorum) = (vec![ItemId::record(CLUSTER, 0)], ReadQuorum::Majority);
    Event::Read(ReadRequest { request, items, quorum, deadline: now + 1_000_000_000 })
}

/// The request that was refused, and on what.
fn refusal(effect: &Effect) -> Option<(u64, ErrorCode, bool)> {
    let Effect::Reply { request, reply: Reply::Failed(failure), .. } = effect else { return None };
    let Failure { code, item, .. } = failure;
    Some((*request, *code, *item == Some(ItemId::record(CLUSTER, 0))))
}

fn told(effect: &Effect) -> Option<Report> {
    if let Effect::Report { report, .. } = effect { Some(report.clone()) } else { None }
}

/// Somebody else may need it before all have merged.
///
/// FEATURES: A13, L7
#[test]
fn the_turn_is_given_back_while_masters_merge() {
    let stage = || Stage::Merging { merged: BTreeSet::new(), quiet: false };
    let mut machine = at_stage(stage(), &NOTHING);
    let placement = Placement { turn: Some(NodeId(1)), ..uniting(stage()) };
    let (mut out, placements) = (Vec::new(), [(CLUSTER, placement)].into());
    machine.step(1, Event::Configure { cfg: 2, placements }, &NOTHING, &mut out);
    let reports: Vec<Report> = out.iter().filter_map(told).collect();
    assert_eq!(reports, [Report::Synced { cluster: CLUSTER, generation: 1 }]);
}

/// FEATURES: A13, L7
#[test]
fn a_comparison_needs_nobody_else_to_go_on() {
    let disk = records(20 * PAGE as u64 + 1);
    let (token, synced) = (SessionToken::new(), BTreeSet::new());
    let mut machine = at_stage(Stage::Transferring { token, synced }, &disk);
    let soon = config().housekeeping / 2;
    let seen = pass(&mut machine, soon, &disk);
    let whole = disk.items_after(CLUSTER, None, usize::MAX).into_iter();
    let digest = |(key, committed): (ItemKey, Committed)| Digest::of(&key, &committed);
    let sum = whole.map(digest).fold(Digest::default(), Digest::plus);
    let compared: Vec<Report> = seen.iter().filter_map(|(_, effect)| told(effect)).collect();
    let wanted = Report::Compared { cluster: CLUSTER, generation: 2, digest: sum, differs: false };
    assert_eq!(compared, [wanted]);
}

/// FEATURES: A13, L7
#[test]
fn clients_are_refused_when_a_master_does_not_come_to_what_is_sealed() {
    let mut machine = at_stage(Stage::Sealing { sealed: [NodeId(1)].into() }, &NOTHING);
    let mut out = Vec::new();
    machine.step(0, update(1, 0), &NOTHING, &mut out);
    assert!(!out.iter().any(|effect| refusal(effect).is_some()), "it may not last long");
    let patience = config().merge.patience;
    let seen = pass(&mut machine, 2 * patience, &NOTHING);
    let refused = seen.iter().find_map(|(at, effect)| Some((*at, refusal(effect)?))).unwrap();
    assert_eq!(refused.1, (1, ErrorCode::GenerationChanged, true));
    assert!((patience..=patience + config().resend).contains(&refused.0), "{}", refused.0);
    for event in [update(2, 2 * patience), read(2, 2 * patience)] {
        let mut out = Vec::new();
        machine.step(2 * patience, event, &NOTHING, &mut out);
        let refused: Vec<_> = out.iter().filter_map(refusal).collect();
        assert_eq!(refused, [(2, ErrorCode::GenerationChanged, true)]);
    }
}

/// Nothing is sealed while MASTERs merge what differed, and it may be people who have to come.
///
/// FEATURES: A13, L7
#[test]
fn clients_write_again_when_merging_without_them_does_not_end() {
    let stage = Stage::Merging { merged: BTreeSet::new(), quiet: true };
    let mut machine = at_stage(stage, &NOTHING);
    machine.step(0, update(1, 0), &NOTHING, &mut Vec::new());
    let patience = config().merge.patience;
    let seen = pass(&mut machine, 2 * patience, &NOTHING);
    let is_prepare = |effect: &Effect| {
        let sent = sent(vec![effect.clone()]);
        sent.iter().any(|(_, message)| matches!(message, Message::Prepare { .. }))
    };
    let begun = seen.iter().find(|(_, effect)| is_prepare(effect)).map(|(at, _)| *at).unwrap();
    assert!((patience..=patience + config().resend).contains(&begun), "{begun}");
    assert!(!seen.iter().any(|(_, effect)| refusal(effect).is_some()));
}

/// Nobody tells any more who has the tombstones of the one that is given up, or gone before.
///
/// FEATURES: A13, L7
#[test]
fn tombstones_of_who_is_gone_are_compared_and_not_to_be_lacked() {
    let mut placement = uniting(Stage::Merging { merged: BTreeSet::new(), quiet: false });
    placement.change.as_mut().unwrap().masters.truncate(2);
    let mut machine = Machine::new(config(), Recovered::default());
    let placements = [(CLUSTER, placement)].into();
    machine.step(0, Event::Configure { cfg: 1, placements }, &records(0), &mut Vec::new());
    let gone = |node, seq| {
        let stamp = Stamp { version: 2, tx: TxId { node: NodeId(node), boot: Boot(1), seq } };
        Committed { stamp, live: false, image: None, elsewhere: None }
    };
    for node in 1..=4 {
        machine.raise_everywhere(NodeId(node), Boot(1), 10);
    }
    let record = ItemId::record(CLUSTER, 7);
    let key = ItemId { cluster: CLUSTER, key: ItemKey::Key([7].into()) };
    for (item, node, seq, expected) in [
        (&record, 1, 9, (true, true)),
        (&record, 2, 9, (true, true)),
        (&record, 2, 10, (false, true)),
        (&record, 3, 9, (false, false)),
        (&record, 4, 9, (false, false)),
        (&key, 2, 9, (false, false)),
        (&key, 3, 9, (false, false)),
    ] {
        let tombstone = gone(node, seq);
        let goes = machine.goes_anywhere(CLUSTER, &item.key, &tombstone);
        let found = (goes, machine.may_lack(item, &tombstone));
        assert_eq!(found, expected, "{item} by {node}.{seq}");
        let live = Committed { live: true, ..tombstone };
        let goes = machine.goes_anywhere(CLUSTER, &item.key, &live);
        assert_eq!((goes, machine.may_lack(item, &live)), (false, false), "{item} live");
    }
}
