//! What a server or a proxy is while it runs: a process of this machine or a container. One face
//! for both, so that nobody else asks which. May not know what it runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::oneshot;

use super::StageError;
use super::child::{ChildProcess, Nest, Recipe};
use super::container::Container;
use super::containers::Berth;

/// As what something is to be run.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// This program, as a child process.
    Program(PathBuf),
    /// A container.
    Container(Berth),
}

/// Something that was started. Dropping a process kills it.
#[derive(Debug)]
pub(crate) enum Body {
    Process(ChildProcess),
    Container(Container),
}

/// What a body looks like at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Look {
    /// Held still, by a signal or by its control group.
    pub(crate) is_stopped: bool,
    /// The kernel's own word for its state.
    pub(crate) state: String,
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_bytes: u64,
}

impl Body {
    /// Starts it, and hands back the first line of its standard output when it comes.
    pub(crate) async fn start(
        nest: &Nest,
        form: &Form,
        recipe: Recipe,
    ) -> Result<(Self, oneshot::Receiver<String>), StageError> {
        match (form, &nest.containers) {
            (Form::Program(program), _) => {
                let (child, first_line) = ChildProcess::start(nest, program, recipe).await?;
                Ok((Self::Process(child), first_line))
            }
            (Form::Container(berth), Some(containers)) => {
                let (container, first_line) = Container::start(containers, berth, recipe).await?;
                Ok((Self::Container(container), first_line))
            }
            (Form::Container(_), None) => Err(StageError::Start {
                process: recipe.name,
                source: std::io::Error::other("this stage has no containers"),
            }),
        }
    }

    /// Process id on this machine.
    pub(crate) fn pid(&self) -> i32 {
        match self {
            Self::Process(child) => child.pid(),
            Self::Container(container) => container.pid(),
        }
    }

    /// How it looks, if it is still there (a zombie counts as gone).
    pub(crate) fn look(&self) -> Option<Look> {
        let stat = match self {
            Self::Process(child) => child.stat(),
            Self::Container(container) => container.stat(),
        }?;
        let (is_stopped, state) = match self {
            Self::Process(_) => (stat.is_stopped(), format!("state {}", stat.state)),
            Self::Container(container) => match container.groups().is_frozen() {
                Some(true) => (true, "its control group frozen".to_string()),
                Some(false) => (false, "its control group not frozen".to_string()),
                None => (stat.is_stopped(), format!("state {}", stat.state)),
            },
        };
        let (cpu_seconds, rss_bytes) = (stat.cpu_seconds, stat.rss_bytes);
        Some(Look { is_stopped, state, cpu_seconds, rss_bytes })
    }

    /// Figures of its control group; none for a process.
    pub(crate) fn group_figures(&self) -> BTreeMap<String, f64> {
        match self {
            Self::Process(_) => BTreeMap::new(),
            Self::Container(container) => container.groups().figures(),
        }
    }

    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        match self {
            Self::Process(child) => child.exit_status(),
            Self::Container(container) => container.exit_status(),
        }
    }

    /// Sends a signal; to one that has ended it is no error.
    pub(crate) async fn signal(&self, signal: Signal) -> Result<(), StageError> {
        match self {
            Self::Process(child) => child.signal(signal),
            Self::Container(container) => container.signal(signal).await,
        }
    }

    /// Kills it where nobody can wait.
    pub(crate) fn abandon(&self) {
        match self {
            Self::Process(child) => {
                if let Err(error) = child.signal(Signal::SIGKILL) {
                    tracing::warn!(%error, "cannot kill a server whose start was given up");
                }
            }
            Self::Container(container) => container.abandon(),
        }
    }

    /// Waits until it has ended; `None` when the time is over.
    pub(crate) async fn exited(&self, limit: Duration) -> Option<ExitStatus> {
        match self {
            Self::Process(child) => child.exited(limit).await,
            Self::Container(container) => container.exited(limit).await,
        }
    }

    /// The end of its log, for error messages.
    pub(crate) fn last_words(&self) -> String {
        match self {
            Self::Process(child) => child.last_words(),
            Self::Container(container) => container.last_words(),
        }
    }
}
