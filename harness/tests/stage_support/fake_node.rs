//! A server that keeps the process contract and nothing else: first line, /health, /metrics,
//! one connection to every other server with pings that are echoed, identity in its data
//! directory, SIGTERM. Lets the stage be tested without a database.
#![allow(clippy::unwrap_used, reason = "a failed expectation of a test ends it")]
#![allow(clippy::print_stdout, reason = "the first line is the contract")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

/// Pause between pings, and between attempts to connect.
const PING: Duration = Duration::from_millis(20);

/// Bytes sent and received, by link and end.
type Bytes = BTreeMap<(String, &'static str), [u64; 2]>;

#[derive(Default)]
struct State {
    name: String,
    others: BTreeSet<String>,
    met: Mutex<BTreeSet<String>>,
    bytes: Mutex<Bytes>,
}

impl State {
    fn count(&self, link: &str, end: &'static str, sent: usize, received: usize) {
        let mut bytes = self.bytes.lock().unwrap();
        let entry = bytes.entry((link.to_string(), end)).or_default();
        entry[0] += sent as u64;
        entry[1] += received as u64;
    }

    fn is_ready(&self) -> bool {
        self.others.is_subset(&self.met.lock().unwrap())
    }

    fn metrics(&self) -> String {
        let mut text = String::from("# TYPE quorate_link_bytes_total counter\n");
        for ((link, end), [sent, received]) in &*self.bytes.lock().unwrap() {
            for (direction, value) in [("sent", sent), ("received", received)] {
                writeln!(
                    text,
                    "quorate_link_bytes_total{{link=\"{link}\",end=\"{end}\",\
                     direction=\"{direction}\"}} {value}"
                )
                .unwrap();
            }
        }
        text
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let words: Vec<String> = std::env::args().skip(2).collect();
    for pair in words.chunks(2) {
        arguments.entry(pair[0].clone()).or_default().push(pair[1].clone());
    }
    if planted("FAKE_NODE_DIES") {
        eprintln!("the planted reason of death");
        std::process::exit(3);
    }
    let one = |name: &str| arguments[name][0].clone();
    let name = one("--name");
    let masters = one("--masters");
    let others = masters.split(',').filter(|other| *other != name).map(String::from).collect();
    let state = Arc::new(State { name, others, ..State::default() });
    let (node_id, boot) = identity(&PathBuf::from(one("--data")), &state.name);
    if planted("FAKE_NODE_WAITS") && boot > 1 {
        let may_go = PathBuf::from(one("--data")).join("go");
        while !may_go.exists() {
            // A pause between two looks: the test makes a file, of which nothing tells.
            tokio::time::sleep(PING).await;
        }
    }
    let http = TcpListener::bind(one("--http")).await.unwrap();
    let peer = TcpListener::bind(one("--peer")).await.unwrap();
    println!(
        r#"{{"http":"{}","peer":"{}","node_id":"{node_id}","boot":{boot}}}"#,
        http.local_addr().unwrap(),
        peer.local_addr().unwrap()
    );
    for dial in arguments.get("--dial").into_iter().flatten() {
        let (other, address) = dial.split_once('=').unwrap();
        let (other, address) = (other.to_string(), address.parse().unwrap());
        tokio::spawn(dial_for_ever(Arc::clone(&state), other, address));
    }
    tokio::spawn(accept_for_ever(Arc::clone(&state), peer));
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    loop {
        tokio::select! {
            accepted = http.accept() => {
                tokio::spawn(serve(Arc::clone(&state), accepted.unwrap().0));
            }
            _ = terminate.recv() => {
                if !planted("FAKE_NODE_IGNORES_SIGTERM") {
                    return;
                }
            }
        }
    }
}

/// Whether a test wants this misbehaviour.
fn planted(variable: &str) -> bool {
    std::env::var_os(variable).is_some()
}

fn identity(data: &Path, name: &str) -> (String, u64) {
    std::fs::create_dir_all(data).unwrap();
    let path = data.join("identity");
    let boot = std::fs::read_to_string(&path).map_or(0, |text| text.trim().parse().unwrap()) + 1;
    std::fs::write(path, boot.to_string()).unwrap();
    let sum = name.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    (format!("{sum:016x}"), boot)
}

async fn dial_for_ever(state: Arc<State>, other: String, address: SocketAddr) {
    let link = format!("{}->{other}", state.name);
    loop {
        if let Err(error) = ping(&state, &link, &other, address).await {
            eprintln!("{link}: {error}");
        }
        tokio::time::sleep(PING).await;
    }
}

async fn ping(state: &State, link: &str, other: &str, address: SocketAddr) -> std::io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    stream.get_ref().set_nodelay(true)?;
    let mut message = format!("hello {}\n", state.name);
    loop {
        stream.get_mut().write_all(message.as_bytes()).await?;
        // One byte more than passed the proxy is what a second way round it would look like.
        let past = usize::from(planted("FAKE_NODE_BYPASSES"));
        state.count(link, "dialer", message.len() + past, 0);
        let mut echo = String::new();
        let read = stream.read_line(&mut echo).await?;
        state.count(link, "dialer", 0, read);
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        state.met.lock().unwrap().insert(other.to_string());
        message = "ping\n".to_string();
        tokio::time::sleep(PING).await;
    }
}

async fn accept_for_ever(state: Arc<State>, peer: TcpListener) {
    loop {
        let (stream, _) = peer.accept().await.unwrap();
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            if let Err(error) = echo(&state, stream).await {
                eprintln!("acceptor: {error}");
            }
        });
    }
}

async fn echo(state: &State, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut link = String::new();
    loop {
        let mut line = String::new();
        let read = stream.read_line(&mut line).await?;
        if read == 0 {
            return Ok(());
        }
        if let Some(from) = line.strip_prefix("hello ") {
            link = format!("{}->{}", from.trim(), state.name);
        }
        state.count(&link, "acceptor", 0, read);
        stream.get_mut().write_all(line.as_bytes()).await?;
        state.count(&link, "acceptor", line.len(), 0);
    }
}

async fn serve(state: Arc<State>, mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let request = String::from_utf8_lossy(&request);
    let (status, body) = match request.split(' ').nth(1) {
        Some("/health") if state.is_ready() => ("200 OK", r#"{"status":"ONLINE"}"#.to_string()),
        Some("/health") => ("503 Service Unavailable", r#"{"status":"STARTING"}"#.to_string()),
        Some("/metrics") => ("200 OK", state.metrics()),
        _ => ("404 Not Found", String::new()),
    };
    let length = body.len();
    let reply =
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(reply.as_bytes()).await
}
