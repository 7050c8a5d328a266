//! What a server that has nothing of a cluster is given of it: chunks of items in key order, asked
//! for one by one. Data, and how a chunk is read; who asks whom, and when, is in
//! `machine/align_copy`.

use alloc::vec::Vec;
use core::convert::Infallible;

use quorate_api::{Boot, ClusterKey, Committed, ItemKey, NodeId};
use serde::{Deserialize, Serialize};

use crate::alignment::{Answer, Digest};
use crate::io::{Store, bytes_of, is_last_page};
use crate::message::Message;

/// Number in place of a session's for questions about copies and their answers: sessions count from
/// above.
pub const COPIES: u64 = 0;

/// Keys and contents of items after which a chunk ends, in bytes: large enough that what a chunk
/// costs besides hardly counts, small beside what a link may have waiting.
pub const CHUNK_BYTES: usize = 1 << 20;

/// Items after which a chunk ends: small ones cost more than their bytes.
const CHUNK_ITEMS: usize = 8_192;

/// A part of a cluster, for a server that has nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Which cluster.
    pub cluster: ClusterKey,
    /// Comes back.
    pub from: Option<ItemKey>,
    /// In order.
    pub items: Vec<(ItemKey, Committed)>,
    /// Where to go on; `None`: these were the last.
    pub next: Option<ItemKey>,
    /// Low-water marks of the source, older than the items.
    pub low: Vec<(NodeId, Boot, u64)>,
    /// About how many items the source has in all clusters; 0: not known.
    pub there: u64,
    /// Over the items, as they were read from the disk.
    pub digest: Digest,
}

impl Chunk {
    /// These are the items that were read.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        Digest::over(&self.items) == self.digest
    }

    /// The answer that takes it to whoever asked.
    #[must_use]
    pub const fn into_message(self) -> Message {
        Message::AlignReply { session: COPIES, answer: Answer::Copied(self) }
    }
}

/// A part of a cluster that was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyNote {
    /// Which cluster.
    pub cluster: ClusterKey,
    /// From whom.
    pub from: NodeId,
    /// Items in it.
    pub items: u64,
    /// Their keys and contents.
    pub bytes: u64,
    /// About how many items the source has in all clusters; 0: not known.
    pub there: u64,
}

/// A part of a cluster that is to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which cluster.
    pub cluster: ClusterKey,
    /// Exclusive; `None`: from the first key.
    pub from: Option<ItemKey>,
    /// Low-water marks as of now.
    pub low: Vec<(NodeId, Boot, u64)>,
}

impl Part {
    /// Reads it, up to [`CHUNK_BYTES`], in pages like those of [`Store::items_after`].
    ///
    /// # Errors
    /// Whatever reading a page fails with.
    pub fn read<E>(
        self,
        mut page: impl FnMut(Option<&ItemKey>, usize) -> Result<Vec<(ItemKey, Committed)>, E>,
    ) -> Result<Chunk, E> {
        let Self { cluster, from, low } = self;
        let (mut items, mut bytes) = (Vec::new(), 0);
        let mut next = from.clone();
        loop {
            let found = page(next.as_ref(), CHUNK_ITEMS)?;
            let is_last = is_last_page(&found, CHUNK_ITEMS);
            bytes += found.iter().map(|(key, committed)| bytes_of(key, committed)).sum::<usize>();
            next = found.last().map(|(key, _)| key.clone());
            items.extend(found);
            if is_last {
                next = None;
            }
            if is_last || bytes >= CHUNK_BYTES || items.len() >= CHUNK_ITEMS {
                break;
            }
        }
        let digest = Digest::over(&items);
        Ok(Chunk { cluster, from, items, next, low, there: 0, digest })
    }

    /// The message that carries it, read from a store that cannot fail.
    #[must_use]
    pub fn message_from(self, store: &dyn Store) -> Message {
        let cluster = self.cluster;
        let page = |after: Option<&ItemKey>, limit| Ok(store.items_after(cluster, after, limit));
        match self.read::<Infallible>(page) {
            Ok(chunk) => chunk.into_message(),
            Err(never) => match never {},
        }
    }
}
