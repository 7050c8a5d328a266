//! Two data centers that decide by themselves are cut from each other, write on, and are merged
//! after the heal as the `dc` resolver says. Real processes; bytes between them wait in the test's
//! hand.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::items::{create, items, path, update};
use support::people::{Answer, ask, done, sql, start_all, stop_all};
use support::wire::Wire;
use support::{Server, request_with, servers_of, until};

/// The first three servers are in Rome, the others in Oslo.
const ROME: usize = 3;

/// What every server begins with.
fn template() -> String {
    json!({
        "writeQuorum": "localDataCenter",
        "readQuorum": 1,
        "readYourWrites": true,
        "dataCenters": {
            "oslo": {"writeQuorum": "all", "servers": ["n4", "n5"]},
            "rome": {"writeQuorum": "majority", "servers": ["n1", "n2", "n3"]},
        },
        "clusters": {"*": {"servers": ["<NEW_NODE>"]}},
    })
    .to_string()
}

/// By server that dials and server that is dialled.
type Wires = BTreeMap<(usize, usize), Wire>;

/// Servers with a wire in each of their links, of a template, with a class `Item`.
fn start(folder: &std::path::Path, chain: &str) -> (Vec<Server>, Wires) {
    let path = folder.join("template.json");
    std::fs::write(&path, template()).unwrap();
    let mut arguments = servers_of(folder, ["n1", "n2", "n3", "n4", "n5"]);
    let mut wires = BTreeMap::new();
    for (from, arguments) in arguments.iter_mut().enumerate() {
        for argument in arguments.iter_mut().filter(|a| a.starts_with("--dial=n")) {
            let digit = argument.as_bytes()["--dial=n".len()];
            wires.insert((from, usize::from(digit - b'1')), Wire::through(argument));
        }
        arguments.push(format!("--default-db-config={}", path.display()));
        arguments.push(format!("--conflict-resolver-chain={chain}"));
    }
    let servers = start_all(&arguments);
    done(&servers[0], "POST", "/database/bench/plocal", "");
    done(&servers[0], "POST", "/class/bench/Item", "");
    for server in &servers {
        until("the class", || ask(server, "GET", "/class/bench/Item", "").status == 200);
        // Each has positions of its own before it is cut off.
        create(server, "first");
    }
    (servers, wires)
}

/// Cuts the servers of different groups off from each other, and waits until all know.
fn split(servers: &[Server], wires: &Wires, is_cut: impl Fn(usize, usize) -> bool) {
    for ((from, to), wire) in wires {
        wire.hold(is_cut(*from, *to));
    }
    for (own, server) in servers.iter().enumerate() {
        for other in (0..servers.len()).filter(|other| *other != own) {
            let shown = if is_cut(own, other) { "NOT_AVAILABLE" } else { "ONLINE" };
            until("the cut in the picture", || state(server, other) == shown);
        }
    }
}

fn state(server: &Server, of: usize) -> String {
    let status = done(server, "GET", "/distributed/node", "");
    status["members"][of]["status"].as_str().unwrap().to_owned()
}

fn between_cities(one: usize, other: usize) -> bool {
    (one < ROME) != (other < ROME)
}

/// What so many servers of its data center as decide there have of a record.
fn content(server: &Server, rid: &str) -> Value {
    let level = [("X-Quorate-Read-Level", "localDataCenter")];
    let answer = request_with(server.address(), "GET", &path(rid), &level, "").unwrap();
    Answer::read(&answer).body["content"].clone()
}

fn same(servers: &[Server]) -> Vec<Value> {
    let mut found = Vec::new();
    until("the same on every server", || {
        let all: Vec<Vec<Value>> = servers.iter().map(items).collect();
        found.clone_from(&all[0]);
        all.windows(2).all(|two| two[0] == two[1])
    });
    found
}

fn unmerged(server: &Server) -> String {
    let text = server.http("GET", "/metrics", "");
    let line = text.lines().find_map(|line| line.strip_prefix("quorate_unmerged "));
    line.unwrap_or_default().to_owned()
}

/// Three of five wrote otherwise, and Oslo wins: that is what was asked for.
///
/// FEATURES: A14, A17, S9
#[test]
fn both_data_centers_write_through_a_cut_and_one_of_them_wins() {
    let folder = tempfile::tempdir().unwrap();
    let (servers, wires) = start(folder.path(), "dc{winner:oslo},majority,content,version");
    let (rome, oslo) = (&servers[0], &servers[ROME]);
    let rids: Vec<String> = (0..3).map(|n| create(rome, &format!("old {n}"))).collect();
    same(&servers);
    for server in &servers {
        let shown = sql(server, "HA STATUS -db");
        let centers = &shown[0]["database"]["dataCenters"];
        assert_eq!(centers["oslo"], json!({"writeQuorum": "all", "servers": ["n4", "n5"]}));
        let text = sql(server, "HA STATUS -db -output=text")[0]["value"].to_string();
        assert!(text.contains("DC(rome)") && text.contains("DATA CENTER CONFIGURATION"), "{text}");
    }

    split(&servers, &wires, between_cities);
    update(rome, &rids[0], "Rome");
    update(oslo, &rids[0], "Oslo");
    update(rome, &rids[1], "Rome alone");
    update(oslo, &rids[2], "Oslo alone");
    let born = create(oslo, "born in Oslo");
    for (server, seen) in servers.iter().zip(["Rome", "Rome", "Rome", "Oslo", "Oslo"]) {
        until("the own side's write", || content(server, &rids[0]) == seen);
    }
    for server in &servers {
        let reached = &sql(server, "HA STATUS -db")[0]["database"]["wQuorum"];
        assert_eq!(reached, true, "each side has its own quorum");
    }

    split(&servers, &wires, |_, _| false);
    for server in &servers {
        until("everything merged", || unmerged(server) == "0");
    }
    let mut rows = Vec::new();
    until("what each side wrote", || {
        rows = same(&servers);
        rows.iter().any(|row| row["@rid"] == born.as_str())
    });
    let of = |rid: &String| rows.iter().find(|row| row["@rid"] == rid.as_str()).unwrap();
    assert_eq!(of(&rids[0])["content"], "Oslo");
    assert_eq!(of(&rids[1])["content"], "Rome alone", "Oslo only lagged");
    assert_eq!(of(&rids[2])["content"], "Oslo alone");
    let lost = sql(rome, "HA CONFLICTS");
    let row = lost.iter().find(|row| row["@rid"] == rids[0].as_str()).unwrap();
    assert_eq!(row["contents"][0]["record"]["content"], "Rome", "{row}");

    // Oslo asks for both of its servers, and all of Rome is no substitute.
    let in_oslo = |one: usize, other: usize| one >= ROME && other >= ROME;
    split(&servers, &wires, in_oslo);
    let record = json!({"@class": "Item", "content": "alone"}).to_string();
    let refused = ask(oslo, "PUT", &path(&rids[0]), &record);
    assert!(refused.code() == "no_quorum" && refused.is_retryable(), "{refused:?}");
    update(rome, &rids[0], "Rome again");
    split(&servers, &wires, |_, _| false);
    until("the last write", || same(&servers).iter().any(|row| row["content"] == "Rome again"));
    stop_all(servers);
}
