//! Servers that are given up while W is below a majority, and databases that are dropped on its way
//! up: what stands in nobody's way then.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_api::{ErrorCode, NodeId};
use quorate_protocol::alignment::Digest;
use quorate_protocol::io::{Placement, Report, SessionToken, Stage as Shown};

use crate::agreement::{Agreement, Refusal};
use crate::command::Command;
use crate::members::WriteQuorum;
use crate::schema::DatabaseKind;
use crate::settings::{NewDatabase, Settings};

/// So many MASTERs of a database with this W.
fn founded(masters: u64, write_quorum: u32) -> Agreement {
    let founders: Vec<_> = (1..=masters).map(|n| (format!("n{n}"), NodeId(n))).collect();
    let mut agreement = Agreement::founded_by(&founders);
    let of = founders.iter().map(|(_, node)| *node).collect();
    agreement.apply(&Command::Raise { level: 9, of }).unwrap();
    let quorum = WriteQuorum::Count(write_quorum);
    let new = NewDatabase::new("bench", DatabaseKind::Plocal, quorum);
    agreement.apply(&Command::CreateDatabase { new }).unwrap();
    agreement
}

fn quorum(version: u64, write_quorum: WriteQuorum) -> Command {
    let settings = Settings { write_quorum, ..Settings::default() };
    let (database, owners) = (String::from("bench"), BTreeMap::new());
    Command::Reconfigure { database, version, settings, owners }
}

fn remove(server: &str, force: bool) -> Command {
    Command::RemoveServer { server: server.into(), force }
}

/// What a server says of a cluster that changes.
fn answer(key: quorate_api::ClusterKey, placement: &Placement) -> Option<Report> {
    let (cluster, generation) = (key, placement.generation);
    let change = placement.change.as_ref()?;
    Some(match &change.stage {
        Shown::Merging { .. } => Report::Merged { cluster, generation },
        Shown::Sealing { .. } => Report::Sealed { cluster, generation, token: SessionToken::new() },
        Shown::Transferring { .. } if change.unites => {
            let (digest, differs) = (Digest(7), false);
            Report::Compared { cluster, generation: generation + 1, digest, differs }
        }
        Shown::Transferring { .. } => Report::Synced { cluster, generation: generation + 1 },
    })
}

/// These servers say once what all clusters ask of them now; true when that changed anything.
fn report(agreement: &mut Agreement, from: &[u64]) -> bool {
    let placements = agreement.placements();
    let said: Vec<Report> =
        placements.iter().filter_map(|(key, placement)| answer(*key, placement)).collect();
    from.iter().fold(false, |changed, node| {
        let reports = Command::Reports { from: NodeId(*node), reports: said.clone() };
        changed | agreement.apply(&reports).unwrap()
    })
}

fn finish(agreement: &mut Agreement, from: &[u64]) {
    while report(agreement, from) {}
}

fn uniting(agreement: &Agreement) -> usize {
    agreement.placements().values().filter(|placement| placement.unites()).count()
}

fn code(outcome: Result<bool, Refusal>) -> ErrorCode {
    outcome.unwrap_err().code
}

/// Its records are in clusters with W below a majority, or were.
fn of_bench(agreement: &Agreement) -> Vec<Placement> {
    let schema = &agreement.schema;
    let database = schema.database("bench").unwrap();
    let keys = database.clusters.iter().map(|cluster| database.key(cluster.id));
    let placements = agreement.placements();
    keys.map(|key| placements[&key].clone()).collect()
}

/// W is on its way up, and waits for one MASTER, which is gone: in each stage.
fn stages() -> Vec<Agreement> {
    let mut agreement = founded(3, 1);
    agreement.apply(&quorum(1, WriteQuorum::Majority)).unwrap();
    let mut stages = Vec::new();
    for _ in 0..3 {
        let mut here = agreement.clone();
        finish(&mut here, &[1, 2]);
        assert!(uniting(&here) > 0, "a majority is not enough");
        stages.push(here);
        report(&mut agreement, &[1, 2, 3]);
    }
    stages
}

/// FEATURES: A13, L7
#[test]
fn what_is_dropped_waits_for_nobody_and_is_in_nobodys_way() {
    for mut agreement in stages() {
        assert_eq!(code(agreement.apply(&remove("n3", false))), ErrorCode::Busy);
        agreement.apply(&Command::DropDatabase { name: "bench".into() }).unwrap();
        assert_eq!(uniting(&agreement), 0);
        finish(&mut agreement, &[1, 2]);
        assert!(agreement.placements().values().all(|placement| placement.change.is_none()));
        assert_eq!(agreement.apply(&remove("n3", false)), Ok(true));
        finish(&mut agreement, &[1, 2]);
        assert_eq!(agreement.apply(&Command::LetGo { node: NodeId(3) }), Ok(true));
    }
}

/// FEATURES: A13, L7
#[test]
fn a_lost_master_is_given_up_while_w_is_below_a_majority() {
    let mut agreement = founded(3, 1);
    let before = agreement.clone();
    assert_eq!(code(agreement.apply(&remove("n3", false))), ErrorCode::BadRequest);
    assert_eq!(agreement, before);
    assert_eq!(agreement.apply(&remove("n3", true)), Ok(true));
    assert!(uniting(&agreement) > 0);
    let left = [NodeId(1), NodeId(2)];
    for placement in of_bench(&agreement) {
        assert_eq!((placement.masters.len(), placement.change.unwrap().masters), (3, left.into()));
    }
    // Another W is for later: the removal would be taken back by it.
    let version = agreement.schema.database("bench").unwrap().version;
    assert_eq!(code(agreement.apply(&quorum(version, WriteQuorum::Majority))), ErrorCode::Busy);
    assert_eq!(code(agreement.apply(&quorum(version, WriteQuorum::Count(1)))), ErrorCode::Busy);
    // Both are needed, and what the lost one says counts for nothing.
    let waiting = uniting(&agreement);
    finish(&mut agreement, &[1, 3]);
    assert_eq!(uniting(&agreement), waiting);
    finish(&mut agreement, &[1, 2]);
    for placement in of_bench(&agreement) {
        let found = (placement.generation, &placement.masters[..], placement.write_quorum);
        assert_eq!((found, placement.change.is_none()), ((2, &left[..], 1), true));
        assert_eq!(placement.loose, [(1, 2)], "both had W below a majority");
    }
    assert_eq!(agreement.apply(&Command::LetGo { node: NodeId(3) }), Ok(true));
    // The other goes as well: of one server one is a majority.
    assert_eq!(agreement.apply(&remove("n2", true)), Ok(true));
    finish(&mut agreement, &[1, 2]);
    assert!(of_bench(&agreement).iter().all(|p| p.masters == [NodeId(1)] && p.is_safe()));
}

/// FEATURES: A13, L7
#[test]
fn a_lost_master_is_given_up_wherever_w_is_on_its_way_up() {
    for mut agreement in stages() {
        assert_eq!(code(agreement.apply(&remove("n3", false))), ErrorCode::Busy);
        assert_eq!(agreement.apply(&remove("n3", true)), Ok(true));
        finish(&mut agreement, &[1, 2]);
        for placement in of_bench(&agreement) {
            let found = (placement.generation, &placement.masters[..], placement.write_quorum);
            assert_eq!(found, (2, &[NodeId(1), NodeId(2)][..], 2));
            assert!(placement.change.is_none() && placement.is_safe());
        }
        assert_eq!(agreement.apply(&Command::LetGo { node: NodeId(3) }), Ok(true));
    }
}

/// What was to be applied before MASTERs compare may be in the log of the one that is given up.
///
/// FEATURES: A13, L7
#[test]
fn those_who_compare_already_seal_again() {
    let mut agreement = stages().pop().unwrap();
    agreement.apply(&remove("n3", true)).unwrap();
    let is_sealing = |placement: &Placement| {
        matches!(placement.change.as_ref().map(|change| &change.stage),
            Some(Shown::Sealing { sealed }) if sealed.is_empty())
    };
    let placements = agreement.placements();
    assert!(placements.values().filter(|placement| placement.unites()).all(is_sealing));
}

/// FEATURES: A13, L7
#[test]
fn two_are_given_up_one_after_the_other() {
    let mut agreement = founded(5, 2);
    agreement.apply(&remove("n5", true)).unwrap();
    finish(&mut agreement, &[1, 2, 3]);
    assert!(uniting(&agreement) > 0, "it waits for the other lost one");
    assert_eq!(code(agreement.apply(&remove("n4", false))), ErrorCode::BadRequest);
    assert_eq!(agreement.apply(&remove("n4", true)), Ok(true));
    finish(&mut agreement, &[1, 2, 3]);
    for placement in of_bench(&agreement) {
        assert_eq!((placement.masters.len(), placement.is_safe()), (3, true));
    }
    for node in [NodeId(4), NodeId(5)] {
        assert_eq!(agreement.apply(&Command::LetGo { node }), Ok(true));
    }
}

/// Whoever was to leave leaves what is dropped meanwhile, too.
///
/// FEATURES: A13, L7
#[test]
fn a_database_is_dropped_while_a_lost_master_is_given_up() {
    for said in 0..3 {
        let mut agreement = founded(3, 1);
        agreement.apply(&remove("n3", true)).unwrap();
        for _ in 0..said {
            report(&mut agreement, &[1, 2]);
        }
        agreement.apply(&Command::DropDatabase { name: "bench".into() }).unwrap();
        assert_eq!(uniting(&agreement), 0);
        finish(&mut agreement, &[1, 2]);
        assert_eq!(agreement.apply(&Command::LetGo { node: NodeId(3) }), Ok(true));
    }
}
