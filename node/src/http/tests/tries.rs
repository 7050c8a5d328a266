//! Requests that start over by themselves: how often, and what is said in the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_api::{ClusterKey, ErrorCode, ItemId, ItemKey, NodeId};
use quorate_protocol::io::ReadQuorum;

use super::Setup;
use crate::http::tries::RetryPolicy;
use crate::index::worker;

const PATH: &str = "/document/bench/16:0";

fn policy(count: u32, delay: Duration) -> RetryPolicy {
    RetryPolicy { count, delay, jitter_percent: 0 }
}

async fn setup(count: u32, delay: Duration) -> Setup {
    let setup = Setup::retrying(policy(count, delay)).await;
    setup.sql("INSERT INTO Item SET v = 1").await;
    setup
}

#[tokio::test]
async fn tries_run_out() {
    for count in [0, 1, 3] {
        let setup = setup(count, Duration::ZERO).await;
        for _ in 0..=count {
            setup.fake.fail(ErrorCode::SchemaChanged);
        }
        let refused = setup.send("PUT", PATH, r#"{"v":2}"#).await;
        assert_eq!(refused.error()["retryable"], true);
        refused.fails(500, "schema_changed", "failed");
        assert_eq!(setup.counted("quorate_http_restarts_total").await, u64::from(count));
        // Every failure was met, so the next request meets none.
        setup.send("PUT", PATH, r#"{"v":2}"#).await.expect(200);
        for _ in 0..count {
            setup.fake.fail(ErrorCode::SchemaChanged);
        }
        setup.send("PUT", PATH, r#"{"v":3}"#).await.expect(200);
    }
}

#[tokio::test]
async fn what_the_client_did_not_name_is_retryable_when_tries_run_out() {
    for (count, status) in [(0, 409), (1, 200)] {
        let setup = setup(count, Duration::ZERO).await;
        // This server stays at version 1.
        let cluster = ClusterKey { database: 1, cluster: 16 };
        setup.fake.freeze(&ItemId::record(cluster, 0));
        setup.send("PUT", PATH, r#"{"v":2}"#).await.expect(200);
        let answer = setup.send("PATCH", PATH, r#"{"w":1}"#).await.expect(status);
        assert_eq!(setup.counted("quorate_http_conflicts_total").await, 1);
        if status == 409 {
            assert_eq!(answer.error()["retryable"], true);
            answer.fails(409, "version_conflict", "failed");
        }
        let named = setup.send("PATCH", PATH, r#"{"@version":1,"w":1}"#).await;
        assert_eq!(named.error()["retryable"], false, "that version is gone for ever");
        named.fails(409, "version_conflict", "failed");
    }
}

/// Where data centers decide by themselves, those of one are asked; with a unique key all, since
/// all of them vote. Without a majority that is no reason to refuse what needs none.
///
/// FEATURES: A17
#[tokio::test]
async fn what_the_next_attempt_builds_on_is_read_from_whoever_votes() {
    let setup = setup(1, Duration::ZERO).await;
    let asked = async |failures: &[ErrorCode]| {
        setup.fake.quorums();
        for code in failures {
            setup.fake.fail(*code);
        }
        setup.send("PATCH", PATH, r#"{"w":1}"#).await.expect(200);
        setup.fake.quorums()
    };
    let again = ErrorCode::SchemaChanged;
    assert_eq!(asked(&[again]).await, [ReadQuorum::Bases]);
    for node in [1, 2] {
        tokio::spawn(worker::run(setup.fake.as_node(NodeId(node)), Arc::default()));
    }
    setup.sql("CREATE INDEX Item.k UNIQUE").await;
    assert_eq!(asked(&[again]).await, [ReadQuorum::Majority]);
    let both = [ReadQuorum::Majority, ReadQuorum::Bases];
    assert_eq!(asked(&[again, ErrorCode::NoQuorum]).await, both);
}

#[tokio::test]
async fn the_deadline_ends_the_tries() {
    let setup = setup(1000, Duration::from_secs(10)).await;
    setup.fake.fail(ErrorCode::SchemaChanged);
    let begun = Instant::now();
    let refused = setup.send("PUT", PATH, r#"{"v":2}"#).await;
    refused.fails(500, "schema_changed", "failed");
    assert!(begun.elapsed() < Duration::from_secs(5), "the default deadline is not waited for");
    assert_eq!(setup.counted("quorate_http_restarts_total").await, 0);
}

#[tokio::test]
async fn an_old_key_here_is_no_duplicate() {
    let setup = setup(0, Duration::ZERO).await;
    for node in [1, 2] {
        tokio::spawn(worker::run(setup.fake.as_node(NodeId(node)), Arc::default()));
    }
    setup.sql("CREATE INDEX Item.v UNIQUE").await;
    setup.sql("INSERT INTO Item SET v = 7").await;
    let submitted = setup.fake.last_submitted();
    let key = submitted.iter().find(|op| matches!(op.item.key, ItemKey::Key(_))).unwrap();
    setup.fake.freeze(&key.item);
    let taken = setup.send("POST", "/document/bench", r#"{"@class":"Item","v":7}"#).await;
    assert_eq!(taken.error()["retryable"], false);
    taken.fails(500, "duplicate_key", "failed");
    // It goes through another server, and this one has not heard of it.
    setup.sql("DELETE FROM #16:1").await;
    setup.send("POST", "/document/bench", r#"{"@class":"Item","v":7}"#).await.expect(201);
}
