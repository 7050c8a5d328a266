//! The simulator's process when it does not do its part: what the harness says of it, and that it
//! ends with the harness.
#![allow(clippy::unwrap_used, reason = "a failed expectation of a test ends it")]

#[path = "stage_support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use quorate::guard::Guard;
use quorate::sim::{SimError, Simulator, Start};
use support::is_alive;

fn fake_sim() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stage_support/fake-sim.sh")
}

/// What is said of a simulator that does this when the run ends.
fn said_of(does: &str, patience: Duration) -> SimError {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("plan"), does).unwrap();
    let guard = Path::new(env!("CARGO_BIN_EXE_quorate-guard"));
    let guard = Guard::start(guard, &at("guard.log")).unwrap();
    let (program, plan, log) = (&*fake_sim(), &*at("plan"), &*at("sim.log"));
    let simulator = Simulator::start(Start { program, plan, log, guard, patience }).unwrap();
    simulator.end().unwrap_err()
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn an_early_end_is_told_with_its_status_and_its_last_words() {
    let said = said_of("echo a machine stopped >&2; exit 3", LONG).to_string();
    assert!(said.contains("exit status: 3"), "{said}");
    assert!(said.contains("a machine stopped"), "{said}");
    let said = said_of("kill -9 $$", LONG).to_string();
    assert!(said.contains("signal: 9") && said.contains("(none)"), "{said}");
}

#[test]
fn silence_has_a_limit() {
    let does = "echo it hangs >&2; exec sleep 600";
    let said = said_of(does, Duration::from_millis(300));
    assert!(matches!(said, SimError::Silent(..)), "{said}");
}

#[test]
fn what_is_not_understood_is_quoted() {
    let said = said_of("read order; echo so what; exec sleep 600", LONG).to_string();
    assert!(said.contains("not understood") && said.contains("so what"), "{said}");
}

/// One that heeds no pipe: the guard ends it.
///
/// FEATURES: H11
#[tokio::test]
async fn a_killed_harness_leaves_no_simulator() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let mut harness = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
        .env("QUORATE_SIM_BIN", fake_sim())
        // Whoever has got an order is guarded.
        .env("FAKE_SIM", format!("read order; echo $$ > {}; exec sleep 600", pid_file.display()))
        .args(["run", "workloads/baseline.yaml", "--stage", "sim", "--out"])
        .arg(folder.path().join("out"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = || {
        let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
        text.trim().parse::<i32>().ok()
    };
    support::within(LONG, "the simulator has started", || async { pid().is_some() }).await;
    let pid = pid().unwrap();
    assert!(is_alive(pid));
    harness.kill().unwrap();
    harness.wait().unwrap();
    support::within(LONG, "the simulator is gone", || async { !is_alive(pid) }).await;
}
