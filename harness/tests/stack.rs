//! The stack that `quorate render swarm` writes, started on a swarm of this machine alone: three
//! MASTERs and a REPLICA find each other by name, take a write and give it back. Needs an engine
//! and the image (`make image`); without either it says loudly that it was skipped. An engine that
//! is in no swarm is made one of its own for the test, and leaves it again.
#![allow(clippy::unwrap_used, reason = "a failed expectation of a test ends it")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Name of the stack, of its networks and volumes.
const STACK: &str = "quorate-test-stack";
/// Names of its passwords.
const SECRETS: [&str; 2] =
    ["quorate-test-stack_cluster_password", "quorate-test-stack_root_password"];
/// Label of a swarm that was made for the test.
const OURS: &str = "org.quorate.test";
/// MASTERs and REPLICAs.
const SERVERS: u16 = 4;
/// `root:secret`.
const CREDENTIALS: &str = "cm9vdDpzZWNyZXQ=";
/// Longest wait for anything of the engine or the servers, on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(180);
/// Between two looks.
const POLL: Duration = Duration::from_millis(200);

fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().expect("a docker client")
}

/// What it prints; its complaint if it fails.
fn told(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("docker").args(arguments).output();
    let output = output.map_err(|error| format!("no docker client: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A swarm for as long as the test lasts, and what is started in it.
struct Swarm;

impl Swarm {
    /// `Err`: why there is none.
    fn join(image: &str) -> Result<Self, String> {
        told(&["image", "inspect", image])?;
        if told(&["info", "--format", "{{.Swarm.LocalNodeState}}"])? != "active" {
            told(&["swarm", "init", "--advertise-addr", "127.0.0.1"])?;
            // Told by this that it was made for the test, also after one that was killed.
            let node = told(&["info", "--format", "{{.Swarm.NodeID}}"])?;
            told(&["node", "update", "--label-add", OURS, &node])?;
        }
        Self::clear();
        Ok(Self)
    }

    fn secret(name: &str, folder: &Path) {
        let file = folder.join(name);
        std::fs::write(&file, "secret").unwrap();
        told(&["secret", "create", name, &file.to_string_lossy()]).unwrap();
    }

    /// Removes what there is under the names of the test.
    fn clear() {
        docker(&["stack", "rm", STACK]);
        let end = Instant::now() + LIMIT;
        while !Self::is_gone() && Instant::now() < end {
            std::thread::sleep(POLL);
        }
        for secret in SECRETS {
            docker(&["secret", "rm", secret]);
        }
        for server in ["n1", "n2", "n3", "r1"] {
            docker(&["volume", "rm", &format!("{STACK}_{server}-data")]);
        }
    }

    fn is_gone() -> bool {
        let label = format!("label=com.docker.stack.namespace={STACK}");
        let rows = ["container", "network"].map(|what| {
            let all: &[&str] = if what == "container" { &["--all"] } else { &[] };
            docker(&[&[what, "ls", "--quiet", "--filter", &label], all].concat()).stdout
        });
        rows.iter().all(Vec::is_empty)
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        Self::clear();
        if told(&["node", "inspect", "self", "--format", "{{.Spec.Labels}}"])
            .is_ok_and(|labels| labels.contains(OURS))
        {
            docker(&["swarm", "leave", "--force"]);
        }
    }
}

/// Status and body; `None` while nobody answers.
fn request(port: u16, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: node\r\nAuthorization: Basic {CREDENTIALS}\r\n\
         Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let status = reply.split(' ').nth(1).and_then(|code| code.parse().ok())?;
    Some((status, reply))
}

/// Asks until the answer has this status.
fn until(status: u16, port: u16, method: &str, path: &str, body: &str) -> String {
    let end = Instant::now() + LIMIT;
    loop {
        let answer = request(port, method, path, body);
        match answer {
            Some((found, reply)) if found == status => return reply,
            other if Instant::now() > end => {
                let services = docker(&["stack", "ps", "--no-trunc", STACK]);
                let services = String::from_utf8_lossy(&services.stdout).into_owned();
                panic!("{method} {path} at {port}: {other:?}\n{services}");
            }
            _ => std::thread::sleep(POLL),
        }
    }
}

/// Asks until it is there: an answer that was lost is no reason to fail, nor is "exists" then.
fn make(port: u16, path: &str, there: &str) {
    let end = Instant::now() + LIMIT;
    loop {
        let answer = request(port, "POST", path, "");
        if request(port, "GET", there, "").is_some_and(|(status, _)| status == 200) {
            return;
        }
        assert!(Instant::now() < end, "POST {path} at {port}: {answer:?}");
        std::thread::sleep(POLL);
    }
}

/// The first of as many free ports in a row as there are servers.
fn free_ports() -> u16 {
    let free = |port: u16| TcpListener::bind(("0.0.0.0", port)).is_ok();
    let mut candidates = (21_000..30_000).step_by(usize::from(SERVERS));
    candidates.find(|first| (*first..first + SERVERS).all(free)).expect("free ports")
}

/// FEATURES: S13
#[test]
fn a_rendered_stack_becomes_a_cluster() {
    let image = std::env::var("IMAGE").unwrap_or_else(|_| "quorate-node:local".to_owned());
    let _swarm = match Swarm::join(&image) {
        Ok(swarm) => swarm,
        Err(why) => {
            // Not by a macro: those are captured when a test passes, and a skip has to be heard.
            let text = format!("SKIPPED: no stack of {image} can be started: {why}\n");
            return std::io::stderr().write_all(text.as_bytes()).expect("stderr takes it");
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let (spec, stack) = (folder.path().join("w.yaml"), folder.path().join("stack.yaml"));
    let text = format!("name: {STACK}\ntopology: {{ masters: 3, replicas: 1 }}\n");
    std::fs::write(&spec, text).unwrap();
    let first = free_ports();
    let rendered = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["render", "swarm", "--image", &image, "--port", &first.to_string()])
        .arg(&spec)
        .output()
        .unwrap();
    assert!(rendered.status.success(), "{rendered:?}");
    std::fs::write(&stack, &rendered.stdout).unwrap();
    for secret in SECRETS {
        Swarm::secret(secret, folder.path());
    }
    told(&["stack", "deploy", "--detach=true", "-c", &stack.to_string_lossy(), STACK]).unwrap();

    for port in first..first + SERVERS {
        until(200, port, "GET", "/health", "");
    }
    make(first, "/database/smoke/plocal", "/database/smoke");
    make(first + 1, "/class/smoke/Thing", "/class/smoke/Thing");
    let made = until(201, first + 2, "POST", "/document/smoke", r#"{"@class":"Thing","n":7}"#);
    let rid = made.split("\"@rid\":\"#").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let read = until(200, first + SERVERS - 1, "GET", &format!("/document/smoke/{rid}"), "");
    assert!(read.contains("\"n\":7"), "{read}");

    // A server that dies is started again on its data, at another address behind the same name.
    let name = format!("name={STACK}_n1");
    let victim = told(&["ps", "--quiet", "--filter", &name]).unwrap();
    told(&["kill", &victim]).unwrap();
    let made = until(201, first + 1, "POST", "/document/smoke", r#"{"@class":"Thing","n":8}"#);
    let rid = made.split("\"@rid\":\"#").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    until(200, first, "GET", &format!("/document/smoke/{rid}"), "");
}
