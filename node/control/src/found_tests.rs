//! Tests of databases that servers bring along.

use alloc::boxed::Box;
use alloc::vec;

use quorate_api::{Boot, ErrorCode};

use super::*;
use crate::command::Command;
use crate::indexes::{IndexKind, NewIndex};
use crate::members::WriteQuorum;
use crate::schema::DatabaseKind;
use crate::servers::Role;
use crate::settings::NewDatabase;

const ALONE: NodeId = NodeId(9);
const BY: NodeId = NodeId(2);
const ORIGIN: Origin = Origin { server: ALONE, number: 1 };

fn new(name: &str) -> Command {
    let new = NewDatabase::new(name, DatabaseKind::Plocal, WriteQuorum::Majority);
    Command::CreateDatabase { new }
}

fn key(database: u32, cluster: u32) -> ClusterKey {
    ClusterKey { database, cluster }
}

/// A server that stood alone, with a database of a class with a unique index.
fn alone(name: &str) -> Agreement {
    let mut agreement = Agreement::founded_by(&[("n2".to_string(), ALONE)]);
    let (database, class) = (name.to_string(), "Item".to_string());
    let index = NewIndex {
        name: "Item.k".into(),
        class: class.clone(),
        field: "k".into(),
        kind: IndexKind::Unique,
    };
    for command in [
        new(name),
        Command::CreateClass { database: database.clone(), name: class, supers: vec![] },
        Command::CreateIndex { database, new: index },
        Command::IndexFilled { index: key(1, 13), by: ALONE },
        Command::Grant { cluster: key(1, 12), to: ALONE, boot: Boot(1) },
    ] {
        agreement.apply(&command).unwrap();
    }
    agreement
}

fn adopt(from: &Agreement, by: NodeId, origin: Origin) -> Command {
    let database = Box::new(from.schema.databases[0].clone());
    Command::Adopt { by, origin, database, positions: from.positions_of(1) }
}

/// Three MASTERs and a REPLICA.
fn cluster() -> Agreement {
    let founders = [1, 2, 3].map(|n| (alloc::format!("n{n}"), NodeId(n)));
    let mut agreement = Agreement::founded_by(&founders);
    let enlist = Command::Enlist { name: "n4".into(), node: NodeId(4), address: "d:1".into() };
    agreement.apply(&enlist).unwrap();
    agreement
}

/// FEATURES: S5
#[test]
fn a_database_comes_with_its_numbers_and_is_served_where_all_of_it_is() {
    let mut agreement = cluster();
    agreement.apply(&new("other")).unwrap();
    let source = alone("found");
    let bring = adopt(&source, BY, ORIGIN);
    assert_eq!(agreement.apply(&bring), Ok(true));
    assert_eq!(agreement.apply(&bring), Ok(false), "once");
    let is_coming = agreement.schema.databases[1].clone();
    assert_eq!((is_coming.id, is_coming.brought_by()), (2, Some(BY)));
    let before = &source.schema.databases[0];
    assert_eq!(is_coming.classes, before.classes);
    assert_eq!(is_coming.clusters.iter().map(|c| c.id).collect::<Vec<_>>(), [10, 11, 12]);
    assert!(is_coming.clusters.iter().all(|c| (c.owner, c.home) == (BY, BY)));
    assert_eq!(is_coming.indexes[0].state, IndexState::Ready);
    assert!(is_coming.schema_min(12) == agreement.schema.revision);
    // All keep it, and nobody shows it.
    let placements = agreement.placements();
    let placement = &placements[&key(2, 12)];
    assert_eq!((placement.masters.len(), placement.replicas.len()), (3, 1));
    assert!(placements.contains_key(&key(2, 13)));
    assert!(agreement.schema.database("found").is_none());
    assert!((1..=4).all(|n| !is_coming.is_served_by(NodeId(n))));
    // Nor is anything decided about it meanwhile.
    let class = Command::CreateClass { database: "found".into(), name: "X".into(), supers: vec![] };
    assert_eq!(agreement.apply(&class).unwrap_err().code, ErrorCode::NotReady);
    assert_eq!(agreement.apply(&new("found")).unwrap_err().code, ErrorCode::DatabaseExists);
    let gone = Command::RemoveServer { server: "n2".into(), force: false };
    assert_eq!(agreement.apply(&gone).unwrap_err().code, ErrorCode::Busy);

    let cover = SessionToken::from([((BY, Boot(1)), 7)]);
    let brought = |by| Command::Brought { database: 2, by, cover: cover.clone() };
    assert_eq!(agreement.apply(&brought(NodeId(1))), Ok(false), "not its own");
    assert_eq!(agreement.apply(&brought(BY)), Ok(true));
    assert_eq!(agreement.apply(&brought(BY)), Ok(false));
    let there = agreement.schema.database("found").unwrap();
    assert_eq!(there.lacked_by(NodeId(4)), Some(&cover));
    let arrived = |at| Command::Arrived { database: 2, at };
    assert_eq!(agreement.apply(&arrived(BY)), Ok(true));
    assert_eq!(agreement.apply(&arrived(BY)), Ok(false));
    let there = agreement.schema.database("found").unwrap();
    assert!(there.is_served_by(BY) && !there.is_served_by(NodeId(4)));
    // Who joins now aligns before it serves anything; nobody waits for it.
    let late = Command::Enlist { name: "n5".into(), node: NodeId(5), address: "e:1".into() };
    agreement.apply(&late).unwrap();
    assert!(agreement.schema.database("found").unwrap().is_served_by(NodeId(5)));
    for node in [1, 3, 4] {
        assert_eq!(agreement.apply(&arrived(NodeId(node))), Ok(true));
    }
    assert_eq!(agreement.schema.database("found").unwrap().arriving, None);
    assert_eq!(agreement.apply(&bring), Ok(false), "known by its origin");
    // New records go on behind those there were.
    let (cluster, boot) = (key(2, 12), Boot(3));
    agreement.apply(&Command::Grant { cluster, to: BY, boot }).unwrap();
    let granted: Vec<_> = agreement.granted_to(BY, boot).collect();
    assert_eq!(granted, [(cluster, 10_000..20_000)]);
}

#[test]
fn another_database_of_the_name_stays_where_it_is_and_everybody_knows() {
    let mut agreement = cluster();
    agreement.apply(&new("found")).unwrap();
    let own = agreement.schema.databases[0].clone();
    let bring = adopt(&alone("found"), BY, ORIGIN);
    assert_eq!(agreement.apply(&bring), Ok(true));
    assert_eq!(agreement.apply(&bring), Ok(false));
    let stray = Stray { server: BY, database: "found".into(), origin: ORIGIN };
    assert_eq!(agreement.schema.strays, [stray]);
    assert_eq!(agreement.schema.databases, [own]);
    let bytes = agreement.schema.encode().unwrap();
    assert_eq!(Schema::decode(&bytes).unwrap(), *agreement.schema);
    let mut cleaned = agreement.clone();
    assert_eq!(cleaned.apply(&Command::ForgetStrays { of: BY }), Ok(true));
    assert_eq!(cleaned.apply(&Command::ForgetStrays { of: BY }), Ok(false));
    // Once the name is free it can come.
    agreement.apply(&Command::DropDatabase { name: "found".into() }).unwrap();
    assert_eq!(agreement.schema.strays, []);
    assert_eq!(agreement.apply(&bring), Ok(true));
    assert_eq!(agreement.schema.databases[0].origin, Some(ORIGIN));
}

#[test]
fn a_copy_of_what_the_founder_had_is_known() {
    let mut agreement = alone("found");
    let enlist = Command::Enlist { name: "n4".into(), node: NodeId(4), address: "d:1".into() };
    agreement.apply(&enlist).unwrap();
    let copy = adopt(&alone("found"), NodeId(4), ORIGIN);
    assert_eq!(agreement.apply(&copy), Ok(false), "though a REPLICA brings nothing");
    assert_eq!(agreement.schema.strays, []);
}

#[test]
fn what_cannot_come_is_refused_in_words_and_changes_nothing() {
    let mut agreement = cluster();
    let before = agreement.clone();
    let replica = agreement.apply(&adopt(&alone("found"), NodeId(4), ORIGIN)).unwrap_err();
    assert_eq!(replica.code, ErrorCode::NotMaster);
    assert!(replica.text.contains("HA SET ROLE n4=MASTER"), "{}", replica.text);
    let flawed = |change: &dyn Fn(&mut Database)| {
        let mut source = alone("found").schema.databases[0].clone();
        change(&mut source);
        let (database, positions) = (Box::new(source), BTreeMap::new());
        cluster().apply(&Command::Adopt { by: BY, origin: ORIGIN, database, positions })
    };
    assert_eq!(flawed(&|_| {}), Ok(true));
    type Change<'a> = &'a dyn Fn(&mut Database);
    let cases: [(Change<'_>, &str); 10] = [
        (&|d| d.clusters[0].id = 3, "cluster number 3 is not legal"),
        (&|d| d.clusters[1].id = 10, "cluster number 10 is not legal"),
        (&|d| d.next_cluster = 13, "cluster number 13 is not legal"),
        (&|d| d.classes[2].clusters.push(99), "cluster 99 of a class does not exist"),
        (&|d| d.indexes[0].class = "No".into(), "class 'No' of an index does not exist"),
        (&|d| d.classes[2].name = "1a".into(), "class name '1a' is not legal"),
        (&|d| d.name = "a/b".into(), "'a/b' is not a legal name"),
        (&|d| d.write_quorum = WriteQuorum::Count(4), "writeQuorum 4 cannot be reached"),
        (&|d| d.write_quorum = WriteQuorum::Count(1), "the writeQuorum 'majority' there"),
        (&|d| d.arriving = Some(Arriving::Coming { by: BY }), "not all of it had come"),
    ];
    for (change, why) in cases {
        let text = flawed(change).unwrap_err().text;
        assert!(text.contains(why), "{text}");
    }
    assert_eq!(agreement, before);
}

#[test]
fn one_that_is_only_coming_can_be_dropped_and_a_server_that_goes_is_waited_for_no_more() {
    let mut agreement = cluster();
    let bring = adopt(&alone("found"), BY, ORIGIN);
    agreement.apply(&bring).unwrap();
    agreement.apply(&Command::DropDatabase { name: "found".into() }).unwrap();
    assert!(agreement.schema.databases.is_empty());
    assert!(agreement.placements().values().all(quorate_protocol::io::Placement::is_closed));
    // What its server remembers of that may be gone: it does not come back.
    assert_eq!(agreement.apply(&bring), Ok(false));
    assert!(agreement.schema.databases.is_empty() && agreement.schema.was_dropped(ORIGIN));
    let bytes = agreement.schema.encode().unwrap();
    assert_eq!(Schema::decode(&bytes).unwrap(), *agreement.schema);

    let other = Origin { number: 2, ..ORIGIN };
    agreement.apply(&adopt(&alone("found"), BY, other)).unwrap();
    let id = agreement.schema.databases[0].id;
    let cover = SessionToken::new();
    agreement.apply(&Command::Brought { database: id, by: BY, cover }).unwrap();
    let mut schema = (*agreement.schema).clone();
    for node in [1, 2, 3, 4] {
        assert!(schema.databases[0].arriving.is_some());
        schema.forget_gone(NodeId(node));
    }
    assert_eq!(schema.databases[0].arriving, None);
    assert_eq!(schema.server(NodeId(4)).map(|server| server.role), Some(Role::Replica));
}

#[test]
fn who_brings_a_database_owns_all_of_it_until_it_is_there() {
    let mut source = alone("found");
    let (database, class, name) = ("found".to_string(), "Item".to_string(), "item_usa".to_string());
    source.apply(&Command::AddCluster { database, class, name, owner: ALONE }).unwrap();
    let mut agreement = cluster();
    agreement.apply(&adopt(&source, BY, ORIGIN)).unwrap();
    let coming = agreement.clone();
    for node in [1, 2, 3].map(NodeId) {
        let to = [1, 2, 3].map(NodeId).into();
        assert!(!agreement.schema.lacks_clusters(node) && !agreement.schema.has_to_move(node));
        for command in [
            Command::AddClusters { to: node },
            Command::MoveOwners { lost: node, to },
            Command::ReturnOwners { back: node },
        ] {
            assert_eq!(agreement.apply(&command), Ok(false), "{command:?}");
        }
    }
    assert_eq!(agreement, coming);
    let brought = Command::Brought { database: 1, by: BY, cover: SessionToken::new() };
    agreement.apply(&brought).unwrap();
    for to in [1, 3].map(NodeId) {
        assert!(agreement.schema.lacks_clusters(to));
        assert_eq!(agreement.apply(&Command::AddClusters { to }), Ok(true));
        assert!(!agreement.schema.lacks_clusters(to));
    }
    assert!(agreement.schema.has_to_move(BY));
}
