//! The stage of child processes: servers behind the fault proxy on this machine, watched over by
//! the guard. Puts the parts together; none of their work is done here.

use std::path::PathBuf;
use std::sync::Arc;

use quorate_check::history::Nanos;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::child::Nest;
use super::cluster::{Cluster, data_folder};
use super::disk_process::DiskProcess;
use super::network::{LEASE_RENEWAL, Network};
use super::nursery::Nursery;
use super::proxy_client::ProxyClient;
use super::proxy_process::ProxyProcess;
use super::{Link, Program, StageError, StageOptions, accounting, feasible, host, sampling};
use crate::fault::{self, Ledger};
use crate::folder::{FaultRecord, RunFolder, SoundnessFinding};
use crate::guard::{Guard, Request};
use crate::plan::Plan;
use crate::run::parts::{Clock, Endpoint, Stage};

/// Servers and proxy as child processes. Dropping it kills everything and removes the data.
#[derive(Debug)]
pub struct ProcessStage {
    cluster: Arc<Cluster>,
    ledger: Arc<Ledger>,
    folder: RunFolder,
    clock: Clock,
    /// Found before the servers were started.
    findings: Vec<SoundnessFinding>,
    lease: Option<AbortOnDropHandle<()>>,
}

impl ProcessStage {
    /// Starts servers and proxies with settings beside the plan, and waits until every server is
    /// ready.
    ///
    /// # Errors
    /// When something cannot be started; nothing of it is left behind then.
    pub async fn start_with(
        plan: &Plan,
        folder: &RunFolder,
        clock: Clock,
        options: StageOptions,
    ) -> Result<Self, StageError> {
        feasible::can_do(plan, &options)?;
        let data = data_folder(folder);
        for path in [folder.logs(), data.clone()] {
            std::fs::create_dir_all(&path).map_err(StageError::file(path))?;
        }
        let mut findings = Vec::new();
        findings.extend(host::probe_disk(&data)?);
        let links = Link::proxied(&plan.topology).len();
        findings.extend(host::raise_open_files(links, plan.load.clients));
        let nest = nest(&options, folder)?;
        if !options.keep_data {
            nest.guard.ask(Request::Temp { path: absolute(&data)? })?;
        }
        let cleanup = RemoveOnDrop((!options.keep_data).then_some(data));
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
        let lease = keep_lease(&cluster);
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
        healed?;
        findings.extend(accounted?);
        if !closed? {
            let detail = "the proxy did not end by itself".to_string();
            let code = "unclean_stop".to_string();
            findings.push(SoundnessFinding { code, fatal: false, detail });
        }
        Ok(findings)
    }
}

impl Stage for ProcessStage {
    type Error = StageError;

    async fn start(plan: &Plan, folder: &RunFolder, clock: Clock) -> Result<Self, StageError> {
        Self::start_with(plan, folder, clock, StageOptions::from_env()).await
    }

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

impl Drop for ProcessStage {
    fn drop(&mut self) {
        self.cluster.kill_now();
        if !self.cluster.options.keep_data {
            remove(&data_folder(&self.folder));
        }
    }
}

/// Removes the data of a start that failed.
struct RemoveOnDrop(Option<PathBuf>);

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

fn nest(options: &StageOptions, folder: &RunFolder) -> Result<Nest, StageError> {
    let guard_program = Program::Guard.find(options.guard.clone())?;
    let guard = Guard::start(&guard_program, &folder.logs().join("guard.log"))?;
    let failed = |source| StageError::Start { process: "nursery".to_string(), source };
    let nursery = Nursery::start().map_err(failed)?;
    Ok(Nest { nursery, guard: Arc::new(guard), guard_program })
}

async fn establish(
    plan: &Plan,
    folder: &RunFolder,
    options: &StageOptions,
    nest: &Nest,
) -> Result<Network, StageError> {
    let (client, process) = match &options.toxiproxy {
        Some(url) => (ProxyClient::at_url(url)?, None),
        None => {
            let program = Program::Proxy.find(options.proxy.clone())?;
            let log = folder.logs().join("proxy.log");
            let process = ProxyProcess::start(nest, program, plan.seed, &log).await?;
            (ProxyClient::new(process.api()), Some(process))
        }
    };
    Network::establish(client, process, Link::proxied(&plan.topology), plan.seed).await
}

/// Renews the lease until dropped; a proxy that hears nothing heals by itself.
fn keep_lease(cluster: &Arc<Cluster>) -> Option<AbortOnDropHandle<()>> {
    if !cluster.network.as_ref().is_some_and(Network::is_own) {
        return None;
    }
    let cluster = Arc::clone(cluster);
    let task = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(LEASE_RENEWAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(network) = &cluster.network
                && let Err(error) = network.renew_lease().await
            {
                tracing::warn!(%error, "the lease on the proxy was not renewed");
            }
        }
    });
    Some(AbortOnDropHandle::new(task))
}

fn absolute(path: &std::path::Path) -> Result<PathBuf, StageError> {
    std::path::absolute(path).map_err(StageError::file(path))
}
