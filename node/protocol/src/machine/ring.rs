//! The order of the last entries of another server's decision log, as a relay keeps it. Contents
//! are not here: they are on the relay's disk.

use alloc::collections::BTreeMap;

use quorate_api::TxId;

use crate::feeding::Entry;
use crate::message::{Decided, LogPosition};

/// The order of the last entries of a log.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// What is before the first of them.
    start: LogPosition,
    /// By the position before.
    entries: BTreeMap<LogPosition, Link>,
}

/// An entry of a log without what it decides about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) at: LogPosition,
    pub(super) tx: TxId,
    pub(super) outcome: Decided,
    pub(super) cfg: u64,
}

impl Ring {
    /// What is before the first entry of it.
    pub(super) const fn start(&self) -> LogPosition {
        self.start
    }

    /// The entry that follows a position, if that is in it.
    pub(super) fn after(&self, prev: LogPosition) -> Option<Link> {
        self.entries.get(&prev).copied()
    }

    /// Takes the next entry of the log; no more than `kept` of them stay.
    pub(super) fn push(&mut self, entry: &Entry, kept: usize) {
        let last = self.entries.last_key_value().map_or(self.start, |(_, link)| link.at);
        if last != entry.prev {
            self.entries.clear();
        }
        if self.entries.is_empty() {
            self.start = entry.prev;
        }
        let Entry { at, prev, tx, outcome, cfg, .. } = *entry;
        self.entries.insert(prev, Link { at, tx, outcome, cfg });
        while self.entries.len() > kept.max(1)
            && let Some((_, link)) = self.entries.pop_first()
        {
            self.start = link.at;
        }
    }
}
