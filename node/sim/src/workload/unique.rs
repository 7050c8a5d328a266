//! Unique keys: a record claims a key by an operation on the key's own item, which lives in an
//! index cluster with voters of its own (PROTOCOL.md 3.1, trap A13). A released key stays as an
//! item without an owner; releasing one and claiming another is one transaction.

use quorate_api::{ClusterKey, Committed, ItemId, ItemKey, OpKind};

use super::{Plan, Positions, View, live_body, read_some};
use crate::options::Options;
use crate::rng::Stream;

/// The item of a unique key.
#[must_use]
pub fn key_item(options: &Options, key: u64) -> ItemId {
    let cluster = options.clusters[options.keyed - 1].cluster;
    ItemId { cluster, key: ItemKey::Key(key.to_be_bytes().to_vec()) }
}

/// The record that owns a key.
#[must_use]
pub fn owner(committed: Option<&Committed>) -> Option<ItemId> {
    let body = live_body(committed)?;
    let (cluster, position) = body.split_first_chunk::<4>()?;
    let cluster = ClusterKey { database: 1, cluster: u32::from_be_bytes(*cluster) };
    let position = u64::from_be_bytes(position.try_into().ok()?);
    Some(ItemId::record(cluster, position))
}

/// The key that a live record claims.
#[must_use]
pub fn claimed(committed: Option<&Committed>) -> Option<u64> {
    live_body(committed)?.try_into().ok().map(u64::from_be_bytes)
}

fn owner_body(record: &ItemId) -> Vec<u8> {
    let position = match &record.key {
        ItemKey::Record(position) => *position,
        ItemKey::Key(_) | ItemKey::Token(_) => 0,
    };
    let mut body = record.cluster.cluster.to_be_bytes().to_vec();
    body.extend_from_slice(&position.to_be_bytes());
    body
}

pub(super) fn plan(view: &mut View<'_>, rng: &mut Stream, positions: &mut Positions) -> Plan {
    let key = rng.below(view.options.keys);
    let item = key_item(view.options, key);
    if rng.chance(200) {
        return read_some(view, rng, vec![item]);
    }
    let state = view.get(&item);
    match owner(state.as_ref()) {
        None => claim(view, rng, positions, key, state.as_ref()),
        Some(record) => release_or_move(view, rng, key, state.as_ref(), &record),
    }
}

fn claim(
    view: &mut View<'_>,
    rng: &mut Stream,
    positions: &mut Positions,
    key: u64,
    state: Option<&Committed>,
) -> Plan {
    let cluster = rng.pick(&view.options.clusters[..view.options.keyed]).cluster;
    let record = ItemId::record(cluster, positions.fresh());
    let item = key_item(view.options, key);
    let kind = if state.is_some() { OpKind::Update } else { OpKind::Create };
    Plan::Write(vec![
        view.exact(&item, kind, state, &owner_body(&record)),
        view.exact(&record, OpKind::Create, None, &key.to_be_bytes()),
    ])
}

fn release_or_move(
    view: &mut View<'_>,
    rng: &mut Stream,
    key: u64,
    state: Option<&Committed>,
    record: &ItemId,
) -> Plan {
    let item = key_item(view.options, key);
    let held = view.get(record);
    let mut ops = vec![view.exact(&item, OpKind::Update, state, &[])];
    let other = rng.below(view.options.keys);
    let free = key_item(view.options, other);
    let state = view.get(&free);
    if rng.chance(500) && other != key && owner(state.as_ref()).is_none() {
        let kind = if state.is_some() { OpKind::Update } else { OpKind::Create };
        ops.push(view.exact(&free, kind, state.as_ref(), &owner_body(record)));
        ops.push(view.exact(record, OpKind::Update, held.as_ref(), &other.to_be_bytes()));
    } else {
        ops.push(view.exact(record, OpKind::Delete, held.as_ref(), &[]));
    }
    Plan::Write(ops)
}
