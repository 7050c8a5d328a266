//! Which programs a run uses and what they are: files of this machine, or images at the container
//! engine. May not start anything.

use std::path::PathBuf;

use super::choice::StageName;
use super::manifest::{sha256, version};
use super::{Job, RunError};
use crate::engine::{Engine, EngineError};
use crate::stage::Program;

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
    let stage = &job.stage;
    match job.choice.stage {
        StageName::Process => {
            let node = file(Program::Node, stage.node.clone())?;
            let proxy = has_proxy(job).then(|| file(Program::Proxy, stage.proxy.clone()));
            Ok(Programs { node, proxy: proxy.transpose()?, engine: None })
        }
        StageName::Docker => {
            let found = images(&stage.node_image, &stage.proxy_image, has_proxy(job)).await;
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
