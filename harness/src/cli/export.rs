//! `quorate export`: a run for other tools.

use super::arguments::{ExportArguments, ExportFormat};
use super::{Exit, Output};
use crate::export;
use crate::folder::RunFolder;

pub(super) fn export(arguments: &ExportArguments) -> anyhow::Result<Exit> {
    let run = RunFolder::new(&arguments.run);
    let out = arguments.out.clone().unwrap_or_else(|| arguments.run.join("export"));
    let written = match arguments.format {
        ExportFormat::Csv => export::csv(&run, &out)?,
        ExportFormat::Hdr => export::logs(&run, &out)?,
    };
    for path in written {
        Output.line(path.display())?;
    }
    Ok(Exit::Good)
}
