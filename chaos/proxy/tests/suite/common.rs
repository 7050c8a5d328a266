//! A proxy in this process, nodes behind it, and an HTTP client that hides nothing.

use std::net::SocketAddr;
use std::time::Duration;

use quorate_proxy::{Server, ServerConfig, ServerHandle};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A wait longer than this means that what is waited for does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Awaits something that must happen.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it should have happened by now")
}

/// A proxy with its API.
pub(crate) struct Proxy {
    pub(crate) handle: ServerHandle,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        Self { handle: Server::start(ServerConfig::default()).await.unwrap() }
    }

    /// Sends a request; gives status and body, null when it is empty.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, text) = self.raw(method, path, &body).await;
        (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() })
    }

    pub(crate) async fn raw(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: proxy\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send(&request).await
    }

    /// Sends a request as it stands.
    pub(crate) async fn send(&self, request: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.handle.api()).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon(socket.read_to_string(&mut answer)).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// A request that must succeed; gives the body.
    pub(crate) async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Creates a link to a node; gives its address.
    pub(crate) async fn link(&self, name: &str, node: &Node) -> SocketAddr {
        let upstream = node.address.to_string();
        let body = json!({"name": name, "listen": "127.0.0.1:0", "upstream": upstream});
        let link = self.ok("POST", "/proxies", body).await;
        link["listen"].as_str().unwrap().parse().unwrap()
    }

    /// One step of the extension on some links.
    pub(crate) async fn rules(&self, links: &[&str], change: Value) -> Value {
        let mut change = change;
        change["links"] = json!(links);
        self.ok("POST", "/quorate/v1/rules", json!({ "changes": [change] })).await
    }

    pub(crate) async fn add_toxic(&self, link: &str, toxic: Value) -> Value {
        self.ok("POST", &format!("/proxies/{link}/toxics"), toxic).await
    }

    /// State and counters of a link.
    pub(crate) async fn show(&self, link: &str) -> Value {
        self.ok("GET", &format!("/quorate/v1/links/{link}"), Value::Null).await
    }

    /// Waits until a link's state is as wanted; gives it.
    pub(crate) async fn until(&self, link: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let watch = async {
            loop {
                let view = self.show(link).await;
                if wanted(&view) {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        soon(watch).await
    }
}

/// A listener behind the proxy that hands over its connections.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    accepted: mpsc::Receiver<TcpStream>,
}

impl Node {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, accepted) = mpsc::channel(64);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                if sender.send(socket).await.is_err() {
                    return;
                }
            }
        });
        Self { address, accepted }
    }

    /// The next connection.
    pub(crate) async fn next(&mut self) -> TcpStream {
        soon(self.accepted.recv()).await.unwrap()
    }

    /// Whether a connection has arrived and was not taken.
    pub(crate) fn has_next(&mut self) -> bool {
        !self.accepted.is_empty()
    }
}

/// A connection through a link: the client's socket and the node's.
pub(crate) async fn pair(link: SocketAddr, node: &mut Node) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(link).await.unwrap();
    (client, node.next().await)
}

/// Sends bytes one way and checks that they arrive.
pub(crate) async fn passes(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).await.unwrap();
    arrives(to, bytes).await;
}

/// Reads as many bytes as expected and compares.
pub(crate) async fn arrives(to: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    soon(to.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, bytes);
}

/// Awaits the end of a stream; true for a reset, false for an end in good order.
pub(crate) async fn ends_by_reset(socket: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match soon(socket.read_to_end(&mut rest)).await {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            true
        }
    }
}
