//! One child process: started through the guard's wrapper, first line of output read, output
//! logged, signalled, awaited, and killed on drop. Knows nothing about nodes or proxies.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, PipeReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::{oneshot, watch};

use super::StageError;
use super::containers::Containers;
use super::nursery::Nursery;
use super::procfs::ProcStat;
use crate::guard::{Guard, Request};
use crate::owner::Owner;

/// Lines of a log that an error quotes.
const QUOTED_LINES: usize = 12;
/// Longest wait in `drop` for a killed child to end.
const DROP_MAX: Duration = Duration::from_secs(2);

/// What everything that a stage starts is started with.
#[derive(Debug)]
pub(crate) struct Nest {
    pub(crate) nursery: Nursery,
    pub(crate) guard: Arc<Guard>,
    pub(crate) guard_program: PathBuf,
    /// What the run has at a container engine, on a stage of containers.
    pub(crate) containers: Option<Arc<Containers>>,
}

impl Nest {
    /// Ends every child at once, and the guard with them. Needs no runtime.
    pub(crate) fn close(&self) {
        self.nursery.close();
        self.guard.finish();
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        self.close();
    }
}

/// What to start.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) name: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) log: PathBuf,
}

/// A started child. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct ChildProcess {
    name: String,
    pid: i32,
    started: u64,
    log: PathBuf,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl ChildProcess {
    /// Starts the child, and hands back the first line of its standard output when it comes.
    pub(crate) async fn start(
        nest: &Nest,
        program: &Path,
        recipe: Recipe,
    ) -> Result<(Self, oneshot::Receiver<String>), StageError> {
        let failed = |source| StageError::Start { process: recipe.name.clone(), source };
        let mut log = open_log(&recipe.log).map_err(failed)?;
        // Restarts append; the mark tells them apart.
        writeln!(log, "--- start of {} ---", recipe.name).map_err(failed)?;
        let (lines, output) = io::pipe().map_err(failed)?;
        let owner = Owner::current().map_err(failed)?;
        let mut command = Command::new(&nest.guard_program);
        command
            .arg("exec")
            .arg(std::process::id().to_string())
            .arg(program)
            .args(&recipe.arguments)
            .envs(recipe.environment.iter().cloned())
            .env(Owner::VARIABLE, owner.to_string())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(log.try_clone().map_err(failed)?)
            .process_group(0);
        let mut child = nest.nursery.spawn(command).await.map_err(failed)?;
        let gone = || failed(io::Error::other("it ended at once"));
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).ok_or_else(gone)?;
        let started = ProcStat::read(pid).map_err(failed)?.started;
        if let Err(error) = nest.guard.ask(Request::Add { pid, started })
            // One that has ended already is refused, and needs no guard.
            && !ProcStat::read(pid).is_ok_and(|stat| stat.is_dead())
        {
            return Err(error.into());
        }
        let first_line = follow(lines, log).map_err(failed)?;
        let (report, exit) = watch::channel(None);
        let guard = Arc::clone(&nest.guard);
        let name = recipe.name.clone();
        tokio::spawn(async move {
            let ended = child.wait().await;
            // Before the exit is told, so that who waits for it may close the guard.
            if let Err(error) = guard.ask(Request::Drop { pid }) {
                tracing::debug!(%name, %error, "the guard was not told of an exit");
            }
            match ended {
                Ok(status) => drop(report.send(Some(status))),
                Err(error) => tracing::warn!(%name, %error, "cannot await a child"),
            }
        });
        Ok((Self { name: recipe.name, pid, started, log: recipe.log, exit }, first_line))
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// What `/proc` says, if the process is still there (a zombie counts as gone).
    pub(crate) fn stat(&self) -> Option<ProcStat> {
        let stat = ProcStat::read(self.pid).ok()?;
        (stat.started == self.started && !stat.is_dead()).then_some(stat)
    }

    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.borrow()
    }

    /// Sends a signal to the process and the group it leads. A process that has ended is no
    /// error: whoever needs to know looks at [`Self::exit_status`].
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), StageError> {
        // The start time guards against a pid that was reaped and given to somebody else.
        if self.stat().is_none() {
            return Ok(());
        }
        match killpg(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(errno) => Err(StageError::Signal {
                process: self.name.clone(),
                signal: signal.as_str(),
                source: errno.into(),
            }),
        }
    }

    /// Waits until the process has been reaped; `None` when the time is over.
    pub(crate) async fn exited(&self, limit: Duration) -> Option<ExitStatus> {
        exit_within(&self.exit, limit).await
    }

    /// The end of its log, for error messages.
    pub(crate) fn last_words(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        if self.exit_status().is_some() {
            return;
        }
        if let Err(error) = self.signal(Signal::SIGKILL) {
            tracing::warn!(name = self.name, %error, "cannot kill a child");
        }
        // No runtime may be left to await it, and nothing of the run may be left behind.
        let deadline = Instant::now() + DROP_MAX;
        while self.stat().is_some() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Waits for an exit that is told; `None` when the time is over.
pub(super) async fn exit_within(
    exit: &watch::Receiver<Option<ExitStatus>>,
    limit: Duration,
) -> Option<ExitStatus> {
    let mut exit = exit.clone();
    let waited = tokio::time::timeout(limit, exit.wait_for(Option::is_some)).await;
    waited.ok()?.ok().and_then(|status| *status)
}

pub(super) fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Reads standard output on a thread: the first line goes to the caller, every line to the log.
/// A thread, as the pipe must be drained for as long as the child lives, runtime or not.
fn follow(output: PipeReader, mut log: File) -> io::Result<oneshot::Receiver<String>> {
    let mut lines = BufReader::new(output);
    let (send, first) = oneshot::channel();
    std::thread::Builder::new().name("output".into()).spawn(move || {
        let mut send = Some(send);
        let mut line = Vec::new();
        while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            if let Some(send) = send.take() {
                drop(send.send(String::from_utf8_lossy(&line).trim_end().to_string()));
            }
            if let Err(error) = log.write_all(&line) {
                tracing::warn!(%error, "cannot write a log");
            }
            line.clear();
        }
    })?;
    Ok(first)
}

/// The last lines of a log.
pub(super) fn tail(path: &Path) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let mut lines: Vec<&str> = text.lines().rev().take(QUOTED_LINES).collect();
            lines.reverse();
            lines.join("\n")
        }
        Err(error) => format!("(no log: {error})"),
    }
}
