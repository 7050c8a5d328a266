//! One server over all its lives: start, readiness, signals, restart on the
//! same data. May not know faults or links beyond the addresses it is told to dial.
//!
//! A process belongs to its server from the moment it is started, long before it says where it
//! listens: whoever ends the server then ends that process, and nobody starts a second one beside
//! it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::sync::Mutex;

use super::StageError;
use super::body::{Body, Form};
use super::child::{Nest, Recipe};
use super::http::HttpError;
use super::node_api::{Announcement, is_ready};

/// Pause between two looks at a server that is not ready yet.
const READY_POLL: Duration = Duration::from_millis(10);
/// Longest wait for one answer of `/health`.
const HEALTH_LIMIT: Duration = Duration::from_secs(1);
/// Longest wait for a process to be reaped after SIGKILL.
const REAP_LIMIT: Duration = Duration::from_secs(5);

/// What stays the same over the lives of a server.
#[derive(Debug)]
pub(crate) struct NodeSetup {
    pub(crate) name: String,
    pub(crate) form: Form,
    pub(crate) data: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) place: Place,
    pub(crate) write_quorum: String,
    /// What it may allocate; `None`: as it finds out.
    pub(crate) heap_bytes: Option<u64>,
    /// Address to dial, by name of the other server.
    pub(crate) dials: Vec<(String, SocketAddr)>,
    pub(crate) secrets: Vec<(String, String)>,
    /// Ports to take from the first start on; port 0 for any.
    pub(crate) first_http: SocketAddr,
    pub(crate) first_peer: SocketAddr,
}

/// A server among others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// It knows no cluster.
    Alone,
    /// A MASTER that founds the cluster with the others of these names.
    Founds(Vec<String>),
    /// A REPLICA that joins it.
    Joins,
}

/// A server.
#[derive(Debug)]
pub(crate) struct Node {
    setup: NodeSetup,
    current: RwLock<Current>,
    /// Held from the wish to start until the process has said where it listens: one at a time.
    starting: Mutex<()>,
    /// Held while a process comes into being and is not in `current` yet.
    spawning: Mutex<()>,
    /// How often somebody wanted it to end.
    ends: AtomicU64,
}

/// What there is of a server now.
#[derive(Debug, Default)]
struct Current {
    /// Started last; perhaps it has said nothing yet.
    process: Option<Arc<Body>>,
    /// The latest that said where it listens.
    life: Option<Life>,
}

/// One life of a server: from a start to an exit.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) process: Arc<Body>,
    pub(crate) said: Announcement,
}

impl Node {
    pub(crate) fn new(setup: NodeSetup) -> Self {
        Self {
            setup,
            current: RwLock::default(),
            starting: Mutex::default(),
            spawning: Mutex::default(),
            ends: AtomicU64::new(0),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.setup.name
    }

    /// The latest life, ended or not; `None` before the first start.
    pub(crate) fn life(&self) -> Option<Life> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).life.clone()
    }

    /// The latest life if its process has not been reaped.
    pub(crate) fn running(&self) -> Option<Life> {
        self.life().filter(|life| life.process.exit_status().is_none())
    }

    /// The process started last, ended or not, whether it has said anything or not.
    pub(crate) fn latest(&self) -> Option<Arc<Body>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).process.clone()
    }

    /// The process that there is, once it is there: one that has not been reaped.
    pub(crate) async fn process(&self) -> Option<Arc<Body>> {
        let _spawned = self.spawning.lock().await;
        self.latest().filter(|process| process.exit_status().is_none())
    }

    /// How often somebody wanted it to end so far.
    pub(crate) fn ends(&self) -> u64 {
        self.ends.load(Ordering::Acquire)
    }

    /// True for a REPLICA.
    pub(crate) fn joins(&self) -> bool {
        self.setup.place == Place::Joins
    }

    /// Starts the process, if there is none, and reads where it listens. Not necessarily ready yet.
    /// `seeds` are the MASTERs at which a REPLICA joins.
    pub(crate) async fn start(
        &self,
        nest: &Nest,
        limit: Duration,
        seeds: &[(String, SocketAddr)],
    ) -> Result<Life, StageError> {
        let _alone = self.starting.lock().await;
        if let Some(life) = self.running() {
            return Ok(life);
        }
        let (ends, first) = (self.ends(), (self.setup.first_http, self.setup.first_peer));
        let Some(former) = self.life() else {
            return self.start_at(nest, first, seeds, limit, ends).await;
        };
        // The same ports again, so that addresses handed out before stay true.
        let peer = former.said.peer.unwrap_or(self.setup.first_peer);
        let again = self.start_at(nest, (former.said.http, peer), seeds, limit, ends).await;
        match again {
            // Somebody else may have taken a port in between; only fixed ports must be kept. What
            // was ended on purpose is not started again.
            Err(error) if self.setup.first_peer.port() == 0 && self.ends() == ends => {
                tracing::warn!(node = self.name(), %error, "restart on the same ports failed");
                self.start_at(nest, first, seeds, limit, ends).await
            }
            result => result,
        }
    }

    async fn start_at(
        &self,
        nest: &Nest,
        (http, peer): (SocketAddr, SocketAddr),
        seeds: &[(String, SocketAddr)],
        limit: Duration,
        ends: u64,
    ) -> Result<Life, StageError> {
        let recipe = Recipe {
            name: self.setup.name.clone(),
            arguments: self.arguments(http, peer, seeds),
            environment: self.setup.secrets.clone(),
            log: self.setup.log.clone(),
        };
        let spawning = self.spawning.lock().await;
        // Who ended it meanwhile found nothing to end: this must not come into being behind it.
        if self.ends() != ends {
            let (process, what) = (self.setup.name.clone(), "was ended before it started".into());
            return Err(StageError::NotReady { process, what, last_words: String::new() });
        }
        let (process, first_line) = Body::start(nest, &self.setup.form, recipe).await?;
        let process = Arc::new(process);
        // Whoever starts may give up at any time; nothing that nobody knows may go on then.
        let unheard = KillOnDrop(Some(Arc::clone(&process)));
        self.current.write().unwrap_or_else(PoisonError::into_inner).process =
            Some(Arc::clone(&process));
        drop(spawning);
        let line = match tokio::time::timeout(limit, first_line).await {
            Ok(Ok(line)) => line,
            Ok(Err(_)) => {
                process.exited(REAP_LIMIT).await;
                return Err(self.not_ready(&process, limit));
            }
            Err(_) => {
                let late = self.not_ready(&process, limit);
                process.signal(Signal::SIGKILL).await?;
                process.exited(REAP_LIMIT).await;
                return Err(late);
            }
        };
        let said = Announcement::parse(self.name(), &line)?;
        let life = Life { process, said };
        self.current.write().unwrap_or_else(PoisonError::into_inner).life = Some(life.clone());
        unheard.keep();
        Ok(life)
    }

    fn arguments(
        &self,
        http: SocketAddr,
        peer: SocketAddr,
        seeds: &[(String, SocketAddr)],
    ) -> Vec<String> {
        let setup = &self.setup;
        let mut arguments: Vec<String> = [
            "serve",
            "--name",
            &setup.name,
            "--data",
            &setup.data.to_string_lossy(),
            "--http",
            &http.to_string(),
            "--cluster-name",
            "bench",
            "--write-quorum",
            &setup.write_quorum,
        ]
        .map(String::from)
        .to_vec();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| word.to_string()));
        if let Some(bytes) = setup.heap_bytes {
            add(&["--heap", &bytes.to_string()]);
        }
        match &setup.place {
            Place::Alone => {}
            Place::Founds(masters) => {
                add(&["--masters", &masters.join(","), "--peer", &peer.to_string()]);
            }
            Place::Joins => {
                let at: Vec<String> = seeds.iter().map(|(_, at)| at.to_string()).collect();
                add(&["--role", "replica", "--join", &at.join(","), "--peer", &peer.to_string()]);
            }
        }
        // Where its links are direct, it has been told of nobody before.
        let unknown = |seed: &&(String, SocketAddr)| !setup.dials.iter().any(|(n, _)| *n == seed.0);
        for (name, address) in setup.dials.iter().chain(seeds.iter().filter(unknown)) {
            arguments.extend(["--dial".to_string(), format!("{name}={address}")]);
        }
        arguments
    }

    /// Waits until the server answers that it is ready.
    pub(crate) async fn ready(&self, life: &Life, limit: Duration) -> Result<(), StageError> {
        let deadline = Instant::now() + limit;
        loop {
            match is_ready(life.said.http, HEALTH_LIMIT).await {
                Ok(true) => return Ok(()),
                Err(error @ HttpError::Protocol { .. }) => return Err(error.into()),
                // It may not listen yet, or still be starting: the deadline decides.
                Ok(false) | Err(HttpError::Connection { .. } | HttpError::Late { .. }) => {}
            }
            if life.process.exit_status().is_some() || Instant::now() > deadline {
                return Err(self.not_ready(&life.process, limit));
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    fn not_ready(&self, process: &Body, limit: Duration) -> StageError {
        let what = match process.exit_status() {
            Some(status) => format!("ended while starting ({status})"),
            None => format!("is not ready after {limit:?}"),
        };
        let last_words = process.last_words();
        StageError::NotReady { process: self.setup.name.clone(), what, last_words }
    }

    /// SIGKILL to whatever there is of it, which it gives.
    pub(crate) async fn shoot(&self) -> Result<Option<Arc<Body>>, StageError> {
        self.ends.fetch_add(1, Ordering::AcqRel);
        let process = self.process().await;
        if let Some(process) = &process {
            process.signal(Signal::SIGKILL).await?;
        }
        Ok(process)
    }

    /// SIGKILL, and wait until it was reaped. Nothing happens when it does not run.
    pub(crate) async fn kill(&self) -> Result<(), StageError> {
        let Some(process) = self.shoot().await? else {
            return Ok(());
        };
        match process.exited(REAP_LIMIT).await {
            Some(_) => Ok(()),
            None => {
                Err(StageError::Immortal { process: self.setup.name.clone(), limit: REAP_LIMIT })
            }
        }
    }

    /// SIGTERM, and wait until it was reaped; SIGKILL when that takes longer than `limit`.
    /// True when it ended by itself with status 0.
    pub(crate) async fn terminate(&self, limit: Duration) -> Result<bool, StageError> {
        self.ends.fetch_add(1, Ordering::AcqRel);
        let Some(process) = self.process().await else {
            return Ok(true);
        };
        process.signal(Signal::SIGTERM).await?;
        match process.exited(limit).await {
            Some(status) => Ok(status.success()),
            None => {
                self.kill().await?;
                // Status 0 is that of one that had ended just before it was killed.
                Ok(process.exit_status().is_some_and(|status| status.success()))
            }
        }
    }
}

/// Ends a process that nobody has heard of yet when its start is given up.
struct KillOnDrop(Option<Arc<Body>>);

impl KillOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            process.abandon();
        }
    }
}
