//! The boundary of the machine: events in, effects out, and the store it may look into. Data and
//! one trait, no behaviour.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{
    Boot, ClusterKey, Committed, ErrorCode, Image, ItemId, ItemKey, NodeId, OpKind, Stamp, TxId,
};

use crate::chain::Chain;
pub use crate::config::{AlignConfig, Config, MergeConfig, RelayConfig};
pub use crate::conflict::{Choose, Dismiss};
use crate::conflict::{LostContent, Rival};
use crate::copying::{CopyNote, Part};
use crate::message::{Decided, LogEntry, LogPosition, Message, TxRecord};
pub use crate::placement::{
    CLOSED, Change, Electorate, LocalQuorum, Placement, ReadQuorum, Report, Stage,
};
use crate::survey::{Leaves, Survey};
pub use crate::write::Write;

/// Microseconds on a monotonic clock of the server; where it starts does not matter.
pub type Tick = u64;

/// Number of a batch of writes handed to the disk; counts from 1 in each boot.
pub type PersistSeq = u64;

/// What happens to the machine.
#[derive(Debug, Clone)]
pub enum Event {
    /// A client's transaction.
    Submit(Submit),
    /// A client's majority read.
    Read(ReadRequest),
    /// A client's session token: answered when this server has caught up with it.
    Session(SessionRequest),
    /// A message from a server, this one included. The shell has dropped those of closed boots and
    /// from strangers.
    Message {
        /// Sender.
        from: NodeId,
        /// The sender's `cfg`.
        cfg: u64,
        /// The message.
        message: Message,
    },
    /// A peer became reachable (both directions, in this boot of its) or stopped being so. Only
    /// says *when* to act.
    Peer {
        /// Whom.
        node: NodeId,
        /// Its current boot.
        boot: Boot,
        /// Believed reachable.
        up: bool,
    },
    /// Somebody chose which content of an item shall be the one (PROTOCOL.md 3.10).
    Choose(Choose),
    /// Somebody has looked at contents that have lost: this server keeps them no longer.
    Dismiss(Dismiss),
    /// Somebody wants these clusters compared with the other servers, and what differs merged;
    /// those with W of at least a majority are passed over.
    Compare {
        /// Which.
        clusters: Vec<ClusterKey>,
    },
    /// The control plane's state changed: the complete table of clusters, and its index.
    Configure {
        /// Index of the last control-plane entry applied.
        cfg: u64,
        /// All clusters of all databases.
        placements: BTreeMap<ClusterKey, Placement>,
    },
    /// An [`Effect::Survey`] is done.
    Surveyed {
        /// Which.
        number: u64,
        /// What was found.
        leaves: Leaves,
    },
    /// Who decides between contents that diverged, by number of the database; in others
    /// [`MergeConfig::chain`] does. Belongs to the [`Event::Configure`] that follows it.
    Chains(BTreeMap<u32, Chain>),
    /// A batch of events was handled, or a deadline passed: timers run, acknowledgements go out.
    Tick,
}

/// A client's transaction.
#[derive(Debug, Clone)]
pub struct Submit {
    /// The shell's number for the request; comes back in the reply.
    pub request: u64,
    /// At most one operation an item.
    pub ops: Vec<Proposal>,
    /// When the client stops waiting.
    pub deadline: Tick,
    /// Wall clock in microseconds, for the age.
    pub wall_us: u64,
    /// Revision of the schema that the operations were made with.
    pub schema: u64,
}

/// One operation as a client proposes it.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// On what.
    pub item: ItemId,
    /// What.
    pub kind: OpKind,
    /// Which state it builds on.
    pub base: Base,
    /// The after-image.
    pub image: Option<Image>,
}

/// Which state an operation builds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Whatever is committed at the coordinator.
    Current,
    /// The committed state with this version; any other is a version conflict.
    Version(u64),
    /// Exactly this stamp; any other is a version conflict.
    Exact(Stamp),
}

/// A client's majority read.
#[derive(Debug, Clone)]
pub struct ReadRequest {
    /// The shell's number for the request.
    pub request: u64,
    /// Items; each is linearizable, together they are no snapshot (PROTOCOL.md 3.8).
    pub items: Vec<ItemId>,
    /// How many MASTERs must answer.
    pub quorum: ReadQuorum,
    /// When the client stops waiting.
    pub deadline: Tick,
}

/// What a session has seen: by decider and boot, an index of that decision log (PROTOCOL.md 3.8).
pub type SessionToken = BTreeMap<(NodeId, Boot), u64>;

/// A client's question whether this server is as far as its session.
#[derive(Debug, Clone)]
pub struct SessionRequest {
    /// The shell's number for the request.
    pub request: u64,
    /// Merged from all replies of the session.
    pub token: SessionToken,
    /// Items read from a majority: this server's own state must be as new before its token covers
    /// them. Items of clusters that it does not hold are not covered.
    pub seen: Vec<(ItemId, Stamp)>,
    /// When the client stops waiting.
    pub deadline: Tick,
}

/// Answer to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Committed.
    Committed {
        /// The attempt that did it.
        tx: TxId,
        /// Stamp after the transaction, one an operation, in order.
        stamps: Vec<Stamp>,
        /// Where the decision stands in this server's log, for the session token.
        decision: LogPosition,
    },
    /// Read.
    Read(Vec<(ItemId, Option<Committed>)>),
    /// Caught up; what this server has applied, to be merged into the session's token.
    Session(SessionToken),
    /// Contents that had lost are kept no longer.
    Dismissed {
        /// How many were dropped now.
        contents: u64,
        /// There are others that were meant.
        more: bool,
    },
    /// Not done, or not known; the code says which.
    Failed(Failure),
}

/// Why a request did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The reason.
    pub code: ErrorCode,
    /// The item concerned.
    pub item: Option<ItemId>,
    /// Its committed stamp, as far as known.
    pub current: Option<Stamp>,
    /// The undecided transaction in the way; its `node` is the coordinator that can finish it.
    pub holder: Option<TxId>,
}

/// What the machine wants done. Effects are carried out in order before the next `step`.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Make visible to [`Store`] at once, durable soon; `seq` counts up without gaps.
    Persist {
        /// Number of the batch.
        seq: PersistSeq,
        /// Atomic, in order.
        writes: Vec<Write>,
    },
    /// Send once everything up to `after` is durable (0: at once). To oneself included. May be
    /// lost.
    Send {
        /// Receiver.
        to: NodeId,
        /// Durability the message waits for.
        after: PersistSeq,
        /// The message.
        message: Message,
    },
    /// Read a part of a cluster and send it ([`Part::read`]), once what was read is durable. May be
    /// put off, or be lost. It is much, and nothing depends on it: whoever does this beside the
    /// machine's own work keeps clients from waiting for it.
    Copy {
        /// Receiver.
        to: NodeId,
        /// What.
        part: Part,
    },
    /// Read a whole cluster for its digests, beside the machine's own work; [`Event::Surveyed`]
    /// follows. What is written from now on may be in it or not.
    Survey {
        /// Comes back.
        number: u64,
        /// Of what.
        survey: Survey,
    },
    /// Answer a client once everything up to `after` is durable.
    Reply {
        /// The shell's number.
        request: u64,
        /// Durability the answer waits for.
        after: PersistSeq,
        /// The answer.
        reply: Reply,
    },
    /// Something worth counting or logging happened.
    Note(Note),
    /// Tell the control plane once everything up to `after` is durable. May be lost: it comes again
    /// until the configuration shows that it arrived.
    Report {
        /// Durability the report waits for.
        after: PersistSeq,
        /// The report.
        report: Report,
    },
}

/// Something worth counting or logging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A transaction of this coordinator committed; true when one round sufficed.
    Committed {
        /// One round trip sufficed.
        one_round: bool,
    },
    /// A transaction of this coordinator was decided to abort.
    Aborted(NoReasonNote),
    /// An automatic retry after `Busy` or `Generation`.
    Retried,
    /// A recovery was started for this transaction.
    Recovering(TxId),
    /// A decision did not fit the local state of a cluster with W below majority; the local value
    /// was kept.
    Diverged {
        /// Which item.
        item: ItemId,
        /// The stamp kept.
        local: Stamp,
        /// The stamp not applied.
        other: Stamp,
    },
    /// What differed of an item is merged: this server wrote the winner.
    Merged {
        /// Which item.
        item: ItemId,
        /// What named the winner: a step of the chain, `lag` or `same` when there was nothing to
        /// choose, or `manual`.
        by: &'static str,
    },
    /// No step of the chain named a winner. Once for each set of contents.
    NoWinner {
        /// Which item.
        item: ItemId,
        /// Equal copies, each with the servers that have it.
        groups: Vec<(Option<Committed>, Vec<NodeId>)>,
    },
    /// More contents that have lost were here than may be kept: the oldest were dropped.
    LostDropped {
        /// How many.
        contents: u64,
        /// There has been room until now.
        is_first: bool,
    },
    /// This server left ONLINE to align.
    LeftOnline,
    /// A part of a cluster was copied.
    Copied {
        /// Which part.
        part: CopyNote,
        /// It was the last one of the cluster.
        is_last: bool,
    },
    /// Nothing is left to copy; comparing begins.
    AllCopied,
    /// A chunk from this server holds other items than were read there.
    Damaged(NodeId),
    /// Work of an alignment since the last such note.
    Alignment(AlignmentWork),
    /// This server is back.
    BackOnline,
    /// The own log was cut past a server that is too far behind; that one will have to align. Once
    /// each time that it is left behind.
    PassedOver(NodeId),
    /// Entries of the own decision log that a server has not acknowledged, when it is behind.
    Lag {
        /// Who.
        node: NodeId,
        /// How many, at least.
        entries: u64,
        /// One of them was there at this tick already; `None`: it has them all.
        since: Option<Tick>,
    },
    /// A witness dropped contents that every MASTER and REPLICA has.
    Dropped {
        /// Of how many items.
        contents: u64,
    },
    /// Tombstones that every MASTER and REPLICA has were dropped.
    Purged {
        /// How many.
        tombstones: u64,
    },
    /// Two different contents under one stamp in a safe cluster, or a decision that contradicts
    /// another: never merged silently.
    Corruption {
        /// Which transaction.
        tx: TxId,
        /// What contradicts what.
        detail: &'static str,
    },
}

/// What an alignment did; amounts add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AlignmentWork {
    /// Own items hashed or looked up to compare them; of a cluster all at once.
    pub compared: u64,
    /// Ranges found different.
    pub ranges: u64,
    /// Items taken from a source.
    pub fetched: u64,
    /// Decisions taken that a source settled meanwhile.
    pub followed: u64,
}

/// Reason of an abort, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoReasonNote {
    /// Version conflict.
    Version,
    /// Lock held by another.
    Busy,
    /// Anything else.
    Other,
}

/// Keys and contents of items after which a page ends.
pub const PAGE_BYTES: usize = 256 << 10;

/// What is looked through for tombstones in one go, in bytes of items: most of it is read from the
/// disk and skipped.
pub const SKIPPED_BYTES: usize = 4 << 20;

/// What an item weighs in a page.
#[must_use]
pub fn bytes_of(key: &ItemKey, committed: &Committed) -> usize {
    let key = match key {
        ItemKey::Record(_) => size_of::<u64>(),
        ItemKey::Key(bytes) | ItemKey::Token(bytes) => bytes.len(),
    };
    key + committed.image.as_ref().map_or(0, |image| image.0.len())
}

/// True when nothing is behind a page of [`Store::items_after`].
#[must_use]
pub fn is_last_page(items: &[(ItemKey, Committed)], limit: usize) -> bool {
    let bytes = || items.iter().map(|(key, committed)| bytes_of(key, committed)).sum::<usize>();
    items.len() < limit && bytes() < PAGE_BYTES
}

/// A part of a cluster, searched for tombstones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tombstones {
    /// In key order.
    pub found: Vec<(ItemKey, Stamp)>,
    /// How many items were looked at.
    pub looked_at: usize,
    /// What they weigh.
    pub bytes: usize,
    /// The last one looked at; `None`: nothing is behind it.
    pub next: Option<ItemKey>,
}

/// What the machine may look up. Sees every `Persist` carried out so far, durable or not.
pub trait Store {
    /// Committed state of an item, tombstones included; `None` if never written.
    fn item(&self, item: &ItemId) -> Option<Committed>;
    /// Its stamp alone; [`Stamp::ABSENT`] if never written.
    fn stamp(&self, item: &ItemId) -> Stamp {
        self.item(item).map_or(Stamp::ABSENT, |c| c.stamp)
    }
    /// Record of a transaction, if not forgotten.
    fn tx(&self, tx: TxId) -> Option<TxRecord>;
    /// Outcome of a transaction, if known and not forgotten.
    fn outcome(&self, tx: TxId) -> Option<Decided>;
    /// First entry of the own decision log behind a position.
    fn log_after(&self, position: LogPosition) -> Option<(LogPosition, LogEntry)>;
    /// Items of a cluster behind a key, tombstones included, in key order: at most `limit`, and
    /// none behind the one with which they have [`PAGE_BYTES`] ([`bytes_of`]); else all there are.
    fn items_after(
        &self,
        cluster: ClusterKey,
        after: Option<&ItemKey>,
        limit: usize,
    ) -> Vec<(ItemKey, Committed)>;
    /// The tombstones among the items of a cluster behind a key; looks at `limit` items at most.
    fn tombstones_after(
        &self,
        cluster: ClusterKey,
        after: Option<&ItemKey>,
        limit: usize,
    ) -> Tombstones {
        let items = self.items_after(cluster, after, limit);
        let next = items.last().filter(|_| !is_last_page(&items, limit));
        Tombstones {
            next: next.map(|(key, _)| key.clone()),
            looked_at: items.len(),
            bytes: items.iter().map(|(key, committed)| bytes_of(key, committed)).sum(),
            found: items
                .into_iter()
                .filter(|(_, c)| !c.live)
                .map(|(key, c)| (key, c.stamp))
                .collect(),
        }
    }
    /// Outcomes not forgotten, behind a transaction, in order, at most `limit`.
    fn outcomes_after(&self, after: TxId, limit: usize) -> Vec<(TxId, Decided)>;
    /// What the committed state of an item was built on ([`Write::Ancestors`]).
    fn ancestors(&self, item: &ItemId) -> Vec<Stamp>;
    /// Contents of an item beside the committed one ([`Write::Rivals`]).
    fn rivals(&self, item: &ItemId) -> Vec<Rival>;
}

/// What a server finds on its disk when it starts.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// Transactions with a record and without an outcome.
    pub undecided: Vec<(TxId, TxRecord)>,
    /// How far each decision log is applied here.
    pub applied: BTreeMap<NodeId, LogPosition>,
    /// Last positions of ended boots, as far as logs told.
    pub ended: BTreeMap<(NodeId, Boot), u64>,
    /// Low-water marks.
    pub low: BTreeMap<(NodeId, Boot), u64>,
    /// How far decision logs had told those whose state came in by alignment.
    pub shown: BTreeMap<NodeId, LogPosition>,
    /// Commits applied here that no decision log had told of.
    pub out_of_log: BTreeSet<TxId>,
    /// Last position of the own log; (0, 0) when empty since ever.
    pub log_end: LogPosition,
    /// Position before the first entry still in the own log.
    pub log_start: LogPosition,
    /// The server stopped while it aligned.
    pub aligning: bool,
    /// Commits of which it had something then, and perhaps not all.
    pub begun: BTreeSet<TxId>,
    /// Up to which key clusters had been copied then, of those that were not copied completely.
    pub copied: BTreeMap<ClusterKey, ItemKey>,
    /// Up to which generation of a cluster this server votes no more.
    pub sealed: BTreeMap<ClusterKey, u32>,
    /// For which generation of a cluster this server has all that came before it.
    pub entered: BTreeMap<ClusterKey, u32>,
    /// Items with contents that are not merged.
    pub diverged: BTreeSet<ItemId>,
    /// Contents that have lost, in the order of their items.
    pub lost: Vec<LostContent>,
    /// In which order contents have lost, as far as it was written ([`Write::Lost`]); some may be
    /// gone.
    pub lost_order: BTreeMap<u64, (ItemId, Stamp)>,
}
