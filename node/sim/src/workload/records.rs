//! Records that are created as the server does it: in a cluster that the asked server owns, at a
//! position of a block that was granted to it (PROTOCOL.md 3.9 "RIDs", FEATURES A4). May not know
//! where positions come from.

use quorate_api::{ItemId, OpKind};
use quorate_protocol::io::{Base, Proposal};

use super::{Plan, View, read_some};
use crate::options::Options;
use crate::rng::Stream;

/// First position of what is there before the run: no block reaches it.
const PRELOADED: u64 = 1 << 40;

pub(super) fn preloaded(options: &Options) -> Vec<(ItemId, Vec<u8>)> {
    let item = |key| ItemId::record(options.cluster_of(key), PRELOADED + key);
    (0..options.keys).map(|key| (item(key), Vec::new())).collect()
}

pub(super) fn plan(view: &mut View<'_>, rng: &mut Stream) -> Plan {
    let mut proposals = Vec::new();
    if let Some(item) = view.fresh.take().filter(|_| rng.chance(500)) {
        proposals.push(view.exact(&item, OpKind::Create, None, &[]));
    }
    let count = if proposals.is_empty() { 1 + rng.index(2) } else { rng.index(2) };
    let items = some_items(view, rng, count);
    if proposals.is_empty() && (items.is_empty() || rng.chance(400)) {
        let first = ItemId::record(view.options.cluster_of(0), PRELOADED);
        let items = if items.is_empty() { vec![first] } else { items };
        return read_some(view, rng, items);
    }
    for item in items {
        let deletes = rng.chance(if view.options.purge { 150 } else { 30 });
        let kind = if deletes { OpKind::Delete } else { OpKind::Update };
        proposals.push(Proposal { item, kind, base: Base::Current, image: view.image(&[]) });
    }
    Plan::Write(proposals)
}

/// A few different records that the server knows, of clusters that nobody has dropped.
fn some_items(view: &View<'_>, rng: &mut Stream, count: usize) -> Vec<ItemId> {
    let is_open = |item: &&ItemId| {
        let mut shapes = view.options.clusters.iter();
        shapes.any(|shape| shape.cluster == item.cluster && !shape.closed)
    };
    let live = view.local.iter().filter(|(_, committed)| committed.live).map(|(item, _)| item);
    let mut known: Vec<&ItemId> = live.filter(is_open).collect();
    let count = count.min(known.len());
    (0..count).map(|_| known.swap_remove(rng.index(known.len())).clone()).collect()
}
