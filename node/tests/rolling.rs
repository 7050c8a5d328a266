//! A cluster goes from one version of the program to the next, server by server, under writers.
//! Real processes. What stands for the older program is this one told to speak the older version
//! alone: it refuses what that one refuses, and sends and stores what that one does, as far as the
//! committed shapes of links and schema say (`runtime/shapes`). A fault of the older program itself
//! is not shown by it; `QUORATE_OLDER_NODE_BIN` names a real one to be taken instead.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::people::{Answer, ask, done, people, person, start};
use support::{Server, StopWhenDropped, free_port, member, request_with, three_servers, until};

/// Makes a server speak the version before the newest one.
const OLDER: &str = "--speak-version=8";
/// What the log says when the cluster's level rises.
const RAISED: &str = "all servers speak version 9 from now on";

/// Starts the older program.
fn start_older(arguments: &[String]) -> Server {
    let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match std::env::var("QUORATE_OLDER_NODE_BIN") {
        Ok(program) => Server::start_program(&program, "secret", &[], &words),
        Err(_) => {
            words.push(OLDER);
            Server::start(&[], &words)
        }
    }
}

/// Arguments of three servers whose addresses for clients stay the same.
fn arguments(dir: &std::path::Path) -> ([Vec<String>; 3], [String; 3]) {
    let addresses: [String; 3] = std::array::from_fn(|_| format!("127.0.0.1:{}", free_port()));
    let mut arguments = three_servers(dir);
    for (own, address) in arguments.iter_mut().zip(&addresses) {
        *own.iter_mut().find(|a| a.starts_with("--http=")).unwrap() = format!("--http={address}");
    }
    (arguments, addresses)
}

/// Creates people until told to stop, one after the other, each under a token of its own: at the
/// next server when one does not answer, or asks for patience. Gives their names.
fn write(addresses: &[String; 3], session: &str, first: usize, stop: &AtomicBool) -> Vec<String> {
    let (mut names, mut at) = (Vec::new(), first);
    while !stop.load(Ordering::Acquire) {
        let name = format!("w{first}-{}", names.len());
        let token = format!("{session}:{}", names.len());
        let headers = [("X-Quorate-Transaction-Token", token.as_str())];
        until(&name, || {
            let sent =
                request_with(&addresses[at], "POST", "/document/bench", &headers, &person(&name));
            let answer = sent.map(|answer| Answer::read(&answer));
            let Some(answer) = answer.ok().filter(|answer| answer.status != 0) else {
                at = (at + 1) % addresses.len();
                return false;
            };
            let again = answer.is_retryable() || answer.is_unknown();
            assert!(answer.is_done() || again, "{answer:?}");
            answer.is_done()
        });
        names.push(name);
    }
    names
}

fn speaks(server: &Server, name: &str) -> Value {
    member(server, name)["speaks"].clone()
}

/// Three servers of the older version become three of the newer one while three clients write; then
/// the cluster is the newer version's, and the older one is told why it cannot come back.
#[test]
fn a_cluster_takes_over_a_newer_program_server_by_server_under_writers() {
    let dir = tempfile::tempdir().unwrap();
    let (arguments, addresses) = arguments(dir.path());
    let mut servers = arguments.each_ref().map(|a| start_older(a));
    servers.iter().for_each(Server::wait_for_all_three);
    done(&servers[0], "POST", "/database/bench/plocal", "");
    done(&servers[0], "POST", "/class/bench/Person", "");
    let sessions: [Value; 3] =
        std::array::from_fn(|_| done(&servers[0], "POST", "/retry/bench", "")["session"].take());
    let stop = AtomicBool::new(false);
    let mut written: Vec<String> = std::thread::scope(|scope| {
        let (addresses, stop) = (&addresses, &stop);
        let stopping = StopWhenDropped(stop);
        let writers: Vec<_> = sessions
            .iter()
            .enumerate()
            .map(|(n, session)| {
                let session = session.as_str().unwrap();
                scope.spawn(move || write(addresses, session, n, stop))
            })
            .collect();
        for index in 0..3 {
            let log = servers[index].log();
            assert!(!log.contains(RAISED), "server {index} is still of the older version");
            assert!(servers[index].end(Signal::SIGTERM).success());
            servers[index] = start(&arguments[index]);
            servers[index].wait_online();
            until("the link with both others", || {
                let states = |server: &Server| {
                    ["n1", "n2", "n3"].map(|name| member(server, name)["status"] == "ONLINE")
                };
                servers.iter().all(|server| states(server) == [true; 3])
            });
        }
        for server in &servers {
            server.wait_log(RAISED);
            server.wait_log("the data folder is upgraded from format 4 to 5");
        }
        // Whoever still wrote when the level rose goes on for a while.
        let count = || people(&servers[0]).len();
        let before = count();
        until("ten more people", || count() >= before + 10);
        drop(stopping);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    written.sort_unstable();
    for server in &servers {
        let mut found = Vec::new();
        until("all people", || {
            found = people(server);
            found.len() >= written.len()
        });
        let mut names: Vec<&str> = found.iter().map(|row| row["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, written, "nothing lost, nothing twice");
        assert_eq!(["n1", "n2", "n3"].map(|name| speaks(server, name)), [9, 9, 9]);
    }
    no_way_back(&mut servers, &arguments);
}

/// The older program does not start on a folder of the newer one, and is not linked with one.
fn no_way_back(servers: &mut [Server], arguments: &[Vec<String>; 3]) {
    assert!(servers[2].end(Signal::SIGTERM).success());
    let mut refused = start_older(&arguments[2]);
    until("the end", || refused.ended().is_some());
    assert!(!refused.ended().unwrap().success());
    refused.wait_log("format 5");

    // With an empty folder it can ask, and is told.
    let seed = arguments[0].iter().find_map(|a| a.strip_prefix("--peer=")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stranger = start_older(&support::joins(folder.path(), "n4", seed));
    stranger.wait_log("refused by the other side: ");
    servers[0].wait_log(
        "no common version of the link protocol: this server speaks version 9, the other one \
         version 8; start the other one with a newer program",
    );
    servers[2] = start(&arguments[2]);
    servers[2].wait_online();
}

/// While one server is of the older version, nothing is written that it could not read, and it can
/// come and go: the cluster waits for it.
#[test]
fn a_cluster_stays_at_the_version_of_its_oldest_server() {
    let dir = tempfile::tempdir().unwrap();
    let (arguments, _) = arguments(dir.path());
    let mut servers = [start(&arguments[0]), start(&arguments[1]), start_older(&arguments[2])];
    servers.iter().for_each(Server::wait_for_all_three);
    until("what the newer ones say", || {
        [(0, "n2"), (1, "n1")].iter().all(|(at, of)| speaks(&servers[*at], of) == 9)
    });
    done(&servers[2], "POST", "/database/bench/plocal", "");
    done(&servers[0], "POST", "/class/bench/Person", "");
    done(&servers[1], "POST", "/document/bench", &person("one"));
    // What came with the newer version is asked of nobody who does not know it.
    let more = "ALTER CLASS Person ADDCLUSTER person_usa";
    let deadline = [("X-Quorate-Deadline-Ms", "300")];
    let refused =
        request_with(servers[0].address(), "POST", "/command/bench/sql", &deadline, more).unwrap();
    assert!(refused.contains("not every server speaks version 9"), "{refused}");
    servers[2].end(Signal::SIGKILL);
    servers[2] = start_older(&arguments[2]);
    servers[2].wait_for_all_three();
    until("the person", || people(&servers[2]).len() == 1);
    assert!(!servers.iter().any(|server| server.log().contains(RAISED)));
    // One that joins is of its version, too.
    let seed = arguments[0].iter().find_map(|a| a.strip_prefix("--peer=")).unwrap();
    let joined = start_older(&support::joins(dir.path(), "n4", seed));
    joined.wait_online();
    until("the person there", || people(&joined).len() == 1);
    assert_eq!(ask(&joined, "GET", "/class/bench/Person", "").status, 200);
}
