//! Records made everywhere while a server is killed and comes back: real servers, whose clusters
//! change hands.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::people::{start, start_all};
use support::{Server, json_of, request, status, three_servers, until};

/// Inserts a record into a cluster, or into one of the server's own; its id, if acknowledged.
fn insert(address: &str, cluster: Option<&str>, n: usize) -> std::io::Result<Option<String>> {
    let cluster = cluster.map_or_else(String::new, |name| format!("CLUSTER {name} "));
    let text = format!("INSERT INTO Item {cluster}SET n = {n}");
    let answer = request(address, "POST", "/command/bench/sql", &text)?;
    if status(&answer) != 200 {
        return Ok(None);
    }
    Ok(Some(json_of(&answer)["result"][0]["@rid"].as_str().unwrap().to_owned()))
}

/// What was acknowledged: ids and contents.
type Written = Vec<(String, usize)>;

/// Inserts one record after the other, each once, whatever is answered, until the server is gone.
fn write(address: &str, first: usize, stop: &AtomicBool, count: &AtomicUsize) -> Written {
    let mut written = Written::new();
    for n in (first..).step_by(3) {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let Ok(rid) = insert(address, None, n) else { break };
        if let Some(rid) = rid {
            written.push((rid, n));
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    written
}

fn owner(server: &Server, cluster: &str) -> String {
    let shown = json_of(&server.http("GET", "/distributed/database/bench", ""));
    shown["clusters"][cluster]["servers"][0].as_str().unwrap_or_default().to_owned()
}

fn records(server: &Server) -> Written {
    let path = "/query/bench/sql/SELECT%20FROM%20Item/-1";
    let answer = json_of(&server.http("GET", path, ""));
    let rows = answer["result"].as_array().cloned().unwrap_or_default();
    let row = |row: &Value| {
        let n = usize::try_from(row["n"].as_u64().unwrap()).unwrap();
        (row["@rid"].as_str().unwrap().to_owned(), n)
    };
    rows.iter().map(row).collect()
}

/// FEATURES: A4 A7
#[test]
fn clusters_of_a_killed_server_are_written_to_and_come_home_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers = start_all(&arguments);
    servers[0].make_class();
    until("the class everywhere", || servers.iter().all(|s| owner(s, "item_n2") == "n2"));
    let mut written = Written::new();
    let mut by_name = |server: &Server, n: usize| {
        until("a record in the cluster by name", || {
            let rid = insert(server.address(), Some("item_n2"), n).unwrap();
            rid.map(|rid| written.push((rid, n))).is_some()
        });
    };
    by_name(&servers[1], 1_000_000);
    let stop = Arc::new(AtomicBool::new(false));
    let counts: [Arc<AtomicUsize>; 3] = Default::default();
    let writer = |n: usize, first: usize, address: &str| {
        let (address, stop, count) = (address.to_owned(), stop.clone(), counts[n].clone());
        std::thread::spawn(move || write(&address, first, &stop, &count))
    };
    let all_write = |who: &[usize]| {
        let before = counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        until("inserts on every server", || {
            who.iter().all(|n| counts[*n].load(Ordering::Relaxed) >= before[*n] + 20)
        });
    };
    let mut writers: Vec<_> = (0..3).map(|n| writer(n, n, servers[n].address())).collect();
    all_write(&[0, 1, 2]);
    servers[1].end(Signal::SIGKILL);
    until("another owner", || ["n1", "n3"].contains(&owner(&servers[0], "item_n2").as_str()));
    let heir = if owner(&servers[0], "item_n2") == "n1" { 0 } else { 2 };
    by_name(&servers[heir], 1_000_001);
    servers[heir].wait_log(&format!(
        "changing mastership of cluster 'item_n2' from node 'n2' to 'n{}'",
        heir + 1
    ));
    all_write(&[0, 2]);
    servers[1] = start(&arguments[1]);
    until("the owner home", || servers.iter().all(|server| owner(server, "item_n2") == "n2"));
    // Its first writer ended with it.
    writers.push(writer(1, 2_000_000, servers[1].address()));
    all_write(&[0, 1, 2]);
    by_name(&servers[1], 1_000_002);
    let refused = insert(servers[heir].address(), Some("item_n2"), 1_000_003);
    assert_eq!(refused.unwrap(), None, "a former owner makes no records");
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        written.extend(writer.join().unwrap());
    }
    all_there_once(&servers, &written);
}

/// HAClusterStrategyTest.
///
/// FEATURES: A4
#[test]
fn inserts_choose_a_local_cluster_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers = start_all(&arguments);
    servers[0].make_class();
    until("the class everywhere", || servers.iter().all(|s| owner(s, "item_n2") == "n2"));
    let sql = |server: &Server, text: &str| server.http("POST", "/command/bench/sql", text);
    let add = "ALTER CLASS Item ADDCLUSTER item_usa";
    until("one more", || status(&sql(&servers[0], add)) == 200);
    let again = sql(&servers[1], add);
    assert!(again.contains("Cluster 'item_usa' already exists"), "{again}");
    until("everywhere", || servers.iter().all(|server| owner(server, "item_usa") == "n1"));
    let mut written = Written::new();
    let mut insert_ten = |server: &Server, first: usize| {
        let mut clusters = BTreeMap::<String, usize>::new();
        for n in first..first + 10 {
            until("a record", || {
                let rid = insert(server.address(), None, n).unwrap();
                rid.is_some_and(|rid| {
                    let cluster = rid.split_once(':').unwrap().0.to_owned();
                    *clusters.entry(cluster).or_default() += 1;
                    written.push((rid, n));
                    true
                })
            });
        }
        clusters.into_values().collect::<Vec<_>>()
    };
    assert_eq!(insert_ten(&servers[0], 0), [5, 5], "its own two in turn");
    assert_eq!(insert_ten(&servers[1], 10), [10], "it has one");
    servers[0].end(Signal::SIGKILL);
    let others = ["n2", "n3"];
    until("others own both", || {
        ["item", "item_usa"].iter().all(|name| others.contains(&owner(&servers[1], name).as_str()))
    });
    assert_eq!(insert_ten(&servers[1], 20), [10], "others' clusters are kept for them");
    servers[0] = start(&arguments[0]);
    until("home", || servers.iter().all(|server| owner(server, "item_usa") == "n1"));
    all_there_once(&servers, &written);
}

/// FEATURES: A6
#[test]
fn a_static_owner_stays_when_it_is_killed_and_other_clusters_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path());
    let mut servers = start_all(&arguments);
    servers[0].make_class();
    let path = "/distributed/database/bench";
    until("the owner fixed", || {
        let mut document = json_of(&servers[0].http("GET", path, ""));
        document["clusters"]["item_n2"]["owner"] = "n2".into();
        status(&servers[0].http("PUT", path, &document.to_string())) == 200
    });
    let mut written = Written::new();
    let mut wrote = |server: &Server, cluster: Option<&str>, n: usize| {
        until("a record", || {
            let rid = insert(server.address(), cluster, n).unwrap();
            rid.map(|rid| written.push((rid, n))).is_some()
        });
    };
    wrote(&servers[1], Some("item_n2"), 1);
    servers[1].end(Signal::SIGKILL);
    // Owners have moved, so that one was left where it is.
    until("other clusters with other owners", || owner(&servers[0], "v_n2") != "n2");
    assert_eq!(owner(&servers[0], "item_n2"), "n2");
    for n in [0, 2] {
        let refused = insert(servers[n].address(), Some("item_n2"), 9).unwrap();
        assert_eq!(refused, None);
        wrote(&servers[n], None, 10 + n);
    }
    let sql = "INSERT INTO Item CLUSTER item_n2 SET n = 9";
    let refused = servers[0].http("POST", "/command/bench/sql", sql);
    assert!(refused.contains("(it is 'n2', its static owner)"), "{refused}");
    servers[1] = start(&arguments[1]);
    wrote(&servers[1], Some("item_n2"), 20);
    all_there_once(&servers, &written);
}

fn all_there_once(servers: &[Server], written: &Written) {
    let rids: BTreeSet<&String> = written.iter().map(|(rid, _)| rid).collect();
    assert_eq!(rids.len(), written.len(), "an id was given twice");
    for server in servers {
        until("every acknowledged record everywhere", || {
            let found: BTreeSet<(String, usize)> = records(server).into_iter().collect();
            written.iter().all(|record| found.contains(record))
        });
        let found = records(server);
        let contents: BTreeSet<usize> = found.iter().map(|(_, n)| *n).collect();
        assert_eq!(contents.len(), found.len(), "written twice");
    }
}
