//! The binary: what it prints, reads, writes, and how it stops.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Kills the child however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn it_says_where_its_api_is_and_stops_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let (config, port_file) = (folder.path().join("links.json"), folder.path().join("port"));
    let links = r#"[{"name":"a","listen":"127.0.0.1:0","upstream":"127.0.0.1:9","enabled":true}]"#;
    std::fs::write(&config, links).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-proxy"));
    command.args(["--listen", "127.0.0.1:0", "--seed", "5", "--config"]).arg(&config);
    command.arg("--port-file").arg(&port_file).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = Running(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let first: Value = serde_json::from_str(&line).unwrap();
    let api = first["api"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(&port_file).unwrap().trim(), api);

    let mut socket = TcpStream::connect(api).unwrap();
    let request = "GET /proxies HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    std::io::Write::write_all(&mut socket, request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(r#""upstream":"127.0.0.1:9""#), "{answer}");

    let pid = i32::try_from(running.0.id()).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    assert!(running.0.wait().unwrap().success());
}

#[test]
fn version_and_bad_options() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-proxy"));
        command.args(arguments).output().unwrap()
    };
    let version = run(&["--version"]);
    assert!(String::from_utf8(version.stdout).unwrap().starts_with("quorate-proxy 0."));
    let missing = run(&["--listen", "127.0.0.1:0", "--config", "/nonexistent/links.json"]);
    assert!(!missing.status.success());
    assert!(String::from_utf8(missing.stderr).unwrap().contains("links.json"));
}
