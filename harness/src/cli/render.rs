//! `quorate render`: the servers of a workload as a file for an engine of many machines.

use super::arguments::{RenderArguments, RenderTarget};
use super::{Exit, Output};
use crate::plan::build;
use crate::render::{self, Options, Target};
use crate::spec::{SpecError, workload};

pub(super) fn render(arguments: &RenderArguments) -> anyhow::Result<Exit> {
    let spec = workload(&arguments.spec.file, &arguments.spec.overrides()?)?;
    let plan = build(&spec, spec.seed).map_err(SpecError::Invalid)?;
    let target = match arguments.target {
        RenderTarget::K8s => Target::Kubernetes,
        RenderTarget::Swarm => Target::Swarm,
    };
    let options = Options {
        image: arguments.image.clone(),
        namespace: arguments.namespace.clone(),
        storage: arguments.storage.clone(),
        port: arguments.port,
    };
    let text = render::render(&plan, target, &options)?;
    Output.line(text.trim_end())?;
    Ok(Exit::Good)
}
