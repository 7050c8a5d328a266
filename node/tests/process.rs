//! The real binary as a process: its first line, its folder, its signals, its exit codes.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use support::{BINARY, Server, three_servers};

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

#[test]
fn a_server_alone_starts_stops_and_counts_its_boots() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = start(&alone(&dir));
    first.wait_log("ONLINE");
    assert_eq!(first.line["boot"], 1);
    assert!(first.line["peer"].is_null());
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
    first.wait_log("ONLINE");
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
}

#[test]
fn three_servers_meet_and_a_killed_one_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers: Vec<Server> = arguments.iter().map(|a| start(a)).collect();
    for server in &servers {
        server.wait_log("ONLINE");
    }
    servers[2].end(Signal::SIGKILL);
    servers[0].wait_log("peer down");
    servers[2] = start(&arguments[2]);
    servers[2].wait_log("ONLINE");
    for server in &mut servers {
        assert!(server.end(Signal::SIGTERM).success());
    }
}
