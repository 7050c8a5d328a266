//! Servers that count only while they are there (`newNodeStrategy` "dynamic"), as in the original's
//! tests of dynamic membership (chaos/SCENARIOS.md). Real processes, killed and cut off.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::people::{
    ask, assert_same, create_people_in, done, people, person, sql, start, start_all, stop_all,
    write_on,
};
use support::wire::{hold, wires_around_the_last};
use support::{Server, member, servers_of, until};

/// Settings of a database that enlists nobody.
fn dynamic() -> Value {
    json!({"writeQuorum": "majority", "newNodeStrategy": "dynamic"})
}

/// Names that a database's configuration has in its list of those who keep everything.
fn configured(server: &Server) -> Vec<String> {
    let config = done(server, "GET", "/distributed/database/bench", "");
    let names = config["clusters"]["*"]["servers"].as_array().unwrap().clone();
    let names = names.iter().map(|name| name.as_str().unwrap().to_owned());
    names.filter(|name| name != "<NEW_NODE>").collect()
}

fn await_configured(servers: &[Server], names: &[&str]) {
    for server in servers {
        until("a configuration", || configured(server) == names);
    }
}

/// Roles and states that all servers show of one.
fn await_shown(servers: &[Server], name: &str, role: &str) {
    for server in servers {
        until("a server is shown", || {
            let member = member(server, name);
            let databases = member["databases"].as_array().cloned().unwrap_or_default();
            let is_there =
                |database: &Value| database["role"] == role && database["status"] == "ONLINE";
            member["status"] == "ONLINE" && databases.iter().any(is_there)
        });
    }
}

/// Waits until the last server is a MASTER that creates people again.
fn await_master(servers: &[Server], name: &str) {
    await_shown(servers, name, "MASTER");
    for server in servers {
        until("a cluster of its own", || {
            let config = done(server, "GET", "/distributed/database/bench", "");
            let clusters = config["clusters"].as_object().unwrap().clone();
            clusters
                .iter()
                .any(|(cluster, says)| cluster.starts_with("person") && says["servers"][0] == name)
        });
    }
}

fn remove_after(arguments: &mut [Vec<String>], ms: i64) {
    for arguments in arguments {
        arguments.push(format!("--auto-remove-offline-servers={ms}"));
    }
}

fn aside(data: &Path, name: &str) -> usize {
    let entries = std::fs::read_dir(data.join(name)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("renounced-")).count()
}

/// HARemoveNodeFromCfgTest: a server that is stopped leaves the configuration by itself, so that
/// one of the two that are left is no majority yet two are, and comes back by itself, with
/// everything, as a MASTER.
///
/// FEATURES: S9, A12, L7
#[test]
fn a_stopped_server_leaves_the_configuration_and_comes_back_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut arguments = servers_of(dir.path(), ["n1", "n2", "n3"]);
    remove_after(&mut arguments, 100);
    let mut servers = start_all(&arguments);
    create_people_in(&servers, 0, &dynamic());
    let mut names = write_on(&servers, "whole");
    assert_same(&servers, &names);
    assert_eq!(configured(&servers[0]), ["n1", "n2", "n3"]);
    let config = done(&servers[0], "GET", "/distributed/database/bench", "");
    assert_eq!(config["newNodeStrategy"], "dynamic");
    assert_eq!(config["servers"], json!({"*": "master"}), "nobody is enlisted");
    let table = json!(sql(&servers[0], "HA STATUS -db -output=text")).to_string();
    assert!(table.contains("dynamic") && !table.contains("static"), "{table}");
    let mut last = servers.pop().unwrap();
    let before = member(&servers[0], "n3")["id"].clone();
    assert!(last.end(Signal::SIGKILL).code().is_none());
    await_configured(&servers, &["n1", "n2"]);
    // Two of two vote: what they acknowledge both have.
    names.extend(write_on(&servers, "without"));
    assert_same(&servers, &names);
    servers.push(start(&arguments[2]));
    servers[2].wait_log("it joins again as another one");
    await_master(&servers, "n3");
    await_configured(&servers, &["n1", "n2", "n3"]);
    assert_ne!(member(&servers[0], "n3")["id"], before, "its votes were nobody's any more");
    assert_eq!(aside(dir.path(), "n3"), 1, "its former data is kept aside");
    names.extend(write_on(&servers, "back"));
    assert_same(&servers, &names);
    // It is what it is now from then on, started as it always was.
    let after = member(&servers[0], "n3")["id"].clone();
    let mut last = servers.pop().unwrap();
    assert!(last.end(Signal::SIGTERM).success());
    await_configured(&servers, &["n1", "n2"]);
    servers.push(start(&arguments[2]));
    await_master(&servers, "n3");
    assert_ne!(member(&servers[0], "n3")["id"], after);
    assert_eq!(aside(dir.path(), "n3"), 1, "the last one");
    assert_same(&servers, &names);
    stop_all(servers);
}

/// A server that is cut off, and not ended, is told by those who went on without it that they did,
/// and comes back in the same process, at the same addresses.
///
/// FEATURES: S9, A12
#[test]
fn a_server_that_was_cut_off_comes_back_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut arguments = servers_of(dir.path(), ["n1", "n2", "n3"]);
    remove_after(&mut arguments, 0);
    let wires = wires_around_the_last(&mut arguments);
    let servers = start_all(&arguments);
    create_people_in(&servers, 0, &dynamic());
    let mut names = write_on(&servers, "whole");
    assert_same(&servers, &names);
    hold(&wires, true);
    await_configured(&servers[..2], &["n1", "n2"]);
    let refused = ask(&servers[2], "POST", "/document/bench", &person("nobody"));
    assert!(refused.code() == "no_quorum" && refused.is_retryable(), "{refused:?}");
    assert_eq!(configured(&servers[2]), ["n1", "n2", "n3"], "a minority removes nobody");
    names.extend(write_on(&servers[..2], "split"));
    hold(&wires, false);
    servers[2].wait_log("it joins again as another one");
    // The way back leads through the same wires: nobody is reached behind the dial map.
    await_master(&servers, "n3");
    names.extend(write_on(&servers, "healed"));
    assert_same(&servers, &names);
    stop_all(servers);
}

/// SplitBrainNetwork2DynamicServers: of two, neither goes on without the other, which is more than
/// the original asks for: there both sides write, and what one of them wrote is lost.
///
/// FEATURES: S9, A12
#[test]
fn of_two_neither_removes_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut arguments = servers_of(dir.path(), ["n1", "n2"]);
    remove_after(&mut arguments, 0);
    let wires = wires_around_the_last(&mut arguments);
    let servers = start_all(&arguments);
    create_people_in(&servers, 0, &dynamic());
    let mut names = write_on(&servers, "whole");
    assert_same(&servers, &names);
    let ids = [member(&servers[0], "n1")["id"].clone(), member(&servers[0], "n2")["id"].clone()];
    hold(&wires, true);
    for (server, other) in [(&servers[0], "n2"), (&servers[1], "n1")] {
        until("a split", || member(server, other)["status"] == "NOT_AVAILABLE");
        let refused = ask(server, "POST", "/document/bench", &person("nobody"));
        assert!(refused.code() == "no_quorum" && refused.is_retryable(), "{refused:?}");
        assert_eq!(people(server).len(), names.len(), "reads go on");
        assert_eq!(configured(server), ["n1", "n2"]);
    }
    hold(&wires, false);
    names.extend(write_on(&servers, "healed"));
    assert_same(&servers, &names);
    let after = [member(&servers[0], "n1")["id"].clone(), member(&servers[0], "n2")["id"].clone()];
    assert_eq!(after, ids, "nobody left");
    stop_all(servers);
}
