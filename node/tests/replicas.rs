//! MASTERs with many REPLICAs, every one a process: what each has, who is linked with whom, and
//! what a write costs its coordinator.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use support::people::{start, start_all};
use support::{Server, joins, json_of, request, request_with, status, three_servers, until};

/// Enough for REPLICAs below REPLICAs: twelve hang below the MASTERs.
const SOME: usize = 14;
/// Writes that are measured.
const WRITES: u64 = 300;
/// REPLICAs that join at the same time.
const AT_ONCE: usize = 10;

/// What a process was given by the system so far.
#[derive(Debug, Clone, Copy)]
struct Used {
    /// In milliseconds.
    cpu: u64,
    /// Bytes that went out over its links.
    sent: u64,
}

fn ticks_of(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name, which may have spaces.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // The kernel counts in hundredths of a second.
    ticks * 10
}

fn used(server: &Server) -> Used {
    let metrics = server.http("GET", "/metrics", "");
    let is_sent = |line: &&str| {
        line.starts_with("quorate_link_bytes_total{") && line.contains("direction=\"sent\"")
    };
    let count = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
    Used { cpu: ticks_of(server.id()), sent: metrics.lines().filter(is_sent).map(count).sum() }
}

/// Sockets of a process, those included that it listens with.
fn sockets(server: &Server) -> usize {
    let found = std::fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap();
    let targets = found.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// Memory that no other process shares, in KiB.
fn memory(server: &Server) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// Inserts a record; gives its id.
fn insert(server: &Server, n: u64) -> String {
    let body = format!(r#"{{"@class":"Item","n":{n}}}"#);
    let answer = server.http("POST", "/document/bench", &body);
    assert_eq!(status(&answer), 201, "{answer}");
    json_of(&answer)["@rid"].as_str().unwrap().trim_start_matches('#').to_owned()
}

/// Every server has the record, and says so itself.
fn everybody_reads(servers: &[Server], rid: &str, n: u64) {
    let path = format!("/document/bench/{rid}");
    for server in servers {
        until("the record", || {
            let answer = request(server.address(), "GET", &path, "").unwrap();
            status(&answer) == 200 && json_of(&answer)["n"] == n
        });
    }
}

/// Every server shows so many, all of them in this state but for the MASTERs, which are ONLINE.
fn everybody_shows(servers: &[Server], count: usize, replicas: &str) {
    for server in servers {
        let mut shown = Vec::new();
        until("everybody on every server", || {
            let node = json_of(&server.http("GET", "/distributed/node", ""));
            let members = node["members"].as_array().unwrap();
            let state = |member: &Value| {
                let is_master = member["name"].as_str().unwrap().starts_with('n');
                member["status"] == if is_master { "ONLINE" } else { replicas }
            };
            shown = members.iter().filter(|m| !state(m)).cloned().collect();
            members.len() == count && shown.is_empty()
        });
    }
}

/// It refuses a write, and says where it can be made.
fn reads_only(replica: &Server, masters: &[Server]) {
    let mut refused = Value::Null;
    until("addresses of MASTERs", || {
        let answer = replica.http("POST", "/document/bench", r#"{"@class":"Item","n":1}"#);
        assert_eq!(status(&answer), 500, "{answer}");
        refused = json_of(&answer);
        assert_eq!(refused["errors"][0]["errorCode"], "not_master", "{answer}");
        refused["masters"].as_array().unwrap().iter().all(|master| master["http"].is_string())
    });
    let found = refused["masters"].as_array().unwrap().iter().map(|m| m["http"].as_str().unwrap());
    assert_eq!(found.collect::<Vec<_>>(), masters.iter().map(Server::address).collect::<Vec<_>>());
    let made = replica.http("POST", "/class/bench/Other", "");
    assert!(made.contains("not_master"), "{made}");
    let rows = replica.http("GET", "/query/bench/sql/SELECT%20FROM%20Item/1", "");
    assert_eq!(json_of(&rows)["result"].as_array().unwrap().len(), 1, "{rows}");
}

/// Asked of a majority by a server that has no link with any of them.
fn reads_by_majority(replica: &Server, rid: &str, n: u64) {
    let path = format!("/document/bench/{rid}");
    let level = [("X-Quorate-Read-Level", "majority")];
    until("a read by majority", || {
        let answer = request_with(replica.address(), "GET", &path, &level, "").unwrap();
        status(&answer) == 200 && json_of(&answer)["n"] == n
    });
}

/// Idle and under writes: what the coordinator and all of them use.
fn measure(servers: &[Server]) {
    let count = servers.len() - 3;
    // Links that were needed for joining end after five seconds: they are no part of being idle.
    std::thread::sleep(Duration::from_secs(6));
    let all = || servers.iter().map(|server| ticks_of(server.id())).sum::<u64>();
    let (before, began, idle) = (used(&servers[0]), Instant::now(), all());
    // The time over which idle servers are measured.
    std::thread::sleep(Duration::from_secs(5));
    let (quiet, quiet_for) = (used(&servers[0]), began.elapsed());
    let idle = (all() - idle) as f64 / began.elapsed().as_secs_f64() / 10.0;
    let began = Instant::now();
    let rids: Vec<String> = (0..WRITES).map(|n| insert(&servers[0], n)).collect();
    let took = began.elapsed();
    everybody_reads(servers, rids.last().unwrap(), WRITES - 1);
    let (busy, busy_for) = (used(&servers[0]), began.elapsed());
    let share = busy_for.as_secs_f64() / quiet_for.as_secs_f64();
    let of_one = |busy: u64, quiet: u64| (busy as f64 - quiet as f64 * share) / WRITES as f64;
    let bytes = of_one(busy.sent - quiet.sent, quiet.sent - before.sent);
    let cpu = of_one(busy.cpu - quiet.cpu, quiet.cpu - before.cpu);
    let (masters, replicas) = servers.split_at(3);
    let most = |servers: &[Server]| servers.iter().map(sockets).max().unwrap_or(0);
    let memory = |servers: &[Server]| {
        servers.iter().map(memory).sum::<u64>() / servers.len().max(1) as u64 / 1024
    };
    eprintln!(
        "{count:>3} REPLICAs: {bytes:>6.0} bytes and {cpu:>5.2} ms of CPU a write at its \
         coordinator, {:>5.2} ms a write; idle {idle:>5.1} % of a core; sockets at most {} at a \
         MASTER, {} at a REPLICA; own memory {} MiB a MASTER, {} MiB a REPLICA",
        took.as_secs_f64() * 1e3 / WRITES as f64,
        most(masters),
        most(replicas),
        memory(masters),
        memory(replicas),
    );
}

/// Starts so many servers in all; every one is ONLINE.
fn grow(servers: &mut Vec<Server>, dir: &Path, to: usize) {
    let seeds: Vec<String> =
        servers[..3].iter().map(|s| s.line["peer"].as_str().unwrap().to_owned()).collect();
    while servers.len() < to {
        let group = AT_ONCE.min(to - servers.len());
        let first = servers.len();
        for number in first..first + group {
            let name = format!("r{number}");
            servers.push(start(&joins(dir, &name, &seeds[number % 3])));
        }
        servers[first..].iter().for_each(Server::wait_online);
    }
    everybody_shows(servers, to, "ONLINE");
}

/// 3 MASTERs and their REPLICAs, grown step by step, and then without REPLICAs. What they cost is
/// measured behind each step when asked for.
fn three_and(steps: &[usize], measured: bool) {
    let dir = tempfile::tempdir().unwrap();
    let mut servers = start_all(&three_servers(dir.path()));
    servers[0].make_class();
    let began = Instant::now();
    for count in steps {
        let start = Instant::now();
        grow(&mut servers, dir.path(), 3 + count);
        eprintln!("{count} REPLICAs are ONLINE after {:?} more", start.elapsed());
        if measured {
            measure(&servers);
        }
    }
    eprintln!("{:?} in all", began.elapsed());
    let rid = insert(&servers[1], 77);
    everybody_reads(&servers, &rid, 77);
    reads_only(servers.last().unwrap(), &servers[..3]);
    reads_by_majority(servers.last().unwrap(), &rid, 77);
    for replica in &mut servers[3..] {
        replica.end(Signal::SIGKILL);
    }
    servers.truncate(3);
    for n in 0..50 {
        insert(&servers[usize::try_from(n).unwrap() % 3], 1_000 + n);
    }
    let rid = insert(&servers[2], 78);
    everybody_reads(&servers, &rid, 78);
    everybody_shows(&servers, 3 + steps.last().unwrap(), "NOT_AVAILABLE");
}

/// With `QUORATE_REPLICAS` in the environment so many of them, grown in steps, and what they cost
/// is measured (`make replicas`).
///
/// FEATURES: A2, A3, S11
#[test]
fn replicas_below_replicas_have_everything_and_nobody_waits_for_them() {
    match std::env::var("QUORATE_REPLICAS") {
        Ok(count) => {
            let count = count.parse().expect("QUORATE_REPLICAS is a number");
            let steps = [0, 4, 12, 25, 50].into_iter().filter(|step| *step < count);
            three_and(&steps.chain([count]).collect::<Vec<usize>>(), true);
        }
        Err(_) => three_and(&[SOME], false),
    }
}
