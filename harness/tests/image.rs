//! The node's container image: one server in it takes a write and gives it back. Needs an engine
//! and the image (`make image`); without either it says loudly that it was skipped.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use testcontainers::core::{IntoContainerPort as _, WaitFor};
use testcontainers::runners::SyncRunner as _;
use testcontainers::{GenericImage, ImageExt as _};

/// `root:secret`.
const CREDENTIALS: &str = "cm9vdDpzZWNyZXQ=";

/// Longest wait for a server that says where it listens.
const SERVES_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Why there is nothing to test, if so.
fn missing(image: &str) -> Option<String> {
    let inspect = Command::new("docker").args(["image", "inspect", image]).output();
    match inspect {
        Err(error) => Some(format!("no docker client: {error}")),
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// One request on a connection of its own. Status and body.
fn request(port: u16, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the port is mapped");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: node\r\nAuthorization: Basic {CREDENTIALS}\r\n\
         Connection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(body.as_bytes()).expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("a reply");
    let status = reply.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, reply)
}

#[test]
fn a_server_in_the_image_takes_a_write_and_gives_it_back() {
    let name = std::env::var("IMAGE").unwrap_or_else(|_| "quorate-node:local".to_owned());
    if let Some(why) = missing(&name) {
        // Not by a macro: those are captured when a test passes, and a skip has to be heard.
        let text = format!("SKIPPED: image {name} cannot be tested: {why}\n");
        return std::io::stderr().write_all(text.as_bytes()).expect("stderr takes it");
    }
    let (repository, tag) = name.split_once(':').expect("repository:tag");
    let container = GenericImage::new(repository, tag)
        .with_exposed_port(2480.tcp())
        .with_wait_for(WaitFor::message_on_stdout("\"http\""))
        .with_env_var("ORIENTDB_ROOT_PASSWORD", "secret")
        .start()
        .expect("the container starts");
    let port = container.get_host_port_ipv4(2480.tcp()).expect("a mapped port");
    // It says where it listens before it serves, and of the latter it tells only who asks.
    let end = Instant::now() + SERVES_WITHIN;
    while request(port, "GET", "/health", "").0 != 200 {
        assert!(Instant::now() < end, "it does not serve");
        std::thread::sleep(POLL);
    }
    let (status, reply) = request(port, "POST", "/database/smoke/plocal", "");
    assert_eq!(status, 200, "{reply}");
    let (status, reply) = request(port, "POST", "/class/smoke/Thing", "");
    assert_eq!(status, 201, "{reply}");
    let body = r#"{"@class":"Thing","colour":"blue"}"#;
    let (status, reply) = request(port, "POST", "/document/smoke", body);
    assert_eq!(status, 201, "{reply}");
    let rid = reply.split("\"@rid\":\"#").nth(1).and_then(|rest| rest.split('"').next());
    let rid = rid.expect("a record id");
    let (status, reply) = request(port, "GET", &format!("/document/smoke/{rid}"), "");
    assert_eq!(status, 200, "{reply}");
    assert!(reply.contains("\"colour\":\"blue\""), "{reply}");
}
