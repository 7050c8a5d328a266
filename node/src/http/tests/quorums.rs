//! How many MASTERs answer a read: as the request says, else as the database does.

use quorate_protocol::io::ReadQuorum;
use serde_json::json;

use super::Setup;

const LEVEL: &str = "x-quorate-read-level";
const ITEM: &str = r#"{"@class":"Item","v":1}"#;

/// A database `bench` with these settings and one record, `#16:0`.
async fn with(settings: &str) -> Setup {
    let setup = Setup::new();
    setup.send("POST", "/database/bench/plocal", settings).await.expect(200);
    setup.send("POST", "/class/bench/Item", "").await.expect(201);
    setup.send("POST", "/document/bench", ITEM).await.expect(201);
    setup.fake.quorums();
    setup
}

/// FEATURES: A15
#[tokio::test]
async fn a_request_says_how_many_answer_else_its_database_does() {
    let path = "/document/bench/16:0";
    for (settings, default) in [
        ("", None),
        (r#"{"readQuorum":1}"#, None),
        (r#"{"readQuorum":2}"#, Some(2)),
        (r#"{"readQuorum":"majority"}"#, Some(2)),
        (r#"{"readQuorum":"ALL"}"#, Some(3)),
    ] {
        let setup = with(settings).await;
        setup.send("GET", path, "").await.expect(200);
        let expected: Vec<ReadQuorum> = default.map(ReadQuorum::Count).into_iter().collect();
        assert_eq!(setup.fake.quorums(), expected, "{settings}");
        for (level, answers) in [
            ("local", None),
            ("1", None),
            ("2", Some(2)),
            ("Majority", Some(2)),
            ("3", Some(3)),
            ("all", Some(3)),
        ] {
            setup.send_with("GET", path, &[(LEVEL, level)], "").await.expect(200);
            let expected: Vec<ReadQuorum> = answers.map(ReadQuorum::Count).into_iter().collect();
            assert_eq!(setup.fake.quorums(), expected, "{settings} {level}");
        }
        let above = setup.send_with("GET", path, &[(LEVEL, "4")], "").await;
        let text = above.fails(400, "bad_request", "failed");
        assert!(text.contains("read level 4") && text.contains("3 MASTERs"), "{text}");
        for bad in ["0", "-1", "two", ""] {
            let answer = setup.send_with("GET", path, &[(LEVEL, bad)], "").await;
            let text = answer.fails(400, "bad_request", "failed");
            assert!(text.contains("local, localDataCenter, majority, all or a number"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_read_quorum_is_checked_and_shown() {
    let setup = with(r#"{"readQuorum":3,"executionMode":"Synchronous"}"#).await;
    let shown = setup.send("GET", "/database/bench", "").await.expect(200).json();
    assert_eq!(shown["config"]["values"][2], json!({"name": "readQuorum", "value": "3"}));
    let mode = json!({"name": "executionMode", "value": "synchronous"});
    assert_eq!(shown["config"]["values"][3], mode);
    for (settings, expected) in [
        (r#"{"readQuorum":4}"#, "readQuorum 4 cannot be reached"),
        (r#"{"readQuorum":0}"#, "The value '0' is not supported for readQuorum"),
        (r#"{"readQuorum":"most"}"#, "The value 'most' is not supported for readQuorum"),
        (r#"{"executionMode":"async"}"#, "'async' is not supported for executionMode"),
        (r#"{"readQuorm":1}"#, "readQuorum"),
    ] {
        let answer = setup.send("POST", "/database/x/plocal", settings).await;
        let text = answer.fails(400, "bad_request", "failed");
        assert!(text.contains(expected), "{expected} in {text}");
    }
}

/// A scan of one server's state is not what was asked for; what a statement changes is found so,
/// for its transaction checks that it builds on the newest state.
#[tokio::test]
async fn a_scan_is_refused_where_several_servers_should_answer() {
    let setup = with(r#"{"readQuorum":2}"#).await;
    let query = "/query/bench/sql/SELECT%20FROM%20Item";
    let text = setup.send("GET", query, "").await.fails(501, "unsupported", "failed");
    assert!(text.contains("read level 2 (readQuorum of the database)"), "{text}");
    let named = setup.send_with("GET", query, &[(LEVEL, "all")], "").await;
    let text = named.fails(501, "unsupported", "failed");
    assert!(text.contains("read level all (X-Quorate-Read-Level of the request)"), "{text}");
    setup.send("GET", "/cluster/bench/16", "").await.fails(501, "unsupported", "failed");
    setup.send_with("GET", query, &[(LEVEL, "local")], "").await.expect(200);
    assert_eq!(setup.sql("UPDATE Item SET v = 2").await[0]["count"], 1);
    assert_eq!(setup.fake.quorums(), []);
}

/// Whoever answers first need not have what this server has acknowledged.
#[tokio::test]
async fn below_a_majority_a_read_sees_what_its_server_has() {
    let setup = Setup::new();
    setup.fake.grow();
    setup.send("POST", "/database/bench/plocal", "").await.expect(200);
    setup.send("POST", "/class/bench/Item", "").await.expect(201);
    setup.send("POST", "/document/bench", ITEM).await.expect(201);
    let items = setup.fake.items();
    let (item, _) = items.iter().next_back().unwrap();
    setup.fake.hide_from_quorums(item.clone());
    let path = "/document/bench/20:0";
    setup.send_with("GET", path, &[(LEVEL, "2")], "").await.expect(200);
    let majority = setup.send_with("GET", path, &[(LEVEL, "majority")], "").await;
    majority.fails(404, "not_found", "failed");
}
