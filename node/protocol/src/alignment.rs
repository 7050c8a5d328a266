//! What servers say to each other while one of them aligns (PROTOCOL.md 3.6.5), and the digests
//! they compare. Data and hashing only; the behaviour is in `machine/align*.rs`.

use alloc::vec::Vec;

use quorate_api::{Boot, ClusterKey, Committed, ItemId, ItemKey, NodeId, Stamp, TxId};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::copying::Chunk;
use crate::message::{Decided, LogPosition, Participant};

/// Hash over items: the sum (modulo 2^128) of the hashes of each. A sum does not depend on order
/// or on how a range is cut, so two servers can hash the same range of keys without agreeing on
/// more than its bounds. Against accidents, not against an attacker: servers trust each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Digest(pub u128);

impl Digest {
    /// Of one item: its key, stamp and content. Of an item whose content was dropped it is what it
    /// was before, so a witness compares with servers that have all of it.
    #[must_use]
    pub fn of(key: &ItemKey, committed: &Committed) -> Self {
        if let Some(digest) = committed.elsewhere {
            return Self(digest);
        }
        let mut hasher = Xxh3::new();
        let (kind, bytes): (u8, &[u8]) = match key {
            ItemKey::Record(_) => (0, &[]),
            ItemKey::Key(bytes) => (1, bytes),
            ItemKey::Token(bytes) => (2, bytes),
        };
        let position = if let ItemKey::Record(position) = key { *position } else { 0 };
        let Stamp { version, tx } = committed.stamp;
        hasher.update(&[kind, u8::from(committed.live), u8::from(committed.image.is_some())]);
        for number in [bytes.len() as u64, position, version, tx.node.0, tx.boot.0.into(), tx.seq] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(bytes);
        if let Some(image) = &committed.image {
            hasher.update(&image.0);
        }
        Self(hasher.digest128())
    }

    /// Of several items.
    #[must_use]
    pub fn over(items: &[(ItemKey, Committed)]) -> Self {
        let digests = items.iter().map(|(key, committed)| Self::of(key, committed));
        digests.fold(Self::default(), Self::plus)
    }

    /// Without an item that is in it.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }

    /// With one more item in it.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

/// A node of a Merkle tree over the items of one cluster, in key order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TreeNode {
    /// 0 for the leaves.
    pub level: u8,
    /// Counts from 0 in key order.
    pub index: u32,
}

/// A child of a tree node: the items behind the child before it, up to `upto`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Which.
    pub node: TreeNode,
    /// Last key of its range, inclusive; `None`: no bound.
    pub upto: Option<ItemKey>,
    /// Over the items of the range.
    pub digest: Digest,
}

/// One item in the listing of a range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Which.
    pub key: ItemKey,
    /// Its stamp.
    pub stamp: Stamp,
    /// Its hash.
    pub digest: Digest,
}

/// A decided transaction that is not forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Which.
    pub tx: TxId,
    /// What became of it.
    pub outcome: Decided,
    /// All its clusters; may be missing for an abort.
    pub participants: Vec<Participant>,
}

/// A decision that a source settled while it was followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// Which, its outcome and clusters.
    pub known: Known,
    /// For a commit, operations of the clusters that the aligning server keeps, as far as the
    /// source has them.
    pub ops: Vec<quorate_api::Operation>,
}

/// What a source has done about changes of a cluster's generation (PROTOCOL.md 3.9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Which cluster.
    pub cluster: ClusterKey,
    /// The generation that it knows as active.
    pub generation: u32,
    /// It is one of its MASTERs, has sealed it, and knows what became of all it voted for.
    pub settled: bool,
    /// It has all that generations before this one committed.
    pub entered: u32,
}

/// How far a source is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reached {
    /// How far it has applied each decision log, its own included.
    pub applied: Vec<(NodeId, LogPosition)>,
    /// How far each decision log has told of what its state may show; a log may be named twice.
    pub received: Vec<(NodeId, LogPosition)>,
    /// Where boots that ended stopped in their server's log.
    pub ended: Vec<(NodeId, Boot, u64)>,
    /// Its low-water marks of boots that are not closed.
    pub low: Vec<(NodeId, Boot, u64)>,
    /// Commits in its state that no log has told it of.
    pub out_of_log: Vec<TxId>,
    /// Of clusters that changed, or do.
    pub generations: Vec<Generation>,
}

/// What an aligning server asks of a source. Every question may be lost and asked again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Keep every decision settled from now on until it is asked for.
    Begin,
    /// Outcomes not forgotten, behind a transaction.
    Known {
        /// The last one told.
        after: TxId,
    },
    /// Children of a tree node; of the root for `None`.
    Children {
        /// Which cluster.
        cluster: ClusterKey,
        /// Which node.
        node: Option<TreeNode>,
    },
    /// Stamps and hashes of a range of keys.
    List {
        /// Which cluster.
        cluster: ClusterKey,
        /// Exclusive; `None`: from the first key.
        from: Option<ItemKey>,
        /// Inclusive; `None`: to the last key.
        upto: Option<ItemKey>,
    },
    /// Whole items of a range, for a server that has nothing. Outside of sessions
    /// ([`crate::copying`]).
    Copy {
        /// Which cluster.
        cluster: ClusterKey,
        /// Exclusive; `None`: from the first key.
        from: Option<ItemKey>,
    },
    /// Committed state of these items.
    Get {
        /// At most a page of them.
        items: Vec<ItemId>,
    },
    /// Decisions settled since `Begin`.
    Follow {
        /// The journal that the source named when it began.
        journal: u64,
        /// Number of the first one wanted, from 0; what is before it may be dropped.
        from: u64,
        /// Comes back, so that an answer is known to be younger than the question.
        round: u64,
    },
    /// The session is over.
    End,
}

/// What a source answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The session is open.
    Begun {
        /// Number of the journal in which the source keeps what it settles. A `Begin` that comes
        /// again after the session was dropped opens another one, which lacks what was settled in
        /// between.
        journal: u64,
    },
    /// Outcomes not forgotten.
    Known {
        /// Comes back.
        after: TxId,
        /// In order.
        decided: Vec<Known>,
        /// Where to go on; `None`: these were the last.
        next: Option<TxId>,
        /// Low-water marks of the source: what is below is not listed.
        low: Vec<(NodeId, Boot, u64)>,
    },
    /// Children of a tree node, in key order; of the root for `None`.
    Children {
        /// Which cluster.
        cluster: ClusterKey,
        /// Which node.
        node: Option<TreeNode>,
        /// None for an empty cluster.
        children: Vec<Child>,
    },
    /// Stamps and hashes of a range.
    Listed {
        /// Which cluster.
        cluster: ClusterKey,
        /// Comes back.
        from: Option<ItemKey>,
        /// In order.
        entries: Vec<Listing>,
        /// Where to go on when the range holds more than a page.
        next: Option<ItemKey>,
    },
    /// Whole items of a range.
    Copied(Chunk),
    /// Committed state, of those that are there.
    Got {
        /// How many of those asked for are answered, from the first on, and which was the first;
        /// the rest did not fit and is to be asked for again.
        asked: (u32, Option<ItemId>),
        /// Some may be gone.
        items: Vec<(ItemId, Committed)>,
    },
    /// Decisions settled since `Begin`.
    Followed {
        /// Number of the first one.
        from: u64,
        /// Comes back.
        round: u64,
        /// In order.
        decided: Vec<Followed>,
        /// These were all there are: how far the source is with them.
        end: Option<Reached>,
        /// Clusters that it masters and that the asker does not keep, as it knows: it leaves out
        /// what concerns them alone, and those parts of the rest.
        elsewhere: Vec<ClusterKey>,
    },
    /// No such session (any more): begin again. Asked for a copy: there is none to be had here.
    Unknown,
}

impl Ask {
    /// Short name for logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Begin => "align_begin",
            Self::Known { .. } => "align_known",
            Self::Children { .. } => "align_children",
            Self::List { .. } => "align_list",
            Self::Copy { .. } => "align_copy",
            Self::Get { .. } => "align_get",
            Self::Follow { .. } => "align_follow",
            Self::End => "align_end",
        }
    }
}

impl Answer {
    /// Short name for logs and metrics.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Begun { .. } => "align_begun",
            Self::Known { .. } => "align_known_reply",
            Self::Children { .. } => "align_children_reply",
            Self::Listed { .. } => "align_listed",
            Self::Copied(_) => "align_copied",
            Self::Got { .. } => "align_got",
            Self::Followed { .. } => "align_followed",
            Self::Unknown => "align_unknown",
        }
    }
}
