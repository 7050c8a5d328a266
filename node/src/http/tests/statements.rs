//! `/query` and `/command`: statements run against records.

use serde_json::{Value, json};

use super::Setup;

async fn zoo() -> Setup {
    let setup = Setup::bench().await;
    setup.send("POST", "/class/bench/Sub", r#"{"superClass":"Item"}"#).await.expect(201);
    setup.sql("INSERT INTO Item (k, name) VALUES (1, 'one'), (2, 'two'), (3, 'three')").await;
    setup.sql(r#"INSERT INTO Sub CONTENT {"k": 4, "name": "four", "in": {"x": [1]}}"#).await;
    setup
}

fn column(rows: &[Value], name: &str) -> Vec<Value> {
    rows.iter().map(|r| r[name].clone()).collect()
}

#[tokio::test]
async fn select_filters_orders_and_limits() {
    let setup = zoo().await;
    for (sql, names) in [
        ("SELECT FROM Item", vec!["one", "two", "three", "four"]),
        ("select * from sub", vec!["four"]),
        ("SELECT FROM Item WHERE k >= 2 AND NOT (name LIKE '%ee')", vec!["two", "four"]),
        ("SELECT FROM Item WHERE k IN [1, 4, 'x'] OR name = 'two'", vec!["one", "two", "four"]),
        ("SELECT FROM Item WHERE in.x IS NOT NULL", vec!["four"]),
        ("SELECT FROM Item ORDER BY name DESC LIMIT 2", vec!["two", "three"]),
        ("SELECT FROM Item ORDER BY @rid DESC SKIP 1 LIMIT 1", vec!["three"]),
        ("SELECT FROM Item SKIP 3", vec!["four"]),
        ("SELECT FROM Item LIMIT 0", vec![]),
        ("SELECT FROM cluster:item WHERE @version = 1 LIMIT 1", vec!["one"]),
        ("SELECT FROM cluster:16 WHERE @rid <> #16:0", vec!["two", "three"]),
        ("SELECT FROM #16:1", vec!["two"]),
        ("SELECT FROM [#16:1, #16:0, #16:77]", vec!["two", "one"]),
        ("SELECT FROM Item WHERE @class = 'Sub'", vec!["four"]),
    ] {
        assert_eq!(column(&setup.sql(sql).await, "name"), names, "{sql}");
    }
    let shown = setup.sql("SELECT name AS n, in.x, @rid, missing FROM Sub").await;
    assert_eq!(shown, [json!({"n": "four", "in.x": [1], "@rid": "#19:0", "missing": null})]);
    assert_eq!(setup.sql("SELECT count(*) FROM Item WHERE k > 1").await, [json!({"count(*)": 3})]);
    assert_eq!(setup.sql("SELECT count(*) FROM cluster:item_n2").await, [json!({"count(*)": 0})]);
}

#[tokio::test]
async fn many_pages_are_read_in_order() {
    let setup = Setup::bench().await;
    for part in 0..3 {
        let rows: Vec<String> = (0..100).map(|i| format!("({})", part * 100 + i)).collect();
        setup.sql(&format!("INSERT INTO Item (v) VALUES {}", rows.join(","))).await;
    }
    let rows = setup.sql("SELECT v FROM Item").await;
    assert_eq!(column(&rows, "v"), (0..300).map(Value::from).collect::<Vec<_>>());
    let rows = setup.sql("SELECT v FROM Item ORDER BY v DESC LIMIT 3").await;
    assert_eq!(column(&rows, "v"), [299, 298, 297]);
    assert_eq!(setup.sql("SELECT v FROM Item WHERE v >= 299").await.len(), 1);
    assert_eq!(setup.sql("UPDATE Item SET w = true LIMIT 150").await, [json!({"count": 150})]);
    assert_eq!(setup.fake.last_submitted().len(), 150);
    assert_eq!(
        setup.sql("SELECT count(*) AS n FROM Item WHERE w = true").await,
        [json!({"n": 150})]
    );
    assert_eq!(setup.sql("DELETE FROM Item WHERE w IS NULL").await, [json!({"count": 150})]);
}

#[tokio::test]
async fn changes_count_their_records() {
    let setup = zoo().await;
    let updated = setup.sql("UPDATE Item SET name = 'x', extra = [1, 'a'] WHERE k < 3").await;
    assert_eq!(updated, [json!({"count": 2})]);
    let first = setup.send("GET", "/document/bench/16:0", "").await.expect(200).json();
    assert_eq!(
        (&first["k"], &first["name"], &first["extra"]),
        (&json!(1), &json!("x"), &json!([1, "a"]))
    );
    assert_eq!(first["@version"], 2);
    assert_eq!(setup.sql("UPDATE #16:2 SET name = null").await, [json!({"count": 1})]);
    assert_eq!(setup.sql("UPDATE #16:77 SET name = null").await, [json!({"count": 0})]);
    assert_eq!(setup.sql("DELETE FROM #16:2").await, [json!({"count": 1})]);
    assert_eq!(setup.sql("DELETE FROM Item").await, [json!({"count": 3})]);
    assert_eq!(setup.sql("SELECT FROM Item").await, [] as [Value; 0]);
    let inserted = setup.sql("INSERT INTO Item CLUSTER item SET k = 9").await;
    assert_eq!(inserted[0]["@rid"], "#16:3");
    let foreign =
        setup.send("POST", "/command/bench/sql", "INSERT INTO Item CLUSTER item_n2 SET k = 9");
    let text = foreign.await.fails(500, "not_owner", "failed");
    assert_eq!(text, "Local node 'n1' is not the owner for cluster 'item_n2' (it is 'n2')");
}

#[tokio::test]
async fn too_many_records_for_one_transaction() {
    let setup = Setup::bench().await;
    let rows = vec!["(1)"; 1001].join(",");
    let text = format!("INSERT INTO Item (v) VALUES {rows}");
    setup.send("POST", "/command/bench/sql", &text).await.fails(413, "too_large", "failed");
    for count in [1000, 1] {
        let rows = vec!["(1)"; count].join(",");
        setup.sql(&format!("INSERT INTO Item (v) VALUES {rows}")).await;
    }
    for sql in ["UPDATE Item SET v = 2", "DELETE FROM Item"] {
        let text = setup.send("POST", "/command/bench/sql", sql).await;
        assert!(text.fails(413, "too_large", "failed").contains("LIMIT"));
    }
    assert_eq!(setup.sql("DELETE FROM Item LIMIT 1000").await, [json!({"count": 1000})]);
}

#[tokio::test]
async fn queries_by_path() {
    let setup = zoo().await;
    for value in 0..30 {
        setup.sql(&format!("INSERT INTO Item SET k = {value}")).await;
    }
    for (path, count) in [
        ("/query/bench/sql/SELECT%20FROM%20Item", 20),
        ("/query/bench/sql/SELECT%20FROM%20Item/5", 5),
        ("/query/bench/sql/SELECT%20FROM%20Item/-1", 34),
        ("/query/bench/sql/SELECT%20FROM%20Item%20LIMIT%2025/5", 25),
        ("/command/bench/sql/SELECT%20FROM%20Item%20WHERE%20name%20LIKE%20'%25e'", 2),
    ] {
        let answer = setup.send("GET", path, "").await.expect(200).json();
        assert_eq!(answer["result"].as_array().unwrap().len(), count, "{path}");
    }
    let posted = setup.send("POST", "/command/bench/sql/SELECT%20FROM%20Item/7", "").await;
    assert_eq!(posted.expect(200).json()["result"].as_array().unwrap().len(), 7);
    let answer = setup.send("GET", "/query/bench/sql/DELETE%20FROM%20Item", "").await;
    let text = answer.fails(400, "bad_request", "failed");
    assert_eq!(text, "Cannot execute non idempotent command using HTTP GET");
    let answer = setup.send("GET", "/query/bench/gremlin/x", "").await;
    answer.fails(501, "unsupported", "failed");
    let answer = setup.send("GET", "/query/bench/sql/SELECT%20FROM%20Item/x", "").await;
    answer.fails(400, "bad_request", "failed");
    let answer = setup.send("GET", "/query/bench/sql/%ff", "").await;
    answer.fails(400, "bad_request", "failed");
}

#[tokio::test]
async fn commands_take_parameters() {
    let setup = zoo().await;
    for body in [
        r#"{"command":"SELECT FROM Item WHERE k = ? OR k = ?","parameters":[1,3]}"#,
        r#"{"command":"SELECT FROM Item WHERE k IN :list","parameters":{"list":[1,3]}}"#,
        r#" {"command":"SELECT FROM Item WHERE k = ? OR k = ?","parameters":{"0":1,"1":3}}"#,
    ] {
        let answer = setup.send("POST", "/command/bench/sql", body).await.expect(200).json();
        assert_eq!(column(answer["result"].as_array().unwrap(), "k"), [1, 3], "{body}");
    }
    for body in [
        r#"{"command":"SELECT FROM Item WHERE k = ?"}"#,
        r#"{"command":"SELECT FROM Item WHERE k = :x","parameters":[1]}"#,
        r#"{"command":"SELECT FROM Item","parameters":1}"#,
        r#"{"cmd":"SELECT FROM Item"}"#,
        "{",
        "",
        "SELECT",
    ] {
        let answer = setup.send("POST", "/command/bench/sql", body).await;
        answer.fails(400, "bad_request", "failed");
    }
}

#[tokio::test]
async fn statements_that_are_refused() {
    let setup = zoo().await;
    for (sql, word) in [
        ("CREATE SEQUENCE X", "CREATE"),
        ("SELECT FROM Item GROUP BY k", "GROUP"),
        ("SELECT sum(k) FROM Item", "sum"),
        ("UPDATE Item SET k = k + 1", "'k'"),
        ("UPDATE Item MERGE {}", "MERGE"),
        ("TRAVERSE out() FROM V", "TRAVERSE"),
    ] {
        let answer = setup.send("POST", "/command/bench/sql", sql).await;
        let text = answer.fails(501, "unsupported", "failed");
        assert!(text.contains(word), "{text}");
    }
    let answer = setup.send("POST", "/command/bench/sql", "SELECT FROM Nope").await;
    answer.fails(404, "unknown_class", "failed");
    let answer = setup.send("POST", "/command/bench/sql", "SELECT FROM cluster:nope").await;
    answer.fails(404, "unknown_cluster", "failed");
    let answer = setup.send("POST", "/command/none/sql", "SELECT FROM Item").await;
    answer.fails(404, "unknown_database", "failed");
    let majority = [("x-quorate-read-level", "majority")];
    let scan = setup.send_with("POST", "/command/bench/sql", &majority, "SELECT FROM Item").await;
    scan.fails(501, "unsupported", "failed");
    let by_id = setup.send_with("POST", "/command/bench/sql", &majority, "SELECT FROM #16:0").await;
    by_id.expect(200);
}
