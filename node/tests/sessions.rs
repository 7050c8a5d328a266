//! The real binary, three of it: a session that goes from server to server while one of them hears
//! late, a server that has more requests than it takes, and what clients are told while others
//! stand still.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::wire::Wire;
use support::{NEVER_SUSPECT, Server, status, three_servers, until};

const TOKEN: &str = "x-quorate-session-token";

/// Sends a request with headers and returns the whole answer.
fn ask(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: n\r\nconnection: close\r\n\
         authorization: Basic cm9vdDpyb290\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    write!(stream, "{request}\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {answer}"))
}

fn rid(answer: &str) -> &str {
    answer.split("\"@rid\":\"#").nth(1).unwrap().split('"').next().unwrap()
}

/// Makes a record: from then on the server has positions for more of them, whoever is silent.
fn create_one(server: &Server) {
    let made = server.http("POST", "/document/bench", r#"{"@class":"Item"}"#);
    assert_eq!(status(&made), 201, "{made}");
}

/// Three servers with database `bench` and class `Item`; `change` may edit their arguments.
fn cluster(dir: &tempfile::TempDir, change: impl FnOnce(&mut [Vec<String>; 3])) -> Vec<Server> {
    let mut arguments = three_servers(dir.path());
    change(&mut arguments);
    let start =
        |a: &Vec<String>| Server::start(&[], &a.iter().map(String::as_str).collect::<Vec<_>>());
    let servers: Vec<Server> = arguments.iter().map(start).collect();
    for server in &servers {
        server.wait_for_all_three();
    }
    let made = servers[0].http("POST", "/database/bench/plocal", "");
    assert_eq!(status(&made), 200, "{made}");
    let made = servers[0].http("POST", "/class/bench/Item", "");
    assert_eq!(status(&made), 201, "{made}");
    for server in &servers {
        until("the class everywhere", || {
            status(&server.http("GET", "/class/bench/Item", "")) == 200
        });
    }
    servers
}

/// Written through n1, then through n2, read through n3, which hears nothing from n1 meanwhile.
/// Each request carries the token of the last reply, no more.
#[test]
fn the_last_token_is_enough_through_every_server() {
    let dir = tempfile::tempdir().unwrap();
    let mut wire = None;
    let mut servers = cluster(&dir, |arguments| {
        let n3 = |a: &&mut String| a.starts_with("--dial=n3=");
        wire = Some(Wire::through(arguments[0].iter_mut().find(n3).unwrap()));
        arguments.iter_mut().for_each(|a| a.push(NEVER_SUSPECT.to_owned()));
    });
    let wire = wire.unwrap();
    let body = r#"{"@class":"Item"}"#;
    // Its positions come from whoever leads, which may be n3.
    create_one(&servers[0]);
    wire.hold(true);
    let a = ask(servers[0].address(), "POST", "/document/bench", &[(TOKEN, "")], body);
    assert_eq!(status(&a), 201, "{a}");
    let session = [(TOKEN, header(&a, TOKEN))];
    let b = ask(servers[1].address(), "POST", "/document/bench", &session, body);
    assert_eq!(status(&b), 201, "{b}");
    let paths = [&a, &b].map(|answer| format!("/document/bench/{}", rid(answer)));
    let token = header(&b, TOKEN);
    for path in &paths {
        let hurry = [(TOKEN, token), ("x-quorate-deadline-ms", "300")];
        let early = ask(servers[2].address(), "GET", path, &hurry, "");
        assert_eq!(status(&early), 503, "{early}");
        assert!(early.contains("session_behind"), "{early}");
        // Those that have heard of both do not wait.
        for server in &servers[..2] {
            let there = ask(server.address(), "GET", path, &[(TOKEN, token)], "");
            assert_eq!(status(&there), 200, "{there}");
        }
    }
    let reading = std::thread::spawn({
        let (address, path) = (servers[2].address().to_owned(), paths[0].clone());
        let token = token.to_owned();
        move || {
            ask(&address, "GET", &path, &[(TOKEN, &token), ("x-quorate-deadline-ms", "60000")], "")
        }
    });
    wire.hold(false);
    let late = reading.join().unwrap();
    assert_eq!(status(&late), 200, "{late}");
    let token = header(&late, TOKEN);
    let b = ask(servers[2].address(), "GET", &paths[1], &[(TOKEN, token)], "");
    assert_eq!(status(&b), 200, "{b}");
    for server in &mut servers {
        assert!(server.end(Signal::SIGTERM).success());
    }
}

fn send(servers: &[Server], signal: Signal) {
    for server in servers {
        kill(Pid::from_raw(server.id()), signal).unwrap();
    }
}

/// Stops servers, to be sent `SIGCONT`. A signal is only under way when `kill` returns: a thread
/// may go on for a moment, and answer.
fn stop(servers: &[Server]) {
    send(servers, Signal::SIGSTOP);
    for server in servers {
        let threads = format!("/proc/{}/task", server.id());
        let is_stopped = |thread: std::io::Result<std::fs::DirEntry>| {
            // One that has just ended has none.
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
            let stat = stat.unwrap_or_default();
            // Behind the name, which is in brackets and may contain any.
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        until("every thread stands still", || std::fs::read_dir(&threads).unwrap().all(is_stopped));
    }
}

fn all_patient(arguments: &mut [Vec<String>; 3]) {
    arguments.iter_mut().for_each(|a| a.push(NEVER_SUSPECT.to_owned()));
}

/// The own vote is durable while nobody else has heard of the transaction: accepted, and nothing
/// more. The outcome comes when they have.
///
/// FEATURES: A15
#[test]
fn who_does_not_wait_is_told_of_the_vote_first_and_of_the_outcome_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut servers = cluster(&dir, all_patient);
    let asynchronous = [("x-quorate-execution-mode", "asynchronous")];
    let (hurry, patient) = ("x-quorate-deadline-ms", ("x-quorate-deadline-ms", "60000"));
    let body = r#"{"@class":"Item"}"#;
    create_one(&servers[0]);
    stop(&servers[1..]);
    let early = [asynchronous[0], patient];
    let early = ask(servers[0].address(), "POST", "/document/bench", &early, body);
    assert_eq!(status(&early), 202, "{early}");
    let location = header(&early, "location");
    let pending = ask(servers[0].address(), "GET", location, &[(hurry, "200")], "");
    assert!(pending.contains("\"outcome\":\"unknown\""), "{pending}");
    assert!(!pending.contains("x-quorate-outcome-of"), "{pending}");
    send(&servers[1..], Signal::SIGCONT);
    let told = ask(servers[0].address(), "GET", location, &[patient], "");
    assert_eq!(status(&told), 201, "{told}");
    assert_eq!(format!("/outcome/{}", header(&told, "x-quorate-outcome-of")), location);
    let path = format!("/document/bench/{}", rid(&told));
    for server in &servers {
        let majority = [("x-quorate-read-level", "majority")];
        let found = ask(server.address(), "GET", &path, &majority, "");
        assert_eq!(status(&found), 200, "{found}");
    }
    let elsewhere = ask(servers[1].address(), "GET", location, &[], "");
    assert_eq!(status(&elsewhere), 404, "{elsewhere}");
    assert!(elsewhere.contains("\"outcome\":\"unknown\""), "{elsewhere}");
    for server in &mut servers {
        assert!(server.end(Signal::SIGTERM).success());
    }
}

/// With one of three silent, two answer and three do not.
///
/// FEATURES: A15
#[test]
fn so_many_servers_answer_a_read_as_it_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut servers = cluster(&dir, |arguments| {
        all_patient(arguments);
        arguments.iter_mut().for_each(|a| a.push("--read-quorum=2".to_owned()));
    });
    let made = servers[0].http("POST", "/document/bench", r#"{"@class":"Item"}"#);
    assert_eq!(status(&made), 201, "{made}");
    let path = format!("/document/bench/{}", rid(&made));
    let read = |level: Option<&str>| {
        let level = level.map(|level| ("x-quorate-read-level", level));
        let headers: Vec<_> = level.into_iter().chain([("x-quorate-deadline-ms", "500")]).collect();
        ask(servers[0].address(), "GET", &path, &headers, "")
    };
    assert_eq!(status(&read(Some("all"))), 200);
    stop(&servers[2..]);
    for level in [None, Some("1"), Some("local"), Some("2"), Some("majority")] {
        let answer = read(level);
        assert_eq!(status(&answer), 200, "{level:?}: {answer}");
    }
    for level in ["3", "all"] {
        let answer = read(Some(level));
        assert!(answer.contains("\"errorCode\":\"read_timeout\""), "{level}: {answer}");
    }
    stop(&servers[1..2]);
    // The database's own quorum, which the server's setting gave it.
    let answer = read(None);
    assert!(answer.contains("\"errorCode\":\"read_timeout\""), "{answer}");
    assert_eq!(status(&read(Some("1"))), 200);
    send(&servers[1..], Signal::SIGCONT);
    for server in &mut servers {
        assert!(server.end(Signal::SIGTERM).success());
    }
}

/// One request at a time: while it waits for servers that stand still, the next is told to come
/// back, and it can.
#[test]
fn a_full_server_tells_clients_to_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut servers = cluster(&dir, |arguments| {
        arguments.iter_mut().for_each(|a| a.push(NEVER_SUSPECT.to_owned()));
        arguments[0].push("--in-flight-max=1".to_owned());
    });
    let body = r#"{"@class":"Item"}"#;
    create_one(&servers[0]);
    stop(&servers[1..]);
    let patient = [("x-quorate-deadline-ms", "60000")];
    let first = std::thread::spawn({
        let address = servers[0].address().to_owned();
        move || ask(&address, "POST", "/document/bench", &patient, body)
    });
    until("the first request at work", || {
        servers[0].http("GET", "/metrics", "").contains("quorate_requests_in_flight 1\n")
    });
    let refused = ask(servers[0].address(), "POST", "/document/bench", &patient, body);
    assert_eq!(status(&refused), 503, "{refused}");
    assert_eq!(header(&refused, "retry-after"), "1");
    for part in ["\"errorCode\":\"overload\"", "\"outcome\":\"failed\"", "\"retryable\":true"] {
        assert!(refused.contains(part), "{part} in {refused}");
    }
    send(&servers[1..], Signal::SIGCONT);
    let first = first.join().unwrap();
    assert_eq!(status(&first), 201, "{first}");
    let again = ask(servers[0].address(), "POST", "/document/bench", &patient, body);
    assert_eq!(status(&again), 201, "{again}");
    for server in &mut servers {
        assert!(server.end(Signal::SIGTERM).success());
    }
}
