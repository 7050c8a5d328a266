//! Three servers in one process with HTTP: unique keys, edges, indexes and retry tokens when
//! several servers are asked at once, and after a restart.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use quorate_control::members::{Members, WriteQuorum};
use quorate_control::settings::{ExecutionMode, ReadQuorum};
use quorate_control::versions::Versions;
use quorate_node::http::auth::Authenticator;
use quorate_node::http::{HttpConfig, Limits, RetryPolicy, serve};
use quorate_node::memory::Budget;
use quorate_node::runtime::handle::NodeState;
use quorate_node::runtime::{Node, Settings};
use quorate_protocol::chain::Chain;
use quorate_protocol::io::AlignConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

const NAMES: [&str; 3] = ["n1", "n2", "n3"];
const PASSWORD: &str = "secret";
/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    node: Node,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

struct Cluster {
    dir: tempfile::TempDir,
    peers: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
    servers: Vec<Server>,
}

impl Cluster {
    /// Three servers with database `bench`.
    async fn start() -> Self {
        let mut listeners = Vec::new();
        for _ in NAMES {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let peers = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Self { dir, peers, http: Vec::new(), servers: Vec::new() };
        for (index, listener) in listeners.into_iter().enumerate() {
            cluster.add(index, listener).await;
        }
        cluster.online().await;
        cluster.ask(0, "POST", "/database/bench/plocal", "").await.expect(200);
        cluster
    }

    async fn add(&mut self, index: usize, peers: TcpListener) {
        let others = (0..NAMES.len()).filter(|other| *other != index);
        let settings = Settings {
            name: NAMES[index].into(),
            data: self.dir.path().join(NAMES[index]),
            http: None,
            members: Members::new(NAMES).unwrap(),
            join: Vec::new(),
            witness: false,
            advertise: None,
            multicast: false,
            dial: others.map(|o| (NAMES[o].to_owned(), self.peers[o].to_string())).collect(),
            cluster: "bench".into(),
            password: PASSWORD.into(),
            versions: Versions::ALL,
            // No server is away in these tests; a machine that stalls must not look like one.
            suspect_after: Duration::from_secs(60),
            remove_after: None,
            align: AlignConfig::new(),
            chain: Chain::default(),
            lost_max: (100, 1 << 20),
            retry: RetryPolicy::default(),
            in_flight_max: 4_096,
            heap: Budget::divide(1 << 28, None).unwrap(),
        };
        let node = Node::start(settings, Some(peers)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.http.push(listener.local_addr().unwrap());
        let config = HttpConfig {
            authenticator: Authenticator::new(PASSWORD).unwrap(),
            write_quorum: WriteQuorum::Majority,
            data_centers: std::collections::BTreeMap::new(),
            chain: Chain::default(),
            read_quorum: ReadQuorum::default(),
            execution_mode: ExecutionMode::default(),
            new_nodes: quorate_control::dynamic::NewNodes::Static,
            retry: RetryPolicy { count: 30, ..RetryPolicy::default() },
            limits: Limits { shutdown_grace: PATIENCE, ..Limits::default() },
        };
        let (stop, stopped) = oneshot::channel();
        let done = async move {
            // A sender that is gone means the same.
            stopped.await.ok();
        };
        let serving = tokio::spawn(serve(node.handle(), listener, config, done));
        self.servers.push(Server { node, stop, serving });
    }

    async fn online(&self) {
        let end = Instant::now() + PATIENCE;
        for server in &self.servers {
            let handle = server.node.handle();
            let is_online = || {
                let status = handle.status();
                status.state == NodeState::Online && status.masters.values().all(|m| m.up)
            };
            while !is_online() {
                assert!(Instant::now() < end, "not online");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Ends every server: the storage engine must not be at work when its folder goes.
    async fn stop(&mut self) {
        for server in self.servers.drain(..) {
            drop(server.stop);
            server.serving.await.unwrap();
            server.node.stop(PATIENCE).await.unwrap();
        }
    }

    /// Stops all servers and starts them again on their data.
    async fn restart(&mut self) {
        self.stop().await;
        self.http.clear();
        for index in 0..NAMES.len() {
            let listener = TcpListener::bind(self.peers[index]).await.unwrap();
            self.add(index, listener).await;
        }
        self.online().await;
    }

    async fn ask(&self, server: usize, method: &str, path: &str, body: &str) -> Answer {
        ask(self.http[server], method, path, &[], body).await
    }

    async fn sql(&self, server: usize, text: &str) -> Vec<Value> {
        let answer = self.ask(server, "POST", "/command/bench/sql", text).await;
        answer.expect(200).body["result"].as_array().unwrap().clone()
    }

    /// Waits until a query gives the same on every server; gives that.
    async fn agreed(&self, text: &str) -> Vec<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let first = self.sql(0, text).await;
            if first == self.sql(1, text).await && first == self.sql(2, text).await {
                return first;
            }
            assert!(Instant::now() < end, "{text}: the servers differ");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    #[track_caller]
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    fn code(&self) -> &str {
        self.body["errors"][0]["errorCode"].as_str().unwrap_or_default()
    }
}

/// One request on a connection of its own.
async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let login = base64::engine::general_purpose::STANDARD.encode(format!("root:{PASSWORD}"));
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Basic {login}\r\n\
         x-quorate-deadline-ms: 30000\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(body);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, body: serde_json::from_str(body).unwrap_or(Value::Null) }
}

/// FEATURES: L6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_duplicates_exactly_one_wins() {
    let mut cluster = Cluster::start().await;
    cluster.sql(0, "CREATE CLASS Item").await;
    cluster.sql(1, "INSERT INTO Item SET k = 'old'").await;
    cluster.sql(2, "CREATE INDEX Item.k UNIQUE").await;
    for round in 0..15 {
        let body = json!({"@class": "Item", "k": round}).to_string();
        let post = |server| cluster.ask(server, "POST", "/document/bench", &body);
        let (a, b, c) = tokio::join!(post(0), post(1), post(2));
        let answers = [a, b, c];
        let won = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(won, 1, "{answers:?}");
        let lost = answers.iter().filter(|answer| answer.status != 201);
        assert!(lost.into_iter().all(|a| a.code() == "duplicate_key"), "{answers:?}");
    }
    for server in 0..3 {
        let old = r#"{"@class":"Item","k":"old"}"#;
        let again = cluster.ask(server, "POST", "/document/bench", old).await;
        assert_eq!(again.code(), "duplicate_key", "claimed for what was there before");
    }
    let rows = cluster.agreed("SELECT k FROM Item ORDER BY k").await;
    assert_eq!(rows.len(), 16);
    cluster.restart().await;
    assert_eq!(cluster.agreed("SELECT k FROM Item ORDER BY k").await, rows);
    for server in 0..3 {
        let step = &cluster.sql(server, "EXPLAIN SELECT FROM Item WHERE k = 3").await[0];
        assert_eq!(step["executionPlan"]["steps"][0]["type"], "FetchFromIndexStep");
        assert_eq!(cluster.sql(server, "SELECT FROM Item WHERE k = 3").await.len(), 1);
    }
    cluster.stop().await;
}

/// FEATURES: A18
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_made_while_writing_misses_nothing_and_survives_a_restart() {
    let mut cluster = Cluster::start().await;
    cluster.sql(0, "CREATE CLASS Item").await;
    let mut writers = JoinSet::new();
    for (server, address) in cluster.http.iter().copied().enumerate() {
        writers.spawn(async move {
            let mut done = Vec::new();
            for n in 0..60 {
                let k = server * 1000 + n;
                let body = json!({"@class": "Item", "k": k, "g": n % 4}).to_string();
                let answer = ask(address, "POST", "/document/bench", &[], &body).await;
                assert_eq!(answer.status, 201, "{answer:?}");
                done.push(k);
            }
            done
        });
    }
    cluster.sql(1, "CREATE INDEX Item.k UNIQUE").await;
    cluster.sql(2, "CREATE INDEX Item.g NOTUNIQUE").await;
    let mut keys = BTreeSet::new();
    while let Some(done) = writers.join_next().await {
        keys.extend(done.unwrap());
    }
    assert_eq!(keys.len(), 180);
    for (server, k) in keys.iter().enumerate() {
        let body = json!({"@class": "Item", "k": k}).to_string();
        let again = cluster.ask(server % 3, "POST", "/document/bench", &body).await;
        assert_eq!(again.code(), "duplicate_key", "{k}: {again:?}");
    }
    cluster.sql(0, "UPDATE Item SET g = 9 WHERE g = 1 LIMIT 5").await;
    cluster.sql(1, "DELETE FROM Item WHERE g = 2 LIMIT 5").await;
    for _ in 0..2 {
        for group in [0, 1, 2, 3, 9] {
            let by_index = cluster.agreed(&format!("SELECT FROM Item WHERE g = {group}")).await;
            // Not an equality, so no index.
            let scan = format!("SELECT FROM Item WHERE g >= {group} AND g <= {group}");
            assert_eq!(by_index, cluster.agreed(&scan).await, "{group}");
        }
        for server in 0..3 {
            let step = &cluster.sql(server, "EXPLAIN SELECT FROM Item WHERE g = 3").await[0];
            assert_eq!(step["executionPlan"]["steps"][0]["type"], "FetchFromIndexStep");
        }
        cluster.restart().await;
    }
    cluster.stop().await;
}

/// FEATURES: A19
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_stay_symmetric_while_vertices_are_deleted() {
    let mut cluster = Cluster::start().await;
    cluster.sql(0, "CREATE CLASS Person EXTENDS V").await;
    cluster.sql(1, "CREATE CLASS Knows EXTENDS E").await;
    let mut people = Vec::new();
    for n in 0..12 {
        let made = cluster.sql(n % 3, &format!("CREATE VERTEX Person SET n = {n}")).await;
        people.push(made[0]["@rid"].as_str().unwrap().to_owned());
    }
    let mut tasks = JoinSet::new();
    for server in 0..3 {
        let (address, people) = (cluster.http[server], people.clone());
        tasks.spawn(async move {
            let mut made = 0;
            for n in 0..25 {
                let (from, to) = (&people[(n * 5 + server) % 12], &people[(n * 7 + 3) % 12]);
                let text = if n % 10 == 9 {
                    format!("DELETE VERTEX {from}")
                } else if n % 5 == 4 {
                    format!("DELETE EDGE Knows FROM {from}")
                } else {
                    format!("CREATE EDGE Knows FROM {from} TO {to}")
                };
                let answer = ask(address, "POST", "/command/bench/sql", &[], &text).await;
                let fine = matches!(answer.code(), "" | "not_found" | "version_conflict" | "busy");
                assert!(fine, "{text}: {answer:?}");
                made += usize::from(answer.status == 200 && text.starts_with("CREATE"));
            }
            made
        });
    }
    let mut made = 0;
    while let Some(done) = tasks.join_next().await {
        made += done.unwrap();
    }
    assert!(made > 0, "some edge was made");
    let vertices = cluster.agreed("SELECT FROM V").await;
    let edges = cluster.agreed("SELECT FROM E").await;
    assert!(vertices.len() < 12, "some vertex was deleted");
    assert!(!edges.is_empty(), "some edge is left");
    let mut ends = Vec::new();
    for edge in &edges {
        for end in ["out", "in"] {
            ends.push((edge[end].clone(), format!("{end}_Knows"), edge["@rid"].clone()));
        }
    }
    let mut listed = Vec::new();
    for vertex in &vertices {
        for field in ["out_Knows", "in_Knows"] {
            for edge in vertex[field].as_array().into_iter().flatten() {
                listed.push((vertex["@rid"].clone(), field.to_owned(), edge.clone()));
            }
        }
    }
    let sorted = |mut list: Vec<(Value, String, Value)>| {
        list.sort_by_key(|entry| format!("{entry:?}"));
        list
    };
    assert_eq!(sorted(ends), sorted(listed));
    cluster.stop().await;
}

/// FEATURES: A9
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_counts_once_through_all_servers() {
    let mut cluster = Cluster::start().await;
    cluster.sql(0, "CREATE CLASS Item").await;
    let made = cluster.ask(0, "POST", "/retry/bench", "").await.expect(201);
    let session = made.body["session"].as_str().unwrap();
    for round in 0..10 {
        let token = format!("{session}:{round}");
        let headers = [("x-quorate-transaction-token", token.as_str())];
        let body = json!({"transaction": true, "operations": [
            {"type": "c", "record": {"@class": "Item", "v": round}},
            {"type": "c", "record": {"@class": "V", "v": round}},
        ]});
        let body = body.to_string();
        let post =
            |server: usize| ask(cluster.http[server], "POST", "/batch/bench", &headers, &body);
        let (a, b, c) = tokio::join!(post(0), post(1), post(2));
        let answers = [a, b, c];
        let done: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
        assert!(!done.is_empty(), "{answers:?}");
        assert!(done.iter().all(|answer| answer.body == done[0].body), "{answers:?}");
        // Whoever was refused finds it when asking again.
        for server in 0..3 {
            let again = post(server).await.expect(200);
            assert_eq!(again.body, done[0].body);
        }
    }
    for class in ["Item", "V"] {
        let rows = cluster.agreed(&format!("SELECT v FROM {class} ORDER BY v")).await;
        assert_eq!(rows, (0..10).map(|v| json!({"v": v})).collect::<Vec<_>>());
    }
    cluster.stop().await;
}

/// Clients of every server, at work until they are stopped.
struct Writers {
    stop: Arc<AtomicBool>,
    written: watch::Receiver<u64>,
    running: JoinSet<()>,
}

impl Writers {
    /// Path and body of a request are made from the server's and the request's numbers.
    fn start(cluster: &Cluster, make: fn(u64, u64) -> (&'static str, String)) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (count, written) = watch::channel(0);
        let mut running = JoinSet::new();
        for (server, address) in (0..).zip(cluster.http.iter().copied()) {
            let (stop, count) = (Arc::clone(&stop), count.clone());
            running.spawn(async move {
                for step in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let (path, body) = make(server, step);
                    let answer = ask(address, "POST", path, &[], &body).await;
                    count.send_modify(|count| *count += u64::from(answer.status == 200));
                }
            });
        }
        Self { stop, written, running }
    }

    /// Waits until so many requests have succeeded.
    async fn wrote(&mut self, count: u64) {
        let enough = self.written.wait_for(|written| *written >= count);
        tokio::time::timeout(PATIENCE, enough).await.expect("somebody writes").unwrap();
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.running.join_all().await;
    }
}

/// What was under way on a dropped cluster is decided, and keeps no lock in another one.
///
/// FEATURES: A18
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_dropped_under_writers_leaves_no_lock_behind() {
    const RECORDS: u64 = 4;
    let mut cluster = Cluster::start().await;
    for class in ["Item", "Other"] {
        cluster.sql(0, &format!("CREATE CLASS {class}")).await;
        for n in 0..RECORDS {
            cluster.sql(0, &format!("INSERT INTO {class} SET n = {n}, k = {n}")).await;
        }
    }
    let takes_writes = async |cluster: &Cluster, class: &str| {
        for n in 0..RECORDS {
            let server = usize::try_from(n).unwrap() % NAMES.len();
            let update = format!("UPDATE {class} SET k = {n} WHERE n = {n}");
            assert_eq!(cluster.sql(server, &update).await[0]["count"], 1, "{update}");
        }
    };
    for round in 1..=5 {
        cluster.sql(0, "CREATE INDEX Item.k UNIQUE").await;
        let mut writers = Writers::start(&cluster, |server, step| {
            let (n, k) = (step % RECORDS, 1_000_000 * (server + 1) + step);
            ("/command/bench/sql", format!("UPDATE Item SET k = {k} WHERE n = {n}"))
        });
        writers.wrote(10 * round).await;
        cluster.sql(1, "DROP INDEX Item.k").await;
        writers.stop().await;
        takes_writes(&cluster, "Item").await;
    }
    // One transaction over both classes: records of the first server's clusters, 16 and 19.
    let mut writers = Writers::start(&cluster, |_, step| {
        let update = |cluster: u64, class: &str| {
            let n = step % RECORDS;
            let record = json!({"@rid": format!("#{cluster}:{n}"), "@class": class, "n": n});
            json!({"type": "u", "record": record})
        };
        let operations = [update(16, "Item"), update(19, "Other")];
        ("/batch/bench", json!({"transaction": true, "operations": operations}).to_string())
    });
    writers.wrote(30).await;
    cluster.sql(2, "DROP CLASS Item").await;
    writers.stop().await;
    takes_writes(&cluster, "Other").await;
    cluster.stop().await;
}
