//! `HA STATUS` and the reads below `/distributed`: shapes, tables, refusals.

use quorate_api::NodeId;
use serde_json::{Value, json};

use super::Setup;
use super::fake::NOW_MS;
use crate::http::members::{Addendum, Bulletin, Latency, Phase, Progress, Toward};

/// Three servers that have told of themselves, except the third, which this one once met.
async fn told() -> Setup {
    let setup = Setup::bench().await;
    let toward = |name: &str, us: u64, messages| {
        let mut latency = Latency::default();
        latency.add(us);
        latency.add(3 * us);
        (name.to_owned(), Toward { latency, messages })
    };
    let own = Bulletin {
        http: Some("127.0.0.1:2480".parse().unwrap()),
        peer: Some("127.0.0.1:2434".parse().unwrap()),
        started_ms: NOW_MS - 60_000,
        connections: 2,
        memory: 192 << 20,
        memory_max: 4 << 30,
        databases: vec!["bench".to_owned(), "other".to_owned()],
        lags: [(NodeId(3), 8)].into(),
        toward: [toward("n2", 250, 40), toward("n3", 1_000, 7)].into(),
        ..Bulletin::default()
    };
    let second = Bulletin {
        http: Some("127.0.0.1:2481".parse().unwrap()),
        started_ms: NOW_MS - 86_400_000,
        memory: 1_000,
        databases: vec!["bench".to_owned()],
        lags: [(NodeId(3), 4)].into(),
        toward: [toward("n1", 300, 30)].into(),
        ..Bulletin::default()
    };
    setup.fake.hear("n1", own, [].into());
    setup.fake.hear("n2", second, [("vote", 30), ("low", 2)].into());
    setup
}

async fn text(setup: &Setup, options: &str) -> String {
    let rows = setup.sql(&format!("HA STATUS {options} -output=text")).await;
    assert_eq!(rows.len(), 1);
    rows[0]["value"].as_str().unwrap().to_owned()
}

/// FEATURES: A20, S11
#[tokio::test]
async fn tables_are_as_documented() {
    let setup = told().await;
    let expected = include_str!("ha_status.txt");
    let all = text(&setup, "").await;
    assert_eq!(all, expected.trim_end(), "\n{all}");
    let mut parts = Vec::new();
    for part in ["-servers", "-db", "-latency", "-messages"] {
        parts.push(text(&setup, part).await);
    }
    assert_eq!(parts.join("\n\n"), all);
}

/// FEATURES: A20, S11
#[tokio::test]
async fn every_part_is_there_in_the_originals_shape() {
    let setup = told().await;
    let rows = setup.sql("HA STATUS").await;
    let [row] = &rows[..] else { panic!("{rows:?}") };
    let servers = &row["servers"];
    assert_eq!(
        (&servers["localName"], &servers["localId"]),
        (&json!("n1"), &json!("0000000000000001"))
    );
    let [own, second, third] = &servers["members"].as_array().unwrap()[..] else { panic!("{row}") };
    assert_eq!(own["status"], "ONLINE");
    assert_eq!(own["startedOn"], "2026-11-23 01:01:03");
    assert_eq!(own["connections"], 2);
    assert_eq!(
        (&own["usedMemory"], &own["freeMemory"], &own["maxMemory"]),
        (&json!(192 << 20), &json!((4_u64 << 30) - (192 << 20)), &json!(4_u64 << 30))
    );
    assert_eq!(
        own["listeners"],
        json!([
            {"protocol": "quorate", "listen": "127.0.0.1:2434"},
            {"protocol": "ONetworkProtocolHttpDb", "listen": "127.0.0.1:2480"},
        ])
    );
    assert_eq!(
        own["latencies"]["n2"],
        json!({
            "entries": 2, "last": 750_000, "min": 250_000, "max": 750_000, "average": 500_000,
            "total": 1_000_000,
        })
    );
    assert_eq!(own["databases"][1], json!({"name": "other", "status": "ONLINE", "role": "MASTER"}));
    assert_eq!(second["messages"], json!({"low": 2, "vote": 30}));
    assert_eq!((&own["decisionsBehind"], &third["decisionsBehind"]), (&json!(0), &json!(12)));
    assert_eq!(third["status"], "NOT_AVAILABLE");
    assert_eq!((&third["databases"], &third["startedOn"]), (&Value::Null, &Value::Null));
    let database = &row["database"];
    assert_eq!((&database["name"], &database["wQuorum"]), (&json!("bench"), &json!(true)));
    assert_eq!(database["status"], json!({"n1": "ONLINE", "n2": "ONLINE", "n3": "NOT_AVAILABLE"}));
    assert_eq!(database["clusters"]["item_n2"]["servers"], json!(["n2", "n1", "n3"]));
    assert!(row["latency"].as_str().unwrap().starts_with("REPLICATION LATENCY AVERAGE"));
    assert!(row["messages"].as_str().unwrap().starts_with("REPLICATION MESSAGE COUNTERS"));
    let rows = setup.sql("HA STATUS -db").await;
    assert_eq!(rows[0].as_object().unwrap().keys().collect::<Vec<_>>(), ["database"]);
}

/// FEATURES: S10, L9
#[tokio::test]
async fn every_server_shows_how_far_a_copy_is_and_since_when_others_lack_something() {
    let setup = told().await;
    let progress = Progress {
        phase: Phase::Copying,
        database: Some("bench".to_owned()),
        source: Some(NodeId(1)),
        items: 450,
        items_there: 1_000,
        bytes: 12 << 20,
        took_ms: 3_000,
    };
    let addendum = |behind_ms, progress| Addendum { speaks: 9, behind_ms, progress };
    let own = addendum([(NodeId(3), 340)].into(), None);
    let second = addendum([(NodeId(3), 1_250)].into(), Some(progress));
    for (name, addendum) in [("n1", own), ("n2", second)] {
        let lags = [(NodeId(3), 6)].into();
        setup.fake.hear(name, Bulletin { addendum, lags, ..Bulletin::default() }, [].into());
    }
    let rows = setup.sql("HA STATUS").await;
    let members = &rows[0]["servers"]["members"];
    assert_eq!(
        members[1]["progress"],
        json!({
            "phase": "copying", "database": "bench", "from": "n1", "percent": 45, "items": 450,
            "bytes": 12 << 20, "bytesPerSecond": 4 << 20, "tookMs": 3_000,
        })
    );
    assert_eq!((&members[0]["progress"], &members[1]["speaks"]), (&Value::Null, &json!(9)));
    assert_eq!((&members[1]["behindMs"], &members[2]["behindMs"]), (&json!(0), &json!(1_250)));
    let table = text(&setup, "-servers").await;
    assert!(table.contains("copying bench from n1: 45% 12.00MB, 4.00MB/s"), "{table}");
    assert!(table.contains("12 for 1.25s"), "{table}");
}

/// FEATURES: A20
#[tokio::test]
async fn the_quorum_is_reachable_while_enough_servers_are_online_with_the_database() {
    let setup = told().await;
    for (quorum, reachable) in [("1", true), ("2", true), ("3", false), ("\"all\"", false)] {
        setup.send("DELETE", "/database/other", "").await;
        let body = format!(r#"{{"writeQuorum":{quorum}}}"#);
        setup.send("POST", "/database/other/plocal", &body).await.expect(200);
        let rows = setup.send("POST", "/command/other/sql", "HA STATUS -db").await.expect(200);
        // The second server does not have it.
        let expected = reachable && quorum == "1";
        assert_eq!(rows.json()["result"][0]["database"]["wQuorum"], expected, "{quorum}");
    }
    assert!(text(&setup, "-db").await.contains("[wQuorum: true]"));
}

/// FEATURES: A20
#[tokio::test]
async fn it_changes_nothing_and_may_be_asked_by_get() {
    let setup = told().await;
    for path in ["/command/bench/sql/HA%20STATUS", "/query/bench/sql/ha%20status%20-servers"] {
        let answer = setup.send("GET", path, "").await.expect(200).json();
        assert_eq!(answer["result"][0]["servers"]["members"].as_array().unwrap().len(), 3);
    }
    let token = [("x-quorate-transaction-token", "0:1")];
    let answer = setup.send_with("POST", "/command/bench/sql", &token, "HA STATUS").await;
    answer.fails(400, "bad_request", "failed");
    for (sql, word) in
        [("HA STATUS -locks", "-locks (no"), ("HA SYNC DATABASE -full", "a whole copy")]
    {
        let answer = setup.send("POST", "/command/bench/sql", sql).await;
        let text = answer.fails(501, "unsupported", "failed");
        assert!(text.contains(word), "{text}");
    }
    let answer = setup.send("POST", "/command/none/sql", "HA STATUS").await;
    answer.fails(404, "unknown_database", "failed");
}

/// FEATURES: A21, S11
#[tokio::test]
async fn servers_and_numbers_are_read_below_distributed() {
    let setup = told().await;
    let node = setup.send("GET", "/distributed/node", "").await.expect(200).json();
    assert_eq!((&node["localName"], &node["members"][2]["name"]), (&json!("n1"), &json!("n3")));
    let stats = setup.send("GET", "/distributed/stats", "").await.expect(200).json();
    assert_eq!(stats["clusterStats"]["n1"]["connections"], 2);
    assert_eq!(stats["clusterStats"]["n2"]["sent"], json!({"n1": 30}));
    assert_eq!(stats["clusterStats"]["n3"], json!({"messages": {}}));
    assert_eq!(stats["databasesStatus"]["bench"]["n3"], "NOT_AVAILABLE");
    let one = setup.send("GET", "/distributed/stats/n2", "").await.expect(200).json();
    assert_eq!(one["clusterStats"].as_object().unwrap().keys().collect::<Vec<_>>(), ["n2"]);
    setup.send("GET", "/distributed/stats/n9", "").await.fails(404, "not_found", "failed");
    let stranger = [("authorization", "Basic bm9ib2R5Om5vdGhpbmc=")];
    for path in ["/distributed/node", "/distributed/stats"] {
        let answer = setup.send_with("GET", path, &stranger, "").await;
        answer.fails(401, "unauthorized", "failed");
        let answer = setup.send("POST", path, "").await;
        answer.fails(405, "unknown_route", "failed");
    }
}

/// FEATURES: S1
#[tokio::test]
async fn a_server_that_stands_alone_has_no_cluster_to_tell_of() {
    let setup = told().await;
    setup.fake.stand_alone();
    let answer = setup.send("POST", "/command/bench/sql", "HA STATUS").await;
    let text = answer.fails(400, "bad_request", "failed");
    assert_eq!(text, "OrientDB is not started in distributed mode");
    let node = setup.send("GET", "/distributed/node", "").await.expect(200).json();
    let [own] = &node["members"].as_array().unwrap()[..] else { panic!("{node}") };
    assert_eq!((&own["name"], &own["status"]), (&json!("n1"), &json!("ONLINE")));
}

/// FEATURES: S11
#[tokio::test]
async fn who_was_never_met_is_offline() {
    let setup = told().await;
    setup.fake.starting(true);
    let servers = setup.send("GET", "/distributed/node", "").await.expect(200).json();
    let states: Vec<_> = (0..3).map(|i| servers["members"][i]["status"].clone()).collect();
    assert_eq!(states, ["STARTING", "STARTING", "OFFLINE"]);
    assert_eq!(servers["members"][2]["id"], Value::Null);
}
