//! The distributed configuration of databases: real servers, their files and their template.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{BINARY, NEVER_SUSPECT, Server, http, status, three_servers, until};

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

fn start(arguments: &[String]) -> Server {
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.push(NEVER_SUSPECT);
    Server::start(&[], &arguments)
}

/// Sends a request that succeeds.
fn done(server: &Server, method: &str, path: &str) {
    let answer = http(server, method, path, "");
    assert!((200..300).contains(&status(&answer)), "{answer}");
}

fn files(data: &Path, database: &str) -> [PathBuf; 3] {
    NAMES.map(|n| data.join(n).join("databases").join(database).join("distributed-config.json"))
}

/// Waits until every server's file is the same and has this version; gives what is in it.
fn agreed(files: &[PathBuf; 3], version: u64) -> Vec<u8> {
    let mut found = Vec::new();
    until(&format!("version {version} of {}", files[0].display()), || {
        let texts: Vec<Option<Vec<u8>>> = files.iter().map(|file| fs::read(file).ok()).collect();
        let Some(first) = texts[0].clone() else { return false };
        let Ok(document) = serde_json::from_slice::<Value>(&first) else { return false };
        found = first;
        document["version"] == version && texts.iter().all(|text| text.as_ref() == Some(&found))
    });
    found
}

/// The same in another version.
fn at_version(text: &[u8], from: u64, to: u64) -> Vec<u8> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    text.replace(&format!("\"version\": {from},"), &format!("\"version\": {to},")).into_bytes()
}

/// FEATURES: S6
#[test]
fn every_server_keeps_the_same_file_and_it_follows_the_schema() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers: Vec<Server> = arguments.iter().map(|a| start(a)).collect();
    for server in &servers {
        server.wait_for_all_three();
        // A database made before goes by each server's own chain, and has none in its document.
        server.wait_log("all servers speak version 9 from now on");
    }
    done(&servers[0], "POST", "/database/bench/plocal");
    done(&servers[1], "POST", "/database/other/memory");
    let (bench, other) = (files(dir.path(), "bench"), files(dir.path(), "other"));
    let first = agreed(&bench, 1);
    assert_eq!(agreed(&other, 1), first, "two databases that say the same");
    done(&servers[1], "POST", "/class/bench/Item");
    done(&servers[2], "POST", "/class/bench/Person");
    let text = agreed(&bench, 3);
    let document: Value = serde_json::from_slice(&text).unwrap();
    for (cluster, owner) in [("item", "n1"), ("item_n2", "n2"), ("person_n3", "n3")] {
        assert_eq!(document["clusters"][cluster]["servers"][0], owner, "{document:#}");
    }
    for server in &servers {
        let answer = http(server, "GET", "/distributed/database/bench", "");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(body.as_bytes(), text);
        server.wait_log("updated distributed configuration");
    }

    assert!(servers[2].end(Signal::SIGTERM).success());
    fs::remove_file(&bench[2]).unwrap();
    fs::write(&other[2], "{}").unwrap();
    servers[2] = start(&arguments[2]);
    servers[2].wait_for_all_three();
    // Its clusters went to the others, and came home.
    assert_eq!(agreed(&bench, 5), at_version(&text, 3, 5));
    assert_eq!(agreed(&other, 3), at_version(&first, 1, 3));
    let edited = other[2].with_file_name("distributed-config.json.edited");
    assert_eq!(fs::read_to_string(edited).unwrap(), "{}");

    done(&servers[2], "DELETE", "/class/bench/Person");
    agreed(&bench, 6);
    done(&servers[0], "DELETE", "/database/bench");
    for file in &bench {
        until("the file to be gone", || !file.parent().unwrap().exists());
    }
    for server in &mut servers {
        assert!(server.end(Signal::SIGTERM).success());
    }
}

/// FEATURES: S5, S9
#[test]
fn a_server_reads_its_template_and_refuses_one_it_cannot_keep() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("n1");
    let alone = [format!("--data={}", data.display()), "--http=127.0.0.1:0".to_owned()];
    let mut server = start(&alone);
    server.wait_log("ONLINE");
    let template = data.join("config/default-distributed-db-config.json");
    until("the template", || template.exists());
    let shipped = fs::read_to_string(&template).unwrap();
    assert!(!server.log().contains("distributed-db-config"), "{}", server.log());
    assert!(server.end(Signal::SIGTERM).success());

    let edited = shipped.replace("\"autoDeploy\": true", "\"hotAlignment\": true");
    fs::write(&template, edited.replace("\"undefined\"", "\"synchronous\"")).unwrap();
    server = start(&alone);
    server.wait_online();
    server.wait_log("hotAlignment is obsolete: a server that was away is sent what it missed");
    done(&server, "POST", "/database/bench/plocal");
    let made = http(&server, "GET", "/distributed/database/bench", "");
    assert!(made.contains("\"executionMode\": \"synchronous\""), "{made}");
    assert_eq!(server.log().matches("is obsolete").count(), 1, "{}", server.log());
    assert!(server.end(Signal::SIGTERM).success());

    let mine = dir.path().join("mine.json");
    for (text, parts) in [
        ("{", vec!["mine.json: not JSON"]),
        (
            r#"{"writeQuorum":"most","clusters":{}}"#,
            vec!["mine.json: writeQuorum: \"most\" is not"],
        ),
        (
            r#"{"writeQuorum":2,"clusters":{"*":{"servers":["<NEW_NODE>"]}}}"#,
            vec!["mine.json: writeQuorum: 2 cannot be reached, there are 1 MASTERs"],
        ),
        (
            r#"{"servers":{"n1":"replica"},"clusters":{"*":{"servers":["n1"],"owner":"n1"}}}"#,
            vec!["mine.json: servers.n1: there are no", "mine.json: clusters.*.owner: owners"],
        ),
    ] {
        fs::write(&mine, text).unwrap();
        let output = Command::new(BINARY)
            .arg("serve")
            .args(&alone)
            .arg(format!("--default-db-config={}", mine.display()))
            .output()
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{log}");
        assert!(parts.iter().all(|part| log.contains(part)), "{parts:?} in {log}");
    }
}
