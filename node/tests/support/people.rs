//! What the scenarios share: the original's class of people, writers of it on every server, and
//! what has to be the same on all of them afterwards.

use std::collections::BTreeSet;
use std::sync::Barrier;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Server, request, request_with, status, until};

/// Refusals that mean, after an attempt that was in doubt, that it had happened.
const HAPPENED: [&str; 6] = [
    "database_exists",
    "class_exists",
    "index_exists",
    "duplicate_key",
    "not_found",
    "unknown_database",
];

/// A server's answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn read(text: &str) -> Self {
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Self { status: status(text), body: serde_json::from_str(body).unwrap_or(Value::Null) }
    }

    pub(crate) fn is_done(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn code(&self) -> &str {
        self.body["errors"][0]["errorCode"].as_str().unwrap_or_default()
    }

    pub(crate) fn is_unknown(&self) -> bool {
        self.body["errors"][0]["outcome"] == "unknown"
    }

    /// It did not happen, and the same request can succeed.
    pub(crate) fn is_retryable(&self) -> bool {
        let error = &self.body["errors"][0];
        error["outcome"] == "failed" && error["retryable"] == true
    }
}

/// Sends a request once.
pub(crate) fn ask(server: &Server, method: &str, path: &str, body: &str) -> Answer {
    Answer::read(&server.http(method, path, body))
}

/// Sends a request until it is done: servers of a busy machine lose sight of each other for a
/// moment, and one that starts does not serve yet.
pub(crate) fn done(server: &Server, method: &str, path: &str, body: &str) -> Value {
    let (mut found, mut in_doubt) = (Value::Null, false);
    until(path, || {
        let answer = ask(server, method, path, body);
        in_doubt |= answer.is_unknown();
        let happened = in_doubt && HAPPENED.contains(&answer.code());
        let again = answer.is_unknown() || answer.is_retryable();
        let is_done = answer.is_done() || happened;
        assert!(is_done || again, "{method} {path} {body}: {answer:?}");
        found = answer.body;
        is_done
    });
    found
}

/// The rows of a statement, sent until it is done.
pub(crate) fn sql(server: &Server, text: &str) -> Vec<Value> {
    let answer = done(server, "POST", "/command/bench/sql", text);
    answer["result"].as_array().unwrap().clone()
}

/// What a majority has at a path, whichever server is asked.
pub(crate) fn by_majority(server: &Server, path: &str) -> Answer {
    let headers = [("X-Quorate-Read-Level", "majority"), ("X-Quorate-Deadline-Ms", "1000")];
    Answer::read(&request_with(server.address(), "GET", path, &headers, "").unwrap())
}

/// Starts one server.
pub(crate) fn start(arguments: &[String]) -> Server {
    Server::start(&[], &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Servers that see each other.
pub(crate) fn start_all(arguments: &[Vec<String>]) -> Vec<Server> {
    let servers: Vec<Server> = arguments.iter().map(|a| start(a)).collect();
    for server in &servers {
        server.wait_online();
        server.wait_log_times("peer up", servers.len() - 1);
    }
    servers
}

/// A database with the original's class of people and its unique index, known everywhere.
pub(crate) fn create_people(servers: &[Server], by: usize, quorum: &str) {
    create_people_in(servers, by, &json!({"writeQuorum": quorum}));
}

/// The same in a database with other settings.
pub(crate) fn create_people_in(servers: &[Server], by: usize, settings: &Value) {
    done(&servers[by], "POST", "/database/bench/plocal", &settings.to_string());
    done(&servers[by], "POST", "/class/bench/Person", "");
    done(&servers[by], "POST", "/command/bench/sql", "CREATE INDEX Person.name UNIQUE");
    for server in servers {
        until("the class everywhere", || {
            ask(server, "GET", "/class/bench/Person", "").status == 200
        });
    }
}

/// A person to be created.
pub(crate) fn person(name: &str) -> String {
    json!({"@class": "Person", "name": name}).to_string()
}

/// Every server ends as it should.
pub(crate) fn stop_all(mut servers: Vec<Server>) {
    for server in &mut servers {
        assert!(server.end(Signal::SIGTERM).success());
    }
}

/// One turn of the original's writer: people created in one transaction, each updated and found by
/// its key.
pub(crate) fn write(server: &Server, names: &[&str]) {
    let create = |name: &&str| json!({"type": "c", "record": {"@class": "Person", "name": name}});
    let operations: Vec<Value> = names.iter().map(create).collect();
    let batch = json!({"transaction": true, "operations": operations}).to_string();
    done(server, "POST", "/batch/bench", &batch);
    for name in names {
        sql(server, &format!("UPDATE Person SET updated = true WHERE name = '{name}'"));
        let found = sql(server, &format!("SELECT FROM Person WHERE name = '{name}'"));
        assert!(found.len() == 1 && found[0]["updated"] == true, "{found:?}");
    }
}

/// A writer on each server, all at once, two people a turn; gives the names written.
pub(crate) fn write_on(servers: &[Server], round: &str) -> BTreeSet<String> {
    let writer = |index: usize| {
        let turn = |n: usize| {
            let [one, other] = ["a", "b"].map(|one| format!("Billy{round}-{index}-{n}{one}"));
            write(&servers[index], &[&one, &other]);
            [one, other]
        };
        (0..5).flat_map(turn).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let running: Vec<_> =
            (0..servers.len()).map(|index| scope.spawn(move || writer(index))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Every person as one server has it, by id.
pub(crate) fn people(server: &Server) -> Vec<Value> {
    let found = done(server, "GET", "/query/bench/sql/SELECT%20FROM%20Person/-1", "");
    let mut rows = found["result"].as_array().unwrap().clone();
    rows.sort_by_key(|row| row["@rid"].to_string());
    rows
}

/// Waits until servers have the same people, versions and all; they are exactly those of these
/// names, and the index of every server knows each once.
pub(crate) fn assert_same(servers: &[Server], names: &BTreeSet<String>) {
    let mut rows = Vec::new();
    until("the same on every server", || {
        let all: Vec<Vec<Value>> = servers.iter().map(people).collect();
        rows.clone_from(&all[0]);
        rows.len() >= names.len() && all.windows(2).all(|two| two[0] == two[1])
    });
    let found: BTreeSet<String> =
        rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!((rows.len(), &found), (names.len(), names));
    for server in servers {
        for name in names {
            let of_key = sql(server, &format!("SELECT FROM Person WHERE name = '{name}'"));
            assert_eq!(of_key.len(), 1, "{name}");
        }
    }
}

/// What each of several servers answers to the same request at the same moment.
pub(crate) fn at_once(
    servers: &[Server],
    method: &str,
    path: &str,
    body: impl Fn(usize) -> String,
) -> Vec<Answer> {
    let start = Barrier::new(servers.len());
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..servers.len())
            .map(|index| {
                let (start, body) = (&start, body(index));
                scope.spawn(move || {
                    start.wait();
                    ask(&servers[index], method, path, &body)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Has a statement about servers carried out, as soon as nothing else is on its way.
pub(crate) fn ha(server: &Server, statement: &str) {
    let mut last = String::new();
    until(statement, || {
        let body = json!({ "command": statement }).to_string();
        last = request(server.address(), "POST", "/command/bench/sql", &body).unwrap_or_default();
        let done = status(&last) == 200;
        assert!(done || matches!(status(&last), 0 | 409 | 423 | 500 | 503), "{last}");
        done
    });
}
