//! Comparing with a source: one question at a time, with pauses between, so that a server that
//! aligns and its sources go on serving others (PROTOCOL.md 3.6.5).

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use quorate_api::{ClusterKey, Committed, ItemId, ItemKey, NodeId, TxId};

use super::align_state::{Aligning, Source};
use super::{Cx, Machine};
use crate::alignment::{Answer, Ask, Child, Digest, Listing, TreeNode};
use crate::io::{Note, Placement, Write};
use crate::marks::Mark;
use crate::message::{Message, ReadAnswer};
use crate::planted::Bug;
use crate::survey::Leaves;

/// Questions in a row without an answer after which another source is tried: lost messages alone
/// hardly ever make so many, and what was compared with the first one would be lost.
pub(super) const PATIENCE: u32 = 5;

/// Number of a planted bug's reads; no read counts that far.
const REPAIR: u64 = u64::MAX;

/// Something left to compare.
#[derive(Debug)]
pub(super) enum Work {
    /// Outcomes that the source has not forgotten.
    Known { after: TxId },
    /// A tree node whose range differs; `None`: the root.
    Tree { cluster: ClusterKey, node: Option<TreeNode>, from: Option<ItemKey> },
    /// Own digests to be compared with these.
    Compare(Compare),
    /// A leaf's range that differs.
    Leaf { cluster: ClusterKey, from: Option<ItemKey>, upto: Option<ItemKey> },
    /// Items that are missing here, or older.
    Get { items: Vec<ItemId> },
}

impl Work {
    /// A whole cluster.
    pub(super) const fn whole(cluster: ClusterKey) -> Self {
        Self::Tree { cluster, node: None, from: None }
    }
}

/// The children of a node, to be looked at.
#[derive(Debug)]
pub(super) struct Compare {
    cluster: ClusterKey,
    /// Where the range of the first one begins, exclusive.
    from: Option<ItemKey>,
    children: Vec<Child>,
}

impl Compare {
    /// What of them differs from the own items.
    fn differing(self, own: &Leaves) -> Vec<Work> {
        let Self { cluster, mut from, children } = self;
        let mut differing = Vec::new();
        for Child { node, upto, digest } in children {
            if own.over(from.as_ref(), upto.as_ref()) != Some(digest) {
                let (from, upto) = (from.clone(), upto.clone());
                differing.push(if node.level == 0 {
                    Work::Leaf { cluster, from, upto }
                } else {
                    Work::Tree { cluster, node: Some(node), from }
                });
            }
            from = upto;
        }
        differing
    }
}

impl Machine {
    /// Clusters came or went, or their MASTERs changed: begin again.
    pub(super) fn compare_again(&mut self) {
        if let Some(aligning) = &mut self.align {
            aligning.sources.clear();
            aligning.round = 0;
        }
    }

    /// A piece of work with the first source that is not compared, while more of them are needed.
    pub(super) fn compare(&mut self, cx: &mut Cx<'_>, aligning: &mut Aligning) {
        if self.suffices(aligning, |source, _| source.is_compared()) {
            return;
        }
        if self.copy(cx, aligning) {
            return;
        }
        let possible = self.possible_sources();
        let wanted = |node: &NodeId| aligning.sources.get(node).is_none_or(Source::has_work);
        let patient = |node: &NodeId| {
            aligning.sources.get(node).is_none_or(|source| source.unanswered < PATIENCE)
        };
        // Servers that align themselves come last, and silent ones after a while, too; witnesses
        // have less to give than others.
        let aligns = |node: &NodeId| self.peers.get(node).is_some_and(|peer| peer.aligning);
        let open = possible.into_iter().filter(wanted);
        let best =
            open.min_by_key(|node| (!patient(node), aligns(node), self.is_witness(*node), *node));
        let Some(node) = best else { return };
        if !patient(&node) {
            // Nobody answers: all get another chance.
            for source in aligning.sources.values_mut() {
                source.unanswered = 0;
            }
        }
        if !aligning.sources.contains_key(&node) {
            self.open_source(aligning, node);
        }
        self.open_ahead(cx, aligning, node);
        let Some(mut source) = aligning.sources.remove(&node) else { return };
        self.look_at_children(cx, aligning, &mut source);
        if let Some(Work::Tree { cluster, .. }) = source.stack.last() {
            // The own digests are read while the source reads its.
            self.own_leaves(cx, aligning, *cluster);
        }
        self.ask(cx, node, &mut source);
        aligning.sources.insert(node, source);
    }

    /// Begins sessions with those that will be compared next, so that they read their clusters
    /// while the first one is compared.
    fn open_ahead(&mut self, cx: &mut Cx<'_>, aligning: &mut Aligning, first: NodeId) {
        let me = self.config.node;
        let others = |p: &Placement| p.majority() - usize::from(p.masters.contains(&me));
        let held = self.placements.values().filter(|p| p.is_held_by(me));
        let needed = held.map(others).max().unwrap_or_default();
        let aligns = |node: &NodeId| self.peers.get(node).is_none_or(|peer| peer.aligning);
        let mut possible = self.possible_sources();
        possible.retain(|node| *node != first && !aligns(node));
        for node in possible {
            let is_open = aligning.sources.contains_key(&node);
            if !is_open && aligning.sources.len() < needed {
                self.open_source(aligning, node);
            }
            if let Some(mut source) = aligning.sources.remove(&node) {
                if source.journal.is_none() {
                    self.ask(cx, node, &mut source);
                }
                aligning.sources.insert(node, source);
            }
        }
    }

    /// Asks what is on top, or asks again.
    fn ask(&self, cx: &mut Cx<'_>, node: NodeId, source: &mut Source) {
        if source.sent_at.is_some_and(|at| self.now < at + self.config.resend) {
            return;
        }
        let ask = match source.stack.last() {
            _ if source.journal.is_none() => Ask::Begin,
            None | Some(Work::Compare(_)) => return,
            Some(Work::Known { after }) => Ask::Known { after: *after },
            Some(Work::Tree { cluster, node, .. }) => {
                Ask::Children { cluster: *cluster, node: *node }
            }
            Some(Work::Leaf { cluster, from, upto }) => {
                Ask::List { cluster: *cluster, from: from.clone(), upto: upto.clone() }
            }
            Some(Work::Get { items }) => Ask::Get { items: items.clone() },
        };
        source.unanswered += u32::from(source.sent_at.is_some());
        source.sent_at = Some(self.now);
        cx.send_now(node, Message::Align { session: source.session, ask });
    }

    /// Compares digests, once the own ones are there.
    fn look_at_children(&mut self, cx: &mut Cx<'_>, aligning: &mut Aligning, source: &mut Source) {
        while let Some(Work::Compare(compare)) = source.stack.last() {
            let Some(own) = self.own_leaves(cx, aligning, compare.cluster) else { return };
            if let Some(Work::Compare(compare)) = source.stack.pop() {
                let differing = compare.differing(own);
                aligning.work.ranges += differing.len() as u64;
                source.stack.extend(differing.into_iter().rev());
            }
        }
    }

    /// The answer to the question on top of the stack; any other is late.
    pub(super) fn on_compared(
        &mut self,
        cx: &mut Cx<'_>,
        aligning: &mut Aligning,
        from: NodeId,
        answer: Answer,
    ) {
        if aligning.round > 0 {
            // Enough are compared without this one; what it has now is later than the round.
            return;
        }
        let Some(mut source) = aligning.sources.remove(&from) else { return };
        let work = source.stack.pop();
        let next = self.after_answer(cx, aligning, (from, &mut source), work, answer);
        match next {
            Ok(next) => {
                source.stack.extend(next);
                source.sent_at = None;
                source.unanswered = 0;
            }
            Err(work) => source.stack.extend(work.map(|work| *work)),
        }
        aligning.sources.insert(from, source);
    }

    /// What is left of a piece of work after its answer; the work itself if the answer is not its.
    fn after_answer(
        &mut self,
        cx: &mut Cx<'_>,
        aligning: &mut Aligning,
        from: (NodeId, &mut Source),
        work: Option<Work>,
        answer: Answer,
    ) -> Result<Vec<Work>, Option<Box<Work>>> {
        let (node, source) = from;
        match (work, answer) {
            (Some(Work::Known { after }), Answer::Known { after: a, decided, next, low })
                if a == after =>
            {
                aligning.raise_low(low);
                for known in decided {
                    if !self.is_in(cx, aligning, known.tx) {
                        let partial = self.is_partial(node, &known);
                        source.claim(known, partial, BTreeSet::new());
                    }
                }
                Ok(next.map(|after| Work::Known { after }).into_iter().collect())
            }
            (
                Some(Work::Tree { cluster, node, from: after }),
                Answer::Children { cluster: c, node: n, children },
            ) if (c, n) == (cluster, node) => {
                Ok([Work::Compare(Compare { cluster, from: after, children })].into())
            }
            (
                Some(Work::Leaf { cluster, from: after, upto }),
                Answer::Listed { cluster: c, from: a, entries, next },
            ) if (c, &a) == (cluster, &after) => {
                let mut work = Vec::new();
                work.extend(next.map(|from| Work::Leaf { cluster, from: Some(from), upto }));
                work.extend(self.wanted(cx, aligning, cluster, entries));
                Ok(work)
            }
            (Some(Work::Get { mut items }), Answer::Got { asked: (count, first), items: got })
                if items.first() == first.as_ref() =>
            {
                for (item, committed) in got {
                    if self.lacks_content(&item, &committed) {
                        Mark::ContentLacking.hit();
                        source.lacking.insert(item, committed.stamp);
                        continue;
                    }
                    aligning.work.fetched += 1;
                    self.take_from_source(cx, aligning, &item, committed);
                }
                let count = usize::try_from(count).unwrap_or(0).min(items.len());
                items.drain(..count);
                Ok((!items.is_empty()).then_some(Work::Get { items }).into_iter().collect())
            }
            (work, _) => Err(work.map(Box::new)),
        }
    }

    /// What of a listing is newer than what is here, or another line of it.
    fn wanted(
        &self,
        cx: &mut Cx<'_>,
        aligning: &mut Aligning,
        cluster: ClusterKey,
        entries: Vec<Listing>,
    ) -> Option<Work> {
        let mut items = Vec::new();
        for Listing { key, stamp, digest } in entries {
            aligning.work.compared += 1;
            let item = ItemId { cluster, key };
            match cx.item(&item) {
                Some(mine) if mine.stamp == stamp => {
                    if Digest::of(&item.key, &mine) != digest {
                        let detail = "one stamp with two contents";
                        cx.note(Note::Corruption { tx: stamp.tx, detail });
                    }
                }
                Some(mine)
                    if mine.stamp.version > stamp.version
                        && !self.is_line_of_its_own(cx, &item, stamp) => {}
                Some(_) | None => items.push(item),
            }
        }
        (!items.is_empty()).then_some(Work::Get { items })
    }

    /// Trap A12: what must not be done while this server is ONLINE.
    pub(super) fn repair_record_wise(&self, cx: &mut Cx<'_>, from: NodeId, item: &ItemId) {
        if self.config.has(Bug::RecordWiseRepair) {
            cx.send_now(from, Message::Read { read: REPAIR, items: [item.clone()].into() });
        }
    }

    /// The answer to it.
    pub(super) fn repair_from(&mut self, cx: &mut Cx<'_>, read: u64, answers: &[ReadAnswer]) {
        if read == REPAIR && self.config.has(Bug::RecordWiseRepair) {
            for answer in answers {
                if let Some(committed) = &answer.committed {
                    self.take_newer(cx, &answer.item, committed.clone());
                }
            }
        }
    }

    /// Takes a committed state of an item if it is newer than the own one; true if it is.
    pub(super) fn take_newer(&mut self, cx: &mut Cx<'_>, item: &ItemId, theirs: Committed) -> bool {
        if let Some(mine) = cx.item(item) {
            let (local, other) = (mine.stamp, theirs.stamp);
            if local != other && !self.is_safe(item.cluster) {
                return self.take_or_keep(cx, item, mine, theirs);
            }
            if local == other && !is_same(&item.key, &mine, &theirs) {
                let detail = "one stamp with two contents";
                cx.note(Note::Corruption { tx: other.tx, detail });
            }
            if local != other && local.version == other.version {
                let detail = "another writer of the same version";
                cx.note(Note::Corruption { tx: other.tx, detail });
            }
            if local.version >= other.version {
                return false;
            }
        }
        if self.lacks_content(item, &theirs) {
            return false;
        }
        cx.write(Write::Item(item.clone(), theirs));
        self.changed.insert(item.clone());
        true
    }
}

/// Two states of one stamp are the same, with content or without.
fn is_same(key: &ItemKey, mine: &Committed, theirs: &Committed) -> bool {
    mine == theirs
        || ((mine.elsewhere.is_some() || theirs.elsewhere.is_some())
            && Digest::of(key, mine) == Digest::of(key, theirs))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use quorate_api::{Boot, Image, Stamp};

    use super::*;
    use crate::io::Recovered;
    use crate::machine::testing::{CLUSTER, NOTHING, configured_with};

    const KEEPER: NodeId = NodeId(2);
    const WITNESS: NodeId = NodeId(3);

    /// A server that aligns, with both as its sources, which have begun.
    fn aligning() -> (Machine, Aligning) {
        let mut machine = configured_with(3, Boot(1), Recovered::default());
        let mut aligning = Aligning::default();
        for node in [KEEPER, WITNESS] {
            machine.open_source(&mut aligning, node);
            if let Some(source) = aligning.sources.get_mut(&node) {
                source.journal = Some(1);
            }
        }
        (machine, aligning)
    }

    fn state(live: bool, image: Option<&[u8]>) -> (ItemId, Committed) {
        let stamp = Stamp { version: 4, tx: TxId { node: KEEPER, boot: Boot(1), seq: 9 } };
        let item = ItemId::record(CLUSTER, 0);
        let whole = Committed { stamp, live, image: image.map(Image::from), elsewhere: None };
        (item, whole)
    }

    fn dropped((item, whole): &(ItemId, Committed)) -> (ItemId, Committed) {
        let Digest(digest) = Digest::of(&item.key, whole);
        (item.clone(), Committed::without_content(whole.stamp, whole.live, digest))
    }

    fn got(
        machine: &mut Machine,
        cx: &mut Cx<'_>,
        aligning: &mut Aligning,
        from: NodeId,
        what: (ItemId, Committed),
    ) {
        let item = what.0.clone();
        if let Some(source) = aligning.sources.get_mut(&from) {
            source.stack.push(Work::Get { items: vec![item.clone()] });
        }
        let answer = Answer::Got { asked: (1, Some(item)), items: vec![what] };
        machine.on_compared(cx, aligning, from, answer);
    }

    /// FEATURES: A12
    #[test]
    fn what_a_witness_has_dropped_comes_from_a_server_that_keeps_contents() {
        let (mut machine, mut aligning) = aligning();
        let whole = state(true, Some(&[5]));
        let mut out = Vec::new();
        let mut cx = Cx::new(&NOTHING, &mut out, 0);
        got(&mut machine, &mut cx, &mut aligning, WITNESS, dropped(&whole));
        aligning.forget_what_came(&cx);
        assert_eq!(cx.item(&whole.0), None, "it is not taken for empty");
        let is_compared = |aligning: &Aligning| aligning.sources[&WITNESS].is_compared();
        assert!(!aligning.sources[&WITNESS].has_work() && !is_compared(&aligning));
        got(&mut machine, &mut cx, &mut aligning, KEEPER, whole.clone());
        aligning.forget_what_came(&cx);
        assert_eq!(cx.item(&whole.0), Some(whole.1));
        assert!(is_compared(&aligning));
    }

    /// Other servers may have dropped it by now, whole.
    #[test]
    fn nobody_waits_for_what_a_tombstone_kept() {
        let (mut machine, mut aligning) = aligning();
        let kept = dropped(&state(false, Some(&[5])));
        let mut out = Vec::new();
        let mut cx = Cx::new(&NOTHING, &mut out, 0);
        got(&mut machine, &mut cx, &mut aligning, WITNESS, kept.clone());
        assert_eq!(cx.item(&kept.0), Some(kept.1), "one digest on both sides");
        assert!(aligning.sources[&WITNESS].is_compared());
    }
}
