//! What roles and removals make of clusters, and what they are refused for.

use alloc::vec;
use alloc::vec::Vec;

use quorate_protocol::io::{Report, SessionToken};

use super::*;
use crate::command::Command;
use crate::data_centers::{DataCenter, DataCenters};
use crate::schema::DatabaseKind;
use crate::settings::NewDatabase;

/// Clusters that are on their way to another generation.
fn changing(agreement: &Agreement) -> usize {
    agreement.placements().values().filter(|placement| placement.change.is_some()).count()
}

/// Three MASTERs and a REPLICA.
fn agreement(write_quorum: WriteQuorum) -> Agreement {
    let founders: Vec<_> = (1..=3).map(|n| (alloc::format!("n{n}"), NodeId(n))).collect();
    let mut agreement = Agreement::founded_by(&founders);
    let new = NewDatabase::new("bench", DatabaseKind::Plocal, write_quorum);
    agreement.apply(&Command::CreateDatabase { new }).unwrap();
    let (name, address) = ("n4".into(), "d:1".into());
    agreement.apply(&Command::Enlist { name, node: NodeId(4), address }).unwrap();
    agreement
}

fn role(server: &str, role: Role) -> Command {
    Command::SetRole { server: server.into(), role }
}

fn remove(server: &str) -> Command {
    Command::RemoveServer { server: server.into(), force: false }
}

/// The servers among these report whatever the change on its way asks of them.
fn finish(agreement: &mut Agreement, from: &[u64]) {
    for (key, placement) in agreement.placements() {
        let (cluster, generation) = (key, placement.generation);
        for node in from.iter().map(|node| NodeId(*node)) {
            let token = SessionToken::new();
            let sealed = Report::Sealed { cluster, generation, token };
            agreement.apply(&Command::Reports { from: node, reports: vec![sealed] }).unwrap();
        }
        for node in from.iter().map(|node| NodeId(*node)) {
            let synced = Report::Synced { cluster, generation: generation + 1 };
            agreement.apply(&Command::Reports { from: node, reports: vec![synced] }).unwrap();
        }
    }
    assert_eq!(changing(agreement), 0);
}

/// No cluster names a server any more: once the log's own list does not either, it goes.
fn let_go(agreement: &mut Agreement, node: u64) {
    let node = NodeId(node);
    assert!(agreement.schema.server(node).is_some(), "the list may still need its vote");
    let mut list: BTreeSet<NodeId> = agreement.schema.servers.iter().map(|s| s.node).collect();
    assert_eq!(agreement.released(&list), None);
    list.remove(&node);
    assert_eq!(agreement.listed().collect::<BTreeSet<_>>(), list);
    assert_eq!(agreement.released(&list), Some(node));
    assert_eq!(agreement.apply(&Command::LetGo { node }), Ok(true));
    assert_eq!(agreement.apply(&Command::LetGo { node }), Ok(false), "once");
    assert_eq!(agreement.schema.server(node), None);
}

/// MASTERs, REPLICAs and W of every cluster with an owner; all have the same.
fn kept(agreement: &Agreement) -> (Vec<u64>, Vec<u64>, usize) {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
    let placements = agreement.placements();
    let all = placements.values().map(|p| (ids(&p.masters), ids(&p.replicas), p.write_quorum));
    let all: Vec<_> = all.collect();
    assert!(all.windows(2).all(|two| two[0] == two[1]), "{all:?}");
    all[0].clone()
}

/// FEATURES: L7
#[test]
fn a_replica_becomes_a_master_and_another_one_goes() {
    let mut agreement = agreement(WriteQuorum::Majority);
    assert_eq!(agreement.apply(&role("n4", Role::Master)), Ok(true));
    assert_eq!(agreement.apply(&role("n4", Role::Master)), Ok(false), "once");
    let busy = agreement.apply(&remove("n1")).unwrap_err();
    assert_eq!(busy.code, quorate_api::ErrorCode::Busy, "one at a time");
    assert_eq!(agreement.voters().count(), 3, "not before it has everything");
    finish(&mut agreement, &[1, 2, 4]);
    assert_eq!(kept(&agreement), (vec![1, 2, 3, 4], vec![], 3));
    assert_eq!(agreement.voters().count(), 4);
    let (database, name, supers) = ("bench".into(), "Item".into(), Vec::new());
    agreement.apply(&Command::CreateClass { database, name, supers }).unwrap();
    let owned = |agreement: &Agreement, node: u64| {
        let database = agreement.schema.database("bench").unwrap();
        database.clusters.iter().filter(|c| c.owner.0 == node || c.home.0 == node).count()
    };
    assert_eq!(owned(&agreement, 4), 1, "the new class has one for it");

    assert_eq!(agreement.apply(&remove("n1")), Ok(true));
    assert_eq!(owned(&agreement, 1), 0);
    assert!(agreement.schema.server(NodeId(1)).is_some_and(|server| server.leaving));
    assert_eq!(agreement.apply(&Command::LetGo { node: NodeId(1) }), Ok(false), "it is needed");
    assert_eq!(agreement.voters().collect::<Vec<_>>(), [2, 3, 4].map(NodeId));
    finish(&mut agreement, &[2, 3, 4]);
    assert_eq!(kept(&agreement), (vec![2, 3, 4], vec![], 2));
    let_go(&mut agreement, 1);
    let back = Command::Enlist { name: "n1".into(), node: NodeId(1), address: "a:1".into() };
    let refused = agreement.apply(&back).unwrap_err();
    assert!(refused.text.contains("'n1' was removed from the cluster"), "{}", refused.text);
    let new = Command::Enlist { name: "n1".into(), node: NodeId(9), address: "a:1".into() };
    assert_eq!(agreement.apply(&new), Ok(true), "the name is free");
    assert_eq!(kept(&agreement), (vec![2, 3, 4], vec![9], 2));
    // A REPLICA goes at once.
    assert_eq!(agreement.apply(&remove("n1")), Ok(true));
    assert_eq!(kept(&agreement), (vec![2, 3, 4], vec![], 2));
    let_go(&mut agreement, 9);
}

#[test]
fn whoever_is_left_of_a_cluster_has_not_founded_it_alone() {
    let mut agreement = Agreement::founded_by(&[("n1".into(), NodeId(1))]);
    assert!(agreement.schema.is_founded_alone());
    let (name, address) = ("n4".into(), "d:1".into());
    agreement.apply(&Command::Enlist { name, node: NodeId(4), address }).unwrap();
    agreement.apply(&role("n4", Role::Master)).unwrap();
    agreement.apply(&remove("n1")).unwrap();
    let_go(&mut agreement, 1);
    assert_eq!(agreement.schema.servers.len(), 1);
    assert!(!agreement.schema.is_founded_alone());
}

#[test]
fn a_master_becomes_a_replica() {
    let mut agreement = agreement(WriteQuorum::Majority);
    agreement.apply(&role("n3", Role::Replica)).unwrap();
    assert_eq!(agreement.voters().count(), 2);
    finish(&mut agreement, &[1, 2]);
    assert_eq!(kept(&agreement), (vec![1, 2], vec![3, 4], 2));
    let unknown = agreement.apply(&role("n9", Role::Master)).unwrap_err();
    assert_eq!(unknown.text, "server 'n9' is not in the cluster");
}

/// What is refused changes nothing.
#[test]
fn too_few_are_refused_with_the_numbers() {
    for (write_quorum, text) in [
        (WriteQuorum::Count(3), "'bench' has writeQuorum 3, and there would be 2 MASTERs"),
        (WriteQuorum::Count(1), "writeQuorum 1, which is below the majority of 3 MASTERs (2)"),
    ] {
        let mut agreement = agreement(write_quorum);
        let before = agreement.clone();
        for command in [remove("n1"), role("n1", Role::Replica)] {
            let refused = agreement.apply(&command).unwrap_err();
            assert!(refused.text.contains(text), "{}", refused.text);
            assert_eq!(agreement, before);
        }
    }
}

#[test]
fn whether_masters_are_enough_for_quorums() {
    use ReadQuorum as R;
    use WriteQuorum as W;
    let few =
        |key, quorum, after| Err(MemberError::TooFew { database: "d".into(), key, quorum, after });
    let loose = |quorum, masters| {
        let majority = masters / 2 + 1;
        Err(MemberError::Loose { database: "d".into(), quorum, masters, majority })
    };
    for (write, read, before, after, expected) in [
        (W::Majority, R::Count(1), 3, 2, Ok(())),
        (W::Majority, R::Count(1), 2, 1, Ok(())),
        (W::Majority, R::Count(1), 1, 0, Err(MemberError::LastMaster)),
        (W::All, R::All, 3, 2, Ok(())),
        (W::Count(3), R::Count(1), 3, 2, few("writeQuorum", 3, 2)),
        (W::Count(2), R::Count(3), 3, 2, few("readQuorum", 3, 2)),
        (W::Count(2), R::Count(1), 3, 2, Ok(())),
        (W::Count(2), R::Count(1), 3, 4, loose(2, 4)),
        (W::Count(1), R::Count(1), 3, 2, loose(1, 3)),
        (W::Count(3), R::Count(1), 4, 5, Ok(())),
    ] {
        assert_eq!(enough("d", (write, read), before, after), expected, "{write} {read} {after}");
    }
}

/// Reports of these servers that they have sealed every cluster.
fn seal(agreement: &mut Agreement, from: &[u64]) {
    for (cluster, placement) in agreement.placements() {
        let (generation, token) = (placement.generation, SessionToken::new());
        let reports = alloc::vec![Report::Sealed { cluster, generation, token }];
        for node in from.iter().map(|node| NodeId(*node)) {
            let reports = reports.clone();
            agreement.apply(&Command::Reports { from: node, reports }).unwrap();
        }
    }
}

/// FEATURES: L7
#[test]
fn what_cannot_finish_is_taken_back() {
    // n3 is dead, so that no majority of n2 and n3 will have everything.
    for (command, back) in [
        (remove("n1"), role("n1", Role::Master)),
        (role("n1", Role::Replica), role("n1", Role::Master)),
        (role("n4", Role::Master), role("n4", Role::Replica)),
    ] {
        let mut agreement = agreement(WriteQuorum::Majority);
        agreement.apply(&command).unwrap();
        seal(&mut agreement, &[1, 2]);
        let busy = agreement.apply(&role("n2", Role::Replica)).unwrap_err();
        assert_eq!(busy.code, quorate_api::ErrorCode::Busy);
        assert_eq!(agreement.apply(&back), Ok(true), "{back:?}");
        assert_eq!(agreement.apply(&back), Ok(false), "once");
        finish(&mut agreement, &[1, 2]);
        assert_eq!(kept(&agreement), (vec![1, 2, 3], vec![4], 2));
        assert_eq!(agreement.voters().collect::<Vec<_>>(), [1, 2, 3].map(NodeId));
        assert!(agreement.schema.servers.iter().all(|server| !server.leaving));
        assert_eq!(agreement.apply(&remove("n3")), Ok(true), "and the next one may come");
    }
}

/// Some clusters have let it go already: those it has left do not know it any more.
#[test]
fn a_removal_that_is_done_is_not_taken_back() {
    let mut agreement = agreement(WriteQuorum::Majority);
    agreement.apply(&remove("n1")).unwrap();
    let replica = agreement.apply(&role("n1", Role::Replica)).unwrap_err();
    assert_eq!(replica.text, "server 'n1' is not in the cluster");
    finish(&mut agreement, &[2, 3]);
    let before = agreement.clone();
    let late = agreement.apply(&role("n1", Role::Master)).unwrap_err();
    assert_eq!(late.text, "server 'n1' is not in the cluster");
    assert_eq!(agreement, before);
}

/// REPLICAs go whatever W is, and what was dropped keeps nobody.
#[test]
fn a_low_quorum_keeps_no_replica_and_a_dropped_database_nobody() {
    let mut agreement = agreement(WriteQuorum::Count(1));
    assert_eq!(agreement.apply(&remove("n4")), Ok(true));
    let_go(&mut agreement, 4);
    agreement.apply(&Command::DropDatabase { name: "bench".into() }).unwrap();
    assert_eq!(agreement.apply(&remove("n1")), Ok(true));
    finish(&mut agreement, &[2, 3]);
    let_go(&mut agreement, 1);
}

/// What was decided there with less than a majority must not look as if it were decided by one.
#[test]
fn a_dropped_cluster_keeps_its_quorum_while_its_masters_stay() {
    let mut agreement = agreement(WriteQuorum::Count(1));
    agreement.apply(&Command::DropDatabase { name: "bench".into() }).unwrap();
    let quorums = |agreement: &Agreement| {
        let all = agreement.placements().into_iter();
        all.map(|(key, p)| (key, p.generation, p.write_quorum, p.is_safe())).collect::<Vec<_>>()
    };
    let before = quorums(&agreement);
    assert!(before.iter().any(|(_, _, _, is_safe)| !is_safe), "{before:?}");
    assert_eq!(agreement.apply(&remove("n4")), Ok(true));
    assert_eq!(changing(&agreement), 0, "no MASTER goes");
    assert_eq!(quorums(&agreement), before);
    assert!(agreement.placements().values().all(|placement| placement.replicas.is_empty()));
    let_go(&mut agreement, 4);
}

/// FEATURES: A6
#[test]
fn a_chosen_owner_that_goes_owns_nothing() {
    for command in [remove("n1"), role("n1", Role::Replica)] {
        let mut agreement = agreement(WriteQuorum::Majority);
        let schema = agreement.schema.clone();
        let database = schema.database("bench").unwrap();
        let chosen = &database.clusters.iter().find(|c| c.owner == NodeId(1)).unwrap().name;
        let settings = crate::settings::Settings::default();
        let owners = [(chosen.clone(), "n1".into())].into();
        let (database, version) = ("bench".into(), database.version);
        let choose = Command::Reconfigure { database, version, settings, owners };
        agreement.apply(&choose).unwrap();
        let owned = |agreement: &Agreement| {
            let database = agreement.schema.database("bench").unwrap();
            let cluster = database.cluster_named(chosen).unwrap();
            (cluster.static_owner, cluster.owner, cluster.home)
        };
        assert_eq!(owned(&agreement), (true, NodeId(1), NodeId(1)));
        agreement.apply(&command).unwrap();
        let (is_static, owner, home) = owned(&agreement);
        assert!(!is_static && owner != NodeId(1) && home == owner);
    }
}

/// Owners of the clusters of the database.
fn owners(agreement: &Agreement) -> BTreeSet<u64> {
    agreement.schema.databases[0].clusters.iter().map(|cluster| cluster.owner.0).collect()
}

/// FEATURES: S9, A2
#[test]
fn a_witness_votes_and_owns_nothing() {
    let mut agreement = agreement(WriteQuorum::Majority);
    let class = Command::CreateClass { database: "bench".into(), name: "A".into(), supers: vec![] };
    agreement.apply(&class).unwrap();
    assert_eq!(owners(&agreement), [1, 2, 3].into());
    // What votes already goes on doing so.
    assert_eq!(agreement.apply(&role("n3", Role::Witness)), Ok(true));
    assert_eq!(agreement.apply(&role("n3", Role::Witness)), Ok(false), "once");
    assert_eq!((changing(&agreement), owners(&agreement)), (0, [1, 2].into()));
    assert_eq!(kept(&agreement), (vec![1, 2, 3], vec![4], 2));
    let witness = |p: &Placement| p.witnesses == [NodeId(3)].into() && p.has_few_witnesses();
    assert!(agreement.placements().values().all(witness));
    assert_eq!(agreement.voters().count(), 3);
    // Nothing new is its own, and it inherits nothing.
    let class = Command::CreateClass { database: "bench".into(), name: "B".into(), supers: vec![] };
    agreement.apply(&class).unwrap();
    let all = vec![NodeId(1), NodeId(3)];
    agreement.apply(&Command::MoveOwners { lost: NodeId(2), to: all }).unwrap();
    assert_eq!(agreement.apply(&Command::AddClusters { to: NodeId(3) }), Ok(false));
    assert_eq!(owners(&agreement), [1].into());
    // It has no records to be anything else with.
    for other in [Role::Master, Role::Replica] {
        let refused = agreement.apply(&role("n3", other)).unwrap_err();
        assert!(
            refused.text.contains("'n3' is a witness and keeps no records"),
            "{}",
            refused.text
        );
    }
    agreement.apply(&remove("n3")).unwrap();
    assert!(agreement.placements().values().all(witness), "until it is gone");
    finish(&mut agreement, &[1, 2, 3]);
    assert_eq!(kept(&agreement), (vec![1, 2], vec![4], 2));
}

/// FEATURES: S9
#[test]
fn a_replica_becomes_a_witness_beside_two() {
    let mut agreement = agreement(WriteQuorum::Majority);
    agreement.apply(&remove("n3")).unwrap();
    finish(&mut agreement, &[1, 2, 3]);
    assert_eq!(agreement.apply(&role("n4", Role::Witness)), Ok(true));
    finish(&mut agreement, &[1, 2, 4]);
    assert_eq!(kept(&agreement), (vec![1, 2, 4], vec![], 2));
    assert!(agreement.placements().values().all(|p| p.witnesses == [NodeId(4)].into()));
}

/// Less than half of those who vote, whatever came before; what is refused changes nothing.
///
/// FEATURES: A12
#[test]
fn every_majority_keeps_records() {
    let mut all = agreement(WriteQuorum::Majority);
    for (first, second, text) in [
        (None, remove("n1"), None),
        (Some("n3"), remove("n1"), Some("1 witnesses among 2 MASTERs")),
        (Some("n3"), role("n1", Role::Replica), Some("1 witnesses among 2 MASTERs")),
        (Some("n3"), role("n2", Role::Witness), Some("2 witnesses among 3 MASTERs")),
        (Some("n3"), role("n4", Role::Witness), Some("2 witnesses among 4 MASTERs")),
    ] {
        let mut agreement = all.clone();
        if let Some(first) = first {
            agreement.apply(&role(first, Role::Witness)).unwrap();
        }
        let before = agreement.clone();
        match (agreement.apply(&second), text) {
            (Ok(_), None) => {}
            (Err(refused), Some(text)) => {
                assert!(refused.text.contains(text), "{}", refused.text);
                assert_eq!(agreement, before);
            }
            (found, text) => panic!("{second:?}: {found:?}, not {text:?}"),
        }
    }
    // Nor can W be below a majority beside one, now or later.
    all.apply(&role("n3", Role::Witness)).unwrap();
    let new = NewDatabase::new("loose", DatabaseKind::Plocal, WriteQuorum::Count(1));
    let refused = all.apply(&Command::CreateDatabase { new }).unwrap_err();
    assert!(refused.text.contains("writeQuorum 1 is below the majority of 3"), "{}", refused.text);
    let mut loose = agreement(WriteQuorum::Count(1));
    let refused = loose.apply(&role("n3", Role::Witness)).unwrap_err();
    assert!(refused.text.contains("writeQuorum 1, which is below"), "{}", refused.text);
}

/// What was dropped with W below a majority keeps that W, and so no witness.
///
/// FEATURES: A12, A13
#[test]
fn no_witness_comes_beside_what_was_dropped_below_a_majority() {
    let mut loose = agreement(WriteQuorum::Count(1));
    loose.apply(&Command::DropDatabase { name: "bench".into() }).unwrap();
    let before = loose.clone();
    for server in ["n3", "n4"] {
        let refused = loose.apply(&role(server, Role::Witness)).unwrap_err();
        assert!(refused.text.contains("was dropped while its W was below"), "{}", refused.text);
        assert_eq!(loose, before);
    }
    // Other MASTERs give it a majority.
    loose.apply(&role("n4", Role::Master)).unwrap();
    finish(&mut loose, &[1, 2, 3, 4]);
    assert_eq!(loose.apply(&role("n4", Role::Witness)), Ok(true));
    assert!(loose.placements().values().all(|placement| placement.is_safe()));
}

/// The data center of n1 and n2, and that of n3 and n4.
fn two_centers() -> DataCenters {
    let center = |servers: [&str; 2]| {
        let servers = servers.map(String::from).to_vec();
        DataCenter { write_quorum: WriteQuorum::Majority, servers }
    };
    [("rome".into(), center(["n1", "n2"])), ("oslo".into(), center(["n3", "n4"]))].into()
}

/// A witness counts where its data center is, and not beside data centers that decide alone.
///
/// FEATURES: A2, A17
#[test]
fn a_witness_is_in_a_data_center_that_does_not_decide_alone() {
    let database = |write_quorum| NewDatabase {
        data_centers: two_centers(),
        read_quorum: ReadQuorum::LocalDataCenter,
        ..NewDatabase::new("far", DatabaseKind::Plocal, write_quorum)
    };
    let (safe, local) = (database(WriteQuorum::Majority), database(WriteQuorum::LocalDataCenter));
    let mut all = agreement(WriteQuorum::Majority);
    let mut alone = all.clone();
    alone.apply(&Command::CreateDatabase { new: local.clone() }).unwrap();
    let refused = alone.apply(&role("n3", Role::Witness)).unwrap_err();
    assert!(refused.text.contains("'far' has writeQuorum 1"), "{}", refused.text);
    all.apply(&Command::CreateDatabase { new: safe }).unwrap();
    assert_eq!(all.apply(&role("n3", Role::Witness)), Ok(true));
    let placement = &all.placements()[&ClusterKey { database: 2, cluster: 10 }];
    assert_eq!((placement.masters.len(), placement.write_quorum), (3, 2));
    let all_near = [1, 2].map(NodeId);
    assert_eq!(placement.near(NodeId(2)), all_near);
    assert_eq!(placement.near(NodeId(4)), [], "contents are elsewhere");
    let new = NewDatabase { name: "alone".into(), ..local };
    let refused = all.apply(&Command::CreateDatabase { new }).unwrap_err();
    assert!(refused.text.contains("below the majority of 3"), "{}", refused.text);
    // An older server does not know the role.
    assert_eq!((role("n3", Role::Witness).since(), role("n3", Role::Master).since()), (9, 8));
}
