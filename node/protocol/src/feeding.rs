//! What relays and those whom they feed say to each other: entries of decision logs, how far each
//! server has them, and what is finished. Data only; the behaviour is in `machine/relay` (who
//! feeds) and `machine/upstream` (who is fed).

use alloc::vec::Vec;

use quorate_api::{Boot, NodeId, Operation, TxId};
use serde::{Deserialize, Serialize};

use crate::message::{Decided, LogPosition, Participant};

/// An entry of a decision log, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its position.
    pub at: LogPosition,
    /// The position before it in the same log.
    pub prev: LogPosition,
    /// Transaction.
    pub tx: TxId,
    /// Outcome.
    pub outcome: Decided,
    /// Configuration of its origin when that let it out. No touched cluster is younger.
    pub cfg: u64,
    /// All touched clusters.
    pub participants: Vec<Participant>,
    /// Operations of the receiver's clusters; empty for an abort.
    pub ops: Vec<Operation>,
    /// Operations that it only passes on, of clusters that REPLICAs keep and it does not.
    pub relayed: Vec<Operation>,
}

/// What of a coordinator's boot is finished, as far as a server knows (PROTOCOL.md 3.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// The coordinator's boot.
    pub boot: Boot,
    /// Low-water mark: smallest sequence number that may be unfinished.
    pub low: u64,
    /// Smallest sequence number that some MASTER or REPLICA may lack.
    pub everywhere: u64,
}

impl Finished {
    /// Nothing is finished.
    pub const FIRST: u64 = 1;

    /// True when it says more than the other does.
    pub(crate) const fn is_news_to(&self, known: &Self) -> bool {
        let more = self.low > known.low || self.everywhere > known.everywhere;
        let same_boot = self.boot.0 == known.boot.0;
        let says = self.low > Self::FIRST || self.everywhere > Self::FIRST;
        (same_boot && more) || (self.boot.0 > known.boot.0 && says)
    }

    /// Takes what is said of a later boot; of the same boot, whatever is higher.
    pub(crate) fn raise(&mut self, by: Self) {
        if by.boot > self.boot {
            *self = by;
        } else if by.boot == self.boot {
            self.low = self.low.max(by.low);
            self.everywhere = self.everywhere.max(by.everywhere);
        }
    }
}

impl Default for Finished {
    fn default() -> Self {
        Self { boot: Boot::default(), low: Self::FIRST, everywhere: Self::FIRST }
    }
}

/// How far a server is with a decision log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fed {
    /// Whose log.
    pub origin: NodeId,
    /// Highest position up to which it has applied the log without a gap.
    pub applied: LogPosition,
    /// What it was told to be finished.
    pub finished: Finished,
}

/// How far a REPLICA below the sender is with every decision log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which.
    pub node: NodeId,
    /// Whose log, and up to where it has applied that without a gap. Logs of which it has nothing
    /// are left out.
    pub applied: Vec<(NodeId, LogPosition)>,
}

/// What of a decider's transactions is finished, and who may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Told {
    /// What.
    pub finished: Finished,
    /// Whoever has applied the decider's log up to here has all of it.
    pub at: LogPosition,
}

/// Of closing boots; see the messages of the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Carried {
    /// The question.
    Ended {
        /// Which stage.
        stage: u8,
        /// The boot that asks.
        boot: Boot,
    },
    /// The answer.
    EndedReply {
        /// Which stage.
        stage: u8,
        /// The boot that asked.
        boot: Boot,
        /// Whoever answers is as far.
        agreed: bool,
    },
}

/// A message between a relay and whom it feeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relay {
    /// The sender wants to be fed, or is, and says how far it is.
    Follow {
        /// It names every log of which it has something, and everybody below it; else just the
        /// logs in which it got further.
        whole: bool,
        /// How far it is.
        logs: Vec<Fed>,
        /// How far those below it are.
        members: Vec<Member>,
    },
    /// The sender is not fed by the receiver (any more).
    Unfollow,
    /// Answer to a whole `Follow`, and news for whom the sender feeds.
    Feeding {
        /// Servers between it and a MASTER, plus one; 0 at a MASTER. `None`: nobody feeds it, and
        /// so it feeds nobody.
        hops: Option<u8>,
        /// What is finished.
        told: Vec<(NodeId, Told)>,
        /// Logs that it cannot serve before the receiver has them up to these positions.
        lacks: Vec<(NodeId, LogPosition)>,
    },
    /// An entry of somebody's decision log.
    Entry {
        /// Whose.
        origin: NodeId,
        /// The entry.
        entry: Entry,
    },
    /// Who is below the sender, and how far they have applied the receiver's decision log.
    Below {
        /// Each with its position.
        members: Vec<(NodeId, LogPosition)>,
    },
    /// For a server that its sender has no link with.
    Carry {
        /// Who says it.
        from: NodeId,
        /// To whom.
        to: NodeId,
        /// What.
        what: Carried,
    },
}

impl Relay {
    /// Short name for logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Follow { .. } => "follow",
            Self::Unfollow => "unfollow",
            Self::Feeding { .. } => "feeding",
            Self::Entry { .. } => "relay_entry",
            Self::Below { .. } => "below",
            Self::Carry { .. } => "carry",
        }
    }
}
