//! The container engine: whether it answers, which images it has, and what of a run is there, by
//! label. What the containers of a run are made of lives in `crate::stage`.
//! May not know plans, servers or proxies.

mod left;

use std::collections::HashMap;
use std::time::Duration;

use testcontainers::bollard::Docker;
use testcontainers::bollard::errors::Error as ApiError;
use testcontainers::core::client::docker_client_instance;

pub use left::{Left, leftovers, remove_run};

/// Label with the run's name on all that belongs to a run.
pub const RUN_LABEL: &str = "org.quorate.run";
/// Label with the harness that made it, a [`crate::owner::Owner`].
pub const OWNER_LABEL: &str = "org.quorate.harness";
/// Label of images with what their program prints for `--version`.
pub const VERSION_LABEL: &str = "org.quorate.version";

/// Longest wait for the first answer of an engine.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Why the engine did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no engine.
    #[error(
        "no container engine answers ({reason}); start one, point DOCKER_HOST at it, or use \
         --stage process"
    )]
    NoEngine {
        /// Cause.
        reason: String,
    },
    /// An image is missing.
    #[error("the container engine has no image {image}; `make image` builds it")]
    NoImage {
        /// Its name.
        image: String,
    },
    /// A request failed.
    #[error("container engine, {request}: {reason}")]
    Failed {
        /// What was asked.
        request: String,
        /// Its answer.
        reason: String,
    },
}

impl EngineError {
    /// A failure of `request`.
    pub(crate) fn failed<E: ToString>(request: impl Into<String>) -> impl FnOnce(E) -> Self {
        let request = request.into();
        move |error| Self::Failed { request, reason: error.to_string() }
    }
}

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Name and tag.
    pub name: String,
    /// Digest of its configuration, `sha256:…`.
    pub id: String,
    /// What its program prints for `--version`, if the image says.
    pub version: Option<String>,
}

/// An engine that answers.
#[derive(Debug, Clone)]
pub struct Engine {
    api: Docker,
}

impl Engine {
    /// The engine that `DOCKER_HOST` names, else the usual one of this machine.
    ///
    /// # Errors
    /// When none answers.
    pub async fn connect() -> Result<Self, EngineError> {
        let answer = async {
            let api = docker_client_instance().await.map_err(|error| error.to_string())?;
            // Engines refuse clients that are newer than they are.
            api.negotiate_version().await.map_err(|error| error.to_string())
        };
        let answer = tokio::time::timeout(ANSWER_LIMIT, answer).await;
        let late = || Err(format!("no answer within {ANSWER_LIMIT:?}"));
        match answer.unwrap_or_else(|_| late()) {
            Ok(api) => Ok(Self { api }),
            Err(reason) => Err(EngineError::NoEngine { reason }),
        }
    }

    pub(crate) fn api(&self) -> &Docker {
        &self.api
    }

    /// Version of the engine, and of the control groups it uses.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn version(&self) -> Result<String, EngineError> {
        let info = self.api.info().await.map_err(EngineError::failed("info"))?;
        let version = info.server_version.unwrap_or_else(|| "unknown".to_string());
        let groups = info.cgroup_version.map_or_else(|| "?".to_string(), |found| found.to_string());
        Ok(format!("{version}, cgroup v{groups}"))
    }

    /// The folder in which it keeps what it has.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn root(&self) -> Result<String, EngineError> {
        let info = self.api.info().await.map_err(EngineError::failed("info"))?;
        info.docker_root_dir.ok_or_else(|| EngineError::failed("info")("it names no folder"))
    }

    /// The image of this name. Nothing is ever pulled.
    ///
    /// # Errors
    /// When the engine does not have it.
    pub async fn image(&self, name: &str) -> Result<Image, EngineError> {
        let found = match self.api.inspect_image(name).await {
            Ok(found) => found,
            Err(ApiError::DockerResponseServerError { status_code: 404, .. }) => {
                return Err(EngineError::NoImage { image: name.to_string() });
            }
            Err(error) => return Err(EngineError::failed(format!("image {name}"))(error)),
        };
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        let version = labels.get(VERSION_LABEL).cloned();
        Ok(Image { name: name.to_string(), id: found.id.unwrap_or_default(), version })
    }
}

/// A filter as the engine's lists take it: what has this label, with this value if one is given.
fn with_label(label: &str, value: Option<&str>) -> HashMap<String, Vec<String>> {
    let wanted = value.map_or_else(|| label.to_string(), |value| format!("{label}={value}"));
    HashMap::from([("label".to_string(), vec![wanted])])
}
