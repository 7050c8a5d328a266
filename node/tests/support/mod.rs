//! Starts the real binary, waits for what it says, asks it by HTTP. Processes are killed when
//! dropped.
#![allow(dead_code, reason = "every test program uses its part of this file")]

pub(crate) mod items;
pub(crate) mod people;
pub(crate) mod wire;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_quorate-node");

/// What a server's log says when it serves.
pub(crate) const ONLINE: &str = "updated node status to 'ONLINE'";

/// A running server.
pub(crate) struct Server {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// Reads the log until the process has closed it.
    reader: std::thread::JoinHandle<()>,
    /// Its first line.
    pub(crate) line: serde_json::Value,
    /// The process to signal; a tracer's child is not the tracer.
    pid: Pid,
}

impl Server {
    /// Starts `quorate-node serve`, by way of `wrapper` (program and arguments) when there is one.
    pub(crate) fn start(wrapper: &[&str], arguments: &[&str]) -> Self {
        Self::start_with("secret", wrapper, arguments)
    }

    /// The same with this password of the cluster.
    pub(crate) fn start_with(password: &str, wrapper: &[&str], arguments: &[&str]) -> Self {
        Self::start_program(BINARY, password, wrapper, arguments)
    }

    /// The same with another build of the program.
    pub(crate) fn start_program(
        program: &str,
        password: &str,
        wrapper: &[&str],
        arguments: &[&str],
    ) -> Self {
        let mut words = wrapper.to_vec();
        words.extend([program, "serve"]);
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .args(arguments)
            .env("QUORATE_CLUSTER_PASSWORD", password)
            .env("ORIENTDB_ROOT_PASSWORD", "root")
            .env_remove("ORIENTDB_NODE_NAME")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (errors, lines) = (child.stderr.take().unwrap(), log.clone());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let line = first_line(child.stdout.take().unwrap());
        let pid = if wrapper.is_empty() { child.id() } else { only_child(child.id()) };
        Self { child, log, reader, line, pid: Pid::from_raw(i32::try_from(pid).unwrap()) }
    }

    /// Waits until a line of the log contains a text.
    pub(crate) fn wait_log(&self, text: &str) {
        self.wait_log_times(text, 1);
    }

    /// Waits until that many lines of the log contain a text.
    pub(crate) fn wait_log_times(&self, text: &str, times: usize) {
        until(text, || {
            let log = self.log.lock().unwrap();
            log.iter().filter(|line| line.contains(text)).count() >= times
        });
    }

    /// Waits until it serves for the first time; the log tells of other servers, too.
    pub(crate) fn wait_online(&self) {
        self.wait_log(ONLINE);
    }

    /// Waits until one of three servers is ONLINE and linked with both others.
    pub(crate) fn wait_for_all_three(&self) {
        self.wait_online();
        self.wait_log_times("peer up", 2);
    }

    /// Everything it has said so far, a line each.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Waits until the log of a server that ended is complete.
    pub(crate) fn wait_end_of_log(&self) {
        until("the end of the log", || self.reader.is_finished());
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends a request and returns status line, headers and body.
    pub(crate) fn http(&self, method: &str, path: &str, body: &str) -> String {
        request(self.address(), method, path, body).unwrap()
    }

    /// Makes database `bench` with class `Item`, whoever else does.
    pub(crate) fn make_class(&self) {
        until("a database", || {
            let made = self.http("POST", "/database/bench/plocal", "");
            status(&made) == 200 || made.contains("database_exists")
        });
        until("a class", || {
            let made = self.http("POST", "/class/bench/Item", "");
            status(&made) == 201 || made.contains("class_exists")
        });
    }

    /// Where it answers HTTP.
    pub(crate) fn address(&self) -> &str {
        self.line["http"].as_str().unwrap()
    }

    /// Its process.
    pub(crate) fn id(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(&mut self, signal: Signal) -> ExitStatus {
        kill(self.pid, signal).unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Whoever is gone already needs no signal.
            kill(self.pid, Signal::SIGKILL).ok();
            self.child.wait().ok();
        }
        if std::thread::panicking() {
            for line in self.log.lock().unwrap().iter() {
                eprintln!("{line}");
            }
        }
    }
}

/// Sends a request to a server and returns the whole answer.
pub(crate) fn http(server: &Server, method: &str, path: &str, body: &str) -> String {
    try_http(server, method, path, body).unwrap()
}

/// The same to a server that may end meanwhile.
pub(crate) fn try_http(
    server: &Server,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<String> {
    request(server.address(), method, path, body)
}

/// Sends a request and returns status line, headers and body; fails when the server goes away.
pub(crate) fn request(
    address: &str,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<String> {
    request_with(address, method, path, &[], body)
}

/// The same with headers of the client's.
pub(crate) fn request_with(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<String> {
    // root:root
    let authorization = "Basic cm9vdDpyb290";
    let mut stream = TcpStream::connect(address)?;
    let headers: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\
         Authorization: {authorization}\r\nContent-Type: application/json\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The body of an answer.
pub(crate) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// The status of an answer; 0 when there is none.
pub(crate) fn status(answer: &str) -> u16 {
    answer.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn first_line(out: ChildStdout) -> serde_json::Value {
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or(serde_json::Value::Null)
}

fn only_child(pid: u32) -> u32 {
    let path = format!("/proc/{pid}/task/{pid}/children");
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

/// Waits for a condition.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Tells threads to stop when it goes, also with a test that fails.
pub(crate) struct StopWhenDropped<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Longer than any test: nobody is given up.
pub(crate) const NEVER_SUSPECT: &str = "--suspect-after-ms=60000";

/// Ports that the system gives to nobody by itself. One that it had given and got back would soon
/// be a neighbour's.
const PORTS: std::ops::Range<u16> = 10_000..20_000;

/// A free port of loopback that no other test of this process is told of.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let width = u32::from(PORTS.end - PORTS.start);
    // Processes side by side begin at different places.
    let first = std::process::id().wrapping_mul(97) % width;
    for _ in 0..width {
        let at = (first + NEXT.fetch_add(1, Ordering::Relaxed)) % width;
        let port = PORTS.start + u16::try_from(at).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port from {} to {} is free", PORTS.start, PORTS.end - 1);
}

/// Arguments of three servers that know each other.
pub(crate) fn three_servers(data: &Path) -> [Vec<String>; 3] {
    servers_of(data, ["n1", "n2", "n3"])
}

/// Arguments of servers of these names that know each other.
pub(crate) fn servers_of<const COUNT: usize>(
    data: &Path,
    names: [&str; COUNT],
) -> [Vec<String>; COUNT] {
    let addresses = names.map(|_| format!("127.0.0.1:{}", free_port()));
    std::array::from_fn(|own| {
        let mut arguments = vec![
            format!("--name={}", names[own]),
            format!("--data={}", data.join(names[own]).display()),
            "--http=127.0.0.1:0".to_owned(),
            format!("--peer={}", addresses[own]),
            format!("--masters={}", names.join(",")),
            "--cluster-name=bench".to_owned(),
        ];
        for other in (0..COUNT).filter(|other| *other != own) {
            arguments.push(format!("--dial={}={}", names[other], addresses[other]));
        }
        arguments
    })
}

/// Arguments of a server that joins a cluster by way of one that is in it.
pub(crate) fn joins(data: &Path, name: &str, seed: &str) -> Vec<String> {
    let folder = data.join(format!("joined-{name}"));
    // The same address each time that it is started.
    let port = folder.join("port");
    let address = std::fs::read_to_string(&port).unwrap_or_else(|_| {
        let address = format!("127.0.0.1:{}", free_port());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&port, &address).unwrap();
        address
    });
    vec![
        format!("--name={name}"),
        format!("--data={}", folder.join("data").display()),
        "--http=127.0.0.1:0".to_owned(),
        format!("--peer={address}"),
        format!("--join={seed}"),
        "--role=replica".to_owned(),
        "--cluster-name=bench".to_owned(),
    ]
}

/// The body of an answer.
pub(crate) fn json_of(answer: &str) -> serde_json::Value {
    serde_json::from_str(body(answer)).unwrap_or_else(|_| panic!("{answer}"))
}

/// What a server shows of another one; null while it shows nothing.
pub(crate) fn member(server: &Server, name: &str) -> serde_json::Value {
    let node = json_of(&server.http("GET", "/distributed/node", ""));
    let members = node["members"].as_array().unwrap().clone();
    members.into_iter().find(|member| member["name"] == name).unwrap_or_default()
}
