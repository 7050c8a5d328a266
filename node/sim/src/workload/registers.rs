//! Registers: one to three records a transaction, some only checked; versions that clients
//! remember, and some that never existed (trap A4).

use quorate_api::OpKind;
use quorate_protocol::io::{Base, Proposal};

use super::{Plan, Positions, View, read_some, some_keys};
use crate::rng::Stream;

pub(super) fn plan(view: &mut View<'_>, rng: &mut Stream, positions: &mut Positions) -> Plan {
    let count = if rng.chance(view.options.pairs) { 2 + rng.index(2) } else { 1 };
    let keys = some_keys(view, rng, count);
    if rng.chance(350) {
        let items = keys.iter().map(|key| view.options.record_of(*key)).collect();
        return read_some(view, rng, items);
    }
    let mut proposals = Vec::with_capacity(keys.len());
    for (nth, key) in keys.into_iter().enumerate() {
        proposals.push(proposal(view, rng, positions, nth, key));
    }
    Plan::Write(proposals)
}

fn proposal(
    view: &mut View<'_>,
    rng: &mut Stream,
    positions: &mut Positions,
    nth: usize,
    key: u64,
) -> Proposal {
    let item = view.options.record_of(key);
    let seen = view.seen.get(&item).map(|committed| committed.stamp.version);
    let local = view.local.contains_key(&item);
    // A server that does not hold the record is asked by who has seen it.
    let held = view.options.holds(view.server, item.cluster);
    // Once tombstones go, nothing but the owner's care keeps a position from being used twice (trap
    // A20): the first create stays the only one.
    let is_new = !local && (held || seen.is_none());
    if is_new && (!view.options.purge || positions.is_first_use(key)) {
        return view.exact(&item, OpKind::Create, None, &[]);
    }
    let base = match seen {
        Some(version) if rng.chance(250) => Base::Version(version),
        // A client may claim anything.
        Some(version) if rng.chance(20) => Base::Version(version + 3),
        _ => Base::Current,
    };
    if nth > 0 && rng.chance(300) {
        return Proposal { item, kind: OpKind::Check, base, image: None };
    }
    let deletes = if view.options.purge { 60 } else { 5 };
    let kind = if rng.chance(deletes) { OpKind::Delete } else { OpKind::Update };
    Proposal { item, kind, base, image: view.image(&[]) }
}
