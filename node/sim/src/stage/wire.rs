//! What goes over the standard streams: orders of the harness, one JSON value a line, and what it
//! is told. Times are nanoseconds on the run's virtual clock. Types alone.

use quorate_check::history::{Outcome, Seen};
use serde::{Deserialize, Serialize};

/// An order of the harness.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Order {
    /// A client sends an operation. Not answered by itself.
    Ask(Ask),
    /// Time goes on until then, or until an answer has come. Answered by [`Told`].
    Advance {
        /// No further than this.
        until: u64,
    },
    /// The run is over. Answered by [`End`].
    End,
}

/// An operation of a client.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    /// Unique in the run; also the value that it writes or the tombstone that it leaves.
    pub(crate) id: u64,
    /// When it is sent.
    pub(crate) at: u64,
    /// Index of the server asked.
    pub(crate) node: usize,
    /// What is wanted.
    pub(crate) class: Class,
    /// Record cluster and position; none for creations.
    pub(crate) rid: Option<(u32, u64)>,
    /// Version that an update insists on.
    pub(crate) base: Option<u64>,
    /// When the client stops waiting.
    pub(crate) deadline: u64,
}

/// What an operation does, by the names of the harness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Class {
    /// Majority read of one record.
    ReadMajority,
    /// Local read of one record.
    ReadLocal,
    /// Replacement, whatever the version.
    Update,
    /// Replacement of the version that the client names.
    UpdateVersioned,
    /// A further record.
    Create,
    /// Deletion of a record.
    Delete,
}

/// How far time went, and which answers came then.
#[derive(Debug, Serialize)]
pub(super) struct Told<'a> {
    pub(super) now: u64,
    pub(super) answers: &'a [Answer],
}

/// What a client was told.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Answer {
    /// Which operation.
    pub(crate) id: u64,
    /// What is known about it.
    pub(crate) outcome: Outcome,
    /// Why it is not `ok`.
    pub(crate) code: Option<&'static str>,
    /// What a read saw.
    pub(crate) seen: Option<Seen>,
    /// The record that was made.
    pub(crate) rid: Option<(u32, u64)>,
    /// The version read or written.
    pub(crate) version: Option<u64>,
}

impl Answer {
    /// One that says nothing but how it ended.
    pub(crate) const fn bare(id: u64, outcome: Outcome, code: Option<&'static str>) -> Self {
        Self { id, outcome, code, seen: None, rid: None, version: None }
    }
}

/// What the simulator says of the whole run.
#[derive(Debug, Serialize)]
pub(super) struct End {
    /// What ways and disks were taken to be.
    pub(super) assumed: String,
    /// Broken invariants of the protocol, a sentence each.
    pub(super) violations: Vec<String>,
    /// Events handled.
    pub(super) events: u64,
    /// Hash over all of them: same plan and orders, same hash.
    pub(super) trace_hash: u64,
}
