//! Messages between servers (PROTOCOL.md 3.3) and the durable records they are made from. Data
//! only, no behaviour beyond ordering; serialization is derived here because these types are the
//! wire format (version in the link handshake).

use alloc::vec::Vec;

use quorate_api::{
    Boot, ClusterKey, Committed, Image, ItemId, NodeId, OpKind, Operation, Stamp, TxId,
};
use serde::{Deserialize, Serialize};

use crate::alignment::{Answer, Ask};
use crate::conflict::Merging;
pub use crate::feeding::Finished;
use crate::feeding::{Entry, Relay};

/// Wall time of the first attempt in microseconds, and that attempt's id; kept over automatic
/// retries. Fairness only.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Age {
    /// Microseconds since the epoch on the coordinator's clock; never trusted for safety.
    pub wall_us: u64,
    /// The first attempt.
    pub first: TxId,
}

/// Ballot of one (transaction, cluster): round 0 is the votes, round 1 the coordinator's, from 2 on
/// recovery.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Ballot {
    /// Round number.
    pub round: u32,
    /// Who leads it.
    pub node: NodeId,
    /// In which of its boots.
    pub boot: Boot,
}

/// Value that one cluster decides for one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Value {
    /// Its MASTERs can commit it.
    Prepared,
    /// They cannot.
    Aborted,
}

/// Outcome of a whole transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Decided {
    /// Every touched cluster was prepared.
    Commit,
    /// At least one was aborted.
    Abort,
}

/// A cluster that a transaction touches, with the generation it was prepared in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Participant {
    /// Which cluster.
    pub cluster: ClusterKey,
    /// Its generation.
    pub generation: u32,
}

/// Why an acceptor voted No.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NoReason {
    /// The cluster's generation is newer, or sealed.
    Generation,
    /// The acceptor's schema does not know the cluster any more, or has an index whose keys the
    /// writer did not know of.
    Schema,
    /// Another undecided transaction holds the item.
    Busy,
    /// The committed stamp is not the base.
    Version,
    /// The position is outside the blocks granted to the creator.
    Position,
}

/// A No vote with its evidence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct No {
    /// Why.
    pub reason: NoReason,
    /// Which item stood in the way.
    pub item: Option<ItemId>,
    /// Its committed stamp at the acceptor.
    pub current: Stamp,
    /// The undecided transaction that holds it, for `Busy`.
    pub holder: Option<TxId>,
}

/// An acceptor's durable vote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Vote {
    /// All checks passed, everything is locked.
    Yes,
    /// Not.
    No(No),
}

/// Answer to a Prepare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum VoteReply {
    /// The recorded vote.
    Vote(Vote),
    /// A promise without a vote means never yes. Names the ballot promised: round 1 is the
    /// coordinator's own.
    Refused(Ballot),
    /// Below the low-water mark: decided and forgotten.
    Finished,
    /// The outcome is known already.
    Decided(Decided),
}

/// Per-cluster acceptor state of one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Instance {
    /// Highest ballot promised.
    pub promised: Ballot,
    /// Highest ballot accepted, with its value.
    pub accepted: Option<(Ballot, Value)>,
}

/// What a MASTER keeps durably of a transaction until it is forgotten (PROTOCOL.md 3.2). The
/// outcome is a record of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TxRecord {
    /// Its age.
    pub age: Age,
    /// All touched clusters, in order.
    pub participants: Vec<Participant>,
    /// Operations of the clusters this server masters (all of them at the coordinator).
    pub ops: Vec<Operation>,
    /// The vote, once cast.
    pub vote: Option<Vote>,
    /// Acceptor state per touched cluster, in the order of `participants`.
    pub instances: Vec<(ClusterKey, Instance)>,
}

/// Position in a decider's decision log. Orders all decisions of one server over its boots.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct LogPosition {
    /// The boot that appended it.
    pub boot: Boot,
    /// Counts from 1 within the boot; (0, 0) is the position before the first.
    pub index: u64,
}

/// One decision in the decider's own log. Operations are in the transaction's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Which transaction.
    pub tx: TxId,
    /// What became of it.
    pub outcome: Decided,
    /// Smallest own sequence number still undecided when this was appended: `low` may rise to it
    /// once all before is acknowledged.
    pub low: u64,
}

/// An undecided Yes vote, as a majority read meets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingVote {
    /// Whose.
    pub tx: TxId,
    /// What it would do.
    pub kind: OpKind,
    /// The stamp it builds on.
    pub base: Stamp,
    /// What it would write.
    pub image: Option<Image>,
}

/// One item's part of a read answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadAnswer {
    /// Which item.
    pub item: ItemId,
    /// The generation the answerer is active in.
    pub generation: u32,
    /// Its committed state; `None` if never written.
    pub committed: Option<Committed>,
    /// Undecided Yes votes on it.
    pub pending: Vec<PendingVote>,
}

/// What a server knows of a transaction, for `StatusReply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Knowledge {
    /// Its outcome.
    Decided(Decided),
    /// This server coordinates or recovers it; the outcome follows.
    Working,
    /// A record without outcome.
    Undecided {
        /// It contains a Yes.
        yes: bool,
        /// All touched clusters as far as known, so that who asks can finish it.
        participants: Vec<Participant>,
    },
    /// Nothing, and not below the low-water mark.
    Nothing,
    /// Below the low-water mark.
    Finished,
}

/// A promise in recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// The acceptor's vote, if it cast one before promising.
    pub vote: Option<Vote>,
    /// Highest ballot it accepted for the cluster.
    pub accepted: Option<(Ballot, Value)>,
    /// Its operations of the transaction.
    pub ops: Vec<Operation>,
    /// All touched clusters, if it knows them.
    pub participants: Vec<Participant>,
}

/// A message from one server to another, or to itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Ask for a vote.
    Prepare {
        /// Transaction.
        tx: TxId,
        /// Age, for wait-die.
        age: Age,
        /// All touched clusters.
        participants: Vec<Participant>,
        /// Operations of the receiver's clusters.
        ops: Vec<Operation>,
        /// Revision of the schema that they were made with.
        schema: u64,
    },
    /// Answer to `Prepare`.
    Vote {
        /// Transaction.
        tx: TxId,
        /// The vote.
        reply: VoteReply,
    },
    /// Ask to accept a value for one cluster.
    Accept {
        /// Transaction.
        tx: TxId,
        /// Cluster.
        cluster: ClusterKey,
        /// Ballot.
        ballot: Ballot,
        /// Value.
        value: Value,
        /// All touched clusters.
        participants: Vec<Participant>,
        /// Operations of the receiver's clusters when the value is `Prepared`.
        ops: Vec<Operation>,
    },
    /// The value was accepted.
    Accepted {
        /// Transaction.
        tx: TxId,
        /// Cluster.
        cluster: ClusterKey,
        /// Ballot.
        ballot: Ballot,
    },
    /// A higher ballot was promised.
    Rejected {
        /// Transaction.
        tx: TxId,
        /// Cluster.
        cluster: ClusterKey,
        /// The ballot promised.
        promised: Ballot,
    },
    /// Ask for a promise.
    Recover {
        /// Transaction.
        tx: TxId,
        /// Cluster.
        cluster: ClusterKey,
        /// Ballot.
        ballot: Ballot,
        /// All touched clusters as far as the recoverer knows.
        participants: Vec<Participant>,
    },
    /// Answer to `Recover`.
    Promise {
        /// Transaction.
        tx: TxId,
        /// Cluster.
        cluster: ClusterKey,
        /// Ballot.
        ballot: Ballot,
        /// State.
        promise: Promise,
    },
    /// One entry of the sender's decision log.
    Decide(Entry),
    /// What the sender has of the receiver's decision log.
    DecideAck {
        /// Highest position up to which it has applied the log without a gap.
        applied: LogPosition,
        /// What it knows to be finished.
        finished: Finished,
        /// The log comes to it by relays: it is to be sent nothing.
        fed: bool,
    },
    /// Ask what the receiver knows; names the touched clusters so that a restarted coordinator can
    /// finish it.
    Status {
        /// Transaction.
        tx: TxId,
        /// All touched clusters.
        participants: Vec<Participant>,
    },
    /// Answer to `Status`; sent again when a `Working` transaction gets its outcome.
    StatusReply {
        /// Transaction.
        tx: TxId,
        /// What is known.
        knowledge: Knowledge,
    },
    /// Majority read.
    Read {
        /// Number of the read at the sender.
        read: u64,
        /// Items.
        items: Vec<ItemId>,
    },
    /// Answer to `Read`.
    ReadReply {
        /// Number of the read.
        read: u64,
        /// One answer an item, in order.
        answers: Vec<ReadAnswer>,
    },
    /// Ask for the decision that a stamp names.
    Fetch {
        /// Transaction wanted.
        tx: TxId,
    },
    /// Answer to `Fetch`.
    FetchReply {
        /// Transaction.
        tx: TxId,
        /// Outcome, participants and operations; `None` when not known here.
        decision: Option<(Decided, Vec<Participant>, Vec<Operation>)>,
    },
    /// The sender's low-water mark in its current boot: everything below is finished everywhere.
    Low {
        /// Smallest unfinished sequence number.
        seq: u64,
    },
    /// Every MASTER and REPLICA, without exception, has applied what the sender's current boot
    /// decided below.
    Everywhere {
        /// Smallest sequence number that somebody may lack.
        seq: u64,
    },
    /// The sender's decision log begins behind what the receiver has applied: it has to align.
    Truncated {
        /// The position before the first entry that is left.
        start: LogPosition,
    },
    /// The sender aligns and answers for no quorum until it acknowledges decisions again.
    Left,
    /// Ask which of these commits some decision log has told the receiver of.
    AskLogged {
        /// Commits that no log has told the sender of.
        txs: Vec<TxId>,
    },
    /// Answer to `AskLogged`.
    Logged {
        /// Those that a log has told of.
        txs: Vec<TxId>,
        /// How far each decision log has told the answerer.
        received: Vec<(NodeId, LogPosition)>,
    },
    /// Between a relay and whom it feeds.
    Relay(Relay),
    /// A question of an aligning server.
    Align {
        /// Number of its session with the receiver.
        session: u64,
        /// The question.
        ask: Ask,
    },
    /// Answer to `Align`.
    AlignReply {
        /// Number of the session.
        session: u64,
        /// The answer.
        answer: Answer,
    },
    /// The sender wants to close its earlier boots; see `machine/closing.rs` for the stages.
    Ended {
        /// From 1 to 3.
        stage: u8,
        /// The boot that asks; those before it are to be closed.
        boot: Boot,
    },
    /// Answer to `Ended`.
    EndedReply {
        /// Which stage.
        stage: u8,
        /// The boot that asked.
        boot: Boot,
        /// The receiver is as far.
        agreed: bool,
    },
    /// Of clusters with W below a majority: what diverged, and how it is merged.
    Merging(Merging),
}

impl Message {
    /// Short name for logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Prepare { .. } => "prepare",
            Self::Vote { .. } => "vote",
            Self::Accept { .. } => "accept",
            Self::Accepted { .. } => "accepted",
            Self::Rejected { .. } => "rejected",
            Self::Recover { .. } => "recover",
            Self::Promise { .. } => "promise",
            Self::Decide(_) => "decide",
            Self::DecideAck { .. } => "decide_ack",
            Self::Status { .. } => "status",
            Self::StatusReply { .. } => "status_reply",
            Self::Read { .. } => "read",
            Self::ReadReply { .. } => "read_reply",
            Self::Fetch { .. } => "fetch",
            Self::FetchReply { .. } => "fetch_reply",
            Self::Low { .. } => "low",
            Self::Everywhere { .. } => "everywhere",
            Self::Truncated { .. } => "truncated",
            Self::Left => "left",
            Self::AskLogged { .. } => "ask_logged",
            Self::Logged { .. } => "logged",
            Self::Relay(relay) => relay.name(),
            Self::Align { ask, .. } => ask.name(),
            Self::AlignReply { answer, .. } => answer.name(),
            Self::Ended { .. } => "ended",
            Self::EndedReply { .. } => "ended_reply",
            Self::Merging(merging) => merging.name(),
        }
    }
}
