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

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

use quorate_api::{ClusterKey, Committed, ItemId, ItemKey, NodeId, Stamp, TxId};

use crate::conflict::Rival;
use crate::copying::Part;
use crate::io::{Effect, Note, PersistSeq, Reply, Report, Store, Tombstones, Write};
use crate::message::{Decided, LogEntry, LogPosition, Message, TxRecord};
use crate::survey::Survey;

pub(super) struct Cx<'a> {
    store: &'a dyn Store,
    out: &'a mut Vec<Effect>,
    /// Where this step's effects begin in `out`.
    start: usize,
    before: PersistSeq,
    writes: Vec<Write>,
    latest: Latest,
}

/// What this step wrote last under each key: of items and records, where in its writes; of outcomes
/// and log entries, themselves. Coming back from an alignment writes very many.
#[derive(Default)]
struct Latest {
    items: BTreeMap<ItemId, usize>,
    txs: BTreeMap<TxId, usize>,
    outcomes: BTreeMap<TxId, Decided>,
    log: BTreeMap<LogPosition, LogEntry>,
    ancestors: BTreeMap<ItemId, Vec<Stamp>>,
    rivals: BTreeMap<ItemId, Vec<Rival>>,
}

impl<'a> Cx<'a> {
    pub(super) fn new(store: &'a dyn Store, out: &'a mut Vec<Effect>, before: PersistSeq) -> Self {
        let start = out.len();
        Self { store, out, start, before, writes: Vec::new(), latest: Latest::default() }
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
        let at = self.writes.len();
        match &write {
            Write::Item(item, _) | Write::Purge(item) => {
                self.latest.items.insert(item.clone(), at);
            }
            Write::Tx(tx, _) => {
                self.latest.txs.insert(*tx, at);
            }
            Write::Outcome(tx, outcome) => {
                self.latest.outcomes.insert(*tx, *outcome);
            }
            Write::Log(position, entry) => {
                self.latest.log.insert(*position, entry.clone());
            }
            Write::Ancestors(item, ancestors) => {
                self.latest.ancestors.insert(item.clone(), ancestors.clone());
            }
            Write::Rivals(item, rivals) => {
                self.latest.rivals.insert(item.clone(), rivals.clone());
            }
            Write::TruncateLog(_)
            | Write::Applied(..)
            | Write::BootEnd(..)
            | Write::OutOfLog(_)
            | Write::InLog(_)
            | Write::Low(..)
            | Write::Shown(..)
            | Write::Aligning(_)
            | Write::Begun(_)
            | Write::Copied(..)
            | Write::Sealed(..)
            | Write::Entered(..)
            | Write::Lost(..) => {}
        }
        self.writes.push(write);
    }

    /// Sends once everything written so far, in this step too, is durable.
    pub(super) fn send_durable(&mut self, to: NodeId, message: Message) {
        let after = self.written_by_now();
        self.out.push(Effect::Send { to, after, message });
    }

    /// Tells the control plane once everything written so far, in this step too, is durable.
    pub(super) fn report(&mut self, report: Report) {
        let after = self.written_by_now();
        self.out.push(Effect::Report { after, report });
    }

    fn written_by_now(&self) -> PersistSeq {
        if self.writes.is_empty() { self.before } else { self.before + 1 }
    }

    /// Sends at once; see the module's doc for what may.
    pub(super) fn send_now(&mut self, to: NodeId, message: Message) {
        self.out.push(Effect::Send { to, after: 0, message });
    }

    /// Has a part of a cluster read and sent, beside the machine.
    pub(super) fn copy(&mut self, to: NodeId, part: Part) {
        self.out.push(Effect::Copy { to, part });
    }

    /// Has a cluster read for its digests, beside the machine.
    pub(super) fn survey(&mut self, number: u64, survey: Survey) {
        self.out.push(Effect::Survey { number, survey });
    }

    /// Answers a client at once; see the module's doc.
    pub(super) fn reply_now(&mut self, request: u64, reply: Reply) {
        self.out.push(Effect::Reply { request, after: 0, reply });
    }

    /// Answers a client once everything written so far, in this step too, is durable.
    pub(super) fn reply_durable(&mut self, request: u64, reply: Reply) {
        let after = self.written_by_now();
        self.out.push(Effect::Reply { request, after, reply });
    }

    /// To be carried out before anything that this step writes becomes visible.
    pub(super) fn note_first(&mut self, note: Note) {
        self.out.insert(self.start, Effect::Note(note));
        self.start += 1;
    }

    pub(super) fn note(&mut self, note: Note) {
        self.out.push(Effect::Note(note));
    }

    /// What this step made of an item: its state, or none if its tombstone was dropped.
    fn written(&self, item: &ItemId) -> Option<Option<&Committed>> {
        let at = *self.latest.items.get(item)?;
        let Write::Item(_, committed) = &self.writes[at] else { return Some(None) };
        Some(Some(committed))
    }

    pub(super) fn item(&self, item: &ItemId) -> Option<Committed> {
        self.written(item).map_or_else(|| self.store.item(item), |written| written.cloned())
    }

    pub(super) fn stamp(&self, item: &ItemId) -> Stamp {
        self.written(item).map_or_else(
            || self.store.stamp(item),
            |written| written.map_or(Stamp::ABSENT, |committed| committed.stamp),
        )
    }

    pub(super) fn ancestors(&self, item: &ItemId) -> Vec<Stamp> {
        let written = self.latest.ancestors.get(item).cloned();
        written.unwrap_or_else(|| self.store.ancestors(item))
    }

    pub(super) fn rivals(&self, item: &ItemId) -> Vec<Rival> {
        self.latest.rivals.get(item).cloned().unwrap_or_else(|| self.store.rivals(item))
    }

    pub(super) fn tx(&self, tx: TxId) -> Option<TxRecord> {
        if let Some(at) = self.latest.txs.get(&tx)
            && let Write::Tx(_, record) = &self.writes[*at]
        {
            return Some(record.clone());
        }
        self.store.tx(tx)
    }

    pub(super) fn outcome(&self, tx: TxId) -> Option<Decided> {
        self.latest.outcomes.get(&tx).copied().or_else(|| self.store.outcome(tx))
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
    pub(super) fn tombstones_after(
        &self,
        cluster: ClusterKey,
        after: Option<&ItemKey>,
        limit: usize,
    ) -> Tombstones {
        self.store.tombstones_after(cluster, after, limit)
    }

    /// As it was before this step.
    pub(super) fn outcomes_after(&self, after: TxId, limit: usize) -> Vec<(TxId, Decided)> {
        self.store.outcomes_after(after, limit)
    }

    pub(super) fn log_after(&self, position: LogPosition) -> Option<(LogPosition, LogEntry)> {
        let stored = self.store.log_after(position);
        let written = self.latest.log.range((Bound::Excluded(position), Bound::Unbounded)).next();
        let written = written.map(|(at, entry)| (*at, entry.clone()));
        match (stored, written) {
            (Some(stored), Some(written)) if stored.0 < written.0 => Some(stored),
            (stored, None) => stored,
            (_, written) => written,
        }
    }
}
