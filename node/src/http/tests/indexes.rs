//! Indexes over HTTP: made, filled, kept by every way of writing, used by queries.

use std::sync::Arc;

use quorate_api::{ErrorCode, NodeId, OpKind};
use serde_json::{Value, json};

use super::Setup;
use crate::http::backend::Backend;
use crate::index::{key, worker};

/// Database `bench` with class Item #16, and the tasks of two servers that fill indexes.
async fn setup() -> Setup {
    let setup = Setup::bench().await;
    for node in [1, 2] {
        tokio::spawn(worker::run(setup.fake.as_node(NodeId(node)), Arc::default()));
    }
    setup
}

fn names(rows: &[Value]) -> Vec<Value> {
    rows.iter().map(|row| row["name"].clone()).collect()
}

async fn lookups(setup: &Setup) -> u64 {
    let metrics = setup.send("GET", "/metrics", "").await.expect(200).text();
    let line = metrics.lines().find_map(|l| l.strip_prefix("quorate_index_lookups_total "));
    line.unwrap().parse().unwrap()
}

/// FEATURES: L6
#[tokio::test]
async fn a_unique_index_holds_whichever_way_records_come() {
    let setup = setup().await;
    setup.sql("CREATE CLASS Sub EXTENDS Item").await;
    setup.sql("INSERT INTO Item (k, name) VALUES (1, 'one'), (null, 'none'), (2, 'two')").await;
    let made = setup.sql("CREATE INDEX Item.k UNIQUE").await;
    assert_eq!(made[0]["operation"], "create index");
    let class = setup.send("GET", "/class/bench/Item", "").await.expect(200).json();
    assert_eq!(class["indexes"][0]["state"], "ready");
    for (method, path, body) in [
        ("POST", "/document/bench", r#"{"@class":"Sub","k":1.0}"#),
        ("PUT", "/document/bench/16:2", r#"{"k":1}"#),
        ("PATCH", "/document/bench/16:1", r#"{"k":2}"#),
        ("POST", "/command/bench/sql", "INSERT INTO Item (k) VALUES (7), (7)"),
        ("POST", "/command/bench/sql", "UPDATE Item SET k = 1"),
        (
            "POST",
            "/batch/bench",
            r#"{"transaction":true,"operations":[{"type":"c","record":{"@class":"Item","k":2}}]}"#,
        ),
    ] {
        let refused = setup.send(method, path, body).await;
        assert_eq!(refused.error()["retryable"], false);
        let text = refused.fails(500, "duplicate_key", "failed");
        assert!(text.contains("in index 'Item.k' previously assigned"), "{text}");
    }
    let list = setup.send("POST", "/document/bench", r#"{"@class":"Item","k":[1]}"#).await;
    list.fails(400, "bad_request", "failed");
    // No key for null, any number of times; a key that was released is free again.
    setup.sql("INSERT INTO Item (name) VALUES ('a'), ('b')").await;
    setup.sql("DELETE FROM #16:0").await;
    setup.sql("INSERT INTO Sub SET k = 1, name = 'again'").await;
    assert_eq!(names(&setup.sql("SELECT FROM Item WHERE k = 1").await), ["again"]);
}

#[tokio::test]
async fn a_key_moves_between_records_in_one_update() {
    let setup = setup().await;
    setup.sql("INSERT INTO Item (k, name) VALUES (1, 'one'), (2, 'two')").await;
    setup.sql("CREATE INDEX Item.k UNIQUE").await;
    let swap = r##"{"transaction":true,"operations":[
        {"type":"u","record":{"@rid":"#16:0","@version":1,"k":2,"name":"one"}},
        {"type":"u","record":{"@rid":"#16:1","k":1,"name":"two"}}]}"##;
    setup.send("POST", "/batch/bench", swap).await.expect(200);
    let kinds: Vec<OpKind> = setup.fake.last_submitted().iter().map(|p| p.kind.clone()).collect();
    assert_eq!(kinds, [const { OpKind::Update }; 4]);
    assert_eq!(names(&setup.sql("SELECT FROM Item WHERE k = 1").await), ["two"]);
    let hand_over = r##"{"transaction":true,"operations":[
        {"type":"d","record":{"@rid":"#16:0"}},
        {"type":"c","record":{"@class":"Item","k":2,"name":"new"}}]}"##;
    setup.send("POST", "/batch/bench", hand_over).await.expect(200);
    assert_eq!(setup.fake.last_submitted().len(), 3, "released and claimed at once");
    assert_eq!(names(&setup.sql("SELECT FROM Item WHERE k = 2").await), ["new"]);
}

#[tokio::test]
async fn filling_is_counted_and_begun_again() {
    let setup = Setup::bench().await;
    let hurry = [("x-quorate-deadline-ms", "1")];
    let sql = "CREATE INDEX Item.k NOTUNIQUE";
    let late = setup.send_with("POST", "/command/bench/sql", &hurry, sql).await;
    late.fails(500, "deadline", "unknown");
    setup.fake.fail(ErrorCode::NoQuorum);
    let counters: Arc<worker::Counters> = Arc::default();
    for node in [1, 2] {
        tokio::spawn(worker::run(setup.fake.as_node(NodeId(node)), Arc::clone(&counters)));
    }
    let mut changes = setup.fake.changes();
    loop {
        let class = setup.send("GET", "/class/bench/Item", "").await.expect(200).json();
        if class["indexes"][0]["state"] == "ready" {
            break;
        }
        changes.changed().await.unwrap();
    }
    let counts = [&counters.filled, &counters.impossible, &counters.setbacks].map(|c| c.get());
    assert_eq!(counts, [2, 0, 1]);
    setup.sql("INSERT INTO Item SET u = 1").await;
    setup.sql("INSERT INTO Item SET u = 1").await;
    let refused = setup.send("POST", "/command/bench/sql", "CREATE INDEX Item.u UNIQUE").await;
    refused.fails(500, "duplicate_key", "failed");
    assert!(counters.impossible.get() > 0);
}

#[tokio::test]
async fn an_index_over_duplicates_fails_and_says_which() {
    let setup = setup().await;
    setup.sql("INSERT INTO Item (k) VALUES (1), (2), (1)").await;
    let refused = setup.send("POST", "/command/bench/sql", "CREATE INDEX Item.k UNIQUE").await;
    let text = refused.fails(500, "duplicate_key", "failed");
    assert!(text.contains("#16:0 and #16:2 have one key"), "{text}");
    // Nobody keeps it any more, and it makes room.
    setup.sql("INSERT INTO Item SET k = 1").await;
    setup.sql("DELETE FROM Item WHERE k = 1").await;
    setup.sql("CREATE INDEX Item.k UNIQUE").await;
    let again = setup.send("POST", "/command/bench/sql", "CREATE INDEX Item.k UNIQUE").await;
    again.fails(500, "index_exists", "failed");
    setup.sql("CREATE INDEX Item.k IF NOT EXISTS UNIQUE").await;
    setup.sql("DROP INDEX Item.k").await;
    setup.sql("INSERT INTO Item SET k = 2").await;
    let gone = setup.send("POST", "/command/bench/sql", "DROP INDEX Item.k").await;
    gone.fails(404, "unknown_index", "failed");
    setup.sql("DROP INDEX Item.k IF EXISTS").await;
}

#[tokio::test]
async fn equality_queries_use_an_index() {
    let setup = setup().await;
    setup.sql("CREATE CLASS Sub EXTENDS Item").await;
    let rows: Vec<String> = (0..200).map(|n| format!("({n}, 'g{}', 'n{n}')", n % 10)).collect();
    setup.sql(&format!("INSERT INTO Item (k, g, name) VALUES {}", rows.join(","))).await;
    setup.sql("INSERT INTO Sub SET k = 500, g = 'g1', name = 'sub'").await;
    let scan = setup.sql("EXPLAIN SELECT FROM Item WHERE k = 5").await;
    let step = |rows: &[Value]| rows[0]["executionPlan"]["steps"][0].clone();
    assert_eq!(step(&scan)["type"], "FetchFromClusterExecutionStep");
    let queries = [
        "SELECT FROM Item WHERE k = 5",
        "SELECT FROM Item WHERE 5.0 = k AND name = 'n5'",
        "SELECT FROM Item WHERE k = 5 AND name = 'other'",
        "SELECT FROM Item WHERE g = 'g1' ORDER BY name DESC LIMIT 3",
        "SELECT FROM Sub WHERE g = 'g1'",
        "SELECT FROM Sub WHERE k = 5",
        "SELECT count(*) FROM Item WHERE g = 'g2'",
    ];
    let mut before = Vec::new();
    for query in queries {
        before.push(setup.sql(query).await);
    }
    setup.sql("CREATE INDEX Item.k UNIQUE").await;
    setup.sql("CREATE INDEX byGroup ON Item (g) NOTUNIQUE").await;
    assert_eq!(lookups(&setup).await, 0);
    for (query, before) in queries.iter().zip(&before) {
        let explained = setup.sql(&format!("EXPLAIN {query}")).await;
        assert_eq!(step(&explained)["type"], "FetchFromIndexStep", "{query}");
        assert_eq!(&setup.sql(query).await, before, "{query}");
    }
    assert_eq!(lookups(&setup).await, 2 * queries.len() as u64);
    for query in [
        "SELECT FROM Item WHERE k = 5 OR g = 'g1'",
        "SELECT FROM Item WHERE NOT (k = 5) LIMIT 1",
        "SELECT FROM Item WHERE k > 5 LIMIT 1",
        "SELECT FROM V WHERE k = 5",
    ] {
        let explained = setup.sql(&format!("EXPLAIN {query}")).await;
        assert_eq!(step(&explained)["type"], "FetchFromClusterExecutionStep", "{query}");
    }
    let majority = [("x-quorate-read-level", "majority")];
    let by_key = "SELECT FROM Item WHERE k = 5";
    let found = setup.send_with("POST", "/command/bench/sql", &majority, by_key).await;
    assert_eq!(found.expect(200).json()["result"][0]["name"], "n5");
}

#[tokio::test]
async fn a_writer_that_meets_another_starts_over_by_itself() {
    let setup = setup().await;
    setup.sql("CREATE INDEX Item.k UNIQUE").await;
    let busy = |code| setup.fake.fail(code);
    busy(ErrorCode::SchemaChanged);
    let made = setup.send("POST", "/document/bench", r#"{"@class":"Item","k":1}"#).await;
    // The first attempt's position stays a hole.
    assert_eq!(made.expect(201).json()["@rid"], "#16:1");
    // A version that the client names is its own business.
    let stale = r#"{"@version":9,"k":2}"#;
    let conflict = setup.send("PUT", "/document/bench/16:1", stale).await;
    conflict.fails(409, "version_conflict", "failed");
    busy(ErrorCode::Overload);
    let full = setup.send("POST", "/document/bench", r#"{"@class":"Item","k":3}"#).await;
    assert_eq!(full.header("retry-after"), "1");
    full.fails(503, "overload", "failed");
    let rows = setup.sql("SELECT k FROM Item").await;
    assert_eq!(rows, [json!({"k": 1})]);
}

#[tokio::test]
async fn a_batch_begun_on_an_older_schema_starts_over_on_the_newer_one() {
    let setup = setup().await;
    setup.sql("INSERT INTO Item SET k = 1").await;
    let old = setup.fake.schema();
    setup.sql("CREATE INDEX Item.k UNIQUE").await;
    setup.sql("CREATE CLASS Other").await;
    setup.fake.apply_old_schema(old);
    // The first operation needs nothing read as far as this server knows, the second a class that
    // it does not know yet.
    let batch = r##"{"transaction":true,"operations":[
        {"type":"u","record":{"@rid":"#16:0","k":2}},
        {"type":"c","record":{"@class":"Other"}}]}"##;
    let (answer, ()) = tokio::join!(setup.send("POST", "/batch/bench", batch), async {
        setup.fake.schema_is_waited_for().await;
        setup.fake.apply_schema();
    });
    answer.expect(200);
    setup.sql("INSERT INTO Item SET k = 1").await;
    let twice = setup.send("POST", "/document/bench", r#"{"@class":"Item","k":2}"#).await;
    twice.fails(500, "duplicate_key", "failed");
}

#[tokio::test]
async fn an_index_that_only_others_know_yet_is_no_second_one() {
    let setup = setup().await;
    let old = setup.fake.schema();
    setup.sql("CREATE INDEX Item.k UNIQUE").await;
    let applied = setup.fake.schema();
    setup.fake.apply_old_schema(old);
    let made = setup.sql("CREATE INDEX Item.k IF NOT EXISTS UNIQUE").await;
    assert_eq!(made[0]["name"], "Item.k");
    assert_eq!(setup.fake.schema(), applied);
}

#[tokio::test]
async fn attributes_are_no_fields() {
    let setup = setup().await;
    setup.sql("INSERT INTO Item SET k = 1").await;
    for statement in [
        "UPDATE Item SET `@rid` = '#16:5'",
        "UPDATE Item SET k = 2, `@class` = 'V'",
        "UPDATE Item SET `@version` = 9",
        "UPDATE #16:0 SET `@type` = 'd'",
        "CREATE INDEX byClass ON Item (`@class`) UNIQUE",
        "CREATE INDEX byRid ON Item (`@rid`) NOTUNIQUE",
    ] {
        let refused = setup.send("POST", "/command/bench/sql", statement).await;
        let text = refused.fails(400, "bad_request", "failed");
        assert!(text.contains("'@"), "{text}");
    }
    let read = setup.send("GET", "/document/bench/16:0", "").await.expect(200).text();
    assert_eq!(read, r##"{"@type":"d","@rid":"#16:0","@version":1,"@class":"Item","k":1}"##);
}

#[tokio::test]
async fn a_key_that_moves_while_it_is_looked_up_is_found() {
    let setup = setup().await;
    setup.sql("CREATE CLASS Sub EXTENDS Item").await;
    setup.sql("INSERT INTO Item (k, name) VALUES (1, 'one'), (2, 'two')").await;
    setup.sql("CREATE INDEX Item.k UNIQUE").await;
    let before = setup.fake.items();
    let swap = r##"{"transaction":true,"operations":[
        {"type":"u","record":{"@rid":"#16:0","k":2,"name":"one"}},
        {"type":"u","record":{"@rid":"#16:1","k":1,"name":"two"}}]}"##;
    setup.send("POST", "/batch/bench", swap).await.expect(200);
    let index = setup.fake.schema().database("bench").unwrap().index("Item.k").unwrap().cluster;
    let item = key::item(1, index, key::encode(&json!(1)).unwrap());
    let query = "SELECT FROM Item WHERE k = 1";
    setup.fake.turn_after_read(before, item.clone());
    assert_eq!(names(&setup.sql(query).await), ["two"]);
    // Its record is gone, and a record of another class has the key now.
    let before = setup.fake.items();
    setup.sql("DELETE FROM #16:1").await;
    setup.sql("INSERT INTO Sub SET k = 1, name = 'sub'").await;
    setup.fake.turn_after_read(before.clone(), item.clone());
    assert_eq!(names(&setup.sql(query).await), ["sub"]);
    // Nobody has it any more.
    setup.sql("DELETE FROM Sub").await;
    setup.fake.turn_after_read(before, item);
    assert_eq!(setup.sql(query).await, [] as [Value; 0]);
}

#[tokio::test]
async fn records_named_twice_are_one() {
    let setup = setup().await;
    setup.sql("INSERT INTO Item (k) VALUES (1), (2)").await;
    let keys = setup.sql("SELECT k FROM [#16:1, #16:0, #16:1, #16:0]").await;
    assert_eq!(keys, [json!({"k": 2}), json!({"k": 1})]);
    let updated = setup.sql("UPDATE [#16:1, #16:0, #16:1] SET k = 7").await;
    assert_eq!(updated, [json!({"count": 2})]);
}
