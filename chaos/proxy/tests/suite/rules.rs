//! The extension: many links in one step, delays below a millisecond, lease, seed, counters.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::common::{Node, Proxy, arrives, ends_by_reset, pair, passes};

#[tokio::test]
async fn a_partition_of_many_links_is_one_step() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let names: Vec<String> = (0..30).map(|i| format!("link-{i}")).collect();
    let mut pairs = Vec::new();
    for name in &names {
        let link = proxy.link(name, &node).await;
        pairs.push((link, pair(link, &mut node).await));
    }
    let before = proxy.show("link-0").await["bytes"].clone();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let step = proxy.rules(&names, json!({"cut": {"kind": "silent"}})).await;
    assert_eq!(step["links"].as_array().unwrap().len(), 30);
    assert!(step["effective"]["unix_us"].as_u64().unwrap() > 1_700_000_000_000_000);
    assert!(step["effective"]["monotonic_us"].as_u64().unwrap() > 0);
    for (_, (client, _)) in &mut pairs {
        client.write_all(b"held").await.unwrap();
    }
    for name in &names {
        proxy.until(name, |view| view["bytes"]["upstream"]["held_bytes"] == 4).await;
    }
    let healed = proxy.ok("POST", "/quorate/v1/heal", Value::Null).await;
    assert!(healed["effective"]["epoch"].as_u64() > step["effective"]["epoch"].as_u64());
    for (_, (client, server)) in &mut pairs {
        arrives(server, b"held").await;
        passes(server, client, b"back").await;
    }
    assert_eq!(before["upstream"]["received_bytes"], 0);
}

#[tokio::test]
async fn a_step_with_one_bad_change_changes_nothing() {
    let proxy = Proxy::start().await;
    let node = Node::start().await;
    for name in ["a", "b"] {
        proxy.link(name, &node).await;
    }
    let before = proxy.ok("GET", "/quorate/v1/links", Value::Null).await;
    let good = json!({"links": ["a"], "cut": {"kind": "closed"}});
    for (bad, status) in [
        (json!({"links": ["zz"], "cut": {"kind": "closed"}}), 404),
        (json!({"links": ["b"], "cut": {"kind": "closed", "stream": "upstream"}}), 400),
        (json!({"links": ["b"], "cut": {"kind": "open"}}), 400),
        (json!({"links": ["b"], "cut": {"kind": "half_open"}}), 400),
        (json!({"links": ["b"], "delay": {"latency_us": -1}}), 400),
        (json!({"links": ["b"], "delay": {"latency_us": 1, "distribution": "zipf"}}), 400),
        (json!({"links": ["b"], "remove_toxics": ["zz"]}), 404),
        (json!({"links": ["b"], "add_toxics": [{"type": "zz"}]}), 400),
        (json!({"links": ["b"], "cuts": null}), 400),
    ] {
        let body = json!({"changes": [good, bad]});
        let (got, answer) = proxy.call("POST", "/quorate/v1/rules", body).await;
        assert_eq!((got, &answer["status"]), (status, &json!(status)), "{answer}");
        assert_eq!(proxy.ok("GET", "/quorate/v1/links", Value::Null).await, before);
    }
    let lease = json!({"holder": "x", "ttl_ms": 0});
    let body = json!({"changes": [good], "lease": lease});
    assert_eq!(proxy.call("POST", "/quorate/v1/rules", body).await.0, 400);
    assert_eq!(proxy.ok("GET", "/quorate/v1/links", Value::Null).await, before);
}

/// The shortest of some round trips.
async fn round_trip(client: &mut TcpStream, server: &mut TcpStream) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let start = Instant::now();
        passes(client, server, b"?").await;
        passes(server, client, b"!").await;
        best = best.min(start.elapsed());
    }
    best
}

#[tokio::test]
async fn delays_are_in_microseconds_and_per_direction() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (mut client, mut server) = pair(link, &mut node).await;
    let delay = json!({"delay": {"latency_us": 300}});
    proxy.rules(&["a"], delay).await;
    let both = round_trip(&mut client, &mut server).await;
    assert!(both >= Duration::from_micros(600), "{both:?}");
    let off = json!({"delay": {"latency_us": 0, "stream": "downstream"}});
    proxy.rules(&["a"], off).await;
    let view = proxy.show("a").await;
    assert_eq!(view["delays"]["upstream"]["latency_us"], 300);
    assert_eq!(view["delays"]["downstream"], Value::Null);
    let one = round_trip(&mut client, &mut server).await;
    assert!(one >= Duration::from_micros(300), "{one:?}");
    let normal = json!({"delay": {
        "latency_us": 500, "jitter_us": 20, "distribution": "normal", "stream": "upstream"
    }});
    proxy.rules(&["*"], normal).await;
    let spread = round_trip(&mut client, &mut server).await;
    assert!(spread >= Duration::from_micros(300), "{spread:?}");
    proxy.rules(&["a"], json!({"delay": null})).await;
    passes(&mut client, &mut server, b"plain").await;
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_heals() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (mut client, mut server) = pair(link, &mut node).await;
    proxy.add_toxic("a", json!({"type": "slow_close"})).await;
    let started = Instant::now();
    let step = json!({
        "changes": [{"links": ["a"], "cut": {"kind": "silent"},
            "add_toxics": [{"type": "latency", "stream": "upstream"}]}],
        "lease": {"holder": "run-1", "ttl_ms": 150}
    });
    proxy.ok("POST", "/quorate/v1/rules", step).await;
    let other = json!({"holder": "run-2", "ttl_ms": 10});
    let (status, answer) = proxy.call("PUT", "/quorate/v1/lease", other).await;
    assert_eq!(status, 409, "{answer}");
    let again = json!({"holder": "run-1", "ttl_ms": 200});
    let lease = proxy.ok("PUT", "/quorate/v1/lease", again).await;
    assert_eq!((&lease["holder"], &lease["ttl_ms"]), (&json!("run-1"), &json!(200)));
    client.write_all(b"held").await.unwrap();
    arrives(&mut server, b"held").await;
    assert!(started.elapsed() >= Duration::from_millis(200));
    let view = proxy.show("a").await;
    assert_eq!(view["cut"], Value::Null);
    // What the standard API set stays, unless the lease covers it.
    assert_eq!(view["toxics"].as_array().unwrap().len(), 1);
    assert_eq!(proxy.ok("GET", "/quorate/v1/lease", Value::Null).await["expired"], 1);

    let all = json!({"holder": "run-2", "ttl_ms": 20, "covers": "all"});
    proxy.ok("PUT", "/quorate/v1/lease", all).await;
    proxy.until("a", |view| view["toxics"].as_array().unwrap().is_empty()).await;
}

#[tokio::test]
async fn giving_a_lease_up_heals_at_once() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    assert_eq!(proxy.call("DELETE", "/quorate/v1/lease", Value::Null).await.0, 404);
    let lease = json!({"holder": "run-1", "ttl_ms": 60_000});
    proxy.ok("PUT", "/quorate/v1/lease", lease).await;
    proxy.rules(&["a"], json!({"cut": {"kind": "closed"}})).await;
    proxy.ok("DELETE", "/quorate/v1/lease", Value::Null).await;
    pair(link, &mut node).await;
}

/// Which of 40 connections a half-toxic reset bites.
async fn bitten(seed: u64, disturb: bool) -> Vec<bool> {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    proxy.ok("PUT", "/quorate/v1/seed", json!({ "seed": seed })).await;
    let link = proxy.link("a", &node).await;
    proxy.link("b", &node).await;
    let half = json!({"type": "reset_peer", "stream": "upstream", "toxicity": 0.5});
    proxy.add_toxic("a", half.clone()).await;
    let mut bites = Vec::new();
    for index in 0..40 {
        if disturb && index % 4 == 0 {
            let name = format!("noise-{index}");
            let noise = json!({"type": "latency", "name": name, "toxicity": 0.5});
            proxy.add_toxic("a", noise.clone()).await;
            proxy.add_toxic("b", noise).await;
        }
        let (mut client, mut server) = pair(link, &mut node).await;
        client.write_all(b"x").await.unwrap();
        let mut byte = [0];
        let read = tokio::io::AsyncReadExt::read(&mut server, &mut byte).await;
        bites.push(!matches!(read, Ok(1)));
    }
    bites
}

#[tokio::test]
async fn the_seed_decides_and_other_faults_shift_nothing() {
    let first = bitten(7, false).await;
    assert!(first.contains(&true) && first.contains(&false));
    assert_eq!(first, bitten(7, true).await);
    assert_ne!(first, bitten(8, false).await);
}

#[tokio::test]
async fn an_open_connection_keeps_its_draw_when_toxics_come_and_go() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (mut client, mut server) = pair(link, &mut node).await;
    let never = json!({"type": "timeout", "stream": "upstream", "toxicity": 0.0});
    proxy.add_toxic("a", never).await;
    for index in 0..50 {
        let noise = json!({"type": "latency", "name": format!("n{index}"), "stream": "upstream"});
        proxy.add_toxic("a", noise).await;
        passes(&mut client, &mut server, b"still here").await;
        if index % 2 == 0 {
            proxy.ok("DELETE", &format!("/proxies/a/toxics/n{index}"), Value::Null).await;
        }
    }
    let always = json!({"toxicity": 1.0});
    proxy.ok("PATCH", "/proxies/a/toxics/timeout_upstream", always).await;
    client.write_all(b"swallowed").await.unwrap();
    proxy.until("a", |view| view["bytes"]["upstream"]["discarded_bytes"] == 9).await;
}

#[tokio::test]
async fn counters_are_exact() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (mut client, mut server) = pair(link, &mut node).await;
    passes(&mut client, &mut server, &[1; 1_000]).await;
    passes(&mut server, &mut client, &[2; 70_000]).await;
    proxy.add_toxic("a", json!({"type": "limit_data", "attributes": {"bytes": 10}})).await;
    server.write_all(&[3; 25]).await.unwrap();
    arrives(&mut client, &[3; 10]).await;
    assert!(!ends_by_reset(&mut client).await);
    let view = proxy.until("a", |view| view["connections"]["open"] == 0).await;
    assert_eq!(
        view["bytes"],
        json!({
            "upstream": {"received_bytes": 1_000, "delivered_bytes": 1_000,
                "discarded_bytes": 0, "held_bytes": 0},
            "downstream": {"received_bytes": 70_025, "delivered_bytes": 70_010,
                "discarded_bytes": 15, "held_bytes": 0},
        })
    );
    let all = proxy.ok("GET", "/quorate/v1/counters", Value::Null).await;
    assert_eq!(all["links"]["a"]["bytes"], view["bytes"]);
    assert_eq!(all["links"]["a"]["connections"], view["connections"]);
    let info = proxy.ok("GET", "/quorate/v1/info", Value::Null).await;
    assert_eq!(info["name"], "quorate-proxy");
}
