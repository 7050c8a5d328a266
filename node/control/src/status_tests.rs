//! What statuses make of the schema, and that several settings are carried out together or not.

use alloc::vec;
use alloc::vec::Vec;

use quorate_api::NodeId;

use super::*;
use crate::command::Command;
use crate::members::WriteQuorum;
use crate::schema::DatabaseKind;
use crate::settings::NewDatabase;

/// Three MASTERs and a REPLICA, two databases.
fn agreement() -> Agreement {
    let founders: Vec<_> = (1..=3).map(|n| (alloc::format!("n{n}"), NodeId(n))).collect();
    let mut agreement = Agreement::founded_by(&founders);
    for name in ["bench", "other"] {
        let new = NewDatabase::new(name, DatabaseKind::Plocal, WriteQuorum::Majority);
        agreement.apply(&Command::CreateDatabase { new }).unwrap();
    }
    let (name, address) = ("n4".into(), "d:1".into());
    agreement.apply(&Command::Enlist { name, node: NodeId(4), address }).unwrap();
    agreement
}

fn status(server: &str, status: DatabaseStatus) -> Setting {
    Setting::Status { server: server.into(), status }
}

fn online(server: &str) -> Setting {
    status(server, DatabaseStatus::Online)
}

fn offline(server: &str) -> Setting {
    status(server, DatabaseStatus::Offline)
}

fn role(server: &str, role: Role) -> Setting {
    Setting::Role { server: server.into(), role }
}

fn owner(cluster: &str, server: &str) -> Setting {
    Setting::Owner { cluster: cluster.into(), server: server.into() }
}

fn set(agreement: &mut Agreement, settings: &[Setting]) -> Result<bool, Refusal> {
    let (database, settings) = ("bench".into(), settings.to_vec());
    agreement.apply(&Command::Set { database, settings })
}

/// What settings are refused with; nothing has changed then.
fn refused(agreement: &Agreement, settings: &[Setting]) -> String {
    let mut after = agreement.clone();
    let text = set(&mut after, settings).unwrap_err().text;
    assert_eq!(&after, agreement, "{text}");
    text
}

/// Owners of the clusters of a database, in order of the clusters.
fn owners(agreement: &Agreement, database: &str) -> Vec<u64> {
    let found = agreement.schema.database(database).unwrap();
    found.clusters.iter().map(|cluster| cluster.owner.0).collect()
}

fn shown(agreement: &Agreement) -> Vec<(String, Vec<String>)> {
    let said = agreement.schema.offline().into_iter();
    said.map(|(database, names)| (database, names.into_iter().collect())).collect()
}

/// FEATURES: A20
#[test]
fn who_is_offline_hands_its_clusters_over_and_votes_on() {
    let mut agreement = agreement();
    let before = agreement.clone();
    assert_eq!(set(&mut agreement, &[offline("n2")]), Ok(true));
    assert_eq!(set(&mut agreement, &[offline("n2")]), Ok(false), "once");
    assert_eq!(shown(&agreement), [("bench".into(), vec!["n2".into()])]);
    assert!(!owners(&agreement, "bench").contains(&2), "{:?}", owners(&agreement, "bench"));
    assert_eq!(owners(&agreement, "other"), owners(&before, "other"), "of one database");
    // Who votes, and how many have to: as before.
    for (key, placement) in agreement.placements() {
        let was = &before.placements()[&key];
        let voting = |p: &quorate_protocol::io::Placement| {
            (p.masters.clone(), p.write_quorum, p.generation, p.change.is_some())
        };
        assert_eq!(voting(&placement), voting(was), "{key}");
    }
    // It does not get them back while it is so, though it is there: nobody has to ask again.
    assert!(!agreement.schema.is_missed(NodeId(2)));
    assert_eq!(agreement.apply(&Command::ReturnOwners { back: NodeId(2) }), Ok(false));

    assert_eq!(set(&mut agreement, &[online("n2")]), Ok(true));
    assert_eq!(set(&mut agreement, &[online("n2")]), Ok(false), "once");
    assert_eq!(shown(&agreement), []);
    assert!(agreement.schema.is_missed(NodeId(2)));
    assert_eq!(agreement.apply(&Command::ReturnOwners { back: NodeId(2) }), Ok(true));
    assert_eq!(owners(&agreement, "bench"), owners(&before, "bench"));
}

/// FEATURES: A20
#[test]
fn what_a_lost_server_owned_goes_to_those_who_serve_as_long_as_there_are_any() {
    let mut agreement = agreement();
    set(&mut agreement, &[offline("n2")]).unwrap();
    let to = vec![NodeId(2), NodeId(3)];
    let lost = NodeId(1);
    assert_eq!(agreement.apply(&Command::MoveOwners { lost, to }), Ok(true));
    assert!(owners(&agreement, "bench").iter().all(|owner| *owner == 3));
    assert!(owners(&agreement, "other").contains(&2), "it serves that one");
    // Nobody who serves is left: whoever is there has them, or it would be asked for again and
    // again.
    let (lost, to) = (NodeId(3), vec![NodeId(2)]);
    assert_eq!(agreement.apply(&Command::MoveOwners { lost, to }), Ok(true));
    assert!(!agreement.schema.has_to_move(lost));
}

/// FEATURES: A20
#[test]
fn a_cluster_that_people_chose_an_owner_for_stays_with_it() {
    let mut agreement = agreement();
    let cluster = agreement.schema.databases[0].clusters[1].clone();
    assert_eq!(set(&mut agreement, &[owner(&cluster.name, "n2"), offline("n2")]), Ok(true));
    let now = owners(&agreement, "bench");
    assert_eq!((now[1], now.iter().filter(|owner| **owner == 2).count()), (2, 1));
}

/// FEATURES: A20
#[test]
fn some_master_serves_every_database() {
    let mut agreement = agreement();
    assert_eq!(set(&mut agreement, &[offline("n1"), offline("n4"), offline("n2")]), Ok(true));
    let text = refused(&agreement, &[offline("n3")]);
    assert!(text.starts_with("every MASTER of database 'bench' would be OFFLINE for it"), "{text}");
    assert!(refused(&agreement, &[role("n3", Role::Replica)]).contains("would be OFFLINE"));
    let remove = Command::RemoveServer { server: "n3".into(), force: false };
    assert!(agreement.clone().apply(&remove).unwrap_err().text.contains("would be OFFLINE"));
    assert_eq!(set(&mut agreement, &[online("n1")]), Ok(true));
    assert_eq!(agreement.apply(&remove), Ok(true));
}

/// FEATURES: A20
#[test]
fn who_serves_again_does_so_before_others_stop_in_whatever_order_it_is_said() {
    let mut agreement = agreement();
    assert_eq!(set(&mut agreement, &[offline("n1"), offline("n2")]), Ok(true));
    for last in [offline("n3"), role("n3", Role::Replica)] {
        assert!(refused(&agreement, core::slice::from_ref(&last)).contains("would be OFFLINE"));
        let (mut one, mut other) = (agreement.clone(), agreement.clone());
        assert_eq!(set(&mut one, &[last.clone(), online("n1")]), Ok(true));
        assert_eq!(set(&mut other, &[online("n1"), last]), Ok(true));
        assert_eq!(one, other);
    }
}

/// FEATURES: A20
#[test]
fn settings_are_carried_out_together_or_not_at_all() {
    let mut agreement = agreement();
    let name = |at: usize| agreement.schema.databases[0].clusters[at].name.clone();
    let (first, second) = (name(0), name(1));
    for (settings, expected) in [
        (vec![offline("n2"), owner("none", "n1")], "Cluster 'none' does not exist"),
        (vec![role("n3", Role::Replica), owner(&first, "n3")], "has no that cluster"),
        (vec![owner(&first, "n1"), role("n9", Role::Master)], "'n9' is not in the cluster"),
        (vec![owner(&first, "n1"), offline("n9")], "'n9' is not in the cluster"),
        (vec![offline("n1"), online("n1")], "server 'n1' is named twice"),
        (vec![owner(&first, "n1"), owner(&first.to_uppercase(), "n2")], "is named twice"),
        (vec![role("n1", Role::Replica), role("n1", Role::Master)], "server 'n1' is named twice"),
    ] {
        let text = refused(&agreement, &settings);
        assert!(text.contains(expected), "{expected} in {text}");
    }
    let settings = [
        owner(&first, "n4"),
        role("n4", Role::Master),
        offline("n3"),
        role("n2", Role::Replica),
        owner(&second, "n1"),
    ];
    assert_eq!(set(&mut agreement, &settings), Ok(true));
    assert_eq!(set(&mut agreement, &settings), Ok(false), "once");
    let schema = &agreement.schema;
    assert_eq!(schema.masters().map(|m| m.node.0).collect::<Vec<_>>(), [1, 3, 4]);
    // One change of each cluster, from the MASTERs there were to those that are wanted.
    for (key, placement) in agreement.placements() {
        assert_eq!(placement.masters, [1, 2, 3].map(NodeId), "{key}");
        assert_eq!(placement.change.unwrap().masters, [1, 3, 4].map(NodeId), "{key}");
    }
    let now = owners(&agreement, "bench");
    assert_eq!((now[0], now[1]), (4, 1));
    assert!(now.iter().all(|owner| [1, 4].contains(owner)), "{now:?}");
    assert!(owners(&agreement, "other").iter().all(|owner| [1, 3, 4].contains(owner)));
    // The next change of roles waits for this one; owners and statuses do not.
    assert!(refused(&agreement, &[online("n3"), role("n3", Role::Replica)]).contains("on its way"));
    assert_eq!(set(&mut agreement, &[online("n3")]), Ok(true));
}

/// FEATURES: A20
#[test]
fn a_status_goes_with_its_server_and_witnesses_have_none() {
    let mut agreement = agreement();
    set(&mut agreement, &[offline("n4")]).unwrap();
    let bytes = agreement.schema.encode().unwrap();
    assert_eq!(Schema::decode(&bytes).unwrap(), *agreement.schema, "it is kept");
    agreement.apply(&Command::RemoveServer { server: "n4".into(), force: false }).unwrap();
    agreement.apply(&Command::LetGo { node: NodeId(4) }).unwrap();
    assert_eq!(shown(&agreement), [], "another server may have the name");
    assert!(refused(&agreement, &[online("n4")]).contains("'n4' is not in the cluster"));
    set(&mut agreement, &[role("n3", Role::Witness)]).unwrap();
    assert!(refused(&agreement, &[offline("n3")]).contains("'n3' is a witness"));
}
