//! Two servers and a witness as processes: any of them dies under load, what the witness keeps on
//! its disk, what it refuses, and how it comes and comes back.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]
#![allow(clippy::print_stdout, reason = "the figures are what the test is for")]

mod support;

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::people::{
    ask, assert_same, create_people, done, ha, sql, start, start_all, stop_all, write_on,
};
use support::{Server, joins, member, servers_of, three_servers, until};

/// Records of the size that tells on a disk.
const LARGE: usize = 400;
/// Bytes of each.
const BYTES: usize = 8_192;

/// A counter of a server.
fn counter(server: &Server, name: &str) -> u64 {
    let metrics = server.http("GET", "/metrics", "");
    let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// Text that does not get much smaller when it is packed.
fn noise(seed: u64) -> String {
    let mut state = seed + 1;
    let letters = (0..BYTES).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + (state >> 32) as u8 % 64)
    });
    letters.map(|letter| if letter == '\\' { '~' } else { letter }).collect()
}

/// What is below a folder, in bytes.
fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let of = |entry: std::fs::DirEntry| {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() }
    };
    entries.map(of).sum()
}

/// Waits until every server shows that n3 is a witness, and every cluster has followed.
fn await_witness(servers: &[&Server]) {
    for server in servers {
        let role = || member(server, "n3")["databases"][0]["role"].clone();
        until("the witness on every server", || role() == "WITNESS");
        until("each cluster's change", || counter(server, "quorate_clusters_changing") == 0);
    }
}

/// Two servers and a witness, with a database.
fn with_witness(arguments: &[Vec<String>]) -> Vec<Server> {
    let servers = start_all(arguments);
    create_people(&servers, 0, "majority");
    ha(&servers[0], "HA SET ROLE n3=WITNESS");
    await_witness(&servers.iter().collect::<Vec<_>>());
    // Both of the others claim its keys; the witness has none to claim.
    sql(&servers[0], "CREATE INDEX Person.code UNIQUE");
    servers
}

/// A unique index is built, people are written, updated and looked up all along; either server dies
/// without a word, and what one of them had not seen comes from the witness.
///
/// FEATURES: A2, A12, S9
#[test]
fn of_two_servers_and_a_witness_either_may_die_under_load() {
    let data = tempfile::tempdir().unwrap();
    let arguments = three_servers(data.path());
    let mut servers = with_witness(&arguments);
    let mut names = write_on(&servers[..2], "0");
    for (gone, stays) in [(1, 0), (0, 1)] {
        let survivor = &servers[stays..=stays];
        let meanwhile = std::thread::scope(|scope| {
            let writing = scope.spawn(|| write_on(survivor, &format!("while-{gone}-dies")));
            kill(Pid::from_raw(servers[gone].id()), Signal::SIGKILL).unwrap();
            writing.join().unwrap()
        });
        names.extend(meanwhile);
        names.extend(write_on(survivor, &format!("without-{gone}")));
        // What the other one wrote is built upon.
        let update = format!("UPDATE Person SET seen = {gone} WHERE name = 'Billy0-0-0a'");
        assert_eq!(sql(&servers[stays], &update)[0]["count"], 1);
        servers[gone].end(Signal::SIGKILL);
        servers[gone] = start(&arguments[gone]);
        servers[gone].wait_online();
        assert_same(&servers[..2], &names);
    }
    // The witness dies, too.
    servers[2].end(Signal::SIGKILL);
    names.extend(write_on(&servers[..2], "without-2"));
    servers[2] = start(&arguments[2]);
    servers[2].wait_online();
    names.extend(write_on(&servers[..2], "again"));
    assert_same(&servers[..2], &names);
    refuses_records(&servers[2]);
    stop_all(servers);
}

/// Reads, queries and writes are refused at a witness, which says where they are not.
fn refuses_records(witness: &Server) {
    let person = json!({"@class": "Person", "name": "Nobody"}).to_string();
    for (method, path, body) in [
        ("GET", "/document/bench/11:0", ""),
        ("GET", "/query/bench/sql/SELECT%20FROM%20Person", ""),
        ("POST", "/command/bench/sql", "SELECT FROM Person WHERE name = 'Nobody'"),
        ("POST", "/command/bench/sql", "INSERT INTO Person SET name = 'Nobody'"),
        ("POST", "/document/bench", &person),
    ] {
        let refused = ask(witness, method, path, body);
        assert_eq!(refused.code(), "not_master", "{method} {path} {body}: {refused:?}");
        let masters = refused.body["masters"].as_array().unwrap();
        let named: Vec<&Value> = masters.iter().map(|master| &master["name"]).collect();
        assert_eq!(named, ["n1", "n2"]);
    }
    let table = sql(witness, "HA STATUS -servers -output=text")[0]["value"].to_string();
    assert!(table.contains("WITNESS"), "{table}");
}

/// Two servers take in a third one as a witness. It loses its folder, is removed, and joins anew.
///
/// FEATURES: A2, S9
#[test]
fn a_witness_joins_as_one_and_joins_anew_without_its_folder() {
    let data = tempfile::tempdir().unwrap();
    let arguments = servers_of(data.path(), ["n1", "n2"]);
    let mut servers = start_all(&arguments);
    create_people(&servers, 0, "majority");
    let seed = servers[0].line["peer"].as_str().unwrap();
    let mut joins = joins(data.path(), "n3", seed);
    joins.retain(|argument| argument != "--role=replica");
    joins.push("--role=witness".to_owned());
    let mut names = write_on(&servers, "alone");
    let mut witness = start(&joins);
    await_witness(&[&servers[0], &servers[1], &witness]);
    for gone in [1, 0] {
        servers[gone].end(Signal::SIGKILL);
        let survivor = &servers[1 - gone..=1 - gone];
        names.extend(write_on(survivor, &format!("without-{gone}")));
        servers[gone] = start(&arguments[gone]);
        servers[gone].wait_online();
        if gone == 1 {
            witness.end(Signal::SIGKILL);
            names.extend(write_on(&servers, "without-witness"));
            std::fs::remove_dir_all(data.path().join("joined-n3/data")).unwrap();
            ha(&servers[0], "HA REMOVE SERVER n3");
            until("n3 is gone", || servers.iter().all(|server| member(server, "n3").is_null()));
            witness = start(&joins);
            await_witness(&[&servers[0], &servers[1], &witness]);
        }
    }
    assert_same(&servers, &names);
    refuses_records(&witness);
    servers.push(witness);
    stop_all(servers);
}

/// FEATURES: A2
#[test]
fn a_witness_keeps_contents_only_while_somebody_lacks_them() {
    let data = tempfile::tempdir().unwrap();
    let mut arguments = three_servers(data.path());
    // It founds the cluster with the others, and is a witness by its own word.
    arguments[2].push("--role=witness".to_owned());
    let mut servers = start_all(&arguments);
    create_people(&servers, 0, "majority");
    await_witness(&servers.iter().collect::<Vec<_>>());
    sql(&servers[0], "CREATE INDEX Person.code UNIQUE");
    servers[1].end(Signal::SIGKILL);
    for n in 0..LARGE {
        let person = json!({"@class": "Person", "name": format!("{n}"), "body": noise(n as u64)});
        done(&servers[0], "POST", "/document/bench", &person.to_string());
    }
    let all = (LARGE * BYTES) as u64;
    let folder = |name: &str| data.path().join(name);
    assert!(size(&folder("n3")) > all, "n2 lacks them");
    servers[1] = start(&arguments[1]);
    servers[1].wait_online();
    // Records, and their keys.
    let dropped = || counter(&servers[2], "quorate_contents_dropped_total");
    until("everybody has everything", || dropped() >= 2 * LARGE as u64);
    // A start writes down what is left of the log.
    for index in [0, 2] {
        assert!(servers[index].end(Signal::SIGTERM).success());
        servers[index] = start(&arguments[index]);
        servers[index].wait_online();
    }
    let (full, witness) = (size(&folder("n1")), size(&folder("n3")));
    println!(
        "{LARGE} records of {BYTES} bytes: n1 has {full} bytes on disk, the witness {witness}"
    );
    // Beside the records either has what the engine has not tidied up yet.
    assert!(witness + all * 3 / 4 < full, "{witness} and {full}, with records of {all} bytes");
    stop_all(servers);
}
