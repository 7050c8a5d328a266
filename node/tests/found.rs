//! Servers that come to a cluster with databases of their own: real processes, killed meanwhile.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::people::{ask, done, ha, start};
use support::{
    Server, StopWhenDropped, body, free_port, joins, json_of, member, request, servers_of, status,
    until,
};

/// Records of the database whose server is killed while it brings it in.
const RECORDS: usize = 10_000;

/// Arguments of a server that stands alone on this data folder.
fn alone(arguments: &[String]) -> Vec<String> {
    let kept = ["--name=", "--data=", "--http="];
    let is_kept = |argument: &&String| kept.iter().any(|flag| argument.starts_with(flag));
    arguments.iter().filter(is_kept).cloned().collect()
}

fn command(server: &Server, database: &str, text: &str) -> Vec<Value> {
    let answer = done(server, "POST", &format!("/command/{database}/sql"), text);
    answer["result"].as_array().unwrap().clone()
}

/// A database with two indexes, a few people who know each other, and so many records.
fn create(server: &Server, database: &str, records: usize) {
    done(server, "POST", &format!("/database/{database}/plocal"), "");
    for text in [
        "CREATE CLASS Person EXTENDS V",
        "CREATE CLASS Knows EXTENDS E",
        "CREATE CLASS Item",
        "CREATE INDEX Person.name UNIQUE",
        "CREATE INDEX Item.team NOTUNIQUE",
    ] {
        command(server, database, text);
    }
    for name in ["Ada", "Bob", "Cyd"] {
        let text = format!("CREATE VERTEX Person SET name = '{name}', of = '{database}'");
        command(server, database, &text);
    }
    let person = |name| format!("(SELECT FROM Person WHERE name = '{name}')");
    let edge = format!("CREATE EDGE Knows FROM {} TO {}", person("Ada"), person("Bob"));
    command(server, database, &edge);
    command(server, database, "UPDATE Person SET seen = true WHERE name = 'Ada'");
    command(server, database, "DELETE VERTEX Person WHERE name = 'Cyd'");
    let numbers: Vec<usize> = (0..records).collect();
    for group in numbers.chunks(500) {
        let operation = |n: &usize| {
            let team = n % 10;
            format!(r#"{{"type":"c","record":{{"@class":"Item","n":{n},"team":{team}}}}}"#)
        };
        let operations: Vec<String> = group.iter().map(operation).collect();
        let body = format!(r#"{{"transaction":true,"operations":[{}]}}"#, operations.join(","));
        done(server, "POST", &format!("/batch/{database}"), &body);
    }
}

/// What a server itself has of a database, ids and contents; `None` while it serves it not.
fn contents(server: &Server, database: &str) -> Option<Vec<Value>> {
    let mut all = Vec::new();
    for class in ["Person", "Knows", "Item"] {
        let path = format!("/query/{database}/sql/SELECT%20FROM%20{class}/-1");
        let answer = request(server.address(), "GET", &path, "").ok()?;
        if status(&answer) != 200 {
            return None;
        }
        let mut rows = json_of(&answer)["result"].as_array().unwrap().clone();
        for row in &mut rows {
            row.as_object_mut().unwrap().remove("@version");
        }
        rows.sort_by_key(|row| row["@rid"].as_str().unwrap().to_owned());
        all.extend(rows);
    }
    Some(all)
}

fn rids(contents: &[Value]) -> BTreeSet<&str> {
    contents.iter().map(|row| row["@rid"].as_str().unwrap()).collect()
}

/// A server that stood alone with a database and was killed right behind its last answer.
fn stood_alone(arguments: &[String], database: &str, records: usize) -> Vec<Value> {
    let mut server = start(&alone(arguments));
    server.wait_online();
    create(&server, database, records);
    let found = contents(&server, database).unwrap();
    server.end(Signal::SIGKILL);
    found
}

/// Databases that a server lists.
fn listed(server: &Server) -> BTreeSet<String> {
    let list = request(server.address(), "GET", "/listDatabases", "").unwrap_or_default();
    let names = serde_json::from_str::<Value>(body(&list)).unwrap_or_default();
    let names = names["databases"].as_array().cloned().unwrap_or_default();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// A server serves the whole of a database or nothing of it, at every moment.
fn assert_never_half(address: &str, database: &str, stop: &AtomicBool) {
    let path = format!("/query/{database}/sql/SELECT%20count(*)%20AS%20n%20FROM%20Item");
    while !stop.load(Ordering::Acquire) {
        let Ok(answer) = request(address, "GET", &path, "") else { continue };
        if status(&answer) == 200 {
            assert_eq!(json_of(&answer)["result"][0]["n"], RECORDS, "{answer}");
        }
    }
}

/// The original's `MultipleDBAlignmentOnNodesJoining`: three servers that stood alone, each with a
/// database of its own, found a cluster, and a fourth one joins with nothing. All have all three,
/// with the ids that they had, although one is killed while it brings in its own.
///
/// FEATURES: S2, S5
#[test]
fn multiple_db_alignment_on_nodes_joining() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = servers_of(dir.path(), ["n1", "n2", "n3"]);
    let sizes = [("A", 50), ("B", RECORDS), ("C", 50)];
    let before: Vec<Vec<Value>> = arguments
        .iter()
        .zip(sizes)
        .map(|(arguments, (name, records))| stood_alone(arguments, name, records))
        .collect();
    let mut servers: Vec<Server> = arguments.iter().map(|a| start(a)).collect();
    let stop = AtomicBool::new(false);
    let mut joined = None;
    std::thread::scope(|scope| {
        let _stops = StopWhenDropped(&stop);
        for server in [&servers[0], &servers[2]] {
            let (address, stop) = (server.address().to_owned(), &stop);
            scope.spawn(move || assert_never_half(&address, "B", stop));
        }
        servers[0].wait_log("database 'B' is being brought in from the disk of 'n2'");
        servers[1].end(Signal::SIGKILL);
        // Others are written to meanwhile.
        until("A everywhere but at n2", || {
            [0, 2].iter().all(|n| listed(&servers[*n]).contains("A"))
        });
        command(&servers[0], "A", "INSERT INTO Item SET n = -1");
        servers[1] = start(&arguments[1]);
        // Its first life did not come to the end.
        servers[1].wait_log("database 'B' is brought in from the disk: ");
        joined = Some(start(&joins(dir.path(), "n4", &seed(&arguments[0]))));
        let all: Vec<&Server> = servers.iter().chain(&joined).collect();
        let names: BTreeSet<String> = sizes.map(|(name, _)| name.to_owned()).into();
        until("all databases everywhere", || all.iter().all(|server| listed(server) == names));
    });
    servers.extend(joined);
    command(&servers[0], "A", "DELETE FROM Item WHERE n = -1");
    for ((name, _), before) in sizes.iter().zip(&before) {
        for server in &servers {
            until("the same", || contents(server, name).as_ref() == Some(before));
            let found = command(server, name, "EXPLAIN SELECT FROM Item WHERE team = 3");
            assert!(found[0].to_string().contains("FetchFromIndexStep"), "{found:?}");
        }
        // Unique it is, and no id is given twice.
        let path = format!("/command/{name}/sql");
        until("a duplicate", || {
            let text = "CREATE VERTEX Person SET name = 'Bob'";
            ask(&servers[0], "POST", &path, text).code() == "duplicate_key"
        });
        let new = command(&servers[1], name, "CREATE VERTEX Person SET name = 'Cyd'");
        assert!(!rids(before).contains(new[0]["@rid"].as_str().unwrap()), "{new:?}");
    }
    // What was brought in once is not brought in again.
    done(&servers[0], "DELETE", "/database/C", "");
    servers[2].end(Signal::SIGTERM);
    let data = arguments[2].iter().find_map(|argument| argument.strip_prefix("--data=")).unwrap();
    // Nor if it was killed before it noted that on its disk.
    for place in std::fs::read_dir(Path::new(data).join("found")).unwrap() {
        std::fs::remove_file(place.unwrap().path().join("done")).unwrap();
    }
    servers[2] = start(&arguments[2]);
    servers[2].wait_log("database 'C' was brought in and dropped: ");
    let left = BTreeSet::from(["A".to_owned(), "B".to_owned()]);
    until("C is gone", || servers.iter().all(|server| listed(server) == left));
}

/// Two records that are more than one transaction may hold, and a cluster that a person named.
fn grow(server: &Server, database: &str) {
    let text = |length: usize| "x".repeat(length);
    command(server, database, &format!("INSERT INTO Item SET n = 1000, a = '{}'", text(200_000)));
    command(server, database, &format!("INSERT INTO Item SET n = 1001, a = '{}'", text(4_150_000)));
    let more = format!("UPDATE Item SET b = '{}' WHERE n = 1001", text(4_150_000));
    command(server, database, &more);
    command(server, database, "ALTER CLASS Item ADDCLUSTER item_usa");
    for n in 2_000..2_004 {
        command(server, database, &format!("INSERT INTO Item SET n = {n}"));
    }
}

/// A server whose databases were set aside, and that never came to a cluster, founds none with
/// nothing in it: neither after a kill before it wrote anything of its own, nor after an end in
/// order, with what it had agreed on with nobody.
fn is_refused_alone(dir: &Path, arguments: &[String]) {
    for end in [Signal::SIGKILL, Signal::SIGTERM] {
        let mut lost = start(&joins(dir, "n2", &format!("127.0.0.1:{}", free_port())));
        if end == Signal::SIGKILL {
            lost.wait_log("this server stood alone: its databases are set aside");
        } else {
            lost.wait_log("updated node status to 'STARTING'");
        }
        lost.end(end);
        let mut again = start(&alone(arguments));
        until("its end", || again.ended().is_some());
        assert_eq!(again.ended().and_then(|status| status.code()), Some(1));
        again.wait_end_of_log();
        let log = again.log();
        let rest = log.split_once("with --data=").map(|(_, rest)| rest);
        let place = rest.and_then(|rest| rest.split(['"', '\n']).next());
        let place = place.unwrap_or_else(|| panic!("{log}"));
        assert!(Path::new(place.trim()).join("identity").exists(), "{log}");
    }
}

fn seed(arguments: &[String]) -> String {
    let seed = arguments.iter().find_map(|argument| argument.strip_prefix("--peer="));
    seed.unwrap().to_owned()
}

/// Founds a cluster alone with a database A.
fn founder(dir: &Path) -> (Server, String) {
    let seed = format!("127.0.0.1:{}", free_port());
    let arguments = vec![
        "--name=n1".to_owned(),
        format!("--data={}", dir.join("n1").display()),
        "--http=127.0.0.1:0".to_owned(),
        format!("--peer={seed}"),
        "--masters=n1".to_owned(),
        "--cluster-name=bench".to_owned(),
    ];
    let server = start(&arguments);
    server.wait_online();
    create(&server, "A", 20);
    done(&server, "POST", "/database/bench/plocal", "");
    (server, seed)
}

/// FEATURES: S2, S5
#[test]
fn another_database_of_the_same_name_is_refused_on_both_sides_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (first, seed) = founder(dir.path());
    let ours = contents(&first, "A").unwrap();
    let arguments = joins(dir.path(), "n2", &seed);
    let mut own = start(&alone(&arguments));
    own.wait_online();
    create(&own, "A", 30);
    create(&own, "B", 30);
    grow(&own, "B");
    let (theirs, other) = (contents(&own, "A").unwrap(), contents(&own, "B").unwrap());
    assert!(own.end(Signal::SIGTERM).success());
    is_refused_alone(dir.path(), &arguments);

    let second = start(&arguments);
    let words = "database 'A' on the disk of 'n2' is another one than that of this name here";
    first.wait_log(words);
    second.wait_log(words);
    second.wait_log("HA SET ROLE n2=MASTER lets it come");
    let refused = |server: &Server| member(server, "n2")["foundOnDisk"][0].clone();
    for server in [&first, &second] {
        until("HA STATUS", || refused(server)["name"] == "A");
        assert_eq!(refused(server)["status"], "REFUSED: another database has its name");
        until("the cluster's A", || contents(server, "A").as_ref() == Some(&ours));
    }
    ha(&first, "HA SET ROLE n2=MASTER");
    for server in [&first, &second] {
        until("B", || contents(server, "B").as_ref() == Some(&other));
        assert_eq!(contents(server, "A").as_ref(), Some(&ours));
    }
    // Once the name is free the other one comes.
    done(&first, "DELETE", "/database/A", "");
    for server in [&first, &second] {
        until("the other A", || contents(server, "A").as_ref() == Some(&theirs));
        until("nothing is refused", || refused(server).is_null());
    }
}
