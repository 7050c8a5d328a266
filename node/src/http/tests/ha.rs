//! `HA SET` and `HA REMOVE SERVER`: answers, several clauses at once, what an OFFLINE server
//! serves, and the table of statements in the manual.

use quorate_api::ErrorCode;
use serde_json::{Value, json};

use super::{Answer, Setup};

const STATEMENTS: &str = "/command/bench/sql";
const DOCUMENT: &str = "/distributed/database/bench";
const BATCH: &str =
    r#"{"transaction":true,"operations":[{"type":"c","record":{"@class":"Item"}}]}"#;

async fn ask(setup: &Setup, statement: &str) -> Answer {
    setup.send("POST", STATEMENTS, statement).await
}

/// What `HA STATUS` shows of the database.
async fn shown(setup: &Setup) -> Value {
    setup.sql("HA STATUS -db").await[0]["database"].take()
}

/// FEATURES: A20
#[tokio::test]
async fn a_server_that_is_offline_for_a_database_serves_its_clients_no_more() {
    let setup = Setup::bench().await;
    let rows = setup.sql("INSERT INTO Item (k) VALUES (1)").await;
    let record = format!("/document/bench/{}", rows[0]["@rid"].as_str().unwrap().replace('#', ""));
    setup.send("POST", "/database/other/plocal", "").await.expect(200);
    // Of whom it is said elsewhere does not matter here.
    setup.sql("HA SET STATUS n2=OFFLINE").await;
    setup.send("GET", &record, "").await.expect(200);
    let rows = [json!({"operation": "ha set status", "result": "OK"})];
    assert_eq!(setup.sql("HA SET STATUS n1=OFFLINE").await, rows);
    let last = ask(&setup, "HA SET STATUS n3=OFFLINE").await.fails(400, "bad_request", "failed");
    assert!(last.contains("every MASTER of database 'bench' would be OFFLINE for it"), "{last}");
    for (method, path, body) in [
        ("GET", &*record, ""),
        ("POST", "/document/bench", r#"{"@class":"Item"}"#),
        ("PATCH", &record, r#"{"k":2}"#),
        ("DELETE", &record, ""),
        ("POST", "/batch/bench", BATCH),
        ("GET", "/query/bench/sql/SELECT%20FROM%20Item", ""),
        ("GET", "/cluster/bench/item", ""),
        ("POST", STATEMENTS, "SELECT FROM Item"),
        ("POST", STATEMENTS, "EXPLAIN SELECT FROM Item"),
        ("POST", STATEMENTS, "INSERT INTO Item (k) VALUES (2)"),
        ("POST", STATEMENTS, "CREATE CLASS Other"),
        ("POST", "/class/bench/Other", ""),
        ("DELETE", "/class/bench/Item", ""),
        ("POST", "/retry/bench", ""),
    ] {
        let refused = setup.send(method, path, body).await;
        assert_eq!(refused.error()["retryable"], true, "{method} {path}");
        let text = refused.fails(503, ErrorCode::NotReady.name(), "failed");
        let expected = "Database 'bench' is OFFLINE on server 'n1': ask another server (HA SET \
                        STATUS n1=ONLINE lets it serve again)";
        assert_eq!(text, expected, "{method} {path}");
    }
    // What people need who look after it is there, and so are other databases.
    setup.send("GET", DOCUMENT, "").await.expect(200);
    setup.send("GET", "/conflicts/bench", "").await.expect(200);
    setup.sql("HA CONFLICTS").await;
    setup.send("POST", "/class/other/Item", "").await.expect(201);
    let database = shown(&setup).await;
    let status = json!({"n1": "OFFLINE", "n2": "OFFLINE", "n3": "NOT_AVAILABLE"});
    assert_eq!(database["status"], status);
    assert_eq!(setup.sql("HA SET DBSTATUS n1=ONLINE").await, rows);
    setup.send("GET", &record, "").await.expect(200);
    assert_eq!(shown(&setup).await["status"]["n2"], "OFFLINE");
}

/// FEATURES: A20, L7
#[tokio::test]
async fn several_clauses_are_one_change_with_a_row_each() {
    let setup = Setup::bench().await;
    let before = (setup.send("GET", DOCUMENT, "").await.json(), shown(&setup).await);
    for (clauses, status, code, text) in [
        ("OWNER item_n2=n1 OWNER nowhere=n1", 404, "unknown_cluster", "nowhere"),
        ("OWNER item_n2=n1 ROLE n9=REPLICA", 404, "not_found", "'n9' is not in the cluster"),
        ("OWNER item_n2=n1 STATUS n9=OFFLINE", 404, "not_found", "'n9' is not in the cluster"),
        ("ROLE n3=REPLICA OWNER item=n3", 400, "bad_request", "has no that cluster"),
        ("STATUS n1=OFFLINE DBSTATUS n1=ONLINE", 400, "bad_request", "is named twice"),
        ("ROLE n2=REPLICA ROLE n1=REPLICA", 503, "not_ready", "1 MASTERs, 1 of which"),
        ("ROLE n3=REPLICA ROLE n3=MASTER", 503, "not_ready", "server 'n3' is NOT_AVAILABLE"),
        ("STATUS n1=OFFLINE STATUS n2=BACKUP", 501, "unsupported", "OFFLINE keeps clients away"),
    ] {
        let refused = ask(&setup, &format!("HA SET {clauses}")).await;
        let refused = refused.fails(status, code, "failed");
        assert!(refused.contains(text), "{clauses}: {refused}");
    }
    let after = (setup.send("GET", DOCUMENT, "").await.json(), shown(&setup).await);
    assert_eq!(after, before, "nothing happened");

    let rows = setup.sql("HA SET ROLE n3=REPLICA OWNER item=n2 STATUS n2=OFFLINE").await;
    let operations: Vec<&str> = rows.iter().map(|row| row["operation"].as_str().unwrap()).collect();
    assert_eq!(operations, ["ha set role", "ha set owner", "ha set status"]);
    assert!(rows.iter().all(|row| row["result"] == "OK"), "{rows:?}");
    let after = setup.send("GET", DOCUMENT, "").await.expect(200).json();
    assert_eq!(
        (&after["servers"]["n3"], &after["clusters"]["item"]["owner"]),
        (&json!("replica"), &json!("n2"))
    );
    assert_eq!(after["clusters"]["v_n2"]["servers"][0], "n1", "what nobody chose it for");
    assert_eq!(shown(&setup).await["status"]["n2"], "OFFLINE");
}

/// FEATURES: A20, L7
#[tokio::test]
async fn roles_and_owners_mean_the_same_in_the_document_and_in_a_statement() {
    let (put, said) = (Setup::bench().await, Setup::bench().await);
    said.sql("HA SET ROLE n3=REPLICA OWNER item_n3=n1 OWNER v=n2").await;
    let mut document = put.send("GET", DOCUMENT, "").await.expect(200).json();
    document["servers"]["n3"] = "replica".into();
    document["clusters"]["item_n3"]["owner"] = "n1".into();
    document["clusters"]["v"]["owner"] = "n2".into();
    let mut more = document.clone();
    more["readQuorum"] = "majority".into();
    let refused = put.send("PUT", DOCUMENT, &more.to_string()).await;
    let refused = refused.fails(400, "bad_request", "failed");
    assert!(refused.contains("roles can be changed together with owners"), "{refused}");
    put.send("PUT", DOCUMENT, &document.to_string()).await.expect(200);
    let mut shown = Vec::new();
    for setup in [&put, &said] {
        shown.push(setup.send("GET", DOCUMENT, "").await.expect(200).json());
    }
    assert_eq!(shown[0], shown[1]);
    assert_eq!(shown[0]["clusters"]["item_n3"]["owner"], "n1");
    // Who chose an owner takes that back first, in both.
    let mut document = shown.remove(0);
    document["servers"]["n3"] = "master".into();
    document["clusters"]["item_n3"].as_object_mut().unwrap().remove("owner");
    put.send("PUT", DOCUMENT, &document.to_string()).await.fails(400, "bad_request", "failed");
}

/// Rows `| statement | answer | … |` of the table in the manual, answers as rows of a result.
fn manual() -> Vec<(String, Vec<String>)> {
    let text = include_str!("../../../../README.md");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `HA ")?.split(" | ");
        let statement = cells.next()?.strip_suffix('`')?;
        let answer = cells.next()?.split('`').skip(1).step_by(2).map(str::to_owned);
        Some((format!("HA {statement}"), answer.collect()))
    });
    rows.collect()
}

/// FEATURES: A20
#[tokio::test]
async fn statements_are_answered_as_the_manual_says() {
    let rows = manual();
    for word in
        ["STATUS", "SET ROLE", "SET OWNER", "SET STATUS", "REMOVE SERVER", "SYNC", "RESOLVE"]
    {
        assert!(rows.iter().any(|(text, _)| text.starts_with(&format!("HA {word}"))), "{word}");
    }
    for (statement, expected) in rows {
        // Each in a cluster of its own: three MASTERs, the third one away.
        let setup = Setup::bench().await;
        let answer = ask(&setup, &statement).await;
        let status = answer.status;
        let body = answer.json();
        if let [code] = &expected[..]
            && !code.starts_with('{')
        {
            assert_eq!(body["errors"][0]["errorCode"], **code, "{statement}: {body}");
            continue;
        }
        assert_eq!(status, 200, "{statement}: {body}");
        let found = body["result"].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{statement}: {body}");
        for (found, expected) in found.iter().zip(&expected) {
            let (found, begin) = (found.to_string(), expected.split('…').next().unwrap());
            let fits = if begin == expected { found == *begin } else { found.starts_with(begin) };
            assert!(fits, "{statement}: {found}, not {expected}");
        }
    }
}

/// FEATURES: A20
#[tokio::test]
async fn force_gives_up_what_a_lost_server_has_and_nothing_else() {
    let setup = Setup::bench().await;
    // Nothing is at stake where every write has a majority: the plain removal, there or not.
    let rows = Setup::bench().await.sql("HA REMOVE SERVER n3 FORCE").await;
    assert_eq!(rows, [json!({"result": true})]);
    let loose = r#"{"writeQuorum":1}"#;
    setup.send("POST", "/database/loose/plocal", loose).await.expect(200);
    for (server, text) in [
        ("n3", "database 'loose' has writeQuorum 1, which is below the majority"),
        ("n2 FORCE", "server 'n2' is ONLINE: FORCE gives up what it alone has acknowledged"),
        ("n9 FORCE", "server 'n9' is not in the cluster"),
    ] {
        let refused = ask(&setup, &format!("HA REMOVE SERVER {server}")).await.json();
        let refused = refused["errors"][0]["content"].as_str().unwrap().to_owned();
        assert!(refused.contains(text), "{server}: {refused}");
    }
    setup.fake.heard_elsewhere(&["n3"]);
    let refused = ask(&setup, "HA REMOVE SERVER n3 FORCE").await;
    let text = refused.fails(400, "bad_request", "failed");
    let says = "server 'n3' is heard by other servers, or was until some seconds ago: FORCE gives";
    assert!(text.starts_with(says), "{text}");
    setup.fake.heard_elsewhere(&[]);
    // Nobody knows whether it happened: what it costs is said.
    setup.fake.fail(ErrorCode::Deadline);
    let in_doubt = ask(&setup, "HA REMOVE SERVER n3 FORCE").await;
    assert_eq!(in_doubt.json()["mayHaveLost"], json!(["loose"]));
    let text = in_doubt.fails(500, "deadline", "unknown");
    let says =
        "if it is, what server 'n3' alone had acknowledged in these databases is lost: loose";
    assert!(text.ends_with(says), "{text}");
    setup.fake.fail(ErrorCode::NoQuorum);
    let refused = ask(&setup, "HA REMOVE SERVER n3 FORCE").await.json();
    assert!(refused["mayHaveLost"].is_null(), "nothing happened: {refused}");
    let rows = setup.sql("HA REMOVE SERVER n3 FORCE").await;
    let warning = "server 'n3' was removed by FORCE while the writeQuorum of these databases was \
                   below the majority: loose. What it alone had acknowledged there is lost";
    assert_eq!(rows, [json!({"result": true, "mayHaveLost": ["loose"], "warning": warning})]);
}
