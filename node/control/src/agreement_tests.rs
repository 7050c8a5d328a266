//! Commands in a row, and what all of them come to.

use alloc::vec;
use alloc::vec::Vec;

use quorate_api::{Boot, NodeId};
use quorate_protocol::io::{Report, SessionToken, Stage};

use super::*;
use crate::data_centers::{DataCenter, DataCenters};
use crate::members::WriteQuorum;
use crate::schema::DatabaseKind;
use crate::servers::Role;
use crate::settings::{ExecutionMode, NewDatabase, ReadQuorum};

/// Clusters that are on their way to another generation.
fn changing(agreement: &Agreement) -> usize {
    agreement.placements().values().filter(|placement| placement.change.is_some()).count()
}

fn bench() -> Agreement {
    let masters: Vec<_> = (1..=3).map(|n| (alloc::format!("n{n}"), NodeId(n))).collect();
    let new = NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority);
    let mut agreement = Agreement::founded_by(&masters);
    assert_eq!(agreement.apply(&Command::CreateDatabase { new }), Ok(true));
    agreement
}

fn quorum(version: u64, write_quorum: WriteQuorum) -> Command {
    let settings = Settings { write_quorum, ..Settings::default() };
    reconfigure(version, settings)
}

fn reconfigure(version: u64, settings: Settings) -> Command {
    let owners = BTreeMap::new();
    Command::Reconfigure { database: "bench".into(), version, settings, owners }
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
    assert_eq!(agreement.apply(&reconfigure(1, settings)), Ok(true));
    assert_eq!(agreement.placements(), before);
    assert_eq!(agreement.schema.database("bench").unwrap().read_quorum, read_quorum);
}

/// Its W cannot be changed, which is no reason to refuse what leaves it.
#[test]
fn a_loose_database_gets_another_read_quorum() {
    let masters: Vec<_> = (1..=3).map(|n| (alloc::format!("n{n}"), NodeId(n))).collect();
    let new = NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Count(1));
    let mut agreement = Agreement::founded_by(&masters);
    agreement.apply(&Command::CreateDatabase { new }).unwrap();
    let (write_quorum, read_quorum) = (WriteQuorum::Count(1), ReadQuorum::All);
    let settings = Settings { write_quorum, read_quorum, ..Settings::default() };
    assert_eq!(agreement.apply(&reconfigure(1, settings)), Ok(true));
    assert_eq!(agreement.schema.database("bench").unwrap().read_quorum, read_quorum);
    let safe = agreement.apply(&quorum(2, WriteQuorum::Majority)).unwrap_err();
    assert!(safe.text.contains("once every server speaks version 9"), "{}", safe.text);
    // Until then servers of version 8 can read what is agreed on.
    assert!(!serde_json::to_string(&agreement).unwrap().contains("loose"));
    let of = masters.iter().map(|(_, node)| *node).collect();
    agreement.apply(&Command::Raise { level: 9, of }).unwrap();
    assert_eq!(agreement.apply(&quorum(2, WriteQuorum::Majority)), Ok(true));
    let uniting = |agreement: &Agreement| {
        agreement.placements().values().filter(|placement| placement.unites()).count()
    };
    let clusters = agreement.schema.database("bench").unwrap().clusters.len();
    assert!(uniting(&agreement) > 0 && uniting(&agreement) <= clusters);
    let text = serde_json::to_string(&agreement).unwrap();
    assert_eq!(serde_json::from_str::<Agreement>(&text).unwrap(), agreement);
    // The same again changes nothing, and the old one takes it back.
    assert_eq!(agreement.apply(&quorum(3, WriteQuorum::Majority)), Ok(true));
    assert!(uniting(&agreement) > 0);
    assert_eq!(agreement.apply(&quorum(4, WriteQuorum::Count(1))), Ok(true));
    assert_eq!(uniting(&agreement), 0);
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
        (WriteQuorum::Count(1), "once every server speaks version 9"),
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

fn create_class(agreement: &mut Agreement, name: &str) {
    let (database, name) = ("bench".into(), name.into());
    let class = Command::CreateClass { database, name, supers: vec![] };
    assert_eq!(agreement.apply(&class), Ok(true));
}

fn grant(agreement: &mut Agreement, cluster: u32, to: u64, boot: u32) -> Result<bool, Refusal> {
    let cluster = ClusterKey { database: 1, cluster };
    agreement.apply(&Command::Grant { cluster, to: NodeId(to), boot: Boot(boot) })
}

/// What this boot of this server may use of a cluster.
fn granted(agreement: &Agreement, cluster: u32, to: u64, boot: u32) -> Option<Range<u64>> {
    let mut own = agreement.granted_to(NodeId(to), Boot(boot));
    own.find(|(key, _)| key.cluster == cluster).map(|(_, block)| block)
}

/// The first two blocks of one cluster that have a position in common.
fn overlap(blocks: &[(u32, Range<u64>)]) -> Option<[&(u32, Range<u64>); 2]> {
    let mut sorted: Vec<_> = blocks.iter().collect();
    sorted.sort_by_key(|(cluster, block)| (*cluster, block.start));
    let pairs = sorted.windows(2).map(|pair| [pair[0], pair[1]]);
    pairs.into_iter().find(|[(a, one), (b, other)]| a == b && other.start < one.end)
}

/// FEATURES: A4
#[test]
fn blocks_are_granted_to_the_owner_and_to_one_boot_of_it() {
    let mut agreement = bench();
    create_class(&mut agreement, "Item");
    let before = agreement.placements();
    assert_eq!(grant(&mut agreement, 17, 2, 1), Ok(false));
    assert_eq!(granted(&agreement, 17, 2, 1), Some(0..10_000));
    assert_eq!(granted(&agreement, 17, 2, 2), None, "another boot does not go on with it");
    assert_eq!(granted(&agreement, 17, 3, 1), None);
    assert_eq!(grant(&mut agreement, 17, 2, 2), Ok(false));
    assert_eq!(granted(&agreement, 17, 2, 2), Some(10_000..20_000));
    assert_eq!(grant(&mut agreement, 16, 1, 1), Ok(false));
    assert_eq!(granted(&agreement, 16, 1, 1), Some(0..10_000), "clusters count apart");
    assert_eq!(agreement.placements(), before);
    let unchanged = agreement.clone();
    for (cluster, to, code, text) in [
        (17, 3, ErrorCode::NotOwner, "cluster 'item_n2' is owned by 'n2'"),
        (99, 2, ErrorCode::UnknownCluster, "does not exist"),
        (0, 2, ErrorCode::UnknownCluster, "does not exist"),
    ] {
        let refused = grant(&mut agreement, cluster, to, 1).unwrap_err();
        assert!(refused.text.contains(text), "{}", refused.text);
        assert_eq!(refused.code, code);
    }
    assert_eq!(agreement, unchanged);
    let drop = Command::DropClass { database: "bench".into(), name: "Item".into() };
    agreement.apply(&drop).unwrap();
    assert_eq!(granted(&agreement, 17, 2, 2), None, "what was dropped keeps nothing");
    assert_eq!(grant(&mut agreement, 17, 2, 2).unwrap_err().code, ErrorCode::UnknownCluster);
}

/// FEATURES: A4
#[test]
fn a_block_granted_twice_would_be_seen() {
    let mut agreement = bench();
    let mut blocks = Vec::new();
    let old = agreement.clone();
    // Planted: one of the grants is carried out on a state from before the other.
    for state in [&mut agreement, &mut old.clone()] {
        grant(state, 10, 1, 1).unwrap();
        blocks.push((10, granted(state, 10, 1, 1).unwrap()));
    }
    assert_eq!(overlap(&blocks), Some([&(10, 0..10_000), &(10, 0..10_000)]));
    grant(&mut agreement, 10, 1, 1).unwrap();
    blocks[1].1 = granted(&agreement, 10, 1, 1).unwrap();
    assert_eq!(overlap(&blocks), None);
}

/// FEATURES: A4 A7
#[test]
fn whoever_takes_a_cluster_over_goes_on_behind_every_block_granted_before() {
    let mut agreement = bench();
    create_class(&mut agreement, "Item");
    grant(&mut agreement, 17, 2, 1).unwrap();
    let (lost, to) = (NodeId(2), vec![NodeId(1), NodeId(3)]);
    assert_eq!(agreement.apply(&Command::MoveOwners { lost, to: to.clone() }), Ok(true));
    assert_eq!(agreement.apply(&Command::MoveOwners { lost, to }), Ok(false));
    let key = ClusterKey { database: 1, cluster: 17 };
    let heir = agreement.placements()[&key].owner.unwrap().0;
    assert!(heir != 2);
    assert_eq!(grant(&mut agreement, 17, 2, 1).unwrap_err().code, ErrorCode::NotOwner);
    grant(&mut agreement, 17, heir, 1).unwrap();
    assert_eq!(granted(&agreement, 17, heir, 1), Some(10_000..20_000));
    assert_eq!(agreement.apply(&Command::ReturnOwners { back: lost }), Ok(true));
    assert_eq!(agreement.apply(&Command::ReturnOwners { back: lost }), Ok(false));
    assert_eq!(grant(&mut agreement, 17, heir, 1).unwrap_err().code, ErrorCode::NotOwner);
    grant(&mut agreement, 17, 2, 2).unwrap();
    assert_eq!(granted(&agreement, 17, 2, 2), Some(20_000..30_000));
}

proptest::proptest! {
    /// FEATURES: A4
    #[test]
    fn no_position_is_granted_twice(
        steps in proptest::collection::vec((0..10_u8, 1..4_u64, 10..25_u32), 1..60),
    ) {
        let mut agreement = bench();
        let mut boots = [1; 4];
        let mut blocks = Vec::new();
        for (step, (what, server, cluster)) in steps.into_iter().enumerate() {
            let boot = &mut boots[usize::try_from(server).unwrap()];
            match what {
                0 => *boot += 1,
                1 => create_class(&mut agreement, &alloc::format!("C{step}")),
                2 => {
                    let bytes = serde_json::to_vec(&agreement).unwrap();
                    agreement = serde_json::from_slice(&bytes).unwrap();
                }
                3 => {
                    let (lost, to) = (NodeId(server), [1, 2, 3].map(NodeId).to_vec());
                    agreement.apply(&Command::MoveOwners { lost, to }).unwrap();
                }
                4 => {
                    agreement.apply(&Command::ReturnOwners { back: NodeId(server) }).unwrap();
                }
                _ => {
                    if grant(&mut agreement, cluster, server, *boot).is_ok() {
                        let block = granted(&agreement, cluster, server, *boot);
                        blocks.push((cluster, block.unwrap()));
                    }
                }
            }
        }
        proptest::prop_assert_eq!(overlap(&blocks), None);
    }
}

/// A MASTER of the next generation is not made a REPLICA of it, and nobody is there twice.
#[test]
fn a_server_joins_while_generations_change() {
    let mut agreement = bench();
    assert_eq!(agreement.apply(&quorum(1, WriteQuorum::All)), Ok(true));
    let enlist =
        Command::Enlist { name: "n4".into(), node: NodeId(4), address: "127.0.0.1:4".into() };
    assert_eq!(agreement.apply(&enlist), Ok(true));
    assert_eq!(agreement.apply(&enlist), Ok(false), "once");
    let kept = |agreement: &Agreement| {
        let placements = agreement.placements();
        placements.values().all(|p| p.replicas == [NodeId(4)] && p.masters.len() == 3)
    };
    assert!(kept(&agreement) && changing(&agreement) > 0);
    let clusters: Vec<_> = agreement.placements().into_keys().collect();
    for from in 1..=2 {
        let sealed = |cluster: &ClusterKey| Report::Sealed {
            cluster: *cluster,
            generation: 1,
            token: SessionToken::new(),
        };
        agreement.apply(&reports(from, &clusters.iter().map(sealed).collect::<Vec<_>>())).unwrap();
    }
    for from in 1..=2 {
        let synced = |cluster: &ClusterKey| Report::Synced { cluster: *cluster, generation: 2 };
        agreement.apply(&reports(from, &clusters.iter().map(synced).collect::<Vec<_>>())).unwrap();
    }
    assert!(kept(&agreement), "the change has not dropped it");
    assert_eq!(changing(&agreement), 0);
    assert_eq!(agreement.voters().collect::<Vec<_>>(), [1, 2, 3].map(NodeId));
}

/// Servers with these names; `bench` with these data centers, by name with quorum and servers.
fn in_centers(
    servers: u64,
    write_quorum: WriteQuorum,
    centers: &[(&str, WriteQuorum, &[&str])],
) -> Result<Agreement, Refusal> {
    let masters: Vec<_> = (1..=servers).map(|n| (alloc::format!("n{n}"), NodeId(n))).collect();
    let mut new = NewDatabase::new("bench", DatabaseKind::Plocal, write_quorum);
    new.data_centers = data_centers(centers);
    let mut agreement = Agreement::founded_by(&masters);
    agreement.apply(&Command::CreateDatabase { new })?;
    Ok(agreement)
}

fn data_centers(centers: &[(&str, WriteQuorum, &[&str])]) -> DataCenters {
    let center = |(name, write_quorum, servers): &(&str, WriteQuorum, &[&str])| {
        let servers = servers.iter().map(ToString::to_string).collect();
        ((*name).to_string(), DataCenter { write_quorum: *write_quorum, servers })
    };
    centers.iter().map(center).collect()
}

const MAJORITY: WriteQuorum = WriteQuorum::Majority;
const LOCAL: WriteQuorum = WriteQuorum::LocalDataCenter;
const ROME: (&str, WriteQuorum, &[&str]) = ("rome", MAJORITY, &["n1", "n2", "n3"]);

/// FEATURES: A17
#[test]
fn data_centers_decide_by_themselves_where_records_are() {
    let oslo = ("oslo", WriteQuorum::All, &["n4", "n5"][..]);
    let agreement = in_centers(5, LOCAL, &[ROME, oslo]).unwrap();
    let placements = agreement.placements();
    let item = &placements[&ClusterKey { database: 1, cluster: 10 }];
    let rome = item.electorate(NodeId(2));
    assert_eq!((rome.masters, rome.write_quorum), (&[1, 2, 3].map(NodeId)[..], 2));
    let oslo = item.electorate(NodeId(5));
    assert_eq!((oslo.masters, oslo.write_quorum), (&[4, 5].map(NodeId)[..], 2));
    assert_eq!(item.data_centers[&NodeId(4)], "oslo");
    assert!(!item.is_safe());
    assert!(agreement.schema.warning_of(&agreement.schema.databases[0]).is_some());
    let token = &placements[&ClusterKey { database: 1, cluster: 0 }];
    assert!(token.is_safe() && token.local_quorums.is_empty(), "tokens are everybody's");

    // The same with all MASTERs in one of them: a safe cluster of that data center.
    let oslo = ("oslo", WriteQuorum::Majority, &["n8", "n9"][..]);
    let mut agreement = in_centers(3, LOCAL, &[ROME, oslo]).unwrap();
    let item = |agreement: &Agreement| {
        agreement.placements()[&ClusterKey { database: 1, cluster: 10 }].clone()
    };
    let safe = item(&agreement);
    assert_eq!((safe.write_quorum, safe.is_safe(), safe.local_quorums.len()), (2, true, 0));
    assert_eq!(agreement.schema.warning_of(&agreement.schema.databases[0]), None);
    // Who joins there is a REPLICA, with its data center; as MASTER it would decide by itself.
    let (name, address) = ("n8".into(), "d:1".into());
    agreement.apply(&Command::Enlist { name, node: NodeId(8), address }).unwrap();
    assert_eq!(item(&agreement).replicas, [NodeId(8)]);
    assert_eq!(item(&agreement).data_centers[&NodeId(8)], "oslo");
    let role = |server: &str| Command::SetRole { server: server.into(), role: Role::Master };
    let before = agreement.clone();
    let refused = agreement.apply(&role("n8")).unwrap_err();
    assert!(refused.text.contains("below the majority of 4 MASTERs"), "{}", refused.text);
    let (name, address) = ("n7".into(), "d:2".into());
    agreement.apply(&Command::Enlist { name, node: NodeId(7), address }).unwrap();
    let nowhere = agreement.apply(&role("n7")).unwrap_err();
    let words = "database 'bench': Data center not specified for server 'n7'";
    assert!(nowhere.text.starts_with(words), "{}", nowhere.text);
    // Listed first, it may.
    let version = before.schema.databases[0].version + 1;
    let rome = ("rome", MAJORITY, &["n1", "n2", "n3", "n7"][..]);
    let data_centers = data_centers(&[rome, oslo]);
    let settings = Settings { write_quorum: LOCAL, data_centers, ..Settings::default() };
    assert_eq!(agreement.apply(&reconfigure(version, settings)), Ok(true));
    assert_eq!(agreement.apply(&role("n7")), Ok(true));
}

/// FEATURES: A17, S9
#[test]
fn data_centers_change_where_no_quorum_rests_on_them() {
    let oslo = ("oslo", MAJORITY, &["n4", "n5"][..]);
    let mut agreement = in_centers(5, MAJORITY, &[ROME]).unwrap();
    let change = |version, write_quorum, centers: &[(&str, WriteQuorum, &[&str])]| {
        let data_centers = data_centers(centers);
        reconfigure(version, Settings { write_quorum, data_centers, ..Settings::default() })
    };
    assert_eq!(agreement.apply(&change(1, MAJORITY, &[ROME, oslo])), Ok(true));
    assert_eq!(changing(&agreement), 0, "nobody's votes count otherwise");
    for (version, quorum, centers, text) in [
        (2, LOCAL, &[ROME, oslo][..], "below the majority"),
        (2, LOCAL, &[ROME], "Data center not specified for server 'n4'"),
        (2, LOCAL, &[], "is legal with dataCenters only"),
        (2, MAJORITY, &[("rome", MAJORITY, &[])], "Data center 'rome' does not contain any"),
        (1, MAJORITY, &[], "has version 2"),
    ] {
        let before = agreement.clone();
        let refused = agreement.apply(&change(version, quorum, centers)).unwrap_err();
        assert!(refused.text.contains(text), "{}", refused.text);
        assert_eq!(agreement, before);
    }
    let oslo = ("oslo", WriteQuorum::Count(3), &["n4", "n5"][..]);
    let refused = in_centers(5, LOCAL, &[ROME, oslo]).unwrap_err();
    assert!(refused.text.contains("the data center has 2 MASTERs"), "{}", refused.text);
}
