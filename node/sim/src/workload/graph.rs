//! Graph: an edge is a record, and an entry in both of its vertices, made and removed in one
//! transaction.

use quorate_api::{Committed, ItemId, OpKind};

use super::{Plan, Positions, View, live_body, read_some, some_keys};
use crate::rng::Stream;

/// One end of an edge, as its vertex lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// Position of the edge's record, unique over all clusters.
    pub edge: u64,
    /// The vertex at the other end.
    pub other: u64,
    /// True at the vertex it leaves.
    pub out: bool,
}

/// The edges a vertex lists, if it is a live vertex.
#[must_use]
pub fn ends(committed: Option<&Committed>) -> Option<Vec<End>> {
    live_body(committed).and_then(ends_in)
}

/// The edges in the body of a vertex.
pub(crate) fn ends_in(body: &[u8]) -> Option<Vec<End>> {
    let (chunks, []) = body.as_chunks::<17>() else { return None };
    let end = |bytes: &[u8; 17]| End {
        edge: number(&bytes[..8]),
        other: number(&bytes[8..16]),
        out: bytes[16] == 1,
    };
    Some(chunks.iter().map(end).collect())
}

/// The vertices that the body of an edge names.
pub(crate) fn joined(body: &[u8]) -> Option<(u64, u64)> {
    let (from, to) = body.split_first_chunk::<8>()?;
    Some((number(from), number(to)))
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn body(ends: &[End]) -> Vec<u8> {
    let bytes = |end: &End| {
        let mut bytes = end.edge.to_be_bytes().to_vec();
        bytes.extend_from_slice(&end.other.to_be_bytes());
        bytes.push(u8::from(end.out));
        bytes
    };
    ends.iter().flat_map(bytes).collect()
}

/// The record of an edge lives beside the vertex it leaves.
#[must_use]
pub fn edge_item(options: &crate::options::Options, from: u64, edge: u64) -> ItemId {
    ItemId::record(options.cluster_of(from), edge)
}

pub(super) fn plan(view: &mut View<'_>, rng: &mut Stream, positions: &mut Positions) -> Plan {
    let pair = some_keys(view, rng, 2);
    let items: Vec<ItemId> = pair.iter().map(|key| view.options.record_of(*key)).collect();
    if rng.chance(200) {
        return read_some(view, rng, items);
    }
    let states: Vec<_> = items.iter().map(|item| view.get(item)).collect();
    let listed: Vec<_> = states.iter().map(|state| ends(state.as_ref())).collect();
    let [Some(first), Some(second)] = listed.as_slice() else { return Plan::Read(items) };
    let (mut first, mut second) = (first.clone(), second.clone());
    let old = first.iter().find(|end| end.other == pair[1] && end.out).copied();
    let edge = match old.filter(|_| rng.chance(500)) {
        Some(old) => {
            first.retain(|end| end.edge != old.edge);
            second.retain(|end| end.edge != old.edge);
            let item = edge_item(view.options, pair[0], old.edge);
            let state = view.get(&item);
            view.exact(&item, OpKind::Delete, state.as_ref(), &[])
        }
        None => {
            let edge = positions.fresh();
            first.push(End { edge, other: pair[1], out: true });
            second.push(End { edge, other: pair[0], out: false });
            let item = edge_item(view.options, pair[0], edge);
            let joined: Vec<u8> = pair.iter().flat_map(|key| key.to_be_bytes()).collect();
            view.exact(&item, OpKind::Create, None, &joined)
        }
    };
    Plan::Write(vec![
        view.exact(&items[0], OpKind::Update, states[0].as_ref(), &body(&first)),
        view.exact(&items[1], OpKind::Update, states[1].as_ref(), &body(&second)),
        edge,
    ])
}
