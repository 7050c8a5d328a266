//! `/document` and `/batch`.

use quorate_api::{ClusterKey, ErrorCode, ItemId, OpKind, Stamp};
use quorate_protocol::io::Base;
use serde_json::json;

use super::Setup;

fn item(position: u64) -> ItemId {
    ItemId::record(ClusterKey { database: 1, cluster: 16 }, position)
}

#[tokio::test]
async fn a_record_lives_and_dies() {
    let setup = Setup::bench().await;
    let created = setup
        .send(
            "POST",
            "/document/bench",
            r##"{"@class":"item","@rid":"#-1:-1","k":5,"@version":9}"##,
        )
        .await
        .expect(201);
    assert_eq!(created.header("etag"), "1");
    assert_eq!(
        created.text(),
        r##"{"@type":"d","@rid":"#16:0","@version":1,"@class":"Item","k":5}"##
    );
    assert_eq!(setup.fake.last_submitted()[0].base, Base::Exact(Stamp::ABSENT));

    for path in ["/document/bench/16:0", "/document/bench/%2316:0"] {
        let read = setup.send("GET", path, "").await.expect(200);
        assert_eq!((read.body.clone(), read.header("etag")), (created.body.clone(), "1"));
    }
    let head = setup.send("HEAD", "/document/bench/16:0", "").await.expect(204);
    assert_eq!((head.header("etag"), head.body.len()), ("1", 0));

    let put = setup.send("PUT", "/document/bench/16:0", r#"{"v":"x"}"#).await.expect(200);
    assert_eq!(
        put.json(),
        json!({"@type": "d", "@rid": "#16:0", "@version": 2, "@class": "Item", "v": "x"})
    );
    assert_eq!(setup.fake.last_submitted()[0].base, Base::Current);

    let patch = setup.send("PATCH", "/document/bench/16:0", r#"{"w":1}"#).await.expect(200);
    assert_eq!((patch.json()["v"].clone(), patch.json()["w"].clone()), (json!("x"), json!(1)));
    let path = "/document/bench?updateMode=partial";
    let partial = setup.send("PUT", path, r#"{"@rid":"16:0","w":2}"#).await.expect(200);
    assert_eq!(
        (partial.json()["v"].clone(), partial.json()["@version"].clone()),
        (json!("x"), json!(4))
    );

    let gone = [("x-quorate-tombstone-id", "18446744073709551615")];
    setup.send_with("DELETE", "/document/bench/16:0", &gone, "").await.expect(204);
    for (method, body) in [("GET", ""), ("PUT", "{}"), ("DELETE", ""), ("PATCH", "{}")] {
        let answer = setup.send(method, "/document/bench/16:0", body).await.expect(404);
        assert_eq!(answer.error()["tombstone"], u64::MAX, "{method}");
        assert_eq!(answer.error()["errorCode"], "not_found", "{method}");
    }
    setup.send("HEAD", "/document/bench/16:0", "").await.expect(404);
}

#[tokio::test]
async fn absent_records_and_names() {
    let setup = Setup::bench().await;
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        let body = if method == "GET" || method == "DELETE" { "" } else { "{}" };
        let answer = setup.send(method, "/document/bench/16:99", body).await;
        assert!(answer.error().get("tombstone").is_none());
        answer.fails(404, "not_found", "failed");
        let answer = setup.send(method, "/document/bench/99:0", body).await;
        answer.fails(404, "unknown_cluster", "failed");
        let answer = setup.send(method, "/document/none/16:0", body).await;
        answer.fails(404, "unknown_database", "failed");
        let answer = setup.send(method, "/document/bench/nonsense", body).await;
        answer.fails(400, "bad_request", "failed");
    }
    let answer = setup.send("POST", "/document/bench", r#"{"@class":"Nope"}"#).await;
    answer.fails(404, "unknown_class", "failed");
    let answer = setup.send("POST", "/document/none", r#"{"@class":"Item"}"#).await;
    answer.fails(404, "unknown_database", "failed");
    for body in ["", "x", "[]", "{", r#"{"a":1}"#, r#"{"@class":7}"#, "\u{feff}{}"] {
        let answer = setup.send("POST", "/document/bench", body).await;
        answer.fails(400, "bad_request", "failed");
    }
    setup.send("PUT", "/document/bench", "{}").await.fails(400, "bad_request", "failed");
}

#[tokio::test]
async fn the_greatest_version_is_a_conflict_like_any_other() {
    let setup = Setup::bench().await;
    setup.send("POST", "/document/bench", r#"{"@class":"Item","k":1}"#).await.expect(201);
    let path = "/document/bench/16:0";
    let body = r#"{"@version":18446744073709551615}"#;
    let header = [("if-match", "18446744073709551615")];
    for method in ["PUT", "PATCH", "DELETE"] {
        let answer = setup.send(method, path, body).await;
        answer.fails(409, "version_conflict", "failed");
        let answer = setup.send_with(method, path, &header, "{}").await;
        answer.fails(409, "version_conflict", "failed");
    }
    for kind in ["u", "d", "check"] {
        let record = json!({"@rid": "#16:0", "@version": u64::MAX});
        let operations = json!([{"type": kind, "record": record}]);
        let batch = json!({"transaction": true, "operations": operations}).to_string();
        let answer = setup.send("POST", "/batch/bench", &batch).await;
        answer.fails(409, "version_conflict", "failed");
    }
    let read = setup.send("GET", path, "").await.expect(200).json();
    assert_eq!((&read["@version"], &read["k"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn versions_are_checked_only_when_given() {
    let setup = Setup::bench().await;
    setup.send("POST", "/document/bench", r#"{"@class":"Item","k":1}"#).await.expect(201);
    let path = "/document/bench/16:0";
    for (version, status) in [("0", 200), ("-1", 200), ("3", 200), ("3", 409)] {
        let body = format!(r#"{{"k":1,"@version":{version}}}"#);
        let answer = setup.send("PUT", path, &body).await.expect(status);
        if status == 409 {
            assert_eq!(
                answer.fails(409, "version_conflict", "failed"),
                "Cannot UPDATE the record #16:0 because the version is not the latest. Probably \
                 you are updating an old record or it has been modified by another user (db=v4 \
                 your=v3)"
            );
        }
    }
    let wrong = [("if-match", "1")];
    let text = setup.send_with("DELETE", path, &wrong, "").await;
    let text = text.fails(409, "version_conflict", "failed");
    assert!(text.starts_with("Cannot DELETE the record #16:0"), "{text}");
    let text = setup.send_with("PATCH", path, &wrong, "{}").await;
    text.fails(409, "version_conflict", "failed");
    let body = r#"{"@version":2}"#;
    setup.send("DELETE", path, body).await.fails(409, "version_conflict", "failed");
    setup.send_with("PATCH", path, &[("if-match", "\"4\"")], r#"{"b":2}"#).await.expect(200);
    setup.send_with("GET", path, &[("if-none-match", "5")], "").await.expect(304);
    setup.send_with("GET", path, &[("if-none-match", "4")], "").await.expect(200);
    let bad = setup.send_with("PUT", path, &[("if-match", "x")], "{}").await;
    bad.fails(400, "bad_request", "failed");
    setup.send_with("DELETE", path, &[("if-match", "5")], "").await.expect(204);
}

#[tokio::test]
async fn a_merge_without_a_version_starts_over_and_reads_by_majority() {
    let setup = Setup::bench().await;
    setup.send("POST", "/document/bench", r#"{"@class":"Item","a":1}"#).await.expect(201);
    let path = "/document/bench/16:0";
    setup.fake.freeze(&item(0));
    setup.send("PUT", path, r#"{"a":2}"#).await.expect(200);
    // The local state is behind: the first attempt conflicts, the second one reads the newest.
    let merged = setup.send("PATCH", path, r#"{"b":1}"#).await.expect(200).json();
    assert_eq!(
        (&merged["a"], &merged["b"], &merged["@version"]),
        (&json!(2), &json!(1), &json!(3))
    );
    // A client that has seen more than this server is believed after a look at the majority.
    let merged = setup.send("PATCH", path, r#"{"@version":3,"b":2}"#).await.expect(200).json();
    assert_eq!(merged["@version"], 4);
    let local = setup.send("GET", path, "").await.expect(200).json();
    assert_eq!(local["@version"], 1);
    let majority = [("x-quorate-read-level", "majority")];
    let read = setup.send_with("GET", path, &majority, "").await.expect(200).json();
    assert_eq!(read["@version"], 4);
}

#[tokio::test]
async fn failures_keep_their_code_and_outcome() {
    let setup = Setup::bench().await;
    for (code, status, outcome) in [
        (ErrorCode::NoQuorum, 500, "failed"),
        (ErrorCode::QuorumFailed, 500, "failed"),
        (ErrorCode::VersionConflict, 409, "failed"),
        (ErrorCode::Busy, 423, "failed"),
        (ErrorCode::Deadline, 500, "unknown"),
        (ErrorCode::Storage, 500, "unknown"),
        (ErrorCode::Overload, 503, "failed"),
        (ErrorCode::NotReady, 503, "failed"),
    ] {
        setup.fake.fail(code);
        let answer = setup.send("POST", "/document/bench", r#"{"@class":"Item"}"#).await;
        let text = answer.fails(status, code.name(), outcome);
        if code == ErrorCode::Busy {
            assert!(text.contains("coordinator 'n2'"), "{text}");
        }
        if code == ErrorCode::NoQuorum {
            assert!(text.contains("2 of 3 MASTERs"), "{text}");
        }
    }
    setup.fake.fail(ErrorCode::UnresolvedIntent);
    let majority = [("x-quorate-read-level", "Majority")];
    let answer = setup.send_with("GET", "/document/bench/16:0", &majority, "").await;
    let text = answer.fails(500, "unresolved_intent", "failed");
    assert!(text.contains("undecided transaction 0000000000000002.1.7"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let setup = Setup::bench().await;
    setup.fake.hang();
    let soon = [("x-quorate-deadline-ms", "20"), ("x-quorate-read-level", "majority")];
    let write = setup.send_with("POST", "/document/bench", &soon, r#"{"@class":"Item"}"#).await;
    write.fails(500, "deadline", "unknown");
    let read = setup.send_with("GET", "/document/bench/16:0", &soon, "").await;
    read.fails(500, "read_timeout", "failed");
}

#[tokio::test]
async fn records_that_cannot_be_read_are_no_panic() {
    let setup = Setup::bench().await;
    setup.send("POST", "/document/bench", r#"{"@class":"Item"}"#).await.expect(201);
    for junk in [&b""[..], b"null", b"[1]", b"\xff"] {
        setup.fake.corrupt(&item(0), junk);
        let path = "/document/bench/16:0";
        setup.send("GET", path, "").await.fails(500, "storage", "unknown");
        setup.send("PATCH", path, "{}").await.fails(500, "storage", "unknown");
        let select = "SELECT FROM Item WHERE a = 1";
        setup.send("POST", "/command/bench/sql", select).await.fails(500, "storage", "unknown");
    }
}

#[tokio::test]
async fn a_batch_is_one_transaction() {
    let setup = Setup::bench().await;
    for value in 0..3 {
        let body = format!(r#"{{"@class":"Item","v":{value}}}"#);
        setup.send("POST", "/document/bench", &body).await.expect(201);
    }
    let body = r##"{"transaction":true,"operations":[
        {"type":"check","record":{"@rid":"#16:2","@version":1}},
        {"type":"d","record":{"@rid":"#16:1"},"tombstone":77},
        {"type":"c","record":{"@class":"Item","v":3}},
        {"type":"u","record":{"@rid":"#16:0","@version":1,"v":10}}]}"##;
    let answer = setup.send("POST", "/batch/bench", body).await.expect(200).json();
    assert_eq!(answer["result"][0]["v"], 10);
    let versions: Vec<u64> = answer["operations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["@version"].as_u64().unwrap())
        .collect();
    assert_eq!(versions, [1, 2, 1, 2]);
    let kinds: Vec<OpKind> = setup.fake.last_submitted().iter().map(|p| p.kind.clone()).collect();
    assert_eq!(kinds, [OpKind::Check, OpKind::Delete, OpKind::Create, OpKind::Update]);
    let gone = setup.send("GET", "/document/bench/16:1", "").await.expect(404);
    assert_eq!(gone.error()["tombstone"], 77);

    // One conflict undoes all of it.
    let answer = setup.send("POST", "/batch/bench", body).await.expect(404);
    assert_eq!(answer.error()["outcome"], "failed");
    let left = setup.sql("SELECT count(*) AS n FROM Item").await;
    assert_eq!(left, [json!({"n": 3})]);
}

#[tokio::test]
async fn a_batch_without_transaction_says_when_it_is_half_done() {
    let setup = Setup::bench().await;
    let body = r##"{"transaction":false,"operations":[
        {"type":"c","record":{"@class":"Item"}},
        {"type":"u","record":{"@rid":"#16:99"}},
        {"type":"c","record":{"@class":"Item"}}]}"##;
    let answer = setup.send("POST", "/batch/bench", body).await;
    assert_eq!(answer.error()["retryable"], false);
    let text = answer.fails(404, "not_found", "unknown");
    assert!(text.starts_with("operation 1: "), "{text}");
    assert_eq!(setup.sql("SELECT FROM Item").await.len(), 1);
    let first = r##"{"operations":[{"type":"u","record":{"@rid":"#16:99"}}]}"##;
    setup.send("POST", "/batch/bench", first).await.fails(404, "not_found", "failed");
}

#[tokio::test]
async fn operations_on_one_record_are_folded() {
    let setup = Setup::bench().await;
    for _ in 0..2 {
        setup.send("POST", "/document/bench", r#"{"@class":"Item","v":0}"#).await.expect(201);
    }
    let body = r##"{"transaction":true,"operations":[
        {"type":"check","record":{"@rid":"#16:0","@version":1}},
        {"type":"u","record":{"@rid":"#16:0","v":1}},
        {"type":"u","record":{"@rid":"#16:0","@version":1,"v":2}},
        {"type":"u","record":{"@rid":"#16:1","v":1}},
        {"type":"d","record":{"@rid":"#16:1"}},
        {"type":"c","record":{"@rid":"#-1:-1","@class":"Item","v":5}},
        {"type":"d","record":{"@rid":"#-1:-1"}}]}"##;
    let answer = setup.send("POST", "/batch/bench", body).await.expect(200).json();
    let version = |at: usize| answer["operations"][at]["@version"].clone();
    assert_eq!([version(0), version(2), version(4), version(6)], [2, 2, 2, 0]);
    let kinds: Vec<OpKind> = setup.fake.last_submitted().iter().map(|p| p.kind.clone()).collect();
    assert_eq!(kinds, [OpKind::Update, OpKind::Delete]);
    assert_eq!(setup.sql("SELECT v FROM Item").await, [json!({"v": 2})]);
    let two = r##"{"transaction":true,"operations":[
        {"type":"check","record":{"@rid":"#16:0","@version":2}},
        {"type":"u","record":{"@rid":"#16:0","@version":1}}]}"##;
    setup.send("POST", "/batch/bench", two).await.fails(409, "version_conflict", "failed");
}

#[tokio::test]
async fn batches_that_make_no_sense() {
    let setup = Setup::bench().await;
    setup.send("POST", "/document/bench", r#"{"@class":"Item"}"#).await.expect(201);
    let gone = r#"{"transaction":true,"operations":[
        {"type":"d","record":{"@rid":"16:0"}},{"type":"u","record":{"@rid":"16:0"}}]}"#;
    setup.send("POST", "/batch/bench", gone).await.fails(404, "not_found", "failed");
    for body in [
        "",
        "{}",
        r#"{"operations":[]}"#,
        r#"{"operations":1}"#,
        r#"{"operations":[{"type":"c"}]}"#,
        r#"{"operations":[{"type":"x","record":{"@rid":"1:1"}}]}"#,
        r#"{"operations":[{"type":"u","record":{}}]}"#,
    ] {
        setup.send("POST", "/batch/bench", body).await.fails(400, "bad_request", "failed");
    }
    for kind in ["cmd", "script"] {
        let body = format!(r#"{{"operations":[{{"type":"{kind}","language":"sql"}}]}}"#);
        let text = setup.send("POST", "/batch/bench", &body).await;
        assert!(text.fails(501, "unsupported", "failed").contains(kind));
    }
    let many = vec![r#"{"type":"c","record":{"@class":"Item"}}"#; 1001].join(",");
    let many = format!(r#"{{"transaction":true,"operations":[{many}]}}"#);
    setup.send("POST", "/batch/bench", &many).await.fails(413, "too_large", "failed");
}
