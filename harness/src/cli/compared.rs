//! A comparison in words: the table of its metrics, what it comes to, and its exit code.
//! May not compare: that was done when these functions are called.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Exit, Output};
use crate::ab::{self, Ab, Arm, Definition};
use crate::compare::{
    self, BLOCKS_MIN, Calibration, Comparison, Difference, Row, Run, Verdict, Wanted, words,
};
use crate::report::{self, CompareSide, Found, Page};
use crate::resume::Resumable as _;
use crate::spec::{self, SpecError};

/// What a finished or unfinished A/B comes to.
pub(super) struct Told {
    pub(super) exit: Exit,
    /// For programs.
    pub(super) json: Value,
}

/// The gate of a file, and whether metrics that no run has may be left out of it.
pub(super) fn gate(file: Option<&Path>) -> Result<(Vec<Wanted>, bool), SpecError> {
    match file {
        Some(file) => Ok((spec::gate(file)?, false)),
        None => Ok((compare::usual(), true)),
    }
}

/// Says what the blocks in a folder of `quorate ab` come to, and keeps what an A/A found in `keep`;
/// the page of it goes into the folder `page`.
pub(super) fn tell_ab(
    folder: &Path,
    ab: &Ab,
    gate: &(Vec<Wanted>, bool),
    speaks: bool,
    (keep, page): (Option<&Path>, &Path),
) -> anyhow::Result<Told> {
    let definition = &ab.definition;
    let blocks = ab.blocks(folder)?;
    let figures = ab::figures(&blocks);
    let comparison = compare::compare(&figures, &gate.0, gate.1, definition.seed);
    let first: Vec<Run> =
        blocks.first().map(|[a, b]| [a, b].map(|of| of[0].clone()).to_vec()).unwrap_or_default();
    let differences = compare::differences(&first);
    let calibration = calibrated(folder, ab, &comparison, first.first(), keep)?;
    let alarms = calibration.as_ref().map(|(found, _)| found.alarms.clone()).unwrap_or_default();
    let is_withheld = !alarms.is_empty() && !definition.is_calibration();
    let exit = match comparison.overall {
        Verdict::Worse | Verdict::Same | Verdict::Better if !ab.finished || is_withheld => {
            Exit::Inconclusive
        }
        Verdict::Worse => Exit::Violation,
        Verdict::CannotTell => Exit::Inconclusive,
        Verdict::Same | Verdict::Better => Exit::Good,
    };
    let said = summary(ab, &comparison, calibration.as_ref(), is_withheld);
    let mut json = json!({
        "ab": definition.name, "exit": exit.code(), "folder": folder,
        "finished": ab.finished, "withheld": is_withheld, "definition": definition,
        "differences": differences, "comparison": comparison,
        "calibration": calibration.as_ref().map(|(found, _)| found), "runs": ab.runs,
    });
    let found = Found::Judged {
        comparison: &comparison,
        calibration: calibration.as_ref().map(|(found, _)| found),
        finished: ab.finished,
        withheld: is_withheld,
        said: &said,
    };
    let page = draw(page, definition, &blocks, &differences, (found, &json))?;
    if speaks {
        tell_differences(&["A", "B"], &differences)?;
        tell_rows(&comparison)?;
        Output.line("")?;
        for line in &said {
            Output.line(line)?;
        }
        if let Some(page) = &page {
            Output.line(format!("page: {}", page.display()))?;
        }
    }
    json["page"] = page.map(|page| page.display().to_string()).into();
    Ok(Told { exit, json })
}

/// Draws the page; none before a block is done.
fn draw(
    folder: &Path,
    definition: &Definition,
    blocks: &[[Vec<Run>; 2]],
    differences: &[Difference],
    (found, json): (Found<'_>, &Value),
) -> anyhow::Result<Option<PathBuf>> {
    if blocks.is_empty() {
        return Ok(None);
    }
    let side = |at: usize, arm: &Arm| {
        let program = Path::new(&arm.program);
        let program = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
        let hash = arm.programs.first().map_or("", |(_, hash)| hash.get(..12).unwrap_or(hash));
        let set = arm.set.iter().map(|set| format!(" {set}")).collect::<String>();
        let runs = blocks.iter().flat_map(|block| &block[at]).collect();
        CompareSide { name: format!("{program} ({hash}){set}"), runs }
    };
    let word = if definition.is_calibration() { "A/A" } else { "A/B" };
    let page = Page {
        title: format!("{}: {word}", definition.name),
        sides: vec![side(0, &definition.a), side(1, &definition.b)],
        differences,
        found,
        json,
    };
    Ok(Some(report::comparison(folder, &page)?))
}

/// What an A/A of the same circumstances found: this one, which is then kept, or an earlier one.
fn calibrated(
    folder: &Path,
    ab: &Ab,
    comparison: &Comparison,
    first: Option<&Run>,
    keep: Option<&Path>,
) -> anyhow::Result<Option<(Calibration, Option<PathBuf>)>> {
    let Some(first) = first else { return Ok(None) };
    let circumstances = compare::circumstances(first);
    if !ab.definition.is_calibration() {
        let found = search(folder, &circumstances)?;
        return Ok(found.map(|found| (found, None)));
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let found = Calibration::of(comparison, circumstances, name);
    let is_whole = ab.finished && comparison.blocks >= BLOCKS_MIN;
    let written = keep.filter(|_| is_whole).map(|keep| found.write(keep)).transpose()?;
    Ok(Some((found, written)))
}

/// The calibration of these circumstances beside a run's folder, or beside that of its suite.
pub(super) fn search(folder: &Path, circumstances: &str) -> anyhow::Result<Option<Calibration>> {
    // `latest` is a link: what lies beside it is what lies beside its target.
    let folder = std::fs::canonicalize(folder)?;
    for near in folder.ancestors().skip(1).take(2) {
        if let Some(found) = Calibration::read(near, circumstances)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn summary(
    ab: &Ab,
    comparison: &Comparison,
    calibration: Option<&(Calibration, Option<PathBuf>)>,
    is_withheld: bool,
) -> Vec<String> {
    let definition = &ab.definition;
    let (good, all) = (comparison.blocks, definition.blocks);
    let word = if definition.is_calibration() { "A/A" } else { "B against A" };
    let mut lines = vec![format!("{word}: {}, by {good} of {all} blocks", comparison.overall)];
    if (good as u32) < all && ab.finished {
        lines.push("the other blocks have runs that are not good".to_owned());
    }
    if !ab.finished {
        lines.push("not finished: the same command goes on".to_owned());
    }
    let seen: Vec<String> = comparison.rows.iter().filter_map(words::detectable).collect();
    if !seen.is_empty() {
        let seen = seen.join(", ");
        lines.push(format!("the least that so many blocks see in four of five cases: {seen}"));
    }
    let more = comparison.rows.iter().filter_map(|row| row.finding.as_ref()?.more).max();
    if let Some(wanted) = more.map(|more| good + more) {
        lines.push(format!(
            "about {wanted} blocks would tell, if the spread stays: --blocks {wanted}, which \
             begins anew; to look twice at the same blocks would void what is promised"
        ));
    }
    lines.extend(calibrated_words(definition, calibration, is_withheld));
    lines
}

/// What runs of one build say of the machine.
fn calibrated_words(
    definition: &Definition,
    calibration: Option<&(Calibration, Option<PathBuf>)>,
    is_withheld: bool,
) -> Option<String> {
    let none = "no A/A was run here: give one program twice to learn how far runs of one build lie \
                apart";
    let Some((found, path)) = calibration else {
        return (!definition.is_calibration()).then(|| none.to_owned());
    };
    let Calibration { blocks, alarms, .. } = found;
    Some(match path {
        _ if !alarms.is_empty() => {
            let alarms = alarms.join(", ");
            let counts = "no verdict counts until an A/A here finds nothing";
            let what = if is_withheld { format!(": {counts}") } else { String::new() };
            format!("an A/A of {blocks} blocks found a difference in {alarms}{what}")
        }
        Some(path) => format!("calibrated: {}", path.display()),
        None => format!("an A/A of {blocks} blocks found nothing here, as it should"),
    })
}

/// What differs before any figure does.
pub(super) fn tell_differences(names: &[&str], found: &[Difference]) -> anyhow::Result<()> {
    if found.is_empty() {
        return Ok(Output.line("spec, build and environment are the same\n")?);
    }
    let mut head = vec!["differs", ""];
    head.extend(names);
    let row = |of: &Difference| {
        let mut row = vec![of.part.to_owned(), of.key.clone()];
        row.extend(of.values.iter().map(|value| shortened(value)));
        row.resize(head.len(), String::new());
        row
    };
    Output.table(&head, found.iter().map(row).collect())?;
    Ok(Output.line("")?)
}

fn shortened(value: &str) -> String {
    const WIDEST: usize = 40;
    if value.is_empty() {
        return "–".to_owned();
    }
    let short: String = value.chars().take(WIDEST).collect();
    if short.len() < value.len() { short + "…" } else { short }
}

fn tell_rows(comparison: &Comparison) -> anyhow::Result<()> {
    let head = ["metric", "A", "B", "B/A or B−A [95 %]", "margin", "verdict", ""];
    Ok(Output.table(&head, comparison.rows.iter().map(row).collect())?)
}

fn row(row: &Row) -> Vec<String> {
    let Wanted { metric, margin, .. } = &row.wanted;
    let (margin, verdict, remark) = match &row.finding {
        Some(found) => {
            (words::margin(metric.kind, *margin), found.verdict.to_string(), words::remark(found))
        }
        None => (String::new(), String::new(), "not in the gate".to_owned()),
    };
    let (a, b) = row.medians;
    let [a, b] = [a, b].map(|of| words::median(metric.kind, of));
    vec![metric.to_string(), a, b, words::effect(row), margin, verdict, remark]
}

/// Reads the A/B of a folder, if it is one.
pub(super) fn read_ab(folder: &Path) -> anyhow::Result<Option<Ab>> {
    Ok(if folder.join(Ab::FILE).is_file() { Some(Ab::read(folder)?) } else { None })
}
