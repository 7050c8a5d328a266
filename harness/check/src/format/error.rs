//! Why a file is not a history that can be judged.

use std::io;

/// Why a history could not be read. Lines count from 1.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file could not be opened or read.
    #[error("reading the history failed: {0}")]
    Io(#[from] io::Error),
    /// There is no complete first line.
    #[error("the history has no header line")]
    NoHeader,
    /// The first line does not name the format.
    #[error("not a history: the first line {reason}")]
    NotAHistory {
        /// What is wrong with it.
        reason: String,
    },
    /// The history was written by another version of the format.
    #[error(
        "history format version {found} is not supported; this program reads versions {oldest} to \
         {known}"
    )]
    UnsupportedVersion {
        /// The version that the file names.
        found: u64,
        /// The oldest version that this crate reads.
        oldest: u32,
        /// The newest version that this crate reads, and the one it writes.
        known: u32,
    },
    /// A line is no event, or one that cannot be.
    #[error("history line {line}: {reason}")]
    Malformed {
        /// Which line.
        line: u64,
        /// What is wrong with it.
        reason: Fault,
    },
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It is not the JSON of an event.
    #[error("not an event: {0}")]
    NotAnEvent(#[from] serde_json::Error),
    /// An operation of this id was invoked before.
    #[error("operation {id} was invoked before")]
    DuplicateId {
        /// Id of the operation.
        id: u64,
    },
    /// A completion came before its invocation, or without.
    #[error("operation {id} completes without having been invoked")]
    NotInvoked {
        /// Id of the operation.
        id: u64,
    },
    /// A second completion.
    #[error("operation {id} was completed before")]
    CompletedTwice {
        /// Id of the operation.
        id: u64,
    },
    /// The completion names an earlier time of sending than the invocation.
    #[error("operation {id} was sent at {sent} ns, before its invocation at {invoked} ns")]
    SentBeforeInvoked {
        /// Id of the operation.
        id: u64,
        /// Nanoseconds named by the completion.
        sent: u64,
        /// Nanoseconds named by the invocation.
        invoked: u64,
    },
    /// The reply came before the request.
    #[error("operation {id} was done at {done} ns, before it was sent at {sent} ns")]
    DoneBeforeSent {
        /// Id of the operation.
        id: u64,
        /// Nanoseconds.
        done: u64,
        /// Nanoseconds.
        sent: u64,
    },
    /// It was acknowledged without a time.
    #[error("operation {id} is ok, but was never done")]
    OkWithoutDone {
        /// Id of the operation.
        id: u64,
    },
    /// The completion has another number of steps than the invocation.
    #[error("operation {id} was invoked with {asked} steps and completed with {answered}")]
    StepsDiffer {
        /// Id of the operation.
        id: u64,
        /// Steps of the invocation.
        asked: usize,
        /// Steps of the completion.
        answered: usize,
    },
    /// An acknowledged read does not say what it saw.
    #[error("operation {id} is ok, but step {step} does not say what it saw")]
    NothingSeen {
        /// Id of the operation.
        id: u64,
        /// Which step, from 0.
        step: usize,
    },
    /// A write claims to have seen something.
    #[error("operation {id}: step {step} is no read, but says what it saw")]
    SeenByWrite {
        /// Id of the operation.
        id: u64,
        /// Which step, from 0.
        step: usize,
    },
    /// An operation without steps says nothing.
    #[error("operation {id} has no steps")]
    NoSteps {
        /// Id of the operation.
        id: u64,
    },
    /// A reading operation does not say how strong its reads are.
    #[error("operation {id} reads, but has no level")]
    NoLevel {
        /// Id of the operation.
        id: u64,
    },
    /// The header does not name the server.
    #[error("operation {id} went to node {node}, but the header names {nodes} nodes")]
    NoSuchNode {
        /// Id of the operation.
        id: u64,
        /// Index of the server.
        node: u32,
        /// How many servers the header names.
        nodes: usize,
    },
}
