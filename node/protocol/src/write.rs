//! What the machine hands to the disk. Data only.

use alloc::vec::Vec;

use quorate_api::{Boot, ClusterKey, Committed, ItemId, ItemKey, NodeId, Stamp, TxId};

use crate::conflict::Rival;
use crate::message::{Decided, LogEntry, LogPosition, TxRecord};
/// A durable write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Committed state of an item.
    Item(ItemId, Committed),
    /// Votes and acceptor state of a transaction.
    Tx(TxId, TxRecord),
    /// Outcome of a transaction.
    Outcome(TxId, Decided),
    /// Entry of this server's own decision log.
    Log(LogPosition, LogEntry),
    /// Drop log entries up to and including this position.
    TruncateLog(LogPosition),
    /// How far another server's (or the own) decision log is applied.
    Applied(NodeId, LogPosition),
    /// Where an ended boot's part of a decision log stops.
    BootEnd(NodeId, Boot, u64),
    /// A commit is applied here that no decision log has told of yet: it was proven by a base,
    /// heard in an answer, or fetched.
    OutOfLog(TxId),
    /// A decision log has told of that commit.
    InLog(TxId),
    /// Low-water mark of a coordinator's boot: records and outcomes of its transactions below are
    /// dropped.
    Low(NodeId, Boot, u64),
    /// Drop the tombstone of an item: as if it had never been written.
    Purge(ItemId),
    /// State that came in by alignment may show what a decision log tells up to here.
    Shown(NodeId, LogPosition),
    /// This server aligns (true), or is back (false); while it aligns its items are no snapshot.
    /// With its end, everything in [`Write::Begun`] is dropped.
    Aligning(bool),
    /// Something of this commit came in by alignment, and perhaps not all of it.
    Begun(TxId),
    /// The copy of a cluster has come to this key, and goes on behind it; `None`: it is complete.
    /// Goes with the end of the alignment, too.
    Copied(ClusterKey, Option<ItemKey>),
    /// This server votes in no generation of the cluster up to this one any more.
    Sealed(ClusterKey, u32),
    /// This server has all that generations of the cluster before this one committed.
    Entered(ClusterKey, u32),
    /// What the committed state of an item was built on, oldest first; nothing is kept of an empty
    /// list. Of clusters with W below a majority only.
    Ancestors(ItemId, Vec<Stamp>),
    /// Contents of an item beside the committed one; nothing is kept of an empty list. Of clusters
    /// with W below a majority only.
    Rivals(ItemId, Vec<Rival>),
    /// Place of a content that has lost among all that have, lower ones first; `None`: it is kept
    /// no longer.
    Lost(u64, Option<(ItemId, Stamp)>),
}
