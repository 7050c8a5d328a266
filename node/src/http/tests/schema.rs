//! `/database`, `/class`, `/cluster`, `/listDatabases`, `/connect`.

use std::sync::Arc;

use quorate_api::ErrorCode;
use serde_json::json;

use super::Setup;

#[tokio::test]
async fn databases_come_and_go() {
    let setup = Setup::new();
    let none = setup.send("GET", "/listDatabases", "").await.expect(200).json();
    assert_eq!(none, json!({"@type": "d", "@version": 0, "databases": []}));
    let made = setup.send("POST", "/database/bench/plocal", "").await.expect(200).json();
    let classes: Vec<&str> =
        made["classes"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(classes, ["V", "E"]);
    assert_eq!(made["clusters"][1], json!({"id": 11, "name": "v_n2", "owner": "n2"}));
    assert_eq!(made["currentUser"], "root");
    assert!(made.get("warnings").is_none());
    let described = setup.send("GET", "/database/bench", "").await.expect(200).json();
    assert_eq!(described, made);
    let again = setup.send("POST", "/database/bench/memory/graph", "").await;
    again.fails(409, "database_exists", "failed");
    setup.send("POST", "/database/Alpha/memory/document", "").await.expect(200);
    let list = setup.send("GET", "/listDatabases", "").await.expect(200).json();
    assert_eq!(list["databases"], json!(["Alpha", "bench"]));
    setup.send("GET", "/connect/bench", "").await.expect(204);
    setup.send("DELETE", "/database/bench", "").await.expect(204);
    setup.send("DELETE", "/database/bench", "").await.fails(404, "unknown_database", "failed");
    setup.send("GET", "/database/bench", "").await.fails(404, "unknown_database", "failed");
    setup.send("GET", "/connect/bench", "").await.fails(404, "unknown_database", "failed");
}

#[tokio::test]
async fn the_write_quorum_is_chosen_at_creation() {
    let setup = Setup::new();
    let low = setup.send("POST", "/database/low/plocal", r#"{"writeQuorum":1}"#).await;
    let low = low.expect(200).json();
    assert_eq!(low["config"]["values"][1], json!({"name": "writeQuorum", "value": "1"}));
    let warning = low["warnings"][0].as_str().unwrap();
    assert!(warning.contains("below the majority"), "{warning}");
    let bad = setup.send("POST", "/database/x/plocal", r#"{"writeQuorum":"most"}"#).await;
    let text = bad.fails(400, "bad_request", "failed");
    assert!(text.contains("The value 'most' is not supported for writeQuorum"), "{text}");
    let above = setup.send("POST", "/database/x/plocal", r#"{"writeQuorum":4}"#).await;
    above.fails(400, "bad_request", "failed");
    for path in ["/database/x/remote", "/database/x/plocal/rdf", "/database/a%20b/plocal"] {
        setup.send("POST", path, "").await.fails(400, "bad_request", "failed");
    }
    setup.send("POST", "/database/x/plocal", "[").await.fails(400, "bad_request", "failed");
    setup.fake.starting(true);
    let early = setup.send("POST", "/database/x/plocal", "").await;
    assert!(early.fails(503, "not_ready", "failed").contains("'n3'"));
}

#[tokio::test]
async fn classes_come_and_go() {
    let setup = Setup::bench().await;
    let class = setup.send("GET", "/class/bench/item", "").await.expect(200).json();
    assert_eq!((&class["name"], &class["clusters"]), (&json!("Item"), &json!([16, 17, 18])));
    let again = setup.send("POST", "/class/bench/ITEM", "").await;
    again.fails(500, "class_exists", "failed");
    let count = setup.send("POST", "/class/bench/Sub", r#"{"superClass":"Item"}"#).await;
    assert_eq!(count.expect(201).text(), "4");
    let sub = setup.send("GET", "/class/bench/Sub", "").await.expect(200).json();
    assert_eq!(sub["superClass"], "Item");
    setup.send("DELETE", "/class/bench/Item", "").await.fails(400, "bad_request", "failed");
    setup.send("DELETE", "/class/bench/Sub", "").await.expect(204);
    setup.send("GET", "/class/bench/Sub", "").await.fails(404, "unknown_class", "failed");
    setup.send("POST", "/class/bench/1x", "").await.fails(400, "bad_request", "failed");
    setup.send("POST", "/class/none/X", "").await.fails(404, "unknown_database", "failed");
    setup.send("GET", "/class/none/X", "").await.fails(404, "unknown_database", "failed");
}

#[tokio::test]
async fn ddl_says_what_is_known_and_of_two_equal_ones_one_wins() {
    let setup = Setup::bench().await;
    let fake = &setup.fake;
    fake.fail(ErrorCode::Deadline);
    setup.send("POST", "/class/bench/A", "").await.fails(500, "deadline", "unknown");
    fake.fail(ErrorCode::NoQuorum);
    let alone = setup.send("POST", "/class/bench/A", "").await.fails(500, "no_quorum", "failed");
    assert!(alone.contains("nothing happened"), "{alone}");
    setup.send("POST", "/class/bench/A", "").await.expect(201);
    let (a, b) = tokio::join!(
        setup.send("POST", "/class/bench/B", ""),
        setup.send("POST", "/class/bench/B", "")
    );
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 500]);
}

#[tokio::test]
async fn names_that_only_others_know_yet_are_waited_for() {
    let setup = Setup::bench().await;
    setup.fake.apply_old_schema(Arc::default());
    let create = setup.send("POST", "/document/bench", r#"{"@class":"Item"}"#);
    let late = create.await.fails(500, "read_timeout", "failed");
    assert!(late.contains("has not reached this one in time"), "{late}");
    let (created, ()) =
        tokio::join!(setup.send("POST", "/document/bench", r#"{"@class":"Item"}"#), async {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            setup.fake.apply_schema();
        });
    created.expect(201);
    setup.fake.fail(ErrorCode::ReadTimeout);
    let unsure = setup.send("GET", "/class/bench/Nope", "").await;
    unsure.fails(500, "read_timeout", "failed");
}

#[tokio::test]
async fn clusters_are_listed() {
    let setup = Setup::bench().await;
    for value in 0..30 {
        let body = format!(r#"{{"@class":"Item","v":{value}}}"#);
        setup.send("POST", "/document/bench", &body).await.expect(201);
    }
    for (path, count) in [
        ("/cluster/bench/item", 20),
        ("/cluster/bench/16/5", 5),
        ("/cluster/bench/item/0", 30),
        ("/cluster/bench/item_n2", 0),
    ] {
        let list = setup.send("GET", path, "").await.expect(200).json();
        assert_eq!(list["result"].as_array().unwrap().len(), count, "{path}");
    }
    setup.send("GET", "/cluster/bench/x", "").await.fails(404, "unknown_cluster", "failed");
    setup.send("GET", "/cluster/bench/item/x", "").await.fails(400, "bad_request", "failed");
}
