//! The guard: a process in a session of its own that kills what a dead harness leaves behind.
//! This file is the harness's end of the pipe; `watch.rs` is the guard itself, `exec.rs` the
//! wrapper that children start through. Nothing in here knows nodes, proxies or plans.

pub mod exec;
pub mod strays;
pub mod watch;

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// One line from the harness to the guard; each is answered by one line, `ok` or a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Kill this process, and the process group it leads, when the harness dies.
    Add {
        /// Process id.
        pid: i32,
        /// Its start time, so that a reused pid is never hit.
        started: u64,
    },
    /// The process was reaped.
    Drop {
        /// Process id.
        pid: i32,
    },
    /// Remove this directory when the harness dies.
    Temp {
        /// Absolute path.
        path: PathBuf,
    },
    /// Remove what this run has at the container engine when the harness dies.
    Run {
        /// Its name, as the labels have it.
        run: String,
    },
    /// Leave this directory alone again.
    Keep {
        /// The path as given before.
        path: PathBuf,
    },
}

/// Why the guard cannot do its duty.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The executable could not be started.
    #[error("cannot start the guard {program}: {source}")]
    Start {
        /// Executable.
        program: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The guard died, or its pipe broke.
    #[error("the guard process is gone: {0}")]
    Gone(#[source] io::Error),
    /// The guard refused a request.
    #[error("the guard refused {request:?}: {reason}")]
    Refused {
        /// What was asked.
        request: Request,
        /// Its answer.
        reason: String,
    },
}

/// The harness's handle. Dropping it closes the pipe: the guard kills what is still registered
/// and exits, exactly as it does when the harness dies.
#[derive(Debug)]
pub struct Guard {
    pipes: Mutex<Option<Pipes>>,
    child: Mutex<Child>,
}

#[derive(Debug)]
struct Pipes {
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Guard {
    /// Starts the guard and waits until it has left the harness's session.
    ///
    /// # Errors
    /// When it cannot be started or does not report.
    pub fn start(program: &Path, log: &Path) -> Result<Self, GuardError> {
        let failed = |source| GuardError::Start { program: program.to_path_buf(), source };
        let log = OpenOptions::new().create(true).append(true).open(log).map_err(failed)?;
        let mut child = Command::new(program)
            .arg("watch")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (requests, answers) = pipes.ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        let mut pipes = Pipes { requests, answers: BufReader::new(answers) };
        let ready = pipes.read_answer().map_err(failed)?;
        if ready != "ready" {
            return Err(failed(io::Error::other(format!("it said {ready:?} instead of ready"))));
        }
        Ok(Self { pipes: Mutex::new(Some(pipes)), child: Mutex::new(child) })
    }

    /// Sends one request and waits for the answer.
    ///
    /// # Errors
    /// When the guard is gone or refuses.
    pub fn ask(&self, request: Request) -> Result<(), GuardError> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(pipes) = pipes.as_mut() else {
            return Err(GuardError::Gone(io::ErrorKind::BrokenPipe.into()));
        };
        let mut line = serde_json::to_vec(&request).map_err(|error| GuardError::Refused {
            request: request.clone(),
            reason: error.to_string(),
        })?;
        line.push(b'\n');
        pipes.requests.write_all(&line).map_err(GuardError::Gone)?;
        match pipes.read_answer().map_err(GuardError::Gone)?.as_str() {
            "ok" => Ok(()),
            reason => Err(GuardError::Refused { request, reason: reason.to_string() }),
        }
    }

    /// Process id of the guard.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).id()
    }
}

impl Pipes {
    fn read_answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_string())
    }
}

impl Guard {
    /// Closes the pipe and waits for the guard's end; it bounds its own work. Idempotent.
    pub fn finish(&self) {
        if self.pipes.lock().unwrap_or_else(PoisonError::into_inner).take().is_none() {
            return;
        }
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = child.wait() {
            tracing::warn!(%error, "the guard could not be awaited");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.finish();
    }
}
