//! Servers that join a running cluster: real processes, killed while they join.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::items::numbers;
use support::people::{ha, start, start_all};
use support::{Server, free_port, joins, json_of, member, request, status, three_servers, until};

/// Records that are there before anybody joins: what there is to be fetched.
const RECORDS: usize = 3_000;

/// Writers that insert each record once, whatever is answered.
struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    writers: Vec<std::thread::JoinHandle<Vec<u64>>>,
}

impl Load {
    fn on(servers: &[Server]) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let write = |first: usize, address: String| {
            let (stop, count) = (stop.clone(), count.clone());
            std::thread::spawn(move || {
                let mut acknowledged = Vec::new();
                for n in (1_000_000 + first as u64..).step_by(servers_max()) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let body = format!(r#"{{"@class":"Item","n":{n}}}"#);
                    let answer = request(&address, "POST", "/document/bench", &body);
                    if answer.is_ok_and(|answer| status(&answer) == 201) {
                        acknowledged.push(n);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                acknowledged
            })
        };
        let addresses = servers.iter().map(|server| server.address().to_owned());
        let writers = addresses.enumerate().map(|(n, address)| write(n, address)).collect();
        Self { stop, count, writers }
    }

    /// Waits until so many more are acknowledged.
    fn goes_on(&self, what: &str) {
        let before = self.count.load(Ordering::Relaxed);
        until(what, || self.count.load(Ordering::Relaxed) >= before + 20);
    }

    fn end(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    }
}

/// Writers of all servers count in steps of this.
const fn servers_max() -> usize {
    8
}

/// Three MASTERs with a database and records in it; gives what was acknowledged.
fn cluster(dir: &Path) -> (Vec<Server>, Vec<Vec<String>>, Vec<u64>) {
    let arguments = three_servers(dir).to_vec();
    let servers = start_all(&arguments);
    for (path, exists) in
        [("/database/bench/plocal", "database_exists"), ("/class/bench/Item", "class_exists")]
    {
        until(path, || {
            let made = servers[0].http("POST", path, "");
            matches!(status(&made), 200 | 201) || made.contains(exists)
        });
    }
    let mut acknowledged = Vec::new();
    let numbers: Vec<u64> = (0..RECORDS as u64).collect();
    for group in numbers.chunks(100) {
        let operation = |n: &u64| format!(r#"{{"type":"c","record":{{"@class":"Item","n":{n}}}}}"#);
        let operations: Vec<String> = group.iter().map(operation).collect();
        let body = format!(r#"{{"transaction":true,"operations":[{}]}}"#, operations.join(","));
        let answer = servers[0].http("POST", "/batch/bench", &body);
        assert_eq!(status(&answer), 200, "{answer}");
        acknowledged.extend(group);
    }
    (servers, arguments, acknowledged)
}

/// The body of a batch that inserts these in one transaction.
fn insert(numbers: &[u64]) -> String {
    let operation = |n: &u64| format!(r#"{{"type":"c","record":{{"@class":"Item","n":{n}}}}}"#);
    let operations: Vec<String> = numbers.iter().map(operation).collect();
    format!(r#"{{"transaction":true,"operations":[{}]}}"#, operations.join(","))
}

/// Every server has the same, each record once, and all that was acknowledged.
fn assert_equal(servers: &[&Server], acknowledged: &[u64]) {
    let mut all = Vec::new();
    until("the same everywhere", || {
        all = servers.iter().map(|server| numbers(server)).collect();
        all[0].is_some() && all.windows(2).all(|two| two[0] == two[1])
    });
    let found = all[0].as_ref().unwrap();
    let once: BTreeSet<u64> = found.iter().copied().collect();
    assert_eq!(once.len(), found.len(), "written twice");
    let missing: Vec<&u64> = acknowledged.iter().filter(|n| !once.contains(n)).collect();
    assert!(missing.is_empty(), "acknowledged, and not there: {missing:?}");
}

/// FEATURES: S6, S8, L9
#[test]
fn a_server_joins_under_load_although_it_is_killed_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (servers, _, mut acknowledged) = cluster(dir.path());
    let load = Load::on(&servers);
    load.goes_on("writes");
    let seed = servers[1].line["peer"].as_str().unwrap();
    let arguments = joins(dir.path(), "n4", seed);
    let began = std::time::Instant::now();
    let mut joined = start(&arguments);
    // Killed when it knows that it is in, and again while it fetches.
    joined.wait_log("updated distributed configuration");
    assert_eq!(numbers(&joined), None, "it does not say what it has not");
    joined.end(Signal::SIGKILL);
    load.goes_on("writes without it");
    joined = start(&arguments);
    joined.wait_log("updated node status to 'SYNCHRONIZING'");
    joined.end(Signal::SIGKILL);
    // From here on it needs no seed: it remembers the others.
    let arguments = joins(dir.path(), "n4", "127.0.0.1:1");
    joined = start(&arguments);
    joined.wait_online();
    eprintln!("joined after {:?}, killed twice", began.elapsed());
    load.goes_on("writes with it");
    for server in &servers {
        server.wait_log("server 'n4' joined as REPLICA");
        until("n4 is ONLINE everywhere", || member(server, "n4")["status"] == "ONLINE");
        // Of its databases it tells by itself, later than who it is.
        until("its role", || member(server, "n4")["databases"][0]["role"] == "REPLICA");
    }
    // W counts MASTERs only.
    joined.end(Signal::SIGKILL);
    load.goes_on("writes without REPLICAs");
    joined = start(&arguments);
    joined.wait_online();
    acknowledged.extend(load.end());
    let all: Vec<&Server> = servers.iter().chain([&joined]).collect();
    assert_equal(&all, &acknowledged);
    let documents: Vec<String> = all
        .iter()
        .map(|server| server.http("GET", "/distributed/database/bench", ""))
        .map(|answer| answer.split_once("\r\n\r\n").unwrap().1.to_owned())
        .collect();
    assert!(documents[0].contains(r#""n4": "replica""#), "{}", documents[0]);
    assert!(documents.windows(2).all(|two| two[0] == two[1]));
}

fn is_of_a_cluster(argument: &str) -> bool {
    ["--join", "--role", "--masters", "--dial"].iter().any(|flag| argument.starts_with(flag))
}

/// FEATURES: S7
#[test]
fn who_cannot_join_is_told_why() {
    let dir = tempfile::tempdir().unwrap();
    let (mut servers, arguments, _) = cluster(dir.path());
    let seed = servers[0].line["peer"].as_str().unwrap().to_owned();
    let seed = seed.as_str();
    let mut taken = start(&joins(dir.path(), "n2", seed));
    taken.wait_end_of_log();
    until("its end", || taken.ended().is_some());
    assert_eq!(taken.ended().and_then(|status| status.code()), Some(3));
    let id = member(&servers[0], "n2")["id"].as_str().unwrap().to_owned();
    let log = taken.log();
    assert!(log.contains(&format!("the name 'n2' belongs to server {id} already")), "{log}");
    let mut third = servers.pop().unwrap();
    third.end(Signal::SIGTERM);
    let without: Vec<String> =
        arguments[2].iter().filter(|a| !is_of_a_cluster(a)).cloned().collect();
    let mut third = start(&without);
    third.wait_log("belongs to a server of a cluster (n1, n2, n3); start it with --masters");
    until("its end", || third.ended().is_some());
    let arguments = joins(dir.path(), "n5", seed);
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let stranger = Server::start_with("wrong", &[], &words);
    stranger.wait_log("cluster name or password differ");
    assert_eq!(member(&servers[0], "n5"), Value::Null);
    // Who waits for a cluster in vain does not wait for none.
    let waits = joins(dir.path(), "n6", &format!("127.0.0.1:{}", free_port()));
    let mut sixth = start(&waits);
    sixth.wait_log("updated node status to 'STARTING'");
    sixth.end(Signal::SIGTERM);
    let without: Vec<String> = waits.iter().filter(|a| !is_of_a_cluster(a)).cloned().collect();
    let mut sixth = start(&without);
    sixth.wait_log("that of a server that was to join a cluster and knows of none yet");
    until("its end", || sixth.ended().is_some());
    assert_eq!(sixth.ended().and_then(|status| status.code()), Some(3));
}

/// Puts a database's document back with another role of a server.
fn put_role(server: &Server, name: &str, role: &str) {
    const DOCUMENT: &str = "/distributed/database/bench";
    until("another role", || {
        let mut document = json_of(&server.http("GET", DOCUMENT, ""));
        document["servers"][name] = role.into();
        let put = server.http("PUT", DOCUMENT, &document.to_string());
        assert!(matches!(status(&put), 200 | 409 | 423 | 500 | 503), "{put}");
        status(&put) == 200
    });
}

/// FEATURES: L7, S6
#[test]
fn a_joined_server_takes_the_place_of_a_master_that_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut servers, arguments, mut acknowledged) = cluster(dir.path());
    let load = Load::on(&servers);
    let joined_as = joins(dir.path(), "n4", servers[0].line["peer"].as_str().unwrap());
    let mut joined = start(&joined_as);
    joined.wait_online();
    ha(&servers[2], "HA SET ROLE n4=MASTER");
    load.goes_on("writes while n4 becomes a MASTER");
    servers[0].end(Signal::SIGKILL);
    // Only when the change before it is done.
    ha(&servers[1], "HA REMOVE SERVER n1");
    let gone = |server: &Server| member(server, "n1").is_null();
    until("n1 is gone", || servers[1..].iter().chain([&joined]).all(gone));
    load.goes_on("writes without n1");
    // W is two of n2, n3 and n4: this is one of them.
    servers[2].end(Signal::SIGKILL);
    load.goes_on("writes with n2 and n4");
    servers[2] = start(&arguments[2]);
    servers[2].wait_online();
    let mut removed = start(&arguments[0]);
    removed.wait_log("server 'n1' was removed from the cluster, and cannot come back");
    until("the end of n1", || removed.ended().is_some());
    assert_eq!(removed.ended().and_then(|status| status.code()), Some(3));
    joined.end(Signal::SIGKILL);
    load.goes_on("writes with n2 and n3");
    joined = start(&joined_as);
    joined.wait_online();
    // A new class has a cluster for each of the three, and n1 may be a new server.
    until("a class", || {
        let made = joined.http("POST", "/class/bench/Later", "");
        status(&made) == 201 || made.contains("class_exists")
    });
    let path = "/document/bench";
    until("a record of n4's own", || {
        status(&joined.http("POST", path, r#"{"@class":"Later","n":1}"#)) == 201
    });
    // At the address that the others are told to dial under this name.
    let mut again_as = joins(dir.path(), "n1", servers[1].line["peer"].as_str().unwrap());
    again_as.retain(|argument| !argument.starts_with("--peer="));
    again_as.extend(arguments[0].iter().find(|argument| argument.starts_with("--peer=")).cloned());
    let again = start(&again_as);
    again.wait_online();
    // Whoever is there when it is removed ends, be it the leader.
    put_role(&servers[1], "n1", "master");
    ha(&servers[2], "HA REMOVE SERVER n2");
    servers[1].wait_log("server 'n2' was removed from the cluster");
    until("the end of n2", || servers[1].ended().is_some());
    until("n2 is gone", || member(&servers[2], "n2").is_null());
    acknowledged.extend(load.end());
    for (server, n) in [&servers[2], &joined, &again].into_iter().zip(2_000_000..) {
        until("a write without n2", || {
            let answer = server.http("POST", "/batch/bench", &insert(&[n]));
            let done = status(&answer) == 200;
            assert!(done || answer.contains("\"outcome\":\"failed\""), "{answer}");
            done
        });
        acknowledged.push(n);
    }
    assert_equal(&[&servers[2], &joined, &again], &acknowledged);
    let shown = servers[2].http("GET", "/distributed/database/bench", "");
    for role in [r#""n1": "master""#, r#""n3": "master""#, r#""n4": "master""#, "later_n4"] {
        assert!(shown.contains(role), "{role} in {shown}");
    }
}

/// The last of them leads and votes when it is removed; who is left goes on alone, as it joined.
///
/// FEATURES: L7
#[test]
fn all_founders_are_removed_and_a_joined_server_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let (mut servers, _, acknowledged) = cluster(dir.path());
    let joined_as = joins(dir.path(), "n4", servers[0].line["peer"].as_str().unwrap());
    let mut joined = start(&joined_as);
    joined.wait_online();
    ha(&servers[2], "HA SET ROLE n4=MASTER");
    for (server, name) in servers.iter_mut().zip(["n1", "n2", "n3"]) {
        ha(&joined, &format!("HA REMOVE SERVER {name}"));
        until(name, || server.ended().is_some() && member(&joined, name).is_null());
    }
    let alone = |server: &Server, n| {
        until("a write alone", || {
            let answer = server.http("POST", "/batch/bench", &insert(&[n]));
            status(&answer) == 200
        });
    };
    alone(&joined, 2_000_000);
    joined.end(Signal::SIGKILL);
    joined = start(&joined_as);
    joined.wait_online();
    alone(&joined, 2_000_001);
    let there = [acknowledged, vec![2_000_000, 2_000_001]].concat();
    assert_equal(&[&joined], &there);
}
