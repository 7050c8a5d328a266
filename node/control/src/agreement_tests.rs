//! Commands in a row, and what all of them come to.

use alloc::vec;
use alloc::vec::Vec;

use quorate_api::NodeId;
use quorate_protocol::io::{Report, Stage};

use super::*;
use crate::members::WriteQuorum;
use crate::schema::DatabaseKind;
use crate::settings::{ExecutionMode, NewDatabase, ReadQuorum};

fn bench() -> Agreement {
    let masters = (1..=3).map(|n| (alloc::format!("n{n}"), NodeId(n))).collect();
    let new = NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority);
    let mut agreement = Agreement::default();
    assert_eq!(agreement.apply(&Command::CreateDatabase { new, masters }), Ok(true));
    agreement
}

fn quorum(version: u64, write_quorum: WriteQuorum) -> Command {
    let settings = Settings { write_quorum, ..Settings::default() };
    Command::Reconfigure { database: "bench".into(), version, settings }
}

fn reports(from: u64, of: &[Report]) -> Command {
    Command::Reports { from: NodeId(from), reports: of.to_vec() }
}

/// FEATURES: L7
#[test]
fn another_quorum_is_another_generation_of_every_cluster_with_records() {
    let mut agreement = bench();
    assert_eq!(agreement.apply(&quorum(1, WriteQuorum::All)), Ok(true));
    let database = agreement.schema.database("bench").unwrap().clone();
    assert_eq!((database.version, database.write_quorum), (2, WriteQuorum::All));
    assert_eq!(agreement.changing(1), 6);
    let placements = agreement.placements();
    let changing: Vec<_> = placements.iter().filter(|(_, p)| p.change.is_some()).collect();
    assert_eq!(changing.len(), 6, "tokens are decided by a majority, whatever the quorum");
    let keys: Vec<ClusterKey> = changing.iter().map(|(key, _)| **key).collect();
    // Until that is done there is no other one, and none of a wrong version.
    let busy = agreement.apply(&quorum(2, WriteQuorum::Majority)).unwrap_err();
    assert_eq!(busy.code, ErrorCode::Busy);
    let stale = agreement.apply(&quorum(1, WriteQuorum::Majority)).unwrap_err();
    assert_eq!(stale.code, ErrorCode::VersionConflict);
    assert_eq!(agreement.schema.database("bench").unwrap().version, 2, "refused is unchanged");
    let sealed = |cluster| Report::Sealed { cluster, generation: 1, token: [].into() };
    let synced = |cluster| Report::Synced { cluster, generation: 2 };
    let all = |one: &dyn Fn(ClusterKey) -> Report| keys.iter().map(|k| one(*k)).collect::<Vec<_>>();
    for report in [all(&sealed), all(&synced)] {
        for from in 1..=3 {
            agreement.apply(&reports(from, &report)).unwrap();
        }
    }
    assert_eq!(agreement.apply(&reports(1, &all(&sealed))), Ok(false), "too late");
    let placements = agreement.placements();
    for key in &keys {
        assert_eq!((placements[key].generation, placements[key].write_quorum), (2, 3));
    }
    // A class made now begins with it.
    let (database, name) = ("bench".into(), "Item".into());
    let class = Command::CreateClass { database, name, supers: vec![] };
    assert_eq!(agreement.apply(&class), Ok(true));
    let placements = agreement.placements();
    let item = &placements[&ClusterKey { database: 1, cluster: 16 }];
    assert_eq!((item.generation, item.write_quorum, item.change.is_none()), (1, 3, true));
}

#[test]
fn a_read_quorum_is_no_generation() {
    let mut agreement = bench();
    let before = agreement.placements();
    let read_quorum = ReadQuorum::Majority;
    let execution_mode = ExecutionMode::Asynchronous;
    let settings = Settings { read_quorum, execution_mode, ..Settings::default() };
    let command = Command::Reconfigure { database: "bench".into(), version: 1, settings };
    assert_eq!(agreement.apply(&command), Ok(true));
    assert_eq!(agreement.placements(), before);
    assert_eq!(agreement.schema.database("bench").unwrap().read_quorum, read_quorum);
}

/// Its W cannot be changed, which is no reason to refuse what leaves it.
#[test]
fn a_loose_database_gets_another_read_quorum() {
    let masters = (1..=3).map(|n| (alloc::format!("n{n}"), NodeId(n))).collect();
    let new = NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Count(1));
    let mut agreement = Agreement::default();
    agreement.apply(&Command::CreateDatabase { new, masters }).unwrap();
    let (write_quorum, read_quorum) = (WriteQuorum::Count(1), ReadQuorum::All);
    let settings = Settings { write_quorum, read_quorum, ..Settings::default() };
    let command = Command::Reconfigure { database: "bench".into(), version: 1, settings };
    assert_eq!(agreement.apply(&command), Ok(true));
    assert_eq!(agreement.schema.database("bench").unwrap().read_quorum, read_quorum);
    let safe = agreement.apply(&quorum(2, WriteQuorum::Majority)).unwrap_err();
    assert!(safe.text.contains("below the majority"), "{}", safe.text);
}

/// A report that changes nothing is not worth an entry.
#[test]
fn what_is_known_is_no_news() {
    let mut agreement = bench();
    agreement.apply(&quorum(1, WriteQuorum::All)).unwrap();
    let cluster = ClusterKey { database: 1, cluster: 10 };
    let sealed = Report::Sealed { cluster, generation: 1, token: [].into() };
    assert_eq!(agreement.news(NodeId(2), vec![sealed.clone()]).len(), 1);
    agreement.apply(&reports(2, core::slice::from_ref(&sealed))).unwrap();
    assert_eq!(agreement.news(NodeId(2), vec![sealed]), []);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut agreement = bench();
    let before = agreement.clone();
    for (write_quorum, text) in [
        (WriteQuorum::Count(4), "writeQuorum 4 cannot be reached"),
        (WriteQuorum::Count(1), "is below the majority of its 3 MASTERs"),
    ] {
        let refused = agreement.apply(&quorum(1, write_quorum)).unwrap_err();
        assert!(refused.text.contains(text), "{}", refused.text);
        assert_eq!(refused.code, ErrorCode::BadRequest);
    }
    let unknown = Command::DropDatabase { name: "none".into() };
    assert_eq!(agreement.apply(&unknown).unwrap_err().code, ErrorCode::UnknownDatabase);
    assert_eq!(agreement, before);
}

#[test]
fn it_comes_back_from_its_bytes_in_the_middle_of_a_change() {
    let mut agreement = bench();
    agreement.apply(&quorum(1, WriteQuorum::All)).unwrap();
    let key = ClusterKey { database: 1, cluster: 10 };
    let token = [((NodeId(2), quorate_api::Boot(3)), 7)].into();
    let sealed = Report::Sealed { cluster: key, generation: 1, token };
    for from in [1, 2] {
        let command = reports(from, core::slice::from_ref(&sealed));
        let bytes = serde_json::to_vec(&command).unwrap();
        assert_eq!(serde_json::from_slice::<Command>(&bytes).unwrap(), command);
        agreement.apply(&command).unwrap();
    }
    let bytes = serde_json::to_vec(&agreement).unwrap();
    assert_eq!(serde_json::from_slice::<Agreement>(&bytes).unwrap(), agreement);
    let change = agreement.placements()[&key].change.clone().unwrap();
    assert!(matches!(change.stage, Stage::Transferring { .. }));
}
