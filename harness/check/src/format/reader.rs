//! Reads a history and refuses what cannot be one. Never panics, whatever the bytes.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use super::error::Fault;
use super::{AnsweredStep, AskedStep, Complete, Event, FormatError, Invoke};
use crate::history::{
    Action, FORMAT_NAME, FORMAT_VERSION, FORMAT_VERSION_OLDEST, Header, History, Operation,
    Outcome, Step,
};

/// A history as read from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The history, its operations ordered by `sent`, then id.
    pub history: History,
    /// What was tolerated.
    pub notes: Vec<Note>,
}

/// Something odd that a reader tolerates, and a report should mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The last line was cut off, as by a crash of the recorder, and left out.
    TornLastLine {
        /// Which line, from 1.
        line: u64,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TornLastLine { line } => {
                write!(f, "the last line ({line}) is cut off and was left out")
            }
        }
    }
}

/// Reads the history in the file at `path`.
///
/// # Errors
/// See [`FormatError`].
pub fn read_path(path: impl AsRef<Path>) -> Result<Reading, FormatError> {
    read(BufReader::with_capacity(1 << 16, File::open(path)?))
}

/// Reads a history.
///
/// # Errors
/// See [`FormatError`].
pub fn read(mut input: impl BufRead) -> Result<Reading, FormatError> {
    let mut text = Vec::new();
    input.read_until(b'\n', &mut text)?;
    if text.last() != Some(&b'\n') {
        return Err(FormatError::NoHeader);
    }
    let mut merging = Merging::new(header(&text)?);
    let mut notes = Vec::new();
    for line in 2.. {
        text.clear();
        if input.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        let event: OwnedEvent = match serde_json::from_slice(&text) {
            Ok(event) => event,
            Err(_) if text.last() != Some(&b'\n') => {
                notes.push(Note::TornLastLine { line });
                break;
            }
            Err(error) => {
                return Err(FormatError::Malformed { line, reason: error.into() });
            }
        };
        merging.add(event).map_err(|reason| FormatError::Malformed { line, reason })?;
    }
    Ok(Reading { history: merging.finish(), notes })
}

type OwnedEvent = Event<String, Vec<AskedStep<String>>, Vec<AnsweredStep<String>>>;

/// The part of a header that every version has.
#[derive(Deserialize)]
struct AnyHeader {
    format: String,
    version: u64,
}

fn header(line: &[u8]) -> Result<Header, FormatError> {
    let not = |error: serde_json::Error| FormatError::NotAHistory {
        reason: format!("is no header: {error}"),
    };
    let any: AnyHeader = serde_json::from_slice(line).map_err(not)?;
    if any.format != FORMAT_NAME {
        let reason = format!("names the format {:?}, not {FORMAT_NAME:?}", any.format);
        return Err(FormatError::NotAHistory { reason });
    }
    let known = u64::from(FORMAT_VERSION_OLDEST)..=u64::from(FORMAT_VERSION);
    if !known.contains(&any.version) {
        let (found, oldest, known) = (any.version, FORMAT_VERSION_OLDEST, FORMAT_VERSION);
        return Err(FormatError::UnsupportedVersion { found, oldest, known });
    }
    serde_json::from_slice(line).map_err(not)
}

/// Operations in the making.
struct Merging {
    history: History,
    /// By operation id: where it is, and whether it is completed. Only looked up, never iterated.
    known: HashMap<u64, (usize, bool)>,
}

impl Merging {
    fn new(header: Header) -> Self {
        let history = History { header, operations: Vec::new() };
        Self { history, known: HashMap::new() }
    }

    fn add(&mut self, event: OwnedEvent) -> Result<(), Fault> {
        match event {
            Event::Invoke(invoke) => self.invoke(invoke),
            Event::Complete(complete) => self.complete(complete),
        }
    }

    fn invoke(&mut self, invoke: Invoke<Vec<AskedStep<String>>>) -> Result<(), Fault> {
        let id = invoke.id;
        let steps: Vec<Step> = invoke.steps.into_iter().map(Step::from).collect();
        let nodes = self.history.header.nodes.len();
        if usize::try_from(invoke.node).is_ok_and(|node| node >= nodes) {
            return Err(Fault::NoSuchNode { id, node: invoke.node, nodes });
        }
        if steps.is_empty() {
            return Err(Fault::NoSteps { id });
        }
        if invoke.level.is_none() && !steps.iter().all(Step::is_write) {
            return Err(Fault::NoLevel { id });
        }
        if self.known.insert(id, (self.history.operations.len(), false)).is_some() {
            return Err(Fault::DuplicateId { id });
        }
        self.history.operations.push(Operation {
            id,
            process: invoke.process,
            session: invoke.session,
            kind: invoke.kind,
            phase: invoke.phase,
            node: invoke.node,
            level: invoke.level,
            steps,
            intended: invoke.intended,
            sent: invoke.sent,
            done: None,
            outcome: Outcome::Unknown,
            code: None,
        });
        Ok(())
    }

    fn complete(
        &mut self,
        complete: Complete<String, Vec<AnsweredStep<String>>>,
    ) -> Result<(), Fault> {
        let Complete { id, sent, done, outcome, code, steps } = complete;
        let (at, completed) = self.known.get_mut(&id).ok_or(Fault::NotInvoked { id })?;
        if std::mem::replace(completed, true) {
            return Err(Fault::CompletedTwice { id });
        }
        let operation = &mut self.history.operations[*at];
        if sent < operation.sent {
            return Err(Fault::SentBeforeInvoked { id, sent, invoked: operation.sent });
        }
        match done {
            Some(done) if done < sent => return Err(Fault::DoneBeforeSent { id, done, sent }),
            None if outcome == Outcome::Ok => return Err(Fault::OkWithoutDone { id }),
            Some(_) | None => {}
        }
        let (asked, answered) = (operation.steps.len(), steps.len());
        if asked != answered {
            return Err(Fault::StepsDiffer { id, asked, answered });
        }
        for (step, (known, answer)) in operation.steps.iter_mut().zip(steps).enumerate() {
            match &mut known.action {
                Action::Read(None) if outcome == Outcome::Ok && answer.seen.is_none() => {
                    return Err(Fault::NothingSeen { id, step });
                }
                Action::Read(seen) => *seen = answer.seen,
                Action::Write(_) | Action::Delete(_) if answer.seen.is_some() => {
                    return Err(Fault::SeenByWrite { id, step });
                }
                Action::Write(_) | Action::Delete(_) => {}
            }
            known.rid = answer.rid.or(known.rid.take());
            known.version = answer.version;
            known.content = known.content.take().or(answer.content);
            known.evidence = answer.evidence;
        }
        (operation.sent, operation.done) = (sent, done);
        (operation.outcome, operation.code) = (outcome, code);
        Ok(())
    }

    fn finish(mut self) -> History {
        self.history.operations.sort_by_key(|operation| (operation.sent, operation.id));
        self.history
    }
}

impl From<AskedStep<String>> for Step {
    fn from(step: AskedStep<String>) -> Self {
        let mut known = Self::new(step.key, step.action.into());
        (known.rid, known.content) = (step.rid, step.content);
        known
    }
}
