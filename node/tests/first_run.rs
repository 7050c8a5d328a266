//! The first start of a server that is given no name: at a terminal, and without one.
#![allow(clippy::unwrap_used, reason = "a test may fail anywhere, its helpers too")]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::BINARY;

/// A server without a name among MASTERs.
fn command(dir: &tempfile::TempDir, masters: &str) -> Command {
    let mut command = Command::new(BINARY);
    command
        .arg("serve")
        .arg(format!("--data={}", dir.path().display()))
        .args(["--http=127.0.0.1:0", "--peer=127.0.0.1:0"])
        .arg(format!("--masters={masters}"))
        .env_remove("ORIENTDB_NODE_NAME")
        .env("QUORATE_CLUSTER_PASSWORD", "secret")
        .env("ORIENTDB_ROOT_PASSWORD", "root")
        .stderr(Stdio::piped());
    command
}

/// A server whose input and output are a terminal, and somebody in front of it.
struct Session {
    child: Child,
    terminal: File,
    shown: String,
}

impl Session {
    fn start(dir: &tempfile::TempDir) -> Self {
        let pty = openpty(None, None).unwrap();
        let slave: OwnedFd = pty.slave;
        let child =
            command(dir, "n1").stdin(slave.try_clone().unwrap()).stdout(slave).spawn().unwrap();
        Self { child, terminal: File::from(pty.master), shown: String::new() }
    }

    /// Reads until a text is shown; what came before is in `shown`.
    fn wait(&mut self, text: &str) {
        let mut buffer = [0; 1024];
        while !self.shown.contains(text) {
            // A server that has ended closes the terminal, which is an error.
            let count = self.terminal.read(&mut buffer).unwrap_or(0);
            assert!(count > 0, "no {text} in {}", self.shown);
            self.shown.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    /// Ends the server by a signal, if one is given; its exit code and its log.
    fn end(mut self, signal: Option<Signal>) -> (Option<i32>, String) {
        if let Some(signal) = signal {
            kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
        }
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

const PROMPT: &str = "Node name [BLANK=auto generate it]: ";

/// FEATURES: S4
#[test]
fn whoever_sits_at_the_terminal_is_asked_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Session::start(&dir);
    first.wait(PROMPT);
    assert!(first.shown.contains("WARNING: FIRST DISTRIBUTED RUN CONFIGURATION"));
    first.terminal.write_all(b"n1\n").unwrap();
    first.wait("\"boot\":1");
    let (code, log) = first.end(Some(Signal::SIGTERM));
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("name=\"n1\""), "{log}");
    let mut second = Session::start(&dir);
    second.wait("\"boot\":2");
    assert!(!second.shown.contains("Node name"), "{}", second.shown);
    assert_eq!(second.end(Some(Signal::SIGTERM)).0, Some(0));
}

/// FEATURES: S4
#[test]
fn a_generated_name_is_refused_while_the_masters_are_a_fixed_list_and_not_saved() {
    let dir = tempfile::tempdir().unwrap();
    let mut session = Session::start(&dir);
    session.wait(PROMPT);
    session.terminal.write_all(b"\n").unwrap();
    let (code, log) = session.end(None);
    assert_eq!(code, Some(3), "{log}");
    assert!(log.contains("generated one name=\"node"), "{log}");
    assert!(log.contains("is not in the list of MASTERs (n1); give --name"), "{log}");
    let output = command(&dir, "n1").stdin(Stdio::null()).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(3), 0), "{log}");
    assert!(log.contains("generated one name=\"node"), "{log}");
    assert!(!dir.path().join("identity").exists());
}

/// FEATURES: S4
#[test]
fn the_environment_gives_a_name_and_the_folder_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let start = |name: &str| {
        let child = command(&dir, "n1,n2")
            .env("ORIENTDB_NODE_NAME", name)
            .arg(format!("--dial={}=127.0.0.1:9", if name == "n1" { "n2" } else { "n1" }))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        child.unwrap()
    };
    let mut first = start("n1");
    let mut byte = [0];
    first.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    kill(Pid::from_raw(i32::try_from(first.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert!(first.wait().unwrap().success());
    let output = start("n2").wait_with_output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{log}");
    assert!(log.contains("belongs to server 'n1', not to 'n2'"), "{log}");
}
