//! Which programs a run uses and what they are: files of this machine, or images at the container
//! engine. May not start anything.

use std::path::PathBuf;

use super::choice::StageName;
use super::manifest::{sha256, version};
use super::{Job, RunError};
use crate::engine::{Engine, EngineError};
use crate::stage::{Program, StageOptions};

/// One program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Built {
    /// What it prints for `--version`.
    pub(super) version: String,
    /// SHA-256 of the file, or of the image's configuration, in hexadecimal.
    pub(super) sha256: String,
}

/// The programs of a run.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) node: Built,
    /// `None` when links are direct, or a foreign Toxiproxy is used.
    pub(super) proxy: Option<Built>,
    /// Version of the container engine, if one is used.
    pub(super) engine: Option<String>,
}

/// Looks for the programs of a job, and notes in it where they are.
pub(super) fn find(job: &mut Job) -> Result<(), RunError> {
    if job.choice.stage == StageName::Process {
        locate(Program::Node, &mut job.stage.node)?;
        if has_proxy(job) {
            locate(Program::Proxy, &mut job.stage.proxy)?;
        }
    }
    if job.choice.stage == StageName::Sim {
        locate(Program::Sim, &mut job.stage.sim)?;
    }
    Ok(())
}

fn has_proxy(job: &Job) -> bool {
    job.plan.topology.proxied && job.stage.toxiproxy.is_none()
}

fn locate(program: Program, given: &mut Option<PathBuf>) -> Result<(), RunError> {
    let path = program.find(given.take()).map_err(|error| RunError::stage("start", error))?;
    *given = Some(path);
    Ok(())
}

/// Says what the programs are that were found.
pub(super) async fn describe(job: &Job) -> Result<Programs, RunError> {
    look(job.choice.stage, &job.stage, has_proxy(job)).await
}

/// SHA-256 of the programs, or of the images, that runs at a stage use, by name; the proxy's if
/// some of them are `proxied`.
///
/// # Errors
/// When one of them is missing.
pub async fn identities(
    stage: StageName,
    options: &StageOptions,
    proxied: bool,
) -> Result<Vec<(String, String)>, RunError> {
    let found = look(stage, options, proxied && options.toxiproxy.is_none()).await?;
    let node = ("node".to_owned(), found.node.sha256);
    Ok(std::iter::once(node)
        .chain(found.proxy.map(|proxy| ("proxy".to_owned(), proxy.sha256)))
        .collect())
}

async fn look(
    stage: StageName,
    options: &StageOptions,
    proxied: bool,
) -> Result<Programs, RunError> {
    match stage {
        StageName::Process => {
            let node = file(Program::Node, options.node.clone())?;
            let proxy = proxied.then(|| file(Program::Proxy, options.proxy.clone()));
            Ok(Programs { node, proxy: proxy.transpose()?, engine: None })
        }
        StageName::Sim => {
            let node = file(Program::Sim, options.sim.clone())?;
            Ok(Programs { node, proxy: None, engine: None })
        }
        StageName::Docker => {
            let found = images(&options.node_image, &options.proxy_image, proxied).await;
            found.map_err(|error| RunError::stage("start", error))
        }
    }
}

fn file(program: Program, given: Option<PathBuf>) -> Result<Built, RunError> {
    let path = program.find(given).map_err(|error| RunError::stage("start", error))?;
    Ok(Built { version: version(&path)?, sha256: sha256(&path)? })
}

async fn images(node: &str, proxy: &str, proxied: bool) -> Result<Programs, EngineError> {
    let engine = Engine::connect().await?;
    let node = built(&engine, node).await?;
    let proxy = match proxied {
        true => Some(built(&engine, proxy).await?),
        false => None,
    };
    Ok(Programs { node, proxy, engine: Some(engine.version().await?) })
}

async fn built(engine: &Engine, image: &str) -> Result<Built, EngineError> {
    let image = engine.image(image).await?;
    let version = image.version.unwrap_or_else(|| "unknown".to_owned());
    let sha256 = image.id.trim_start_matches("sha256:").to_owned();
    Ok(Built { version, sha256 })
}
