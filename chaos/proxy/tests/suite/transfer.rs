//! Integrity of much data while toxics change under it.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::{Node, Proxy, pair};

/// Bytes sent in all.
const TOTAL: usize = 64 * 1024 * 1024;

/// Pseudo-random bytes that are sent over and over. Longer than what the proxy may hold and of
/// odd length, so that whatever is lost, doubled or swapped shows in the comparison.
fn pattern() -> Arc<Vec<u8>> {
    let mut state = 0x9e37_79b9_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    Arc::new((0..1024 * 1024 + 7).map(|_| next()).collect())
}

/// Bytes from an offset of the endless repetition of a pattern, at most `most`.
fn window(pattern: &[u8], offset: usize, most: usize) -> &[u8] {
    let from = offset % pattern.len();
    &pattern[from..pattern.len().min(from + most)]
}

async fn send(mut socket: TcpStream, pattern: Arc<Vec<u8>>) {
    let mut sent = 0;
    while sent < TOTAL {
        let piece = window(&pattern, sent, (TOTAL - sent).min(64 * 1024));
        socket.write_all(piece).await.unwrap();
        sent += piece.len();
    }
    socket.shutdown().await.unwrap();
}

fn toxic(kind: &str, attributes: Value) -> Value {
    json!({"type": kind, "stream": "upstream", "attributes": attributes})
}

/// Reads to the end, comparing every byte; gives the count.
async fn receive(mut socket: TcpStream, pattern: Arc<Vec<u8>>) -> usize {
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        let count = socket.read(&mut buffer).await.unwrap();
        if count == 0 {
            return total;
        }
        let mut got = &buffer[..count];
        while !got.is_empty() {
            let wanted = window(&pattern, total, got.len());
            let (head, rest) = got.split_at(wanted.len());
            assert!(head == wanted, "bytes after {total} differ");
            total += wanted.len();
            got = rest;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_data_survives_toxics_changing_under_it() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (client, server) = pair(link, &mut node).await;
    let pattern = pattern();
    let sender = tokio::spawn(send(client, Arc::clone(&pattern)));
    let receiver = tokio::spawn(receive(server, pattern));
    let mut rounds = 0;
    while !receiver.is_finished() {
        rounds += 1;
        let slicer = json!({"average_size": 9_000, "size_variation": 4_000, "delay": 10});
        proxy.add_toxic("a", toxic("slicer", slicer)).await;
        let latency = json!({"latency": 3, "jitter": 2});
        proxy.add_toxic("a", toxic("latency", latency)).await;
        proxy.rules(&["a"], json!({"delay": {"latency_us": 400, "jitter_us": 400}})).await;
        proxy.add_toxic("a", toxic("bandwidth", json!({"rate": 400_000}))).await;
        let other = json!({"attributes": {"average_size": 30_000, "delay": 0}});
        proxy.ok("PATCH", "/proxies/a/toxics/slicer_upstream", other).await;
        proxy.rules(&["a"], json!({"cut": {"kind": "silent"}})).await;
        proxy.ok("DELETE", "/proxies/a/toxics/latency_upstream", Value::Null).await;
        proxy.rules(&["a"], json!({"heal": true})).await;
        let faster = json!({"attributes": {"rate": 900_000}});
        proxy.ok("PATCH", "/proxies/a/toxics/bandwidth_upstream", faster).await;
        proxy.ok("POST", "/reset", Value::Null).await;
    }
    assert_eq!(receiver.await.unwrap(), TOTAL);
    sender.await.unwrap();
    assert!(rounds > 1, "the toxics should have changed under the data");
    let view = proxy.until("a", |view| view["bytes"]["upstream"]["held_bytes"] == 0).await;
    assert_eq!(view["bytes"]["upstream"]["received_bytes"], TOTAL);
    assert_eq!(view["bytes"]["upstream"]["delivered_bytes"], TOTAL);
}
