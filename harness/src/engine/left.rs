//! What runs left at the engine, found by label, and its removal: at the end of a run, by the
//! guard of a killed harness, and by `quorate clean`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use testcontainers::bollard::errors::Error as ApiError;
use testcontainers::bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
};

use super::{Engine, EngineError, OWNER_LABEL, RUN_LABEL, with_label};
use crate::owner::Owner;

/// Longest wait for a container that somebody else removes.
const CONTAINER_MAX: Duration = Duration::from_secs(30);
/// Longest wait for a network that is still used.
const NETWORK_MAX: Duration = Duration::from_secs(10);
/// Pause between two attempts: the engine does not tell when a removal by others is done.
const POLL: Duration = Duration::from_millis(100);

/// Something at the engine that belongs to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// `container` or `network`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// The run.
    pub run: String,
    /// The harness that made it, if its label can be read.
    pub owner: Option<Owner>,
    id: String,
}

/// Everything at the engine that belongs to some run, containers first.
///
/// # Errors
/// When the engine does not answer as it should.
pub async fn leftovers(engine: &Engine) -> Result<Vec<Left>, EngineError> {
    labelled(engine, None).await
}

/// Removes what a run has at the engine, whatever state it is in; gives what it removed.
///
/// # Errors
/// When something could not be removed; the rest is removed all the same.
pub async fn remove_run(engine: &Engine, run: &str) -> Result<Vec<Left>, EngineError> {
    let found = labelled(engine, Some(run)).await?;
    let (containers, networks) =
        found.iter().partition::<Vec<&Left>, _>(|left| left.is_container());
    let mut first = Ok(());
    let removals = containers.into_iter().map(|left| left.remove(engine));
    // Together: each of them takes as long as a process takes to die.
    for removed in futures_util::future::join_all(removals).await {
        first = first.and(removed);
    }
    // A network goes when nobody is on it.
    for left in networks {
        first = first.and(left.remove(engine).await);
    }
    first.map(|()| found)
}

async fn labelled(engine: &Engine, run: Option<&str>) -> Result<Vec<Left>, EngineError> {
    let filter = with_label(RUN_LABEL, run);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filter).build();
    let containers = engine.api().list_containers(Some(options)).await;
    let containers = containers.map_err(EngineError::failed("list of containers"))?;
    let options = ListNetworksOptionsBuilder::new().filters(&filter).build();
    let networks = engine.api().list_networks(Some(options)).await;
    let networks = networks.map_err(EngineError::failed("list of networks"))?;
    let containers = containers.into_iter().map(|found| {
        let name = found.names.unwrap_or_default().concat();
        let name = name.trim_start_matches('/').to_string();
        Left::new("container", name, found.id, found.labels)
    });
    let networks = networks
        .into_iter()
        .map(|found| Left::new("network", found.name.unwrap_or_default(), found.id, found.labels));
    Ok(containers.chain(networks).collect())
}

impl Left {
    fn new(
        what: &'static str,
        name: String,
        id: Option<String>,
        labels: Option<HashMap<String, String>>,
    ) -> Self {
        let labels = labels.unwrap_or_default();
        let run = labels.get(RUN_LABEL).cloned().unwrap_or_default();
        let owner = labels.get(OWNER_LABEL).and_then(|owner| owner.parse().ok());
        Self { what, name, run, owner, id: id.unwrap_or_default() }
    }

    fn is_container(&self) -> bool {
        self.what == "container"
    }

    /// Removes it; others may do so at the same time, and it is gone when this is done.
    async fn remove(&self, engine: &Engine) -> Result<(), EngineError> {
        let deadline = Instant::now() + self.patience();
        loop {
            match self.try_remove(engine).await {
                Ok(()) => return Ok(()),
                // Somebody else has removed it.
                Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => return Ok(()),
                Err(error) if Instant::now() < deadline && self.may_go_yet(&error) => {
                    tokio::time::sleep(POLL).await;
                }
                Err(error) => {
                    let request = format!("removal of {} {}", self.what, self.name);
                    return Err(EngineError::failed(request)(error));
                }
            }
        }
    }

    fn patience(&self) -> Duration {
        if self.is_container() { CONTAINER_MAX } else { NETWORK_MAX }
    }

    /// True of a container that somebody else is removing, and of a network that is refused: what
    /// was on it may still be leaving.
    fn may_go_yet(&self, error: &ApiError) -> bool {
        let ApiError::DockerResponseServerError { status_code, message } = error else {
            return false;
        };
        match status_code {
            409 if self.is_container() => message.contains("already in progress"),
            403 | 409 | 500 => !self.is_container(),
            _ => false,
        }
    }

    async fn try_remove(&self, engine: &Engine) -> Result<(), ApiError> {
        if self.is_container() {
            // With its anonymous volumes, which hold the data.
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            engine.api().remove_container(&self.id, Some(options)).await
        } else {
            engine.api().remove_network(&self.id).await
        }
    }
}
