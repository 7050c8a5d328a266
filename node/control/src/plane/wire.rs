//! What control planes say to each other, as bytes: messages of the log's library, and what passes
//! beside it between servers that have no part in the log and those who tell them (`observer`).

use alloc::vec::Vec;

use quorate_api::NodeId;
use serde::{Deserialize, Serialize};

use super::Effect;

/// A message between two control planes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Wire {
    /// Of the log's library.
    Log(Vec<u8>),
    /// The sender wants to be told what is committed behind this index, and from now on.
    Follow {
        /// What it has applied.
        applied: u64,
    },
    /// What is committed.
    Fed {
        /// Who leads, as far as the sender knows, and in which term.
        led: (Option<NodeId>, u64),
        /// Ticks since the sender was connected with a leader, whoever was in between.
        age: u32,
        /// Something that the receiver lacks.
        news: News,
    },
    /// A command on its way to the log.
    Propose {
        /// Content of the entry.
        entry: Vec<u8>,
        /// Servers that it has passed.
        hops: u8,
    },
    /// How far is the log committed, at this moment or later?
    Ask {
        /// The sender's number for the question.
        question: u64,
        /// Servers that it has passed.
        hops: u8,
    },
    /// That far.
    Answered {
        /// The receiver's number for the question.
        question: u64,
        /// Index of the last entry that was committed when it was put.
        index: u64,
    },
}

/// What a server lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum News {
    /// Nothing that the sender has.
    Nothing,
    /// Entries of the log, without gaps.
    Entries(Vec<Vec<u8>>),
    /// A state, with index, term and voters.
    Snapshot(Vec<u8>),
}

impl Wire {
    /// As something to be sent once everything up to `after` is durable.
    pub(super) fn to(&self, to: NodeId, after: u64) -> Effect {
        // It is plain data in memory: there is nothing that could not be written.
        let bytes = postcard::to_allocvec(self).unwrap_or_default();
        Effect::Send { to, after, bytes }
    }
}
