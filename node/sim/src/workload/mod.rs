//! Workloads: what clients want, as pure plans over what they know. Sending, waiting and the
//! history live in `clients.rs`; what must hold lives in `invariants/`.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{Committed, Image, ItemId, OpKind, Stamp};
use quorate_protocol::io::{Base, Proposal};

use crate::options::Options;
use crate::rng::Stream;

pub mod bank;
pub mod graph;
mod records;
mod registers;
pub mod unique;

/// A workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Records read, written, created and deleted, up to three at a time, some as `check`.
    Registers,
    /// Transfers between accounts and audits of all of them.
    Bank,
    /// Records that claim, release and move unique keys.
    Unique,
    /// Edges, entered at both ends in one transaction.
    Graph,
    /// Records at positions from granted blocks, created by the owners of their clusters.
    Records,
}

impl Kind {
    /// Those that need nobody to own anything.
    pub const ALL: [Self; 4] = [Self::Registers, Self::Bank, Self::Unique, Self::Graph];

    /// How many keys a run of this workload has.
    pub(crate) fn draw_keys(self, rng: &mut Stream) -> u64 {
        match self {
            Self::Registers => 1 + if rng.chance(800) { rng.between(1, 12) } else { 0 },
            Self::Bank | Self::Graph => rng.between(2, 8),
            Self::Records => rng.between(10, 60),
            Self::Unique => rng.between(1, 5),
        }
    }
}

/// What a client does next.
#[derive(Debug)]
pub(crate) enum Plan {
    /// A majority read.
    Read(Vec<ItemId>),
    /// A read of the asked server's own committed state.
    Local(Vec<ItemId>),
    /// A transaction.
    Write(Vec<Proposal>),
}

/// Positions of records: each is created once, as positions come from granted blocks (PROTOCOL.md
/// 3.9 "RIDs").
#[derive(Debug)]
pub(crate) struct Positions {
    next: u64,
    used: BTreeSet<u64>,
}

impl Positions {
    /// None used, the first new one this.
    pub(crate) const fn after(first: u64) -> Self {
        Self { next: first, used: BTreeSet::new() }
    }

    /// One that was never used.
    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// True once for each key.
    fn is_first_use(&mut self, key: u64) -> bool {
        self.used.insert(key)
    }
}

/// What a client may look at while it plans.
pub(crate) struct View<'a> {
    pub(crate) options: &'a Options,
    /// The server it asks.
    pub(crate) server: usize,
    /// Committed state there.
    pub(crate) local: &'a BTreeMap<ItemId, Committed>,
    /// What the client has seen itself.
    pub(crate) seen: &'a BTreeMap<ItemId, Committed>,
    /// Number of the operation; written into every image, so that each value is unique.
    pub(crate) id: u64,
    /// What would be needed and is not known at this server.
    pub(crate) missing: BTreeSet<ItemId>,
    /// A record that the server may create, at a position that is used for it alone.
    pub(crate) fresh: Option<ItemId>,
}

impl View<'_> {
    /// Committed state as this server or, if it does not keep the cluster, the client knows it.
    pub(crate) fn get(&mut self, item: &ItemId) -> Option<Committed> {
        if self.options.holds(self.server, item.cluster) {
            return self.local.get(item).cloned();
        }
        let seen = self.seen.get(item).cloned();
        if seen.is_none() {
            self.missing.insert(item.clone());
        }
        seen
    }

    /// The image of this operation with this body.
    pub(crate) fn image(&self, body: &[u8]) -> Option<Image> {
        let mut bytes = self.id.to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        Some(Image::from(bytes))
    }

    /// An operation on exactly the state looked at.
    pub(crate) fn exact(
        &self,
        item: &ItemId,
        kind: OpKind,
        base: Option<&Committed>,
        body: &[u8],
    ) -> Proposal {
        let base = Base::Exact(base.map_or(Stamp::ABSENT, |c| c.stamp));
        let image = if kind == OpKind::Check { None } else { self.image(body) };
        Proposal { item: item.clone(), kind, base, image }
    }
}

/// Number of the operation that wrote an image, and the rest of it.
pub(crate) fn decode(committed: &Committed) -> Option<(u64, &[u8])> {
    let (id, body) = committed.image.as_ref()?.0.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*id), body))
}

/// The body of a live item.
pub(crate) fn live_body(committed: Option<&Committed>) -> Option<&[u8]> {
    committed.filter(|c| c.live).and_then(decode).map(|(_, body)| body)
}

/// What is there before the first transaction: item and body.
pub(crate) fn preloaded(options: &Options) -> Vec<(ItemId, Vec<u8>)> {
    let body = match options.workload {
        Kind::Registers | Kind::Unique => return Vec::new(),
        Kind::Bank => bank::OPENING.to_be_bytes().to_vec(),
        Kind::Graph => Vec::new(),
        Kind::Records => return records::preloaded(options),
    };
    (0..options.keys).map(|key| (options.record_of(key), body.clone())).collect()
}

/// The next thing a client does.
pub(crate) fn plan(view: &mut View<'_>, rng: &mut Stream, positions: &mut Positions) -> Plan {
    let plan = match view.options.workload {
        Kind::Registers => registers::plan(view, rng, positions),
        Kind::Bank => bank::plan(view, rng),
        Kind::Unique => unique::plan(view, rng, positions),
        Kind::Graph => graph::plan(view, rng, positions),
        Kind::Records => records::plan(view, rng),
    };
    if view.missing.is_empty() {
        return plan;
    }
    Plan::Read(std::mem::take(&mut view.missing).into_iter().collect())
}

/// Reads of some keys' records, one in three of the server's own state.
fn read_some(view: &View<'_>, rng: &mut Stream, items: Vec<ItemId>) -> Plan {
    let held = items.iter().all(|item| view.options.holds(view.server, item.cluster));
    if held && rng.chance(333) { Plan::Local(items) } else { Plan::Read(items) }
}

/// A few different keys.
fn some_keys(view: &View<'_>, rng: &mut Stream, count: usize) -> Vec<u64> {
    let mut left: Vec<u64> = (0..view.options.keys).collect();
    let count = count.min(left.len());
    (0..count).map(|_| left.swap_remove(rng.index(left.len()))).collect()
}
