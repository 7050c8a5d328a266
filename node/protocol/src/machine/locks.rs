//! The lock table: who holds which item. In memory only; rebuilt from the durable Yes votes at
//! start.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{ItemId, OpKind, Operation, TxId};

use crate::io::Config;
use crate::message::{TxRecord, Vote};
use crate::planted::Bug;

/// Exclusive locks for writes, shared ones for `check` (PROTOCOL.md 3.2).
#[derive(Debug, Default)]
pub(super) struct LockTable {
    items: BTreeMap<ItemId, Lock>,
}

#[derive(Debug, Default)]
struct Lock {
    exclusive: Option<TxId>,
    shared: BTreeSet<TxId>,
}

impl LockTable {
    /// All holders that keep `tx` from `kind` on the item; an exclusive one first.
    pub(super) fn conflicts(&self, item: &ItemId, kind: &OpKind, tx: TxId) -> Vec<TxId> {
        let Some(lock) = self.items.get(item) else { return Vec::new() };
        let shared = match kind {
            OpKind::Check => None,
            OpKind::Create | OpKind::Update | OpKind::Delete | OpKind::Merge(_) => {
                Some(lock.shared.iter().copied())
            }
        };
        let holders = lock.exclusive.into_iter().chain(shared.into_iter().flatten());
        holders.filter(|holder| *holder != tx).collect()
    }

    /// Number of items somebody holds.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Everybody who holds the item.
    pub(super) fn holders(&self, item: &ItemId) -> impl Iterator<Item = TxId> {
        self.items
            .get(item)
            .into_iter()
            .flat_map(|lock| lock.exclusive.into_iter().chain(lock.shared.iter().copied()))
    }

    /// Takes all locks of a Yes vote.
    ///
    /// # Panics
    /// When another transaction holds one of them exclusively: two Yes votes would stand against
    /// each other.
    pub(super) fn take(&mut self, tx: TxId, ops: &[Operation]) {
        for op in ops {
            assert!(
                self.conflicts(&op.item, &op.kind, tx).is_empty(),
                "{tx} locks {} against its holder",
                op.item
            );
            let lock = self.items.entry(op.item.clone()).or_default();
            if op.writes() {
                lock.exclusive = Some(tx);
            } else {
                lock.shared.insert(tx);
            }
        }
    }

    /// Releases whatever `tx` holds of these items.
    pub(super) fn release(&mut self, tx: TxId, ops: &[Operation]) {
        for op in ops {
            if let Some(lock) = self.items.get_mut(&op.item) {
                if lock.exclusive == Some(tx) {
                    lock.exclusive = None;
                }
                lock.shared.remove(&tx);
                if lock.exclusive.is_none() && lock.shared.is_empty() {
                    self.items.remove(&op.item);
                }
            }
        }
    }
}

/// Acceptor records without outcome, and what their votes lock.
pub(super) fn undecided_with_locks(
    config: &Config,
    undecided: Vec<(TxId, TxRecord)>,
) -> (BTreeMap<TxId, TxRecord>, LockTable) {
    let (mut txs, mut locks) = (BTreeMap::new(), LockTable::default());
    for (tx, record) in undecided {
        if matches!(record.vote, Some(Vote::No(_))) && config.has(Bug::NoIsForgotten) {
            continue;
        }
        if record.vote == Some(Vote::Yes) && !config.has(Bug::LoseLocks) {
            locks.take(tx, &record.ops);
        }
        txs.insert(tx, record);
    }
    (txs, locks)
}
