//! Several servers create one class at the same moment: there is one class, with the same ids
//! everywhere. Real processes.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::sync::Barrier;

use serde_json::Value;
use support::{NEVER_SUSPECT, Server, http, status, three_servers, until};

/// Sends a request without a body; returns status and body.
fn ask(server: &Server, method: &str, path: &str) -> (u16, String) {
    let answer = http(server, method, path, "");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status(&answer), body.to_owned())
}

/// What a server says of a class, if it knows it.
fn class(server: &Server, name: &str) -> Option<Value> {
    let (found, body) = ask(server, "GET", &format!("/class/bench/{name}"));
    (found == 200).then(|| serde_json::from_str(&body).unwrap())
}

/// FEATURES: L3
#[test]
fn a_class_created_on_all_servers_at_once_is_one_class() {
    let dir = tempfile::tempdir().unwrap();
    let servers = three_servers(dir.path()).map(|arguments| {
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        arguments.push(NEVER_SUSPECT);
        Server::start(&[], &arguments)
    });
    for server in &servers {
        server.wait_for_all_three();
    }
    assert_eq!(ask(&servers[0], "POST", "/database/bench/plocal").0, 200);
    for server in &servers {
        until("the database", || ask(server, "GET", "/database/bench").0 == 200);
    }
    for round in 0..8 {
        let name = format!("Item{round}");
        let path = format!("/class/bench/{name}");
        let start = Barrier::new(servers.len());
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let (start, path) = (&start, &path);
            let create = |server| {
                scope.spawn(move || {
                    start.wait();
                    ask(server, "POST", path).0
                })
            };
            let running: Vec<_> = servers.iter().map(create).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
        for server in &servers {
            until("the class", || class(server, &name).is_some());
        }
        let first = class(&servers[0], &name).unwrap();
        assert!(servers.iter().all(|server| class(server, &name).as_ref() == Some(&first)));
    }
}
