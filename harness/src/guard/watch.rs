//! The guard process: remembers what to kill, and does so when the pipe from the harness closes.
//! Single-threaded and free of locks, as it must work when everything else does not.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, setsid};
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use super::Request;
use crate::engine::{Engine, Left, remove_run};
use crate::stage::procfs::ProcStat;

/// Longest wait for killed processes to disappear before their data is removed.
const SWEEP_MAX: Duration = Duration::from_secs(5);

/// Longest work at the container engine.
const ENGINE_MAX: Duration = Duration::from_secs(60);
/// So many times in a row a run must have nothing at the engine.
const EMPTY_LOOKS: u32 = 2;
/// Time from one look at the engine to the next. What the engine has taken on and not made yet
/// cannot be awaited: nobody but the dead harness knows of it.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Runs the guard on its standard streams until the harness closes the pipe.
///
/// # Errors
/// When the session cannot be left, or the standard streams fail before anything is registered.
pub fn run() -> io::Result<()> {
    // An interrupt typed at the harness's terminal must not reach this process.
    setsid().map_err(io::Error::from)?;
    let mut state = Watched::default();
    // A failing pipe means the same as a closed one: the harness is gone.
    if let Err(error) = serve(&mut state) {
        eprintln!("guard: pipe failed: {error}");
    }
    state.sweep();
    Ok(())
}

fn serve(state: &mut Watched) -> io::Result<()> {
    let mut answers = io::stdout().lock();
    writeln!(answers, "ready")?;
    answers.flush()?;
    for line in io::stdin().lock().lines() {
        match state.apply(&line?) {
            Ok(()) => writeln!(answers, "ok")?,
            Err(reason) => writeln!(answers, "{reason}")?,
        }
        answers.flush()?;
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Watched {
    processes: BTreeMap<i32, Process>,
    temporary: BTreeSet<PathBuf>,
    /// Runs with something at the container engine.
    runs: BTreeSet<String>,
}

/// A process to kill. The handle names it beyond reuse of its pid; where the kernel has no such
/// handles, its start time is compared before every signal.
#[derive(Debug)]
struct Process {
    started: u64,
    handle: Option<OwnedFd>,
}

impl Watched {
    fn apply(&mut self, line: &str) -> Result<(), String> {
        match serde_json::from_str(line).map_err(|error| error.to_string())? {
            Request::Add { pid, started } => self.add(pid, started),
            Request::Drop { pid } => {
                self.processes.remove(&pid);
                Ok(())
            }
            Request::Temp { path } if path.is_absolute() && path.parent().is_some() => {
                self.temporary.insert(path);
                Ok(())
            }
            Request::Temp { path } => Err(format!("will not remove {}", path.display())),
            Request::Run { run } => {
                self.runs.insert(run);
                Ok(())
            }
            Request::Keep { path } => {
                self.temporary.remove(&path);
                Ok(())
            }
        }
    }

    fn add(&mut self, pid: i32, started: u64) -> Result<(), String> {
        let raw = rustix::process::Pid::from_raw(pid).ok_or("a pid is positive")?;
        let handle = pidfd_open(raw, PidfdFlags::empty()).ok();
        // Checked after the handle was taken, so that the handle belongs to this start time.
        if !is_same(pid, started) {
            return Err(format!("process {pid} started at {started} is not there"));
        }
        self.processes.insert(pid, Process { started, handle });
        Ok(())
    }

    fn sweep(self) {
        for (pid, process) in &self.processes {
            process.kill(*pid);
        }
        let deadline = Instant::now() + SWEEP_MAX;
        while self.processes.iter().any(|(pid, process)| is_same(*pid, process.started)) {
            if Instant::now() > deadline {
                eprintln!("guard: some processes did not die within {SWEEP_MAX:?}");
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for run in &self.runs {
            if let Err(reason) = remove_at_engine(run) {
                eprintln!("guard: cannot remove containers of run {run}: {reason}");
            }
        }
        for path in &self.temporary {
            match std::fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    eprintln!("guard: cannot remove {}: {error}", path.display());
                }
                _ => {}
            }
        }
    }
}

/// Removes what a run has at the container engine; the runtime lives for this alone.
fn remove_at_engine(run: &str) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let removal = async {
        let engine = Engine::connect().await.map_err(|error| error.to_string())?;
        // What the harness asked for in its last moment may appear after the first look.
        let mut empty = 0;
        while empty < EMPTY_LOOKS {
            match remove_run(&engine, run).await {
                Ok(left) => {
                    empty = if left.is_empty() { empty + 1 } else { 0 };
                    for Left { what, name, .. } in left {
                        eprintln!("guard: removed {what} {name}, left behind by the harness");
                    }
                }
                Err(error) => {
                    empty = 0;
                    eprintln!("guard: {error}");
                }
            }
            if empty < EMPTY_LOOKS {
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        }
        Ok(())
    };
    let limited = async { tokio::time::timeout(ENGINE_MAX, removal).await };
    match runtime.map_err(|error| error.to_string())?.block_on(limited) {
        Ok(removed) => removed,
        Err(_) => Err(format!("not done within {ENGINE_MAX:?}; `quorate clean` tries again")),
    }
}

impl Process {
    fn kill(&self, pid: i32) {
        if !is_same(pid, self.started) {
            return;
        }
        eprintln!("guard: killing {pid}, left behind by the harness");
        let target = Pid::from_raw(pid);
        // The group first, while its leader still holds the number. A stopped process dies of
        // SIGKILL as it is; woken before, it would run on for a moment. SIGCONT is for those
        // that some kernel keeps stopped none the less.
        for signal in [Signal::SIGKILL, Signal::SIGCONT] {
            report(pid, killpg(target, signal).map_err(io::Error::from));
        }
        match &self.handle {
            Some(handle) => {
                let sent = pidfd_send_signal(handle, rustix::process::Signal::KILL);
                report(pid, sent.map_err(io::Error::from));
            }
            None => report(pid, kill(target, Signal::SIGKILL).map_err(io::Error::from)),
        }
    }
}

/// True while the process of that start time lives (a zombie does not).
fn is_same(pid: i32, started: u64) -> bool {
    ProcStat::read(pid).is_ok_and(|stat| stat.started == started && !stat.is_dead())
}

fn report(pid: i32, sent: io::Result<()>) {
    match sent {
        // It ended in between, or leads no group.
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
        Err(error) => eprintln!("guard: cannot signal {pid}: {error}"),
        Ok(()) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_pid_is_refused() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let started = ProcStat::read(pid).unwrap().started;
        let mut watched = Watched::default();
        assert!(watched.add(pid, started + 1).is_err());
        assert!(watched.processes.is_empty());
        assert!(watched.add(pid, started).is_ok());
    }

    #[test]
    fn the_root_directory_is_refused() {
        let mut watched = Watched::default();
        assert!(watched.apply(r#"{"temp":{"path":"/"}}"#).is_err());
        assert!(watched.apply(r#"{"temp":{"path":"relative"}}"#).is_err());
        assert!(watched.apply("nonsense").is_err());
    }
}
