//! `quorate list`: what there is to run, and what was run.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::arguments::ListArguments;
use super::{Exit, Output};
use crate::folder::RunFolder;
use crate::spec::{Overrides, scenario, suite, workload};

/// One line of the list.
#[derive(Debug, Serialize)]
struct Entry {
    kind: &'static str,
    file: String,
    about: String,
}

pub(super) fn list(arguments: &ListArguments) -> anyhow::Result<Exit> {
    let mut entries = Vec::new();
    for (kind, folder) in
        [("workload", "workloads"), ("scenario", "chaos"), ("suite", "workloads/suites")]
    {
        for file in files(Path::new(folder), |path| path.extension().is_some_and(|e| e == "yaml"))?
        {
            let about = about(kind, &file);
            entries.push(Entry { kind, file: file.display().to_string(), about });
        }
    }
    for run in runs(&arguments.out)? {
        let about = outcome(&RunFolder::new(&run));
        entries.push(Entry { kind: "run", file: run.display().to_string(), about });
    }
    if arguments.json {
        Output.json(&entries)?;
    } else if entries.is_empty() {
        Output.line("nothing here: no workloads/, chaos/ or results/ in this folder")?;
    } else {
        let rows = entries.into_iter().map(|e| vec![e.kind.to_owned(), e.file, e.about]);
        Output.table(&["kind", "file", "about"], rows.collect())?;
    }
    Ok(Exit::Good)
}

/// Run folders, those inside the folders of suites included.
fn runs(out: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let is_run = |path: &Path| RunFolder::new(path).plan().is_file();
    let mut found = Vec::new();
    for folder in files(out, Path::is_dir)? {
        if is_run(&folder) {
            found.push(folder);
        } else {
            found.extend(files(&folder, is_run)?);
        }
    }
    Ok(found)
}

/// Entries of a folder that `wanted` accepts, sorted; none when there is no folder.
pub(super) fn files(folder: &Path, wanted: impl Fn(&Path) -> bool) -> anyhow::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        // `latest` is a link to a folder that is listed anyway.
        if !path.is_symlink() && wanted(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn about(kind: &str, file: &Path) -> String {
    let about = match kind {
        "scenario" => scenario(file).map(|found| found.description),
        "suite" => suite(file, None).map(|found| found.description),
        _ => workload(file, &Overrides::default()).map(|found| found.description),
    };
    about.unwrap_or_else(|error| format!("broken: {error}"))
}

fn outcome(folder: &RunFolder) -> String {
    let verdict = std::fs::read_to_string(folder.verdicts()).ok();
    let verdict = verdict.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let verdict = verdict.as_ref().and_then(|json| json.get("verdict")?.as_str());
    match verdict {
        Some(verdict) => format!("safety {verdict}"),
        None => "not judged".to_owned(),
    }
}
