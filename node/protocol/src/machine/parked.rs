//! Commits that are known and cannot be applied yet, because a base of theirs is missing, or the
//! configuration that they were decided under. May not decide when they can: that is `apply`.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{ItemId, NodeId, TxId};

use super::apply::Decision;
use crate::message::LogPosition;

/// Commits that wait for the decision that wrote one of their bases, or for their configuration.
#[derive(Debug, Default)]
pub(super) struct Parking {
    pub(super) txs: BTreeMap<TxId, Parked>,
    by_item: BTreeMap<ItemId, BTreeSet<TxId>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) decision: Decision,
    item: ItemId,
    /// Who wrote the base that is missing; `None`: it waits for the configuration.
    writer: Option<TxId>,
    /// Where it stands in decision logs, so that they are acknowledged once it is applied.
    pub(super) logs: Vec<(NodeId, LogPosition)>,
}

impl Parking {
    pub(super) fn contains(&self, tx: TxId) -> bool {
        self.txs.contains_key(&tx)
    }

    pub(super) fn decision(&self, tx: TxId) -> Option<&Decision> {
        self.txs.get(&tx).map(|parked| &parked.decision)
    }

    pub(super) fn missing(&self) -> impl Iterator<Item = TxId> {
        self.txs.values().filter_map(|parked| parked.writer)
    }

    /// Remembers that a log waits for this transaction.
    pub(super) fn add_log(&mut self, tx: TxId, node: NodeId, at: LogPosition) {
        if let Some(parked) = self.txs.get_mut(&tx) {
            parked.logs.push((node, at));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.txs.is_empty()
    }

    /// All of them, in order.
    pub(super) fn all(&self) -> Vec<TxId> {
        self.txs.keys().copied().collect()
    }

    pub(super) fn insert(&mut self, decision: Decision, item: ItemId, writer: Option<TxId>) {
        let tx = decision.tx;
        self.by_item.entry(item.clone()).or_default().insert(tx);
        self.txs.insert(tx, Parked { decision, item, writer, logs: Vec::new() });
    }

    pub(super) fn remove(&mut self, tx: TxId) -> Option<Parked> {
        let parked = self.txs.remove(&tx)?;
        if let Some(waiting) = self.by_item.get_mut(&parked.item) {
            waiting.remove(&tx);
            if waiting.is_empty() {
                self.by_item.remove(&parked.item);
            }
        }
        Some(parked)
    }

    pub(super) fn waiting_on(&self, item: &ItemId) -> Vec<TxId> {
        self.by_item.get(item).into_iter().flatten().copied().collect()
    }
}
