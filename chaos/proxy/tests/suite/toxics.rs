//! Each toxic of the original on a live connection.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{Node, Proxy, arrives, ends_by_reset, pair, passes, soon};

/// A connection with one upstream toxic on it.
async fn under(toxic: Value) -> (Proxy, Node, TcpStream, TcpStream) {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (client, server) = pair(link, &mut node).await;
    let mut toxic = toxic;
    toxic["stream"] = json!("upstream");
    toxic["name"] = json!("t");
    proxy.add_toxic("a", toxic).await;
    (proxy, node, client, server)
}

#[tokio::test]
async fn latency_delays_and_is_no_rate_limit() {
    let toxic = json!({"type": "latency", "attributes": {"latency": 80}});
    let (_proxy, _node, mut client, mut server) = under(toxic).await;
    let start = Instant::now();
    // One after the other they would take 1.6 s.
    for _ in 0..20 {
        client.write_all(b"piece").await.unwrap();
        tokio::task::yield_now().await;
    }
    arrives(&mut server, &b"piece".repeat(20)).await;
    assert!(start.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn removing_latency_delivers_what_it_holds() {
    let toxic = json!({"type": "latency", "attributes": {"latency": 3_600_000}});
    let (proxy, _node, mut client, mut server) = under(toxic).await;
    client.write_all(b"held for an hour").await.unwrap();
    proxy.until("a", |view| view["bytes"]["upstream"]["held_bytes"] == 16).await;
    proxy.ok("DELETE", "/proxies/a/toxics/t", Value::Null).await;
    arrives(&mut server, b"held for an hour").await;
}

#[tokio::test]
async fn shortening_latency_re_times_what_it_holds() {
    let toxic = json!({"type": "latency", "attributes": {"latency": 3_600_000}});
    let (proxy, _node, mut client, mut server) = under(toxic).await;
    client.write_all(b"held").await.unwrap();
    proxy.until("a", |view| view["bytes"]["upstream"]["held_bytes"] == 4).await;
    let shorter = json!({"attributes": {"latency": 1}});
    proxy.ok("PATCH", "/proxies/a/toxics/t", shorter).await;
    arrives(&mut server, b"held").await;
}

#[tokio::test]
async fn bandwidth_limits_the_rate_and_zero_holds() {
    let toxic = json!({"type": "bandwidth", "attributes": {"rate": 100}});
    let (proxy, _node, mut client, mut server) = under(toxic).await;
    let start = Instant::now();
    passes(&mut client, &mut server, &[5; 20_000]).await;
    // 20 kB at 100 kB/s, less what the line may catch up.
    assert!(start.elapsed() >= Duration::from_millis(170), "{:?}", start.elapsed());
    let path = "/proxies/a/toxics/t";
    proxy.ok("PATCH", path, json!({"attributes": {"rate": 0}})).await;
    client.write_all(b"held").await.unwrap();
    proxy.until("a", |view| view["bytes"]["upstream"]["held_bytes"] == 4).await;
    proxy.ok("PATCH", path, json!({"attributes": {"rate": 1_000_000}})).await;
    arrives(&mut server, b"held").await;
}

#[tokio::test]
async fn slow_close_delays_the_end_only() {
    let toxic = json!({"type": "slow_close", "attributes": {"delay": 100}});
    let (_proxy, _node, mut client, mut server) = under(toxic).await;
    let start = Instant::now();
    client.write_all(b"data").await.unwrap();
    client.shutdown().await.unwrap();
    arrives(&mut server, b"data").await;
    assert!(!ends_by_reset(&mut server).await);
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn timeout_swallows_and_closes() {
    let toxic = json!({"type": "timeout", "attributes": {"timeout": 60}});
    let start = Instant::now();
    let (proxy, _node, mut client, mut server) = under(toxic).await;
    client.write_all(b"lost").await.unwrap();
    let mut rest = Vec::new();
    assert_eq!(soon(server.read_to_end(&mut rest)).await.unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(60));
    let view = proxy.until("a", |view| view["connections"]["open"] == 0).await;
    assert_eq!(view["bytes"]["upstream"]["discarded_bytes"], 4);
}

#[tokio::test]
async fn removing_an_endless_timeout_closes_the_connection() {
    let toxic = json!({"type": "timeout", "attributes": {"timeout": 0}});
    let (proxy, _node, mut client, mut server) = under(toxic).await;
    client.write_all(b"lost").await.unwrap();
    proxy.until("a", |view| view["bytes"]["upstream"]["discarded_bytes"] == 4).await;
    passes(&mut server, &mut client, b"the other way").await;
    proxy.ok("DELETE", "/proxies/a/toxics/t", Value::Null).await;
    assert!(!ends_by_reset(&mut server).await);
    assert!(!ends_by_reset(&mut client).await);
}

#[tokio::test]
async fn reset_peer_resets_both_sides_on_first_use() {
    let toxic = json!({"type": "reset_peer", "attributes": {"timeout": 40}});
    let (proxy, _node, mut client, mut server) = under(toxic).await;
    passes(&mut server, &mut client, b"unharmed so far").await;
    let start = Instant::now();
    client.write_all(b"trigger").await.unwrap();
    assert!(ends_by_reset(&mut client).await);
    assert!(ends_by_reset(&mut server).await);
    assert!(start.elapsed() >= Duration::from_millis(40));
    let view = proxy.until("a", |view| view["connections"]["open"] == 0).await;
    assert_eq!(view["connections"]["reset"], 1);
}

#[tokio::test]
async fn removing_reset_peer_in_time_loses_nothing() {
    let toxic = json!({"type": "reset_peer", "attributes": {"timeout": 3_600_000}});
    let (proxy, _node, mut client, mut server) = under(toxic).await;
    client.write_all(b"spared").await.unwrap();
    proxy.until("a", |view| view["bytes"]["upstream"]["held_bytes"] == 6).await;
    proxy.ok("DELETE", "/proxies/a/toxics/t", Value::Null).await;
    arrives(&mut server, b"spared").await;
}

#[tokio::test]
async fn slicer_keeps_the_bytes_and_spaces_them() {
    let toxic = json!({"type": "slicer",
        "attributes": {"average_size": 10, "size_variation": 3, "delay": 2_000}});
    let (_proxy, _node, mut client, mut server) = under(toxic).await;
    let data: Vec<u8> = (0..200).collect();
    let start = Instant::now();
    client.write_all(&data).await.unwrap();
    let mut first = [0; 200];
    let count = soon(server.read(&mut first)).await.unwrap();
    assert_eq!(first[..count], data[..count]);
    arrives(&mut server, &data[count..]).await;
    // At least 200/13 slices with a pause after each but the last.
    assert!(start.elapsed() >= Duration::from_millis(30), "{:?}", start.elapsed());
}

#[tokio::test]
async fn limit_data_counts_over_updates() {
    let toxic = json!({"type": "limit_data", "attributes": {"bytes": 100}});
    let (proxy, _node, mut client, mut server) = under(toxic).await;
    passes(&mut client, &mut server, &[1; 60]).await;
    proxy.ok("PATCH", "/proxies/a/toxics/t", json!({"attributes": {"bytes": 80}})).await;
    client.write_all(&[2; 60]).await.unwrap();
    let mut rest = Vec::new();
    soon(server.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, [2; 20]);
}
