//! A server that was away for longer than the decision logs reach, as real processes: the others go
//! on, it aligns, and all copies are equal (PROTOCOL.md 3.6.5).
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]
#![allow(clippy::print_stdout, reason = "the figures are what the test is for")]

mod support;

use std::io::{Read, Write as _};
use std::net::TcpStream;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{Server, three_servers, until};

/// Of `root` with the password of the tests.
const AUTHORIZATION: &str = "Basic cm9vdDpyb290";
/// Records there are before one server goes away.
const RECORDS: u64 = 4_000;
/// Records made in one transaction.
const GROUP: u64 = 50;
/// Text in every record, in bytes.
const TEXT: usize = 500;
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

/// What was answered to a request, asked again while it is refused for a moment: on a busy machine
/// servers lose sight of each other.
fn done(server: &Server, level: &str, method: &str, path: &str, body: &Value) -> Value {
    let mut answer = None;
    until(path, || {
        let (status, content) = ask(server, level, method, path, body);
        let error = &content["errors"][0];
        let again = error["outcome"] == "failed" && error["retryable"] == true;
        assert!(again || (200..300).contains(&status), "{status} {content}");
        answer = (!again).then_some(content);
        answer.is_some()
    });
    answer.unwrap()
}

/// Sum of this server's metrics of a name whose labels contain a text.
fn metrics(server: &Server, name: &str, label: &str) -> u64 {
    let (_, text) = ask(server, "local", "GET", "/metrics", &Value::Null);
    let text = text.as_str().unwrap().to_owned();
    let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
    let of_name = |full: &str| full.split('{').next() == Some(name) && full.contains(label);
    let found: Vec<u64> =
        lines.filter(|(full, _)| of_name(full)).map(|(_, n)| n.parse().unwrap()).collect();
    assert!(!found.is_empty(), "no {name} in {text}");
    found.iter().sum()
}

fn metric(server: &Server, name: &str) -> u64 {
    metrics(server, name, "")
}

/// Bytes that came in from other servers since this one started.
fn received(server: &Server) -> u64 {
    metrics(server, "quorate_link_bytes_total", "direction=\"received\"")
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
    let found = done(server, "local", "GET", path, &Value::Null);
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

/// Sets a record's number. Another one than was read is there when an attempt was told `unknown`,
/// as is legal on a busy machine, and committed after all.
fn update(server: &Server, rid: &str, n: u64) {
    let path = format!("/document/bench/{}", rid.trim_start_matches('#'));
    let text = "y".repeat(TEXT);
    let mut in_doubt = false;
    until(&path, || {
        let current = done(server, "majority", "GET", &path, &Value::Null);
        let body = json!({"@class": "Item", "@version": current["@version"], "n": n, "text": text});
        let (status, content) = ask(server, "local", "PUT", &path, &body);
        let error = &content["errors"][0];
        let is_done = (200..300).contains(&status);
        in_doubt |= error["outcome"] == "unknown";
        let is_explained = in_doubt && error["errorCode"] == "version_conflict";
        let again = error["outcome"] == "unknown" || error["retryable"] == true || is_explained;
        assert!(is_done || again, "{status} {content}");
        is_done
    });
}

/// Makes all records; gives their ids.
fn create(server: &Server) -> Vec<String> {
    let mut rids = Vec::new();
    for group in 0..RECORDS / GROUP {
        let record = |n: u64| json!({"@class": "Item", "n": n, "text": "x".repeat(TEXT)});
        let operation = |n: u64| json!({"type": "c", "record": record(group * GROUP + n)});
        let operations: Vec<Value> = (0..GROUP).map(operation).collect();
        let body = json!({"transaction": true, "operations": operations});
        let made = done(server, "local", "POST", "/batch/bench", &body);
        let made = made["operations"].as_array().unwrap();
        rids.extend(made.iter().map(|record| record["@rid"].as_str().unwrap().to_owned()));
    }
    rids
}

fn assert_soon_equal(servers: &[Server], count: usize) {
    until("all copies are equal", || {
        let all: Vec<_> = servers.iter().map(records).collect();
        all[0].len() == count && all.windows(2).all(|pair| pair[0] == pair[1])
    });
}

/// FEATURES: A12, S11
#[test]
fn a_server_left_behind_by_the_logs_aligns_while_the_others_serve() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers: Vec<Server> = arguments.iter().map(|a| start(a)).collect();
    for server in &servers {
        server.wait_log_times("peer up", 2);
        server.wait_online();
    }
    done(&servers[0], "local", "POST", "/database/bench/plocal", &Value::Null);
    done(&servers[0], "local", "POST", "/class/bench/Item", &Value::Null);
    let rids = create(&servers[0]);
    assert_soon_equal(&servers, rids.len());
    let copied = received(&servers[2]);

    // What it costs: ten records that changed, one that is gone, and nobody writes meanwhile.
    let leave_behind = |servers: &mut Vec<Server>, boot: u64, gone: Option<&str>| {
        // One link makes a majority to align with: the other may come up later.
        for server in &servers[..2] {
            server.wait_log(&format!("peer up peer=\"n3\" boot={boot}"));
        }
        let before = metric(&servers[0], "quorate_passed_over_total");
        servers[2].end(Signal::SIGKILL);
        servers[0].wait_log(&format!("peer down peer=\"n3\" boot={boot}"));
        for round in 0..3 * LOG_ENTRIES {
            update(&servers[0], &rids[(round % 10) as usize], 1_000 + round);
        }
        if let Some(path) = gone {
            done(&servers[0], "local", "DELETE", path, &Value::Null);
        }
        until("the log is cut", || metric(&servers[0], "quorate_passed_over_total") > before);
        servers[2] = start(&arguments[2]);
        servers[2].wait_log("node status to 'SYNCHRONIZING'");
    };
    let gone = format!("/document/bench/{}", rids[20].trim_start_matches('#'));
    leave_behind(&mut servers, 1, Some(&gone));
    until("it is back", || metric(&servers[2], "quorate_alignments_total") > 0);
    // Whoever told it to align is linked with it, and was told in turn.
    let told = "updated status of node 'n3' to 'SYNCHRONIZING'";
    until(told, || servers[..2].iter().any(|server| server.log().contains(told)));
    let bytes = received(&servers[2]);
    let [compared, fetched] = ["compared", "fetched"]
        .map(|what| metric(&servers[2], &format!("quorate_align_{what}_total")));
    println!(
        "{RECORDS} records, {copied} bytes when they were made; {compared} compared, {fetched} \
         fetched, {bytes} bytes while aligning"
    );
    assert_soon_equal(&servers, rids.len() - 1);
    assert!((10..=20).contains(&fetched), "{fetched} items fetched");
    assert!(bytes < copied / 10, "{bytes} bytes received");

    // The others serve all the time.
    leave_behind(&mut servers, 2, None);
    let mut round = 0;
    until("it is back again", || {
        update(&servers[(round % 2) as usize], &rids[30], 9_000 + round);
        round += 1;
        metric(&servers[2], "quorate_alignments_total") > 0
    });
    assert_soon_equal(&servers, rids.len() - 1);
    for server in &servers {
        assert_eq!(metric(server, "quorate_corruptions_total"), 0);
    }
    // It counts again.
    servers[0].end(Signal::SIGKILL);
    servers[1].wait_log("peer down peer=\"n1\"");
    update(&servers[1], &rids[3], 77);
    until("the write is read at the third server", || {
        records(&servers[2]).iter().any(|(rid, _, n)| *rid == rids[3] && *n == 77)
    });
}
