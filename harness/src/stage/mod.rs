//! Stages: running clusters with the means to hurt them. `process.rs` runs child processes behind
//! the fault proxy, `docker.rs` containers, `live.rs` is what both have in common; the trait that
//! they implement is `crate::run::parts::Stage`.
//! May not know workloads, histories or verdicts.

mod accounting;
mod binaries;
mod body;
mod canary;
mod cgroup;
mod child;
mod cluster;
mod container;
mod containers;
mod delays;
mod disk_levers;
mod disk_process;
mod docker;
mod events;
pub mod extension;
mod feasible;
mod half_open;
mod host;
pub mod http;
mod levers;
mod links;
mod live;
mod network;
mod node;
pub mod node_api;
mod nursery;
mod options;
mod process;
pub mod procfs;
pub mod proxy_client;
mod proxy_process;
mod quorum_levers;
mod round_trips;
mod rules;
mod sampling;
mod sim;
mod toxics;
mod traffic_levers;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use binaries::Program;
pub use disk_process::unavailable as disks_unavailable;
pub use docker::DockerStage;
pub use feasible::{can_do, containers_can_do, simulator_can_do};
pub use host::files_needed;
pub use links::{CLIENT, Link};
pub use live::LiveStage;
pub use options::StageOptions;
pub use process::ProcessStage;
pub use sim::SimStage;

use crate::engine::EngineError;
use crate::guard::GuardError;
use crate::plan::PlannedFault;
use crate::sim::SimError;
use http::HttpError;

/// Why a stage failed: always the harness's or the machine's fault, never a verdict on the
/// database.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// An executable was not found.
    #[error(
        "{program} not found (looked for {looked:?}); build it, put it beside quorate, or set \
         {variable}"
    )]
    ProgramMissing {
        /// File name.
        program: &'static str,
        /// Variable that overrides the place.
        variable: &'static str,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// A file or directory of the run could not be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A process could not be started.
    #[error("cannot start {process}: {source}")]
    Start {
        /// Name of the process.
        process: String,
        /// Cause.
        source: io::Error,
    },
    /// A process ended, or did not get ready, while the stage waited for it.
    #[error("{process} {what}; the end of its log:\n{last_words}")]
    NotReady {
        /// Name of the process.
        process: String,
        /// What happened instead.
        what: String,
        /// Last lines of its log.
        last_words: String,
    },
    /// A process printed something else than its address.
    #[error("first line of {process} is not understood ({reason}): {line:?}")]
    FirstLine {
        /// Name of the process.
        process: String,
        /// What it printed.
        line: String,
        /// Why it is wrong.
        reason: String,
    },
    /// A signal could not be sent.
    #[error("cannot send {signal} to {process}: {source}")]
    Signal {
        /// Name of the process.
        process: String,
        /// The signal.
        signal: &'static str,
        /// Cause.
        source: io::Error,
    },
    /// The container engine does not do as told.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The simulator does not do as told.
    #[error(transparent)]
    Simulator(#[from] SimError),
    /// The guard does not do its duty.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// A disk did not answer, or could not do as told.
    #[error("disk at {control}: {source}")]
    Disk {
        /// Where it takes commands.
        control: std::net::SocketAddr,
        /// Cause.
        source: io::Error,
    },
    /// The proxy did not answer.
    #[error("fault proxy: {0}")]
    ProxyUnreachable(#[from] HttpError),
    /// The proxy refused.
    #[error("fault proxy refused {request}: {status} {answer}")]
    ProxyRefused {
        /// What was asked.
        request: String,
        /// HTTP status.
        status: u16,
        /// Its answer.
        answer: String,
    },
    /// The proxy answered something that the client does not understand, or did not do as told.
    #[error("fault proxy, {request}: {reason}")]
    ProxyUnexpected {
        /// What was asked.
        request: String,
        /// What was wrong.
        reason: String,
    },
    /// The proxy carries faults of somebody else.
    #[error("the proxy is not clean: {0}")]
    NotClean(String),
    /// The stage cannot do what the plan wants.
    #[error("this stage cannot do {what}: {reason}; {instead}")]
    CannotDo {
        /// The fault.
        what: String,
        /// Why not.
        reason: &'static str,
        /// What can.
        instead: &'static str,
    },
    /// A fault could not be undone.
    #[error("fault {name} is not healed: {reason}")]
    NotHealed {
        /// Its name in the plan.
        name: String,
        /// Cause.
        reason: String,
    },
    /// No free ports.
    #[error("no {wanted} free ports between {first} and {last}")]
    NoPorts {
        /// How many were wanted.
        wanted: usize,
        /// Lowest port tried.
        first: u16,
        /// Highest port tried.
        last: u16,
    },
    /// A process did not end after SIGKILL.
    #[error("{process} still runs {limit:?} after SIGKILL")]
    Immortal {
        /// Name of the process.
        process: String,
        /// The time given.
        limit: Duration,
    },
}

impl StageError {
    /// An error of a file.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// A refusal of a planned fault.
    pub(crate) fn cannot(
        fault: &PlannedFault,
        reason: &'static str,
        instead: &'static str,
    ) -> Self {
        let what = format!("{} ({})", fault.name, crate::fault::describe(&fault.kind));
        Self::CannotDo { what, reason, instead }
    }
}
