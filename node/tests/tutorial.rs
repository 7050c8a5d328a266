//! The tutorial's walk (README, "The tutorial's walk"): the first server has the sample database,
//! the second one gets it, both answer alike. Real processes.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::collections::BTreeMap;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::people::{done, start};
use support::{BINARY, Server, free_port, joins, member};

const DATABASE: &str = "SampleConcerts";
const CLASSES: [&str; 5] = ["song", "artist", "followed_by", "written_by", "sung_by"];

/// Runs the command that makes the sample; what it says and how it ends.
fn sample(server: &Server, password: &str) -> (String, bool) {
    let output = Command::new(BINARY)
        .args(["sample", "--at", server.address()])
        .env("ORIENTDB_ROOT_PASSWORD", password)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.success())
}

/// The rows of a statement on the sample.
fn sql(server: &Server, text: &str) -> Vec<Value> {
    let answer = done(server, "POST", &format!("/command/{DATABASE}/sql"), text);
    answer["result"].as_array().unwrap().clone()
}

/// All records that a server has, by id.
fn records(server: &Server) -> BTreeMap<String, Value> {
    let of_class = |class: &&str| {
        let path = format!("/query/{DATABASE}/sql/SELECT%20FROM%20{class}/-1");
        done(server, "GET", &path, "")["result"].as_array().unwrap().clone()
    };
    let rows = CLASSES.iter().flat_map(of_class);
    rows.map(|row| (row["@rid"].as_str().unwrap().to_owned(), row)).collect()
}

/// Every edge is known to both of its ends, and these know no others.
fn assert_symmetric(records: &BTreeMap<String, Value>) {
    let (mut edges, mut ends) = (0, 0);
    for (rid, record) in records {
        let class = record["@class"].as_str().unwrap();
        if ["song", "artist"].contains(&class) {
            let of_edges =
                |(key, _): &(&String, &Value)| key.starts_with("out_") || key.starts_with("in_");
            let lists = record.as_object().unwrap().iter().filter(of_edges);
            ends += lists.map(|(_, list)| list.as_array().unwrap().len()).sum::<usize>();
            continue;
        }
        edges += 1;
        for side in ["out", "in"] {
            let vertex = &records[record[side].as_str().unwrap()];
            let list = vertex[format!("{side}_{class}")].as_array().unwrap();
            assert!(list.iter().any(|edge| edge == rid), "{record} {vertex}");
        }
    }
    assert_eq!((edges, ends), (599, 2 * 599));
}

/// FEATURES: S2, S8, S10, A19
#[test]
fn the_walk_of_the_tutorial() {
    let dir = tempfile::tempdir().unwrap();
    let seed = format!("127.0.0.1:{}", free_port());
    let mut first = start(&[
        "--name=europe-0".to_owned(),
        format!("--data={}", dir.path().join("europe-0").display()),
        "--http=127.0.0.1:0".to_owned(),
        format!("--peer={seed}"),
        "--masters=europe-0".to_owned(),
        "--cluster-name=bench".to_owned(),
    ]);
    first.wait_online();
    let (text, is_done) = sample(&first, "guess");
    assert!(!is_done && text.contains("401"), "{text}");
    let (text, is_done) = sample(&first, "root");
    assert!(is_done, "{text}");
    assert!(text.contains("'SampleConcerts': 150 songs, 40 artists, 599 edges"), "{text}");
    let (text, is_done) = sample(&first, "root");
    assert!(!is_done && text.contains("already exists"), "{text}");
    let before = records(&first);
    assert_eq!(before.len(), 150 + 40 + 599);
    assert_symmetric(&before);

    // Slow enough to be looked at.
    let mut arguments = joins(dir.path(), "europe-1", &seed);
    arguments.push("--align-pause-ms=250".to_owned());
    let second = start(&arguments);
    support::until("the progress, shown by the other server", || {
        // So small a copy may be over before it is told of.
        let phase = &member(&first, "europe-1")["progress"]["phase"];
        phase == "copying" || phase == "comparing"
    });
    second.wait_online();
    first.wait_log("server 'europe-1' joined as REPLICA");
    for told in [
        "deploying database 'SampleConcerts' from server 'europe-0'...",
        "installed database 'SampleConcerts'",
        "database 'SampleConcerts' is ONLINE",
    ] {
        second.wait_log(told);
    }
    assert_eq!(records(&second), before);
    assert_eq!(member(&second, "europe-1")["databases"][0]["name"], DATABASE);
    support::until("the end of it", || member(&first, "europe-1")["progress"].is_null());

    // What is changed on the one is changed on the other.
    assert!(sql(&second, "SELECT FROM song WHERE song_type = 'cover'").len() > 10);
    sql(&first, "UPDATE song SET performances = 9999 WHERE name = 'Zovel Ruvel Ruzomar'");
    let often = || sql(&second, "SELECT FROM song WHERE performances = 9999");
    support::until("the update", || often().len() == 1);
    assert!(first.end(Signal::SIGTERM).success());
    assert_eq!(often().len(), 1, "it answers alone");
}
