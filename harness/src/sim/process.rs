//! The simulator's process: started with the saved plan, asked line by line, killed with its last
//! handle. Its standard error goes to a log file of the run folder.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use quorate_check::history::Nanos;
use serde::de::DeserializeOwned;

use super::wire::{Ask, End, Order, Told};

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
    /// A pipe broke: it has ended.
    #[error("the simulator ended early ({0}); it said: {1}")]
    Ended(io::Error, String),
    /// It said something else than was asked for.
    #[error("the simulator is not understood: {0}")]
    NotUnderstood(serde_json::Error),
}

/// A handle of the running simulator; copies share it.
#[derive(Debug, Clone)]
pub struct Simulator(Arc<Mutex<Talk>>);

#[derive(Debug)]
struct Talk {
    child: Child,
    orders: BufWriter<ChildStdin>,
    told: BufReader<ChildStdout>,
    log: std::path::PathBuf,
}

impl Simulator {
    /// Starts `program` on the plan at `plan`, with its log at `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path, plan: &Path, log: &Path) -> Result<Self, SimError> {
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
        let (orders, told) = (BufWriter::new(orders), BufReader::new(told));
        Ok(Self(Arc::new(Mutex::new(Talk { child, orders, told, log: log.to_owned() }))))
    }

    /// A client sends an operation.
    pub(crate) fn ask(&self, ask: &Ask) -> Result<(), SimError> {
        self.with(|talk| talk.say(&Order::Ask(ask)))
    }

    /// Lets time go on until then, or until a client was answered.
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

impl Talk {
    fn say(&mut self, order: &Order<'_>) -> Result<(), SimError> {
        serde_json::to_writer(&mut self.orders, order).map_err(SimError::NotUnderstood)?;
        let written = self.orders.write_all(b"\n");
        written.map_err(|error| self.ended(error))
    }

    fn hear<T: DeserializeOwned>(&mut self) -> Result<T, SimError> {
        let mut line = String::new();
        let heard = self.orders.flush().and_then(|()| self.told.read_line(&mut line));
        match heard {
            Ok(0) => Err(self.ended(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => serde_json::from_str(&line).map_err(SimError::NotUnderstood),
            Err(error) => Err(self.ended(error)),
        }
    }

    fn ended(&self, error: io::Error) -> SimError {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        SimError::Ended(error, said.trim().to_owned())
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It may have ended by itself; then neither has anything to do.
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            tracing::warn!(%error, "cannot end the simulator");
        }
    }
}
