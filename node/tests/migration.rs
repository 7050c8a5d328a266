//! From a server that stands alone to a cluster (README, "From one server to a cluster"): the data
//! stays where it is, others join. Real processes.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::people::{ask, done, ha, sql, start};
use support::{Server, free_port, joins, member, until};

/// People and whom they know, by a server that stands alone.
fn create_graph(server: &Server) {
    done(server, "POST", "/database/bench/plocal", "");
    for text in [
        "CREATE CLASS Person EXTENDS V",
        "CREATE CLASS Knows EXTENDS E",
        "CREATE INDEX Person.name UNIQUE",
    ] {
        sql(server, text);
    }
    for n in 0..20 {
        sql(server, &format!("CREATE VERTEX Person SET name = 'p{n}'"));
    }
    sql(server, "DELETE VERTEX Person WHERE name = 'p7'");
    for (from, to) in [(0, 1), (1, 2), (2, 0), (3, 19)] {
        let person = |n| format!("(SELECT FROM Person WHERE name = 'p{n}')");
        sql(server, &format!("CREATE EDGE Knows FROM {} TO {}", person(from), person(to)));
    }
}

/// What this server itself has of a class: ids, versions and contents.
fn records(server: &Server, class: &str) -> Vec<Value> {
    let mut found = sql(server, &format!("SELECT FROM {class}"));
    found.sort_by_key(|record| record["@rid"].as_str().unwrap().to_owned());
    found
}

/// Records of a server that stood alone are on three MASTERs, under the ids that they had. One of
/// the two that join has an address of a seed, the other one finds the cluster by multicast.
///
/// FEATURES: S12, S13
#[test]
fn a_server_alone_becomes_one_of_three_with_the_same_records() {
    let dir = tempfile::tempdir().unwrap();
    let mut arguments: Vec<String> = vec![
        "--name=n1".to_owned(),
        format!("--data={}", dir.path().join("n1").display()),
        "--http=127.0.0.1:0".to_owned(),
    ];
    let mut alone = start(&arguments);
    alone.wait_online();
    create_graph(&alone);
    let before = ["Person", "Knows"].map(|class| records(&alone, class));
    assert_eq!([before[0].len(), before[1].len()], [19, 4]);
    assert!(alone.end(Signal::SIGTERM).success());

    // Not the name of another test's cluster on this machine.
    let cluster = format!("--cluster-name=migration-{}", std::process::id());
    let seed = format!("127.0.0.1:{}", free_port());
    arguments.extend([
        format!("--peer={seed}"),
        "--masters=n1".to_owned(),
        "--multicast".to_owned(),
        cluster.clone(),
    ]);
    let mut servers = vec![start(&arguments)];
    servers[0].wait_online();
    for (name, seed) in [("n2", &seed[..]), ("n3", "multicast")] {
        let mut arguments = joins(dir.path(), name, seed);
        *arguments.iter_mut().find(|a| a.starts_with("--cluster-name=")).unwrap() = cluster.clone();
        let server = start(&arguments);
        server.wait_online();
        ha(&servers[0], &format!("HA SET ROLE {name}=MASTER"));
        until("the role", || member(&servers[0], name)["databases"][0]["role"] == "MASTER");
        servers.push(server);
    }
    for server in &servers {
        let found = ["Person", "Knows"].map(|class| records(server, class));
        assert_eq!(found, before);
    }
    // As README says: before that, a majority of two may still be needed.
    let done = |metrics: &str| {
        metrics.contains("\nquorate_clusters_changing 0\n")
            && metrics.contains("\nquorate_control_voters 3\n")
    };
    until("three that vote", || servers.iter().all(|s| done(&s.http("GET", "/metrics", ""))));
    // Each has clusters of its own by now: classes that were there before it came have one for it.
    let names = records(&servers[0], "Person").len();
    for (n, server) in servers.iter().enumerate() {
        until("a cluster of its own", || {
            let text = format!("CREATE VERTEX Person SET name = 'later{n}'");
            let made = ask(server, "POST", "/command/bench/sql", &text);
            made.is_done() || made.code() == "duplicate_key"
        });
    }
    until("all of them", || records(&servers[0], "Person").len() == names + 3);
    // The first may go: what it had is the others', and so are its quorum and its index.
    let mut first = servers.remove(0);
    first.end(Signal::SIGKILL);
    let taken = "CREATE VERTEX Person SET name = 'p3'";
    until("a duplicate", || {
        ask(&servers[1], "POST", "/command/bench/sql", taken).code() == "duplicate_key"
    });
    sql(&servers[1], "UPDATE Person SET seen = true WHERE name = 'p3'");
    until("the update", || sql(&servers[0], "SELECT FROM Person WHERE seen = true").len() == 1);
}
