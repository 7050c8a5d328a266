//! `quorate check` and `quorate report`: verdicts and report of a run folder, long after the run.

use super::arguments::FolderArguments;
use super::compared::{gate, read_ab, tell_ab};
use super::{Exit, Output, verdict};
use crate::capacity::Search;
use crate::folder::RunFolder;
use crate::report::{self, ReportError};
use crate::resume::Resumable;
use crate::run::judge::judge;
use crate::sweep::Ledger;

pub(super) fn check(arguments: &FolderArguments) -> anyhow::Result<Exit> {
    let judged = judge(&RunFolder::new(&arguments.folder))?;
    if arguments.json {
        Output.json(&serde_json::json!({
            "safety": judged.report,
            "as_expected": judged.comparison,
            "availability": judged.availability,
            "measurement": judged.findings,
            "notes": judged.notes,
        }))?;
    } else {
        Output.line(judged.report.to_string().trim_end())?;
        for mismatch in &judged.comparison.mismatches {
            Output.line(format!("not as expected: {mismatch}"))?;
        }
        for line in verdict::availability(&judged) {
            Output.line(line)?;
        }
        for finding in &judged.findings {
            let weight = if finding.fatal { "unsound" } else { "note" };
            Output.line(format!("{weight}: {}: {}", finding.code, finding.detail))?;
        }
        for note in &judged.notes {
            Output.line(format!("note: {note}"))?;
        }
    }
    Ok(verdict::exit(&judged))
}

pub(super) fn report(arguments: &FolderArguments) -> anyhow::Result<Exit> {
    let folder = RunFolder::new(&arguments.folder);
    if folder.plan().exists() {
        let written = report::write(&folder)?;
        if arguments.json {
            Output.json(&written.summary)?;
        } else {
            Output.line(format!("report: {}", written.report.display()))?;
        }
    } else if arguments.folder.join(Ledger::FILE).is_file() {
        let page = report::sweep(&arguments.folder, &Ledger::read(&arguments.folder)?)?;
        Output.line(format!("index: {}", page.display()))?;
    } else if arguments.folder.join(Search::FILE).is_file() {
        let page = report::capacity(&arguments.folder, &Search::read(&arguments.folder)?)?;
        Output.line(format!("index: {}", page.display()))?;
    } else if let Some(ab) = read_ab(&arguments.folder)? {
        let told = tell_ab(&arguments.folder, &ab, &gate(None)?, false, (None, &arguments.folder))?;
        match told.json["page"].as_str() {
            Some(page) => Output.line(format!("page: {page}"))?,
            None => Output.line("no block is done yet, so there is nothing to draw")?,
        }
    } else {
        // The folder of a suite holds run folders.
        if !arguments.folder.is_dir() || report::run_folders(&arguments.folder)?.is_empty() {
            let folder = arguments.folder.display().to_string();
            return Err(ReportError::NoRuns { folder }.into());
        }
        let index = report::index(&arguments.folder)?;
        Output.line(format!("index: {}", index.page.display()))?;
    }
    Ok(Exit::Good)
}
