//! The simulator's process: started with the saved plan, asked line by line, killed with its last
//! handle, and by the guard if the harness dies. It is never waited for without a limit. Its
//! standard error goes to a log file of the run folder, whose end is told when it fails.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use quorate_check::history::Nanos;
use serde::de::DeserializeOwned;

use super::wire::{Ask, End, Order, Told};
use crate::guard::{Guard, GuardError, Request};
use crate::stage::procfs::ProcStat;

/// Orders are handed over together up to so many bytes, and whenever something is to be heard.
const TOGETHER: usize = 32 * 1024;
/// Longest wait for the end of a simulator that has closed its pipe.
const END_MAX: Duration = Duration::from_secs(5);
/// Lines of its log that are told when it fails.
const QUOTED_LINES: usize = 20;

/// Why the simulator cannot be talked to.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// It could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The executable.
        program: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The guard does not watch over it.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// A pipe broke: it has ended.
    #[error("the simulator ended early ({how}); its last words: {said}")]
    Ended {
        /// Its exit status, or what became of the pipe.
        how: String,
        /// The end of its log.
        said: String,
    },
    /// It takes no orders, or gives no answer.
    #[error("the simulator was silent for {0:?}, and was ended; its last words: {1}")]
    Silent(Duration, String),
    /// It said something else than was asked for.
    #[error("the simulator is not understood ({source}): {line:?}")]
    NotUnderstood {
        /// What it said.
        line: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// An order could not be put into words.
    #[error("an order to the simulator: {0}")]
    Order(serde_json::Error),
}

/// What a simulator is started with.
#[derive(Debug)]
pub struct Start<'a> {
    /// The executable.
    pub program: &'a Path,
    /// The saved plan.
    pub plan: &'a Path,
    /// Where its log goes.
    pub log: &'a Path,
    /// Who ends it if the harness dies.
    pub guard: Guard,
    /// Longest wait for it to take orders or to give an answer.
    pub patience: Duration,
}

/// A handle of the running simulator; copies share it.
#[derive(Debug, Clone)]
pub struct Simulator(Arc<Mutex<Talk>>);

#[derive(Debug)]
struct Talk {
    child: Child,
    guard: Guard,
    orders: ChildStdin,
    unsent: Vec<u8>,
    told: ChildStdout,
    unread: Vec<u8>,
    log: PathBuf,
    patience: Duration,
}

impl Simulator {
    /// Starts the simulator on a plan.
    ///
    /// # Errors
    /// When it cannot be started, or not be guarded.
    pub fn start(start: Start<'_>) -> Result<Self, SimError> {
        let Start { program, plan, log, guard, patience } = start;
        let failed = |source| SimError::Start { program: program.display().to_string(), source };
        let mut child = Command::new(program)
            .arg("--stage")
            .arg(plan)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log).map_err(failed)?)
            // Ctrl-C is for the harness, which ends the run and then this.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let (Some(orders), Some(told)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(io::Error::other("it has no pipes")));
        };
        let (unsent, unread, log) = (Vec::new(), Vec::new(), log.to_owned());
        // From here on it ends with the handle.
        let talk = Talk { child, guard, orders, unsent, told, unread, log, patience };
        for pipe in [talk.orders.as_fd(), talk.told.as_fd()] {
            never_block(pipe).map_err(failed)?;
        }
        talk.register()?;
        Ok(Self(Arc::new(Mutex::new(talk))))
    }

    /// A client sends an operation.
    pub(crate) fn ask(&self, ask: &Ask) -> Result<(), SimError> {
        self.with(|talk| talk.say(&Order::Ask(ask)))
    }

    /// Lets time go on until then, or until a client was answered, or for a while.
    pub(crate) fn advance(&self, until: Nanos) -> Result<Told, SimError> {
        self.with(|talk| {
            talk.say(&Order::Advance { until })?;
            talk.hear()
        })
    }

    /// Ends the run.
    ///
    /// # Errors
    /// When the simulator has ended before.
    pub fn end(&self) -> Result<End, SimError> {
        self.with(|talk| {
            talk.say(&Order::End)?;
            talk.hear()
        })
    }

    fn with<T>(&self, talk: impl FnOnce(&mut Talk) -> Result<T, SimError>) -> Result<T, SimError> {
        talk(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn never_block(pipe: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(pipe, FcntlArg::F_GETFL)?);
    fcntl(pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

impl Talk {
    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    fn register(&self) -> Result<(), SimError> {
        let pid = self.pid();
        // One that has ended already needs no guard: the first word shows that.
        let Ok(stat) = ProcStat::read(pid) else { return Ok(()) };
        match self.guard.ask(Request::Add { pid, started: stat.started }) {
            Err(error) if ProcStat::read(pid).is_ok_and(|stat| !stat.is_dead()) => {
                Err(error.into())
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn say(&mut self, order: &Order<'_>) -> Result<(), SimError> {
        serde_json::to_writer(&mut self.unsent, order).map_err(SimError::Order)?;
        self.unsent.push(b'\n');
        if self.unsent.len() < TOGETHER { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> Result<(), SimError> {
        let unsent = std::mem::take(&mut self.unsent);
        let mut left = &unsent[..];
        while !left.is_empty() {
            match self.orders.write(left) {
                Ok(sent) => left = &left[sent..],
                Err(error) => self.wait_if_it_blocks(error, PollFlags::POLLOUT)?,
            }
        }
        Ok(())
    }

    fn hear<T: DeserializeOwned>(&mut self) -> Result<T, SimError> {
        self.send()?;
        let mut chunk = [0; 8 * 1024];
        let mut looked_at = 0;
        loop {
            let end = self.unread[looked_at..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| looked_at + end) {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|source| {
                    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                    SimError::NotUnderstood { line, source }
                });
            }
            looked_at = self.unread.len();
            match self.told.read(&mut chunk) {
                Ok(0) => return Err(self.ended("it closed its pipe")),
                Ok(read) => self.unread.extend_from_slice(&chunk[..read]),
                Err(error) => self.wait_if_it_blocks(error, PollFlags::POLLIN)?,
            }
        }
    }

    /// Waits until a pipe can be used, if it only cannot now.
    fn wait_if_it_blocks(&mut self, error: io::Error, way: PollFlags) -> Result<(), SimError> {
        if error.kind() == io::ErrorKind::Interrupted {
            return Ok(());
        }
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(self.ended(&error.to_string()));
        }
        let pipe = if way == PollFlags::POLLIN { self.told.as_fd() } else { self.orders.as_fd() };
        let limit = PollTimeout::try_from(self.patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe, way)], limit) {
            Ok(0) => {
                if let Err(error) = self.child.kill() {
                    tracing::warn!(%error, "cannot end the simulator");
                }
                Err(SimError::Silent(self.patience, self.last_words()))
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(self.ended(&errno.to_string())),
        }
    }

    /// What became of it, as far as that shows within a moment.
    fn ended(&mut self, pipe: &str) -> SimError {
        let deadline = Instant::now() + END_MAX;
        let how = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status.to_string(),
                Ok(None) if Instant::now() < deadline => {
                    // Its end cannot be awaited with a limit; this comes after a failure alone.
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(None) => break format!("{pipe}, and runs on"),
                Err(error) => break error.to_string(),
            }
        };
        SimError::Ended { how, said: self.last_words() }
    }

    fn last_words(&self) -> String {
        let said = match std::fs::read(&self.log) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => return format!("(no log: {error})"),
        };
        let lines: Vec<&str> = said.trim().lines().collect();
        let last = &lines[lines.len().saturating_sub(QUOTED_LINES)..];
        if last.is_empty() { "(none)".to_owned() } else { last.join("\n") }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let pid = self.pid();
        // It may have ended by itself; then neither has anything to do.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::warn!(%error, "cannot end the simulator");
        }
        if let Err(error) = self.guard.ask(Request::Drop { pid }) {
            tracing::debug!(%error, "the guard was not told of an exit");
        }
    }
}
