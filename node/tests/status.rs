//! How servers show each other: the same picture on every one, whatever becomes of one of them, in
//! `HA STATUS` and in the log.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Server, status, three_servers, until};

fn start(arguments: &[String]) -> Server {
    Server::start(&[], &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The body of an answer.
fn json(answer: &str) -> Value {
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"))
}

/// The row that `HA STATUS` gives on a server.
fn ha_status(server: &Server) -> Value {
    let answer = server.http("GET", "/command/bench/sql/HA%20STATUS", "");
    assert_eq!(status(&answer), 200, "{answer}");
    json(&answer)["result"][0].take()
}

/// What is the same on every server: identity, state, addresses and databases of each, and whether
/// writes can succeed.
fn picture(server: &Server) -> Value {
    let row = ha_status(server);
    let members = row["servers"]["members"].as_array().unwrap();
    let keys = ["id", "name", "status", "listeners", "startedOn", "databases"];
    let members: Vec<Vec<&Value>> =
        members.iter().map(|member| keys.iter().map(|key| &member[*key]).collect()).collect();
    let database = &row["database"];
    serde_json::json!([members, database["status"], database["wQuorum"], database["clusters"]])
}

/// Waits until these servers show the third one in a state, and the same of everything.
fn await_third(servers: &[Server], state: &str, reachable: bool) {
    let expected = |server: &Server| {
        let row = ha_status(server);
        row["servers"]["members"][2]["status"] == state
            && row["database"]["status"]["n3"] == state
            && row["database"]["wQuorum"] == reachable
    };
    until(state, || {
        servers.iter().all(expected)
            && servers.windows(2).all(|two| picture(&two[0]) == picture(&two[1]))
    });
}

/// The texts stand in the log in this order.
fn assert_told(server: &Server, texts: &[&str]) {
    let log = server.log();
    let mut rest = log.as_str();
    for text in texts {
        let at = rest.find(text).unwrap_or_else(|| panic!("{text} in {rest}\nof {log}"));
        rest = &rest[at + text.len()..];
    }
}

/// FEATURES: A20, S11, S8
#[test]
fn every_server_shows_the_same_picture_through_a_kill_and_a_return() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers: Vec<Server> = arguments.iter().map(|a| start(a)).collect();
    for server in &servers {
        server.wait_for_all_three();
    }
    for path in ["/database/bench/plocal", "/class/bench/Item"] {
        let answer = servers[1].http("POST", path, "");
        assert!([200, 201].contains(&status(&answer)), "{answer}");
    }
    await_third(&servers, "ONLINE", true);
    measured(&servers);

    servers[2].end(Signal::SIGKILL);
    await_third(&servers[..2], "NOT_AVAILABLE", true);
    let text = servers[0].http("POST", "/command/bench/sql", "HA STATUS -servers -output=text");
    let text = json(&text)["result"][0]["value"].as_str().unwrap().to_owned();
    let [own, third] = ["| n1(*) | ONLINE ", "| n3    | NOT_AVAILABLE | bench=NOT_AVAILABLE"];
    assert!(text.contains(own) && text.contains(third), "{text}");

    servers[1].end(Signal::SIGTERM);
    until("the second one's end", || {
        let row = ha_status(&servers[0]);
        let states = &row["database"]["status"];
        states["n2"] == "NOT_AVAILABLE"
            && row["servers"]["members"][1]["status"] == "OFFLINE"
            && row["database"]["wQuorum"] == false
    });
    for index in [1, 2] {
        servers[index] = start(&arguments[index]);
    }
    await_third(&servers, "ONLINE", true);
    tell_the_story(&servers);
    for server in &mut servers {
        assert!(server.end(Signal::SIGTERM).success());
    }
}

/// Every server knows what every other one measured and sent.
fn measured(servers: &[Server]) {
    let toward = |server: &Server, from: usize, to: &str| {
        let member = ha_status(server)["servers"]["members"][from].take();
        (member["latencies"][to]["average"].as_u64(), member["sent"][to].as_u64())
    };
    for server in servers {
        for (from, to) in [(0, "n2"), (0, "n3"), (1, "n1"), (1, "n3"), (2, "n1"), (2, "n2")] {
            until("what they have to do with each other", || {
                let (latency, sent) = toward(server, from, to);
                latency.is_some_and(|ns| ns > 0) && sent.is_some_and(|count| count > 0)
            });
        }
    }
    let numbers = json(&servers[0].http("GET", "/distributed/stats/n2", ""));
    assert!(numbers["clusterStats"]["n2"]["usedMemory"].as_u64().unwrap() > 1 << 20);
    assert_eq!(numbers["databasesStatus"]["bench"]["n3"], "ONLINE");
    let version = servers[0].http("GET", "/distributed/node", "");
    assert_eq!(json(&version)["members"].as_array().unwrap().len(), 3);
}

/// Read top to bottom, the log of the first server says what happened.
fn tell_the_story(servers: &[Server]) {
    assert_told(
        &servers[0],
        &[
            "updated node status to 'STARTING'",
            "added new node ",
            "added new node ",
            "updated node status to 'ONLINE'",
            "added database 'bench' on n1, n2, n3: writeQuorum majority, readQuorum 1",
            "database 'bench' is ONLINE",
            "updated status of node 'n3' to 'NOT_AVAILABLE'",
            "updated status of node 'n2' to 'SHUTTINGDOWN'",
            "updated status of node 'n2' to 'OFFLINE'",
        ],
    );
    for node in ["n2", "n3"] {
        let back = format!("updated status of node '{node}' to 'ONLINE'");
        let log = servers[0].log();
        assert!(log.matches(&back).count() >= 2, "{back} in {log}");
    }
    assert_told(
        &servers[2],
        &[
            "updated node status to 'STARTING'",
            "added database 'bench'",
            "updated node status to 'ONLINE'",
            "database 'bench' is ONLINE",
        ],
    );
}
