//! Items and what is done to them: what is versioned, locked and voted on (PROTOCOL.md 3.1).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ClusterKey, TxId};

/// Content of an item, opaque to the protocol. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Image(pub Arc<[u8]>);

impl From<&[u8]> for Image {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Image {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl Serialize for Image {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Image {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Image;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Image, E> {
                Ok(Image(bytes.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Image, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes.into())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// What a cluster holds: a record, a unique key, or a retry token. One rule set for all three.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ItemKey {
    /// A record, by position.
    Record(u64),
    /// A unique key of an index whose own cluster this is, encoded in sort order.
    Key(Vec<u8>),
    /// A client's retry token.
    Token(Vec<u8>),
}

/// Identity of an item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemId {
    /// The cluster it lives in, which decides who votes on it.
    pub cluster: ClusterKey,
    /// Which item of that cluster.
    pub key: ItemKey,
}

impl ItemId {
    /// The record at a position of a cluster.
    #[must_use]
    pub const fn record(cluster: ClusterKey, position: u64) -> Self {
        Self { cluster, key: ItemKey::Record(position) }
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            ItemKey::Record(position) => write!(f, "#{}:{position}", self.cluster.cluster),
            ItemKey::Key(_) => write!(f, "a key of index cluster {}", self.cluster),
            ItemKey::Token(_) => write!(f, "a retry token of cluster {}", self.cluster),
        }
    }
}

/// Version of an item together with the transaction that wrote it; absent is `(0, none)`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Stamp {
    /// The base's version + 1.
    pub version: u64,
    /// Who wrote it.
    pub tx: TxId,
}

impl Stamp {
    /// The stamp of an item that was never written.
    pub const ABSENT: Self = Self { version: 0, tx: TxId::NONE };
}

/// What an operation does to its item.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OpKind {
    /// Write an item that is absent.
    Create,
    /// Replace a live item.
    Update,
    /// Write a tombstone over a live item; its image, if any, is kept in the tombstone.
    Delete,
    /// Read it: the transaction is valid only while the base stamp is current.
    Check,
    /// Make one of several lines of history that diverged in a cluster with W below a majority
    /// (PROTOCOL.md 3.10); the base is the highest stamp of all.
    Merge(Box<Merge>),
}

/// What a merge brings together. An acceptor says Yes if its own stamp is among these.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Merge {
    /// The last stamp of every line; the content of all but one of them loses.
    pub of: Vec<Stamp>,
    /// Stamps that those were built on: who has one of them only lags.
    pub past: Vec<Stamp>,
    /// False if what wins is a tombstone.
    pub live: bool,
}

impl Merge {
    /// True when a server with this stamp takes the merge.
    #[must_use]
    pub fn covers(&self, stamp: Stamp) -> bool {
        stamp == Stamp::ABSENT || self.of.contains(&stamp) || self.past.contains(&stamp)
    }
}

impl OpKind {
    /// False when the item is a tombstone afterwards.
    #[must_use]
    pub fn leaves_live(&self) -> bool {
        match self {
            Self::Create | Self::Update | Self::Check => true,
            Self::Delete => false,
            Self::Merge(merge) => merge.live,
        }
    }
}

/// One operation of a transaction. At most one per item and transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// On what.
    pub item: ItemId,
    /// What.
    pub kind: OpKind,
    /// The committed stamp it builds on; an acceptor votes Yes only when its own equals this one
    /// (trap A4).
    pub base: Stamp,
    /// The after-image; `None` for `Check`, optional for `Delete`.
    pub image: Option<Image>,
}

impl Operation {
    /// The stamp the item has after transaction `tx` committed this operation.
    #[must_use]
    pub const fn stamp_after(&self, tx: TxId) -> Stamp {
        match self.kind {
            OpKind::Check => self.base,
            OpKind::Create | OpKind::Update | OpKind::Delete | OpKind::Merge(_) => {
                Stamp { version: self.base.version + 1, tx }
            }
        }
    }

    /// The committed state of the item after transaction `tx` committed this operation.
    #[must_use]
    pub fn committed(&self, tx: TxId) -> Committed {
        let live = self.kind.leaves_live();
        Committed { stamp: self.stamp_after(tx), live, image: self.image.clone(), elsewhere: None }
    }

    /// True when it changes its item.
    #[must_use]
    pub const fn writes(&self) -> bool {
        !matches!(self.kind, OpKind::Check)
    }
}

/// Committed state of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Committed {
    /// Its stamp.
    pub stamp: Stamp,
    /// False for a tombstone.
    pub live: bool,
    /// Content, or what a tombstone keeps.
    pub image: Option<Image>,
    /// There is content, and other servers alone have it: a witness has dropped its own. What is
    /// kept of it is the digest that the item had with it. `image` is `None` then.
    pub elsewhere: Option<u128>,
}

impl Committed {
    /// The same without its content, of which this digest is kept.
    #[must_use]
    pub const fn without_content(stamp: Stamp, live: bool, digest: u128) -> Self {
        Self { stamp, live, image: None, elsewhere: Some(digest) }
    }

    /// There is a record or a key, and what it holds is not here: nobody may take it for empty.
    /// What a tombstone kept is not missed.
    #[must_use]
    pub const fn lacks_content(&self) -> bool {
        self.live && self.elsewhere.is_some()
    }
}

/// How a committed state is written: in one field what can only be one of three.
#[derive(Serialize, Deserialize)]
#[serde(rename = "Committed")]
struct Stored {
    stamp: Stamp,
    live: bool,
    content: Content,
}

/// How what an item holds is written. The first two are, byte by byte, an optional image; only a
/// witness writes the third.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// None.
    Nothing,
    /// The image of [`Committed`].
    Here(Image),
    /// The digest of what other servers have.
    Elsewhere(u128),
}

impl From<Stored> for Committed {
    fn from(Stored { stamp, live, content }: Stored) -> Self {
        let (image, elsewhere) = match content {
            Content::Nothing => (None, None),
            Content::Here(image) => (Some(image), None),
            Content::Elsewhere(digest) => (None, Some(digest)),
        };
        Self { stamp, live, image, elsewhere }
    }
}

impl From<Committed> for Stored {
    fn from(Committed { stamp, live, image, elsewhere }: Committed) -> Self {
        let content = match (image, elsewhere) {
            (Some(image), _) => Content::Here(image),
            (None, Some(digest)) => Content::Elsewhere(digest),
            (None, None) => Content::Nothing,
        };
        Self { stamp, live, content }
    }
}
