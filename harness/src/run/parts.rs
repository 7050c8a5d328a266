//! What the orchestrator needs from a stage and from the clock: the seam between the parts of a
//! run. Types and traits alone; a stage lives in `crate::stage`, the order of a run in the files
//! beside this one.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate_check::history::Nanos;
use tokio_util::sync::CancellationToken;

use crate::folder::{FaultRecord, SoundnessFinding};
use crate::plan::Plan;
use crate::sim::Simulator;

/// Where one server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name of the server.
    pub node: String,
    /// Where the workload's clients connect: the client proxy if links are proxied.
    pub client: SocketAddr,
    /// The server's own port, for measurements that faults must not touch.
    pub direct: SocketAddr,
}

/// The one monotonic clock of a run. Cheap to copy; every part stamps times with the same one.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    /// What it shows where time is simulated; for the life of the program, as copies are.
    simulated: Option<&'static AtomicU64>,
}

impl Clock {
    /// Starts the clock of a run.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now(), simulated: None }
    }

    /// A clock that stands until it is [`Self::set`].
    #[must_use]
    pub fn simulated() -> Self {
        let shown: &'static AtomicU64 = Box::leak(Box::default());
        Self { simulated: Some(shown), ..Self::start() }
    }

    /// Makes a simulated clock show this; a real one goes on by itself.
    pub fn set(self, now: Nanos) {
        if let Some(shown) = self.simulated {
            shown.store(now, Ordering::Release);
        }
    }

    /// Nanoseconds since the start of the run.
    #[must_use]
    pub fn now(self) -> Nanos {
        if let Some(shown) = self.simulated {
            return shown.load(Ordering::Acquire);
        }
        // A run of 584 years would be needed to overflow.
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }

    /// The instant at which this clock shows `at`.
    #[must_use]
    pub fn instant(self, at: Nanos) -> Instant {
        self.started + Duration::from_nanos(at)
    }
}

/// A running cluster with the means to hurt it. One implementation a stage.
pub trait Stage: Sized + Send + Sync {
    /// Why a stage failed; a failed stage is a fault of the harness (exit 4), not of the database.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Where the servers are, in the order of the plan's masters.
    fn endpoints(&self) -> Vec<Endpoint>;

    /// The simulator that clients talk to, where there are no servers to talk to.
    fn simulator(&self) -> Option<Simulator> {
        None
    }

    /// Injects and heals the plan's faults on schedule; returns early, everything healed, when
    /// cancelled.
    fn run_faults(
        &self,
        plan: &Plan,
        measure_start: Nanos,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<Vec<FaultRecord>, Self::Error>> + Send;

    /// Names of the faults that are in force now, with whom they hit: for people who watch.
    fn in_force(&self) -> Vec<String>;

    /// Heals whatever is injected. May be called at any time, any number of times.
    fn heal_all(&self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Samples every server into `nodes.jsonl` until cancelled.
    fn sample(
        &self,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Stops everything and says what makes the figures doubtful.
    fn stop(self) -> impl Future<Output = Result<Vec<SoundnessFinding>, Self::Error>> + Send;
}
