//! The stage of child processes: servers behind the fault proxy on this machine, watched over by
//! the guard. Prepares the machine; running them is `live.rs`.

use super::cluster::data_folder;
use super::live::{Ground, LiveStage, RemoveOnDrop, guard};
use super::{StageError, StageOptions, feasible, host};
use crate::folder::RunFolder;
use crate::guard::Request;
use crate::plan::Plan;
use crate::run::parts::Clock;

/// Servers and proxy as child processes.
#[derive(Debug)]
pub struct ProcessStage;

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
    ) -> Result<LiveStage, StageError> {
        feasible::can_do(plan, &options)?;
        let data = data_folder(folder);
        for path in [folder.logs(), data.clone()] {
            std::fs::create_dir_all(&path).map_err(StageError::file(path))?;
        }
        let findings = Vec::from_iter(host::probe_disk(&data)?);
        let nest = guard(&options, folder)?;
        if !options.keep_data {
            let path = std::path::absolute(&data).map_err(StageError::file(&data))?;
            nest.guard.ask(Request::Temp { path })?;
        }
        let cleanup = RemoveOnDrop((!options.keep_data).then_some(data));
        let ground = Ground { nest, cleanup, findings };
        LiveStage::start(plan, folder, clock, options, ground).await
    }
}
