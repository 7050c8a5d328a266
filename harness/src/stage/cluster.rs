//! The servers, the links between them and the processes they all are: what the stage starts and
//! the faults work on.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::body::Form;
use super::child::Nest;
use super::containers::Berth;
use super::disk_process::DiskProcess;
use super::network::Network;
use super::node::{Life, Node, NodeSetup, Place};
use super::{Link, Program, StageError, StageOptions, host};
use crate::folder::{RunFolder, SoundnessFinding};
use crate::plan::{Plan, Topology};
use crate::run::parts::{Clock, Endpoint};

/// Ports of a server that has an address of its own.
const HTTP_PORT: u16 = 2480;
/// The same for other servers.
const PEER_PORT: u16 = 2424;
/// The volume of the server's image.
const CONTAINER_DATA: &str = "/data";
/// REPLICAs that are started at the same time: more of them would only wait for each other.
const JOIN_AT_ONCE: usize = 10;

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// MASTERs, then REPLICAs.
    pub(crate) names: Vec<String>,
    pub(crate) clock: Clock,
    pub(crate) options: StageOptions,
    /// In the order of `names`.
    pub(crate) nodes: Vec<Node>,
    /// `None` when links are not proxied.
    pub(crate) network: Option<Network>,
    /// By server; empty when no fault of the plan hurts disks.
    pub(crate) disks: BTreeMap<String, DiskProcess>,
    /// Of the run.
    pub(crate) seed: u64,
    /// Last, so that servers and proxy end before the threads and the guard behind them.
    pub(crate) nest: Nest,
}

impl Cluster {
    /// Starts every server, behind the network's proxies if there are any, and waits until all
    /// are ready.
    pub(crate) async fn start(
        plan: &Plan,
        folder: &RunFolder,
        clock: Clock,
        options: StageOptions,
        nest: Nest,
        network: Option<Network>,
    ) -> Result<Arc<Self>, StageError> {
        let names = plan.topology.servers();
        let mut disks = BTreeMap::new();
        for name in names.iter().filter(|_| plan.hurts_disks()) {
            let data = data_folder(folder).join(name);
            let disk = DiskProcess::start(&nest, &options, folder, &data, name).await?;
            disks.insert(name.clone(), disk);
        }
        let nodes = set_up(plan, folder, &options, network.as_ref(), &disks, &nest)?;
        let seed = plan.seed;
        let cluster = Arc::new(Self { names, clock, options, nodes, network, disks, seed, nest });
        let masters = &plan.topology.masters;
        cluster.each(masters, |cluster, node| async move { cluster.launch(&node).await }).await?;
        if let Some(network) = &cluster.network {
            network.open().await?;
        }
        let ready =
            |cluster: Arc<Self>, node: String| async move { cluster.await_ready(&node).await };
        cluster.each(masters, ready).await?;
        let join = |cluster: Arc<Self>, node: String| async move {
            cluster.launch(&node).await?;
            cluster.await_ready(&node).await
        };
        for some in plan.topology.replicas.chunks(JOIN_AT_ONCE) {
            cluster.each(some, join).await?;
        }
        Ok(cluster)
    }

    /// Does the same with each of these servers at the same time; the first error wins.
    async fn each<F, R>(self: &Arc<Self>, servers: &[String], act: F) -> Result<(), StageError>
    where
        F: Fn(Arc<Self>, String) -> R,
        R: Future<Output = Result<(), StageError>> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for name in servers {
            tasks.spawn(act(Arc::clone(self), name.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|panic| StageError::Start {
                process: "a server".to_string(),
                source: std::io::Error::other(panic),
            })??;
        }
        Ok(())
    }

    pub(crate) fn node(&self, name: &str) -> Result<&Node, StageError> {
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.ok_or_else(|| StageError::Start {
            process: name.to_string(),
            source: std::io::Error::other("no such server in this topology"),
        })
    }

    /// Starts a server and points the proxies at where it listens now.
    pub(crate) async fn launch(&self, name: &str) -> Result<(), StageError> {
        let node = self.node(name)?;
        let seeds = if node.joins() { self.seeds(name) } else { Vec::new() };
        let life = node.start(&self.nest, self.options.ready_limit, &seeds).await?;
        match &self.network {
            Some(network) => network.aim(name, &life.said).await,
            None => Ok(()),
        }
    }

    /// The MASTERs and where `joiner` reaches them.
    fn seeds(&self, joiner: &str) -> Vec<(String, SocketAddr)> {
        let seed = |node: &Node| {
            let link = Link::new(joiner, node.name());
            let proxied = self.network.as_ref().and_then(|network| network.address(&link));
            Some((node.name().to_string(), proxied.or(node.life()?.said.peer)?))
        };
        self.nodes.iter().filter(|node| !node.joins()).filter_map(seed).collect()
    }

    /// Waits until a started server is ready to serve.
    pub(crate) async fn await_ready(&self, name: &str) -> Result<(), StageError> {
        let node = self.node(name)?;
        let Some(life) = node.life() else {
            let source = std::io::Error::other("it was never started");
            return Err(StageError::Start { process: name.to_string(), source });
        };
        node.ready(&life, self.options.ready_limit).await
    }

    /// Where the servers are now.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let endpoint = |node: &Node| {
            let Life { said, .. } = node.life()?;
            let link = Link::new(super::CLIENT, node.name());
            let proxied = self.network.as_ref().and_then(|network| network.address(&link));
            let client = proxied.unwrap_or(said.http);
            Some(Endpoint { node: node.name().to_string(), client, direct: said.http })
        };
        self.nodes.iter().filter_map(endpoint).collect()
    }

    /// Ends every server in good order; what did not go well is a finding.
    pub(crate) async fn stop_servers(self: &Arc<Self>) -> Vec<SoundnessFinding> {
        let mut tasks = JoinSet::new();
        for index in 0..self.nodes.len() {
            let cluster = Arc::clone(self);
            tasks.spawn(async move {
                let (node, limit) = (&cluster.nodes[index], cluster.options.stop_limit);
                let begun = Instant::now();
                let detail = match node.terminate(limit).await {
                    Ok(true) => return None,
                    Ok(false) => {
                        let words = node.latest().map(|process| process.last_words());
                        let words = words.unwrap_or_default();
                        let time = begun.elapsed();
                        format!("{} did not end cleanly ({time:?}):\n{words}", node.name())
                    }
                    Err(error) => error.to_string(),
                };
                Some(SoundnessFinding { code: "unclean_stop".to_string(), fatal: false, detail })
            });
        }
        let mut findings: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        findings.sort_by(|a, b| a.detail.cmp(&b.detail));
        findings
    }

    /// Ends the disks; what did not go well is a finding.
    pub(crate) async fn stop_disks(&self) -> Vec<SoundnessFinding> {
        let mut findings = Vec::new();
        for (server, disk) in &self.disks {
            let detail = match disk.stop().await {
                Ok(true) => continue,
                Ok(false) => format!("the disk of {server} did not unmount by itself"),
                Err(error) => error.to_string(),
            };
            let code = "unclean_stop".to_string();
            findings.push(SoundnessFinding { code, fatal: false, detail });
        }
        findings
    }

    /// Servers that ended although no fault ended them.
    pub(crate) async fn died(&self) -> Vec<SoundnessFinding> {
        let mut findings = Vec::new();
        for node in &self.nodes {
            let Some(process) = node.latest() else {
                continue;
            };
            if process.look().is_some() {
                continue;
            }
            // Dead for the kernel; the runtime learns it a moment later.
            let status = process.exited(self.options.stop_limit).await;
            let status = status.map_or_else(|| "unknown status".to_string(), |s| s.to_string());
            let words = process.last_words();
            let detail = format!("{} ended by itself ({status}):\n{words}", node.name());
            let code = "server_died".to_string();
            findings.push(SoundnessFinding { code, fatal: true, detail });
        }
        findings
    }

    /// Kills everything at once, without a runtime. For the ways out where nobody can wait.
    pub(crate) fn kill_now(&self) {
        // The end of the thread that started the children is their death.
        self.nest.close();
    }
}

fn set_up(
    plan: &Plan,
    folder: &RunFolder,
    options: &StageOptions,
    network: Option<&Network>,
    disks: &BTreeMap<String, DiskProcess>,
    nest: &Nest,
) -> Result<Vec<Node>, StageError> {
    let (masters, names) = (&plan.topology.masters, plan.topology.servers());
    let sites = sites(&plan.topology, options, nest)?;
    let node = |(index, name): (usize, &String)| {
        let others = names.iter().enumerate().filter(|(_, other)| *other != name);
        let dials = others.filter_map(|(at, other)| {
            let proxied = |network: &Network| network.address(&Link::new(name, other));
            let address = network.map_or_else(|| Some(sites[at].peer), proxied)?;
            Some((other.clone(), address))
        });
        let place = match () {
            () if plan.topology.standalone => Place::Alone,
            () if masters.contains(name) => Place::Founds(masters.clone()),
            () => Place::Joins,
        };
        Node::new(NodeSetup {
            name: name.clone(),
            form: sites[index].form.clone(),
            data: match (&sites[index].form, disks.get(name)) {
                (Form::Container(_), _) => PathBuf::from(CONTAINER_DATA),
                (Form::Program(_), Some(disk)) => disk.path().to_path_buf(),
                (Form::Program(_), None) => data_folder(folder).join(name),
            },
            log: folder.logs().join(format!("{name}.log")),
            place,
            write_quorum: plan.topology.write_quorum.clone(),
            heap_bytes: plan.topology.heap_bytes,
            dials: dials.collect(),
            secrets: options.secrets.clone(),
            first_http: sites[index].http,
            first_peer: sites[index].peer,
        })
    };
    Ok(names.iter().enumerate().map(node).collect())
}

/// Where a server listens when it is started for the first time, and as what it runs.
struct Site {
    form: Form,
    http: SocketAddr,
    peer: SocketAddr,
}

/// Where the servers are put, in the order of the topology.
fn sites(
    topology: &Topology,
    options: &StageOptions,
    nest: &Nest,
) -> Result<Vec<Site>, StageError> {
    let (servers, limits) = (topology.servers().len(), topology.limits);
    if let Some(containers) = &nest.containers {
        let site = |index| {
            let address = containers.server(index);
            let image = options.node_image.clone();
            let form = Form::Container(Berth { image, address, limits });
            Site { form, http: (address, HTTP_PORT).into(), peer: (address, PEER_PORT).into() }
        };
        return Ok((0..servers).map(site).collect());
    }
    let program = Program::Node.find(options.node.clone())?;
    // Without proxies everybody must know everybody's port before anybody is started.
    let ports =
        if topology.proxied { vec![0; 2 * servers] } else { host::free_ports(2 * servers)? };
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let pairs = ports.chunks(2).map(|pair| {
        let form = Form::Program(program.clone());
        Site { form, http: at(pair[0]), peer: at(pair[1]) }
    });
    Ok(pairs.collect())
}

/// Where the servers' data lies while they run.
pub(crate) fn data_folder(folder: &RunFolder) -> PathBuf {
    folder.root().join("data")
}
