//! Reads a run folder. What a crashed run did not get to write is tolerated and named; what is
//! there but malformed, or of another format version, is an error.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use quorate_check::Report as Verdicts;
use quorate_check::format::{self, FormatError};
use quorate_check::history::{Header, History};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ReportError;
use crate::figures::Input;
use crate::folder::{
    DriverSummary, FaultRecord, Manifest, NodeSample, PhaseMark, RunFolder, SoundnessFinding,
};
use crate::plan::{PLAN_FORMATS, Plan};

/// Version of `manifest.json` that this program reads.
pub(super) const MANIFEST_FORMAT: u32 = 1;

/// What happened beside the operations.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    /// When the phases were.
    pub phases: Vec<PhaseMark>,
    /// What the faults did.
    pub faults: Vec<FaultRecord>,
    /// What the servers used.
    pub samples: Vec<NodeSample>,
}

/// Everything a run folder holds.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) plan: Plan,
    pub(super) manifest: Option<Manifest>,
    pub(super) history: History,
    pub(super) phases: Vec<PhaseMark>,
    pub(super) faults: Vec<FaultRecord>,
    pub(super) samples: Vec<NodeSample>,
    pub(super) driver: Option<DriverSummary>,
    pub(super) soundness: Option<Vec<SoundnessFinding>>,
    pub(super) verdicts: Option<Verdicts>,
    /// What is missing or was cut off, a sentence each.
    pub(super) missing: Vec<String>,
}

impl Run {
    /// What figures are made from.
    pub(super) fn input(&self) -> Input<'_> {
        let Self { history, plan, phases, faults, .. } = self;
        Input { history, plan, phases, faults }
    }
}

/// Reads the folder.
pub(super) fn load(folder: &RunFolder) -> Result<Run, ReportError> {
    let mut missing = Vec::new();
    let Some(plan) = versioned_in::<Plan>(&folder.plan(), PLAN_FORMATS)? else {
        return Err(ReportError::NotARun { folder: folder.root().display().to_string() });
    };
    let manifest = noted(
        versioned(&folder.manifest(), MANIFEST_FORMAT)?,
        "manifest.json (who ran what, where)",
        &mut missing,
    );
    let driver =
        noted(json(&folder.driver())?, "driver.json (the driver about itself)", &mut missing);
    let soundness = noted(
        json(&folder.soundness())?,
        "soundness.json (whether the figures can be trusted)",
        &mut missing,
    );
    let verdicts =
        noted(json(&folder.verdicts())?, "verdicts.json (what the checkers say)", &mut missing);
    Ok(Run {
        history: history(folder, &plan, &mut missing)?,
        phases: lines(&folder.phases(), "when the phases were", &mut missing)?,
        faults: if plan.faults.is_empty() {
            Vec::new()
        } else {
            lines(&folder.faults(), "what the faults did", &mut missing)?
        },
        samples: lines(&folder.nodes(), "what the servers used", &mut missing)?,
        plan,
        manifest,
        driver,
        soundness,
        verdicts,
        missing,
    })
}

/// What is needed beside the history to judge a run; what a run did not get to write is empty.
pub(super) fn marks(folder: &RunFolder) -> Result<Marks, ReportError> {
    let mut missing = Vec::new();
    Ok(Marks {
        phases: lines(&folder.phases(), "", &mut missing)?,
        faults: lines(&folder.faults(), "", &mut missing)?,
        samples: lines(&folder.nodes(), "", &mut missing)?,
    })
}

fn noted<T>(found: Option<T>, what: &str, missing: &mut Vec<String>) -> Option<T> {
    if found.is_none() {
        missing.push(format!("{what} is missing"));
    }
    found
}

/// The history; an empty one if the run ended before it began.
fn history(
    folder: &RunFolder,
    plan: &Plan,
    missing: &mut Vec<String>,
) -> Result<History, ReportError> {
    let reading = match format::read_path(folder.history()) {
        Ok(reading) => reading,
        Err(FormatError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            missing.push("history.jsonl (every operation) is missing".to_owned());
            return Ok(empty_history(plan));
        }
        Err(FormatError::NoHeader) => {
            missing.push("history.jsonl (every operation) is empty".to_owned());
            return Ok(empty_history(plan));
        }
        Err(error) => return Err(error.into()),
    };
    missing.extend(reading.notes.iter().map(|note| format!("history.jsonl: {note}")));
    Ok(reading.history)
}

fn empty_history(plan: &Plan) -> History {
    let header = Header::new(plan.topology.servers(), plan.workload.records, false);
    History { header, operations: Vec::new() }
}

/// The text of a file; `None` if there is none.
pub(super) fn text(path: &Path) -> Result<Option<String>, ReportError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReportError::Io { file: name(path), source }),
    }
}

/// A file's name without its folder: reports may travel, and the folder says nothing there.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn malformed(path: &Path, line: usize, cause: serde_json::Error) -> ReportError {
    ReportError::Malformed { file: name(path), line, cause }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ReportError> {
    let Some(text) = text(path)? else {
        return Ok(None);
    };
    let parsed = serde_json::from_str(&text);
    parsed.map(Some).map_err(|error| malformed(path, error.line(), error))
}

/// A file whose `format` must be `known`, looked at before anything else in it.
pub(super) fn versioned<T: DeserializeOwned>(
    path: &Path,
    known: u32,
) -> Result<Option<T>, ReportError> {
    versioned_in(path, known..=known)
}

/// The same of a file of which several versions are read.
pub(crate) fn versioned_in<T: DeserializeOwned>(
    path: &Path,
    readable: RangeInclusive<u32>,
) -> Result<Option<T>, ReportError> {
    let Some(value) = json::<Value>(path)? else {
        return Ok(None);
    };
    let found = value.get("format").and_then(Value::as_u64).unwrap_or(0);
    if u32::try_from(found).map_or(true, |found| !readable.contains(&found)) {
        let known = *readable.end();
        return Err(ReportError::UnsupportedVersion { file: name(path), found, known });
    }
    json(path)
}

/// One record a line. A last line without an end that can't be read was cut off by a crash.
fn lines<T: DeserializeOwned>(
    path: &Path,
    what: &str,
    missing: &mut Vec<String>,
) -> Result<Vec<T>, ReportError> {
    let Some(text) = text(path)? else {
        missing.push(format!("{} ({what}) is missing", name(path)));
        return Ok(Vec::new());
    };
    let mut records = Vec::new();
    let mut rest = text.lines().enumerate().peekable();
    while let Some((index, line)) = rest.next() {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(line) {
            Ok(record) => records.push(record),
            Err(_) if rest.peek().is_none() && !text.ends_with('\n') => {
                missing.push(format!("the last line of {} was cut off", name(path)));
            }
            Err(error) => return Err(malformed(path, index + 1, error)),
        }
    }
    Ok(records)
}
