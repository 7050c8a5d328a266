//! Lines of history that diverged in clusters with W below a majority (PROTOCOL.md 3.10): what is
//! kept of them, and what servers say to each other to merge them. Data only; the behaviour is in
//! `machine/lineage.rs` and `machine/merge.rs`.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_api::{ClusterKey, Committed, ItemId, ItemKey, NodeId, Stamp};
use serde::{Deserialize, Serialize};

use crate::alignment::Digest;
use crate::io::{Tick, bytes_of};
use crate::message::LogPosition;

/// Ancestors kept of an item, newest ones. With fewer known than there were, two stamps of one line
/// may look like two lines; then they are looked at twice before they are merged.
pub const ANCESTORS_MAX: usize = 32;

/// Contents kept of one item beside the one that is committed here. The oldest that have lost go
/// first.
pub const RIVALS_MAX: usize = 64;

/// What became of a content that is not the committed one of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It is to be merged.
    Open,
    /// No step of the chain named a winner: people have to choose.
    NoWinner,
    /// Another content won; this one is kept to be looked at.
    Lost,
}

/// A content of an item that is not the committed one of this server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rival {
    /// Its stamp and content.
    pub committed: Committed,
    /// Stamps that it was built on, oldest first.
    pub ancestors: Vec<Stamp>,
    /// What became of it.
    pub fate: Fate,
}

impl Rival {
    /// What it weighs among the contents that are kept, in bytes.
    fn bytes(&self, key: &ItemKey) -> usize {
        bytes_of(key, &self.committed) + self.ancestors.len() * size_of::<Stamp>()
    }
}

/// A content that has lost, as those that are kept are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostContent {
    /// Of which item.
    pub item: ItemId,
    /// Its stamp.
    pub stamp: Stamp,
    /// What it weighs.
    pub bytes: usize,
}

/// Those of an item that have lost, in the order of its list.
pub fn lost_of<'a>(item: &'a ItemId, rivals: &'a [Rival]) -> impl Iterator<Item = LostContent> {
    rivals.iter().filter(|rival| rival.fate == Fate::Lost).map(|rival| LostContent {
        item: item.clone(),
        stamp: rival.committed.stamp,
        bytes: rival.bytes(&item.key),
    })
}

/// Contents that have lost and are not to be kept any longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dismissed {
    /// All of a database, by its number.
    Database(u32),
    /// All of an item.
    Item(ItemId),
    /// One of an item.
    Content(ItemId, Stamp),
}

/// Somebody has looked at contents that have lost.
#[derive(Debug, Clone)]
pub struct Dismiss {
    /// The shell's number for the request; comes back in the reply.
    pub request: u64,
    /// Which.
    pub contents: Dismissed,
}

/// A choice among the contents of an item that diverged.
#[derive(Debug, Clone)]
pub struct Choose {
    /// The shell's number for the request; comes back in the reply.
    pub request: u64,
    /// Of which item.
    pub item: ItemId,
    /// Stamp of the content that wins: the one committed at some server, or one that the asked
    /// server has listed.
    pub winner: Stamp,
    /// When the client stops waiting.
    pub deadline: Tick,
}

/// All of an item at one server, for who merges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Which.
    pub item: ItemId,
    /// Its committed state; `None` if there is none.
    pub committed: Option<Committed>,
    /// What that was built on, oldest first.
    pub ancestors: Vec<Stamp>,
    /// Stamps and ancestors of what is not merged there.
    pub rivals: Vec<(Stamp, Vec<Stamp>)>,
    /// A transaction that is under way holds it.
    pub busy: bool,
}

impl State {
    /// Stamp of the committed state.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.committed.as_ref().map_or(Stamp::ABSENT, |committed| committed.stamp)
    }
}

/// How far a decision log is, for who merges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// Its end.
    pub end: LogPosition,
    /// What the others have of it.
    pub acked: BTreeMap<NodeId, LogPosition>,
}

/// What servers say to each other to merge what diverged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Merging {
    /// The sender has more than one content of these: the receiver is to look at them.
    Diverged {
        /// Which.
        items: Vec<ItemId>,
    },
    /// What does the receiver have of these?
    Look {
        /// Number of the question at the sender.
        number: u64,
        /// Which.
        items: Vec<ItemId>,
    },
    /// Answer to `Look`.
    Seen {
        /// Number of the question.
        number: u64,
        /// In the order of the question.
        states: Vec<State>,
        /// The sender's decision log.
        log: Logged,
    },
    /// Everybody who was asked has this stamp.
    Settled {
        /// Of which item.
        item: ItemId,
        /// The stamp.
        stamp: Stamp,
        /// What it was built on: that is listed no more.
        ancestors: Vec<Stamp>,
    },
    /// The chain named no winner.
    Undecided {
        /// Of which item.
        item: ItemId,
        /// One of the contents: all are told, so that people can choose anywhere.
        content: Committed,
    },
    /// The sender's items of a range of keys, as one digest: whoever has others lists them.
    Range {
        /// Which cluster.
        cluster: ClusterKey,
        /// Exclusive; `None`: from the first key.
        from: Option<ItemKey>,
        /// Inclusive; `None`: to the last key.
        upto: Option<ItemKey>,
        /// Over the items of the range.
        digest: Digest,
    },
    /// Answer to `Range`.
    Listed {
        /// Which cluster.
        cluster: ClusterKey,
        /// Comes back.
        from: Option<ItemKey>,
        /// Up to where the listing goes, inclusive.
        upto: Option<ItemKey>,
        /// Hashes of the sender's items in it, in order; `None` if they are the same.
        entries: Option<Vec<(ItemKey, Digest)>>,
    },
}

impl Merging {
    /// Short name for logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Diverged { .. } => "merge_diverged",
            Self::Look { .. } => "merge_look",
            Self::Seen { .. } => "merge_seen",
            Self::Settled { .. } => "merge_settled",
            Self::Undecided { .. } => "merge_undecided",
            Self::Range { .. } => "merge_range",
            Self::Listed { .. } => "merge_listed",
        }
    }
}
