//! Prepares that wait without a vote: for a lock, for missing decisions, for configuration. Holding
//! writes nothing.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{ItemId, NodeId, Operation, TxId};

use crate::io::Tick;
use crate::message::{Age, Participant};

/// A Prepare under judgement.
#[derive(Debug, Clone)]
pub(super) struct HeldPrepare {
    pub(super) from: NodeId,
    pub(super) cfg: u64,
    pub(super) schema: u64,
    pub(super) age: Age,
    pub(super) participants: Vec<Participant>,
    /// In item order.
    pub(super) ops: Vec<Operation>,
    /// When it arrived.
    pub(super) since: Tick,
}

/// What a Prepare waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wait {
    /// An older transaction waits for the holder's outcome (wait-die: the younger one is refused).
    Lock { item: ItemId, holder: TxId },
    /// The decision that wrote the base has not arrived.
    Lag { item: ItemId, writer: TxId },
    /// The sender knows a newer configuration, or this server lacks what came before its
    /// generation.
    Configuration,
}

impl Wait {
    pub(super) const fn item(&self) -> Option<&ItemId> {
        match self {
            Self::Lock { item, .. } | Self::Lag { item, .. } => Some(item),
            Self::Configuration => None,
        }
    }
}

/// Prepares held at once; beyond it a further one is dropped and resent by its coordinator.
pub(super) const HELD_MAX: usize = 8_192;

#[derive(Debug, Default)]
pub(super) struct Held {
    prepares: BTreeMap<TxId, (HeldPrepare, Wait)>,
    by_item: BTreeMap<ItemId, BTreeSet<(Age, TxId)>>,
}

impl Held {
    pub(super) fn contains(&self, tx: TxId) -> bool {
        self.prepares.contains_key(&tx)
    }

    pub(super) fn is_full(&self) -> bool {
        self.prepares.len() >= HELD_MAX
    }

    pub(super) fn insert(&mut self, tx: TxId, prepare: HeldPrepare, wait: Wait) {
        if let Some(item) = wait.item() {
            self.by_item.entry(item.clone()).or_default().insert((prepare.age, tx));
        }
        self.prepares.insert(tx, (prepare, wait));
    }

    pub(super) fn remove(&mut self, tx: TxId) -> Option<(HeldPrepare, Wait)> {
        let (prepare, wait) = self.prepares.remove(&tx)?;
        if let Some(item) = wait.item()
            && let Some(waiting) = self.by_item.get_mut(item)
        {
            waiting.remove(&(prepare.age, tx));
            if waiting.is_empty() {
                self.by_item.remove(item);
            }
        }
        Some((prepare, wait))
    }

    /// Drops all of them without a vote.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Who waits for this item, oldest first.
    pub(super) fn waiting_on(&self, item: &ItemId) -> Vec<TxId> {
        self.by_item.get(item).into_iter().flatten().map(|(_, tx)| *tx).collect()
    }

    /// Whose Prepares of this coordinator wait.
    pub(super) fn of_coordinator(&self, node: NodeId) -> Vec<TxId> {
        self.prepares.keys().filter(|tx| tx.node == node).copied().collect()
    }

    /// Who waits for configuration.
    pub(super) fn waiting_on_configuration(&self) -> Vec<TxId> {
        self.prepares
            .iter()
            .filter(|(_, (_, wait))| *wait == Wait::Configuration)
            .map(|(tx, _)| *tx)
            .collect()
    }

    /// Writers of missing bases, with a server that knows them.
    pub(super) fn missing(&self) -> impl Iterator<Item = TxId> {
        self.prepares.values().filter_map(|(_, wait)| match wait {
            Wait::Lag { writer, .. } => Some(*writer),
            Wait::Lock { .. } | Wait::Configuration => None,
        })
    }
}
