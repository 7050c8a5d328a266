//! Nothing outlives the harness: killed with SIGKILL while a server is stopped, and the guard by
//! itself over processes that the kernel would not kill with their parent.
#![allow(clippy::unwrap_used, reason = "a failed expectation of a test ends it")]

#[path = "stage_support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quorate::guard::{Guard, Request};
use quorate::stage::procfs::ProcStat;
use support::{eventually, is_alive};

fn send(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn guard_program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_quorate-guard"))
}

#[tokio::test]
async fn a_killed_harness_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut harness =
        support::stage_harness().arg(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(harness.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pids: Vec<i32> = line.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 5, "three servers, proxy, guard");
    assert!(folder.path().join("data").exists());

    send(pids[1], Signal::SIGSTOP);
    let stopped = || async { ProcStat::read(pids[1]).unwrap().is_stopped() };
    eventually("the server is stopped", stopped).await;
    harness.kill().unwrap();
    harness.wait().unwrap();

    let gone = || async { !pids.iter().any(|pid| is_alive(*pid)) };
    eventually("every process is gone", gone).await;
    assert!(!folder.path().join("data").exists());
}

#[tokio::test]
async fn the_guard_kills_what_is_registered_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let guard = Guard::start(&guard_program(), &folder.path().join("guard.log")).unwrap();
    let mut sleepers: Vec<_> =
        (0..3).map(|_| Command::new("sleep").arg("600").spawn().unwrap()).collect();
    let pids: Vec<i32> = sleepers.iter().map(|child| i32::try_from(child.id()).unwrap()).collect();
    for &pid in &pids {
        let started = ProcStat::read(pid).unwrap().started;
        guard.ask(Request::Add { pid, started }).unwrap();
    }
    guard.ask(Request::Drop { pid: pids[2] }).unwrap();
    guard.ask(Request::Temp { path: data.clone() }).unwrap();
    let wrong = Request::Add { pid: pids[2], started: 1 };
    assert!(guard.ask(wrong).unwrap_err().to_string().contains("is not there"));

    send(pids[0], Signal::SIGSTOP);
    // The pipe closes, as it does when the harness dies.
    drop(guard);
    assert!(!is_alive(pids[0]) && !is_alive(pids[1]));
    assert!(is_alive(pids[2]), "it was taken off the list");
    assert!(!data.exists());
    for sleeper in &mut sleepers {
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }
}

#[tokio::test]
async fn the_guard_ignores_signals_to_the_harness_and_its_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let guard = Guard::start(&guard_program(), &folder.path().join("guard.log")).unwrap();
    let pid = Pid::from_raw(i32::try_from(guard.pid()).unwrap());
    assert_eq!(nix::unistd::getsid(Some(pid)).unwrap(), pid, "a session of its own");
}
