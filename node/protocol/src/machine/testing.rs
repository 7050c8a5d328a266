//! What unit tests of the machine's parts share: a disk with next to nothing on it, and a machine
//! on it. May not be built into anything else.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_api::{Boot, ClusterKey, Committed, ItemId, ItemKey, NodeId, Stamp, TxId};

use super::Machine;
use crate::conflict::Rival;
use crate::io::{Config, Effect, Event, Placement, Recovered, Store};
use crate::message::{Decided, LogEntry, LogPosition, Message, TxRecord};

/// A disk with nothing on it but this.
#[derive(Default)]
pub(super) struct Disk {
    /// How many records [`CLUSTER`] has, from position 0 on, at version 1 each.
    pub(super) records: u64,
    /// What is listed beside what is committed.
    pub(super) rivals: BTreeMap<ItemId, Vec<Rival>>,
}

/// One without even that.
pub(super) static NOTHING: Disk = Disk { records: 0, rivals: BTreeMap::new() };

impl Store for Disk {
    fn item(&self, _: &ItemId) -> Option<Committed> {
        None
    }

    fn tx(&self, _: TxId) -> Option<TxRecord> {
        None
    }

    fn outcome(&self, _: TxId) -> Option<Decided> {
        None
    }

    fn log_after(&self, _: LogPosition) -> Option<(LogPosition, LogEntry)> {
        None
    }

    fn items_after(
        &self,
        cluster: ClusterKey,
        after: Option<&ItemKey>,
        limit: usize,
    ) -> Vec<(ItemKey, Committed)> {
        let first = match after {
            Some(ItemKey::Record(position)) => position + 1,
            Some(ItemKey::Key(_) | ItemKey::Token(_)) | None => 0,
        };
        let stamp = |position| Stamp { version: 1, tx: TxId { seq: position, ..TxId::NONE } };
        let committed = |position| {
            let (stamp, image) = (stamp(position), None);
            Committed { stamp, live: true, image, elsewhere: None }
        };
        let records = if cluster == CLUSTER { self.records } else { 0 };
        let records = (first..records).take(limit);
        records.map(|position| (ItemKey::Record(position), committed(position))).collect()
    }

    fn outcomes_after(&self, _: TxId, _: usize) -> Vec<(TxId, Decided)> {
        Vec::new()
    }

    fn ancestors(&self, _: &ItemId) -> Vec<Stamp> {
        Vec::new()
    }

    fn rivals(&self, item: &ItemId) -> Vec<Rival> {
        self.rivals.get(item).cloned().unwrap_or_default()
    }
}

/// The other MASTER.
pub(super) const PEER: NodeId = NodeId(2);

/// The cluster that both keep.
pub(super) const CLUSTER: ClusterKey = ClusterKey { database: 1, cluster: 10 };

/// A cluster in its first generation, which anybody creates records in.
pub(super) fn placement(masters: Vec<NodeId>, write_quorum: usize) -> Placement {
    Placement::first(masters, write_quorum)
}

/// What is to be sent, whatever it waits for.
pub(super) fn sent(out: Vec<Effect>) -> Vec<(NodeId, Message)> {
    let sent = out.into_iter().filter_map(|effect| match effect {
        Effect::Send { to, message, .. } => Some((to, message)),
        Effect::Persist { .. }
        | Effect::Copy { .. }
        | Effect::Survey { .. }
        | Effect::Reply { .. }
        | Effect::Note(_)
        | Effect::Report { .. } => None,
    });
    sent.collect()
}

/// One of two MASTERs, configured.
pub(super) fn configured(boot: Boot, recovered: Recovered) -> Machine {
    configured_with(2, boot, recovered)
}

/// The first of so many MASTERs, configured.
pub(super) fn configured_with(masters: u64, boot: Boot, recovered: Recovered) -> Machine {
    let mut machine = Machine::new(Config::new(NodeId(1), boot, 0), recovered);
    let placements = [(CLUSTER, placement((1..=masters).map(NodeId).collect(), 2))].into();
    machine.step(0, Event::Configure { cfg: 1, placements }, &NOTHING, &mut Vec::new());
    machine
}
