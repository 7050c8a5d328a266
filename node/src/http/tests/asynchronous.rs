//! Transactions whose clients do not wait: when they are answered, with what, and how the outcome
//! is told.

use super::{Answer, Setup};
use quorate_api::ErrorCode;

const MODE: &str = "x-quorate-execution-mode";
const ASYNCHRONOUS: [(&str, &str); 1] = [(MODE, "asynchronous")];
const OF: &str = "x-quorate-outcome-of";
const ITEM: &str = r#"{"@class":"Item","v":1}"#;

/// Where the outcome of an early answer is told.
#[track_caller]
fn location(answer: Answer) -> String {
    let answer = answer.expect(202);
    let body = answer.json();
    assert_eq!(body["outcome"], "unknown", "{body}");
    let id = body["accepted"].as_str().unwrap();
    assert!(id.starts_with("0000000000000001.1."), "{id}");
    assert_eq!(answer.header("location"), format!("/outcome/{id}"));
    assert!(!answer.headers.contains_key("etag"));
    answer.header("location").to_owned()
}

/// FEATURES: A15
#[tokio::test]
async fn the_answer_comes_with_the_vote_and_the_outcome_later() {
    let setup = Setup::bench().await;
    let permits = setup.fake.decide_later();
    let early = setup.send_with("POST", "/document/bench", &ASYNCHRONOUS, ITEM).await;
    let outcome = location(early);
    let soon = [("x-quorate-deadline-ms", "20")];
    let pending = setup.send_with("GET", &outcome, &soon, "").await;
    assert!(!pending.headers.contains_key(OF));
    pending.fails(500, "deadline", "unknown");
    setup.send("GET", "/document/bench/16:0", "").await.fails(404, "not_found", "failed");
    permits.add_permits(1);
    for _ in 0..2 {
        let told = setup.send("GET", &outcome, "").await.expect(201);
        assert_eq!(told.header(OF), outcome.strip_prefix("/outcome/").unwrap());
        assert_eq!((told.header("etag"), &told.json()["@rid"]), ("1", &"#16:0".into()));
    }
    setup.send("GET", "/document/bench/16:0", "").await.expect(200);
    assert_eq!(setup.counted("quorate_asynchronous_accepted_total").await, 1);
    let ok = setup.counted("quorate_asynchronous_outcomes_total{outcome=\"ok\"}").await;
    assert_eq!(ok, 1);
}

/// FEATURES: A15
#[tokio::test]
async fn what_is_undone_afterwards_is_told_and_counted() {
    let setup = Setup::bench().await;
    for (code, status, outcome) in
        [(ErrorCode::QuorumFailed, 500, "failed"), (ErrorCode::Deadline, 500, "unknown")]
    {
        let permits = setup.fake.decide_later();
        setup.fake.fail(code);
        let early = setup.send_with("POST", "/document/bench", &ASYNCHRONOUS, ITEM).await;
        let path = location(early);
        permits.add_permits(1);
        let told = setup.send("GET", &path, "").await;
        assert!(told.headers.contains_key(OF));
        told.fails(status, code.name(), outcome);
        let name = format!("quorate_asynchronous_outcomes_total{{outcome=\"{outcome}\"}}");
        assert_eq!(setup.counted(&name).await, 1);
    }
    setup.send("GET", "/document/bench/16:0", "").await.fails(404, "not_found", "failed");
}

#[tokio::test]
async fn what_is_decided_before_the_vote_is_answered_as_ever() {
    let setup = Setup::bench().await;
    setup.send_with("POST", "/document/bench", &ASYNCHRONOUS, ITEM).await.expect(201);
    setup.fake.fail(ErrorCode::NoQuorum);
    let refused = setup.send_with("POST", "/document/bench", &ASYNCHRONOUS, ITEM).await;
    refused.fails(500, "no_quorum", "failed");
    let missing = setup.send_with("PUT", "/document/bench/16:7", &ASYNCHRONOUS, ITEM).await;
    missing.fails(404, "not_found", "failed");
    assert_eq!(setup.counted("quorate_asynchronous_accepted_total").await, 0);
}

/// FEATURES: A15
#[tokio::test]
async fn a_database_can_make_it_the_rule() {
    let setup = Setup::new();
    let settings = r#"{"executionMode":"asynchronous"}"#;
    setup.send("POST", "/database/bench/plocal", settings).await.expect(200);
    setup.send("POST", "/class/bench/Item", "").await.expect(201);
    let permits = setup.fake.decide_later();
    let batch = format!(r#"{{"transaction":true,"operations":[{{"type":"c","record":{ITEM}}}]}}"#);
    let sql = "INSERT INTO Item SET v = 1";
    let early = [("/document/bench", ITEM), ("/batch/bench", &batch), ("/command/bench/sql", sql)];
    for (path, body) in early {
        let outcome = location(setup.send("POST", path, body).await);
        permits.add_permits(1);
        let told = setup.send("GET", &outcome, "").await;
        assert!(matches!(told.status, 200 | 201), "{told:?}");
    }
    // A client can wait all the same.
    permits.add_permits(1);
    let wait = [(MODE, "synchronous")];
    setup.send_with("POST", "/document/bench", &wait, ITEM).await.expect(201);
    // What is not one transaction on records is waited for.
    permits.add_permits(2);
    setup.send("POST", "/command/bench/sql", "CREATE CLASS Other").await.expect(200);
    let two = format!(
        r#"{{"operations":[{{"type":"c","record":{ITEM}}},{{"type":"c","record":{ITEM}}}]}}"#
    );
    setup.send("POST", "/batch/bench", &two).await.expect(200);
    assert_eq!(permits.available_permits(), 0);
    setup.send("POST", "/command/bench/sql", "SELECT FROM Item").await.expect(200);
}

#[tokio::test]
async fn what_is_not_one_transaction_cannot_ask_for_it() {
    let setup = Setup::bench().await;
    let loose = format!(r#"{{"operations":[{{"type":"c","record":{ITEM}}}]}}"#);
    for (method, path, body) in [
        ("GET", "/document/bench/16:0", ""),
        ("POST", "/class/bench/Other", ""),
        ("POST", "/database/other/plocal", ""),
        ("POST", "/command/bench/sql", "SELECT FROM Item"),
        ("POST", "/command/bench/sql", "CREATE CLASS Other"),
        ("POST", "/batch/bench", &loose),
        ("POST", "/retry/bench", ""),
    ] {
        let answer = setup.send_with(method, path, &ASYNCHRONOUS, body).await;
        let text = answer.fails(400, "bad_request", "failed");
        assert!(text.contains("one transaction"), "{method} {path}: {text}");
    }
    let other = [(MODE, "async")];
    let answer = setup.send_with("POST", "/document/bench", &other, ITEM).await;
    let text = answer.fails(400, "bad_request", "failed");
    assert!(text.contains("undefined, synchronous and asynchronous"), "{text}");
    let stranger = [(MODE, "asynchronous"), ("authorization", "Basic eDp5")];
    let answer = setup.send_with("POST", "/document/bench", &stranger, ITEM).await;
    answer.fails(401, "unauthorized", "failed");
}

/// That nothing is known of it says nothing about what became of it.
#[tokio::test]
async fn an_outcome_that_is_not_known_here_is_unknown() {
    let setup = Setup::bench().await;
    for id in ["0000000000000001.1.7", "0000000000000002.1.0", "0000000000000001.0.0", "x"] {
        let answer = setup.send("GET", &format!("/outcome/{id}"), "").await;
        assert_eq!(answer.error()["retryable"], false);
        answer.fails(404, "not_found", "unknown");
    }
}

#[tokio::test]
async fn a_sessions_token_comes_with_the_outcome() {
    let setup = Setup::bench().await;
    let permits = setup.fake.decide_later();
    let session = [(MODE, "asynchronous"), ("x-quorate-session-token", "")];
    let early = setup.send_with("POST", "/document/bench", &session, ITEM).await;
    assert!(!early.headers.contains_key("x-quorate-session-token"));
    let outcome = location(early);
    permits.add_permits(1);
    let told = setup.send("GET", &outcome, "").await.expect(201);
    assert_eq!(told.header("x-quorate-session-token"), "0000000000000001.1:1");
}

/// An outcome in a session carries what the session has seen since, and what it had seen then.
#[tokio::test]
async fn an_outcome_in_a_session_takes_nothing_from_its_token() {
    let setup = Setup::bench().await;
    setup.fake.has_committed(2);
    let permits = setup.fake.decide_later();
    let then = "0000000000000001.0:2";
    let session = [(MODE, "asynchronous"), ("x-quorate-session-token", then)];
    let early = setup.send_with("POST", "/document/bench", &session, ITEM).await;
    let outcome = location(early);
    permits.add_permits(1);
    let since = [("x-quorate-session-token", "")];
    let told = setup.send_with("GET", &outcome, &since, "").await.expect(201);
    let token = told.header("x-quorate-session-token");
    assert_eq!(token, format!("{then},0000000000000001.1:3"));
}

#[tokio::test]
async fn who_goes_before_the_vote_leaves_nothing_behind() {
    let setup = Setup::bench().await;
    setup.fake.hang();
    let request = setup.send_with("POST", "/document/bench", &ASYNCHRONOUS, ITEM);
    tokio::select! {
        answer = request => panic!("{answer:?}"),
        () = setup.fake.until_hanging() => {}
    }
    let soon = [("x-quorate-deadline-ms", "20")];
    let answer = setup.send_with("GET", "/outcome/0000000000000001.1.0", &soon, "").await;
    answer.fails(404, "not_found", "unknown");
}
