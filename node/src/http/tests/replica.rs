//! A REPLICA over HTTP: what it refuses, in which words, and what it answers.

use quorate_api::ErrorCode;
use serde_json::json;

use super::Setup;
use crate::http::members::Bulletin;

/// FEATURES: A2
#[tokio::test]
async fn a_replica_refuses_every_kind_of_write_and_names_the_masters() {
    let setup = Setup::bench().await;
    let rows = setup.sql("INSERT INTO Item (k) VALUES (1)").await;
    let rid = rows[0]["@rid"].as_str().unwrap().trim_start_matches('#').to_owned();
    let http = Some("10.0.0.2:2480".parse().unwrap());
    setup.fake.hear("n2", Bulletin { http, ..Bulletin::default() }, [].into());
    setup.fake.be_replica();
    let record = format!("/document/bench/{rid}");
    let (update, delete) = (format!("Update record #{rid}"), format!("Delete record #{rid}"));
    for (method, path, body, operation) in [
        ("POST", "/document/bench", r#"{"@class":"Item"}"#, "Create record #-1:-1"),
        ("PUT", &record, r#"{"k":2}"#, &update),
        ("PATCH", &record, r#"{"k":2}"#, &update),
        ("PUT", &format!("{record}?updateMode=partial"), r#"{"k":2}"#, &update),
        ("DELETE", &record, "", &delete),
        ("POST", "/batch/bench", r#"{"transaction":true,"operations":[]}"#, "Transaction Commit"),
        ("POST", "/command/bench/sql", "DELETE FROM Item", "Command 'DELETE FROM Item'"),
        ("POST", "/command/bench/sql", "CREATE CLASS Other", "Command 'CREATE CLASS Other'"),
        ("POST", "/class/bench/Other", "", "Command 'CREATE CLASS Other'"),
        ("DELETE", "/class/bench/Item", "", "Command 'DROP CLASS Item'"),
        ("POST", "/database/other/plocal", "", "Command 'CREATE DATABASE other'"),
        ("DELETE", "/database/bench", "", "Command 'DROP DATABASE bench'"),
        ("POST", "/retry/bench", "", "Transaction Commit"),
    ] {
        let refused = setup.send(method, path, body).await;
        let masters = refused.json()["masters"].clone();
        assert_eq!(refused.error()["retryable"], false, "{method} {path}");
        let text = refused.fails(500, ErrorCode::NotMaster.name(), "failed");
        let expected = format!(
            "Cannot execute write operation ({operation}) on node 'n1' because is non a master"
        );
        assert_eq!(text, expected, "{method} {path}");
        let second = json!({"name": "n2", "status": "ONLINE", "http": "10.0.0.2:2480"});
        assert_eq!(masters[1], second, "{method} {path}");
    }
    let found = setup.sql("SELECT FROM Item").await;
    assert_eq!((found.len(), &found[0]["k"]), (1, &json!(1)), "nothing happened");
    setup.send("GET", &record, "").await.expect(200);
    setup.send("GET", "/query/bench/sql/SELECT%20FROM%20Item", "").await.expect(200);
    setup.sql("HA STATUS").await;
}

/// FEATURES: A2
#[tokio::test]
async fn a_witness_refuses_records_too_and_describes_what_there_is() {
    let setup = Setup::bench().await;
    let rows = setup.sql("INSERT INTO Item (k) VALUES (1)").await;
    let rid = rows[0]["@rid"].as_str().unwrap().trim_start_matches('#').to_owned();
    setup.fake.be_witness();
    let read = "Cannot read records on node 'n1' because it is a witness and keeps none";
    for (method, path, text) in [
        ("GET", format!("/document/bench/{rid}"), read),
        ("GET", "/query/bench/sql/SELECT%20FROM%20Item".to_owned(), read),
        ("GET", "/query/bench/sql/SELECT%20FROM%20Item%20WHERE%20k%20=%201".to_owned(), read),
        ("GET", format!("/query/bench/sql/SELECT%20FROM%20%23{rid}"), read),
        ("DELETE", format!("/document/bench/{rid}"), "Cannot execute write operation"),
    ] {
        let refused = setup.send(method, &path, "").await;
        assert_eq!(refused.json()["masters"][0]["name"], "n1", "{path}");
        let told = refused.fails(500, ErrorCode::NotMaster.name(), "failed");
        assert!(told.starts_with(text), "{path}: {told}");
    }
    setup.send("GET", "/database/bench", "").await.expect(200);
    setup.sql("HA STATUS").await;
}

/// FEATURES: A2
#[tokio::test]
async fn a_write_that_met_a_change_of_role_names_the_masters_too() {
    let setup = Setup::bench().await;
    let rows = setup.sql("INSERT INTO Item (k) VALUES (1)").await;
    let rid = rows[0]["@rid"].as_str().unwrap().trim_start_matches('#').to_owned();
    setup.fake.fail(ErrorCode::NotMaster);
    let refused = setup.send("PUT", &format!("/document/bench/{rid}"), r#"{"k":2}"#).await;
    assert_eq!(refused.json()["masters"][0]["name"], "n1");
    refused.fails(500, ErrorCode::NotMaster.name(), "failed");
}
