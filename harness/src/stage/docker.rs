//! The stage of containers: servers and fault proxy on a network of their own at a container engine
//! of this machine. Prepares the engine; running them is `live.rs`.

use std::path::PathBuf;

use super::containers::Containers;
use super::live::{Ground, LiveStage, RemoveOnDrop, guard};
use super::{StageError, StageOptions, feasible, host};
use crate::engine::Engine;
use crate::folder::{RunFolder, SoundnessFinding};
use crate::guard::Request;
use crate::plan::Plan;
use crate::run::parts::Clock;

/// Servers and proxy as containers.
#[derive(Debug)]
pub struct DockerStage;

impl DockerStage {
    /// Starts servers and proxies with settings beside the plan, and waits until every server is
    /// ready.
    ///
    /// # Errors
    /// When there is no engine, it lacks an image, or something cannot be started; nothing of it
    /// is left behind then.
    pub async fn start_with(
        plan: &Plan,
        folder: &RunFolder,
        clock: Clock,
        options: StageOptions,
    ) -> Result<LiveStage, StageError> {
        feasible::containers_can_do(plan, &options)?;
        let engine = Engine::connect().await?;
        for image in [&options.node_image, &options.proxy_image] {
            engine.image(image).await?;
        }
        std::fs::create_dir_all(folder.logs()).map_err(StageError::file(folder.logs()))?;
        let findings = vec![probe_volumes(&engine).await].into_iter().flatten().collect();
        let mut nest = guard(&options, folder)?;
        let run = Containers::name_run()?;
        // Before there is anything to remove.
        nest.guard.ask(Request::Run { run: run.clone() })?;
        nest.containers = Some(Containers::open(engine, run).await?);
        let ground = Ground { nest, cleanup: RemoveOnDrop(None), findings };
        LiveStage::start(plan, folder, clock, options, ground).await
    }
}

/// Measures the disk that the engine keeps volumes on, where this process may write to it.
async fn probe_volumes(engine: &Engine) -> Option<SoundnessFinding> {
    let note = |detail: String| {
        let code = "disk_not_probed".to_string();
        Some(SoundnessFinding { code, fatal: false, detail })
    };
    match engine.root().await {
        Ok(root) => match host::probe_disk(&PathBuf::from(root).join("volumes")) {
            Ok(finding) => finding,
            Err(error) => note(format!("the disk of the engine's volumes: {error}")),
        },
        Err(error) => note(error.to_string()),
    }
}
