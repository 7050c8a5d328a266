//! Authentication, headers, sizes, unknown routes, health, metrics.

use serde_json::json;

use super::{Limits, Setup, credentials};

#[tokio::test]
async fn strangers_are_refused_with_a_challenge() {
    let setup = Setup::bench().await;
    for (path, realm) in [
        ("/document/bench/16:0", "Basic realm=\"OrientDB db-bench\""),
        ("/listDatabases", "Basic realm=\"OrientDB Server\""),
        ("/document/a%22b/16:0", "Basic realm=\"OrientDB Server\""),
    ] {
        for wrong in ["", "Basic", "Basic cm9vdDp3cm9uZw==", "Bearer x"] {
            let answer = setup.send_with("GET", path, &[("authorization", wrong)], "").await;
            assert_eq!(answer.header("www-authenticate"), realm);
            assert_eq!(answer.fails(401, "unauthorized", "failed"), "401 Unauthorized.");
        }
    }
    let script = [("authorization", ""), ("x-requested-with", "XMLHttpRequest")];
    let answer = setup.send_with("GET", "/listDatabases", &script, "").await;
    assert_eq!(answer.header("www-authenticate"), "");
    let body = r#"{"@class":"Item"}"#;
    let answer = setup.send_with("POST", "/document/bench", &[("authorization", "")], body).await;
    answer.fails(401, "unauthorized", "failed");
    for path in ["/ping", "/health", "/metrics"] {
        setup.send_with("GET", path, &[("authorization", "")], "").await.expect(200);
    }
    let answer = setup.send("GET", "/disconnect", "").await;
    assert_eq!(answer.fails(401, "unauthorized", "failed"), "Logged out");
    assert!(credentials().starts_with("Basic "));
}

#[tokio::test]
async fn unknown_routes_and_methods() {
    let setup = Setup::bench().await;
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/nothing/here"),
        ("POST", "/document"),
        ("DELETE", "/document/bench"),
        ("PUT", "/batch/bench"),
        ("GET", "/document/bench/16:0/"),
        ("OPTIONS", "/document/bench"),
        ("DELETE", "/health"),
    ] {
        let text = setup.send(method, path, "").await.fails(405, "unknown_route", "failed");
        assert!(text.starts_with(&format!("Command not found: {method}.")), "{text}");
    }
}

#[tokio::test]
async fn headers_are_checked() {
    let setup = Setup::bench().await;
    for (name, value) in [
        ("x-quorate-deadline-ms", "0"),
        ("x-quorate-deadline-ms", "60001"),
        ("x-quorate-deadline-ms", "1.5"),
        ("x-quorate-deadline-ms", "-1"),
        ("x-quorate-deadline-ms", "18446744073709551616"),
        ("x-quorate-read-level", "strong"),
        ("if-none-match", "abc"),
        ("x-quorate-session-token", "n1:7"),
    ] {
        let answer = setup.send_with("GET", "/document/bench/16:0", &[(name, value)], "").await;
        answer.fails(400, "bad_request", "failed");
    }
    let bad = [("x-quorate-tombstone-id", "x")];
    let answer = setup.send_with("DELETE", "/document/bench/16:0", &bad, "").await;
    answer.fails(400, "bad_request", "failed");
    setup
        .send_with("GET", "/listDatabases", &[("x-quorate-deadline-ms", "60000")], "")
        .await
        .expect(200);
}

/// FEATURES: S3
#[tokio::test]
async fn bodies_have_a_limit_and_what_requests_hold_has_one() {
    let requests_bytes_max = 5 * 2048;
    let limits = Limits { body_bytes_max: 4096, requests_bytes_max, ..Limits::default() };
    let setup = Setup::with(limits);
    let big = "x".repeat(4097);
    let answer = setup.send("POST", "/document/bench", &big).await;
    answer.fails(413, "too_large", "failed");
    let answer = setup.send("POST", "/document/bench", &"x".repeat(3000)).await;
    let text = answer.fails(413, "too_large", "failed");
    assert!(text.contains("would need 15k of memory, and all requests together may"), "{text}");
    assert!(text.contains("have 10k here") && text.contains("--heap"), "{text}");
    // Values take more than their text.
    let list = format!("[{}0]", "0,".repeat(500));
    let text = setup.send("POST", "/document/bench", &list).await;
    text.fails(413, "too_large", "failed");
    let answer = setup.send("POST", "/document/bench", &"x".repeat(2048)).await;
    answer.fails(400, "bad_request", "failed");
    assert_eq!(setup.counted("quorate_requests_refused_total").await, 2);
    assert_eq!(setup.counted("quorate_requests_bytes").await, 0);
    assert_eq!(setup.counted("quorate_requests_bytes_max").await, 10 << 10);
}

/// FEATURES: S3
#[tokio::test]
async fn a_result_is_held_until_its_answer_is_sent_and_the_excess_is_refused() {
    let requests_bytes_max = 512 << 10;
    let setup = Setup::with(Limits { requests_bytes_max, ..Limits::default() }).with_bench().await;
    let text = "x".repeat(10_000);
    for n in 0..14 {
        let record = json!({"@class": "Item", "n": n, "text": text}).to_string();
        setup.send("POST", "/document/bench", &record).await.expect(201);
    }
    // Answers that nobody reads.
    let unread = async || {
        let request = axum::http::Request::builder().method("POST").uri("/command/bench/sql");
        let request = request.header("authorization", credentials());
        let request = request.body(axum::body::Body::from("SELECT FROM Item LIMIT 4")).unwrap();
        tower_service::Service::call(&mut setup.router.clone(), request).await.unwrap()
    };
    let unread = [unread().await, unread().await];
    assert!(unread.iter().all(|answer| answer.status() == 200));
    let held = setup.counted("quorate_requests_bytes").await;
    assert!((80_000..90_000).contains(&held), "{held}");
    let ten = "SELECT FROM Item LIMIT 10";
    let refused = setup.send("POST", "/command/bench/sql", ten).await;
    assert_eq!(refused.error()["retryable"], true);
    refused.fails(503, "overload", "failed");
    drop(unread);
    assert_eq!(setup.counted("quorate_requests_bytes").await, 0);
    assert_eq!(setup.sql(ten).await.len(), 10);
    // A page of 14 records, and rows with the answer that they are put together to.
    let all = setup.send("POST", "/command/bench/sql", "SELECT FROM Item").await;
    let text = all.fails(413, "too_large", "failed");
    assert!(text.contains("SKIP and LIMIT"), "{text}");
}

#[tokio::test]
async fn health_says_who_is_missing() {
    let setup = Setup::new();
    let fine = setup.send("GET", "/health", "").await.expect(200).json();
    let masters = json!({"n1": true, "n2": true, "n3": false});
    assert_eq!(fine, json!({"status": "ONLINE", "masters": masters}));
    setup.fake.starting(true);
    let early = setup.send("GET", "/health", "").await;
    assert_eq!((&early.json()["status"], &early.json()["masters"]), (&json!("STARTING"), &masters));
    let text = early.fails(503, "not_ready", "failed");
    assert!(text.contains("never met so far: n3"), "{text}");
}

#[tokio::test]
async fn the_server_describes_itself() {
    let setup = Setup::bench().await;
    assert_eq!(setup.send("GET", "/ping", "").await.expect(200).text(), "pong");
    let version = setup.send("GET", "/server/version", "").await.expect(200).text();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    let server = setup.send("GET", "/server", "").await.expect(200).json();
    assert_eq!(server["dbs"], json!(["bench"]));
    assert_eq!(server["storages"][0]["type"], "plocal");
    let metrics = setup.send("GET", "/metrics", "").await.expect(200);
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4");
    for name in ["quorate_transactions_total{outcome=\"ok\"} 1\n", "quorate_http_requests_total "] {
        assert!(metrics.text().contains(name), "{name}");
    }
}
