//! Both sides of a split write with a quorum of 1, and what came of it is merged after the heal
//! (PROTOCOL.md 3.10), as in the original's repairer. Real processes; bytes between them wait in
//! the test's hand.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::items::{create, items, path, update};
use support::people::{ask, done, sql, start, start_all, stop_all};
use support::wire::Wire;
use support::{Server, request, servers_of, status, until};

/// Three servers, and for each of them the wires of its links.
struct Cluster {
    servers: Vec<Server>,
    arguments: Vec<Vec<String>>,
    wires: Vec<(usize, usize, Wire)>,
    _folder: tempfile::TempDir,
}

impl Cluster {
    fn start(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut arguments = servers_of(folder.path(), ["n1", "n2", "n3"]);
        let mut wires = Vec::new();
        for (from, arguments) in arguments.iter_mut().enumerate() {
            for argument in arguments.iter_mut().filter(|a| a.starts_with("--dial=n")) {
                let digit = argument.as_bytes()["--dial=n".len()];
                wires.push((from, usize::from(digit - b'1'), Wire::through(argument)));
            }
            arguments.extend(settings.iter().map(|text| (*text).to_owned()));
        }
        assert_eq!(wires.len(), 6);
        let servers = start_all(&arguments);
        let database = json!({"writeQuorum": "1"}).to_string();
        done(&servers[0], "POST", "/database/bench/plocal", &database);
        done(&servers[0], "POST", "/class/bench/Item", "");
        for server in &servers {
            until("the class", || ask(server, "GET", "/class/bench/Item", "").status == 200);
            // Each has positions of its own before it is alone.
            create(server, "first");
        }
        Self { servers, arguments: arguments.into(), wires, _folder: folder }
    }

    /// Holds every link between servers of different groups.
    fn split(&self, groups: [usize; 3]) {
        for (from, to, wire) in &self.wires {
            wire.hold(groups[*from] != groups[*to]);
        }
        for (own, server) in self.servers.iter().enumerate() {
            let shown = |other: usize| {
                if groups[own] == groups[other] { "ONLINE" } else { "NOT_AVAILABLE" }
            };
            let expected: Vec<&str> = (0..3).map(shown).collect();
            until("a split in the picture", || states(server) == expected);
        }
    }

    fn restart(&mut self, own: usize) {
        assert!(self.servers[own].end(Signal::SIGTERM).success());
        self.servers[own] = start(&self.arguments[own]);
        self.servers[own].wait_online();
    }

    fn heal(&self) {
        self.split([0; 3]);
    }

    /// Waits until all have the same of all records; gives it.
    fn same(&self) -> Vec<Value> {
        let mut found = Vec::new();
        until("the same on every server", || {
            let all: Vec<Vec<Value>> = self.servers.iter().map(items).collect();
            found.clone_from(&all[0]);
            all.windows(2).all(|two| two[0] == two[1])
        });
        found
    }

    /// Waits until no server has anything to merge.
    fn merged(&self) {
        for server in &self.servers {
            until("everything merged", || metric(server, "quorate_unmerged") == 0);
        }
    }
}

/// The states that a server shows of all, in their order.
fn states(server: &Server) -> Vec<String> {
    let status = done(server, "GET", "/distributed/node", "");
    let members = status["members"].as_array().unwrap();
    members.iter().map(|member| member["status"].as_str().unwrap().to_owned()).collect()
}

fn metric(server: &Server, name: &str) -> u64 {
    let text = server.http("GET", "/metrics", "");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|number| number.parse().ok()).unwrap()
}

/// Content and version of a record in a list.
fn of<'a>(rows: &'a [Value], rid: &str) -> Option<(&'a str, u64)> {
    let row = rows.iter().find(|row| row["@rid"] == rid)?;
    Some((row["content"].as_str().unwrap(), row["@version"].as_u64().unwrap()))
}

/// Contents that a server lists of a record: what they are, and their state.
fn listed(server: &Server, rid: &str) -> Vec<(String, String)> {
    let list = done(server, "GET", "/conflicts/bench", "");
    let rows = list["conflicts"].as_array().unwrap();
    let Some(row) = rows.iter().find(|row| row["@rid"] == rid) else { return Vec::new() };
    let text = |content: &Value| {
        let shown = content["record"]["content"].as_str().unwrap_or("deleted");
        (shown.to_owned(), content["state"].as_str().unwrap().to_owned())
    };
    let mut contents: Vec<_> = row["contents"].as_array().unwrap().iter().map(text).collect();
    contents.sort();
    contents
}

fn pair(content: &str, state: &str) -> (String, String) {
    (content.to_owned(), state.to_owned())
}

/// RIDHotAlignmentScenario, WWConflictAndNodeInDeadlockScenario, testWinnerIsMajority, #6714: what
/// one side wrote alone is on all; of what both wrote, two of three win, and what loses is listed.
///
/// FEATURES: A13, A14
#[test]
fn both_sides_write_and_the_majority_wins() {
    let cluster = Cluster::start(&[]);
    let [one, two, three] = &cluster.servers[..] else { panic!("three servers") };
    let rids: Vec<String> = (0..4).map(|n| create(one, &format!("old {n}"))).collect();
    cluster.same();
    cluster.split([0, 0, 1]);
    update(one, &rids[0], "majority");
    update(three, &rids[0], "minority");
    update(three, &rids[1], "only here");
    done(one, "DELETE", &path(&rids[2]), "");
    update(three, &rids[2], "deleted elsewhere");
    // A line may be longer than the other one.
    update(two, &rids[3], "majority");
    update(three, &rids[3], "minority, first");
    update(three, &rids[3], "minority, last");
    let alone = create(three, "born alone");
    // With a quorum of 1 it is a majority's only once the other one has it, too.
    for server in [one, two] {
        let has = |rid: &String| of(&items(server), rid).map(|(content, _)| content.to_owned());
        until("one content on this side", || {
            let found = [0, 2, 3].map(|index| has(&rids[index]));
            found == [Some("majority".to_owned()), None, Some("majority".to_owned())]
        });
    }
    cluster.heal();
    cluster.merged();
    let rows = cluster.same();
    assert_eq!(of(&rows, &rids[0]), Some(("majority", 3)));
    assert_eq!(of(&rows, &rids[1]), Some(("only here", 2)));
    assert_eq!(of(&rows, &rids[2]), None);
    assert_eq!(of(&rows, &rids[3]), Some(("majority", 4)));
    assert_eq!(of(&rows, &alone), Some(("born alone", 1)));
    for server in &cluster.servers {
        assert_eq!(listed(server, &rids[0]), [pair("minority", "lost")]);
        assert_eq!(listed(server, &rids[1]), [], "it only lagged");
        assert_eq!(listed(server, &rids[2]), [pair("deleted elsewhere", "lost")]);
        assert_eq!(listed(server, &rids[3]), [pair("minority, last", "lost")]);
        assert_eq!(listed(server, &alone), []);
        assert_eq!(metric(server, "quorate_corruptions_total"), 0);
    }
    // It is written on like any other record.
    update(three, &rids[0], "afterwards");
    until("the write", || of(&cluster.same(), &rids[0]) == Some(("afterwards", 4)));
    stop_all(cluster.servers);
}

/// testNoWinner, testWinnerIsMajorityPlusVersion: three contents of one version are left as they
/// are, warned about and listed until somebody chooses; of three versions the highest wins.
///
/// FEATURES: A13, A14
#[test]
fn nobody_wins_until_somebody_chooses() {
    let cluster = Cluster::start(&[]);
    let [one, two, three] = &cluster.servers[..] else { panic!("three servers") };
    let rids: Vec<String> = (0..3).map(|n| create(two, &format!("old {n}"))).collect();
    cluster.same();
    cluster.split([0, 1, 2]);
    for (server, content) in cluster.servers.iter().zip(["corrupted0", "corrupted1", "ok"]) {
        update(server, &rids[0], content);
        update(server, &rids[1], content);
        update(server, &rids[2], content);
    }
    update(two, &rids[2], "newer");
    update(two, &rids[2], "thisIsTheMostRecent");
    cluster.heal();
    let warning = format!("Auto repair cannot find a winner for record {}", rids[0]);
    let told = || cluster.servers.iter().map(|s| s.log().matches(&warning).count()).sum::<usize>();
    until("the warning", || told() > 0);
    let undecided = [pair("corrupted0", "no winner"), pair("corrupted1", "no winner")];
    until("the list", || listed(three, &rids[0]) == undecided);
    until("the highest version", || {
        cluster
            .servers
            .iter()
            .all(|server| of(&items(server), &rids[2]) == Some(("thisIsTheMostRecent", 5)))
    });
    for (server, content) in cluster.servers.iter().zip(["corrupted0", "corrupted1", "ok"]) {
        assert_eq!(of(&items(server), &rids[0]), Some((content, 2)), "untouched");
    }
    assert_eq!(told(), 1, "told once, by whoever merges");
    // By HTTP, and by SQL at another server.
    let stamp_of = |server: &Server, rid: &str, wanted: &str| {
        let rows = sql(server, "HA CONFLICTS");
        let row = rows.iter().find(|row| row["@rid"] == rid).unwrap();
        let contents = row["contents"].as_array().unwrap();
        let all = contents.iter().chain([&row["committed"]]);
        let mut found = all.filter(|content| content["record"]["content"] == wanted);
        found.next().unwrap()["stamp"].as_str().unwrap().to_owned()
    };
    let conflict = format!("/conflicts/bench/{}", rids[0].trim_start_matches('#'));
    for (body, status, says) in [
        (r#"{"winner":"newest"}"#, 400, "is no stamp"),
        (r#"{"loser":"1@0.1.1"}"#, 400, "unknown field"),
        (r#"{"winner":"9@00000000000000aa.1.1"}"#, 409, "it is not listed here"),
    ] {
        let refused = ask(one, "POST", &conflict, body);
        let text = refused.body.to_string();
        assert!(refused.status == status && text.contains(says), "{refused:?}");
    }
    let winner = json!({"winner": stamp_of(one, &rids[0], "ok")}).to_string();
    assert_eq!(done(one, "POST", &conflict, &winner)["@version"], 3);
    let winner = stamp_of(two, &rids[1], "corrupted1");
    sql(two, &format!("HA RESOLVE {} = '{winner}'", rids[1]));
    cluster.merged();
    let rows = cluster.same();
    assert_eq!(of(&rows, &rids[0]), Some(("ok", 3)));
    assert_eq!(of(&rows, &rids[1]), Some(("corrupted1", 3)));
    for server in &cluster.servers {
        let lost = [pair("corrupted0", "lost"), pair("corrupted1", "lost")];
        assert_eq!(listed(server, &rids[0]), lost);
    }
    stop_all(cluster.servers);
}

/// Puts the document of the database back with another quorum.
fn put_quorum(server: &Server, quorum: impl Into<Value>) {
    let quorum = quorum.into();
    until("a change of the quorum", || {
        let mut document = done(server, "GET", "/distributed/database/bench", "");
        document["writeQuorum"] = quorum.clone();
        let put = ask(server, "PUT", "/distributed/database/bench", &document.to_string());
        assert!(put.status == 200 || matches!(put.status, 409 | 423 | 500 | 503), "{put:?}");
        put.status == 200
    });
}

fn is_at_rest(cluster: &Cluster) {
    for server in &cluster.servers {
        until("no change on its way", || metric(server, "quorate_clusters_changing") == 0);
    }
}

/// Creates records one after the other until it is told to stop; gives contents acknowledged.
fn keep_creating(address: &str, name: &str, stop: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let content = format!("{name} {n}");
        let record = json!({"@class": "Item", "content": content}).to_string();
        let answer = request(address, "POST", "/document/bench", &record);
        if answer.is_ok_and(|answer| status(&answer) == 201) {
            acknowledged.push(content);
        }
    }
    acknowledged
}

/// Quorum1Scenario: W goes from a majority to 1 and back, each time under writers. Between, both
/// sides of a split write. The way back waits for a MASTER that is out of reach, which `HA STATUS`
/// tells, and for people where nobody wins; what was acknowledged is on all servers, or listed.
///
/// FEATURES: A13, A14, L7
#[test]
fn w_goes_below_a_majority_and_back() {
    let cluster = Cluster::start(&[]);
    let [one, two, three] = &cluster.servers[..] else { panic!("three servers") };
    for server in &cluster.servers {
        server.wait_log("all servers speak version 9 from now on");
    }
    put_quorum(one, "majority");
    is_at_rest(&cluster);
    let rids: Vec<String> = (0..3).map(|n| create(two, &format!("old {n}"))).collect();
    cluster.same();
    let stop = Arc::new(AtomicBool::new(false));
    let writers = || {
        let begin = |server: &Server, name: &'static str| {
            let (address, stop) = (server.address().to_owned(), stop.clone());
            std::thread::spawn(move || keep_creating(&address, name, &stop))
        };
        [begin(one, "one"), begin(two, "two"), begin(three, "three")]
    };
    let running = writers();
    put_quorum(two, 1);
    is_at_rest(&cluster);
    stop.store(true, Ordering::Relaxed);
    let mut written: Vec<String> = running.into_iter().flat_map(|w| w.join().unwrap()).collect();
    cluster.split([0, 0, 1]);
    update(one, &rids[0], "both");
    update(three, &rids[0], "alone");
    update(three, &rids[1], "three alone");
    // One MASTER cannot be reached: the change waits for it, and W stays what it is.
    put_quorum(one, "majority");
    let waits = || {
        let shown = sql(one, "HA STATUS -db");
        shown[0]["database"]["uniting"].to_string()
    };
    until("the change waits", || waits().contains("\"waitsFor\":["));
    update(one, &rids[2], "two of three");
    assert!(waits().contains("merging"), "{}", waits());
    cluster.heal();
    is_at_rest(&cluster);
    let rows = cluster.same();
    for (rid, content) in rids.iter().zip(["both", "three alone", "two of three"]) {
        assert_eq!(of(&rows, rid).map(|(content, _)| content), Some(content));
    }
    assert!(cluster.servers.iter().any(|s| listed(s, &rids[0]) == [pair("alone", "lost")]));
    // Down, and back under writers.
    stop.store(false, Ordering::Relaxed);
    let running = writers();
    put_quorum(three, 1);
    is_at_rest(&cluster);
    put_quorum(three, "majority");
    is_at_rest(&cluster);
    stop.store(true, Ordering::Relaxed);
    written.extend(running.into_iter().flat_map(|w| w.join().unwrap()));
    let rows = cluster.same();
    let contents: BTreeSet<&str> =
        rows.iter().map(|row| row["content"].as_str().unwrap()).collect();
    let lost: Vec<&String> =
        written.iter().filter(|text| !contents.contains(text.as_str())).collect();
    assert!(!written.is_empty() && lost.is_empty(), "{lost:?} of {}", written.len());
    // It is a majority again: the one that is cut off commits nothing.
    cluster.split([0, 0, 1]);
    let record = json!({"@class": "Item", "content": "no"}).to_string();
    assert_ne!(ask(three, "PUT", &path(&rids[0]), &record).status, 200);
    update(two, &rids[0], "yes");
    cluster.heal();
    assert_eq!(of(&cluster.same(), &rids[0]).map(|(content, _)| content), Some("yes"));
    stop_all(cluster.servers);
}

/// What lost is kept within a bound, the oldest dropped first and told once, also by a server that
/// starts again; and dropped by whoever has looked at it, at the server that is asked.
///
/// FEATURES: A14
#[test]
fn what_lost_is_bounded_and_dismissed() {
    let mut cluster = Cluster::start(&["--lost-contents-max=3"]);
    let rids: Vec<String> =
        (0..6).map(|n| create(&cluster.servers[0], &format!("old {n}"))).collect();
    cluster.same();
    cluster.split([0, 0, 1]);
    for rid in &rids {
        update(&cluster.servers[0], rid, "majority");
        update(&cluster.servers[2], rid, "minority");
    }
    cluster.heal();
    cluster.merged();
    for server in &cluster.servers {
        until("the bound", || {
            metric(server, "quorate_lost_contents_dropped_total") == 3
                && metric(server, "quorate_lost_contents") == 3
        });
        assert_eq!(server.log().matches("the oldest are dropped").count(), 1);
    }
    cluster.restart(1);
    let [one, two, three] = &cluster.servers[..] else { panic!("three servers") };
    assert_eq!(metric(two, "quorate_lost_contents"), 3);
    let lists = |server: &Server| sql(server, "HA CONFLICTS").len();
    assert_eq!((lists(two), lists(three)), (3, 3));
    // One content, one record, all of them.
    let rows = sql(two, "HA CONFLICTS");
    let first = rows[0]["@rid"].as_str().unwrap();
    let stamp = rows[0]["contents"][0]["stamp"].as_str().unwrap();
    let of_record = format!("/conflicts/bench/{}", first.trim_start_matches('#'));
    let one_of_it = format!("{of_record}/{stamp}");
    assert_eq!(done(two, "DELETE", &one_of_it, ""), json!({"dismissed": 1}));
    for (path, status, says) in [
        (one_of_it.as_str(), 409, "has lost here: HA CONFLICTS lists those that have"),
        (format!("{of_record}/newest").as_str(), 400, "is no stamp"),
        ("/conflicts/bench/9999:1", 404, "9999"),
    ] {
        let refused = ask(two, "DELETE", path, "");
        let text = refused.body.to_string();
        assert!(refused.status == status && text.contains(says), "{refused:?}");
    }
    let second = rows[1]["@rid"].as_str().unwrap();
    assert_eq!(sql(two, &format!("HA RESOLVE {second} DISMISS")), [json!({"dismissed": 1})]);
    assert_eq!(lists(two), 1);
    assert_eq!(sql(two, "HA RESOLVE * DISMISS"), [json!({"dismissed": 1})]);
    assert_eq!((lists(two), metric(two, "quorate_lost_contents")), (0, 0));
    assert_eq!(done(three, "DELETE", "/conflicts/bench", ""), json!({"dismissed": 3}));
    assert_eq!(lists(one), 3, "others keep what they have");
    stop_all(cluster.servers);
}

/// The chain stands in the document of the database: as the server was told that made it, then as
/// somebody put it, on all servers.
///
/// FEATURES: A14, S9
#[test]
fn the_chain_is_changed_while_the_database_is_used() {
    let cluster = Cluster::start(&["--conflict-resolver-chain=quorum,majority"]);
    let [one, two, three] = &cluster.servers[..] else { panic!("three servers") };
    let path = "/distributed/database/late";
    for server in &cluster.servers {
        server.wait_log("all servers speak version 9 from now on");
    }
    done(three, "POST", "/database/late/plocal", "");
    let made = done(three, "GET", path, "");
    assert_eq!(made["conflictResolverRepairerChain"], "quorum,majority");
    let path = "/distributed/database/bench";
    let mut document = done(one, "GET", path, "");
    document["conflictResolverRepairerChain"] = "version".into();
    done(one, "PUT", path, &document.to_string());
    for server in &cluster.servers {
        until("the chain everywhere", || {
            done(server, "GET", path, "")["conflictResolverRepairerChain"] == "version"
        });
    }
    let rid = create(two, "old");
    cluster.same();
    cluster.split([0, 0, 1]);
    update(one, &rid, "majority");
    update(three, &rid, "minority, first");
    update(three, &rid, "minority, last");
    cluster.heal();
    cluster.merged();
    assert_eq!(of(&cluster.same(), &rid), Some(("minority, last", 4)));
    stop_all(cluster.servers);
}

/// HaSyncClusterTest: whoever asks is told what happens; copies that do not differ stay as they
/// are.
///
/// FEATURES: A20
#[test]
fn clusters_are_compared_when_somebody_asks() {
    let cluster = Cluster::start(&["--conflict-resolver-chain=version,majority"]);
    let [one, two, _] = &cluster.servers[..] else { panic!("three servers") };
    let before = cluster.same();
    assert_eq!(sql(two, "HA SYNC DATABASE"), [json!({"result": false})]);
    assert_eq!(sql(two, "HA SYNC DATABASE -force"), [json!({"result": true})]);
    let name = sql(one, "SELECT FROM Item")[0]["@rid"].as_str().unwrap().to_owned();
    let number = name.trim_start_matches('#').split(':').next().unwrap().to_owned();
    let told = sql(two, &format!("HA SYNC CLUSTER `{number}`"));
    assert!(told[0]["result"].as_str().unwrap().contains("is compared"), "{told:?}");
    let ranges = "quorate_messages_total{direction=\"sent\",message=\"merge_range\"}";
    until("a comparison", || metric(two, ranges) > 0);
    assert_eq!(cluster.same(), before);
    for (statement, status, says) in [
        ("HA SYNC CLUSTER nowhere", 404, "Cluster 'nowhere' does not exist"),
        ("HA SYNC DATABASE -full", 501, "a whole copy instead of what differs"),
        ("HA RESOLVE #1:2 = 'x'", 400, "is no stamp"),
    ] {
        let refused = ask(two, "POST", "/command/bench/sql", statement);
        let text = refused.body.to_string();
        assert!(refused.status == status && text.contains(says), "{refused:?}");
    }
    stop_all(cluster.servers);
}
