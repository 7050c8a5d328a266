//! Several servers create one class at the same moment: there is one class, with the same ids
//! everywhere. Real processes.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::sync::Barrier;

use serde_json::Value;
use support::{Server, three_servers, until};

/// Sends a request to a server; returns status and body.
fn http(server: &Server, method: &str, path: &str) -> (u16, String) {
    // root:root
    let authorization = "Basic cm9vdDpyb290";
    let mut stream = TcpStream::connect(server.line["http"].as_str().unwrap()).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\
         Authorization: {authorization}\r\nContent-Length: 0\r\n\r\n",
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// What a server says of a class, if it knows it.
fn class(server: &Server, name: &str) -> Option<Value> {
    let (status, body) = http(server, "GET", &format!("/class/bench/{name}"));
    (status == 200).then(|| serde_json::from_str(&body).unwrap())
}

/// FEATURES: L3
#[test]
fn a_class_created_on_all_servers_at_once_is_one_class() {
    let dir = tempfile::tempdir().unwrap();
    let servers = three_servers(dir.path()).map(|arguments| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Server::start(&[], &arguments)
    });
    for server in &servers {
        server.wait_log("ONLINE");
        server.wait_log_times("peer up", 2);
    }
    assert_eq!(http(&servers[0], "POST", "/database/bench/plocal").0, 200);
    for server in &servers {
        until("the database", || http(server, "GET", "/database/bench").0 == 200);
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
                    http(server, "POST", path).0
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
