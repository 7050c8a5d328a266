//! Servers that are stopped in order, one after the other, while people write at the others: real
//! processes. What they have begun is finished, what they own goes to others, and nobody waits.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::people::{Answer, start, start_all, stop_all};
use support::{NEVER_SUSPECT, Server, StopWhenDropped, json_of, request, three_servers, until};

/// Longest that stopping may take: what main.rs allows for, one after the other.
const STOP_MAX: Duration = Duration::from_secs(9);

fn owner(server: &Server, cluster: &str) -> String {
    let shown = json_of(&server.http("GET", "/distributed/database/bench", ""));
    shown["clusters"][cluster]["servers"][0].as_str().unwrap_or_default().to_owned()
}

fn state(server: &Server, name: &str) -> String {
    let shown = json_of(&server.http("GET", "/distributed/node", ""));
    let members = shown["members"].as_array().cloned().unwrap_or_default();
    let member = members.iter().find(|member| member["name"] == name).cloned();
    member.unwrap_or_default()["status"].as_str().unwrap_or_default().to_owned()
}

/// Creates records and changes each once, until told otherwise; gives what was not acknowledged.
fn write(address: &str, stop: &AtomicBool, count: &AtomicUsize) -> Vec<Answer> {
    let mut refused = Vec::new();
    let send = |text: &str| {
        let answer = request(address, "POST", "/command/bench/sql", text);
        Answer::read(&answer.unwrap_or_default())
    };
    while !stop.load(Ordering::Relaxed) {
        let made = send("INSERT INTO Item SET n = 1");
        let rid = made.body["result"][0]["@rid"].as_str().map(str::to_owned);
        let Some(rid) = rid else {
            refused.push(made);
            continue;
        };
        let changed = send(&format!("UPDATE {rid} SET n = 2"));
        if changed.is_done() {
            count.fetch_add(1, Ordering::Relaxed);
        } else {
            refused.push(changed);
        }
    }
    refused
}

/// Writers at all servers but one while that one is stopped in order: nobody is refused, nothing
/// is in doubt. Gives how many records each has written.
fn stop_under_writers(servers: &mut [Server], stopped: usize) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = StopWhenDropped(&stop);
    let others: Vec<usize> = (0..3).filter(|n| *n != stopped).collect();
    let counts: Vec<Arc<AtomicUsize>> = others.iter().map(|_| Arc::default()).collect();
    let writers: Vec<_> = others
        .iter()
        .zip(&counts)
        .map(|(n, count)| {
            let (address, stop) = (servers[*n].address().to_owned(), stop.clone());
            let count = count.clone();
            std::thread::spawn(move || write(&address, &stop, &count))
        })
        .collect();
    let go_on = |more: usize| {
        let before: Vec<usize> = counts.iter().map(|c| c.load(Ordering::Relaxed)).collect();
        until("writes at the others", || {
            let now = counts.iter().map(|c| c.load(Ordering::Relaxed));
            now.zip(&before).all(|(now, before)| now >= before + more)
        });
    };
    go_on(20);
    let began = Instant::now();
    assert!(servers[stopped].end(Signal::SIGTERM).success());
    assert!(began.elapsed() < STOP_MAX);
    go_on(20);
    drop(stopping);
    for writer in writers {
        let refused = writer.join().unwrap();
        assert!(refused.is_empty(), "{refused:?}");
    }
}

/// Nobody is given up for being silent: all that the others know they were told.
///
/// FEATURES: S11 A7
#[test]
fn servers_stopped_one_after_the_other_interrupt_no_writer_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let mut arguments = three_servers(dir.path());
    arguments.iter_mut().for_each(|own| own.push(NEVER_SUSPECT.to_owned()));
    let mut servers = start_all(&arguments);
    servers[0].make_class();
    until("the class everywhere", || servers.iter().all(|s| owner(s, "item_n2") == "n2"));
    let mut leaders = 0;
    for stopped in 0..3 {
        let name = format!("n{}", stopped + 1);
        let cluster = ["item", "item_n2", "item_n3"][stopped];
        let leads = || servers[stopped].http("GET", "/metrics", "");
        leaders += usize::from(leads().contains("quorate_control_leads 1"));
        stop_under_writers(&mut servers, stopped);
        servers[stopped].wait_end_of_log();
        let log = servers[stopped].log();
        let moved = format!("changing mastership of cluster '{cluster}' from node '{name}'");
        assert!(log.contains(&moved), "it has given it away itself: {log}");
        assert!(log.contains("updated node status to 'OFFLINE'"), "{log}");
        assert!(!log.contains("stopping with requests"), "{log}");
        let other = (stopped + 1) % 3;
        until("another owner", || owner(&servers[other], cluster) != name);
        until("its last word", || state(&servers[other], &name) == "OFFLINE");
        assert!(!servers[other].log().contains(&format!("'{name}' to 'NOT_AVAILABLE'")));
        servers[stopped] = start(&arguments[stopped]);
        until("its clusters home", || servers.iter().all(|s| owner(s, cluster) == name));
    }
    assert!(leaders > 0, "none of them led the control plane");
    stop_all(servers);
}

/// FEATURES: S11
#[test]
fn without_a_majority_a_server_stops_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut servers = start_all(&three_servers(dir.path()));
    servers[0].make_class();
    servers[1].end(Signal::SIGKILL);
    servers[2].end(Signal::SIGKILL);
    servers[0].wait_log_times("peer down", 2);
    let began = Instant::now();
    assert!(servers[0].end(Signal::SIGTERM).success());
    assert!(began.elapsed() < STOP_MAX);
}

/// FEATURES: S11
#[test]
fn a_second_signal_ends_a_server_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = format!("--data={}", dir.path().display());
    let mut server = start(&[data, "--http=127.0.0.1:0".to_owned()]);
    server.wait_online();
    // What has begun is waited for: most of this request never comes.
    let mut slow = TcpStream::connect(server.address()).unwrap();
    let head = "POST /command/bench/sql HTTP/1.1\r\nHost: n\r\nContent-Length: 99\r\n\
                Authorization: Basic cm9vdDpyb290\r\nExpect: 100-continue\r\n\r\n";
    slow.write_all(head.as_bytes()).unwrap();
    // It is asked for the rest, so it runs.
    slow.read_exact(&mut [0; 12]).unwrap();
    kill(Pid::from_raw(server.id()), Signal::SIGTERM).unwrap();
    server.wait_log("updated node status to 'SHUTTINGDOWN'");
    assert_eq!(server.end(Signal::SIGINT).code(), Some(1), "not in order");
    server.wait_end_of_log();
    assert!(server.log().contains("stopping at once"), "{}", server.log());
}
