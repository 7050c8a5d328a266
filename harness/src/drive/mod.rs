//! The driver: sends a plan's operations to the servers and records each of them.
//! Does not start servers, inject faults, judge histories or print.
//!
//! One thread does everything that is timed: it walks the schedule, writes requests and reads
//! replies on non-blocking sockets, and looks at the clock around them. A second thread, the
//! recorder, writes files. The methods of [`Driver`] block; call them from a thread that may.
//!
//! What a reader of a history should know:
//! - Ids: the load's first attempt at key i is operation i + 1, number k of the schedule is
//!   operation `records` + 1 + k. All else (further attempts, settle and final reads) counts on
//!   from 2^40.
//! - Number k of the schedule asks server k mod n of the plan's targets, or of its readers.
//! - An operation on a key that has no record yet (its creation failed, or is still on its way)
//!   works on the nearest lower key that has one and was not deleted; the history shows the key
//!   really used.
//! - After a delete the schedule means no operation for its key, whether the delete succeeds or
//!   not; the next key to be created takes over its share of the draws (`places.rs`). A write that
//!   is told `not_found` was under way together with the delete.
//! - `update_versioned` names the highest version that any client of this driver saw of the key.
//!   After an update of unknown outcome that may be too low until somebody reads the key.
//! - A timed-out operation completes, unknown, when the client gives up. What is still open when
//!   the drain ends has no completion. Arrivals that never got a slot are `failed`, `never_sent`.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use quorate_check::history::{Header, Nanos, Phase};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use crate::drive::afterwards::ReadBack;
pub use crate::drive::meter::Progress;
pub use crate::drive::recent::{Percentiles, Recent};
pub use crate::drive::recorder::RecordError;
pub use crate::drive::schedule::ScheduleError;
pub use crate::drive::setup::SetupError;

use crate::drive::afterwards::{FinalReads, Round};
use crate::drive::client::Client;
use crate::drive::crew::Crew;
use crate::drive::fill::Fill;
use crate::drive::load::{ClosedLoop, OpenLoop, Source};
use crate::drive::meter::{Meter, Window};
use crate::drive::recorder::{Output, Recorder};
use crate::drive::request::Encoder;
use crate::drive::schedule::{ArrivalTimes, Operations};
use crate::drive::simulated::Simulated;
use crate::drive::transport::Transport;
use crate::folder::{DriverSummary, PhaseMark, RunFolder, SoundnessFinding};
use crate::plan::{LoadMode, Plan};
use crate::run::parts::{Clock, Endpoint};
use crate::sim::Simulator;

mod afterwards;
mod client;
mod connection;
mod cpu;
mod crew;
mod fill;
#[cfg(test)]
mod fixture;
pub mod keys;
mod load;
mod meter;
pub mod null_server;
mod places;
pub mod random;
mod recent;
mod recorder;
mod recorder_thread;
mod reply;
pub(crate) mod request;
pub mod schedule;
mod sessions;
mod setup;
mod simulated;
mod table;
mod transport;
mod wake;

/// Operations in flight while loading and reading back, if the plan has fewer clients: these
/// phases are not measured, and one client would take long over many records.
const WIDTH_MIN: usize = 32;
/// Time between two looks at keys that had not converged.
const SETTLE_NS: Nanos = 250_000_000;

/// Why the driver had to give up. Never about an operation: those are recorded, not reported.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The plan names a server that has no endpoint.
    #[error("the plan names server `{0}`, and the stage has none of that name")]
    UnknownServer(String),
    /// The plan names no server to send to.
    #[error("the plan has no targets")]
    NoTargets,
    /// The workload cannot be turned into operations.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The database could not be created.
    #[error("cannot set up the database: {0}")]
    Setup(#[from] SetupError),
    /// Not every record could be created.
    #[error("only {created} of {records} records could be created")]
    LoadStalled {
        /// Records created.
        created: u64,
        /// Records asked for.
        records: u64,
    },
    /// An operation needs a record, and none has been created.
    #[error("there is no record to work on")]
    NothingLoaded,
    /// Sockets cannot be waited for.
    #[error("cannot wait for sockets: {0}")]
    Poll(#[source] io::Error),
    /// The history or the interval log cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A small file of the run folder cannot be written.
    #[error("cannot write {file}: {source}")]
    Write {
        /// Name of the file.
        file: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A histogram could not be made.
    #[error("cannot make a histogram: {0}")]
    Histogram(#[source] hdrhistogram::CreationError),
}

/// What the measured load came to.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadReport {
    /// The driver about itself, as written to `driver.json`.
    pub summary: DriverSummary,
    /// Reasons to doubt the figures that lie with the driver.
    pub findings: Vec<SoundnessFinding>,
}

/// What came of waiting for convergence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Start of the first look that found all servers alike; `None` if none did in time.
    pub at: Option<Nanos>,
    /// End of the time that servers have to become alike.
    pub deadline: Nanos,
    /// Keys that still differed, or could not be read everywhere, at the last look.
    pub divergent: Vec<u64>,
}

/// Drives one run, phase by phase, in the order of the methods below.
#[derive(Debug)]
pub struct Driver {
    plan: Plan,
    password: String,
    folder: RunFolder,
    addrs: Vec<std::net::SocketAddr>,
    targets: Vec<u32>,
    /// Servers that reads ask: the targets, unless the plan says otherwise.
    readers: Vec<u32>,
    crew: Crew,
    /// The servers have the database from the start, and time is virtual.
    simulated: bool,
}

impl Driver {
    /// Opens the history and the connections that the plan asks for. `endpoints` are all servers,
    /// in the order in which histories number them.
    ///
    /// # Errors
    /// When the plan does not fit the endpoints, or files cannot be created.
    pub fn new(
        plan: &Plan,
        endpoints: &[Endpoint],
        password: &str,
        clock: Clock,
        folder: &RunFolder,
    ) -> Result<Self, DriverError> {
        let load = &plan.load;
        let value_bytes = plan.workload.value_bytes;
        let encoder = Encoder::new(password, load.timeout_ms, value_bytes, plan.seed);
        let addrs: Vec<_> = endpoints.iter().map(|endpoint| endpoint.client).collect();
        raise_file_limit();
        let mut client = Client::new(clock, addrs, encoder, millis(load.timeout_ms))
            .map_err(DriverError::Poll)?;
        let (targets, readers) = asked(plan, endpoints)?;
        let asked: Vec<u32> = match load.readers.is_empty() {
            true => targets,
            false => targets.into_iter().chain(readers).collect(),
        };
        for connection in 0..load.clients as usize {
            client.warm(asked[connection % asked.len()]);
        }
        let driver = Self::open(plan, endpoints, Transport::Http(Box::new(client)), clock, folder)?;
        Ok(Self { password: password.to_owned(), ..driver })
    }

    /// The same for a simulated cluster, whose time `clock` shows.
    ///
    /// # Errors
    /// When the plan does not fit the endpoints, or files cannot be created.
    pub fn simulated(
        plan: &Plan,
        endpoints: &[Endpoint],
        simulator: Simulator,
        clock: Clock,
        folder: &RunFolder,
    ) -> Result<Self, DriverError> {
        let clients = Simulated::new(clock, simulator, millis(plan.load.timeout_ms));
        let transport = Transport::Simulated(clients);
        let driver = Self::open(plan, endpoints, transport, clock, folder)?;
        Ok(Self { simulated: true, ..driver })
    }

    fn open(
        plan: &Plan,
        endpoints: &[Endpoint],
        transport: Transport,
        clock: Clock,
        folder: &RunFolder,
    ) -> Result<Self, DriverError> {
        // Refused here rather than after the load phase.
        Operations::new(plan)?;
        ArrivalTimes::new(plan)?;
        let (targets, readers) = asked(plan, endpoints)?;
        let output = Output {
            history: folder.history(),
            intervals: folder.intervals(),
            header: Header::new(
                endpoints.iter().map(|endpoint| endpoint.node.clone()).collect(),
                plan.workload.records,
                matches!(transport, Transport::Simulated(_)),
            ),
            started: SystemTime::now() - std::time::Duration::from_nanos(clock.now()),
        };
        let addrs = endpoints.iter().map(|endpoint| endpoint.client).collect();
        let crew = Crew::new(clock, transport, Recorder::start(&output)?);
        let (plan, folder, password) = (plan.clone(), folder.clone(), String::new());
        Ok(Self { plan, password, folder, addrs, targets, readers, crew, simulated: false })
    }

    /// Creates the database with the plan's write quorum, and its class, and waits until the
    /// REPLICAs have both. Not recorded.
    ///
    /// # Errors
    /// When no server does so within a minute, or a REPLICA has not heard of it by then.
    pub fn prepare(&mut self) -> Result<(), DriverError> {
        if self.simulated {
            return Ok(());
        }
        let quorum = &self.plan.topology.write_quorum;
        let (masters, replicas) = self.addrs.split_at(self.masters() as usize);
        setup::create_database(masters, &self.password, quorum)?;
        Ok(setup::await_class(replicas, &self.password)?)
    }

    /// Creates every record, spread over all MASTERs. A failed creation is recorded, and tried
    /// again as a new operation.
    ///
    /// # Errors
    /// When creations stop succeeding for half a minute; `Ok` when cancelled.
    pub fn load(&mut self, cancel: &CancellationToken) -> Result<(), DriverError> {
        let records = self.plan.workload.records;
        let mut fill = Fill::new(records, self.masters());
        let from = self.crew.clock.now();
        self.crew.work(self.width(), &mut fill, cancel)?;
        self.mark(Phase::Load, from, self.crew.clock.now())?;
        let created = fill.created;
        if created < records && !cancel.is_cancelled() {
            return Err(DriverError::LoadStalled { created, records });
        }
        Ok(())
    }

    /// Warm-up and measure phase, and their drain. The warm-up begins when the clock shows
    /// `start`, so the measure phase begins at `start` plus the plan's `warmup_ms`, exactly.
    ///
    /// # Errors
    /// When files or sockets fail. Whatever servers do is recorded, and no error.
    pub fn run(
        &mut self,
        start: Nanos,
        cancel: &CancellationToken,
        progress: watch::Sender<Progress>,
    ) -> Result<LoadReport, DriverError> {
        let measure = start + millis(self.plan.phases.warmup_ms);
        let end = measure + millis(self.plan.phases.measure_ms);
        let window = Window { start, measure, end };
        let source = Source {
            operations: Operations::new(&self.plan)?,
            window,
            targets: self.targets.clone(),
            readers: self.readers.clone(),
            first_id: self.plan.workload.records + 1,
        };
        let load = &self.plan.load;
        let (clients, timeout) = (load.clients.max(1) as usize, millis(load.timeout_ms));
        let cap = if load.in_flight_cap == 0 { clients } else { load.in_flight_cap as usize };
        let mut meter = Meter::new(window, progress)?;
        let recorder_cpu = self.crew.recorder.cpu_ns();
        match ArrivalTimes::new(&self.plan)? {
            Some(arrivals) => {
                OpenLoop::new(&mut self.crew, &mut meter, source, arrivals, cap, timeout)
                    .run(cancel)?;
            }
            None => {
                let mut closed = ClosedLoop::new(&mut meter, source, clients);
                self.crew.work(clients, &mut closed, cancel)?;
            }
        }
        let now = self.crew.clock.now();
        // The last operation may be done a moment before the schedule ends; only a stop cuts it.
        let cut = cancel.is_cancelled() && now < end;
        let end = if cut { now } else { end };
        if cut {
            meter.cut_short(now);
        }
        let asked = match load.mode {
            LoadMode::Open { rate, .. } => rate,
            LoadMode::Closed => 0.0,
        };
        let recorder_cpu = self.crew.recorder.cpu_ns().saturating_sub(recorder_cpu);
        let (summary, mut findings) = meter.finish(now, asked, recorder_cpu);
        if self.simulated {
            // Virtual time does not pass while the machine is kept from its work.
            findings.retain(|finding| finding.code != SoundnessFinding::HOST_WITHHELD_CPU);
        }
        self.mark(Phase::Warmup, start, measure.min(now))?;
        self.mark(Phase::Measure, measure.min(end), end)?;
        write_json(&self.folder.driver(), "driver.json", &summary)?;
        Ok(LoadReport { summary, findings })
    }

    /// Reads every key on every server until they are alike, at most for the plan's `settle_ms`.
    /// Keys that are alike are not read again.
    ///
    /// # Errors
    /// When files or sockets fail.
    pub fn settle(&mut self, cancel: &CancellationToken) -> Result<Settled, DriverError> {
        let from = self.crew.clock.now();
        let deadline = from + millis(self.plan.phases.settle_ms);
        let mut divergent: Vec<u64> = self.crew.table.keys().collect();
        let at = loop {
            let look = self.crew.clock.now();
            let mut round = Round::new(divergent, self.nodes(), deadline);
            self.crew.work(self.width(), &mut round, cancel)?;
            divergent = round.divergent();
            if divergent.is_empty() {
                break Some(look);
            }
            if look + SETTLE_NS >= deadline || cancel.is_cancelled() {
                break None;
            }
            self.pause(look + SETTLE_NS, cancel)?;
        };
        self.mark(Phase::Settle, from, self.crew.clock.now())?;
        Ok(Settled { at, deadline, divergent })
    }

    /// One majority read of every key and one local read on every server, each with a few more
    /// attempts if it fails. All of it again while the servers differ and `until`, the end of the
    /// time to settle, has not come: servers may be alike for a while because all of them stand
    /// still, with outcomes on their way that nobody was told. What was read last counts.
    ///
    /// # Errors
    /// When files or sockets fail.
    pub fn final_reads(
        &mut self,
        until: Nanos,
        cancel: &CancellationToken,
    ) -> Result<ReadBack, DriverError> {
        let from = self.crew.clock.now();
        let mut passes = 0;
        let read = loop {
            let look = self.crew.clock.now();
            let keys = self.crew.table.keys().collect();
            let mut reads = FinalReads::new(keys, self.targets.clone(), self.nodes());
            self.crew.work(self.width(), &mut reads, cancel)?;
            passes += 1;
            let read = reads.end();
            if read.divergent == 0 || look + SETTLE_NS >= until || cancel.is_cancelled() {
                break ReadBack { passes, ..read };
            }
            self.pause(look + SETTLE_NS, cancel)?;
        };
        self.mark(Phase::Final, from, self.crew.clock.now())?;
        Ok(read)
    }

    /// Writes what is left of the history and the interval log, and closes them.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn finish(self) -> Result<(), DriverError> {
        Ok(self.crew.recorder.finish()?)
    }

    fn pause(&mut self, until: Nanos, cancel: &CancellationToken) -> Result<(), DriverError> {
        while self.crew.clock.now() < until && !cancel.is_cancelled() {
            self.crew.turn(until)?;
        }
        Ok(())
    }

    fn nodes(&self) -> u32 {
        u32::try_from(self.addrs.len()).unwrap_or(u32::MAX)
    }

    /// MASTERs come first.
    fn masters(&self) -> u32 {
        let replicas = u32::try_from(self.plan.topology.replicas.len()).unwrap_or(u32::MAX);
        self.nodes().saturating_sub(replicas)
    }

    fn width(&self) -> usize {
        (self.plan.load.clients as usize).max(WIDTH_MIN)
    }

    fn mark(&self, phase: Phase, from: Nanos, to: Nanos) -> Result<(), DriverError> {
        let mut line = serde_json::to_vec(&PhaseMark { phase, from, to })
            .map_err(|error| write_error("phases.jsonl", error.into()))?;
        line.push(b'\n');
        let file = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.phases());
        file.and_then(|mut file| io::Write::write_all(&mut file, &line))
            .map_err(|error| write_error("phases.jsonl", error))
    }
}

/// The servers that writes ask, and those that reads ask, as indices.
fn asked(plan: &Plan, endpoints: &[Endpoint]) -> Result<(Vec<u32>, Vec<u32>), DriverError> {
    let index_of = |name: &String| {
        let found = endpoints.iter().position(|endpoint| endpoint.node == *name);
        let found = found.and_then(|index| u32::try_from(index).ok());
        found.ok_or_else(|| DriverError::UnknownServer(name.clone()))
    };
    let indices = |names: &[String]| names.iter().map(index_of).collect::<Result<Vec<_>, _>>();
    let targets = indices(&plan.load.targets)?;
    if targets.is_empty() {
        return Err(DriverError::NoTargets);
    }
    let readers = match plan.load.readers.as_slice() {
        [] => targets.clone(),
        names => indices(names)?,
    };
    Ok((targets, readers))
}

fn write_json(path: &Path, file: &'static str, value: &impl Serialize) -> Result<(), DriverError> {
    let text = serde_json::to_vec_pretty(value).map_err(|error| write_error(file, error.into()))?;
    std::fs::write(path, text).map_err(|error| write_error(file, error))
}

fn write_error(file: &'static str, source: io::Error) -> DriverError {
    DriverError::Write { file, source }
}

fn millis(ms: u64) -> Nanos {
    ms * 1_000_000
}

/// Lets the process have as many sockets as it is allowed to: an outage at a high rate needs one
/// for every operation that waits. If that fails, the cap on operations in flight must do.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
