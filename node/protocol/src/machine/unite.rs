//! Servers of a cluster with W below a majority that are to have one content again (PROTOCOL.md
//! 3.10, last rule), and what of its generations comes when they are over. When the next generation
//! is active is the control plane's to say; merging itself is `merge`.
//!
//! **Why nothing that was acknowledged is lost.** Each MASTER may have what nobody else has, so all
//! of them take part, but those whom people give up, with that. Each seals the old generation,
//! settles whatever it voted for, ends what it coordinates, and tells how far its decision log is;
//! nothing of the old generation is decided anywhere after that. Then each applies all logs up to
//! there, and enters the next generation, which is durable and closes the old one: a commit of that
//! is never written any more, only listed. So the digest that it tells afterwards stays true until
//! the next generation is active, over restarts, too, however late the report arrives. Digests that
//! are equal, with nothing listed as open, are one content on all MASTERs.
//!
//! **Tombstones of who is gone**, or goes on in another boot. Nobody tells any more who has them
//! (closing a boot takes everybody, the one that is given up, too), so some servers may have
//! dropped what others keep, or never had. They are compared all the same, and one that some lack
//! is written anew by whoever merges, who tells again. Else a REPLICA that aligned with those who
//! have nothing would keep the content for good, and a key, the tombstone of which goes nowhere,
//! could be claimed as if it had never been: who has it would take that claim for an old one.
//!
//! A commit that comes later all the same was decided by a server that is no MASTER of the cluster:
//! it is listed as one that has lost, but a REPLICA that has it may keep it. So REPLICAs of the
//! server refuse writes, and leave to MASTERs what a read of theirs finds undecided (`orphans`).
//!
//! **REPLICAs** were not waited for. What they have of the old generation they apply by its rules,
//! whatever the cluster is by now. Once they have all of it, the content that won is here,
//! committed or listed, and above all others: a merge is written above everything that any MASTER
//! has, and where only one line is left its head is the highest. So the highest is taken.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_api::{ClusterKey, Committed, ItemId, ItemKey, Operation, Stamp, TxId};

use super::timers::Timer;
use super::{Cx, Machine};
use crate::alignment::Digest;
use crate::conflict::Fate;
use crate::io::{Placement, Report, Stage, Tick, Write, is_last_page};
use crate::marks::Mark;
use crate::message::Participant;
use crate::planted::Bug;

/// Items that are looked at in one step.
const PAGE: usize = 512;

/// A comparison of all that this server has of a cluster, a page a step.
#[derive(Debug)]
pub(super) struct Scan {
    generation: u32,
    after: Option<ItemKey>,
    sum: Digest,
    is_whole: bool,
}

/// Where clients wait for MASTERs that unite, in which generation and whether it has been sealed,
/// and since when.
#[derive(Debug, Default)]
pub(super) struct Waits(BTreeMap<ClusterKey, ((u32, bool), Tick)>);

impl Waits {
    /// A configuration came.
    pub(super) fn note(&mut self, cluster: ClusterKey, placement: &Placement, now: Tick) {
        if !placement.unites() || !placement.is_changing() {
            self.0.remove(&cluster);
            return;
        }
        let stage = (placement.generation, placement.is_ending());
        let (known, since) = self.0.entry(cluster).or_insert((stage, now));
        if *known != stage {
            (*known, *since) = (stage, now);
        }
    }

    fn is_over(&self, cluster: ClusterKey, bound: Tick, now: Tick) -> bool {
        self.0.get(&cluster).is_some_and(|(_, since)| now >= since + bound)
    }
}

impl Machine {
    /// Whether a transaction has to wait: a change on its way would have it voted down, or MASTERs
    /// merge what differed when they were compared. Merging without clients is not done for long:
    /// it may wait for people, and nothing is sealed.
    pub(super) fn is_changing(&self, cluster: ClusterKey) -> bool {
        let placement = self.placements.get(&cluster);
        placement.is_some_and(|placement| {
            let waits = placement.is_ending() || !self.has_waited(cluster);
            placement.is_changing() && waits
        })
    }

    /// Clients are not left waiting any longer: some MASTER does not come to what was sealed.
    pub(super) fn is_stuck(&self, cluster: ClusterKey) -> bool {
        let placement = self.placements.get(&cluster);
        placement.is_some_and(Placement::is_ending) && self.has_waited(cluster)
    }

    fn has_waited(&self, cluster: ClusterKey) -> bool {
        self.generations.waits.is_over(cluster, self.config.merge.patience, self.now)
    }

    /// W was a majority in the generation that a transaction was prepared in. Of a generation that
    /// is not known here yet, it is taken to be.
    pub(super) fn was_safe(&self, participant: &Participant) -> bool {
        let placement = self.placements.get(&participant.cluster);
        placement.is_none_or(|placement| placement.was_safe(participant.generation))
    }

    /// By the rules of which kind of cluster a commit is applied in one of its clusters.
    pub(super) fn applies_safely(&self, participants: &[Participant], cluster: ClusterKey) -> bool {
        let of = participants.iter().find(|participant| participant.cluster == cluster);
        of.map_or_else(|| self.is_safe(cluster), |participant| self.was_safe(participant))
    }

    /// It was prepared in a generation that is not known here yet.
    pub(super) fn is_ahead(&self, participants: &[Participant], cluster: ClusterKey) -> bool {
        participants.iter().any(|p| p.cluster == cluster && self.is_later(p))
    }

    /// The generation is not known here yet.
    pub(super) fn is_later(&self, of: &Participant) -> bool {
        let known = self.placements.get(&of.cluster).map_or(0, |placement| placement.generation);
        of.generation > known
    }

    /// Nothing of the generation that a commit was prepared in is written here any more.
    pub(super) fn is_late(&self, participants: &[Participant], cluster: ClusterKey) -> bool {
        let of = participants.iter().find(|participant| participant.cluster == cluster);
        let (Some(of), Some(placement)) = (of, self.placements.get(&cluster)) else { return false };
        if placement.was_safe(of.generation) {
            return false;
        }
        // The first one behind it in which MASTERs are united, or are to be.
        let next = placement.generation + 1;
        let united = (of.generation + 1..next).find(|later| placement.was_safe(*later));
        let united = united.or_else(|| placement.unites().then_some(next));
        united.is_some_and(|united| self.generations.has_entered(cluster, united))
    }

    /// Its generation is over, so it is only listed.
    pub(super) fn keep_late(&mut self, cx: &mut Cx<'_>, tx: TxId, op: &Operation) {
        Mark::LateKept.hit();
        self.keep_rival(cx, &op.item, op.committed(tx), [op.base].into(), Fate::Lost);
    }

    /// A transaction of this server, or one that waits here for its base, may still be written in a
    /// generation that is to be united.
    pub(super) fn may_yet_commit(&self, cluster: ClusterKey, generation: u32) -> bool {
        let is_of = |p: &Participant| p.cluster == cluster && p.generation <= generation;
        self.placements.get(&cluster).is_some_and(Placement::unites)
            && self.coordinations.values().any(|c| c.participants.iter().any(is_of))
    }

    /// Nothing has to be merged, as far as this server sees.
    fn is_merged(&self, cluster: ClusterKey, generation: u32) -> bool {
        let Some(placement) = self.placements.get(&cluster) else { return false };
        let of_cluster = |p: &Participant| p.cluster == cluster;
        let mut waiting = self.parked.txs.values();
        if placement.is_closed() {
            return true;
        }
        placement.merging().iter().all(|node| self.is_up(*node))
            && !waiting.any(|parked| parked.decision.participants.iter().any(of_cluster))
            && self.merger.is_done(cluster)
            && (self.merger_of(cluster) != Some(self.config.node)
                || self.merger.sweep.is_swept(cluster, generation))
    }

    /// Whoever merges compares everything once before it says that nothing is left.
    pub(super) fn report_merged(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: ClusterKey,
        generation: u32,
        again: bool,
    ) {
        if self.merger_of(cluster) == Some(self.config.node) {
            self.merger.sweep.want(cluster, generation);
        }
        if self.is_merged(cluster, generation) {
            self.report(cx, Report::Merged { cluster, generation }, again);
        }
    }

    /// What this server has, once it has looked at all of it.
    pub(super) fn report_compared(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: ClusterKey,
        generation: u32,
        again: bool,
    ) {
        let is_closed = self.placements.get(&cluster).is_some_and(Placement::is_closed);
        let known = self.generations.scans.remove(&cluster);
        let known = known.filter(|scan| scan.generation == generation);
        // What this step writes is not seen in it: a scan begins in a later one.
        let begun = known.is_some();
        let mut scan = known.unwrap_or(Scan {
            generation,
            after: None,
            sum: Digest::default(),
            is_whole: false,
        });
        if begun && !scan.is_whole && !is_closed {
            self.go_on_scanning(cx, cluster, &mut scan);
        }
        let Scan { sum, is_whole, .. } = scan;
        self.generations.scans.insert(cluster, scan);
        if is_whole || is_closed {
            let differs = self.merger.open_of(cluster).next().is_some() && !is_closed;
            let (digest, differs) = if self.config.has(Bug::UnitedUncompared) {
                Default::default()
            } else {
                (sum, differs)
            };
            self.report(cx, Report::Compared { cluster, generation, digest, differs }, again);
        } else {
            // The next page is the next step's, whether anything else happens or not.
            self.generations.progress = true;
            self.timers.set(self.now + 1, Timer::Comparison);
        }
    }

    /// Tombstones that may be dropped anywhere at any time do not count. Those of a server that is
    /// given up do: who has them is not told any more, so what somebody lacks is written anew.
    fn go_on_scanning(&self, cx: &Cx<'_>, cluster: ClusterKey, scan: &mut Scan) {
        let items = cx.items_after(cluster, scan.after.as_ref(), PAGE);
        scan.is_whole = is_last_page(&items, PAGE);
        for (key, committed) in items {
            if !self.goes_anywhere(cluster, &key, &committed) {
                scan.sum = scan.sum.plus(Digest::of(&key, &committed));
            }
            scan.after = Some(key);
        }
    }

    /// Clusters that have W of a majority again, in which this server lists what was merged without
    /// it.
    pub(super) fn close_lines_due(&mut self, cx: &mut Cx<'_>) {
        let open: Vec<ClusterKey> = self.merger.open_clusters();
        for cluster in open {
            let Some(placement) = self.placements.get(&cluster) else { continue };
            let mut entry = placement.entry.iter();
            if entry.all(|((node, boot), index)| self.has_applied(*node, *boot, *index)) {
                self.close_lines(cx, cluster);
            }
        }
    }

    /// Everything of the generations before is here: of what is listed as open, the highest is what
    /// the MASTERs have, and all else has lost.
    pub(super) fn close_lines(&mut self, cx: &mut Cx<'_>, cluster: ClusterKey) {
        let is_united = |placement: &Placement| placement.is_safe() && !placement.loose.is_empty();
        let Some(placement) = self.placements.get(&cluster).filter(|p| is_united(p)) else {
            return;
        };
        let has_it = placement.masters.contains(&self.config.node)
            && self.generations.has_entered(cluster, placement.generation);
        for item in self.merger.open_of(cluster).cloned().collect::<Vec<ItemId>>() {
            Mark::LinesClosed.hit();
            let mut rivals = cx.rivals(&item);
            let local = cx.item(&item);
            let stamp = local.as_ref().map_or(Stamp::ABSENT, |local| local.stamp);
            let is_open = |fate: Fate| fate != Fate::Lost;
            let best = rivals.iter().filter(|rival| is_open(rival.fate));
            let best = best.max_by_key(|rival| rival.committed.stamp).cloned();
            let best = best.filter(|best| !has_it && best.committed.stamp.version > stamp.version);
            for rival in rivals.iter_mut().filter(|rival| is_open(rival.fate)) {
                rival.fate = Fate::Lost;
            }
            if let Some(best) = best {
                rivals.retain(|rival| rival.committed.stamp != best.committed.stamp);
                let ancestors = cx.ancestors(&item);
                if let Some(committed) = local.filter(|l| !best.ancestors.contains(&l.stamp)) {
                    rivals.push(crate::conflict::Rival { committed, ancestors, fate: Fate::Lost });
                }
                cx.write(Write::Ancestors(item.clone(), best.ancestors));
                cx.write(Write::Item(item.clone(), best.committed));
                self.changed.insert(item.clone());
            }
            self.write_rivals(cx, &item, rivals);
        }
        self.merger.leave(cluster);
    }

    /// It had W below a majority.
    pub(super) fn was_loose(&self, cluster: ClusterKey) -> bool {
        self.placements.get(&cluster).is_some_and(|placement| !placement.loose.is_empty())
    }

    /// The stamp was written while W was a majority, as far as that is remembered.
    pub(super) fn was_written_safely(&self, cx: &Cx<'_>, item: &ItemId, of: &Committed) -> bool {
        let participants = cx.tx(of.stamp.tx).unwrap_or_default().participants;
        participants.iter().any(|p| p.cluster == item.cluster && self.was_safe(p))
    }

    /// MASTERs have stopped merging a cluster, or have merged it.
    pub(super) fn merges_no_more(&self, cluster: ClusterKey) -> bool {
        self.placements.get(&cluster).is_none_or(|placement| {
            let ending = placement.change.as_ref().is_some_and(|change| match change.stage {
                Stage::Merging { .. } => false,
                Stage::Sealing { .. } | Stage::Transferring { .. } => true,
            });
            placement.is_safe() || ending
        })
    }
}

#[cfg(test)]
#[path = "unite_tests.rs"]
mod tests;
