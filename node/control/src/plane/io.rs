//! The boundary of the control plane: who it is, events in, effects out. Data, no behaviour.

use alloc::vec::Vec;

use quorate_api::{Boot, NodeId};
use quorate_protocol::io::Report;

use super::log::LogWrite;
use crate::agreement::Refusal;
use crate::command::Command;

/// Who this server is.
#[derive(Debug, Clone, Copy)]
pub struct PlaneConfig {
    /// Its identity; never 0.
    pub node: NodeId,
    /// Its boot.
    pub boot: Boot,
    /// Of its election time-outs.
    pub seed: u64,
    /// Entries behind its snapshot from which on its log is cut.
    pub entries_max: usize,
}

/// What happens to the control plane.
#[derive(Debug, Clone)]
pub enum Event<C = Command> {
    /// [`TICK`](super::TICK) has passed.
    Tick,
    /// A message from another server.
    Message {
        /// Who sent it or passed it on, as the link knows.
        from: NodeId,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A server can be reached by a link, or cannot any more. None can until this is said of it.
    Peer {
        /// Which one.
        node: NodeId,
        /// It can.
        up: bool,
    },
    /// Everything up to this [`Effect::Persist`] is durable.
    Persisted(u64),
    /// A client's command.
    Propose {
        /// The shell's number for the request; comes back in the answer.
        request: u64,
        /// The command.
        command: C,
    },
    /// What this server has to report; needs no answer.
    Report(Report),
    /// A client wants to know everything that was decided before this moment, wherever.
    CatchUp {
        /// The shell's number for the request.
        request: u64,
    },
    /// This server is to stop: if it leads, another one shall.
    Resign,
    /// Nobody waits for that request any more.
    GiveUp {
        /// The shell's number for the request.
        request: u64,
    },
}

/// What the control plane wants done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make durable, in order, as one batch, and say so with [`Event::Persisted`].
    Persist {
        /// Counts up from 1.
        number: u64,
        /// The writes.
        writes: Vec<LogWrite>,
    },
    /// Send once everything up to `after` is durable (0: at once). May be lost.
    Send {
        /// Receiver, or who is to pass it on.
        to: NodeId,
        /// Durability the message waits for.
        after: u64,
        /// The message.
        bytes: Vec<u8>,
    },
    /// The agreement changed: see [`Plane::state`](super::Plane::state).
    Changed,
    /// Answer a client.
    Answer {
        /// The shell's number for the request.
        request: u64,
        /// The answer.
        answer: Answer,
    },
    /// Another server leads, or none does.
    Led {
        /// Who.
        leader: Option<NodeId>,
        /// In which term.
        term: u64,
    },
}

/// Answer to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The command was carried out, or refused where it was to be applied.
    Applied(Result<(), Refusal>),
    /// This server knows what was decided before the question.
    CaughtUp,
    /// It was given up before anybody was told of it: it has not happened and will not.
    NotProposed,
    /// It was given up, and may yet be carried out.
    Unknown,
}
