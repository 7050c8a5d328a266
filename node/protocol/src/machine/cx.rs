//! What one step reads and writes: the store with this step's own writes laid over it, and the
//! effects.
//!
//! Durability (PROTOCOL.md 3.2). Answers of an acceptor (votes, accepts, promises,
//! acknowledgements, read and status replies, decisions) wait for everything handed to the disk
//! before them: [`Cx::send_durable`]. Two kinds of message state only what is final without this
//! disk, and leave at once ([`Cx::send_now`], [`Cx::reply_now`]):
//! - a coordinator's requests. They claim a transaction id (its boot was synced before the first
//!   message), base stamps of committed transactions, and at most one round-1 value per boot, which
//!   lives and dies with the boot's memory.
//! - `ok` and `failed`. A commit is final once the durable votes of all MASTERs, or a majority's
//!   durable accepts, exist; an abort once every majority contains a durable No, or a majority
//!   accepted it. If this server dies before its own record of the decision is durable, recovery
//!   (3.7) reads the same outcome from those votes and accepts.

use alloc::vec::Vec;

use quorate_api::{ClusterKey, Committed, ItemId, ItemKey, NodeId, Stamp, TxId};

use crate::io::{Effect, Note, PersistSeq, Reply, Store, Write};
use crate::message::{Decided, LogEntry, LogPosition, Message, TxRecord};

pub(super) struct Cx<'a> {
    store: &'a dyn Store,
    out: &'a mut Vec<Effect>,
    /// Where this step's effects begin in `out`.
    start: usize,
    before: PersistSeq,
    writes: Vec<Write>,
}

impl<'a> Cx<'a> {
    pub(super) fn new(store: &'a dyn Store, out: &'a mut Vec<Effect>, before: PersistSeq) -> Self {
        let start = out.len();
        Self { store, out, start, before, writes: Vec::new() }
    }

    /// Hands this step's writes over and returns the number of the last batch.
    pub(super) fn finish(self) -> PersistSeq {
        if self.writes.is_empty() {
            return self.before;
        }
        let seq = self.before + 1;
        self.out.insert(self.start, Effect::Persist { seq, writes: self.writes });
        seq
    }

    pub(super) fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// Sends once everything written so far, in this step too, is durable.
    pub(super) fn send_durable(&mut self, to: NodeId, message: Message) {
        let after = if self.writes.is_empty() { self.before } else { self.before + 1 };
        self.out.push(Effect::Send { to, after, message });
    }

    /// Sends at once; see the module's doc for what may.
    pub(super) fn send_now(&mut self, to: NodeId, message: Message) {
        self.out.push(Effect::Send { to, after: 0, message });
    }

    /// Answers a client at once; see the module's doc.
    pub(super) fn reply_now(&mut self, request: u64, reply: Reply) {
        self.out.push(Effect::Reply { request, after: 0, reply });
    }

    /// To be carried out before anything that this step writes becomes visible.
    pub(super) fn note_first(&mut self, note: Note) {
        self.out.insert(self.start, Effect::Note(note));
        self.start += 1;
    }

    pub(super) fn note(&mut self, note: Note) {
        self.out.push(Effect::Note(note));
    }

    pub(super) fn item(&self, item: &ItemId) -> Option<Committed> {
        for write in self.writes.iter().rev() {
            if let Write::Item(id, committed) = write
                && id == item
            {
                return Some(committed.clone());
            }
            if let Write::Purge(id) = write
                && id == item
            {
                return None;
            }
        }
        self.store.item(item)
    }

    pub(super) fn stamp(&self, item: &ItemId) -> Stamp {
        for write in self.writes.iter().rev() {
            if let Write::Item(id, committed) = write
                && id == item
            {
                return committed.stamp;
            }
            if let Write::Purge(id) = write
                && id == item
            {
                return Stamp::ABSENT;
            }
        }
        self.store.stamp(item)
    }

    pub(super) fn tx(&self, tx: TxId) -> Option<TxRecord> {
        for write in self.writes.iter().rev() {
            if let Write::Tx(id, record) = write
                && *id == tx
            {
                return Some(record.clone());
            }
        }
        self.store.tx(tx)
    }

    pub(super) fn outcome(&self, tx: TxId) -> Option<Decided> {
        for write in self.writes.iter().rev() {
            if let Write::Outcome(id, outcome) = write
                && *id == tx
            {
                return Some(*outcome);
            }
        }
        self.store.outcome(tx)
    }

    /// As it was before this step. Alignment may see an older item than there is: what changed is
    /// compared or followed later.
    pub(super) fn items_after(
        &self,
        cluster: ClusterKey,
        after: Option<&ItemKey>,
        limit: usize,
    ) -> Vec<(ItemKey, Committed)> {
        self.store.items_after(cluster, after, limit)
    }

    /// As it was before this step.
    pub(super) fn outcomes_after(&self, after: TxId, limit: usize) -> Vec<(TxId, Decided)> {
        self.store.outcomes_after(after, limit)
    }

    pub(super) fn log_after(&self, position: LogPosition) -> Option<(LogPosition, LogEntry)> {
        let stored = self.store.log_after(position);
        let mut found = stored;
        for write in &self.writes {
            if let Write::Log(at, entry) = write
                && *at > position
                && found.as_ref().is_none_or(|(best, _)| at < best)
            {
                found = Some((*at, entry.clone()));
            }
        }
        found
    }
}
