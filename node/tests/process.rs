//! The real binary as a process: its first line, its folder, its signals, its exit codes.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use support::{BINARY, PATIENCE, Server, request, three_servers, until};

fn alone(dir: &tempfile::TempDir) -> Vec<String> {
    vec![format!("--data={}", dir.path().display()), "--http=127.0.0.1:0".to_owned()]
}

fn start(arguments: &[String]) -> Server {
    Server::start(&[], &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn version_names_the_commit() {
    let output = Command::new(BINARY).arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let commit = text.trim().strip_prefix("quorate-node 0.1.0 (").unwrap();
    assert!(commit.strip_suffix(')').is_some_and(|commit| !commit.is_empty()), "{text}");
}

/// FEATURES: S1
#[test]
fn a_server_alone_starts_stops_and_counts_its_boots() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = start(&alone(&dir));
    first.wait_online();
    assert_eq!(first.line["boot"], 1);
    // No port for others, nobody to wait for, and writes need nobody else.
    assert!(first.line["peer"].is_null());
    assert_eq!(status(&first.http("POST", "/database/bench/plocal", "")), "200");
    let node = first.http("GET", "/distributed/node", "");
    assert_eq!(node.matches("\"status\":").count(), 2, "itself and its database: {node}");
    let id = first.line["node_id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 16);
    assert!(first.end(Signal::SIGTERM).success());
    let mut second = start(&alone(&dir));
    assert_eq!((&second.line["boot"], second.line["node_id"].as_str()), (&2.into(), Some(&*id)));
    assert!(!second.end(Signal::SIGKILL).success());
    let mut third = start(&alone(&dir));
    assert_eq!(third.line["boot"], 3);
    assert!(third.end(Signal::SIGINT).success());
}

#[test]
fn a_second_process_on_one_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = start(&alone(&dir));
    first.wait_online();
    let output = Command::new(BINARY)
        .arg("serve")
        .args(alone(&dir))
        .env("ORIENTDB_ROOT_PASSWORD", "root")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("is in use by another process"), "{log}");
    assert!(first.end(Signal::SIGTERM).success());
}

#[test]
fn bad_settings_have_an_exit_code_of_their_own() {
    let output = Command::new(BINARY).arg("serve").output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{log}");
    assert!(log.contains("give --data DIR"), "{log}");
    let dir = tempfile::tempdir().unwrap();
    let [good, ..] = three_servers(dir.path());
    for (bad, parts) in [
        ("--dial=n2=foo:99999", ["dial:", "'foo:99999'", "'n2'", "1 to 65535"]),
        ("--write-quorum=5", ["write_quorum: 5", "3 MASTERs", "majority", "from 1 to 3"]),
        ("--read-quorum=4", ["read_quorum: 4", "3 MASTERs", "majority", "from 1 to 3"]),
        ("--execution-mode=async", ["execution_mode:", "'async'", "synchronous", "asynchronous"]),
    ] {
        let output = Command::new(BINARY)
            .arg("serve")
            .args(good.iter().filter(|argument| !bad.starts_with(prefix_of(argument))))
            .arg(bad)
            .env("QUORATE_CLUSTER_PASSWORD", "secret")
            .output()
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{log}");
        assert!(parts.iter().all(|part| log.contains(part)), "{parts:?} in {log}");
    }
}

/// Option and name of the server, not the value.
fn prefix_of(argument: &str) -> &str {
    argument.rsplit_once('=').map_or(argument, |(option, _)| option)
}

/// Said by every server, not only by the one that is asked.
#[test]
fn a_write_quorum_below_a_majority_is_warned_about_at_start_and_creation() {
    const LOST: &str = "acknowledged may be lost";
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers: Vec<Server> = arguments
        .iter()
        .map(|a| start(&a.iter().cloned().chain(["--write-quorum=1".into()]).collect::<Vec<_>>()))
        .collect();
    for server in &servers {
        server.wait_for_all_three();
        assert_eq!(server.log().matches(LOST).count(), 1, "{}", server.log());
        assert!(server.log().contains("default of new databases"));
    }
    let made = servers[0].http("POST", "/database/low/plocal", "");
    assert!(made.contains(LOST), "{made}");
    let safe = servers[0].http("POST", "/database/safe/plocal", r#"{"writeQuorum":"majority"}"#);
    assert!(safe.contains("200 OK") && !safe.contains(LOST), "{safe}");
    for server in &servers {
        until("the warning", || server.log().matches(LOST).count() == 2);
        assert!(server.log().contains("database=\"low\""), "{}", server.log());
        let info = server.http("GET", "/server", "");
        assert!(info.contains("database 'low': writeQuorum 1 of 3"), "{info}");
        assert!(info.contains("default of new databases: writeQuorum 1"), "{info}");
        assert!(!info.contains("database 'safe'"), "{info}");
    }
    servers[2].end(Signal::SIGTERM);
    // With a default that is safe: the database is not.
    servers[2] = start(&arguments[2]);
    servers[2].wait_online();
    servers[2].wait_log(LOST);
    assert!(!servers[2].log().contains("default of new databases"));
    for server in &mut servers {
        assert!(server.end(Signal::SIGTERM).success());
    }
}

#[test]
fn three_servers_meet_and_a_killed_one_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers: Vec<Server> = arguments.iter().map(|a| start(a)).collect();
    for server in &servers {
        server.wait_for_all_three();
    }
    servers[2].end(Signal::SIGKILL);
    servers[0].wait_log("peer down");
    servers[2] = start(&arguments[2]);
    servers[2].wait_online();
    for server in &mut servers {
        assert!(server.end(Signal::SIGTERM).success());
    }
}

/// Records that everybody writes.
const HOT: usize = 8;

fn status(answer: &str) -> &str {
    answer.split_whitespace().nth(1).unwrap_or_default()
}

/// Writes one record again and again until told to stop; a server that dies ends it.
fn write_until(address: &str, path: &str, stop: &AtomicBool, written: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        match request(address, "PUT", path, r#"{"@class":"Item","by":"first"}"#) {
            Ok(answer) if status(&answer) == "200" => written.fetch_add(1, Ordering::Relaxed),
            Ok(_) => continue,
            Err(_) => return,
        };
    }
}

/// Creates a record and gives its path.
fn create(server: &Server) -> String {
    let answer = server.http("POST", "/document/bench", r#"{"@class":"Item"}"#);
    let rid = answer.split("\"@rid\":\"#").nth(1).unwrap().split('"').next().unwrap();
    format!("/document/bench/{rid}")
}

/// How long it takes until one write of the record succeeds.
fn first_success(address: &str, path: &str) -> Duration {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let answer = request(address, "PUT", path, r#"{"@class":"Item","by":"second"}"#).unwrap();
        if status(&answer) == "200" {
            return begun.elapsed();
        }
    }
    panic!("{path} is locked for ever");
}

/// The number that a record has on this server.
fn number(server: &Server, path: &str) -> u64 {
    let answer = server.http("GET", path, "");
    assert_eq!(status(&answer), "200", "{answer}");
    let number = answer.split("\"n\":").nth(1).unwrap();
    number.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// `ok` leaves before the decision is durable, so that the last ones are recovered from their votes
/// after the kill: before a client can look.
///
/// FEATURES: A8
#[test]
fn a_killed_server_comes_back_with_the_last_thing_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = alone(&dir);
    let mut server = start(&arguments);
    server.wait_online();
    for path in ["/database/bench/plocal", "/class/bench/Item"] {
        let created = server.http("POST", path, "");
        assert!(["200", "201"].contains(&status(&created)), "{created}");
    }
    let paths: Vec<String> = (0..HOT).map(|_| create(&server)).collect();
    let mut recovered = 0;
    for round in 0..30 {
        let address = server.address().to_owned();
        let address = address.as_str();
        let acknowledged: Vec<AtomicUsize> = paths.iter().map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|scope| {
            for (path, acknowledged) in paths.iter().zip(&acknowledged) {
                scope.spawn(move || {
                    for n in round * 1_000_000 + 1.. {
                        let body = format!(r#"{{"@class":"Item","n":{n}}}"#);
                        match request(address, "PUT", path, &body) {
                            Ok(answer) if status(&answer) == "200" => {
                                acknowledged.store(n, Ordering::Relaxed);
                            }
                            Ok(_) => {}
                            Err(_) => return,
                        }
                    }
                });
            }
            until("load", || acknowledged.iter().all(|n| n.load(Ordering::Relaxed) > 0));
            server.end(Signal::SIGKILL);
        });
        server = start(&arguments);
        server.wait_online();
        for (path, acknowledged) in paths.iter().zip(&acknowledged) {
            let (found, last) = (number(&server, path), acknowledged.load(Ordering::Relaxed));
            assert!(found >= last as u64, "round {round}: {path} has {found}, not {last}");
        }
        recovered += recoveries(&server);
        if recovered >= 5 {
            break;
        }
    }
    // Otherwise nothing was shown.
    assert!(recovered >= 5, "{recovered} recoveries");
}

fn recoveries(server: &Server) -> u64 {
    let text = server.http("GET", "/metrics", "");
    let line = text.lines().find_map(|line| line.strip_prefix("quorate_recoveries_total "));
    line.unwrap().trim().parse().unwrap()
}

/// How long that takes is printed only: a script says it in the machine's own time, and the harness
/// measures it.
///
/// FEATURES: A8, A11
#[test]
fn records_of_a_killed_coordinator_are_writable_while_it_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers: Vec<Server> = arguments.iter().map(|a| start(a)).collect();
    for server in &servers {
        server.wait_for_all_three();
    }
    let created = servers[0].http("POST", "/database/bench/plocal", "");
    assert!(["200", "201"].contains(&status(&created)), "{created}");
    let created = servers[0].http("POST", "/class/bench/Item", "");
    assert!(["200", "201"].contains(&status(&created)), "{created}");
    let paths: Vec<String> = (0..HOT).map(|_| create(&servers[0])).collect();
    let (mut recovered, mut longest) = (0, Duration::ZERO);
    for _ in 0..100 {
        let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
        let before: u64 = servers[1..].iter().map(recoveries).sum();
        let coordinator = servers[0].address().to_owned();
        let other = servers[1].address().to_owned();
        let (coordinator, other) = (coordinator.as_str(), other.as_str());
        let (stop, written) = (&stop, &written);
        let waits: Vec<Duration> = std::thread::scope(|scope| {
            for path in &paths {
                scope.spawn(move || write_until(coordinator, path, stop, written));
            }
            // Under load when it dies, so that votes of its transactions are left behind.
            until("load on the first server", || written.load(Ordering::Relaxed) > 5 * HOT);
            servers[0].end(Signal::SIGKILL);
            stop.store(true, Ordering::Relaxed);
            let writers = paths.iter().map(|path| scope.spawn(move || first_success(other, path)));
            let writers: Vec<_> = writers.collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        longest = longest.max(waits.into_iter().max().unwrap());
        recovered += servers[1..].iter().map(recoveries).sum::<u64>() - before;
        servers[0] = start(&arguments[0]);
        servers[0].wait_for_all_three();
        if recovered >= 5 {
            break;
        }
    }
    // Otherwise nothing was shown.
    assert!(recovered >= 5, "{recovered} recoveries");
    eprintln!("{recovered} recoveries, longest wait for a locked record {longest:?}");
}
