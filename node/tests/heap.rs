//! `--heap` on a real server: what is too much is refused before it is taken, what was acknowledged
//! is there, and the process stays within its budget.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use support::{
    BINARY, NEVER_SUSPECT, Server, StopWhenDropped, body, json_of, request, request_with, status,
    three_servers, until,
};

const HEAP_MIB: u64 = 64;
/// Five times its size is what a body may come to while it is worked on: two of these fit into the
/// budget, three do not.
const BIG: usize = 1_300_000;
const FAR_TOO_MUCH: usize = 64 << 20;
const CLIENTS: u64 = 10;
/// Records of each.
const RECORDS: u64 = 5;
/// Sooner than the server asks for, and not at once.
const COME_AGAIN: Duration = Duration::from_millis(50);

/// A line of `/proc/PID/status`, in bytes.
fn memory(server: &Server, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() << 10
}

/// A number of `/metrics`.
fn counted(server: &Server, name: &str) -> u64 {
    let text = server.http("GET", "/metrics", "");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

/// The refusal of what would be too much: nothing happened, and it may come again.
fn assert_refused(answer: &str) {
    assert_eq!(status(answer), 503, "{answer}");
    assert!(answer.to_ascii_lowercase().contains("retry-after: 1\r\n"), "{answer}");
    let error = json_of(answer)["errors"][0].clone();
    let told = (&error["errorCode"], &error["outcome"], &error["retryable"]);
    assert_eq!(told, (&json!("overload"), &json!("failed"), &json!(true)), "{error}");
}

fn record(n: u64, size: usize) -> String {
    json!({"@class": "Item", "n": n, "text": "x".repeat(size)}).to_string()
}

/// The beginning of a request whose body is still to come.
fn begin(server: &Server, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = format!(
        "POST /document/bench HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\
         Authorization: Basic cm9vdDpyb290\r\nX-Quorate-Deadline-Ms: 60000\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// The process is within its budget at every look, and the highest of all was within budget and
/// program: the system maps that from its file, and can read it again.
struct Watched {
    anonymous_most: AtomicU64,
}

impl Watched {
    fn look(&self, server: &Server) {
        self.anonymous_most.fetch_max(memory(server, "RssAnon"), Ordering::Relaxed);
    }

    fn assert_within(&self, server: &Server) {
        let (heap, program) = (HEAP_MIB << 20, std::fs::metadata(BINARY).unwrap().len());
        let anonymous = self.anonymous_most.load(Ordering::Relaxed);
        let highest = memory(server, "VmHWM");
        eprintln!("highest: {} MiB own, {} MiB in all", anonymous >> 20, highest >> 20);
        assert!(anonymous <= heap, "{anonymous} bytes of its own");
        assert!(highest <= heap + program, "{highest} bytes in all");
    }
}

/// Calls `look` until the guard goes.
fn watching<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    done: &'scope AtomicBool,
    look: impl Fn() + Send + 'scope,
) -> StopWhenDropped<'scope> {
    scope.spawn(move || {
        while !done.load(Ordering::Acquire) {
            look();
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    StopWhenDropped(done)
}

/// FEATURES: S3
#[test]
fn what_is_too_much_is_refused_before_it_is_taken() {
    let data = tempfile::tempdir().unwrap();
    let folder = format!("--data={}", data.path().join("n1").display());
    let heap = format!("--heap={HEAP_MIB}m");
    let server = Server::start(&[], &["--name=n1", &folder, "--http=127.0.0.1:0", &heap]);
    server.wait_online();
    server.wait_log("heap_mib=64");
    server.make_class();
    // Room for two: they have announced themselves, and nothing of them has come yet.
    let held = || counted(&server, "quorate_requests_bytes");
    let mut first = begin(&server, BIG);
    until("the first body", || held() >= 5 * BIG as u64);
    let mut second = begin(&server, BIG);
    until("the second body", || held() >= 10 * BIG as u64);
    let third = request(server.address(), "POST", "/document/bench", &record(3, BIG)).unwrap();
    assert_refused(&third);
    // What is small is served.
    let small = request(server.address(), "POST", "/document/bench", &record(4, 10)).unwrap();
    assert_eq!(status(&small), 201, "{small}");
    let shell = record(0, 0).len();
    for stream in [&mut first, &mut second] {
        stream.write_all(record(1, BIG - shell).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(status(&answer), 201, "{answer:.500}");
    }
    until("everything given back", || held() == 0);
    // One that can never fit is refused for good, and told what would help.
    let huge = request(server.address(), "POST", "/document/bench", &record(5, 3_900_000)).unwrap();
    assert_eq!(status(&huge), 413, "{huge:.500}");
    let error = json_of(&huge)["errors"][0].clone();
    assert_eq!((&error["outcome"], &error["retryable"]), (&json!("failed"), &json!(false)));
    assert!(error["content"].as_str().unwrap().contains("--heap"), "{error}");
    assert_eq!(counted(&server, "quorate_requests_refused_total"), 2);
}

/// More than any socket holds: a client that sends on when it was refused long ago gets to read
/// why, where a connection reset under it would leave it with "broken pipe".
#[test]
fn who_sends_far_too_much_reads_that_it_was_refused() {
    let data = tempfile::tempdir().unwrap();
    let folder = format!("--data={}", data.path().join("n1").display());
    let server = Server::start(&[], &["--name=n1", &folder, "--http=127.0.0.1:0"]);
    server.wait_online();
    let far = record(1, FAR_TOO_MUCH);
    let answer = request(server.address(), "POST", "/document/bench", &far).unwrap();
    assert_eq!(status(&answer), 413, "{answer:.500}");
    assert_eq!(json_of(&answer)["errors"][0]["outcome"], "failed", "{answer:.500}");
}

/// More than fits, from all sides, for as long as it takes to be refused; and a client that does
/// not read what it asked for.
///
/// FEATURES: S3
#[test]
fn a_server_under_too_much_load_stays_within_its_heap_and_loses_nothing() {
    let data = tempfile::tempdir().unwrap();
    let heap = format!("--heap={HEAP_MIB}m");
    let servers: Vec<Server> = three_servers(data.path())
        .into_iter()
        .map(|mut arguments| {
            // Where this test asks for much, the processors are late for signs of life.
            arguments.extend([heap.clone(), NEVER_SUSPECT.to_owned()]);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            Server::start(&[], &arguments)
        })
        .collect();
    servers.iter().for_each(Server::wait_for_all_three);
    servers[0].wait_log("below the 128m advised");
    servers[0].make_class();
    let watched: Vec<Watched> =
        servers.iter().map(|_| Watched { anonymous_most: AtomicU64::new(0) }).collect();
    let (acknowledged, refused) = (Mutex::new(BTreeMap::new()), AtomicU64::new(0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (servers, watched) = (&servers, &watched);
        let looking = watching(scope, &done, move || {
            servers.iter().zip(watched).for_each(|(server, watched)| watched.look(server));
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (acknowledged, refused) = (&acknowledged, &refused);
                scope.spawn(move || load(&servers[0], client, acknowledged, refused))
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        drop(looking);
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    eprintln!("{} acknowledged, {} refused", acknowledged.len(), refused.load(Ordering::Relaxed));
    assert_eq!(acknowledged.len() as u64, CLIENTS * RECORDS, "whoever comes again is served");
    assert!(refused.load(Ordering::Relaxed) > 0, "nothing was too much");
    for (server, watched) in servers.iter().zip(&watched) {
        watched.assert_within(server);
        for (rid, n) in &acknowledged {
            let path = format!("/document/bench/{}", rid.trim_start_matches('#'));
            until("a record everywhere", || {
                let answer = server.http("GET", &path, "");
                status(&answer) == 200 && json_of(&answer)["n"] == *n
            });
        }
    }
}

/// The records of a client, each until it is acknowledged, and a look at many in between.
fn load(
    server: &Server,
    client: u64,
    acknowledged: &Mutex<BTreeMap<String, u64>>,
    refused: &AtomicU64,
) {
    let patient = [("X-Quorate-Deadline-Ms", "60000")];
    let ask = |path: &str, text: &str| {
        let answer = request_with(server.address(), "POST", path, &patient, text);
        let answer = answer.unwrap_or_else(|error| panic!("the server went away: {error}"));
        if status(&answer) == 503 {
            assert_refused(&answer);
            refused.fetch_add(1, Ordering::Relaxed);
        }
        answer
    };
    for number in 0..RECORDS {
        let n = client * 100 + number;
        let text = record(n, 200_000 + 50_000 * usize::try_from(number).unwrap());
        until("a record", || {
            let answer = ask("/document/bench", &text);
            if status(&answer) == 201 {
                let rid = json_of(&answer)["@rid"].as_str().unwrap().to_owned();
                acknowledged.lock().unwrap().insert(rid, n);
            }
            if status(&answer) == 503 {
                std::thread::sleep(COME_AGAIN);
            }
            status(&answer) == 201
        });
        let answer = ask("/command/bench/sql", "SELECT FROM Item LIMIT 12");
        if status(&answer) == 200 {
            assert!(body(&answer).ends_with("]}"), "an answer is whole");
        }
    }
}
