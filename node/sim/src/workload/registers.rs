//! Registers: one to three records a transaction, some only checked; versions that clients
//! remember, and some that never existed (trap A4).

use quorate_api::OpKind;
use quorate_protocol::io::{Base, Proposal};

use super::{Plan, View, read_some, some_keys};
use crate::rng::Stream;

pub(super) fn plan(view: &mut View<'_>, rng: &mut Stream) -> Plan {
    let count = if rng.chance(view.options.pairs) { 2 + rng.index(2) } else { 1 };
    let keys = some_keys(view, rng, count);
    if rng.chance(350) {
        let items = keys.iter().map(|key| view.options.record_of(*key)).collect();
        return read_some(view, rng, items);
    }
    let proposals = keys.iter().enumerate().map(|(nth, key)| proposal(view, rng, nth, *key));
    Plan::Write(proposals.collect())
}

fn proposal(view: &mut View<'_>, rng: &mut Stream, nth: usize, key: u64) -> Proposal {
    let item = view.options.record_of(key);
    let seen = view.seen.get(&item).map(|committed| committed.stamp.version);
    let local = view.local.contains_key(&item);
    // A server that does not hold the record is asked by who has seen it.
    let held = view.options.holds(view.server, item.cluster);
    if !local && (held || seen.is_none()) {
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
    let kind = if rng.chance(5) { OpKind::Delete } else { OpKind::Update };
    Proposal { item, kind, base, image: view.image(&[]) }
}
