//! Changes of generations: what is refused, what reports bring about, whose turn it is.

use alloc::vec;

use quorate_api::Boot;

use super::*;
use crate::loose::Loose;

const C: ClusterKey = ClusterKey { database: 1, cluster: 10 };

fn nodes(numbers: &[u64]) -> Vec<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

fn keepers(masters: &[u64], replicas: &[u64], write_quorum: usize) -> Keepers {
    Keepers {
        masters: nodes(masters),
        replicas: nodes(replicas),
        write_quorum,
        local_quorums: vec![],
    }
}

/// MASTERs 1 to 3 and a REPLICA.
fn cluster() -> Generations {
    let mut all = Generations::default();
    all.insert(C, keepers(&[1, 2, 3], &[4], 2));
    all
}

fn token(entries: &[(u64, u64)]) -> SessionToken {
    entries.iter().map(|(node, index)| ((NodeId(*node), Boot(1)), *index)).collect()
}

fn sealed(generation: u32, entries: &[(u64, u64)]) -> Report {
    Report::Sealed { cluster: C, generation, token: token(entries) }
}

const fn synced(generation: u32) -> Report {
    Report::Synced { cluster: C, generation }
}

fn behind(generation: u32, instead_of: Option<u64>) -> Report {
    Report::Behind { cluster: C, generation, instead_of: instead_of.map(NodeId) }
}

fn placement(all: &Generations) -> Placement {
    let mut placement = Placement {
        generation: 0,
        masters: Vec::new(),
        replicas: Vec::new(),
        write_quorum: 0,
        local_quorums: Vec::new(),
        data_centers: alloc::collections::BTreeMap::new(),
        owner: Some(NodeId(9)),
        schema_min: 7,
        entry: SessionToken::new(),
        turn: None,
        witnesses: BTreeSet::new(),
        change: None,
        loose: Vec::new(),
    };
    all.place(C, &mut placement);
    assert_eq!((placement.owner, placement.schema_min), (Some(NodeId(9)), 7));
    placement
}

/// A change to these MASTERs that a majority has sealed for.
fn transferring(masters: &[u64]) -> Generations {
    let mut all = cluster();
    all.propose(C, keepers(masters, &[], masters.len() / 2 + 1)).unwrap();
    assert!(all.report(NodeId(1), &sealed(1, &[(1, 5), (2, 1)])));
    assert!(all.report(NodeId(3), &sealed(1, &[(1, 3), (2, 4), (3, 2)])));
    all
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let cases = [
        (keepers(&[], &[1], 1), ChangeError::NoMaster(C)),
        (keepers(&[1, 2, 1], &[], 2), ChangeError::Twice { cluster: C, node: NodeId(1) }),
        (keepers(&[1, 2], &[2], 2), ChangeError::Twice { cluster: C, node: NodeId(2) }),
        (keepers(&[1, 2, 5], &[], 2), ChangeError::Stranger { cluster: C, node: NodeId(5) }),
        (keepers(&[1], &[5], 1), ChangeError::Stranger { cluster: C, node: NodeId(5) }),
        (keepers(&[1, 2], &[], 3), ChangeError::Quorum { cluster: C, write_quorum: 3, masters: 2 }),
        (keepers(&[1, 2], &[], 0), ChangeError::Quorum { cluster: C, write_quorum: 0, masters: 2 }),
        // From or to W below a majority MASTERs stay.
        (
            keepers(&[1, 2, 3, 4], &[], 2),
            ChangeError::BelowMajority { cluster: C, write_quorum: 2, masters: 4 },
        ),
        (keepers(&[1, 2, 3], &[4], 2), ChangeError::Same(C)),
    ];
    for (next, error) in cases {
        let mut all = cluster();
        assert_eq!(all.propose(C, next), Err(error));
        assert_eq!(all, cluster());
    }
    let elsewhere = ClusterKey { database: 1, cluster: 11 };
    let mut all = cluster();
    let next = keepers(&[1], &[], 1);
    assert_eq!(all.propose(elsewhere, next.clone()), Err(ChangeError::Unknown(elsewhere)));
    assert_eq!(all.give_up(C), Err(ChangeError::NoChange(C)));
    all.propose(C, keepers(&[1, 2], &[], 2)).unwrap();
    assert_eq!(all.propose(C, next), Err(ChangeError::UnderWay(C)));
}

fn merged(generation: u32) -> Report {
    Report::Merged { cluster: C, generation }
}

const fn compared(generation: u32, digest: u128, differs: bool) -> Report {
    Report::Compared { cluster: C, generation, digest: Digest(digest), differs }
}

/// W is 1, and shall be 2; all MASTERs have merged and sealed.
fn comparing() -> Generations {
    let mut all = Generations::default();
    all.insert(C, keepers(&[1, 2, 3], &[], 1));
    all.propose(C, keepers(&[1, 2, 3], &[], 2)).unwrap();
    for node in 1..=3 {
        assert!(placement(&all).unites() && !placement(&all).is_ending());
        assert!(all.report(NodeId(node), &merged(1)));
    }
    for node in 1..=3 {
        assert!(!all.report(NodeId(node), &compared(2, 7, false)), "too early");
        assert!(all.report(NodeId(node), &sealed(1, &[(node, node)])));
    }
    let wanted = token(&[(1, 1), (2, 2), (3, 3)]);
    assert_eq!(placement(&all).to_enter(NodeId(3)), Some((2, &wanted)));
    all
}

/// FEATURES: A13, L7
#[test]
fn w_goes_below_a_majority_like_any_change_and_alone() {
    let mut all = cluster();
    all.propose(C, keepers(&[1, 2, 3], &[4], 1)).unwrap();
    assert!(!placement(&all).unites());
    for node in [1, 3] {
        assert!(all.report(NodeId(node), &sealed(1, &[])));
    }
    for node in [1, 3] {
        assert!(all.report(NodeId(node), &synced(2)));
    }
    let mut loose = Loose::default();
    loose.note(&all);
    let mut after = placement(&all);
    loose.place(C, &mut after);
    assert_eq!((after.generation, after.write_quorum, &after.loose[..]), (2, 1, &[(2, 2)][..]));
    assert!(after.was_safe(1) && !after.was_safe(2));
    // With W below a majority nothing but W changes, and to a majority alone.
    for (next, write_quorum, masters) in
        [(keepers(&[1, 2], &[3, 4], 2), 1, 3), (keepers(&[1, 2, 3], &[], 1), 1, 3)]
    {
        let before = all.clone();
        let found = all.propose(C, next.clone());
        if next.masters.len() == 3 {
            assert_eq!(found, Ok(()), "a REPLICA goes without a generation");
        } else {
            let error = ChangeError::BelowMajority { cluster: C, write_quorum, masters };
            assert_eq!((found, &all), (Err(error), &before));
        }
    }
}

/// FEATURES: A13, L7
#[test]
fn w_is_a_majority_again_when_all_masters_have_the_same() {
    let mut all = comparing();
    for node in 1..=3 {
        assert_eq!(placement(&all).generation, 1, "a majority is not enough");
        assert!(all.report(NodeId(node), &compared(2, 7, false)));
        assert!(!all.report(NodeId(node), &compared(2, 8, false)), "again");
    }
    let after = placement(&all);
    assert_eq!((after.generation, after.write_quorum, after.change), (2, 2, None));
}

/// FEATURES: A13, L7
#[test]
fn masters_that_differ_merge_again_without_clients() {
    for last in [compared(2, 8, false), compared(2, 7, true)] {
        let mut all = comparing();
        let mut loose = Loose::default();
        loose.note(&all);
        for node in 1..=2 {
            assert!(all.report(NodeId(node), &compared(2, 7, false)));
        }
        assert!(all.report(NodeId(3), &last));
        loose.note(&all);
        let mut after = placement(&all);
        loose.place(C, &mut after);
        assert_eq!((after.generation, after.write_quorum, &after.loose[..]), (2, 1, &[(1, 2)][..]));
        assert!(after.unites() && after.is_changing() && !after.is_ending());
        assert!(!all.report(NodeId(1), &merged(1)), "of the generation before");
        assert!(all.report(NodeId(1), &merged(2)));
    }
}

/// FEATURES: A13, L7
#[test]
fn a_change_to_a_majority_is_given_up_wherever_it_is() {
    let mut waiting = Generations::default();
    waiting.insert(C, keepers(&[1, 2, 3], &[], 1));
    waiting.propose(C, keepers(&[1, 2, 3], &[], 2)).unwrap();
    waiting.give_up(C).unwrap();
    assert_eq!((placement(&waiting).generation, placement(&waiting).change), (1, None));
    // What is sealed needs a generation of its own. Nobody is waited for that a majority does not
    // need.
    let mut all = comparing();
    assert!(all.report(NodeId(2), &compared(2, 7, false)));
    all.give_up(C).unwrap();
    assert!(!placement(&all).unites());
    assert!(all.report(NodeId(3), &synced(2)));
    let after = placement(&all);
    assert_eq!((after.generation, after.write_quorum, after.change), (2, 1, None));
}

#[test]
fn a_replica_goes_without_a_generation() {
    let mut all = cluster();
    all.propose(C, keepers(&[1, 2, 3], &[], 2)).unwrap();
    let placement = placement(&all);
    assert_eq!((placement.generation, placement.change), (1, None));
    assert!(placement.replicas.is_empty());
}

#[test]
fn majorities_of_both_sets_bring_the_next_generation() {
    let mut all = transferring(&[1, 2, 4]);
    let merged = token(&[(1, 5), (2, 4), (3, 2)]);
    let before = placement(&all);
    let stage = io::Stage::Transferring { token: merged.clone(), synced: BTreeSet::new() };
    let change = io::Change { masters: nodes(&[1, 2, 4]), unites: false, stage };
    assert_eq!((before.generation, before.change), (1, Some(change)));
    assert!(!all.report(NodeId(3), &synced(2)), "no MASTER of the next one");
    assert!(all.report(NodeId(4), &synced(2)));
    assert!(!all.report(NodeId(4), &synced(2)), "again");
    assert!(all.report(NodeId(1), &synced(2)));
    let after = placement(&all);
    assert_eq!((after.generation, after.write_quorum), (2, 2));
    assert_eq!((after.masters, after.replicas), (nodes(&[1, 2, 4]), vec![]));
    assert_eq!((after.entry, after.change), (merged, None));
}

/// Whatever was said of another generation, by somebody else, or before, changes nothing.
#[test]
fn reports_that_say_nothing_new_change_nothing() {
    let mut all = cluster();
    let ignores = |all: &mut Generations, from, report: &Report| {
        let before = all.clone();
        assert!(!all.report(NodeId(from), report), "{report:?}");
        assert_eq!(*all, before);
    };
    for report in [sealed(1, &[]), synced(1), synced(2)] {
        ignores(&mut all, 1, &report);
    }
    all.propose(C, keepers(&[1, 2, 3, 4], &[], 3)).unwrap();
    ignores(&mut all, 4, &sealed(1, &[(1, 1)]));
    ignores(&mut all, 1, &sealed(2, &[(1, 1)]));
    ignores(&mut all, 1, &synced(2));
    assert!(all.report(NodeId(1), &sealed(1, &[(1, 1)])));
    ignores(&mut all, 1, &sealed(1, &[(1, 2)]));
    let mut all = transferring(&[1, 2]);
    ignores(&mut all, 2, &sealed(1, &[(1, 9)]));
    ignores(&mut all, 1, &synced(1));
}

#[test]
fn one_server_at_a_time_has_the_turn() {
    let turn = |all: &Generations| placement(all).turn.map(|node| node.0);
    let mut all = transferring(&[1, 2, 4]);
    assert!(!all.report(NodeId(3), &behind(2, None)), "no MASTER of the next one");
    assert!(!all.report(NodeId(4), &behind(1, None)), "of a generation that is over");
    assert!(all.report(NodeId(4), &behind(2, None)));
    assert!(!all.report(NodeId(2), &behind(2, None)), "somebody has it");
    assert!(!all.report(NodeId(2), &behind(2, Some(1))), "somebody else has it");
    assert_eq!(turn(&all), Some(4));
    assert!(all.report(NodeId(2), &behind(2, Some(4))), "that one is gone");
    assert_eq!(turn(&all), Some(2));
    for node in [1, 4] {
        assert!(all.report(NodeId(node), &synced(2)));
    }
    assert_eq!((placement(&all).generation, turn(&all)), (2, Some(2)), "it is not done yet");
    assert!(all.report(NodeId(2), &synced(2)));
    assert_eq!(turn(&all), None);
    assert!(all.report(NodeId(1), &behind(2, None)), "late, in a generation that is active");
    assert_eq!(turn(&all), Some(1));
}

#[test]
fn a_change_that_is_given_up_ends_where_it_began() {
    let mut early = cluster();
    early.propose(C, keepers(&[1, 4], &[], 2)).unwrap();
    early.give_up(C).unwrap();
    for node in [1, 3] {
        early.report(NodeId(node), &sealed(1, &[(1, 5)]));
    }
    let mut late = transferring(&[1, 4]);
    assert!(late.report(NodeId(4), &synced(2)));
    assert!(late.report(NodeId(4), &behind(2, None)));
    late.give_up(C).unwrap();
    assert_eq!(placement(&late).turn, None, "it is no MASTER to be any more");
    for mut all in [early, late] {
        for node in [2, 3] {
            assert!(all.is_changing(C));
            assert!(all.report(NodeId(node), &synced(2)));
        }
        let after = placement(&all);
        assert_eq!((after.generation, after.change), (2, None));
        assert_eq!(all.keepers(C), cluster().keepers(C));
    }
}
