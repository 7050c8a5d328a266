//! The history file: JSON Lines, version 2; version 1 is read too. No judging here, and no opinion
//! on where files live.
//!
//! ```text
//! {"format":"quorate-history","version":2,"nodes":["europe","usa"],"keys":100,"simulated":false}
//! {"invoke":{"id":1,"process":0,"session":0,"kind":"update","phase":"measure","node":0,
//!            "level":null,"steps":[{"key":7,"action":{"write":1}}],"intended":5,"sent":6}}
//! {"complete":{"id":1,"sent":6,"done":9,"outcome":"ok","code":null,
//!              "steps":[{"rid":"#9:4","version":3}]}}
//! ```
//!
//! (One event a line; broken here to fit.) The invocation is written before the first byte of the
//! request goes out, so that a crash loses no write that may have happened: an invocation without
//! completion is pending, its outcome unknown. The completion's steps are those of the invocation,
//! in order, with what the reply added: `rid`, `version`, `evidence`, and for reads `seen` and
//! `content`. What a write means is in its invocation, as `content`; what the run was promised is
//! in the header, as `promises` (see [`crate::history::Promises`]).

mod error;
mod reader;
mod writer;

use serde::{Deserialize, Serialize};

use crate::history::{Action, Content, Evidence, Nanos, OpKind, Outcome, Phase, ReadLevel, Seen};

pub use error::{Fault, FormatError};
pub use reader::{Note, Reading, read, read_path};
pub use writer::Writer;

/// One line after the first. Generic over how texts and lists are held, so that writing borrows
/// them and reading owns them, from one description.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Event<Text, Asked, Answered> {
    Invoke(Invoke<Asked>),
    Complete(Complete<Text, Answered>),
}

/// All that is known before sending.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Invoke<Asked> {
    id: u64,
    process: u64,
    session: u64,
    kind: OpKind,
    phase: Phase,
    node: u32,
    level: Option<ReadLevel>,
    steps: Asked,
    intended: Nanos,
    /// A lower bound of when it was sent; the completion may name a later time.
    sent: Nanos,
}

/// A step before sending.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedStep<Text> {
    key: u64,
    action: AskedAction,
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    rid: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Content>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AskedAction {
    Read,
    Write(u64),
    Delete(u64),
}

/// All that is known once there is a reply, or none is waited for any longer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Complete<Text, Answered> {
    id: u64,
    sent: Nanos,
    done: Option<Nanos>,
    outcome: Outcome,
    code: Option<Text>,
    steps: Answered,
}

/// What the reply added to a step.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnsweredStep<Text> {
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    rid: Option<Text>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Seen>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Content>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evidence: Option<Box<Evidence>>,
}

/// The default of an absent text; `#[serde(default)]` would ask `Text` for a default it needs not.
fn none<Text>() -> Option<Text> {
    None
}

impl From<&Action> for AskedAction {
    fn from(action: &Action) -> Self {
        match *action {
            Action::Read(_) => Self::Read,
            Action::Write(value) => Self::Write(value),
            Action::Delete(tombstone) => Self::Delete(tombstone),
        }
    }
}

impl From<AskedAction> for Action {
    fn from(action: AskedAction) -> Self {
        match action {
            AskedAction::Read => Self::Read(None),
            AskedAction::Write(value) => Self::Write(value),
            AskedAction::Delete(tombstone) => Self::Delete(tombstone),
        }
    }
}
