//! `quorate compare`: run folders beside each other, or what the blocks of `quorate ab` say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest, Sha256};

use super::arguments::CompareArguments;
use super::compared::{gate, read_ab, search, tell_ab, tell_differences};
use super::{Exit, Output};
use crate::compare::words::letter;
use crate::compare::{self, Beside, CompareError, Metric, Run, circumstances, metrics, words};
use crate::report::{self, CompareSide, Found, Page};

/// More runs than this are not all named in the folder of their page.
const NAMED_MAX: usize = 3;

pub(super) fn compare(arguments: &CompareArguments) -> anyhow::Result<Exit> {
    let gate = gate(arguments.gate.as_deref())?;
    if let [folder] = arguments.folders.as_slice() {
        let Some(ab) = read_ab(folder)? else { return Err(CompareError::TooFew.into()) };
        let page = arguments.out.as_deref().unwrap_or(folder);
        let told = tell_ab(folder, &ab, &gate, !arguments.json, (None, page))?;
        if arguments.json {
            Output.json(&told.json)?;
        }
        return Ok(told.exit);
    }
    let folders = compare::runs_in(&arguments.folders)?;
    let runs =
        folders.iter().map(|folder| compare::run(folder)).collect::<Result<Vec<Run>, _>>()?;
    let (Some(first), Some(folder)) = (runs.first(), folders.first()) else {
        return Err(CompareError::TooFew.into());
    };
    let key = circumstances(first);
    let alike = runs.iter().all(|run| circumstances(run) == key);
    let beside = Beside::of(&runs, if alike { search(folder, &key)? } else { None });
    let mut json = beside.json(&runs);
    // What was found is told whether or not there is a place for its page.
    let page = page(arguments, (&folders, &runs), &beside, &json);
    if arguments.json {
        json["page"] = page.as_ref().ok().map(|page| page.display().to_string()).into();
        Output.json(&json)?;
    } else {
        tell(&beside, &runs)?;
        if let Ok(page) = &page {
            Output.line(format!("page: {}", page.display()))?;
        }
    }
    page?;
    // Single runs never pass a gate: how far runs of one build lie apart is not in them.
    let asked = arguments.gate.is_some();
    if asked && !arguments.json {
        Output.line("the gate is not passed: single runs cannot tell")?;
    }
    Ok(if asked { Exit::Inconclusive } else { Exit::Good })
}

/// Draws the page, beside the first run where no folder is named.
fn page(
    arguments: &CompareArguments,
    (folders, runs): (&[PathBuf], &[Run]),
    beside: &Beside,
    json: &serde_json::Value,
) -> anyhow::Result<PathBuf> {
    // `latest` is a link: the page is of what it points to.
    let places = folders.iter().map(std::fs::canonicalize);
    let places = places.collect::<Result<Vec<PathBuf>, _>>()?;
    let names: Vec<String> = places.iter().map(|place| name(place)).collect();
    // A suite may stand for its run: the page lies beside what was named.
    let first = arguments.folders.first().map(std::fs::canonicalize).transpose()?;
    let folder = match (&arguments.out, first.as_deref().and_then(Path::parent)) {
        (Some(named), _) => named.clone(),
        (None, Some(parent)) => parent.join(folder_name(&places, &names)),
        (None, None) => PathBuf::from(folder_name(&places, &names)),
    };
    let side = |(name, run)| CompareSide { name, runs: vec![run] };
    let page = Page {
        title: names.join(" and "),
        sides: names.into_iter().zip(runs).map(side).collect(),
        differences: &beside.differences,
        found: Found::Beside(beside, runs),
        json,
    };
    report::comparison(&folder, &page).with_context(|| format!("no page in {}", folder.display()))
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned()
}

/// The folder of the page of these runs. Many, and those of one name in several places, are told
/// apart by a hash of where they are.
fn folder_name(places: &[PathBuf], names: &[String]) -> String {
    let named = names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("-");
    let more = match names.len().saturating_sub(NAMED_MAX) {
        0 if names.iter().collect::<BTreeSet<_>>().len() == names.len() => {
            return format!("compare-{named}");
        }
        0 => String::new(),
        more => format!("-and-{more}-more"),
    };
    let mut hash = Sha256::new();
    for place in places {
        hash.update(place.as_os_str().as_encoded_bytes());
        hash.update([0]);
    }
    let hash: String = hash.finalize().iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    format!("compare-{named}{more}-{hash}")
}

fn tell(beside: &Beside, runs: &[Run]) -> anyhow::Result<()> {
    let names: Vec<String> = (0..runs.len()).map(letter).collect();
    for (name, run) in names.iter().zip(runs) {
        let doubt = if run.summary.measurement.sound { "" } else { "; its figures are unsound" };
        Output.line(format!("{name}: {}{doubt}", run.name))?;
    }
    Output.line("")?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    tell_differences(&names, &beside.differences)?;
    let mut head = vec!["metric"];
    head.extend(&names);
    let changes: Vec<String> =
        names[1..].iter().map(|name| format!("{name}/A or {name}−A")).collect();
    head.extend(changes.iter().map(String::as_str));
    head.push("");
    Output.table(&head, metrics(runs).iter().map(|of| row(beside, of, runs)).collect())?;
    Output.line("")?;
    match &beside.apart {
        Some(why) => Output.line(format!("side by side, without a verdict: {why}"))?,
        None => {
            let spread = match &beside.calibration {
                Some(found) if !found.alarms.is_empty() => found.alarm(),
                Some(found) => format!(
                    "usual: what an A/A of {} blocks in {} leaves to chance",
                    found.blocks, found.folder
                ),
                None => "no A/A of these circumstances was run here, so nothing says how far \
                         runs of one build lie apart"
                    .to_owned(),
            };
            Output.line(spread)?;
            Output.line(format!("single runs settle nothing; this would: {}", beside.settle))?;
        }
    }
    Ok(())
}

fn row(beside: &Beside, metric: &Metric, runs: &[Run]) -> Vec<String> {
    let value = |run: &Run| words::value(metric.kind, run.figures.values.get(metric).copied());
    let mut row = vec![metric.to_string()];
    row.extend(runs.iter().map(value));
    let changes = beside.changes(metric, runs);
    row.extend(changes.iter().map(|found| {
        found.map_or(words::NONE.to_owned(), |found| words::change(metric.kind, found))
    }));
    row.push(beside.usual(metric, &changes).unwrap_or_default().to_owned());
    row
}
