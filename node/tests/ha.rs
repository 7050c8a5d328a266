//! `HA SET` and what becomes of it on real servers: statuses that outlive restarts and cost no
//! vote, several clauses at once, the same picture everywhere.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::items::{NUMBERS, numbers};
use support::people::{Answer, ask, done, ha, sql, start, start_all};
use support::{Server, json_of, request, status, three_servers, until};

/// What a server shows of the database; nothing while it does not answer.
fn shown(server: &Server) -> Value {
    let path = "/command/bench/sql/HA%20STATUS%20-db";
    let answer = request(server.address(), "GET", path, "").unwrap_or_default();
    if status(&answer) != 200 {
        return Value::Null;
    }
    json_of(&answer)["result"][0]["database"].take()
}

/// The same, once it answers.
fn seen(server: &Server) -> Value {
    let mut found = Value::Null;
    until("what a server shows", || {
        found = shown(server);
        !found.is_null()
    });
    found
}

/// Waits until all of these show a database in this state at a server.
fn await_shown(servers: &[Server], name: &str, state: &str) {
    until(&format!("{name} {state}"), || {
        servers.iter().all(|server| shown(server)["status"][name] == state)
    });
}

/// The numbers that this server itself has; `None` while it says nothing.
fn local(server: &Server) -> Option<Vec<u64>> {
    let mut found = numbers(server)?;
    // What was in doubt is written again.
    found.dedup();
    Some(found)
}

/// One more record, acknowledged.
fn write(server: &Server, numbers: &mut Vec<u64>) {
    let n = numbers.len() as u64;
    let record = json!({"@class": "Item", "n": n}).to_string();
    until("a record", || ask(server, "POST", "/document/bench", &record).status == 201);
    numbers.push(n);
}

/// It serves no clients of the database, and says so.
fn assert_serves_nobody(server: &Server, name: &str) {
    let expected = format!("Database 'bench' is OFFLINE on server '{name}'");
    for (method, path, body) in
        [("GET", NUMBERS, ""), ("POST", "/document/bench", r#"{"@class":"Item","n":1000}"#)]
    {
        let refused = ask(server, method, path, body);
        let text = refused.body["errors"][0]["content"].as_str().unwrap_or_default();
        assert!(refused.status == 503 && text.starts_with(&expected), "{refused:?}");
    }
}

fn cluster(arguments: &[Vec<String>]) -> Vec<Server> {
    let servers = start_all(arguments);
    done(&servers[0], "POST", "/database/bench/plocal", "");
    done(&servers[0], "POST", "/class/bench/Item", "");
    for server in &servers {
        until("the class", || ask(server, "GET", "/class/bench/Item", "").status == 200);
    }
    servers
}

/// FEATURES: A20
#[test]
fn who_is_offline_serves_nobody_and_votes_on_through_kills() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = three_servers(dir.path()).to_vec();
    let mut servers = cluster(&arguments);
    let mut numbers = Vec::new();
    write(&servers[0], &mut numbers);

    assert_eq!(
        sql(&servers[0], "HA SET STATUS n2=OFFLINE"),
        [json!({"operation": "ha set status", "result": "OK"})]
    );
    await_shown(&servers, "n2", "OFFLINE");
    assert_serves_nobody(&servers[1], "n2");
    // Whoever owned its clusters: others create there now.
    for server in [&servers[0], &servers[2]] {
        let owner = seen(server)["clusters"]["item_n2"]["servers"][0].clone();
        assert!(owner == "n1" || owner == "n3", "{owner}");
    }
    // Its vote counts: with it and another one there is a majority.
    servers[2].end(Signal::SIGKILL);
    write(&servers[0], &mut numbers);
    write(&servers[0], &mut numbers);
    servers[2] = start(&arguments[2]);
    servers[2].wait_online();
    // It is so for whoever starts, itself included.
    servers[1].end(Signal::SIGKILL);
    write(&servers[0], &mut numbers);
    servers[1] = start(&arguments[1]);
    servers[1].wait_online();
    await_shown(&servers, "n2", "OFFLINE");
    assert_serves_nobody(&servers[1], "n2");
    until("a majority is there", || shown(&servers[1])["wQuorum"] == true);
    write(&servers[2], &mut numbers);

    // It is told through itself that it serves again, and has everything.
    sql(&servers[1], "HA SET DBSTATUS n2=ONLINE");
    await_shown(&servers, "n2", "ONLINE");
    until("everything everywhere", || {
        servers.iter().all(|server| local(server).as_ref() == Some(&numbers))
    });
    until("its clusters are back", || {
        shown(&servers[0])["clusters"]["item_n2"]["servers"][0] == "n2"
    });
    write(&servers[1], &mut numbers);
}

/// FEATURES: A20, L7
#[test]
fn clauses_are_carried_out_together_on_every_server_or_on_none() {
    let dir = tempfile::tempdir().unwrap();
    let servers = cluster(&three_servers(dir.path()));
    let document = |server: &Server| {
        done(server, "GET", "/distributed/database/bench", "")["servers"]["n3"].take()
    };
    for (clauses, code) in [
        ("STATUS n3=OFFLINE OWNER nowhere=n1", "unknown_cluster"),
        ("OWNER item=n2 ROLE n3=REPLICA STATUS n9=OFFLINE", "not_found"),
        ("STATUS n1=OFFLINE STATUS n2=OFFLINE STATUS n3=OFFLINE", "bad_request"),
        ("ROLE n3=REPLICA STATUS n3=NOT_AVAILABLE", "unsupported"),
    ] {
        let statement = json!({"command": format!("HA SET {clauses}")}).to_string();
        until(clauses, || {
            let refused = ask(&servers[1], "POST", "/command/bench/sql", &statement);
            assert!(!refused.is_done(), "{clauses}: {refused:?}");
            refused.code() == code
        });
    }
    for name in ["n1", "n2", "n3"] {
        await_shown(&servers, name, "ONLINE");
    }
    assert!(servers.iter().all(|server| document(server) == "master"));
    ha(&servers[1], "HA SET ROLE n3=REPLICA OWNER item=n2 STATUS n3=OFFLINE");
    await_shown(&servers, "n3", "OFFLINE");
    for server in &servers {
        // One entry of the log: who has one of it has all.
        assert_eq!(document(server), "replica");
        assert_eq!(seen(server)["clusters"]["item"]["servers"][0], "n2");
    }
    until("the change is done", || {
        let counted = servers[1].http("GET", "/metrics", "");
        counted.contains("quorate_clusters_changing 0\n")
    });
    let mut numbers = Vec::new();
    write(&servers[0], &mut numbers);
    ha(&servers[0], "HA SET STATUS n3=ONLINE");
    until("everything is at the REPLICA", || local(&servers[2]).as_ref() == Some(&numbers));
}

/// FEATURES: A20, A13
#[test]
fn who_is_lost_for_good_is_given_up_by_force_where_w_is_below_a_majority() {
    let dir = tempfile::tempdir().unwrap();
    let mut servers = start_all(&three_servers(dir.path()));
    done(&servers[0], "POST", "/database/bench/plocal", r#"{"writeQuorum":1}"#);
    done(&servers[0], "POST", "/class/bench/Item", "");
    servers[0].wait_log("all servers speak version 9 from now on");
    let mut numbers = Vec::new();
    for _ in 0..5 {
        write(&servers[0], &mut numbers);
    }
    until("the records everywhere", || {
        servers.iter().all(|server| local(server).as_ref() == Some(&numbers))
    });
    servers[2].end(Signal::SIGKILL);
    let _third = servers.pop();
    let remove = |text: &str| {
        ask(&servers[0], "POST", "/command/bench/sql", &format!("HA REMOVE SERVER {text}"))
    };
    let told = |answer: &Answer| {
        answer.body["errors"][0]["content"].as_str().unwrap_or_default().to_owned()
    };
    until("it is refused without", || {
        let refused = remove("n3");
        assert!(!refused.is_done(), "{refused:?}");
        told(&refused).contains("writeQuorum 1, which is below the majority of 3 MASTERs")
    });
    until("and of a server that is there", || {
        let refused = remove("n2 FORCE");
        assert!(!refused.is_done(), "{refused:?}");
        told(&refused).contains("server 'n2' is ONLINE: FORCE gives up what it alone has")
    });
    let (mut answer, mut in_doubt) = (Value::Null, false);
    until("it is given up", || {
        let given_up = remove("n3 FORCE");
        in_doubt |= given_up.is_unknown();
        // By this server, or for some seconds more by others.
        let is_seen = told(&given_up).contains("server 'n3' is ");
        let again = in_doubt || is_seen || given_up.is_retryable();
        assert!(given_up.is_done() || again, "{given_up:?}");
        answer = given_up.body["result"][0].clone();
        given_up.is_done() || in_doubt && given_up.code() == "not_found"
    });
    let warning = "server 'n3' was removed by FORCE while the writeQuorum of these databases was \
                   below the majority: bench. What it alone had acknowledged there is lost";
    if !in_doubt {
        assert_eq!(answer, json!({"result": true, "mayHaveLost": ["bench"], "warning": warning}));
        servers[0].wait_log(warning);
    }
    // Nobody waits for it any more, and what the others have is all there.
    for server in &servers {
        until("it is gone", || {
            let states = shown(server)["status"].take();
            states["n1"] == "ONLINE" && states["n3"].is_null()
        });
        until("no change is left", || {
            server.http("GET", "/metrics", "").contains("quorate_clusters_changing 0\n")
        });
    }
    for server in &servers {
        write(server, &mut numbers);
    }
    until("everything everywhere", || {
        servers.iter().all(|server| local(server).as_ref() == Some(&numbers))
    });
}
