//! What a run has at the container engine: a network of its own with fixed addresses, and the
//! containers on it, all labelled with the run. One life of a container is in `container.rs`.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use testcontainers::bollard::errors::Error as ApiError;
use testcontainers::bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig, Ipam,
    IpamConfig, NetworkCreateRequest, NetworkingConfig,
};
use testcontainers::bollard::query_parameters::CreateContainerOptionsBuilder;

use super::StageError;
use super::child::Recipe;
use crate::engine::{Engine, EngineError, OWNER_LABEL, RUN_LABEL, remove_run};
use crate::owner::Owner;
use crate::plan::Limits;

/// Attempts to get a subnet before somebody else takes it.
const SUBNET_TRIES: u32 = 5;
/// Largest prefix of a subnet with room for the proxy and the servers.
const PREFIX_MAX: u8 = 24;
/// Place of the proxy in the subnet, behind the engine's own gateway.
const PROXY_PLACE: u32 = 2;
/// Place of the first server.
const SERVERS_PLACE: u32 = 3;

/// What is run as a container.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Berth {
    /// Name of the image.
    pub(crate) image: String,
    /// Its address on the run's network, over all its lives.
    pub(crate) address: Ipv4Addr,
    /// What it may use.
    pub(crate) limits: Limits,
}

/// The containers of a run and their network.
#[derive(Debug)]
pub(crate) struct Containers {
    pub(crate) engine: Engine,
    run: String,
    owner: Owner,
    network: String,
    subnet: Ipv4Addr,
    /// Where this machine is on the network.
    gateway: Ipv4Addr,
}

impl Containers {
    /// Makes the network. Whatever comes of it, [`Self::close`] or [`remove_run`] removes it.
    pub(crate) async fn open(engine: Engine, run: String) -> Result<Arc<Self>, StageError> {
        let failed = |source| StageError::Start { process: "containers".to_string(), source };
        let owner = Owner::current().map_err(failed)?;
        let network = format!("quorate-{run}");
        let labels = labels(&run, owner);
        let mut tries = 0;
        let (subnet, gateway) = loop {
            tries += 1;
            // Addresses may be given to containers only where the subnet was asked for by name;
            // the engine knows which are free.
            let free = free_subnet(&engine, &network, &labels).await?;
            let config = IpamConfig {
                subnet: Some(free.subnet.clone()),
                gateway: Some(free.gateway.to_string()),
                ..IpamConfig::default()
            };
            match create_network(&engine, &network, &labels, Some(config)).await {
                Ok(()) => break (free.base, free.gateway),
                Err(error) if tries == SUBNET_TRIES => return Err(error.into()),
                Err(error) => tracing::debug!(%error, "somebody else took the subnet"),
            }
        };
        Ok(Arc::new(Self { engine, run, owner, network, subnet, gateway }))
    }

    /// A name for a run of this harness, known before anything is made.
    pub(crate) fn name_run() -> Result<String, StageError> {
        static RUNS: AtomicU32 = AtomicU32::new(1);
        let failed = |source| StageError::Start { process: "containers".to_string(), source };
        let owner = Owner::current().map_err(failed)?;
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        Ok(format!("{}-{}-{number}", owner.pid(), owner.started()))
    }

    /// Name of the run.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    /// Where this machine is reached from the containers.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// Address of the proxy.
    pub(crate) fn proxy(&self) -> Ipv4Addr {
        self.at(PROXY_PLACE)
    }

    /// Address of a server, by its place in the topology.
    pub(crate) fn server(&self, index: usize) -> Ipv4Addr {
        // A topology has few servers.
        self.at(SERVERS_PLACE + u32::try_from(index).unwrap_or_default())
    }

    fn at(&self, place: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.subnet.to_bits() + place)
    }

    /// The container of a recipe, made at the first time, not started. Gives its name.
    pub(crate) async fn container(
        &self,
        recipe: &Recipe,
        berth: &Berth,
    ) -> Result<String, EngineError> {
        let name = format!("{}-{}", self.network, recipe.name);
        if self.engine.api().inspect_container(&name, None).await.is_ok() {
            return Ok(name);
        }
        let environment = recipe.environment.iter();
        let body = ContainerCreateBody {
            image: Some(berth.image.clone()),
            hostname: Some(recipe.name.clone()),
            labels: Some(labels(&self.run, self.owner)),
            cmd: Some(recipe.arguments.clone()),
            env: Some(environment.map(|(key, value)| format!("{key}={value}")).collect()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            // The harness asks by itself; a process of the image's own would join what is measured.
            healthcheck: Some(HealthConfig {
                test: Some(vec!["NONE".to_string()]),
                ..HealthConfig::default()
            }),
            host_config: Some(self.host_config(berth.limits)),
            networking_config: Some(self.endpoint(berth.address)),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let created = self.engine.api().create_container(Some(options), body).await;
        match created {
            Ok(_) => Ok(name),
            Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => {
                Err(EngineError::NoImage { image: berth.image.clone() })
            }
            Err(error) => Err(EngineError::failed(format!("container {name}"))(error)),
        }
    }

    fn host_config(&self, limits: Limits) -> HostConfig {
        let memory = limits.memory_bytes.and_then(|bytes| i64::try_from(bytes).ok());
        #[allow(clippy::cast_possible_truncation, reason = "checked by the spec")]
        let billionths = |cpus: f64| (cpus * 1e9).round() as i64;
        HostConfig {
            network_mode: Some(self.network.clone()),
            memory,
            // Memory and swap together: no swap, or the server would slow down instead.
            memory_swap: memory,
            nano_cpus: limits.cpus.map(billionths),
            cap_drop: Some(vec!["ALL".to_string()]),
            security_opt: Some(vec!["no-new-privileges".to_string()]),
            ..HostConfig::default()
        }
    }

    fn endpoint(&self, address: Ipv4Addr) -> NetworkingConfig {
        let fixed = EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..EndpointIpamConfig::default()
        };
        let endpoint = EndpointSettings { ipam_config: Some(fixed), ..EndpointSettings::default() };
        NetworkingConfig {
            endpoints_config: Some(HashMap::from([(self.network.clone(), endpoint)])),
        }
    }

    /// Removes everything.
    pub(crate) async fn close(&self) -> Result<(), EngineError> {
        remove_run(&self.engine, &self.run).await.map(drop)
    }
}

fn labels(run: &str, owner: Owner) -> HashMap<String, String> {
    let run = (RUN_LABEL.to_string(), run.to_string());
    HashMap::from([run, (OWNER_LABEL.to_string(), owner.to_string())])
}

/// A subnet as the engine writes it, and its parts.
struct Free {
    subnet: String,
    base: Ipv4Addr,
    gateway: Ipv4Addr,
}

/// Lets the engine choose a subnet, by a network that is removed again.
async fn free_subnet(
    engine: &Engine,
    name: &str,
    labels: &HashMap<String, String>,
) -> Result<Free, EngineError> {
    create_network(engine, name, labels, None).await?;
    let failed = || EngineError::failed(format!("network {name}"));
    let found = engine.api().inspect_network(name, None).await.map_err(failed());
    engine.api().remove_network(name).await.map_err(failed())?;
    let configs = found?.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    let chosen = configs.iter().find_map(|config| {
        let subnet = config.subnet.clone()?;
        let base = base_of(&subnet)?;
        // Some engines name the gateway by its own mask.
        let gateway =
            config.gateway.as_deref().and_then(|text| text.split('/').next()?.parse().ok());
        let gateway = gateway.unwrap_or(Ipv4Addr::from_bits(base.to_bits() + 1));
        Some(Free { subnet, base, gateway })
    });
    chosen.ok_or_else(|| EngineError::Failed {
        request: format!("network {name}"),
        reason: format!("no IPv4 subnet with room for a cluster: {configs:?}"),
    })
}

/// The first address of a subnet that is large enough.
fn base_of(subnet: &str) -> Option<Ipv4Addr> {
    let (base, prefix) = subnet.split_once('/')?;
    let base: Ipv4Addr = base.parse().ok()?;
    (prefix.parse::<u8>().ok()? <= PREFIX_MAX).then_some(base)
}

async fn create_network(
    engine: &Engine,
    name: &str,
    labels: &HashMap<String, String>,
    config: Option<IpamConfig>,
) -> Result<(), EngineError> {
    let ipam = config.map(|config| Ipam { config: Some(vec![config]), ..Ipam::default() });
    let request = NetworkCreateRequest {
        name: name.to_string(),
        driver: Some("bridge".to_string()),
        labels: Some(labels.clone()),
        ipam,
        ..NetworkCreateRequest::default()
    };
    let created = engine.api().create_network(request).await;
    created.map(drop).map_err(EngineError::failed(format!("network {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_must_have_room() {
        assert_eq!(base_of("172.18.0.0/16"), Some(Ipv4Addr::new(172, 18, 0, 0)));
        assert_eq!(base_of("10.0.1.0/24"), Some(Ipv4Addr::new(10, 0, 1, 0)));
        assert_eq!(base_of("10.0.0.0/25"), None);
        assert_eq!(base_of("fd00::/64"), None);
    }
}
