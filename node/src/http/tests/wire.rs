//! The accept loop over real sockets: keep-alive, junk, limits, an orderly end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::fake::Fake;
use super::{Limits, config, credentials};
use crate::http::backend::Backend;
use crate::http::serve;

struct Running {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    fake: Fake,
}

async fn start(limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let fake = Fake::default();
    let done = async move {
        stopped.await.ok();
    };
    let task = tokio::spawn(serve(fake.clone(), listener, config(limits), done));
    Running { address, stop, task, fake }
}

/// Sends bytes and reads until a whole reply with its declared length, or the end, is there.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut reply = Vec::new();
    let mut buffer = [0; 4096];
    let reading = async {
        loop {
            let text = String::from_utf8_lossy(&reply).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok());
                if body.len() >= length.unwrap_or(0) {
                    return text;
                }
            }
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return text,
                Ok(count) => reply.extend_from_slice(&buffer[..count]),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap()
}

fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let credentials = credentials();
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: {credentials}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let running = start(Limits::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let reply = exchange(&mut stream, &request("POST", "/database/bench/plocal", "")).await;
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    let reply = exchange(&mut stream, &request("POST", "/class/bench/Item", "")).await;
    assert!(reply.starts_with("HTTP/1.1 201 Created\r\n"), "{reply}");
    let body = r#"{"@class":"Item","v":1}"#;
    for position in 0..3 {
        let reply = exchange(&mut stream, &request("POST", "/document/bench", body)).await;
        assert!(reply.contains(&format!("\"@rid\":\"#16:{position}\"")), "{reply}");
    }
    let chunked = format!(
        "POST /document/bench HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\n\
         transfer-encoding: chunked\r\n\r\n17\r\n{body}\r\n0\r\n\r\n",
        credentials()
    );
    let reply = exchange(&mut stream, chunked.as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 201 Created\r\n"), "{reply}");
    let reply = exchange(&mut stream, &request("GET", "/nope", "")).await;
    assert!(reply.contains("\"errorCode\":\"unknown_route\""), "{reply}");
    let reply = exchange(&mut stream, &request("GET", "/metrics", "")).await;
    assert!(reply.contains("quorate_http_requests_total 7\n"), "{reply}");
    assert!(reply.contains("code=\"unknown_route\",outcome=\"failed\"} 1\n"), "{reply}");
    assert!(reply.contains("quorate_http_connections 1\n"), "{reply}");
}

#[tokio::test]
async fn bodies_that_are_cut_or_too_long() {
    let limits = Limits { body_bytes_max: 1000, ..Limits::default() };
    let running = start(limits).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let long = format!(
        "POST /document/bench HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\n\
         transfer-encoding: chunked\r\n\r\n7d0\r\n{}\r\n0\r\n\r\n",
        credentials(),
        "x".repeat(2000)
    );
    let reply = exchange(&mut stream, long.as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{reply}");
    assert!(reply.contains("\"outcome\":\"failed\""), "{reply}");

    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let never = format!(
        "POST /document/bench HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\n\
         x-quorate-deadline-ms: 50\r\ncontent-length: 500\r\n\r\nabc",
        credentials()
    );
    let reply = exchange(&mut stream, never.as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{reply}");
    assert!(reply.contains("did not arrive before the deadline"), "{reply}");
}

/// A refusal that overtakes the request must not be lost with a reset: the client sends on after
/// the server has answered and closed.
#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let limits = Limits { body_bytes_max: 1000, ..Limits::default() };
    let running = start(limits).await;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let head = format!(
            "POST /document/bench HTTP/1.1\r\nhost: x\r\nauthorization: {}\r\n\
             content-length: 400000\r\n\r\n",
            credentials()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The answer is on its way before the body is.
        stream.readable().await.unwrap();
        let reply = exchange(&mut stream, &vec![b'x'; 400_000]).await;
        assert!(reply.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{reply}");
    }
}

#[tokio::test]
async fn junk_does_not_stop_the_server() {
    let running = start(Limits::default()).await;
    for junk in [&b"\x00\xff\r\n\r\n"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"] {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        exchange(&mut stream, junk).await;
    }
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let mut huge = b"GET /ping HTTP/1.1\r\nx: ".to_vec();
    huge.extend(vec![b'a'; 80 << 10]);
    huge.extend(b"\r\n\r\n");
    let reply = exchange(&mut stream, &huge).await;
    assert!(!reply.contains("pong"), "{reply}");
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let reply = exchange(&mut stream, &request("GET", "/ping", "")).await;
    assert!(reply.ends_with("pong"), "{reply}");
}

#[tokio::test]
async fn slow_headers_are_cut_off() {
    let limits = Limits { header_timeout: Duration::from_millis(50), ..Limits::default() };
    let running = start(limits).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let reply = exchange(&mut stream, b"GET /ping HT").await;
    assert!(!reply.contains("pong"), "{reply}");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_with_an_outcome() {
    let running = start(Limits { connections_max: 1, ..Limits::default() }).await;
    let mut first = TcpStream::connect(running.address).await.unwrap();
    exchange(&mut first, &request("GET", "/ping", "")).await;
    let mut second = TcpStream::connect(running.address).await.unwrap();
    let reply = exchange(&mut second, b"").await;
    assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
    let body = reply.split_once("\r\n\r\n").unwrap().1;
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["errors"][0]["outcome"], "failed");
    let reply = exchange(&mut first, &request("GET", "/metrics", "")).await;
    assert!(reply.contains("quorate_http_connections_refused_total 1\n"), "{reply}");
}

#[tokio::test]
async fn stopping_lets_requests_finish_and_closes_idle_connections() {
    let limits = Limits { shutdown_grace: Duration::from_secs(3), ..Limits::default() };
    let running = start(limits).await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    exchange(&mut idle, &request("POST", "/database/bench/plocal", "")).await;
    exchange(&mut idle, &request("POST", "/class/bench/Item", "")).await;
    running.fake.hang();
    let mut busy = TcpStream::connect(running.address).await.unwrap();
    let body = r#"{"@class":"Item"}"#;
    let credentials = credentials();
    let length = body.len();
    let head = format!(
        "POST /document/bench HTTP/1.1\r\nhost: x\r\nauthorization: {credentials}\r\n\
         x-quorate-deadline-ms: 500\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let pending = tokio::spawn(async move { exchange(&mut busy, head.as_bytes()).await });
    running.fake.until_hanging().await;
    running.stop.send(()).unwrap();
    let reply = pending.await.unwrap();
    assert!(reply.contains("\"outcome\":\"unknown\""), "{reply}");
    assert_eq!(exchange(&mut idle, b"").await, "");
    tokio::time::timeout(Duration::from_secs(2), running.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}

/// FEATURES: S11
#[tokio::test]
async fn a_request_whose_client_has_gone_does_not_run_any_more() {
    let running = start(Limits::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    exchange(&mut stream, &request("POST", "/database/bench/plocal", "")).await;
    exchange(&mut stream, &request("POST", "/class/bench/Item", "")).await;
    running.fake.hang();
    let create = request("POST", "/document/bench", r#"{"@class":"Item"}"#);
    stream.write_all(&create).await.unwrap();
    running.fake.until_hanging().await;
    let count = running.fake.running();
    assert_eq!(count.load(Ordering::Acquire), 1);
    drop(stream);
    let none = async {
        while count.load(Ordering::Acquire) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), none).await.unwrap();
}

/// Were it closed without an answer, whoever is just sending could not know what became of that.
///
/// FEATURES: S11
#[tokio::test]
async fn a_server_that_leaves_refuses_definitely_and_ends_connections_with_that() {
    let running = start(Limits::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let reply = exchange(&mut stream, &request("POST", "/database/bench/plocal", "")).await;
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    running.fake.leave();
    let reply = exchange(&mut stream, &request("POST", "/class/bench/Item", "")).await;
    assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
    assert!(reply.contains("connection: close") && reply.contains("\"outcome\":\"failed\""));
    assert!(reply.contains("SHUTTINGDOWN") && reply.contains("\"retryable\":true"), "{reply}");
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "closed");
    let mut other = TcpStream::connect(running.address).await.unwrap();
    let reply = exchange(&mut other, &request("GET", "/ping", "")).await;
    assert!(reply.ends_with("pong"), "who watches it is answered: {reply}");
}

/// FEATURES: S11
#[tokio::test]
async fn a_server_that_is_told_to_stop_still_refuses_for_a_moment() {
    let limits = Limits { shutdown_stay: Duration::from_secs(600), ..Limits::default() };
    let running = start(limits).await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    exchange(&mut idle, &request("GET", "/ping", "")).await;
    running.fake.leave();
    running.stop.send(()).unwrap();
    // It has heard of it.
    tokio::task::yield_now().await;
    let mut fresh = TcpStream::connect(running.address).await.unwrap();
    for stream in [&mut idle, &mut fresh] {
        let reply = exchange(stream, &request("POST", "/database/bench/plocal", "")).await;
        assert!(reply.contains("SHUTTINGDOWN") && reply.contains("\"outcome\":\"failed\""));
    }
    running.task.abort();
}
