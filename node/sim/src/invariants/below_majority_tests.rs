//! What the invariants of clusters with W below a majority catch, and what they let pass.

use quorate_api::{Boot, NodeId, Operation};
use quorate_protocol::message::TxRecord;

use super::*;
use crate::disk::Disk;

/// Of two updates in one line both were acknowledged; then their MASTER is given up. What is
/// left has less or more of it, and at the end there is something else.
#[test]
fn what_goes_with_a_master_is_what_the_others_had_no_trace_of() {
    let item = ItemId::record(ClusterKey { database: 1, cluster: 10 }, 0);
    let (node, boot) = (NodeId(1), Boot(1));
    let tx = |seq| TxId { node, boot, seq };
    let stamp = |seq| Stamp { version: seq, tx: tx(seq) };
    let content = |seq| Committed { stamp: stamp(seq), live: true, image: None, elsewhere: None };
    let left = |writes: Vec<Write>| {
        let mut disk: Disk = Disk::default();
        disk.write(1, writes);
        disk.visible().clone()
    };
    let applied = |seq| Write::Item(item.clone(), content(seq));
    let beside = |seq| {
        let (committed, ancestors) = (content(seq), Vec::new());
        let rivals = vec![Rival { committed, ancestors, fate: Fate::Lost }];
        Write::Rivals(item.clone(), rivals)
    };
    let outcome = |seq| Write::Outcome(tx(seq), Decided::Commit);
    for (has, gone) in [
        (vec![], None),
        (vec![applied(1)], None),
        (vec![outcome(3)], Some(3)),
        (vec![Write::Low(node, boot, 3)], Some(2)),
        (vec![Write::Low(node, boot, 2)], None),
        (vec![Write::Low(node, Boot(2), 9)], None),
        (vec![applied(2)], Some(2)),
        // Built on the first one, which is forgotten everywhere.
        (vec![applied(3)], Some(2)),
        (vec![applied(1), beside(3)], Some(2)),
    ] {
        let mut invariant = BelowMajority::default();
        for seq in [2, 3] {
            let (kind, base, image) = (OpKind::Update, stamp(seq - 1), None);
            let op = Operation { item: item.clone(), kind, base, image };
            invariant.note_operations(tx(seq), &[op]);
            invariant.acknowledged(tx(seq));
        }
        invariant.given_up(&[&left(vec![applied(1)]), &left(has.clone())]);
        let end = [(item.clone(), content(4))].into();
        let found = invariant.gone(&end, &[]);
        let expected =
            gone.map(|seq| format!("{item} at {:?} is gone without a trace", stamp(seq)));
        assert_eq!(found, expected, "{has:?}");
        // It is kept: nothing is wrong.
        assert_eq!(invariant.gone(&[(item.clone(), content(3))].into(), &[]), None);
    }
}

#[test]
fn what_nobody_committed_and_what_goes_back_is_caught() {
    let cluster = ClusterKey { database: 1, cluster: 10 };
    let item = ItemId::record(cluster, 0);
    let tx = |seq| TxId { node: NodeId(1), boot: Boot(1), seq };
    let committed = |version, seq| {
        let stamp = Stamp { version, tx: tx(seq) };
        Committed { stamp, live: true, image: None, elsewhere: None }
    };
    let mut invariant = BelowMajority::default();
    let mut holds = Contents::default();
    let bad = |found: Vec<(&'static str, Option<String>)>| {
        found.into_iter().filter(|(_, detail)| detail.is_some()).map(|(name, _)| name).collect()
    };
    let write = Write::Item(item.clone(), committed(2, 2));
    let found: Vec<&str> = bad(invariant.see(core::slice::from_ref(&write), &holds));
    assert_eq!(found, ["no-uncommitted-read"]);
    let batch = [write, Write::Outcome(tx(2), Decided::Commit)];
    assert!(bad(invariant.see(&batch, &holds)).is_empty());
    holds.items.insert(item.clone(), committed(2, 3));
    assert_eq!(bad(invariant.see(&batch, &holds)), ["versions-rise"]);
    invariant.wrote.insert(tx(2), vec![(item.clone(), committed(2, 2).stamp)]);
    invariant.acknowledged(tx(2));
    let end = [(item.clone(), committed(2, 2))].into();
    assert_eq!(bad(invariant.check(&end, &[])), [""; 0]);
    let end = [(item, committed(3, 3))].into();
    assert_eq!(bad(invariant.check(&end, &[])), ["acknowledged-or-listed"]);
    // Recovery may have aborted it; but not where the one Yes that is needed was at hand.
    let of = Participant { cluster, generation: 1 };
    let participants = vec![of];
    let voted = TxRecord { participants, vote: Some(Vote::Yes), ..TxRecord::default() };
    let abort = [Write::Outcome(tx(2), Decided::Abort)];
    for (quorum, vote, expected) in [
        (2, Some(Vote::Yes), &[][..]),
        (1, None, &[]),
        (1, Some(Vote::Yes), &["acknowledged-or-listed"]),
    ] {
        invariant.quorums.insert(of, (quorum, false));
        (invariant.aborted, invariant.unheard) = Default::default();
        holds.txs.insert(tx(2), TxRecord { vote, ..voted.clone() });
        invariant.see(&abort, &holds);
        // Who hears of it aborts it, too.
        invariant.see(&abort, &Contents::default());
        assert_eq!(bad(invariant.check(&end, &[])), expected, "{quorum}");
    }
}

/// Of what has lost a full list drops the oldest; whatever else leaves one is missed.
#[test]
fn what_leaves_a_list_that_is_not_full_is_caught() {
    let item = ItemId::record(ClusterKey { database: 1, cluster: 10 }, 0);
    let tx = |seq| TxId { node: NodeId(1), boot: Boot(1), seq };
    let rival = |seq| {
        let stamp = Stamp { version: seq, tx: tx(seq) };
        let committed = Committed { stamp, live: true, image: None, elsewhere: None };
        Rival { committed, ancestors: Vec::new(), fate: Fate::Lost }
    };
    let list = |from, count: usize| (from..).take(count).map(rival).collect::<Vec<_>>();
    for (after, is_caught) in [(RIVALS_MAX, false), (RIVALS_MAX - 1, true)] {
        let mut invariant = BelowMajority::default();
        let (kind, base) = (OpKind::Update, Stamp::ABSENT);
        let op = Operation { item: item.clone(), kind, base, image: None };
        invariant.note_operations(tx(1), &[op]);
        invariant.acknowledged(tx(1));
        let first = Write::Rivals(item.clone(), list(1, after));
        let second = Write::Rivals(item.clone(), list(2, after));
        invariant.see(&[first, second], &Contents::default());
        let end = [(item.clone(), rival(99).committed)].into();
        assert_eq!(invariant.gone(&end, &[]).is_some(), is_caught, "{after}");
    }
}

/// An item was updated twice, in one line; then somebody lists the first as lost.
#[test]
fn lag_that_has_lost_and_a_safe_transaction_that_was_aborted_are_caught() {
    let item = ItemId::record(ClusterKey { database: 1, cluster: 10 }, 0);
    let tx = |seq| TxId { node: NodeId(1), boot: Boot(1), seq };
    let stamp = |seq| Stamp { version: seq, tx: tx(seq) };
    let bad = |invariant: &BelowMajority, disks: &[&Contents]| {
        let found = invariant.check(&BTreeMap::new(), disks).into_iter();
        found.filter(|(_, detail)| detail.is_some()).map(|(name, _)| name).collect::<Vec<_>>()
    };
    let mut invariant = BelowMajority::default();
    let write = |invariant: &mut BelowMajority, seq, base| {
        let (kind, image) = (OpKind::Update, None);
        let op = Operation { item: item.clone(), kind, base, image };
        invariant.note_operations(tx(seq), &[op]);
        invariant.committed.insert(tx(seq));
    };
    write(&mut invariant, 2, stamp(1));
    write(&mut invariant, 3, stamp(2));
    let committed = Committed { stamp: stamp(2), live: true, image: None, elsewhere: None };
    let lost = Rival { committed, ancestors: Vec::new(), fate: Fate::Lost };
    let mut disk = Contents::default();
    disk.rivals.insert(item.clone(), vec![lost]);
    assert_eq!(bad(&invariant, &[&disk]), ["lag-never-loses"]);
    invariant.before.insert((item.clone(), stamp(3)), [stamp(1)].into());
    assert_eq!(bad(&invariant, &[&disk]), [""; 0]);
    invariant.aborted.insert(tx(2));
    assert_eq!(bad(&invariant, &[&disk]), [""; 0]);
    invariant.decided_safely.insert(tx(2));
    assert_eq!(bad(&invariant, &[&disk]), ["one-outcome"]);
}
