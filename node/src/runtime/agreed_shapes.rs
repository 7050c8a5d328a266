//! What all servers agree on, in bytes, as it was committed: every command, and the state that they
//! leave. A change without a new version fails here, as in `shapes`. Tests only.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect_file;
use quorate_api::{Boot, ClusterKey, NodeId};
use quorate_control::agreement::Agreement;
use quorate_control::command::Command;
use quorate_control::dynamic::NewNodes;
use quorate_control::found::Origin;
use quorate_control::indexes::{IndexKind, NewIndex};
use quorate_control::members::WriteQuorum;
use quorate_control::schema::DatabaseKind;
use quorate_control::servers::Role;
use quorate_control::settings::{ExecutionMode, NewDatabase, ReadQuorum, Settings};
use quorate_control::status::{DatabaseStatus, Setting};
use quorate_control::versions::OLDEST;
use quorate_protocol::chain::Chain;
use quorate_protocol::io::Report;

const DATABASE: u32 = 1;
const OWN: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

/// Commands of every kind that a cluster of the oldest level may see, in an order in which most of
/// them do something.
fn commands() -> Vec<Command> {
    let bench = || "bench".to_owned();
    let (cluster, keys) = (key(10), key(1));
    let new = NewIndex {
        name: "Item.k".into(),
        class: "Item".into(),
        field: "k".into(),
        kind: IndexKind::Unique,
    };
    let settings = Settings {
        write_quorum: WriteQuorum::All,
        read_quorum: ReadQuorum::default(),
        execution_mode: ExecutionMode::default(),
        data_centers: BTreeMap::new(),
        chain: None,
    };
    let (generation, node, boot) = (1, NodeId(4), Boot(1));
    let report = Report::Synced { cluster, generation };
    vec![
        Command::CreateDatabase {
            new: NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority),
        },
        Command::CreateClass { database: bench(), name: "Item".into(), supers: vec!["V".into()] },
        Command::CreateClass { database: bench(), name: "Gone".into(), supers: vec![] },
        Command::DropClass { database: bench(), name: "Gone".into() },
        Command::CreateIndex { database: bench(), new: new.clone() },
        Command::IndexFilled { index: keys, by: OWN },
        Command::IndexFailed { index: keys, reasons: vec!["#10:0 and #10:1".into()] },
        Command::DropIndex { database: bench(), name: new.name },
        Command::Grant { cluster, to: OWN, boot },
        Command::Enlist { name: "n4".into(), node, address: "127.0.0.1:4".into() },
        Command::Announce { node: OWN, address: "127.0.0.1:1".into() },
        Command::MoveOwners { lost: OTHER, to: vec![OWN] },
        Command::ReturnOwners { back: OTHER },
        Command::SetRole { server: "n4".into(), role: Role::Master },
        Command::Reports { from: OWN, reports: vec![report] },
        Command::AddClusters { to: OTHER },
        Command::Reconfigure { database: bench(), version: 2, settings, owners: BTreeMap::new() },
        Command::RemoveServer { server: "n3".into(), force: false },
        Command::LetGo { node: NodeId(3) },
        Command::DropDatabase { name: "other".into() },
    ]
}

const fn key(cluster: u32) -> ClusterKey {
    ClusterKey { database: DATABASE, cluster }
}

/// Those who are agreed on, and every command with what became of it, a line each.
fn history(commands: &[Command]) -> String {
    let founders: Vec<(String, NodeId)> = (1..=3).map(|n| (format!("n{n}"), NodeId(n))).collect();
    let mut agreement = Agreement::founded_by(&founders);
    let mut lines = Vec::new();
    for command in commands {
        let outcome = agreement.apply(command).map_err(|refusal| refusal.text);
        lines.push(format!("{}\n  {outcome:?}", serde_json::to_string(command).unwrap()));
    }
    lines.push(serde_json::to_string(&agreement).unwrap());
    lines.join("\n") + "\n"
}

/// The word that stands for a kind of command; a new one is to be added to the list above.
fn kind(command: &Command) -> String {
    let json = serde_json::to_value(command).unwrap();
    json.as_object().unwrap().keys().next().unwrap().clone()
}

#[test]
fn what_is_agreed_on_is_written_as_before() {
    let commands = commands();
    let kinds: BTreeSet<String> = commands.iter().map(kind).collect();
    // A misspelt command is refused in words that list all there are.
    let all = serde_json::from_str::<Command>(r#"{"?":{}}"#).unwrap_err().to_string();
    let listed: BTreeSet<String> = all.split('`').skip(3).step_by(2).map(str::to_owned).collect();
    let later = ["raise", "addCluster", "setOwner", "adopt", "brought", "arrived", "forgetStrays"];
    let later = later.into_iter().chain(["removeAbsent", "set"]).map(str::to_owned);
    assert_eq!(listed, kinds.into_iter().chain(later).collect());
    expect_file!["./shapes/agreed-8.txt"].assert_eq(&history(&commands));
    expect_file!["./shapes/agreed-9-adds.txt"].assert_eq(&history(&later_commands()));
    expect_file!["./shapes/agreed-9-dynamic.txt"].assert_eq(&history(&dynamic_commands()));
    expect_file!["./shapes/agreed-9-set.txt"].assert_eq(&history(&set_commands()));
}

/// Several settings at once, since version 9.
fn set_commands() -> [Command; 3] {
    let of = [NodeId(1), NodeId(2), NodeId(3)].into();
    let (database, server) = ("bench".to_owned(), || "n2".to_owned());
    let settings = vec![
        Setting::Status { server: server(), status: DatabaseStatus::Offline },
        Setting::Status { server: "n1".into(), status: DatabaseStatus::Online },
        Setting::Role { server: "n3".into(), role: Role::Replica },
        Setting::Owner { cluster: "v".into(), server: server() },
    ];
    [
        Command::Raise { level: OLDEST + 1, of },
        Command::CreateDatabase {
            new: NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority),
        },
        Command::Set { database, settings },
    ]
}

/// Those of servers that count while they are there, since version 9.
fn dynamic_commands() -> [Command; 3] {
    let new = NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority);
    let new_nodes = NewNodes::Dynamic(["n1".to_owned()].into());
    let of = [NodeId(1), NodeId(2), NodeId(3)].into();
    [
        Command::Raise { level: OLDEST + 1, of },
        Command::CreateDatabase { new: NewDatabase { new_nodes, ..new } },
        Command::RemoveAbsent { node: NodeId(3), revision: 1 },
    ]
}

/// All others that there are since then.
fn later_commands() -> Vec<Command> {
    let of = [NodeId(1), NodeId(2), NodeId(3)].into();
    let new = |name| NewDatabase::new(name, DatabaseKind::Plocal, WriteQuorum::Majority);
    let (database_name, class) = ("bench".to_owned(), "Item".to_owned());
    let mut alone = Agreement::founded_by(&[("n2".to_owned(), NodeId(9))]);
    alone.apply(&Command::CreateDatabase { new: new("found") }).unwrap();
    let adopt = |number| Command::Adopt {
        by: OTHER,
        origin: Origin { server: NodeId(9), number },
        database: Box::new(alone.schema.databases[0].clone()),
        positions: [(10, 20_000)].into(),
    };
    let cover = [((OTHER, Boot(1)), 7)].into();
    vec![
        Command::Raise { level: OLDEST + 1, of },
        Command::CreateDatabase { new: new("bench") },
        Command::CreateClass {
            database: database_name.clone(),
            name: class.clone(),
            supers: vec![],
        },
        Command::AddCluster {
            database: database_name.clone(),
            class,
            name: "item_usa".into(),
            owner: OWN,
        },
        Command::SetOwner {
            database: database_name,
            cluster: "item_usa".into(),
            server: "n2".into(),
        },
        Command::Reconfigure {
            database: "bench".to_owned(),
            version: 4,
            settings: Settings { chain: Some(Chain::default()), ..Settings::default() },
            owners: BTreeMap::new(),
        },
        adopt(3),
        Command::DropDatabase { name: "found".into() },
        adopt(1),
        adopt(2),
        Command::ForgetStrays { of: OTHER },
        adopt(2),
        Command::Brought { database: 3, by: OTHER, cover },
        Command::Arrived { database: 3, at: OTHER },
        Command::RemoveServer { server: "n3".into(), force: true },
    ]
}
