//! A MASTER is lost for good while some W is below a majority, and people give it up: the others
//! go on with what they have. Real processes.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::items::{create, items, update};
use support::people::{Answer, ask, done, sql, start_all, stop_all};
use support::wire::{Wire, hold};
use support::{Server, servers_of, until};

/// What a server shows of who there is, and of the database.
fn status(server: &Server) -> Value {
    sql(server, "HA STATUS -servers -db")[0].clone()
}

fn remove(server: &Server, statement: &str) -> Answer {
    ask(server, "POST", "/command/bench/sql", statement)
}

fn put_quorum(server: &Server, quorum: &str) {
    until("another quorum", || {
        let mut document = done(server, "GET", "/distributed/database/bench", "");
        document["writeQuorum"] = quorum.into();
        let put = ask(server, "PUT", "/distributed/database/bench", &document.to_string());
        assert!(put.status == 200 || matches!(put.status, 409 | 423 | 500 | 503), "{put:?}");
        put.status == 200
    });
}

/// FEATURES: A13, A20, L7
#[test]
fn the_others_go_on_without_a_master_that_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = servers_of(folder.path(), ["n1", "n2", "n3"]);
    let mut servers = start_all(&arguments);
    for server in &servers {
        server.wait_log("all servers speak version 9 from now on");
    }
    let database = json!({"writeQuorum": "1"}).to_string();
    done(&servers[0], "POST", "/database/bench/plocal", &database);
    done(&servers[0], "POST", "/class/bench/Item", "");
    for server in &servers {
        until("the class", || ask(server, "GET", "/class/bench/Item", "").status == 200);
    }
    let rids: Vec<String> = servers.iter().map(|server| create(server, "old")).collect();
    let have_all = |servers: &[Server], content: &str| {
        until("the same on every server", || {
            let all: Vec<Vec<Value>> = servers.iter().map(items).collect();
            let of = |row: &Value| row["content"] == content;
            all.iter().all(|rows| rows == &all[0] && rows.len() == 3 && rows.iter().all(of))
        });
    };
    have_all(&servers, "old");
    assert!(!servers.pop().unwrap().end(Signal::SIGKILL).success());
    // The way up waits for it, and it cannot leave like any other.
    put_quorum(&servers[0], "majority");
    until("the change waits", || status(&servers[0]).to_string().contains("\"waitsFor\":["));
    until("it is refused as long as nothing is given up", || {
        let refused = remove(&servers[0], "HA REMOVE SERVER n3");
        assert!(!refused.is_done(), "{refused:?}");
        refused.status == 423
    });
    let mut in_doubt = false;
    until("it is given up", || {
        let given_up = remove(&servers[1], "HA REMOVE SERVER n3 FORCE");
        // Asked again behind one that took effect unheard, there is nothing left at stake.
        let first_in_doubt = given_up.is_unknown() && !in_doubt;
        in_doubt |= given_up.is_unknown();
        // One that was in doubt may have done it: then there is nothing left to say, or nobody.
        let is_told = given_up.body["result"][0]["mayHaveLost"] == json!(["bench"]);
        assert!(!given_up.is_done() || is_told || in_doubt, "{given_up:?}");
        if first_in_doubt {
            assert_eq!(given_up.body["mayHaveLost"], json!(["bench"]), "{given_up:?}");
        }
        given_up.is_done() || in_doubt && given_up.code() == "not_found"
    });
    for server in &servers {
        until("it is gone", || {
            let members = done(server, "GET", "/distributed/node", "")["members"].clone();
            members.as_array().unwrap().len() == 2
                && !status(server).to_string().contains("uniting")
        });
    }
    // Two of two are a majority now.
    for rid in &rids {
        update(&servers[1], rid, "new");
    }
    have_all(&servers, "new");
    stop_all(servers);
}

/// The links between the first server and the last one.
fn wires_between_first_and_last(arguments: &mut [Vec<String>; 3]) -> Vec<Wire> {
    let dials = [(0, "--dial=n3="), (2, "--dial=n1=")];
    let wires = dials.map(|(server, dial)| {
        let argument = arguments[server].iter_mut().find(|argument| argument.starts_with(dial));
        Wire::through(argument.unwrap())
    });
    wires.into()
}

/// Who is asked does not hear it; another one does.
///
/// FEATURES: A20
#[test]
fn who_is_heard_by_another_server_is_not_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = servers_of(folder.path(), ["n1", "n2", "n3"]);
    let wires = wires_between_first_and_last(&mut arguments);
    let servers = start_all(&arguments);
    for server in &servers {
        server.wait_log("all servers speak version 9 from now on");
    }
    let database = json!({"writeQuorum": "1"}).to_string();
    done(&servers[0], "POST", "/database/bench/plocal", &database);
    hold(&wires, true);
    let state = || {
        let members = done(&servers[0], "GET", "/distributed/node", "")["members"].clone();
        let third = members.as_array().unwrap().iter().find(|member| member["name"] == "n3");
        third.unwrap()["status"].clone()
    };
    until("it is out of reach", || state() == "NOT_AVAILABLE");
    until("it is not given up", || {
        let refused = remove(&servers[0], "HA REMOVE SERVER n3 FORCE");
        assert!(!refused.is_done(), "{refused:?}");
        let text = refused.body["errors"][0]["content"].as_str().unwrap_or_default();
        text.contains("server 'n3' is heard by other servers, or was until some seconds ago")
    });
    hold(&wires, false);
    until("it is back", || state() == "ONLINE");
    stop_all(servers);
}
