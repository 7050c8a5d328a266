//! `quorate explain`: a run in sentences, from its plan and its summary.

use std::path::Path;

use super::arguments::FolderArguments;
use super::{Exit, Output, failed};
use crate::folder::RunFolder;
use crate::plan::{PLAN_FORMATS, Plan};
use crate::report::{self, Explanation, ReportError};
use crate::run::place::quoted;

pub(super) fn explain(arguments: &FolderArguments) -> anyhow::Result<Exit> {
    let folder = arguments.folder.as_path();
    if RunFolder::new(folder).plan().exists() {
        let explained = of_run(folder)?;
        if arguments.json {
            Output.json(&explained)?;
        } else {
            tell(&explained)?;
        }
        return Ok(Exit::Good);
    }
    let runs = if folder.is_dir() { report::run_folders(folder)? } else { Vec::new() };
    if runs.is_empty() {
        return Err(ReportError::NoRuns { folder: folder.display().to_string() }.into());
    }
    // Of a suite that was killed there is what its finished runs say.
    let mut exit = Exit::Good;
    let mut all = Vec::new();
    for run in runs {
        match of_run(&run) {
            Ok(explained) => all.push((run, explained)),
            Err(error) => exit = exit.merge(failed(&error)),
        }
    }
    if arguments.json {
        Output.json(&all.iter().map(|(_, explained)| explained).collect::<Vec<_>>())?;
        return Ok(exit);
    }
    for (run, explained) in &all {
        let command = quoted(&run.display().to_string());
        Output.line(format!("{}: {}", explained.name, explained.verdict))?;
        Output.line(format!("    quorate explain {command}"))?;
    }
    Ok(exit)
}

fn of_run(path: &Path) -> anyhow::Result<Explanation> {
    let folder = RunFolder::new(path);
    let named = path.display().to_string();
    let lacking = || ReportError::NotARun { folder: named.clone() };
    let plan: Plan = report::versioned_in(&folder.plan(), PLAN_FORMATS)?.ok_or_else(lacking)?;
    let no_report = || ReportError::NoSummary { folder: named.clone() };
    let summary = report::read_summary(&folder)?.ok_or_else(no_report)?;
    Ok(report::explain(&plan, &summary, &quoted(&named)))
}

fn tell(explained: &Explanation) -> std::io::Result<()> {
    Output.line(format!("{}: {}", explained.name, explained.verdict))?;
    for part in &explained.parts {
        Output.line(format!("\n{}", part.question))?;
        for sentence in &part.sentences {
            Output.line(format!("  {sentence}"))?;
        }
    }
    Ok(())
}
