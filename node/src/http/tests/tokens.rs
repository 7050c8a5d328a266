//! Retry tokens over HTTP: a request under one happens once, and says the same every time.

use serde_json::{Value, json};

use super::{Answer, Setup};

async fn session(setup: &Setup, body: &str) -> String {
    let made = setup.send("POST", "/retry/bench", body).await.expect(201).json();
    made["session"].as_str().unwrap().to_owned()
}

async fn under(setup: &Setup, token: &str, method: &str, path: &str, body: &str) -> Answer {
    setup.send_with(method, path, &[("x-quorate-transaction-token", token)], body).await
}

/// FEATURES: A9
#[tokio::test]
async fn a_request_under_a_token_happens_once() {
    let setup = Setup::bench().await;
    let session = session(&setup, "").await;
    let batch = r#"{"transaction":true,"operations":[
        {"type":"c","record":{"@class":"Item","v":1}},
        {"type":"c","record":{"@class":"Item","v":2}}]}"#;
    let mut answers: Vec<(u16, Value)> = Vec::new();
    for (number, method, path, body) in [
        (1, "POST", "/document/bench", r#"{"@class":"Item","v":0}"#),
        (2, "POST", "/batch/bench", batch),
        (3, "PUT", "/document/bench/16:0", r#"{"@version":1,"v":10}"#),
        (4, "PATCH", "/document/bench/16:0", r#"{"w":1}"#),
        (5, "POST", "/command/bench/sql", "UPDATE Item SET x = 1 WHERE v > 0"),
        (6, "POST", "/command/bench/sql", "INSERT INTO Item SET v = 9"),
        (7, "DELETE", "/document/bench/16:1", ""),
    ] {
        let token = format!("{session}:{number}");
        let first = under(&setup, &token, method, path, body).await;
        assert!(first.status < 300, "{first:?}");
        for _ in 0..2 {
            let again = under(&setup, &token, method, path, body).await;
            assert_eq!((again.status, &again.body), (first.status, &first.body), "{path} {body}");
            assert_eq!(again.header("etag"), first.header("etag"));
        }
        let body = serde_json::from_slice(&first.body).unwrap_or(Value::Null);
        answers.push((first.status, body));
    }
    assert_eq!((answers[0].0, &answers[0].1["@rid"]), (201, &json!("#16:0")));
    assert_eq!(answers[4].1, json!({"result": [{"count": 3}]}));
    let rows = setup.sql("SELECT v, @version FROM Item").await;
    let expected = [
        json!({"v": 10, "@version": 4}),
        json!({"v": 2, "@version": 2}),
        json!({"v": 9, "@version": 1}),
    ];
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn a_second_attempt_that_comes_late_finds_the_first_ones_answer() {
    let setup = Setup::bench().await;
    let session = session(&setup, "").await;
    setup.sql("INSERT INTO Item SET v = 1").await;
    let token = format!("{session}:1");
    let body = r#"{"@version":1,"v":2}"#;
    // Another server has done it, and this one has not heard of it.
    let cluster = quorate_api::ClusterKey { database: 1, cluster: 0 };
    let key = [session.as_bytes(), b"/", &1_u64.to_be_bytes()].concat();
    let item = quorate_api::ItemId { cluster, key: quorate_api::ItemKey::Token(key) };
    setup.fake.freeze(&item);
    let first = under(&setup, &token, "PUT", "/document/bench/16:0", body).await.expect(200);
    let second = under(&setup, &token, "PUT", "/document/bench/16:0", body).await.expect(200);
    assert_eq!(second.body, first.body);
    // Nobody knows whether an earlier attempt counts: not to be guessed.
    setup.fake.freeze(&item);
    let stale = r#"{"@version":1,"v":3}"#;
    let other = format!("{session}:2");
    setup.fake.fail_reads(1);
    let unsure = under(&setup, &other, "PUT", "/document/bench/16:0", stale).await;
    assert_eq!(unsure.error()["outcome"], "unknown");
}

#[tokio::test]
async fn headers_that_say_what_happens_belong_to_the_request() {
    let setup = Setup::bench().await;
    let session = session(&setup, "").await;
    for v in 0..2 {
        setup.sql(&format!("INSERT INTO Item SET v = {v}")).await;
    }
    for (number, method, path, header, body) in [
        (1, "PUT", "/document/bench/16:0", "if-match", r#"{"v":2}"#),
        (2, "DELETE", "/document/bench/16:1", "x-quorate-tombstone-id", ""),
    ] {
        let token = format!("{session}:{number}");
        let with = async |value: Option<&str>| {
            let mut headers = vec![("x-quorate-transaction-token", token.as_str())];
            headers.extend(value.map(|value| (header, value)));
            setup.send_with(method, path, &headers, body).await
        };
        let first = with(Some("1")).await;
        assert!(first.status < 300, "{first:?}");
        assert_eq!(with(Some("1")).await.status, first.status);
        for other in [Some("2"), None] {
            with(other).await.fails(400, "bad_request", "failed");
        }
    }
    assert_eq!(setup.counted("quorate_token_answers_total").await, 2);
}

#[tokio::test]
async fn nothing_to_do_stays_the_answer() {
    let setup = Setup::bench().await;
    let session = session(&setup, "").await;
    for (number, sql) in [(1, "UPDATE Item SET x = 1 WHERE v > 0"), (2, "DELETE FROM Item")] {
        let token = format!("{session}:{number}");
        let again = || under(&setup, &token, "POST", "/command/bench/sql", sql);
        let none = json!({"result": [{"count": 0}]});
        assert_eq!(again().await.expect(200).json(), none);
        let rows = setup.sql("INSERT INTO Item SET v = 1").await;
        assert_eq!(again().await.expect(200).json(), none, "{sql}");
        let rid = rows[0]["@rid"].as_str().unwrap();
        setup.sql(&format!("DELETE FROM {rid}")).await;
    }
}

#[tokio::test]
async fn tokens_end_with_their_session_or_their_acknowledgement() {
    let setup = Setup::bench().await;
    let session = session(&setup, r#"{"seconds":60}"#).await;
    let body = r#"{"@class":"Item"}"#;
    let token = |number: u64| format!("{session}:{number}");
    under(&setup, &token(1), "POST", "/document/bench", body).await.expect(201);
    let other = under(&setup, &token(1), "POST", "/document/bench", r#"{"@class":"V"}"#).await;
    let text = other.fails(400, "bad_request", "failed");
    assert!(text.contains("used for another request"), "{text}");
    setup.send("DELETE", &format!("/retry/bench/{session}/1"), "").await.expect(204);
    let late = under(&setup, &token(1), "POST", "/document/bench", body).await;
    late.fails(410, "token_expired", "failed");
    under(&setup, &token(2), "POST", "/document/bench", body).await.expect(201);
    setup.send("DELETE", &format!("/retry/bench/{session}"), "").await.expect(204);
    let ended = under(&setup, &token(3), "POST", "/document/bench", body).await;
    ended.fails(410, "token_expired", "failed");
    assert_eq!(setup.sql("SELECT FROM Item").await.len(), 2);
    let gone = setup.send("DELETE", &format!("/retry/bench/{session}"), "").await;
    gone.fails(404, "not_found", "failed");
}

#[tokio::test]
async fn tokens_that_make_no_sense() {
    let setup = Setup::bench().await;
    let body = r#"{"@class":"Item"}"#;
    for junk in ["x", "", ":1", "abc:1", "AAAAAAAAAAAAAAAAAAAAAAAA:x", "AAAAAAAAAAAAAAAAAAAAAAA!:1"]
    {
        let answer = under(&setup, junk, "POST", "/document/bench", body).await;
        answer.fails(400, "bad_request", "failed");
    }
    let stranger = "AAAAAAAAAAAAAAAAAAAAAAAA:1";
    let answer = under(&setup, stranger, "POST", "/document/bench", body).await;
    answer.fails(410, "token_expired", "failed");
    let several = r#"{"operations":[{"type":"c","record":{"@class":"Item"}}]}"#;
    let answer = under(&setup, stranger, "POST", "/batch/bench", several).await;
    answer.fails(400, "bad_request", "failed");
    for sql in ["SELECT FROM Item", "CREATE CLASS X"] {
        let answer = under(&setup, stranger, "POST", "/command/bench/sql", sql).await;
        answer.fails(400, "bad_request", "failed");
    }
    for seconds in ["0", "86401", "-1", "\"x\""] {
        let body = format!(r#"{{"seconds":{seconds}}}"#);
        setup.send("POST", "/retry/bench", &body).await.fails(400, "bad_request", "failed");
    }
}
