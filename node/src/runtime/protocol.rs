//! What the loop asks of the protocol machine: the seam at which its tests put a machine of their
//! own. May not add behaviour.

use std::collections::BTreeSet;

use quorate_api::{NodeId, TxId};
use quorate_protocol::io::{Effect, Event, Store, Tick};
use quorate_protocol::machine::Machine;

/// What the loop drives; a seam for its tests.
pub(crate) trait Protocol: Send + 'static {
    /// Handles one event.
    fn step(&mut self, now: Tick, event: Event, store: &dyn Store, out: &mut Vec<Effect>);
    /// When a tick is due even if nothing happens.
    fn next_deadline(&self) -> Option<Tick>;
    /// Transactions with a vote and no outcome here.
    fn undecided(&self) -> Vec<TxId>;
    /// Servers that it has something to do with beyond those that the topology links it with.
    fn needs(&self) -> BTreeSet<NodeId>;
    /// What others would have to find out were this server to end now.
    fn unfinished(&self) -> usize;
    /// Items with contents here that are not merged.
    fn diverged(&self) -> u64;
    /// Contents here that have lost, and their bytes.
    fn lost(&self) -> (u64, u64);
    /// The request that a transaction under way here was made for, while its client waits.
    fn request_of(&self, tx: TxId) -> Option<u64>;
}

impl Protocol for Machine {
    fn step(&mut self, now: Tick, event: Event, store: &dyn Store, out: &mut Vec<Effect>) {
        Self::step(self, now, event, store, out);
    }

    fn next_deadline(&self) -> Option<Tick> {
        Self::next_deadline(self)
    }

    fn undecided(&self) -> Vec<TxId> {
        Self::undecided(self).map(|(tx, _)| *tx).collect()
    }

    fn needs(&self) -> BTreeSet<NodeId> {
        Self::needs(self)
    }

    fn unfinished(&self) -> usize {
        Self::unfinished(self)
    }

    fn diverged(&self) -> u64 {
        Self::diverged(self) as u64
    }

    fn lost(&self) -> (u64, u64) {
        let (contents, bytes) = Self::lost(self);
        (contents as u64, bytes as u64)
    }

    fn request_of(&self, tx: TxId) -> Option<u64> {
        Self::request_of(self, tx)
    }
}
