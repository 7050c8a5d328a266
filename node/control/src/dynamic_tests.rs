//! Who leaves by itself and who does not, what quorums come to then, and who comes back as what.

use super::*;
use alloc::format;
use alloc::vec::Vec;

use quorate_api::ErrorCode;
use quorate_protocol::io::Report;

use crate::command::Command;
use crate::data_centers::DataCenter;
use crate::members::WriteQuorum;
use crate::schema::DatabaseKind;
use crate::settings::NewDatabase;

fn new(name: &str, write_quorum: WriteQuorum, new_nodes: NewNodes) -> NewDatabase {
    NewDatabase { new_nodes, ..NewDatabase::new(name, DatabaseKind::Plocal, write_quorum) }
}

fn dynamic(enlisted: &[&str]) -> NewNodes {
    NewNodes::Dynamic(enlisted.iter().map(|name| String::from(*name)).collect())
}

fn founded(masters: u64, databases: &[NewDatabase]) -> Agreement {
    let founders: Vec<_> = (1..=masters).map(|n| (format!("n{n}"), NodeId(n))).collect();
    let mut agreement = Agreement::founded_by(&founders);
    for new in databases {
        agreement.apply(&Command::CreateDatabase { new: new.clone() }).unwrap();
    }
    agreement
}

/// A server leaves by the schema of now.
fn lose(agreement: &mut Agreement, node: NodeId) -> Result<bool, Refusal> {
    let revision = agreement.schema.revision;
    agreement.apply(&Command::RemoveAbsent { node, revision })
}

/// Everybody but those who are lost reports whatever the changes on their way ask for.
fn settle(agreement: &mut Agreement, lost: &[NodeId]) {
    while let Some((cluster, placement)) =
        agreement.placements().into_iter().find(|(_, placement)| placement.change.is_some())
    {
        let (generation, next) = (placement.generation, placement.change.unwrap().masters);
        let there = |nodes: Vec<NodeId>| nodes.into_iter().filter(|node| !lost.contains(node));
        let sealed = there(placement.masters).map(|node| {
            let token = quorate_protocol::io::SessionToken::new();
            (node, Report::Sealed { cluster, generation, token })
        });
        let synced =
            there(next).map(|node| (node, Report::Synced { cluster, generation: generation + 1 }));
        for (from, report) in sealed.chain(synced).collect::<Vec<_>>() {
            let reports = Vec::from([report]);
            agreement.apply(&Command::Reports { from, reports }).unwrap();
        }
    }
}

fn quorums(agreement: &Agreement) -> (usize, usize) {
    let placements = agreement.placements();
    let of_records = placements.iter().find(|(key, _)| key.cluster >= 10).unwrap().1;
    (of_records.write_quorum, of_records.masters.len())
}

/// FEATURES: S9, A12
#[test]
fn quorums_follow_the_masters_that_are_there() {
    let mut agreement = founded(5, &[new("bench", WriteQuorum::Majority, dynamic(&[]))]);
    assert_eq!(quorums(&agreement), (3, 5));
    let mut lost = Vec::new();
    for (left, majority) in [(4, 3), (3, 2), (2, 2), (1, 1)] {
        let node = NodeId(left + 1);
        lost.push(node);
        assert_eq!(lose(&mut agreement, node), Ok(true));
        // Before a majority of the old MASTERs has sealed, nothing counts by the new number.
        assert_eq!(quorums(&agreement).1, usize::try_from(left + 1).unwrap());
        if left == 1 {
            // The other one of two does not see this through alone.
            break;
        }
        settle(&mut agreement, &lost);
        assert_eq!(quorums(&agreement), (majority, usize::try_from(left).unwrap()));
        assert_eq!(agreement.apply(&Command::LetGo { node }), Ok(true));
        assert!(agreement.schema.is_absent(node) && agreement.schema.server(node).is_none());
    }
    let change = agreement.placements().into_values().find_map(|p| Some((p.masters, p.change?)));
    let (masters, change) = change.unwrap();
    assert_eq!((masters.len(), change.masters.len()), (2, 1));
    let sealing = matches!(change.stage, quorate_protocol::io::Stage::Sealing { .. });
    assert!(sealing, "a majority of two is two");
}

/// FEATURES: S9
#[test]
fn whoever_was_lost_comes_back_as_another_and_becomes_what_it_was() {
    let mut agreement = founded(3, &[new("bench", WriteQuorum::Majority, dynamic(&[]))]);
    let (node, name, address) = (NodeId(3), String::from("n3"), String::from("d:3"));
    let enlist = |node| Command::Enlist { name: name.clone(), node, address: address.clone() };
    lose(&mut agreement, node).unwrap();
    let taken = agreement.apply(&enlist(NodeId(33))).unwrap_err();
    assert!(taken.text.contains("belongs to server"), "its name is not free yet: {}", taken.text);
    settle(&mut agreement, &[node]);
    agreement.apply(&Command::LetGo { node }).unwrap();
    let as_before = agreement.apply(&enlist(node)).unwrap_err();
    assert!(as_before.text.contains("was removed"), "{}", as_before.text);
    assert_eq!(agreement.schema.returned().count(), 0);
    agreement.apply(&enlist(NodeId(33))).unwrap();
    let returned: Vec<NodeId> = agreement.schema.returned().map(|server| server.node).collect();
    assert_eq!((returned, quorums(&agreement)), (Vec::from([NodeId(33)]), (2, 2)));
    assert!(agreement.schema.is_absent(node), "until it is a MASTER again");
    agreement.apply(&Command::SetRole { server: name, role: Role::Master }).unwrap();
    settle(&mut agreement, &[]);
    assert_eq!(quorums(&agreement), (2, 3));
    assert!(!agreement.schema.is_absent(node) && agreement.schema.absent.is_empty());
}

/// FEATURES: S9
#[test]
fn nobody_leaves_by_a_schema_that_is_over() {
    let mut agreement = founded(3, &[new("bench", WriteQuorum::Majority, dynamic(&[]))]);
    let (node, revision) = (NodeId(3), agreement.schema.revision);
    let command = Command::RemoveAbsent { node, revision };
    agreement.apply(&Command::Announce { node, address: "d:3".into() }).unwrap();
    let before = agreement.clone();
    for revision in [revision, agreement.schema.revision + 1] {
        let late = Command::RemoveAbsent { node, revision };
        let refused = agreement.apply(&late).unwrap_err();
        assert!(refused.text.contains("was found lost at revision"), "{}", refused.text);
        assert_eq!((refused.code, &agreement), (ErrorCode::Busy, &before));
    }
    assert_eq!(lose(&mut agreement, node), Ok(true));
    // It stays after all, and what was asked for twice comes late.
    agreement.apply(&Command::SetRole { server: "n3".into(), role: Role::Master }).unwrap();
    assert!(agreement.apply(&command).is_err());
    assert!(agreement.schema.absent.is_empty());
}

/// FEATURES: S9
#[test]
fn who_is_there_again_stays_what_it_was_while_every_cluster_names_it() {
    let mut agreement = founded(3, &[new("bench", WriteQuorum::Majority, dynamic(&[]))]);
    let node = NodeId(3);
    assert_eq!(agreement.lost_and_named().count(), 0);
    lose(&mut agreement, node).unwrap();
    let named: Vec<NodeId> = agreement.lost_and_named().map(|server| server.node).collect();
    assert_eq!(named, [node]);
    let stays = Command::SetRole { server: "n3".into(), role: Role::Master };
    let (cluster, placement) = agreement.placements().into_iter().next().unwrap();
    let generation = placement.generation;
    // A majority has sealed one cluster: it is taken back all the same.
    for from in [NodeId(1), NodeId(2)] {
        let token = quorate_protocol::io::SessionToken::new();
        let reports = Vec::from([Report::Sealed { cluster, generation, token }]);
        agreement.apply(&Command::Reports { from, reports }).unwrap();
    }
    assert_eq!(agreement.lost_and_named().count(), 1);
    let mut kept = agreement.clone();
    assert_eq!(kept.apply(&stays), Ok(true));
    assert_eq!(kept.lost_and_named().count(), 0);
    settle(&mut kept, &[]);
    let placements = kept.placements();
    assert!(placements.values().all(|placement| placement.masters.contains(&node)));
    assert!(kept.schema.absent.is_empty() && !kept.schema.server(node).unwrap().leaving);
    // That cluster has gone on without it, others have not.
    for from in [NodeId(1), NodeId(2)] {
        let reports = Vec::from([Report::Synced { cluster, generation: generation + 1 }]);
        agreement.apply(&Command::Reports { from, reports }).unwrap();
    }
    assert_eq!(agreement.placements()[&cluster].masters, [NodeId(1), NodeId(2)]);
    assert_eq!(agreement.lost_and_named().count(), 0, "too late");
    assert!(agreement.apply(&stays).is_err());
}

/// FEATURES: S9, A20
#[test]
fn people_who_decide_on_a_lost_server_are_obeyed() {
    let absent = || {
        let mut agreement = founded(3, &[new("bench", WriteQuorum::Majority, dynamic(&[]))]);
        let node = NodeId(3);
        lose(&mut agreement, node).unwrap();
        settle(&mut agreement, &[node]);
        agreement.apply(&Command::LetGo { node }).unwrap();
        agreement
    };
    let server = || String::from("n3");
    let remove = Command::RemoveServer { server: server(), force: false };
    let mut removed = absent();
    assert_eq!(removed.apply(&remove), Ok(true));
    assert!(!removed.schema.is_absent(NodeId(3)), "for good");
    assert_eq!(removed.apply(&remove).unwrap_err().code, ErrorCode::NotFound);
    let mut kept = absent();
    let (node, address) = (NodeId(33), String::from("d:3"));
    kept.apply(&Command::Enlist { name: server(), node, address }).unwrap();
    let stays = Command::SetRole { server: server(), role: Role::Replica };
    assert_eq!(kept.apply(&stays), Ok(true));
    assert_eq!((kept.schema.returned().count(), kept.apply(&stays)), (0, Ok(false)));
}

/// FEATURES: S9
#[test]
fn who_is_enlisted_or_needed_stays() {
    let majority = WriteQuorum::Majority;
    let mut placed = new("bench", majority, dynamic(&[]));
    let center = DataCenter { write_quorum: majority, servers: Vec::from(["n3".into()]) };
    placed.data_centers.insert("rome".into(), center);
    let both = [new("one", majority, dynamic(&[])), new("two", majority, NewNodes::Static)];
    let named = [new("bench", majority, dynamic(&["n3"]))];
    let fixed = [new("bench", WriteQuorum::Count(3), dynamic(&[]))];
    let loose = [new("bench", WriteQuorum::Count(1), dynamic(&[]))];
    for (databases, why) in [
        (&both[..], "database 'two' enlists it"),
        (&named, "database 'bench' enlists it"),
        (&[placed], "database 'bench' enlists it"),
        (&[], "only MASTERs of databases"),
        (&fixed, "has writeQuorum 3, and there would be 2 MASTERs"),
        (&loose, "below the majority"),
    ] {
        let mut agreement = founded(3, databases);
        let before = agreement.clone();
        let refused = lose(&mut agreement, NodeId(3)).unwrap_err();
        assert!(refused.text.contains(why), "{why}: {}", refused.text);
        assert!(agreement.schema.check_absent(NodeId(3)).is_err());
        assert_eq!(agreement, before);
    }
    // Of two MASTERs and a witness, one MASTER and the witness would be no majority with records.
    let mut beside = founded(3, &[new("bench", majority, dynamic(&[]))]);
    let witness = Command::SetRole { server: "n1".into(), role: Role::Witness };
    beside.apply(&witness).unwrap();
    for node in [NodeId(1), NodeId(3)] {
        assert!(lose(&mut beside, node).is_err(), "{node}");
    }
    // People chose it as an owner, until they choose otherwise.
    let mut owner = founded(3, &[new("bench", majority, dynamic(&[]))]);
    let (database, cluster, server) = ("bench".into(), "v_n3".into(), "n3".into());
    owner.apply(&Command::SetOwner { database, cluster, server }).unwrap();
    let refused = lose(&mut owner, NodeId(3)).unwrap_err();
    assert!(refused.text.contains("an owner that people chose"), "{}", refused.text);
    assert_eq!(owner.schema.check_absent(NodeId(2)), Ok(()));
    let agreement = founded(3, &[new("bench", majority, dynamic(&["n3"]))]);
    assert_eq!(agreement.schema.check_absent(NodeId(2)), Ok(()), "its other servers are not");
    assert!(agreement.schema.check_absent(NodeId(9)).is_err(), "not in the cluster");
}
