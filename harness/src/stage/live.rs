//! A stage on which the real server runs, as processes or in containers: what both have in common.
//! Puts the parts together; none of their work is done here.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use quorate_check::history::Nanos;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::body::Form;
use super::child::Nest;
use super::cluster::{Cluster, data_folder};
use super::containers::{Berth, Containers};
use super::disk_process::DiskProcess;
use super::network::{LEASE_RENEWAL, Network};
use super::nursery::Nursery;
use super::proxy_client::ProxyClient;
use super::proxy_process::ProxyProcess;
use super::{Link, Program, StageError, StageOptions, accounting, feasible, host, sampling};
use crate::fault::{self, Ledger};
use crate::folder::{FaultRecord, RunFolder, SoundnessFinding};
use crate::guard::Guard;
use crate::plan::{Limits, Plan};
use crate::run::parts::{Clock, Endpoint, Stage};

/// Where the proxy takes commands on the run's own network: Toxiproxy's usual port.
const PROXY_PORT: u16 = 8474;

/// Running servers and their proxy. Dropping it kills everything and removes the data.
#[derive(Debug)]
pub struct LiveStage {
    cluster: Arc<Cluster>,
    ledger: Arc<Ledger>,
    folder: RunFolder,
    clock: Clock,
    /// Found before the servers were started.
    findings: Vec<SoundnessFinding>,
    lease: Option<DropGuard>,
}

impl LiveStage {
    /// Starts proxy and servers where `ground` says, and waits until every server is ready.
    pub(super) async fn start(
        plan: &Plan,
        folder: &RunFolder,
        clock: Clock,
        options: StageOptions,
        ground: Ground,
    ) -> Result<Self, StageError> {
        let Ground { nest, cleanup, mut findings } = ground;
        findings.extend(host::raise_open_files(host::files_needed(plan)));
        let network = match plan.topology.proxied {
            true => Some(establish(plan, folder, &options, &nest).await?),
            false => None,
        };
        let started = Cluster::start(plan, folder, clock, options, nest, network).await;
        let cluster = started?;
        // From here on the stage itself cleans up.
        cleanup.keep();
        findings.extend(feasible::notes(plan, &cluster.options));
        let ledger = Arc::new(Ledger::new(folder.faults()));
        let lease = keep_lease(&cluster)?;
        Ok(Self { cluster, ledger, folder: folder.clone(), clock, findings, lease })
    }

    /// Process ids of the servers that run, of the proxy, and of the guard: for tests and for
    /// messages.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let nodes = self.cluster.nodes.iter();
        let mut pids: Vec<i32> =
            nodes.filter_map(|node| Some(node.running()?.process.pid())).collect();
        pids.extend(self.cluster.disks.values().map(DiskProcess::pid));
        pids.extend(self.cluster.network.as_ref().and_then(Network::pid));
        pids.extend(i32::try_from(self.cluster.nest.guard.pid()).ok());
        pids
    }

    /// Name of the run at the container engine, if it is there.
    #[must_use]
    pub fn run_at_engine(&self) -> Option<&str> {
        self.cluster.nest.containers.as_deref().map(Containers::run)
    }

    /// Why the measurement is in doubt already, before the end.
    #[must_use]
    pub fn findings(&self) -> Vec<SoundnessFinding> {
        let mut findings = self.findings.clone();
        findings.extend(self.ledger.findings());
        findings
    }

    async fn account(&self) -> Result<Vec<SoundnessFinding>, StageError> {
        let Some(network) = &self.cluster.network else {
            return Ok(Vec::new());
        };
        let mut findings = accounting::check(&self.cluster, network).await?;
        findings.extend(network.lease_finding().await?);
        Ok(findings)
    }

    async fn end(mut self) -> Result<Vec<SoundnessFinding>, StageError> {
        let mut findings = std::mem::take(&mut self.findings);
        // Everything is stopped whatever goes wrong on the way; the first error is told.
        let healed = self.heal_all().await;
        findings.extend(self.ledger.findings());
        let accounted = self.account().await;
        findings.extend(self.cluster.died().await);
        self.lease = None;
        findings.extend(self.cluster.stop_servers().await);
        findings.extend(self.cluster.stop_disks().await);
        let closed = match &self.cluster.network {
            Some(network) => network.close().await,
            None => Ok(true),
        };
        let removed = match &self.cluster.nest.containers {
            Some(containers) => containers.close().await,
            None => Ok(()),
        };
        healed?;
        findings.extend(accounted?);
        removed?;
        if !closed? {
            let detail = "the proxy did not end by itself".to_string();
            let code = "unclean_stop".to_string();
            findings.push(SoundnessFinding { code, fatal: false, detail });
        }
        Ok(findings)
    }
}

impl Stage for LiveStage {
    type Error = StageError;

    fn endpoints(&self) -> Vec<Endpoint> {
        self.cluster.endpoints()
    }

    async fn run_faults(
        &self,
        plan: &Plan,
        measure_start: Nanos,
        cancel: CancellationToken,
    ) -> Result<Vec<FaultRecord>, StageError> {
        let (cluster, ledger) = (&self.cluster, &self.ledger);
        fault::run(cluster, ledger, self.clock, plan, measure_start, cancel).await?;
        Ok(self.ledger.records())
    }

    async fn heal_all(&self) -> Result<(), StageError> {
        fault::heal_all(&self.cluster, &self.ledger).await
    }

    async fn sample(&self, cancel: CancellationToken) -> Result<(), StageError> {
        sampling::run(&self.cluster, self.clock, &self.folder.nodes(), cancel).await
    }

    async fn stop(self) -> Result<Vec<SoundnessFinding>, StageError> {
        self.end().await
    }
}

impl Drop for LiveStage {
    fn drop(&mut self) {
        self.cluster.kill_now();
        if !self.cluster.options.keep_data {
            remove(&data_folder(&self.folder));
        }
    }
}

/// What a stage puts the servers on.
pub(super) struct Ground {
    pub(super) nest: Nest,
    pub(super) cleanup: RemoveOnDrop,
    /// Found about the machine.
    pub(super) findings: Vec<SoundnessFinding>,
}

/// Removes the data of a start that failed.
pub(super) struct RemoveOnDrop(pub(super) Option<PathBuf>);

impl RemoveOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            remove(path);
        }
    }
}

fn remove(data: &PathBuf) {
    match std::fs::remove_dir_all(data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %data.display(), %error, "data is left behind");
        }
        Ok(()) | Err(_) => {}
    }
}

/// The guard and the thread that starts children, with what there is at an engine.
pub(super) fn guard(options: &StageOptions, folder: &RunFolder) -> Result<Nest, StageError> {
    let guard_program = Program::Guard.find(options.guard.clone())?;
    let guard = Guard::start(&guard_program, &folder.logs().join("guard.log"))?;
    let failed = |source| StageError::Start { process: "nursery".to_string(), source };
    let nursery = Nursery::start().map_err(failed)?;
    Ok(Nest { nursery, guard: Arc::new(guard), guard_program, containers: None })
}

async fn establish(
    plan: &Plan,
    folder: &RunFolder,
    options: &StageOptions,
    nest: &Nest,
) -> Result<Network, StageError> {
    let loopback = Ipv4Addr::LOCALHOST;
    let (near, home) = match &nest.containers {
        Some(containers) => (containers.proxy(), containers.gateway()),
        None => (loopback, loopback),
    };
    let (client, process) = match &options.toxiproxy {
        Some(url) => (ProxyClient::at_url(url)?, None),
        None => {
            let (form, port) = match &nest.containers {
                Some(_) => {
                    let image = options.proxy_image.clone();
                    (
                        Form::Container(Berth { image, address: near, limits: Limits::default() }),
                        PROXY_PORT,
                    )
                }
                None => (Form::Program(Program::Proxy.find(options.proxy.clone())?), 0),
            };
            let log = folder.logs().join("proxy.log");
            let listen = (near, port).into();
            let process = ProxyProcess::start(nest, &form, listen, plan.seed, &log).await?;
            (ProxyClient::new(process.api()), Some(process))
        }
    };
    let links = Link::proxied(&plan.topology);
    Network::establish(client, process, (near, home), links, plan.seed).await
}

/// Renews the lease until dropped; a proxy that hears nothing heals by itself. On a thread of its
/// own: a disk that holds the harness up is not to look like a harness that is gone.
fn keep_lease(cluster: &Cluster) -> Result<Option<DropGuard>, StageError> {
    let Some((proxy, lease)) = cluster.network.as_ref().and_then(Network::own_lease) else {
        return Ok(None);
    };
    let failed = |source| StageError::Start { process: "the lease's thread".to_string(), source };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().map_err(failed)?;
    let kept = CancellationToken::new();
    let dropped = kept.clone();
    let renew = async move {
        let mut ticks = tokio::time::interval(LEASE_RENEWAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // One that is lost does not take the time of the others.
            match tokio::time::timeout(LEASE_RENEWAL, proxy.renew(&lease)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the lease on the proxy is not renewed"),
                Err(late) => tracing::warn!(%late, "the lease on the proxy is not renewed"),
            }
        }
    };
    let keep = move || {
        runtime.block_on(async {
            tokio::select! {
                () = dropped.cancelled() => {}
                () = renew => {}
            }
        });
    };
    std::thread::Builder::new().name("lease".into()).spawn(keep).map_err(failed)?;
    Ok(Some(kept.drop_guard()))
}
