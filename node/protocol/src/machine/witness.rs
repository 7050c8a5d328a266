//! Witnesses: MASTERs that vote, and keep no content that every server has. What they drop, and
//! why nobody misses it. May not know who is made a witness, nor what clients are told there.
//!
//! A witness is a MASTER in everything that counts: it is one of M(c), checks bases, locks, votes,
//! promises, accepts, recovers, acknowledges. So nothing of PROTOCOL.md 3.4–3.7 changes, and of two
//! servers and a witness any one may fail. Of an item it keeps stamp and digest for good, and the
//! content until every MASTER and REPLICA, without exception, has applied what wrote it: the
//! coordinator says so (`Everywhere`, as for tombstones). While some server is away, nothing that
//! it lacks is dropped.
//!
//! **Votes keep their contents.** What is not decided, or decided and not finished, is in the
//! transaction's record with its operations, here as everywhere. A coordinator that dies behind its
//! own vote and the witness's leaves them there: the survivor gets them with the promise, or with a
//! decision log.
//!
//! **A dropped content is at every server that keeps contents**, or something newer of the item.
//! They had applied the write, durably, before the mark was raised; items only rise, also while a
//! server aligns. Who joins later begins with nothing, and is below; who lost its disk joins anew.
//!
//! **A majority read.** Less than half of M(c) are witnesses, so every majority has a server that
//! keeps contents. It is ONLINE, and was when the witness answered or has aligned since, so its
//! stamp is not below one whose content was dropped. So the highest stamp comes with its content:
//! from that server, or from a witness that has it still. Were it otherwise, the read would wait
//! and fail; it never goes on with an older state.
//!
//! **A server that aligns** takes from a witness what that has the content of, and that is all that
//! a server lacks which was counted all along (above). One that joined may lack more. What a
//! witness names and cannot give (`Source::lacking`) has to come from elsewhere before the witness
//! counts as compared with, so before this server is back: it is at those MASTERs that keep
//! contents. No witness gives copies.
//!
//! **A tombstone** keeps what it holds, a few bytes, until it is dropped as a whole: servers do
//! that each at its time, so the content of one could be nowhere else. A tombstone without its
//! content is one that keeps nothing; nobody waits for more of it.
//!
//! **Clients.** A witness coordinates nothing: what a transaction was made of was read here, and
//! may have been dropped before it was submitted.
//!
//! **Digests** of items without content are those that they had with it, so trees and listings are
//! the same on both sides, and a content that was damaged since shows beside a witness, too.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_api::{ClusterKey, Committed, ItemId, ItemKey, NodeId, Operation, TxId};

use super::{Cx, Machine};
use crate::alignment::Digest;
use crate::io::{Note, Write, is_last_page};
use crate::planted::Bug;

/// Items remembered to be looked at once their writers are everywhere; what is beyond waits for the
/// sweep.
const REMEMBERED: usize = 65_536;

/// What a witness has content of.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// Items written in this boot, by their writers.
    written: BTreeMap<TxId, Vec<ItemId>>,
    /// How many those are.
    count: usize,
    /// Where the sweep stands: in which cluster, behind which item.
    cursor: Option<(ClusterKey, Option<ItemKey>)>,
}

impl Machine {
    /// True for a server that keeps no content of a cluster that everybody has.
    pub(super) fn is_witness_of(&self, node: NodeId, cluster: ClusterKey) -> bool {
        self.placements.get(&cluster).is_some_and(|p| p.witnesses.contains(&node))
    }

    /// True for a server that is a witness of some cluster.
    pub(super) fn is_witness(&self, node: NodeId) -> bool {
        self.placements.values().any(|placement| placement.witnesses.contains(&node))
    }

    /// A commit is applied here.
    pub(super) fn remember_contents(&mut self, tx: TxId, writes: &[Operation]) {
        let me = self.config.node;
        for op in writes {
            if !self.is_witness_of(me, op.item.cluster) {
                continue;
            }
            let Witness { written, count, .. } = &mut self.witness;
            if *count < REMEMBERED {
                *count += 1;
                written.entry(tx).or_default().push(op.item.clone());
            }
        }
    }

    /// Drops contents that everybody has: of what was written lately, and of the next items of the
    /// sweep.
    pub(super) fn drop_contents(&mut self, cx: &mut Cx<'_>) {
        let mut clusters = self.held_clusters();
        clusters.retain(|cluster| self.is_witness_of(self.config.node, *cluster));
        if self.align.is_some() || clusters.is_empty() {
            return;
        }
        let mut written = core::mem::take(&mut self.witness.written);
        let everywhere = written.extract_if(.., |tx, _| self.may_drop_content(*tx));
        let items: Vec<ItemId> = everywhere.flat_map(|(_, items)| items).collect();
        self.witness.written = written;
        self.witness.count -= items.len();
        let mut contents = 0;
        for item in items {
            if let Some(committed) = cx.item(&item) {
                contents += u64::from(self.drop_content(cx, item, &committed));
            }
        }
        contents += self.sweep_contents(cx, &clusters);
        if contents > 0 {
            cx.note(Note::Dropped { contents });
        }
    }

    /// How many contents of the next page were dropped.
    fn sweep_contents(&mut self, cx: &mut Cx<'_>, clusters: &[ClusterKey]) -> u64 {
        let (from, after) = self.witness.cursor.take().unzip();
        let start = from.map_or(0, |from| clusters.partition_point(|c| *c < from));
        let Some(cluster) = clusters.get(start).copied() else { return 0 };
        let after = after.flatten().filter(|_| from == Some(cluster));
        let limit = self.config.align.sweep;
        let page = cx.items_after(cluster, after.as_ref(), limit);
        self.witness.cursor = if is_last_page(&page, limit) {
            clusters.get(start + 1).map(|next| (*next, None))
        } else {
            page.last().map(|(key, _)| (cluster, Some(key.clone())))
        };
        let mut contents = 0;
        for (key, committed) in page {
            let item = ItemId { cluster, key };
            // What this very step wrote is not in the page.
            if cx.item(&item).is_some_and(|now| now == committed) {
                contents += u64::from(self.drop_content(cx, item, &committed));
            }
        }
        contents
    }

    fn may_drop_content(&self, tx: TxId) -> bool {
        self.config.has(Bug::ContentDroppedEarly) || self.everybody_applied(tx)
    }

    /// True when there was something to drop, and it may go.
    fn drop_content(&self, cx: &mut Cx<'_>, item: ItemId, committed: &Committed) -> bool {
        let Committed { stamp, live, ref image, .. } = *committed;
        // Others may drop a tombstone sooner than this server: it has to be able to give its own.
        let drops = live && image.is_some() && self.may_drop_content(stamp.tx);
        if drops {
            let Digest(digest) = Digest::of(&item.key, committed);
            cx.write(Write::Item(item, Committed::without_content(stamp, live, digest)));
        }
        drops
    }

    /// A source has no content of an item that is newer there, and this server needs it.
    pub(super) fn lacks_content(&self, item: &ItemId, theirs: &Committed) -> bool {
        theirs.lacks_content() && !self.is_witness_of(self.config.node, item.cluster)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use quorate_api::{Boot, ErrorCode, Image, OpKind, Stamp};

    use super::*;
    use crate::io::{Base, Config, Effect, Event, Placement, Proposal, Recovered, Reply, Submit};
    use crate::machine::testing::{CLUSTER, NOTHING, placement, sent};

    /// The first of three MASTERs, which are all reachable, with these witnesses among them.
    fn with_witnesses(witnesses: &[NodeId]) -> Machine {
        let mut machine = Machine::new(Config::new(NodeId(1), Boot(1), 0), Recovered::default());
        configure(&mut machine, 1, witnesses);
        for node in [2, 3].map(NodeId) {
            let up = Event::Peer { node, boot: Boot(1), up: true };
            machine.step(0, up, &NOTHING, &mut Vec::new());
        }
        machine
    }

    fn configure(machine: &mut Machine, cfg: u64, witnesses: &[NodeId]) {
        let witnesses = witnesses.iter().copied().collect();
        let of = Placement { witnesses, ..placement((1..=3).map(NodeId).collect(), 2) };
        let placements = [(CLUSTER, of)].into();
        let event = Event::Configure { cfg, placements };
        machine.step(machine.now, event, &NOTHING, &mut Vec::new());
    }

    fn submit(machine: &mut Machine) -> Vec<Effect> {
        let (item, kind, base) =
            (ItemId::record(CLUSTER, 0), OpKind::Create, Base::Exact(Stamp::ABSENT));
        let ops = vec![Proposal { item, kind, base, image: None }];
        let submit = Submit { request: 1, ops, schema: 0, wall_us: 0, deadline: 1_000_000 };
        let mut out = Vec::new();
        machine.step(1, Event::Submit(submit), &NOTHING, &mut out);
        out
    }

    /// FEATURES: A2
    #[test]
    fn a_witness_coordinates_nothing() {
        let mut machine = with_witnesses(&[NodeId(3)]);
        assert!(!sent(submit(&mut machine)).is_empty(), "another one is the witness");
        configure(&mut machine, 2, &[NodeId(1)]);
        let out = submit(&mut machine);
        let refused = |effect: &Effect| {
            let Effect::Reply { reply: Reply::Failed(failure), .. } = effect else { return None };
            Some(failure.code)
        };
        let refusals: Vec<ErrorCode> = out.iter().filter_map(refused).collect();
        assert_eq!(refusals, [ErrorCode::NotMaster]);
        assert!(sent(out).is_empty(), "nothing has happened");
    }

    #[test]
    fn what_a_tombstone_keeps_is_not_dropped() {
        let mut machine = with_witnesses(&[NodeId(1)]);
        machine.raise_everywhere(NodeId(2), Boot(1), 2);
        let item = ItemId::record(CLUSTER, 0);
        let stamp = Stamp { version: 2, tx: TxId { node: NodeId(2), boot: Boot(1), seq: 1 } };
        let image = Some(Image::from(vec![7]));
        for (live, drops) in [(true, true), (false, false)] {
            let committed = Committed { stamp, live, image: image.clone(), elsewhere: None };
            let mut out = Vec::new();
            let mut cx = Cx::new(&NOTHING, &mut out, 0);
            assert_eq!(machine.drop_content(&mut cx, item.clone(), &committed), drops);
            assert_eq!(cx.item(&item).is_some_and(|now| now.lacks_content()), drops);
        }
    }
}
