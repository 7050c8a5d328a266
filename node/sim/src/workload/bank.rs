//! Bank: transfers between accounts, some with a `check` of a third, and audits that `check` all
//! of them. Money is neither made nor lost, in any snapshot.

use quorate_api::{Committed, OpKind};

use super::{Plan, View, live_body, read_some, some_keys};
use crate::rng::Stream;

/// What every account begins with.
pub const OPENING: i64 = 100;

/// The balance of an account.
#[must_use]
pub fn balance(committed: Option<&Committed>) -> Option<i64> {
    live_body(committed)?.try_into().ok().map(i64::from_be_bytes)
}

pub(super) fn plan(view: &mut View<'_>, rng: &mut Stream) -> Plan {
    if rng.chance(150) {
        return audit(view);
    }
    let accounts = some_keys(view, rng, 3);
    let items: Vec<_> = accounts.iter().map(|key| view.options.record_of(*key)).collect();
    if rng.chance(200) {
        return read_some(view, rng, items);
    }
    let states: Vec<_> = items.iter().map(|item| view.get(item)).collect();
    let balances: Vec<_> = states.iter().map(|state| balance(state.as_ref())).collect();
    let (Some(Some(from)), Some(Some(to))) = (balances.first(), balances.get(1)) else {
        return Plan::Read(items);
    };
    let amount = 1 + i64::try_from(rng.below(20)).unwrap_or(0);
    // Money flows back when there is none.
    let amount = if *from >= amount { amount } else { -amount };
    let moved = [from - amount, to + amount];
    let mut ops = Vec::new();
    for (nth, item) in items.iter().take(2).enumerate() {
        let body = moved[nth].to_be_bytes();
        ops.push(view.exact(item, OpKind::Update, states[nth].as_ref(), &body));
    }
    if let (Some(item), true) = (items.get(2), rng.chance(300)) {
        ops.push(view.exact(item, OpKind::Check, states[2].as_ref(), &[]));
    }
    Plan::Write(ops)
}

fn audit(view: &mut View<'_>) -> Plan {
    let items: Vec<_> = (0..view.options.keys).map(|key| view.options.record_of(key)).collect();
    let states: Vec<_> = items.iter().map(|item| view.get(item)).collect();
    let checks = items.iter().zip(&states);
    let check =
        |(item, state): (_, &Option<_>)| view.exact(item, OpKind::Check, state.as_ref(), &[]);
    Plan::Write(checks.map(check).collect())
}
