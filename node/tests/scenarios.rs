//! Scenarios of the original's distributed tests as real processes: servers that are stopped,
//! killed and started again in every order, under writers. The table of all of them, with what they
//! assert there and here, is chaos/SCENARIOS.md.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::people::{
    Answer, ask, assert_same, at_once, by_majority, create_people, done, people, person, sql,
    start, start_all, stop_all, write, write_on,
};
use support::{Server, request_with, servers_of, three_servers, until};

/// BasicScenario, HATest, HATxTest, IsolatedNodeRejoinScenario, StopNodeTest, and the first part of
/// ShutdownAndRestartNodeScenario.
///
/// FEATURES: A1, A12
#[test]
fn writers_go_on_while_one_server_is_away_and_it_comes_back_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers = start_all(&arguments);
    create_people(&servers, 0, "majority");
    let mut names = write_on(&servers, "all");
    assert_same(&servers, &names);
    for (round, signal) in [Signal::SIGKILL, Signal::SIGTERM].into_iter().enumerate() {
        servers[2].end(signal);
        names.extend(write_on(&servers[..2], &format!("away{round}")));
        assert_same(&servers[..2], &names);
        servers[2] = start(&arguments[2]);
        assert_same(&servers, &names);
        names.extend(write_on(&servers, &format!("back{round}")));
        assert_same(&servers, &names);
    }
    stop_all(servers);
}

/// Some servers are killed, and the first one is not enough for the quorum: it refuses, and
/// nothing of that is ever seen, neither there nor on those that return.
fn refuses_and_forgets(arguments: &[Vec<String>], quorum: &str, away: std::ops::Range<usize>) {
    let mut servers = start_all(arguments);
    create_people(&servers, 0, quorum);
    let mut names = BTreeSet::from(["before".to_owned()]);
    write(&servers[0], &["before"]);
    assert_same(&servers, &names);
    for index in away.clone() {
        servers[index].end(Signal::SIGKILL);
    }
    servers[0].wait_log_times("peer down", away.len());
    for n in 0..3 {
        let refused = ask(&servers[0], "POST", "/document/bench", &person(&format!("refused{n}")));
        assert!(refused.code() == "no_quorum" && refused.is_retryable(), "{refused:?}");
    }
    // Alone it still serves reads.
    assert_same(&servers[..1], &names);
    for index in away.clone() {
        servers[index] = start(&arguments[index]);
        if index + 1 < away.end {
            names.extend(write_on(&servers[..=index], &format!("with{index}")));
            assert_same(&servers[..=index], &names);
        }
    }
    names.extend(write_on(&servers, "whole"));
    assert_same(&servers, &names);
    stop_all(servers);
}

/// IncrementalRestartScenario, for a quorum of two: two of three crash and return one by one.
///
/// FEATURES: A12
#[test]
fn one_of_three_refuses_and_two_go_on_as_servers_return() {
    let dir = tempfile::tempdir().unwrap();
    refuses_and_forgets(&three_servers(dir.path()), "majority", 1..3);
}

/// The second part of ShutdownAndRestartNodeScenario: a quorum of all.
///
/// FEATURES: A8
#[test]
fn with_a_quorum_of_all_one_missing_server_leaves_nothing_of_a_write() {
    let dir = tempfile::tempdir().unwrap();
    refuses_and_forgets(&three_servers(dir.path()), "all", 2..3);
}

/// Threads #2140, #2346, #6918 and #9108, SplitBrainNetwork2DynamicServers: of two servers one is
/// gone. An even number needs its half and one more, so neither side writes.
///
/// FEATURES: A12
#[test]
fn one_of_two_refuses_and_the_refused_write_is_never_seen() {
    let dir = tempfile::tempdir().unwrap();
    let mut arguments = servers_of(dir.path(), ["n1", "n2"]);
    refuses_and_forgets(&arguments, "majority", 1..2);
    let dir = tempfile::tempdir().unwrap();
    arguments = servers_of(dir.path(), ["n1", "n2"]);
    // The other one is left.
    arguments.reverse();
    refuses_and_forgets(&arguments, "majority", 1..2);
}

/// Threads #6999 and #7002; what of DeleteAndLazarusScenario and ReadQuorumScenario can be made
/// without editing a stopped server's files. Whoever starts first missed an update and a delete:
/// alone it answers no majority read, and with any other server it shows neither again.
///
/// FEATURES: A12
#[test]
fn the_newest_wins_whichever_server_starts_first() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers = start_all(&arguments);
    create_people(&servers, 0, "majority");
    let mut names = BTreeSet::from(["kept".to_owned()]);
    write(&servers[0], &["kept", "deleted"]);
    until("both everywhere", || servers.iter().all(|server| people(server).len() == 2));
    let path_of = |name: &str| {
        let found = sql(&servers[0], &format!("SELECT FROM Person WHERE name = '{name}'"));
        format!("/document/bench/{}", found[0]["@rid"].as_str().unwrap().trim_start_matches('#'))
    };
    let (kept, deleted) = (path_of("kept"), path_of("deleted"));
    for round in 1..=2 {
        servers[1].end(Signal::SIGTERM);
        let newer = json!({"@class": "Person", "name": "kept", "value": round}).to_string();
        done(&servers[0], "PUT", &kept, &newer);
        if round == 1 {
            done(&servers[0], "DELETE", &deleted, "");
        }
        servers[0].end(Signal::SIGTERM);
        servers[2].end(Signal::SIGTERM);

        servers[1] = start(&arguments[1]);
        let alone = by_majority(&servers[1], &kept);
        assert!(!alone.is_done(), "one of three is no majority: {alone:?}");
        let second = [0, 2][round % 2];
        servers[second] = start(&arguments[second]);
        let mut first = None;
        until("a majority", || {
            let found = by_majority(&servers[1], &kept);
            first = found.is_done().then_some(found);
            first.is_some()
        });
        assert_eq!(first.unwrap().body["value"], round);
        let mut gone = by_majority(&servers[1], &deleted);
        until("an answer about the deleted one", || {
            gone = by_majority(&servers[1], &deleted);
            !gone.is_retryable()
        });
        assert_eq!(gone.status, 404, "{gone:?}");
        let third = 2 - second;
        servers[third] = start(&arguments[third]);
        names.extend(write_on(&servers, &format!("again{round}")));
        assert_same(&servers, &names);
        let value = |server| sql(server, "SELECT value FROM Person WHERE name = 'kept'");
        for server in &servers {
            assert_eq!(value(server), [json!({"value": round})]);
        }
    }
    stop_all(servers);
}

/// BasicSync, ReverseStartSync and DistributedListener: all stop, one earlier than the others, and
/// start again with that one last or first.
///
/// FEATURES: A12, S11
#[test]
fn all_stop_and_start_in_either_order_with_every_record() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers = start_all(&arguments);
    create_people(&servers, 0, "majority");
    let mut names = BTreeSet::new();
    for (round, order) in [[0, 1, 2], [2, 1, 0]].into_iter().enumerate() {
        let name = |n: usize| format!("round{round}-{n}");
        write(&servers[0], &[&name(0)]);
        write(&servers[1], &[&name(1)]);
        servers[2].end(Signal::SIGTERM);
        write(&servers[0], &[&name(2)]);
        servers[1].end(Signal::SIGTERM);
        servers[0].end(Signal::SIGTERM);
        names.extend((0..3).map(name));
        for index in order {
            servers[index] = start(&arguments[index]);
        }
        for server in &servers {
            server.wait_online();
        }
        assert_same(&servers, &names);
    }
    stop_all(servers);
}

/// The scenarios of two and three clients that update, or delete, one record on several servers,
/// and UpdateConflictFixTaskScenario: one wins, the others are told, all copies are the winner's.
///
/// FEATURES: A1, A9
#[test]
fn of_updates_of_one_version_on_all_servers_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let servers = start_all(&three_servers(dir.path()));
    create_people(&servers, 0, "majority");
    write(&servers[0], &["Luke"]);
    let path = format!(
        "/document/bench/{}",
        people(&servers[0])[0]["@rid"].as_str().unwrap().trim_start_matches('#')
    );
    let mut winners = 0;
    for round in 0..20 {
        let before = done(&servers[0], "GET", &path, "")["@version"].as_u64().unwrap();
        let body = |index: usize| {
            let by = round * 3 + index;
            json!({"@class": "Person", "@version": before, "name": "Luke", "by": by}).to_string()
        };
        let answers = at_once(&servers, "PUT", &path, body);
        let won: Vec<usize> = (0..3).filter(|index| answers[*index].is_done()).collect();
        let doubt = answers.iter().any(Answer::is_unknown);
        assert!(won.len() <= 1, "{answers:?}");
        for lost in answers.iter().filter(|answer| !answer.is_done() && !answer.is_unknown()) {
            assert!(lost.code() == "version_conflict" || lost.is_retryable(), "{lost:?}");
        }
        winners += won.len();
        let mut rows = Vec::new();
        until("the same on every server", || {
            rows = servers.iter().flat_map(people).collect();
            rows.windows(2).all(|two| two[0] == two[1])
                && (won.is_empty() || rows[0]["@version"] == before + 1)
        });
        if let [winner] = won[..] {
            assert_eq!(rows[0]["by"], round * 3 + winner);
        } else {
            assert!(doubt || rows[0]["@version"] == before, "{answers:?}: {rows:?}");
        }
    }
    assert!(winners > 0, "nothing was shown");
    let answers = at_once(&servers, "DELETE", &path, |_| String::new());
    assert!(answers.iter().filter(|answer| answer.is_done()).count() <= 1, "{answers:?}");
    if !answers.iter().any(Answer::is_done) {
        done(&servers[0], "DELETE", &path, "");
    }
    assert_same(&servers, &BTreeSet::new());
    stop_all(servers);
}

/// HALocalGraphTest, ConcurrentDistributedUpdate and LocalConcurrentTxAutoRetry: everybody adds one
/// to the same vertex, again until it is done, while a server stops and returns.
///
/// FEATURES: A1, A9
#[test]
fn everybody_counts_on_one_vertex_while_a_server_stops_and_returns() {
    const TURNS: u64 = 120;
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers = start_all(&arguments);
    done(&servers[0], "POST", "/database/bench/plocal", "");
    let vertex = sql(&servers[0], "CREATE VERTEX V SET n = 0");
    let rid = vertex[0]["@rid"].as_str().unwrap().trim_start_matches('#').to_owned();
    let path = format!("/document/bench/{rid}");
    let (begun, added, in_doubt) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let count = |address: &str| {
        while begun.fetch_add(1, Ordering::Relaxed) < TURNS {
            until("one turn", || {
                let headers = [("X-Quorate-Read-Level", "majority")];
                let read = request_with(address, "GET", &path, &headers, "").unwrap();
                let Answer { body: mut vertex, .. } = Answer::read(&read);
                let Some(n) = vertex["n"].as_u64() else { return false };
                vertex["n"] = json!(n + 1);
                let put = request_with(address, "PUT", &path, &[], &vertex.to_string()).unwrap();
                let put = Answer::read(&put);
                let again = put.is_retryable() || put.code() == "version_conflict";
                assert!(put.is_done() || put.is_unknown() || again, "{put:?}");
                added.fetch_add(u64::from(put.is_done()), Ordering::Relaxed);
                in_doubt.fetch_add(u64::from(put.is_unknown()), Ordering::Relaxed);
                !again
            });
        }
    };
    let addresses = [0, 1].map(|index| servers[index].address().to_owned());
    std::thread::scope(|scope| {
        for address in &addresses {
            scope.spawn(|| count(address));
        }
        let reached = |part: u64| {
            until("turns", || begun.load(Ordering::Relaxed) >= TURNS * part / 4);
        };
        reached(1);
        servers[2].end(Signal::SIGTERM);
        reached(2);
        servers[2] = start(&arguments[2]);
        servers[2].wait_online();
    });
    let (added, in_doubt) = (added.into_inner(), in_doubt.into_inner());
    assert_eq!(added + in_doubt, TURNS);
    let mut rows = Vec::new();
    until("the same on every server", || {
        rows = servers.iter().map(|server| sql(server, "SELECT FROM V")).collect();
        rows.windows(2).all(|two| two[0] == two[1]) && rows[0][0]["n"].as_u64() >= Some(added)
    });
    let n = rows[0][0]["n"].as_u64().unwrap();
    assert!((added..=TURNS).contains(&n), "{n} of {added} and {in_doubt} in doubt");
    assert_eq!(rows[0][0]["@version"], n + 1, "one version a turn");
    stop_all(servers);
}

/// DBCreationAndUpdateOneNodeScenario, DistributedDbDrop and DistributedDbDropAndReCreate: made on
/// one server, there on all; dropped on another, gone on all; on each in turn.
///
/// FEATURES: A18
#[test]
fn a_database_is_dropped_and_made_again_on_each_server_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let servers = start_all(&three_servers(dir.path()));
    for round in 0..servers.len() {
        create_people(&servers, round, "majority");
        assert_same(&servers, &BTreeSet::new());
        let names = write_on(&servers[round..=round], &format!("only{round}"));
        assert_same(&servers, &names);
        done(&servers[(round + 1) % 3], "DELETE", "/database/bench", "");
        for server in &servers {
            until("gone everywhere", || {
                let found = ask(server, "GET", "/database/bench", "");
                found.code() == "unknown_database"
            });
        }
    }
    stop_all(servers);
}

/// ConcurrentIndexDefinition, with databases and classes at once on all servers besides.
///
/// FEATURES: L3, A18
#[test]
fn schemas_made_on_all_servers_at_once_are_all_there() {
    let dir = tempfile::tempdir().unwrap();
    let servers = start_all(&three_servers(dir.path()));
    let made = at_once(&servers, "POST", "/database/bench/plocal", |_| String::new());
    assert!(made.iter().filter(|answer| answer.is_done()).count() <= 1, "{made:?}");
    until("the database everywhere", || {
        servers.iter().all(|server| ask(server, "GET", "/database/bench", "").is_done())
    });
    std::thread::scope(|scope| {
        for (index, server) in servers.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..4 {
                    let class = format!("Class{index}{round}");
                    done(server, "POST", "/command/bench/sql", &format!("CREATE CLASS {class}"));
                    let index = format!("CREATE INDEX {class}.k UNIQUE");
                    done(server, "POST", "/command/bench/sql", &index);
                }
            });
        }
    });
    let names = |server: &Server| {
        let database = done(server, "GET", "/database/bench", "");
        (database["classes"].to_string(), database["clusters"].to_string())
    };
    until("the same schema everywhere", || {
        servers.windows(2).all(|two| names(&two[0]) == names(&two[1]))
    });
    for (index, round) in (0..3).flat_map(|index| (0..4).map(move |round| (index, round))) {
        let class = format!("Class{index}{round}");
        for (n, server) in servers.iter().enumerate() {
            let body = json!({"@class": class, "k": n}).to_string();
            done(server, "POST", "/document/bench", &body);
            let again = ask(&servers[(n + 1) % 3], "POST", "/document/bench", &body);
            assert!(again.code() == "duplicate_key" || again.is_retryable(), "{again:?}");
        }
        for server in &servers {
            until("every record", || sql(server, &format!("SELECT FROM {class}")).len() == 3);
        }
    }
    stop_all(servers);
}

/// FaultDuringWritingWithOperationRedirectScenario, HACrashTest, HATxCrashTest and
/// SimpleMultiNodeConnect: the server that a client writes through is killed at a third and returns
/// at two thirds. The client goes on elsewhere, under the same transaction token.
///
/// FEATURES: A8, A9
#[test]
fn a_client_goes_on_at_another_server_and_nothing_is_lost_or_written_twice() {
    const RECORDS: usize = 60;
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers = start_all(&arguments);
    done(&servers[0], "POST", "/database/bench/plocal", "");
    done(&servers[0], "POST", "/class/bench/Person", "");
    let session = done(&servers[2], "POST", "/retry/bench", "");
    let session = session["session"].as_str().unwrap();
    let written = AtomicUsize::new(0);
    let addresses = [2, 1, 0].map(|index| servers[index].address().to_owned());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            for n in 0..RECORDS {
                let token = format!("{session}:{n}");
                let headers = [("X-Quorate-Transaction-Token", token.as_str())];
                until("one record", || {
                    let body = person(&n.to_string());
                    let path = "/document/bench";
                    let Ok(answer) = request_with(&addresses[at], "POST", path, &headers, &body)
                    else {
                        at = (at + 1) % addresses.len();
                        return false;
                    };
                    // The server may end before it has answered.
                    let answer = Answer::read(&answer);
                    let again = answer.is_retryable() || answer.is_unknown() || answer.status == 0;
                    assert!(answer.is_done() || again, "{answer:?}");
                    answer.is_done()
                });
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
        until("a third", || written.load(Ordering::Relaxed) >= RECORDS / 3);
        servers[2].end(Signal::SIGKILL);
        until("two thirds", || written.load(Ordering::Relaxed) >= 2 * RECORDS / 3);
        servers[2] = start(&arguments[2]);
    });
    servers[2].wait_online();
    let mut rows = Vec::new();
    until("the same on every server", || {
        rows = servers.iter().map(people).collect();
        rows[0].len() >= RECORDS && rows.windows(2).all(|two| two[0] == two[1])
    });
    let name = |row: &Value| row["name"].as_str().unwrap().parse::<usize>().unwrap();
    let mut names: Vec<usize> = rows[0].iter().map(name).collect();
    names.sort_unstable();
    assert_eq!(names, (0..RECORDS).collect::<Vec<_>>());
    stop_all(servers);
}
