//! Lag told from divergence in clusters with W below a majority (PROTOCOL.md 3.10): what each item
//! was built on, and the contents that were built on something else. May not decide between them:
//! `merge` does.
//!
//! An item's ancestors are the stamps that its committed one was built on, since the last one that
//! every server acknowledged ([`Machine::everybody_applied`]), and at most [`ANCESTORS_MAX`]. A
//! server that has one of them lags: the decision log, or a merge, takes it along. A commit whose
//! base is neither here nor on its way here is another line: the local content stays, and that one
//! becomes a rival. Of each line only the last content is a rival; what it was built on goes with
//! it. So nothing that differs is ever dropped in silence: it is committed here, an ancestor of
//! what is, or a rival.
//!
//! Items of safe clusters have neither: nothing of this is written, or sent, for them.

use alloc::vec::Vec;

use quorate_api::{Committed, ItemId, Merge, OpKind, Operation, Stamp, TxId};

use super::apply::Decision;
use super::{Cx, Machine};
use crate::conflict::{ANCESTORS_MAX, Fate, RIVALS_MAX, Rival};
use crate::io::{Note, Write};
use crate::marks::Mark;
use crate::message::{Participant, TxRecord};
use crate::planted::Bug;

impl Machine {
    /// With W below a majority in all clusters recovery may abort what its coordinator has
    /// committed. Then the commit counts: it was acknowledged. Of a generation that is not known
    /// here yet W may be one.
    pub(super) fn may_contradict(&self, cx: &Cx<'_>, decision: &Decision) -> bool {
        let TxRecord { participants, .. } = cx.tx(decision.tx).unwrap_or_default();
        let parked = self.parked.decision(decision.tx).into_iter().flat_map(|d| &d.participants);
        let touched = participants.iter().chain(&decision.participants).chain(parked);
        let touched: Vec<&Participant> = touched.collect();
        let is_unsafe =
            !touched.is_empty() && touched.iter().all(|p| self.is_later(p) || !self.was_safe(p));
        if is_unsafe {
            Mark::Contradicted.hit();
        }
        is_unsafe
    }

    /// An operation is about to be written over the local state: what the item is built on then.
    pub(super) fn extend_lineage(&mut self, cx: &mut Cx<'_>, tx: TxId, op: &Operation) {
        let item = &op.item;
        let local = cx.item(item);
        let mut ancestors = cx.ancestors(item);
        if let OpKind::Merge(merge) = &op.kind {
            // Only while this server aligns is it written over anything that it does not cover.
            if let Some(local) = local.clone().filter(|local| !merge.covers(local.stamp)) {
                self.keep_overtaken(cx, item, local, &ancestors);
            }
            self.close_rivals(cx, op, merge, local);
            ancestors = [&merge.past[..], &merge.of[..]].concat();
        } else {
            match local {
                // Only while this server aligns is it written over anything but its base.
                Some(local) if local.stamp != op.base => {
                    self.keep_overtaken(cx, item, local, &ancestors);
                    ancestors.clear();
                }
                Some(_) | None => {}
            }
            ancestors.push(op.base);
        }
        self.end_rival(cx, item, op.stamp_after(tx));
        let ancestors = self.bounded(ancestors);
        cx.write(Write::Ancestors(item.clone(), ancestors));
    }

    /// From the last version that every server has acknowledged, and not too many. A merge has
    /// several of one version behind it.
    fn bounded(&self, mut ancestors: Vec<Stamp>) -> Vec<Stamp> {
        let everybody = ancestors.iter().filter(|stamp| self.everybody_applied(stamp.tx));
        let from = everybody.map(|stamp| stamp.version).max().unwrap_or_default();
        ancestors.retain(|stamp| *stamp != Stamp::ABSENT && stamp.version >= from);
        let surplus = ancestors.len().saturating_sub(ANCESTORS_MAX);
        // The first one stays: what everybody has acknowledged is what a server that was away for
        // long still has.
        ancestors.drain(usize::from(surplus > 0)..surplus + usize::from(surplus > 0));
        ancestors
    }

    /// A commit of another line, whose base is not here.
    ///
    /// It may be a merge that came too late: what lost to it has lost all the same. Whoever would
    /// have taken it may have gone on meanwhile, too, so that it is a rival everywhere, and drops
    /// out as the past of the next merge: then nobody else would list what lost to it.
    pub(super) fn keep_rival_commit(&mut self, cx: &mut Cx<'_>, tx: TxId, op: &Operation) {
        if self.config.has(Bug::DivergenceTakenForLag) {
            cx.write(Write::Item(op.item.clone(), op.committed(tx)));
            return;
        }
        let ancestors = match &op.kind {
            OpKind::Merge(merge) => {
                self.close_listed(cx, op, merge);
                [&merge.past[..], &merge.of[..]].concat()
            }
            OpKind::Create | OpKind::Update | OpKind::Delete | OpKind::Check => {
                let rivals = cx.rivals(&op.item);
                let of_base = rivals.into_iter().find(|rival| rival.committed.stamp == op.base);
                let mut ancestors = of_base.map(|rival| rival.ancestors).unwrap_or_else(|| {
                    let mut own = cx.ancestors(&op.item);
                    own.truncate(own.iter().position(|stamp| *stamp == op.base).unwrap_or(0));
                    own
                });
                ancestors.push(op.base);
                ancestors
            }
        };
        self.keep_rival(cx, &op.item, op.committed(tx), ancestors, Fate::Open);
    }

    /// A state of an item from a source of an alignment, which says nothing of what it was built
    /// on; true if it is taken. The newer one is, and the other one kept unless it is known that
    /// everybody had it.
    pub(super) fn take_or_keep(
        &mut self,
        cx: &mut Cx<'_>,
        item: &ItemId,
        mine: Committed,
        theirs: Committed,
    ) -> bool {
        let (local, other) = (mine.stamp, theirs.stamp);
        let ancestors = cx.ancestors(item);
        if ancestors.contains(&other) {
            return false;
        }
        if local.version >= other.version {
            if !self.is_everywhere(cx, item, &theirs) {
                self.keep_rival(cx, item, theirs, Vec::new(), Fate::Open);
                cx.note(Note::Diverged { item: item.clone(), local, other });
            }
            return false;
        }
        self.keep_overtaken(cx, item, mine, &ancestors);
        self.end_rival(cx, item, other);
        // It may be another line all the same: of that the others have listed this one.
        cx.write(Write::Ancestors(item.clone(), Vec::new()));
        cx.write(Write::Item(item.clone(), theirs));
        self.changed.insert(item.clone());
        true
    }

    fn keep_overtaken(
        &mut self,
        cx: &mut Cx<'_>,
        item: &ItemId,
        mine: Committed,
        ancestors: &[Stamp],
    ) {
        if !self.is_everywhere(cx, item, &mine) {
            self.keep_rival(cx, item, mine, ancestors.to_vec(), Fate::Open);
        }
    }

    /// Every server has it, or listed it, or goes on from it. That it is finished does not say so:
    /// those that were left behind were not waited for, and may have gone on without it.
    fn is_everywhere(&self, cx: &Cx<'_>, item: &ItemId, of: &Committed) -> bool {
        self.everybody_applied(of.stamp.tx) || self.was_written_safely(cx, item, of)
    }

    /// A source of an alignment has another line of an item, below the local one: its log will not
    /// tell of it, so whoever aligns lists it.
    pub(super) fn is_line_of_its_own(&self, cx: &Cx<'_>, item: &ItemId, stamp: Stamp) -> bool {
        let is_known =
            |rival: &Rival| rival.committed.stamp == stamp || rival.ancestors.contains(&stamp);
        !self.is_safe(item.cluster)
            && !self.everybody_applied(stamp.tx)
            && !cx.ancestors(item).contains(&stamp)
            && !cx.rivals(item).iter().any(is_known)
    }

    /// Keeps a content beside the committed one, in place of what it was built on.
    pub(super) fn keep_rival(
        &mut self,
        cx: &mut Cx<'_>,
        item: &ItemId,
        committed: Committed,
        ancestors: Vec<Stamp>,
        fate: Fate,
    ) {
        let stamp = committed.stamp;
        let mut rivals = cx.rivals(item);
        let is_known = |rival: &Rival| {
            rival.ancestors.contains(&stamp)
                || (rival.committed.stamp == stamp && rival.fate != Fate::Open)
        };
        if rivals.iter().any(is_known) {
            return;
        }
        Mark::RivalKept.hit();
        // What has lost stays: a merge that it lost to counts it among its ancestors.
        rivals.retain(|rival| {
            let is_past = ancestors.contains(&rival.committed.stamp);
            rival.committed.stamp != stamp && (rival.fate == Fate::Lost || !is_past)
        });
        let ancestors = self.bounded(ancestors);
        rivals.push(Rival { committed, ancestors, fate });
        self.write_rivals(cx, item, rivals);
    }

    /// Every change of rivals goes through here; what has lost is bounded there.
    pub(super) fn write_rivals(&mut self, cx: &mut Cx<'_>, item: &ItemId, mut rivals: Vec<Rival>) {
        let mut dropped = 0;
        while rivals.len() > RIVALS_MAX
            && let Some(oldest) = rivals.iter().position(|rival| rival.fate == Fate::Lost)
        {
            rivals.remove(oldest);
            dropped += 1;
        }
        self.merger.note_open(item, rivals.iter().any(|rival| rival.fate != Fate::Lost));
        self.put_rivals(cx, item, rivals);
        self.bound_lost(cx, dropped);
    }

    /// A content becomes the committed one: it is no rival any more.
    fn end_rival(&mut self, cx: &mut Cx<'_>, item: &ItemId, stamp: Stamp) {
        let mut rivals = cx.rivals(item);
        let before = rivals.len();
        rivals.retain(|rival| rival.committed.stamp != stamp);
        if rivals.len() != before {
            self.write_rivals(cx, item, rivals);
        }
    }

    /// A merge is about to be written: what it covers has lost, unless its content is the winner's
    /// or a line went on from it. The local content, if it loses, is kept, too.
    fn close_rivals(
        &mut self,
        cx: &mut Cx<'_>,
        op: &Operation,
        merge: &Merge,
        local: Option<Committed>,
    ) {
        let mut rivals = cx.rivals(&op.item);
        let before = rivals.clone();
        let may_lose = |stamp: Stamp| merge.of.contains(&stamp) || self.skips(merge, stamp);
        let overtaken = local.as_ref().map(|local| local.stamp).filter(|stamp| may_lose(*stamp));
        if let Some(local) = local.filter(|local| overtaken == Some(local.stamp)) {
            let ancestors = cx.ancestors(&op.item);
            rivals.push(Rival { committed: local, ancestors, fate: Fate::Open });
        }
        self.close(&mut rivals, op, merge, overtaken);
        if rivals != before {
            self.write_rivals(cx, &op.item, rivals);
        }
    }

    /// A merge that is not written here, because the local content went on without it.
    fn close_listed(&mut self, cx: &mut Cx<'_>, op: &Operation, merge: &Merge) {
        let mut rivals = cx.rivals(&op.item);
        let before = rivals.clone();
        self.close(&mut rivals, op, merge, None);
        if rivals != before {
            self.write_rivals(cx, &op.item, rivals);
        }
    }

    /// What a merge covers has lost to it, unless its content is the winner's or a line that it
    /// covers went on from it: then it is listed no more. What was committed here until now stays.
    fn close(
        &self,
        rivals: &mut Vec<Rival>,
        op: &Operation,
        merge: &Merge,
        overtaken: Option<Stamp>,
    ) {
        let wins = |rival: &Rival| {
            let Committed { live, image, .. } = &rival.committed;
            (*live, image) == (merge.live, &op.image)
        };
        let goes = |rival: &Rival| {
            let stamp = rival.committed.stamp;
            let is_kept = overtaken == Some(stamp) || self.skips(merge, stamp);
            let is_past = merge.past.contains(&stamp) && !is_kept;
            rival.fate != Fate::Lost && (is_past || (merge.covers(stamp) && wins(rival)))
        };
        rivals.retain(|rival| !goes(rival));
        for rival in rivals.iter_mut().filter(|rival| merge.covers(rival.committed.stamp)) {
            rival.fate = Fate::Lost;
        }
    }

    /// A content that lines of a merge were built on, and that may have lost to an earlier merge,
    /// which has not come yet.
    fn skips(&self, merge: &Merge, stamp: Stamp) -> bool {
        merge.of.len() > 1 && merge.past.contains(&stamp) && !self.everybody_applied(stamp.tx)
    }

    /// Every server has this stamp: what it was built on is no rival of it. What else is listed is
    /// another line, and has to lose to a merge first.
    pub(super) fn on_settled(
        &mut self,
        cx: &mut Cx<'_>,
        item: &ItemId,
        stamp: Stamp,
        ancestors: &[Stamp],
    ) {
        if cx.stamp(item) != stamp {
            return;
        }
        let mut rivals = cx.rivals(item);
        let before = rivals.clone();
        // A merge has what lost to it behind it, too.
        let is_one_line = is_one_line(ancestors);
        let is_past =
            |rival: &Rival| rival.fate != Fate::Lost && ancestors.contains(&rival.committed.stamp);
        rivals.retain(|rival| !(is_one_line && is_past(rival)));
        for rival in rivals.iter_mut().filter(|rival| is_past(rival)) {
            rival.fate = Fate::Lost;
        }
        if rivals != before {
            self.write_rivals(cx, item, rivals);
        }
    }

    /// A commit that is behind the local content already, though it was never here: if a merge put
    /// it there, it may have lost to it, and whoever had it may take the merge without listing it.
    pub(super) fn keep_what_came_late(&mut self, cx: &mut Cx<'_>, tx: TxId, op: &Operation) {
        let late = op.stamp_after(tx);
        let ancestors = cx.ancestors(&op.item);
        let is_in = cx.stamp(&op.item) == late || !ancestors.contains(&late);
        if is_in || is_one_line(&ancestors) {
            return;
        }
        self.keep_rival(cx, &op.item, op.committed(tx), [op.base].into(), Fate::Lost);
    }

    /// No step of the chain named a winner, and this is one of the contents; true if that is news
    /// here.
    pub(super) fn on_undecided(
        &mut self,
        cx: &mut Cx<'_>,
        item: &ItemId,
        content: Committed,
    ) -> bool {
        if content.stamp == cx.stamp(item) {
            return false;
        }
        let before = cx.rivals(item);
        let is_this = |rival: &Rival| rival.committed.stamp == content.stamp;
        let mut rivals = before.clone();
        if let Some(rival) = rivals.iter_mut().find(|rival| is_this(rival)) {
            if rival.fate == Fate::Open {
                rival.fate = Fate::NoWinner;
                self.write_rivals(cx, item, rivals);
            }
        } else {
            self.keep_rival(cx, item, content, Vec::new(), Fate::NoWinner);
        }
        cx.rivals(item) != before
    }
}

/// There is one stamp of each version: no merge is among them.
fn is_one_line(ancestors: &[Stamp]) -> bool {
    let mut versions: Vec<u64> = ancestors.iter().map(|stamp| stamp.version).collect();
    versions.sort_unstable();
    versions.windows(2).all(|pair| pair[0] != pair[1])
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::vec;

    use quorate_api::{Boot, NodeId};

    use super::*;
    use crate::io::{Recovered, Write};
    use crate::machine::testing::{CLUSTER, NOTHING, configured};

    fn stamp(node: u64, version: u64) -> Stamp {
        Stamp { version, tx: TxId { node: NodeId(node), boot: Boot(1), seq: version } }
    }

    fn content(stamp: Stamp) -> Committed {
        Committed { stamp, live: true, image: None, elsewhere: None }
    }

    /// While a server aligns it is written over whatever is lower.
    #[test]
    fn what_a_merge_is_written_over_and_does_not_cover_stays_open() {
        let item = ItemId::record(CLUSTER, 0);
        let (own, covered) = (stamp(1, 2), stamp(2, 2));
        for (local, fates) in [(own, &[(own, Fate::Open)][..]), (covered, &[])] {
            let mut machine = configured(Boot(1), Recovered::default());
            let mut out = Vec::new();
            let mut cx = Cx::new(&NOTHING, &mut out, 0);
            cx.write(Write::Item(item.clone(), content(local)));
            let merge = Merge { of: vec![covered, stamp(2, 3)], past: vec![], live: true };
            let (kind, base) = (OpKind::Merge(Box::new(merge)), stamp(2, 3));
            let op = Operation { item: item.clone(), kind, base, image: None };
            machine.extend_lineage(&mut cx, stamp(2, 4).tx, &op);
            let rivals = cx.rivals(&item);
            let found = rivals.iter().map(|rival| (rival.committed.stamp, rival.fate));
            assert_eq!(found.collect::<Vec<_>>(), fates);
        }
    }
}
