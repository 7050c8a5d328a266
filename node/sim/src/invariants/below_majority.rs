//! What holds with W below a majority (PROTOCOL.md 3.10), where two servers may commit on one base:
//! - no uncommitted read: whatever is written as an item's state was committed by somebody.
//! - a server's copy of an item never goes back to a lower version.
//! - in the end nothing that was acknowledged is gone without a trace: it is in the history of what
//!   all servers have, or of a content that some server lists as one that has lost. A merge goes
//!   on from the line that wins; what it does away with must be listed. Of what recovery aborted
//!   this is not asked: it sees the votes of those who are reachable, and may contradict an answer.
//!   Whoever aborts first, against a Yes of its own where one is enough, has not looked at votes.
//!   Nor is it asked of what a MASTER that people gave up took along: of what those who are left
//!   had neither applied, nor built on, nor votes enough for. Lists are bounded, and servers tell
//!   when they drop the oldest of a full one: that has left a trace.
//! - a transaction that touches a cluster with W of a majority has one outcome.
//! - a content is listed as one that has lost only where two commits of its item were built on one
//!   base. Mere lag never loses. This is asked of runs without an alignment: that brings contents
//!   without what they were built on, and what it writes over is listed to be on the safe side.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{ClusterKey, Committed, Image, ItemId, OpKind, Stamp, TxId};
use quorate_protocol::conflict::{Fate, RIVALS_MAX, Rival};
use quorate_protocol::io::Write;
use quorate_protocol::message::{Decided, Participant, Vote};

use crate::disk::Contents;
use crate::options::{Options, Shape};

#[derive(Debug, Default)]
pub(super) struct BelowMajority {
    committed: BTreeSet<TxId>,
    /// What each stamp of an item was built on.
    before: BTreeMap<(ItemId, Stamp), BTreeSet<Stamp>>,
    contents: BTreeMap<(ItemId, Stamp), Option<Image>>,
    acknowledged: BTreeSet<TxId>,
    /// By somebody's recovery.
    aborted: BTreeSet<TxId>,
    /// Aborted by somebody whose own Yes was enough to commit.
    unheard: BTreeSet<TxId>,
    /// What was acknowledged, and those who were left when a MASTER was given up had no trace of.
    lost: BTreeSet<(ItemId, Stamp)>,
    /// Contents that had lost, and went when a list was full.
    crowded_out: BTreeSet<(ItemId, Stamp)>,
    /// Items that each transaction wrote, with the stamps after it.
    wrote: BTreeMap<TxId, Vec<(ItemId, Stamp)>>,
    /// W of each generation, and whether it is a majority.
    quorums: BTreeMap<Participant, (usize, bool)>,
    participants: BTreeMap<TxId, Vec<Participant>>,
    /// How many MASTERs each cluster has.
    masters: BTreeMap<ClusterKey, usize>,
    /// W goes below a majority and back: what a commit builds on may be of another kind.
    crossing: bool,
    /// Data centers decide by themselves: what is enough is their quorum, not W.
    local_quorums: bool,
    /// The one commit of each version of an item that was written while W was a majority.
    one: BTreeMap<(ItemId, u64), Stamp>,
    /// Transactions that touch one.
    decided_safely: BTreeSet<TxId>,
    /// Some server has left ONLINE to align.
    aligned: bool,
}

impl BelowMajority {
    pub(super) fn first(options: &Options) -> Self {
        let first = |shape: &Shape| {
            let of = Participant { cluster: shape.cluster, generation: 1 };
            (of, (shape.write_quorum, shape.write_quorum >= shape.majority()))
        };
        let quorums = options.clusters.iter().map(first).collect();
        let masters = options.clusters.iter().map(|shape| (shape.cluster, shape.masters.len()));
        let (masters, crossing) = (masters.collect(), options.crossing);
        let local_quorums = options.local_quorums;
        Self { quorums, masters, crossing, local_quorums, ..Self::default() }
    }

    /// Two commits of one version, both while W was a majority.
    pub(super) fn see_safe(&mut self, item: &ItemId, committed: &Committed) -> Option<String> {
        let stamp = committed.stamp;
        let known = self.one.entry((item.clone(), stamp.version)).or_insert(stamp);
        (*known != stamp).then(|| format!("{item} is written at {known:?} and at {stamp:?}"))
    }

    pub(super) const fn crosses(&self) -> bool {
        self.crossing
    }

    /// A cluster's next generation is active. If W was below a majority in the one before it, and
    /// is not now, or a MASTER was given up, all MASTERs that there are have the same, durably.
    pub(super) fn activated(
        &mut self,
        of: Participant,
        (quorum, majority): (usize, usize),
        masters: &[(usize, &Contents)],
        has_dropped: impl Fn(usize, &ItemId) -> bool,
    ) -> Option<String> {
        let before = Participant { generation: of.generation - 1, ..of };
        let was_safe = self.is_safe(&before);
        let is_safe = quorum >= majority;
        self.quorums.insert(of, (quorum, is_safe));
        let known = self.masters.insert(of.cluster, masters.len());
        let is_given_up = known.is_some_and(|known| masters.len() < known);
        if was_safe || !(is_safe || is_given_up) {
            return None;
        }
        let (first, known) = masters.first()?;
        masters
            .iter()
            .flat_map(|other| [(*other, (*first, *known)), ((*first, *known), *other)])
            .find_map(|((one, has), (other, against))| {
                let items = has.items.iter().filter(|(item, _)| item.cluster == of.cluster);
                let mut items = items.filter(|(item, held)| {
                    against.items.get(item) != Some(held) && !has_dropped(other, item)
                });
                let (item, held) = items.next()?;
                let theirs = against.items.get(item).map(|theirs| theirs.stamp);
                Some(format!(
                    "{of:?}: server {one} has {item} at {:?}, server {other} at {theirs:?}",
                    held.stamp
                ))
            })
    }

    fn is_safe(&self, of: &Participant) -> bool {
        self.quorums.get(of).is_none_or(|(_, is_safe)| *is_safe)
    }

    /// W of a generation.
    pub(super) fn quorum(&self, of: &Participant) -> Option<usize> {
        self.quorums.get(of).map(|(quorum, _)| *quorum)
    }

    /// W of a cluster was a majority in the generation that a transaction was prepared in.
    pub(super) fn is_written_safely(&self, cluster: ClusterKey, tx: TxId) -> bool {
        let mut participants = self.participants.get(&tx).into_iter().flatten();
        let first = Participant { cluster, generation: 1 };
        let of = participants.find(|p| p.cluster == cluster).unwrap_or(&first);
        self.is_safe(of)
    }

    /// A cluster with W of a majority is among those that a transaction touches.
    pub(super) fn is_decided_safely(&self, tx: TxId) -> bool {
        self.decided_safely.contains(&tx)
    }

    /// A write tells the outcome of such a transaction.
    pub(super) fn is_of_decided_safely(&self, write: &Write) -> bool {
        matches!(write, Write::Outcome(tx, _) if self.is_decided_safely(*tx))
            || matches!(write, Write::Log(_, entry) if self.is_decided_safely(entry.tx))
    }

    /// An item that was there before the run.
    pub(super) fn loaded(&mut self, item: &ItemId, committed: &Committed) {
        self.committed.insert(committed.stamp.tx);
        self.contents.insert((item.clone(), committed.stamp), committed.image.clone());
    }

    /// Looks at a batch of writes of one server, whose disk holds `holds`.
    pub(super) fn see(
        &mut self,
        writes: &[Write],
        holds: &Contents,
    ) -> Vec<(&'static str, Option<String>)> {
        for write in writes {
            if let Write::Outcome(tx, Decided::Commit) = write {
                self.committed.insert(*tx);
            }
            if let Write::Outcome(tx, Decided::Abort) = write {
                self.note_abort(*tx, holds);
            }
            if let Write::Log(_, entry) = write
                && entry.outcome == Decided::Commit
            {
                self.committed.insert(entry.tx);
            }
            self.aligned |= matches!(write, Write::Aligning(true));
            if let Write::Tx(tx, record) = write {
                self.participants.insert(*tx, record.participants.clone());
                if record.participants.iter().any(|p| self.is_safe(p)) {
                    self.decided_safely.insert(*tx);
                }
                self.note_operations(*tx, &record.ops);
            }
        }
        self.note_crowded_out(writes, holds);
        let mut found = Vec::new();
        for write in writes {
            let Write::Item(item, written) = write else { continue };
            let uncommitted = (!self.committed.contains(&written.stamp.tx))
                .then(|| format!("{item} is {:?}, which nobody committed", written.stamp));
            found.push(("no-uncommitted-read", uncommitted));
            let before = holds.items.get(item).map(|held| held.stamp);
            let back = before.filter(|before| before.version >= written.stamp.version);
            let back = back.map(|before| format!("{item} goes from {before:?} to {written:?}"));
            found.push(("versions-rise", back));
        }
        found
    }

    fn note_crowded_out(&mut self, writes: &[Write], holds: &Contents) {
        let mut lists: BTreeMap<&ItemId, &[Rival]> = BTreeMap::new();
        for write in writes {
            let Write::Rivals(item, after) = write else { continue };
            let held = || holds.rivals.get(item).map(Vec::as_slice).unwrap_or_default();
            let before = lists.insert(item, after).unwrap_or_else(held);
            let is_left = |stamp| after.iter().any(|rival| rival.committed.stamp == stamp);
            let gone = before.iter().filter(|rival| rival.fate == Fate::Lost);
            let gone = gone.map(|rival| rival.committed.stamp).filter(|stamp| !is_left(*stamp));
            if after.len() == RIVALS_MAX {
                self.crowded_out.extend(gone.map(|stamp| (item.clone(), stamp)));
            }
        }
    }

    /// The first abort of a transaction tells whether votes were looked at.
    fn note_abort(&mut self, tx: TxId, holds: &Contents) {
        let is_first = !self.aborted.contains(&tx) && !self.unheard.contains(&tx);
        let record = holds.txs.get(&tx).filter(|record| record.vote == Some(Vote::Yes));
        let is_enough = |p: &Participant| self.quorums.get(p) == Some(&(1, false));
        let is_unheard = record.is_some_and(|record| record.participants.iter().all(is_enough));
        if is_first && is_unheard && !self.local_quorums {
            self.unheard.insert(tx);
        } else if is_first {
            self.aborted.insert(tx);
        }
    }

    fn note_operations(&mut self, tx: TxId, ops: &[quorate_api::Operation]) {
        for op in ops.iter().filter(|op| op.writes()) {
            let after = (op.item.clone(), op.stamp_after(tx));
            self.contents.insert(after.clone(), op.image.clone());
            let mut before: BTreeSet<Stamp> = [op.base].into();
            if let OpKind::Merge(merge) = &op.kind {
                // Of the lines, those whose content goes on.
                let goes_on = |stamp: &&Stamp| {
                    self.contents.get(&(op.item.clone(), **stamp)) == Some(&op.image)
                };
                before = merge.of.iter().filter(goes_on).copied().collect();
            }
            self.before.insert(after.clone(), before);
            let wrote = self.wrote.entry(tx).or_default();
            if !wrote.contains(&after) {
                wrote.push(after);
            }
        }
    }

    pub(super) fn acknowledged(&mut self, tx: TxId) {
        self.acknowledged.insert(tx);
    }

    /// A MASTER is given up. What the others hold as committed stays, also if they have forgotten
    /// that since, and what they have votes enough for; and whatever their contents were built on.
    pub(super) fn given_up(&mut self, left: &[&Contents]) {
        let is_known = |tx: &&TxId| {
            let commits = |disk: &&Contents| {
                disk.outcomes.get(tx) == Some(&Decided::Commit) || disk.has_forgotten(**tx)
            };
            let votes = |disk: &&&Contents| {
                disk.txs.get(tx).is_some_and(|record| record.vote == Some(Vote::Yes))
            };
            let quorums = self.participants.get(tx).into_iter().flatten();
            let needed = quorums.filter_map(|of| self.quorum(of)).max().unwrap_or(1);
            left.iter().any(commits) || left.iter().filter(votes).count() >= needed
        };
        let known = self.history(left);
        let unknown = self.acknowledged.iter().filter(|tx| !is_known(tx));
        let wrote = unknown.filter_map(|tx| self.wrote.get(tx)).flatten();
        let lost: Vec<_> = wrote.filter(|after| !known.contains(after)).cloned().collect();
        self.lost.extend(lost);
    }

    /// Looks at the end: what all have, and what is listed anywhere.
    pub(super) fn check(
        &self,
        items: &BTreeMap<ItemId, Committed>,
        disks: &[&Contents],
    ) -> Vec<(&'static str, Option<String>)> {
        let mut twice = self.committed.intersection(&self.aborted);
        let twice = twice.find(|tx| self.decided_safely.contains(tx));
        [
            ("acknowledged-or-listed", self.gone(items, disks)),
            ("one-outcome", twice.map(|tx| format!("{tx} is committed and aborted"))),
            ("lag-never-loses", self.lost_by_lag(disks)),
        ]
        .into()
    }

    fn lost_by_lag(&self, disks: &[&Contents]) -> Option<String> {
        let listed = disks.iter().filter(|_| !self.aligned).flat_map(|disk| &disk.rivals);
        let lost = listed.flat_map(|(item, rivals)| {
            let lost = rivals.iter().filter(|rival| rival.fate == Fate::Lost);
            lost.map(move |rival| (item, rival.committed.stamp))
        });
        let is_lag = |(item, _): &(&ItemId, Stamp)| {
            let of_item = self.before.iter().filter(|((of, _), _)| of == *item);
            let committed = of_item.filter(|((_, stamp), _)| self.committed.contains(&stamp.tx));
            let mut bases = BTreeSet::new();
            committed.flat_map(|(_, before)| before).all(|base| bases.insert(base))
        };
        let lost: BTreeSet<(&ItemId, Stamp)> = lost.collect();
        let found = lost.into_iter().find(is_lag);
        found
            .map(|(item, stamp)| format!("{item} at {stamp:?} has lost, and its item has one line"))
    }

    /// An acknowledged write that is in no history of what all have, and listed nowhere.
    fn gone(&self, items: &BTreeMap<ItemId, Committed>, disks: &[&Contents]) -> Option<String> {
        let newest = items.iter().map(|(item, newest)| (item.clone(), newest.stamp));
        let known = self.behind(newest.chain(self.crowded_out.iter().cloned()).collect());
        let listed = self.history(disks);
        let asked = self.acknowledged.difference(&self.aborted);
        let wrote = asked.filter_map(|tx| self.wrote.get(tx)).flatten();
        let wrote = wrote.filter(|after| !self.lost.contains(after));
        let mut gone = wrote.filter(|after| !known.contains(after) && !listed.contains(after));
        gone.next().map(|(item, stamp)| format!("{item} at {stamp:?} is gone without a trace"))
    }

    /// What these servers have, list, or had.
    fn history(&self, disks: &[&Contents]) -> BTreeSet<(ItemId, Stamp)> {
        let mut open = Vec::new();
        for disk in disks {
            let held = disk.items.iter().map(|(item, held)| (item.clone(), held.stamp));
            open.extend(held);
            for (item, rivals) in &disk.rivals {
                open.extend(rivals.iter().map(|rival| (item.clone(), rival.committed.stamp)));
            }
        }
        self.behind(open)
    }

    /// All that these were built on, and they.
    fn behind(&self, mut open: Vec<(ItemId, Stamp)>) -> BTreeSet<(ItemId, Stamp)> {
        let mut known = BTreeSet::new();
        while let Some(next) = open.pop() {
            let (item, before) = (next.0.clone(), self.before.get(&next).cloned());
            if known.insert(next) {
                let before = before.into_iter().flatten();
                open.extend(before.map(|stamp| (item.clone(), stamp)));
            }
        }
        known
    }
}

#[cfg(test)]
#[path = "below_majority_tests.rs"]
mod tests;
