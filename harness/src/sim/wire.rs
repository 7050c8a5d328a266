//! What goes over the pipes, one JSON value a line. Times are nanoseconds on the run's clock. Types
//! alone; `quorate-sim` has the same on its side.

use quorate_check::history::{Nanos, Outcome, Seen};
use serde::{Deserialize, Serialize};

use crate::plan::OpClass;

/// An order to the simulator.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order<'a> {
    /// A client sends an operation. Not answered by itself.
    Ask(&'a Ask),
    /// Time goes on until then, or until an answer has come. Answered by [`Told`].
    Advance {
        /// No further than this.
        until: Nanos,
    },
    /// The run is over. Answered by [`End`].
    End,
}

/// An operation of a client.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Ask {
    pub(crate) id: u64,
    pub(crate) at: Nanos,
    pub(crate) node: u32,
    pub(crate) class: OpClass,
    pub(crate) rid: Option<(u32, u64)>,
    pub(crate) base: Option<u64>,
    pub(crate) deadline: Nanos,
}

/// How far time went, and which answers came then.
#[derive(Debug, Deserialize)]
pub(crate) struct Told {
    pub(crate) now: Nanos,
    pub(crate) answers: Vec<Answered>,
}

/// What a client was told.
#[derive(Debug, Deserialize)]
pub(crate) struct Answered {
    pub(crate) id: u64,
    pub(crate) outcome: Outcome,
    pub(crate) code: Option<String>,
    pub(crate) seen: Option<Seen>,
    pub(crate) rid: Option<(u32, u64)>,
    pub(crate) version: Option<u64>,
}

/// What the simulator says of the whole run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct End {
    /// What ways and disks were taken to be, for people.
    pub assumed: String,
    /// Invariants of the protocol that were broken, a sentence each.
    pub violations: Vec<String>,
    /// Events that were simulated.
    pub events: u64,
    /// Hash over all of them: same plan, same program, same hash.
    pub trace_hash: u64,
}
