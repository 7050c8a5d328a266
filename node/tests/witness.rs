//! Two servers and a witness as processes: either of the two dies under load, what the witness keeps
//! on its disk, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::people::{
    ask, assert_same, create_people, done, ha, sql, start, start_all, stop_all, write_on,
};
use support::{Server, member, three_servers, until};

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

/// Two servers and a witness, with a database.
fn with_witness(arguments: &[Vec<String>]) -> Vec<Server> {
    let servers = start_all(arguments);
    create_people(&servers, 0, "majority");
    ha(&servers[0], "HA SET ROLE n3=WITNESS");
    for server in &servers {
        let role = || member(server, "n3")["databases"][0]["role"].clone();
        until("the witness on every server", || role() == "WITNESS");
    }
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
    let refused = ask(&servers[2], "GET", "/query/bench/sql/SELECT%20FROM%20Person", "");
    assert_eq!(refused.code(), "not_master", "{refused:?}");
    let masters = refused.body["masters"].as_array().unwrap();
    let named: Vec<&Value> = masters.iter().map(|master| &master["name"]).collect();
    assert_eq!(named, ["n1", "n2"]);
    stop_all(servers);
}

/// FEATURES: A2
#[test]
fn a_witness_keeps_contents_only_while_somebody_lacks_them() {
    let data = tempfile::tempdir().unwrap();
    let arguments = three_servers(data.path());
    let mut servers = with_witness(&arguments);
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
