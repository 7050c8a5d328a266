//! Sessions over HTTP: what a reply's token holds, and what becomes of a reply whose token cannot
//! be had. Three servers in one session are tested on the real node.

use super::Setup;

const HEADER: &str = "x-quorate-session-token";

/// FEATURES: A15
#[tokio::test]
async fn a_session_is_told_where_it_is_and_waited_for() {
    let setup = Setup::bench().await;
    let body = r#"{"@class":"Item","v":1}"#;
    let begin = [("x-quorate-session-token", "")];
    let answer = setup.send_with("POST", "/document/bench", &begin, body).await.expect(201);
    let token = answer.header("x-quorate-session-token").to_owned();
    assert!(token.starts_with("0000000000000001.1:"), "{token}");
    let rid = answer.json()["@rid"].as_str().unwrap().trim_start_matches('#').to_owned();
    let path = format!("/document/bench/{rid}");
    for level in ["local", "majority"] {
        let headers = [("x-quorate-session-token", &*token), ("x-quorate-read-level", level)];
        let answer = setup.send_with("GET", &path, &headers, "").await.expect(200);
        assert_eq!(answer.header("x-quorate-session-token"), token);
    }
    let ahead = [("x-quorate-session-token", "0000000000000001.1:1000000")];
    setup.send_with("GET", &path, &ahead, "").await.fails(503, "session_behind", "failed");
    let answer = setup.send("GET", &path, "").await.expect(200);
    assert!(!answer.headers.contains_key("x-quorate-session-token"));
}

#[tokio::test]
async fn a_writes_token_holds_what_the_session_knew_before() {
    let setup = Setup::bench().await;
    setup.fake.has_committed(2);
    let before = [(HEADER, "0000000000000002.1:2,0000000000000003.7:1")];
    let body = r#"{"@class":"Item","v":1}"#;
    let answer = setup.send_with("POST", "/document/bench", &before, body).await.expect(201);
    let token = answer.header(HEADER);
    let expected = "0000000000000001.1:3,0000000000000002.1:2,0000000000000003.7:1";
    assert_eq!(token, expected);
    // A client or a proxy may split the list.
    let split = [(HEADER, "0000000000000002.1:2"), (HEADER, "0000000000000003.7:1")];
    let answer = setup.send_with("GET", "/document/bench/16:0", &split, "").await.expect(200);
    assert_eq!(answer.header(HEADER), expected);
    let split = [(HEADER, "0000000000000002.1:2"), (HEADER, "0000000000000003.7:1000000")];
    let answer = setup.send_with("GET", "/document/bench/16:0", &split, "").await;
    answer.fails(503, "session_behind", "failed");
}

#[tokio::test]
async fn entries_of_closed_boots_leave_the_token() {
    let setup = Setup::bench().await;
    setup.fake.has_committed(2);
    let before = [(HEADER, "0000000000000001.0:1,0000000000000002.0:1")];
    let get = || setup.send_with("GET", "/listDatabases", &before, "");
    let open = get().await.expect(200);
    let all = "0000000000000001.0:1,0000000000000001.1:2,0000000000000002.0:1";
    assert_eq!(open.header(HEADER), all, "nobody knows whether everybody has it");
    setup.fake.close();
    let closed = get().await.expect(200);
    assert_eq!(closed.header(HEADER), "0000000000000001.1:2,0000000000000002.0:1");
}

#[tokio::test]
async fn what_happened_is_never_said_to_have_failed() {
    let setup = Setup::bench().await;
    setup.fake.has_committed(2);
    let made = setup.send("POST", "/retry/bench", "").await.expect(201).json();
    let session = made["session"].as_str().unwrap();
    let token = format!("{session}:1");
    setup.sql("INSERT INTO Item SET v = 1").await;
    let cluster = quorate_api::ClusterKey { database: 1, cluster: 0 };
    let key = [session.as_bytes(), b"/", &1_u64.to_be_bytes()].concat();
    let item = quorate_api::ItemId { cluster, key: quorate_api::ItemKey::Token(key) };
    // This server does not hear of its own commit, as if another had done it.
    setup.fake.freeze(&item);
    setup.fake.lag();
    let headers = [(HEADER, ""), ("x-quorate-transaction-token", token.as_str())];
    let put = || {
        let body = r#"{"@version":1,"v":2}"#;
        setup.send_with("PUT", "/document/bench/16:0", &headers, body)
    };
    let first = put().await.expect(200);
    assert_eq!(first.header(HEADER), "0000000000000001.1:5", "it was committed here");
    let repeated = put().await;
    assert_eq!(repeated.error()["retryable"], false);
    repeated.fails(503, "session_behind", "unknown");
    let read = [(HEADER, ""), ("x-quorate-read-level", "majority")];
    for path in ["/document/bench/16:0", "/document/bench/16:1"] {
        let answer = setup.send_with("GET", path, &read, "").await;
        if path.ends_with('0') {
            answer.fails(503, "session_behind", "failed");
        } else {
            answer.fails(404, "not_found", "failed");
        }
    }
    let rows = setup.sql("SELECT v, @version FROM Item").await;
    assert_eq!(rows, [serde_json::json!({"v": 2, "@version": 2})]);
}

#[tokio::test]
async fn a_deadline_counts_from_before_the_session_is_waited_for() {
    let setup = Setup::bench().await;
    let before = setup.fake.deadlines().1.len();
    let body = r#"{"@class":"Item","v":1}"#;
    setup.send_with("POST", "/document/bench", &[(HEADER, "")], body).await.expect(201);
    let (waits, submits) = setup.fake.deadlines();
    assert_eq!(submits[before..], waits[..1]);
    assert_eq!(waits[1..], waits[..1]);
    assert_eq!(setup.counted("quorate_session_wait_seconds_count").await, 1);
}
