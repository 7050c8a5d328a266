//! A server that was away for longer than the decision logs reach, as real processes: the others go
//! on, it aligns, and all copies are equal (PROTOCOL.md 3.6.5).
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::io::{Read, Write as _};
use std::net::TcpStream;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{Server, three_servers, until};

/// Of `root` with the password of the tests.
const AUTHORIZATION: &str = "Basic cm9vdDpyb290";
/// Records there are before one server goes away.
const RECORDS: u64 = 200;
/// Decisions another server may be behind.
const LOG_ENTRIES: u64 = 100;

/// Status and body of an answer, read by majority or locally.
fn ask(server: &Server, level: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut stream = TcpStream::connect(server.line["http"].as_str().unwrap()).unwrap();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\
         Authorization: {AUTHORIZATION}\r\nX-Quorate-Read-Level: {level}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, content) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(content).unwrap_or(Value::String(content.to_owned())))
}

fn done(answer: (u16, Value)) -> Value {
    assert!((200..300).contains(&answer.0), "{answer:?}");
    answer.1
}

/// A number of this server's metrics.
fn metric(server: &Server, name: &str) -> u64 {
    let (_, text) = ask(server, "local", "GET", "/metrics", &Value::Null);
    let text = text.as_str().unwrap().to_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")).map(str::parse));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).unwrap()
}

fn start(arguments: &[String]) -> Server {
    let bound = format!("--log-entries-max={LOG_ENTRIES}");
    let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    words.push(&bound);
    Server::start(&[], &words)
}

/// Every record as one server has it, by its id.
fn records(server: &Server) -> Vec<(String, u64, u64)> {
    let path = "/query/bench/sql/select%20from%20Item/10000";
    let found = done(ask(server, "local", "GET", path, &Value::Null));
    let mut all: Vec<_> = found["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| {
            let number = |key: &str| record[key].as_u64().unwrap();
            (record["@rid"].as_str().unwrap().to_owned(), number("@version"), number("n"))
        })
        .collect();
    all.sort();
    all
}

fn update(server: &Server, rid: &str, n: u64) {
    let path = format!("/document/bench/{}", rid.trim_start_matches('#'));
    let current = done(ask(server, "majority", "GET", &path, &Value::Null));
    let body = json!({"@class": "Item", "@version": current["@version"], "n": n});
    done(ask(server, "local", "PUT", &path, &body));
}

/// FEATURES: A12
#[test]
fn a_server_left_behind_by_the_logs_aligns_while_the_others_serve() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers: Vec<Server> = arguments.iter().map(|a| start(a)).collect();
    for server in &servers {
        server.wait_log_times("peer up", 2);
        server.wait_log("ONLINE");
    }
    let n1 = &servers[0];
    done(ask(n1, "local", "POST", "/database/bench/plocal", &Value::Null));
    done(ask(n1, "local", "POST", "/class/bench/Item", &Value::Null));
    let create = |n: u64| {
        let body = json!({"@class": "Item", "n": n});
        let made = done(ask(&servers[0], "local", "POST", "/document/bench", &body));
        made["@rid"].as_str().unwrap().to_owned()
    };
    let rids: Vec<String> = (0..RECORDS).map(create).collect();
    until("the third server has all records", || records(&servers[2]).len() == rids.len());

    servers[2].end(Signal::SIGKILL);
    servers[0].wait_log("peer down");
    // Far more decisions than the logs keep, on few records.
    for round in 0..3 * LOG_ENTRIES {
        update(&servers[0], &rids[(round % 10) as usize], 1_000 + round);
    }
    let gone = format!("/document/bench/{}", rids[20].trim_start_matches('#'));
    done(ask(&servers[0], "local", "DELETE", &gone, &Value::Null));
    until("the log is cut", || metric(&servers[0], "quorate_passed_over_total") > 0);

    servers[2] = start(&arguments[2]);
    servers[2].wait_log("ALIGNING");
    // The others serve all the time.
    let mut round = 0;
    until("the third server is back", || {
        update(&servers[(round % 2) as usize], &rids[30], 9_000 + round);
        round += 1;
        metric(&servers[2], "quorate_alignments_total") > 0
    });
    until("all copies are equal", || {
        let all: Vec<_> = servers.iter().map(records).collect();
        all[0].len() == rids.len() - 1 && all.windows(2).all(|pair| pair[0] == pair[1])
    });
    assert_eq!(metric(&servers[2], "quorate_corruptions_total"), 0);
    // Ten updated, one deleted, one that is written all the time: not two hundred.
    let fetched = metric(&servers[2], "quorate_align_fetched_total");
    assert!((10..50).contains(&fetched), "{fetched} items fetched");
    // It counts again.
    servers[0].end(Signal::SIGKILL);
    servers[1].wait_log("peer down");
    update(&servers[1], &rids[3], 77);
    let end = rids[3].clone();
    until("the write is read at the third server", || {
        records(&servers[2]).iter().any(|(rid, _, n)| *rid == end && *n == 77)
    });
}
